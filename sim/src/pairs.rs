//! Which two crashes of the fixed world are played: all, or those that are
//! likely to meet each other and a sample of the rest. Not for playing them.

use fastrand::Rng;

use crate::faults::Crash;

/// Two crashes of one world, by their effects.
pub type Pair = [Crash; 2];

/// How much of the whole is played.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// A second crash within so many effects of the first meets its recovery.
    pub near: u64,
    /// How many of the other pairs, by chance.
    pub sample: usize,
    pub seed: u64,
}

/// What was chosen, and of how many.
#[derive(Debug)]
pub struct Chosen {
    pub pairs: Vec<Pair>,
    /// How many of them are near.
    pub near: usize,
    pub all: usize,
}

/// Chooses pairs; `singles` are the worlds with one crash and the effects that
/// each of them had. Without an extent all are taken.
pub fn choose(singles: &[(Crash, u64)], extent: Option<Extent>) -> Chosen {
    let second = |(first, effects): &(Crash, u64)| {
        let (first, effects) = (*first, *effects);
        let seconds = (first.effect + 1..=effects).flat_map(Crash::all_at);
        seconds.map(move |second| [first, second])
    };
    let every = singles.iter().flat_map(second);
    let near = extent.map_or(u64::MAX, |extent| extent.near);
    let (mut pairs, far): (Vec<Pair>, Vec<Pair>) =
        every.partition(|[first, second]| second.effect - first.effect <= near);
    let (near, all) = (pairs.len(), pairs.len() + far.len());
    if let Some(Extent { sample, seed, .. }) = extent {
        pairs.extend(Rng::with_seed(seed).choose_multiple(far, sample));
    }
    Chosen { pairs, near, all }
}

impl Chosen {
    /// What is played, in words.
    pub fn words(&self) -> String {
        let Self { pairs, near, all } = self;
        let played = pairs.len();
        if played == *all {
            return format!("all {all} pairs of crashes");
        }
        let percent = 100.0 * played as f64 / (*all).max(1) as f64;
        format!(
            "{played} of {all} pairs of crashes ({percent:.1} %): {near} that are near each other, \
             {} of the others by chance",
            played - near
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Ten effects, each with its four crashes, after any of which there are
    /// twelve.
    fn singles() -> Vec<(Crash, u64)> {
        (1..=10).flat_map(Crash::all_at).map(|crash| (crash, 12)).collect()
    }

    #[test]
    fn all_pairs_are_every_second_crash_after_every_first() {
        let chosen = choose(&singles(), None);
        // 11 + 10 + … + 2 second effects, four crashes at each of the two.
        assert_eq!((chosen.pairs.len(), chosen.all), (65 * 16, 65 * 16));
        assert!(chosen.pairs.iter().all(|[first, second]| first.effect < second.effect));
        assert_eq!(chosen.words(), "all 1040 pairs of crashes");
    }

    #[test]
    fn a_part_is_all_that_is_near_and_a_sample_of_the_rest() {
        let extent = Extent { near: 2, sample: 40, seed: 7 };
        let chosen = choose(&singles(), Some(extent));
        let distance = |[first, second]: &Pair| second.effect - first.effect;
        let (near, far) = chosen.pairs.split_at(chosen.near);
        assert_eq!((near.len(), far.len(), chosen.all), (20 * 16, 40, 1040));
        assert!(near.iter().all(|pair| distance(pair) <= 2));
        assert!(far.iter().all(|pair| distance(pair) > 2));
        assert_eq!(BTreeSet::from_iter(&chosen.pairs).len(), 360, "none twice");
        assert_eq!(
            chosen.words(),
            "360 of 1040 pairs of crashes (34.6 %): 320 that are near each other, \
             40 of the others by chance"
        );
        let pairs = |seed| choose(&singles(), Some(Extent { seed, ..extent })).pairs;
        assert_eq!(pairs(7), chosen.pairs, "the same seed, the same pairs");
        assert_ne!(pairs(8), chosen.pairs);
    }

    #[test]
    fn a_sample_larger_than_the_rest_is_the_rest() {
        let chosen = choose(&singles(), Some(Extent { near: 4, sample: 5000, seed: 1 }));
        assert_eq!((chosen.pairs.len(), chosen.all), (1040, 1040));
    }
}
