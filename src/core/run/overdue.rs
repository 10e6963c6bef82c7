//! What takes too long. A step that runs past its task's `attempt-timeout` is cancelled
//! and counts as a failed try; a cluster on which nothing of ours has run for
//! `stall-timeout` is given up. Every deadline follows from what is stored, so a restart
//! keeps it. Not for the cluster's lifetime (see `look` and `decide`).

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Attempt, ClusterState, Hints, Run, StepState, StepTry};
use crate::core::class::FailureClass;
use crate::planted::{Bug, planted};

/// Why the run itself has asked EMR to cancel a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// It ran too long: that is a failed try.
    TimeOut,
    /// It comes after one that did, and is submitted again with that.
    Along,
}

impl Run {
    /// When a step that runs is cancelled.
    pub fn cancelled_at(&self, step_try: &StepTry) -> Option<Timestamp> {
        let member = self.members.get(step_try.member)?;
        let runs = step_try.state == StepState::Running && member.outcome.is_none();
        let started = step_try.started.filter(|_| runs)?;
        started.checked_add(member.attempt_timeout?).ok()
    }

    /// When the cluster is given up, if nothing of ours runs on it until then.
    pub fn given_up_at(&self) -> Option<Timestamp> {
        let attempt = self.attempts.last().filter(|attempt| attempt.cluster.is_some())?;
        let starting = attempt.is_starting();
        let waits = |step_try: &&StepTry| match step_try.state {
            StepState::Pending => true,
            // One that EMR has yet to show may run already.
            StepState::Submitted => starting,
            _ => false,
        };
        let mut open = attempt.open_tries().peekable();
        let stalls = attempt.given_up.is_none() && open.peek().is_some();
        if !stalls || !open.all(|step_try| waits(&step_try)) {
            return None;
        }
        let created = attempt.open_tries().filter_map(|step_try| step_try.created);
        let ended = attempt.tries.iter().filter_map(|step_try| step_try.ended);
        let since = created.chain(ended).fold(attempt.opened, Timestamp::max);
        since.checked_add(self.limits.stall_timeout?).ok()
    }

    /// Whether the cluster is to end although work is left for another.
    pub fn is_given_up(&self) -> bool {
        let given_up = self.attempts.last().is_some_and(|attempt| attempt.given_up.is_some());
        given_up && !self.is_done()
    }

    /// The members that a step keeps for too long, or of which one was told to end for
    /// that.
    pub(super) fn late_members(&self, now: Timestamp) -> BTreeSet<usize> {
        let tries = self.attempts.last().into_iter().flat_map(Attempt::open_tries);
        let late = tries.filter(|step_try| {
            let cancelled_at = self.cancelled_at(step_try);
            step_try.stop.is_some() || cancelled_at.is_some_and(|at| at <= now)
        });
        let wanted =
            |member: &usize| self.members.get(*member).is_some_and(|it| it.cancel.is_none());
        late.map(|step_try| step_try.member).filter(wanted).collect()
    }

    /// Stores why the open steps of late members are cancelled.
    pub(super) fn stop_late(&mut self, late: &BTreeSet<usize>, now: Timestamp) {
        let tries = self.attempts.last().map_or(&[][..], |attempt| &attempt.tries);
        let stops: Vec<_> = tries
            .iter()
            .map(|step_try| {
                let out_of_time = self.cancelled_at(step_try).is_some_and(|at| at <= now);
                match late.contains(&step_try.member) && !step_try.state.has_ended() {
                    true if out_of_time => Some(Stop::TimeOut),
                    true => step_try.stop.or(Some(Stop::Along)),
                    false => step_try.stop,
                }
            })
            .collect();
        let tries = self.attempts.last_mut().into_iter().flat_map(|attempt| &mut attempt.tries);
        for (step_try, stop) in tries.zip(stops) {
            if planted(Bug::TimeOutIsEnd) && stop == Some(Stop::TimeOut) {
                step_try.state = StepState::Failed;
            }
            step_try.stop = stop;
        }
    }

    /// Gives the cluster up, if a look of this turn shows that nothing runs on it.
    pub(super) fn gives_up(&mut self, hints: &Hints, now: Timestamp) -> bool {
        let stalled = self.given_up_at().is_some_and(|at| at <= now);
        if !stalled || !hints.state_fresh || !hints.steps_fresh {
            return false;
        }
        let Some(attempt) = self.attempts.last_mut() else { return false };
        attempt.given_up = Some(match attempt.cluster_state {
            // EMR waits for EC2's machines.
            None | Some(ClusterState::Starting) => FailureClass::Capacity,
            Some(ClusterState::Bootstrapping) => FailureClass::Bootstrap,
            _ => FailureClass::TimeOut,
        });
        true
    }

    /// Whether something takes too long, or may by now as far as is known: then it is
    /// looked at.
    pub(super) fn is_overdue(&self, hints: &Hints, now: Timestamp) -> bool {
        let past = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        !self.is_given_up()
            && (!self.late_members(now).is_empty()
                || past(self.given_up_at())
                || past(self.unseen_until(hints)))
    }

    /// Every instant at which something known takes too long.
    pub(super) fn overdue_at(&self) -> impl Iterator<Item = Timestamp> {
        let tries = self.attempts.last().into_iter().flat_map(Attempt::open_tries);
        tries.filter_map(|step_try| self.cancelled_at(step_try)).chain(self.given_up_at())
    }

    /// When steps have to be read, because one that was not seen to run may have begun
    /// with the last look and run for too long by then. That look is the poll lease's
    /// holder's; what it shows is stored, and then every replica knows the deadline.
    pub(super) fn unseen_until(&self, hints: &Hints) -> Option<Timestamp> {
        let attempt = self.attempts.last().filter(|attempt| attempt.cluster.is_some())?;
        if hints.spared {
            return None;
        }
        // The survey shows when it runs, and nothing can before.
        let starting = attempt.is_starting();
        let unseen = attempt.open_tries().filter(|it| it.state != StepState::Running);
        let timeouts = unseen.filter_map(|step_try| {
            let member = self.members.get(step_try.member)?;
            let stall = self.limits.stall_timeout;
            let stall = stall.filter(|_| step_try.state == StepState::Submitted);
            member.attempt_timeout.filter(|_| !starting).into_iter().chain(stall).min()
        });
        hints.steps_read.unwrap_or(attempt.opened).checked_add(timeouts.min()?).ok()
    }
}

impl Attempt {
    /// Whether nothing can run on its cluster yet, as far as is known.
    fn is_starting(&self) -> bool {
        let begins = |state| matches!(state, ClusterState::Starting | ClusterState::Bootstrapping);
        self.cluster_state.is_none_or(begins)
    }

    fn open_tries(&self) -> impl Iterator<Item = &StepTry> {
        self.tries.iter().filter(|step_try| !step_try.state.has_ended())
    }

    /// What ran between a step's time-out and its own cancellation lacks that step's
    /// output, and is done again.
    pub(super) fn disregard_after_time_out(&mut self) {
        let failed = |step_try: &&StepTry| {
            step_try.stop == Some(Stop::TimeOut) && step_try.state == StepState::Failed
        };
        // One that was done again after that has its output.
        let made = |late: &&StepTry| {
            let same = |it: &&StepTry| (it.member, it.step) == (late.member, late.step);
            self.tries.iter().filter(same).any(|it| it.state == StepState::Completed)
        };
        let late: Vec<_> = self
            .tries
            .iter()
            .filter(failed)
            .filter(|late| !made(late))
            .map(|late| (late.member, late.step))
            .collect();
        for step_try in &mut self.tries {
            let after = |(member, step): &(usize, usize)| {
                *member == step_try.member && *step < step_try.step
            };
            if step_try.stop == Some(Stop::Along)
                && step_try.state.has_ended()
                && late.iter().any(after)
            {
                step_try.state = StepState::Cancelled;
            }
        }
    }
}
