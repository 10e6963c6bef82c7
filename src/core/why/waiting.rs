//! What a waiting task partition waits for, and whether that comes by itself:
//! what is long over and forgotten must not be told as what is about to come.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Cause, Known, Usually, Wait, Why, clock, joined, listed};
use crate::core::catalog::{Catalog, Completeness, Input, Need, OnTimeout, Task};
use crate::core::partition::{Grain, Partition};
use crate::core::schedule::{CatchUp, Schedule};
use crate::core::task::{Element, Receipt, TaskKey, TaskPartition, TaskState};

/// A slot that stands for a day lies so far before its start and after its end at most:
/// a zone's offset, and a day more. For an hour the zone does not matter.
const DAY_REACH: [SignedDuration; 2] =
    [SignedDuration::from_hours(15), SignedDuration::from_hours(39)];
const HOUR_REACH: [SignedDuration; 2] = [SignedDuration::from_hours(1); 2];
/// What the wait for it is of.
const SLOT: &str = "slot";

/// What is due longer than this is not being worked on.
const LATE: SignedDuration = SignedDuration::from_mins(5);

/// What it waits for, in words; the waits themselves go into `why`.
pub(super) fn words(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    known: Known<'_>,
    now: Timestamp,
    why: &mut Why,
) -> String {
    let slot = (task.schedule.is_some() && !item.has(&Element::Slot))
        .then(|| slot_wait(task, &item.key.partition, known.mark, now));
    let comes = slot.as_ref().is_none_or(|(_, comes)| *comes);
    let look = Look { slot_missing: slot.is_some(), task, known, now };
    why.waits_for.extend(slot.map(|(wait, _)| wait));
    for input in &task.inputs {
        why.waits_for.extend(input_wait(catalog, input, item, look));
    }
    let limit = task.wait.filter(|_| comes && look.is_foreseen());
    let deadline = limit.map(|wait| wait.deadline(&item.key.partition));
    let all_come = why.waits_for.iter().filter_map(|wait| wait.at).max().filter(|_| comes);
    why.until = all_come.into_iter().chain(deadline).min();
    why.cause = Some(cause(&why.waits_for));
    let words: Vec<_> = why.waits_for.iter().map(|wait| wait.words.clone()).collect();
    // What has come of a period that is yet to close is counted then.
    let closes = |input: &Input| {
        let dataset = catalog.datasets.get(&input.dataset);
        dataset.is_some_and(|it| matches!(it.completeness, Completeness::Closed { .. }))
    };
    let start = match why.stored || task.inputs.iter().any(closes) {
        true => "waits for",
        false => "has received nothing yet and waits for",
    };
    // The turn that finds this out is about to come.
    if words.is_empty() {
        return "has everything it needs and is about to become ready".to_owned();
    }
    let enough = match task.need {
        Need::All => String::new(),
        Need::AtLeast(count) => {
            format!(" ({count} of its {} inputs are enough)", task.inputs.len())
        }
    };
    let limit = limit.zip(deadline).map_or_else(String::new, |(wait, deadline)| {
        let then = match wait.then {
            OnTimeout::Fail => "it fails",
            OnTimeout::Run => "it runs with what is there",
        };
        let at = clock(deadline, now);
        match deadline > now {
            true => format!("; at {at} {then}"),
            false => format!("; its time is up since {at}: {then} at the next look"),
        }
    });
    let usually = usually(task, item, known, now, why);
    let held = known.held(now).map_or_else(String::new, |held| {
        why.paused = known.paused.map(|(_, asked)| asked.clone());
        format!("; {held}")
    });
    format!("{start} {}{enough}{usually}{limit}{held}", joined(&words))
}

/// What of all that comes last, as far as one can know.
fn cause(waits: &[Wait]) -> Cause {
    let is_data = |wait: &&Wait| wait.of != SLOT;
    match waits.iter().filter(is_data).count() {
        0 if waits.is_empty() => Cause::Look,
        0 => Cause::Slot,
        _ if waits.iter().filter(is_data).all(|wait| wait.at.is_some()) => Cause::Settle,
        _ => Cause::Inputs,
    }
}

/// When everything is usually there, if only the arrival of data decides that.
fn usually(
    task: &Task,
    item: &TaskPartition,
    known: Known<'_>,
    now: Timestamp,
    why: &mut Why,
) -> String {
    let by_time_or_task = |wait: &Wait| wait.at.is_some() || wait.usually.is_some();
    if why.waits_for.iter().all(|wait| wait.of == SLOT || by_time_or_task(wait)) {
        return String::new();
    }
    let usual = known.usual.get(&task.name).and_then(|usual| usual.ready(&item.key.partition));
    let words = usual.as_ref().map_or_else(String::new, |Usually { at, partitions }| {
        let at = clock(*at, now);
        format!(
            "; usually everything is there by {at} (median of its last {partitions} partitions)"
        )
    });
    why.usually = usual;
    words
}

/// Who will look at it again, and when.
#[derive(Clone, Copy)]
struct Look<'a> {
    slot_missing: bool,
    task: &'a Task,
    known: Known<'a>,
    now: Timestamp,
}

impl Look<'_> {
    /// When a task has usually produced these, unless one of them does not come by
    /// itself.
    fn usually_produced(&self, task: &str, missing: &[Partition]) -> Option<Usually> {
        let is_lost = |partition: &Partition| {
            let state = self.known.producers.get(&TaskKey::new(task, *partition));
            matches!(state, Some(TaskState::Failed | TaskState::Cancelled))
        };
        let lost = missing.iter().any(is_lost);
        self.known.usual.get(task).filter(|_| !lost)?.succeeded(missing)
    }

    /// Whether it is stored, or the task's calendar stores it when its time has
    /// come.
    fn is_foreseen(&self) -> bool {
        let end = self.known.key.partition.end();
        self.known.item.is_some()
            || self.task.has_calendar() && self.known.mark.unwrap_or(self.now) < end
    }

    /// The same, where S3 is listed before.
    fn closing_after_listing(&self) -> String {
        let item = self.known.item;
        match item.and_then(|item| Some((item.unlisted.as_ref()?, item.due))) {
            Some((reason, due)) => {
                let again =
                    due.map_or_else(String::new, |due| format!(" at {}", clock(due, self.now)));
                let reason = reason.trim_end_matches('.');
                format!(
                    "which is over and is not closed before its objects can be listed ({reason}); \
                     it is tried again{again}"
                )
            }
            None => self.closing(),
        }
    }

    /// When it is closed, of a period that is over.
    fn closing(&self) -> String {
        if self.slot_missing {
            return "which is over and is closed when the slot has come".to_owned();
        }
        if !self.is_foreseen() {
            return "which is over and is closed when something has come".to_owned();
        }
        let due = match self.known.item {
            Some(item) => item.due,
            None => Some(self.known.key.partition.end()),
        };
        match due {
            None => {
                "which is over and is looked at again when something comes or the service starts"
                    .to_owned()
            }
            Some(at) if at > self.now => {
                format!("which is over and is looked at again at {}", clock(at, self.now))
            }
            Some(at) if self.now.duration_since(at) < LATE => {
                "which is over and about to be closed".to_owned()
            }
            Some(at) => format!(
                "which is over and due to be closed since {} (is the service running?)",
                clock(at, self.now)
            ),
        }
    }
}

/// The instant of the schedule that stands for a partition.
pub fn slot_of(task: &Task, partition: &Partition) -> Option<Timestamp> {
    let schedule = task.schedule.as_ref()?;
    let [before, after] = match partition.grain() {
        Grain::Hour => HOUR_REACH,
        Grain::Day => DAY_REACH,
    };
    let from = partition.start().saturating_sub(before).ok()?;
    let until = partition.end().saturating_add(after).ok()?;
    let mut slots = schedule.slots(from, until);
    slots.find(|slot| schedule.partition_of(*slot, task.grain) == *partition)
}

/// Its slot, and whether that comes by itself.
fn slot_wait(
    task: &Task,
    partition: &Partition,
    mark: Option<Timestamp>,
    now: Timestamp,
) -> (Wait, bool) {
    let at = slot_of(task, partition);
    // Where nothing is stored, the calendar begins when the service first starts.
    let mark = mark.unwrap_or(now);
    let schedule = task.schedule.as_ref();
    let passed = schedule.map_or(mark, |schedule| schedule.passed_over(mark, now));
    let comes = at.is_some_and(|at| at > passed);
    let catch_up = schedule.map(Schedule::catch_up).unwrap_or_default();
    let missed = match catch_up {
        CatchUp::All | CatchUp::NewestFirst => {
            "before its schedule was first seen, or last changed".to_owned()
        }
        CatchUp::Last | CatchUp::None => format!(
            "missed, and not made up as catch-up = {:?} says, or before its schedule was first seen",
            catch_up.name()
        ),
    };
    let words = match at {
        None => "a slot that never comes: its schedule has none for this partition".to_owned(),
        Some(at) if at > now => format!("its slot at {}", clock(at, now)),
        Some(at) if !comes => {
            format!("its slot at {} ({missed}: it does not come by itself)", clock(at, now))
        }
        Some(at) => format!(
            "its slot at {}, which has passed and is not yet taken up (is the service running?)",
            clock(at, now)
        ),
    };
    let at = at.filter(|at| *at > now);
    let (of, missing) = (SLOT.to_owned(), Vec::new());
    (Wait { of, missing, total: 1, at, usually: None, words }, comes)
}

/// What one input lacks; None when it is complete.
fn input_wait(
    catalog: &Catalog,
    input: &Input,
    item: &TaskPartition,
    look: Look<'_>,
) -> Option<Wait> {
    let window: Vec<_> = catalog.window(input, &item.key.partition).collect();
    let element = |partition: &Partition| Element::data(&input.dataset, *partition);
    let missing: Vec<_> =
        window.iter().filter(|partition| !item.has(&element(partition))).copied().collect();
    let last = *missing.last()?;
    let name = &input.dataset;
    let with_data = window
        .iter()
        .filter(|partition| item.has(&element(partition)) && item.has_data(&element(partition)));
    let lack = match input.need {
        Need::All => None,
        Need::AtLeast(count) => Some((count as usize).saturating_sub(with_data.count())),
    };
    if lack == Some(0) {
        return None;
    }
    let what = match (window.len(), missing.len()) {
        (total, _) if lack.is_some_and(|lack| lack < missing.len()) && total > 1 => {
            let lack = lack.unwrap_or_default();
            format!("{lack} more of {total} partitions of {name} (any of {})", listed(&missing))
        }
        (1, _) => format!("{name} {last}"),
        (total, lacking) if total == lacking => {
            format!("all {total} partitions of {name} ({})", listed(&missing))
        }
        (total, lacking) => {
            format!("{lacking} of {total} partitions of {name} ({})", listed(&missing))
        }
    };
    let completeness = &catalog.datasets.get(name)?.completeness;
    let last_object =
        missing.iter().filter_map(|partition| match item.received.get(&element(partition)) {
            Some(Receipt::Partial(at) | Receipt::Begun(at)) => Some(*at),
            _ => None,
        });
    let (how, at) = lacking(completeness, &missing, last_object.max(), look);
    let usually = match completeness {
        Completeness::Produced { task } => look.usually_produced(task, &missing),
        _ => None,
    };
    let by = usually.as_ref().map(|usually| clock(usually.at, look.now));
    let how = by.map_or(how.clone(), |by| format!("{how}, usually by {by}"));
    let words = match how.as_str() {
        "" => what,
        how => format!("{what}, {how}"),
    };
    Some(Wait { of: name.clone(), missing, total: window.len(), at, usually, words })
}

/// How missing partitions of a dataset become complete, and when at the
/// latest time alone does it.
fn lacking(
    completeness: &Completeness,
    missing: &[Partition],
    last_object: Option<Timestamp>,
    look: Look<'_>,
) -> (String, Option<Timestamp>) {
    let now = look.now;
    let so_far = match last_object {
        Some(first) => format!(" (the first one came at {})", clock(first, now)),
        None => String::new(),
    };
    match completeness {
        Completeness::Object => (String::new(), None),
        Completeness::Marker { name } => (format!("whose marker {name} has not come"), None),
        Completeness::Count { objects } => {
            (format!("which is complete with {objects} objects{so_far}"), None)
        }
        Completeness::Quiet { quiet } => {
            match last_object.and_then(|last| last.saturating_add(*quiet).ok()) {
                Some(at) if at > now => (
                    format!("which is complete at {} if nothing new comes", clock(at, now)),
                    Some(at),
                ),
                Some(_) => (look.closing(), None),
                None => ("of which no object has come".to_owned(), None),
            }
        }
        Completeness::Closed { settle } => {
            let last = missing.iter().map(Partition::end).max();
            let at = last.and_then(|end| end.saturating_add(*settle).ok());
            match at {
                Some(at) if at > now => (format!("which closes at {}", clock(at, now)), Some(at)),
                _ => (look.closing_after_listing(), None),
            }
        }
        Completeness::Produced { task } => (produced(task, missing, look.known.producers), None),
    }
}

/// What the producing task makes of it: a failure there is what one looks for.
fn produced(task: &str, missing: &[Partition], producers: &BTreeMap<TaskKey, TaskState>) -> String {
    // The worst news first: a failure does not go away by waiting.
    for (state, doing) in [
        (TaskState::Failed, "FAILED for"),
        (TaskState::Cancelled, "was cancelled for"),
        (TaskState::Waiting, "still waits for inputs of"),
        (TaskState::Ready, "is ready to produce"),
        (TaskState::Running, "is running for"),
        (TaskState::Loading, "loads into the warehouse for"),
    ] {
        let in_state = |partition: &&Partition| {
            producers.get(&TaskKey::new(task, **partition)) == Some(&state)
        };
        let found: Vec<_> = missing.iter().filter(in_state).copied().collect();
        if !found.is_empty() {
            let whose = if missing.len() == 1 { "it".to_owned() } else { listed(&found) };
            return format!("which {task} produces and {doing} {whose}");
        }
    }
    format!("which {task} produces")
}
