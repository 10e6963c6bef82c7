//! Why a task partition is where it is, in one sentence. Reads what is stored
//! and the time; decides nothing (see `readiness`, `batch` and `run`), it only
//! says what those wait for.

mod waiting;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::asked::Asked;
use super::backfill::Backfill;
use super::cap::Full;
use super::catalog::{Catalog, Completeness, Task};
use super::class::FailureClass;
use super::load::{Stage, Trouble};
use super::partition::Partition;
use super::pause::Scope;
use super::retention;
use super::run::{Attempt, ClusterState, Run, RunState, StepState, StepTry};
use super::task::{Element, TaskKey, TaskPartition, TaskState};

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
    /// While it waits: what for.
    pub waits_for: Vec<Wait>,
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
        waits_for: Vec::new(),
        since: item.since,
        until: None,
        reason: item.reason.clone(),
        class: None,
        run: item.run.clone(),
        cluster: None,
        paused: None,
        full: None,
        backfill: item.round.backfill.clone(),
        outputs: BTreeMap::new(),
    };
    let words = match item.state {
        TaskState::Waiting => waiting::words(catalog, task, item, known, now, &mut why),
        TaskState::Ready => ready(catalog, task, item, known, now, &mut why),
        TaskState::Running => running(item, known.run, now, &mut why),
        TaskState::Loading => loading(catalog, task, item, now, &mut why),
        TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => {
            ended(catalog, task, item, known.run, now, &mut why)
        }
    };
    let backfill = backfill(item, known, &mut why);
    why.sentence = format!("{} {words}{backfill}.", known.key);
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

/// Which backfill it is run for, or waits for.
fn backfill(item: &TaskPartition, known: Known<'_>, why: &mut Why) -> String {
    if let Some(to_come) = known.to_come {
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
        why.paused = known.paused.map(|(_, asked)| asked.clone());
        return format!("{start} and held back: {held}");
    }
    if let Some(full) = known.full {
        why.full = Some(full.clone());
        return format!("{start} and held back: {full}");
    }
    let Some(profile) = catalog.profiles.get(&task.profile) else { return start };
    let name = &profile.name;
    let sweep = since.and_then(|since| since.saturating_add(profile.max_wait).ok());
    let lack = profile.batch_size.saturating_sub(known.ready);
    match sweep.filter(|sweep| *sweep > now && lack > 0) {
        Some(sweep) => {
            why.until = Some(sweep);
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
             the service is not running or EMR's quota makes it wait"
        ),
    }
}

fn running(item: &TaskPartition, run: Option<&Run>, now: Timestamp, why: &mut Why) -> String {
    let id = item.run.as_deref().unwrap_or("?");
    let Some(run) = run else {
        return format!("is running in run {id}, which cannot be found");
    };
    let start = format!("is running in run {id}");
    let Some(attempt) = run.attempt() else { return start };
    why.cluster.clone_from(&attempt.cluster);
    let start = match run.attempts.len() {
        1 => start,
        number => {
            why.class = run.attempts.iter().rev().find_map(|attempt| attempt.class);
            let after =
                why.class.map_or_else(String::new, |class| format!(" after {}", class.name()));
            format!("{start}, attempt {number} of {}{after}", run.most_attempts())
        }
    };
    let index = run.members.iter().position(|member| member.key == item.key);
    let doing = match (run.state, &attempt.cluster) {
        (_, None) => launching(run, attempt, now, why),
        (RunState::Terminating, Some(cluster)) if run.is_given_up() => {
            format!("cluster {cluster} was given up, as nothing ran on it, and is being terminated")
        }
        (RunState::Terminating, Some(cluster)) => {
            format!("all its work has ended and cluster {cluster} is being terminated")
        }
        (_, Some(cluster)) => on_cluster(run, index, attempt, cluster, now, why),
    };
    let member = index.and_then(|index| run.members.get(index));
    if let Some(asked) = member.and_then(|member| member.cancel.as_ref()) {
        let since = clock(asked.at, now);
        return format!("{start} and is being cancelled since {since} {asked}: {doing}");
    }
    format!("{start}: {doing}")
}

fn launching(run: &Run, attempt: &Attempt, now: Timestamp, why: &mut Why) -> String {
    match attempt.launch.send_at {
        Some(at) if at > now => {
            why.until = Some(at);
            let at = clock(at, now);
            match attempt.launch.throttled {
                _ if run.is_delayed() => format!("its next cluster is asked for at {at}"),
                0 => format!("EMR's quota has no room for its cluster before {at}"),
                _ => format!(
                    "EMR has refused to create its cluster for now, the next try is at {at}"
                ),
            }
        }
        Some(_) => "its cluster is about to be asked for".to_owned(),
        None => format!("its cluster is being created since {}", clock(attempt.opened, now)),
    }
}

fn on_cluster(
    run: &Run,
    index: Option<usize>,
    attempt: &Attempt,
    cluster: &str,
    now: Timestamp,
    why: &mut Why,
) -> String {
    let opened = clock(attempt.opened, now);
    match attempt.cluster_state {
        None | Some(ClusterState::Starting | ClusterState::Bootstrapping) => {
            let doing = attempt.cluster_state.unwrap_or(ClusterState::Starting).name();
            let words = format!("cluster {cluster} is {doing} since {opened}");
            return match run.given_up_at() {
                Some(at) => {
                    why.until = Some(at);
                    format!("{words}, and is given up at {} (stall-timeout)", clock(at, now))
                }
                None => words,
            };
        }
        Some(state) if state.is_ending() => {
            return format!("cluster {cluster} is {} before its work was done", state.name());
        }
        _ => {}
    }
    let Some(index) = index else { return format!("cluster {cluster} works") };
    if let Some(at) = run.retry_at(index).filter(|at| *at > now) {
        why.until = Some(at);
        let failed = attempt
            .tries
            .iter()
            .rfind(|step_try| step_try.member == index && step_try.state == StepState::Failed);
        let step = failed.map_or("a step", |failed| step_name(run, failed));
        return format!(
            "step {step} failed on cluster {cluster} and is tried again at {}",
            clock(at, now)
        );
    }
    let open = |step_try: &&StepTry| !step_try.state.has_ended();
    let own = attempt.tries.iter().filter(|step_try| step_try.member == index).find(open);
    let running = attempt.tries.iter().find(|step_try| step_try.state == StepState::Running);
    match (own, running) {
        (Some(own), _) if own.state == StepState::Running => {
            let since =
                own.started.map_or_else(String::new, |at| format!(" since {}", clock(at, now)));
            let words = format!("step {} runs on cluster {cluster}{since}", step_name(run, own));
            match run.cancelled_at(own) {
                Some(at) if at > now => {
                    why.until = Some(at);
                    let at = clock(at, now);
                    format!("{words}, and is cancelled at {at} after its attempt-timeout")
                }
                Some(_) => format!("{words}, and is being cancelled after its attempt-timeout"),
                None => words,
            }
        }
        (Some(own), Some(other)) => {
            let whose = run.members.get(other.member);
            let whose = whose.map_or_else(String::new, |member| format!(" of {}", member.key));
            format!(
                "step {} waits on cluster {cluster} for step {}{whose}",
                step_name(run, own),
                step_name(run, other)
            )
        }
        (Some(own), None) => {
            format!("step {} is queued on cluster {cluster}", step_name(run, own))
        }
        (None, _) => format!("its next step is about to be added to cluster {cluster}"),
    }
}

fn loading(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    now: Timestamp,
    why: &mut Why,
) -> String {
    let Some(load) = &item.load else {
        return "is loading, but nothing is stored of its load".to_owned();
    };
    let Some(spec) = &task.load else {
        return "is loading, but its task declares no load any more: declare it again".to_owned();
    };
    let (table, place) = (spec.table.plain(), &spec.warehouse);
    let into = format!("is loading into {table} of warehouse {place}");
    let attempts = catalog.warehouses.get(place).map_or(0, |warehouse| warehouse.attempts);
    let number = format!("attempt {} of {attempts}", load.attempt);
    let words = match &load.stage {
        Stage::Prepare { from } if *from > now => {
            why.until = Some(*from);
            let failure = load.failure.as_deref().unwrap_or("no answer says why");
            let failure = failure.trim_end_matches('.');
            format!("{into}: {number} comes at {}, after: {failure}", clock(*from, now))
        }
        Stage::Prepare { .. } => format!("{into}: {number} lists its files"),
        Stage::Send { .. } => format!("{into}: {number} is about to be sent"),
        Stage::Execute { statement, since, .. } => {
            format!("{into}: {number} runs since {} as {statement}", clock(*since, now))
        }
        Stage::Settle => format!("{into}: {number} has ended, and the ledger is asked"),
    };
    match &load.trouble {
        Some(Trouble { since, words: failure, .. }) => {
            let failure = failure.trim_end_matches('.');
            format!("{words}; its calls fail since {}: {failure}", clock(*since, now))
        }
        None => words,
    }
}

fn step_name<'a>(run: &'a Run, step_try: &'a StepTry) -> &'a str {
    let step = run.members.get(step_try.member).and_then(|member| member.steps.get(step_try.step));
    step.map_or(step_try.name.as_str(), |step| step.name.as_str())
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
        why.class = run.and_then(|run| run.class_of(item));
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
        _ => match why.class {
            Some(class) => format!("FAILED{at}{run}: {reason} (class {})", class.name()),
            None => format!("FAILED{at}{run}: {reason}"),
        },
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
