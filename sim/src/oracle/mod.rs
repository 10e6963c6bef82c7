//! What must hold, checked from outside: each write as it takes effect, each
//! step as it starts, each message as it is deleted, and everything at the end.
//! One file a subject. Knows the scenario and the cloud, not the daemon's code.

mod backfills;
mod calls;
mod clusters;
mod counts;
mod end;
mod folds;
mod guards;
mod items;
mod loads;
mod messages;
mod notices;
mod quotas;
mod reloads;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use sluicegate_local::wire::Response;

use crate::call::{Call, Phase, Service};
use crate::replica::Life;
use crate::scenario::{Message, Object, SCARCE, Scenario};
use crate::tables;
use crate::world::World;

use self::calls::Calls;
use self::clusters::{Clusters, name_of};
use self::guards::Guards;
use self::loads::Loads;
use self::messages::Messages;
use self::notices::Notices;
use self::quotas::Quotas;
use self::reloads::Reloads;

pub use self::quotas::Quota;

/// An invariant that did not hold, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub words: String,
}

/// The name of the item that says since when a task is known ends so.
const FIRST_SEEN: &str = " ~first-seen";

/// The log of notices, which every publication writes to and nothing is decided by.
const NOTICE_LOG: &str = "~notice/";

/// Violations found by a check.
type Found = Vec<Violation>;

/// What is known of a world.
pub struct Oracle {
    violations: Vec<Violation>,
    /// How many of them the trace has.
    told: usize,
    /// (table, name) → item, as last written.
    items: BTreeMap<(String, String), Value>,
    notices: Notices,
    clusters: Clusters,
    emr_calls: Calls,
    guards: Guards,
    quotas: Quotas,
    loads: Loads,
    reloads: Reloads,
    messages: Messages,
    /// Task → the mark that its calendar began with.
    marks: BTreeMap<String, Timestamp>,
    /// Run → when it began to terminate its cluster.
    terminating: BTreeMap<String, Timestamp>,
    /// Calls since the faults ended.
    calls: u64,
}

impl Oracle {
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            violations: Vec::new(),
            told: 0,
            items: BTreeMap::new(),
            notices: Notices::default(),
            clusters: Clusters::new(scenario),
            emr_calls: Calls::default(),
            guards: Guards::default(),
            quotas: Quotas::default(),
            loads: Loads::default(),
            reloads: Reloads::default(),
            messages: Messages::default(),
            marks: BTreeMap::new(),
            terminating: BTreeMap::new(),
            calls: 0,
        }
    }

    pub fn violated(&mut self, invariant: &'static str, words: String) {
        self.violations.push(Violation { invariant, words });
    }

    pub fn first_violation(&self) -> Option<Violation> {
        self.violations.first().cloned()
    }

    /// What was found since the last time.
    pub fn news(&mut self) -> Vec<Violation> {
        let news = self.violations[self.told..].to_vec();
        self.told = self.violations.len();
        news
    }

    /// A message was put into the queue.
    pub fn sent(&mut self, id: &str, message: &Message, at: Timestamp) {
        self.messages.sent(id, message, at);
    }

    /// An object was written, and nobody told of it.
    pub fn untold(&mut self, object: &Object, at: Timestamp) {
        self.messages.untold(object, at);
    }

    /// A replica is about to make a call.
    pub fn decided(&mut self, scenario: &Scenario, life: &Life, call: &Call) {
        self.calls += 1;
        let found = self.loads.decided(call);
        self.violations.extend(found);
        if !matches!(call.phase, Phase::Launch | Phase::AddSteps) {
            return;
        }
        let now = life.machine.now();
        let intended = clusters::intended(&self.items, call, now);
        let own = self.emr_calls.decided(&self.items, call);
        self.violations.extend([intended, own].concat());
        if !scenario.clocks_jump() {
            let quota = if scenario.scarce { SCARCE } else { quotas::GRANTED };
            let many = self.quotas.called(&life.to_string(), call, now, quota);
            let early = self.emr_calls.repeated(&self.items, call, now);
            self.violations.extend([many, early].concat());
        }
    }

    /// A call has taken effect.
    pub fn applied(&mut self, world: &World, call: &Call, response: &Response) {
        match call.service {
            Service::DynamoDb => self.written(world, call),
            Service::Emr => {
                let answer = json_of(response);
                let found = self.clusters.called(world, &self.items, call, &answer);
                self.violations.extend(found);
                if matches!(call.phase, Phase::Launch | Phase::AddSteps) {
                    let found = self.reloads.submitted(world, call);
                    self.violations.extend(found);
                }
                match call.phase {
                    Phase::Terminate => {
                        let found = self.emr_calls.terminated(world, &self.items, call);
                        self.violations.extend(found);
                    }
                    Phase::AddSteps => self.guards.added(&answer),
                    Phase::Launch => self.emr_calls.launched(call, world.time.now()),
                    _ => {}
                }
            }
            Service::Sns => {
                if let Some(event) = call.event() {
                    if let Some(partition) = call.repeated() {
                        let found = folds::accepted(&self.items, &self.notices, event, partition);
                        self.violations.extend(found);
                    }
                    let found = self.notices.accepted(event);
                    self.violations.extend(found);
                }
            }
            Service::Sqs => {
                let answer = json_of(response);
                let found = self.messages.called(
                    &world.scenario,
                    &self.items,
                    &self.notices,
                    call,
                    &answer,
                    world.time.now(),
                );
                self.violations.extend(found);
            }
            Service::Redshift | Service::S3 => {}
        }
    }

    /// Compares each item that a call has written with what it was.
    fn written(&mut self, world: &World, call: &Call) {
        let mut changes = Vec::new();
        for write in call.writes() {
            let name = write.name();
            if name.starts_with(NOTICE_LOG) {
                continue;
            }
            let Some(new) = tables::read(world, write.table, &name) else { continue };
            let key = (write.table.to_owned(), name);
            if self.items.get(&key) == Some(&new) {
                // A transaction that was sent again with its token.
                continue;
            }
            if tables::NEWER_ITEMS.contains(&(write.table, &key.1)) {
                self.violated("I10", format!("{} of a newer version is written to", key.1));
            }
            let old = self.items.insert(key.clone(), new.clone());
            changes.push((key, old, new));
        }
        for ((table, name), old, new) in changes {
            let found = match table.as_str() {
                tables::TASK if name.ends_with(" ~schedule") => {
                    self.mark_moved(&name, old.as_ref(), &new)
                }
                tables::TASK if name.starts_with(folds::PLACE) => {
                    folds::written(&self.notices, &name, old.as_ref(), &new)
                }
                tables::TASK if name.starts_with(backfills::PLACE) => {
                    let found = backfills::written(&name, old.as_ref(), &new);
                    let told = self.notices.of_document(&name, old.as_ref(), &new);
                    [found, told].concat()
                }
                tables::TASK if !name.starts_with('~') && !name.ends_with(FIRST_SEEN) => {
                    let found = items::task(&world.scenario, &name, old.as_ref(), &new);
                    let told = self.notices.of_task(&name, old.as_ref(), &new);
                    let truth = self.clusters.outcome(&world.scenario, &name, old.as_ref(), &new);
                    let (old, now) = (old.as_ref(), world.time.now());
                    let (scenario, messages) = (&world.scenario, &self.messages);
                    let counts =
                        counts::task(scenario, &self.items, messages, &name, old, &new, now);
                    let loads = loads::task(world, &name, old, &new);
                    let backfilled = self.backfilled(&name, old, &new);
                    [found, counts, told, truth, loads, backfilled].concat()
                }
                tables::RUN if !name.contains('/') => {
                    self.reloads.run_written(&name, world.time.now());
                    let found = items::run(&name, old.as_ref(), &new);
                    let told = self.notices.of_document(&name, old.as_ref(), &new);
                    let clusters = self.clusters.of_run(world, &name, old.as_ref(), &new);
                    let own = calls::own_clusters(&name, &new, |id| name_of(world, id));
                    if items::text(&new, "state").as_deref() == Some("terminating") {
                        self.terminating.entry(name).or_insert(world.time.now());
                    }
                    [found, told, clusters, own].concat()
                }
                tables::RUN => items::claim(&name, old.as_ref(), &new),
                _ => Vec::new(),
            };
            self.violations.extend(found);
        }
    }

    /// The calendar of a task: it only goes forward (I11).
    fn mark_moved(&mut self, name: &str, old: Option<&Value>, new: &Value) -> Found {
        let task = name.trim_end_matches(" ~schedule").to_owned();
        let mark = |item: &Value| items::number(item, "mark").map(millis);
        match (old.and_then(mark), mark(new)) {
            (None, Some(first)) => {
                self.marks.insert(task, first);
                Vec::new()
            }
            (Some(before), Some(after)) if after < before => {
                violation("I11", format!("the calendar of {task} went back to {after}"))
            }
            _ => Vec::new(),
        }
    }

    pub fn step_started(&mut self, world: &World, cluster: &str, step: &str, name: &str) {
        let found = self.clusters.step_started(world, cluster, step, name);
        self.violations.extend(found);
        let given_up = calls::given_up(&self.items, &name_of(world, cluster));
        let unguarded = self.guards.step_started(world, cluster, step);
        for words in given_up.into_iter().chain(unguarded) {
            self.violated("I1", format!("{name} starts on {cluster}: {words}"));
        }
    }

    pub fn step_ended(
        &mut self,
        cluster: &str,
        step: &str,
        name: &str,
        state: sluicegate_local::emr::model::StepState,
    ) {
        self.clusters.step_ended(cluster, step, name, state);
    }

    /// A guard has made its claim.
    pub fn claimed(&mut self, world: &World, table: &str, key: &str) {
        let Some(new) = tables::read(world, table, key) else { return };
        let old = self.items.insert((table.to_owned(), key.to_owned()), new.clone());
        let found = items::claim(key, old.as_ref(), &new);
        self.violations.extend(found);
    }

    /// All items of a table that is named by its end.
    fn table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let of = move |((of, name), item): (&'a (String, String), &'a Value)| {
            (of == table).then_some((name.as_str(), item))
        };
        self.items.iter().filter_map(of)
    }

    fn tasks_in(&self, wanted: &BTreeSet<&str>) -> BTreeSet<String> {
        let state = |item: &Value| items::text(item, "state");
        let found = self
            .table(tables::TASK)
            .filter(|(_, item)| state(item).is_some_and(|state| wanted.contains(state.as_str())));
        found.map(|(name, _)| name.to_owned()).collect()
    }
}

fn violation(invariant: &'static str, words: String) -> Found {
    vec![Violation { invariant, words }]
}

fn json_of(response: &Response) -> Value {
    serde_json::from_slice(response.body()).unwrap_or(Value::Null)
}

/// Since when the service knows a task.
fn first_seen(items: &BTreeMap<(String, String), Value>, task: &str) -> Option<Timestamp> {
    let item = items.get(&(tables::TASK.to_owned(), format!("{task}{FIRST_SEEN}")))?;
    items::number(item, "since").map(millis)
}

fn millis(number: i64) -> Timestamp {
    Timestamp::from_millisecond(number).unwrap_or(Timestamp::UNIX_EPOCH)
}
