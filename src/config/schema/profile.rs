//! `[profiles.NAME]`: which cluster, and how much goes on one.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Placed, Text};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Profile {
    #[serde(default = "one")]
    pub batch_size: Placed<u32>,
    #[serde(default = "five_minutes")]
    pub max_wait: Duration,
    #[serde(default = "six_hours")]
    pub lifetime: Duration,
    #[serde(default = "two")]
    pub max_attempts: Placed<u32>,
    #[serde(default = "one_hour")]
    pub idle_timeout: Duration,
    pub release_label: Text,
    #[serde(default)]
    pub applications: Vec<String>,
    pub service_role: String,
    pub instance_profile: String,
    pub log_uri: Option<Text>,
    #[serde(default = "yes")]
    pub visible_to_all_users: bool,
    #[serde(default)]
    pub subnets: Vec<String>,
    pub primary: Fleet,
    pub core: Option<Fleet>,
    pub task: Option<Fleet>,
    #[serde(default)]
    pub configurations: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    pub bootstrap_actions: Vec<BootstrapAction>,
    #[serde(default)]
    pub tags: BTreeMap<Text, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootstrapAction {
    pub name: String,
    pub script: String,
    #[serde(default)]
    pub args: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fleet {
    pub instance_types: Placed<Vec<String>>,
    #[serde(default)]
    pub on_demand: u32,
    #[serde(default)]
    pub spot: u32,
}

fn one() -> Placed<u32> {
    Placed::unplaced(1)
}

fn two() -> Placed<u32> {
    Placed::unplaced(2)
}

fn five_minutes() -> Duration {
    Placed::unplaced(SignedDuration::from_mins(5))
}

fn one_hour() -> Duration {
    Placed::unplaced(SignedDuration::from_hours(1))
}

fn six_hours() -> Duration {
    Placed::unplaced(SignedDuration::from_hours(6))
}

fn yes() -> bool {
    true
}
