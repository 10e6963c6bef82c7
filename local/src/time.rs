//! Where the services read the time: queues live in real time, events and
//! object dates in development time. The only place that asks the system
//! clock; a simulator puts its own instant here.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::Clock;

/// The two times of the local AWS, both derived from one source.
#[derive(Clone)]
pub struct Time {
    clock: Clock,
    source: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Time {
    /// Reads the system clock.
    #[expect(clippy::disallowed_methods, reason = "the source that a simulator replaces")]
    pub fn new(clock: Clock) -> Self {
        Self::with_source(clock, Timestamp::now)
    }

    /// Takes real time from `source`; the development clock follows it.
    pub fn with_source(
        clock: Clock,
        source: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        Self { clock, source: Arc::new(source) }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// For the mechanics of queues: visibility, delays, long polls.
    pub fn real(&self) -> Timestamp {
        (self.source)()
    }

    /// For everything a person or the daemon reads as a date.
    pub fn dev(&self) -> Timestamp {
        self.clock.at(self.real())
    }

    /// What the development clock showed at a real instant.
    pub fn dev_at(&self, real: Timestamp) -> Timestamp {
        self.clock.at(real)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Time").field("clock", &self.clock).finish_non_exhaustive()
    }
}
