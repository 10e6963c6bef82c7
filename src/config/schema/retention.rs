//! `[retention]`: how long what has ended is kept.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Placed, Text};

/// How long what has ended is kept in the tables.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Retention {
    /// How long a task's partition is kept after its end, with what is stored of its
    /// inputs, as in "90d", or "never" to keep it for ever. A partition that ended
    /// longer ago is not begun any more, but by a person.
    pub partitions: Text,
    /// The same for runs and backfills.
    pub runs: Text,
}

impl Default for Retention {
    fn default() -> Self {
        let text = |text: &str| Placed::unplaced(text.to_owned());
        Self { partitions: text("90d"), runs: text("90d") }
    }
}
