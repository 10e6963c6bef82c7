//! A turn of one task's calendar: stores every task partition that its schedule,
//! or the end of a partition it waits for, has called into being since the stored
//! mark, and moves the mark, in one transaction. Its own next instant wakes it
//! too, should a tick not come: the scheduler reads some expressions and the
//! change of clocks differently.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Engine, Key};
use crate::aws::store::{Fired, Mark, StoreError};
use crate::core::calendar::{Entry, due_entries};
use crate::core::task::TaskKey;
use crate::planted::{Bug, planted};

/// Partitions in one transaction; more go into the next.
const ENTRIES_MAX: usize = 50;
/// Of those that are owed, so many are tried with them; DynamoDB takes 100 actions.
const OWED_MAX: usize = 40;

impl Engine {
    pub(super) async fn turn_schedule(&self, task: &str) -> Result<Option<Timestamp>, StoreError> {
        let catalog = self.catalog();
        let Some(task) = catalog.tasks.get(task).filter(|task| task.has_calendar()) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let mark = self.store.mark(&task.name).await?;
        // A calendar begins when it is first seen: no past is made up.
        let begins =
            if planted(Bug::PastMadeUp) { now - SignedDuration::from_hours(3) } else { now };
        let from = mark.as_ref().map_or(begins, |mark| mark.reached);
        let due = due_entries(task, from, now, ENTRIES_MAX);
        let (owed, later) = match mark.as_ref().map(|mark| mark.owed.as_slice()) {
            Some(owed) => owed.split_at(owed.len().min(OWED_MAX)),
            None => (&[][..], &[][..]),
        };
        let reached = Mark::at(due.mark);
        if mark.as_ref() == Some(&reached) {
            return Ok(due.next);
        }
        if let Some((first, until)) = due.passed_over {
            let catch_up = task.schedule.as_ref().map(|schedule| schedule.catch_up().name());
            tracing::warn!(
                task = task.name, %first, %until, catch_up,
                "slots that were missed are passed over, as the schedule says; a backfill runs them"
            );
        }
        // A transaction names an item once: what came last counts. A task whose
        // partitions have become days runs no hour.
        let fits = |entry: &&Entry| entry.partition().grain() == task.grain;
        let all = owed.iter().chain(&due.entries).filter(fits);
        let entries: BTreeMap<_, _> = all.map(|entry| (entry.partition(), *entry)).collect();
        let entries = entries.into_values().collect();
        let mut entries = self.young_enough(task, entries).await?;
        let mut new = Mark { owed: later.to_vec(), ..reached };
        let mut mark = mark;
        if planted(Bug::MarkBeforeSlots) {
            self.store.fire(&task.name, mark.as_ref(), &new, &[]).await?;
            mark = Some(new.clone());
        }
        // One item keeps nothing from the others: its entry is owed to it.
        let mut refusals = Vec::new();
        while !(entries.is_empty() && mark.as_ref() == Some(&new))
            && let Fired::Refused(refused) =
                self.store.fire(&task.name, mark.as_ref(), &new, &entries).await?
        {
            entries.retain(|entry| refused.iter().all(|(other, _)| other != entry));
            new.owed.extend(refused.iter().map(|(entry, _)| *entry));
            refusals.extend(refused);
        }
        for (_, error) in refusals {
            self.tell_unreadable(&error).await;
        }
        for entry in entries {
            let (partition, at) = match entry {
                Entry::Slot { partition, slot } => {
                    tracing::info!(task = task.name, %partition, %slot, "slot");
                    (partition, now)
                }
                Entry::End { partition, look } => (partition, look),
            };
            self.agenda.wake(Key::Task(TaskKey::new(&task.name, partition)), at);
        }
        let again = (!new.owed.is_empty()).then(|| super::after(now, self.sweep_interval));
        Ok(due.next.into_iter().chain(again).min())
    }
}
