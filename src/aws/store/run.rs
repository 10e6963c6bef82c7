//! Runs, in the run table: the whole run as one document, with the few
//! attributes beside it that conditions and the due index need.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use jiff::Timestamp;

use super::item::{self, Item};
use super::{Store, StoreError, damaged_item, write_error};
use crate::aws::error::{AwsError, Kind};
use crate::core::cap::Cap;
use crate::core::run::Run;
use crate::core::task::{TaskChange, URGENT, Unreadable};
use crate::planted::{Bug, planted};

pub(super) const PROFILE: &str = "profile";
pub(super) const CREATED: &str = "created";
pub(super) const ENDED: &str = "ended";
pub(super) const CLUSTER: &str = "cluster";
pub(super) const ATTEMPTS: &str = "attempts";
pub(super) const MEMBERS: &str = "members";
pub(super) const TASKS: &str = "tasks";
/// What a list of runs shows, beside the document so that a list need not read
/// it; the index `recent` holds these.
pub(super) const GLANCE: [&str; 8] =
    [item::STATE, PROFILE, CREATED, ENDED, CLUSTER, ATTEMPTS, MEMBERS, TASKS];
/// As many members as a list names; the rest is counted.
const MEMBERS_NAMED_MAX: usize = 3;
const DOCUMENT: &str = "document";
/// Tells one write from another of the same version.
pub(super) const WRITE: &str = "write";

impl Store {
    /// Stores a changed (or new: version 0) run together with changes of its
    /// task partitions, all or nothing. `run.version` rises by one. A partition whose
    /// item is damaged so that it cannot be written is [`StoreError::Unwritable`].
    pub async fn commit_run(
        &self,
        run: &mut Run,
        changes: &[TaskChange],
    ) -> Result<(), StoreError> {
        self.commit_run_under(run, changes, &[]).await
    }

    /// The same, together with the caps that it uses from now on.
    pub async fn commit_run_under(
        &self,
        run: &mut Run,
        changes: &[TaskChange],
        caps: &[Cap],
    ) -> Result<(), StoreError> {
        let put = self.put(run)?;
        let changed = changes.iter().map(|change| self.change_action(change, None));
        let used = caps
            .iter()
            .map(|cap| Ok(TransactWriteItem::builder().put(self.put_document(cap)?).build()));
        let actions: Result<Vec<_>, StoreError> = changed.chain(used).collect();
        let result = match actions? {
            // A transaction costs twice as much.
            actions if actions.is_empty() => self.put_alone(put).await,
            actions => match self.put_with(put, actions).await {
                Err(error) => match damaged_item(&error) {
                    Some((place, words)) if place < changes.len() => {
                        return Err(self.unwritable(&changes[place].key, words));
                    }
                    _ => Err(AwsError::new("DynamoDB", "TransactWriteItems", &error)),
                },
                Ok(()) => Ok(()),
            },
        };
        result.map_err(|error| write_error(error, format!("run {}", run.id)))?;
        run.version += 1;
        Ok(())
    }

    /// The SDK repeats it when an answer is lost, and then the condition fails
    /// because of ourselves: what is stored tells whose write it was. (A
    /// transaction carries a token that does the same.)
    pub(super) async fn put_alone(&self, put: Put) -> Result<(), AwsError> {
        let ours = put.item.get(WRITE).cloned();
        let result = self
            .client
            .put_item()
            .table_name(put.table_name)
            .set_item(Some(put.item))
            .set_condition_expression(put.condition_expression)
            .set_expression_attribute_names(put.expression_attribute_names)
            .set_expression_attribute_values(put.expression_attribute_values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else { return Ok(()) };
        let stored = error.as_service_error().and_then(|error| match error {
            PutItemError::ConditionalCheckFailedException(failed) => failed.item()?.get(WRITE),
            _ => None,
        });
        let ours = stored == ours.as_ref() || planted(Bug::ConflictIsSuccess);
        match stored.is_some() && ours {
            true => Ok(()),
            false => Err(AwsError::new("DynamoDB", "PutItem", &error)),
        }
    }

    pub(super) async fn put_with(
        &self,
        put: Put,
        mut actions: Vec<TransactWriteItem>,
    ) -> Result<(), SdkError<TransactWriteItemsError, HttpResponse>> {
        actions.push(TransactWriteItem::builder().put(put).build());
        self.client
            .transact_write_items()
            .set_transact_items(Some(actions))
            .send()
            .await
            .map(|_| ())
    }

    pub async fn run(&self, id: &str) -> Result<Option<Run>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.run_table)
            .key(item::RUN_ID, item::text(id))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
        let Some(found) = answer.item else { return Ok(None) };
        let run = read_run(&found).map_err(|source| StoreError::Unreadable {
            table: self.run_table.clone(),
            key: id.to_owned(),
            source,
        })?;
        Ok(Some(run))
    }

    fn put(&self, run: &Run) -> Result<Put, StoreError> {
        let refused = |reason: String| AwsError {
            service: "DynamoDB",
            action: "PutItem",
            kind: Kind::Refused,
            message: format!("run {} cannot be written: {reason}", run.id),
        };
        let document = serde_json::to_string(run).map_err(|error| refused(error.to_string()))?;
        if run.version == 0 && !run.is_small_enough() {
            let kilobytes = document.len() / 1000;
            return Err(refused(format!("it has {kilobytes} KB and has yet to grow")).into());
        }
        let mut put = Put::builder()
            .table_name(&self.run_table)
            .item(item::RUN_ID, item::text(&run.id))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(item::VERSION, item::number(run.version + 1))
            .item(WRITE, item::text(format!("{:016x}", fastrand::u64(..))))
            .item(item::STATE, item::text(run.state.name()))
            .item(item::SHARD, item::text(item::ONE_SHARD))
            .item(PROFILE, item::text(&run.profile))
            .item(CREATED, item::instant(run.created))
            .item(ATTEMPTS, item::number(run.attempts.len()))
            .item(MEMBERS, item::text(members(run)))
            .item(DOCUMENT, item::text(document));
        let tasks: BTreeSet<_> = run.members.iter().map(|member| member.key.task.clone()).collect();
        if !tasks.is_empty() {
            put = put.item(TASKS, AttributeValue::Ss(tasks.into_iter().collect()));
        }
        if let Some(ended) = run.ended {
            put = put.item(ENDED, item::instant(ended));
        }
        if let Some(cluster) = run.attempt().and_then(|attempt| attempt.cluster.as_ref()) {
            put = put.item(CLUSTER, item::text(cluster));
        }
        if let Some(due) = due(run) {
            put = put.item(item::DUE, item::instant(due));
        }
        let over = run.ended.filter(|_| run.is_settled());
        if let Some(expires) = over.and_then(|ended| self.retention.run_expires(ended)) {
            put = put.item(item::EXPIRES, item::expiry(expires));
        }
        put = match run.version {
            _ if planted(Bug::RunUnconditional) => put,
            0 => put
                .condition_expression("attribute_not_exists(#id)")
                .expression_attribute_names("#id", item::RUN_ID),
            version => put
                .condition_expression("#version = :known")
                .expression_attribute_names("#version", item::VERSION)
                .expression_attribute_values(":known", item::number(version)),
        };
        put.build().map_err(build_error)
    }
}

/// A run that is not settled is always due, so that any process finds it; the engine itself
/// knows better when to look.
fn due(run: &Run) -> Option<Timestamp> {
    let found = !planted(Bug::RunForgotten);
    let due = if run.asked { URGENT } else { run.created };
    (!run.is_settled() && found).then_some(due)
}

/// `etl 2013-01-01T05, etl 2013-01-01T06 and 3 more`.
fn members(run: &Run) -> String {
    let named: Vec<_> =
        run.members.iter().take(MEMBERS_NAMED_MAX).map(|member| member.key.to_string()).collect();
    let named = named.join(", ");
    match run.members.len().saturating_sub(MEMBERS_NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn read_run(item: &Item) -> Result<Run, Unreadable> {
    item::check_format(item)?;
    let document = item::read_text(item, DOCUMENT)?;
    let mut run: Run = serde_json::from_str(document)
        .map_err(|error| Unreadable::new("run", &error.to_string()))?;
    run.version = item::read_number(item, item::VERSION)?;
    Ok(run)
}

/// The SDK refuses to build a request only when a required member is missing,
/// which would be a mistake of ours.
pub(super) fn build_error(error: BuildError) -> StoreError {
    StoreError::Aws(AwsError {
        service: "DynamoDB",
        action: "TransactWriteItems",
        kind: Kind::Refused,
        message: error.to_string(),
    })
}
