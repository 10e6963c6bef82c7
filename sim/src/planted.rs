//! Proves that the simulator finds bugs: plants one at a time in the daemon and
//! plays worlds until an invariant is violated. Not for the bugs themselves:
//! those are the daemon's `planted`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use sluicegate::planted::{Bug, plant};

use crate::oracle::Violation;
use crate::runner;
use crate::world::Outcome;

/// What became of the search for a bug.
#[derive(Debug)]
pub struct Hunt {
    pub bug: Bug,
    /// Worlds that were played, the last one is that which shows it.
    pub worlds: u64,
    pub violation: Option<Violation>,
}

/// Plays the world of a seed with a bug.
pub fn play_with(bug: Bug, seed: u64, data: &Path) -> anyhow::Result<Outcome> {
    plant(Some(bug));
    let outcome = runner::play_seed(seed, data);
    plant(None);
    outcome
}

/// Plays the worlds of these seeds, for each bug until it is found.
pub fn hunt(
    bugs: &[Bug],
    seeds: std::ops::Range<u64>,
    threads: usize,
    told: impl Fn(&Hunt) + Sync,
) -> anyhow::Result<Vec<Hunt>> {
    let hunts = Mutex::new(Vec::new());
    let search = |bug: &Bug, data: &Path| {
        let mut outcome = play_with(*bug, seeds.start, data)?;
        for seed in seeds.clone().skip(1) {
            if outcome.violation.is_some() {
                break;
            }
            outcome = play_with(*bug, seed, data)?;
        }
        Ok(outcome)
    };
    runner::play_many(bugs, threads, search, |bug, outcome| {
        let worlds = outcome.seed - seeds.start + 1;
        let hunt = Hunt { bug: *bug, worlds, violation: outcome.violation };
        told(&hunt);
        hunts.lock().unwrap_or_else(PoisonError::into_inner).push(hunt);
    })?;
    let mut hunts = hunts.into_inner().unwrap_or_else(PoisonError::into_inner);
    hunts.sort_by_key(|hunt| hunt.bug);
    Ok(hunts)
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
