//! Plans what the outside world delivers to S3 in the demo: the flights of
//! `data/nycflights13` as the objects that Firehose would write, and the
//! partners' daily files. Reads the data and says what lands when; putting it
//! into S3 at that time is the caller's.
//!
//! Firehose opens a buffer with the first record that arrives, closes it some
//! minutes later, and names the object by its oldest record. So an hour's last
//! object lands after the next hour began, and holds some of that hour's records.
//! To which object a flight belongs does not depend on the window that is asked
//! for.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::ids::Ids;

/// The longest that Firehose lets a record wait in its buffer.
const BUFFER_MAX: SignedDuration = SignedDuration::from_secs(900);
const HOUR_SECS: i64 = 3600;
/// Past minute 5, when an hourly cron would have gone by.
const STRAGGLER_DELAY: SignedDuration = SignedDuration::from_mins(9);

type Result<T> = std::result::Result<T, ReplayError>;

/// One object on its way to S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// When it is put.
    pub at: Timestamp,
    pub bucket: String,
    pub key: String,
    pub body: Bytes,
}

/// The hours to deliver, from the start of the first to the end of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: Timestamp,
    until: Timestamp,
}

impl Window {
    /// `until` is exclusive; both must be whole hours.
    pub fn new(from: Timestamp, until: Timestamp) -> Result<Self> {
        if from < until && start_of_hour(from)? == from && start_of_hour(until)? == until {
            Ok(Self { from, until })
        } else {
            Err(ReplayError::Window { from, until })
        }
    }

    fn contains(&self, instant: Timestamp) -> bool {
        self.from <= instant && instant < self.until
    }

    /// Every UTC day that the window touches.
    fn days(&self) -> impl Iterator<Item = Date> {
        // Cannot leave the range: `until` lies after `from`.
        let last = utc_day(self.until - SignedDuration::from_nanos(1));
        utc_day(self.from).series(jiff::Span::new().days(1)).take_while(move |day| *day <= last)
    }
}

/// What the outside world is like.
#[derive(Debug, Clone)]
pub struct Options {
    pub bucket: String,
    /// Name of the Firehose stream, which its objects' names start with.
    pub stream: String,
    /// How long Firehose collects records for one object, at most 15 minutes.
    pub buffer: SignedDuration,
    /// The hour whose last object Firehose must send again: it lands 9 minutes
    /// into the next hour, if not later.
    pub straggler: Option<Timestamp>,
    /// When the partner sends a day's weather, after that UTC day's start.
    pub weather_after: SignedDuration,
    /// When the airlines come, likewise.
    pub airlines_after: SignedDuration,
    /// When the aircraft come, likewise.
    pub planes_after: SignedDuration,
}

impl Options {
    /// A stream called `flights` with Firehose's longest buffer and no
    /// straggler; airlines and aircraft come early in the day, weather after
    /// its end.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            stream: "flights".to_owned(),
            buffer: BUFFER_MAX,
            straggler: None,
            weather_after: SignedDuration::from_hours(26),
            airlines_after: SignedDuration::from_hours(6),
            planes_after: SignedDuration::from_hours(7),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("from {from} until {until} is not a window of whole hours")]
    Window { from: Timestamp, until: Timestamp },
    #[error("a buffer of {0:#} is not between 0 and 900 seconds")]
    Buffer(SignedDuration),
    #[error("no object of the hour {0} is delivered that could be late")]
    NoStraggler(Timestamp),
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}, line {line}, is not a flight")]
    Flight {
        path: PathBuf,
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot compress an object")]
    Compress(#[source] io::Error),
    #[error("an instant is out of range")]
    Range(#[from] jiff::Error),
}

/// Plans every delivery of the window's hours and days, in order of time.
///
/// An object belongs to the hour in its name. A day's files belong to the
/// window if it touches that day, whenever they land.
pub fn plan(data: &Path, window: &Window, options: &Options) -> Result<Vec<Delivery>> {
    if options.buffer.is_negative() || options.buffer > BUFFER_MAX {
        return Err(ReplayError::Buffer(options.buffer));
    }
    let records = read_flights(data, window)?;
    let mut objects = buffer(records, options.buffer)?;
    objects.retain(|object| window.contains(object.oldest));
    if let Some(hour) = options.straggler {
        hold_back(&mut objects, hour)?;
    }
    let mut deliveries = objects
        .iter()
        .map(|object| {
            Ok(Delivery {
                at: object.lands,
                bucket: options.bucket.clone(),
                key: object.key(&options.stream),
                body: object.body()?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    for day in window.days() {
        deliveries.extend(daily_files(data, day, options)?);
    }
    deliveries.sort_by(|a, b| (a.at, &a.key).cmp(&(b.at, &b.key)));
    Ok(deliveries)
}

/// A flight's line and when it reaches Firehose: at its scheduled departure.
struct Record {
    arrival: Timestamp,
    line: String,
}

/// What of a flight decides when it arrives.
#[derive(Deserialize)]
struct Departure {
    time_hour: Timestamp,
    minute: u8,
}

/// What Firehose writes at once.
struct Object {
    id: String,
    oldest: Timestamp,
    lands: Timestamp,
    lines: Vec<String>,
}

impl Object {
    fn key(&self, stream: &str) -> String {
        let folder = self.oldest.strftime("%Y/%m/%d/%H");
        let time = self.oldest.strftime("%Y-%m-%d-%H-%M-%S");
        format!("rawdata/{folder}/{stream}-1-{time}-{}.gz", self.id)
    }

    fn body(&self) -> Result<Bytes> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        for line in &self.lines {
            writeln!(gzip, "{line}").map_err(ReplayError::Compress)?;
        }
        Ok(gzip.finish().map_err(ReplayError::Compress)?.into())
    }
}

/// All flights there are, by arrival; the days of the window must be there.
fn read_flights(data: &Path, window: &Window) -> Result<Vec<Record>> {
    let path_of = |day: Date| data.join(format!("flights-{day}.jsonl.gz"));
    let mut paths: Vec<PathBuf> = window.days().map(path_of).collect();
    let folder_error = |source| ReplayError::Read { path: data.to_owned(), source };
    for entry in fs::read_dir(data).map_err(folder_error)? {
        let path = entry.map_err(folder_error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("flights-") && name.ends_with(".jsonl.gz") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.dedup();
    let mut records = Vec::new();
    for path in paths {
        read_records(path, &mut records)?;
    }
    records.sort_by_key(|record| record.arrival);
    Ok(records)
}

fn read_records(path: PathBuf, records: &mut Vec<Record>) -> Result<()> {
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(source) => return Err(ReplayError::Read { path, source }),
    };
    let lines = BufReader::new(MultiGzDecoder::new(BufReader::new(file))).lines();
    for (index, line) in lines.enumerate() {
        let line = match line {
            Ok(line) => line,
            Err(source) => return Err(ReplayError::Read { path, source }),
        };
        let departure: Departure = match serde_json::from_str(&line) {
            Ok(departure) => departure,
            Err(source) => return Err(ReplayError::Flight { path, line: index + 1, source }),
        };
        let minute = SignedDuration::from_mins(departure.minute.into());
        records.push(Record { arrival: departure.time_hour.checked_add(minute)?, line });
    }
    Ok(())
}

/// Collects records, in order of arrival, as Firehose does.
fn buffer(records: Vec<Record>, interval: SignedDuration) -> Result<Vec<Object>> {
    // The same data give the same names.
    let ids = Ids::new(0);
    let mut objects: Vec<Object> = Vec::new();
    for Record { arrival, line } in records {
        match objects.last_mut() {
            Some(open) if arrival < open.lands => open.lines.push(line),
            _ => objects.push(Object {
                id: ids.uuid(),
                oldest: arrival,
                lands: arrival.checked_add(interval)?,
                lines: vec![line],
            }),
        }
    }
    Ok(objects)
}

/// Lets the last object of `hour` land late.
fn hold_back(objects: &mut [Object], hour: Timestamp) -> Result<()> {
    let next_hour = hour.checked_add(SignedDuration::from_secs(HOUR_SECS))?;
    let last =
        objects.iter_mut().rfind(|object| hour <= object.oldest && object.oldest < next_hour);
    let Some(object) = last else { return Err(ReplayError::NoStraggler(hour)) };
    object.lands = object.lands.max(next_hour.checked_add(STRAGGLER_DELAY)?);
    Ok(())
}

/// What the partners send for one day.
fn daily_files(data: &Path, day: Date, options: &Options) -> Result<Vec<Delivery>> {
    let start = day.to_zoned(TimeZone::UTC)?.timestamp();
    let files = [
        ("weather", format!("weather-{day}.csv.gz"), options.weather_after),
        ("airlines", "airlines.csv.gz".to_owned(), options.airlines_after),
        ("planes", "planes.csv.gz".to_owned(), options.planes_after),
    ];
    files
        .into_iter()
        .map(|(dataset, name, after)| {
            let path = data.join(name);
            Ok(Delivery {
                at: start.checked_add(after)?,
                bucket: options.bucket.clone(),
                key: format!("partners/{dataset}/{day}.csv.gz"),
                body: fs::read(&path).map_err(|source| ReplayError::Read { path, source })?.into(),
            })
        })
        .collect()
}

fn start_of_hour(instant: Timestamp) -> Result<Timestamp> {
    let second = instant.as_second();
    Ok(Timestamp::from_second(second - second.rem_euclid(HOUR_SECS))?)
}

fn utc_day(instant: Timestamp) -> Date {
    instant.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests;
