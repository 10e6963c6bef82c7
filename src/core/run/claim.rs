//! The claim of an attempt: one stored word that names the only cluster which
//! may execute it. The guard, the first step of every submission, takes it for
//! its own cluster or ends there; before an attempt is given up, the run takes
//! what nobody has taken, so that a cluster that turns up later cannot. Needs no
//! lease and no bound of time. Not for writing it: that is the store's.

use jiff::{SignedDuration, Timestamp};

use super::{
    Act, Attempt, ClusterState, Decision, Hints, Run, RunState, StepState, StepTry, number,
};
use crate::core::task::TaskChange;
use crate::planted::{Bug, planted};

/// What a guard's name begins with; the number of its submission follows.
pub const GUARD_PREFIX: &str = "sluicegate/guard/";

/// Takes a claim so that no cluster can.
const NOBODY: &str = "nobody";

/// EMR's lists of steps lag by seconds. After the end of a cluster this is
/// waited for them, because what they hide would be done again.
const STEPS_LAG_MAX: SignedDuration = SignedDuration::from_hours(1);

impl Attempt {
    /// Whether the guard of its last submission has failed: another cluster, or another
    /// copy, may have the claim.
    pub fn is_refused(&self) -> bool {
        self.guards.last() == Some(&StepState::Failed)
    }

    /// Whether a step of ours was seen to run on its cluster.
    fn is_executed(&self) -> bool {
        let started =
            |state| matches!(state, StepState::Running | StepState::Completed | StepState::Failed);
        self.tries.iter().any(|step_try| started(step_try.state))
    }
}

impl Run {
    /// Before the attempt ends: takes its claim, unless it is certain that no
    /// other cluster holds it.
    pub(super) fn claim_to_settle(&self) -> Option<Act> {
        let settles = self.cluster.guard && !planted(Bug::ClaimNotSettled);
        let attempt = self.attempts.last().filter(|_| settles)?;
        let passed = attempt.guards.first() == Some(&StepState::Completed);
        (!passed && !attempt.is_executed()).then(|| self.claim_for_nobody(1))
    }

    /// The last submission of steps after the first, when all that EMR shows of
    /// it has ended without passing its guard: another copy, which a list that
    /// lags hides, may be executed. Nobody may repeat its work before that is
    /// certain.
    pub(super) fn submission_to_settle(&self) -> Option<Act> {
        let attempt = self.attempts.last().filter(|_| self.cluster.guard)?;
        let last = attempt.guards.len();
        let gone = attempt.cluster_state.is_some_and(ClusterState::has_ended);
        let over = |guard: &StepState| gone || guard.has_ended();
        let open = last > 1 && number(last) > attempt.settled;
        (open && attempt.guards.last().is_some_and(over)).then(|| self.claim_for_nobody(last))
    }

    fn claim_for_nobody(&self, submission: usize) -> Act {
        Act::Claim { key: self.claim(submission), holder: NOBODY.to_owned() }
    }

    /// The claim of the last submission is held: by nobody, and then none of its
    /// copies is ever executed, or by one that EMR does not show yet. One whose guard
    /// got it and failed then, without an answer, is as good as nobody.
    pub(super) fn submission_claimed(
        &mut self,
        holder: &str,
        hints: &Hints,
        now: Timestamp,
    ) -> Decision {
        let failed = |attempt: &Attempt| attempt.failed_guards.iter().any(|id| id == holder);
        let is_nobody = holder == NOBODY || self.attempts.last().is_some_and(failed);
        let hidden = !is_nobody && !self.is_gone_for(STEPS_LAG_MAX, now);
        let Some(attempt) = self.attempts.last_mut().filter(|_| !hidden) else {
            return Decision::rest_until(self.look_soon(now));
        };
        attempt.settled = number(attempt.guards.len());
        if is_nobody {
            attempt.adding = None;
            attempt.guards.last_mut().into_iter().for_each(|guard| *guard = StepState::Failed);
            let unseen = |step_try: &&mut StepTry| step_try.state == StepState::Submitted;
            for step_try in attempt.tries.iter_mut().filter(unseen) {
                step_try.state = StepState::Cancelled;
            }
        }
        self.proceed(Vec::new(), hints, now)
    }

    /// Its cluster has ended, and EMR still shows the steps as they were before.
    pub(super) fn awaits_steps(&self, now: Timestamp) -> bool {
        let Some(attempt) = self.attempts.last() else { return false };
        // No guard will settle whether a step was ever added that no list shows:
        // there, as everywhere without one, `list-lag` is relied on.
        let lag = |step_try: &StepTry| match step_try.state {
            StepState::Submitted if !self.cluster.guard && !planted(Bug::HourForUnseenSteps) => {
                self.limits.list_lag
            }
            _ => STEPS_LAG_MAX,
        };
        let open = |step_try: &&StepTry| !step_try.state.has_ended();
        let mut open = attempt.tries.iter().filter(open);
        let executed = self.cluster.guard || attempt.is_executed();
        executed && !self.is_done() && open.any(|step_try| !self.is_gone_for(lag(step_try), now))
    }

    /// Whether its cluster ended so long ago.
    fn is_gone_for(&self, time: SignedDuration, now: Timestamp) -> bool {
        let ended = self.attempts.last().and_then(|attempt| attempt.ended_at);
        ended.is_some_and(|ended| now.duration_since(ended) >= time)
    }

    /// The claim is held by `holder`: the attempt ends, or it goes on where it
    /// is executed.
    pub(super) fn claimed(&mut self, holder: String, now: Timestamp) -> Decision {
        let Some(attempt) = self.attempts.last_mut() else {
            return Decision::act(Act::Rest(None));
        };
        if holder == NOBODY || planted(Bug::HolderIgnored) {
            return self.close(Vec::new(), now);
        }
        if attempt.cluster.as_ref() == Some(&holder) {
            // It has executed what EMR does not show yet, unless its guard got the claim,
            // no answer, and ended it.
            let failed = attempt.guards.first() == Some(&StepState::Failed);
            return match self.awaits_steps(now) && !failed {
                true => Decision::rest_until(self.look_soon(now)),
                false => self.close(Vec::new(), now),
            };
        }
        attempt.refused.extend(attempt.cluster.take());
        attempt.cluster_state = None;
        attempt.end_reason.clear();
        attempt.adding = None;
        (attempt.ended_at, attempt.ended) = (None, None);
        let gave_up = attempt.given_up.take().is_some();
        attempt.guards.iter_mut().for_each(|guard| *guard = StepState::Submitted);
        for step_try in &mut attempt.tries {
            step_try.id = None;
            step_try.state = StepState::Submitted;
            step_try.stop = None;
        }
        attempt.cluster = Some(holder);
        attempt.cluster_state = Some(ClusterState::Starting);
        // Where its members have ended, all that is left is to end the cluster.
        if self.state != RunState::Terminating || gave_up {
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
