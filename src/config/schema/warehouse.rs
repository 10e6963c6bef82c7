//! `[warehouses.NAME]`: where tasks load their output, and `load` of a task:
//! what goes where.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Placed, Text};
use crate::core::load::ModeName;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Warehouse {
    /// The workgroup of Redshift Serverless.
    pub workgroup: Option<Text>,
    /// Or the identifier of a provisioned cluster.
    pub cluster: Option<Text>,
    /// For a cluster without `secret`: the user that temporary credentials are for.
    pub user: Option<Text>,
    /// The database that holds the tables.
    pub database: Text,
    /// The ARN of the secret in Secrets Manager with user and password. Left out:
    /// temporary credentials of the task role.
    pub secret: Option<Text>,
    /// The ARN of the role that COPY reads S3 with. Left out: the warehouse's
    /// default role.
    pub role: Option<Text>,
    /// The table that says what is loaded: one row for each partition of a task.
    /// It is created when it is not there.
    #[serde(default = "ledger")]
    pub ledger: Text,
    /// A prefix in S3 for the lists of files that COPY gets: s3://bucket/prefix/.
    pub manifests: Text,
    /// How often a load is tried.
    #[serde(default = "three")]
    pub attempts: Placed<u32>,
    /// How long after a failure the next attempt comes; longer each time.
    #[serde(default = "super::one_minute")]
    pub retry_delay: Duration,
    /// A load that takes longer is cancelled.
    #[serde(default = "super::profile::one_hour")]
    pub timeout: Duration,
}

fn ledger() -> Text {
    Placed::unplaced("public.sluicegate_loads".to_owned())
}

fn three() -> Placed<u32> {
    Placed::unplaced(3)
}

/// What a task loads when its steps have completed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Load {
    /// The warehouse's name.
    pub warehouse: Text,
    /// The output whose Parquet files are loaded. May be left out where the task
    /// has one output.
    pub dataset: Option<Text>,
    /// The table: schema.name, or name in the schema public. It is created when it
    /// is not there; its schema is not.
    pub table: Text,
    /// What happens to the rows that the table holds already.
    #[serde(default)]
    pub mode: Placed<ModeName>,
    /// The columns of the files, in their order.
    pub columns: Placed<Vec<Column>>,
    /// Columns of the files whose values are those of one row only: a row of the table
    /// with the same values is replaced. Needed by upsert.
    pub unique_key: Option<Placed<Vec<Text>>>,
    /// A column of the table beside those of the files: it gets the start of the
    /// partition. Needed by replace-partition.
    pub partition_column: Option<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Column {
    /// Small letters, digits and _.
    pub name: Text,
    /// boolean, smallint, integer, bigint, real, double precision, date, timestamp,
    /// timestamptz, char(n), varchar(n) or decimal(p, s).
    #[serde(rename = "type")]
    pub kind: Text,
}
