//! `[datasets.NAME]`: where objects lie, and when a partition is complete.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Placed, Text};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dataset {
    /// `s3://bucket/…` with {yyyy} {MM} {dd} and, for hourly data, {HH}. Ends
    /// in `*` when a partition has many objects.
    pub location: Text,
    /// When a partition is complete; left out, it is by its one object, or for
    /// an output of a task by the task's success.
    pub complete: Option<Placed<Complete>>,
    /// For `closed`: how long after its end a period may still get objects.
    pub settle: Option<Duration>,
    /// For `marker`: the object that says that all others are there.
    pub marker: Option<Text>,
    /// For `count`: so many distinct objects.
    pub objects: Option<Placed<u32>>,
    /// For `quiet`: no new object for so long.
    pub quiet: Option<Duration>,
    /// Whether S3 is also asked which objects are there, for those whose
    /// notification got lost; of `closed`, before a period is closed.
    #[serde(default = "yes")]
    pub list: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Complete {
    /// Its one object has arrived.
    Object,
    /// Its period is over and has settled.
    Closed,
    /// Its marker has arrived.
    Marker,
    /// A number of objects have arrived.
    Count,
    /// Objects have arrived, and then none for a while.
    Quiet,
}
