//! Why a task partition is where it is, in one sentence. Reads what is stored
//! and the time; decides nothing (see `readiness`, `batch` and `run`), it only
//! says what those wait for.

mod running;
mod usual;
mod waiting;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::asked::Asked;
use super::backfill::Backfill;
use super::cap::Full;
use super::catalog::{Catalog, Completeness, Task};
use super::class::FailureClass;
use super::partition::Partition;
use super::pause::Scope;
use super::retention;
use super::run::Run;
use super::task::{Element, TaskKey, TaskPartition, TaskState};

pub use usual::{Timing, Usual, Usually};
pub use waiting::slot_of;

/// Of more missing partitions only the first ones and the last are named.
const NAMED_MAX: usize = 6;
/// What is known about a task partition; what was not found is None.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub key: &'a TaskKey,
    pub item: Option<&'a TaskPartition>,
    pub run: Option<&'a Run>,
    /// Ready partitions of its profile, itself included.
    pub ready: usize,
    /// Up to where its calendar has been turned into task partitions.
    pub mark: Option<Timestamp>,
    /// Where the task partitions stand that produce what it lacks.
    pub producers: &'a BTreeMap<TaskKey, TaskState>,
    /// Its own task, and those that produce what it lacks → when their last
    /// partitions were ready and done.
    pub usual: &'a BTreeMap<String, Usual>,
    /// The pause that holds its task.
    pub paused: Option<(&'a Scope, &'a Asked)>,
    /// A cap that leaves no room for it.
    pub full: Option<&'a Full>,
    /// A backfill that has yet to come to it.
    pub to_come: Option<&'a Backfill>,
}

impl Known<'_> {
    /// `task etl is paused since 06:05 UTC by alice (new release)`.
    fn held(&self, now: Timestamp) -> Option<String> {
        let (scope, asked) = self.paused?;
        Some(format!("{} is paused since {} {asked}", scope.words(), clock(asked.at, now)))
    }
}

/// What keeps a task partition where it is, in a word: the sentence for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its schedule's slot.
    Slot,
    /// Data that has yet to come, or to be made.
    Inputs,
    /// Time alone: a period goes on, or settles, or has been quiet for too short.
    Settle,
    /// Nothing: the next look takes it further.
    Look,
    Paused,
    /// As many run as may at once.
    Cap,
    /// Its backfill has yet to come to it.
    Backfill,
    /// Others for its batch, or the batch's time.
    Batch,
    /// Its run, of which no more is known.
    Run,
    /// EMR's quota, as the governor counts or as EMR says.
    Quota,
    /// Its cluster is being created, starts or bootstraps.
    Cluster,
    ClusterEnding,
    /// A guard that has refused a cluster, or steps on it.
    Guard,
    /// A failure's delay.
    Retry,
    /// Steps before its own.
    Queue,
    /// Its step runs.
    Step,
    Cancelling,
    /// Its output is loaded.
    Load,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    pub task: String,
    pub partition: Partition,
    pub state: TaskState,
    /// False while nothing of it has arrived: then it exists by the
    /// configuration alone.
    pub stored: bool,
    pub sentence: String,
    /// None when it has ended.
    pub cause: Option<Cause>,
    /// While it waits: what for.
    pub waits_for: Vec<Wait>,
    /// When all of that is usually there, while nothing but data brings it further.
    pub usually: Option<Usually>,
    /// When it entered its state.
    pub since: Option<Timestamp>,
    /// When time alone brings it further.
    pub until: Option<Timestamp>,
    pub reason: Option<String>,
    /// The class of the failure: why it failed, or why its run lost a cluster.
    pub class: Option<FailureClass>,
    pub run: Option<String>,
    pub cluster: Option<String>,
    /// Who holds its task, while it waits or is ready.
    pub paused: Option<Asked>,
    /// The cap that holds it back while it is ready.
    pub full: Option<Full>,
    /// Who takes for there what has not come, while it waits or is ready.
    pub asked: Option<Asked>,
    /// The backfill that it is run for, or that has yet to come to it.
    pub backfill: Option<String>,
    /// Dataset → where the partition of it lies, once it has succeeded.
    pub outputs: BTreeMap<String, String>,
}

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wait {
    /// A dataset, or `slot`.
    pub of: String,
    pub missing: Vec<Partition>,
    /// How many partitions of the dataset are read.
    pub total: usize,
    /// When it comes at the earliest, where that is known.
    pub at: Option<Timestamp>,
    /// When the task that produces it is usually done.
    pub usually: Option<Usually>,
    pub words: String,
}

/// What a task partition lacks of its inputs that other tasks produce: whose
/// state is worth a look.
pub fn producers(catalog: &Catalog, task: &Task, item: &TaskPartition) -> Vec<TaskKey> {
    let elements = catalog.elements(task, &item.key.partition);
    let missing = item.missing(&elements).into_iter();
    missing
        .filter_map(|element| match element {
            Element::Data { dataset, partition } => producer(catalog, dataset, *partition),
            Element::Slot => None,
        })
        .collect()
}

fn producer(catalog: &Catalog, dataset: &str, partition: Partition) -> Option<TaskKey> {
    match &catalog.datasets.get(dataset)?.completeness {
        Completeness::Produced { task } => Some(TaskKey::new(task, partition)),
        _ => None,
    }
}

/// Says why.
pub fn why(catalog: &Catalog, task: &Task, known: Known<'_>, now: Timestamp) -> Why {
    let unstored = TaskPartition::new(known.key.clone());
    let item = known.item.unwrap_or(&unstored);
    let mut why = Why {
        task: known.key.task.clone(),
        partition: known.key.partition,
        state: item.state,
        stored: known.item.is_some(),
        sentence: String::new(),
        cause: None,
        waits_for: Vec::new(),
        usually: None,
        since: item.since,
        until: None,
        reason: item.reason.clone(),
        class: None,
        run: item.run.clone(),
        cluster: None,
        paused: None,
        full: None,
        asked: None,
        backfill: item.round.backfill.clone(),
        outputs: BTreeMap::new(),
    };
    let words = match item.state {
        TaskState::Waiting => waiting::words(catalog, task, item, known, now, &mut why),
        TaskState::Ready => ready(catalog, task, item, known, now, &mut why),
        TaskState::Running => running::running(item, known.run, now, &mut why),
        TaskState::Loading => running::loading(catalog, task, item, now, &mut why),
        TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => {
            ended(catalog, task, item, known.run, now, &mut why)
        }
    };
    let taken = item.taken_for_there().filter(|_| is_unrun(item)).map(|(names, asked)| {
        why.asked = Some(asked.clone());
        format!("; {names}: taken for there {asked}")
    });
    let taken = taken.unwrap_or_default();
    let backfill = backfill(item, known, &mut why);
    why.sentence = format!("{} {words}{taken}{backfill}.", known.key);
    why
}

impl Why {
    /// The same of one that is too old to be begun, and of which nothing is stored.
    #[must_use]
    pub fn too_old(mut self, kept: Option<SignedDuration>) -> Self {
        let Self { task, partition, .. } = &self;
        self.sentence = format!("{task} {partition} {}.", retention::too_old_words(kept));
        (self.stored, self.until) = (false, None);
        self.waits_for.clear();
        self
    }
}

/// Whether it may still be asked what it is to be run with; a backfill says so itself.
fn is_unrun(item: &TaskPartition) -> bool {
    item.state.takes_inputs() && item.round.backfill.is_none()
}

/// Which backfill it is run for, or waits for.
fn backfill(item: &TaskPartition, known: Known<'_>, why: &mut Why) -> String {
    if let Some(to_come) = known.to_come {
        why.cause = Some(Cause::Backfill);
        why.backfill = Some(to_come.id.clone());
        return format!(
            "; backfill {} has yet to come to it: {} of it are ready or running, and {} may be at \
             once",
            to_come.id,
            to_come.open.len(),
            to_come.window.max_parallel
        );
    }
    match &item.round.backfill {
        Some(id) if !item.state.is_final() => format!("; it belongs to backfill {id}"),
        _ => String::new(),
    }
}

/// `a, b and c`.
fn joined(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn ready(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    known: Known<'_>,
    now: Timestamp,
    why: &mut Why,
) -> String {
    let since = item.ready_at.or(item.since);
    let start = match since {
        Some(since) => format!("is ready since {}", clock(since, now)),
        None => "is ready".to_owned(),
    };
    if let Some(held) = known.held(now) {
        (why.cause, why.paused) =
            (Some(Cause::Paused), known.paused.map(|(_, asked)| asked.clone()));
        return format!("{start} and held back: {held}");
    }
    if let Some(full) = known.full {
        (why.cause, why.full) = (Some(Cause::Cap), Some(full.clone()));
        return format!("{start} and held back: {full}");
    }
    why.cause = Some(Cause::Look);
    let Some(profile) = catalog.profiles.get(&task.profile) else { return start };
    let name = &profile.name;
    let sweep = since.and_then(|since| since.saturating_add(profile.max_wait).ok());
    let lack = profile.batch_size.saturating_sub(known.ready);
    match sweep.filter(|sweep| *sweep > now && lack > 0) {
        Some(sweep) => {
            (why.cause, why.until) = (Some(Cause::Batch), Some(sweep));
            format!(
                "{start} and waits for {lack} more ready partition{} of profile {name} to fill a \
                 batch of {}, or until {} at the latest",
                if lack == 1 { "" } else { "s" },
                profile.batch_size,
                clock(sweep, now)
            )
        }
        None => format!(
            "{start} and its batch of profile {name} is due: a run is about to be made, unless \
             the service is not running"
        ),
    }
}

fn ended(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    run: Option<&Run>,
    now: Timestamp,
    why: &mut Why,
) -> String {
    let at = item.since.map_or_else(String::new, |at| format!(" at {}", clock(at, now)));
    if item.state == TaskState::Failed {
        let of_load = item.load.as_ref().and_then(|load| load.class);
        why.class = run.and_then(|run| run.class_of(item)).or(of_load);
    }
    let run = item.run.as_ref().map_or_else(String::new, |run| format!(" in run {run}"));
    let reason = item.reason.as_deref().unwrap_or("no reason is stored");
    // It ends the sentence.
    let reason = reason.trim_end_matches('.');
    let late = item.late.as_ref();
    let again = late.and_then(|late| Some((late.untaken(), late.again_at(task, item, now)?)));
    let again = again.map_or_else(String::new, |(objects, at)| {
        why.until = Some(at);
        let objects = if objects == 1 { "1 object" } else { &format!("{objects} objects") };
        format!("; {objects} came late, and it runs again at {}", clock(at, now))
    });
    let words = match item.state {
        TaskState::Succeeded => {
            why.outputs = catalog.outputs(task, &item.key.partition);
            let places: Vec<_> = why.outputs.values().cloned().collect();
            match places.as_slice() {
                [] => format!("succeeded{at}{run}"),
                places => format!("succeeded{at}{run}; its output is at {}", joined(places)),
            }
        }
        TaskState::Skipped => format!("was skipped{at}: {reason}"),
        TaskState::Cancelled => format!("was cancelled{at}{run} {reason}"),
        _ => {
            let class = why.class.map(|class| format!(" (class {})", class.name()));
            // Without a cluster; for all of it there is `retry` alone.
            let load = item.load.as_ref().filter(|load| !load.needs_steps && task.load.is_some());
            let load = load.map(|_| {
                let TaskKey { task, partition } = &item.key;
                format!("; its load alone once more: sluicegate retry {task} {partition} --load")
            });
            let (class, load) = (class.unwrap_or_default(), load.unwrap_or_default());
            format!("FAILED{at}{run}: {reason}{class}{load}")
        }
    };
    words + &again
}

/// `05, 06, 07` for hours of one day, else the partitions in full; of many the
/// first and the last.
fn listed(partitions: &[Partition]) -> String {
    let same_day = partitions.windows(2).all(|two| two[0].civil().date() == two[1].civil().date());
    let short = |partition: &Partition| match same_day && partitions.len() > 1 {
        true => format!("{:02}", partition.civil().hour()),
        false => partition.to_string(),
    };
    match partitions {
        [first, second, .., last] if partitions.len() > NAMED_MAX => {
            format!("{}, {}, … {}", short(first), short(second), short(last))
        }
        all => all.iter().map(short).collect::<Vec<_>>().join(", "),
    }
}

/// `06:05 UTC` today, with the date on any other day.
fn clock(at: Timestamp, now: Timestamp) -> String {
    let day = |instant: Timestamp| instant.strftime("%Y-%m-%d").to_string();
    let format = if day(at) == day(now) { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests;
