//! A run: the durable record of executing one batch on transient clusters. It
//! holds its own copy of everything it needs, so that a changed configuration
//! never touches work in flight. `decide` says what happens next.

mod cancel;
mod claim;
mod close;
mod decide;
mod follow;
mod hints;
mod logs;
mod look;
mod member;
mod notices;
mod overdue;
mod step;
mod words;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::catalog::{AttemptLimits, Catalog, Profile, Retry, Task};
use super::class::FailureClass;
use super::cluster::ClusterSpec;
use super::command::Command;
use super::notice::Notice;
use super::task::{Round, TaskChange, TaskKey, TaskPartition};
use crate::planted::{Bug, planted};

pub use claim::GUARD_PREFIX;
pub use decide::{Act, Decision};
pub use hints::{Event, Hints};
pub use logs::{LogFile, LogSeen, LogWanted};
pub use overdue::Stop;
pub use step::{StepState, StepTry};

/// EMR takes at most 256 active steps; what is left over is added later.
const STEPS_AT_ONCE_MAX: usize = 200;
/// What tells claims from runs in their table.
pub const CLAIM_PREFIX: &str = "claim/";
const NO_DETAILS: &str = "EMR gives no details";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// A ULID.
    pub id: String,
    /// Rises by one with every write; kept beside the rest in the table.
    #[serde(skip)]
    pub version: u64,
    pub profile: String,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    pub state: RunState,
    pub cluster: ClusterSpec,
    pub limits: AttemptLimits,
    pub members: Vec<Member>,
    /// One cluster each; only the last can be open.
    pub attempts: Vec<Attempt>,
    /// Status changes not yet published, oldest first.
    pub notices: Vec<Notice>,
    /// How many notices one of them stands for, as there was no room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
    /// Logs of failed steps that have yet to come and be told; they outlast
    /// the run's end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogWanted>,
    /// A person has asked for something since its last turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The attempt has no known cluster yet.
    Launching,
    /// The cluster is known and followed.
    Running,
    /// All work has ended; the cluster is being terminated.
    Terminating,
    Succeeded,
    /// At least one task partition failed.
    Failed,
    /// At least one was cancelled, and none failed.
    Cancelled,
}

impl RunState {
    pub const ALL: [RunState; 6] = [
        RunState::Launching,
        RunState::Running,
        RunState::Terminating,
        RunState::Succeeded,
        RunState::Failed,
        RunState::Cancelled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            RunState::Launching => "launching",
            RunState::Running => "running",
            RunState::Terminating => "terminating",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
        }
    }

    pub fn is_final(self) -> bool {
        matches!(self, RunState::Succeeded | RunState::Failed | RunState::Cancelled)
    }
}

/// A task partition in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub key: TaskKey,
    pub steps: Vec<Step>,
    /// Dataset → where this partition of it lies.
    pub outputs: BTreeMap<String, String>,
    /// Whether its output goes into the warehouse when its steps have completed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loads: bool,
    /// A step of it that runs longer is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<SignedDuration>,
    /// None while it is open.
    pub outcome: Option<Outcome>,
    /// Of its task partition.
    #[serde(default, skip_serializing_if = "is_default")]
    pub round: Round,
    /// Who wants it to end, while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Asked>,
    /// Its task partition could not be read when it ended here: the end is owed to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Succeeded,
    Failed {
        reason: String,
        /// None in runs stored before there were classes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<FailureClass>,
    },
    Cancelled {
        reason: String,
    },
}

/// A step with its placeholders filled in, as EMR takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    #[serde(flatten)]
    pub command: Command,
    pub retry: Retry,
}

/// One cluster for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 is the first.
    pub number: u32,
    pub opened: Timestamp,
    /// When its cluster is terminated whatever it does.
    pub expires: Timestamp,
    pub launch: Intent,
    pub cluster: Option<String>,
    /// Clusters of the same name whose guards another one forestalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    pub cluster_state: Option<ClusterState>,
    /// EMR's words for why it ended; may be empty even then.
    #[serde(default)]
    pub end_reason: String,
    /// Why it was lost; None while it is open, and where it did its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// Nothing ran on its cluster for too long: the class of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<FailureClass>,
    /// It buys on demand what the profile buys as spot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// Its lifetime ended while EMR could not be asked about it.
    #[serde(default)]
    pub unseen_at_end: bool,
    /// EMR has refused to terminate it, and people were told.
    #[serde(default)]
    pub unterminated: bool,
    /// Every submission of a step to this cluster, in order.
    pub tries: Vec<StepTry>,
    /// How each submission's guard is, where there are guards. The first came
    /// with the launch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<StepState>,
    /// Steps of later guards that ended without passing: a claim that one of them got
    /// all the same is as good as nobody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_guards: Vec<String>,
    /// For so many of the submissions it is certain who executes them: a guard was
    /// seen to pass, or nobody can any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub settled: u32,
    /// When its cluster was first seen to have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When it ended, as EMR has it: nobody may have looked for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// A submission of steps that EMR has not yet confirmed.
    pub adding: Option<Intent>,
}

/// The stored will to make a call that creates something. The call may have
/// been sent, and may arrive, until `send_by`; after that and EMR's list lag a
/// call without a trace is known not to have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub send_by: Timestamp,
    /// Set while the call has certainly not been sent: when to send it.
    pub send_at: Option<Timestamp>,
    /// How often AWS refused it for its rate.
    pub throttled: u32,
    /// It was sent before, and nobody knows what became of that.
    #[serde(default)]
    pub uncertain: bool,
}

/// EMR's cluster states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
        matches!(self, ClusterState::Terminated | ClusterState::TerminatedWithErrors)
    }

    /// Has ended or is about to: takes no more work.
    pub fn is_ending(self) -> bool {
        self.has_ended() || self == ClusterState::Terminating
    }

    /// Rises in the course of a cluster's life and never falls.
    fn rank(self) -> u8 {
        match self {
            ClusterState::Starting => 0,
            ClusterState::Bootstrapping => 1,
            ClusterState::Running | ClusterState::Waiting => 2,
            ClusterState::Terminating => 3,
            ClusterState::Terminated | ClusterState::TerminatedWithErrors => 4,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            ClusterState::Starting => "starting",
            ClusterState::Bootstrapping => "bootstrapping",
            ClusterState::Running => "running",
            ClusterState::Waiting => "waiting",
            ClusterState::Terminating => "terminating",
            ClusterState::Terminated => "terminated",
            ClusterState::TerminatedWithErrors => "terminated with errors",
        }
    }
}

/// What a look at a cluster showed.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSeen {
    pub state: ClusterState,
    /// EMR's words for why it ended; may be empty even then.
    pub reason: String,
    /// When it ended, if EMR says so.
    pub ended: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StepSeen {
    pub id: String,
    pub name: String,
    pub state: StepState,
    pub created: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub failure: Option<String>,
}

/// What happened to a call, as far as one can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// Refused for now (rate, expired credentials): certainly without effect.
    Deferred(String),
    /// Refused for good: certainly without effect, and again if repeated.
    Refused(String),
    /// No answer, or one that says nothing: it may have had its effect.
    Unknown(String),
    /// Not made: our quota has no room for it before then.
    Postponed(Timestamp),
}

/// What a turn has learnt about the world since its last decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// Nothing yet: the turn begins.
    Nothing,
    Launched(Result<String, CallFailure>),
    /// The cluster that bears the attempt's name, if a list shows one that was
    /// begun to be read at `began`.
    LookedUp {
        cluster: Option<String>,
        began: Timestamp,
    },
    /// What a survey says about the cluster; one that it does not show is not
    /// dead.
    Surveyed(Option<ClusterSeen>),
    /// The cluster as it is now.
    Described(ClusterSeen),
    Steps(Vec<StepSeen>),
    /// The ids of the steps added, in order.
    Added(Result<Vec<String>, CallFailure>),
    Terminated(Result<(), CallFailure>),
    /// EMR was asked to cancel steps.
    StepsCancelled(Result<(), CallFailure>),
    /// Who holds this claim now: whoever asked, or who was faster.
    Claimed {
        key: String,
        holder: String,
    },
    /// A look did not succeed; nothing follows from that.
    NotSeen,
    /// EMR says that there is no such cluster.
    Absent,
    /// A look was not made: our quota has no room for it before then.
    Postponed(Timestamp),
}

impl Run {
    /// A run for a batch, and the changes of its task partitions to running.
    pub fn new(
        catalog: &Catalog,
        profile: &Profile,
        batch: &[(&Task, &TaskPartition)],
        id: &str,
        now: Timestamp,
    ) -> (Self, Vec<TaskChange>) {
        let members: Vec<_> =
            batch.iter().map(|(task, item)| Member::new(catalog, task, item, id)).collect();
        let mut run = Self {
            id: id.to_owned(),
            version: 0,
            profile: profile.name.clone(),
            created: now,
            ended: None,
            state: RunState::Launching,
            cluster: profile.cluster.clone(),
            limits: profile.limits.clone(),
            members,
            attempts: Vec::new(),
            notices: Vec::new(),
            left_out: 0,
            logs: Vec::new(),
            asked: false,
        };
        let members = run.members.iter().zip(batch);
        let changes = members.map(|(member, (_, item))| run.begins(member, item, now)).collect();
        if run.members.iter().all(|member| member.outcome.is_some()) {
            // Nothing is left that needs a cluster.
            run.finish(now);
            return (run, changes);
        }
        run.tell_created(batch.iter().filter_map(|(_, item)| item.ready_at).min(), now);
        run.open_attempt(SignedDuration::ZERO, now);
        (run, changes)
    }

    /// The attempt that is open, or was last.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The key of the claim that the guard of the open attempt's nth submission
    /// makes: 1 came with the launch.
    pub fn claim(&self, submission: usize) -> String {
        if planted(Bug::GuardWithoutAttempt) {
            return format!("{CLAIM_PREFIX}{}/1/{submission}", self.id);
        }
        format!("{CLAIM_PREFIX}{}/{}/{submission}", self.id, self.attempts.len())
    }

    /// The unique name of an attempt's cluster, by which it is found again.
    pub fn cluster_name(&self, deployment: &str) -> String {
        format!("{deployment}/{}/{}", self.id, self.attempts.len())
    }

    /// The next attempt, which asks for its cluster after `delay`.
    fn open_attempt(&mut self, delay: SignedDuration, now: Timestamp) {
        let send_at = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
        let expires = now.saturating_add(self.limits.lifetime).unwrap_or(Timestamp::MAX);
        let on_demand = self.is_to_buy_on_demand();
        self.state = RunState::Launching;
        self.attempts.push(Attempt {
            number: number(self.attempts.len() + 1),
            opened: now,
            expires,
            launch: Intent { send_by: now, send_at: Some(send_at), throttled: 0, uncertain: false },
            cluster: None,
            refused: Vec::new(),
            cluster_state: None,
            end_reason: String::new(),
            class: None,
            given_up: None,
            on_demand,
            unseen_at_end: false,
            unterminated: false,
            tries: Vec::new(),
            guards: Vec::new(),
            failed_guards: Vec::new(),
            settled: 0,
            ended_at: None,
            ended: None,
            adding: None,
        });
    }

    /// Whether nothing of it is left to do or to tell.
    pub fn is_settled(&self) -> bool {
        let owes = self.members.iter().any(|member| member.owed);
        self.state.is_final() && self.notices.is_empty() && self.logs.is_empty() && !owes
    }
}

/// A count that need not be stored; serde hands out references.
/// The number of a submission, or of anything else that is counted.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
