//! `[tasks.NAME]`: what runs, on which partition, when, and its steps.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Deserialize;

use super::{Duration, Placed, Text};
use crate::core::catalog::{HiveForm, WhenEmpty};
use crate::core::partition::Grain;
use crate::core::schedule::SlotPartition;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Task {
    pub profile: Text,
    pub partition: Grain,
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
    pub from: Option<Duration>,
    pub to: Option<Duration>,
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
    pub kind: Placed<StepKind>,
    pub script: Option<Text>,
    pub form: Option<Placed<HiveForm>>,
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
    pub attempts: Placed<u32>,
    pub delay: Duration,
    pub backoff_rate: Placed<f64>,
}

impl Default for Retry {
    /// No retry, and Step Functions' rate and delay where only `attempts` is
    /// given.
    fn default() -> Self {
        Self {
            attempts: Placed::unplaced(0),
            delay: Placed::unplaced(SignedDuration::from_secs(1)),
            backoff_rate: Placed::unplaced(2.0),
        }
    }
}

fn utc() -> Text {
    Placed::unplaced("UTC".to_owned())
}
