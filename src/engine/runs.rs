//! A turn of one run: look, decide, commit, act, until it can only wait.

use std::time::Duration;

use jiff::Timestamp;

use super::{Engine, outbox};
use crate::aws::store::StoreError;
use crate::core::run::{Act, CallFailure, Observation, Run};
use crate::core::task::TaskChange;

/// From a look to the next wait takes at most this many acts.
const ACTS_MAX: usize = 6;
/// No call that creates something waits longer, whatever its deadline.
const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) async fn turn_run(&self, id: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some(mut run) = self.store.run(id).await? else { return Ok(None) };
        let mut observation = Observation::Nothing;
        let mut next = Some(self.clock.now());
        for _ in 0..ACTS_MAX {
            let act = self.decide_run(&mut run, observation).await?;
            observation = match act {
                Act::Rest(until) => {
                    next = until;
                    break;
                }
                act => self.act(&run, act).await,
            };
        }
        self.remember_cluster(&run);
        self.take_logs(&mut run).await?;
        self.publish_run(&mut run).await?;
        self.look_for_logs(&run);
        match run.notices.is_empty() {
            true => Ok(next),
            false => {
                let retry = super::after(self.clock.now(), outbox::RETRY_AFTER);
                Ok(Some(next.map_or(retry, |next| next.min(retry))))
            }
        }
    }

    /// Decides and commits; what is returned may be done now.
    async fn decide_run(&self, run: &mut Run, observation: Observation) -> Result<Act, StoreError> {
        let before = run.clone();
        let decision = run.decide(observation, self.clock.now());
        if *run != before {
            let result = self.store.commit_run(run, &decision.changes).await;
            if matches!(result, Err(StoreError::Conflict(_))) {
                let kept = self.still_ours(run, decision.changes).await?;
                self.store.commit_run(run, &kept).await?;
                self.wake_tasks(kept.iter().map(|change| &change.key));
            } else {
                result?;
                self.wake_tasks(decision.changes.iter().map(|change| &change.key));
            }
            if run.state != before.state {
                let cluster = run.attempt().and_then(|attempt| attempt.cluster.as_deref());
                tracing::info!(run = run.id, cluster, state = run.state.name(), "run");
            }
        }
        Ok(decision.act)
    }

    /// The changes whose partitions still belong to the run. One that somebody
    /// removed or changed by hand must not keep the run from ending.
    async fn still_ours(
        &self,
        run: &Run,
        changes: Vec<TaskChange>,
    ) -> Result<Vec<TaskChange>, StoreError> {
        let mut kept = Vec::with_capacity(changes.len());
        for change in changes {
            let item = self.store.task(&change.key).await?;
            let ours = item.is_some_and(|item| {
                item.state == change.from && item.run.as_deref() == Some(run.id.as_str())
            });
            if ours {
                kept.push(change);
            } else {
                let (task, partition) = (&change.key.task, change.key.partition);
                tracing::warn!(
                    run = run.id, %task, %partition, to = change.to.name(),
                    "was changed by somebody else while it ran, left as it is"
                );
            }
        }
        Ok(kept)
    }

    async fn act(&self, run: &Run, act: Act) -> Observation {
        match act {
            Act::Rest(_) => Observation::Nothing,
            Act::Launch => {
                let send_by = run.attempt().map(|attempt| attempt.launch.send_by);
                Observation::Launched(match self.time_to_send(send_by) {
                    Some(within) => self.reported(run, self.emr.launch(run, within).await),
                    None => Err(too_late()),
                })
            }
            Act::LookUp => match self.emr.find(run).await {
                Ok(cluster) => Observation::LookedUp(cluster),
                Err(error) => not_seen(run, &error),
            },
            Act::Look { cluster, steps } => match self.emr.look(&cluster, steps).await {
                Ok(seen) => Observation::Seen(seen),
                Err(error) => not_seen(run, &error),
            },
            Act::AddSteps { cluster, tries } => {
                let adding = run.attempt().and_then(|attempt| attempt.adding.as_ref());
                Observation::Added(match self.time_to_send(adding.map(|adding| adding.send_by)) {
                    Some(within) => {
                        let added = self.emr.add_steps(run, &cluster, &tries, within).await;
                        self.reported(run, added)
                    }
                    None => Err(too_late()),
                })
            }
            Act::Terminate { cluster } => {
                Observation::Terminated(self.reported(run, self.emr.terminate(&cluster).await))
            }
        }
    }

    /// How long a call may still take, or None when its deadline has passed.
    fn time_to_send(&self, send_by: Option<Timestamp>) -> Option<Duration> {
        let left = send_by?.duration_since(self.clock.now());
        let left = self.clock.real_time(left);
        (!left.is_zero()).then(|| left.min(CALL_TIMEOUT_MAX))
    }

    fn reported<T>(&self, run: &Run, result: Result<T, CallFailure>) -> Result<T, CallFailure> {
        if let Err(failure) = &result {
            tracing::warn!(run = run.id, ?failure, "EMR call failed");
        }
        result
    }

    /// Keeps the cluster of an open run at hand for events about it.
    fn remember_cluster(&self, run: &Run) {
        let mut memory = self.memory();
        for cluster in run.attempts.iter().filter_map(|attempt| attempt.cluster.as_ref()) {
            if run.state.is_final() {
                memory.clusters.remove(cluster);
            } else {
                memory.clusters.insert(cluster.clone(), run.id.clone());
            }
        }
    }

    async fn publish_run(&self, run: &mut Run) -> Result<(), StoreError> {
        let published = self.publish(&run.notices).await;
        if published > 0 {
            run.notices.drain(..published);
            self.store.commit_run(run, &[]).await?;
        }
        Ok(())
    }
}

fn too_late() -> CallFailure {
    CallFailure::Deferred("its deadline passed before it was sent".to_owned())
}

fn not_seen(run: &Run, error: &crate::aws::AwsError) -> Observation {
    tracing::warn!(run = run.id, %error, "could not look, nothing follows from that");
    Observation::NotSeen
}
