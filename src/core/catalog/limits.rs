//! What bounds the attempts of a run. A run stores it and so keeps what it began with:
//! whatever is added here needs a default. Not for what follows from it: `run` decides.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::core::class::FailureClass;

/// The bounds of a run's attempts; a run keeps those it started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLimits {
    pub max_attempts: u32,
    /// What differs from that by the class of a failure. Empty in runs stored before
    /// there were classes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<FailureClass, AttemptPolicy>,
    /// The last attempt after a lack or a loss of spot instances buys none.
    #[serde(default)]
    pub on_demand_last: bool,
    /// A cluster on which nothing has run for so long is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_timeout: Option<SignedDuration>,
    /// A cluster is terminated this long after its attempt opened.
    pub lifetime: SignedDuration,
    /// How often a cluster is looked at when no event says so.
    pub poll_interval: SignedDuration,
    /// The same while events of the cluster do come: they are best effort.
    #[serde(default = "ten_minutes")]
    pub poll_interval_with_events: SignedDuration,
    /// How often steps are read that end while others follow, when no event
    /// says so.
    #[serde(default = "five_minutes")]
    pub steps_interval: SignedDuration,
    /// A call that creates something may leave only this long after its
    /// intent was stored.
    pub send_within: SignedDuration,
    /// How long after that AWS may take to show what the call created.
    pub list_lag: SignedDuration,
}

/// What follows when a cluster is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptPolicy {
    /// How many attempts there may be, the lost one included.
    pub max: u32,
    /// How long the next one waits.
    pub delay: SignedDuration,
}

impl AttemptLimits {
    /// What follows when a cluster is lost to a failure of this class.
    pub fn policy(&self, class: FailureClass) -> AttemptPolicy {
        let max = match class {
            // What was refused is refused again.
            FailureClass::Validation => 1,
            _ => self.max_attempts,
        };
        let own = self.policies.get(&class).copied();
        own.unwrap_or(AttemptPolicy { max, delay: SignedDuration::ZERO })
    }
}

/// For runs stored before there was this limit.
fn ten_minutes() -> SignedDuration {
    SignedDuration::from_mins(10)
}

/// For runs stored before there was this limit.
fn five_minutes() -> SignedDuration {
    SignedDuration::from_mins(5)
}
