//! A change of a task partition's state, as it is committed: with the notice that
//! tells of it. Which change follows is decided elsewhere (`readiness`, `run`,
//! `load`, `operate`).

use jiff::Timestamp;

use super::{Element, Receipt, Round, TaskKey, TaskState, URGENT};
use crate::core::asked::Asked;
use crate::core::class::FailureClass;
use crate::core::late::Late;
use crate::core::load::Load;
use crate::core::notice::{Fact, Kind, Notice, Severity};

/// A change of state and the notice that is committed with it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskChange {
    pub key: TaskKey,
    pub from: TaskState,
    pub to: TaskState,
    pub at: Timestamp,
    pub run: Option<String>,
    pub reason: Option<String>,
    /// The load that begins with it.
    pub load: Option<Load>,
    pub round: Round,
    /// It begins that round: what the one before left is gone.
    pub again: bool,
    /// All that it is given from then on: a person takes it for there.
    pub receipts: Vec<(Element, Receipt)>,
    /// Who asked for it; stored with what it is given.
    pub asked: Option<Asked>,
    /// What came late before it, where there is any.
    pub late: Option<Late>,
    /// When it is to be looked at next.
    pub due: Timestamp,
    pub notice: Notice,
}

impl TaskChange {
    /// A change, announced with the given facts.
    ///
    /// `from` and `to` must be a pair that [`TaskState::may_become`] or
    /// [`TaskState::may_be_made`] allows.
    pub fn new(
        key: &TaskKey,
        from: TaskState,
        to: TaskState,
        at: Timestamp,
        facts: Vec<Fact>,
    ) -> Self {
        debug_assert!(
            from.may_become(to) || from.may_be_made(to),
            "{key}: {from:?} cannot become {to:?}"
        );
        let severity = match to {
            TaskState::Failed => Severity::Failure,
            _ => Severity::Info,
        };
        let id = notice_id(key, &Round::default(), to);
        let (short, long) = phrases(to);
        let headline = format!("{} {short}", key.partition);
        let mut notice = Notice::new(Kind::Task, id, at, severity, to.name(), headline)
            .named(key.task.as_str())
            .saying(format!("{key} {long}"))
            .with(facts);
        notice.task = Some(key.task.clone());
        notice.partition = Some(key.partition.to_string());
        Self {
            key: key.clone(),
            from,
            to,
            at,
            run: None,
            reason: None,
            load: None,
            round: Round::default(),
            again: false,
            receipts: Vec::new(),
            asked: None,
            late: None,
            due: at,
            notice,
        }
    }

    /// In which round the partition is (or with `again`: is then).
    #[must_use]
    pub fn of_round(mut self, round: &Round) -> Self {
        self.notice.id = notice_id(&self.key, round, self.to);
        self.round = round.clone();
        self
    }

    /// A person has asked for it, from outside of the service.
    #[must_use]
    pub fn asked(mut self, asked: &Asked) -> Self {
        self.due = URGENT;
        self.asked = Some(asked.clone());
        self.notice.facts.extend(asked.facts());
        self
    }

    /// Whether people get its notice.
    pub fn is_told(&self) -> bool {
        self.round.backfill.is_none()
    }

    #[must_use]
    pub fn in_run(mut self, run: &str) -> Self {
        self.run = Some(run.to_owned());
        self.notice.run = Some(run.to_owned());
        self
    }

    /// What follows is its load.
    #[must_use]
    pub fn loading(mut self, load: Load) -> Self {
        self.load = Some(load);
        self
    }

    /// The cluster profile that it runs on, for readers who filter by it.
    #[must_use]
    pub fn on(mut self, profile: &str) -> Self {
        self.notice.profile = Some(profile.to_owned());
        self
    }

    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self.notice = self.notice.detailed(reason);
        self.notice.facts.insert(0, Fact::new("reason", reason));
        self
    }

    /// The class of the failure that it is.
    #[must_use]
    pub fn of_class(mut self, class: Option<FailureClass>) -> Self {
        self.notice = self.notice.of_class(class);
        self
    }

    /// Not all is as it should be, although nothing has failed.
    #[must_use]
    pub fn warning(mut self, detail: &str, sentence: &str) -> Self {
        self.notice.severity = Severity::Warning;
        self.notice = self.notice.detailed(detail).saying(sentence);
        self
    }

    /// Since when it was in the state that it leaves.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>) -> Self {
        let label = format!("{} since", self.from.name());
        self.notice.facts.extend(since.map(|since| Fact::since(&label, since, self.at)));
        self
    }

    /// What sluicegate does now, and what a person can do.
    #[must_use]
    pub fn then(mut self, next: &str) -> Self {
        // Beside the reason, if there is one.
        let place = if self.reason.is_some() { 1 } else { self.notice.facts.len() };
        self.notice.facts.insert(place.min(self.notice.facts.len()), Fact::new("next", next));
        self
    }

    /// Whether the tasks that read the outputs have to be told.
    pub fn completes_outputs(&self) -> bool {
        matches!(self.to, TaskState::Succeeded | TaskState::Skipped)
    }
}

/// A task partition enters a state once in a round, so this is stable over
/// retries of the same commit.
fn notice_id(key: &TaskKey, round: &Round, to: TaskState) -> String {
    format!("{}/{}/{}", key.task, key.partition, round.event(to))
}

/// What has become of it: for a subject, and as the end of a sentence.
fn phrases(state: TaskState) -> (&'static str, &'static str) {
    match state {
        TaskState::Waiting => ("is waiting", "waits for its inputs"),
        TaskState::Ready => ("is ready", "is ready: everything that it waits for is there"),
        TaskState::Running => ("is running", "is running: a batch has taken it"),
        TaskState::Loading => (
            "is loading",
            "is loading: every step has completed, and its output goes into the warehouse",
        ),
        TaskState::Succeeded => ("succeeded", "succeeded: every step has completed"),
        TaskState::Failed => ("FAILED", "has failed, and nothing more is tried"),
        TaskState::Cancelled => ("was cancelled", "was cancelled, and nothing more is tried"),
        TaskState::Skipped => ("was skipped", "was skipped: nothing was run for it"),
    }
}
