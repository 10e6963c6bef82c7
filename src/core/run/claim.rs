//! The claim of an attempt: one stored word that names the only cluster which
//! may execute it. The guard, the first step of every submission, takes it for
//! its own cluster or ends there; before an attempt is given up, the run takes
//! what nobody has taken, so that a cluster that turns up later cannot. Needs no
//! lease and no bound of time. Not for writing it: that is the store's.

use jiff::Timestamp;

use super::{Act, ClusterState, Decision, Run, RunState, StepState};
use crate::core::task::TaskChange;
use crate::planted::{Bug, planted};

/// What a guard's name begins with; the number of its submission follows.
pub const GUARD_PREFIX: &str = "sluicegate/guard/";

/// Takes a claim where no cluster is known.
const NOBODY: &str = "nobody";

impl Run {
    /// Before the attempt ends: takes its claim, unless it is certain that no
    /// other cluster holds it.
    pub(super) fn claim_to_settle(&self) -> Option<Act> {
        let settles = self.cluster.guard && !planted(Bug::ClaimNotSettled);
        let attempt = self.attempts.last().filter(|_| settles)?;
        let passed = attempt.guards.first() == Some(&StepState::Completed);
        let started =
            |state| matches!(state, StepState::Running | StepState::Completed | StepState::Failed);
        let executed = attempt.tries.iter().any(|step_try| started(step_try.state));
        let holder = attempt.cluster.clone().unwrap_or_else(|| NOBODY.to_owned());
        (!passed && !executed).then(|| Act::Claim { key: self.claim(1), holder })
    }

    /// The claim is held by `holder`: the attempt ends, or it goes on where it
    /// is executed.
    pub(super) fn claimed(&mut self, holder: String, now: Timestamp) -> Decision {
        let Some(attempt) = self.attempts.last_mut() else {
            return Decision::act(Act::Rest(None));
        };
        let ours = holder == NOBODY || attempt.cluster.as_ref() == Some(&holder);
        if ours || planted(Bug::HolderIgnored) {
            return self.close(Vec::new(), now);
        }
        attempt.refused.extend(attempt.cluster.take());
        attempt.cluster_state = None;
        attempt.end_reason.clear();
        attempt.adding = None;
        attempt.guards.iter_mut().for_each(|guard| *guard = StepState::Submitted);
        for step_try in &mut attempt.tries {
            step_try.id = None;
            step_try.state = StepState::Submitted;
        }
        attempt.cluster = Some(holder);
        attempt.cluster_state = Some(ClusterState::Starting);
        // Where its members have ended, all that is left is to end the cluster.
        if self.state != RunState::Terminating {
            self.state = RunState::Running;
        }
        self.tell_moved(now);
        Decision::rest_until(self.look_soon(now))
    }

    /// The attempt's cluster has ended, or none can be had, and no other can
    /// execute it.
    pub(super) fn close(&mut self, mut changes: Vec<TaskChange>, now: Timestamp) -> Decision {
        if self.attempts.last().is_some_and(|attempt| attempt.cluster.is_none()) {
            let reason = self.attempts.last().map(|attempt| attempt.end_reason.clone());
            return self.refused(&reason.unwrap_or_default(), now);
        }
        changes.extend(self.close_attempt(now));
        let act = match self.state.is_final() {
            true => Act::Rest(None),
            false => Act::Rest(Some(now)),
        };
        Decision { act, changes }
    }
}
