//! What is known about a run's cluster besides what is stored: EMR's events
//! since the last look, and when that was. Hints only say where to look first
//! and whether at all; they live in memory, and without them a run looks at
//! its poll interval.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Observation, Run, StepState};

/// What an event of EMR says about a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The cluster runs steps.
    Running,
    /// The cluster is terminated.
    Ended,
    /// The step of this name runs.
    StepRunning(String),
    /// The step of this name is completed.
    StepCompleted(String),
    /// The step of this name has failed or was cancelled.
    StepStopped(String),
    /// Nothing that a run waits for, but it shows that events do come.
    Passing,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// Events of this cluster do come, so polling is only the safety net.
    pub heard: bool,
    /// What came since the last look that went well.
    pub events: BTreeSet<Event>,
    /// When EMR last told how the cluster or its steps are.
    pub looked: Option<Timestamp>,
    pub steps_read: Option<Timestamp>,
    /// TerminateJobFlows was due and has not gone through.
    pub unterminated: bool,
    /// Another replica makes the looks that nothing called for.
    pub spared: bool,
    /// A look was wanted and not had: the events that called for it are kept.
    pub owed: bool,
}

impl Hints {
    pub fn hear(&mut self, event: Event) {
        self.heard = true;
        if event != Event::Passing {
            self.events.insert(event);
        }
    }

    /// Takes over what an observation says about looking itself.
    pub fn learn(&mut self, observation: &Observation, now: Timestamp) {
        match observation {
            Observation::Surveyed(Some(_)) | Observation::Described(_) => self.looked = Some(now),
            Observation::Steps(_) => {
                self.looked = Some(now);
                self.steps_read = Some(now);
            }
            Observation::Terminated(result) => self.unterminated = result.is_err(),
            Observation::NotSeen | Observation::Postponed(_) => self.owed = true,
            _ => {}
        }
    }
}

impl Run {
    /// Takes an event at its word where nothing but words follow: what runs
    /// now, and that a step is over which others of its partition follow. The
    /// end of a partition is always read, and with it all its steps.
    pub(super) fn take_word(&mut self, event: &Event, now: Timestamp) {
        let (name, state) = match event {
            Event::Running => return self.take_running(now),
            Event::StepRunning(name) => (name, StepState::Running),
            Event::StepCompleted(name) if !self.has_to_read_steps(event) => {
                (name, StepState::Completed)
            }
            _ => return,
        };
        let tries = self.attempts.last_mut().map_or(&mut [][..], |attempt| &mut attempt.tries);
        let Some(step_try) = tries.iter_mut().find(|step_try| step_try.name == *name) else {
            return;
        };
        if step_try.state < state && !step_try.state.has_ended() {
            step_try.state = state;
            let at = if state == StepState::Running {
                &mut step_try.started
            } else {
                &mut step_try.ended
            };
            at.get_or_insert(now);
        }
    }

    /// Whether the steps have to be read because of this event. A completed
    /// step that others of its partition follow changes nothing yet, and what
    /// a failed step cancelled was seen with it.
    pub(super) fn has_to_read_steps(&self, event: &Event) -> bool {
        let (name, completed) = match event {
            Event::StepCompleted(name) => (name, true),
            Event::StepStopped(name) => (name, false),
            Event::Running | Event::Ended | Event::StepRunning(_) | Event::Passing => return false,
        };
        let tries = self.attempt().map_or(&[][..], |attempt| &attempt.tries);
        // An event without a name could mean any step, one with another name
        // is of a step that is not ours.
        let Some(step_try) = tries.iter().find(|step_try| step_try.name == *name) else {
            return name.is_empty();
        };
        let member = self.members.get(step_try.member);
        let last = member.is_none_or(|member| step_try.step + 1 >= member.steps.len());
        !step_try.state.has_ended() && (last || !completed)
    }
}
