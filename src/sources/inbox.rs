//! Receives messages, hands what they say to the engine, and deletes a message
//! only when its effect is durable. What cannot be read goes to quarantine.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::message::{self, Content};
use crate::aws::AwsError;
use crate::aws::sqs::{Poll, Received, Sqs};
use crate::core::arrival::Arrival;
use crate::core::notice::{Fact, Kind, Notice, Severity};
use crate::engine::Engine;
use crate::planted::{Bug, planted};

/// After a failed receive.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// How long a stop waits for the answer to a receive: one that is on its way is
/// here by then, and an idle long poll holds nothing up for longer.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// A body in an alert is there to recognise the message by.
const BODY_CHARS_MAX: usize = 500;

/// Several of them may receive side by side.
#[derive(Clone)]
pub struct Inbox {
    pub sqs: Sqs,
    pub engine: Arc<Engine>,
    pub visibility_timeout: SignedDuration,
}

impl Inbox {
    /// Receives until told to stop. Messages received but not yet looked at by
    /// then are given back, those of an answer under way too.
    pub async fn run(self, shutdown: CancellationToken) {
        // Whether the queue answers is to be known at once, not after a long poll.
        let mut poll = Poll::Short;
        let mut deletes = JoinSet::new();
        while !shutdown.is_cancelled() {
            let receive = self.sqs.receive(self.visibility_timeout, poll);
            tokio::pin!(receive);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    if let Ok(Ok(messages)) = tokio::time::timeout(ANSWER_GRACE, receive).await {
                        self.give_back(&messages).await;
                    }
                }
                received = &mut receive => {
                    poll = if received.is_ok() { Poll::Long } else { Poll::Short };
                    let seen = received.as_ref().map(|_| ()).map_err(ToString::to_string);
                    self.engine.health().inbox(seen, self.engine.clock().now());
                    match received {
                        Ok(messages) if shutdown.is_cancelled() => self.give_back(&messages).await,
                        Ok(messages) => {
                            let done = self.take(messages).await;
                            // The next receive does not wait for this; one is under way at most.
                            while deletes.join_next().await.is_some() {}
                            deletes.spawn(self.clone().delete(done));
                        }
                        Err(error) => self.pause(&error, &shutdown).await,
                    }
                }
            }
        }
        while deletes.join_next().await.is_some() {}
    }

    async fn delete(self, done: Vec<Received>) {
        match self.sqs.delete(&done).await {
            Ok(()) => self.engine.metrics().messages_deleted(done.len()),
            Err(error) => {
                tracing::warn!(%error, "messages not deleted, they come again and do no harm");
            }
        }
    }

    async fn give_back(&self, messages: &[Received]) {
        if planted(Bug::StopDeletes) {
            return self.clone().delete(messages.to_vec()).await;
        }
        if let Err(error) = self.sqs.give_back(messages).await {
            tracing::warn!(%error, "messages not given back, they come again by themselves");
        }
    }

    async fn pause(&self, error: &AwsError, shutdown: &CancellationToken) {
        tracing::warn!(%error, "cannot receive, will try again");
        let clock = self.engine.clock();
        let retry = clock.now().saturating_add(RETRY_AFTER).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = clock.sleep_until(retry) => {}
        }
    }

    /// Has messages recorded; returns those whose effect is durable.
    async fn take(&self, messages: Vec<Received>) -> Vec<Received> {
        self.engine.metrics().messages_received(messages.len());
        if planted(Bug::DeletedBeforeStored) {
            self.clone().delete(messages.clone()).await;
        }
        let mut arrivals: Vec<Arrival> = Vec::new();
        let mut read = Vec::with_capacity(messages.len());
        for message in messages {
            let mut content = message::read(&message.body);
            let first = arrivals.len();
            if planted(Bug::HalfMessageDropped) && !content.problems.is_empty() {
                content.arrivals.clear();
            }
            arrivals.append(&mut content.arrivals);
            read.push((message, content, first..arrivals.len()));
        }
        let recorded = self.engine.record(&arrivals).await;
        let mut done = Vec::new();
        for (message, mut content, range) in read {
            for cluster in &content.clusters {
                self.engine.cluster_changed(cluster);
            }
            let failed = recorded.failed.range(range).map(|(_, failed)| failed);
            let failed: Vec<_> = failed.filter(|_| !planted(Bug::FailedRecordIsDone)).collect();
            if let Some(passing) = failed.iter().find(|failed| !failed.permanent) {
                tracing::warn!(
                    message = message.id,
                    reason = passing.reason,
                    "not recorded, the message comes again"
                );
                continue;
            }
            // A mail for each of its messages would say nothing new of the item.
            let told = content.problems.is_empty() && failed.iter().all(|failed| failed.told);
            content.problems.extend(failed.iter().map(|failed| failed.reason.clone()));
            let dropped = planted(Bug::UnreadableDropped);
            if content.problems.is_empty()
                || dropped
                || self.quarantine(&message, &content, told).await
            {
                done.push(message);
            }
        }
        self.measure(&done);
        done
    }

    fn measure(&self, done: &[Received]) {
        let now = self.engine.clock().now();
        for sent in done.iter().filter_map(|message| message.sent) {
            self.engine.lagged(now.duration_since(sent), now);
        }
    }

    /// Tells people, unless they are `told`, and keeps the message; true when it may
    /// be deleted. Told first: a message comes again until both are done, and a second
    /// mail is better than many copies.
    async fn quarantine(&self, message: &Received, content: &Content, told: bool) -> bool {
        let reason = content.reason();
        let queue = self.sqs.quarantine_url();
        let notice = quarantined(message, &reason, queue, self.engine.clock().now());
        let what = format!("message {}: {reason}", message.id);
        if !told && !self.engine.announce_once(&what, &notice).await {
            return false;
        }
        let kept = self.sqs.quarantine(message, &reason).await;
        match &kept {
            Ok(()) => self.engine.metrics().message_quarantined(),
            Err(error) => {
                tracing::error!(message = message.id, %error, "not in quarantine, the message comes again");
            }
        }
        kept.is_ok()
    }
}

/// What people are told of a message that cannot be read.
fn quarantined(message: &Received, reason: &str, queue: &str, now: Timestamp) -> Notice {
    let id = format!("message/{}", message.id);
    let headline = "a message could not be read";
    let excerpt: String = message.body.chars().take(BODY_CHARS_MAX).collect();
    let chars = message.body.chars().count();
    Notice::new(Kind::Message, id, now, Severity::Failure, "message-quarantined", headline)
        .detailed(reason)
        .saying("A message of the inbox could not be read and goes to the quarantine queue")
        .with([
            Fact::new("reason", reason),
            Fact::new("message", message.id.as_str()),
            Fact::new("kept in", queue),
            Fact::new(
                "next",
                "what could be read of it counts; the rest is ignored until somebody acts. \
                 Mend whoever sent it, then send the message to the inbox again, or delete it \
                 from the quarantine queue",
            ),
            Fact::new(
                "body",
                match chars > BODY_CHARS_MAX {
                    true => format!("{chars} characters, of which the first {BODY_CHARS_MAX} are:"),
                    false => format!("{chars} characters:"),
                },
            ),
        ])
        .quoting(&excerpt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_cannot_be_read_is_told_with_what_to_do() {
        let body = format!("{{\"half\": \u{1b}[1m\nreason: none\n{}", "x".repeat(600));
        let reason = message::read(&body).reason();
        let id = "5fea7756-0ea4-451a-a703-a558b933e274".to_owned();
        let message = Received { id, receipt: "r".to_owned(), body, sent: None };
        let queue = "https://sqs.us-east-1.amazonaws.com/000000000000/quarantine";
        let now = "2013-01-01T06:10:00Z".parse().unwrap();
        let mail = quarantined(&message, &reason, queue, now).message("prod");
        insta::assert_snapshot!(mail.as_text());
    }
}
