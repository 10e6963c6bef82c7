//! A turn of one run: look, decide, commit, act, until it can only wait.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::outbox::Published;
use super::tasks::log_change;
use crate::aws::error::{AwsError, Kind};
use crate::aws::store::StoreError;
use crate::core::quota::Call;
use crate::core::run::{Act, CallFailure, Decision, Hints, Observation, Run, StepSeen};
use crate::core::task::{TaskChange, TaskPartition, TaskState};
use crate::planted::{Bug, planted};

/// From a look to the next wait takes at most this many acts.
const ACTS_MAX: usize = 8;
/// When DynamoDB did not say who holds a claim.
const CLAIM_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// No call that creates something waits longer, whatever its deadline.
const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) async fn turn_run(&self, id: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some(mut run) = self.store.run(id).await? else { return Ok(None) };
        let catalog = planted(Bug::RunFollowsConfig).then(|| self.catalog());
        if let Some(profile) = catalog.as_ref().and_then(|all| all.profiles.get(&run.profile)) {
            run.limits = profile.limits.clone();
        }
        self.count_open(&run);
        let mut hints = self.hints(&run);
        let mut observation = Observation::Nothing;
        let mut next = Some(self.clock.now());
        for _ in 0..ACTS_MAX {
            let act = self.decide_run(&mut run, observation, &mut hints).await?;
            observation = match act {
                Act::Rest(until) => {
                    next = until;
                    break;
                }
                Act::LookUp | Act::Survey => match self.surveyed(&run, &act, &hints) {
                    Some(observation) => observation,
                    None => {
                        hints.owed = true;
                        let now = self.clock.now();
                        next =
                            Some(run.within_deadlines(super::after(now, self.sweep_interval), now));
                        break;
                    }
                },
                act => self.act(&run, act).await,
            };
        }
        self.remember(&run, hints);
        next = next.into_iter().chain(self.pay(&mut run).await?).min();
        let again = loop {
            self.take_logs(&mut run).await?;
            let again = self.publish_run(&mut run).await?;
            // A log that found no room among the notices may find it now.
            if again.is_some() || !self.has_logs(&run) {
                break again;
            }
        };
        self.look_for_logs(&run);
        Ok(next.into_iter().chain(again).min())
    }

    /// What follows from an observation. An act that EMR's quota has no room
    /// for is not sent, and that is decided about too, before anything is
    /// stored.
    fn follow(&self, run: &mut Run, observation: Observation, hints: &mut Hints) -> Decision {
        let now = self.clock.now();
        hints.learn(&observation, now);
        let mut decision = run.decide(observation, hints, now);
        if let Err(until) = self.permit_act(&decision.act, run) {
            let postponed = decision.act.postponed(until);
            hints.learn(&postponed, now);
            let Decision { act, changes } = run.decide(postponed, hints, now);
            decision.act = act;
            decision.changes.extend(changes);
        }
        decision
    }

    /// Decides and commits; what is returned may be done now.
    async fn decide_run(
        &self,
        run: &mut Run,
        observation: Observation,
        hints: &mut Hints,
    ) -> Result<Act, StoreError> {
        let before = run.clone();
        let decision = self.follow(run, observation, hints);
        let early = planted(Bug::LaunchWithoutIntent) && decision.act == Act::Launch;
        if *run != before && !early {
            let makes_room = !decision.changes.is_empty() || run.state.is_final();
            let changes = self.commit_what_can_be(run, decision.changes).await?;
            self.wake_tasks(changes.iter().map(|change| &change.key));
            self.count_changes(run, &changes);
            if makes_room {
                self.wake_capped();
            }
            if run.state != before.state {
                if run.state.is_final() {
                    self.metrics.run_ended(run);
                }
                let cluster = run.attempt().and_then(|attempt| attempt.cluster.as_deref());
                tracing::info!(run = run.id, cluster, state = run.state.name(), "run");
            }
        }
        Ok(decision.act)
    }

    /// Takes a run as read into the metrics: after a start nothing else tells
    /// of its members.
    fn count_open(&self, run: &Run) {
        self.metrics.run_is(run);
        for member in run.members.iter().filter(|member| member.outcome.is_none()) {
            self.metrics.partition_is(&member.key, TaskState::Running);
        }
    }

    /// Takes committed changes into the metrics and the log.
    pub(super) fn count_changes(&self, run: &Run, changes: &[TaskChange]) {
        self.metrics.run_is(run);
        for change in changes {
            self.metrics.partition_became(&change.key, change.to);
            log_change(change);
        }
    }

    /// Commits the run with those changes that can be; returns them. No item keeps the
    /// run and the others from it: to one that is damaged its end is owed.
    async fn commit_what_can_be(
        &self,
        run: &mut Run,
        mut changes: Vec<TaskChange>,
    ) -> Result<Vec<TaskChange>, StoreError> {
        let mut read = false;
        loop {
            match self.store.commit_run(run, &changes).await {
                Ok(()) => return Ok(changes),
                Err(StoreError::Conflict(_)) if !read => {
                    changes = self.still_ours(run, changes).await?;
                    read = true;
                }
                Err(error @ StoreError::Unwritable { .. }) => {
                    changes = self.but_for_damaged(run, changes, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The changes without the one whose item cannot be written: it is owed.
    async fn but_for_damaged(
        &self,
        run: &mut Run,
        mut changes: Vec<TaskChange>,
        error: StoreError,
    ) -> Result<Vec<TaskChange>, StoreError> {
        let damaged = changes.iter().position(|change| error.is_of(&change.key));
        let Some(damaged) = damaged else { return Err(error) };
        self.tell_unreadable(&error).await;
        run.owes(&changes.remove(damaged).key);
        Ok(changes)
    }

    /// The changes whose partitions still belong to the run. One that somebody
    /// removed, changed or damaged by hand, or that a newer version has written,
    /// must not keep the run from ending; to one that cannot be read its end is owed.
    async fn still_ours(
        &self,
        run: &mut Run,
        changes: Vec<TaskChange>,
    ) -> Result<Vec<TaskChange>, StoreError> {
        let mut kept = Vec::with_capacity(changes.len());
        for change in changes {
            let item = match self.store.task(&change.key).await {
                Err(error @ StoreError::Unreadable { .. }) => {
                    self.tell_unreadable(&error).await;
                    run.owes(&change.key);
                    continue;
                }
                item => item?,
            };
            let is_ours = |item: &TaskPartition| {
                item.run.as_deref() == Some(run.id.as_str()) && item.round == change.round
            };
            let state = item.filter(is_ours).map(|item| item.state);
            if state == Some(change.from) {
                kept.push(change);
            } else if state != Some(change.to) {
                // Another replica that was faster has written the same.
                let partition = change.key.partition;
                tracing::warn!(
                    run = run.id, task = change.key.task, %partition, to = change.to.name(),
                    "was changed by somebody else while it ran, left as it is"
                );
            }
        }
        Ok(kept)
    }

    /// Stores what the run owes to partitions that could not be read when they ended in
    /// it; says when to try again.
    async fn pay(&self, run: &mut Run) -> Result<Option<Timestamp>, StoreError> {
        let mut again = None;
        for key in run.owed() {
            let now = self.clock.now();
            let change = run.paid(&key, now);
            let changes = self.still_ours(run, change.into_iter().collect()).await?;
            if run.owed().contains(&key) {
                again = Some(super::after(now, self.sweep_interval));
                continue;
            }
            match self.store.commit_run(run, &changes).await {
                Err(error @ StoreError::Unwritable { .. }) => {
                    self.but_for_damaged(run, changes, error).await?;
                    again = Some(super::after(now, self.sweep_interval));
                    continue;
                }
                result => result?,
            }
            self.wake_tasks(changes.iter().map(|change| &change.key));
            self.count_changes(run, &changes);
        }
        Ok(again)
    }

    async fn act(&self, run: &Run, act: Act) -> Observation {
        match act {
            Act::Rest(_) | Act::LookUp | Act::Survey => Observation::Nothing,
            Act::Launch => {
                let send_by = run.attempt().map(|attempt| attempt.launch.send_by);
                Observation::Launched(match self.time_to_send(send_by) {
                    Some(within) => {
                        let launched = self.emr.launch(run, within).await;
                        self.reported(run, Call::RunJobFlow, launched)
                    }
                    None => Err(too_late()),
                })
            }
            Act::Describe { cluster } => {
                let described = self.emr.describe(&cluster).await;
                self.observed(run, Call::DescribeCluster, described, Observation::Described)
            }
            Act::ReadSteps { cluster, .. } => {
                let steps = self.read_steps(run, &cluster).await;
                self.observed(run, Call::ListSteps, steps, Observation::Steps)
            }
            Act::AddSteps { cluster, tries } => {
                let adding = run.attempt().and_then(|attempt| attempt.adding.as_ref());
                Observation::Added(match self.time_to_send(adding.map(|adding| adding.send_by)) {
                    Some(within) => {
                        let added = self.emr.add_steps(run, &cluster, &tries, within).await;
                        self.reported(run, Call::AddJobFlowSteps, added)
                    }
                    None => Err(too_late()),
                })
            }
            Act::Claim { key, holder } => match self.store.claim(&key, &holder).await {
                Ok(holder) => Observation::Claimed { key, holder },
                Err(error) => {
                    tracing::warn!(run = run.id, %error, "the claim is not settled, will try again");
                    Observation::Postponed(super::after(self.clock.now(), CLAIM_AGAIN_AFTER))
                }
            },
            Act::Terminate { cluster } => {
                let terminated = self.emr.terminate(&cluster).await;
                Observation::Terminated(self.reported(run, Call::TerminateJobFlows, terminated))
            }
            Act::CancelSteps { cluster, steps } => {
                let cancelled = self.emr.cancel_steps(&cluster, &steps).await;
                Observation::StepsCancelled(self.reported(run, Call::CancelSteps, cancelled))
            }
        }
    }

    /// All pages of a cluster's steps. The first is permitted already; there
    /// are few more, and to begin again would cost more than to wait.
    async fn read_steps(&self, run: &Run, cluster: &str) -> Result<Vec<StepSeen>, AwsError> {
        let mut steps = Vec::new();
        let mut marker = None;
        loop {
            let (page, next) = self.emr.list_steps(cluster, marker).await?;
            steps.extend(page);
            marker = next;
            if marker.is_none() || planted(Bug::FirstStepPageOnly) {
                return Ok(steps);
            }
            while let Err(until) = self.permit(Call::ListSteps, &run.id) {
                self.clock.sleep_until(until).await;
            }
        }
    }

    /// How long a call may still take, or None when its deadline has passed.
    fn time_to_send(&self, send_by: Option<Timestamp>) -> Option<Duration> {
        let send_by = if planted(Bug::NoSendBy) { Some(Timestamp::MAX) } else { send_by };
        let left = send_by?.duration_since(self.clock.now());
        let left = self.clock.real_time(left);
        (!left.is_zero()).then(|| left.min(CALL_TIMEOUT_MAX))
    }

    fn reported<T>(
        &self,
        run: &Run,
        call: Call,
        result: Result<T, CallFailure>,
    ) -> Result<T, CallFailure> {
        if let Err(failure) = &result {
            tracing::warn!(run = run.id, call = call.name(), ?failure, "EMR call failed");
            if matches!(failure, CallFailure::Deferred(_)) {
                self.throttled(call);
            }
        }
        result
    }

    /// What a look showed; one that EMR refused for now is made again as soon
    /// as the quota allows.
    fn observed<T>(
        &self,
        run: &Run,
        call: Call,
        result: Result<T, AwsError>,
        seen: impl FnOnce(T) -> Observation,
    ) -> Observation {
        match result {
            Ok(found) => seen(found),
            Err(error) if error.is_about_the_signature() => {
                tracing::warn!(run = run.id, %error, "will look again");
                let interval = run.limits.poll_interval;
                Observation::Postponed(super::after(self.clock.now(), interval))
            }
            Err(error) if error.kind == Kind::Deferred => {
                tracing::warn!(run = run.id, %error, "will look again soon");
                Observation::Postponed(self.throttled(call))
            }
            Err(error) if error.names_no_cluster() => {
                tracing::warn!(run = run.id, %error, "EMR does not know the cluster");
                Observation::Absent
            }
            Err(error) => {
                tracing::warn!(run = run.id, %error, "could not look, nothing follows from that");
                Observation::NotSeen
            }
        }
    }

    /// Publishes what the run has to tell; says when the rest has its turn.
    async fn publish_run(&self, run: &mut Run) -> Result<Option<Timestamp>, StoreError> {
        let Published { count, again } = self.publish(&run.id, &run.notices).await;
        if count > 0 {
            run.published(count);
            self.store.commit_run(run, &[]).await?;
        }
        self.metrics.pending(&run.id, &run.notices);
        Ok(again)
    }
}

fn too_late() -> CallFailure {
    CallFailure::Deferred("its deadline passed before it was sent".to_owned())
}
