//! What the local EMR knows: clusters, steps, their states, and the effects
//! that a change asks of the outside. Not for how they change: see `machine`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::{ActionOnFailure, HadoopJarStep, RunJobFlow};

/// One instant, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Stages of a cluster's life last so long in real time.
    pub real: Timestamp,
    /// Everything that a request or an answer names as a date or a duration.
    pub dev: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClusterState {
    Starting,
    Bootstrapping,
    Running,
    Waiting,
    Terminating,
    Terminated,
    TerminatedWithErrors,
}

impl ClusterState {
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Terminated | Self::TerminatedWithErrors)
    }

    /// Accepts no more changes.
    pub fn is_closing(self) -> bool {
        self == Self::Terminating || self.has_ended()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepState {
    Pending,
    CancelPending,
    Running,
    Completed,
    Cancelled,
    Failed,
    Interrupted,
}

impl StepState {
    /// Counts against the limit of active steps.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::CancelPending | Self::Running)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReasonCode {
    InternalError,
    ValidationError,
    InstanceFailure,
    InstanceFleetTimeout,
    BootstrapFailure,
    UserRequest,
    StepFailure,
    AllStepsCompleted,
}

/// Why a cluster is in its state; both parts may be empty, as on EMR.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    pub code: Option<ReasonCode>,
    pub message: String,
}

impl Reason {
    pub fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self { code: Some(code), message: message.into() }
    }
}

#[derive(Debug, Clone)]
pub struct Cluster {
    pub id: String,
    /// Position in the order of creation.
    pub number: u64,
    /// As it came; steps and what can change later are kept beside it.
    pub request: RunJobFlow,
    pub state: ClusterState,
    pub reason: Reason,
    pub created: Timestamp,
    pub ready: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub keep_alive: bool,
    pub termination_protected: bool,
    pub visible_to_all_users: bool,
    pub tags: BTreeMap<String, String>,
    pub idle_timeout: Option<SignedDuration>,
    pub steps: Vec<Step>,
    /// End of the present stage, in real time.
    pub(super) stage_ends: Timestamp,
    pub(super) next_bootstrap_action: usize,
    /// Processes whose exit has not been reported yet.
    pub(super) jobs: BTreeSet<Job>,
    pub(super) idle_since: Option<Timestamp>,
    pub(super) shutdown_at: Option<Timestamp>,
    pub(super) ends_with_errors: bool,
}

impl Cluster {
    pub fn step_concurrency(&self) -> usize {
        let level = self.request.step_concurrency_level.unwrap_or(1);
        usize::try_from(level).unwrap_or(1).max(1)
    }

    pub fn step(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == id)
    }
}

#[derive(Debug, Clone)]
pub struct Step {
    pub id: String,
    pub name: String,
    pub jar: HadoopJarStep,
    pub action_on_failure: ActionOnFailure,
    pub state: StepState,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub failure: Option<FailureDetails>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FailureDetails {
    pub reason: String,
    pub message: Option<String>,
    pub log_file: Option<String>,
}

/// A process that a cluster runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// By position in the request.
    BootstrapAction(usize),
    /// By the step's id.
    Step(String),
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// As a shell reports it: above 128 it was a signal.
    pub code: i32,
    /// What the process said about its failure, if anything.
    pub message: Option<String>,
}

impl Exit {
    pub fn with_code(code: i32) -> Self {
        Self { code, message: None }
    }
}

/// What the outside has to do after a change, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start the process, and report its exit later.
    Run { cluster: String, job: Job },
    /// End the process; its exit is still reported.
    Kill {
        cluster: String,
        job: Job,
        /// Give it no chance to finish.
        force: bool,
    },
    /// Send an event to EventBridge.
    Announce { detail_type: &'static str, detail: Value },
    /// The machines are gone: end whatever jobs left behind.
    Release { cluster: String },
}
