//! Every call to EMR asks here first. One that would exceed the quota is not
//! made: its turn rests until there is room. The counting is `core::quota`.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::Engine;
use crate::core::quota::{Call, Governor};
use crate::core::run::{Act, Run};
use crate::planted::{Bug, planted};

impl Engine {
    /// Whether an act of a run may be done now, or when to come back.
    pub(super) fn permit_act(&self, act: &Act, run: &Run) -> Result<(), Timestamp> {
        let Some(call) = act.call().filter(|_| !planted(Bug::QuotaIgnored)) else { return Ok(()) };
        if !matches!(act, Act::ReadSteps { spare: true, .. }) {
            return self.permit(call, &run.id);
        }
        let now = self.clock.now();
        match self.with_governor(|governor| governor.take_spare(call, now)) {
            true => Ok(()),
            false => Err(super::after(now, run.limits.poll_interval)),
        }
    }

    /// Whether `who` may make a call now, or when to come back.
    pub(super) fn permit(&self, call: Call, who: &str) -> Result<(), Timestamp> {
        let now = self.clock.now();
        let permit = self.with_governor(|governor| governor.take(call, who, now));
        if let Err(until) = permit {
            tracing::debug!(call = call.name(), who, %until, "waits for EMR's quota");
            self.metrics.quota_waited(call);
        }
        permit
    }

    /// EMR refused a call for now; returns when the next one may go.
    pub(super) fn throttled(&self, call: Call) -> Timestamp {
        let now = self.clock.now();
        self.with_governor(|governor| governor.throttled(call, now))
    }

    fn with_governor<T>(&self, apply: impl FnOnce(&mut Governor) -> T) -> T {
        // Nobody panics while holding it.
        apply(&mut self.governor.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
