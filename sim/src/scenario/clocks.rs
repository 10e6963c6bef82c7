//! Worlds around a night in which clocks are changed by law: two tasks more have
//! schedules in a zone of that night, one hourly and one by the hour of the day. When
//! their slots come is written down here, not computed. Not for clocks that are off.

use jiff::{SignedDuration, Timestamp};
use sluicegate::core::partition::{Grain, Partition};

use super::Scenario;
use super::config::{self, Task};

/// Due at an hour of the day.
const NIGHTLY: &str = "nightly";

/// Where such a world begins, and what it must see.
#[derive(Debug)]
pub struct Night {
    zone: &'static str,
    origin: &'static str,
    /// Of the nightly task.
    cron: &'static str,
    /// The only slot that it has within a day; some worlds begin after it.
    slot: &'static str,
}

const NIGHTS: [Night; 7] = [
    // The clocks go from 02:00 to 03:00 at 01:00 UTC, and back from 03:00 to 02:00.
    night("Europe/Berlin", "2026-03-29T00:58:00Z", "30 2 * * *", "2026-03-29T01:00:00Z"),
    night("Europe/Berlin", "2026-10-25T00:28:00Z", "30 2 * * *", "2026-10-25T00:30:00Z"),
    night("Europe/Berlin", "2026-10-25T00:58:00Z", "30 2 * * *", "2026-10-25T00:30:00Z"),
    night("Europe/Berlin", "2026-10-25T01:28:00Z", "30 2 * * *", "2026-10-25T00:30:00Z"),
    // From 02:00 to 03:00 at 07:00 UTC, and back from 02:00 to 01:00 at 06:00 UTC.
    night("America/New_York", "2026-03-08T06:58:00Z", "30 2 * * *", "2026-03-08T07:00:00Z"),
    night("America/New_York", "2026-11-01T05:28:00Z", "30 1 * * *", "2026-11-01T05:30:00Z"),
    night("America/New_York", "2026-11-01T06:28:00Z", "30 1 * * *", "2026-11-01T05:30:00Z"),
];

const fn night(
    zone: &'static str,
    origin: &'static str,
    cron: &'static str,
    slot: &'static str,
) -> Night {
    Night { zone, origin, cron, slot }
}

impl Night {
    pub fn of_seed(seed: u64) -> &'static Self {
        // The seeds of one kind end in the same digits.
        let number = (seed / 10 + seed) % NIGHTS.len() as u64;
        &NIGHTS[usize::try_from(number).unwrap_or(0)]
    }

    pub fn origin(&self) -> Timestamp {
        instant(self.origin)
    }

    /// The partitions whose slots have come for a task with a calendar that began
    /// then; None for one whose slots come every hour.
    pub fn slots(&self, task: &str, begun: Timestamp, now: Timestamp) -> Option<Vec<Partition>> {
        let slot = instant(self.slot);
        let came = slot > begun && slot <= now;
        let hour = Partition::containing(slot - SignedDuration::from_hours(1), Grain::Hour);
        (task == NIGHTLY).then(|| Vec::from_iter(came.then_some(hour)))
    }
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Adds the two tasks; nothing arrives for them.
pub fn adapt(scenario: &mut Scenario) {
    let night = Night::of_seed(scenario.seed);
    for (name, cron) in [(NIGHTLY, night.cron), ("local", "2 * * * *")] {
        let task = Task::scheduled(name, &scenario.profiles[0]);
        let mut text = String::new();
        config::task_text(&mut text, &task);
        let schedule = format!("cron = \"{cron}\", time-zone = \"{}\"", night.zone);
        let text = text.replace("cron = \"2 * * * *\"", &schedule);
        for all in [&mut scenario.text, &mut scenario.next_text] {
            all.push_str(&text);
        }
        scenario.tasks.push(task);
    }
    scenario.night = Some(night);
}
