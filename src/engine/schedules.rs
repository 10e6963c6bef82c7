//! A turn of one task's calendar: stores every task partition that its schedule,
//! or the end of a partition it waits for, has called into being since the stored
//! mark, and moves the mark, in one transaction. Its own next instant wakes it
//! too, should a tick not come: the scheduler reads some expressions and the
//! change of clocks differently.

use jiff::{SignedDuration, Timestamp};

use super::{Engine, Key};
use crate::aws::store::{Mark, StoreError};
use crate::core::calendar::{Entry, due_entries};
use crate::core::task::TaskKey;
use crate::planted::{Bug, planted};

/// Partitions in one transaction; more go into the next.
const ENTRIES_MAX: usize = 50;

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
        let from = mark.map_or(begins, |mark| mark.0);
        let due = due_entries(task, from, now, ENTRIES_MAX);
        if mark == Some(Mark(due.mark)) {
            return Ok(due.next);
        }
        if let Some((first, until)) = due.passed_over {
            let catch_up = task.schedule.as_ref().map(|schedule| schedule.catch_up().name());
            tracing::warn!(
                task = task.name, %first, %until, catch_up,
                "slots that were missed are passed over, as the schedule says; a backfill runs them"
            );
        }
        let entries = self.young_enough(task, due.entries).await?;
        let mut mark = mark;
        if planted(Bug::MarkBeforeSlots) {
            self.store.fire(&task.name, mark, Mark(due.mark), &[]).await?;
            mark = Some(Mark(due.mark));
        }
        self.store.fire(&task.name, mark, Mark(due.mark), &entries).await?;
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
        Ok(due.next)
    }
}
