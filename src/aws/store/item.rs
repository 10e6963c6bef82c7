//! Attributes: their names, and how values are written and read.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::DueKey;
use super::document::Document;
use crate::core::backfill::Backfill;
use crate::core::notice::Notice;
use crate::core::pause::Pause;
use crate::core::task::{TaskKey, Unreadable};

pub type Item = HashMap<String, AttributeValue>;

pub const TASK: &str = "task";
pub const PARTITION: &str = "partition";
/// Where windows of folded notices stand among the tasks, whose names have no `~`.
pub const FOLD_PLACE: &str = "~fold";
pub const RUN_ID: &str = "id";
pub const UNIT: &str = "unit";
pub const ROW: &str = "row";
pub const STATE: &str = "state";
pub const VERSION: &str = "version";
/// Milliseconds since 1970; only items that need a look have it.
pub const DUE: &str = "due";
/// Seconds since 1970, as DynamoDB's expiry wants them; only what has ended has it.
pub const EXPIRES: &str = "expires";
/// The due index is one partition: it holds only what is open.
pub const SHARD: &str = "shard";
pub const ONE_SHARD: &str = "0";
/// Rises when a version writes items that older ones would misread.
pub const FORMAT: &str = "format";
pub const THIS_FORMAT: u64 = 1;
/// What a task partition has received stands in one attribute each, so that an
/// arrival is one write without a read.
pub const RECEIVED_PREFIX: &str = "in:";
/// The outbox: a notice that is not yet published stands in an attribute of
/// its own, so that removing it never conflicts with a change of state.
pub const NOTICE_PREFIX: &str = "out:";

pub fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub fn instant(value: Timestamp) -> AttributeValue {
    number(value.as_millisecond())
}

/// An instant by which DynamoDB may delete an item.
pub fn expiry(value: Timestamp) -> AttributeValue {
    number(value.as_second())
}

/// The beginning of a new item that may be deleted then.
pub fn expiring(expires: Option<Timestamp>) -> Option<Item> {
    expires.map(|expires| HashMap::from([(EXPIRES.to_owned(), expiry(expires))]))
}

pub fn read_expiry(item: &Item) -> Result<Option<Timestamp>, Unreadable> {
    let Some(value) = item.get(EXPIRES) else { return Ok(None) };
    let text = value.as_n().map_err(|_| Unreadable::new(EXPIRES, "not a number"))?;
    let seconds = text.parse().map_err(|_| Unreadable::new(EXPIRES, text))?;
    Timestamp::from_second(seconds).map(Some).map_err(|_| Unreadable::new(EXPIRES, text))
}

pub fn notice(notice: &Notice) -> AttributeValue {
    // A notice holds only strings, instants and enums: JSON can hold each.
    text(serde_json::to_string(notice).unwrap_or_default())
}

pub fn read_text<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, Unreadable> {
    let value = item.get(name).and_then(|value| value.as_s().ok());
    value.map(String::as_str).ok_or_else(|| Unreadable::new(name, ""))
}

pub fn read_optional_text(item: &Item, name: &str) -> Option<String> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned()
}

pub fn read_number(item: &Item, name: &'static str) -> Result<u64, Unreadable> {
    let text = item.get(name).and_then(|value| value.as_n().ok());
    let text = text.ok_or_else(|| Unreadable::new(name, ""))?;
    text.parse().map_err(|_| Unreadable::new(name, text))
}

pub fn read_instant(item: &Item, name: &'static str) -> Result<Option<Timestamp>, Unreadable> {
    let Some(value) = item.get(name) else { return Ok(None) };
    let text = value.as_n().map_err(|_| Unreadable::new(name, "not a number"))?;
    let millis = text.parse().map_err(|_| Unreadable::new(name, text))?;
    let instant = Timestamp::from_millisecond(millis).map_err(|_| Unreadable::new(name, text))?;
    Ok(Some(instant))
}

pub fn read_notice(value: &AttributeValue) -> Result<Notice, Unreadable> {
    let text = value.as_s().map_err(|_| Unreadable::new("notice", "not a text"))?;
    serde_json::from_str(text).map_err(|_| Unreadable::new("notice", text))
}

/// Refuses items that a newer version has written.
pub fn check_format(item: &Item) -> Result<(), Unreadable> {
    match read_number(item, FORMAT)? {
        format if format <= THIS_FORMAT => Ok(()),
        newer => Err(Unreadable::new("format of a newer version", &newer.to_string())),
    }
}

pub fn due_key(item: &Item) -> Option<(DueKey, Timestamp)> {
    let due = read_instant(item, DUE).ok()??;
    if let Ok(id) = read_text(item, RUN_ID) {
        return Some((DueKey::Run(id.to_owned()), due));
    }
    let (task, partition) = (read_text(item, TASK).ok()?, read_text(item, PARTITION).ok()?);
    let key = match task {
        Backfill::PLACE => DueKey::Backfill(partition.to_owned()),
        Pause::PLACE => DueKey::Pause(partition.parse().ok()?),
        FOLD_PLACE => DueKey::Fold(partition.to_owned()),
        task => DueKey::Task(TaskKey::new(task, partition.parse().ok()?)),
    };
    Some((key, due))
}

pub fn task_key(key: &TaskKey) -> Item {
    HashMap::from([
        (TASK.to_owned(), text(&key.task)),
        (PARTITION.to_owned(), text(key.partition.to_string())),
    ])
}
