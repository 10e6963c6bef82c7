//! `[tasks.NAME]`: what runs, on which partition, when, and its steps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Duration, Placed, Text};
use crate::core::catalog::{HiveForm, OnTimeout, WhenEmpty};
use crate::core::partition::Grain;
use crate::core::schedule::SlotPartition;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Task {
    pub profile: Text,
    pub partition: Grain,
    pub schedule: Option<Schedule>,
    #[serde(default)]
    pub when_empty: WhenEmpty,
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// How many of the inputs: "all", "any" or a number.
    #[serde(default)]
    pub need: Placed<Need>,
    /// How long a partition waits for its inputs after its end.
    pub wait_timeout: Option<Duration>,
    /// What to do then: fail, or run with what is there.
    pub on_timeout: Option<Placed<OnTimeout>>,
    #[serde(default)]
    pub outputs: Vec<Text>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    pub cron: Text,
    #[serde(default = "utc")]
    pub time_zone: Text,
    #[serde(default)]
    pub partition: SlotPartition,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Input {
    pub dataset: Text,
    /// The window's bounds, counted from the start of the task's partition;
    /// default: the partition itself.
    pub from: Option<Duration>,
    pub to: Option<Duration>,
    /// How many partitions of the window: "all", "any" or a number.
    #[serde(default)]
    pub need: Placed<Need>,
}

/// How many of several things must be there: "all", "any", or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    #[default]
    All,
    Any,
    AtLeast(u32),
}

impl JsonSchema for Need {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Need".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "enum": ["all", "any"] },
                { "type": "integer", "minimum": 1, "maximum": u32::MAX },
            ],
            "default": "all",
        })
    }
}

impl<'de> Deserialize<'de> for Need {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NeedVisitor;

        impl Visitor<'_> for NeedVisitor {
            type Value = Need;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", \"any\" or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Need, E> {
                match text {
                    "all" => Ok(Need::All),
                    "any" => Ok(Need::Any),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Need, E> {
                let count = u32::try_from(number);
                count
                    .map(Need::AtLeast)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_any(NeedVisitor)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    SparkSubmit,
    Hive,
    Command,
    Jar,
}

#[derive(Debug, Deserialize, JsonSchema)]
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

#[derive(Debug, Deserialize, JsonSchema)]
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
