//! Takes what a look at a cluster showed into the run: states of steps, and
//! with them the end of task partitions. Success means that every step is
//! COMPLETED; the state of the cluster never does.

use jiff::Timestamp;

use super::notices::words_kept;
use super::{
    Attempt, ClusterSeen, ClusterState, GUARD_PREFIX, NO_DETAILS, Outcome, Run, StepSeen,
    StepState, StepTry, Stop, number,
};
use crate::core::class::FailureClass;
use crate::core::task::TaskChange;
use crate::planted::{Bug, planted};

/// So few tries have room in every run.
const TRIES_LOOKED_AFTER: usize = 50;

/// The end of one member, as its tries on this cluster show it.
enum Verdict {
    Open,
    Succeeded,
    Failed {
        class: FailureClass,
        reason: String,
        /// The last try, if that is to blame: its log tells more.
        last: Option<Box<StepTry>>,
        /// What a person can do where no log tells.
        advice: &'static str,
    },
    Cancelled,
}

impl Attempt {
    /// Whether a failure has cancelled this try: EMR cancels what is pending
    /// when a step fails. Without any since it was submitted, or if what comes
    /// after it has run, somebody else has cancelled it.
    fn explains(&self, cancelled: &StepTry) -> bool {
        if cancelled.stop.is_some() {
            return true;
        }
        if self.went_on_after(cancelled) {
            return false;
        }
        let failures = self.tries.iter().filter(|other| other.state == StepState::Failed);
        let since = |failed: &StepTry| match (failed.ended, cancelled.created) {
            (Some(ended), Some(created)) => ended >= created,
            _ => true,
        };
        failures.into_iter().any(since) || self.guards.contains(&StepState::Failed)
    }

    /// Whether a step has run that was submitted together with this one and
    /// comes after it.
    fn went_on_after(&self, cancelled: &StepTry) -> bool {
        let place = |step_try: &StepTry| (step_try.member, step_try.step);
        let mut last = place(cancelled);
        let after = self.tries.iter().skip_while(|other| other.name != cancelled.name).skip(1);
        // The steps of one submission are in order, the next begins from the front.
        let mut together = after.take_while(|step_try| {
            let before = std::mem::replace(&mut last, place(step_try));
            last > before
        });
        together.any(|step_try| {
            matches!(step_try.state, StepState::Running | StepState::Completed | StepState::Failed)
        })
    }
}

impl Run {
    /// Takes the states of steps in; returns the task partitions that ended.
    pub(super) fn follow_steps(&mut self, steps: &[StepSeen], now: Timestamp) -> Vec<TaskChange> {
        let newly_failed = self.take_step_states(steps, now);
        let started = |step: &StepSeen| {
            matches!(step.state, StepState::Running | StepState::Completed | StepState::Failed)
        };
        if steps.iter().any(started) {
            self.take_running(now);
        }
        let changes = self.end_members(planted(Bug::CancelledByListAlone), now);
        for step_try in newly_failed {
            self.announce_retry(&step_try, now);
        }
        changes
    }

    /// Ends the members whose tries decide about them; `alive` when the cluster
    /// was seen to go on after these tries were stored.
    pub(super) fn end_members(&mut self, alive: bool, now: Timestamp) -> Vec<TaskChange> {
        let full = self.is_full();
        let mut changes = Vec::new();
        for index in 0..self.members.len() {
            if self.members[index].outcome.is_none() {
                let verdict = self.verdict(index, alive, full);
                changes.extend(self.end_member(index, verdict, now));
            }
        }
        changes
    }

    /// Whether steps seem to have been cancelled from outside: certain only if
    /// the cluster goes on.
    pub(super) fn looks_cancelled(&self) -> bool {
        let open = self.members.iter().enumerate().filter(|(_, member)| member.outcome.is_none());
        let mut verdicts = open.map(|(index, _)| self.verdict(index, true, false));
        verdicts.any(|verdict| matches!(verdict, Verdict::Failed { .. }))
    }

    /// Takes the cluster's state in, unless it is older than the one known.
    pub(super) fn take_cluster(&mut self, seen: &ClusterSeen, now: Timestamp) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        let before = attempt.cluster_state;
        if before.is_some_and(|before| seen.state.rank() < before.rank()) {
            return;
        }
        attempt.cluster_state = Some(seen.state);
        if seen.state.has_ended() {
            attempt.ended_at.get_or_insert(now);
            attempt.end_reason = words_kept(&seen.reason);
            attempt.ended = seen.ended.or(attempt.ended);
        }
        let working = |state| matches!(state, Some(ClusterState::Running | ClusterState::Waiting));
        if working(Some(seen.state)) && !working(before) {
            self.tell_running(now);
        }
    }

    /// The cluster has got as far as running steps.
    pub(super) fn take_running(&mut self, now: Timestamp) {
        let state = self.attempts.last().and_then(|attempt| attempt.cluster_state);
        if state.is_some_and(|state| state.rank() < ClusterState::Running.rank()) {
            let state = ClusterState::Running;
            self.take_cluster(&ClusterSeen { state, reason: String::new(), ended: None }, now);
        }
    }

    /// Matches the cluster's steps to our tries by their unique names; returns
    /// those that failed since the last look. A submission that went out twice
    /// is there twice: the copy that got further is the one that counts, and
    /// guards let no more than one of them run.
    fn take_step_states(&mut self, steps: &[StepSeen], now: Timestamp) -> Vec<StepTry> {
        let list_lag = self.limits.list_lag;
        let Some(attempt) = self.attempts.last_mut() else { return Vec::new() };
        for (index, guard) in attempt.guards.iter_mut().enumerate() {
            let name = format!("{GUARD_PREFIX}{}", index + 1);
            let copies = steps.iter().filter(|step| step.name == name);
            // EMR goes on with what follows one that is cancelled; by then lists show it.
            let lags = |step: &StepSeen| match step.state {
                StepState::Failed => false,
                _ => step.ended.is_none_or(|ended| now.duration_since(ended) < list_lag),
            };
            let failed = |step: &&StepSeen| {
                let ended = step.state.has_ended() && step.state != StepState::Completed;
                index > 0 && ended && !lags(step)
            };
            for step in copies.clone().filter(failed) {
                if !attempt.failed_guards.contains(&step.id) {
                    attempt.failed_guards.push(step.id.clone());
                }
            }
            let copies = copies.map(|step| step.state);
            if copies.clone().any(|state| state == StepState::Completed) {
                attempt.settled = attempt.settled.max(number(index + 1));
            }
            // One that is still open may cancel what follows it.
            let worst = copies.min_by_key(|state| (state.has_ended(), *state != StepState::Failed));
            *guard = worst.unwrap_or(*guard);
        }
        let mut failed = Vec::new();
        for step_try in &mut attempt.tries {
            let copies = steps.iter().filter(|step| step.name == step_try.name);
            let Some(step) = copies.max_by_key(|step| step.state.progress()) else { continue };
            let out_of_time =
                step.state == StepState::Cancelled && step_try.stop == Some(Stop::TimeOut);
            let state = if out_of_time { StepState::Failed } else { step.state };
            let newly = state == StepState::Failed && step_try.state != StepState::Failed;
            step_try.id = Some(step.id.clone());
            step_try.state = state;
            step_try.created = step.created;
            step_try.started = step.started;
            step_try.ended = step.ended;
            let member = self.members.get(step_try.member);
            let timeout = member.and_then(|member| member.attempt_timeout);
            step_try.failure = match timeout.filter(|_| out_of_time) {
                Some(timeout) => Some(format!(
                    "it ran longer than attempt-timeout ({timeout:#}) and was cancelled"
                )),
                None => step.failure.as_deref().map(words_kept),
            };
            if newly {
                failed.push(step_try.clone());
            }
        }
        attempt.disregard_after_time_out();
        let all_seen = attempt.tries.iter().all(|step_try| step_try.state != StepState::Submitted);
        if all_seen {
            attempt.adding = None;
        }
        failed
    }

    /// Whether all is over that was submitted, and there is no room for more.
    fn is_full(&self) -> bool {
        let tries = self.attempts.iter().map(|attempt| attempt.tries.len()).sum::<usize>();
        let open = |attempt: &Attempt| attempt.tries.iter().any(|one| !one.state.has_ended());
        tries > TRIES_LOOKED_AFTER
            && !self.attempts.last().is_some_and(open)
            && self.room_for_tries() <= 1
    }

    fn verdict(&self, index: usize, alive: bool, full: bool) -> Verdict {
        let member = &self.members[index];
        let Some(attempt) = self.attempts.last() else { return Verdict::Open };
        let clean = attempt.cluster_state == Some(ClusterState::Terminated);
        if planted(Bug::SuccessByCluster) && clean {
            return Verdict::Succeeded;
        }
        let states = || {
            let tries = attempt.tries.iter().map(|step_try| step_try.state);
            tries.chain(attempt.guards.iter().copied())
        };
        for (number, step) in member.steps.iter().enumerate() {
            let tries: Vec<_> = attempt
                .tries
                .iter()
                .filter(|step_try| step_try.member == index && step_try.step == number)
                .collect();
            let mut done = tries.iter().map(|step_try| step_try.state);
            if done.any(|state| {
                state == StepState::Completed
                    || planted(Bug::CancelledIsDone) && state == StepState::Cancelled
            }) {
                continue;
            }
            let failures: Vec<_> =
                tries.iter().filter(|step_try| step_try.state == StepState::Failed).collect();
            let failed = u32::try_from(failures.len()).unwrap_or(u32::MAX);
            if let Some(last) = failures.last()
                && failed > step.retry.attempts
                && !planted(Bug::RetriesUnbounded)
            {
                let why = last.failure.as_deref().unwrap_or(NO_DETAILS);
                let times = if failed == 1 { "".to_owned() } else { format!(" {failed} times") };
                let reason = format!("step {} failed{times}: {why}", step.name);
                let advice = "with log-uri in the profile, EMR would keep the step's log";
                let class = last.class().unwrap_or(FailureClass::UserCode);
                let last = Some(Box::new((**last).clone()));
                return Verdict::Failed { class, reason, last, advice };
            }
            // No retry is made of what nobody wants.
            if member.cancel.is_some() {
                return if self.is_idle(index) { Verdict::Cancelled } else { Verdict::Open };
            }
            let cancelled = tries
                .last()
                .is_some_and(|last| last.state == StepState::Cancelled && !attempt.explains(last));
            // A list may show the cancelled before the failed one: wait for all.
            let all_ended = states().all(StepState::has_ended);
            // A cluster that goes down takes its steps along: then the attempt
            // is lost, not the partition.
            // Of a copy that a list hides the same holds.
            let all_shown = self.submission_to_settle().is_none();
            if cancelled && all_ended && all_shown && alive {
                let reason = format!("step {} was cancelled from outside", step.name);
                let advice = "find out who cancelled the step";
                return Verdict::Failed {
                    class: FailureClass::External,
                    reason,
                    last: None,
                    advice,
                };
            }
            if full {
                let reason = format!(
                    "step {} cannot be tried again: the run's record has no room for more tries",
                    step.name
                );
                let last = failures.last().map(|last| Box::new((**last).clone()));
                let class = last.as_ref().and_then(|last| last.class());
                let class = class.unwrap_or(FailureClass::UserCode);
                let advice = "use a smaller batch-size or fewer retries";
                return Verdict::Failed { class, reason, last, advice };
            }
            return Verdict::Open;
        }
        Verdict::Succeeded
    }

    fn end_member(&mut self, index: usize, verdict: Verdict, now: Timestamp) -> Option<TaskChange> {
        let member = &self.members[index];
        let (change, outcome) = match verdict {
            Verdict::Open => return None,
            Verdict::Succeeded => (self.succeeded(member, now), Outcome::Succeeded),
            Verdict::Cancelled => return self.cancel_member(index, now),
            Verdict::Failed { class, reason, last, advice } => {
                let log = last.as_ref().and_then(|last| self.step_log_folder(last));
                let advice = match log {
                    Some(_) => "the end of the step's log follows as soon as EMR has written it",
                    None => advice,
                };
                let change = self.failed(member, (class, &reason), advice, log, now);
                if let Some(last) = &last {
                    self.want_log(last);
                }
                (change, Outcome::Failed { reason, class: Some(class) })
            }
        };
        self.members[index].outcome = Some(outcome);
        Some(change)
    }

    /// A failed step that will be tried again is a warning of its own; without
    /// a retry the task partition's failure says it all.
    fn announce_retry(&mut self, step_try: &StepTry, now: Timestamp) {
        let member = &self.members[step_try.member];
        if member.outcome.is_some() || member.cancel.is_some() {
            return;
        }
        let step = &member.steps[step_try.step];
        let Some(attempt) = self.attempts.last() else { return };
        let failed = attempt.tries.iter().filter(|other| {
            other.member == step_try.member
                && other.step == step_try.step
                && other.state == StepState::Failed
        });
        let failed = u32::try_from(failed.count()).unwrap_or(u32::MAX);
        let Some(delay) = step.retry.delay_after(failed) else { return };
        let retry = (failed, step.retry.attempts);
        self.tell_retry(step_try, retry, delay, now);
    }
}
