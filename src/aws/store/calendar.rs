//! How far each task's calendar has come, in the task table. Not for what it calls
//! into being (`core::calendar`).

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Put, TransactWriteItem, Update};
use jiff::Timestamp;

use super::expression::Expression;
use super::item::{self, Item};
use super::task::EXPECTED;
use super::{CONDITION_FAILED, Store, StoreError, VALIDATION_ERROR, reasons, write_error};
use crate::aws::error::AwsError;
use crate::core::calendar::Entry;
use crate::core::task::{Element, Receipt, TaskKey, Unreadable};

const MARK: &str = "mark";
const OWED: &str = "owed";
/// Where it stands among a task's partitions; sorts after them all.
const MARK_PARTITION: &str = "~schedule";

/// How far a task's calendar has been turned into task partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub reached: Timestamp,
    /// Entries before it that are not stored yet, because their items are a newer
    /// version's, or damaged.
    pub owed: Vec<Entry>,
}

impl Mark {
    pub fn at(reached: Timestamp) -> Self {
        Self { reached, owed: Vec::new() }
    }

    fn owed_text(&self) -> Option<AttributeValue> {
        // Instants, texts and enums: JSON can hold each.
        let text = || item::text(serde_json::to_string(&self.owed).unwrap_or_default());
        (!self.owed.is_empty()).then(text)
    }
}

/// What became of a calendar's entries.
#[derive(Debug)]
pub enum Fired {
    Stored,
    /// Nothing is stored: the items of these are a newer version's, or damaged so
    /// that they cannot be written.
    Refused(Vec<(Entry, StoreError)>),
}

impl Store {
    pub async fn mark(&self, task: &str) -> Result<Option<Mark>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.task_table)
            .key(item::TASK, item::text(task))
            .key(item::PARTITION, item::text(MARK_PARTITION))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
        let Some(found) = answer.item else { return Ok(None) };
        read_mark(&found).map_err(|source| self.unreadable_task(task, MARK_PARTITION, source))
    }

    /// Moves a calendar's mark from `old` to `new` and stores each entry, all or
    /// nothing. Refused when another replica was faster.
    pub async fn fire(
        &self,
        task: &str,
        old: Option<&Mark>,
        new: &Mark,
        entries: &[Entry],
    ) -> Result<Fired, StoreError> {
        let mut put = Put::builder()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(task))
            .item(item::PARTITION, item::text(MARK_PARTITION))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(MARK, item::instant(new.reached))
            .expression_attribute_names("#mark", MARK);
        if let Some(owed) = new.owed_text() {
            put = put.item(OWED, owed);
        }
        put = match old {
            Some(old) => {
                put = put
                    .expression_attribute_names("#owed", OWED)
                    .expression_attribute_values(":old", item::instant(old.reached));
                match old.owed_text() {
                    Some(owed) => put
                        .condition_expression("#mark = :old AND #owed = :owed")
                        .expression_attribute_values(":owed", owed),
                    None => {
                        put.condition_expression("#mark = :old AND attribute_not_exists(#owed)")
                    }
                }
            }
            None => put.condition_expression("attribute_not_exists(#mark)"),
        };
        let put = put.build().map_err(super::run::build_error)?;
        let mut actions = vec![TransactWriteItem::builder().put(put).build()];
        for entry in entries {
            actions.push(self.entry_action(task, new.reached, entry)?);
        }
        let sent =
            self.client.transact_write_items().set_transact_items(Some(actions)).send().await;
        let Err(error) = sent else { return Ok(Fired::Stored) };
        let refused: Vec<_> = refused_entries(&error, entries)
            .map(|(entry, damage)| {
                let key = TaskKey::new(task, entry.partition());
                let error = match damage {
                    None => self.newer(&key),
                    Some(damage) => self.unwritable(&key, damage),
                };
                (entry, error)
            })
            .collect();
        if !refused.is_empty() {
            return Ok(Fired::Refused(refused));
        }
        let error = AwsError::new("DynamoDB", "TransactWriteItems", &error);
        Err(write_error(error, format!("the schedule of {task}")))
    }

    fn entry_action(
        &self,
        task: &str,
        reached: Timestamp,
        entry: &Entry,
    ) -> Result<TransactWriteItem, StoreError> {
        let since = match entry {
            Entry::Slot { slot, .. } => *slot,
            Entry::End { .. } => reached,
        };
        let mut expression = Expression::first(since);
        expression.set_once(EXPECTED, item::instant(entry.expected()));
        match entry {
            Entry::Slot { slot, .. } => {
                let attribute = format!("{}{}", item::RECEIVED_PREFIX, Element::Slot);
                expression.set(&attribute, item::text(Receipt::Slot(*slot).to_string()));
                expression.set(item::DUE, item::instant(*slot));
            }
            // What is to be looked at by now is, whatever was planned before.
            Entry::End { look, .. } if *look <= reached => {
                expression.set(item::DUE, item::instant(*look));
            }
            Entry::End { look, .. } => expression.set_once(item::DUE, item::instant(*look)),
        }
        let condition = expression.not_newer();
        let update = Update::builder()
            .table_name(&self.task_table)
            .set_key(Some(item::task_key(&TaskKey::new(task, entry.partition()))))
            .update_expression(expression.text())
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .build();
        let update = update.map_err(super::run::build_error)?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

fn read_mark(found: &Item) -> Result<Option<Mark>, Unreadable> {
    item::check_format(found)?;
    let Some(reached) = item::read_instant(found, MARK)? else { return Ok(None) };
    let owed = match found.get(OWED) {
        None => Vec::new(),
        Some(_) => {
            let text = item::read_text(found, OWED)?;
            serde_json::from_str(text).map_err(|_| Unreadable::new(OWED, text))?
        }
    };
    Ok(Some(Mark { reached, owed }))
}

/// The entries of a transaction of `fire` whose items are not to be written, with
/// DynamoDB's words where they are damaged: the mark, which comes first, is as it was
/// read.
fn refused_entries<'a>(
    error: &'a SdkError<TransactWriteItemsError, HttpResponse>,
    entries: &'a [Entry],
) -> impl Iterator<Item = (Entry, Option<&'a str>)> {
    let damaged = |reason: &CancellationReason| reason.code() == Some(VALIDATION_ERROR);
    let refused = move |reason: &CancellationReason| {
        reason.code() == Some(CONDITION_FAILED) || damaged(reason)
    };
    let of_entries = match reasons(error).split_first() {
        Some((mark, of_entries)) if !refused(mark) => of_entries,
        _ => &[],
    };
    let words = |reason: &'a CancellationReason| reason.message().unwrap_or_default();
    entries
        .iter()
        .zip(of_entries)
        .filter(move |(_, reason)| refused(reason))
        .map(move |(entry, reason)| (*entry, damaged(reason).then(|| words(reason))))
}
