//! The replayer against the repository's data and against small made-up days.
//! Not for putting anything into S3.

use std::io::Read;

use super::*;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/nycflights13")
}

fn at(instant: &str) -> Timestamp {
    instant.parse().unwrap()
}

fn window(from: &str, until: &str) -> Window {
    Window::new(at(from), at(until)).unwrap()
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn raw(deliveries: Vec<Delivery>) -> Vec<Delivery> {
    deliveries.into_iter().filter(|delivery| delivery.key.starts_with("rawdata/")).collect()
}

fn arrival(line: &str) -> Timestamp {
    let flight: serde_json::Value = serde_json::from_str(line).unwrap();
    let minute = flight["minute"].as_i64().unwrap();
    at(flight["time_hour"].as_str().unwrap()) + SignedDuration::from_mins(minute)
}

/// A folder with the given flights of one day, as (hour, minute), and the
/// partners' files.
fn folder(departures: &[(u8, u8)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = departures
        .iter()
        .map(|(hour, minute)| {
            format!("{{\"time_hour\":\"2013-01-01T{hour:02}:00:00Z\",\"minute\":{minute}}}\n")
        })
        .collect();
    let files = [
        ("flights-2013-01-01.jsonl.gz", gzip(&lines)),
        ("weather-2013-01-01.csv.gz", gzip("weather")),
        ("airlines.csv.gz", gzip("airlines")),
        ("planes.csv.gz", gzip("planes")),
    ];
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[test]
fn every_flight_is_delivered_once_in_the_folder_of_its_objects_oldest_record() {
    let days = ["2013-01-01", "2013-01-02", "2013-01-03"];
    let mut expected: Vec<String> = Vec::new();
    for day in days {
        let file = fs::read(data().join(format!("flights-{day}.jsonl.gz"))).unwrap();
        expected.extend(gunzip(&file).lines().map(str::to_owned));
    }
    let window = window("2013-01-01T00:00:00Z", "2013-01-04T00:00:00Z");
    for buffer_secs in [0, 300, 900] {
        let buffer = SignedDuration::from_secs(buffer_secs);
        let options = Options { buffer, ..Options::new("lake") };
        let mut delivered: Vec<String> = Vec::new();
        let mut keys = std::collections::BTreeSet::new();
        for object in raw(plan(&data(), &window, &options).unwrap()) {
            let text = gunzip(&object.body);
            let arrivals: Vec<Timestamp> = text.lines().map(arrival).collect();
            let oldest = *arrivals.iter().min().unwrap();
            let newest = *arrivals.iter().max().unwrap();
            assert!(object.key.starts_with(&format!(
                "rawdata/{}/flights-1-{}-",
                oldest.strftime("%Y/%m/%d/%H"),
                oldest.strftime("%Y-%m-%d-%H-%M-%S"),
            )));
            assert_eq!(object.at, oldest + buffer);
            assert!(newest <= object.at);
            assert_eq!(object.bucket, "lake");
            assert!(keys.insert(object.key));
            delivered.extend(text.lines().map(str::to_owned));
        }
        delivered.sort();
        let mut expected = expected.clone();
        expected.sort();
        assert_eq!(delivered, expected, "buffer of {buffer_secs} s");
    }
}

#[test]
fn an_hours_objects_do_not_depend_on_the_window() {
    let options = Options::new("lake");
    let whole = window("2013-01-01T10:00:00Z", "2013-01-02T10:00:00Z");
    let mut pieces = Vec::new();
    for hour in 0..24 {
        let from = whole.from + SignedDuration::from_hours(hour);
        let one = Window::new(from, from + SignedDuration::from_hours(1)).unwrap();
        pieces.extend(raw(plan(&data(), &one, &options).unwrap()));
    }
    pieces.sort_by_key(|delivery| delivery.at);
    assert_eq!(pieces, raw(plan(&data(), &whole, &options).unwrap()));
}

#[test]
fn an_object_closes_with_its_buffer_even_in_the_next_hour() {
    let folder = folder(&[(10, 50), (10, 20), (11, 4), (11, 5), (10, 34), (10, 35)]);
    let window = window("2013-01-01T10:00:00Z", "2013-01-01T12:00:00Z");
    let objects = raw(plan(folder.path(), &window, &Options::new("lake")).unwrap());
    let found: Vec<(&str, String, usize)> = objects
        .iter()
        .map(|object| {
            (&object.key[..52], object.at.to_string(), gunzip(&object.body).lines().count())
        })
        .collect();
    let expected = [
        ("rawdata/2013/01/01/10/flights-1-2013-01-01-10-20-00-", "2013-01-01T10:35:00Z", 2),
        ("rawdata/2013/01/01/10/flights-1-2013-01-01-10-35-00-", "2013-01-01T10:50:00Z", 1),
        ("rawdata/2013/01/01/10/flights-1-2013-01-01-10-50-00-", "2013-01-01T11:05:00Z", 2),
        ("rawdata/2013/01/01/11/flights-1-2013-01-01-11-05-00-", "2013-01-01T11:20:00Z", 1),
    ];
    assert_eq!(found, expected.map(|(key, at, lines)| (key, at.to_owned(), lines)));
}

#[test]
fn the_straggler_lands_past_minute_five_and_nothing_else_moves() {
    let window = window("2013-01-01T10:00:00Z", "2013-01-01T13:00:00Z");
    for buffer_secs in [60, 300, 900] {
        for hour in ["2013-01-01T10:00:00Z", "2013-01-01T11:00:00Z", "2013-01-01T12:00:00Z"] {
            let buffer = SignedDuration::from_secs(buffer_secs);
            let punctual = Options { buffer, ..Options::new("lake") };
            let late = Options { straggler: Some(at(hour)), ..punctual.clone() };
            let punctual = plan(&data(), &window, &punctual).unwrap();
            let late = plan(&data(), &window, &late).unwrap();

            let folder = format!("rawdata/{}/", at(hour).strftime("%Y/%m/%d/%H"));
            let of_hour = |plan: &[Delivery]| {
                plan.iter().rfind(|d| d.key.starts_with(&folder)).cloned().unwrap()
            };
            let (before, after) = (of_hour(&punctual), of_hour(&late));
            assert_eq!((before.key, before.body), (after.key.clone(), after.body));
            let earliest = at(hour) + SignedDuration::from_mins(69);
            assert_eq!(after.at, before.at.max(earliest));

            let others = |plan: Vec<Delivery>| -> Vec<Delivery> {
                plan.into_iter().filter(|d| d.key != after.key).collect()
            };
            assert_eq!(others(late.clone()), others(punctual));
            assert!(late.is_sorted_by_key(|delivery| delivery.at));
        }
    }
}

#[test]
fn an_hour_without_flights_has_no_object() {
    let night = window("2013-01-02T05:00:00Z", "2013-01-02T10:00:00Z");
    let deliveries = plan(&data(), &night, &Options::new("lake")).unwrap();
    let keys: Vec<&str> = deliveries.iter().map(|d| d.key.as_str()).collect();
    let partners = [
        "partners/airlines/2013-01-02.csv.gz",
        "partners/planes/2013-01-02.csv.gz",
        "partners/weather/2013-01-02.csv.gz",
    ];
    assert_eq!(keys, partners);
}

#[test]
fn a_partners_files_arrive_unchanged_for_every_day_at_their_own_times() {
    let options = Options {
        weather_after: SignedDuration::from_hours(14),
        airlines_after: SignedDuration::from_mins(90),
        planes_after: SignedDuration::ZERO,
        ..Options::new("lake")
    };
    let days = window("2013-01-01T23:00:00Z", "2013-01-03T00:00:00Z");
    let deliveries = plan(&data(), &days, &options).unwrap();
    let found: Vec<(String, &str, Bytes)> = deliveries
        .iter()
        .filter(|d| !d.key.starts_with("rawdata/"))
        .map(|d| (d.at.to_string(), d.key.as_str(), d.body.clone()))
        .collect();
    let file = |name: &str| Bytes::from(fs::read(data().join(name)).unwrap());
    let expected = [
        ("2013-01-01T00:00:00Z", "partners/planes/2013-01-01.csv.gz", "planes.csv.gz"),
        ("2013-01-01T01:30:00Z", "partners/airlines/2013-01-01.csv.gz", "airlines.csv.gz"),
        ("2013-01-01T14:00:00Z", "partners/weather/2013-01-01.csv.gz", "weather-2013-01-01.csv.gz"),
        ("2013-01-02T00:00:00Z", "partners/planes/2013-01-02.csv.gz", "planes.csv.gz"),
        ("2013-01-02T01:30:00Z", "partners/airlines/2013-01-02.csv.gz", "airlines.csv.gz"),
        ("2013-01-02T14:00:00Z", "partners/weather/2013-01-02.csv.gz", "weather-2013-01-02.csv.gz"),
    ];
    assert_eq!(found, expected.map(|(at, key, name)| (at.to_owned(), key, file(name))));
}

#[test]
fn what_cannot_be_planned_is_said() {
    let hours = window("2013-01-01T10:00:00Z", "2013-01-01T11:00:00Z");
    let unknown_day = window("2013-02-01T10:00:00Z", "2013-02-01T11:00:00Z");
    let options = Options::new("lake");
    let mut long = options.clone();
    long.buffer = SignedDuration::from_secs(901);
    let mut quiet = options.clone();
    quiet.straggler = Some(at("2013-01-01T09:00:00Z"));
    let good = folder(&[(10, 0)]);
    let bad_line = folder(&[]);
    fs::write(bad_line.path().join("flights-2013-01-01.jsonl.gz"), gzip("{}\n")).unwrap();
    let cut_off = folder(&[(10, 0)]);
    let path = cut_off.path().join("flights-2013-01-01.jsonl.gz");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 9]).unwrap();

    for (folder, window, options, expected) in [
        (good.path(), &unknown_day, &options, "cannot read"),
        (Path::new("/nowhere"), &hours, &options, "cannot read /nowhere"),
        (good.path(), &hours, &long, "a buffer of 15m 1s is not between 0 and 900 seconds"),
        (good.path(), &hours, &quiet, "no object of the hour 2013-01-01T09:00:00Z"),
        (
            bad_line.path(),
            &hours,
            &options,
            &format!(
                "{}, line 1, is not a flight",
                bad_line.path().join("flights-2013-01-01.jsonl.gz").display()
            ),
        ),
        (cut_off.path(), &hours, &options, "cannot read"),
    ] {
        let error = plan(folder, window, options).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error} does not start with {expected}");
    }
}

#[test]
fn a_window_is_of_whole_hours_and_not_empty() {
    for (from, until) in [
        ("2013-01-01T10:00:00Z", "2013-01-01T10:00:00Z"),
        ("2013-01-01T11:00:00Z", "2013-01-01T10:00:00Z"),
        ("2013-01-01T10:00:01Z", "2013-01-01T11:00:00Z"),
        ("2013-01-01T10:00:00Z", "2013-01-01T11:30:00Z"),
        ("2013-01-01T10:00:00.5Z", "2013-01-01T11:00:00Z"),
    ] {
        assert!(matches!(Window::new(at(from), at(until)), Err(ReplayError::Window { .. })));
    }
}
