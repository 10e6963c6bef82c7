//! `[profiles.NAME]`: which cluster, and how much goes on one. Its instances:
//! see `instances`.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Attempts, Duration, Fleet, Groups, Placed, Text};
use crate::core::cluster::{Kerberos, ManagedScaling, ScaleDown, SecurityGroups, Settings};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Profile {
    /// So many ready partitions share a cluster, or as many as are there after
    /// `max-wait`.
    #[serde(default = "one")]
    pub batch_size: Placed<u32>,
    /// So many of its clusters are at work at once at most; what is ready beyond that
    /// waits. Left out, there is no such limit.
    pub max_clusters: Option<Placed<u32>>,
    /// How long a ready partition waits for others to share its cluster.
    #[serde(default = "five_minutes")]
    pub max_wait: Duration,
    /// A cluster is terminated after this time, whatever it does.
    #[serde(default = "six_hours")]
    pub lifetime: Duration,
    /// A cluster on which no step has run for so long, although some wait, is given up
    /// and replaced as for its class: capacity while it starts, bootstrap, or time-out.
    /// Left out, only its lifetime ends it.
    pub stall_timeout: Option<Duration>,
    /// How many clusters a batch may have, if one is lost.
    #[serde(default = "two")]
    pub max_attempts: Placed<u32>,
    /// What differs from that by the class of the failure. A step that fails is tried
    /// again by the `retry` of its task.
    #[serde(default)]
    pub attempts: Attempts,
    /// EMR's own auto-termination of an idle cluster. Longer than any delay of a
    /// retry.
    #[serde(default = "one_hour")]
    pub idle_timeout: Duration,
    /// How many steps EMR runs side by side. More than 1 only for tasks of one step
    /// each.
    #[serde(default = "one")]
    pub step_concurrency: Placed<u32>,
    /// Whether every cluster first claims its run in DynamoDB, so that no second one
    /// can do the same work. The instance profile must be allowed to update items
    /// of the run table whose keys start with claim/.
    #[serde(default = "guarded")]
    pub guard: Placed<bool>,
    /// The EMR release: emr-7.13.0.
    pub release_label: Text,
    /// The release of Amazon Linux. Left out, the newest of the EMR release.
    pub os_release_label: Option<Text>,
    /// What EMR installs: Spark, Hive.
    #[serde(default)]
    pub applications: Vec<Text>,
    /// The role that EMR itself uses: its name or its ARN.
    pub service_role: Text,
    /// The instance profile of the cluster's machines: its name or its ARN.
    pub instance_profile: Text,
    /// Where EMR keeps logs: s3://bucket/prefix/. Alerts show the end of a failed
    /// step's log from there.
    pub log_uri: Option<Text>,
    /// The KMS key that the logs are encrypted with.
    pub log_encryption_key: Option<Text>,
    /// Whether all users of the account may see the cluster.
    #[serde(default = "yes")]
    pub visible_to_all_users: bool,
    /// The subnets that the cluster may be in. Several only with fleets: EMR takes
    /// the best.
    #[serde(default)]
    pub subnets: Vec<Text>,
    /// The security groups of the cluster's machines. Left out, EMR's own.
    pub security_groups: Option<Placed<SecurityGroups>>,
    /// The EC2 key pair for SSH.
    pub key_name: Option<Text>,
    /// An image of your own for the machines.
    pub custom_ami: Option<Text>,
    /// The size of the root volume of every machine.
    pub root_volume_gib: Option<Placed<u32>>,
    /// The I/O operations a second of the root volume.
    pub root_volume_iops: Option<Placed<u32>>,
    /// The throughput of the root volume in MiB a second.
    pub root_volume_throughput: Option<Placed<u32>>,
    /// The fleet of the primary node: exactly one machine. Fleets or `groups`, not
    /// both.
    pub primary: Option<Fleet>,
    /// The fleet of the core nodes, which store and compute.
    pub core: Option<Fleet>,
    /// The fleet of the task nodes, which only compute.
    pub task: Option<Fleet>,
    /// Instance groups, the older way, instead of fleets.
    pub groups: Option<Groups>,
    /// Lets EMR resize the cluster by its load.
    pub managed_scaling: Option<Placed<ManagedScaling>>,
    /// What EMR waits for before it takes a machine away.
    pub scale_down: Option<ScaleDown>,
    /// Whether EMR replaces core nodes that are ill.
    pub unhealthy_node_replacement: Option<bool>,
    /// Classifications and their properties, as in spark-defaults. A table within
    /// one is a nested classification.
    #[serde(default)]
    pub configurations: BTreeMap<Text, Settings>,
    /// Scripts that every machine runs before the applications are installed.
    #[serde(default)]
    pub bootstrap_actions: Vec<BootstrapAction>,
    /// The name of an EMR security configuration.
    pub security_configuration: Option<Text>,
    /// Kerberos, if the security configuration asks for it.
    pub kerberos: Option<Placed<Kerberos>>,
    /// Tags of the cluster and its machines. Those that start with sluicegate: are
    /// our own.
    #[serde(default)]
    pub tags: BTreeMap<Text, Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootstrapAction {
    /// The name that EMR shows.
    pub name: Text,
    /// Where the script lies: s3://… or file:….
    pub script: Text,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<Text>,
}

pub(super) fn one() -> Placed<u32> {
    Placed::unplaced(1)
}

fn two() -> Placed<u32> {
    Placed::unplaced(2)
}

fn five_minutes() -> Duration {
    Placed::unplaced(SignedDuration::from_mins(5))
}

pub(super) fn one_hour() -> Duration {
    Placed::unplaced(SignedDuration::from_hours(1))
}

fn six_hours() -> Duration {
    Placed::unplaced(SignedDuration::from_hours(6))
}

fn guarded() -> Placed<bool> {
    Placed::unplaced(true)
}

fn yes() -> bool {
    true
}
