//! What is known about a run's cluster besides what is stored: EMR's events
//! since the last look, and when that was. Hints only say where to look first
//! and whether at all; they live in memory, and without them a run looks at
//! its poll interval.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

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
    /// What came since the last look that went well, and what EMR does not
    /// show yet.
    pub events: BTreeSet<Event>,
    /// When EMR last told how the cluster or its steps are.
    pub looked: Option<Timestamp>,
    pub steps_read: Option<Timestamp>,
    /// TerminateJobFlows was due and has not gone through.
    pub unterminated: bool,
    /// Another replica makes the looks that nothing called for.
    pub spared: bool,
    /// The process is younger than the run and has not looked at it yet.
    pub found: bool,
    /// A look was wanted and not had: the events that called for it are kept.
    pub owed: bool,
    /// EMR does not show yet what an event said: not to be asked before this.
    pub look_again: Option<Timestamp>,
    /// How often it was asked in vain.
    pub in_vain: u32,
    /// Its steps were read in this turn.
    pub steps_fresh: bool,
    /// Its cluster was seen in this turn.
    pub state_fresh: bool,
}

/// EMR's lists lag behind its events by seconds; after the nth look in vain.
fn lag_delay(in_vain: u32) -> SignedDuration {
    SignedDuration::from_secs(1 << in_vain.min(9))
}

impl Hints {
    pub fn hear(&mut self, event: Event) {
        self.heard = true;
        if event != Event::Passing && self.events.insert(event) {
            self.look_again = None;
        }
    }

    /// Takes over what an observation says about looking itself.
    pub fn learn(&mut self, observation: &Observation, now: Timestamp) {
        match observation {
            Observation::Surveyed(Some(_)) | Observation::Described(_) => {
                self.looked = Some(now);
                self.state_fresh = true;
            }
            Observation::Steps(_) => {
                self.looked = Some(now);
                self.steps_read = Some(now);
                self.steps_fresh = true;
            }
            Observation::Terminated(result) => self.unterminated = result.is_err(),
            Observation::NotSeen | Observation::Postponed(_) => self.owed = true,
            _ => {}
        }
        // Several looks of one turn count as one.
        if self.looked == Some(now) && self.may_look_for_events(now) {
            self.look_again = now.checked_add(lag_delay(self.in_vain)).ok();
            self.in_vain = self.in_vain.saturating_add(1);
        }
    }

    /// Whether a list of clusters that was begun then may say something new: one
    /// that is older than the last look does not. A look of the future is from
    /// before the clock was put back, and says nothing about that.
    pub fn is_news(&self, began: Timestamp, now: Timestamp) -> bool {
        self.looked.is_none_or(|looked| began >= looked || looked > now)
    }

    /// Whether EMR may be asked for what events said.
    pub(super) fn may_look_for_events(&self, now: Timestamp) -> bool {
        self.look_again.is_none_or(|at| at <= now)
    }

    /// What is remembered after a turn that began with these hints; `came` are
    /// all events by now. An event is dropped when its look was had and EMR
    /// shows what it says.
    #[must_use]
    pub fn after_turn(mut self, run: &Run, came: &BTreeSet<Event>) -> Self {
        (self.steps_fresh, self.state_fresh) = (false, false);
        let news: Vec<_> = came.difference(&self.events).cloned().collect();
        if !std::mem::take(&mut self.owed) {
            self.events.retain(|event| run.is_unseen(event));
            if self.events.is_empty() {
                self.in_vain = 0;
                self.look_again = None;
            }
        }
        news.into_iter().for_each(|event| self.hear(event));
        self
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

    /// Whether a look has yet to show what an event says.
    pub(super) fn is_unseen(&self, event: &Event) -> bool {
        match event {
            Event::Ended => {
                let state = self.attempt().and_then(|attempt| attempt.cluster_state);
                state.is_some_and(|state| !state.has_ended())
            }
            Event::StepCompleted(name) | Event::StepStopped(name) => {
                // Without a name nothing tells when it is seen.
                let working = self.is_working() && !name.is_empty();
                working && self.has_to_read_steps(event)
            }
            Event::Running | Event::StepRunning(_) | Event::Passing => false,
        }
    }
}
