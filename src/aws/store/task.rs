//! Task partitions, in the task table. Not for what calls them into being by time
//! alone (`calendar`).

use std::collections::BTreeMap;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use jiff::Timestamp;

use super::expression::Expression;
use super::item::{self, Item};
use super::{Store, StoreError, write_error};
use crate::aws::error::AwsError;
use crate::core::asked::Asked;
use crate::core::late::Late;
use crate::core::lateness::Told;
use crate::core::load::{Load, words};
use crate::core::notice::Notice;
use crate::core::retention::Retention;
use crate::core::task::{
    Element, Receipt, Round, TaskChange, TaskKey, TaskPartition, TaskState, URGENT, Unreadable,
};
use crate::planted::{Bug, planted};

/// When it entered its state; for a waiting one, when it was first written.
pub(super) const SINCE: &str = "since";
pub(super) const READY_AT: &str = "ready-at";
pub(super) const RUN: &str = "run";
pub(super) const REASON: &str = "reason";
/// What a person's command gave it, in one attribute: an expression has no room for
/// as many as a window may need, and all of them come or none.
pub(super) const GIVEN: &str = "given";
/// Who gave it that, and why, as JSON.
pub(super) const ASKED: &str = "asked";
const LOAD: &str = "load";
pub(super) const ROUND: &str = "round";
pub(super) const BACKFILL: &str = "backfill";
pub(super) const LATE: &str = "late";
pub(super) const UNLISTED: &str = "unlisted";
pub(super) const EXPECTED: &str = "expected";
const BEGAN: &str = "began";
/// Since when it has failed, with no success since.
pub(super) const FAILED: &str = "failed";
pub(super) const TOLD: &str = "told";
const OUTPUTS_PENDING: &str = "outputs-pending";

/// Receipts in one write: an expression of DynamoDB holds 4 KB.
const RECEIPTS_MAX: usize = 100;

/// Some task partitions, and where to go on.
pub struct Page {
    pub items: Vec<Result<TaskPartition, StoreError>>,
    pub next: Option<Item>,
}

/// What the round before left must not pass for this one's; nor are readers told
/// any more how that one ended.
fn begin_round(expression: &mut Expression, change: &TaskChange) {
    let round = &change.round;
    expression.set(ROUND, item::number(round.number));
    match &round.backfill {
        Some(backfill) => expression.set(BACKFILL, item::text(backfill)),
        None => expression.remove(BACKFILL),
    }
    expression.set(OUTPUTS_PENDING, AttributeValue::Bool(false));
    let set = [
        (RUN, change.run.is_some()),
        (REASON, change.reason.is_some()),
        (LOAD, change.load.is_some()),
    ];
    for (left, _) in set.into_iter().filter(|(_, is_set)| !is_set) {
        expression.remove(left);
    }
}

/// The condition that the item is in the round that a change was made for: an
/// older one may have ended in the same state.
fn in_round(expression: &mut Expression, change: &TaskChange) -> String {
    let name = expression.name(ROUND);
    match change.round.number.saturating_sub(u32::from(change.again)) {
        0 => format!("attribute_not_exists({name})"),
        number => format!("{name} = {}", expression.value(item::number(number))),
    }
}

/// The update that makes a change, with the condition that it is still due.
fn change_expression(change: &TaskChange, retention: &Retention) -> (Expression, String) {
    let mut expression = Expression::new();
    expression.set(item::STATE, item::text(change.to.name()));
    if !planted(Bug::NoticeOutside) && change.is_told() {
        expression.keep_notice(&change.key, &change.notice);
    }
    if change.again {
        begin_round(&mut expression, change);
    }
    if !change.receipts.is_empty() {
        expression.set(GIVEN, given_text(&change.receipts));
        if let Some(asked) = &change.asked {
            expression.set(ASKED, asked_text(asked));
        }
    }
    let over = change.to.is_final().then_some(change.at);
    match over.and_then(|at| retention.partition_expires(&change.key.partition, at)) {
        Some(expires) => expression.set(item::EXPIRES, item::expiry(expires)),
        None => expression.remove(item::EXPIRES),
    }
    if let Some(late) = &change.late {
        expression.set(LATE, late_text(late));
    }
    expression.set(item::DUE, item::instant(change.due));
    expression.set(SINCE, item::instant(change.at));
    if change.to == TaskState::Ready {
        expression.set(READY_AT, item::instant(change.at));
    }
    if change.to == TaskState::Running || change.again && change.to == TaskState::Loading {
        expression.set(BEGAN, item::instant(change.at));
    }
    if change.to == TaskState::Failed && change.is_told() {
        expression.set_once(FAILED, item::instant(change.at));
    }
    if let Some(run) = &change.run {
        expression.set(RUN, item::text(run));
    }
    if let Some(reason) = &change.reason {
        expression.set(REASON, item::text(reason));
    }
    if let Some(load) = &change.load {
        expression.set(LOAD, load_text(load));
    }
    if change.completes_outputs() && !planted(Bug::ReadersNotOwed) {
        expression.set(OUTPUTS_PENDING, AttributeValue::Bool(true));
    }
    let state = expression.name(item::STATE);
    let from = expression.value(item::text(change.from.name()));
    let not_newer = expression.not_newer();
    let round = in_round(&mut expression, change);
    let mut condition = format!("{state} = {from} AND {round} AND ({not_newer})");
    if planted(Bug::MembersUnconditional) && change.from == TaskState::Ready {
        condition = format!("({condition}) OR {state} <> {from}");
    }
    // A partition that runs belongs to its run: no other may end it.
    if let (TaskState::Running | TaskState::Loading, Some(run)) = (change.from, &change.run) {
        let (name, value) = (expression.name(RUN), expression.value(item::text(run)));
        condition.push_str(&format!(" AND {name} = {value}"));
    }
    (expression, condition)
}

impl Store {
    /// Records what has come in for a task partition and returns it as it is
    /// now: one write for so many as [`RECEIPTS_MAX`], no read. Harmless when
    /// repeated. `due` says when the engine must look at it if nothing else
    /// happens. One that is `stored`
    /// already needs less said; was it removed since, it is written anew. One whose
    /// inputs were already taken is returned as it is and not written, see
    /// [`Store::take_late`]. An item of a newer version is left alone, and that is
    /// an error.
    pub async fn receive(
        &self,
        key: &TaskKey,
        receipts: &[(Element, Receipt)],
        due: Option<Timestamp>,
        stored: bool,
        now: Timestamp,
    ) -> Result<TaskPartition, StoreError> {
        let mut parts = receipts.chunks(RECEIPTS_MAX);
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            let item = self.receive_some(key, part, due, stored, now).await?;
            if !item.state.takes_inputs() {
                return Ok(item);
            }
        }
        self.receive_some(key, last, due, stored, now).await
    }

    async fn receive_some(
        &self,
        key: &TaskKey,
        receipts: &[(Element, Receipt)],
        due: Option<Timestamp>,
        stored: bool,
        now: Timestamp,
    ) -> Result<TaskPartition, StoreError> {
        let mut expression = if stored { Expression::new() } else { Expression::first(now) };
        expression.receive(receipts, due);
        let mut item = self.update_all_new(key, expression).await?;
        if !item.contains_key(item::STATE) {
            let mut expression = Expression::first(now);
            expression.receive(receipts, due);
            item = self.update_all_new(key, expression).await?;
        }
        self.read_task(key, &item)
    }

    /// Gives a partition that waits, or of which nothing is stored yet, what its
    /// person takes for there, with who that is and why, and has it looked at at once.
    /// Refused when it waits no more.
    pub async fn give(
        &self,
        key: &TaskKey,
        given: &[(Element, Receipt)],
        asked: &Asked,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut expression = Expression::first(now);
        expression.set(GIVEN, given_text(given));
        expression.set(ASKED, asked_text(asked));
        expression.set(item::DUE, item::instant(URGENT));
        let condition = expression.waits();
        self.update(key, expression, condition).await
    }

    pub(super) async fn update_all_new(
        &self,
        key: &TaskKey,
        mut expression: Expression,
    ) -> Result<Item, StoreError> {
        let (not_newer, open) = (expression.not_newer(), expression.takes_inputs());
        let result = self
            .client
            .update_item()
            .table_name(&self.task_table)
            .set_key(Some(item::task_key(key)))
            .update_expression(expression.text())
            .condition_expression(format!("({not_newer}) AND ({open})"))
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let error = match result {
            Ok(answer) => return Ok(answer.attributes.unwrap_or_default()),
            Err(error) => error,
        };
        let old = error.as_service_error().and_then(|error| match error {
            UpdateItemError::ConditionalCheckFailedException(failed) => failed.item(),
            _ => None,
        });
        match old {
            Some(old) if item::check_format(old).is_ok() => Ok(old.clone()),
            Some(_) => Err(self.newer(key)),
            None => Err(AwsError::new("DynamoDB", "UpdateItem", &error).into()),
        }
    }

    /// Makes a change of state together with its notice; returns the partition
    /// as it is now. Refused when more has come in since the `version` that it
    /// was decided about.
    pub async fn change_task(
        &self,
        change: &TaskChange,
        version: u64,
    ) -> Result<TaskPartition, StoreError> {
        let (mut expression, mut condition) = change_expression(change, &self.retention);
        let known = expression.value(item::number(version));
        let and = if planted(Bug::ChangeUnconditional) { "OR NOT" } else { "AND" };
        condition.push_str(&format!(" {and} #version = {known}"));
        let answer = self
            .client
            .update_item()
            .table_name(&self.task_table)
            .set_key(Some(item::task_key(&change.key)))
            .update_expression(expression.text())
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "UpdateItem", &error))
            .map_err(|error| write_error(error, &change.key))?;
        self.read_task(&change.key, &answer.attributes.unwrap_or_default())
    }

    /// The same change as an action of a transaction; with a `version`, only if that
    /// is still the partition's.
    pub(super) fn change_action(
        &self,
        change: &TaskChange,
        version: Option<u64>,
    ) -> Result<TransactWriteItem, StoreError> {
        let (mut expression, mut condition) = change_expression(change, &self.retention);
        if let Some(version) = version {
            let known = expression.value(item::number(version));
            condition.push_str(&format!(" AND #version = {known}"));
        }
        let update = Update::builder()
            .table_name(&self.task_table)
            .set_key(Some(item::task_key(&change.key)))
            .update_expression(expression.text())
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .build();
        Ok(TransactWriteItem::builder().update(update.map_err(super::run::build_error)?).build())
    }

    /// One page of a task's waiting partitions, and where the next page starts.
    /// An item that cannot be read is an error of its own.
    pub async fn waiting(&self, task: &str, from: Option<Item>) -> Result<Page, StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.task_table)
            .key_condition_expression("#task = :task")
            .filter_expression("#state = :waiting")
            .expression_attribute_names("#task", item::TASK)
            .expression_attribute_names("#state", item::STATE)
            .expression_attribute_values(":task", item::text(task))
            .expression_attribute_values(":waiting", item::text(TaskState::Waiting.name()))
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
        let items = answer.items.unwrap_or_default();
        let items = items.iter().filter_map(|item| {
            let partition = item::read_text(item, item::PARTITION).ok()?.parse().ok()?;
            Some(self.read_task(&TaskKey::new(task, partition), item))
        });
        Ok(Page { items: items.collect(), next: answer.last_evaluated_key })
    }

    pub async fn task(&self, key: &TaskKey) -> Result<Option<TaskPartition>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.task_table)
            .set_key(Some(item::task_key(key)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
        answer.item.map(|item| self.read_task(key, &item)).transpose()
    }

    /// Has a partition looked at by `due`, if it is not to be looked at earlier.
    /// A look too many does no harm, so nothing else is asked.
    pub async fn look_by(&self, key: &TaskKey, due: Timestamp) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        expression.set(item::DUE, item::instant(due));
        let (name, value) = (expression.name(item::DUE), expression.value(item::instant(due)));
        let stored = expression.name(item::STATE);
        let not_newer = expression.not_newer();
        let condition = format!(
            "attribute_exists({stored}) AND ({not_newer}) \
             AND (attribute_not_exists({name}) OR {name} > {value})"
        );
        match self.update(key, expression, condition).await {
            Err(StoreError::Conflict(_)) => Ok(()),
            result => result,
        }
    }

    /// Stores what follows from looking at a partition without changing its
    /// state: `published` notices are gone, its outputs are told (or not), and
    /// when it is due next. Refused when it was changed since it was read.
    pub async fn settle_task(
        &self,
        item: &TaskPartition,
        published: &[Notice],
        due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        let known = expression.value(item::number(item.version));
        expression.remove_notices(&item.key, published);
        expression.set(OUTPUTS_PENDING, AttributeValue::Bool(item.outputs_pending));
        match due {
            Some(due) => expression.set(item::DUE, item::instant(due)),
            None => expression.remove(item::DUE),
        }
        let condition = format!("#version = {known}");
        self.update(&item.key, expression, condition).await
    }

    /// Stores how far a load is, with what is to be told of it. Refused when it
    /// was changed since it was read; the version rises by one.
    pub async fn save_load(
        &self,
        item: &TaskPartition,
        load: &Load,
        news: Option<&Notice>,
        due: Timestamp,
    ) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        let known = expression.value(item::number(item.version));
        expression.set(LOAD, load_text(load));
        if let Some(news) = news {
            expression.keep_notice(&item.key, news);
        }
        expression.set(item::DUE, item::instant(due));
        self.update(&item.key, expression, format!("#version = {known}")).await
    }

    /// Removes published notices whatever else has changed, so that they are
    /// not published again.
    pub async fn forget_notices(
        &self,
        key: &TaskKey,
        published: &[Notice],
    ) -> Result<(), StoreError> {
        let mut expression = Expression::new();
        expression.remove_notices(key, published);
        let (stored, not_newer) = (expression.name(item::STATE), expression.not_newer());
        let condition = format!("attribute_exists({stored}) AND ({not_newer})");
        self.update(key, expression, condition).await
    }

    pub(super) async fn update(
        &self,
        key: &TaskKey,
        expression: Expression,
        condition: String,
    ) -> Result<(), StoreError> {
        self.client
            .update_item()
            .table_name(&self.task_table)
            .set_key(Some(item::task_key(key)))
            .update_expression(expression.text())
            .condition_expression(condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "UpdateItem", &error))
            .map_err(|error| write_error(error, key))
    }

    /// The error of a write to an item, which names the item if that is at fault.
    pub fn about(&self, key: &TaskKey, error: StoreError) -> StoreError {
        match error {
            StoreError::Aws(error) if error.is_about_the_request() => {
                self.unwritable(key, &error.message)
            }
            error => error,
        }
    }

    /// That an item is damaged so that it cannot be written; `words` are DynamoDB's.
    pub fn unwritable(&self, key: &TaskKey, words: &str) -> StoreError {
        let (table, reason) = (self.task_table.clone(), words.to_owned());
        StoreError::Unwritable { table, key: key.to_string(), reason }
    }

    /// That an item is left to a newer version.
    pub fn newer(&self, key: &TaskKey) -> StoreError {
        StoreError::Newer { table: self.task_table.clone(), key: key.to_string() }
    }

    pub(super) fn read_task(
        &self,
        key: &TaskKey,
        item: &Item,
    ) -> Result<TaskPartition, StoreError> {
        read_task(key, item)
            .map_err(|source| self.unreadable_task(&key.task, &key.partition.to_string(), source))
    }

    pub(super) fn unreadable_task(
        &self,
        task: &str,
        partition: &str,
        source: Unreadable,
    ) -> StoreError {
        let key = format!("{task} {partition}");
        StoreError::Unreadable { table: self.task_table.clone(), key, source }
    }
}

pub(super) fn given_text(given: &[(Element, Receipt)]) -> AttributeValue {
    let texts = given.iter().map(|(element, receipt)| (element.to_string(), receipt.to_string()));
    // Texts by texts: JSON can hold them.
    item::text(serde_json::to_string(&texts.collect::<BTreeMap<_, _>>()).unwrap_or_default())
}

pub(super) fn asked_text(asked: &Asked) -> AttributeValue {
    // Texts and an instant: JSON can hold each.
    item::text(serde_json::to_string(asked).unwrap_or_default())
}

fn read_asked(item: &Item) -> Result<Option<Asked>, Unreadable> {
    let text = item::read_optional_text(item, ASKED);
    let asked =
        text.map(|text| serde_json::from_str(&text).map_err(|_| Unreadable::new("asked", &text)));
    asked.transpose()
}

fn read_given(item: &Item) -> Result<BTreeMap<Element, Receipt>, Unreadable> {
    let Some(text) = item::read_optional_text(item, GIVEN) else { return Ok(BTreeMap::new()) };
    let texts: BTreeMap<String, String> =
        serde_json::from_str(&text).map_err(|_| Unreadable::new("given", &text))?;
    texts.iter().map(|(element, receipt)| Ok((element.parse()?, receipt.parse()?))).collect()
}

pub(super) fn late_text(late: &Late) -> AttributeValue {
    // Names, numbers and an instant: JSON can hold each.
    item::text(serde_json::to_string(late).unwrap_or_default())
}

fn load_text(load: &Load) -> AttributeValue {
    // Strings, numbers and instants: JSON can hold each.
    item::text(serde_json::to_string(load).unwrap_or_default())
}

fn read_load(item: &Item) -> Result<Option<Load>, Unreadable> {
    let text = item::read_optional_text(item, LOAD);
    let load =
        text.map(|text| serde_json::from_str(&text).map_err(|_| Unreadable::new("load", &text)));
    load.transpose()
}

fn read_late(item: &Item) -> Result<Option<Late>, Unreadable> {
    let text = item::read_optional_text(item, LATE);
    let late = text
        .map(|text| serde_json::from_str(&text).map_err(|_| Unreadable::new("late data", &text)));
    late.transpose()
}

fn read_told(item: &Item) -> Result<Vec<Told>, Unreadable> {
    let Some(text) = item::read_optional_text(item, TOLD) else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|_| Unreadable::new("told", &text))
}

fn read_task(key: &TaskKey, item: &Item) -> Result<TaskPartition, Unreadable> {
    item::check_format(item)?;
    let mut received = BTreeMap::new();
    let mut notices = Vec::new();
    for (name, value) in item {
        if let Some(element) = name.strip_prefix(item::RECEIVED_PREFIX) {
            let receipt = value.as_s().map_err(|_| Unreadable::new("receipt", name))?;
            received.insert(element.parse()?, receipt.parse()?);
        } else if name.starts_with(item::NOTICE_PREFIX) {
            notices.push(item::read_notice(value)?);
        }
    }
    let given = read_given(item)?;
    for (element, receipt) in &given {
        if !received.get(element).is_some_and(Receipt::is_complete) {
            received.insert(element.clone(), receipt.clone());
        }
    }
    let round = match item.contains_key(ROUND) {
        true => u32::try_from(item::read_number(item, ROUND)?).unwrap_or(u32::MAX),
        false => 0,
    };
    // Not by time: a clock that is set back must not swap two.
    notices.sort_by_key(|notice| {
        let (round, state) = match notice.status.as_str() {
            words::FAILED | words::STUCK => (round.saturating_add(1), Some(TaskState::Loading)),
            _ => Round::order_of(TaskPartition::event(key, notice)),
        };
        (round, state.is_none(), state, notice.at)
    });
    Ok(TaskPartition {
        key: key.clone(),
        version: item::read_number(item, item::VERSION)?,
        state: item::read_text(item, item::STATE)?.parse()?,
        received,
        given,
        asked: read_asked(item)?,
        since: item::read_instant(item, SINCE)?,
        ready_at: item::read_instant(item, READY_AT)?,
        run: item::read_optional_text(item, RUN),
        reason: item::read_optional_text(item, REASON),
        round: Round { number: round, backfill: item::read_optional_text(item, BACKFILL) },
        load: read_load(item)?,
        late: read_late(item)?,
        unlisted: item::read_optional_text(item, UNLISTED),
        expected: item::read_instant(item, EXPECTED)?,
        began: item::read_instant(item, BEGAN)?,
        failed: item::read_instant(item, FAILED)?,
        told: read_told(item)?,
        outputs_pending: item
            .get(OUTPUTS_PENDING)
            .is_some_and(|value| value.as_bool() == Ok(&true)),
        notices,
        due: item::read_instant(item, item::DUE)?,
        expires: item::read_expiry(item)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::expression;
    use super::*;

    #[test]
    fn notices_come_in_the_order_of_states_even_if_the_clock_was_set_back() {
        use TaskState::{Ready, Running, Succeeded, Waiting};
        let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
        let mut item = item::task_key(&key);
        item.insert(item::FORMAT.into(), item::number(item::THIS_FORMAT));
        item.insert(item::VERSION.into(), item::number(4));
        item.insert(item::STATE.into(), item::text(Succeeded.name()));
        for (from, to, at) in [
            (Waiting, Ready, "2013-01-01T06:20:00Z"),
            (Ready, Running, "2013-01-01T06:10:00Z"),
            (Running, Succeeded, "2013-01-01T06:15:00Z"),
        ] {
            let change = TaskChange::new(&key, from, to, at.parse().unwrap(), vec![]);
            let attribute = expression::notice_attribute(&key, &change.notice);
            item.insert(attribute, item::notice(&change.notice));
        }
        let read = read_task(&key, &item).unwrap();
        let states: Vec<_> = read.notices.iter().map(|notice| notice.status.as_str()).collect();
        assert_eq!(states, ["ready", "running", "succeeded"]);
    }
}
