//! Windows of folded notices, in the task table: a repeat is one write without a
//! read, and makes no difference when it is made again. A window that is over
//! leaves its item for the next of its slot. What is folded: see `core::fold`.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;

use super::expression::Expression;
use super::item::{self, Item};
use super::{Store, StoreError, write_error};
use crate::aws::error::AwsError;
use crate::core::fold::{Fold, Likeness, REPEATS_MAX, outline};
use crate::core::notice::Notice;
use crate::core::task::Unreadable;

const WORDS: &str = "words";
const FIRST: &str = "first";
const PARTITIONS: &str = "partitions";

/// What became of a notice that may be a repeat.
#[derive(Debug)]
pub enum Folding {
    /// It is in this window now, as its first or as a repeat.
    In(Fold),
    /// The slot's window is for other notices, or is over.
    Not(Fold),
}

impl Store {
    /// Puts a notice into the window of its slot, or begins one with it.
    pub async fn fold(
        &self,
        likeness: &Likeness,
        notice: &Notice,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Folding, StoreError> {
        let Likeness { slot, words, partition } = likeness;
        let mut expression = Expression::new();
        expression.set_once(item::FORMAT, item::number(item::THIS_FORMAT));
        expression.set_once(item::SHARD, item::text(item::ONE_SHARD));
        expression.set_once(item::DUE, item::instant(until));
        expression.set_once(FIRST, item::notice(&outline(notice)));
        expression.set_once(WORDS, item::text(words));
        expression.add_to_set(PARTITIONS, partition);
        let (due, of) = (expression.name(item::DUE), expression.name(WORDS));
        let set = expression.name(PARTITIONS);
        let now = expression.value(item::instant(now));
        let same = expression.value(item::text(words));
        let most = expression.value(item::number(REPEATS_MAX));
        let not_newer = expression.not_newer();
        let condition = format!(
            "(attribute_not_exists({due}) OR ({due} > {now} AND {of} = {same} AND size({set}) <= \
             {most})) AND ({not_newer})"
        );
        let result = self
            .client
            .update_item()
            .table_name(&self.task_table)
            .set_key(Some(key(slot)))
            .update_expression(expression.text())
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let error = match result {
            Ok(answer) => {
                let found = answer.attributes.unwrap_or_default();
                return Ok(Folding::In(self.read_fold(slot, &found)?));
            }
            Err(error) => error,
        };
        let old = error.as_service_error().and_then(|error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => failed.item(),
            _ => None,
        });
        match old {
            Some(old) => Ok(Folding::Not(self.read_fold(slot, old)?)),
            None => Err(AwsError::new("DynamoDB", "UpdateItem", &error).into()),
        }
    }

    /// The window of a slot; None while there is none.
    pub async fn folded(&self, slot: &str) -> Result<Option<Fold>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.task_table)
            .set_key(Some(key(slot)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
        let found = answer.item.filter(|found| found.contains_key(item::DUE));
        found.map(|found| self.read_fold(slot, &found)).transpose()
    }

    /// Ends a window. Refused when something was folded since it was read.
    pub async fn end_fold(&self, fold: &Fold) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        let known = expression.value(item::number(fold.version));
        for left in [item::DUE, FIRST, WORDS, PARTITIONS] {
            expression.remove(left);
        }
        self.client
            .update_item()
            .table_name(&self.task_table)
            .set_key(Some(key(&fold.slot)))
            .update_expression(expression.text())
            .condition_expression(format!("#version = {known}"))
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "UpdateItem", &error))
            .map_err(|error| write_error(error, format!("fold {}", fold.slot)))
    }

    fn read_fold(&self, slot: &str, found: &Item) -> Result<Fold, StoreError> {
        read(slot, found).map_err(|source| StoreError::Unreadable {
            table: self.task_table.clone(),
            key: format!("{} {slot}", item::FOLD_PLACE),
            source,
        })
    }
}

fn key(slot: &str) -> Item {
    HashMap::from([
        (item::TASK.to_owned(), item::text(item::FOLD_PLACE)),
        (item::PARTITION.to_owned(), item::text(slot)),
    ])
}

fn read(slot: &str, found: &Item) -> Result<Fold, Unreadable> {
    item::check_format(found)?;
    let missing = |what| Unreadable::new(what, "");
    let partitions = match found.get(PARTITIONS) {
        Some(AttributeValue::Ss(partitions)) => BTreeSet::from_iter(partitions.iter().cloned()),
        _ => return Err(missing(PARTITIONS)),
    };
    Ok(Fold {
        slot: slot.to_owned(),
        words: item::read_text(found, WORDS)?.to_owned(),
        first: item::read_notice(found.get(FIRST).ok_or_else(|| missing(FIRST))?)?,
        partitions,
        until: item::read_instant(found, item::DUE)?.ok_or_else(|| missing(item::DUE))?,
        version: item::read_number(found, item::VERSION)?,
    })
}
