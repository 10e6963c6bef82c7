//! I5: whoever deletes a message has stored everything that it tells of before,
//! or has put it into the quarantine and said so.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::items::{is_complete, text};
use super::notices::Notices;
use super::{Found, Violation};
use crate::call::{Call, Phase};
use crate::scenario::{DatasetKind, Message, Object, Scenario};
use crate::tables;

type Items = BTreeMap<(String, String), Value>;

/// The messages of the inbox.
#[derive(Debug, Default)]
pub struct Messages {
    sent: BTreeMap<String, Message>,
    /// Objects that no message tells of, and when they were written.
    untold: Vec<(Timestamp, Object)>,
    /// All objects, told of or not, and when they were written.
    written: Vec<(Timestamp, Object)>,
    /// Receipt → message, for those that were received.
    receipts: BTreeMap<String, String>,
    /// Bodies that stand in the quarantine.
    quarantined: BTreeSet<String>,
}

impl Messages {
    pub fn sent(&mut self, id: &str, message: &Message, at: Timestamp) {
        self.sent.insert(id.to_owned(), message.clone());
        self.written.extend(message.objects.iter().map(|object| (at, object.clone())));
    }

    /// How many keys of a dataset's partition S3 held at an instant.
    pub fn written(&self, dataset: &str, partition: &str, by: Timestamp) -> usize {
        let of = |object: &Object| {
            object
                .place
                .as_ref()
                .is_some_and(|(name, of)| name == dataset && of.to_string() == partition)
        };
        let found = self.written.iter().filter(|(at, object)| *at <= by && of(object));
        found.map(|(_, object)| &object.key).collect::<BTreeSet<_>>().len()
    }

    pub fn untold(&mut self, object: &Object, at: Timestamp) {
        self.untold.push((at, object.clone()));
        self.written.push((at, object.clone()));
    }

    /// The objects of all messages that were sent, and of the others those that
    /// were written since somebody could have been told: they are found.
    pub fn objects<'a>(
        &'a self,
        since: impl Fn(&str) -> Option<Timestamp> + 'a,
    ) -> impl Iterator<Item = &'a Object> {
        let told = self.sent.values().flat_map(|message| &message.objects);
        let found = self.untold.iter().filter(move |(at, object)| {
            let dataset = object.place.as_ref().map(|(dataset, _)| dataset);
            dataset.and_then(|dataset| since(dataset)).is_some_and(|since| since <= *at)
        });
        told.chain(found.map(|(_, object)| object))
    }

    pub fn called(
        &mut self,
        scenario: &Scenario,
        items: &Items,
        notices: &Notices,
        call: &Call,
        answer: &Value,
        now: Timestamp,
    ) -> Found {
        match call.phase {
            Phase::Receive => {
                let messages = answer["Messages"].as_array().into_iter().flatten();
                for message in messages {
                    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
                    self.receipts.insert(text("ReceiptHandle"), text("MessageId"));
                }
                Vec::new()
            }
            Phase::Quarantine => {
                let body = call.body["MessageBody"].as_str().unwrap_or_default();
                self.quarantined.insert(body.to_owned());
                Vec::new()
            }
            Phase::Delete if call.action == "DeleteMessageBatch" => {
                let entries = call.body["Entries"].as_array().into_iter().flatten();
                let receipts = entries.filter_map(|entry| entry["ReceiptHandle"].as_str());
                let ids: Vec<_> =
                    receipts.filter_map(|receipt| self.receipts.get(receipt)).cloned().collect();
                let deleted = |id: &String| self.delete(scenario, items, notices, id, now);
                ids.iter().flat_map(deleted).collect()
            }
            _ => Vec::new(),
        }
    }

    fn delete(
        &self,
        scenario: &Scenario,
        items: &Items,
        notices: &Notices,
        id: &str,
        now: Timestamp,
    ) -> Found {
        // Events of EMR change nothing that has to be kept.
        let Some(message) = self.sent.get(id) else { return Vec::new() };
        let mut found = Vec::new();
        let mut lost = |words: String| found.push(Violation { invariant: "I5", words });
        if !message.readable {
            if !self.quarantined.contains(&message.body) {
                lost(format!("message {id} ({}) is deleted and kept nowhere", message.what));
            }
            if !notices.is_accepted(&format!("message/{id}")) {
                lost(format!("message {id} ({}) is deleted, nobody was told", message.what));
            }
        }
        for object in &message.objects {
            for place in not_recorded(scenario, items, object, now) {
                lost(format!("message {id} is deleted, {} is not in {place}", object.key));
            }
        }
        found
    }
}

/// Where an object should be recorded and is not.
fn not_recorded(
    scenario: &Scenario,
    items: &Items,
    object: &Object,
    now: Timestamp,
) -> Vec<String> {
    let Some((name, partition)) = &object.place else { return Vec::new() };
    // What no task reads is not kept.
    let may_miss = |task: &str| scenario.may_miss(task, super::first_seen(items, task), now);
    if scenario.readers(name).any(|task| may_miss(&task.name)) {
        return Vec::new();
    }
    let Some(dataset) = scenario.dataset(name) else { return Vec::new() };
    let element = format!("{name}@{partition}");
    if dataset.kind.is_journalled() {
        let there = rows(items, &element).contains(&identity(object, dataset.kind));
        return if there { Vec::new() } else { vec![format!("the journal of {element}")] };
    }
    if dataset.kind == DatasetKind::Marker && !object.key.ends_with("/_SUCCESS") {
        return Vec::new();
    }
    let readers = scenario.readers(name).map(|task| format!("{} {partition}", task.name));
    readers
        .filter(|reader| {
            let item = items.get(&(tables::TASK.to_owned(), reader.clone()));
            !item.is_some_and(|item| is_complete(&item[format!("in:{element}")]))
        })
        .collect()
}

/// All identities in the journal of a partition.
pub fn rows(items: &Items, element: &str) -> BTreeSet<Vec<u8>> {
    let of = |(table, name): &(String, String)| {
        table == tables::UNIT && name.rsplit_once(' ').is_some_and(|(unit, _)| unit == element)
    };
    let rows = items.iter().filter(|(key, _)| of(key));
    let bytes =
        rows.filter_map(|(_, row)| BASE64_STANDARD.decode(row["objects"]["B"].as_str()?).ok());
    bytes.flat_map(|bytes| bytes.chunks_exact(16).map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
}

/// Who an object is in the journal: for a count a new version is the same.
pub fn identity(object: &Object, kind: DatasetKind) -> Vec<u8> {
    let version = if matches!(kind, DatasetKind::Count(_)) { "" } else { object.etag.as_str() };
    let words = format!("{}\n{version}\n{}", object.bucket, object.key);
    Sha256::digest(words)[..16].to_vec()
}

/// The state of a task partition's item, if there is one.
pub fn state(items: &Items, name: &str) -> Option<String> {
    text(items.get(&(tables::TASK.to_owned(), name.to_owned()))?, "state")
}
