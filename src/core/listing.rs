//! What has to be listed in S3 because a notification may be missing, what of a
//! listing is news, and how people hear of it. Not for calling S3, nor for what
//! follows from what is found (see `readiness`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::catalog::{Catalog, Completeness, Dataset};
use super::notice::{Fact, Kind, Notice, Severity};
use super::partition::Partition;
use super::readiness::{Readiness, readiness};
use super::task::{Element, TaskKey, TaskPartition, TaskState};

/// An object that is younger is left to its notification.
pub const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// Datasets that one notice names.
const NAMED_MAX: usize = 10;

/// How often S3 is listed, and how far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    pub interval: SignedDuration,
    pub window: SignedDuration,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub etag: String,
    pub bytes: u64,
    pub modified: Timestamp,
}

/// A dataset partition that may have to be listed, and the task partitions that
/// would miss what nobody told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub dataset: String,
    pub partition: Partition,
    pub readers: BTreeSet<TaskKey>,
}

/// The partitions within the window that have begun and that somebody reads, in
/// the order of datasets and partitions.
pub fn places(catalog: &Catalog, window: SignedDuration, now: Timestamp) -> Vec<Place> {
    let from = now.saturating_sub(window).unwrap_or(Timestamp::MIN);
    let mut places = Vec::new();
    for dataset in catalog.datasets.values().filter(|dataset| dataset.is_listed()) {
        for partition in Partition::overlapping(from, now, dataset.location.grain()) {
            let mut readers = catalog.readers_of(&dataset.name, &partition);
            if matches!(dataset.completeness, Completeness::Closed { .. }) {
                // Where a calendar calls the reader into being, the period is
                // listed when it is closed.
                let task = |key: &TaskKey| catalog.tasks.get(&key.task);
                readers.retain(|key| task(key).is_some_and(|task| !task.has_calendar()));
            }
            if !readers.is_empty() {
                let dataset = dataset.name.clone();
                places.push(Place { dataset, partition, readers });
            }
        }
    }
    places
}

/// Whether a reader, as it is stored, would miss an object that nobody told of: it
/// was not told, or whoever told it ended before it was decided about.
pub fn is_awaited(
    catalog: &Catalog,
    dataset: &Dataset,
    place: &Place,
    reader: Option<&TaskPartition>,
    now: Timestamp,
) -> bool {
    let Some(reader) = reader else { return true };
    let undecided = || {
        let task = catalog.tasks.get(&reader.key.task);
        task.is_some_and(|task| {
            !matches!(readiness(catalog, task, reader, now), Readiness::Waiting { .. })
        })
    };
    match dataset.completeness {
        // It is known of, and the period is listed before it is closed.
        Completeness::Closed { .. } => false,
        _ => {
            reader.state == TaskState::Waiting
                && (!reader.has(&Element::data(&dataset.name, place.partition)) || undecided())
        }
    }
}

/// The longest beginning that all keys have that say something about a
/// partition's completeness, and whether there is only one such key: then it is
/// the first that a listing shows.
pub fn prefix(dataset: &Dataset, partition: &Partition) -> (String, bool) {
    let key = dataset.location.key_of(partition);
    match &dataset.completeness {
        Completeness::Marker { name } => (format!("{key}{name}"), true),
        Completeness::Object => (key, true),
        _ => (key, false),
    }
}

/// Whether an object was written while somebody was there to be told of it, and
/// long enough ago for its notification to have come.
pub fn is_untold(object: &Listed, since: Timestamp, now: Timestamp) -> bool {
    // S3 shows whole seconds.
    object.modified.as_second() >= since.as_second() && has_grace_passed(object, now)
}

/// Whether a notification of the object should have come by now.
pub fn has_grace_passed(object: &Listed, now: Timestamp) -> bool {
    object.modified.saturating_add(GRACE).is_ok_and(|until| until <= now)
}

/// What was found that no notification told of, until people know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found(BTreeMap<String, (u64, String)>);

impl Found {
    /// So many objects of a dataset; `example` is the place of one of them.
    pub fn add(&mut self, dataset: &str, objects: u64, example: &str) {
        let entry = self.0.entry(dataset.to_owned()).or_default();
        entry.0 += objects;
        if entry.1.is_empty() {
            example.clone_into(&mut entry.1);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn objects(&self) -> u64 {
        self.0.values().map(|(objects, _)| objects).sum()
    }

    /// The first datasets, by name.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().take(NAMED_MAX).map(String::as_str).collect()
    }

    /// A line for each of the first datasets.
    pub fn facts(&self, label: &str) -> Vec<Fact> {
        let named = self.0.iter().take(NAMED_MAX);
        let mut facts: Vec<_> = named
            .map(|(dataset, (objects, example))| {
                Fact::new(label, format!("{objects} of {dataset}, such as {example}"))
            })
            .collect();
        if let Some(more) = self.0.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            facts.push(Fact::new("more", format!("{more} datasets are left out")));
        }
        facts
    }

    /// One notice for all of them.
    pub fn notice(&self, id: String, now: Timestamp) -> Notice {
        let headline = match self.objects() {
            1 => "an object came without a notification".to_owned(),
            more => format!("{more} objects came without a notification"),
        };
        let mut facts = self.facts("found");
        facts.push(Fact::new(
            "next",
            "they count as if they had been told of; so that the next ones come at once, check the \
             notification of their bucket: s3:ObjectCreated:* for these keys has to reach the \
             queue, and the queue's policy has to let it in",
        ));
        Notice::new(Kind::Service, id, now, Severity::Warning, "objects-found", headline)
            .detailed(&self.names().join(", "))
            .saying("S3 holds objects that no notification told of; they were found by a listing")
            .with(facts)
    }
}

/// A bucket cannot be listed; `reason` is S3's.
pub fn unlisted(id: String, place: &str, reason: &str, now: Timestamp) -> Notice {
    Notice::new(Kind::Service, id, now, Severity::Warning, "not-listed", "S3 cannot be listed")
        .detailed(reason)
        .saying(format!("{place} cannot be listed"))
        .with([
            Fact::new("reason", reason),
            Fact::new(
                "effect",
                "objects whose notification got lost are not found, and periods that are listed \
                 before they are closed wait",
            ),
            Fact::new("next", UNLISTED_HELP),
        ])
}

/// What to do when a bucket cannot be listed.
pub const UNLISTED_HELP: &str = "it is tried again; if permission is lacking, allow the service \
    s3:ListBucket on the bucket, or set list = false for its datasets";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing::{input, task};
    use crate::core::catalog::{OnTimeout, WaitLimit};
    use crate::core::partition::Grain;
    use crate::core::template::Template;

    fn dataset(name: &str, location: &str, completeness: Completeness) -> Dataset {
        let location = Template::parse(location).unwrap();
        Dataset { name: name.into(), location, completeness, list: true }
    }

    fn closed() -> Completeness {
        Completeness::Closed { settle: SignedDuration::ZERO }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The places of one dataset that an hourly task `t` reads.
    fn of(dataset: Dataset, change: impl Fn(&mut crate::core::catalog::Task)) -> Vec<String> {
        let mut reader = task("t", Grain::Hour, vec![input(&dataset.name, 0, 1)]);
        change(&mut reader);
        let catalog = Catalog::new("x".into(), vec![dataset], vec![], vec![reader]);
        let window = SignedDuration::from_hours(2);
        let places = places(&catalog, window, at("2013-01-01T05:30:00Z"));
        places.iter().map(|place| place.partition.to_string()).collect()
    }

    #[test]
    fn what_has_begun_within_the_window_is_listed() {
        let hourly = || dataset("d", "s3://b/d/{yyyy}{MM}{dd}{HH}", Completeness::Object);
        let all = ["2013-01-01T03", "2013-01-01T04", "2013-01-01T05"];
        assert_eq!(of(hourly(), |_| ()), all);
        assert!(of(Dataset { list: false, ..hourly() }, |_| ()).is_empty());
        let made = Completeness::Produced { task: "other".into() };
        assert!(of(Dataset { completeness: made, ..hourly() }, |_| ()).is_empty());
    }

    #[test]
    fn a_closed_hour_is_listed_where_no_calendar_calls_its_reader_into_being() {
        let hourly = || dataset("d", "s3://b/d/{yyyy}{MM}{dd}{HH}/*", closed());
        assert_eq!(of(hourly(), |_| ()).len(), 3);
        let limited = of(hourly(), |task| {
            let timeout = SignedDuration::from_hours(6);
            task.wait = Some(WaitLimit { timeout, then: OnTimeout::Fail });
        });
        assert!(limited.is_empty());
    }

    #[test]
    fn only_who_still_waits_for_it_misses_an_object() {
        let key = TaskKey::new("t", "2013-01-01T05".parse().unwrap());
        let readers = BTreeSet::from([key.clone()]);
        let place = Place { dataset: "d".into(), partition: key.partition, readers };
        let reader = |state, receipt: Option<&str>| {
            let mut item = TaskPartition::new(key.clone());
            item.state = state;
            let element = Element::data("d", key.partition);
            item.received =
                receipt.map(|text| (element, text.parse().unwrap())).into_iter().collect();
            item
        };
        let object = dataset("d", "s3://b/d/{yyyy}{MM}{dd}{HH}", Completeness::Object);
        let hour = dataset("d", "s3://b/d/{yyyy}{MM}{dd}{HH}/*", closed());
        use TaskState::{Ready, Waiting};
        let catalog = |tasks| Catalog::new("test".into(), vec![], vec![], tasks);
        let (catalog, now) = (catalog(vec![]), Timestamp::UNIX_EPOCH);
        for (item, awaited, awaited_closed) in [
            (None, true, true),
            (Some(reader(Waiting, None)), true, false),
            (Some(reader(Waiting, Some("begun:2013-01-01T05:00:00Z"))), true, false),
            (Some(reader(Waiting, Some("object:e"))), false, false),
            (Some(reader(Ready, None)), false, false),
        ] {
            let awaits = |dataset| is_awaited(&catalog, dataset, &place, item.as_ref(), now);
            assert_eq!(awaits(&object), awaited, "{item:?}");
            assert_eq!(awaits(&hour), awaited_closed, "{item:?}");
        }
        // It has all, and whoever gave it the last ended before it became ready.
        let task = task("t", Grain::Hour, vec![input("d", 0, 1)]);
        let catalog = Catalog::new("test".into(), vec![object.clone()], vec![], vec![task]);
        let undecided = reader(Waiting, Some("object:e"));
        assert!(is_awaited(&catalog, &object, &place, Some(&undecided), now));
    }

    #[test]
    fn a_listing_asks_for_as_little_as_it_can() {
        let hour = "2013-01-01T05".parse().unwrap();
        let folder = "s3://b/d/{yyyy}/{MM}/{dd}/{HH}/*";
        let marker = Completeness::Marker { name: "_SUCCESS".into() };
        let file = dataset("d", "s3://b/d/{yyyy}{MM}{dd}{HH}.csv", Completeness::Object);
        let marked = dataset("d", folder, marker);
        let counted = dataset("d", folder, Completeness::Count { objects: 2 });
        for (dataset, expected, single, belong, foreign) in [
            (&file, "d/2013010105.csv", true, "d/2013010105.csv", "d/2013010105.csv.tmp"),
            (
                &marked,
                "d/2013/01/01/05/_SUCCESS",
                true,
                "d/2013/01/01/05/_SUCCESS",
                "d/2013/01/01/05/_SUCCESS2",
            ),
            (&counted, "d/2013/01/01/05/", false, "d/2013/01/01/05/deep/a", "d/2013/01/01/05/"),
        ] {
            assert_eq!(prefix(dataset, &hour), (expected.to_owned(), single));
            let belongs = |key| dataset.location.matches(key) == Some(hour) && dataset.counts(key);
            assert!(belongs(belong) && !belongs(foreign), "{belong}, not {foreign}");
        }
    }

    #[test]
    fn the_young_and_the_past_are_no_news() {
        let (since, now) = (at("2013-01-01T05:00:00.9Z"), at("2013-01-01T06:00:00Z"));
        for (modified, untold) in [
            ("2013-01-01T04:59:59Z", false),
            // Written in the second in which its task was first seen.
            ("2013-01-01T05:00:00Z", true),
            ("2013-01-01T05:55:00Z", true),
            ("2013-01-01T05:55:01Z", false),
            ("2013-01-01T07:00:00Z", false),
        ] {
            let object =
                Listed { key: "k".into(), etag: "e".into(), bytes: 1, modified: at(modified) };
            assert_eq!(is_untold(&object, since, now), untold, "{modified}");
        }
    }

    #[test]
    fn people_are_told_what_was_found_and_what_to_check() {
        let mut found = Found::default();
        found.add("raw", 3, "s3://b/raw/1");
        found.add("raw", 9, "s3://b/raw/2");
        found.add("prices", 1, "s3://b/prices");
        let message = found.notice("listing/1".into(), at("2013-01-01T06:00:00Z")).message("prod");
        assert_eq!(message.subject, "[prod] 13 objects came without a notification: prices, raw");
        assert!(message.body.contains("12 of raw, such as s3://b/raw/1\n"), "{}", message.body);
        assert!(
            message.body.contains("check the notification of their bucket"),
            "{}",
            message.body
        );
        insta::assert_snapshot!("service-objects-found", message.as_text());
        let now = at("2013-01-01T06:00:00Z");
        let unlisted = unlisted("bucket/b/1".into(), "s3://b/raw/", "AccessDenied: no", now);
        insta::assert_snapshot!("service-not-listed", unlisted.message("prod").as_text());
    }
}
