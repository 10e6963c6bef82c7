//! `[datasets.NAME]`: where objects lie, and when a partition is complete.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Placed, Text};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dataset {
    pub location: Text,
    pub complete: Option<Placed<Complete>>,
    pub settle: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Complete {
    Object,
    Closed,
}
