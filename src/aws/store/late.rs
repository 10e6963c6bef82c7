//! What comes for a task partition beside its inputs: late data, lateness, why a
//! period cannot be listed, and since when its task is known, before which nothing is
//! made up. All of it in the task table.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use jiff::Timestamp;

use super::expression::Expression;
use super::task::{FAILED, LATE, SINCE, TOLD, UNLISTED, late_text};
use super::{Store, StoreError, item};
use crate::aws::error::AwsError;
use crate::core::late::Late;
use crate::core::notice::Notice;
use crate::core::partition::Partition;
use crate::core::task::{Element, Receipt, TaskKey, TaskPartition};

/// Where it stands among a task's partitions; sorts after them all.
pub(super) const FIRST_SEEN: &str = "~first-seen";

impl Store {
    /// Records what came after the inputs were taken, with the notice that tells
    /// of it, in one write; returns the partition as it is now. Refused when it
    /// was changed since it was read.
    pub async fn take_late(
        &self,
        item: &TaskPartition,
        receipts: &[(Element, Receipt)],
        late: Option<&Late>,
        notice: Option<&Notice>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        let known = expression.value(item::number(item.version));
        expression.receive(receipts, None);
        if let Some(late) = late {
            expression.set(LATE, late_text(late));
        }
        if let Some(notice) = notice {
            expression.keep_notice(&item.key, notice);
        }
        if late.is_some() {
            expression.set(item::DUE, item::instant(now));
        }
        self.update(&item.key, expression, format!("#version = {known}")).await
    }

    /// Stores what people were told of the partition's lateness, as `item` has it
    /// now, with the notices that tell of it. Refused when it was changed since it
    /// was read.
    pub async fn tell_lateness(
        &self,
        item: &TaskPartition,
        notices: &[Notice],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        let known = expression.value(item::number(item.version));
        match item.told.as_slice() {
            [] => expression.remove(TOLD),
            // Names, numbers and instants: JSON can hold each.
            told => {
                expression.set(TOLD, item::text(serde_json::to_string(told).unwrap_or_default()))
            }
        }
        if item.failed.is_none() {
            expression.remove(FAILED);
        }
        for notice in notices {
            expression.keep_notice(&item.key, notice);
        }
        expression.set(item::DUE, item::instant(now));
        self.update(&item.key, expression, format!("#version = {known}")).await
    }

    /// Stores why the objects of a period that a partition waits for cannot be
    /// listed, and when that is tried again; or that they can.
    pub async fn note_unlisted(
        &self,
        key: &TaskKey,
        reason: Option<&str>,
        due: Timestamp,
    ) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        match reason {
            Some(reason) => expression.set(UNLISTED, item::text(reason)),
            None => expression.remove(UNLISTED),
        }
        expression.set(item::DUE, item::instant(due));
        let (stored, not_newer) = (expression.name(item::STATE), expression.not_newer());
        let condition = format!("attribute_exists({stored}) AND ({not_newer})");
        self.update(key, expression, condition).await
    }

    /// Since when a task is known: `now`, if it was not before.
    pub async fn first_seen(&self, task: &str, now: Timestamp) -> Result<Timestamp, StoreError> {
        let result = self
            .client
            .put_item()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(task))
            .item(item::PARTITION, item::text(FIRST_SEEN))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(SINCE, item::instant(now))
            .condition_expression("attribute_not_exists(#since)")
            .expression_attribute_names("#since", SINCE)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else { return Ok(now) };
        let stored = error.as_service_error().and_then(|error| match error {
            PutItemError::ConditionalCheckFailedException(failed) => failed.item(),
            _ => None,
        });
        match stored.map(|stored| item::read_instant(stored, SINCE)) {
            Some(Ok(Some(since))) => Ok(since),
            Some(Err(source)) => Err(StoreError::Unreadable {
                table: self.task_table.clone(),
                key: format!("{task} {FIRST_SEEN}"),
                source,
            }),
            _ => Err(AwsError::new("DynamoDB", "PutItem", &error).into()),
        }
    }

    /// The stored partitions of a task between two, both included, and how many
    /// items of them cannot be read. Where writes of this moment count, the read
    /// has to be `consistent`, which costs twice as much.
    pub async fn tasks_between(
        &self,
        first: &TaskKey,
        last: &TaskKey,
        consistent: bool,
    ) -> Result<(BTreeMap<Partition, TaskPartition>, usize), StoreError> {
        let (mut found, mut unreadable) = (BTreeMap::new(), 0);
        let mut pages = self
            .client
            .query()
            .table_name(&self.task_table)
            .consistent_read(consistent)
            .key_condition_expression("#task = :task AND #partition BETWEEN :first AND :last")
            .expression_attribute_names("#task", item::TASK)
            .expression_attribute_names("#partition", item::PARTITION)
            .expression_attribute_values(":task", item::text(&first.task))
            .expression_attribute_values(":first", item::text(first.partition.to_string()))
            .expression_attribute_values(":last", item::text(last.partition.to_string()))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            for row in page.items.unwrap_or_default() {
                let partition = item::read_text(&row, item::PARTITION).ok();
                let Some(partition) = partition.and_then(|text| text.parse().ok()) else {
                    continue;
                };
                match self.read_task(&TaskKey::new(&first.task, partition), &row) {
                    Ok(item) => drop(found.insert(partition, item)),
                    Err(_) => unreadable += 1,
                }
            }
        }
        Ok((found, unreadable))
    }
}
