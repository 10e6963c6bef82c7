//! Looks for bugs: plants one at a time in the daemon and plays worlds until an
//! invariant is violated. Not for the bugs themselves: those are the daemon's
//! `planted`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sluicegate::planted::{Bug, plant};

use crate::planted::Hunt;
use crate::runner;
use crate::scenario::Kind;
use crate::world::Outcome;

/// Mistakes that only worlds of loads can show, which are few among the others.
const OF_LOADS: [Bug; 4] =
    [Bug::LedgerNotChecked, Bug::LedgerLockedLate, Bug::TokenPerCall, Bug::FirstFailureCounts];

/// And those that only backfills can show.
const OF_BACKFILLS: [Bug; 2] = [Bug::BackfillNotKept, Bug::BackfillUnchecked];

/// Plays the world of a seed with a bug.
pub fn play_with(bug: Bug, seed: u64, data: &Path) -> anyhow::Result<Outcome> {
    plant(Some(bug));
    let outcome = runner::play_kind(seed, kind(bug, seed), data);
    plant(None);
    outcome
}

fn kind(bug: Bug, seed: u64) -> Kind {
    match bug {
        bug if OF_LOADS.contains(&bug) => Kind::Loads,
        bug if OF_BACKFILLS.contains(&bug) => Kind::Backfill,
        _ => Kind::of_seed(seed),
    }
}

/// Plays the worlds of these seeds, for each bug until it is found: a world that
/// is violated with it and holds without it.
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
        if outcome.violation.is_some()
            && let Some(own) =
                runner::play_kind(outcome.seed, kind(*bug, outcome.seed), data)?.violation
        {
            anyhow::bail!("world {} does not hold without {}: {own:?}", outcome.seed, bug.name());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_found_in_a_world_that_holds_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let bug = Bug::NoticeOutside;
        let hunts = hunt(&[bug], 1..20, 1, |_| {}).unwrap();
        assert_eq!(hunts[0].violation.as_ref().map(|found| found.invariant), Some("I4"));
        let outcome = runner::play_seed(hunts[0].worlds, folder.path()).unwrap();
        assert_eq!(outcome.violation, None);
    }
}
