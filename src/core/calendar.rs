//! The task partitions that time alone calls into being: those that the slots
//! of a task's schedule stand for or, where waiting has a limit, each partition
//! as it ends. Not for when a schedule's slots are (see `schedule`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::catalog::Task;
use super::partition::Partition;

/// A task partition that a task's calendar calls into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Its schedule's slot.
    Slot { partition: Partition, slot: Timestamp },
    /// It has ended; it is looked at when it has waited long enough.
    End { partition: Partition, deadline: Timestamp },
}

/// The entries of a task's calendar after `mark` up to `now`, at most `limit`
/// steps of it; the instant up to which they reach, and when to look again.
pub struct Due {
    pub entries: Vec<Entry>,
    pub mark: Timestamp,
    pub next: Option<Timestamp>,
}

pub fn due_entries(task: &Task, mark: Timestamp, now: Timestamp, limit: usize) -> Due {
    let (steps, next): (Vec<(Timestamp, Entry)>, _) = match (&task.schedule, task.wait) {
        (Some(schedule), _) => {
            let slots = schedule.due(mark, now, limit).into_iter().map(|slot| {
                let partition = schedule.partition_of(slot, task.grain);
                (slot, Entry::Slot { partition, slot })
            });
            (slots.collect(), schedule.next(now))
        }
        (None, Some(wait)) => {
            let ends = Partition::overlapping(mark, now, task.grain)
                .filter(|partition| partition.end() <= now)
                .take(limit)
                .map(|partition| {
                    let deadline = wait.deadline(&partition);
                    (partition.end(), Entry::End { partition, deadline })
                });
            (ends.collect(), Some(Partition::containing(now, task.grain).end()))
        }
        (None, None) => (Vec::new(), None),
    };
    let next = if steps.len() == limit { Some(now) } else { next };
    let mark = steps.last().map_or(mark, |(at, _)| *at);
    // Slots that stand for the same partition are one to it: the last counts.
    let by_partition: BTreeMap<_, _> = steps
        .into_iter()
        .map(|(_, entry)| match entry {
            Entry::Slot { partition, .. } | Entry::End { partition, .. } => (partition, entry),
        })
        .collect();
    Due { entries: by_partition.into_values().collect(), mark, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::{Need, OnTimeout, WaitLimit, WhenEmpty};
    use crate::core::partition::Grain;
    use crate::core::schedule::{Schedule, SlotPartition};
    use jiff::SignedDuration;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn task(schedule: Option<&str>, wait_hours: Option<i64>) -> Task {
        let parse = |cron| Schedule::parse(cron, "UTC", SlotPartition::Previous).unwrap();
        Task {
            name: "t".into(),
            profile: "p".into(),
            grain: Grain::Hour,
            schedule: schedule.map(parse),
            inputs: vec![],
            need: Need::All,
            wait: wait_hours.map(|hours| WaitLimit {
                timeout: SignedDuration::from_hours(hours),
                then: OnTimeout::Fail,
            }),
            outputs: vec![],
            when_empty: WhenEmpty::Run,
            late_data: Default::default(),
            attempt_timeout: None,
            steps: vec![],
            load: None,
            max_active: None,
        }
    }

    /// The entries in a word each, the mark and the next look.
    fn due(task: &Task, mark: &str, now: &str, limit: usize) -> (Vec<String>, String, String) {
        let due = due_entries(task, at(mark), at(now), limit);
        let words = due.entries.iter().map(|entry| match entry {
            Entry::Slot { partition, slot } => format!("{partition} slot {slot}"),
            Entry::End { partition, deadline } => format!("{partition} by {deadline}"),
        });
        let next = due.next.map_or_else(String::new, |next| next.to_string());
        (words.collect(), due.mark.to_string(), next)
    }

    #[test]
    fn a_schedule_gives_its_slots_and_goes_on_where_the_limit_was() {
        let hourly = task(Some("5 * * * *"), Some(6));
        let (entries, mark, next) = due(&hourly, "2013-01-01T05:00:00Z", "2013-01-01T07:10:00Z", 2);
        assert_eq!(
            entries,
            ["2013-01-01T04 slot 2013-01-01T05:05:00Z", "2013-01-01T05 slot 2013-01-01T06:05:00Z"]
        );
        assert_eq!(
            (mark.as_str(), next.as_str()),
            ("2013-01-01T06:05:00Z", "2013-01-01T07:10:00Z")
        );
        let (entries, _, next) = due(&hourly, &mark, "2013-01-01T07:10:00Z", 2);
        assert_eq!((entries.len(), next.as_str()), (1, "2013-01-01T08:05:00Z"));
    }

    #[test]
    fn slots_of_one_partition_are_one_and_the_last_counts() {
        let twice = task(Some("5,35 * * * *"), None);
        let (entries, mark, _) = due(&twice, "2013-01-01T05:00:00Z", "2013-01-01T05:40:00Z", 9);
        assert_eq!(entries, ["2013-01-01T04 slot 2013-01-01T05:35:00Z"]);
        assert_eq!(mark, "2013-01-01T05:35:00Z");
    }

    #[test]
    fn a_limit_to_waiting_gives_each_partition_as_it_ends() {
        let limited = task(None, Some(6));
        let (entries, mark, next) =
            due(&limited, "2013-01-01T05:30:00Z", "2013-01-01T07:30:00Z", 9);
        assert_eq!(
            entries,
            ["2013-01-01T05 by 2013-01-01T12:00:00Z", "2013-01-01T06 by 2013-01-01T13:00:00Z"]
        );
        assert_eq!(
            (mark.as_str(), next.as_str()),
            ("2013-01-01T07:00:00Z", "2013-01-01T08:00:00Z")
        );
        let (entries, ..) = due(&limited, &mark, "2013-01-01T07:59:59Z", 9);
        assert!(entries.is_empty());
        assert!(
            due(&task(None, None), "2013-01-01T05:30:00Z", "2014-01-01T00:00:00Z", 9).0.is_empty()
        );
    }
}
