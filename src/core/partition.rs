//! Partitions: the hour or the day of data that a dataset or a task is cut
//! into, always in UTC. Not for schedules (those may live in a time zone) nor
//! for where a partition lies in S3 (see `template`).

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a partition is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Grain {
    Hour,
    Day,
}

impl Grain {
    pub fn length(self) -> SignedDuration {
        match self {
            Grain::Hour => SignedDuration::from_hours(1),
            Grain::Day => SignedDuration::from_hours(24),
        }
    }

    fn secs(self) -> i64 {
        self.length().as_secs()
    }
}

/// One hour or one day, UTC. Written `2013-01-01T05` or `2013-01-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Partition {
    start: Timestamp,
    grain: Grain,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no partition: expected an hour such as 2013-01-01T05 or a day such as 2013-01-01"
)]
pub struct PartitionError(String);

impl Partition {
    /// The partition that holds an instant.
    pub fn containing(instant: Timestamp, grain: Grain) -> Self {
        let secs = instant.as_second().div_euclid(grain.secs()) * grain.secs();
        // Only the very first hours of year -9999 round down to before the
        // first timestamp; they become the first timestamp.
        let start = Timestamp::from_second(secs).unwrap_or(Timestamp::MIN);
        Self { start, grain }
    }

    /// The partition of a civil date and, for hours, an hour of the day.
    /// None for a date or hour that does not exist.
    pub fn of_civil(year: i16, month: i8, day: i8, hour: Option<i8>) -> Option<Self> {
        let civil = DateTime::new(year, month, day, hour.unwrap_or(0), 0, 0, 0).ok()?;
        let start = TimeZone::UTC.to_timestamp(civil).ok()?;
        let grain = if hour.is_some() { Grain::Hour } else { Grain::Day };
        Some(Self { start, grain })
    }

    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The first instant after it.
    pub fn end(&self) -> Timestamp {
        self.start.saturating_add(self.grain.length()).unwrap_or(Timestamp::MAX)
    }

    /// The one that ends where it begins.
    pub fn before(&self) -> Partition {
        let at = self.start.saturating_sub(SignedDuration::from_secs(1));
        Self::containing(at.unwrap_or(Timestamp::MIN), self.grain)
    }

    pub fn grain(&self) -> Grain {
        self.grain
    }

    pub fn civil(&self) -> DateTime {
        TimeZone::UTC.to_datetime(self.start)
    }

    /// All partitions of a grain that overlap `[from, to)`, oldest first.
    pub fn overlapping(
        from: Timestamp,
        to: Timestamp,
        grain: Grain,
    ) -> impl Iterator<Item = Partition> {
        let first = (from < to).then(|| Partition::containing(from, grain));
        std::iter::successors(first, move |last| {
            let next = Partition::containing(last.end(), grain);
            (next.start > last.start).then_some(next)
        })
        .take_while(move |partition| partition.start < to)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = self.civil();
        let date = civil.date();
        match self.grain {
            Grain::Hour => write!(f, "{date}T{:02}", civil.hour()),
            Grain::Day => write!(f, "{date}"),
        }
    }
}

impl FromStr for Partition {
    type Err = PartitionError;

    fn from_str(text: &str) -> Result<Self, PartitionError> {
        let error = || PartitionError(text.to_owned());
        let (date, hour) = match text.split_once('T') {
            Some((date, hour)) if hour.len() == 2 => {
                (date, Some(hour.parse().map_err(|_| error())?))
            }
            Some(_) => return Err(error()),
            None => (text, None),
        };
        let date: jiff::civil::Date = date.parse().map_err(|_| error())?;
        let partition =
            Self::of_civil(date.year(), date.month(), date.day(), hour).ok_or_else(error)?;
        // One partition has one spelling: it is a key in the tables.
        if partition.to_string() == text { Ok(partition) } else { Err(error()) }
    }
}

impl TryFrom<String> for Partition {
    type Error = PartitionError;

    fn try_from(text: String) -> Result<Self, PartitionError> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> String {
        partition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p(text: &str) -> Partition {
        text.parse().unwrap()
    }

    #[test]
    fn one_partition_has_one_spelling() {
        for good in ["2013-01-01", "2013-01-01T00", "2013-12-31T23", "9999-12-30", "0000-01-01"] {
            assert_eq!(p(good).to_string(), good);
        }
        for bad in [
            "",
            "2013",
            "2013-1-1",
            "20130101",
            "2013-02-29",
            "2013-01-01T24",
            "2013-01-01T5",
            "2013-01-01T+5",
            "2013-01-01T05:00",
            "2013-01-01 05",
        ] {
            assert!(bad.parse::<Partition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlapping_takes_half_open_intervals() {
        let day = p("2013-01-01");
        let hours: Vec<_> = Partition::overlapping(day.start(), day.end(), Grain::Hour).collect();
        assert_eq!(hours.len(), 24);
        assert_eq!(hours[0], p("2013-01-01T00"));
        assert_eq!(hours[23], p("2013-01-01T23"));
        let hour = p("2013-01-01T05");
        let days: Vec<_> = Partition::overlapping(hour.start(), hour.end(), Grain::Day).collect();
        assert_eq!(days, [p("2013-01-01")]);
        assert_eq!(Partition::overlapping(day.end(), day.start(), Grain::Hour).count(), 0);
    }

    #[test]
    fn the_end_of_time_ends() {
        let last = Partition::containing(Timestamp::MAX, Grain::Hour);
        assert!(Partition::overlapping(last.start(), Timestamp::MAX, Grain::Hour).count() <= 1);
    }

    proptest! {
        #[test]
        fn an_instant_lies_in_its_partition(secs in -60_000_000_000i64..250_000_000_000) {
            let instant = Timestamp::from_second(secs).unwrap();
            for grain in [Grain::Hour, Grain::Day] {
                let partition = Partition::containing(instant, grain);
                prop_assert!(partition.start() <= instant && instant < partition.end());
                prop_assert_eq!(partition.to_string().parse::<Partition>().unwrap(), partition);
            }
        }
    }
}
