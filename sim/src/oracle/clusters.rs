//! Clusters: created and given steps only by a stored intent (I8), ended only
//! if they are ours (I9), one that works for an attempt (I1), none that
//! outlives its run (I3); and no success but by completed steps.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use sluicegate_local::emr::model::{Cluster, StepState};

use super::items::{document, text};
use super::{Found, Violation, violation};
use crate::call::{Call, Phase};
use crate::cluster::{GUARD, is_ours};
use crate::scenario::{DEPLOYMENT, Scenario};
use crate::tables;
use crate::world::World;

type Items = BTreeMap<(String, String), Value>;

/// What ran where.
#[derive(Debug, Default)]
pub struct Clusters {
    /// Task partition → what was done for it.
    work: BTreeMap<String, Work>,
    /// Task → its steps and how often each may be tried on a cluster.
    steps: BTreeMap<String, Vec<(String, u32)>>,
    /// Clusters that were created for each attempt, `run/attempt`.
    of_attempt: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Work {
    /// (cluster, step id) of the step that runs.
    running: Option<(String, String)>,
    /// (cluster, step name) → how often it was started.
    starts: BTreeMap<(String, String), u32>,
    completed: BTreeSet<(String, String)>,
    /// How often it has failed.
    failed: BTreeMap<(String, String), u32>,
    /// How often somebody cancelled it: EMR goes on with what comes next.
    cancelled: BTreeMap<(String, String), u32>,
    /// How often its cluster was lost while it ran.
    interrupted: BTreeMap<(String, String), u32>,
}

/// `TASK/PARTITION/STEP/SERIAL`, the name of a step of ours.
struct StepName<'a> {
    task: &'a str,
    partition: &'a str,
    step: &'a str,
}

impl<'a> StepName<'a> {
    fn read(name: &'a str) -> Option<Self> {
        let mut parts = name.split('/');
        let (task, partition, step) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next()?;
        Some(Self { task, partition, step })
    }

    fn key(&self) -> String {
        format!("{} {}", self.task, self.partition)
    }
}

/// Run and attempt of a cluster's name.
pub fn owner(name: &str) -> Option<(&str, usize)> {
    let (run, attempt) = name.strip_prefix(DEPLOYMENT)?.strip_prefix('/')?.split_once('/')?;
    Some((run, attempt.split('/').next()?.parse().ok()?))
}

fn attempts<'a>(items: &'a Items, run: &str) -> &'a [Value] {
    let item = items.get(&(tables::RUN.to_owned(), run.to_owned()));
    let attempts = item.and_then(|item| document(item)["attempts"].as_array());
    attempts.map(Vec::as_slice).unwrap_or_default()
}

/// What is stored of the will to make a call that creates something, for the
/// attempt that is open.
pub fn intent<'a>(items: &'a Items, call: &Call) -> Option<&'a Value> {
    let intent = match call.phase {
        Phase::Launch => {
            let (run, number) = owner(&call.about)?;
            let attempts = attempts(items, run);
            let last = attempts.last().filter(|_| attempts.len() == number);
            last.map(|attempt| &attempt["launch"])
        }
        _ => {
            let cluster = call.body["JobFlowId"].as_str().unwrap_or_default();
            let runs = items.iter().filter(|((table, _), _)| table == tables::RUN);
            let last = runs.filter_map(|(_, item)| document(item)["attempts"].as_array()?.last());
            let mut adding = last.filter(|attempt| attempt["cluster"] == cluster);
            adding.next().map(|attempt| &attempt["adding"])
        }
    };
    intent.filter(|intent| intent.is_object())
}

/// I8: a call that creates something is sent only with its intent stored and
/// before its deadline.
pub fn intended(items: &Items, call: &Call, now: Timestamp) -> Found {
    let about = &call.about;
    let Some(intent) = intent(items, call) else {
        return violation("I8", format!("{} of {about} without an intent", call.action));
    };
    let send_by = intent["send_by"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    if !intent["send_at"].is_null() {
        return violation("I8", format!("{} of {about}: its intent is not armed", call.action));
    }
    match send_by {
        Some(send_by) if now <= send_by => Vec::new(),
        _ => violation("I8", format!("{} of {about} leaves after {send_by:?}", call.action)),
    }
}

/// Names of the steps in a request that are no guards.
fn step_names(call: &Call) -> Vec<String> {
    let steps = call.body["Steps"].as_array().into_iter().flatten();
    let names = steps.filter_map(|step| step["Name"].as_str());
    names.filter(|name| !name.starts_with(GUARD)).map(str::to_owned).collect()
}

impl Clusters {
    pub fn new(scenario: &Scenario) -> Self {
        let steps = scenario.tasks.iter().map(|task| {
            let steps = task.steps.iter().map(|step| (step.name.clone(), step.retries + 1));
            (task.name.clone(), steps.collect())
        });
        Self { steps: steps.collect(), ..Self::default() }
    }

    /// A call to EMR has taken effect.
    pub fn called(&mut self, world: &World, items: &Items, call: &Call, answer: &Value) -> Found {
        match call.phase {
            Phase::Launch => {
                let id = answer["JobFlowId"].as_str().unwrap_or_default().to_owned();
                let Some((run, number)) = owner(&call.about) else { return Vec::new() };
                let of = self.of_attempt.entry(format!("{run}/{number}")).or_default();
                of.insert(id);
                self.same_steps(items, call, run, number)
            }
            Phase::AddSteps => {
                let cluster = call.body["JobFlowId"].as_str().unwrap_or_default();
                let name = name_of(world, cluster);
                let Some((run, number)) = owner(&name) else {
                    return violation("I9", format!("steps for {cluster} ({name:?})"));
                };
                self.same_steps(items, call, run, number)
            }
            Phase::Terminate => {
                let ids = call.body["JobFlowIds"].as_array().into_iter().flatten();
                let foreign = ids.filter_map(Value::as_str).filter(|id| !is_ours_in(world, id));
                foreign
                    .flat_map(|id| {
                        let name = name_of(world, id);
                        violation("I9", format!("{id} ({name:?}) is terminated and not ours"))
                    })
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// I8: what is created is what the run says.
    fn same_steps(&self, items: &Items, call: &Call, run: &str, number: usize) -> Found {
        let attempts = attempts(items, run);
        let Some(attempt) = number.checked_sub(1).and_then(|index| attempts.get(index)) else {
            return violation("I8", format!("{}: no such attempt is stored", call.about));
        };
        let tries = attempt["tries"].as_array().into_iter().flatten();
        let known: BTreeSet<_> = tries.filter_map(|of| of["name"].as_str()).collect();
        let names = step_names(call);
        let strange = names.iter().filter(|name| !known.contains(name.as_str()));
        strange
            .flat_map(|name| violation("I8", format!("{}: {name} is not stored", call.about)))
            .collect()
    }

    /// A write to a run: a new attempt needs an end of the one before, and the
    /// end of a run that of its cluster.
    pub fn of_run(&self, world: &World, name: &str, old: Option<&Value>, new: &Value) -> Found {
        let after = document(new);
        let count = |item: &Value| document(item)["attempts"].as_array().map_or(0, Vec::len);
        let (had, has) = (old.map_or(0, count), count(new));
        let ended = matches!(after["state"].as_str(), Some("succeeded" | "failed"));
        let over = if ended { has } else { has.saturating_sub(1) };
        let mut found = Vec::new();
        let mut violated = |invariant, words: String| found.push(Violation { invariant, words });
        if has > had + 1 {
            violated("I1", format!("run {name} went from attempt {had} to {has}"));
        }
        for number in 1..=over {
            let known = after["attempts"][number - 1]["cluster"].as_str();
            let created = self.of_attempt.get(&format!("{name}/{number}"));
            let working = created.into_iter().flatten().filter(|id| self.has_worked(id));
            for id in working.map(String::as_str).chain(known) {
                if is_alive(world, id) {
                    let invariant = if ended { "I3" } else { "I1" };
                    violated(invariant, format!("run {name} left attempt {number}, {id} is alive"));
                }
            }
        }
        found
    }

    fn has_worked(&self, cluster: &str) -> bool {
        self.work.values().any(|work| work.starts.keys().any(|(of, _)| of == cluster))
    }

    /// I1: a step of ours begins to run.
    pub fn step_started(&mut self, world: &World, cluster: &str, step: &str, name: &str) -> Found {
        let Some(read) = StepName::read(name) else { return Vec::new() };
        let Some(steps) = self.steps.get(read.task) else { return Vec::new() };
        let work = self.work.entry(read.key()).or_default();
        let mut found = Vec::new();
        let mut violated = |words: String| found.push(Violation { invariant: "I1", words });
        if let Some((other, _)) = &work.running {
            violated(format!("{name} starts on {cluster} while {other} works for it"));
        }
        let on_this = |step: &str| (cluster.to_owned(), step.to_owned());
        if work.is_done(steps) {
            violated(format!("{name} starts on {cluster}, it was completed before"));
        } else if work.completed.contains(&on_this(read.step)) {
            violated(format!("{name} starts on {cluster} a second time"));
        }
        for (before, _) in steps.iter().take_while(|(step, _)| step != read.step) {
            let before_this = on_this(before);
            if !work.completed.contains(&before_this) && !work.cancelled.contains_key(&before_this)
            {
                violated(format!("{name} starts on {cluster} before {before} is completed"));
            }
        }
        let most = steps.iter().find(|(step, _)| step == read.step).map_or(0, |(_, most)| *most);
        let cancelled = work.cancelled.get(&on_this(read.step)).copied().unwrap_or(0);
        let starts = work.starts.entry(on_this(read.step)).or_default();
        *starts += 1;
        if *starts > most + cancelled {
            violated(format!("{name} starts on {cluster} for the {starts}th time"));
        }
        work.running = Some((cluster.to_owned(), step.to_owned()));
        if let Some(words) = unclaimed(world, cluster) {
            violated(format!("{name} starts on {cluster}: {words}"));
        }
        found
    }

    pub fn step_ended(&mut self, cluster: &str, step: &str, name: &str, state: StepState) {
        let Some(read) = StepName::read(name) else { return };
        let Some(work) = self.work.get_mut(&read.key()) else { return };
        if work.running == Some((cluster.to_owned(), step.to_owned())) {
            work.running = None;
        }
        let ended = (cluster.to_owned(), read.step.to_owned());
        match state {
            StepState::Completed => {
                work.completed.insert(ended);
            }
            StepState::Failed => *work.failed.entry(ended).or_default() += 1,
            StepState::Cancelled => *work.cancelled.entry(ended).or_default() += 1,
            StepState::Interrupted => *work.interrupted.entry(ended).or_default() += 1,
            _ => {}
        }
    }

    /// A task partition has succeeded: every step of it is completed.
    pub fn outcome(
        &self,
        scenario: &Scenario,
        name: &str,
        old: Option<&Value>,
        new: &Value,
    ) -> Found {
        let state = |item: &Value| text(item, "state").unwrap_or_default();
        let (was, is) = (old.map(state).unwrap_or_default(), state(new));
        if was == is {
            return Vec::new();
        }
        let task = name.split(' ').next().unwrap_or_default();
        let steps = self.steps.get(task).map(Vec::as_slice).unwrap_or_default();
        let work = self.work.get(name);
        let done = work.is_some_and(|work| work.is_done(steps));
        let has_tries_left = |new: &Value| {
            let blamed = blamed(new, steps);
            let late = said_too_long(new);
            blamed.is_some_and(|step| !work.is_some_and(|work| work.is_exhausted(step, late)))
        };
        match is.as_str() {
            "loading" | "succeeded" if !done => {
                violation("I1", format!("{name} is said to have succeeded, its steps have not"))
            }
            // What a load that failed has to do with it: see `loads`.
            "failed" if was == "loading" => Vec::new(),
            "failed" if done => {
                violation("I1", format!("{name} is said to have failed, its steps are completed"))
            }
            "failed" if has_tries_left(new) => {
                let reason = text(new, "reason").unwrap_or_default();
                violation("I2", format!("{name} failed with tries left: {reason}"))
            }
            "failed" if scenario.clusters.step_cancelled == 0 && said_cancelled(new) => {
                violation("I2", format!("{name} failed for a cancelled step, nobody cancelled one"))
            }
            "failed" if scenario.clusters.are_kind() && !scenario.has_short_lifetime() => {
                let reason = text(new, "reason").unwrap_or_default();
                violation("I2", format!("{name} failed without any cause: {reason}"))
            }
            _ => Vec::new(),
        }
    }
}

/// Whether a person is told that a step took too long. Its cluster may be lost before
/// it is cancelled for that.
fn said_too_long(item: &Value) -> bool {
    text(item, "reason").is_some_and(|reason| reason.contains("longer than attempt-timeout"))
}

/// Whether a person is told that somebody cancelled a step.
fn said_cancelled(item: &Value) -> bool {
    text(item, "reason").is_some_and(|reason| reason.contains("cancelled from outside"))
}

/// The step that a partition is said to have failed for.
fn blamed<'a>(item: &Value, steps: &'a [(String, u32)]) -> Option<&'a (String, u32)> {
    let reason = text(item, "reason")?;
    let name = reason.strip_prefix("step ")?.split_once(" failed")?.0;
    steps.iter().find(|(step, _)| step == name)
}

impl Work {
    /// Whether all tries of a step have failed on one cluster, or were cancelled there:
    /// what takes too long (`late`) is, or its cluster is lost before.
    fn is_exhausted(&self, (step, most): &(String, u32), late: bool) -> bool {
        let of_step = self.failed.keys().chain(self.cancelled.keys());
        let of_step = of_step.chain(self.interrupted.keys().filter(|_| late));
        of_step.filter(|(_, failed)| failed == step).any(|on_cluster| {
            let times = |of: &BTreeMap<_, u32>| of.get(on_cluster).copied().unwrap_or(0);
            let lost = if late { times(&self.interrupted) } else { 0 };
            times(&self.failed) + times(&self.cancelled) + lost >= *most
        })
    }

    /// Whether one cluster has completed all steps.
    fn is_done(&self, steps: &[(String, u32)]) -> bool {
        let clusters: BTreeSet<_> = self.completed.iter().map(|(cluster, _)| cluster).collect();
        clusters.into_iter().any(|cluster| {
            let done = |step: &String| self.completed.contains(&(cluster.clone(), step.clone()));
            steps.iter().all(|(step, _)| done(step))
        })
    }
}

/// Why a cluster may not work: it has a guard and does not hold its claim.
fn unclaimed(world: &World, cluster: &str) -> Option<String> {
    let (run, number, guarded) = world.cloud.emr().with(|machine, _| {
        let found = machine.cluster(cluster)?;
        let (run, number) = owner(&found.request.name)?;
        let guarded = found.steps.iter().any(|step| step.name.starts_with(GUARD));
        Some((run.to_owned(), number, guarded))
    })?;
    if !guarded {
        return None;
    }
    let claim = format!("claim/{run}/{number}/1");
    let holder = tables::read(world, tables::RUN, &claim).and_then(|item| text(&item, "holder"));
    (holder.as_deref() != Some(cluster)).then(|| format!("{claim} is {holder:?}'s"))
}

pub fn name_of(world: &World, id: &str) -> String {
    let name = |cluster: &Cluster| cluster.request.name.clone();
    world.cloud.emr().with(|machine, _| machine.cluster(id).map(name)).unwrap_or_default()
}

fn is_ours_in(world: &World, id: &str) -> bool {
    world.cloud.emr().with(|machine, _| machine.cluster(id).is_some_and(is_ours))
}

fn is_alive(world: &World, id: &str) -> bool {
    world
        .cloud
        .emr()
        .with(|machine, _| machine.cluster(id).is_some_and(|found| !found.state.has_ended()))
}
