//! The tries of a run's steps, as EMR shows them. Not for what follows from their
//! states: see `follow`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Stop;
use crate::core::class::FailureClass;

/// One submission of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTry {
    /// Index into the run's members.
    pub member: usize,
    /// Index into the member's steps.
    pub step: usize,
    /// Unique on its cluster: found again by it when a response is lost.
    pub name: String,
    pub id: Option<String>,
    pub state: StepState,
    /// When it was submitted, began to run and ended, as EMR says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub failure: Option<String>,
    /// The run has asked EMR to cancel it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
}

impl StepTry {
    /// Why it failed, if it has.
    pub fn class(&self) -> Option<FailureClass> {
        let failed = self.state == StepState::Failed;
        failed.then(|| match self.stop {
            Some(Stop::TimeOut) => FailureClass::TimeOut,
            _ => FailureClass::of_step(self.failure.as_deref().unwrap_or_default()),
        })
    }

    /// Whether neither an answer nor a list has shown it on the cluster yet.
    pub(super) fn is_unseen(&self) -> bool {
        self.id.is_none() && self.state == StepState::Submitted
    }
}

/// EMR's step states. INTERRUPTED is a cancellation (the cluster went away, the
/// step is not to blame), CANCEL_PENDING still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not yet seen on the cluster.
    Submitted,
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl StepState {
    pub fn has_ended(self) -> bool {
        matches!(self, StepState::Completed | StepState::Failed | StepState::Cancelled)
    }

    /// Which of two copies of a step is the one that counts.
    pub(super) fn progress(self) -> u8 {
        match self {
            StepState::Cancelled => 0,
            StepState::Submitted | StepState::Pending => 1,
            StepState::Running => 2,
            StepState::Failed => 3,
            StepState::Completed => 4,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            StepState::Submitted => "submitted",
            StepState::Pending => "pending",
            StepState::Running => "running",
            StepState::Completed => "completed",
            StepState::Failed => "failed",
            StepState::Cancelled => "cancelled",
        }
    }
}
