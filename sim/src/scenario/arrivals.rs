//! The objects of a world, and the messages by which its queue hears of them:
//! twice, late, out of order, many in one, wrapped, with odd keys, overwritten,
//! or never; and messages that are none. Not for how the network treats them.

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluicegate::core::partition::Partition;
use sluicegate::sources::simulate::{self, notification};

use super::{BUCKET, Dataset, DatasetKind, Task, hours};
use crate::tables::{NEWER_PARTITION, NEWER_TASK};

/// An object that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// None for one that no dataset expects.
    pub place: Option<(String, Partition)>,
    pub bucket: String,
    pub key: String,
    pub etag: String,
}

/// What is put into the queue.
#[derive(Debug, Clone)]
pub struct Message {
    pub body: String,
    /// What it tells of.
    pub objects: Vec<Object>,
    /// Whether all of it can be read.
    pub readable: bool,
    pub what: &'static str,
}

/// Objects that a partition of a many-object dataset gets.
const OBJECTS_MAX: u32 = 5;

/// Everything that comes to the queue of a world, by its instant.
pub fn messages(
    rng: &mut Rng,
    seed: u64,
    datasets: &[Dataset],
    origin: Timestamp,
    ends: Timestamp,
) -> Vec<(Timestamp, Message)> {
    let mut messages = Vec::new();
    let mut hours = hours(origin);
    // Both in some worlds only: what one costs is better spent on another world.
    match rng.u8(0..5) {
        0 => {}
        _ if seed % 10 == 3 => {}
        1 => hours.truncate(1),
        _ => drop(hours.drain(..1)),
    }
    for dataset in datasets {
        for hour in hours.iter().copied() {
            for object in objects(rng, dataset, hour) {
                tell(rng, &object, hour, origin, ends, &mut messages);
            }
        }
    }
    for _ in 0..rng.usize(0..3) {
        let at = origin + SignedDuration::from_secs(rng.i64(5..500));
        messages.push((at, stranger(rng, at)));
    }
    gather(rng, &mut messages);
    messages.sort_by_key(|(at, _)| *at);
    messages
}

/// An object for the task partition that a newer version has written.
pub fn for_newer(
    rng: &mut Rng,
    tasks: &[Task],
    datasets: &[Dataset],
    origin: Timestamp,
) -> Option<(Timestamp, Message)> {
    let task = tasks.iter().find(|task| task.name == NEWER_TASK)?;
    let read = |dataset: &&Dataset| task.inputs.contains(&dataset.name);
    let mut read = datasets.iter().filter(read);
    let dataset = read.find(|dataset| dataset.kind == DatasetKind::Object)?;
    let object = object(dataset, NEWER_PARTITION.parse().ok()?, 0, rng);
    let at = origin + SignedDuration::from_secs(rng.i64(5..500));
    Some((at, Message { what: "newer", ..of_object(&object, at) }))
}

/// In one world of three some notifications are never sent: their objects, by
/// their instants. With a generator of its own, so that other worlds stay as they
/// are.
pub fn untold(seed: u64, messages: &mut Vec<(Timestamp, Message)>) -> Vec<(Timestamp, Object)> {
    let mut rng = Rng::with_seed(seed ^ 0x0001_057e);
    if rng.u8(0..3) > 0 {
        return Vec::new();
    }
    let mut untold = Vec::new();
    messages.retain(|(at, message)| {
        let lost = message.readable && message.what == "object" && rng.u8(0..3) == 0;
        if lost {
            untold.extend(message.objects.iter().map(|object| (*at, object.clone())));
        }
        !lost
    });
    untold
}

/// Each object of the first so many hours once, soon.
pub fn plain(datasets: &[Dataset], count: usize, origin: Timestamp) -> Vec<(Timestamp, Message)> {
    let mut rng = Rng::with_seed(1);
    let mut messages = Vec::new();
    for dataset in datasets.iter().filter(|dataset| dataset.kind != DatasetKind::Output) {
        for (number, hour) in hours(origin).into_iter().take(count).enumerate() {
            let count = if let DatasetKind::Count(count) = dataset.kind { count } else { 1 };
            for index in 0..count {
                let object = object(dataset, hour, index, &mut rng);
                let secs = 10 + 20 * i64::try_from(number).unwrap_or(0) + i64::from(index);
                let at = origin + SignedDuration::from_secs(secs);
                messages.push((at, of_object(&object, at)));
            }
        }
    }
    messages.sort_by_key(|(at, _)| *at);
    messages
}

/// All objects of a dataset that counts them, each for itself, in the time of an
/// outage; some come twice.
pub fn heap(
    rng: &mut Rng,
    dataset: &Dataset,
    hours: &[Partition],
    origin: Timestamp,
    outage: SignedDuration,
) -> Vec<(Timestamp, Message)> {
    let DatasetKind::Count(count) = dataset.kind else { return Vec::new() };
    let mut messages = Vec::new();
    for hour in hours {
        for index in 0..count {
            let object = object(dataset, *hour, index, rng);
            for _ in 0..=u32::from(rng.u8(0..5) == 0) {
                let at = origin + SignedDuration::from_secs(rng.i64(1..outage.as_secs()));
                messages.push((at, of_object(&object, at)));
            }
        }
    }
    messages
}

fn objects(rng: &mut Rng, dataset: &Dataset, hour: Partition) -> Vec<Object> {
    let count = match dataset.kind {
        DatasetKind::Output | DatasetKind::Folder => 0,
        // Now and then it never comes.
        DatasetKind::Object => u32::from(rng.u8(0..10) > 0),
        DatasetKind::Count(count) if rng.u8(0..8) > 0 => count + rng.u32(0..2),
        _ => rng.u32(0..OBJECTS_MAX),
    };
    let mut objects: Vec<_> = (0..count).map(|index| object(dataset, hour, index, rng)).collect();
    if dataset.kind == DatasetKind::Marker && rng.u8(0..8) > 0 {
        let mut marker = object(dataset, hour, 0, rng);
        marker.key = format!("{}/_SUCCESS", folder(dataset, hour));
        objects.push(marker);
    }
    objects
}

fn object(dataset: &Dataset, hour: Partition, index: u32, rng: &mut Rng) -> Object {
    let folder = folder(dataset, hour);
    let key = match dataset.kind {
        DatasetKind::Object | DatasetKind::Output | DatasetKind::Folder => folder,
        _ => {
            let odd = ["part", "a b+c", "100%", "caf\u{e9}", "x=1&y=2", "tab\there"];
            format!("{folder}/{}-{index}", odd[rng.usize(..odd.len())])
        }
    };
    Object {
        place: Some((dataset.name.clone(), hour)),
        bucket: BUCKET.to_owned(),
        key,
        etag: format!("{:032x}", rng.u128(..)),
    }
}

fn folder(dataset: &Dataset, hour: Partition) -> String {
    folder_of(&dataset.name, hour)
}

/// Where the objects of a partition lie.
pub fn folder_of(dataset: &str, hour: Partition) -> String {
    format!("{dataset}/{}", hour.start().strftime("%Y/%m/%d/%H"))
}

/// How the queue hears of an object.
fn tell(
    rng: &mut Rng,
    object: &Object,
    hour: Partition,
    origin: Timestamp,
    ends: Timestamp,
    messages: &mut Vec<(Timestamp, Message)>,
) {
    let earliest = hour.start().max(origin) + SignedDuration::from_secs(rng.i64(5..400));
    let late = rng.u8(0..12) == 0;
    let at = if late { earliest + SignedDuration::from_secs(rng.i64(0..900)) } else { earliest };
    let at = at.min(ends);
    messages.push((at, of_object(object, at)));
    if rng.u8(0..4) == 0 {
        // Mostly soon.
        let most = if rng.u8(0..4) == 0 { 900 } else { 200 };
        let again = (at + SignedDuration::from_secs(rng.i64(0..most))).min(ends);
        messages.push((again, of_object(object, again)));
    }
    if rng.u8(0..10) == 0 {
        let mut newer = object.clone();
        newer.etag = format!("{:032x}", rng.u128(..));
        let again = (at + SignedDuration::from_secs(rng.i64(1..600))).min(ends);
        messages.push((again, of_object(&newer, again)));
    }
}

fn of_object(object: &Object, at: Timestamp) -> Message {
    let told = simulate::Object {
        bucket: object.bucket.clone(),
        key: object.key.clone(),
        etag: object.etag.clone(),
        version: None,
        bytes: 7,
    };
    Message {
        body: notification(&told, "us-east-1", at).to_string(),
        objects: vec![object.clone()],
        readable: true,
        what: "object",
    }
}

/// A message that is no object of ours.
fn stranger(rng: &mut Rng, at: Timestamp) -> Message {
    let foreign = Object {
        place: None,
        bucket: "elsewhere".to_owned(),
        key: "somebody/else".to_owned(),
        etag: "0".to_owned(),
    };
    let unread = |body: String, what| Message { body, objects: Vec::new(), readable: false, what };
    match rng.u8(0..5) {
        0 => unread("not json".to_owned(), "malformed"),
        1 => unread(json!({ "Records": [{ "eventSource": "aws:s3" }] }).to_string(), "half"),
        2 => Message {
            body: json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET })
                .to_string(),
            objects: Vec::new(),
            readable: true,
            what: "test event",
        },
        3 => {
            let mut message = of_object(&foreign, at);
            message.body = message.body.replace("ObjectCreated:Put", "ObjectRemoved:Delete");
            message.objects.clear();
            message.what = "delete event";
            message
        }
        _ => Message { what: "foreign", ..of_object(&foreign, at) },
    }
}

/// Puts some neighbours into one message, and some into envelopes.
fn gather(rng: &mut Rng, messages: &mut Vec<(Timestamp, Message)>) {
    let mut gathered: Vec<(Timestamp, Message)> = Vec::new();
    for (at, message) in messages.drain(..) {
        match gathered.last_mut() {
            Some((_, last)) if together(&message, last) && rng.u8(0..6) == 0 => {
                merge(last, message)
            }
            _ => gathered.push((at, message)),
        }
    }
    for (_, message) in &mut gathered {
        if rng.u8(0..16) == 0 {
            spoil(message);
        }
        if message.what == "object" && rng.u8(0..8) == 0 {
            let body = json!({ "Type": "Notification", "Message": message.body });
            message.body = body.to_string();
            message.what = "through SNS";
        }
    }
    *messages = gathered;
}

/// Adds a record that cannot be read to those that can.
fn spoil(message: &mut Message) {
    let mut body: Value = serde_json::from_str(&message.body).unwrap_or(Value::Null);
    let Some(records) = body["Records"].as_array_mut().filter(|_| message.readable) else { return };
    records.push(json!({ "eventSource": "aws:s3" }));
    message.body = body.to_string();
    (message.readable, message.what) = (false, "half");
}

fn together(one: &Message, other: &Message) -> bool {
    let plain = |message: &Message| matches!(message.what, "object" | "several");
    plain(one) && plain(other)
}

fn merge(into: &mut Message, other: Message) {
    let read = |body: &str| serde_json::from_str::<Value>(body).unwrap_or(Value::Null);
    let (mut first, mut second) = (read(&into.body), read(&other.body));
    if let (Some(records), Some(more)) =
        (first["Records"].as_array_mut(), second["Records"].as_array_mut())
    {
        records.append(more);
    }
    into.body = first.to_string();
    into.objects.extend(other.objects);
    into.what = "several";
}
