//! The items of the tables: every accepted write continues the item it found.
//! Not for what notices or clusters have to do with it.

use serde_json::Value;

use super::{Found, Violation, backfills, violation};
use crate::scenario::{DatasetKind, Scenario};

pub fn text(item: &Value, name: &str) -> Option<String> {
    item[name]["S"].as_str().map(str::to_owned)
}

pub fn number(item: &Value, name: &str) -> Option<i64> {
    item[name]["N"].as_str()?.parse().ok()
}

/// The run that an item holds (see `tables::read`).
pub fn document(item: &Value) -> &Value {
    &item["document"]
}

/// The attributes of an item that begin so, without that beginning.
pub fn starting<'a>(
    item: &'a Value,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let attributes = item.as_object().into_iter().flatten();
    attributes.filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
}

/// A complete receipt; `partial:` and `begun:` are none.
pub fn is_complete(receipt: &Value) -> bool {
    let text = receipt["S"].as_str().unwrap_or_default();
    !text.is_empty() && !text.starts_with("partial:") && !text.starts_with("begun:")
}

const FINAL: [&str; 4] = ["succeeded", "failed", "skipped", "cancelled"];

pub fn is_final(item: &Value) -> bool {
    text(item, "state").is_some_and(|state| FINAL.contains(&state.as_str()))
}

/// I6: versions rise by one.
pub fn version(name: &str, old: Option<&Value>, new: &Value) -> Found {
    let before = old.and_then(|old| number(old, "version")).unwrap_or(0);
    let after = number(new, "version");
    match after {
        Some(after) if after == before + 1 => Vec::new(),
        _ => violation("I6", format!("{name}: version {before} became {after:?}")),
    }
}

/// I10: the relation of a task partition's states.
fn may_become(from: &str, to: &str) -> bool {
    matches!(
        (from, to),
        ("waiting", "ready" | "skipped" | "failed")
            | ("ready", "running" | "failed")
            | ("running", "loading" | "succeeded" | "failed")
            | ("loading", "succeeded" | "failed")
    )
}

/// A write to a task partition.
pub fn task(scenario: &Scenario, name: &str, old: Option<&Value>, new: &Value) -> Found {
    let mut found = version(name, old, new);
    let mut violated = |invariant, words: String| found.push(Violation { invariant, words });
    let from = old.and_then(|old| text(old, "state")).unwrap_or_else(|| "waiting".to_owned());
    let to = text(new, "state").unwrap_or_default();
    if from != to {
        // Nobody cancels anything else here.
        let taken_back = to == "cancelled" && backfills::of(new).is_some();
        let taken_back = taken_back && ["waiting", "ready"].contains(&from.as_str());
        if !may_become(&from, &to) && !taken_back {
            violated("I10", format!("{name}: {from} became {to}"));
        }
        // A backfill tells of its partitions in its summary.
        if new.get(format!("out:{to}")).is_none() && backfills::of(new).is_none() {
            violated("I4", format!("{name} became {to} without its notice"));
        }
        if to == "ready" {
            for input in missing_inputs(scenario, name, new) {
                violated("I2", format!("{name} became ready without {input}"));
            }
        }
    } else if let Some(old) = old.filter(|old| is_final(old)) {
        for attribute in ["run", "reason"] {
            if old.get(attribute) != new.get(attribute) {
                violated("I10", format!("{name} is {to}, and its {attribute} changed"));
            }
        }
    }
    let before = old.into_iter().flat_map(|old| starting(old, "in:"));
    for (element, receipt) in before.filter(|(_, receipt)| is_complete(receipt)) {
        // A new object makes it wait for quiet again.
        let dataset = element.split('@').next().and_then(|name| scenario.dataset(name));
        let quiet = dataset.is_some_and(|dataset| dataset.kind == DatasetKind::Quiet);
        if !quiet && !is_complete(&new[format!("in:{element}")]) {
            violated("I2", format!("{name}: {element} was complete ({receipt}) and is not"));
        }
    }
    found
}

/// What a task partition would need to be ready and has not.
fn missing_inputs(scenario: &Scenario, name: &str, item: &Value) -> Vec<String> {
    let Some((task, partition)) = name.rsplit_once(' ') else { return Vec::new() };
    let Some(task) = scenario.task(task) else { return vec!["its task".to_owned()] };
    let slot = task.scheduled.then(|| "slot".to_owned());
    let data = task.inputs.iter().map(|dataset| format!("{dataset}@{partition}"));
    let given: Option<Value> =
        text(item, "given").and_then(|text| serde_json::from_str(&text).ok());
    // Nobody else gives anything here, and these only slots.
    let given = given.filter(|_| backfills::of(item).is_some());
    let is_given = |element: &str| {
        element == "slot" && given.as_ref().is_some_and(|given| given.get(element).is_some())
    };
    let needed = slot.into_iter().chain(data).filter(|element| !is_given(element));
    needed.filter(|element| !is_complete(&item[format!("in:{element}")])).collect()
}

/// I1: a claim that is held stays with its holder.
pub fn claim(key: &str, old: Option<&Value>, new: &Value) -> Found {
    let before = old.and_then(|old| text(old, "holder"));
    let after = text(new, "holder");
    if before.is_some() && before != after {
        return violation("I1", format!("{key} was {before:?}'s and became {after:?}'s"));
    }
    Vec::new()
}

/// A write to a run.
pub fn run<'a>(name: &str, old: Option<&'a Value>, new: &'a Value) -> Found {
    let mut found = version(name, old, new);
    let mut violated = |invariant, words: String| found.push(Violation { invariant, words });
    let Some(old) = old else { return found };
    let (before, after) = (document(old), document(new));
    for part in ["cluster", "limits", "profile", "created"] {
        if before[part] != after[part] {
            violated("I14", format!("run {name}: its {part} changed"));
        }
    }
    let members = |run: &'a Value| run["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (had, has) = (members(before), members(after));
    if had.len() != has.len() {
        violated("I14", format!("run {name} had {} members, has {}", had.len(), has.len()));
    }
    for (had, has) in had.iter().zip(has) {
        if had["key"] != has["key"] || had["steps"] != has["steps"] {
            violated("I14", format!("run {name}: member {} changed", had["key"]));
        }
        if !had["outcome"].is_null() && had["outcome"] != has["outcome"] {
            violated("I10", format!("run {name}: the outcome of {} changed", had["key"]));
        }
    }
    let state = |run: &Value| run["state"].as_str().unwrap_or_default().to_owned();
    let (from, to) = (state(before), state(after));
    if !run_may_become(&from, &to) {
        violated("I10", format!("run {name}: {from} became {to}"));
    }
    found
}

fn run_may_become(from: &str, to: &str) -> bool {
    from == to
        || matches!(
            (from, to),
            ("launching", "running" | "succeeded" | "failed")
                | ("running", "terminating" | "launching" | "succeeded" | "failed")
                | ("terminating", "succeeded" | "failed")
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Fixed;
    use serde_json::json;

    fn partition(version: u64, state: &str, notice: bool) -> Value {
        let mut item = json!({ "version": { "N": version.to_string() }, "state": { "S": state } });
        if notice {
            item[format!("out:{state}")] = json!({ "S": "{}" });
        }
        item
    }

    #[test]
    fn each_write_continues_what_it_found() {
        let origin = jiff::Timestamp::UNIX_EPOCH;
        let scenario = Scenario::fixed(Fixed::Chain, origin);
        let name = "t1 2013-01-01T03";
        let running = partition(4, "running", false);
        for (old, new, broken) in [
            (None, partition(1, "waiting", false), None),
            (None, partition(2, "waiting", false), Some("I6")),
            (Some(&running), partition(5, "failed", true), None),
            (Some(&running), partition(5, "failed", false), Some("I4")),
            (Some(&running), partition(5, "waiting", true), Some("I10")),
            (Some(&running), partition(4, "running", false), Some("I6")),
            (None, partition(1, "ready", true), Some("I2")),
        ] {
            let found = task(&scenario, name, old, &new);
            let invariants: Vec<_> = found.iter().map(|found| found.invariant).collect();
            assert_eq!(invariants, Vec::from_iter(broken), "{new}");
        }
    }

    #[test]
    fn a_run_keeps_its_configuration_and_a_claim_its_holder() {
        let run_with = |version: u64, cluster: &str| {
            let document = json!({ "state": "running", "cluster": cluster, "members": [] });
            json!({ "version": { "N": version.to_string() }, "document": document })
        };
        assert_eq!(run("r", Some(&run_with(1, "a")), &run_with(2, "a")), []);
        assert_eq!(run("r", Some(&run_with(1, "a")), &run_with(2, "b"))[0].invariant, "I14");
        let held = |by: &str| json!({ "holder": { "S": by } });
        assert_eq!(claim("c", Some(&held("j-1")), &held("j-1")), []);
        assert_eq!(claim("c", Some(&held("j-1")), &held("j-2"))[0].invariant, "I1");
    }
}
