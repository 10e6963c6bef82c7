//! Gathers ready task partitions of one cluster profile into batches: by size,
//! or when the oldest has waited long enough.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::catalog::{Catalog, Profile};
use super::schedule::CatchUp;
use super::task::TaskPartition;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Gather {
    /// Nothing is ready.
    Idle,
    /// Too few; the timer sweeps them up at this instant.
    WaitUntil(Timestamp),
    /// Put so many, the first of them, into a batch now.
    Take(usize),
}

/// What to do with the ready partitions of a profile, given how many there are
/// and since when the oldest is ready.
pub fn gather(
    profile: &Profile,
    count: usize,
    oldest: Option<Timestamp>,
    now: Timestamp,
) -> Gather {
    let Some(oldest) = oldest else { return Gather::Idle };
    if count >= profile.batch_size {
        return Gather::Take(profile.batch_size);
    }
    let sweep = oldest.saturating_add(profile.max_wait).unwrap_or(Timestamp::MAX);
    if sweep <= now { Gather::Take(count) } else { Gather::WaitUntil(sweep) }
}

/// The order in which ready partitions go, given those that have been ready longest
/// first. A task that catches up with the newest first lets its newest partition go in the
/// place of its first one, and so on: to other tasks that changes nothing.
pub fn in_order<'a>(
    catalog: &Catalog,
    ready: impl Iterator<Item = &'a TaskPartition>,
) -> Vec<&'a TaskPartition> {
    let mut ready: Vec<_> = ready.collect();
    let newest_first = |item: &TaskPartition| {
        let schedule = catalog.tasks.get(&item.key.task).and_then(|task| task.schedule.as_ref());
        schedule.is_some_and(|schedule| schedule.catch_up() == CatchUp::NewestFirst)
    };
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, item) in ready.iter().enumerate().filter(|(_, item)| newest_first(item)) {
        places.entry(&item.key.task).or_default().push(place);
    }
    for places in places.into_values() {
        let mut items: Vec<_> = places.iter().map(|place| ready[*place]).collect();
        items.sort_by_key(|item| std::cmp::Reverse(item.key.partition));
        for (place, item) in places.into_iter().zip(items) {
            ready[place] = item;
        }
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::Task;
    use crate::core::catalog::testing::{profile, task};
    use crate::core::partition::Grain;
    use crate::core::schedule::{Schedule, SlotPartition};
    use crate::core::task::TaskKey;
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

    #[test]
    fn the_newest_goes_first_where_the_schedule_says_so() {
        let task = |(name, catch_up): (&str, CatchUp)| {
            let schedule = Schedule::parse("5 * * * *", "UTC", SlotPartition::Previous).unwrap();
            let schedule = Some(schedule.catching_up(catch_up));
            Task { schedule, ..task(name, Grain::Hour, Vec::new()) }
        };
        let tasks = [("last", CatchUp::NewestFirst), ("plain", CatchUp::All)].map(task);
        let catalog = Catalog::new("d".to_owned(), Vec::new(), Vec::new(), tasks.to_vec());
        let item = |(task, hour): (&str, &str)| {
            let partition = format!("2013-01-01T{hour}").parse().unwrap();
            TaskPartition::new(TaskKey::new(task, partition))
        };
        let ready = [("last", "03"), ("plain", "03"), ("last", "04"), ("plain", "04")];
        let ready: Vec<_> = ready.into_iter().map(item).collect();
        let found = in_order(&catalog, ready.iter());
        let found: Vec<_> = found.iter().map(|item| item.key.to_string()).collect();
        let expected = [("last", "04"), ("plain", "03"), ("last", "03"), ("plain", "04")];
        assert_eq!(found, expected.map(|expected| item(expected).key.to_string()));
    }
}
