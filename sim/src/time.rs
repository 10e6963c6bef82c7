//! Virtual time: stands still while anybody has something to do, and jumps to
//! the next timer when nobody has. One origin for the cloud and for every
//! replica. Not for real time: only the runner reads that.

use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use sluicegate_local::clock::Clock;
use sluicegate_local::time::Time;
use tokio::time::Instant;

/// What most worlds show when they begin.
const ORIGIN: &str = "2013-01-01T04:58:00Z";

pub fn origin() -> Timestamp {
    ORIGIN.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time of one world.
#[derive(Debug, Clone, Copy)]
pub struct VirtualTime {
    origin: Timestamp,
    started: Instant,
}

impl VirtualTime {
    /// Begins now; to be made on the paused runtime that it is for.
    pub fn begin(origin: Timestamp) -> Self {
        Self { origin, started: Instant::now() }
    }

    pub fn origin(&self) -> Timestamp {
        self.origin
    }

    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        self.origin.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    pub fn system(&self) -> SystemTime {
        self.now().into()
    }

    /// The same time for the services of the cloud.
    pub fn of_cloud(self) -> Time {
        let clock = Clock { start: self.origin, anchor: self.origin, factor: 1.0 };
        Time::with_source(clock, move || self.now())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one owner of virtual sleep")]
pub async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Until an instant of virtual time.
pub async fn pass_until(time: VirtualTime, at: Timestamp) {
    let left = at.duration_since(time.now());
    if let Ok(left) = Duration::try_from(left) {
        pass(left).await;
    }
}
