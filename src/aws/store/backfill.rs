//! Task partitions of a backfill: what begins them holds only as long as the
//! backfill is as it was read, and gives them its name; and all that are stored of
//! its window. The backfill itself is a document (see `document`).

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{ConditionCheck, TransactWriteItem, Update};
use jiff::Timestamp;

use super::document::Document;
use super::expression::Expression;
use super::run::build_error;
use super::task::{ASKED, BACKFILL, GIVEN, asked_text, given_text};
use super::{Store, StoreError, item, write_error};
use crate::aws::error::AwsError;
use crate::core::backfill::{Backfill, Window};
use crate::core::partition::Partition;
use crate::core::task::{Element, Receipt, TaskChange, TaskKey, TaskPartition, TaskState};
use crate::planted::{Bug, planted};

impl Store {
    /// Puts a backfill's name on a partition that waits, or of which nothing is
    /// stored yet, and has this be all that it is given; returns it as it is then. Refused
    /// when it waits no more or is another's, or when the backfill has changed: it
    /// may be cancelled.
    pub async fn adopt(
        &self,
        key: &TaskKey,
        backfill: &Backfill,
        given: &[(Element, Receipt)],
        now: Timestamp,
    ) -> Result<TaskPartition, StoreError> {
        let mut expression = Expression::first(now);
        expression.set(BACKFILL, item::text(&backfill.id));
        if !given.is_empty() {
            expression.set(GIVEN, given_text(given));
            expression.set(ASKED, asked_text(&backfill.asked));
        }
        let waits = expression.waits();
        let name = expression.name(BACKFILL);
        let ours = expression.value(item::text(&backfill.id));
        let condition = format!("{waits} AND (attribute_not_exists({name}) OR {name} = {ours})");
        let update = Update::builder()
            .table_name(&self.task_table)
            .set_key(Some(item::task_key(key)))
            .update_expression(expression.text())
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .build()
            .map_err(build_error)?;
        let update = TransactWriteItem::builder().update(update).build();
        self.write_for(backfill, key, update).await?;
        self.written(key).await
    }

    /// Makes a change that begins a partition for a backfill; refused as [`Store::adopt`]
    /// is, and when more has come in since the `version` that it was decided about.
    pub async fn begin_for(
        &self,
        change: &TaskChange,
        version: u64,
        backfill: &Backfill,
    ) -> Result<TaskPartition, StoreError> {
        let action = self.change_action(change, Some(version))?;
        self.write_for(backfill, &change.key, action).await?;
        self.written(&change.key).await
    }

    /// One write to a partition, if the backfill is as it was read.
    async fn write_for(
        &self,
        backfill: &Backfill,
        key: &TaskKey,
        action: TransactWriteItem,
    ) -> Result<(), StoreError> {
        let check = ConditionCheck::builder()
            .table_name(&self.task_table)
            .key(item::TASK, item::text(Backfill::PLACE))
            .key(item::PARTITION, item::text(backfill.name()))
            .condition_expression("#version = :known")
            .expression_attribute_names("#version", item::VERSION)
            .expression_attribute_values(":known", item::number(backfill.version))
            .build()
            .map_err(build_error)?;
        let check = TransactWriteItem::builder().condition_check(check).build();
        let checks = if planted(Bug::BackfillUnchecked) { Vec::new() } else { vec![check] };
        self.client
            .transact_write_items()
            .set_transact_items(Some([checks, vec![action]].concat()))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "TransactWriteItems", &error))
            .map_err(|error| write_error(error, key))
    }

    /// A partition that was just written; gone only if somebody removed it.
    async fn written(&self, key: &TaskKey) -> Result<TaskPartition, StoreError> {
        self.task(key).await?.ok_or_else(|| StoreError::Conflict(key.to_string()))
    }

    /// Takes a backfill's name off a partition, and from one that waits what it was
    /// given. Refused when it was changed since it
    /// was read.
    pub async fn leave(&self, item: &TaskPartition) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        expression.remove(BACKFILL);
        if item.state == TaskState::Waiting {
            expression.remove(GIVEN);
            expression.remove(ASKED);
        }
        let known = expression.value(item::number(item.version));
        self.update(&item.key, expression, format!("#version = {known}")).await
    }

    /// All that is stored of a window's partitions, and how many items of it
    /// cannot be read.
    pub async fn window(
        &self,
        window: &Window,
    ) -> Result<(BTreeMap<Partition, TaskPartition>, usize), StoreError> {
        let [first, last] =
            [window.first, window.last].map(|partition| TaskKey::new(&window.task, partition));
        self.tasks_between(&first, &last, true).await
    }
}
