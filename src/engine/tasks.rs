//! A turn of one task partition: may it run, whom does its end concern, what
//! has to be published.

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::listing::{self, Counted};
use super::outbox::Published;
use super::{Engine, Key};
use crate::aws::store::StoreError;
use crate::core::catalog::{Catalog, Completeness, Dataset};
use crate::core::lateness::look;
use crate::core::partition::Partition;
use crate::core::readiness::{Readiness, readiness};
use crate::core::task::{Element, Receipt, TaskChange, TaskKey, TaskPartition, TaskState};
use crate::planted::{Bug, planted};

/// From waiting to ready takes two writes; more means that somebody else
/// keeps changing it, and the next turn goes on.
const DECISIONS_MAX: usize = 4;

/// Whether S3 is listed for a decision. What has arrived does not wait for S3: it
/// leaves that to the partition's own turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listings {
    Made,
    Left,
}

/// Periods that are over: their reader with the counts, or why not and when to
/// try again.
enum Closed {
    As(Box<TaskPartition>),
    NotBefore { until: Timestamp, reason: String },
}

/// A partition after its decisions, and when time alone may change it.
pub(super) struct Decided {
    pub item: TaskPartition,
    pub until: Option<Timestamp>,
}

impl Engine {
    pub(super) async fn turn_task(&self, key: &TaskKey) -> Result<Option<Timestamp>, StoreError> {
        let Some(item) = self.store.task(key).await? else { return Ok(None) };
        let catalog = self.catalog();
        if !catalog.tasks.contains_key(&key.task) {
            return self.leave_alone(&catalog, item).await;
        }
        let item = self.run_late(&catalog, item).await?;
        let Decided { mut item, mut until } =
            self.decide_task(&catalog, item, Listings::Made).await?;
        if item.state == TaskState::Loading {
            let (loaded, next) = self.turn_load(&catalog, item).await?;
            (item, until) = (loaded, Some(next));
        }
        if item.state.is_final() {
            self.has_loaded(&item.key);
        }
        if let Some(backfill) = item.round.backfill.as_ref().filter(|_| item.state.is_final()) {
            self.agenda.wake(Key::Backfill(backfill.clone()), self.clock.now());
        }
        if !item.state.takes_inputs() {
            let late = self.tell_late(&catalog, &mut item).await?;
            until = until.into_iter().chain(late).min();
        }
        let limit = self.tell_lateness(&catalog, &mut item).await?;
        until = until.into_iter().chain(limit).min();
        let told = item.outputs_pending && self.tell_readers(&catalog, &item).await?;
        if told {
            item.outputs_pending = false;
        }
        until = until.into_iter().chain(self.late_again_at(&catalog, &item)).min();
        if planted(Bug::ForgottenBeforePublished) && !item.notices.is_empty() {
            self.store.forget_notices(key, &item.notices).await?;
        }
        let owner = key.to_string();
        let Published { count, again } = self.publish(&owner, &item.notices).await;
        let published: Vec<_> = item.notices.drain(..count).collect();
        self.metrics.pending(&owner, &item.notices);
        let now = self.clock.now();
        let due = item.attention(until, now);
        if told || !published.is_empty() || item.is_to_be_due(due) {
            match self.store.settle_task(&item, &published, due).await {
                Err(error @ StoreError::Conflict(_)) => {
                    self.store.forget_notices(key, &published).await?;
                    return Err(error);
                }
                result => result?,
            }
        }
        match again {
            None => Ok(until),
            // What is due by now waits for what it has to tell first.
            Some(again) => Ok(until.filter(|until| *until > now).into_iter().chain([again]).min()),
        }
    }

    /// One task after another, so that neither a start nor a change of task
    /// files keeps the tables from what has just arrived.
    pub(super) async fn turn_revisit(&self, task: &str) -> Result<Option<Timestamp>, StoreError> {
        let visited = self.revisit(task).await;
        self.revisit_next();
        visited
    }

    pub(super) fn revisit_next(&self) {
        let next = self.memory().revisits.pop_first();
        if let Some(task) = next {
            self.agenda.wake(Key::Revisit(task), self.clock.now());
        }
    }

    /// Decides once about every waiting partition of a task: the configuration
    /// may have changed since it was last looked at, and nothing else would
    /// say so.
    async fn revisit(&self, task: &str) -> Result<Option<Timestamp>, StoreError> {
        let catalog = self.catalog();
        let mut from = None;
        loop {
            let page = self.store.waiting(task, from).await?;
            for item in page.items {
                let decided = match item {
                    Ok(item) => {
                        let key = item.key.clone();
                        let decided = self.decide_and_keep(&catalog, item).await;
                        decided.map_err(|error| self.store.about(&key, error))
                    }
                    Err(error) => Err(error),
                };
                match decided {
                    Ok(decided) => self.plan_look(&decided.item, decided.until),
                    Err(error) if error.is_about_one_item() => {
                        self.tell_unreadable(&error).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(None);
            }
        }
    }

    /// A task that is no longer declared may come back: what it waits for
    /// stays as it is, and every sweep finds it again. A load that does not go on
    /// is told of.
    async fn leave_alone(
        &self,
        catalog: &Catalog,
        mut item: TaskPartition,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut until = None;
        if item.state == TaskState::Loading {
            let (loading, next) = self.turn_load(catalog, item).await?;
            (item, until) = (loading, Some(next));
        }
        let Published { count, again } = self.publish(&item.key.to_string(), &item.notices).await;
        if count > 0 {
            self.store.forget_notices(&item.key, &item.notices[..count]).await?;
        }
        Ok(until.into_iter().chain(again).min())
    }

    /// Lets the core decide about a partition as just read or written, and
    /// commits until nothing more follows.
    pub(super) async fn decide_task(
        &self,
        catalog: &Catalog,
        item: TaskPartition,
        listings: Listings,
    ) -> Result<Decided, StoreError> {
        let mut item = item;
        for _ in 0..DECISIONS_MAX {
            let Some(task) = catalog.tasks.get(&item.key.task) else { break };
            self.metrics.partition_is(&item.key, item.state);
            if item.state == TaskState::Ready {
                self.gather(&task.profile, &item);
            }
            if item.state != TaskState::Waiting {
                break;
            }
            item = match readiness(catalog, task, &item, self.clock.now()) {
                Readiness::Waiting { until } => return Ok(Decided { item, until }),
                Readiness::Close(periods) => {
                    let is_listed = |(dataset, _): &(String, _)| {
                        catalog.datasets.get(dataset).is_some_and(Dataset::is_listed_at_its_close)
                    };
                    if listings == Listings::Left && periods.iter().any(is_listed) {
                        let until = Some(self.clock.now());
                        return Ok(Decided { item, until });
                    }
                    match self.close(catalog, &item, periods).await? {
                        Closed::As(item) => *item,
                        Closed::NotBefore { until, reason } => {
                            self.store.note_unlisted(&item.key, Some(&reason), until).await?;
                            item.version += 1;
                            (item.due, item.unlisted) = (Some(until), Some(reason));
                            return Ok(Decided { item, until: Some(until) });
                        }
                    }
                }
                Readiness::Change(change) => {
                    match self.store.change_task(&change, item.version).await {
                        Ok(changed) => {
                            self.metrics.partition_became(&change.key, change.to);
                            log_change(&change);
                            changed
                        }
                        // More came in meanwhile: what is stored now counts.
                        Err(error @ StoreError::Conflict(_)) => {
                            self.store.task(&item.key).await?.ok_or(error)?
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
        }
        self.metrics.partition_is(&item.key, item.state);
        let open = item.state == TaskState::Waiting && catalog.tasks.contains_key(&item.key.task);
        let until = open.then(|| self.clock.now());
        Ok(Decided { item, until })
    }

    /// Counts the objects of periods that are over and stores the counts. While
    /// one cannot be listed none of them is closed.
    async fn close(
        &self,
        catalog: &Catalog,
        item: &TaskPartition,
        periods: Vec<(String, Partition)>,
    ) -> Result<Closed, StoreError> {
        let counted: Vec<_> = futures::stream::iter(periods)
            .map(|(name, partition)| async move {
                let Some(dataset) = catalog.datasets.get(&name) else { return Ok(None) };
                let counted = self.count_period(catalog, dataset, partition).await?;
                Ok::<_, StoreError>(Some((dataset, partition, counted)))
            })
            .buffered(listing::LISTINGS_MAX)
            .try_collect()
            .await?;
        let mut counts = Vec::with_capacity(counted.len());
        for (dataset, partition, counted) in counted.into_iter().flatten() {
            match counted {
                Counted::Objects(objects) => counts.push((dataset, partition, objects)),
                Counted::Unlisted(reason) => {
                    let until = super::after(self.clock.now(), listing::LIST_AGAIN_AFTER);
                    return Ok(Closed::NotBefore { until, reason });
                }
            }
        }
        let now = self.clock.now();
        if item.unlisted.is_some() {
            self.store.note_unlisted(&item.key, None, now).await?;
        }
        let closed = |(dataset, partition, objects): &(&Dataset, Partition, u64)| {
            (Element::data(&dataset.name, *partition), Receipt::Closed(*objects))
        };
        let receipts: Vec<_> = counts.iter().map(closed).collect();
        let mut item = self.store.receive(&item.key, &receipts, None, true, now).await?;
        let mut last = receipts;
        // Whoever took an object in between has put it into the journal, and found no
        // count yet that it could correct. What comes while it is quiet says so itself.
        counts.retain(|(dataset, ..)| matches!(dataset.completeness, Completeness::Closed { .. }));
        let named: Vec<_> = counts.iter().map(|(it, at, n)| (it.name.clone(), *at, *n)).collect();
        let recounted: Vec<_> = futures::stream::iter(named)
            .map(|(name, partition, before)| async move {
                let Some(dataset) = catalog.datasets.get(&name) else { return Ok(None) };
                let objects = self.count(dataset, partition).await?;
                Ok::<_, StoreError>((objects > before).then_some((dataset, partition, objects)))
            })
            .buffered(listing::LISTINGS_MAX)
            .try_collect()
            .await?;
        let more: Vec<_> = recounted.iter().flatten().map(closed).collect();
        if !more.is_empty() {
            item = self.store.receive(&item.key, &more, None, true, now).await?;
            last.retain(|(element, _)| more.iter().all(|(other, _)| other != element));
            last.extend(more);
        }
        // Somebody has decided by another count.
        if let Some(task) = catalog.tasks.get(&item.key.task)
            && !item.state.takes_inputs()
        {
            item = self.take_late(catalog, task, item, &last).await?;
        }
        Ok(Closed::As(Box::new(item)))
    }

    /// Decides, and stores the time to wait for where the table does not say it
    /// yet: this process may end before it comes.
    pub(super) async fn decide_and_keep(
        &self,
        catalog: &Catalog,
        item: TaskPartition,
    ) -> Result<Decided, StoreError> {
        let mut decided = self.decide_task(catalog, item, Listings::Left).await?;
        if decided.item.state == TaskState::Waiting
            && let Some(task) = catalog.tasks.get(&decided.item.key.task)
        {
            let limit = look(task, &decided.item, self.clock.now()).next;
            decided.until = decided.until.into_iter().chain(limit).min();
        }
        if let Some(until) = decided.until
            && decided.item.due.is_none_or(|due| due > until)
        {
            self.store.look_by(&decided.item.key, until).await?;
        }
        Ok(decided)
    }

    /// Tells the tasks that read its outputs that this partition of them is
    /// complete. False when one could not be told yet: the next sweep tells it.
    async fn tell_readers(
        &self,
        catalog: &Catalog,
        item: &TaskPartition,
    ) -> Result<bool, StoreError> {
        let Some(task) = catalog.tasks.get(&item.key.task) else { return Ok(true) };
        let mut all_told = true;
        let receipt = match (item.state, &item.run) {
            (TaskState::Succeeded, Some(run)) => Receipt::Produced(run.clone()),
            _ => Receipt::Skipped,
        };
        for output in &task.outputs {
            let element = Element::data(output, item.key.partition);
            for reader in catalog.readers_of(output, &item.key.partition) {
                match self.receive(catalog, &reader, &[(element.clone(), receipt.clone())]).await {
                    // One item keeps nothing from the others, and may be mended.
                    Err(error) if error.is_about_one_item() => {
                        let TaskKey { task, partition } = &reader;
                        tracing::warn!(task, %partition, %error, "not told of its input, will be tried again");
                        self.tell_unreadable(&error).await;
                        all_told = false;
                    }
                    result => result?,
                }
            }
        }
        Ok(all_told)
    }

    /// Looks soon at partitions that were changed together with a run.
    pub(super) fn wake_tasks<'a>(&self, keys: impl Iterator<Item = &'a TaskKey>) {
        let now = self.clock.now();
        for key in keys {
            self.agenda.wake(Key::Task(key.clone()), now);
        }
    }
}

/// One line for each change of a task partition.
pub(super) fn log_change(change: &TaskChange) {
    let TaskChange { key, to, run, reason, .. } = change;
    let partition = key.partition;
    tracing::info!(task = key.task, %partition, run, state = to.name(), reason, "task partition");
}
