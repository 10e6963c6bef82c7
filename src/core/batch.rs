//! Gathers ready task partitions of one cluster profile into batches: by size, or when the
//! oldest has waited long enough, but for what a pause or a cap holds.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::cap::{Cap, Capped};
use super::catalog::{Catalog, Profile, Task};
use super::pause::{Pause, holding};
use super::schedule::{CatchUp, Schedule};
use super::task::{TaskKey, TaskPartition};

/// What keeps ready partitions from a batch.
#[derive(Debug)]
pub struct Held {
    pauses: Vec<Pause>,
    /// Each with how much it allows.
    caps: Vec<(Cap, u32)>,
}

impl Held {
    /// As it was just read.
    pub fn new(pauses: Vec<Pause>, caps: Vec<(Cap, u32)>) -> Self {
        Self { pauses, caps }
    }

    pub fn into_caps(self) -> Vec<(Cap, u32)> {
        self.caps
    }

    pub fn has_no_room_for_clusters(&self) -> bool {
        let of_clusters = self.caps.iter().filter(|(cap, _)| !matches!(cap.of, Capped::Task(_)));
        of_clusters.into_iter().any(|(cap, max)| cap.count() >= *max)
    }

    /// Which of the ready partitions, in the order in which they go, are held back.
    fn back<'a>(
        &self,
        catalog: &Catalog,
        ready: impl Iterator<Item = &'a TaskKey>,
    ) -> BTreeSet<&'a TaskKey> {
        // However many are ready.
        if self.pauses.is_empty() && !catalog.has_caps() {
            return BTreeSet::new();
        }
        let mut room: BTreeMap<&str, u32> = BTreeMap::new();
        for (cap, max) in &self.caps {
            if let Capped::Task(task) = &cap.of {
                room.insert(task, max.saturating_sub(cap.count()));
            }
        }
        let mut is_held = |key: &TaskKey| {
            let task = catalog.tasks.get(&key.task);
            if task.is_some_and(|task| holding(&self.pauses, task).is_some()) {
                return true;
            }
            let Some(left) = room.get_mut(key.task.as_str()) else {
                // It became ready while the caps were read: the next look knows it.
                return task.is_some_and(|task| task.max_active.is_some());
            };
            let full = *left == 0;
            *left = left.saturating_sub(1);
            full
        };
        ready.filter(|key| is_held(key)).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Gather {
    /// Nothing is ready.
    Idle,
    /// Too few; the timer sweeps them up at this instant.
    WaitUntil(Timestamp),
    /// Put so many, the first of them, into a batch now.
    Take(usize),
}

/// What to do with the ready partitions of a profile, given how many there are
/// and since when the oldest is ready.
fn gather(profile: &Profile, count: usize, oldest: Option<Timestamp>, now: Timestamp) -> Gather {
    let Some(oldest) = oldest else { return Gather::Idle };
    if count >= profile.batch_size {
        return Gather::Take(profile.batch_size);
    }
    let sweep = oldest.saturating_add(profile.max_wait).unwrap_or(Timestamp::MAX);
    if sweep <= now { Gather::Take(count) } else { Gather::WaitUntil(sweep) }
}

/// Whether of what is ready of a task the newest goes first.
pub fn goes_newest_first(task: &Task) -> bool {
    let catch_up = task.schedule.as_ref().map(Schedule::catch_up);
    catch_up == Some(CatchUp::NewestFirst)
}

/// The order in which ready partitions go, given those that have been ready longest
/// first. Slots that are made up become ready in the same moment, so a task with a schedule
/// lets its oldest partition go in the place of its first one, and so on; or its newest, if
/// it catches up so. To other tasks, and to backfills, which have an order of their own, that
/// changes nothing.
fn in_order<'a>(
    catalog: &Catalog,
    ready: impl Iterator<Item = &'a TaskPartition>,
) -> Vec<&'a TaskPartition> {
    let mut ready: Vec<_> = ready.collect();
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, item) in ready.iter().enumerate() {
        let task = catalog.tasks.get(&item.key.task).filter(|task| task.schedule.is_some());
        if task.is_some() && item.round.backfill.is_none() {
            places.entry(&item.key.task).or_default().push(place);
        }
    }
    for (task, places) in places {
        let mut items: Vec<_> = places.iter().map(|place| ready[*place]).collect();
        items.sort_by_key(|item| item.key.partition);
        if catalog.tasks.get(task).is_some_and(goes_newest_first) {
            items.reverse();
        }
        for (place, item) in places.into_iter().zip(items) {
            ready[place] = item;
        }
    }
    ready
}

/// What is ready of a profile: since when → which.
pub type Ready = BTreeMap<(Timestamp, TaskKey), TaskPartition>;

/// Whether there would be a batch now if nothing were held, or when to look again.
pub fn is_due(profile: &Profile, ready: &Ready, now: Timestamp) -> Result<(), Option<Timestamp>> {
    let oldest = ready.keys().next().map(|(since, _)| *since);
    match gather(profile, ready.len(), oldest, now) {
        Gather::Idle => Err(None),
        Gather::WaitUntil(sweep) => Err(Some(sweep)),
        Gather::Take(_) => Ok(()),
    }
}

/// The partitions of a profile that go into a batch now, but for those that are held; or when
/// to look again.
pub fn next_batch(
    catalog: &Catalog,
    profile: &Profile,
    ready: &Ready,
    held: &Held,
    now: Timestamp,
) -> Result<Vec<TaskPartition>, Option<Timestamp>> {
    // How many of a task are held does not depend on the order; how long one has waited must
    // not depend on what came after it.
    let by_age = held.back(catalog, ready.keys().map(|(_, key)| key));
    let oldest = ready.keys().find(|(_, key)| !by_age.contains(key)).map(|(since, _)| *since);
    match gather(profile, ready.len() - by_age.len(), oldest, now) {
        Gather::Idle => Err(None),
        Gather::WaitUntil(sweep) => Err(Some(sweep)),
        Gather::Take(count) => {
            let ordered = in_order(catalog, ready.values());
            let held = held.back(catalog, ordered.iter().map(|item| &item.key));
            let free = ordered.into_iter().filter(|item| !held.contains(&item.key));
            Ok(free.take(count).cloned().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing::{profile, task};
    use crate::core::partition::Grain;
    use crate::core::schedule::SlotPartition;
    use crate::core::task::Round;
    use jiff::SignedDuration;

    #[test]
    fn takes_by_size_or_by_time() {
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let mut small = profile("small");
        small.batch_size = 2;
        small.max_wait = SignedDuration::from_mins(10);
        for (ready_since, now, expected) in [
            (vec![], 0, Gather::Idle),
            (vec![1], 10, Gather::WaitUntil(at(11))),
            (vec![1], 11, Gather::Take(1)),
            (vec![1, 2], 2, Gather::Take(2)),
            (vec![1, 2, 3], 60, Gather::Take(2)),
        ] {
            let oldest = ready_since.first().copied().map(at);
            assert_eq!(gather(&small, ready_since.len(), oldest, at(now)), expected);
        }
    }

    /// A task that catches up with its newest first, and one that does not.
    fn catalog() -> Catalog {
        let task = |(name, catch_up): (&str, CatchUp)| {
            let schedule = Schedule::parse("5 * * * *", "UTC", SlotPartition::Previous).unwrap();
            let schedule = Some(schedule.catching_up(catch_up));
            let task = task(name, Grain::Hour, Vec::new());
            Task { schedule, max_active: Some(1), ..task }
        };
        let tasks = [("last", CatchUp::NewestFirst), ("plain", CatchUp::All)].map(task);
        Catalog::new("d".to_owned(), Vec::new(), Vec::new(), tasks.to_vec())
    }

    fn item((task, hour): (&str, &str)) -> TaskPartition {
        let partition = format!("2013-01-01T{hour}").parse().unwrap();
        TaskPartition::new(TaskKey::new(task, partition))
    }

    #[test]
    fn slots_go_in_order_or_the_newest_first_where_the_schedule_says_so() {
        let catalog = catalog();
        let ready = [("last", "03"), ("plain", "04"), ("last", "04"), ("plain", "03")].map(item);
        let found: Vec<_> = in_order(&catalog, ready.iter()).into_iter().cloned().collect();
        let expected = [("last", "04"), ("plain", "03"), ("last", "03"), ("plain", "04")];
        assert_eq!(found, expected.map(item));
        // A backfill has an order of its own.
        let round = Round { number: 1, backfill: Some("B".to_owned()) };
        let backfilled = ready.map(|item| TaskPartition { round: round.clone(), ..item });
        let found = in_order(&catalog, backfilled.iter());
        assert_eq!(found, backfilled.iter().collect::<Vec<_>>());
    }

    /// What came after it is taken before it, but it has waited all the same.
    #[test]
    fn the_timer_runs_from_the_oldest_although_the_newest_goes_first() {
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let catalog = catalog();
        let mut small = profile("small");
        (small.batch_size, small.max_wait) = (4, SignedDuration::from_mins(10));
        let held = Held::new(Vec::new(), vec![(Cap::new(Capped::Task("last".to_owned())), 1)]);
        let mut ready = BTreeMap::new();
        for (minute, hour) in [(0, "03"), (4, "04"), (8, "05")] {
            let item = item(("last", hour));
            ready.insert((at(minute), item.key.clone()), item);
            let next = next_batch(&catalog, &small, &ready, &held, at(minute));
            assert_eq!(next, Err(Some(at(10))));
        }
        let next = next_batch(&catalog, &small, &ready, &held, at(10));
        assert_eq!(next, Ok(vec![item(("last", "05"))]));
    }
}
