//! Task partitions of a backfill: its name on those that it has begun, and all
//! that are stored of its window. The backfill itself is a document (see
//! `document`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::expression::Expression;
use super::task::BACKFILL;
use super::{Store, StoreError, item};
use crate::aws::error::AwsError;
use crate::core::backfill::Window;
use crate::core::partition::Partition;
use crate::core::task::{TaskKey, TaskPartition, TaskState};

impl Store {
    /// Puts a backfill's name on a partition that waits, or of which nothing is
    /// stored yet. Refused when it waits no more, or is another's.
    pub async fn adopt(
        &self,
        key: &TaskKey,
        backfill: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut expression = Expression::first(now);
        expression.set(BACKFILL, item::text(backfill));
        let (state, name) = (expression.name(item::STATE), expression.name(BACKFILL));
        let waiting = expression.value(item::text(TaskState::Waiting.name()));
        let ours = expression.value(item::text(backfill));
        let not_newer = expression.not_newer();
        let condition = format!(
            "(attribute_not_exists({state}) OR {state} = {waiting}) \
             AND (attribute_not_exists({name}) OR {name} = {ours}) AND ({not_newer})"
        );
        self.update(key, expression, condition).await
    }

    /// Takes a backfill's name off a partition that waits.
    pub async fn leave(&self, key: &TaskKey, backfill: &str) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        expression.remove(BACKFILL);
        let (state, name) = (expression.name(item::STATE), expression.name(BACKFILL));
        let waiting = expression.value(item::text(TaskState::Waiting.name()));
        let ours = expression.value(item::text(backfill));
        let condition = format!("{state} = {waiting} AND {name} = {ours}");
        self.update(key, expression, condition).await
    }

    /// All that is stored of a window's partitions, and how many items of it
    /// cannot be read.
    pub async fn window(
        &self,
        window: &Window,
    ) -> Result<(BTreeMap<Partition, TaskPartition>, usize), StoreError> {
        let (mut found, mut unreadable) = (BTreeMap::new(), 0);
        let mut pages = self
            .client
            .query()
            .table_name(&self.task_table)
            .consistent_read(true)
            .key_condition_expression("#task = :task AND #partition BETWEEN :first AND :last")
            .expression_attribute_names("#task", item::TASK)
            .expression_attribute_names("#partition", item::PARTITION)
            .expression_attribute_values(":task", item::text(&window.task))
            .expression_attribute_values(":first", item::text(window.first.to_string()))
            .expression_attribute_values(":last", item::text(window.last.to_string()))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            for row in page.items.unwrap_or_default() {
                let partition = item::read_text(&row, item::PARTITION).ok();
                let Some(partition) = partition.and_then(|text| text.parse().ok()) else {
                    continue;
                };
                match self.read_task(&TaskKey::new(&window.task, partition), &row) {
                    Ok(item) => drop(found.insert(partition, item)),
                    Err(_) => unreadable += 1,
                }
            }
        }
        Ok((found, unreadable))
    }
}
