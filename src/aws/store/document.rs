//! Pauses, backfills, the last orders of these, and caps, in the task table: one
//! document an item, under a name that no task can have. Every write is conditional on
//! the version that was read. Not for task partitions and runs.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::item::{self, Item};
use super::run::WRITE;
use super::{Store, StoreError, write_error};
use crate::aws::error::AwsError;
use crate::core::backfill::{Backfill, LastOrder};
use crate::core::cap::{Cap, Capped};
use crate::core::pause::{Pause, Scope};
use crate::core::task::Unreadable;

pub(super) const DOCUMENT: &str = "document";

/// What is stored so.
pub trait Document: Serialize + DeserializeOwned {
    /// Where documents of its kind stand among the tasks, whose names have no `~`.
    const PLACE: &'static str;
    /// What tells it from others of its kind.
    fn name(&self) -> String;
    /// Rises by one with every write; 0 is not stored yet.
    fn version(&self) -> u64;
    fn set_version(&mut self, version: u64);
    /// Since when somebody has to look at it, if at all.
    fn due(&self) -> Option<Timestamp> {
        None
    }
    /// When nothing was left of it to do or to tell; None keeps it for ever.
    fn over(&self) -> Option<Timestamp> {
        None
    }
}

impl Document for Pause {
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

impl Document for Backfill {
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

    fn over(&self) -> Option<Timestamp> {
        self.ended.filter(|_| self.notices.is_empty())
    }
}

impl Document for LastOrder {
    const PLACE: &'static str = "~order";

    fn name(&self) -> String {
        self.task.clone()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn set_version(&mut self, version: u64) {
        self.version = version;
    }
}

impl Document for Cap {
    const PLACE: &'static str = "~cap";

    fn name(&self) -> String {
        self.of.to_string()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn set_version(&mut self, version: u64) {
        self.version = version;
    }
}

impl Store {
    /// A cap as it is stored, or one that nothing uses yet.
    pub async fn cap(&self, of: &Capped) -> Result<Cap, StoreError> {
        let stored = self.document(&of.to_string()).await?;
        Ok(stored.unwrap_or_else(|| Cap::new(of.clone())))
    }

    /// Every backfill that ever was, the oldest first, but for those that this
    /// version cannot read.
    pub async fn backfills(&self) -> Result<Vec<Backfill>, StoreError> {
        let found = self.documents::<Backfill>().await?;
        Ok(found.iter().filter_map(|found| read(found).ok()).collect())
    }

    pub async fn backfill(&self, id: &str) -> Result<Option<Backfill>, StoreError> {
        self.document(id).await
    }

    /// The last order of a task's backfills, or none yet.
    pub async fn last_order(&self, task: &str) -> Result<LastOrder, StoreError> {
        let none = || LastOrder { version: 0, task: task.to_owned(), backfill: String::new() };
        Ok(self.document(task).await?.unwrap_or_else(none))
    }

    /// Stores a new backfill; refused when another of its task was ordered since `last`
    /// was read. (Releases before that order without it.)
    pub async fn order(
        &self,
        backfill: &mut Backfill,
        mut last: LastOrder,
    ) -> Result<(), StoreError> {
        last.backfill.clone_from(&backfill.id);
        let key = format!("{} {}", LastOrder::PLACE, last.task);
        let last = TransactWriteItem::builder().put(self.put_document(&last)?).build();
        let put = self.put_document(backfill)?;
        self.put_with(put, vec![last]).await.map_err(|error| {
            write_error(AwsError::new("DynamoDB", "TransactWriteItems", &error), key)
        })?;
        backfill.version += 1;
        Ok(())
    }

    /// Every pause that ever was, those that are over included. One that cannot
    /// be read still holds what its name says.
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let found = self.documents::<Pause>().await?;
        let pause = |found: &Item| {
            read(found).ok().or_else(|| {
                let scope = item::read_text(found, item::PARTITION).ok()?.parse().ok()?;
                Some(Pause::unreadable(scope))
            })
        };
        Ok(found.iter().filter_map(pause).collect())
    }

    pub async fn pause(&self, scope: &Scope) -> Result<Option<Pause>, StoreError> {
        self.document(&scope.to_string()).await
    }

    /// All items of a kind, by their names.
    async fn documents<T: Document>(&self) -> Result<Vec<Item>, StoreError> {
        let mut documents = Vec::new();
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
            documents.extend(page.items.unwrap_or_default());
        }
        Ok(documents)
    }

    pub(super) async fn document<T: Document>(&self, name: &str) -> Result<Option<T>, StoreError> {
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
        answer.item.map(|found| self.read_document(&found)).transpose()
    }

    /// Stores a changed or new document. Its version rises by one.
    pub async fn commit_document<T: Document>(&self, document: &mut T) -> Result<(), StoreError> {
        let key = format!("{} {}", T::PLACE, document.name());
        let put = self.put_document(document)?;
        self.put_alone(put).await.map_err(|error| write_error(error, key))?;
        document.set_version(document.version() + 1);
        Ok(())
    }

    /// The write of a changed or new document, for a transaction too.
    pub(super) fn put_document<T: Document>(&self, document: &T) -> Result<Put, StoreError> {
        // Strings, numbers and instants: JSON can hold each.
        let text = serde_json::to_string(document).unwrap_or_default();
        let mut put = Put::builder()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(T::PLACE))
            .item(item::PARTITION, item::text(document.name()))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(item::VERSION, item::number(document.version() + 1))
            .item(WRITE, item::text(format!("{:016x}", fastrand::u64(..))))
            .item(item::SHARD, item::text(item::ONE_SHARD))
            .item(DOCUMENT, item::text(text));
        if let Some(due) = document.due() {
            put = put.item(item::DUE, item::instant(due));
        }
        if let Some(expires) = document.over().and_then(|over| self.retention.run_expires(over)) {
            put = put.item(item::EXPIRES, item::expiry(expires));
        }
        let put = match document.version() {
            0 => put
                .condition_expression("attribute_not_exists(#task)")
                .expression_attribute_names("#task", item::TASK),
            known => put
                .condition_expression("#version = :known")
                .expression_attribute_names("#version", item::VERSION)
                .expression_attribute_values(":known", item::number(known)),
        };
        put.build().map_err(super::run::build_error)
    }

    fn read_document<T: Document>(&self, found: &Item) -> Result<T, StoreError> {
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

pub(super) fn read<T: Document>(found: &Item) -> Result<T, Unreadable> {
    item::check_format(found)?;
    let document = item::read_text(found, DOCUMENT)?;
    let mut read: T = serde_json::from_str(document)
        .map_err(|error| Unreadable::new("document", &error.to_string()))?;
    read.set_version(item::read_number(found, item::VERSION)?);
    Ok(read)
}
