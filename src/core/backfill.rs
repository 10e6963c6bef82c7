//! A backfill: runs a window of a task's partitions, so many at a time. What it
//! has begun is stored before it is begun, and each partition bears its name
//! from then on: so whoever goes on with it after a crash does nothing twice,
//! and never has more under way than its cap. Not for when a partition is
//! complete (see `readiness`) or how it runs (see `batch`, `run`).

mod words;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::catalog::{Catalog, Task};
use super::notice::Notice;
use super::operate::{self, Again, Cancel};
use super::partition::Partition;
use super::readiness::{Readiness, readiness};
use super::run::Run;
use super::task::{Element, Receipt, TaskChange, TaskKey, TaskPartition, TaskState, URGENT};

/// More partitions than anybody would look through; its record stays small.
pub const PARTITIONS_MAX: u32 = 10_000;
/// A turn reads each partition under way.
pub const PARALLEL_MAX: u32 = 200;
/// Partitions that failed are named up to this many.
const NAMED_MAX: usize = 50;

/// Which partitions come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The oldest.
    #[default]
    Asc,
    /// The newest.
    Desc,
}

/// What has become of one of its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    Succeeded,
    Failed,
    Cancelled,
    /// By the task's rule for empty inputs, or by a person.
    Skipped,
    /// Left alone: it had succeeded, or was skipped, before.
    DoneBefore,
    /// Left alone: somebody else had begun it.
    UnderWay,
    /// Left alone: its inputs have not come.
    LacksInputs,
    /// Left alone: older than what is kept, so it may have run before.
    TooOld,
    /// Left out: the task's schedule has no slot for it.
    NoSlot,
    /// The backfill was cancelled before it came to it.
    NotBegun,
}

/// What a person orders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub task: String,
    pub first: Partition,
    /// Belongs to it.
    pub last: Partition,
    /// How many are ready or running at once.
    pub max_parallel: u32,
    #[serde(default)]
    pub order: Order,
    /// Also what has succeeded or was skipped, is too old, or has no slot in the schedule.
    #[serde(default)]
    pub force: bool,
    /// Inputs that have not come are taken for there.
    #[serde(default)]
    pub ignore_inputs: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backfill {
    /// A ULID.
    pub id: String,
    /// Rises by one with every write; kept beside the rest in the table.
    #[serde(skip)]
    pub version: u64,
    pub window: Window,
    pub asked: Asked,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Asked>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How many partitions it has come to, in its order.
    pub cursor: u32,
    /// Those of them that have not ended.
    pub open: BTreeSet<Partition>,
    pub counts: BTreeMap<How, u32>,
    /// The first that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Partition>,
    /// Changes not yet published, oldest first.
    pub notices: Vec<Notice>,
}

/// The last order of a backfill of a task: two that are given at the same moment do not
/// see each other's, so each is stored only if this still is as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastOrder {
    /// Rises by one with every write; kept beside the rest in the table.
    #[serde(skip)]
    pub version: u64,
    pub task: String,
    /// The id of what was ordered.
    pub backfill: String,
}

/// What follows for one open partition from how it is.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Step {
    /// It is under way for this backfill, or cannot be begun at the moment.
    Wait,
    /// Put the backfill's name on it while it waits, have these be all that it is
    /// given, and decide about it.
    Adopt(Vec<(Element, Receipt)>),
    /// Another round.
    Again(Box<TaskChange>),
    Cancel(Box<TaskChange>),
    /// Take the backfill's name off it, and what it was given: it goes on like any
    /// other.
    Leave(How),
    Over(How),
}

impl Window {
    pub fn partitions(&self) -> u32 {
        let span = self.last.start().duration_since(self.first.start());
        let count = span.as_secs() / self.first.grain().length().as_secs() + 1;
        u32::try_from(count).unwrap_or(0)
    }

    /// The nth partition in its order.
    fn nth(&self, number: u32) -> Partition {
        let distance = i32::try_from(number).unwrap_or(i32::MAX);
        let distance = self.first.grain().length().saturating_mul(distance);
        let (from, distance) = match self.order {
            Order::Asc => (self.first, distance),
            Order::Desc => (self.last, -distance),
        };
        let start = from.start().saturating_add(distance).unwrap_or(from.start());
        Partition::containing(start, self.first.grain())
    }

    pub fn contains(&self, key: &TaskKey) -> bool {
        key.task == self.task && self.first <= key.partition && key.partition <= self.last
    }

    /// Whether a partition belongs to both.
    pub fn intersects(&self, other: &Window) -> bool {
        self.task == other.task && self.first <= other.last && other.first <= self.last
    }
}

impl Backfill {
    pub fn new(id: &str, window: Window, asked: Asked) -> Self {
        let mut backfill = Self {
            id: id.to_owned(),
            version: 0,
            window,
            asked,
            cancelled: None,
            ended: None,
            cursor: 0,
            open: BTreeSet::new(),
            counts: BTreeMap::new(),
            failed: Vec::new(),
            notices: Vec::new(),
        };
        backfill.tell_begun();
        backfill
    }

    /// A person wants it to end; false if it has, or is about to.
    pub fn ask_cancel(&mut self, asked: Asked) -> bool {
        if self.ended.is_some() || self.cancelled.is_some() {
            return false;
        }
        self.tell_cancelled(&asked);
        self.cancelled = Some(asked);
        true
    }

    /// Comes to as many partitions as its cap has room for. To be stored before
    /// anything is done about them.
    pub fn begin(&mut self) {
        let all = self.window.partitions();
        while self.cancelled.is_none()
            && self.cursor < all
            && self.open.len() < self.window.max_parallel as usize
        {
            self.open.insert(self.window.nth(self.cursor));
            self.cursor += 1;
        }
    }

    /// What to do about an open partition; `run` is its last.
    pub fn step(
        &self,
        catalog: &Catalog,
        task: &Task,
        item: &TaskPartition,
        run: Option<&Run>,
        now: Timestamp,
    ) -> Step {
        use TaskState::{Cancelled, Failed, Loading, Ready, Running, Skipped, Succeeded, Waiting};
        let ours = item.round.backfill.as_deref() == Some(self.id.as_str());
        match item.state {
            Waiting if ours => self.decide(catalog, task, item, now),
            Ready if ours => self.cancel_unrun(Some(task), item),
            Running | Loading if ours => Step::Wait,
            Succeeded if ours => Step::Over(How::Succeeded),
            Failed if ours => Step::Over(How::Failed),
            Cancelled if ours => Step::Over(How::Cancelled),
            Skipped if ours => Step::Over(How::Skipped),
            _ if self.cancelled.is_some() => Step::Over(How::NotBegun),
            Waiting if item.round.backfill.is_none() => self.decide(catalog, task, item, now),
            Waiting | Ready | Running | Loading => Step::Over(How::UnderWay),
            Succeeded | Skipped if !self.window.force => Step::Over(How::DoneBefore),
            Succeeded | Failed | Cancelled | Skipped => self.again(catalog, task, item, run, now),
        }
    }

    /// Whether it leaves a partition alone of which nothing is known any more.
    pub fn leaves_too_old(&self, item: Option<&TaskPartition>) -> bool {
        let ours = |item: &TaskPartition| item.round.backfill.as_ref() == Some(&self.id);
        !self.window.force && self.cancelled.is_none() && !item.is_some_and(ours)
    }

    /// The same where its task is not declared any more: that may come back, unless
    /// the backfill is cancelled. What runs ends all the same; a load does not go
    /// on, and is nobody's then.
    pub fn step_undeclared(&self, item: &TaskPartition) -> Step {
        use TaskState::{Cancelled, Failed, Loading, Ready, Running, Skipped, Succeeded, Waiting};
        if self.cancelled.is_none() {
            return Step::Wait;
        }
        if item.round.backfill.as_deref() != Some(self.id.as_str()) {
            return Step::Over(How::NotBegun);
        }
        match item.state {
            Waiting => Step::Leave(How::NotBegun),
            Ready => self.cancel_unrun(None, item),
            Running => Step::Wait,
            Loading => Step::Leave(How::UnderWay),
            Succeeded => Step::Over(How::Succeeded),
            Failed => Step::Over(How::Failed),
            Cancelled => Step::Over(How::Cancelled),
            Skipped => Step::Over(How::Skipped),
        }
    }

    /// One that waits is begun only if it becomes ready by that: its slot is
    /// given, as the schedule does not give it for the past.
    fn decide(&self, catalog: &Catalog, task: &Task, item: &TaskPartition, now: Timestamp) -> Step {
        let ours = item.round.backfill.is_some();
        if self.cancelled.is_some() {
            // What it was given makes it run, unless it is ended.
            return match readiness(catalog, task, item, now) {
                Readiness::Waiting { .. } => Step::Leave(How::NotBegun),
                Readiness::Close(_) | Readiness::Change(_) => self.cancel_unrun(Some(task), item),
            };
        }
        if self.leaves_out(task, item) {
            return if ours { Step::Leave(How::NoSlot) } else { Step::Over(How::NoSlot) };
        }
        let receipts = self.receipts(catalog, task, item);
        let mut given = item.clone();
        given.received.extend(receipts.iter().cloned());
        match readiness(catalog, task, &given, now) {
            Readiness::Waiting { .. } if ours => Step::Leave(How::LacksInputs),
            Readiness::Waiting { .. } => Step::Over(How::LacksInputs),
            // Nobody waits for what is long past.
            Readiness::Change(change) if change.to == TaskState::Failed && !ours => {
                Step::Over(How::LacksInputs)
            }
            Readiness::Close(_) | Readiness::Change(_) => Step::Adopt(item.given_with(&receipts)),
        }
    }

    /// One that has ended is begun again if the task's rules let it run.
    fn again(
        &self,
        catalog: &Catalog,
        task: &Task,
        item: &TaskPartition,
        run: Option<&Run>,
        now: Timestamp,
    ) -> Step {
        if self.leaves_out(task, item) {
            return Step::Over(How::NoSlot);
        }
        let receipts = self.receipts(catalog, task, item);
        let mut as_waiting = TaskPartition { state: TaskState::Waiting, ..item.clone() };
        as_waiting.received.extend(receipts.iter().cloned());
        match readiness(catalog, task, &as_waiting, now) {
            Readiness::Close(_) => {}
            Readiness::Change(change) if change.to == TaskState::Ready => {}
            Readiness::Change(change) if change.to == TaskState::Skipped => {
                return Step::Over(How::DoneBefore);
            }
            Readiness::Waiting { .. } | Readiness::Change(_) => {
                return Step::Over(How::LacksInputs);
            }
        }
        let again = Again { force: self.window.force, backfill: Some(self.id.clone()), receipts };
        let asked = Asked { at: now, ..self.asked.clone() };
        match operate::retry(catalog, task, item, run, &again, &asked) {
            Ok(mut change) => {
                // The backfill looks at it by itself.
                change.due = change.at;
                Step::Again(Box::new(change))
            }
            // Its last run has not let go of it yet.
            Err(_) => Step::Wait,
        }
    }

    fn cancel_unrun(&self, task: Option<&Task>, item: &TaskPartition) -> Step {
        match self.cancelled.as_ref().map(|asked| operate::cancel(task, item, asked)) {
            Some(Ok(Cancel::Now(change))) => Step::Cancel(change),
            _ => Step::Wait,
        }
    }

    /// Whether the schedule has nothing to do with it; who insists runs it all the same.
    fn leaves_out(&self, task: &Task, item: &TaskPartition) -> bool {
        !self.window.force && operate::lacks_slot(task, item)
    }

    fn receipts(
        &self,
        catalog: &Catalog,
        task: &Task,
        item: &TaskPartition,
    ) -> Vec<(Element, Receipt)> {
        if self.window.ignore_inputs {
            return operate::granted(catalog, task, item, &self.asked.by);
        }
        let slot = task.schedule.is_some() && !item.has(&Element::Slot);
        Vec::from_iter(slot.then(|| operate::slot_granted(task, &item.key)))
    }

    /// One of its open partitions needs it no more.
    pub fn over(&mut self, partition: Partition, how: How) {
        if !self.open.remove(&partition) {
            return;
        }
        *self.counts.entry(how).or_default() += 1;
        if how == How::Failed && self.failed.len() < NAMED_MAX {
            self.failed.push(partition);
        }
    }

    /// Ends it when nothing is left to do.
    pub fn end(&mut self, now: Timestamp) {
        let all = self.window.partitions();
        let is_over = self.cancelled.is_some() || self.cursor >= all;
        if self.ended.is_some() || !self.open.is_empty() || !is_over {
            return;
        }
        if self.cursor < all {
            *self.counts.entry(How::NotBegun).or_default() += all - self.cursor;
        }
        self.ended = Some(now);
        self.tell_ended(now);
    }

    pub fn count(&self, how: How) -> u32 {
        self.counts.get(&how).copied().unwrap_or_default()
    }

    /// How many partitions it is done with.
    pub fn done(&self) -> u32 {
        self.counts.values().sum()
    }

    /// In a word.
    pub fn state(&self) -> &'static str {
        match (self.ended, &self.cancelled) {
            (None, None) => "running",
            (None, Some(_)) => "cancelling",
            (Some(_), None) => "ended",
            (Some(_), Some(_)) => "cancelled",
        }
    }

    /// Whether it has yet to come to a partition.
    pub fn is_to_come(&self, key: &TaskKey) -> bool {
        let begun = |number: u32| self.window.nth(number) == key.partition;
        self.ended.is_none()
            && self.cancelled.is_none()
            && self.window.contains(key)
            && (self.cursor..self.window.partitions()).any(begun)
    }

    /// When somebody has to look at it.
    pub fn due(&self) -> Option<Timestamp> {
        match self.ended {
            None if self.cancelled.is_some() => Some(URGENT),
            None => Some(self.asked.at),
            Some(_) => self.notices.first().map(|notice| notice.at),
        }
    }
}

#[cfg(test)]
mod tests;
