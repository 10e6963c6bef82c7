//! I4: what is folded is told in a summary: no repeat goes out before its window
//! names it, and no window ends before its summary has gone out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::notices::Notices;
use super::{Found, violation};
use crate::tables;

/// Where windows stand among the task partitions.
pub const PLACE: &str = "~fold ";
/// The one line of a log that a mailbox gets needs no summary.
const OF_LOGS: &str = "/step-log/";

/// A write to a window.
pub fn written(notices: &Notices, name: &str, old: Option<&Value>, new: &Value) -> Found {
    let Some(before) = old.filter(|old| count(old) > 1 && count(new) == 0) else {
        return Vec::new();
    };
    if name.contains(OF_LOGS) {
        return Vec::new();
    }
    let first = first(before).unwrap_or_default();
    let event = format!("{first}/and-more/{}", count(before) - 1);
    match notices.is_accepted(&event) {
        true => Vec::new(),
        false => violation("I4", format!("{name} ends and {event} was not published")),
    }
}

/// SNS has accepted a repeat about a partition.
pub fn accepted(
    items: &BTreeMap<(String, String), Value>,
    notices: &Notices,
    event: &str,
    partition: &str,
) -> Found {
    let names_it = |item: &Value| {
        partitions(item).any(|it| it == partition) && first(item).is_some_and(|it| it != event)
    };
    let mut windows =
        items.iter().filter(|((table, name), _)| table == tables::TASK && name.starts_with(PLACE));
    // A request that is sent again may come after the window's end.
    match notices.is_accepted(event) || windows.any(|(_, item)| names_it(item)) {
        true => Vec::new(),
        false => violation("I4", format!("{event} is folded and no window names {partition}")),
    }
}

fn partitions(item: &Value) -> impl Iterator<Item = &str> {
    item["partitions"]["SS"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn count(item: &Value) -> usize {
    partitions(item).count()
}

/// The event of what was told at once.
fn first(item: &Value) -> Option<String> {
    let notice: Value = serde_json::from_str(item["first"]["S"].as_str()?).ok()?;
    Some(notice["id"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn window(partitions: &[&str]) -> Value {
        let first = json!({ "id": "t/p1/failed" }).to_string();
        json!({ "first": { "S": first }, "partitions": { "SS": partitions } })
    }

    #[test]
    fn a_window_ends_with_its_summary() {
        let mut notices = Notices::default();
        let (one, two, none) = (window(&["p1"]), window(&["p1", "p2"]), json!({}));
        let ends = |notices: &Notices, slot: &str, old: &Value| {
            written(notices, &format!("~fold t/{slot}/3"), Some(old), &none).len()
        };
        assert_eq!(ends(&notices, "failed", &one), 0);
        assert_eq!(ends(&notices, "failed", &two), 1);
        assert_eq!(ends(&notices, "step-log", &two), 0);
        assert_eq!(written(&notices, "~fold t/failed/3", Some(&one), &two), []);
        notices.accepted("t/p1/failed/and-more/1");
        assert_eq!(ends(&notices, "failed", &two), 0);
    }

    #[test]
    fn a_repeat_is_named_before_it_goes_out() {
        let notices = Notices::default();
        let key = (tables::TASK.to_owned(), "~fold t/failed/3".to_owned());
        let items = BTreeMap::from([(key, window(&["p1", "p2"]))]);
        for (event, partition, violations) in
            [("t/p2/failed", "p2", 0), ("t/p3/failed", "p3", 1), ("t/p1/failed", "p1", 1)]
        {
            let found = accepted(&items, &notices, event, partition);
            assert_eq!(found.len(), violations, "{event}");
        }
    }
}
