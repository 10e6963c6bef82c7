//! Goes through a table page by page, and deletes an item as it was read. For `gc`
//! alone: nothing that the service does looks at whole tables. Not for what may be
//! deleted (see `engine::gc`).

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use jiff::Timestamp;

use super::claim::HOLDER;
use super::document::{self, Document};
use super::inputs::UNIT_PREFIX;
use super::item::{self, Item};
use super::run::ENDED;
use super::{Store, StoreError, notice, write_error};
use crate::aws::error::AwsError;
use crate::core::backfill::Backfill;
use crate::core::partition::Partition;
use crate::core::run::{CLAIM_PREFIX, RunState};
use crate::core::task::{Element, TaskKey, TaskPartition};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Task,
    FileUnit,
    Run,
}

impl Table {
    pub const ALL: [Table; 3] = [Table::Task, Table::FileUnit, Table::Run];
}

/// An item that may be left over.
#[derive(Debug, Clone)]
pub struct Remnant {
    pub what: Kept,
    table: Table,
    key: Item,
    /// It is as it was read while this attribute has this value, or is missing.
    guard: (&'static str, Option<AttributeValue>),
}

/// What an item holds, as far as it matters here.
#[derive(Debug, Clone)]
pub enum Kept {
    Partition(Box<TaskPartition>),
    Backfill(Box<Backfill>),
    Run {
        /// When it ended, if nothing of it is left to do or to tell.
        over: Option<Timestamp>,
    },
    Claim {
        run: String,
    },
    /// The log of published notices.
    Notices {
        expires: Timestamp,
    },
    /// Objects of a dataset's partition.
    Journal {
        dataset: String,
        partition: Partition,
    },
    /// What a run took as a task partition's inputs.
    Inputs {
        key: TaskKey,
        run: String,
    },
}

/// What one request gave.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Marks, pauses and the like are left out, as is what cannot be read.
    pub remnants: Vec<Remnant>,
    pub looked_at: usize,
    pub read_units: f64,
    pub next: Option<Item>,
}

impl Store {
    /// The next items of a table.
    pub async fn scan(
        &self,
        table: Table,
        from: Option<Item>,
        limit: i32,
    ) -> Result<Scanned, StoreError> {
        let answer = self
            .client
            .scan()
            .table_name(self.name(table))
            .limit(limit)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "Scan", &error))?;
        let items = answer.items.unwrap_or_default();
        let used = answer.consumed_capacity.and_then(|used| used.capacity_units);
        Ok(Scanned {
            looked_at: items.len(),
            remnants: items.iter().filter_map(|found| self.remnant(table, found)).collect(),
            read_units: used.unwrap_or(0.0),
            next: answer.last_evaluated_key,
        })
    }

    /// Deletes an item; false when it has changed since it was read, or is gone.
    pub async fn delete(&self, remnant: &Remnant) -> Result<bool, StoreError> {
        let (name, value) = &remnant.guard;
        let request = self
            .client
            .delete_item()
            .table_name(self.name(remnant.table))
            .set_key(Some(remnant.key.clone()))
            .expression_attribute_names("#guard", *name);
        let request = match value {
            Some(value) => request
                .condition_expression("#guard = :read")
                .expression_attribute_values(":read", value.clone()),
            None => request.condition_expression("attribute_not_exists(#guard)"),
        };
        let result = request
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "DeleteItem", &error))
            .map_err(|error| write_error(error, "an item that is left over"));
        match result {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a run is stored, whatever can be read of it.
    pub async fn has_run(&self, id: &str) -> Result<bool, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.run_table)
            .key(item::RUN_ID, item::text(id))
            .projection_expression("#id")
            .expression_attribute_names("#id", item::RUN_ID)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
        Ok(answer.item.is_some())
    }

    fn name(&self, table: Table) -> &str {
        match table {
            Table::Task => &self.task_table,
            Table::FileUnit => &self.unit_table,
            Table::Run => &self.run_table,
        }
    }

    fn remnant(&self, table: Table, found: &Item) -> Option<Remnant> {
        let (what, names, guard) = match table {
            Table::Task => {
                let what = self.of_tasks(found)?;
                // An entry of the log is written once.
                let log = matches!(what, Kept::Notices { .. });
                let guard = if log { item::EXPIRES } else { item::VERSION };
                (what, &[item::TASK, item::PARTITION][..], guard)
            }
            Table::FileUnit => (of_units(found)?, &[item::UNIT, item::ROW][..], item::EXPIRES),
            Table::Run => {
                let what = of_runs(found)?;
                let guard = if matches!(what, Kept::Run { .. }) { item::VERSION } else { HOLDER };
                (what, &[item::RUN_ID][..], guard)
            }
        };
        let key = names.iter().map(|name| Some(((*name).to_owned(), found.get(*name)?.clone())));
        let guard = (guard, found.get(guard).cloned());
        Some(Remnant { what, table, key: key.collect::<Option<_>>()?, guard })
    }

    fn of_tasks(&self, found: &Item) -> Option<Kept> {
        let task = item::read_text(found, item::TASK).ok()?;
        if task == Backfill::PLACE {
            return Some(Kept::Backfill(Box::new(document::read(found).ok()?)));
        }
        if task.starts_with(notice::PLACE) {
            return Some(Kept::Notices { expires: item::read_expiry(found).ok()?? });
        }
        // Marks, and since when a task is known, stand among its partitions.
        let partition = item::read_text(found, item::PARTITION).ok()?.parse().ok()?;
        let item = self.read_task(&TaskKey::new(task, partition), found).ok()?;
        Some(Kept::Partition(Box::new(item)))
    }
}

fn of_units(found: &Item) -> Option<Kept> {
    item::check_format(found).ok()?;
    let unit = item::read_text(found, item::UNIT).ok()?;
    if let Some(key) = unit.strip_prefix(UNIT_PREFIX) {
        let (task, partition) = key.split_once('@')?;
        let (run, _) = item::read_text(found, item::ROW).ok()?.split_once('/')?;
        let key = TaskKey::new(task, partition.parse().ok()?);
        return Some(Kept::Inputs { key, run: run.to_owned() });
    }
    match unit.parse().ok()? {
        Element::Data { dataset, partition } => Some(Kept::Journal { dataset, partition }),
        Element::Slot => None,
    }
}

fn of_runs(found: &Item) -> Option<Kept> {
    let id = item::read_text(found, item::RUN_ID).ok()?;
    if let Some(claim) = id.strip_prefix(CLAIM_PREFIX) {
        let (run, _) = claim.split_once('/')?;
        return Some(Kept::Claim { run: run.to_owned() });
    }
    item::check_format(found).ok()?;
    let state = item::read_text(found, item::STATE).ok()?;
    let is_final = RunState::ALL.into_iter().any(|it| it.name() == state && it.is_final());
    let over = is_final && !found.contains_key(item::DUE);
    let ended = item::read_instant(found, ENDED).ok()?.filter(|_| over);
    Some(Kept::Run { over: ended })
}
