//! Gathers ready task partitions of one cluster profile into batches: by size,
//! or when the oldest has waited long enough.

use jiff::Timestamp;

use super::catalog::Profile;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Gather {
    /// Nothing is ready.
    Idle,
    /// Too few; the timer sweeps them up at this instant.
    WaitUntil(Timestamp),
    /// Put so many, the oldest first, into a batch now.
    Take(usize),
}

/// What to do with the ready partitions of a profile, given how many there are
/// and since when the oldest is ready.
pub fn gather(
    profile: &Profile,
    count: usize,
    oldest: Option<Timestamp>,
    now: Timestamp,
) -> Gather {
    let Some(oldest) = oldest else { return Gather::Idle };
    if count >= profile.batch_size {
        return Gather::Take(profile.batch_size);
    }
    let sweep = oldest.saturating_add(profile.max_wait).unwrap_or(Timestamp::MAX);
    if sweep <= now { Gather::Take(count) } else { Gather::WaitUntil(sweep) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing::profile;
    use jiff::SignedDuration;

    #[test]
    fn takes_by_size_or_by_time() {
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let mut small = profile("small");
        small.batch_size = 2;
        small.max_wait = SignedDuration::from_mins(10);
        for (ready_since, now, expected) in [
            (vec![], 0, Gather::Idle),
            (vec![1], 10, Gather::WaitUntil(at(11))),
            (vec![1], 11, Gather::Take(1)),
            (vec![1, 2], 2, Gather::Take(2)),
            (vec![1, 2, 3], 60, Gather::Take(2)),
        ] {
            let oldest = ready_since.first().copied().map(at);
            assert_eq!(gather(&small, ready_since.len(), oldest, at(now)), expected);
        }
    }
}
