//! The mechanics of standard queues as a state machine on a given clock:
//! visibility, delays, receipts, retention, dead letters. Knows no protocol,
//! waits for nothing and never reads the time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::ids::md5_hex;
use crate::wire::{ApiError, is_xml};

/// SQS lets this many messages of a queue be in flight.
const IN_FLIGHT_MAX: usize = 120_000;

/// A message attribute in SQS's own JSON form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageAttribute {
    pub data_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    /// Base64, as on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_value: Option<String>,
}

pub type MessageAttributes = BTreeMap<String, MessageAttribute>;

/// A message as its sender gives it.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub id: String,
    pub body: String,
    pub attributes: MessageAttributes,
    /// Instead of the queue's own delay.
    pub delay_secs: Option<u32>,
}

#[derive(Debug, Clone)]
struct Message {
    id: String,
    body: String,
    attributes: MessageAttributes,
    sent: Timestamp,
    first_received: Option<Timestamp>,
    receives: u32,
    /// When it becomes visible again; none while it is visible.
    hidden_until: Option<Timestamp>,
    /// The queue whose dead letter it is.
    source: Option<String>,
}

/// One message as a consumer gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: String,
    pub receipt: String,
    pub body: String,
    pub attributes: MessageAttributes,
    pub sent: Timestamp,
    pub first_received: Timestamp,
    pub receives: u32,
    pub source: Option<String>,
}

impl Delivery {
    pub fn body_md5(&self) -> String {
        md5_hex(self.body.as_bytes())
    }
}

/// What one receive brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub deliveries: Vec<Delivery>,
    /// Whether dead letters went to another queue.
    pub moved: bool,
}

/// How many messages are in which condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    pub visible: usize,
    pub in_flight: usize,
    pub delayed: usize,
}

/// One queue. Messages are known by a serial number, in the order they came.
#[derive(Debug)]
pub struct Queue {
    pub settings: Settings,
    pub arn: String,
    pub created: Timestamp,
    pub tags: BTreeMap<String, String>,
    next: u64,
    messages: BTreeMap<u64, Message>,
    visible: BTreeSet<u64>,
    hidden: BTreeSet<(Timestamp, u64)>,
}

impl Queue {
    pub fn new(arn: String, settings: Settings, now: Timestamp) -> Self {
        Self {
            settings,
            arn,
            created: now,
            tags: BTreeMap::new(),
            next: 0,
            messages: BTreeMap::new(),
            visible: BTreeSet::new(),
            hidden: BTreeSet::new(),
        }
    }

    pub fn send(&mut self, message: Outgoing, now: Timestamp) -> Result<(), ApiError> {
        let size = message.body.len() + attributes_size(&message.attributes);
        if message.body.is_empty() {
            return Err(ApiError::bad_request(
                "MissingParameter",
                "The request must contain the parameter MessageBody.",
            ));
        }
        if !message.body.chars().all(is_xml) {
            return Err(ApiError::bad_request(
                "InvalidMessageContents",
                "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF",
            ));
        }
        if size > self.settings.message_bytes_max {
            let max = self.settings.message_bytes_max;
            return Err(ApiError::bad_request(
                "InvalidParameterValue",
                format!(
                    "One or more parameters are invalid. Reason: Message must be shorter than {max} bytes."
                ),
            ));
        }
        let delay = message.delay_secs.unwrap_or(self.settings.delay_secs);
        let hidden_until = (delay > 0).then(|| after(now, delay));
        self.insert(Message {
            id: message.id,
            body: message.body,
            attributes: message.attributes,
            sent: now,
            first_received: None,
            receives: 0,
            hidden_until,
            source: None,
        });
        Ok(())
    }

    fn insert(&mut self, message: Message) {
        let serial = self.next;
        self.next += 1;
        match message.hidden_until {
            Some(until) => self.hidden.insert((until, serial)),
            None => self.visible.insert(serial),
        };
        self.messages.insert(serial, message);
    }

    /// Hides and hands out up to `max` messages. Those received too often are
    /// taken out instead, as the second part of the answer.
    fn receive(
        &mut self,
        max: usize,
        visibility_secs: Option<u32>,
        now: Timestamp,
    ) -> Result<(Vec<Delivery>, Vec<Message>), ApiError> {
        self.advance(now);
        if self.hidden.len() >= IN_FLIGHT_MAX {
            return Err(ApiError::bad_request("OverLimit", "too many messages in flight"));
        }
        let secs = visibility_secs.unwrap_or(self.settings.visibility_secs);
        let until = after(now, secs);
        let receives_max = self.settings.redrive.as_ref().map(|r| r.receives_max);
        let (mut deliveries, mut dead) = (Vec::new(), Vec::new());
        while deliveries.len() < max
            && let Some(serial) = self.visible.pop_first()
        {
            let Some(message) = self.messages.get_mut(&serial) else {
                continue;
            };
            if receives_max.is_some_and(|max| message.receives >= max) {
                dead.extend(self.messages.remove(&serial));
                continue;
            }
            message.receives += 1;
            message.hidden_until = Some(until);
            self.hidden.insert((until, serial));
            deliveries.push(Delivery {
                id: message.id.clone(),
                receipt: receipt(&message.id, serial, message.receives),
                body: message.body.clone(),
                attributes: message.attributes.clone(),
                sent: message.sent,
                first_received: *message.first_received.get_or_insert(now),
                receives: message.receives,
                source: message.source.clone(),
            });
        }
        Ok((deliveries, dead))
    }

    /// An old receipt "succeeds" without effect, as in SQS.
    pub fn delete(&mut self, receipt: &str) -> Result<(), ApiError> {
        if let Some(serial) = self.resolve(receipt)? {
            self.remove(serial);
        }
        Ok(())
    }

    pub fn change_visibility(
        &mut self,
        receipt: &str,
        secs: u32,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        self.advance(now);
        let serial = self.resolve(receipt)?;
        let Some((serial, message)) = serial.and_then(|serial| {
            let message = self.messages.get_mut(&serial)?;
            Some((serial, message))
        }) else {
            return Err(ApiError::bad_request(
                "InvalidParameterValue",
                format!(
                    "Value {receipt} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."
                ),
            ));
        };
        let Some(hidden_until) = message.hidden_until.take() else {
            return Err(ApiError::bad_request(
                "MessageNotInflight",
                "The specified message isn't in flight.",
            ));
        };
        self.hidden.remove(&(hidden_until, serial));
        if secs == 0 {
            self.visible.insert(serial);
        } else {
            let until = after(now, secs);
            message.hidden_until = Some(until);
            self.hidden.insert((until, serial));
        }
        Ok(())
    }

    pub fn purge(&mut self) {
        self.messages.clear();
        self.visible.clear();
        self.hidden.clear();
    }

    /// When the next hidden message appears, unless something comes first.
    pub fn next_change(&self) -> Option<Timestamp> {
        self.hidden.first().map(|(until, _)| *until)
    }

    pub fn depth(&self) -> Depth {
        let never_received =
            |serial: &u64| self.messages.get(serial).is_some_and(|message| message.receives == 0);
        let hidden = self.hidden.iter();
        let delayed = hidden.filter(|(_, s)| never_received(s)).count();
        Depth { visible: self.visible.len(), in_flight: self.hidden.len() - delayed, delayed }
    }

    /// Shows what is due at `now` and drops what is older than the retention.
    pub fn advance(&mut self, now: Timestamp) {
        while let Some(&(until, serial)) = self.hidden.first()
            && until <= now
        {
            self.hidden.pop_first();
            if let Some(message) = self.messages.get_mut(&serial) {
                message.hidden_until = None;
                self.visible.insert(serial);
            }
        }
        while let Some((&serial, message)) = self.messages.first_key_value()
            && after(message.sent, self.settings.retention_secs) <= now
        {
            self.remove(serial);
        }
    }

    fn remove(&mut self, serial: u64) {
        if let Some(message) = self.messages.remove(&serial) {
            self.visible.remove(&serial);
            if let Some(until) = message.hidden_until {
                self.hidden.remove(&(until, serial));
            }
        }
    }

    /// The message that a receipt stands for, if the receipt is its newest.
    fn resolve(&self, receipt: &str) -> Result<Option<u64>, ApiError> {
        let invalid = || {
            ApiError::bad_request(
                "ReceiptHandleIsInvalid",
                format!("The input receipt handle \"{receipt}\" is not a valid receipt handle."),
            )
        };
        let mut parts = receipt.rsplitn(3, '.');
        let receives: u32 = parts.next().and_then(|p| p.parse().ok()).ok_or_else(invalid)?;
        let serial: u64 = parts.next().and_then(|p| p.parse().ok()).ok_or_else(invalid)?;
        let id = parts.next().ok_or_else(invalid)?;
        let newest = self
            .messages
            .get(&serial)
            .is_some_and(|message| message.id == id && message.receives == receives);
        Ok(newest.then_some(serial))
    }
}

/// All queues of the account; dead letters move between them.
#[derive(Debug, Default)]
pub struct Queues {
    queues: BTreeMap<String, Queue>,
}

impl Queues {
    pub fn get(&self, name: &str) -> Result<&Queue, ApiError> {
        self.queues.get(name).ok_or_else(no_queue)
    }

    pub fn get_mut(&mut self, name: &str) -> Result<&mut Queue, ApiError> {
        self.queues.get_mut(name).ok_or_else(no_queue)
    }

    /// The queues whose dead letters go to `target`.
    pub fn sources<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a str> {
        let queues = self.queues.iter().filter(move |(_, queue)| {
            queue.settings.redrive.as_ref().is_some_and(|redrive| redrive.target == target)
        });
        queues.map(|(name, _)| name.as_str())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }

    /// Creates a queue; with the settings of an existing one this is a no-op.
    pub fn create(&mut self, name: &str, queue: Queue) -> Result<(), ApiError> {
        if let Some(existing) = self.queues.get(name) {
            if existing.settings == queue.settings {
                return Ok(());
            }
            return Err(ApiError::bad_request(
                "QueueNameExists",
                "A queue already exists with the same name and a different value for attributes.",
            ));
        }
        self.queues.insert(name.to_owned(), queue);
        Ok(())
    }

    pub fn remove(&mut self, name: &str) -> Result<(), ApiError> {
        self.queues.remove(name).map(drop).ok_or_else(no_queue)
    }

    /// Receives from a queue and moves what was received too often to its
    /// dead-letter queue; without that queue such messages are lost.
    pub fn receive(
        &mut self,
        name: &str,
        max: usize,
        visibility_secs: Option<u32>,
        now: Timestamp,
    ) -> Result<Received, ApiError> {
        let queue = self.get_mut(name)?;
        let (deliveries, dead) = queue.receive(max, visibility_secs, now)?;
        let source = queue.arn.clone();
        let target = queue.settings.redrive.as_ref().map(|r| r.target.clone());
        let moved = !dead.is_empty();
        if let Some(target) = target.and_then(|target| self.queues.get_mut(&target)) {
            for mut message in dead {
                message.source = Some(source.clone());
                message.receives = 0;
                target.insert(message);
            }
        }
        Ok(Received { deliveries, moved })
    }
}

fn no_queue() -> ApiError {
    ApiError::bad_request("QueueDoesNotExist", "The specified queue does not exist.")
}

fn receipt(id: &str, serial: u64, receives: u32) -> String {
    format!("{id}.{serial}.{receives}")
}

fn after(instant: Timestamp, secs: u32) -> Timestamp {
    instant.checked_add(SignedDuration::from_secs(i64::from(secs))).unwrap_or(Timestamp::MAX)
}

fn attributes_size(attributes: &MessageAttributes) -> usize {
    let value = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    attributes
        .iter()
        .map(|(name, a)| {
            name.len() + a.data_type.len() + value(&a.string_value) + value(&a.binary_value)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    /// A queue `q` with visibility 30 s and dead letters to `dead` after two
    /// receives.
    fn queues() -> Queues {
        let mut queues = Queues::default();
        let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
        let policy = format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":2}}"#, arn("dead"));
        let mut settings = Settings::default();
        settings.apply(&BTreeMap::from([("RedrivePolicy".to_owned(), policy)])).unwrap();
        queues.create("q", Queue::new(arn("q"), settings, at(0))).unwrap();
        queues.create("dead", Queue::new(arn("dead"), Settings::default(), at(0))).unwrap();
        queues
    }

    fn send(queues: &mut Queues, body: &str, delay_secs: Option<u32>, now: i64) {
        let message = Outgoing {
            id: format!("id-{body}"),
            body: body.to_owned(),
            attributes: MessageAttributes::new(),
            delay_secs,
        };
        queues.get_mut("q").unwrap().send(message, at(now)).unwrap();
    }

    fn receive(queues: &mut Queues, name: &str, now: i64) -> Vec<Delivery> {
        queues.receive(name, 10, None, at(now)).unwrap().deliveries
    }

    fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
        deliveries.iter().map(|delivery| delivery.body.as_str()).collect()
    }

    #[test]
    fn a_message_is_hidden_for_its_visibility_and_then_comes_again() {
        let mut queues = queues();
        send(&mut queues, "a", None, 0);
        assert_eq!(bodies(&receive(&mut queues, "q", 0)), ["a"]);
        assert_eq!(queues.get("q").unwrap().next_change(), Some(at(30)));
        assert!(receive(&mut queues, "q", 29).is_empty());
        let again = receive(&mut queues, "q", 30);
        assert_eq!((again[0].receives, again[0].first_received), (2, at(0)));
    }

    #[test]
    fn a_delayed_message_appears_when_due() {
        let mut queues = queues();
        send(&mut queues, "a", Some(5), 0);
        let depth = queues.get("q").unwrap().depth();
        assert_eq!(depth, Depth { visible: 0, in_flight: 0, delayed: 1 });
        assert!(receive(&mut queues, "q", 4).is_empty());
        assert_eq!(bodies(&receive(&mut queues, "q", 5)), ["a"]);
        let depth = queues.get("q").unwrap().depth();
        assert_eq!(depth, Depth { visible: 0, in_flight: 1, delayed: 0 });
    }

    #[test]
    fn only_the_newest_receipt_deletes() {
        let mut queues = queues();
        send(&mut queues, "a", None, 0);
        let old = receive(&mut queues, "q", 0).remove(0).receipt;
        let new = receive(&mut queues, "q", 30).remove(0).receipt;
        assert_ne!(old, new);
        let queue = queues.get_mut("q").unwrap();
        queue.delete(&old).unwrap();
        assert_eq!(queue.depth().in_flight, 1);
        queue.delete(&new).unwrap();
        queue.delete(&new).unwrap();
        assert_eq!(queue.depth().in_flight, 0);
        let refused = queue.delete("no receipt").map_err(|e| e.code);
        assert_eq!(refused, Err("ReceiptHandleIsInvalid"));
    }

    #[test]
    fn visibility_can_be_changed_while_in_flight_only() {
        let mut queues = queues();
        send(&mut queues, "a", None, 0);
        let receipt = receive(&mut queues, "q", 0).remove(0).receipt;
        let queue = queues.get_mut("q").unwrap();
        queue.change_visibility(&receipt, 100, at(10)).unwrap();
        assert_eq!(queue.next_change(), Some(at(110)));
        queue.change_visibility(&receipt, 0, at(20)).unwrap();
        assert_eq!(queue.depth().visible, 1);
        let code = |result: Result<(), ApiError>| result.map_err(|e| e.code);
        let again = queue.change_visibility(&receipt, 5, at(20));
        assert_eq!(code(again), Err("MessageNotInflight"));
        queue.delete(&receipt).unwrap();
        let gone = queue.change_visibility(&receipt, 5, at(20));
        assert_eq!(code(gone), Err("InvalidParameterValue"));
    }

    #[test]
    fn what_is_received_too_often_becomes_a_dead_letter() {
        let mut queues = queues();
        send(&mut queues, "a", None, 0);
        assert_eq!(receive(&mut queues, "q", 0).len(), 1);
        assert_eq!(receive(&mut queues, "q", 30).len(), 1);
        let third = queues.receive("q", 10, None, at(60)).unwrap();
        assert_eq!(third, Received { deliveries: Vec::new(), moved: true });
        let dead = receive(&mut queues, "dead", 60).remove(0);
        assert_eq!((dead.body.as_str(), dead.id.as_str(), dead.receives), ("a", "id-a", 1));
        assert!(dead.source.unwrap().ends_with(":q"));
    }

    #[test]
    fn messages_are_dropped_after_the_retention() {
        let mut queues = queues();
        let retention = i64::from(Settings::default().retention_secs);
        send(&mut queues, "old", None, 0);
        send(&mut queues, "new", None, 1);
        assert_eq!(bodies(&receive(&mut queues, "q", retention)), ["new"]);
    }

    #[test]
    fn too_long_and_empty_messages_are_refused() {
        let mut queues = queues();
        let queue = queues.get_mut("q").unwrap();
        let max = queue.settings.message_bytes_max;
        for (length, expected) in
            [(0, Err("MissingParameter")), (max, Ok(())), (max + 1, Err("InvalidParameterValue"))]
        {
            let message = Outgoing { body: "x".repeat(length), ..Outgoing::default() };
            assert_eq!(queue.send(message, at(0)).map_err(|e| e.code), expected, "{length}");
        }
    }

    #[test]
    fn creating_again_needs_the_same_settings() {
        let mut queues = queues();
        let arn = queues.get("dead").unwrap().arn.clone();
        let same = Queue::new(arn.clone(), Settings::default(), at(9));
        assert_eq!(queues.create("dead", same), Ok(()));
        let settings = Settings { visibility_secs: 1, ..Settings::default() };
        let other = queues.create("dead", Queue::new(arn, settings, at(9)));
        assert_eq!(other.map_err(|e| e.code), Err("QueueNameExists"));
    }
}
