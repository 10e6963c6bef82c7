//! What is too old to be begun: a partition that ended longer ago than partitions are
//! kept may have run before, and nothing would be known of that. What comes for it is
//! refused and told of. Which those are: see `core::retention`.

use jiff::Timestamp;

use super::{Engine, Key};
use crate::aws::store::{Identified, StoreError};
use crate::core::calendar::Entry;
use crate::core::catalog::{Catalog, Task};
use crate::core::partition::Partition;
use crate::core::retention::awaited_until;
use crate::core::task::{Element, Receipt, TaskKey};

impl Engine {
    /// Whether a partition that is too old stays as it is: nothing is stored of it, or
    /// what is counts as gone. One that a person has begun goes on.
    pub(super) async fn is_too_old(&self, key: &TaskKey) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let seen = self.memory().listings.seen(&key.task);
        if !self.store.is_beyond(key, seen, now).await? {
            return Ok(false);
        }
        match self.store.task(key).await {
            Ok(item) => Ok(item.is_none_or(|item| item.is_gone(now))),
            // It is there, and whoever writes to it learns what it is.
            Err(StoreError::Unreadable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether nobody can read a partition of a dataset any more: what comes for it is
    /// not kept.
    pub(super) async fn is_unread(
        &self,
        catalog: &Catalog,
        dataset: &str,
        partition: Partition,
    ) -> Result<bool, StoreError> {
        let readers = catalog.readers_of(dataset, &partition);
        // The newest is the likeliest to be young enough.
        for reader in readers.iter().rev() {
            if !self.is_too_old(reader).await? {
                return Ok(false);
            }
        }
        Ok(!readers.is_empty())
    }

    /// Receipts that come for a partition that is too old: only told of.
    pub(super) fn refuse_receipts(
        &self,
        catalog: &Catalog,
        key: &TaskKey,
        receipts: &[(Element, Receipt)],
    ) {
        for (element, receipt) in receipts {
            let Element::Data { dataset, partition } = element else { continue };
            let place = catalog.datasets.get(dataset).map(|found| found.location.uri_of(partition));
            tracing::warn!(
                task = key.task, partition = %key.partition, dataset, %receipt,
                "too old to be begun: it may have run before; a backfill with --force runs it"
            );
            // What another task has made has no object to tell of.
            if let (Receipt::Object(_), Some(place)) = (receipt, place) {
                self.refused(dataset, 1, &place);
            }
        }
    }

    /// The same of objects of a partition that nobody can read any more.
    pub(super) fn refuse_objects(
        &self,
        dataset: &str,
        partition: &Partition,
        objects: &Identified,
    ) {
        let Some(first) = objects.values().next() else { return };
        let (count, example) =
            (objects.len() as u64, format!("s3://{}/{}", first.bucket, first.key));
        tracing::warn!(
            dataset, %partition, objects = count, example,
            "too old to be kept: whatever reads them may have run before"
        );
        self.refused(dataset, count, &example);
    }

    fn refused(&self, dataset: &str, objects: u64, example: &str) {
        self.memory().listings.too_old.found.add(dataset, objects, example);
        self.agenda.wake(Key::Listing, self.clock.now());
    }

    /// What a calendar calls into being, but for what is too old.
    pub(super) async fn young_enough(
        &self,
        task: &Task,
        entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut young = Vec::with_capacity(entries.len());
        for entry in entries {
            let partition = entry.partition();
            match self.is_too_old(&TaskKey::new(&task.name, partition)).await? {
                true => tracing::warn!(
                    task = task.name, %partition,
                    "passed over: too old to be begun; a backfill with --force runs it"
                ),
                false => young.push(entry),
            }
        }
        Ok(young)
    }

    /// When what is written `now` of a partition's objects may be deleted: after every
    /// task partition that reads it. None leaves it to `gc`.
    pub(super) fn rows_expire(
        &self,
        catalog: &Catalog,
        dataset: &str,
        partition: &Partition,
    ) -> Option<Timestamp> {
        let until = awaited_until(catalog, dataset, partition)?;
        self.store.retention().beside_expires(until.max(self.clock.now()))
    }
}
