//! Records what has arrived: one conditional write for each task partition
//! that an object touches, one journal row for each receive and many-object
//! partition, and no look-up on the way.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use jiff::Timestamp;

use super::{Engine, KNOWN_MAX, Key, UNKNOWN_MAX};
use crate::aws::store::{Identified, ObjectId, StoreError};
use crate::core::arrival::Arrival;
use crate::core::catalog::{Catalog, Completeness, Dataset, Task};
use crate::core::partition::Partition;
use crate::core::readiness::{Readiness, readiness};
use crate::core::task::{Element, Receipt, TaskKey, TaskPartition};
use crate::planted::{Bug, planted};

/// Writes of one receive that run side by side.
const WRITES_MAX: usize = 16;

/// What became of the arrivals of one receive.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Indexes of arrivals whose effect is not durable, and why.
    pub failed: BTreeMap<usize, NotRecorded>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRecorded {
    pub reason: String,
    /// It would fail again in the same way.
    pub permanent: bool,
    /// One item is at fault, and people are told of that.
    pub told: bool,
}

type Receipts = Vec<(Element, Receipt)>;

/// One write, and the arrivals that depend on it.
struct Write {
    target: Target,
    arrivals: BTreeSet<usize>,
}

enum Target {
    Task { key: TaskKey, receipts: Receipts },
    Unit { dataset: String, partition: Partition, objects: Identified },
}

impl Engine {
    /// Makes arrivals durable and acts on what they complete. An arrival that
    /// is not reported as failed may be forgotten by its sender.
    pub async fn record(&self, arrivals: &[Arrival]) -> Recorded {
        let catalog = self.catalog();
        let writes = self.plan(&catalog, arrivals);
        let results = futures::stream::iter(writes)
            .map(|write| {
                let catalog = &catalog;
                async move { (self.write(catalog, &write.target).await, write.arrivals) }
            })
            .buffer_unordered(WRITES_MAX)
            .collect::<Vec<_>>()
            .await;
        let mut recorded = Recorded::default();
        for (result, touched) in results {
            if let Err(error) = result {
                let (permanent, told) = (error.is_permanent(), self.tell_unreadable(&error).await);
                let failed = NotRecorded { reason: error.to_string(), permanent, told };
                recorded.failed.extend(touched.into_iter().map(|index| (index, failed.clone())));
            }
        }
        recorded
    }

    fn plan(&self, catalog: &Catalog, arrivals: &[Arrival]) -> Vec<Write> {
        let mut tasks: BTreeMap<TaskKey, (Receipts, BTreeSet<usize>)> = BTreeMap::new();
        let mut units: BTreeMap<(String, Partition), (Identified, BTreeSet<usize>)> =
            BTreeMap::new();
        for (index, arrival) in arrivals.iter().enumerate() {
            let mut known = false;
            for (dataset, partition) in catalog.datasets_of(&arrival.bucket, &arrival.key) {
                known = true;
                self.metrics.arrived(&dataset.name);
                match dataset.completeness {
                    Completeness::Object | Completeness::Marker { .. } => {
                        if !dataset.counts(&arrival.key) {
                            continue;
                        }
                        let element = Element::data(&dataset.name, partition);
                        let receipt = Receipt::Object(arrival.version.clone());
                        for key in catalog.readers_of(&dataset.name, &partition) {
                            let (receipts, from) = tasks.entry(key).or_default();
                            receipts.retain(|(other, _)| *other != element);
                            receipts.push((element.clone(), receipt.clone()));
                            from.insert(index);
                        }
                    }
                    Completeness::Closed { .. }
                    | Completeness::Count { .. }
                    | Completeness::Quiet { .. } => {
                        let unit = (dataset.name.clone(), partition);
                        let (objects, from) = units.entry(unit).or_default();
                        let Arrival { bucket, key, version, .. } = arrival;
                        // An object written again is still one of those expected.
                        let counted = matches!(dataset.completeness, Completeness::Count { .. });
                        let same = counted || planted(Bug::IdentityWithoutVersion);
                        let version = if same { "" } else { version.as_str() };
                        objects.insert(ObjectId::new(bucket, key, version), arrival.clone());
                        from.insert(index);
                    }
                    // Complete when its task says so, not by its files.
                    Completeness::Produced { .. } => {}
                }
            }
            if !known {
                self.metrics.arrived_unmatched();
                self.report_unknown(catalog, arrival);
            }
        }
        let tasks = tasks.into_iter().map(|(key, (receipts, arrivals))| Write {
            target: Target::Task { key, receipts },
            arrivals,
        });
        let units = units.into_iter().map(|((dataset, partition), (objects, arrivals))| Write {
            target: Target::Unit { dataset, partition, objects },
            arrivals,
        });
        tasks.chain(units).collect()
    }

    /// Says what was not expected, once for each top folder: a bucket may
    /// hold much that is not ours. What is our own is expected.
    fn report_unknown(&self, catalog: &Catalog, arrival: &Arrival) {
        let Arrival { bucket, key, .. } = arrival;
        if catalog.is_our_own(bucket, key) {
            return;
        }
        let folder = key.split_once('/').map_or("", |(folder, _)| folder);
        let place = format!("{bucket}/{folder}");
        let mut memory = self.memory();
        let news = memory.unknown.len() < UNKNOWN_MAX && memory.unknown.insert(place);
        drop(memory);
        if !news {
            tracing::debug!(%bucket, %key, "no dataset's location matches this object");
        } else if let Some(dataset) = catalog.misdated(bucket, key) {
            tracing::warn!(
                %bucket, %key, dataset = dataset.name,
                "this object's key names a date or hour that does not exist, it belongs to no \
                 partition: correct its sender; more under this folder are only logged at level debug"
            );
        } else if catalog.knows_bucket(bucket) {
            tracing::warn!(
                %bucket, %key,
                "no dataset's location matches this object: correct the location, or leave it; \
                 more under this folder are only logged at level debug"
            );
        } else {
            tracing::warn!(
                %bucket, %key,
                "no dataset lies in this bucket: add one, or remove the bucket's notification"
            );
        }
    }

    async fn write(&self, catalog: &Catalog, target: &Target) -> Result<(), StoreError> {
        match target {
            Target::Task { key, receipts } => self.receive(catalog, key, receipts).await,
            Target::Unit { dataset, partition, objects } => {
                if self.is_unread(catalog, dataset, *partition).await? {
                    self.refuse_objects(dataset, partition, objects);
                    return Ok(());
                }
                let expires = self.rows_expire(catalog, dataset, partition);
                self.store.journal(dataset, partition, objects, expires).await?;
                self.take_unit(catalog, dataset, *partition).await
            }
        }
    }

    /// What follows for its readers from new objects of a many-object
    /// partition, which are in the journal now. One reader's item keeps nothing
    /// from the others; what failed first is returned.
    pub(super) async fn take_unit(
        &self,
        catalog: &Catalog,
        dataset: &str,
        partition: Partition,
    ) -> Result<(), StoreError> {
        let readers = catalog.readers_of(dataset, &partition);
        let Some(dataset) = catalog.datasets.get(dataset) else { return Ok(()) };
        let now = self.clock.now();
        let receipt = match dataset.completeness {
            Completeness::Count { objects } => {
                let count = self.count(dataset, partition).await?;
                if count < objects { Receipt::Begun(now) } else { Receipt::Closed(count) }
            }
            Completeness::Quiet { .. } => Receipt::Partial(now),
            Completeness::Closed { settle } => {
                let is_over = super::after(partition.end(), settle) <= now;
                let mut result = Ok(());
                for key in readers {
                    let told = self.tell_of_closed(catalog, dataset, partition, &key, is_over);
                    result = result.and(told.await);
                }
                return result;
            }
            Completeness::Object | Completeness::Marker { .. } | Completeness::Produced { .. } => {
                return Ok(());
            }
        };
        let receipts = [(Element::data(&dataset.name, partition), receipt)];
        let mut result = Ok(());
        for key in readers {
            result = result.and(self.receive(catalog, &key, &receipts).await);
        }
        result
    }

    /// A reader of a partition that is closed by time, and may be over, hears of an
    /// object of it.
    async fn tell_of_closed(
        &self,
        catalog: &Catalog,
        dataset: &Dataset,
        partition: Partition,
        key: &TaskKey,
        is_over: bool,
    ) -> Result<(), StoreError> {
        if is_over && self.count_again(dataset, partition, key, catalog).await? {
            return Ok(());
        }
        self.make_known(catalog, key).await
    }

    pub(super) async fn count(
        &self,
        dataset: &Dataset,
        partition: Partition,
    ) -> Result<u64, StoreError> {
        let journal = self.store.read_journal(&dataset.name, &partition, None).await?;
        Ok(journal.count(&dataset.completeness))
    }

    /// An object came after its period may have been closed: a reader that has
    /// the count gets the new one. False when it has none yet.
    async fn count_again(
        &self,
        dataset: &Dataset,
        partition: Partition,
        key: &TaskKey,
        catalog: &Catalog,
    ) -> Result<bool, StoreError> {
        let element = Element::data(&dataset.name, partition);
        let Some(item) = self.store.task(key).await? else { return Ok(false) };
        let Some(Receipt::Closed(before)) = item.received.get(&element) else { return Ok(false) };
        let count = self.count(dataset, partition).await?;
        if count > *before {
            self.receive(catalog, key, &[(element, Receipt::Closed(count))]).await?;
        }
        Ok(true)
    }

    /// Records receipts and decides about the partition as it is now. One that is too
    /// old is not begun.
    pub(super) async fn receive(
        &self,
        catalog: &Catalog,
        key: &TaskKey,
        receipts: &[(Element, Receipt)],
    ) -> Result<(), StoreError> {
        let received = self.take_receipts(catalog, key, receipts).await;
        received.map_err(|error| self.store.about(key, error))
    }

    async fn take_receipts(
        &self,
        catalog: &Catalog,
        key: &TaskKey,
        receipts: &[(Element, Receipt)],
    ) -> Result<(), StoreError> {
        let Some(task) = catalog.tasks.get(&key.task) else { return Ok(()) };
        if self.is_too_old(key).await? {
            self.refuse_receipts(catalog, key, receipts);
            return Ok(());
        }
        let look = self.first_look(catalog, task, key, receipts);
        let stored = self.memory().known.contains(key);
        let mut item = self.store.receive(key, receipts, look, stored, self.clock.now()).await?;
        if planted(Bug::DecidedByMessage) {
            item.received.retain(|element, _| receipts.iter().any(|(told, _)| told == element));
        }
        if !item.state.takes_inputs() && !receipts.is_empty() {
            item = self.take_late(catalog, task, item, receipts).await?;
        }
        let decided = self.decide_and_keep(catalog, item).await?;
        if !stored {
            self.know(key);
        }
        self.plan_look(&decided.item, decided.until);
        Ok(())
    }

    /// When a partition of which no more than this is known has to be looked
    /// at: stored with the first write, so that nobody forgets it.
    fn first_look(
        &self,
        catalog: &Catalog,
        task: &Task,
        key: &TaskKey,
        receipts: &[(Element, Receipt)],
    ) -> Option<Timestamp> {
        let mut item = TaskPartition::new(key.clone());
        item.received.extend(receipts.iter().cloned());
        match readiness(catalog, task, &item, self.clock.now()) {
            Readiness::Waiting { until } => until,
            // Decided right after the write.
            Readiness::Close(_) | Readiness::Change(_) => None,
        }
    }

    /// A partition that only time can complete has to be stored once, so that
    /// it is looked at when its time has come. One with a schedule is stored
    /// by its slot.
    async fn make_known(&self, catalog: &Catalog, key: &TaskKey) -> Result<(), StoreError> {
        let task = catalog.tasks.get(&key.task);
        if task.is_none_or(|task| task.schedule.is_some()) || self.memory().known.contains(key) {
            return Ok(());
        }
        self.receive(catalog, key, &[]).await
    }

    /// A partition has been stored, with all that later writes need not say
    /// again.
    fn know(&self, key: &TaskKey) {
        let mut memory = self.memory();
        if memory.known.len() >= KNOWN_MAX {
            memory.known.clear();
        }
        memory.known.insert(key.clone());
    }

    /// Looks at a partition again when it has something to tell or a time to
    /// wait for.
    pub(super) fn plan_look(&self, item: &TaskPartition, until: Option<Timestamp>) {
        let pending = !item.notices.is_empty() || item.outputs_pending;
        let at = if pending { Some(self.clock.now()) } else { until };
        if let Some(at) = at {
            self.agenda.wake(Key::Task(item.key.clone()), at);
        }
    }
}
