//! What follows when a cluster is lost, by the class of the failure: what is
//! written, and the defaults.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::Check;
use crate::config::schema;
use crate::core::catalog::AttemptPolicy;
use crate::core::class::FailureClass;

/// More clusters than that for one batch help nobody.
pub(super) const ATTEMPTS_MAX: u32 = 10;
/// EC2 seldom gets machines sooner.
const CAPACITY_DELAY: SignedDuration = SignedDuration::from_mins(10);
/// A second machine may have better luck with a mirror that is down; a third not.
const BOOTSTRAP_ATTEMPTS: u32 = 2;

impl Check {
    /// The policy of each class of failure that ends clusters.
    pub(super) fn attempts(
        &mut self,
        raw: &schema::Attempts,
        max_attempts: u32,
    ) -> BTreeMap<FailureClass, AttemptPolicy> {
        let now = SignedDuration::ZERO;
        let mut policies = BTreeMap::new();
        for (class, raw, max, delay) in [
            (FailureClass::Bootstrap, &raw.bootstrap, max_attempts.min(BOOTSTRAP_ATTEMPTS), now),
            (FailureClass::Capacity, &raw.capacity, max_attempts, CAPACITY_DELAY),
            (FailureClass::SpotLoss, &raw.spot_loss, max_attempts, now),
            (FailureClass::Validation, &raw.validation, 1, now),
            (FailureClass::TimeOut, &raw.time_out, max_attempts, now),
            (FailureClass::External, &raw.external, 1, now),
            (FailureClass::Internal, &raw.internal, max_attempts, now),
        ] {
            let name = class.name();
            let max = raw
                .max
                .as_ref()
                .map_or(max, |max| self.count(&format!("max of {name}"), max, 1..=ATTEMPTS_MAX));
            let bounds = SignedDuration::ZERO..=SignedDuration::from_hours(24);
            let delay = raw
                .delay
                .as_ref()
                .map_or(delay, |delay| self.within(&format!("delay of {name}"), delay, bounds));
            policies.insert(class, AttemptPolicy { max, delay });
        }
        policies
    }
}
