//! EMR's quotas as token buckets, one for each call and one for the account:
//! says whether a call may be made now, and if not, when to come back. Everyone
//! who has to wait keeps a place in the call's queue, so that a thousand runs
//! come back one by one. Not for making calls, nor for what is retried.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// The calls that EMR counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    RunJobFlow,
    AddJobFlowSteps,
    DescribeCluster,
    DescribeStep,
    ListSteps,
    ListClusters,
    TerminateJobFlows,
    CancelSteps,
}

impl Call {
    pub const ALL: [Call; 8] = [
        Call::RunJobFlow,
        Call::AddJobFlowSteps,
        Call::DescribeCluster,
        Call::DescribeStep,
        Call::ListSteps,
        Call::ListClusters,
        Call::TerminateJobFlows,
        Call::CancelSteps,
    ];

    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Call::RunJobFlow => "RunJobFlow",
            Call::AddJobFlowSteps => "AddJobFlowSteps",
            Call::DescribeCluster => "DescribeCluster",
            Call::DescribeStep => "DescribeStep",
            Call::ListSteps => "ListSteps",
            Call::ListClusters => "ListClusters",
            Call::TerminateJobFlows => "TerminateJobFlows",
            Call::CancelSteps => "CancelSteps",
        }
    }

    /// The share of the account's burst that the call leaves to others: what
    /// ends a cluster comes before surveys, and these before new clusters.
    fn leaves(self) -> f64 {
        match self {
            Call::RunJobFlow => 0.25,
            Call::ListClusters => 0.125,
            _ => 0.0,
        }
    }
}

/// So many at once, and then so many a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    pub burst: u32,
    pub per_second: f64,
}

/// What one account may ask of EMR.
#[derive(Debug, Clone, PartialEq)]
pub struct Quotas {
    /// Calls that are not named are bounded by the account's quota only.
    pub calls: BTreeMap<Call, Quota>,
    pub account: Quota,
}

/// Gives out the quotas. Times are those of the clock that it is asked with.
#[derive(Debug)]
pub struct Governor {
    calls: BTreeMap<Call, Line>,
    account: Bucket,
}

/// The bucket of one call and those who wait for it.
#[derive(Debug)]
struct Line {
    bucket: Bucket,
    /// Who waits, in order, and when each was told to come back.
    waiting: Vec<(String, Timestamp)>,
}

#[derive(Debug)]
struct Bucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    filled: Option<Timestamp>,
}

/// Who does not come back for the time of so many tokens loses the place.
const PATIENCE_TOKENS: f64 = 5.0;

impl Governor {
    /// `factor` is how many seconds of the asking clock make a real one: EMR
    /// counts in real time.
    pub fn new(quotas: &Quotas, factor: f64) -> Self {
        let line = |call| {
            let quota = quotas.calls.get(&call).copied().unwrap_or(quotas.account);
            let bucket = Bucket::new(quota, factor);
            (call, Line { bucket, waiting: Vec::new() })
        };
        Self {
            calls: Call::ALL.into_iter().map(line).collect(),
            account: Bucket::new(quotas.account, factor),
        }
    }

    /// Takes a token for a call of `who`, or says when to come back for it.
    pub fn take(&mut self, call: Call, who: &str, now: Timestamp) -> Result<(), Timestamp> {
        self.account.fill(now);
        let Some(line) = self.calls.get_mut(&call) else { return Ok(()) };
        line.bucket.fill(now);
        line.forget_the_late(now);
        let place = line.waiting.iter().position(|(waiting, _)| waiting == who);
        let ahead = place.unwrap_or(line.waiting.len()) as f64;
        let left = self.account.share(call.leaves());
        let at = line.bucket.time_of(ahead + 1.0, now).max(self.account.time_of(left + 1.0, now));
        if at <= now {
            line.bucket.tokens -= 1.0;
            self.account.tokens -= 1.0;
            if let Some(place) = place {
                line.waiting.remove(place);
            }
            return Ok(());
        }
        // Those ahead take from the account too.
        let at = at.max(self.account.time_of(left + ahead + 1.0, now));
        match place {
            Some(place) => line.waiting[place].1 = at,
            None => line.waiting.push((who.to_owned(), at)),
        }
        Err(at)
    }

    /// Takes a token for a call that can as well be left out: only while half
    /// of the quota is there and nobody waits for it.
    pub fn take_spare(&mut self, call: Call, now: Timestamp) -> bool {
        self.account.fill(now);
        let Some(line) = self.calls.get_mut(&call) else { return true };
        line.bucket.fill(now);
        line.forget_the_late(now);
        let spare = line.waiting.is_empty() && line.bucket.is_half() && self.account.is_half();
        if spare {
            line.bucket.tokens -= 1.0;
            self.account.tokens -= 1.0;
        }
        spare
    }

    /// EMR has refused a call for its rate: somebody else uses the quota too.
    /// Returns when the next one may go.
    pub fn throttled(&mut self, call: Call, now: Timestamp) -> Timestamp {
        let Some(line) = self.calls.get_mut(&call) else { return now };
        line.bucket.fill(now);
        line.bucket.tokens = 0.0;
        line.bucket.time_of(1.0, now)
    }
}

impl Line {
    /// Somebody who has gone, or a whole process that slept, must not hold up
    /// those behind.
    fn forget_the_late(&mut self, now: Timestamp) {
        let patience = self.bucket.wait_for(PATIENCE_TOKENS);
        self.waiting.retain(|(_, at)| now.duration_since(*at) <= patience);
    }
}

impl Bucket {
    fn new(quota: Quota, factor: f64) -> Self {
        let burst = f64::from(quota.burst.max(1));
        Self { burst, per_second: quota.per_second / factor, tokens: burst, filled: None }
    }

    /// Adds what has come since the last time. A clock that went back gives
    /// nothing, and counts from there.
    fn fill(&mut self, now: Timestamp) {
        let passed = self.filled.map_or(0.0, |filled| now.duration_since(filled).as_secs_f64());
        self.tokens = (self.tokens + passed.max(0.0) * self.per_second).min(self.burst);
        self.filled = Some(now);
    }

    /// When so many tokens are there; never rounded down.
    fn time_of(&self, tokens: f64, now: Timestamp) -> Timestamp {
        let missing = tokens - self.tokens;
        // What rounding left over is no reason to wait.
        if missing <= 1e-9 {
            return now;
        }
        let wait = self.wait_for(missing).max(SignedDuration::from_millis(1));
        now.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }

    fn wait_for(&self, tokens: f64) -> SignedDuration {
        SignedDuration::try_from_secs_f64(tokens / self.per_second).unwrap_or(SignedDuration::MAX)
    }

    /// A share of the burst, but never so much that nothing is left.
    fn share(&self, share: f64) -> f64 {
        (self.burst * share).floor().min(self.burst - 1.0)
    }

    fn is_half(&self) -> bool {
        self.tokens >= 1.0 && self.tokens >= self.burst / 2.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn quotas(call: Call, burst: u32, per_second: f64, account: Quota) -> Quotas {
        Quotas { calls: BTreeMap::from([(call, Quota { burst, per_second })]), account }
    }

    const WIDE: Quota = Quota { burst: 1_000, per_second: 1_000.0 };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_357_000_000_000 + millis).unwrap()
    }

    #[test]
    fn gives_the_burst_then_one_place_after_another() {
        let mut governor = Governor::new(&quotas(Call::RunJobFlow, 2, 0.5, WIDE), 1.0);
        let mut take = |who: &str, millis| governor.take(Call::RunJobFlow, who, at(millis));
        assert_eq!((take("a", 0), take("b", 0)), (Ok(()), Ok(())));
        assert_eq!(take("c", 0), Err(at(2_000)));
        assert_eq!(take("d", 0), Err(at(4_000)));
        // Asking again keeps the place; a newcomer does not get ahead.
        assert_eq!(take("c", 0), Err(at(2_000)));
        assert_eq!(take("e", 2_000), Err(at(6_000)));
        assert_eq!(take("d", 2_000), Err(at(4_000)));
        assert_eq!(take("c", 2_000), Ok(()));
        assert_eq!(take("d", 4_000), Ok(()));
    }

    #[test]
    fn a_thousand_launches_go_in_order_at_the_quotas_pace_and_without_asking_often() {
        let mut governor = Governor::new(&quotas(Call::RunJobFlow, 10, 0.5, WIDE), 1.0);
        let mut agenda: BTreeSet<_> = (0..1_000).map(|run| (at(0), run)).collect();
        let (mut asked, mut launched, mut last) = (0, Vec::new(), at(0));
        while let Some((now, run)) = agenda.pop_first() {
            asked += 1;
            match governor.take(Call::RunJobFlow, &run.to_string(), now) {
                Ok(()) => {
                    launched.push(run);
                    last = now;
                }
                Err(until) => assert!(agenda.insert((until, run))),
            }
        }
        assert!(launched.is_sorted() && launched.len() == 1_000);
        assert_eq!(last, at(990 * 2_000));
        assert!(asked <= 2_000, "{asked}");
    }

    #[test]
    fn who_does_not_come_back_holds_nobody_up() {
        let mut governor = Governor::new(&quotas(Call::ListSteps, 1, 1.0, WIDE), 1.0);
        let mut take = |who: &str, millis| governor.take(Call::ListSteps, who, at(millis));
        assert_eq!(take("a", 0), Ok(()));
        assert_eq!(take("gone", 0), Err(at(1_000)));
        assert_eq!(take("b", 0), Err(at(2_000)));
        assert_eq!(take("b", 2_000), Err(at(3_000)));
        assert_eq!(take("b", 7_000), Ok(()));
    }

    #[test]
    fn launches_leave_room_for_what_ends_a_cluster() {
        let account = Quota { burst: 8, per_second: 1.0 };
        let wide = Quota { burst: 100, per_second: 100.0 };
        let calls = Call::ALL.into_iter().map(|call| (call, wide)).collect();
        let mut governor = Governor::new(&Quotas { calls, account }, 1.0);
        let mut taken = |call| {
            let names = (0..100).map(|number| format!("{call:?}{number}"));
            names.filter(|who| governor.take(call, who, at(0)).is_ok()).count()
        };
        assert_eq!(taken(Call::RunJobFlow), 6);
        assert_eq!(taken(Call::ListClusters), 1);
        assert_eq!(taken(Call::TerminateJobFlows), 1);
        assert_eq!(taken(Call::ListSteps), 0);
    }

    #[test]
    fn what_can_be_left_out_takes_only_what_is_plentiful() {
        let mut governor = Governor::new(&quotas(Call::ListSteps, 4, 1.0, WIDE), 1.0);
        let spare: Vec<_> = (0..4).map(|_| governor.take_spare(Call::ListSteps, at(0))).collect();
        assert_eq!(spare, [true, true, true, false]);
        assert_eq!(governor.take(Call::ListSteps, "a", at(0)), Ok(()));
    }

    #[test]
    fn a_throttled_call_empties_its_bucket_and_no_other() {
        let mut governor = Governor::new(&quotas(Call::ListSteps, 10, 0.5, WIDE), 1.0);
        assert_eq!(governor.throttled(Call::ListSteps, at(0)), at(2_000));
        assert_eq!(governor.take(Call::ListSteps, "a", at(0)), Err(at(2_000)));
        assert_eq!(governor.take(Call::RunJobFlow, "a", at(0)), Ok(()));
    }

    #[test]
    fn counts_in_real_time_on_a_fast_clock_and_survives_one_that_goes_back() {
        let mut governor = Governor::new(&quotas(Call::RunJobFlow, 1, 0.5, WIDE), 100.0);
        let mut take = |who: &str, millis| governor.take(Call::RunJobFlow, who, at(millis));
        assert_eq!(take("a", 0), Ok(()));
        assert_eq!(take("b", 0), Err(at(200_000)));
        assert_eq!(take("b", 200_000), Ok(()));
        assert_eq!(take("c", -600_000), Err(at(-400_000)));
        assert_eq!(take("c", -400_000), Ok(()));
    }

    proptest! {
        /// In no window of time more than the burst and what has come since,
        /// whoever asks when; and everyone who keeps coming back is served.
        #[test]
        fn never_above_the_quota_and_nobody_starves(
            burst in 1u32..6,
            tenths in 1u32..30,
            asks in proptest::collection::vec((0usize..6, 0i64..4_000), 1..60),
        ) {
            let per_second = f64::from(tenths) / 10.0;
            let mut governor = Governor::new(&quotas(Call::ListSteps, burst, per_second, WIDE), 1.0);
            let (mut now, mut taken) = (0i64, Vec::new());
            for (who, pause) in asks {
                now += pause;
                if governor.take(Call::ListSteps, &who.to_string(), at(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (first, start) in taken.iter().enumerate() {
                for (more, end) in taken[first..].iter().enumerate() {
                    let room = f64::from(burst) + (end - start) as f64 / 1_000.0 * per_second;
                    prop_assert!((more + 1) as f64 <= room + 1e-6);
                }
            }
            let mut waiting: Vec<_> = (0..20).map(|who| (at(now), who)).collect();
            for _ in 0..1_000 {
                waiting.sort_unstable();
                let Some((due, who)) = waiting.first().copied() else { break };
                match governor.take(Call::ListSteps, &format!("late{who}"), due) {
                    Ok(()) => drop(waiting.remove(0)),
                    Err(at) => waiting[0].0 = at,
                }
            }
            prop_assert!(waiting.is_empty(), "{waiting:?}");
        }
    }
}
