//! Task partitions of a backfill: its name on those that it has begun, and all
//! that are stored of its window. The backfill itself is a document (see
//! `document`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::expression::Expression;
use super::task::BACKFILL;
use super::{Store, StoreError, item};
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
        let [first, last] =
            [window.first, window.last].map(|partition| TaskKey::new(&window.task, partition));
        self.tasks_between(&first, &last, true).await
    }
}
