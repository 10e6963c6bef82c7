//! Publishes notices that were committed with their changes: each at least
//! once, in order, and marked only after SNS has accepted it.

use jiff::SignedDuration;

use super::Engine;
use crate::core::notice::Notice;
use crate::planted::{Bug, planted};

/// When SNS cannot be reached.
pub(super) const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(30);

impl Engine {
    /// Publishes in order and stops at the first failure; returns how many SNS
    /// has accepted. After a failure nobody tries for a while: turns that wait
    /// for SNS would keep clusters from being launched and ended.
    pub(super) async fn publish(&self, notices: &[Notice]) -> usize {
        for (published, notice) in notices.iter().enumerate() {
            if !self.announce(notice).await && !planted(Bug::FailedPublishIsDone) {
                return published;
            }
        }
        notices.len()
    }

    /// Publishes one notice; true when SNS has accepted it.
    pub async fn announce(&self, notice: &Notice) -> bool {
        let now = self.clock.now();
        if self.memory().publish_from.is_some_and(|from| now < from) {
            return false;
        }
        let message = notice.message(&self.catalog().deployment);
        let result = self.sns.publish(&message).await;
        let failed = result.is_err();
        // One that SNS will never take must not keep back the others.
        let outage = result.as_ref().is_err_and(|error| !error.is_about_the_request());
        self.memory().publish_from = outage.then(|| super::after(self.clock.now(), RETRY_AFTER));
        match result {
            Ok(()) => self.metrics.published(notice.severity),
            Err(error) => {
                let Notice { id, task, partition, run, .. } = notice;
                tracing::warn!(task, partition, run, event = id, %error, "notice not published, will be tried again");
            }
        }
        !failed
    }
}
