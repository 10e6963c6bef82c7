//! The development clock: starts at a given instant and runs faster than real
//! time by a factor, the same for every process that knows its anchor.
//! Not for timing queues or processes: those live in real time.

#![expect(clippy::disallowed_methods, reason = "this is the clock that others ask")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// `now = start + (real now - anchor) * factor`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// What the clock showed at `anchor`.
    pub start: Timestamp,
    /// The real instant at which it was started.
    pub anchor: Timestamp,
    /// Seconds of clock time in a real second; 1 is real time.
    pub factor: f64,
}

impl Clock {
    /// Shows real time.
    pub fn real() -> Self {
        let now = Timestamp::now();
        Self { start: now, anchor: now, factor: 1.0 }
    }

    /// Shows `start` now, and runs `factor` times as fast as real time.
    pub fn starting_at(start: Timestamp, factor: f64) -> Self {
        Self { start, anchor: Timestamp::now(), factor }
    }

    pub fn now(&self) -> Timestamp {
        self.at(Timestamp::now())
    }

    /// What the clock shows at a real instant.
    pub fn at(&self, real: Timestamp) -> Timestamp {
        let passed = real.duration_since(self.anchor).as_secs_f64() * self.factor;
        SignedDuration::try_from_secs_f64(passed)
            .ok()
            .and_then(|passed| self.start.checked_add(passed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// How long `until` lies ahead in real time; zero if it has passed.
    pub fn real_time_until(&self, until: Timestamp) -> Duration {
        let ahead = until.duration_since(self.now()).as_secs_f64() / self.factor;
        Duration::try_from_secs_f64(ahead).unwrap_or(Duration::ZERO)
    }

    pub async fn sleep_until(&self, until: Timestamp) {
        tokio::time::sleep(self.real_time_until(until)).await;
    }
}

/// Lets real time pass.
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_faster_by_its_factor() {
        let clock = Clock::starting_at("2013-01-01T10:00:00Z".parse().unwrap(), 60.0);
        let later = clock.anchor + SignedDuration::from_secs(2);
        assert_eq!(clock.at(later), "2013-01-01T10:02:00Z".parse().unwrap());
    }
}
