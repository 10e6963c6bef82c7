//! Publishes notices that were committed with their changes: each at least
//! once, in order, and marked only after SNS has accepted it.

use jiff::SignedDuration;

use super::Engine;
use crate::core::notice::Notice;

/// When SNS cannot be reached.
pub(super) const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(30);

impl Engine {
    /// Publishes in order and stops at the first failure; returns how many SNS
    /// has accepted.
    pub(super) async fn publish(&self, notices: &[Notice]) -> usize {
        for (published, notice) in notices.iter().enumerate() {
            let message = notice.message(&self.catalog.deployment);
            if let Err(error) = self.sns.publish(&message).await {
                tracing::warn!(event = notice.id, %error, "notice not published, will be tried again");
                return published;
            }
        }
        notices.len()
    }
}
