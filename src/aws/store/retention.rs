//! How long is kept what ends, as the deployment has it, and what may be gone by
//! that: one document in the task table. What follows from it: see
//! `core::retention`. Not for deleting anything (see `gc`).

use jiff::Timestamp;

use super::document::Document;
use super::late::FIRST_SEEN;
use super::task::SINCE;
use super::{Store, StoreError, item};
use crate::aws::error::AwsError;
use crate::core::retention::{Horizon, Retention};
use crate::core::task::{TaskKey, TaskPartition};

/// There is one for all tasks.
const PARTITIONS: &str = "partitions";
/// Replicas that start at once store the same.
const WRITES_MAX: usize = 5;

impl Document for Horizon {
    const PLACE: &'static str = "~retention";

    fn name(&self) -> String {
        PARTITIONS.to_owned()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn set_version(&mut self, version: u64) {
        self.version = version;
    }
}

impl Store {
    /// The same, but what ends is kept so long; stored first, so that whatever reads
    /// the tables later knows what may be gone.
    pub async fn keeping(self, retention: Retention, now: Timestamp) -> Result<Self, StoreError> {
        let mut horizon = self.horizon().await?;
        for written in 1.. {
            if !horizon.keep(retention.partitions, now) {
                break;
            }
            match self.commit_document(&mut horizon).await {
                Err(StoreError::Conflict(_)) if written < WRITES_MAX => {
                    horizon = self.horizon().await?;
                }
                result => result?,
            }
        }
        Ok(Self { retention, horizon, ..self })
    }

    /// The same for a command beside the service: partitions are kept as the service
    /// has stored it, whatever the command's configuration says.
    pub async fn keeping_as_stored(self, retention: Retention) -> Result<Self, StoreError> {
        let horizon = self.horizon().await?;
        let retention = Retention { partitions: horizon.kept(), ..retention };
        Ok(Self { retention, horizon, ..self })
    }

    async fn horizon(&self) -> Result<Horizon, StoreError> {
        Ok(self.document(PARTITIONS).await?.unwrap_or_default())
    }

    /// How long is kept what ends.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// Whether what was stored of a partition may be gone. `seen` is since when its
    /// task is known, where that has been read.
    pub async fn is_beyond(
        &self,
        key: &TaskKey,
        seen: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        // No read for what is young.
        if !self.horizon.hides(&key.partition, Timestamp::MIN, now) {
            return Ok(false);
        }
        let seen = match seen {
            Some(seen) => Some(seen),
            None => self.seen(&key.task).await?,
        };
        Ok(seen.is_some_and(|seen| self.horizon.hides(&key.partition, seen, now)))
    }

    /// Whether a partition is not to be begun by itself: it may have run, and nothing is
    /// known of that; `item` is what is stored of it.
    pub async fn is_forgotten(
        &self,
        key: &TaskKey,
        item: Option<&TaskPartition>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        match item {
            Some(item) if !item.is_gone(now) => Ok(false),
            _ => self.is_beyond(key, None, now).await,
        }
    }

    /// Since when a task is known; None while no service has seen it.
    pub async fn seen(&self, task: &str) -> Result<Option<Timestamp>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.task_table)
            .key(item::TASK, item::text(task))
            .key(item::PARTITION, item::text(FIRST_SEEN))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
        let Some(found) = answer.item else { return Ok(None) };
        item::read_instant(&found, SINCE).map_err(|source| StoreError::Unreadable {
            table: self.task_table.clone(),
            key: format!("{task} {FIRST_SEEN}"),
            source,
        })
    }
}
