//! I4: a change and its notice come together, no notice goes before SNS has
//! taken it, those of a task partition come in the order of its states, and none
//! of it comes twice: that it is late, or has recovered, is told once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::items::{document, starting};
use super::{Found, violation};

/// Event ids: which must be published, and which SNS has accepted.
#[derive(Debug, Default)]
pub struct Notices {
    owed: BTreeSet<String>,
    accepted: BTreeMap<String, u32>,
    /// Task partition → how far its notices have got.
    reached: BTreeMap<String, u8>,
}

/// The place of a task partition's state in the order of its notices.
fn rank(state: &str) -> u8 {
    match state {
        "waiting" => 0,
        "ready" => 1,
        "running" => 2,
        "loading" => 3,
        _ => 4,
    }
}

impl Notices {
    /// SNS has accepted a notice.
    pub fn accepted(&mut self, event: &str) -> Found {
        let times = self.accepted.entry(event.to_owned()).or_default();
        *times += 1;
        if *times > 1 {
            return Vec::new();
        }
        // `TASK/PARTITION/STATE`; other ids have another form.
        let parts: Vec<_> = event.split('/').collect();
        let [task, partition, state] = parts[..] else { return Vec::new() };
        if !["ready", "running", "loading", "succeeded", "failed", "skipped"].contains(&state) {
            return Vec::new();
        }
        let reached = self.reached.entry(format!("{task}/{partition}")).or_default();
        let before = *reached;
        *reached = before.max(rank(state));
        if rank(state) < before {
            return violation("I4", format!("{event} was first published after a later state"));
        }
        Vec::new()
    }

    pub fn is_accepted(&self, event: &str) -> bool {
        self.accepted.contains_key(event)
    }

    /// The notices that no delivery was accepted of.
    pub fn unpublished(&self) -> Vec<&str> {
        let owed = self.owed.iter().map(String::as_str);
        owed.filter(|event| !self.is_accepted(event)).collect()
    }

    /// A write to a task partition.
    pub fn of_task(&mut self, name: &str, old: Option<&Value>, new: &Value) -> Found {
        let ids = |item: &Value| -> BTreeSet<String> {
            starting(item, "out:").filter_map(|(_, notice)| notice_id(notice)).collect()
        };
        let (before, after) = (old.map(ids).unwrap_or_default(), ids(new));
        let again = after.difference(&before).filter(|event| self.owed.contains(*event));
        let again = again.flat_map(|event| violation("I4", format!("{name}: {event} comes again")));
        let again: Found = again.collect();
        [again, self.compare(name, before, after)].concat()
    }

    /// A write to a run, or to a backfill.
    pub fn of_document(&mut self, name: &str, old: Option<&Value>, new: &Value) -> Found {
        let ids = |item: &Value| -> BTreeSet<String> {
            let notices = document(item)["notices"].as_array().into_iter().flatten();
            notices.filter_map(|notice| Some(notice["id"].as_str()?.to_owned())).collect()
        };
        self.compare(name, old.map(ids).unwrap_or_default(), ids(new))
    }

    fn compare(&mut self, name: &str, before: BTreeSet<String>, after: BTreeSet<String>) -> Found {
        self.owed.extend(after.iter().cloned());
        let gone = before.difference(&after);
        let lost = gone.filter(|event| !self.is_accepted(event));
        lost.flat_map(|event| violation("I4", format!("{name}: {event} is gone, never published")))
            .collect()
    }
}

fn notice_id(notice: &Value) -> Option<String> {
    let notice: Value = serde_json::from_str(notice["S"].as_str()?).ok()?;
    Some(notice["id"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(notices: &[&str]) -> Value {
        let mut item = json!({});
        for id in notices {
            let state = id.rsplit('/').next().unwrap();
            item[format!("out:{state}")] = json!({ "S": json!({ "id": id }).to_string() });
        }
        item
    }

    #[test]
    fn a_notice_goes_only_when_it_was_accepted() {
        let mut notices = Notices::default();
        let (ready, none) = (item(&["t/p/ready"]), item(&[]));
        assert_eq!(notices.of_task("t p", None, &ready), []);
        assert_eq!(notices.unpublished(), ["t/p/ready"]);
        assert_eq!(notices.of_task("t p", Some(&ready), &none)[0].invariant, "I4");
        assert_eq!(notices.accepted("t/p/ready"), []);
        assert_eq!(notices.of_task("t p", Some(&ready), &none), []);
        assert!(notices.unpublished().is_empty());
    }

    #[test]
    fn what_was_told_does_not_come_again() {
        let mut notices = Notices::default();
        let (late, none) = (item(&["t/p/start-late"]), item(&[]));
        assert_eq!(notices.of_task("t p", None, &late), []);
        assert_eq!(notices.of_task("t p", Some(&late), &late), []);
        assert_eq!(notices.accepted("t/p/start-late"), []);
        assert_eq!(notices.of_task("t p", Some(&late), &none), []);
        assert_eq!(notices.of_task("t p", Some(&none), &late)[0].invariant, "I4");
    }

    #[test]
    fn the_order_of_states_is_that_of_first_deliveries() {
        let mut notices = Notices::default();
        for (event, violations) in [
            ("t/p/ready", 0),
            ("t/p/succeeded", 0),
            // A second delivery, late.
            ("t/p/ready", 0),
            ("t/p/running", 1),
            ("run/r/1/starting", 0),
        ] {
            assert_eq!(notices.accepted(event).len(), violations, "{event}");
        }
    }
}
