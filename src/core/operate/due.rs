//! What a person may not give, or take for done: a partition that is not over, and one
//! for which its task's schedule has no slot. Given too early it would run without what
//! still comes, and when its own slot comes nothing runs any more.

use jiff::{SignedDuration, Timestamp};

use crate::core::catalog::Task;
use crate::core::partition::Partition;
use crate::core::task::{Element, TaskKey, TaskPartition};
use crate::core::why::slot_of;

/// A partition's slot lies no further before it than this.
const REACH: SignedDuration = SignedDuration::from_hours(72);

/// Why it may not; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDue {
    #[error(
        "{key} {what} {at}, which has not come: nothing was changed\n    what comes until then \
         would be lost to it; the newest partition that is over is {newest}",
        what = if *is_slot { "has its slot at" } else { "ends at" }
    )]
    Ahead { key: TaskKey, at: Timestamp, is_slot: bool, newest: Partition },
    #[error(
        "{key} has no slot in its task's schedule: nothing was changed\n    {}to insist: --force",
        around(.before, .after)
    )]
    NoSlot { key: TaskKey, before: Option<Partition>, after: Option<Partition> },
}

fn around(before: &Option<Partition>, after: &Option<Partition>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => {
            format!("the nearest that have one are {before} and {after}; ")
        }
        (Some(only), None) | (None, Some(only)) => format!("the nearest that has one is {only}; "),
        (None, None) => String::new(),
    }
}

/// From when on it is over: its slot may lie before its end, and that is enough.
fn over_at(task: &Task, partition: &Partition) -> (Timestamp, bool) {
    match slot_of(task, partition) {
        Some(slot) if slot < partition.end() => (slot, true),
        _ => (partition.end(), false),
    }
}

/// The newest partition that is over, not after `until`.
pub fn newest_over(task: &Task, until: Partition, now: Timestamp) -> Partition {
    let reach = now.saturating_add(REACH).unwrap_or(now);
    let mut newest = until.min(Partition::containing(reach, task.grain));
    while over_at(task, &newest).0 > now {
        newest = newest.before();
    }
    newest
}

/// Refuses what is not over.
pub fn refuse_ahead(task: &Task, key: &TaskKey, now: Timestamp) -> Result<(), NotDue> {
    let (at, is_slot) = over_at(task, &key.partition);
    if at <= now {
        return Ok(());
    }
    let newest = newest_over(task, key.partition, now);
    // It is to be one that may be given.
    let schedule = task.schedule.as_ref().filter(|_| slot_of(task, &newest).is_none());
    let newest = schedule.and_then(|schedule| schedule.around(newest).0).unwrap_or(newest);
    Err(NotDue::Ahead { key: key.clone(), at, is_slot, newest })
}

/// Whether it has no slot, and its task's schedule never gives it one.
pub fn lacks_slot(task: &Task, item: &TaskPartition) -> bool {
    task.schedule.is_some()
        && !item.has(&Element::Slot)
        && slot_of(task, &item.key.partition).is_none()
}

/// Refuses what lacks a slot for ever.
pub fn refuse_without_slot(task: &Task, item: &TaskPartition) -> Result<(), NotDue> {
    let Some(schedule) = task.schedule.as_ref().filter(|_| lacks_slot(task, item)) else {
        return Ok(());
    };
    let (before, after) = schedule.around(item.key.partition);
    Err(NotDue::NoSlot { key: item.key.clone(), before, after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing;
    use crate::core::partition::Grain;
    use crate::core::schedule::{Schedule, SlotPartition};

    fn task(grain: Grain, schedule: Option<(&str, &str, SlotPartition)>) -> Task {
        let parse = |(cron, zone, of)| Schedule::parse(cron, zone, of).unwrap();
        Task { schedule: schedule.map(parse), ..testing::task("t", grain, vec![]) }
    }

    fn refused(task: &Task, partition: &str, now: &str) -> Option<String> {
        let key = TaskKey::new("t", partition.parse().unwrap());
        let refused = refuse_ahead(task, &key, now.parse().unwrap());
        refused.err().map(|refused| refused.to_string())
    }

    #[test]
    fn what_is_not_over_is_refused_and_a_slot_that_has_come_makes_it_over() {
        use SlotPartition::{Current, Previous};
        let hourly = task(Grain::Hour, Some(("5 * * * *", "UTC", Previous)));
        let current = task(Grain::Hour, Some(("5 * * * *", "UTC", Current)));
        // 00:30 in Berlin is before the end of the day in UTC that it stands for.
        let berlin = task(Grain::Day, Some(("30 0 * * *", "Europe/Berlin", Previous)));
        let plain = task(Grain::Day, None);
        for (task, partition, over_at, is_slot) in [
            (&hourly, "2013-01-01T05", "2013-01-01T06:00:00Z", false),
            (&current, "2013-01-01T05", "2013-01-01T05:05:00Z", true),
            (&berlin, "2013-01-01", "2013-01-01T23:30:00Z", true),
            (&plain, "2013-01-01", "2013-01-02T00:00:00Z", false),
        ] {
            let at: Timestamp = over_at.parse().unwrap();
            let before = (at - SignedDuration::from_secs(1)).to_string();
            let error = refused(task, partition, &before).unwrap();
            let what = if is_slot { "has its slot at" } else { "ends at" };
            assert!(error.starts_with(&format!("t {partition} {what} {over_at}, ")), "{error}");
            let newest: Partition = partition.parse().unwrap();
            assert!(error.ends_with(&newest.before().to_string()), "{error}");
            assert_eq!(refused(task, partition, over_at), None);
        }
        let weekly = task(Grain::Day, Some(("0 6 * * 2", "UTC", Previous)));
        let error = refused(&weekly, "2026-11-30", "2026-11-22T12:00:00Z").unwrap();
        assert!(error.ends_with(" is 2026-11-16"), "{error}");
        let last = "2027-01-01T05".parse().unwrap();
        let now = "2013-01-01T05:59:00Z".parse().unwrap();
        assert_eq!(newest_over(&hourly, last, now).to_string(), "2013-01-01T04");
        assert_eq!(newest_over(&current, last, now).to_string(), "2013-01-01T05");
    }

    #[test]
    fn what_its_schedule_has_no_slot_for_is_refused_with_the_nearest_that_it_has() {
        let weekly = task(Grain::Day, Some(("0 6 * * 2", "UTC", SlotPartition::Previous)));
        let mut item = TaskPartition::new(TaskKey::new("t", "2026-11-17".parse().unwrap()));
        let error = refuse_without_slot(&weekly, &item).unwrap_err().to_string();
        assert!(error.starts_with("t 2026-11-17 has no slot in its task's schedule"), "{error}");
        assert!(error.contains("that have one are 2026-11-16 and 2026-11-23; "), "{error}");
        // It came by an earlier schedule.
        let slot = "slot:2026-11-18T06:00:00Z".parse().unwrap();
        item.received.insert(Element::Slot, slot);
        assert_eq!(refuse_without_slot(&weekly, &item), Ok(()));
        for (task, partition) in [(&weekly, "2026-11-16"), (&task(Grain::Day, None), "2026-11-17")]
        {
            let item = TaskPartition::new(TaskKey::new("t", partition.parse().unwrap()));
            assert_eq!(refuse_without_slot(task, &item), Ok(()), "{partition}");
        }
    }

    /// However far a zone is from UTC, and whatever the slot's hour.
    #[test]
    fn every_day_has_its_daily_slot_and_every_hour_its_hourly_one() {
        let from: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let until = from + SignedDuration::from_hours(24 * 60);
        for zone in ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu", "Europe/Berlin"] {
            for stands_for in [SlotPartition::Previous, SlotPartition::Current] {
                for (cron, grain) in [
                    ("0 0 * * *", Grain::Day),
                    ("30 12 * * *", Grain::Day),
                    ("59 23 * * *", Grain::Day),
                    ("0 * * * *", Grain::Hour),
                    ("59 * * * *", Grain::Hour),
                ] {
                    let task = task(grain, Some((cron, zone, stands_for)));
                    for partition in Partition::overlapping(from, until, grain) {
                        let item = TaskPartition::new(TaskKey::new("t", partition));
                        assert!(!lacks_slot(&task, &item), "{cron} {zone}: {partition}");
                    }
                }
            }
        }
    }
}
