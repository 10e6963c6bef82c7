//! The one place that reads the time. In production it shows real time; with a
//! local AWS it may follow that one's development clock, which starts at a
//! given instant and runs faster.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// `now = start + (real now - anchor) * factor`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Clock {
    start: Timestamp,
    anchor: Timestamp,
    factor: f64,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "the one owner of time")]
    pub fn real() -> Self {
        let now = Timestamp::now();
        Self { start: now, anchor: now, factor: 1.0 }
    }

    /// Clock seconds in a real second.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    #[allow(clippy::disallowed_methods, reason = "the one owner of time")]
    pub fn now(&self) -> Timestamp {
        let passed = Timestamp::now().duration_since(self.anchor).as_secs_f64() * self.factor;
        SignedDuration::try_from_secs_f64(passed)
            .ok()
            .and_then(|passed| self.start.checked_add(passed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// How long a span of clock time lasts in real time.
    pub fn real_time(&self, span: SignedDuration) -> Duration {
        Duration::try_from_secs_f64(span.as_secs_f64() / self.factor).unwrap_or(Duration::ZERO)
    }

    #[allow(clippy::disallowed_methods, reason = "the one owner of time")]
    pub async fn sleep_until(&self, instant: Timestamp) {
        tokio::time::sleep(self.real_time(instant.duration_since(self.now()))).await;
    }
}
