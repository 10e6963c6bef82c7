//! The state machine of the local EMR, from the outside: all clusters and
//! every way to change them. Synchronous, no clock and no chance: a driver
//! passes in the time and how processes ended, and carries out the effects.
//! Not for which state follows which (`life`), nor for the wire (`api`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::events;
use super::model::{
    Cluster, ClusterState, Effect, Exit, Job, Now, Reason, ReasonCode, Step, StepState,
};
use super::request::{ActionOnFailure, AutoTerminationPolicy, RunJobFlow, StepConfig};
use crate::ids::Ids;

/// Steps of one cluster that may be pending or running at once.
pub const ACTIVE_STEPS_MAX: usize = 256;

/// How the machine behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Real time from the request to the start of bootstrapping.
    pub starting: SignedDuration,
    /// Least real time of bootstrapping; the actions may take longer.
    pub bootstrapping: SignedDuration,
    /// Real time from the decision to terminate to the end.
    pub terminating: SignedDuration,
    /// A failed step that ends its cluster leaves a plain TERMINATED with an
    /// empty reason, as EMR has been seen to do.
    pub plain_terminated_on_step_failure: bool,
    /// Entries of a list in one answer; EMR gives 50.
    pub page: usize,
    /// Identifiers follow from it.
    pub seed: u64,
}

/// Why the machine refuses a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no such cluster")]
    NoSuchCluster,
    #[error("no such step: {0}")]
    NoSuchStep(String),
    #[error("the cluster is shutting down or has ended")]
    Closing,
    #[error("the cluster is protected from termination")]
    Protected,
    #[error("too many active steps")]
    TooManySteps,
    #[error("steps that run concurrently must continue on failure")]
    MustContinue,
    #[error("this process is not running")]
    NotRunning,
}

/// What became of one step that was to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancellation {
    pub step: String,
    /// The state in which it could not be cancelled any more.
    pub refused: Option<StepState>,
}

/// All clusters, ended ones included.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    ids: Ids,
    clusters: BTreeMap<String, Cluster>,
    effects: Vec<Effect>,
}

impl Machine {
    pub fn new(settings: Settings) -> Self {
        Self {
            ids: Ids::new(settings.seed),
            settings,
            clusters: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// What is to be done since the last call, in order. To be taken under
    /// the same lock as the change, or orders may cross.
    #[must_use]
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Entries of a list in one answer.
    pub fn page(&self) -> usize {
        self.settings.page
    }

    pub fn cluster(&self, id: &str) -> Option<&Cluster> {
        self.clusters.get(id)
    }

    /// In the order of their ids.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// Whether time alone can still change something.
    pub fn is_at_rest(&self) -> bool {
        self.clusters().all(|cluster| cluster.state.has_ended())
    }

    /// Moves every cluster as far as time allows.
    pub fn tick(&mut self, now: Now) {
        for cluster in self.clusters.values_mut() {
            cluster.advance(now, &self.settings, &mut self.effects);
        }
    }

    /// Starts a cluster and returns its id. The request has been checked.
    pub fn run_job_flow(&mut self, mut request: RunJobFlow, now: Now) -> Result<String, Refusal> {
        let concurrent = request.step_concurrency_level.unwrap_or(1) > 1;
        check_steps(&request.steps, 0, concurrent)?;
        let id = self.next_id("j-");
        let steps = self.steps(std::mem::take(&mut request.steps), now);
        let tags = std::mem::take(&mut request.tags);
        let instances = &request.instances;
        let cluster = Cluster {
            id: id.clone(),
            number: self.clusters.len() as u64,
            state: ClusterState::Starting,
            reason: Reason::default(),
            created: now.dev,
            ready: None,
            ended: None,
            keep_alive: instances.keep_job_flow_alive_when_no_steps.unwrap_or(false),
            termination_protected: instances.termination_protected.unwrap_or(false),
            visible_to_all_users: request.visible_to_all_users.unwrap_or(true),
            tags: tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
            idle_timeout: idle_timeout(request.auto_termination_policy.as_ref()),
            steps,
            stage_ends: now.real + self.settings.starting,
            next_bootstrap_action: 0,
            jobs: BTreeSet::new(),
            idle_since: None,
            shutdown_at: None,
            ends_with_errors: false,
            request,
        };
        self.effects.push(events::cluster_changed(&cluster, now.dev));
        for step in &cluster.steps {
            self.effects.push(events::step_changed(&cluster, step, now.dev));
        }
        self.clusters.insert(id.clone(), cluster);
        Ok(id)
    }

    /// Adds steps to the end of the queue and returns their ids.
    pub fn add_steps(
        &mut self,
        id: &str,
        configs: Vec<StepConfig>,
        now: Now,
    ) -> Result<Vec<String>, Refusal> {
        let cluster = self.open_cluster(id)?;
        let active = cluster.steps.iter().filter(|step| step.state.is_active());
        check_steps(&configs, active.count(), cluster.step_concurrency() > 1)?;
        let steps = self.steps(configs, now);
        let ids = steps.iter().map(|step| step.id.clone()).collect();
        self.change(id, now, |cluster, effects| {
            for step in steps {
                effects.push(events::step_changed(cluster, &step, now.dev));
                cluster.steps.push(step);
            }
        })?;
        Ok(ids)
    }

    /// Pending steps are cancelled at once; running ones when their process
    /// has ended.
    pub fn cancel_steps(
        &mut self,
        id: &str,
        steps: &[String],
        force: bool,
        now: Now,
    ) -> Result<Vec<Cancellation>, Refusal> {
        let cluster = self.clusters.get(id).ok_or(Refusal::NoSuchCluster)?;
        if let Some(unknown) = steps.iter().find(|step| cluster.step(step).is_none()) {
            return Err(Refusal::NoSuchStep(unknown.clone()));
        }
        self.change(id, now, |cluster, effects| {
            steps
                .iter()
                .map(|step| Cancellation {
                    step: step.clone(),
                    refused: cluster.cancel(step, force, now.dev, effects).err(),
                })
                .collect()
        })
    }

    /// Ends the clusters, all or none of them; ended ones stay as they are.
    pub fn terminate(&mut self, ids: &[String], now: Now) -> Result<(), Refusal> {
        for id in ids {
            let cluster = self.clusters.get(id).ok_or(Refusal::NoSuchCluster)?;
            if cluster.termination_protected && !cluster.state.is_closing() {
                return Err(Refusal::Protected);
            }
        }
        for id in ids {
            let reason = Reason::new(ReasonCode::UserRequest, "Terminated by user request");
            self.end_cluster(id, reason, false, now)?;
        }
        Ok(())
    }

    /// Ends a cluster for a reason of its own, such as lost instances or no
    /// capacity, as AWS would; protection does not hold it.
    pub fn fail_cluster(&mut self, id: &str, reason: Reason, now: Now) -> Result<(), Refusal> {
        self.end_cluster(id, reason, true, now)
    }

    fn end_cluster(
        &mut self,
        id: &str,
        reason: Reason,
        with_errors: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        let terminating = self.settings.terminating;
        self.change(id, now, |cluster, effects| {
            if !cluster.state.is_closing() {
                cluster.terminate(reason, with_errors, terminating, now, effects);
            }
        })
    }

    /// The primary node was told to power off at an instant of the
    /// development clock; `None` takes the order back.
    pub fn schedule_shutdown(
        &mut self,
        id: &str,
        at: Option<Timestamp>,
        now: Now,
    ) -> Result<(), Refusal> {
        self.change(id, now, |cluster, _| cluster.shutdown_at = at)
    }

    /// Changes what no transition follows from at once, such as tags.
    pub fn update(
        &mut self,
        id: &str,
        now: Now,
        apply: impl FnOnce(&mut Cluster),
    ) -> Result<(), Refusal> {
        self.change(id, now, |cluster, _| apply(cluster))
    }

    /// A process has ended.
    pub fn process_exited(
        &mut self,
        id: &str,
        job: &Job,
        exit: Exit,
        now: Now,
    ) -> Result<(), Refusal> {
        let cluster = self.clusters.get_mut(id).ok_or(Refusal::NoSuchCluster)?;
        if !cluster.jobs.remove(job) {
            return Err(Refusal::NotRunning);
        }
        let (settings, effects) = (&self.settings, &mut self.effects);
        match job {
            Job::BootstrapAction(index) => {
                cluster.bootstrap_action_ended(*index, &exit, settings, now, effects);
            }
            Job::Step(step) => cluster.step_ended(step, exit, settings, now, effects),
        }
        cluster.advance(now, settings, effects);
        Ok(())
    }

    /// A cluster that still accepts changes.
    pub fn open_cluster(&self, id: &str) -> Result<&Cluster, Refusal> {
        match self.clusters.get(id) {
            None => Err(Refusal::NoSuchCluster),
            Some(cluster) if cluster.state.is_closing() => Err(Refusal::Closing),
            Some(cluster) => Ok(cluster),
        }
    }

    fn change<T>(
        &mut self,
        id: &str,
        now: Now,
        apply: impl FnOnce(&mut Cluster, &mut Vec<Effect>) -> T,
    ) -> Result<T, Refusal> {
        let cluster = self.clusters.get_mut(id).ok_or(Refusal::NoSuchCluster)?;
        let answer = apply(cluster, &mut self.effects);
        cluster.advance(now, &self.settings, &mut self.effects);
        Ok(answer)
    }

    fn steps(&self, configs: Vec<StepConfig>, now: Now) -> Vec<Step> {
        configs
            .into_iter()
            .map(|config| Step {
                id: self.next_id("s-"),
                name: config.name,
                jar: config.hadoop_jar_step,
                action_on_failure: config
                    .action_on_failure
                    .unwrap_or(ActionOnFailure::TerminateCluster),
                state: StepState::Pending,
                created: now.dev,
                started: None,
                ended: None,
                failure: None,
            })
            .collect()
    }

    /// Thirteen upper-case letters and digits after the prefix, as on EMR.
    fn next_id(&self, prefix: &str) -> String {
        const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut rest = self.ids.hex().bytes().fold(0u128, |number, digit| {
            let value = char::from(digit).to_digit(16).unwrap_or_default();
            (number << 4) | u128::from(value)
        });
        let mut id = String::from(prefix);
        for _ in 0..13 {
            id.push(char::from(DIGITS[(rest % 36) as usize]));
            rest /= 36;
        }
        id
    }
}

/// The idle time-out in its policy, if there is one.
pub fn idle_timeout(policy: Option<&AutoTerminationPolicy>) -> Option<SignedDuration> {
    policy.and_then(|policy| policy.idle_timeout).map(SignedDuration::from_secs)
}

fn check_steps(configs: &[StepConfig], active: usize, concurrent: bool) -> Result<(), Refusal> {
    if active + configs.len() > ACTIVE_STEPS_MAX {
        return Err(Refusal::TooManySteps);
    }
    let continues = |step: &StepConfig| step.action_on_failure == Some(ActionOnFailure::Continue);
    if concurrent && !configs.iter().all(continues) {
        return Err(Refusal::MustContinue);
    }
    Ok(())
}
