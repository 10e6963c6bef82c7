//! The one place that reads the time. In production it shows real time; with a
//! local AWS it may follow that one's development clock, which starts at a
//! given instant and runs faster; in a simulator it follows virtual time. Not
//! for deciding what follows from the time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// `now = start + (real now - anchor) * factor`.
#[derive(Clone, Deserialize)]
pub struct Clock {
    start: Timestamp,
    anchor: Timestamp,
    factor: f64,
    #[serde(skip, default = "system")]
    source: Arc<dyn Source>,
}

/// Where a clock reads real time, and how it lets it pass.
pub trait Source: Send + Sync {
    fn now(&self) -> Timestamp;
    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The time of the machine.
struct System;

impl Source for System {
    #[allow(clippy::disallowed_methods, reason = "the one owner of time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[allow(clippy::disallowed_methods, reason = "the one owner of time")]
    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span))
    }
}

fn system() -> Arc<dyn Source> {
    Arc::new(System)
}

impl Clock {
    pub fn real() -> Self {
        Self::with_source(system())
    }

    /// Shows what `source` takes for real time.
    pub fn with_source(source: Arc<dyn Source>) -> Self {
        let now = source.now();
        Self { start: now, anchor: now, factor: 1.0, source }
    }

    /// Clock seconds in a real second.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    pub fn now(&self) -> Timestamp {
        let passed = self.source.now().duration_since(self.anchor).as_secs_f64() * self.factor;
        SignedDuration::try_from_secs_f64(passed)
            .ok()
            .and_then(|passed| self.start.checked_add(passed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// How long a span of clock time lasts in real time.
    pub fn real_time(&self, span: SignedDuration) -> Duration {
        Duration::try_from_secs_f64(span.as_secs_f64() / self.factor).unwrap_or(Duration::ZERO)
    }

    pub async fn sleep_until(&self, instant: Timestamp) {
        self.source.sleep(self.real_time(instant.duration_since(self.now()))).await;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, anchor, factor, .. } = self;
        write!(f, "Clock {{ {start} at {anchor}, times {factor} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Set(Mutex<Timestamp>);

    impl Source for Set {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            *self.0.lock().unwrap() += span;
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn follows_its_source_also_when_that_is_set_back() {
        let start: Timestamp = "2013-01-01T05:00:00Z".parse().unwrap();
        let source = Arc::new(Set(Mutex::new(start)));
        let clock = Clock::with_source(source.clone());
        let later = start + SignedDuration::from_mins(90);
        clock.sleep_until(later).await;
        assert_eq!(clock.now(), later);
        *source.0.lock().unwrap() = start - SignedDuration::from_mins(10);
        assert_eq!(clock.now(), start - SignedDuration::from_mins(10));
    }

    #[test]
    fn a_local_awss_clock_runs_by_its_factor() {
        let text =
            r#"{"start":"2013-01-01T05:00:00Z","anchor":"2026-01-01T00:00:00Z","factor":60}"#;
        let mut clock: Clock = serde_json::from_str(text).unwrap();
        let two_seconds_on = "2026-01-01T00:00:02Z".parse().unwrap();
        clock.source = Arc::new(Set(Mutex::new(two_seconds_on)));
        assert_eq!(clock.now(), "2013-01-01T05:02:00Z".parse().unwrap());
        assert_eq!(clock.real_time(SignedDuration::from_mins(1)), Duration::from_secs(1));
    }
}
