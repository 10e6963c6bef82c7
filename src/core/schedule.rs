//! Cron schedules: which slots are due between two instants, and which
//! partition a slot stands for. Not a timer: the ticks that ask come from
//! `sources::schedule`, and a late, missed or doubled tick changes nothing.

use std::str::FromStr;

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::{SignedDuration, Timestamp};

use super::partition::{Grain, Partition};

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    /// A slot stands for the partition that held the instant this long before
    /// it: one partition length for "the previous hour".
    lag: SignedDuration,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("{0:?} is no cron expression (minute, hour, day of month, month, day of week): {1}")]
    Cron(String, String),
    #[error("there is no time zone {0:?}: expected an IANA name such as UTC or Europe/Berlin")]
    Zone(String),
}

impl Schedule {
    pub fn parse(cron: &str, zone: &str, lag: SignedDuration) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        let parsed = parser
            .parse(cron)
            .map_err(|error| ScheduleError::Cron(cron.to_owned(), error.to_string()))?;
        let zone = Tz::from_str(zone).map_err(|_| ScheduleError::Zone(zone.to_owned()))?;
        Ok(Self { cron: parsed, zone, lag })
    }

    pub fn expression(&self) -> &str {
        self.cron.as_str()
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The slots after `after`, up to and including `until`, oldest first and
    /// at most `limit` of them.
    pub fn due(&self, after: Timestamp, until: Timestamp, limit: usize) -> Vec<Timestamp> {
        let Some(start) = to_chrono(after, self.zone) else { return Vec::new() };
        self.cron
            .iter_after(start)
            .map_while(|slot| Timestamp::from_second(slot.timestamp()).ok())
            // An hour that the clocks repeat would give its slots twice in
            // wall time; as instants they only ever go forward.
            .skip_while(|slot| *slot <= after)
            .take_while(|slot| *slot <= until)
            .take(limit)
            .collect()
    }

    /// The partition that a slot stands for.
    pub fn partition_of(&self, slot: Timestamp, grain: Grain) -> Partition {
        let instant = slot.saturating_sub(self.lag).unwrap_or(slot);
        Partition::containing(instant, grain)
    }
}

fn to_chrono(instant: Timestamp, zone: Tz) -> Option<chrono::DateTime<Tz>> {
    let utc = chrono::DateTime::from_timestamp(instant.as_second(), 0)?;
    Some(utc.with_timezone(&zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(cron: &str, zone: &str, after: &str, until: &str) -> Vec<String> {
        let schedule = Schedule::parse(cron, zone, SignedDuration::ZERO).unwrap();
        let slots = schedule.due(after.parse().unwrap(), until.parse().unwrap(), 100);
        slots.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn slots_lie_after_the_mark_and_up_to_now() {
        let slots = due("5 * * * *", "UTC", "2013-01-01T05:05:00Z", "2013-01-01T07:05:00Z");
        assert_eq!(slots, ["2013-01-01T06:05:00Z", "2013-01-01T07:05:00Z"]);
        assert!(due("5 * * * *", "UTC", "2013-01-01T05:05:00Z", "2013-01-01T05:05:00Z").is_empty());
        assert!(due("5 * * * *", "UTC", "2013-01-01T05:05:00Z", "2012-01-01T05:05:00Z").is_empty());
    }

    #[test]
    fn slots_follow_the_zone() {
        let slots =
            due("0 3 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-30T00:00:00Z");
        assert_eq!(slots, ["2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"]);
    }

    #[test]
    fn a_slot_at_minute_five_stands_for_the_previous_hour() {
        let hour = SignedDuration::from_hours(1);
        let schedule = Schedule::parse("5 * * * *", "UTC", hour).unwrap();
        let slot = "2013-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(schedule.partition_of(slot, Grain::Hour).to_string(), "2012-12-31T23");
    }

    #[test]
    fn says_what_is_wrong() {
        let parse = |cron, zone| Schedule::parse(cron, zone, SignedDuration::ZERO).unwrap_err();
        assert!(matches!(parse("61 * * * *", "UTC"), ScheduleError::Cron(..)));
        assert!(matches!(parse("* * * * * *", "UTC"), ScheduleError::Cron(..)));
        assert!(matches!(parse("5 * * * *", "Berlin"), ScheduleError::Zone(_)));
    }
}
