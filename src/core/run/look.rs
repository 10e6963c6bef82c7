//! When and where a run looks: as seldom as its correctness allows, because
//! every look costs a call of a small quota. The cluster's state comes from the
//! survey that all runs share; steps are read only when something must have
//! changed. Not for what follows from what was seen: that is `follow` and
//! `decide`.

use jiff::{SignedDuration, Timestamp};

use super::hints::{Event, Hints};
use super::{Act, Attempt, ClusterSeen, ClusterState, Decision, Run, RunState};
use crate::core::class::FailureClass;
use crate::planted::{Bug, planted};

/// The first instant after `from` on a grid that is the same for all runs, so
/// that they ask in the same moment and share a survey.
fn on_the_grid(from: Timestamp, interval: SignedDuration) -> Timestamp {
    let step = interval.as_nanos().max(1);
    let next = (from.as_nanosecond().div_euclid(step) + 1).saturating_mul(step);
    Timestamp::from_nanosecond(next).unwrap_or(Timestamp::MAX)
}

impl Run {
    /// The start of a turn of a run whose cluster is known.
    pub(super) fn look_first(&mut self, hints: &Hints, now: Timestamp) -> Act {
        hints.events.iter().for_each(|event| self.take_word(event, now));
        let Some(attempt) = self.attempts.last() else { return Act::Rest(None) };
        let Some(cluster) = attempt.cluster.clone() else { return Act::Rest(None) };
        let ended = attempt.cluster_state.is_some_and(ClusterState::has_ended);
        let working = self.is_working();
        let may_look = hints.may_look_for_events(now);
        let told = |event: &Event| may_look && self.has_to_read_steps(event);
        let told_of_end = may_look && hints.events.contains(&Event::Ended);
        let due = !hints.spared && now >= self.look_due(hints);
        let repeats_terminating = !working && hints.unterminated && !planted(Bug::TerminatedOnce);
        let unwanted = self.is_to_be_ended() || self.is_given_up();
        if unwanted && !ended && self.state != RunState::Terminating {
            // That needs no look.
            self.terminate(hints, now)
        } else if repeats_terminating && !(attempt.unterminated && (told_of_end || due)) {
            // One that EMR will not terminate may have ended by itself: that is looked for.
            Act::Terminate { cluster }
        } else if working && ended {
            Act::ReadSteps { cluster, spare: false }
        } else if working && (self.has_outlived(now) || self.is_overdue(hints, now)) {
            Act::Describe { cluster }
        } else if told_of_end {
            Act::Survey
        } else if working && hints.events.iter().any(told) {
            Act::ReadSteps { cluster, spare: false }
        } else if due || self.repeats_adding(attempt, now) {
            Act::Survey
        } else if working {
            self.go_on(hints, now)
        } else {
            Act::Rest(Some(self.next_look(hints, now)))
        }
    }

    /// The cluster was seen; `certain` when it was described just now, while a
    /// survey may have begun before what is stored.
    pub(super) fn cluster_seen(
        &mut self,
        seen: &ClusterSeen,
        certain: bool,
        hints: &Hints,
        now: Timestamp,
    ) -> Decision {
        self.take_cluster(seen, now);
        let changes = if certain && !self.is_cluster_ending() && !self.is_given_up() {
            self.end_members(true, now)
        } else {
            Vec::new()
        };
        match self.steps_to_read(hints, now) {
            Some(act) => Decision { act, changes },
            None => self.proceed(changes, hints, now),
        }
    }

    /// The steps decide what follows from the cluster's state: steps read after
    /// it was seen ended are final.
    fn steps_to_read(&self, hints: &Hints, now: Timestamp) -> Option<Act> {
        let attempt = self.attempts.last()?;
        let cluster = attempt.cluster.clone()?;
        if !self.is_working() || self.is_done() {
            return None;
        }
        let open = attempt.tries.iter().filter(|step_try| !step_try.state.has_ended()).count();
        let needed = match attempt.cluster_state {
            Some(state) if state.has_ended() => true,
            Some(ClusterState::Waiting) if open > 0 => true,
            _ => {
                attempt.adding.is_some()
                    || now >= attempt.expires
                    || self.is_overdue(hints, now)
                    || self.submission_to_settle().is_some()
            }
        };
        // A step that is not the last changes no state of the cluster. Without
        // events nothing tells that the first step runs.
        let read = hints.steps_read.unwrap_or(attempt.opened);
        let spare = open > 1 && now.duration_since(read) >= self.limits.steps_interval;
        let running = attempt.cluster_state == Some(ClusterState::Running);
        let first = open > 0 && running && !hints.heard && hints.steps_read.is_none();
        (needed || spare || first).then_some(Act::ReadSteps { cluster, spare: !needed })
    }

    /// A submission whose outcome is unknown, or that was refused for now, is
    /// repeated only after a look.
    fn repeats_adding(&self, attempt: &Attempt, now: Timestamp) -> bool {
        attempt.adding.as_ref().is_some_and(|adding| now >= self.repeat_at(adding))
    }

    pub(super) fn is_cluster_ending(&self) -> bool {
        let state = self.attempts.last().and_then(|attempt| attempt.cluster_state);
        state.is_some_and(ClusterState::is_ending)
    }

    pub(super) fn describe(&self) -> Act {
        match self.attempts.last().and_then(|attempt| attempt.cluster.clone()) {
            Some(cluster) => Act::Describe { cluster },
            None => Act::Rest(None),
        }
    }

    /// Whether its cluster's lifetime is over.
    pub(super) fn has_outlived(&self, now: Timestamp) -> bool {
        let over = self.attempts.last().is_some_and(|attempt| now >= attempt.expires);
        over && !planted(Bug::LifetimeIgnored)
    }

    /// When the state is to be read although nothing happened.
    fn look_due(&self, hints: &Hints) -> Timestamp {
        if hints.found && hints.looked.is_none() {
            return Timestamp::MIN;
        }
        let opened = self.attempts.last().map_or(self.created, |attempt| attempt.opened);
        self.look_after(hints.looked.unwrap_or(opened), hints)
    }

    fn look_after(&self, looked: Timestamp, hints: &Hints) -> Timestamp {
        if planted(Bug::LooksOnlyByEvents) {
            return Timestamp::MAX;
        }
        let poll = self.limits.poll_interval;
        if !hints.heard {
            return on_the_grid(looked, poll);
        }
        // Half of it at least, or short runs would often pay for a look that
        // the grid happens to put between their events.
        let interval = poll.max(self.limits.poll_interval_with_events);
        let least = looked.saturating_add(interval / 2).unwrap_or(Timestamp::MAX);
        on_the_grid(least, interval)
    }

    /// The next look without another event, but never past a deadline.
    pub(super) fn next_look(&self, hints: &Hints, now: Timestamp) -> Timestamp {
        let due = self.look_due(hints);
        let due = if due > now { due } else { self.look_after(now, hints) };
        let unseen = hints.events.iter().any(|event| self.is_unseen(event));
        let again = hints.look_again.filter(|again| unseen && *again > now);
        let steps = self.unseen_until(hints).filter(|steps| *steps > now);
        self.within_deadlines(again.into_iter().chain(steps).fold(due, Timestamp::min), now)
    }

    /// After something failed: soon, events or not.
    pub(super) fn look_soon(&self, now: Timestamp) -> Timestamp {
        self.within_deadlines(on_the_grid(now, self.limits.poll_interval), now)
    }

    /// The instant, but not past the end of a lifetime or a time-out that is not over
    /// yet.
    pub fn within_deadlines(&self, at: Timestamp, now: Timestamp) -> Timestamp {
        let attempt = self.attempts.last().filter(|attempt| attempt.cluster.is_some());
        let expires = attempt.map(|attempt| attempt.expires);
        let deadlines = expires.into_iter().chain(self.overdue_at());
        deadlines.filter(|deadline| *deadline > now).fold(at, Timestamp::min)
    }

    /// The cluster cannot be looked at. Nothing follows for its work, but its
    /// lifetime holds, and so does the wish to end it: terminating needs no look.
    pub(super) fn not_seen(&mut self, now: Timestamp) -> Decision {
        let soon = self.look_soon(now);
        let ending = self.is_cluster_ending();
        let Some(attempt) = self.attempts.last_mut() else { return Decision::rest_until(soon) };
        let over = now >= attempt.expires;
        let refused = attempt.unterminated && !ending;
        let Some(cluster) = attempt.cluster.clone().filter(|_| over || refused) else {
            return Decision::rest_until(soon);
        };
        if over && !std::mem::replace(&mut attempt.unseen_at_end, true) {
            self.tell_not_seen(now);
        }
        Decision::act(Act::Terminate { cluster })
    }

    /// EMR knows no such cluster: it forgets those that ended long ago, and shows a new
    /// one late. Only when its lifetime is over nothing of it can be left, and nobody
    /// will ever know how its steps ended.
    pub(super) fn absent(&mut self, now: Timestamp) -> Decision {
        if !self.has_outlived(now) {
            return self.not_seen(now);
        }
        let Some(cluster) = self.attempts.last().and_then(|attempt| attempt.cluster.as_deref())
        else {
            return self.not_seen(now);
        };
        let reason = format!(
            "EMR does not know its cluster {cluster} any more, so how its steps ended cannot be known"
        );
        let advice = "look whether its outputs are whole before it is run again";
        let changes = self.fail_open(FailureClass::External, &reason, advice, now);
        self.close(changes, now)
    }
}
