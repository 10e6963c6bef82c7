//! What became of the search for the mistakes that `sluicegate::planted` names:
//! one row for each. Not for the search: that is `hunt`.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use sluicegate::planted::Bug;

use crate::oracle::Violation;

/// What became of the search for a bug.
#[derive(Debug)]
pub struct Hunt {
    pub bug: Bug,
    /// Worlds that were played, the last one is that which shows it.
    pub worlds: u64,
    pub violation: Option<Violation>,
}

/// A bug by its name.
pub fn by_name(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.iter().find(|bug| bug.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("no bug has the name {name:?}; these there are: {}", names.join(", "))
    })
}

/// One row for each bug, as Markdown.
pub fn table(hunts: &[Hunt]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["bug", "what it does wrong", "found by", "worlds"]);
    for Hunt { bug, worlds, violation } in hunts {
        let by = violation.as_ref().map_or("NOT FOUND", |violation| violation.invariant);
        table.add_row([bug.name(), bug.words(), by, &worlds.to_string()]);
    }
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// The same with the words of each violation.
pub fn json(hunts: &[Hunt]) -> Value {
    let row = |hunt: &Hunt| {
        json!({
            "bug": hunt.bug.name(),
            "what": hunt.bug.words(),
            "worlds": hunt.worlds,
            "found": hunt.violation.is_some(),
            "invariant": hunt.violation.as_ref().map(|violation| violation.invariant),
            "words": hunt.violation.as_ref().map(|violation| violation.words.clone()),
        })
    };
    hunts.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bug: Bug, worlds: u64) -> Hunt {
        let violation = Violation { invariant: "I1", words: "two at once".to_owned() };
        Hunt { bug, worlds, violation: Some(violation) }
    }

    #[test]
    fn each_bug_has_a_name_of_its_own_and_a_sentence() {
        let mut names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Bug::ALL.len());
        assert!(Bug::ALL.len() >= 30);
        for bug in Bug::ALL {
            assert_eq!(by_name(bug.name()), Ok(*bug));
            assert!(bug.words().ends_with('.'), "{}", bug.name());
        }
        let unknown = by_name("no-such").unwrap_err();
        assert!(unknown.contains("\"no-such\"") && unknown.contains("no-send-by"), "{unknown}");
    }

    #[test]
    fn the_tables_say_what_was_found_and_what_was_not() {
        let missed = Hunt { bug: Bug::NoSendBy, worlds: 1000, violation: None };
        let hunts = [found(Bug::CreationRetried, 9), missed];
        let table = table(&hunts);
        let row = |name: &str| table.lines().find(|line| line.contains(name)).unwrap_or_default();
        let cells = |name: &str| row(name).split('|').map(str::trim).collect::<Vec<_>>().join("|");
        assert!(cells("creation-retried").ends_with("|I1|9|"), "{table}");
        assert!(cells("no-send-by").ends_with("|NOT FOUND|1000|"), "{table}");
        let json = json(&hunts);
        assert_eq!(json[0]["invariant"], "I1");
        assert_eq!((&json[1]["found"], &json[1]["invariant"]), (&json!(false), &Value::Null));
    }
}
