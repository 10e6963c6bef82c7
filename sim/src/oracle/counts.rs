//! I2: a count that completes an input is true: no object counts twice, a count
//! has as many as it needs, and a period is over and has settled. Not for what
//! becomes ready by it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluicegate::core::partition::Partition;

use super::items::starting;
use super::messages::rows;
use super::{Found, violation};
use crate::scenario::{CLOCK_OFF_MAX, DatasetKind, Scenario};

/// As the configuration has it.
const SETTLE: SignedDuration = SignedDuration::from_mins(10);

/// A write to a task partition, at this instant.
pub fn task(
    scenario: &Scenario,
    items: &BTreeMap<(String, String), Value>,
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
    }
    found
}

fn has_settled(scenario: &Scenario, partition: &str, now: Timestamp) -> bool {
    let Ok(partition) = partition.parse::<Partition>() else { return false };
    let off = if scenario.clocks_jump() { CLOCK_OFF_MAX } else { SignedDuration::ZERO };
    partition.end() + SETTLE <= now + off
}
