//! What a run does next: one pure function from what is stored and what was
//! just observed. The engine commits the changed run first and acts then.

use jiff::{SignedDuration, Timestamp};

use super::notices::words_kept;
use super::{
    CallFailure, ClusterState, Event, Hints, Intent, Member, Observation, Run, RunState,
    STEPS_AT_ONCE_MAX, StepState, StepTry,
};
use crate::core::class::FailureClass;
use crate::core::quota::Call;
use crate::core::task::TaskChange;
use crate::planted::{Bug, planted};

/// The one thing to do after the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Act {
    /// Nothing until then; None when the run has ended.
    Rest(Option<Timestamp>),
    /// RunJobFlow for the open attempt, with all its tries as steps.
    Launch,
    /// The next survey's word on the attempt's name.
    LookUp,
    /// The next survey's word on the cluster's state.
    Survey,
    /// DescribeCluster: the state as it is now.
    Describe { cluster: String },
    /// ListSteps; a `spare` one is left out while the quota is short.
    ReadSteps { cluster: String, spare: bool },
    /// AddJobFlowSteps for these tries of the open attempt.
    AddSteps { cluster: String, tries: Vec<usize> },
    /// TerminateJobFlows.
    Terminate { cluster: String },
    /// CancelSteps, by their ids.
    CancelSteps { cluster: String, steps: Vec<String> },
    /// Takes the claim, if nobody has it, for a cluster that has ended.
    Claim { key: String, holder: String },
}

impl Act {
    /// The call of EMR that it makes; surveys are made for all runs together.
    pub fn call(&self) -> Option<Call> {
        match self {
            Act::Rest(_) | Act::LookUp | Act::Survey | Act::Claim { .. } => None,
            Act::Launch => Some(Call::RunJobFlow),
            Act::Describe { .. } => Some(Call::DescribeCluster),
            Act::ReadSteps { .. } => Some(Call::ListSteps),
            Act::AddSteps { .. } => Some(Call::AddJobFlowSteps),
            Act::Terminate { .. } => Some(Call::TerminateJobFlows),
            Act::CancelSteps { .. } => Some(Call::CancelSteps),
        }
    }

    /// What is observed when the quota has no room for it before `at`.
    pub fn postponed(&self, at: Timestamp) -> Observation {
        let failure = CallFailure::Postponed(at);
        match self {
            Act::Launch => Observation::Launched(Err(failure)),
            Act::AddSteps { .. } => Observation::Added(Err(failure)),
            Act::Terminate { .. } => Observation::Terminated(Err(failure)),
            Act::CancelSteps { .. } => Observation::StepsCancelled(Err(failure)),
            Act::Rest(_)
            | Act::LookUp
            | Act::Survey
            | Act::Claim { .. }
            | Act::Describe { .. }
            | Act::ReadSteps { .. } => Observation::Postponed(at),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Decision {
    pub act: Act,
    /// To be committed together with the run.
    pub changes: Vec<TaskChange>,
}

impl Decision {
    pub(super) fn act(act: Act) -> Self {
        Self { act, changes: Vec::new() }
    }

    pub(super) fn rest_until(until: Timestamp) -> Self {
        Self::act(Act::Rest(Some(until)))
    }
}

/// Waiting after the nth throttling of a call.
fn throttle_delay(throttled: u32) -> SignedDuration {
    SignedDuration::from_secs(2i64.saturating_pow(throttled.min(6)))
}

fn after(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

impl Run {
    /// Takes one observation in and decides. Changes of `self` are to be
    /// committed, with the decision's changes, before its act.
    pub fn decide(&mut self, observation: Observation, hints: &Hints, now: Timestamp) -> Decision {
        let decision = self.take(observation, hints, now);
        self.bound_notices();
        decision
    }

    fn take(&mut self, observation: Observation, hints: &Hints, now: Timestamp) -> Decision {
        self.asked = false;
        if self.state.is_final() || self.attempts.is_empty() {
            return Decision::act(Act::Rest(None));
        }
        match observation {
            Observation::NotSeen if planted(Bug::NotSeenIsDead) => self.close(Vec::new(), now),
            Observation::Surveyed(None) if planted(Bug::MissingIsDead) => {
                self.close(Vec::new(), now)
            }
            Observation::Nothing => {
                let mut changes = self.end_unsent(now);
                let decision = match self.state.is_final() {
                    true => Decision::act(Act::Rest(None)),
                    false => self.begin(hints, now),
                };
                changes.extend(decision.changes);
                Decision { act: decision.act, changes }
            }
            Observation::Launched(Ok(cluster))
            | Observation::LookedUp { cluster: Some(cluster), .. } => {
                self.adopt(cluster, now);
                Decision::rest_until(self.next_look(hints, now))
            }
            Observation::Launched(Err(failure)) => self.not_launched(failure, now),
            Observation::LookedUp { cluster: None, began } => self.not_found(began, now),
            // The survey may be older than the event that said otherwise.
            Observation::Surveyed(Some(seen))
                if hints.events.contains(&Event::Ended) && !seen.state.has_ended() =>
            {
                Decision::act(self.describe())
            }
            Observation::Surveyed(Some(seen)) => self.cluster_seen(&seen, false, hints, now),
            Observation::Surveyed(None) => Decision::act(self.describe()),
            Observation::Described(seen) => self.cluster_seen(&seen, true, hints, now),
            Observation::Steps(steps) => {
                let changes = self.follow_steps(&steps, now);
                self.proceed(changes, hints, now)
            }
            Observation::Added(result) => {
                self.added(result, now);
                Decision::act(self.go_on(hints, now))
            }
            Observation::Terminated(Ok(())) => Decision::rest_until(self.next_look(hints, now)),
            Observation::Terminated(Err(CallFailure::Postponed(at))) => Decision::rest_until(at),
            Observation::Terminated(Err(failure)) => {
                if let CallFailure::Refused(reason) = failure {
                    self.not_terminated(&reason, now);
                }
                Decision::rest_until(self.look_soon(now))
            }
            Observation::StepsCancelled(Err(CallFailure::Postponed(at))) => {
                Decision::rest_until(self.within_deadlines(at, now))
            }
            // Whatever EMR answers, the next look shows what has become of them.
            Observation::StepsCancelled(_) => Decision::rest_until(self.look_soon(now)),
            Observation::Claimed { key, holder } if key == self.claim(1) => {
                self.claimed(holder, now)
            }
            Observation::Claimed { holder, .. } => self.submission_claimed(&holder, hints, now),
            Observation::Postponed(at) => Decision::rest_until(self.within_deadlines(at, now)),
            Observation::NotSeen => self.not_seen(now),
            Observation::Absent => self.absent(now),
        }
    }

    /// The start of a turn: look first, unless it is certain that nothing was
    /// ever sent.
    fn begin(&mut self, hints: &Hints, now: Timestamp) -> Decision {
        let Some(attempt) = self.attempts.last() else {
            return Decision::act(Act::Rest(None));
        };
        if attempt.cluster.is_some() {
            return Decision::act(self.look_first(hints, now));
        }
        // For what nobody wants any more nothing is created: an earlier call may
        // have been, though.
        match attempt.launch.send_at.filter(|_| !self.is_to_be_ended()) {
            None if hints.spared => Decision::rest_until(self.look_soon(now)),
            None => Decision::act(Act::LookUp),
            Some(at) if at > now => Decision::rest_until(at),
            Some(_) => self.arm_launch(now),
        }
    }

    fn arm_launch(&mut self, now: Timestamp) -> Decision {
        let send_by = after(now, self.limits.send_within);
        if self.attempts.last().is_some_and(|attempt| attempt.tries.is_empty()) {
            self.plan_tries(now);
        }
        let guarded = self.cluster.guard;
        if let Some(attempt) = self.attempts.last_mut() {
            if guarded && attempt.guards.is_empty() {
                attempt.guards.push(StepState::Submitted);
            }
            attempt.launch.uncertain |= attempt.launch.send_at.is_none();
            attempt.launch.send_by = send_by;
            attempt.launch.send_at = None;
            // Time spent before there was a cluster is not taken from it.
            attempt.opened = now;
            attempt.expires = after(now, self.limits.lifetime);
        }
        Decision::act(Act::Launch)
    }

    fn adopt(&mut self, cluster: String, now: Timestamp) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        attempt.cluster = Some(cluster);
        attempt.cluster_state = Some(ClusterState::Starting);
        self.state = RunState::Running;
        self.tell_starting(now);
    }

    fn not_launched(&mut self, failure: CallFailure, now: Timestamp) -> Decision {
        let Some(attempt) = self.attempts.last_mut() else {
            return Decision::act(Act::Rest(None));
        };
        match failure {
            CallFailure::Deferred(why) if planted(Bug::ThrottledIsRefused) => {
                self.refused(&why, now)
            }
            CallFailure::Unknown(why) if planted(Bug::LostAnswerIsRefusal) => {
                self.refused(&why, now)
            }
            CallFailure::Unknown(_) if planted(Bug::LostAnswerIsNoCall) => self.arm_launch(now),
            CallFailure::Deferred(_) => {
                let at = after(now, throttle_delay(attempt.launch.throttled));
                attempt.launch.throttled += 1;
                attempt.launch.send_at = Some(at);
                Decision::rest_until(at)
            }
            CallFailure::Postponed(at) => {
                attempt.launch.send_at = Some(at);
                Decision::rest_until(at)
            }
            CallFailure::Refused(reason) => {
                let uncertain = attempt.launch.uncertain;
                let reason = words_kept(&reason);
                attempt.end_reason.clone_from(&reason);
                // An earlier call may yet have its effect.
                match self.claim_to_settle().filter(|_| uncertain) {
                    Some(act) => Decision::act(act),
                    None => self.refused(&reason, now),
                }
            }
            CallFailure::Unknown(_) => Decision::rest_until(after(now, self.limits.poll_interval)),
        }
    }

    /// A list that began then shows no cluster of that name: gone for good only
    /// after the call can no longer arrive and the list cannot lag any more.
    fn not_found(&mut self, began: Timestamp, now: Timestamp) -> Decision {
        let Some(attempt) = self.attempts.last() else {
            return Decision::act(Act::Rest(None));
        };
        let settled = after(attempt.launch.send_by, self.limits.list_lag);
        if began < settled && !planted(Bug::NoListLag) {
            let poll = after(now, self.limits.poll_interval);
            return Decision::rest_until(settled.max(now).min(poll));
        }
        if self.is_to_be_ended() {
            return match self.claim_to_settle() {
                Some(act) => Decision::act(act),
                None => self.refused("nobody wants it any more", now),
            };
        }
        self.arm_launch(now)
    }

    fn added(&mut self, result: Result<Vec<String>, CallFailure>, now: Timestamp) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        match result {
            Ok(ids) => {
                let submitted = attempt.tries.iter_mut().filter(|step_try| step_try.is_unseen());
                for (step_try, id) in submitted.zip(ids) {
                    step_try.id = Some(id);
                }
                attempt.adding = None;
            }
            // A refusal usually means that the cluster is going down: the next
            // look tells. Until then it is only known not to have been added.
            Err(CallFailure::Deferred(_) | CallFailure::Refused(_)) => {
                if let Some(adding) = &mut attempt.adding {
                    adding.send_at = Some(after(now, throttle_delay(adding.throttled)));
                    adding.throttled += 1;
                }
            }
            Err(CallFailure::Postponed(at)) => {
                if let Some(adding) = &mut attempt.adding {
                    adding.send_at = Some(at);
                }
            }
            Err(CallFailure::Unknown(_)) => {}
        }
    }

    /// What follows from the states that the run has taken in.
    pub(super) fn proceed(
        &mut self,
        mut changes: Vec<TaskChange>,
        hints: &Hints,
        now: Timestamp,
    ) -> Decision {
        let Some(attempt) = self.attempts.last() else { return Decision::act(Act::Rest(None)) };
        let early = planted(Bug::NextAttemptTooEarly) && self.is_cluster_ending();
        if attempt.cluster_state.is_some_and(ClusterState::has_ended) || early {
            return match self.claim_to_settle().or_else(|| self.submission_to_settle()) {
                Some(act) => Decision { act, changes },
                None if self.awaits_steps(now) => {
                    Decision { act: Act::Rest(Some(self.look_soon(now))), changes }
                }
                None => self.close(changes, now),
            };
        }
        if self.has_outlived(now) {
            changes.extend(self.fail_open(
                FailureClass::TimeOut,
                "its cluster's lifetime was over",
                "give the profile a longer lifetime, or find out what took so long",
                now,
            ));
        }
        let any_done = self.members.iter().any(|member| member.outcome.is_some());
        let is_done = self.is_done() || any_done && planted(Bug::TerminatedTooEarly);
        let act = if is_done { self.terminate(hints, now) } else { self.go_on(hints, now) };
        Decision { act, changes }
    }

    /// Whether all its work has ended.
    pub(super) fn is_done(&self) -> bool {
        self.members.iter().all(|member| member.outcome.is_some())
    }

    /// Work is left, and the cluster has not ended.
    pub(super) fn go_on(&mut self, hints: &Hints, now: Timestamp) -> Act {
        self.drop_unsent();
        if self.is_cluster_ending() {
            // Somebody else ends it: what is open goes to the next attempt.
            Act::Rest(Some(self.next_look(hints, now)))
        } else if self.is_to_be_ended() || self.is_given_up() || self.gives_up(hints, now) {
            self.terminate(hints, now)
        } else if let Some(act) = self.steps_to_cancel(hints, now) {
            act
        } else if self.looks_cancelled() {
            self.describe()
        } else {
            self.next_steps(hints, now)
        }
    }

    pub(super) fn terminate(&mut self, hints: &Hints, now: Timestamp) -> Act {
        if planted(Bug::TerminatedOnce) && self.state == RunState::Terminating {
            return Act::Rest(Some(self.next_look(hints, now)));
        }
        if self.state != RunState::Terminating {
            self.state = RunState::Terminating;
            self.tell_terminating(now);
        }
        match self.attempts.last().and_then(|attempt| attempt.cluster.clone()) {
            Some(cluster) if !self.is_cluster_ending() => Act::Terminate { cluster },
            _ => Act::Rest(Some(self.next_look(hints, now))),
        }
    }

    /// EMR will not end the cluster, which costs money: tells so once and goes
    /// on trying.
    fn not_terminated(&mut self, reason: &str, now: Timestamp) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        if !std::mem::replace(&mut attempt.unterminated, true) {
            self.tell_not_terminated(reason, now);
        }
    }

    /// The cluster is alive and work is left: wait for it, repeat a lost
    /// submission, or submit what comes next.
    fn next_steps(&mut self, hints: &Hints, now: Timestamp) -> Act {
        let poll = self.next_look(hints, now);
        let send_within = self.limits.send_within;
        let adding = self.attempts.last().and_then(|attempt| attempt.adding.as_ref());
        let repeat_at = adding.map(|adding| self.repeat_at(adding));
        let Some(attempt) = self.attempts.last_mut() else { return Act::Rest(Some(poll)) };
        if let (Some(adding), Some(at)) = (&mut attempt.adding, repeat_at) {
            if now < at {
                return Act::Rest(Some(at.min(poll)));
            }
            adding.uncertain |= adding.send_at.is_none();
            adding.send_by = after(now, send_within);
            adding.send_at = None;
            return self.add_steps();
        }
        let open = attempt.tries.iter().any(|step_try| !step_try.state.has_ended());
        if open || attempt.guards.iter().any(|guard| !guard.has_ended()) {
            return Act::Rest(Some(poll));
        }
        // It goes down: what is left is for the cluster that has the claim, or for
        // another attempt.
        let refused = attempt.guards.first() == Some(&StepState::Failed);
        if refused && !planted(Bug::StepsAfterRefusal) {
            return Act::Rest(Some(poll));
        }
        if let Some(act) = self.submission_to_settle() {
            return act;
        }
        match self.plan_tries(now) {
            // A retry whose delay is not over yet.
            Some(at) => Act::Rest(Some(at.min(poll))),
            None => {
                let guarded = self.cluster.guard;
                if let Some(attempt) = self.attempts.last_mut() {
                    let send_by = after(now, send_within);
                    let intent = Intent { send_by, send_at: None, throttled: 0, uncertain: false };
                    attempt.adding = Some(intent);
                    if guarded {
                        attempt.guards.push(StepState::Submitted);
                    }
                }
                self.add_steps()
            }
        }
    }

    /// When a submission is repeated that a look does not show.
    pub(super) fn repeat_at(&self, adding: &Intent) -> Timestamp {
        adding.send_at.unwrap_or_else(|| after(adding.send_by, self.limits.list_lag))
    }

    fn add_steps(&self) -> Act {
        let Some(attempt) = self.attempts.last() else { return Act::Rest(None) };
        let submitted = attempt.tries.iter().enumerate();
        let submitted = submitted.filter(|(_, step_try)| step_try.is_unseen());
        let tries = submitted.map(|(index, _)| index).collect();
        Act::AddSteps { cluster: attempt.cluster.clone().unwrap_or_default(), tries }
    }

    /// Appends a try for every step that can be submitted now. When there is
    /// none, says when the first delayed retry is due.
    fn plan_tries(&mut self, now: Timestamp) -> Option<Timestamp> {
        let room = self.room_for_tries();
        let attempt = self.attempts.last_mut()?;
        let mut planned = Vec::new();
        let mut first_retry = None;
        for (index, member) in self.members.iter().enumerate() {
            if member.outcome.is_some() || member.cancel.is_some() {
                continue;
            }
            let (next, at) = next_step(member, index, &attempt.tries);
            match at {
                Some(at) if at > now => {
                    first_retry = Some(first_retry.map_or(at, |first: Timestamp| first.min(at)));
                }
                _ => planned.extend((next..member.steps.len()).map(|step| (index, step))),
            }
        }
        planned.truncate(room.min(STEPS_AT_ONCE_MAX));
        let nothing = planned.is_empty();
        for (member, step) in planned {
            let key = &self.members[member].key;
            let step_name = &self.members[member].steps[step].name;
            let serial = if planted(Bug::TryNameReused) { 1 } else { attempt.tries.len() + 1 };
            attempt.tries.push(StepTry {
                member,
                step,
                name: format!("{}/{}/{step_name}/{serial}", key.task, key.partition),
                id: None,
                state: StepState::Submitted,
                created: None,
                started: None,
                ended: None,
                failure: None,
                stop: None,
            });
        }
        if nothing { first_retry.or(Some(after(now, self.limits.poll_interval))) } else { None }
    }

    /// When a failed step of a member may be submitted again; None when the
    /// member does not wait for that.
    pub fn retry_at(&self, member: usize) -> Option<Timestamp> {
        let tries = &self.attempt()?.tries;
        let waits = tries.iter().all(|step_try| step_try.state.has_ended());
        waits.then(|| next_step(self.members.get(member)?, member, tries).1).flatten()
    }
}

/// Where a member goes on in an attempt: its next step, and for a retry the
/// instant from which it may be submitted.
fn next_step(member: &Member, index: usize, tries: &[StepTry]) -> (usize, Option<Timestamp>) {
    let of = |step: usize| {
        tries.iter().filter(move |step_try| step_try.member == index && step_try.step == step)
    };
    let done = |step: usize| of(step).any(|step_try| step_try.state == StepState::Completed);
    let next = (0..member.steps.len()).find(|step| !done(*step)).unwrap_or(member.steps.len());
    let failures: Vec<_> =
        of(next).filter(|step_try| step_try.state == StepState::Failed).collect();
    let failed = u32::try_from(failures.len()).unwrap_or(u32::MAX);
    let at = failures.last().and_then(|last| {
        let delay = member.steps.get(next)?.retry.delay_after(failed)?;
        Some(after(last.ended?, delay))
    });
    (next, at)
}
