//! A turn of one cluster profile: gathers its ready partitions into batches,
//! and makes a run of each. The gathered partitions are in memory only; the
//! due index gives them back after a restart.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Engine, Key};
use crate::aws::error::Kind;
use crate::aws::store::StoreError;
use crate::core::batch::{Held, Ready, is_due, next_batch};
use crate::core::cap::{Cap, Capped};
use crate::core::catalog::{Catalog, Profile};
use crate::core::run::Run;
use crate::core::task::{TaskKey, TaskPartition};

impl Engine {
    /// Puts a ready partition among those that wait for a batch.
    pub(super) fn gather(&self, profile: &str, item: &TaskPartition) {
        let now = self.clock.now();
        let since = item.ready_at.unwrap_or(now);
        let mut memory = self.memory();
        let ready = memory.ready.entry(profile.to_owned()).or_default();
        // It may have been ready before, in an earlier round.
        if item.round.number > 0 {
            ready.retain(|(_, key), _| *key != item.key);
        }
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
            if let Err(next) = self.of_ready(&profile, |ready| is_due(&profile, ready, now)) {
                return Ok(next);
            }
            // Read before every batch: from the moment that a pause is stored, no
            // replica begins another.
            let pauses = self.store.pauses().await?;
            let held = Held::new(pauses, self.caps(&catalog, &profile).await?);
            // What ended before the caps were read ended before a run that takes its place.
            let now = self.clock.now();
            let look = super::after(now, self.sweep_interval);
            if held.has_no_room_for_clusters() {
                return Ok(Some(look));
            }
            let next = |ready: &Ready| next_batch(&catalog, &profile, ready, &held, now);
            let batch = match self.of_ready(&profile, next) {
                Ok(batch) => batch,
                // Nothing tells of a pause's end, or of all that make room.
                Err(next) => return Ok(Some(next.map_or(look, |next| next.min(look)))),
            };
            match self.start_run(&catalog, &profile, &batch, held.into_caps(), now).await {
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
                // It keeps nothing from the others.
                Err(error @ StoreError::Unwritable { .. }) => {
                    let damaged: Vec<_> =
                        batch.into_iter().filter(|item| error.is_of(&item.key)).collect();
                    if damaged.is_empty() {
                        return Err(error);
                    }
                    self.tell_unreadable(&error).await;
                    self.forget_ready(&profile.name, &damaged);
                }
                result => result?,
            }
        }
    }

    /// The caps that a batch of a profile is under, with those of its tasks. Where
    /// there may be no room, the runs that use them are looked at.
    async fn caps(
        &self,
        catalog: &Catalog,
        profile: &Profile,
    ) -> Result<Vec<(Cap, u32)>, StoreError> {
        let ready: BTreeSet<String> = match self.memory().ready.get(&profile.name) {
            Some(ready) => ready.keys().map(|(_, key)| key.task.clone()).collect(),
            None => BTreeSet::new(),
        };
        let of_tasks = ready.into_iter().filter_map(|name| {
            let max = catalog.tasks.get(&name)?.max_active?;
            Some((Capped::Task(name), max))
        });
        let mut caps = Vec::new();
        for (of, max) in catalog.caps_of_clusters(profile).into_iter().chain(of_tasks) {
            let mut cap = self.store.cap(&of).await?;
            let wanted = match of {
                Capped::Task(_) => u32::try_from(profile.batch_size).unwrap_or(u32::MAX),
                Capped::Profile(_) | Capped::Deployment => 1,
            };
            if cap.count().saturating_add(wanted) > max {
                for id in cap.used.keys().cloned().collect::<Vec<_>>() {
                    match self.store.run(&id).await {
                        Ok(run) => cap.look(&id, run.as_ref()),
                        // It counts as it stands, and keeps nothing from the others.
                        Err(StoreError::Unreadable { .. } | StoreError::Newer { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            caps.push((cap, max));
        }
        Ok(caps)
    }

    /// What a run used of caps may be free: looks at what is ready of all profiles.
    pub(super) fn wake_capped(&self) {
        let (catalog, now) = (self.catalog(), self.clock.now());
        if catalog.has_caps() {
            for profile in catalog.profiles.keys() {
                self.agenda.wake(Key::Batches(profile.clone()), now);
            }
        }
    }

    fn of_ready<T>(
        &self,
        profile: &Profile,
        decide: impl FnOnce(&Ready) -> Result<T, Option<Timestamp>>,
    ) -> Result<T, Option<Timestamp>> {
        decide(self.memory().ready.get(&profile.name).ok_or(None)?)
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
        caps: Vec<(Cap, u32)>,
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
        let mut caps: Vec<_> = caps.into_iter().map(|(cap, _)| cap).collect();
        caps.retain_mut(|cap| cap.take(&run));
        let result = self.store.commit_run_under(&mut run, &changes, &caps).await;
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
