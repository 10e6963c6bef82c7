//! Whether the service lives and whether it can do its work: what it last
//! heard of its queue and its tables. Not for what it measures (`metrics`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::metrics::AgendaGlance;

/// A loop that has not come round for so long hangs: more than any call to AWS
/// may take with its retries.
const HANGS_AFTER: Duration = Duration::from_secs(300);
/// A long poll takes 20 s.
const INBOX_SILENT_MAX: Duration = Duration::from_secs(120);

/// What the loops report of themselves and of what they need.
#[derive(Debug)]
pub struct Health {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// When the inbox's loop last came round, and the engine last ended a turn.
    inbox_round: Timestamp,
    turn: Timestamp,
    inbox: Contact,
    tables: Contact,
}

/// The last that was heard of something.
#[derive(Debug, Default)]
struct Contact {
    answered: Option<Timestamp>,
    /// Why it does not answer now.
    failure: Option<String>,
}

impl Contact {
    fn take(&mut self, result: Result<(), String>, now: Timestamp) {
        match result {
            Ok(()) => *self = Self { answered: Some(now), failure: None },
            Err(failure) => self.failure = Some(failure),
        }
    }

    fn problem(&self, what: &str) -> Option<String> {
        match (&self.failure, self.answered) {
            (Some(failure), _) => Some(format!("{what}: {failure}")),
            (None, None) => Some(format!("{what}: no answer yet")),
            (None, Some(_)) => None,
        }
    }
}

impl Health {
    pub fn new(now: Timestamp) -> Self {
        let inner = Inner {
            inbox_round: now,
            turn: now,
            inbox: Contact::default(),
            tables: Contact::default(),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// The inbox's loop came round; so the queue answered.
    pub fn inbox(&self, result: Result<(), String>, now: Timestamp) {
        let mut inner = self.inner();
        inner.inbox_round = now;
        inner.inbox.take(result, now);
    }

    /// A sweep of the tables ended so.
    pub fn tables(&self, result: Result<(), String>, now: Timestamp) {
        self.inner().tables.take(result, now);
    }

    /// The engine ended a turn.
    pub fn turned(&self, now: Timestamp) {
        self.inner().turn = now;
    }

    /// What keeps the service from its work; empty when it is ready.
    pub fn not_ready(&self, clock: &Clock) -> Vec<String> {
        let inner = self.inner();
        let mut problems: Vec<_> =
            [inner.inbox.problem("the queue"), inner.tables.problem("the tables")]
                .into_iter()
                .flatten()
                .collect();
        let silent = inner.inbox.answered.map(|at| clock.real_time(clock.now().duration_since(at)));
        if problems.is_empty() && silent.is_some_and(|silent| silent > INBOX_SILENT_MAX) {
            problems.push("the queue: no answer for more than two minutes".to_owned());
        }
        problems
    }

    /// Which loops hang; empty when all live.
    pub fn hanging(&self, agenda: AgendaGlance, clock: &Clock) -> Vec<&'static str> {
        let inner = self.inner();
        let since = |at: Timestamp| clock.real_time(clock.now().duration_since(at));
        let mut hanging = Vec::new();
        if since(inner.inbox_round) > HANGS_AFTER {
            hanging.push("the inbox");
        }
        // Without anything due there is nothing to turn about.
        if since(inner.turn) > HANGS_AFTER && clock.real_time(agenda.lag) > HANGS_AFTER {
            hanging.push("the engine");
        }
        hanging
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nobody panics while holding it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    const IDLE: AgendaGlance = AgendaGlance { length: 0, lag: SignedDuration::ZERO };

    #[test]
    fn is_ready_once_both_have_answered_and_while_they_do() {
        let clock = Clock::real();
        let now = clock.now();
        let health = Health::new(now);
        assert_eq!(health.not_ready(&clock).len(), 2);
        health.inbox(Ok(()), now);
        assert_eq!(health.not_ready(&clock), ["the tables: no answer yet"]);
        health.tables(Ok(()), now);
        assert!(health.not_ready(&clock).is_empty());
        health.inbox(Err("it is gone".into()), now);
        assert_eq!(health.not_ready(&clock), ["the queue: it is gone"]);
        health.inbox(Ok(()), now);
        assert!(health.not_ready(&clock).is_empty());
        health.inbox(Ok(()), now - SignedDuration::from_mins(3));
        assert_eq!(health.not_ready(&clock), ["the queue: no answer for more than two minutes"]);
    }

    #[test]
    fn a_loop_that_does_not_come_round_hangs() {
        let clock = Clock::real();
        let long_ago = clock.now() - SignedDuration::from_mins(6);
        let health = Health::new(long_ago);
        assert_eq!(health.hanging(IDLE, &clock), ["the inbox"]);
        let late = AgendaGlance { length: 1, lag: SignedDuration::from_mins(6) };
        assert_eq!(health.hanging(late, &clock), ["the inbox", "the engine"]);
        health.inbox(Err("down".into()), clock.now());
        health.turned(clock.now());
        assert!(health.hanging(late, &clock).is_empty(), "a failing queue is no hanging loop");
    }
}
