//! `[tasks.NAME]`: what runs, on which partition, when, and its steps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Duration, Load, Placed, Text};
use crate::core::catalog::{HiveForm, OnTimeout, WhenEmpty};
use crate::core::partition::Grain;
use crate::core::schedule::{CatchUp, SlotPartition};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Task {
    /// The cluster profile that its steps run on.
    pub profile: Text,
    /// What one run of it covers: an hour or a day, UTC.
    pub partition: Grain,
    /// So many of its partitions run at once at most; what is ready beyond that
    /// waits. Left out, there is no such limit.
    pub max_active: Option<Placed<u32>>,
    /// When it is due. Without one it runs as soon as its inputs are there.
    pub schedule: Option<Schedule>,
    /// What to do when an input is complete but holds no data at all.
    #[serde(default)]
    pub when_empty: WhenEmpty,
    /// What to do about data that comes after the inputs were taken: "alert" tells
    /// it, "ignore" only records it, and a table tells it and runs the partition
    /// again.
    #[serde(default)]
    pub late_data: LateData,
    /// The datasets that it reads and waits for.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// How many of the inputs must be there: "all", "any" or a number.
    #[serde(default)]
    pub need: Placed<Need>,
    /// How long a partition waits for its inputs after its end.
    pub wait_timeout: Option<Duration>,
    /// What to do then: fail, or run with what is there.
    pub on_timeout: Option<Placed<OnTimeout>>,
    /// People are told when a partition has not started to run so long after its
    /// slot or, without a schedule, its end.
    pub start_by: Option<Duration>,
    /// The same when it has not ended.
    pub end_by: Option<Duration>,
    /// People are told when a partition is at work for longer, whatever the limits
    /// of its cluster are.
    pub duration_max: Option<Duration>,
    /// The datasets that it makes; their partition is complete when it has
    /// succeeded.
    #[serde(default)]
    pub outputs: Vec<Text>,
    /// How long a step may run. One that runs longer is cancelled, which is a failed
    /// try: its `retry` follows. Left out, only the cluster's lifetime ends it.
    pub attempt_timeout: Option<Duration>,
    /// What runs on the cluster, one step after the other.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What goes into a warehouse when the steps have completed.
    pub load: Option<Load>,
}

/// "alert", "ignore", or a table.
#[derive(Debug, Default)]
pub enum LateData {
    Ignore,
    #[default]
    Alert,
    RunAgain(RunAgain),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunAgain {
    /// For how long after the partition's end late data makes what has succeeded or
    /// was skipped run again.
    pub run_again: Duration,
    /// How long after its last end it runs again at the earliest; it doubles with
    /// each time.
    #[serde(default = "an_hour")]
    pub back_off: Duration,
}

fn an_hour() -> Duration {
    Placed::unplaced(SignedDuration::from_hours(1))
}

impl JsonSchema for LateData {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "LateData".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = RunAgain::json_schema(generator);
        json_schema!({
            "anyOf": [{ "type": "string", "enum": ["alert", "ignore"] }, table],
            "default": "alert",
        })
    }
}

impl<'de> Deserialize<'de> for LateData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;

        impl<'de> Visitor<'de> for WordOrTable {
            type Value = LateData;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"alert\", \"ignore\" or a table { run-again = … }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LateData, E> {
                match text {
                    "alert" => Ok(LateData::Alert),
                    "ignore" => Ok(LateData::Ignore),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LateData, A::Error> {
                RunAgain::deserialize(MapAccessDeserializer::new(map)).map(LateData::RunAgain)
            }
        }

        deserializer.deserialize_any(WordOrTable)
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day of month, month, day of week: `5 * * * *` is minute 5
    /// of every hour.
    pub cron: Text,
    /// The IANA name of the zone that `cron` is meant in: Europe/Berlin. When clocks
    /// go forward, an hour given by its number (`30 2 * * *`) that is skipped comes
    /// once, when they have moved; when they go back, it comes once, the first time.
    /// What comes every hour (`5 * * * *`) leaves out the hour that does not exist,
    /// and comes in both of those that are repeated.
    #[serde(default = "utc")]
    pub time_zone: Text,
    /// Which partition a slot stands for.
    #[serde(default)]
    pub partition: SlotPartition,
    /// Which slots are made up after the service was down: those not taken up
    /// within 5 minutes. What is passed over can be run by a backfill.
    #[serde(default)]
    pub catch_up: CatchUp,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Input {
    /// The dataset's name.
    pub dataset: Text,
    /// Where the window begins, counted from the start of the task's
    /// partition: -23h. Left out, it begins with the partition.
    pub from: Option<Duration>,
    /// Where the window ends, counted from the start of the task's partition.
    /// Left out, it ends with the partition.
    pub to: Option<Duration>,
    /// How many partitions of the window must be there: "all", "any" or a number.
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
    /// Unique within the task.
    pub name: Text,
    /// What runs it.
    pub kind: Placed<StepKind>,
    /// For spark-submit and hive: the script, s3://….
    pub script: Option<Text>,
    /// For hive: how the script is started.
    pub form: Option<Placed<HiveForm>>,
    /// For jar: the JAR file, s3://….
    pub jar: Option<Text>,
    /// For jar: the class to run, if the JAR's manifest names none.
    pub main_class: Option<Text>,
    /// For spark-submit: its own options, before the script.
    #[serde(default)]
    pub options: Vec<Text>,
    /// The arguments; for command, the command and its arguments. Placeholders such
    /// as {partition} and {input.NAME} are filled in.
    #[serde(default)]
    pub args: Vec<Text>,
    /// For hive: variables that the script uses.
    #[serde(default)]
    pub variables: BTreeMap<Text, Text>,
    /// Whether and when to try again after a failure.
    #[serde(default)]
    pub retry: Retry,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Retry {
    /// How many retries after the first try.
    pub attempts: Placed<u32>,
    /// How long to wait before the first retry.
    pub delay: Duration,
    /// What the delay is multiplied by for each further retry.
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
