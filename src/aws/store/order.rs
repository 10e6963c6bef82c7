//! What people have ordered (pauses, backfills), in the task table: one document
//! an item, under a name that no task can have. Every write is conditional on
//! the version that was read. Not for changes of task partitions and runs.

use aws_sdk_dynamodb::types::Put;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::item::{self, Item};
use super::run::WRITE;
use super::{Store, StoreError, write_error};
use crate::aws::error::AwsError;
use crate::core::backfill::Backfill;
use crate::core::pause::{Pause, Scope};
use crate::core::task::Unreadable;

const DOCUMENT: &str = "document";

/// A kind of order, as it is stored.
pub trait Order: Serialize + DeserializeOwned {
    /// Where orders of this kind stand among the tasks, whose names have no `~`.
    const PLACE: &'static str;
    /// What tells it from others of its kind.
    fn name(&self) -> String;
    /// Rises by one with every write; 0 is not stored yet.
    fn version(&self) -> u64;
    fn set_version(&mut self, version: u64);
    /// Since when somebody has to look at it, if at all.
    fn due(&self) -> Option<Timestamp>;
}

impl Order for Pause {
    const PLACE: &'static str = "~pause";

    fn name(&self) -> String {
        self.scope.to_string()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    fn due(&self) -> Option<Timestamp> {
        self.notices.first().map(|notice| notice.at)
    }
}

impl Order for Backfill {
    const PLACE: &'static str = "~backfill";

    fn name(&self) -> String {
        self.id.clone()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    fn due(&self) -> Option<Timestamp> {
        Backfill::due(self)
    }
}

impl Store {
    /// Every backfill that ever was, the oldest first.
    pub async fn backfills(&self) -> Result<Vec<Backfill>, StoreError> {
        self.orders().await
    }

    pub async fn backfill(&self, id: &str) -> Result<Option<Backfill>, StoreError> {
        self.order(id).await
    }

    /// Every pause that ever was, those that are over included.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        self.orders().await
    }

    pub async fn pause(&self, scope: &Scope) -> Result<Option<Pause>, StoreError> {
        self.order(&scope.to_string()).await
    }

    /// All orders of a kind, by their names.
    async fn orders<T: Order>(&self) -> Result<Vec<T>, StoreError> {
        let mut orders = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.task_table)
            .consistent_read(true)
            .key_condition_expression("#task = :place")
            .expression_attribute_names("#task", item::TASK)
            .expression_attribute_values(":place", item::text(T::PLACE))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            for found in page.items.unwrap_or_default() {
                orders.push(self.read_order(&found)?);
            }
        }
        Ok(orders)
    }

    async fn order<T: Order>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.task_table)
            .key(item::TASK, item::text(T::PLACE))
            .key(item::PARTITION, item::text(name))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
        answer.item.map(|found| self.read_order(&found)).transpose()
    }

    /// Stores a changed or new order. Its version rises by one.
    pub async fn commit_order<T: Order>(&self, order: &mut T) -> Result<(), StoreError> {
        let name = order.name();
        // Strings, numbers and instants: JSON can hold each.
        let document = serde_json::to_string(order).unwrap_or_default();
        let mut put = Put::builder()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(T::PLACE))
            .item(item::PARTITION, item::text(&name))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(item::VERSION, item::number(order.version() + 1))
            .item(WRITE, item::text(format!("{:016x}", fastrand::u64(..))))
            .item(item::SHARD, item::text(item::ONE_SHARD))
            .item(DOCUMENT, item::text(document));
        if let Some(due) = order.due() {
            put = put.item(item::DUE, item::instant(due));
        }
        let put = match order.version() {
            0 => put
                .condition_expression("attribute_not_exists(#task)")
                .expression_attribute_names("#task", item::TASK),
            known => put
                .condition_expression("#version = :known")
                .expression_attribute_names("#version", item::VERSION)
                .expression_attribute_values(":known", item::number(known)),
        };
        let put = put.build().map_err(super::run::build_error)?;
        let key = format!("{} {name}", T::PLACE);
        self.put_alone(put).await.map_err(|error| write_error(error, key))?;
        order.set_version(order.version() + 1);
        Ok(())
    }

    fn read_order<T: Order>(&self, found: &Item) -> Result<T, StoreError> {
        read(found).map_err(|source| StoreError::Unreadable {
            table: self.task_table.clone(),
            key: format!(
                "{} {}",
                T::PLACE,
                item::read_text(found, item::PARTITION).unwrap_or_default()
            ),
            source,
        })
    }
}

fn read<T: Order>(found: &Item) -> Result<T, Unreadable> {
    item::check_format(found)?;
    let document = item::read_text(found, DOCUMENT)?;
    let mut order: T = serde_json::from_str(document)
        .map_err(|error| Unreadable::new("order", &error.to_string()))?;
    order.set_version(item::read_number(found, item::VERSION)?);
    Ok(order)
}
