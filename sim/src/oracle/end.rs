//! I2, I3, I4, I11, I12: once faults have stopped everything comes to its end,
//! and nothing is left. What is expected follows from the scenario and from
//! what the queue was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluicegate::core::partition::{Grain, Partition};
use sluicegate_local::emr::model::Cluster;

use super::clusters::owner;
use super::items::{document, is_complete, is_final, text};
use super::{Oracle, backfills, first_seen, messages};
use crate::cluster::is_ours;
use crate::scenario::{DatasetKind, Object, Scenario, Task};
use crate::tables;
use crate::world::World;

/// From a cluster's deadline to its end. The reaper needs longer: it is for
/// clusters whose runs do not end them.
const OVERDUE: SignedDuration = SignedDuration::from_mins(4);
/// From the end of the faults until every replica works again, and has looked: nobody
/// polls EMR for three sweep intervals of five minutes after a kill, or longer where a
/// clock was ahead.
const RECOVERY: SignedDuration = SignedDuration::from_mins(30);
/// Calls that one virtual hour of a world at rest may take, a replica.
const CALLS_AN_HOUR_MAX: u64 = 4000;

impl Oracle {
    /// What has yet to happen, in words; None when all is done.
    pub fn what_is_left(&self, world: &World, inbox: u64) -> Option<String> {
        let open = self.tasks_in(&BTreeSet::from(["ready", "running", "loading"]));
        let unended: Vec<_> = self
            .expected(world)
            .into_iter()
            .filter(|name| {
                let item = self.items.get(&(tables::TASK.to_owned(), name.clone()));
                !item.is_some_and(is_final)
            })
            .collect();
        let runs: Vec<_> = self
            .table(tables::RUN)
            .filter(|(name, item)| !name.contains('/') && !is_settled(item))
            .map(|(name, _)| name)
            .collect();
        let alive = self.alive(world);
        let unpublished = self.notices.unpublished();
        let mut left = Vec::new();
        let mut say = |what: &str, names: String| left.push(format!("{what} {names}"));
        if !open.is_empty() {
            say("open:", format!("{open:?}"));
        }
        if !unended.is_empty() {
            say("expected to end:", format!("{unended:?}"));
        }
        if !runs.is_empty() {
            say("runs not settled:", format!("{runs:?}"));
        }
        if !alive.is_empty() {
            say("clusters alive:", format!("{alive:?}"));
        }
        if let Some(backfills) = self.backfills_left() {
            say("backfills not settled:", backfills);
        }
        if !unpublished.is_empty() {
            say("never published:", format!("{unpublished:?}"));
        }
        let to_stay = world.scenario.left_alone();
        // Where nobody reads the dataset yet, its messages are done with.
        let seen = first_seen(&self.items, tables::NEWER_TASK);
        let missed = || world.scenario.may_miss(tables::NEWER_TASK, seen, world.time.now());
        if inbox != to_stay && !(inbox == 0 && missed()) {
            say("messages in the inbox:", format!("{inbox}, not {to_stay}"));
        }
        (!left.is_empty()).then(|| left.join("; "))
    }

    /// The last checks, of a world in which everything has settled.
    pub fn at_the_end(&mut self, world: &World) {
        if self.first_violation().is_some() {
            return;
        }
        self.overdue(world);
        let newer = world.scenario.newer.then_some(tables::NEWER_ITEMS);
        for (table, name) in newer.into_iter().flatten() {
            let state = tables::read(world, table, name).and_then(|item| text(&item, "state"));
            if state.as_deref() != Some("waiting")
                || self.items.contains_key(&(table.to_owned(), name.to_owned()))
            {
                self.violated("I10", format!("{name}, written by a newer version, was changed"));
            }
        }
        let foreign = world.cloud.emr().with(|machine, _| {
            machine
                .clusters()
                .filter(|cluster| !is_ours(cluster) && cluster.state.has_ended())
                .map(|cluster| cluster.request.name.clone())
                .collect::<Vec<_>>()
        });
        if !foreign.is_empty() {
            self.violated("I9", format!("clusters of others were ended: {foreign:?}"));
        }
        let lasted = world.time.now().duration_since(world.time.origin());
        let hours = u64::try_from(lasted.as_hours()).unwrap_or(0) + 1;
        let most = hours * CALLS_AN_HOUR_MAX * world.scenario.replicas as u64;
        if self.calls > most {
            self.violated("I12", format!("{} calls in {hours} hours", self.calls));
        }
        if !world.scenario.all_die {
            self.no_partition_by_chance(world);
        }
        if world.scenario.loads.is_some() {
            self.tables_at_the_end(world);
        }
        if let Some(ordered) = &world.scenario.backfill {
            let found = self.backfill_at_the_end(ordered);
            self.violations.extend(found);
        }
    }

    /// I11: there is no slot that the schedule does not have.
    fn no_partition_by_chance(&mut self, world: &World) {
        let expected = self.expected(world);
        let fired: Vec<_> = self
            .table(tables::TASK)
            .filter(|(_, item)| item.get("in:slot").is_some())
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in fired {
            let task = name.split(' ').next().unwrap_or_default();
            let scheduled = world.scenario.task(task).is_some_and(|task| task.scheduled);
            let inputs = world.scenario.task(task).is_some_and(|task| !task.inputs.is_empty());
            if !scheduled || (!inputs && !expected.contains(&name)) {
                self.violated("I11", format!("{name} has a slot that its schedule has not"));
            }
            if world.scenario.night.is_some() {
                world.happened("slot in a night of other clocks");
            }
        }
    }

    /// I3: no cluster outlives its deadline or, where a daemon is left, its work.
    pub fn overdue(&mut self, world: &World) {
        self.past_deadline(world);
        if !world.scenario.all_die {
            self.past_work(world);
            self.past_end(world);
        }
    }

    /// I12: a run whose cluster has ended goes on with another one, or ends. No
    /// list lags any more, so there is nothing else to wait for.
    fn past_end(&mut self, world: &World) {
        let (ends, now) = (world.faults_end(), world.time.now());
        let waiting: Vec<_> = world.cloud.emr().with(|machine, _| {
            let runs = self.table(tables::RUN);
            let waits = |(run, item): (&str, &Value)| {
                let document = document(item);
                let attempt = document["attempts"].as_array()?.last()?;
                let cluster = machine.cluster(attempt["cluster"].as_str()?)?;
                let since = cluster.ended?.max(ends);
                let late = !has_ended(document) && now.duration_since(since) > RECOVERY;
                late.then(|| format!("{run}, which had {}", cluster.id))
            };
            runs.filter_map(waits).collect()
        });
        if !waiting.is_empty() {
            self.violated("I12", format!("open long after the end of their clusters: {waiting:?}"));
        }
    }

    /// A run that has nothing left to do ends its cluster and does not wait for
    /// what else would end it.
    fn past_work(&mut self, world: &World) {
        let (ends, now) = (world.faults_end(), world.time.now());
        let since = |run: &str| self.terminating.get(run).map(|since| (*since).max(ends));
        let lingering = world.cloud.emr().with(|machine, _| {
            let ours = machine.clusters().filter(|cluster| is_ours(cluster));
            let alive = ours.filter(|cluster| !cluster.state.has_ended());
            let lingers = |cluster: &&Cluster| {
                let run = owner(&cluster.request.name).map(|(run, _)| run);
                run.and_then(since).is_some_and(|since| now.duration_since(since) > RECOVERY)
            };
            alive.filter(lingers).map(|cluster| cluster.id.clone()).collect::<Vec<_>>()
        });
        if !lingering.is_empty() {
            self.violated("I3", format!("{lingering:?} have no work left and go on"));
        }
    }

    fn past_deadline(&mut self, world: &World) {
        let starting = Duration::from_secs(world.scenario.clusters.starting_secs);
        let now = world.time.now();
        let overdue = world.cloud.emr().with(|machine, _| {
            let late = |cluster: &&Cluster| {
                let tag = cluster.tags.get("sluicegate:expires-at");
                let expires = tag.and_then(|tag| tag.parse::<Timestamp>().ok());
                // A request that arrives late makes a cluster that must come
                // up before it can end itself.
                let from = expires.max(Some(cluster.created + starting));
                // Where only the daemon ends clusters it has to be able to.
                let able = world.faults_end() + RECOVERY;
                let from = from.max(world.scenario.bare.then_some(able));
                from.is_some_and(|from| now.duration_since(from) > OVERDUE)
            };
            let ours = machine.clusters().filter(|cluster| is_ours(cluster));
            let alive = ours.filter(|cluster| !cluster.state.has_ended());
            alive.filter(late).map(|cluster| cluster.id.clone()).collect::<Vec<_>>()
        });
        if !overdue.is_empty() {
            self.violated("I3", format!("{overdue:?} outlived their deadline"));
        }
    }

    /// Clusters of ours that have not ended.
    pub fn alive(&self, world: &World) -> Vec<String> {
        world.cloud.emr().with(|machine, _| {
            machine
                .clusters()
                .filter(|cluster| is_ours(cluster) && !cluster.state.has_ended())
                .map(|cluster| format!("{} ({})", cluster.id, cluster.request.name))
                .collect()
        })
    }

    /// The task partitions that have to end: whose inputs are all complete.
    fn expected(&self, world: &World) -> BTreeSet<String> {
        let complete = self.complete_datasets(&world.scenario);
        let mut expected = BTreeSet::new();
        for task in &world.scenario.tasks {
            for partition in self.candidates(world, task, &complete) {
                let stored = self
                    .items
                    .get(&(tables::TASK.to_owned(), format!("{} {partition}", task.name)));
                let is_stored = |dataset: &String| {
                    let receipt =
                        |item: &Value| is_complete(&item[format!("in:{dataset}@{partition}")]);
                    stored.is_some_and(receipt)
                };
                let has = |dataset: &String| {
                    let seen = first_seen(&self.items, &task.name);
                    if world.scenario.may_miss(&task.name, seen, world.time.now()) {
                        return is_stored(dataset);
                    }
                    complete.get(dataset).is_some_and(|set| set.contains(&partition))
                        || self.is_produced(&world.scenario, dataset, &partition)
                };
                let name = format!("{} {partition}", task.name);
                let is_newer = tables::NEWER_ITEMS.contains(&(tables::TASK, &name));
                if task.inputs.iter().all(has) && !is_newer {
                    expected.insert(name);
                }
            }
        }
        expected
    }

    /// The partitions that a task may have: its slots, or those of its inputs.
    fn candidates(
        &self,
        world: &World,
        task: &Task,
        complete: &BTreeMap<String, BTreeSet<Partition>>,
    ) -> BTreeSet<Partition> {
        if task.scheduled {
            let Some(begun) = self.marks.get(&task.name) else { return BTreeSet::new() };
            let now = world.time.now();
            let of_night =
                world.scenario.night.and_then(|night| night.slots(&task.name, *begun, now));
            let mut slots = of_night.map_or_else(|| slots(*begun, now), BTreeSet::from_iter);
            let ordered = world.scenario.backfill.as_ref();
            let ordered = ordered.filter(|it| it.window.task == task.name && !self.is_taken_back());
            slots.extend(ordered.into_iter().flat_map(backfills::partitions));
            return slots;
        }
        let all = complete.values().flatten().copied();
        all.collect()
    }

    /// Whether the task that makes a dataset has made this partition of it.
    fn is_produced(&self, scenario: &Scenario, dataset: &str, partition: &Partition) -> bool {
        let mut makers =
            scenario.tasks.iter().filter(|task| task.outputs.iter().any(|o| o == dataset));
        makers.any(|task| {
            let state = messages::state(&self.items, &format!("{} {partition}", task.name));
            matches!(state.as_deref(), Some("succeeded" | "skipped"))
        })
    }

    /// Since when the task is known that reads a dataset.
    fn first_seen(&self, scenario: &Scenario, dataset: &str) -> Option<Timestamp> {
        first_seen(&self.items, &scenario.readers(dataset).next()?.name)
    }

    /// Dataset → its partitions that are complete by what the queue was told, and
    /// by what was written and nobody told of.
    fn complete_datasets(&self, scenario: &Scenario) -> BTreeMap<String, BTreeSet<Partition>> {
        let mut objects: BTreeMap<(&str, Partition), Vec<&Object>> = BTreeMap::new();
        for object in self.messages.objects(|dataset| self.first_seen(scenario, dataset)) {
            if let Some((dataset, partition)) = &object.place {
                objects.entry((dataset, *partition)).or_default().push(object);
            }
        }
        let mut complete: BTreeMap<String, BTreeSet<Partition>> = BTreeMap::new();
        for ((name, partition), objects) in objects {
            let Some(dataset) = scenario.dataset(name) else { continue };
            let keys: BTreeSet<_> = objects.iter().map(|object| &object.key).collect();
            let is_complete = match dataset.kind {
                DatasetKind::Output | DatasetKind::Folder => false,
                DatasetKind::Object | DatasetKind::Closed | DatasetKind::Quiet => true,
                DatasetKind::Count(count) => keys.len() >= count as usize,
                DatasetKind::Marker => keys.iter().any(|key| key.ends_with("/_SUCCESS")),
            };
            if is_complete {
                complete.entry(name.to_owned()).or_default().insert(partition);
            }
        }
        complete
    }
}

/// The partitions of the slots at minute 2 of every hour, after `begun`.
fn slots(begun: Timestamp, now: Timestamp) -> BTreeSet<Partition> {
    let two = SignedDuration::from_mins(2);
    let hours = Partition::overlapping(begun - SignedDuration::from_hours(2), now, Grain::Hour);
    let due = |hour: &Partition| {
        let slot = hour.end() + two;
        slot > begun && slot <= now
    };
    hours.filter(due).collect()
}

/// Nothing of a run is left to do or to tell.
fn is_settled(item: &Value) -> bool {
    let run = document(item);
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    has_ended(run) && empty(&run["notices"]) && empty(&run["logs"])
}

fn has_ended(run: &Value) -> bool {
    matches!(run["state"].as_str(), Some("succeeded" | "failed"))
}
