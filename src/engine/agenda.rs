//! What has to be looked at, and when: a queue by time in which every key
//! stands once, so that it is bounded by what exists. One key is never worked
//! on twice at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Key;
use crate::clock::Clock;
use crate::metrics::AgendaGlance;

/// After failures: 0.5 s, 1 s, … up to a minute, half of it random.
const BACKOFF_MIN: f64 = 0.5;
const BACKOFF_MAX: f64 = 60.0;

#[derive(Default)]
pub struct Agenda {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// When each key is due; `queue` is the same by time, without busy keys.
    at: BTreeMap<Key, Timestamp>,
    queue: BTreeSet<(Timestamp, Key)>,
    busy: BTreeSet<Key>,
    failures: BTreeMap<Key, i32>,
}

impl Inner {
    fn wake(&mut self, key: Key, at: Timestamp) {
        if let Some(earlier) = self.at.get(&key) {
            if *earlier <= at {
                return;
            }
            self.queue.remove(&(*earlier, key.clone()));
        }
        self.at.insert(key.clone(), at);
        if !self.busy.contains(&key) {
            self.queue.insert((at, key));
        }
    }

    fn release(&mut self, key: &Key) {
        self.busy.remove(key);
        if let Some(at) = self.at.get(key) {
            self.queue.insert((*at, key.clone()));
        }
    }
}

impl Agenda {
    /// Looks at `key` at `at`, or earlier if it already was to be.
    pub fn wake(&self, key: Key, at: Timestamp) {
        self.inner().wake(key, at);
        self.changed.notify_one();
    }

    /// Like `wake`, but leaves alone what is planned or worked on already.
    pub fn wake_if_new(&self, key: Key, at: Timestamp) {
        let mut inner = self.inner();
        if !inner.at.contains_key(&key) && !inner.busy.contains(&key) {
            inner.wake(key, at);
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Waits for the next key that is due; it is busy until `done` or `failed`.
    pub async fn next(&self, clock: &Clock) -> Key {
        loop {
            let changed = self.changed.notified();
            let first = self.inner().queue.first().map(|(at, _)| *at);
            match first {
                Some(at) if at <= clock.now() => {
                    if let Some(key) = self.take() {
                        return key;
                    }
                }
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = clock.sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// How many keys are planned, and for how long the first has been due.
    pub fn glance(&self, now: Timestamp) -> AgendaGlance {
        let inner = self.inner();
        let first = inner.queue.first().map_or(now, |(at, _)| *at);
        AgendaGlance { length: inner.at.len(), lag: now.duration_since(first.min(now)) }
    }

    fn take(&self) -> Option<Key> {
        let mut inner = self.inner();
        let (_, key) = inner.queue.pop_first()?;
        inner.at.remove(&key);
        inner.busy.insert(key.clone());
        Some(key)
    }

    /// A turn has ended well; `next` is when to look again.
    pub fn done(&self, key: Key, next: Option<Timestamp>) {
        let mut inner = self.inner();
        inner.failures.remove(&key);
        inner.release(&key);
        if let Some(next) = next {
            inner.wake(key, next);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// A turn has failed: another one comes, later with every failure.
    pub fn failed(&self, key: Key, now: Timestamp) {
        let mut inner = self.inner();
        let failures = inner.failures.entry(key.clone()).or_insert(0);
        let secs = (BACKOFF_MIN * 2f64.powi((*failures).min(10))).min(BACKOFF_MAX);
        *failures = failures.saturating_add(1);
        let wait = SignedDuration::from_secs_f64(secs * (0.5 + fastrand::f64() / 2.0));
        inner.release(&key);
        inner.wake(key, now.saturating_add(wait).unwrap_or(Timestamp::MAX));
        drop(inner);
        self.changed.notify_one();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nobody panics while holding it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str) -> Key {
        Key::Run(id.to_owned())
    }

    #[tokio::test]
    async fn gives_keys_by_time_and_each_once() {
        let (agenda, clock) = (Agenda::default(), Clock::real());
        let past = |secs| clock.now() - SignedDuration::from_secs(secs);
        agenda.wake(run("late"), past(1));
        agenda.wake(run("early"), past(9));
        agenda.wake(run("late"), past(5));
        agenda.wake_if_new(run("late"), past(100));
        assert_eq!(agenda.next(&clock).await, run("early"));
        assert_eq!(agenda.next(&clock).await, run("late"));
        assert!(agenda.take().is_none());
    }

    #[tokio::test]
    async fn a_wake_during_a_turn_gives_another_turn_after_it() {
        let (agenda, clock) = (Agenda::default(), Clock::real());
        agenda.wake(run("a"), clock.now());
        let key = agenda.next(&clock).await;
        agenda.wake(run("a"), clock.now());
        assert!(agenda.take().is_none(), "busy keys are not given");
        agenda.done(key, None);
        assert_eq!(agenda.next(&clock).await, run("a"));
    }

    #[tokio::test]
    async fn a_failure_comes_back_later() {
        let (agenda, clock) = (Agenda::default(), Clock::real());
        agenda.wake(run("a"), clock.now());
        let key = agenda.next(&clock).await;
        let now = clock.now();
        agenda.failed(key, now);
        let at = agenda.inner().at[&run("a")];
        assert!(at > now && at <= now + SignedDuration::from_secs(1));
    }
}
