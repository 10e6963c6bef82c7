//! What must hold for any text that a parser is given: it does not panic, and
//! what it accepts is what was written. Run by the fuzz targets, and on seeds and
//! changes of them by `tests/parsers`.

use std::path::Path;

use jiff::Timestamp;
use sluicegate::core::schedule::{Schedule, SlotPartition};
use sluicegate::core::template::Template;
use sluicegate::sources::message;
use sluicegate::sources::simulate::{Object, notification};

/// S3's longest key.
const KEY_BYTES_MAX: usize = 1024;
/// Five problems and how many more there are.
const REASON_CHARS_MAX: usize = 2_600;

/// The body of a queue message.
pub fn envelope(text: &str) {
    let content = message::read(text);
    assert!(content.reason().chars().count() <= REASON_CHARS_MAX);
    assert_eq!(content.reason().is_empty(), content.problems.is_empty());
    for arrival in content.arrivals {
        assert!((1..=KEY_BYTES_MAX).contains(&arrival.key.len()));
        assert!(!arrival.bucket.is_empty() && !arrival.version.is_empty());
    }
}

/// A key, as it is and as S3 might have written it in a notification.
pub fn key(text: &str) {
    let object = Object {
        bucket: "landing".to_owned(),
        key: text.to_owned(),
        etag: "e1".to_owned(),
        version: None,
        bytes: 1,
    };
    let mut body = notification(&object, "us-east-1", Timestamp::UNIX_EPOCH);
    let content = message::read(&body.to_string());
    let keys: Vec<_> = content.arrivals.iter().map(|arrival| arrival.key.as_str()).collect();
    match (1..=KEY_BYTES_MAX).contains(&text.len()) {
        true => assert_eq!(keys, [text]),
        false => assert_eq!(content.problems.len(), 1),
    }
    body["Records"][0]["s3"]["object"]["key"] = text.into();
    let content = message::read(&body.to_string());
    assert_eq!(content.arrivals.len() + content.problems.len(), 1);
}

/// A location template, and in further lines keys.
pub fn template(text: &str) {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let Ok(template) = Template::parse(first) else { return };
    assert_eq!(template.to_string(), first);
    for key in lines {
        template.names_no_date(key);
        if let Some(partition) = template.matches(key) {
            let start = template.key_of(&partition);
            let rest = template.rest(key);
            assert_eq!(rest.map(|rest| format!("{start}{rest}")).as_deref(), Some(key));
        }
    }
}

/// A cron expression, and in further lines a time zone and a second of the Unix
/// epoch.
pub fn cron(text: &str) {
    let mut lines = text.lines();
    let cron = lines.next().unwrap_or_default();
    let zone = lines.next().unwrap_or("UTC");
    let second = lines.next().and_then(|second| second.parse().ok());
    let Ok(schedule) = Schedule::parse(cron, zone, SlotPartition::Previous) else { return };
    let from = second.and_then(|second| Timestamp::from_second(second).ok());
    let from = from.unwrap_or(Timestamp::UNIX_EPOCH);
    let slots = schedule.due(from, Timestamp::MAX, 5);
    assert!(slots.iter().all(|slot| *slot > from));
    assert!(slots.is_sorted_by(|one, next| one < next));
    assert_eq!(schedule.next(from).as_ref(), slots.first());
}

/// A configuration file.
pub fn config(text: &str) {
    match sluicegate::config::parse(text, Path::new("sluicegate.toml")) {
        Ok(config) => assert!(config.catalog.tasks.keys().all(|name| text.contains(name))),
        Err(findings) => {
            assert!(!findings.is_empty());
            assert!(findings.list().iter().all(|finding| finding.line.is_some()));
            assert!(findings.to_string().ends_with(&findings.count()));
        }
    }
}
