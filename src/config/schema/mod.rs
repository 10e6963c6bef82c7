//! What may be written in the TOML file: names, types and defaults. Values
//! that can be wrong in their meaning carry their place, for `validate`.

mod attempts;
mod dataset;
mod instances;
mod json;
mod profile;
mod quotas;
mod retention;
mod task;
mod warehouse;

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::core::secret::SecretRef;

pub use attempts::Attempts;
pub use dataset::{Complete, Dataset};
pub use instances::{Fleet, Group, Groups};
pub use json::{DURATION, WHY, json_schema};
pub use profile::{BootstrapAction, Profile};
pub use quotas::{Quota, Quotas};
pub use retention::Retention;
pub use task::{Input, LateData, Need, Retry, Schedule, Step, StepKind, Task};
pub use warehouse::{Column, Load, Warehouse};

/// A value and its place in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Placed<T>(Spanned<T>);

pub type Text = Placed<String>;
pub type Duration = Placed<SignedDuration>;

impl<T> Placed<T> {
    /// A default, which has no place.
    fn unplaced(value: T) -> Self {
        Self(Spanned::new(0..0, value))
    }

    pub fn get_ref(&self) -> &T {
        self.0.get_ref()
    }

    /// Bytes of the file.
    pub fn span(&self) -> Range<usize> {
        self.0.span()
    }
}

impl<T: Default> Default for Placed<T> {
    fn default() -> Self {
        Self::unplaced(T::default())
    }
}

/// The place is no part of what is written.
impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl Borrow<str> for Placed<String> {
    fn borrow(&self) -> &str {
        self.get_ref()
    }
}

/// What sluicegate runs, and how: datasets, the tasks that read and make them,
/// and the profiles of their clusters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "sluicegate configuration")]
pub struct File {
    /// Names this installation: in clusters' names and tags, and in alerts.
    pub deployment: Text,
    /// The queues, the topic and the tables that the service uses.
    pub aws: Aws,
    /// How the service itself works. All of it has defaults.
    #[serde(default)]
    pub engine: Engine,
    /// More profiles, datasets and tasks in files of their own.
    pub task_files: Option<TaskFiles>,
    /// Health and metrics over HTTP.
    #[serde(default)]
    pub http: Http,
    /// What the account may ask of EMR; a call that would be too many waits.
    #[serde(default)]
    pub quotas: Quotas,
    /// How long what has ended is kept in the tables.
    #[serde(default)]
    pub retention: Retention,
    /// Cluster profiles: `[profiles.NAME]` says which cluster, and how ready
    /// partitions share one.
    #[serde(default)]
    pub profiles: BTreeMap<Text, Profile>,
    /// Warehouses: `[warehouses.NAME]` says where tasks may load their output.
    #[serde(default)]
    pub warehouses: BTreeMap<Text, Warehouse>,
    /// Datasets: `[datasets.NAME]` says where objects lie and when a partition
    /// of them is complete.
    #[serde(default)]
    pub datasets: BTreeMap<Text, Dataset>,
    /// Tasks: `[tasks.NAME]` says what runs, on which partition, and when.
    #[serde(default)]
    pub tasks: BTreeMap<Text, Task>,
}

/// The queues, the topic and the tables that the service uses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Aws {
    /// The region, such as us-east-1. Left out: as the environment says
    /// (AWS_REGION, the instance's region).
    pub region: Option<Text>,
    /// The queue that S3 notifies: its name or its URL.
    pub queue: Text,
    /// Another queue, for messages that cannot be read: its name or its URL.
    pub quarantine: Text,
    /// The SNS topic that every status change goes to:
    /// arn:aws:sns:REGION:ACCOUNT:NAME.
    pub topic_arn: Text,
    /// What the tables' names start with. Default: the deployment's name and a
    /// dash.
    pub table_prefix: Option<Text>,
    /// A prefix in S3 for the scripts that clusters need, s3://bucket/prefix/:
    /// `sluicegate deploy-assets` puts them there. Without it no cluster carries
    /// its own deadline.
    pub assets: Option<Text>,
}

/// Files with more profiles, datasets and tasks, read again and again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TaskFiles {
    /// A folder beside this file (`tasks`) or a prefix in S3
    /// (`s3://bucket/tasks/`); every file in it that ends in .toml counts.
    pub path: Text,
    /// How often they are read.
    #[serde(default = "one_minute")]
    pub interval: Duration,
}

fn one_minute() -> Duration {
    Placed::unplaced(SignedDuration::from_mins(1))
}

/// How the service itself works.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Engine {
    /// How often clusters are looked at while no events come.
    pub poll_interval: Duration,
    /// The same for a cluster whose events do come: the safety net, because EMR
    /// sends them by its best effort. Never below poll-interval.
    pub poll_interval_with_events: Duration,
    /// How often the steps of a cluster are read that end while others follow,
    /// when no event says so.
    pub steps_interval: Duration,
    /// How often the tables are searched for work that no event announced.
    pub sweep_interval: Duration,
    /// So many clusters of all profiles are at work at once at most; what is ready
    /// beyond that waits. Left out, there is no such limit.
    pub max_clusters: Option<Placed<u32>>,
    /// How long a received message stays hidden from other receivers.
    pub visibility_timeout: Duration,
    /// How many receive from the queue side by side.
    pub receivers: Placed<u32>,
    /// A call that creates something leaves within this time after its intent
    /// was stored, or not at all.
    pub send_within: Duration,
    /// How long after that EMR's lists may take to show what the call created.
    pub list_lag: Duration,
    /// How often S3 is listed for objects whose notification got lost, or `off`.
    pub list_interval: Text,
    /// How far back the partitions lie that are listed then.
    pub list_window: Duration,
    /// So many notices go to the topic in a second at most, from each replica. SNS
    /// sends no more than 10 a second to a mailbox.
    pub notices_per_second: Placed<u32>,
    /// For how long repeats of a failure of the same task are folded into one
    /// summary for e-mail; 0s folds nothing.
    pub fold_window: Duration,
}

impl Default for Engine {
    fn default() -> Self {
        let secs = |secs| Placed::unplaced(SignedDuration::from_secs(secs));
        Self {
            poll_interval: secs(30),
            poll_interval_with_events: secs(600),
            steps_interval: secs(300),
            sweep_interval: secs(30),
            max_clusters: None,
            visibility_timeout: secs(120),
            receivers: Placed::unplaced(2),
            send_within: secs(20),
            list_lag: secs(60),
            list_interval: Placed::unplaced("15m".to_owned()),
            list_window: secs(48 * 3600),
            notices_per_second: Placed::unplaced(10),
            fold_window: secs(15 * 60),
        }
    }
}

/// Health and metrics over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Http {
    /// Address and port of `/healthz`, `/readyz` and `/metrics`, or `off`.
    /// Other than loopback needs a token.
    pub listen: Text,
    /// What `/metrics` then asks for as `Authorization: Bearer`; `/healthz` and
    /// `/readyz` never do. At least 16 letters, digits and signs.
    pub token: Option<Placed<SecretRef>>,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: Placed::unplaced("127.0.0.1:8080".to_owned()), token: None }
    }
}
