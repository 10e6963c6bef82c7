//! Cancelling at a person's word: the word is stored in the run first, and the
//! run acts on it at its turns. A member ends only when nothing of it can be
//! executed any more: its steps were seen to have ended, its cluster has, or none
//! was ever asked for. Not for steps that somebody cancels at EMR (see `follow`).

use jiff::Timestamp;

use super::{Act, Hints, Intent, Member, Outcome, Run, RunState, StepState, StepTry};
use crate::core::asked::Asked;
use crate::core::task::{TaskChange, TaskKey};

impl Run {
    /// A person wants these members to end; returns those of them that are open.
    /// With the last open one goes the cluster.
    pub fn ask_cancel(&mut self, wanted: impl Fn(&TaskKey) -> bool, asked: &Asked) -> Vec<TaskKey> {
        let open = self.members.iter_mut().filter(|member| {
            member.outcome.is_none() && member.cancel.is_none() && wanted(&member.key)
        });
        let mut keys = Vec::new();
        for member in open {
            member.cancel = Some(asked.clone());
            keys.push(member.key.clone());
        }
        if !keys.is_empty() {
            self.asked = true;
            self.tell_cancel_asked(&keys, asked);
        }
        keys
    }

    /// Whether nothing of a task partition's steps runs or may yet run here.
    pub fn has_let_go(&self, key: &TaskKey) -> bool {
        let index = self.members.iter().position(|member| member.key == *key);
        self.state.is_final()
            || index
                .is_none_or(|index| self.members[index].outcome.is_some() && self.is_idle(index))
    }

    /// Whether all that is open is to be cancelled: then its cluster is not needed.
    pub(super) fn is_to_be_ended(&self) -> bool {
        let mut open = self.members.iter().filter(|member| member.outcome.is_none()).peekable();
        open.peek().is_some() && open.all(|member| member.cancel.is_some())
    }

    /// Whether its steps still decide about members.
    pub(super) fn is_working(&self) -> bool {
        self.state != RunState::Terminating || self.is_to_be_ended() || self.is_given_up()
    }

    /// Ends the members that are to be cancelled where the attempt's cluster was
    /// certainly never asked for.
    pub(super) fn end_unsent(&mut self, now: Timestamp) -> Vec<TaskChange> {
        let unsent = self.attempts.last().is_some_and(|attempt| {
            let launch = &attempt.launch;
            attempt.cluster.is_none() && launch.send_at.is_some() && !launch.uncertain
        });
        if !unsent {
            return Vec::new();
        }
        let changes = self.end_cancelled(now);
        if changes.is_empty() {
            return changes;
        }
        if self.is_done() {
            self.finish(now);
        } else if let Some(attempt) = self.attempts.last_mut() {
            // Planned anew, without theirs.
            attempt.tries.clear();
        }
        changes
    }

    /// Ends every open member that is to be cancelled: nothing executes it.
    pub(super) fn end_cancelled(&mut self, now: Timestamp) -> Vec<TaskChange> {
        let ends = |member: &Member| member.outcome.is_none() && member.cancel.is_some();
        let indexes: Vec<_> =
            (0..self.members.len()).filter(|index| ends(&self.members[*index])).collect();
        indexes.into_iter().filter_map(|index| self.cancel_member(index, now)).collect()
    }

    pub(super) fn cancel_member(&mut self, index: usize, now: Timestamp) -> Option<TaskChange> {
        let reason = self.members[index].cancel.as_ref()?.to_string();
        let change = self.cancelled(&self.members[index], &reason, now);
        self.members[index].outcome = Some(Outcome::Cancelled { reason });
        Some(change)
    }

    /// Takes the steps of members that are to be cancelled out of a submission
    /// that was certainly never sent; without any others there is none.
    pub(super) fn drop_unsent(&mut self) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        let unsent = |adding: &Intent| adding.send_at.is_some() && !adding.uncertain;
        if !attempt.adding.as_ref().is_some_and(unsent) {
            return;
        }
        for step_try in attempt.tries.iter_mut().filter(|step_try| step_try.is_unseen()) {
            if self.members[step_try.member].cancel.is_some() {
                step_try.state = StepState::Cancelled;
            }
        }
        if !attempt.tries.iter().any(StepTry::is_unseen) {
            attempt.adding = None;
            // Its guard came with the intent; the first one with the launch.
            attempt.guards.truncate(attempt.guards.len().saturating_sub(1).max(1));
        }
    }

    /// The steps of members that are to be cancelled, or take too long, while others go
    /// on: read them first, then cancel what is open, and look again later. Where
    /// nothing is open, only its cluster's state can tell why that is no end. None
    /// where a submission is to be repeated or settled first.
    pub(super) fn steps_to_cancel(&mut self, hints: &Hints, now: Timestamp) -> Option<Act> {
        let ends = |member: &Member| member.outcome.is_none() && member.cancel.is_some();
        let asked = self.members.iter().any(ends);
        let late = self.late_members(now);
        if !asked && late.is_empty() {
            return None;
        }
        let cluster = self.attempts.last()?.cluster.clone()?;
        if !hints.steps_fresh {
            return Some(Act::ReadSteps { cluster, spare: false });
        }
        self.stop_late(&late, now);
        let attempt = self.attempts.last()?;
        let open = attempt.tries.iter().filter(|step_try| {
            let cancelled = ends(&self.members[step_try.member]) || late.contains(&step_try.member);
            cancelled && !step_try.state.has_ended()
        });
        let mut steps: Vec<_> = open.filter_map(|step_try| step_try.id.clone()).collect();
        // What waits goes first, or it might begin when that before it has ended.
        steps.reverse();
        if !steps.is_empty() {
            Some(Act::CancelSteps { cluster, steps })
        } else if attempt.adding.is_some() || self.submission_to_settle().is_some() {
            None
        } else if !hints.state_fresh {
            // It may be gone, and another executes the attempt.
            Some(Act::Describe { cluster })
        } else {
            Some(Act::Rest(Some(self.look_soon(now))))
        }
    }

    /// Whether nothing of a member runs, and no copy that a list hides may: the
    /// guard has passed on this cluster, so no other executes the attempt.
    pub(super) fn is_idle(&self, index: usize) -> bool {
        let Some(attempt) = self.attempts.last() else { return false };
        let passed = attempt.guards.first().is_none_or(|guard| *guard == StepState::Completed);
        let all_shown = passed && self.submission_to_settle().is_none();
        all_shown && self.has_no_open_try(index)
    }

    fn has_no_open_try(&self, index: usize) -> bool {
        let tries = self.attempts.last().map_or(&[][..], |attempt| &attempt.tries);
        tries.iter().all(|step_try| step_try.member != index || step_try.state.has_ended())
    }
}
