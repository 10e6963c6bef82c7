//! The simulator as a test: the same seed gives the same trace, and some worlds
//! hold every invariant. Many worlds are for `make sim`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use sluicegate_local::request_log::RequestLog;
use sluicegate_sim::faults::Crash;
use sluicegate_sim::runner;
use sluicegate_sim::scenario::{Fixed, Kind};

/// What the daemons ask of the cloud, for tests/iam.
const REQUESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/requests-sim.jsonl");
const SEEDS: std::ops::Range<u64> = 101..201;

#[test]
fn the_same_seed_gives_the_same_trace() {
    let folder = tempfile::tempdir().unwrap();
    // Two plain ones, one of loads and one whose task files change.
    for seed in [3, 14, 6, 8] {
        let one = runner::play_seed(seed, folder.path()).unwrap();
        let same = runner::play_seed(seed, folder.path()).unwrap();
        for (one, same) in one.trace.lines().iter().zip(same.trace.lines()) {
            assert_eq!(one, same, "seed {seed}");
        }
        assert_eq!(one.trace.hash(), same.trace.hash(), "seed {seed}");
        assert!(one.trace.lines().len() > 20, "seed {seed} does nothing");
    }
}

#[test]
fn worlds_of_faults_hold_every_invariant() {
    let violations = Mutex::new(Vec::new());
    let seeds: Vec<u64> = SEEDS.collect();
    let requests = Arc::new(RequestLog::create(Path::new(REQUESTS)).unwrap());
    let play = |seed: &u64, data: &Path| {
        runner::play_logged(*seed, Kind::of_seed(*seed), data, Some(Arc::clone(&requests)))
    };
    runner::play_many(&seeds, 2, play, |seed, outcome| {
        if let Some(violation) = outcome.violation {
            violations.lock().unwrap().push((*seed, violation));
        }
    })
    .unwrap();
    let violations = violations.into_inner().unwrap();
    assert!(violations.is_empty(), "see sluicegate-sim replay SEED: {violations:?}");
}

#[test]
fn loads_on_a_bad_network_are_each_in_the_table_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut loaded, mut crashed) = (0, 0);
    for seed in (6..137).step_by(10) {
        let outcome = runner::play_kind(seed, Kind::Loads, folder.path()).unwrap();
        assert_eq!(outcome.violation, None, "see sluicegate-sim replay {seed}");
        loaded += outcome.marks.event("loaded");
        crashed += outcome.marks.event("load met a crash");
    }
    assert!(loaded >= 20 && crashed >= 5, "{loaded} loads, {crashed} crashes");
}

#[test]
fn a_heap_of_messages_and_task_files_that_change_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, mark) in [(Kind::Backlog, "backlog"), (Kind::Reload, "changed task runs")] {
        let mut reached = 0;
        for seed in [8, 28, 50, 68] {
            let outcome = runner::play_kind(seed, kind, folder.path()).unwrap();
            assert_eq!(outcome.violation, None, "{kind:?} {seed}");
            reached += outcome.marks.event(mark);
        }
        assert!(reached > 0, "{mark}");
    }
}

/// Every night that there is, under the faults of some seeds.
#[test]
fn slots_come_once_when_clocks_are_changed_by_law() {
    let folder = tempfile::tempdir().unwrap();
    let (mut slots, mut nights) = (0, BTreeSet::new());
    for seed in 1..15 {
        nights.insert(Kind::Night.origin(seed));
        let outcome = runner::play_kind(seed, Kind::Night, folder.path()).unwrap();
        assert_eq!(outcome.violation, None, "a night of seed {seed}");
        slots += outcome.marks.event("slot in a night of other clocks");
    }
    assert_eq!(nights.len(), 7);
    // Each has one of the hourly task, and four nights one of the nightly task.
    assert!(slots >= 12, "only {slots}");
}

#[test]
fn a_backfill_runs_each_of_its_partitions_once_and_keeps_its_cap() {
    let folder = tempfile::tempdir().unwrap();
    let mut cancelled = 0;
    for seed in 1..25 {
        let outcome = runner::play_kind(seed, Kind::Backfill, folder.path()).unwrap();
        assert_eq!(outcome.violation, None, "a backfill of seed {seed}");
        assert_eq!(outcome.marks.event("backfill ordered"), 1, "seed {seed}");
        cancelled += outcome.marks.event("backfill cancelled");
    }
    assert!(cancelled >= 3, "only {cancelled}");
}

/// Some neighbouring crashes of the smallest world. Every two of
/// them are for `make sim-pairs`.
#[test]
fn a_recovery_that_is_interrupted_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for first in (1..60).step_by(7) {
        for (one, other) in [(0, 3), (1, 2), (2, 1), (3, 0)] {
            let crashes = [
                Crash { effect: first, position: one },
                Crash { effect: first + 1, position: other },
            ];
            let outcome = runner::play_fixed(Fixed::Single, &crashes, folder.path()).unwrap();
            assert_eq!(outcome.violation, None, "{crashes:?}");
        }
    }
}
