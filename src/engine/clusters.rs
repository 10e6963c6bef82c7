//! What is remembered of clusters: whose they are, and what EMR's events said
//! since their run last looked. All of it can be lost.

use super::{Engine, Key};
use crate::core::run::{Event, Hints, Run};

/// How many clusters of nobody known are remembered: an event can be faster
/// than the answer to the call that created its cluster.
const STRANGERS_MAX: usize = 1_000;

/// How many events of such a cluster are remembered: others' clusters may live
/// for ever and run steps all the time.
const STRANGERS_EVENTS_MAX: usize = 100;

/// An event of EMR about a cluster or one of its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    pub cluster: String,
    pub event: Event,
}

/// What is remembered of one cluster.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// None while no run is known to own it.
    run: Option<String>,
    hints: Hints,
}

impl Watch {
    fn hear(&mut self, event: Event) {
        let is_full = self.run.is_none() && self.hints.events.len() >= STRANGERS_EVENTS_MAX;
        self.hints.hear(if is_full { Event::Passing } else { event });
    }
}

impl Engine {
    /// Something happened to a cluster: its run looks at once, if that may
    /// matter to it.
    pub fn cluster_changed(&self, event: &ClusterEvent) {
        let mut memory = self.memory();
        if !memory.clusters.contains_key(&event.cluster) {
            let strangers = memory.clusters.values().filter(|watch| watch.run.is_none()).count();
            if strangers >= STRANGERS_MAX {
                memory.clusters.retain(|_, watch| watch.run.is_some());
            }
        }
        let watch = memory.clusters.entry(event.cluster.clone()).or_default();
        watch.hear(event.event.clone());
        let run = watch.run.clone().filter(|_| event.event != Event::Passing);
        drop(memory);
        if let Some(run) = run {
            self.agenda.wake(Key::Run(run), self.clock.now());
        }
    }

    pub(super) fn hints(&self, run: &Run) -> Hints {
        let memory = self.memory();
        let cluster = run.attempt().and_then(|attempt| attempt.cluster.as_ref());
        let watch = cluster.and_then(|cluster| memory.clusters.get(cluster));
        let hints = watch.map(|watch| watch.hints.clone()).unwrap_or_default();
        // What a start finds is looked at once, whoever has the lease: it may
        // be that of a process that is gone.
        let found = run.created < self.started && hints.looked.is_none();
        Hints { spared: !memory.holds_lease && !found, found, ..hints }
    }

    /// Keeps what a turn has learnt about the cluster of an open run. The
    /// events that it began with are dealt with, unless a look is still owed or
    /// EMR's answers lag behind them.
    pub(super) fn remember(&self, run: &Run, hints: Hints) {
        let mut memory = self.memory();
        let over = run.attempts.len().saturating_sub(usize::from(!run.state.is_final()));
        let refused = run.attempts.iter().flat_map(|attempt| &attempt.refused);
        let past = run.attempts.iter().take(over).filter_map(|past| past.cluster.as_ref());
        for cluster in past.chain(refused) {
            memory.clusters.remove(cluster);
        }
        if run.state.is_final() {
            memory.survey.forget(&run.id);
            return;
        }
        let Some(cluster) = run.attempt().and_then(|attempt| attempt.cluster.clone()) else {
            return;
        };
        let watch = memory.clusters.entry(cluster).or_default();
        watch.run = Some(run.id.clone());
        let came = std::mem::take(&mut watch.hints.events);
        let is_news = !came.is_subset(&hints.events);
        let heard = watch.hints.heard;
        watch.hints = Hints { heard, ..hints.after_turn(run, &came) };
        drop(memory);
        if is_news {
            self.agenda.wake(Key::Run(run.id.clone()), self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_others_are_not_remembered_for_ever() {
        let mut watch = Watch::default();
        let step = |number| Event::StepCompleted(format!("{number}"));
        (0..9_999).for_each(|number| watch.hear(step(number)));
        assert_eq!(watch.hints.events.len(), STRANGERS_EVENTS_MAX);
        // What is ours forgets by its looks.
        watch.run = Some("R".to_owned());
        watch.hear(step(10_000));
        assert!(watch.hints.events.contains(&step(10_000)));
    }
}
