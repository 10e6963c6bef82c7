//! What comes for a task partition whose inputs were already taken: recorded, and
//! told to people where its task says so. What counts as news, and when it is
//! told: see `core::late`.

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::tasks::log_change;
use crate::aws::store::StoreError;
use crate::core::catalog::{Catalog, Completeness, LateData, Task};
use crate::core::late::{again, goes_on, may_come_later, news};
use crate::core::task::{Element, Receipt, TaskPartition};

/// Until what should run again, and could not, is looked at again.
const LATE_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(5);
/// Others may write the same partition in between.
const WRITES_MAX: usize = 4;

impl Engine {
    /// Records what is new of these receipts together with the notice that tells
    /// of it; returns the partition as it is then.
    pub(super) async fn take_late(
        &self,
        catalog: &Catalog,
        task: &Task,
        item: TaskPartition,
        receipts: &[(Element, Receipt)],
    ) -> Result<TaskPartition, StoreError> {
        let mut item = item;
        let mut conflict = None;
        for _ in 0..WRITES_MAX {
            let news = self.late_news(catalog, task, &item, receipts).await?;
            if news.is_empty() {
                return Ok(item);
            }
            let now = self.clock.now();
            let alert = task.late_data != LateData::Ignore;
            let objects: u64 = news.iter().map(|(.., objects)| objects).sum();
            let alert = alert && objects > 0;
            let mut late = alert.then(|| item.late.clone().unwrap_or_default().with(&news));
            let notice = late.as_mut().and_then(|late| late.tell(&item, task, now));
            let recorded: Vec<_> = news
                .iter()
                .map(|(element, receipt, _)| (element.clone(), receipt.clone()))
                .collect();
            let written =
                self.store.take_late(&item, &recorded, late.as_ref(), notice.as_ref(), now).await;
            let (key, partition) = (&item.key, item.key.partition);
            match written {
                Ok(()) => {
                    let state = item.state.name();
                    tracing::info!(
                        task = key.task, %partition, run = item.run, state, late = objects,
                        "arrived after the inputs were taken"
                    );
                    return self.stored(item).await;
                }
                Err(error @ StoreError::Conflict(_)) => {
                    conflict = Some(error);
                    item = self.stored(item).await?;
                    if item.state.takes_inputs() {
                        // Another round has begun, which takes them.
                        return self.store.receive(&item.key, receipts, None, true, now).await;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        conflict.map_or(Ok(item), Err)
    }

    /// The partition as it is now; one that somebody removed, as it was.
    async fn stored(&self, item: TaskPartition) -> Result<TaskPartition, StoreError> {
        Ok(self.store.task(&item.key).await?.unwrap_or(item))
    }

    /// Which of the receipts are to be recorded, each with the number of objects that are
    /// late. A period that ends by quiet is counted, where it was counted before or its
    /// partition went without it: so what is told twice is no news, and more is.
    async fn late_news(
        &self,
        catalog: &Catalog,
        task: &Task,
        item: &TaskPartition,
        receipts: &[(Element, Receipt)],
    ) -> Result<Vec<(Element, Receipt, u64)>, StoreError> {
        let mut found = Vec::new();
        for (element, receipt) in receipts {
            let before = item.received.get(element);
            let mut receipt = receipt.clone();
            let went_without = item.has_run() && !may_come_later(task, item, element);
            let counted = match before {
                Some(Receipt::Closed(_)) => true,
                None | Some(Receipt::Partial(_) | Receipt::Granted(_)) => went_without,
                Some(_) => false,
            };
            if counted
                && matches!(receipt, Receipt::Partial(_))
                && let Element::Data { dataset, partition } = element
                && let Some(dataset) = catalog.datasets.get(dataset)
                && matches!(dataset.completeness, Completeness::Quiet { .. })
            {
                receipt = Receipt::Closed(self.count(dataset, *partition).await?);
            }
            let objects = news(before, &receipt);
            if objects > 0 || goes_on(before, &receipt) {
                let told = if may_come_later(task, item, element) { 0 } else { objects };
                found.push((element.clone(), receipt, told));
            }
        }
        Ok(found)
    }

    /// Begins another round where late data makes it due.
    pub(super) async fn run_late(
        &self,
        catalog: &Catalog,
        item: TaskPartition,
    ) -> Result<TaskPartition, StoreError> {
        let Some(task) = catalog.tasks.get(&item.key.task) else { return Ok(item) };
        let now = self.clock.now();
        let at = item.late.as_ref().and_then(|late| late.again_at(task, &item, now));
        if at.is_none_or(|at| at > now) {
            return Ok(item);
        }
        let run = match &item.run {
            Some(run) => self.store.run(run).await?,
            None => None,
        };
        let Some(change) = again(catalog, task, &item, run.as_ref(), now) else { return Ok(item) };
        let changed = self.store.change_task(&change, item.version).await?;
        self.metrics.partition_became(&change.key, change.to);
        log_change(&change);
        Ok(changed)
    }

    /// When a partition that has ended is looked at again for what came late.
    pub(super) fn late_again_at(
        &self,
        catalog: &Catalog,
        item: &TaskPartition,
    ) -> Option<Timestamp> {
        let task = catalog.tasks.get(&item.key.task)?;
        let now = self.clock.now();
        let at = item.late.as_ref()?.again_at(task, item, now)?;
        // It was due: its last run has not let go of it, or inputs are missing.
        Some(if at > now { at } else { super::after(now, LATE_AGAIN_AFTER) })
    }

    /// Tells what has come late since people were last told, if it is time; says
    /// when to look again.
    pub(super) async fn tell_late(
        &self,
        catalog: &Catalog,
        item: &mut TaskPartition,
    ) -> Result<Option<Timestamp>, StoreError> {
        let task = catalog.tasks.get(&item.key.task);
        let task = task.filter(|task| task.late_data != LateData::Ignore);
        let (Some(task), Some(mut late)) = (task, item.late.clone()) else { return Ok(None) };
        let now = self.clock.now();
        if let Some(notice) = late.tell(item, task, now) {
            self.store.take_late(item, &[], Some(&late), Some(&notice), now).await?;
            item.version += 1;
            item.due = Some(now);
            item.notices.push(notice);
        }
        let due = late.due();
        item.late = Some(late);
        Ok(due)
    }
}
