//! The life of one cluster: which state follows from which, and why. Part of
//! the state machine, and as free of clocks and I/O. Not for finding clusters
//! or handing out ids: that is in `machine`.

use jiff::{SignedDuration, Timestamp};

use super::events;
use super::machine::Settings;
use super::model::{
    Cluster, ClusterState, Effect, Exit, FailureDetails, Job, Now, Reason, ReasonCode, Step,
    StepState,
};
use super::request::ActionOnFailure;

impl Cluster {
    pub(super) fn advance(&mut self, now: Now, settings: &Settings, effects: &mut Vec<Effect>) {
        loop {
            let before = self.state;
            let stage_over = now.real >= self.stage_ends;
            let shut_down = self.shutdown_at.is_some_and(|at| at <= now.dev);
            match self.state {
                ClusterState::Starting if stage_over => {
                    self.stage_ends = now.real + settings.bootstrapping;
                    self.enter(ClusterState::Bootstrapping, now.dev, effects);
                }
                ClusterState::Bootstrapping | ClusterState::Running | ClusterState::Waiting
                    if shut_down =>
                {
                    let reason = Reason::new(
                        ReasonCode::InstanceFailure,
                        "The master node was shut down from within.",
                    );
                    self.terminate(reason, true, settings.terminating, now, effects);
                }
                ClusterState::Bootstrapping => self.bootstrap(stage_over, now.dev, effects),
                ClusterState::Running | ClusterState::Waiting => {
                    self.schedule(settings, now, effects);
                }
                ClusterState::Terminating if stage_over && self.jobs.is_empty() => {
                    self.ended = Some(now.dev);
                    effects.push(Effect::Release { cluster: self.id.clone() });
                    let end = if self.ends_with_errors {
                        ClusterState::TerminatedWithErrors
                    } else {
                        ClusterState::Terminated
                    };
                    self.enter(end, now.dev, effects);
                }
                ClusterState::Starting
                | ClusterState::Terminating
                | ClusterState::Terminated
                | ClusterState::TerminatedWithErrors => {}
            }
            if self.state == before {
                return;
            }
        }
    }

    fn enter(&mut self, state: ClusterState, now: Timestamp, effects: &mut Vec<Effect>) {
        self.state = state;
        effects.push(events::cluster_changed(self, now));
    }

    fn run(&mut self, job: Job, effects: &mut Vec<Effect>) {
        self.jobs.insert(job.clone());
        effects.push(Effect::Run { cluster: self.id.clone(), job });
    }

    /// The actions run one after the other; then the cluster is ready.
    fn bootstrap(&mut self, stage_over: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.jobs.is_empty() {
            return;
        }
        if self.next_bootstrap_action < self.request.bootstrap_actions.len() {
            self.run(Job::BootstrapAction(self.next_bootstrap_action), effects);
            self.next_bootstrap_action += 1;
        } else if stage_over {
            self.ready = Some(now);
            self.enter(ClusterState::Running, now, effects);
        }
    }

    /// Starts what may start; with nothing left, waits or terminates.
    fn schedule(&mut self, settings: &Settings, now: Now, effects: &mut Vec<Effect>) {
        while self.jobs.len() < self.step_concurrency() {
            let pending = |step: &Step| step.state == StepState::Pending;
            let Some(index) = self.steps.iter().position(pending) else {
                break;
            };
            self.steps[index].started = Some(now.dev);
            self.set_step(index, StepState::Running, now.dev, effects);
            self.run(Job::Step(self.steps[index].id.clone()), effects);
        }
        if !self.jobs.is_empty() {
            self.idle_since = None;
            if self.state != ClusterState::Running {
                self.enter(ClusterState::Running, now.dev, effects);
            }
            return;
        }
        if !self.keep_alive {
            let failed = |step: &Step| step.state == StepState::Failed;
            let message = if self.steps.iter().any(failed) {
                "Steps completed with errors"
            } else {
                "Steps completed"
            };
            let reason = Reason::new(ReasonCode::AllStepsCompleted, message);
            self.terminate(reason, false, settings.terminating, now, effects);
            return;
        }
        let since = *self.idle_since.get_or_insert(now.dev);
        if self.state != ClusterState::Waiting {
            self.enter(ClusterState::Waiting, now.dev, effects);
        }
        let idle = now.dev.duration_since(since);
        // Protection holds a cluster against this policy too.
        if !self.termination_protected && self.idle_timeout.is_some_and(|limit| idle >= limit) {
            let reason = Reason::new(
                ReasonCode::UserRequest,
                "Terminated by the auto-termination policy: the cluster was idle",
            );
            self.terminate(reason, false, settings.terminating, now, effects);
        }
    }

    pub(super) fn terminate(
        &mut self,
        reason: Reason,
        with_errors: bool,
        terminating: SignedDuration,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.reason = reason;
        self.ends_with_errors = with_errors;
        self.stage_ends = now.real + terminating;
        self.enter(ClusterState::Terminating, now.dev, effects);
        self.cancel_pending(now.dev, effects);
        for job in &self.jobs {
            effects.push(Effect::Kill { cluster: self.id.clone(), job: job.clone(), force: true });
        }
    }

    fn cancel_pending(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for index in 0..self.steps.len() {
            if self.steps[index].state == StepState::Pending {
                self.end_step(index, StepState::Cancelled, now, effects);
            }
        }
    }

    fn set_step(
        &mut self,
        index: usize,
        state: StepState,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.steps[index].state = state;
        effects.push(events::step_changed(self, &self.steps[index], now));
    }

    fn end_step(
        &mut self,
        index: usize,
        state: StepState,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.steps[index].ended = Some(now);
        self.set_step(index, state, now, effects);
    }

    /// Refuses with the state of a step that has ended already.
    pub(super) fn cancel(
        &mut self,
        id: &str,
        force: bool,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), StepState> {
        let Some(index) = self.steps.iter().position(|step| step.id == id) else {
            return Ok(());
        };
        match self.steps[index].state {
            StepState::Pending => self.end_step(index, StepState::Cancelled, now, effects),
            StepState::Running | StepState::CancelPending => {
                if self.steps[index].state == StepState::Running {
                    self.set_step(index, StepState::CancelPending, now, effects);
                }
                effects.push(Effect::Kill {
                    cluster: self.id.clone(),
                    job: Job::Step(id.to_owned()),
                    force,
                });
            }
            state @ (StepState::Completed
            | StepState::Cancelled
            | StepState::Failed
            | StepState::Interrupted) => return Err(state),
        }
        Ok(())
    }

    pub(super) fn bootstrap_action_ended(
        &mut self,
        index: usize,
        exit: &Exit,
        settings: &Settings,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if exit.code == 0 || self.state.is_closing() {
            return;
        }
        let message = format!(
            "On the master instance, bootstrap action {} returned a non-zero return code",
            index + 1
        );
        let reason = Reason::new(ReasonCode::BootstrapFailure, message);
        self.terminate(reason, true, settings.terminating, now, effects);
    }

    pub(super) fn step_ended(
        &mut self,
        id: &str,
        exit: Exit,
        settings: &Settings,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.steps.iter().position(|step| step.id == id) else {
            return;
        };
        if exit.code == 0 {
            self.end_step(index, StepState::Completed, now.dev, effects);
        } else if self.steps[index].state == StepState::CancelPending {
            self.end_step(index, StepState::Cancelled, now.dev, effects);
        } else if self.state.is_closing() {
            self.end_step(index, StepState::Interrupted, now.dev, effects);
        } else {
            let log_file = self.log_file(id);
            self.steps[index].failure = Some(FailureDetails {
                reason: "Unknown Error.".to_owned(),
                message: exit.message,
                log_file,
            });
            self.end_step(index, StepState::Failed, now.dev, effects);
            self.step_failed(index, settings, now, effects);
        }
    }

    fn step_failed(
        &mut self,
        index: usize,
        settings: &Settings,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        // Protection turns "terminate" into "cancel and wait", unless the
        // cluster would end by itself anyway.
        let held = self.termination_protected && self.keep_alive;
        match self.steps[index].action_on_failure {
            ActionOnFailure::Continue => {}
            ActionOnFailure::CancelAndWait => self.cancel_pending(now.dev, effects),
            ActionOnFailure::TerminateCluster | ActionOnFailure::TerminateJobFlow if held => {
                self.cancel_pending(now.dev, effects);
            }
            ActionOnFailure::TerminateCluster | ActionOnFailure::TerminateJobFlow => {
                let plain = settings.plain_terminated_on_step_failure;
                let reason = if plain {
                    Reason::default()
                } else {
                    Reason::new(ReasonCode::StepFailure, "Shut down as step failed")
                };
                self.terminate(reason, !plain, settings.terminating, now, effects);
            }
        }
    }

    /// Where the step's standard error will be found.
    fn log_file(&self, step: &str) -> Option<String> {
        let uri = self.request.log_uri.as_deref()?.trim_end_matches('/');
        Some(format!("{uri}/{}/steps/{step}/stderr.gz", self.id))
    }
}

#[cfg(test)]
mod tests;
