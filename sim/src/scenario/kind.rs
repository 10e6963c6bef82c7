//! What kind a world is of: most are plain, some are about one subject. Not for
//! what such a world has: each kind has a file of its own.

use jiff::Timestamp;

use super::clocks::Night;
use crate::time;

/// What a world is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Its tasks load their output into a warehouse.
    Loads,
    /// Its task files change while runs are open.
    Reload,
    /// It begins with a heap of messages and nobody who takes them.
    Backlog,
    /// Clocks are changed by law in its night.
    Night,
    /// Somebody orders a backfill.
    Backfill,
}

impl Kind {
    /// Each is rare, and comes many times in 10,000 seeds.
    pub fn of_seed(seed: u64) -> Self {
        match seed % 100 {
            rest if rest % 10 == 6 => Kind::Loads,
            rest if rest % 20 == 8 => Kind::Reload,
            0 | 50 => Kind::Backlog,
            20 | 70 => Kind::Night,
            30 | 60 | 80 => Kind::Backfill,
            _ => Kind::Plain,
        }
    }

    /// What a world of a seed shows when it begins.
    pub fn origin(self, seed: u64) -> Timestamp {
        match self {
            Kind::Night => Night::of_seed(seed).origin(),
            _ => time::origin(),
        }
    }
}
