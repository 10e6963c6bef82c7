//! The replicas' poll lease: its holder looks at clusters on its own account,
//! the others only when an event or an answer calls for it. Not for exclusion:
//! every change is conditional, whoever makes it.

use jiff::Timestamp;

use super::Engine;
use crate::aws::store::StoreError;

/// A holder that has missed so many sweeps is taken for gone.
const SWEEPS_MISSED_MAX: i32 = 3;

impl Engine {
    /// Takes the lease if it is free, renews it if it is ours. Only a clear no
    /// leaves the polls to somebody else: when in doubt two poll, not none.
    pub(super) async fn renew_lease(&self, now: Timestamp) {
        let term = self.sweep_interval.saturating_mul(SWEEPS_MISSED_MAX);
        let taken = self.store.take_poll_lease(&self.replica, now, term).await;
        if let Err(error) = &taken
            && !matches!(error, StoreError::Conflict(_))
        {
            tracing::warn!(%error, "the poll lease was not renewed, polls go on");
        }
        let holds = !matches!(taken, Err(StoreError::Conflict(_)));
        let held = std::mem::replace(&mut self.memory().holds_lease, holds);
        self.metrics.lease_is(holds);
        if held != holds {
            let polls = if holds { "this replica" } else { "another replica" };
            tracing::info!(polls, "poll lease");
        }
    }

    /// Another replica need not wait for the end of the lease.
    pub(super) async fn release_lease(&self) {
        if !std::mem::take(&mut self.memory().holds_lease) {
            return;
        }
        self.metrics.lease_is(false);
        if let Err(error) = self.store.release_poll_lease(&self.replica).await {
            tracing::warn!(%error, "the poll lease was not released, it ends by itself");
        }
    }
}
