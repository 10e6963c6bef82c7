//! A turn of one backfill: comes to as many partitions as its cap has room for,
//! stores that, then begins them and follows those under way. Everything here may
//! be done twice, by another replica or after a crash (see `core::backfill`).

use jiff::Timestamp;

use super::Engine;
use super::outbox::Published;
use super::tasks::log_change;
use crate::aws::store::StoreError;
use crate::core::backfill::{Backfill, How, Step};
use crate::core::catalog::{Catalog, Task};
use crate::core::partition::Partition;
use crate::core::task::{TaskChange, TaskKey, TaskPartition, TaskState};
use crate::planted::{Bug, planted};

/// Partitions that end at once make room for others; the next turn goes on.
const ROUNDS_MAX: usize = 50;

impl Engine {
    pub(super) async fn turn_backfill(&self, id: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some(mut backfill) = self.store.backfill(id).await? else { return Ok(None) };
        let catalog = self.catalog();
        let task = catalog.tasks.get(&backfill.window.task);
        // Its task may be declared again, unless nobody waits for that.
        let goes_on = task.is_some() || backfill.cancelled.is_some();
        if backfill.ended.is_none() && goes_on {
            for _ in 0..ROUNDS_MAX {
                if !self.go_on_with_backfill(&catalog, task, &mut backfill).await? {
                    break;
                }
            }
        }
        let owner = format!("backfill {id}");
        let Published { count, again } = self.publish(&owner, &backfill.notices).await;
        if count > 0 {
            backfill.notices.drain(..count);
            self.store.commit_document(&mut backfill).await?;
        }
        self.metrics.pending(&owner, &backfill.notices);
        let look = super::after(self.clock.now(), self.sweep_interval);
        Ok(backfill.ended.is_none().then_some(look).into_iter().chain(again).min())
    }

    /// Begins what there is room for and looks at all that is open; true when
    /// something has ended by that, so that there is room for more.
    async fn go_on_with_backfill(
        &self,
        catalog: &Catalog,
        task: Option<&Task>,
        backfill: &mut Backfill,
    ) -> Result<bool, StoreError> {
        let name = backfill.window.task.clone();
        let mut before = backfill.clone();
        backfill.begin();
        if *backfill != before && !planted(Bug::BackfillNotKept) {
            self.store.commit_document(backfill).await?;
            before = backfill.clone();
        }
        for partition in backfill.open.clone() {
            match self.step_of_backfill(catalog, task, backfill, partition).await {
                Ok(Some(how)) => backfill.over(partition, how),
                Ok(None) => {}
                // Somebody was faster, or it is not ours to touch: the others go on.
                Err(error @ (StoreError::Conflict(_) | StoreError::Newer { .. })) => {
                    tracing::debug!(task = name, %partition, %error, "looked at again later");
                }
                Err(error @ StoreError::Unreadable { .. }) => {
                    tracing::error!(task = name, %partition, %error, "left alone: written by a newer version, or damaged");
                    backfill.over(partition, How::UnderWay);
                }
                Err(error) => return Err(error),
            }
        }
        backfill.end(self.clock.now());
        let changed = *backfill != before;
        if changed {
            self.store.commit_document(backfill).await?;
        }
        if let Some(ended) = backfill.ended {
            let (id, task) = (&backfill.id, &backfill.window.task);
            tracing::info!(backfill = id, task, %ended, done = backfill.done(), "backfill ended");
        }
        Ok(changed && backfill.ended.is_none())
    }

    /// Does what follows for one open partition; says how it is over, if it is.
    async fn step_of_backfill(
        &self,
        catalog: &Catalog,
        task: Option<&Task>,
        backfill: &Backfill,
        partition: Partition,
    ) -> Result<Option<How>, StoreError> {
        let key = TaskKey::new(&backfill.window.task, partition);
        let stored = self.store.task(&key).await?;
        if backfill.leaves_too_old(stored.as_ref())
            && self.store.is_forgotten(&key, stored.as_ref(), self.clock.now()).await?
        {
            return Ok(Some(How::TooOld));
        }
        let item = stored.unwrap_or_else(|| TaskPartition::new(key.clone()));
        let run = match item.run.as_ref().filter(|_| item.state.is_final()) {
            Some(run) => self.store.run(run).await?,
            None => None,
        };
        let now = self.clock.now();
        let step = match task {
            Some(task) => backfill.step(catalog, task, &item, run.as_ref(), now),
            None => backfill.step_undeclared(&item),
        };
        match step {
            Step::Wait => Ok(None),
            Step::Over(how) => Ok(Some(how)),
            Step::Adopt(receipts) => {
                let item = self.store.adopt(&key, backfill, &receipts, now).await?;
                let item = self.decide_and_keep(catalog, item).await?.item;
                if !item.state.is_final() {
                    return Ok(None);
                }
                // By the task's rule for empty inputs; those who read it are told.
                self.wake_tasks(std::iter::once(&key));
                Ok(Some(if item.state == TaskState::Failed { How::Failed } else { How::Skipped }))
            }
            Step::Again(change) => {
                let changed = self.store.begin_for(&change, item.version, backfill).await?;
                self.changed_for_backfill(catalog, changed, &change).await?;
                Ok(None)
            }
            Step::Cancel(change) => {
                let changed = self.store.change_task(&change, item.version).await?;
                self.changed_for_backfill(catalog, changed, &change).await?;
                Ok(None)
            }
            Step::Leave(how) => {
                self.store.leave(&item).await?;
                Ok(Some(how))
            }
        }
    }

    async fn changed_for_backfill(
        &self,
        catalog: &Catalog,
        changed: TaskPartition,
        change: &TaskChange,
    ) -> Result<(), StoreError> {
        self.metrics.partition_became(&change.key, change.to);
        log_change(change);
        self.decide_and_keep(catalog, changed).await.map(|_| ())
    }
}
