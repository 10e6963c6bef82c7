//! The task partitions that time alone calls into being: those that the slots
//! of a task's schedule stand for or, where waiting or lateness has a limit, each
//! partition as it ends. Not for when a schedule's slots are (see `schedule`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::catalog::Task;
use super::partition::Partition;

/// A task partition that a task's calendar calls into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// Its schedule's slot.
    Slot { partition: Partition, slot: Timestamp },
    /// It has ended; it is looked at when it has waited long enough, or at once
    /// where limits to its lateness have to be planned.
    End { partition: Partition, look: Timestamp },
}

impl Entry {
    pub fn partition(&self) -> Partition {
        match self {
            Entry::Slot { partition, .. } | Entry::End { partition, .. } => *partition,
        }
    }

    /// The instant by which its partition is expected to be there.
    pub fn expected(&self) -> Timestamp {
        match self {
            Entry::Slot { slot, .. } => *slot,
            Entry::End { partition, .. } => partition.end(),
        }
    }
}

/// The entries of a task's calendar after `mark` up to `now`, at most `limit`
/// steps of it; the instant up to which they reach, and when to look again.
pub struct Due {
    pub entries: Vec<Entry>,
    pub mark: Timestamp,
    pub next: Option<Timestamp>,
    /// The first slot that is passed over, and the instant up to which all are.
    pub passed_over: Option<(Timestamp, Timestamp)>,
}

pub fn due_entries(task: &Task, mark: Timestamp, now: Timestamp, limit: usize) -> Due {
    let passed_over = task.schedule.as_ref().and_then(|schedule| {
        let until = schedule.passed_over(mark, now);
        let first = schedule.next(mark).filter(|first| *first <= until)?;
        Some((first, until))
    });
    let mark = passed_over.map_or(mark, |(_, until)| until);
    let (steps, next): (Vec<(Timestamp, Entry)>, _) = match &task.schedule {
        Some(schedule) => {
            let slots = schedule.due(mark, now, limit).into_iter().map(|slot| {
                let partition = schedule.partition_of(slot, task.grain);
                (slot, Entry::Slot { partition, slot })
            });
            (slots.collect(), schedule.next(now))
        }
        None if task.has_calendar() => {
            let ends = Partition::overlapping(mark, now, task.grain)
                .filter(|partition| partition.end() <= now)
                .take(limit)
                .map(|partition| {
                    let wait = task.wait.filter(|_| !task.time_limits.expect_partitions());
                    let look = wait.map_or(partition.end(), |wait| wait.deadline(&partition));
                    (partition.end(), Entry::End { partition, look })
                });
            (ends.collect(), Some(Partition::containing(now, task.grain).end()))
        }
        None => (Vec::new(), None),
    };
    let next = if steps.len() == limit { Some(now) } else { next };
    let mark = steps.last().map_or(mark, |(at, _)| *at);
    // Slots that stand for the same partition are one to it: the last counts.
    let by_partition: BTreeMap<_, _> =
        steps.into_iter().map(|(_, entry)| (entry.partition(), entry)).collect();
    Due { entries: by_partition.into_values().collect(), mark, next, passed_over }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::{Need, OnTimeout, WaitLimit, WhenEmpty};
    use crate::core::lateness::TimeLimits;
    use crate::core::partition::Grain;
    use crate::core::schedule::{CatchUp, Schedule, SlotPartition};
    use jiff::SignedDuration;
    use proptest::prelude::*;

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
            time_limits: Default::default(),
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
            Entry::End { partition, look } => format!("{partition} by {look}"),
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

    #[test]
    fn a_limit_to_lateness_gives_each_partition_as_it_ends_to_be_looked_at_at_once() {
        let hour = Some(SignedDuration::from_hours(1));
        for (wait_hours, start_by, end_by, duration_max, expected) in [
            (None, hour, None, None, "2013-01-01T05 by 2013-01-01T06:00:00Z"),
            (Some(6), None, hour, None, "2013-01-01T05 by 2013-01-01T06:00:00Z"),
            (Some(6), None, None, hour, "2013-01-01T05 by 2013-01-01T12:00:00Z"),
        ] {
            let mut limited = task(None, wait_hours);
            limited.time_limits = TimeLimits { start_by, end_by, duration_max };
            let (entries, ..) = due(&limited, "2013-01-01T05:30:00Z", "2013-01-01T06:30:00Z", 9);
            assert_eq!(entries, [expected]);
        }
        // How long it runs says nothing of which partitions there are.
        let mut limited = task(None, None);
        limited.time_limits.duration_max = hour;
        assert!(!limited.has_calendar());
    }

    #[test]
    fn after_a_downtime_each_slot_the_newest_or_none_is_made_up() {
        for (catch_up, hours, mark) in [
            (CatchUp::All, &["05", "06", "07", "08"][..], "09:05:00"),
            (CatchUp::NewestFirst, &["05", "06", "07", "08"], "09:05:00"),
            (CatchUp::Last, &["08"], "09:05:00"),
            // Passed over once and for all, whatever the schedule says later.
            (CatchUp::None, &[], "09:25:00"),
        ] {
            let mut task = task(Some("5 * * * *"), None);
            task.schedule = task.schedule.map(|schedule| schedule.catching_up(catch_up));
            let (entries, reached, next) =
                due(&task, "2013-01-01T05:30:00Z", "2013-01-01T09:30:00Z", 9);
            let found: Vec<_> = entries.iter().map(|entry| &entry[11..13]).collect();
            assert_eq!(found, hours, "{catch_up:?}");
            assert_eq!(reached, format!("2013-01-01T{mark}Z"), "{catch_up:?}");
            assert_eq!(next, "2013-01-01T10:05:00Z");
            // Within five minutes nothing was missed.
            let (entries, ..) = due(&task, "2013-01-01T05:30:00Z", "2013-01-01T06:09:59Z", 9);
            assert_eq!(entries.len(), 1, "{catch_up:?}");
        }
    }

    proptest! {
        /// Whenever turns come, and however many slots one transaction holds: each slot
        /// is given once or passed over once, in order and as the policy says.
        #[test]
        fn slots_and_instants_correspond_one_to_one_under_each_policy(
            cron in proptest::sample::select(vec!["5 * * * *", "0 */3 * * *", "59 1-4 * * *"]),
            zone in proptest::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York"]),
            catch_up in proptest::sample::select(vec![
                CatchUp::All, CatchUp::NewestFirst, CatchUp::Last, CatchUp::None,
            ]),
            start in 1_300_000_000i64..1_900_000_000,
            waits in proptest::collection::vec(
                prop_oneof![1i64..400, 3_000i64..4_000, 10_000i64..400_000], 1..12,
            ),
            limit in 1usize..5,
        ) {
            let schedule = Schedule::parse(cron, zone, SlotPartition::Previous).unwrap();
            let schedule = schedule.catching_up(catch_up);
            let task = Task { schedule: Some(schedule.clone()), ..task(None, None) };
            let mut mark = Timestamp::from_second(start).unwrap();
            let mut now = mark;
            for wait in waits {
                let before = now;
                now += SignedDuration::from_secs(wait);
                let all = schedule.due(before, now, usize::MAX);
                let in_time = now - SignedDuration::from_mins(5);
                let made_up: Vec<_> = all.iter().copied().filter(|slot| match catch_up {
                    CatchUp::All | CatchUp::NewestFirst => true,
                    CatchUp::Last => *slot > in_time || Some(slot) == all.last(),
                    CatchUp::None => *slot > in_time,
                }).collect();
                let mut given = Vec::new();
                loop {
                    let due = due_entries(&task, mark, now, limit);
                    prop_assert!(due.mark >= mark && due.mark <= now);
                    given.extend(due.entries.iter().map(|entry| match entry {
                        Entry::Slot { slot, .. } => *slot,
                        Entry::End { .. } => unreachable!("it has a schedule"),
                    }));
                    let moved = due.mark > mark;
                    mark = due.mark;
                    if !moved { break }
                }
                prop_assert_eq!(given, made_up, "{:?}", catch_up);
            }
        }
    }
}
