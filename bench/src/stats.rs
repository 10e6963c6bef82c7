//! Medians and percentiles of what was measured. Not for deciding what is good.

use serde::Serialize;

/// Several measurements of one thing in short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stats {
    pub median: f64,
    pub p99: f64,
    pub min: f64,
    pub max: f64,
    pub count: usize,
}

impl Stats {
    /// None of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self {
            median: percentile(&values, 0.5),
            p99: percentile(&values, 0.99),
            min,
            max,
            count: values.len(),
        })
    }
}

/// The nearest rank: a value that was really measured, except between the two
/// middle ones of an even number.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let half = sorted.len() / 2;
    if share == 0.5 && sorted.len().is_multiple_of(2) {
        return (sorted[half - 1] + sorted[half]) / 2.0;
    }
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_middle_and_the_nearest_rank() {
        for (values, median, p99) in [
            (vec![3.0], 3.0, 3.0),
            (vec![4.0, 1.0], 2.5, 4.0),
            (vec![9.0, 1.0, 5.0], 5.0, 9.0),
            ((1..=200).map(f64::from).collect(), 100.5, 198.0),
        ] {
            let stats = Stats::of(values).unwrap();
            assert_eq!((stats.median, stats.p99), (median, p99));
        }
        assert_eq!(Stats::of(Vec::new()), None);
    }
}
