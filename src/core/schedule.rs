//! Cron schedules: which slots are due between two instants, and which
//! partition a slot stands for. Not a timer: the ticks that ask come from
//! `sources::schedule`, and a late, missed or doubled tick changes nothing.

use std::str::FromStr;

use chrono::{DateTime, Datelike};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::partition::{Grain, Partition};

/// A cron expression in a time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    stands_for: SlotPartition,
    catch_up: CatchUp,
}

/// What becomes of slots that nobody took up in time, because the service was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// Each is made up, the oldest first.
    #[default]
    All,
    /// Each is made up; of those that are ready the newest goes first.
    NewestFirst,
    /// Only the newest is made up.
    Last,
    /// None is made up.
    None,
}

impl CatchUp {
    pub fn name(self) -> &'static str {
        match self {
            CatchUp::All => "all",
            CatchUp::NewestFirst => "newest-first",
            CatchUp::Last => "last",
            CatchUp::None => "none",
        }
    }
}

/// A slot that is taken up within this time was not missed: a restart takes as long.
const IN_TIME: SignedDuration = SignedDuration::from_mins(5);

/// A slot lies no further than this from its partition: a zone's offset and a day.
const NEAR: SignedDuration = SignedDuration::from_hours(72);
/// Nobody looks further for a partition with a slot.
const AROUND_MAX: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

/// Which partition a slot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SlotPartition {
    /// The hour or day before the slot's.
    #[default]
    Previous,
    /// The hour or day that the slot lies in.
    Current,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("{0:?} is no cron expression")]
    Cron(String),
    #[error("there is no time zone {0:?}")]
    Zone(String),
}

impl Schedule {
    pub fn parse(cron: &str, zone: &str, stands_for: SlotPartition) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|_| ScheduleError::Cron(cron.to_owned()))?;
        let zone = Tz::from_str(zone).map_err(|_| ScheduleError::Zone(zone.to_owned()))?;
        Ok(Self { cron: parsed, zone, stands_for, catch_up: CatchUp::default() })
    }

    #[must_use]
    pub fn catching_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    pub fn catch_up(&self) -> CatchUp {
        self.catch_up
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
        self.slots(after, until).take(limit).collect()
    }

    /// The same, one by one.
    pub fn slots(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        let start = to_chrono(after, self.zone);
        start
            .into_iter()
            .flat_map(|start| self.cron.iter_after(start))
            .map_while(|slot| Timestamp::from_second(slot.timestamp()).ok())
            .take_while(move |slot| *slot <= until)
    }

    /// The first slot after an instant; None if there never is one.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.due(after, Timestamp::MAX, 1).first().copied()
    }

    /// The instant up to which slots after `after` are passed over at `now`: those that
    /// were missed, but for what the schedule makes up of them.
    pub fn passed_over(&self, after: Timestamp, now: Timestamp) -> Timestamp {
        let missed = now.saturating_sub(IN_TIME).unwrap_or(Timestamp::MIN);
        let passed = match self.catch_up {
            CatchUp::All | CatchUp::NewestFirst => after,
            CatchUp::Last => match self.last(after, now) {
                Some(last) => missed.min(last - SignedDuration::from_secs(1)),
                None => after,
            },
            CatchUp::None => missed,
        };
        passed.max(after)
    }

    /// The newest slot after `after`, up to and including `until`. Looks back further
    /// and further: there may be very many.
    fn last(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut length = IN_TIME;
        loop {
            let from = until.saturating_sub(length).unwrap_or(Timestamp::MIN).max(after);
            let slots = self.due(from, until, usize::MAX);
            if from == after || !slots.is_empty() {
                return slots.last().copied();
            }
            length = length.saturating_mul(2);
        }
    }

    /// The nearest partitions before and after one that slots stand for, if any does
    /// within some years.
    pub fn around(&self, partition: Partition) -> (Option<Partition>, Option<Partition>) {
        let of = |slot: &Timestamp| self.partition_of(*slot, partition.grain());
        let far = |to: Timestamp| to.saturating_add(AROUND_MAX).unwrap_or(Timestamp::MAX);
        let near = |from: Timestamp| from.saturating_sub(NEAR).unwrap_or(Timestamp::MIN);
        let (first, last) = (near(partition.start()), far(partition.end()));
        let after = self.slots(first, last).map(|slot| of(&slot)).find(|of| *of > partition);
        let mut before = None;
        let (mut until, mut length) = (partition.end() + NEAR, NEAR * 2);
        // Further and further back: there may be very many.
        while before.is_none() && length < AROUND_MAX {
            let from = until.saturating_sub(length).unwrap_or(Timestamp::MIN);
            before =
                self.slots(from, until).map(|slot| of(&slot)).filter(|of| *of < partition).last();
            (until, length) = (from, length * 2);
        }
        (before, after)
    }

    /// The partition that a slot stands for. A day is the one that the slot's
    /// date names in the schedule's zone, so that one slot a day gives every
    /// day exactly once, however the clocks are changed.
    pub fn partition_of(&self, slot: Timestamp, grain: Grain) -> Partition {
        let previous = self.stands_for == SlotPartition::Previous;
        let local = to_chrono(slot, self.zone).map(|slot| slot.date_naive());
        let day = local.and_then(|date| if previous { date.pred_opt() } else { Some(date) });
        let named = day.filter(|_| grain == Grain::Day).and_then(|date| {
            let (month, day) = (i8::try_from(date.month()).ok()?, i8::try_from(date.day()).ok()?);
            Partition::of_civil(i16::try_from(date.year()).ok()?, month, day, None)
        });
        named.unwrap_or_else(|| {
            let lag = if previous { grain.length() } else { SignedDuration::ZERO };
            Partition::containing(slot.saturating_sub(lag).unwrap_or(slot), grain)
        })
    }
}

fn to_chrono(instant: Timestamp, zone: Tz) -> Option<DateTime<Tz>> {
    let utc = DateTime::from_timestamp(instant.as_second(), 0)?;
    Some(utc.with_timezone(&zone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(cron: &str, zone: &str, after: &str, until: &str) -> Vec<String> {
        let schedule = Schedule::parse(cron, zone, SlotPartition::Previous).unwrap();
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
    fn a_time_that_the_clocks_skip_fires_once_when_they_have_moved() {
        let slots =
            due("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(slots, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn a_time_that_the_clocks_repeat_fires_once_and_an_interval_both_times() {
        // 02:30 comes twice, first in summer time.
        for (cron, slots) in [
            ("30 2 * * *", vec!["2028-10-29T00:30:00Z"]),
            ("30 * * * *", vec!["2028-10-29T00:30:00Z", "2028-10-29T01:30:00Z"]),
            // Its second 02:00 depended on where the asking began once.
            ("0 0-2 * * */2", vec!["2028-10-29T00:00:00Z", "2028-10-29T01:00:00Z"]),
        ] {
            let schedule = Schedule::parse(cron, "Europe/Berlin", SlotPartition::Current).unwrap();
            let mut mark: Timestamp = "2028-10-28T23:30:00Z".parse().unwrap();
            let until: Timestamp = "2028-10-29T02:00:00Z".parse().unwrap();
            let all = schedule.due(mark, until, 100);
            let mut one_by_one = Vec::new();
            while let Some(slot) = schedule.next(mark).filter(|slot| *slot <= until) {
                one_by_one.push(slot);
                mark = slot;
            }
            assert_eq!(all, one_by_one, "{cron}");
            assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), slots, "{cron}");
        }
    }

    /// What the schema says of `time-zone`, for both changes of a year: an hour that is
    /// named comes once on each day, what comes every hour once in each real hour.
    #[test]
    fn a_year_of_two_zones_has_the_slots_that_are_documented() {
        for (zone, changes) in [
            ("Europe/Berlin", [("2026-03-29", "01:00"), ("2026-10-25", "00:30")]),
            // There 01:00 to 02:00 is repeated, so that 02:30 is after that.
            ("America/New_York", [("2026-03-08", "07:00"), ("2026-11-01", "07:30")]),
        ] {
            let of = |cron: &str, from: &str, until: &str| due(cron, zone, from, until);
            let year = ("2026-01-01T12:00:00Z", "2026-12-31T12:00:00Z");
            let daily = of_year("30 2 * * *", zone, year);
            assert_eq!(daily.len(), 364, "{zone}");
            let mut dates: Vec<_> = daily.iter().map(|slot| local_date(*slot, zone)).collect();
            dates.dedup();
            assert_eq!(dates.len(), 364, "{zone}: one on each date");
            for (date, at) in changes {
                let (from, until) = (format!("{date}T00:00:00Z"), format!("{date}T12:00:00Z"));
                let slots = of("30 2 * * *", &from, &until);
                assert_eq!(slots, [format!("{date}T{at}:00Z")], "{zone} {date}");
                // Minute 5 of every hour: twelve real hours have twelve of them.
                for cron in ["5 * * * *", "0 * * * *"] {
                    let minute = if cron.starts_with('5') { 5 } else { 0 };
                    let hourly = of(cron, &format!("{date}T00:01:00Z"), &until);
                    let expected: Vec<_> = (0..=12)
                        .map(|hour| format!("{date}T{hour:02}:{minute:02}:00Z"))
                        .filter(|slot| *slot > format!("{date}T00:01:00Z") && *slot <= until)
                        .collect();
                    assert_eq!(hourly, expected, "{zone} {cron}");
                }
            }
            for cron in ["5 * * * *", "0 * * * *"] {
                let hourly = of_year(cron, zone, year);
                assert_eq!(hourly.len(), 364 * 24, "{zone} {cron}");
                let apart = hourly.windows(2).map(|two| two[1].duration_since(two[0]));
                assert!(apart.into_iter().all(|apart| apart == SignedDuration::from_hours(1)));
            }
        }
    }

    #[test]
    fn an_hour_that_is_repeated_in_the_night_of_the_change_comes_the_first_time() {
        let night = ("2026-11-01T00:00:00Z", "2026-11-01T12:00:00Z");
        let slots = of_year("30 1 * * *", "America/New_York", night);
        assert_eq!(slots, ["2026-11-01T05:30:00Z".parse().unwrap()]);
        // A weekday beside it makes no interval of it.
        let slots = of_year("30 1 * * SUN", "America/New_York", night);
        assert_eq!(slots, ["2026-11-01T05:30:00Z".parse().unwrap()]);
    }

    fn of_year(cron: &str, zone: &str, (from, until): (&str, &str)) -> Vec<Timestamp> {
        let schedule = Schedule::parse(cron, zone, SlotPartition::Previous).unwrap();
        schedule.due(from.parse().unwrap(), until.parse().unwrap(), usize::MAX)
    }

    fn local_date(slot: Timestamp, zone: &str) -> String {
        slot.in_tz(zone).unwrap().date().to_string()
    }

    #[test]
    fn a_slot_at_minute_five_stands_for_the_previous_hour() {
        let schedule = Schedule::parse("5 * * * *", "UTC", SlotPartition::Previous).unwrap();
        let slot = "2013-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(schedule.partition_of(slot, Grain::Hour).to_string(), "2012-12-31T23");
    }

    #[test]
    fn a_daily_slot_gives_every_day_once_although_the_clocks_change() {
        for (zone, from, until) in [
            ("Europe/Berlin", "2026-10-20T00:00:00Z", "2026-10-30T00:00:00Z"),
            ("Europe/Berlin", "2026-03-25T00:00:00Z", "2026-04-04T00:00:00Z"),
            ("America/New_York", "2026-10-28T00:00:00Z", "2026-11-07T00:00:00Z"),
            ("Pacific/Auckland", "2026-04-01T00:00:00Z", "2026-04-11T00:00:00Z"),
        ] {
            for cron in ["30 0 * * *", "30 1 * * *", "30 23 * * *"] {
                let schedule = Schedule::parse(cron, zone, SlotPartition::Previous).unwrap();
                let slots = schedule.due(from.parse().unwrap(), until.parse().unwrap(), 100);
                let days: Vec<_> =
                    slots.iter().map(|slot| schedule.partition_of(*slot, Grain::Day)).collect();
                assert!(days.len() >= 9, "{zone} {cron}");
                let steps: Vec<_> =
                    days.windows(2).map(|two| two[0].end() == two[1].start()).collect();
                assert!(steps.iter().all(|next| *next), "{zone} {cron}: {days:?}");
            }
        }
    }

    #[test]
    fn the_partitions_around_one_without_a_slot_are_found() {
        for (cron, zone, partition, before, after) in [
            ("0 6 * * 2", "UTC", "2026-11-18", Some("2026-11-16"), Some("2026-11-23")),
            ("30 0 * * 2", "Europe/Berlin", "2026-11-18", Some("2026-11-16"), Some("2026-11-23")),
            ("0 0 1 1 *", "UTC", "2026-11-18", Some("2025-12-31"), Some("2026-12-31")),
            ("0 6 * * *", "UTC", "2026-11-18T12", Some("2026-11-18T05"), Some("2026-11-19T05")),
            ("0 0 30 2 *", "UTC", "2026-11-18", None, None),
        ] {
            let schedule = Schedule::parse(cron, zone, SlotPartition::Previous).unwrap();
            let around = schedule.around(partition.parse().unwrap());
            let expected = [before, after].map(|named| named.map(|named| named.parse().unwrap()));
            assert_eq!(around, expected.into(), "{cron} {zone}");
        }
    }

    #[test]
    fn a_schedule_that_never_fires_has_no_next_slot() {
        let never = Schedule::parse("0 0 30 2 *", "UTC", SlotPartition::Current).unwrap();
        assert_eq!(never.next("2026-01-01T00:00:00Z".parse().unwrap()), None);
    }

    /// A field of a cron expression, often a good one.
    fn field(most: u32) -> impl Strategy<Value = String> {
        let number = || 0..=most;
        prop_oneof![
            6 => Just("*".to_owned()),
            4 => number().prop_map(|number| number.to_string()),
            2 => (number(), number()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            2 => (1..=most).prop_map(|step| format!("*/{step}")),
            2 => proptest::collection::vec(number(), 1..4).prop_map(|all| {
                all.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
            }),
            1 => "[0-9*/,#LWA-Z?+-]{0,6}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_panics(cron in "\\PC{0,40}", zone in "\\PC{0,12}") {
            let _ = Schedule::parse(&cron, "UTC", SlotPartition::Previous);
            let _ = Schedule::parse("5 * * * *", &zone, SlotPartition::Previous);
        }

        /// However the clocks are changed: slots rise, none is left out where
        /// the asking is divided, and each has its partition.
        #[test]
        fn slots_are_the_same_however_they_are_asked_for(
            fields in (field(59), field(23), field(31), field(12), field(7)),
            zone in proptest::sample::select(vec![
                "UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo",
            ]),
            secs in 0i64..4_000_000_000,
        ) {
            let (minute, hour, day, month, weekday) = fields;
            let cron = format!("{minute} {hour} {day} {month} {weekday}");
            let Ok(schedule) = Schedule::parse(&cron, zone, SlotPartition::Previous) else {
                return Ok(());
            };
            let from = Timestamp::from_second(secs).unwrap();
            let slots = schedule.due(from, Timestamp::MAX, 20);
            prop_assert!(slots.is_sorted_by(|a, b| a < b), "{cron} {zone}: {slots:?}");
            prop_assert!(slots.iter().all(|slot| *slot > from));
            let mut mark = from;
            for slot in &slots {
                prop_assert_eq!(schedule.next(mark), Some(*slot), "{} {}", cron, zone);
                let partition = schedule.partition_of(*slot, Grain::Hour);
                prop_assert!(partition.end() <= *slot);
                mark = *slot;
            }
        }

        #[test]
        fn no_instant_panics(secs in -377_705_023_201i64..=253_402_207_200, far in any::<bool>()) {
            let from = Timestamp::from_second(secs).unwrap();
            let from = if far { Timestamp::MAX } else { from };
            for cron in ["* * * * *", "0 0 29 2 *", "30 2 * * *"] {
                let schedule = Schedule::parse(cron, "Europe/Berlin", SlotPartition::Previous);
                let schedule = schedule.unwrap();
                for slot in schedule.due(from, Timestamp::MAX, 3) {
                    schedule.partition_of(slot, Grain::Day);
                }
                schedule.partition_of(from, Grain::Hour);
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let parse = |cron, zone| Schedule::parse(cron, zone, SlotPartition::Previous).unwrap_err();
        assert!(matches!(parse("61 * * * *", "UTC"), ScheduleError::Cron(..)));
        assert!(matches!(parse("* * * * * *", "UTC"), ScheduleError::Cron(..)));
        assert!(matches!(parse("5 * * * *", "Berlin"), ScheduleError::Zone(_)));
    }
}
