//! The state in DynamoDB: three tables, every change conditional, a change and
//! its notice in one write. `tables` makes them, `item` reads and writes
//! attributes; the access patterns stand one a file.

mod backfill;
mod calendar;
mod claim;
mod document;
mod expression;
mod file;
mod fold;
mod gc;
mod inputs;
mod item;
mod late;
mod lease;
mod list;
mod notice;
mod retention;
mod run;
mod tables;
mod task;
mod unit;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::CancellationReason;
use jiff::Timestamp;

use super::error::{AwsError, Kind};
use crate::core::pause::Scope;
use crate::core::retention::{Horizon, Retention};
use crate::core::task::{TaskKey, Unreadable};

pub use calendar::{Fired, Mark};
pub use fold::Folding;
pub use gc::{Kept, Remnant, Scanned, Table};
pub use inputs::Input;
pub use list::{PartitionGlance, RunFilter, RunGlance, Runs, TaskGlance};
pub use notice::{NOTICES_KEPT, NOTICES_OF_ITEM, Notices};
pub use tables::{DUE_INDEX, KeyedTable};
pub use unit::{Identified, Journal, ObjectId, RowId};

const VALIDATION_ERROR: &str = "ValidationError";
const CONDITION_FAILED: &str = "ConditionalCheckFailed";

#[derive(Debug, Clone)]
pub struct Store {
    client: aws_sdk_dynamodb::Client,
    /// One item for each task partition, and one mark for each schedule.
    task_table: String,
    /// Journal rows of partitions with many objects.
    unit_table: String,
    /// One item for each run.
    run_table: String,
    /// How long is kept what ends from now on.
    retention: Retention,
    /// What may have been deleted.
    horizon: Horizon,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Somebody else changed the item first; read it again.
    #[error("{0} was changed by another writer")]
    Conflict(String),
    /// A write was not made: the item is for a newer version to change.
    #[error("item {key} in table {table} was written by a newer version of sluicegate, left alone")]
    Newer { table: String, key: String },
    /// Written by a newer version, or damaged: to be left alone.
    #[error("item {key} in table {table}")]
    Unreadable {
        table: String,
        key: String,
        #[source]
        source: Unreadable,
    },
    /// DynamoDB refuses what would be written: the item is damaged, or full.
    #[error("item {key} in table {table} cannot be written: {reason}")]
    Unwritable { table: String, key: String, reason: String },
}

impl StoreError {
    /// Whether an item is to be left alone: what is about others can go on.
    pub fn is_about_one_item(&self) -> bool {
        matches!(
            self,
            StoreError::Newer { .. }
                | StoreError::Unreadable { .. }
                | StoreError::Unwritable { .. }
        )
    }

    /// Whether it is about the item of a task partition that cannot be written.
    pub fn is_of(&self, partition: &TaskKey) -> bool {
        matches!(self, StoreError::Unwritable { key, .. } if *key == partition.to_string())
    }

    /// Whether the same write would be refused again: what it holds is at
    /// fault (an item too large), not permissions or the moment.
    pub fn is_permanent(&self) -> bool {
        match self {
            StoreError::Aws(error) => error.is_about_the_request(),
            StoreError::Unwritable { .. } => true,
            StoreError::Conflict(_) | StoreError::Newer { .. } | StoreError::Unreadable { .. } => {
                false
            }
        }
    }
}

/// What the due index names: something that has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DueKey {
    Task(TaskKey),
    Run(String),
    /// A pause with a notice to publish.
    Pause(Scope),
    /// A backfill that has not ended, or has a notice to publish.
    Backfill(String),
    /// A window of folded notices, by its slot.
    Fold(String),
}

impl Store {
    /// One that keeps for ever what it writes, see [`Store::keeping`].
    pub fn new(config: &SdkConfig, prefix: &str) -> Self {
        Self {
            client: aws_sdk_dynamodb::Client::new(config),
            task_table: format!("{prefix}task"),
            unit_table: format!("{prefix}file-unit"),
            run_table: format!("{prefix}run"),
            retention: Retention::default(),
            horizon: Horizon::default(),
        }
    }

    /// The tables of task partitions, of journals and of runs.
    pub fn tables(&self) -> [KeyedTable; 3] {
        self.shapes().map(|shape| shape.keyed())
    }

    /// Where guards write their claims.
    pub fn run_table(&self) -> &str {
        &self.run_table
    }

    /// Everything that is due by `until`, of both tables, and when.
    pub async fn due(&self, until: Timestamp) -> Result<Vec<(DueKey, Timestamp)>, StoreError> {
        let mut keys = Vec::new();
        for table in [&self.task_table, &self.run_table] {
            let mut pages = self
                .client
                .query()
                .table_name(table)
                .index_name(tables::DUE_INDEX)
                .key_condition_expression("#shard = :shard AND #due <= :until")
                .expression_attribute_names("#shard", item::SHARD)
                .expression_attribute_names("#due", item::DUE)
                .expression_attribute_values(":shard", item::text(item::ONE_SHARD))
                .expression_attribute_values(":until", item::instant(until))
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
                for row in page.items.unwrap_or_default() {
                    // A key that this version cannot read is not ours to touch.
                    keys.extend(item::due_key(&row));
                }
            }
        }
        Ok(keys)
    }
}

/// Why a transaction was not carried out: one reason for each of its actions.
fn reasons(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> &[CancellationReason] {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancelled.cancellation_reasons()
        }
        _ => &[],
    }
}

/// The place of an action whose item is damaged so that it cannot be written, with
/// DynamoDB's words.
fn damaged_item(error: &SdkError<TransactWriteItemsError, HttpResponse>) -> Option<(usize, &str)> {
    let damaged = |reason: &CancellationReason| reason.code() == Some(VALIDATION_ERROR);
    let place = reasons(error).iter().position(damaged)?;
    Some((place, reasons(error)[place].message().unwrap_or_default()))
}

fn is_conflict(message: &str) -> bool {
    [CONDITION_FAILED, "TransactionConflict"].iter().any(|code| message.contains(code))
}

/// A failed write, told apart: somebody was faster, or AWS is at fault.
fn write_error(error: AwsError, key: impl ToString) -> StoreError {
    if error.kind != Kind::Unknown && is_conflict(&error.message) {
        return StoreError::Conflict(key.to_string());
    }
    StoreError::Aws(error)
}
