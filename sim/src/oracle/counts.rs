//! I2: a count that completes an input is true: no object counts twice, a count
//! has as many as it needs, and a period is over and has settled. Not for what
//! becomes ready by it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluicegate::core::partition::Partition;

use super::items::starting;
use super::messages::{Messages, rows};
use super::{Found, violation};
use crate::scenario::{CLOCK_OFF_MAX, DatasetKind, Scenario};

/// As the configuration has it.
const SETTLE: SignedDuration = SignedDuration::from_mins(3);

/// A write to a task partition, at this instant.
pub fn task(
    scenario: &Scenario,
    items: &BTreeMap<(String, String), Value>,
    messages: &Messages,
    name: &str,
    old: Option<&Value>,
    new: &Value,
    now: Timestamp,
) -> Found {
    let mut found = Vec::new();
    for (element, receipt) in starting(new, "in:") {
        let known = old.is_some_and(|old| old[format!("in:{element}")] == *receipt);
        let text = receipt["S"].as_str().unwrap_or_default();
        let Some(count) = text.strip_prefix("closed:").filter(|_| !known) else { continue };
        let Some((dataset, partition)) = element.split_once('@') else { continue };
        let Some(kind) = scenario.dataset(dataset).map(|dataset| dataset.kind) else { continue };
        let count: usize = count.parse().unwrap_or(usize::MAX);
        let there = rows(items, element).len();
        if count > there {
            found
                .extend(violation("I2", format!("{name}: {element} is {text}, {there} are there")));
        }
        if matches!(kind, DatasetKind::Count(needed) if count < needed as usize) {
            found.extend(violation("I2", format!("{name}: {element} is {text}, that is too few")));
        }
        if kind == DatasetKind::Closed && !has_settled(scenario, partition, now) {
            found.extend(violation("I2", format!("{name}: {element} is {text} before it settled")));
        }
        if kind == DatasetKind::Closed {
            let written = settled(scenario, partition)
                .map_or(0, |by| messages.written(dataset, partition, by));
            if count < written {
                let words = format!("{name}: {element} is {text}, S3 held {written} by then");
                found.extend(violation("I2", words));
            }
        }
    }
    found
}

fn has_settled(scenario: &Scenario, partition: &str, now: Timestamp) -> bool {
    settled(scenario, partition).is_some_and(|at| at <= now)
}

/// The first instant at which a period may be closed.
fn settled(scenario: &Scenario, partition: &str) -> Option<Timestamp> {
    let partition: Partition = partition.parse().ok()?;
    let off = if scenario.clocks_jump() { CLOCK_OFF_MAX } else { SignedDuration::ZERO };
    Some(partition.end() + SETTLE - off)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Dataset, Fixed, MachineEvent, Object};
    use crate::tables;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    fn scenario(kind: DatasetKind) -> Scenario {
        let mut scenario = Scenario::fixed(Fixed::Chain, Timestamp::UNIX_EPOCH);
        scenario.datasets = vec![Dataset { name: "d".to_owned(), kind }];
        scenario
    }

    /// A journal of two objects, one of which came twice.
    fn journal() -> BTreeMap<(String, String), Value> {
        let row = |name: &str, objects: &[u8]| {
            let ids: Vec<u8> = objects.iter().flat_map(|object| [*object; 16]).collect();
            let key = (tables::UNIT.to_owned(), format!("d@2013-01-01T03 {name}"));
            (key, json!({ "objects": { "B": BASE64_STANDARD.encode(ids) } }))
        };
        BTreeMap::from([row("a", &[1, 2]), row("b", &[2])])
    }

    fn counted(receipt: &str) -> Value {
        json!({ "in:d@2013-01-01T03": { "S": receipt } })
    }

    #[test]
    fn a_count_is_true() {
        let settled: Timestamp = "2013-01-01T04:03:00Z".parse().unwrap();
        let early = settled - SignedDuration::from_secs(1);
        for (kind, receipt, now, invariants) in [
            (DatasetKind::Closed, "closed:2", settled, 0),
            (DatasetKind::Closed, "closed:0", settled, 0),
            // The object that came twice counts twice.
            (DatasetKind::Closed, "closed:3", settled, 1),
            (DatasetKind::Closed, "closed:2", early, 1),
            (DatasetKind::Closed, "closed:3", early, 2),
            (DatasetKind::Count(2), "closed:2", early, 0),
            (DatasetKind::Count(3), "closed:2", settled, 1),
            (DatasetKind::Quiet, "closed:2", early, 0),
            // Not yet counted.
            (DatasetKind::Closed, "begun:1", early, 0),
        ] {
            let (scenario, new) = (scenario(kind), counted(receipt));
            let messages = Messages::default();
            let found = task(&scenario, &journal(), &messages, "t p", None, &new, now);
            assert_eq!(found.len(), invariants, "{kind:?} {receipt} {now}");
            assert!(found.iter().all(|found| found.invariant == "I2"));
            // Judged once, when it is written.
            let again = task(&scenario, &journal(), &messages, "t p", Some(&new), &new, now);
            assert_eq!(again, []);
        }
    }

    #[test]
    fn what_s3_held_when_an_hour_could_be_closed_is_counted() {
        let settled: Timestamp = "2013-01-01T04:03:00Z".parse().unwrap();
        let scenario = scenario(DatasetKind::Closed);
        let mut messages = Messages::default();
        let hour = "2013-01-01T03".parse().unwrap();
        for (key, after) in [("a", -9), ("b", 0), ("b", 0), ("c", 1)] {
            let object = Object {
                place: Some(("d".to_owned(), hour)),
                bucket: "landing".to_owned(),
                key: key.to_owned(),
                etag: String::new(),
            };
            messages.untold(&object, settled + SignedDuration::from_secs(after));
        }
        for (receipt, violations) in [("closed:2", 0), ("closed:1", 1), ("closed:0", 1)] {
            let found =
                task(&scenario, &journal(), &messages, "t p", None, &counted(receipt), settled);
            assert_eq!(found.len(), violations, "{receipt}: {found:?}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_settles_as_much_earlier() {
        let now: Timestamp = "2013-01-01T04:00:00Z".parse().unwrap();
        let mut scenario = scenario(DatasetKind::Closed);
        scenario.events.push((now, MachineEvent::Clock(0, 600)));
        let messages = Messages::default();
        let found = task(&scenario, &journal(), &messages, "t p", None, &counted("closed:2"), now);
        assert_eq!(found, []);
    }
}
