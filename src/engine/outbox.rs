//! Publishes notices that were committed with their changes: each at least
//! once, in order, and marked only after SNS has accepted it. Never more in a
//! second than allowed, and no turn waits for that: it comes back.

use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use crate::aws::store::{NOTICES_OF_ITEM, StoreError};
use crate::core::fold::as_repeat;
use crate::core::notice::{Notice, NoticeGlance};
use crate::core::pace::Pace;
use crate::planted::{Bug, planted};

/// When SNS cannot be reached.
pub(super) const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// What became of notices that were to be published in order.
pub(super) struct Published {
    /// So many of them SNS has accepted.
    pub count: usize,
    /// When the rest has its turn.
    pub again: Option<Timestamp>,
}

impl Engine {
    /// Publishes in order and stops at the first that cannot go now. After a
    /// failure nobody tries for a while: turns that wait for SNS would keep
    /// clusters from being launched and ended. `owner` keeps a place meanwhile.
    pub(super) async fn publish(&self, owner: &str, notices: &[Notice]) -> Published {
        if notices.is_empty() {
            self.with_pace(|pace| pace.leave(owner));
        }
        let mut accepted = Vec::new();
        let mut published = Published { count: notices.len(), again: None };
        for (count, notice) in notices.iter().enumerate() {
            match self.publish_one(owner, notice).await {
                Err(_) if planted(Bug::FailedPublishIsDone) => {}
                Err(again) => {
                    published = Published { count, again: Some(again) };
                    break;
                }
                Ok(glance) => accepted.push(glance),
            }
        }
        self.keep_published(&accepted).await;
        published
    }

    async fn publish_one(&self, owner: &str, notice: &Notice) -> Result<NoticeGlance, Timestamp> {
        let now = self.clock.now();
        if let Some(from) = self.memory().publish_from.filter(|from| now < *from) {
            return Err(from);
        }
        self.with_pace(|pace| pace.take(owner, now))?;
        let sent = match self.is_folded(notice).await {
            Ok(true) => self.publish_now(&as_repeat(notice)).await,
            Ok(false) => self.publish_now(notice).await,
            // One mail too many is better than none.
            Err(error @ (StoreError::Unreadable { .. } | StoreError::Newer { .. })) => {
                tracing::error!(event = notice.id, %error, "left alone, and the notice is not folded");
                self.publish_now(notice).await
            }
            Err(error) => {
                tracing::warn!(event = notice.id, %error, "notice not published, will be tried again");
                None
            }
        };
        sent.ok_or_else(|| super::after(self.clock.now(), RETRY_AFTER))
    }

    /// Publishes one notice that nobody brings again, ahead of those that wait;
    /// true when SNS has accepted it.
    pub async fn announce(&self, notice: &Notice) -> bool {
        let now = self.clock.now();
        if self.memory().publish_from.is_some_and(|from| now < from) {
            return false;
        }
        while let Err(at) = self.with_pace(|pace| pace.take_first(self.clock.now())) {
            self.clock.sleep_until(at).await;
        }
        let accepted = self.publish_now(notice).await;
        self.keep_published(accepted.as_slice()).await;
        accepted.is_some()
    }

    async fn publish_now(&self, notice: &Notice) -> Option<NoticeGlance> {
        let message = notice.message(&self.catalog().deployment);
        let result = self.sns.publish(&message).await;
        // One that SNS will never take must not keep back the others.
        let outage = result.as_ref().is_err_and(|error| !error.is_about_the_request());
        self.memory().publish_from = outage.then(|| super::after(self.clock.now(), RETRY_AFTER));
        match result {
            Ok(()) => {
                self.metrics.published(notice.severity);
                Some(NoticeGlance::of(notice, self.clock.now()))
            }
            Err(error) => {
                let Notice { id, task, partition, run, .. } = notice;
                tracing::warn!(task, partition, run, event = id, %error, "notice not published, will be tried again");
                None
            }
        }
    }

    /// Keeps them for those who ask what was told. A gap in that list is better than
    /// the same mail twice.
    async fn keep_published(&self, accepted: &[NoticeGlance]) {
        for glances in accepted.chunks(NOTICES_OF_ITEM) {
            if let Err(error) = self.store.keep_published(glances).await {
                let events: Vec<_> = glances.iter().map(|glance| glance.event.as_str()).collect();
                tracing::warn!(?events, %error, "published, but not kept for `events tail`");
            }
        }
    }

    fn with_pace<T>(&self, apply: impl FnOnce(&mut Pace) -> T) -> T {
        // Nobody panics while holding it.
        apply(&mut self.pace.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
