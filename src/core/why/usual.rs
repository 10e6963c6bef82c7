//! When something usually arrives, by when it did for a task's last partitions.
//! Says nothing where too few are known. Not a promise, and no limit: those are in
//! `lateness`.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::core::catalog::{OnTimeout, Task};
use crate::core::partition::Partition;

/// Fewer say nothing about what is usual.
const LEAST: usize = 3;

/// When one partition had all it needs, and when it succeeded. Only of a first
/// round that nobody asked for: the others tell of people, not of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub partition: Partition,
    pub ready: Option<Timestamp>,
    pub succeeded: Option<Timestamp>,
}

/// How long after their ends a task's last partitions usually had all they need, and
/// had succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usual {
    ready: Option<Median>,
    succeeded: Option<Median>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Median {
    after: SignedDuration,
    of: usize,
}

/// When something is usually there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usually {
    pub at: Timestamp,
    /// Of how many partitions that is the median.
    pub partitions: usize,
}

impl Usual {
    pub fn of(task: &Task, timings: &[Timing]) -> Self {
        // Those that ran without what was missing do not tell when it came.
        let all_there = |timing: &&Timing| {
            let limit = task.wait.filter(|wait| wait.then == OnTimeout::Run);
            let deadline = limit.map(|wait| wait.deadline(&timing.partition));
            deadline.is_none_or(|deadline| timing.ready.is_some_and(|ready| ready < deadline))
        };
        let ready = timings.iter().filter(all_there);
        Self {
            ready: median(ready.filter_map(|timing| Some((timing.partition, timing.ready?)))),
            succeeded: median(
                timings.iter().filter_map(|timing| Some((timing.partition, timing.succeeded?))),
            ),
        }
    }

    /// When a partition usually has all it needs.
    pub(super) fn ready(&self, partition: &Partition) -> Option<Usually> {
        self.ready?.for_end(partition.end())
    }

    /// When the last of some partitions has usually succeeded.
    pub(super) fn succeeded(&self, partitions: &[Partition]) -> Option<Usually> {
        self.succeeded?.for_end(partitions.iter().map(Partition::end).max()?)
    }
}

impl Median {
    fn for_end(self, end: Timestamp) -> Option<Usually> {
        Some(Usually { at: end.checked_add(self.after).ok()?, partitions: self.of })
    }
}

fn median(times: impl Iterator<Item = (Partition, Timestamp)>) -> Option<Median> {
    let mut delays: Vec<_> =
        times.map(|(partition, at)| at.duration_since(partition.end())).collect();
    delays.sort_unstable();
    let after = *delays.get(delays.len() / 2).filter(|_| delays.len() >= LEAST)?;
    Some(Median { after, of: delays.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::WaitLimit;
    use crate::core::catalog::testing::task;
    use crate::core::partition::Grain;

    /// Minutes after the end of each hour from 00 on.
    fn usual(task: &Task, minutes: &[Option<i64>]) -> Option<Usually> {
        let timing = |(hour, after): (usize, &Option<i64>)| {
            let partition: Partition = format!("2013-01-01T{hour:02}").parse().unwrap();
            let at = after.map(|after| partition.end() + SignedDuration::from_mins(after));
            Timing { partition, ready: at, succeeded: None }
        };
        let timings: Vec<_> = minutes.iter().enumerate().map(timing).collect();
        Usual::of(task, &timings).ready(&"2013-01-02T00".parse().unwrap())
    }

    #[test]
    fn the_median_of_enough_partitions_is_usual() {
        let task = task("etl", Grain::Hour, vec![]);
        for (minutes, expected) in [
            (&[][..], None),
            (&[Some(5), Some(6)], None),
            (&[Some(5), None, Some(6)], None),
            (&[Some(9), Some(600), Some(7)], Some(("01:09", 3))),
            (&[Some(-5), Some(-6), Some(-7), None], Some(("00:54", 3))),
        ] {
            let expected = expected.map(|(at, partitions)| Usually {
                at: format!("2013-01-02T{at}:00Z").parse().unwrap(),
                partitions,
            });
            assert_eq!(usual(&task, minutes), expected, "{minutes:?}");
        }
    }

    #[test]
    fn those_that_ran_without_what_was_missing_do_not_count() {
        let mut task = task("etl", Grain::Hour, vec![]);
        let minutes = [Some(10), Some(60), Some(60), Some(60), Some(20), Some(30)];
        assert_eq!(usual(&task, &minutes).unwrap().partitions, 6);
        let wait = WaitLimit { timeout: SignedDuration::from_mins(60), then: OnTimeout::Run };
        task.wait = Some(wait);
        let found = usual(&task, &minutes).unwrap();
        assert_eq!((found.partitions, found.at), (3, "2013-01-02T01:20:00Z".parse().unwrap()));
        task.wait = Some(WaitLimit { then: OnTimeout::Fail, ..wait });
        assert_eq!(usual(&task, &minutes).unwrap().partitions, 6);
    }
}
