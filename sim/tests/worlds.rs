//! The simulator as a test: the same seed gives the same trace, and some worlds
//! hold every invariant. Many worlds are for `make sim`.

use std::path::Path;
use std::sync::Mutex;

use sluicegate_sim::runner;

const SEEDS: std::ops::Range<u64> = 1..21;

#[test]
fn the_same_seed_gives_the_same_trace() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [3, 14] {
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
    let play = |seed: &u64, data: &Path| runner::play_seed(*seed, data);
    runner::play_many(&seeds, 2, play, |seed, outcome| {
        if let Some(violation) = outcome.violation {
            violations.lock().unwrap().push((*seed, violation));
        }
    })
    .unwrap();
    let violations = violations.into_inner().unwrap();
    assert!(violations.is_empty(), "see sluicegate-sim replay SEED: {violations:?}");
}
