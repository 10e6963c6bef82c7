//! What may be written in the TOML file: names, types and defaults. Values
//! that can be wrong in their meaning carry their place, for `validate`.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

use crate::core::catalog::WhenEmpty;
use crate::core::schedule::SlotPartition;

pub type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Names this installation: in clusters' names and tags, and in alerts.
    pub deployment: Text,
    pub aws: Aws,
    #[serde(default)]
    pub engine: Engine,
    #[serde(default)]
    pub profiles: BTreeMap<Text, Profile>,
    #[serde(default)]
    pub datasets: BTreeMap<Text, Dataset>,
    #[serde(default)]
    pub tasks: BTreeMap<Text, Task>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Aws {
    /// Left out: as the environment says (AWS_REGION, the instance's region).
    pub region: Option<String>,
    pub queue: Text,
    pub quarantine: Text,
    pub topic_arn: Text,
    /// Default: `DEPLOYMENT-`.
    pub table_prefix: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Engine {
    pub poll_interval: Spanned<SignedDuration>,
    pub sweep_interval: Spanned<SignedDuration>,
    pub visibility_timeout: Spanned<SignedDuration>,
    pub send_within: Spanned<SignedDuration>,
    pub list_lag: Spanned<SignedDuration>,
}

impl Default for Engine {
    fn default() -> Self {
        let secs = |secs| Spanned::new(0..0, SignedDuration::from_secs(secs));
        Self {
            poll_interval: secs(30),
            sweep_interval: secs(30),
            visibility_timeout: secs(120),
            send_within: secs(20),
            list_lag: secs(60),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Profile {
    #[serde(default = "one")]
    pub batch_size: Spanned<u32>,
    #[serde(default = "five_minutes")]
    pub max_wait: Spanned<SignedDuration>,
    #[serde(default = "six_hours")]
    pub lifetime: Spanned<SignedDuration>,
    #[serde(default = "two")]
    pub max_attempts: Spanned<u32>,
    #[serde(default = "one_hour")]
    pub idle_timeout: Spanned<SignedDuration>,
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootstrapAction {
    pub name: String,
    pub script: String,
    #[serde(default)]
    pub args: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fleet {
    pub instance_types: Spanned<Vec<String>>,
    #[serde(default)]
    pub on_demand: u32,
    #[serde(default)]
    pub spot: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dataset {
    pub location: Text,
    pub complete: Option<Spanned<Complete>>,
    pub settle: Option<Spanned<SignedDuration>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Complete {
    Object,
    Closed,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Task {
    pub profile: Text,
    pub partition: crate::core::partition::Grain,
    pub schedule: Option<Schedule>,
    #[serde(default)]
    pub when_empty: WhenEmpty,
    #[serde(default)]
    pub inputs: Vec<Input>,
    #[serde(default)]
    pub outputs: Vec<Text>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    pub cron: Text,
    #[serde(default = "utc")]
    pub time_zone: Text,
    #[serde(default)]
    pub partition: SlotPartition,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Input {
    pub dataset: Text,
    /// The window's bounds, counted from the start of the task's partition;
    /// default: the partition itself.
    pub from: Option<Spanned<SignedDuration>>,
    pub to: Option<Spanned<SignedDuration>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    SparkSubmit,
    Hive,
    Command,
    Jar,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Step {
    pub name: Text,
    pub kind: Spanned<StepKind>,
    pub script: Option<Text>,
    pub jar: Option<Text>,
    pub main_class: Option<Text>,
    #[serde(default)]
    pub options: Vec<Text>,
    #[serde(default)]
    pub args: Vec<Text>,
    #[serde(default)]
    pub variables: BTreeMap<Text, Text>,
    #[serde(default)]
    pub retry: Retry,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Retry {
    pub attempts: Spanned<u32>,
    pub delay: Spanned<SignedDuration>,
    pub backoff_rate: Spanned<f64>,
}

impl Default for Retry {
    /// No retry, and Step Functions' rate and delay where only `attempts` is
    /// given.
    fn default() -> Self {
        Self {
            attempts: Spanned::new(0..0, 0),
            delay: Spanned::new(0..0, SignedDuration::from_secs(1)),
            backoff_rate: Spanned::new(0..0, 2.0),
        }
    }
}

fn one() -> Spanned<u32> {
    Spanned::new(0..0, 1)
}

fn two() -> Spanned<u32> {
    Spanned::new(0..0, 2)
}

fn five_minutes() -> Spanned<SignedDuration> {
    Spanned::new(0..0, SignedDuration::from_mins(5))
}

fn one_hour() -> Spanned<SignedDuration> {
    Spanned::new(0..0, SignedDuration::from_hours(1))
}

fn six_hours() -> Spanned<SignedDuration> {
    Spanned::new(0..0, SignedDuration::from_hours(6))
}

fn utc() -> Text {
    Spanned::new(0..0, "UTC".to_owned())
}

fn yes() -> bool {
    true
}
