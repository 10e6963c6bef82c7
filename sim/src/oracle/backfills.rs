//! I4, I6, I10, I12, I14 for backfills: its end and its cancellation are told, never are more
//! under way than the cap, all of the window is come to and accounted for, nothing is begun
//! any more when it is over. Not for how their partitions run, which is as all others do.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};
use sluicegate::core::partition::Partition;

use super::items::{document, text, version};
use super::{Found, Oracle, violation};
use crate::scenario::Ordered;
use crate::tables;

/// What the names of backfills begin with among the tasks.
pub const PLACE: &str = "~backfill ";
/// Those that the cap is for.
const AT_ONCE: [&str; 3] = ["ready", "running", "loading"];

/// The backfill that a task partition belongs to.
pub fn of(item: &Value) -> Option<&str> {
    item["backfill"]["S"].as_str()
}

/// A write to a backfill itself.
pub fn written(name: &str, old: Option<&Value>, new: &Value) -> Found {
    let Some(old) = old else { return Vec::new() };
    let mut found = version(name, Some(old), new);
    let (before, after) = (document(old), document(new));
    if before["window"] != after["window"] {
        found.extend(violation("I14", format!("{name}: its window changed")));
    }
    let open = after["open"].as_array().map_or(0, Vec::len);
    if open as u64 > after["window"]["max_parallel"].as_u64().unwrap_or(0) {
        found.extend(violation("I6", format!("{name}: {open} are open, more than its cap")));
    }
    if after["cursor"].as_u64() < before["cursor"].as_u64() {
        found.extend(violation("I6", format!("{name}: it went back")));
    }
    let told = |status: &str| {
        let notices = after["notices"].as_array().into_iter().flatten();
        let ids = notices.filter_map(|notice| notice["id"].as_str());
        ids.into_iter().any(|id| id.ends_with(status))
    };
    for (part, status) in [("ended", "/backfill-ended"), ("cancelled", "/backfill-cancelled")] {
        if before[part].is_null() && !after[part].is_null() && !told(status) {
            found.extend(violation("I4", format!("{name} is {part} without its notice")));
        }
    }
    let ended = !before["ended"].is_null();
    if ended && ["ended", "counts", "open"].iter().any(|part| before[part] != after[part]) {
        found.extend(violation("I10", format!("{name} has ended, and goes on")));
    }
    found
}

impl Oracle {
    /// An operator has written it.
    pub fn ordered(&mut self, name: &str, item: Value) {
        let key = (tables::TASK.to_owned(), name.to_owned());
        let old = self.items.insert(key, item.clone());
        let written = written(name, old.as_ref(), &item);
        let told = self.notices.of_document(name, old.as_ref(), &item);
        self.violations.extend([written, told].concat());
    }

    /// A write to a task partition.
    pub(super) fn backfilled(&self, name: &str, old: Option<&Value>, new: &Value) -> Found {
        let Some(id) = of(new) else { return Vec::new() };
        let Some(backfill) = self.backfill(id) else {
            return violation("I6", format!("{name} belongs to a backfill that nobody ordered"));
        };
        let is_new = old.and_then(of) != Some(id);
        if is_new && !backfill["cancelled"].is_null() {
            return violation("I10", format!("{name} is taken for a backfill that is cancelled"));
        }
        if backfill["cancelled"].is_null() && text(new, "state").as_deref() == Some("cancelled") {
            return violation("I10", format!("{name} is cancelled, and nobody has asked for it"));
        }
        let is_at_once = |item: &Value| {
            text(item, "state").is_some_and(|state| AT_ONCE.contains(&state.as_str()))
        };
        if !is_at_once(new) || old.is_some_and(is_at_once) {
            return Vec::new();
        }
        if !backfill["ended"].is_null() {
            return violation("I10", format!("{name} is begun, and its backfill has ended"));
        }
        let ours = self.table(tables::TASK).filter(|(_, item)| of(item) == Some(id));
        let count = ours.filter(|(_, item)| is_at_once(item)).count();
        match backfill["window"]["max_parallel"].as_u64() {
            Some(cap) if count as u64 <= cap => Vec::new(),
            cap => violation("I6", format!("{name} is one of {count} at once, the cap is {cap:?}")),
        }
    }

    /// Those that have something left to do or to tell.
    pub(super) fn backfills_left(&self) -> Option<String> {
        let all = self.table(tables::TASK).filter(|(name, _)| name.starts_with(PLACE));
        let open = all.filter(|(_, item)| {
            let empty = document(item)["notices"].as_array().is_none_or(Vec::is_empty);
            document(item)["ended"].is_null() || !empty
        });
        let names: Vec<_> = open.map(|(name, _)| name).collect();
        (!names.is_empty()).then(|| format!("{names:?}"))
    }

    /// Whether somebody has taken the backfill back, and was not too late.
    pub(super) fn is_taken_back(&self) -> bool {
        let mut all = self.table(tables::TASK).filter(|(name, _)| name.starts_with(PLACE));
        all.any(|(_, item)| !document(item)["cancelled"].is_null())
    }

    /// Its counts are those of its partitions, and all of its window is in them.
    pub(super) fn backfill_at_the_end(&self, ordered: &Ordered) -> Found {
        let mut all = self.table(tables::TASK).filter(|(name, _)| name.starts_with(PLACE));
        let Some((id, item)) = all.next() else {
            return violation("I12", "the backfill is gone".to_owned());
        };
        let id = id.trim_start_matches(PLACE);
        let mut counts = BTreeMap::new();
        for partition in partitions(ordered) {
            let name = format!("{} {partition}", ordered.window.task);
            let stored = self.items.get(&(tables::TASK.to_owned(), name));
            let ours = stored.filter(|item| of(item) == Some(id));
            let state = ours.and_then(|item| text(item, "state"));
            *counts.entry(state.unwrap_or_else(|| "not-begun".to_owned())).or_insert(0) += 1;
        }
        if !self.is_taken_back() && counts.contains_key("not-begun") {
            return violation("I12", format!("backfill {id} left partitions out: {counts:?}"));
        }
        let told = &document(item)["counts"];
        if *told != json!(counts) {
            return violation("I12", format!("backfill {id} says {told}, there are {counts:?}"));
        }
        Vec::new()
    }

    fn backfill(&self, id: &str) -> Option<&Value> {
        let name = format!("{PLACE}{id}");
        self.items.get(&(tables::TASK.to_owned(), name)).map(document)
    }
}

/// Those of its window.
pub fn partitions(ordered: &Ordered) -> impl Iterator<Item = Partition> {
    let (first, last) = (ordered.window.first, ordered.window.last);
    let end = last.end() - SignedDuration::from_secs(1);
    Partition::overlapping(first.start(), end, first.grain())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backfill(version: u64, cursor: u64, open: &[&str], ended: Option<&str>) -> Value {
        let document = json!({
            "window": { "max_parallel": 2 },
            "cursor": cursor, "open": open, "counts": {}, "ended": ended,
            "notices": [{ "id": "backfill/b/backfill-begun" }],
        });
        json!({ "version": { "N": version.to_string() }, "document": document })
    }

    #[test]
    fn a_backfill_goes_forward_within_its_cap_and_ends_once() {
        let running = backfill(1, 2, &["a", "b"], None);
        let ended = backfill(5, 2, &[], Some("now"));
        for (old, new, broken) in [
            (&running, backfill(2, 3, &["b", "c"], None), None),
            (&running, backfill(1, 3, &["b", "c"], None), Some("I6")),
            (&running, backfill(2, 3, &["a", "b", "c"], None), Some("I6")),
            (&running, backfill(2, 1, &["a"], None), Some("I6")),
            (&running, backfill(2, 2, &[], Some("now")), Some("I4")),
            (&ended, backfill(6, 2, &[], Some("now")), None),
            (&ended, backfill(6, 3, &["c"], Some("now")), Some("I10")),
        ] {
            let found = written("b", Some(old), &new);
            let invariants: Vec<_> = found.iter().map(|found| found.invariant).collect();
            assert_eq!(invariants, Vec::from_iter(broken), "{new}");
        }
    }
}
