//! `[profiles.NAME]`: which cluster, and how much goes on one. Its instances:
//! see `instances`.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Fleet, Groups, Placed, Text};
use crate::core::cluster::{Kerberos, ManagedScaling, ScaleDown, SecurityGroups, Settings};

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
    /// More than 1 only for tasks of one step each.
    #[serde(default = "one")]
    pub step_concurrency: Placed<u32>,
    pub release_label: Text,
    pub os_release_label: Option<Text>,
    #[serde(default)]
    pub applications: Vec<Text>,
    pub service_role: Text,
    pub instance_profile: Text,
    pub log_uri: Option<Text>,
    pub log_encryption_key: Option<Text>,
    #[serde(default = "yes")]
    pub visible_to_all_users: bool,
    #[serde(default)]
    pub subnets: Vec<Text>,
    pub security_groups: Option<Placed<SecurityGroups>>,
    pub key_name: Option<Text>,
    pub custom_ami: Option<Text>,
    pub root_volume_gib: Option<Placed<u32>>,
    pub root_volume_iops: Option<Placed<u32>>,
    pub root_volume_throughput: Option<Placed<u32>>,
    /// The fleets of the cluster, or `groups` instead of all three.
    pub primary: Option<Fleet>,
    pub core: Option<Fleet>,
    pub task: Option<Fleet>,
    pub groups: Option<Groups>,
    pub managed_scaling: Option<Placed<ManagedScaling>>,
    pub scale_down: Option<ScaleDown>,
    pub unhealthy_node_replacement: Option<bool>,
    #[serde(default)]
    pub configurations: BTreeMap<Text, Settings>,
    #[serde(default)]
    pub bootstrap_actions: Vec<BootstrapAction>,
    pub security_configuration: Option<Text>,
    pub kerberos: Option<Placed<Kerberos>>,
    #[serde(default)]
    pub tags: BTreeMap<Text, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootstrapAction {
    pub name: Text,
    pub script: Text,
    #[serde(default)]
    pub args: Vec<Text>,
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
