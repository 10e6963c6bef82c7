//! A turn of one task's schedule: gives every slot since the stored mark to
//! its partition and moves the mark, in one transaction. Its own next slot wakes
//! it too, should a tick not come: the scheduler reads some expressions and the
//! change of clocks differently.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Engine, Key};
use crate::aws::store::{Mark, StoreError};
use crate::core::task::TaskKey;

/// Slots in one transaction; more go into the next.
const SLOTS_MAX: usize = 50;

impl Engine {
    pub(super) async fn turn_schedule(&self, task: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some(task) = self.catalog.tasks.get(task) else { return Ok(None) };
        let Some(schedule) = &task.schedule else { return Ok(None) };
        let now = self.clock.now();
        let Some(mark) = self.store.mark(&task.name).await? else {
            // A schedule begins when it is first seen: no past is made up.
            self.store.fire(&task.name, None, Mark(now), &[]).await?;
            return Ok(schedule.next(now));
        };
        let slots = schedule.due(mark.0, now, SLOTS_MAX);
        let Some(last) = slots.last() else { return Ok(schedule.next(now)) };
        // Slots that stand for the same partition are one to it.
        let partitions: BTreeMap<_, _> =
            slots.iter().map(|slot| (schedule.partition_of(*slot, task.grain), *slot)).collect();
        let fired: Vec<_> = partitions.into_iter().collect();
        self.store.fire(&task.name, Some(mark), Mark(*last), &fired).await?;
        for (partition, slot) in fired {
            tracing::info!(task = task.name, %partition, %slot, "slot");
            self.agenda.wake(Key::Task(TaskKey::new(&task.name, partition)), now);
        }
        Ok(if slots.len() == SLOTS_MAX { Some(now) } else { schedule.next(now) })
    }
}
