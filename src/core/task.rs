//! A task partition: one task for one hour or day, what it has received so far
//! and where it stands. `readiness` decides when it may run, `run` runs it;
//! `change` says what is committed when its state changes.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::late::Late;
use super::lateness::Told;
use super::load::Load;
use super::notice::Notice;
use super::partition::Partition;

pub use change::TaskChange;

/// Due so early what a person has changed is looked at by the next sweep, for
/// whenever a look was planned.
pub const URGENT: Timestamp = Timestamp::UNIX_EPOCH;

/// Of what a person takes for there so many are named.
const TAKEN_NAMED_MAX: usize = 5;

/// Names one task partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    pub task: String,
    pub partition: Partition,
}

impl TaskKey {
    pub fn new(task: &str, partition: Partition) -> Self {
        Self { task: task.to_owned(), partition }
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.task, self.partition)
    }
}

/// One thing that a task partition waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// Its schedule's tick.
    Slot,
    Data {
        dataset: String,
        partition: Partition,
    },
}

impl Element {
    pub fn data(dataset: &str, partition: Partition) -> Self {
        Element::Data { dataset: dataset.to_owned(), partition }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Slot => f.write_str("slot"),
            Element::Data { dataset, partition } => write!(f, "{dataset}@{partition}"),
        }
    }
}

/// How an element came in. Written as text into the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The instant of the schedule that stands for this partition.
    Slot(Timestamp),
    /// The object's version id or, without versioning, its ETag.
    Object(String),
    /// The period was closed with so many objects; 0 is an hour without data.
    Closed(u64),
    /// The producing task's run.
    Produced(String),
    /// This person takes it for there.
    Granted(String),
    /// The producing task was skipped: complete, and nothing there.
    Skipped,
    /// Objects have come, the last of them at this instant, but not all.
    Partial(Timestamp),
    /// Objects have come, the first of them at this instant, but fewer than are
    /// needed. Written only where nothing stands yet: whoever counted before the
    /// last one came may be slower than who counted them all.
    Begun(Timestamp),
}

impl Receipt {
    pub fn is_complete(&self) -> bool {
        !matches!(self, Receipt::Partial(_) | Receipt::Begun(_))
    }

    /// Complete, but without any data.
    pub fn is_empty(&self) -> bool {
        matches!(self, Receipt::Closed(0) | Receipt::Skipped)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Receipt::Slot(instant) => write!(f, "slot:{instant}"),
            Receipt::Object(identity) => write!(f, "object:{identity}"),
            Receipt::Closed(objects) => write!(f, "closed:{objects}"),
            Receipt::Produced(run) => write!(f, "run:{run}"),
            Receipt::Granted(by) => write!(f, "granted:{by}"),
            Receipt::Skipped => f.write_str("skipped"),
            Receipt::Partial(last) => write!(f, "partial:{last}"),
            Receipt::Begun(first) => write!(f, "begun:{first}"),
        }
    }
}

/// Text in a table that this version cannot read; the item is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {what} {text:?}")]
pub struct Unreadable {
    pub what: &'static str,
    pub text: String,
}

impl Unreadable {
    pub fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.to_owned() }
    }
}

impl FromStr for Element {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        if text == "slot" {
            return Ok(Element::Slot);
        }
        text.split_once('@')
            .and_then(|(dataset, partition)| Some(Element::data(dataset, partition.parse().ok()?)))
            .ok_or_else(|| Unreadable::new("element", text))
    }
}

impl FromStr for Receipt {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        let receipt = match kind {
            "slot" => value.parse().ok().map(Receipt::Slot),
            "object" => Some(Receipt::Object(value.to_owned())),
            "closed" => value.parse().ok().map(Receipt::Closed),
            "run" => Some(Receipt::Produced(value.to_owned())),
            "granted" => Some(Receipt::Granted(value.to_owned())),
            "skipped" => Some(Receipt::Skipped),
            "partial" => value.parse().ok().map(Receipt::Partial),
            "begun" => value.parse().ok().map(Receipt::Begun),
            _ => None,
        };
        receipt.ok_or_else(|| Unreadable::new("receipt", text))
    }
}

/// Which of a task partition's rounds: a retry that a person asks for begins
/// another, in which every state may be entered again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Round {
    /// 0 is the first.
    #[serde(default, skip_serializing_if = "is_first")]
    pub number: u32,
    /// The backfill that it belongs to, which tells of it in its summary: no
    /// change of the partition has a notice of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<String>,
}

/// A count that need not be stored; serde hands out references.
fn is_first(number: &u32) -> bool {
    *number == 0
}

impl Round {
    /// What tells a state's notice from all others of its partition: `failed`,
    /// in the second round `failed/2`.
    pub fn event(&self, state: TaskState) -> String {
        self.event_of(state.name())
    }

    /// The same for what is no state, but is told once in a round.
    pub fn event_of(&self, status: &str) -> String {
        match self.number {
            0 => status.to_owned(),
            number => format!("{status}/{}", number.saturating_add(1)),
        }
    }

    /// The round and the state of such an event, to put events in order.
    pub fn order_of(event: &str) -> (u32, Option<TaskState>) {
        let (state, number) = event.split_once('/').unwrap_or((event, "1"));
        (number.parse().unwrap_or(u32::MAX), state.parse().ok())
    }
}

/// Where a task partition stands. Succeeded, Failed, Cancelled and Skipped are
/// final, unless a person asks for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    Waiting,
    Ready,
    Running,
    /// Its steps have completed, and their output goes into the warehouse.
    Loading,
    Succeeded,
    Failed,
    /// A person wanted it to end.
    Cancelled,
    Skipped,
}

impl TaskState {
    pub const ALL: [TaskState; 8] = [
        TaskState::Waiting,
        TaskState::Ready,
        TaskState::Running,
        TaskState::Loading,
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::Cancelled,
        TaskState::Skipped,
    ];

    pub fn name(self) -> &'static str {
        match self {
            TaskState::Waiting => "waiting",
            TaskState::Ready => "ready",
            TaskState::Running => "running",
            TaskState::Loading => "loading",
            TaskState::Succeeded => "succeeded",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
            TaskState::Skipped => "skipped",
        }
    }

    /// Whether what comes in may still take part.
    pub fn takes_inputs(self) -> bool {
        matches!(self, TaskState::Waiting | TaskState::Ready)
    }

    pub fn is_final(self) -> bool {
        matches!(
            self,
            TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped
        )
    }

    /// The relation that every transition stays within that nobody asked for.
    pub fn may_become(self, next: TaskState) -> bool {
        use TaskState::{Cancelled, Failed, Loading, Ready, Running, Skipped, Succeeded, Waiting};
        match self {
            Waiting => matches!(next, Ready | Skipped | Failed),
            // Failed at once: EMR would not take its steps.
            Ready => matches!(next, Running | Failed),
            // Cancelled: its run was told so.
            Running => matches!(next, Loading | Succeeded | Failed | Cancelled),
            Loading => matches!(next, Succeeded | Failed),
            Succeeded | Failed | Cancelled | Skipped => false,
        }
    }

    /// What a person may ask for; to ready, waiting and loading begins another round.
    pub fn may_be_made(self, next: TaskState) -> bool {
        use TaskState::{Cancelled, Failed, Loading, Ready, Running, Skipped, Succeeded, Waiting};
        match self {
            Waiting | Ready => matches!(next, Cancelled | Skipped),
            Failed => matches!(next, Ready | Waiting | Loading | Skipped),
            Cancelled => matches!(next, Ready | Waiting | Skipped),
            Skipped => matches!(next, Ready | Waiting | Loading),
            Succeeded => matches!(next, Ready | Waiting),
            Running | Loading => false,
        }
    }
}

impl FromStr for TaskState {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let state = TaskState::ALL.into_iter().find(|state| state.name() == text);
        state.ok_or_else(|| Unreadable::new("task state", text))
    }
}

/// One task partition as the table holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPartition {
    pub key: TaskKey,
    /// Rises by one with every write.
    pub version: u64,
    pub state: TaskState,
    pub received: BTreeMap<Element, Receipt>,
    /// What a person's command gave it, all in one write. It stands in `received` too,
    /// as long as nothing complete has come in its place.
    pub given: BTreeMap<Element, Receipt>,
    /// Who gave it that last, when and why.
    pub asked: Option<Asked>,
    /// When it entered its state; a waiting one waits since something first came in
    /// for it.
    pub since: Option<Timestamp>,
    /// When it became ready.
    pub ready_at: Option<Timestamp>,
    pub run: Option<String>,
    /// Why it failed, was cancelled or was skipped.
    pub reason: Option<String>,
    pub round: Round,
    /// How far its load is, once its steps have completed.
    pub load: Option<Load>,
    /// What came after its inputs were taken.
    pub late: Option<Late>,
    /// Why the objects of a period that it waits for cannot be listed.
    pub unlisted: Option<String>,
    /// Its slot's instant, or its own end, once its task's calendar has come to
    /// it: one of which the calendar says nothing is never late.
    pub expected: Option<Timestamp>,
    /// When it last began to run.
    pub began: Option<Timestamp>,
    /// Since when it has failed, with no success since.
    pub failed: Option<Timestamp>,
    /// The limits whose passing people were told of, with no success since.
    pub told: Vec<Told>,
    /// Its end has yet to be told to the tasks that read its outputs.
    pub outputs_pending: bool,
    /// Status changes not yet published, in the order of states: a clock that
    /// is set back does not change what came first.
    pub notices: Vec<Notice>,
    /// When the engine has to look at it next.
    pub due: Option<Timestamp>,
    /// When it may be deleted; only what has ended is, ever.
    pub expires: Option<Timestamp>,
}

impl TaskPartition {
    /// A task partition of which nothing is stored yet.
    pub fn new(key: TaskKey) -> Self {
        Self {
            key,
            version: 0,
            state: TaskState::Waiting,
            received: BTreeMap::new(),
            given: BTreeMap::new(),
            asked: None,
            since: None,
            ready_at: None,
            run: None,
            reason: None,
            round: Round::default(),
            load: None,
            late: None,
            unlisted: None,
            expected: None,
            began: None,
            failed: None,
            told: Vec::new(),
            outputs_pending: false,
            notices: Vec::new(),
            due: None,
            expires: None,
        }
    }

    /// What tells a notice of it from its others (see [`Round::event`]).
    pub fn event<'a>(key: &TaskKey, notice: &'a Notice) -> &'a str {
        let start = format!("{}/{}/", key.task, key.partition);
        notice.id.strip_prefix(&start).unwrap_or(&notice.status)
    }

    /// Whether what comes now is late for what it has made, or makes. What failed or was
    /// cancelled waits for it when it runs again, but for what may load what it has made.
    pub fn has_run(&self) -> bool {
        use TaskState::{Cancelled, Failed, Loading, Ready, Running, Skipped, Succeeded, Waiting};
        match self.state {
            Running | Loading | Succeeded | Skipped => true,
            Failed => self.load.is_some(),
            Waiting | Ready | Cancelled => false,
        }
    }

    /// Whether all of an element has come in.
    pub fn has(&self, element: &Element) -> bool {
        self.received.get(element).is_some_and(Receipt::is_complete)
    }

    /// All that it was ever given, with these; nothing when they are none.
    pub fn given_with(&self, receipts: &[(Element, Receipt)]) -> Vec<(Element, Receipt)> {
        if receipts.is_empty() {
            return Vec::new();
        }
        let mut given = self.given.clone();
        given.extend(receipts.iter().cloned());
        given.into_iter().collect()
    }

    /// What a person takes for there, and nothing else has come in its place: in words,
    /// with who said so.
    pub fn taken_for_there(&self) -> Option<(String, &Asked)> {
        let stands =
            |(element, given): &(&Element, &Receipt)| self.received.get(*element) == Some(*given);
        let words = |(element, given): (&Element, &Receipt)| match (element, given) {
            (Element::Slot, Receipt::Slot(slot)) => format!("its slot at {slot}"),
            (Element::Slot, _) => "its slot".to_owned(),
            (Element::Data { dataset, partition }, _) => format!("{dataset} {partition}"),
        };
        let taken: Vec<_> = self.given.iter().filter(stands).map(words).collect();
        let named = taken.iter().take(TAKEN_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = match taken.len().saturating_sub(TAKEN_NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let asked = self.asked.as_ref().filter(|_| !taken.is_empty())?;
        Some((named + &more, asked))
    }

    /// Whether an element has come in, in part at least, and holds data.
    pub fn has_data(&self, element: &Element) -> bool {
        self.received.get(element).is_some_and(|receipt| !receipt.is_empty())
    }

    /// What of `elements` has not come in completely.
    pub fn missing<'a>(&self, elements: &'a BTreeSet<Element>) -> Vec<&'a Element> {
        elements.iter().filter(|element| !self.has(element)).collect()
    }

    /// When the engine has to look at it, given how long it only waits for
    /// time to pass (`until`).
    pub fn attention(&self, until: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        if !self.notices.is_empty() || self.outputs_pending {
            // What is due already stays so without another write.
            return Some(self.due.map_or(now, |due| due.min(now)));
        }
        match self.state {
            TaskState::Waiting => until,
            // Stays in the index until a batch takes it, so that a new
            // process finds it.
            TaskState::Ready => self.ready_at,
            // Its load goes on, or late data has to be told.
            _ => until,
        }
    }

    /// Whether it is worth a write that `attention` is then. The statement of a load is
    /// looked at again and again: whoever comes after a crash may do so sooner.
    pub fn is_to_be_due(&self, due: Option<Timestamp>) -> bool {
        let sooner = self.due.is_none() || due < self.due;
        due != self.due && (sooner || self.state != TaskState::Loading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_waits_for_sns_stays_due_without_being_written_again() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let mut item = TaskPartition::new(TaskKey::new("t", "2013-01-01".parse().unwrap()));
        item.outputs_pending = true;
        for (due, next) in [(None, 100), (Some(70), 70), (Some(130), 100)] {
            item.due = due.map(at);
            assert_eq!(item.attention(None, at(100)), Some(at(next)), "{due:?}");
        }
    }

    #[test]
    fn what_is_looked_at_again_and_again_is_not_written_each_time() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        for (state, stored, next, written) in [
            (TaskState::Loading, at(10), at(11), false),
            (TaskState::Loading, at(10), at(9), true),
            (TaskState::Loading, at(10), None, true),
            (TaskState::Loading, None, at(11), true),
            (TaskState::Waiting, at(10), at(11), true),
            (TaskState::Waiting, at(10), at(10), false),
        ] {
            let key = TaskKey::new("t", "2013-01-01".parse().unwrap());
            let mut item = TaskPartition::new(key);
            (item.state, item.due) = (state, stored);
            assert_eq!(item.is_to_be_due(next), written, "{state:?} {stored:?} {next:?}");
        }
    }

    #[test]
    fn a_notice_is_known_by_its_state_and_round_or_by_what_it_tells() {
        let key = TaskKey::new("t", "2013-01-01".parse().unwrap());
        let kind = super::super::notice::Kind::Task;
        let severity = super::super::notice::Severity::Info;
        for (id, status, event, order) in [
            ("t/2013-01-01/failed", "failed", "failed", (1, Some(TaskState::Failed))),
            ("t/2013-01-01/ready/2", "ready", "ready/2", (2, Some(TaskState::Ready))),
            ("t/2013-01-01/late-data/2", "late-data", "late-data/2", (2, None)),
        ] {
            let notice = Notice::new(kind, id.into(), Timestamp::UNIX_EPOCH, severity, status, "");
            assert_eq!(TaskPartition::event(&key, &notice), event);
            assert_eq!(Round::order_of(event), order);
        }
        let second = Round { number: 1, backfill: None };
        assert_eq!(second.event(TaskState::Ready), "ready/2");
    }

    #[test]
    fn elements_and_receipts_read_back() {
        for element in ["slot", "weather@2013-01-01", "raw@2013-01-01T05"] {
            assert_eq!(element.parse::<Element>().unwrap().to_string(), element);
        }
        for receipt in [
            "slot:2013-01-01T05:05:00Z",
            "object:a:b",
            "closed:0",
            "run:01J",
            "granted:alice",
            "skipped",
            "partial:2013-01-01T05:05:00.123Z",
            "begun:2013-01-01T05:05:00Z",
        ] {
            assert_eq!(receipt.parse::<Receipt>().unwrap().to_string(), receipt);
        }
        assert!("weather".parse::<Element>().is_err());
        assert!("closed:many".parse::<Receipt>().is_err());
    }

    #[test]
    fn final_states_absorb() {
        for state in TaskState::ALL.into_iter().filter(|state| state.is_final()) {
            assert!(TaskState::ALL.into_iter().all(|next| !state.may_become(next)));
        }
        assert!(!TaskState::Waiting.may_become(TaskState::Running));
    }

    #[test]
    fn what_failed_in_its_load_has_run() {
        let key = TaskKey::new("t", "2013-01-01".parse().unwrap());
        let failed = TaskPartition { state: TaskState::Failed, ..TaskPartition::new(key) };
        assert!(!failed.has_run());
        let load = Some(Load::new("R1", Timestamp::UNIX_EPOCH));
        assert!(TaskPartition { load, ..failed }.has_run());
    }
}
