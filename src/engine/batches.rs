//! A turn of one cluster profile: gathers its ready partitions into batches,
//! and makes a run of each. The gathered partitions are in memory only; the
//! due index gives them back after a restart.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Engine, Key};
use crate::aws::error::Kind;
use crate::aws::store::StoreError;
use crate::core::batch::{Gather, gather};
use crate::core::catalog::{Catalog, Profile};
use crate::core::pause::{Pause, holding};
use crate::core::run::Run;
use crate::core::task::{TaskKey, TaskPartition};

impl Engine {
    /// Puts a ready partition among those that wait for a batch.
    pub(super) fn gather(&self, profile: &str, item: &TaskPartition) {
        let now = self.clock.now();
        let since = item.ready_at.unwrap_or(now);
        let mut memory = self.memory();
        let ready = memory.ready.entry(profile.to_owned()).or_default();
        ready.insert((since, item.key.clone()), item.clone());
        drop(memory);
        self.agenda.wake(Key::Batches(profile.to_owned()), now);
    }

    /// Whether a partition that became ready at `since` already waits here.
    pub(super) fn is_gathered(&self, key: &TaskKey, since: Timestamp) -> bool {
        let catalog = self.catalog();
        let Some(task) = catalog.tasks.get(&key.task) else { return false };
        let memory = self.memory();
        let ready = memory.ready.get(&task.profile);
        ready.is_some_and(|ready| ready.contains_key(&(since, key.clone())))
    }

    pub(super) async fn turn_batches(
        &self,
        profile: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let catalog = self.catalog();
        let Some(profile) = catalog.profiles.get(profile) else { return Ok(None) };
        let mut profile = profile.clone();
        loop {
            let now = self.clock.now();
            if let Err(next) = self.next_batch(&catalog, &profile, &[], now) {
                return Ok(next);
            }
            // Read before every batch: from the moment that a pause is stored, no
            // replica begins another.
            let pauses = self.store.pauses().await?;
            let batch = match self.next_batch(&catalog, &profile, &pauses, now) {
                Ok(batch) => batch,
                // Nothing tells of a pause's end.
                Err(next) => {
                    let look = super::after(now, self.sweep_interval);
                    return Ok(Some(next.map_or(look, |next| next.min(look))));
                }
            };
            match self.start_run(&catalog, &profile, &batch, now).await {
                // Usually a run too large for DynamoDB's 400 KB: fewer fit.
                Err(StoreError::Aws(error)) if error.kind == Kind::Refused => {
                    let first = batch.first().map(|item| &item.key);
                    let task = first.map(|key| key.task.as_str());
                    let partition = first.map(|key| key.partition.to_string());
                    tracing::error!(
                        task, partition, profile = profile.name, partitions = batch.len(), %error,
                        "no run can be made of this batch, which begins with this partition"
                    );
                    match batch.as_slice() {
                        // Tried again after the next sweep; others go ahead.
                        [single] => self.forget_ready(&profile.name, std::slice::from_ref(single)),
                        several => profile.batch_size = several.len() / 2,
                    }
                }
                result => result?,
            }
        }
    }

    /// The partitions that go into a batch now, but for those that a pause holds;
    /// or when to look again.
    fn next_batch(
        &self,
        catalog: &Catalog,
        profile: &Profile,
        pauses: &[Pause],
        now: Timestamp,
    ) -> Result<Vec<TaskPartition>, Option<Timestamp>> {
        let memory = self.memory();
        let ready = memory.ready.get(&profile.name).ok_or(None)?;
        let held = |item: &TaskPartition| {
            let task = catalog.tasks.get(&item.key.task);
            task.is_some_and(|task| holding(pauses, task).is_some())
        };
        let held: BTreeSet<_> = match pauses {
            // However many are ready.
            [] => BTreeSet::new(),
            _ => ready.values().filter(|item| held(item)).map(|item| &item.key).collect(),
        };
        let free = || ready.iter().filter(|((_, key), _)| !held.contains(key));
        let oldest = free().next().map(|((since, _), _)| *since);
        match gather(profile, ready.len() - held.len(), oldest, now) {
            Gather::Idle => Err(None),
            Gather::WaitUntil(sweep) => Err(Some(sweep)),
            Gather::Take(count) => Ok(free().take(count).map(|(_, item)| item.clone()).collect()),
        }
    }

    fn forget_ready(&self, profile: &str, batch: &[TaskPartition]) {
        if let Some(ready) = self.memory().ready.get_mut(profile) {
            ready.retain(|(_, key), _| !batch.iter().any(|item| item.key == *key));
        }
    }

    async fn start_run(
        &self,
        catalog: &Catalog,
        profile: &Profile,
        batch: &[TaskPartition],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let members: Vec<_> = batch
            .iter()
            .filter_map(|item| Some((catalog.tasks.get(&item.key.task)?, item)))
            .collect();
        if members.is_empty() {
            // Their tasks have gone meanwhile; they may come back.
            self.forget_ready(&profile.name, batch);
            return Ok(());
        }
        let (mut run, changes) = Run::new(catalog, profile, &members, &self.new_id(), now);
        let items = members.iter().map(|(_, item)| (*item).clone()).collect();
        self.store_inputs(catalog, &run.id, items).await?;
        let result = self.store.commit_run(&mut run, &changes).await;
        if matches!(result, Ok(()) | Err(StoreError::Conflict(_))) {
            self.forget_ready(&profile.name, batch);
            // On a conflict whoever is still ready comes back by this.
            self.wake_tasks(batch.iter().map(|item| &item.key));
        }
        match result {
            Ok(()) => {
                let partitions = run.members.len();
                tracing::info!(run = run.id, profile = run.profile, partitions, "run created");
                self.count_changes(&run, &changes);
                self.agenda.wake(Key::Run(run.id), now);
                Ok(())
            }
            Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
