//! Who asked for a change, when and why: kept with everything that a person's
//! command changes. Not for what is changed (see `operate`, `pause`, `backfill`).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::notice::{Fact, clipped};

/// Longer names and reasons are clipped: they stand in every notice.
const BY_CHARS_MAX: usize = 100;
const REASON_CHARS_MAX: usize = 500;

/// A person's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: Timestamp,
}

impl Asked {
    pub fn new(by: &str, reason: Option<&str>, at: Timestamp) -> Self {
        Self {
            by: clipped(by.trim(), BY_CHARS_MAX),
            reason: reason.map(|reason| clipped(reason.trim(), REASON_CHARS_MAX)),
            at,
        }
    }

    /// `2013-01-01 06:05 UTC`.
    pub fn when(&self) -> String {
        self.at.strftime("%Y-%m-%d %H:%M UTC").to_string()
    }

    /// For a notice.
    pub fn facts(&self) -> impl Iterator<Item = Fact> {
        let reason = self.reason.as_ref().map(|reason| Fact::new("reason", reason.as_str()));
        [Fact::new("by", self.by.as_str())].into_iter().chain(reason)
    }
}

/// `by alice (new release)`.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {}", self.by)?;
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}
