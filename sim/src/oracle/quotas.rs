//! I13: no window of time holds more calls of one process than the burst and
//! what came since. Only for calls that the SDK never repeats.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Found, violation};
use crate::call::Call;

/// So many calls at once, then so many a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    pub burst: u32,
    pub per_second: f64,
}

/// What EMR grants without asking.
pub const GRANTED: Quota = Quota { burst: 10, per_second: 0.5 };
/// From the permission to the call: the intent is stored, and older ones are
/// not sent.
const SEND_WITHIN: SignedDuration = SignedDuration::from_secs(20);

/// When each process made its calls.
#[derive(Debug, Default)]
pub struct Quotas {
    /// (process, action) → the instants of its calls.
    calls: BTreeMap<(String, String), Vec<Timestamp>>,
}

impl Quotas {
    /// A process makes a call.
    pub fn called(&mut self, process: &str, call: &Call, now: Timestamp, quota: Quota) -> Found {
        let key = (process.to_owned(), call.action.clone());
        let instants = self.calls.entry(key).or_default();
        instants.push(now);
        let fits = |(calls, since): (usize, &Timestamp)| {
            let window = now.duration_since(*since) + SEND_WITHIN;
            let most = f64::from(quota.burst) + window.as_secs_f64() * quota.per_second;
            calls as f64 <= most
        };
        let mut windows = (1..).zip(instants.iter().rev());
        match windows.find(|window| !fits(*window)) {
            None => Vec::new(),
            Some((calls, since)) => {
                let words = format!("{process}: {calls} times {} since {since}", call.action);
                violation("I13", words)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Phase, Service};
    use serde_json::Value;

    #[test]
    fn a_burst_and_what_came_since_is_all_there_is() {
        let quota = Quota { burst: 2, per_second: 0.02 };
        let call = |action: &str| Call {
            service: Service::Emr,
            action: action.to_owned(),
            phase: Phase::Launch,
            body: Value::Null,
            about: String::new(),
        };
        // Instants of RunJobFlow in seconds, and whether the last is too many.
        for (instants, broken) in [
            (vec![0, 0], false),
            (vec![0, 0, 10], true),
            // What was permitted 20 seconds earlier.
            (vec![0, 0, 30], false),
            (vec![0, 0, 50, 100, 150], false),
            (vec![0, 50, 100, 100, 100], true),
        ] {
            let mut quotas = Quotas::default();
            let mut found = Vec::new();
            for secs in &instants {
                assert_eq!(found, [], "{instants:?}");
                let now = Timestamp::from_second(*secs).unwrap();
                // Other calls and other processes have their own.
                quotas.called("r0.1", &call("AddJobFlowSteps"), now, GRANTED);
                quotas.called("r1.1", &call("RunJobFlow"), now, GRANTED);
                found = quotas.called("r0.1", &call("RunJobFlow"), now, quota);
            }
            assert_eq!(!found.is_empty(), broken, "{instants:?}");
            assert!(found.iter().all(|found| found.invariant == "I13"));
        }
    }
}
