//! What the task role may do, tried before the service starts: each right is used once in a
//! way that changes nothing (a condition that cannot hold, a message without a body, a list
//! of nothing). Only a refusal for lack of permission counts. Not for rights that cannot be
//! tried without effect, or whose grant depends on a resource's tags: those of clusters but
//! their list, of manifests and of the warehouse.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, TransactWriteItem};
use aws_sdk_emr::primitives::DateTime;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageAttributeValue,
};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::error::AwsError;
use super::store::{DUE_INDEX, KeyedTable};

/// Side by side: more would only open more connections.
const TRIED_AT_ONCE: usize = 4;
/// What does not answer is told of by whoever needs it.
const TRIED_WITHIN: Duration = Duration::from_secs(3);
/// A start that takes a minute is taken for one that fails.
const ALL_TRIED_WITHIN: Duration = Duration::from_secs(12);
/// No item and no receipt is named so.
const NOTHING: &str = "~rights";
/// SNS takes up to 100 characters.
const SUBJECT_TOO_LONG: usize = 101;

/// A right that the role lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub action: &'static str,
    /// As the configuration names it.
    pub resource: String,
    /// What sluicegate cannot keep without it.
    pub breaks: &'static str,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {}", self.action, self.resource, self.breaks)
    }
}

/// Where the service works.
#[derive(Debug)]
pub struct Places {
    /// The URLs of the inbox and of the quarantine.
    pub queues: Option<(String, String)>,
    pub topic_arn: String,
    pub tables: [KeyedTable; 3],
}

type Try = (&'static str, String, &'static str, BoxFuture<'static, Result<(), AwsError>>);

/// The rights that are lacking, sorted by action; all but those to list objects.
pub async fn denied(config: &SdkConfig, places: &Places) -> Vec<Denied> {
    let mut tries = Vec::new();
    if let Some((inbox, quarantine)) = &places.queues {
        tries.extend(of_queues(config, inbox, quarantine));
    }
    tries.extend(of_topic(config, &places.topic_arn));
    tries.extend(of_tables(config, &places.tables));
    tries.extend(of_clusters(config));
    lacking(tries).await
}

/// The same of lists of objects, by bucket and beginning of a key.
pub async fn denied_lists(config: &SdkConfig, listed: &BTreeSet<(String, String)>) -> Vec<Denied> {
    lacking(of_buckets(config, listed)).await
}

async fn lacking(tries: Vec<Try>) -> Vec<Denied> {
    let mut tries: Vec<_> = tries.into_iter().map(tried).collect();
    let mut denied = Vec::new();
    let started = Instant::now();
    while !tries.is_empty() {
        if started.elapsed() >= ALL_TRIED_WITHIN {
            tracing::warn!(left = tries.len(), "AWS was too slow to tell all that the role may do");
            break;
        }
        let some = tries.drain(..tries.len().min(TRIED_AT_ONCE));
        denied.extend(join_all(some).await.into_iter().flatten());
    }
    denied.sort_by(|a, b| (a.action, &a.resource).cmp(&(b.action, &b.resource)));
    denied
}

fn tried((action, resource, breaks, call): Try) -> BoxFuture<'static, Option<Denied>> {
    let tried = async move {
        let Ok(answer) = tokio::time::timeout(TRIED_WITHIN, call).await else {
            tracing::warn!(
                action,
                resource,
                "AWS was too slow to tell whether the role may do this"
            );
            return None;
        };
        answer.err()?.is_denied().then_some(Denied { action, resource, breaks })
    };
    tried.boxed()
}

/// A call under the name of the right that it needs.
macro_rules! attempt {
    ($service:literal, $action:literal, $resource:expr, $breaks:expr, $request:expr) => {{
        let call = $request.send();
        let call = async move {
            call.await.map(|_| ()).map_err(|error| AwsError::new($service, $action, &error))
        };
        ($action, $resource.to_owned(), $breaks, call.boxed())
    }};
}

fn of_queues(config: &SdkConfig, inbox: &str, quarantine: &str) -> Vec<Try> {
    let client = aws_sdk_sqs::Client::new(config);
    // They have all that they need. There is no such type, and no message without a body.
    let none = MessageAttributeValue::builder().data_type("None").string_value("none").build();
    let deleted = DeleteMessageBatchRequestEntry::builder().id("0").receipt_handle(NOTHING).build();
    let shown = ChangeMessageVisibilityBatchRequestEntry::builder()
        .id("0")
        .receipt_handle(NOTHING)
        .visibility_timeout(0)
        .build();
    vec![
        attempt!(
            "SQS",
            "sqs:ReceiveMessage",
            inbox,
            "nothing that arrives is heard of",
            client.receive_message().queue_url(inbox).max_number_of_messages(0)
        ),
        attempt!(
            "SQS",
            "sqs:DeleteMessage",
            inbox,
            "every message comes again, until the queue puts it among its dead letters",
            client
                .delete_message_batch()
                .queue_url(inbox)
                .set_entries(deleted.ok().map(|it| vec![it]))
        ),
        attempt!(
            "SQS",
            "sqs:ChangeMessageVisibility",
            inbox,
            "what a stopping service has not finished is handed back late",
            client
                .change_message_visibility_batch()
                .queue_url(inbox)
                .set_entries(shown.ok().map(|it| vec![it]))
        ),
        attempt!(
            "SQS",
            "sqs:SendMessage",
            quarantine,
            "a message that nobody can read is not kept, and comes again and again",
            client
                .send_message()
                .queue_url(quarantine)
                .message_body("")
                .set_message_attributes(none.ok().map(|none| [("none".to_owned(), none)].into()))
        ),
    ]
}

fn of_topic(config: &SdkConfig, topic_arn: &str) -> Vec<Try> {
    let request = aws_sdk_sns::Client::new(config)
        .publish()
        .topic_arn(topic_arn)
        .subject("x".repeat(SUBJECT_TOO_LONG))
        .message("");
    vec![attempt!("SNS", "sns:Publish", topic_arn, "nobody is told of any failure", request)]
}

fn of_tables(config: &SdkConfig, [task, unit, run]: &[KeyedTable; 3]) -> Vec<Try> {
    let client = aws_sdk_dynamodb::Client::new(config);
    let key = |table: &KeyedTable| {
        let names = table.keys.iter();
        names.map(|name| ((*name).to_owned(), AttributeValue::S(NOTHING.to_owned()))).collect()
    };
    // There is no such item, so that nothing is written.
    let put = |table: &KeyedTable, breaks| {
        let request = client
            .put_item()
            .table_name(&table.name)
            .set_item(Some(key(table)))
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", table.keys[0]);
        attempt!("DynamoDB", "dynamodb:PutItem", table.name, breaks, request)
    };
    let update = |table: &KeyedTable, breaks| {
        let request = client
            .update_item()
            .table_name(&table.name)
            .set_key(Some(key(table)))
            .update_expression("REMOVE #nothing")
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", table.keys[0])
            .expression_attribute_names("#nothing", "nothing");
        attempt!("DynamoDB", "dynamodb:UpdateItem", table.name, breaks, request)
    };
    let get = |table: &KeyedTable, breaks| {
        let request = client.get_item().table_name(&table.name).set_key(Some(key(table)));
        attempt!("DynamoDB", "dynamodb:GetItem", table.name, breaks, request)
    };
    let query = |table: &KeyedTable, index: Option<&str>, name: &str, breaks| {
        let place =
            index.map_or(table.name.clone(), |index| format!("{}/index/{index}", table.name));
        let request = client
            .query()
            .table_name(&table.name)
            .set_index_name(index.map(str::to_owned))
            .key_condition_expression("#key = :nothing")
            .expression_attribute_names("#key", name)
            .expression_attribute_values(":nothing", AttributeValue::S(NOTHING.to_owned()))
            .limit(1);
        attempt!("DynamoDB", "dynamodb:Query", place, breaks, request)
    };
    let check = ConditionCheck::builder()
        .table_name(&task.name)
        .set_key(Some(key(task)))
        .condition_expression("attribute_exists(#key)")
        .expression_attribute_names("#key", task.keys[0])
        .build();
    let check = check.map(|check| TransactWriteItem::builder().condition_check(check).build());
    const ARRIVED: &str = "what has arrived cannot be kept, and nothing becomes ready";
    const OPEN: &str = "what is open is not found again after a restart";
    const FOLLOWED: &str = "no cluster can be created that is sure to be followed and ended";
    vec![
        get(task, ARRIVED),
        put(task, ARRIVED),
        update(task, ARRIVED),
        query(task, None, task.keys[0], ARRIVED),
        query(task, Some(DUE_INDEX), task.shard, OPEN),
        attempt!(
            "DynamoDB",
            "dynamodb:ConditionCheckItem",
            task.name,
            "a schedule's slot may be taken up twice, or not at all",
            client.transact_write_items().set_transact_items(check.ok().map(|it| vec![it]))
        ),
        put(unit, ARRIVED),
        query(unit, None, unit.keys[0], ARRIVED),
        get(run, FOLLOWED),
        put(run, FOLLOWED),
        update(run, FOLLOWED),
        query(run, Some(DUE_INDEX), run.shard, OPEN),
    ]
}

fn of_clusters(config: &SdkConfig) -> Vec<Try> {
    // None is created so late.
    let never = DateTime::from_secs(32_503_680_000);
    // One call of a small quota, whatever comes of it.
    let once = aws_sdk_emr::config::Builder::from(config).retry_config(RetryConfig::disabled());
    let client = aws_sdk_emr::Client::from_conf(once.build());
    let request = client.list_clusters().created_after(never);
    let breaks = "a cluster whose creation got no answer is not found, nor is one left behind";
    vec![attempt!("EMR", "elasticmapreduce:ListClusters", "*", breaks, request)]
}

fn of_buckets(config: &SdkConfig, listed: &BTreeSet<(String, String)>) -> Vec<Try> {
    let client = aws_sdk_s3::Client::new(config);
    let list = |(bucket, prefix): &(String, String)| {
        let place = format!("s3://{bucket}/{prefix}");
        let request = client.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(1);
        let breaks = "no closed hour can run, and objects that nobody told of are not found";
        attempt!("S3", "s3:ListBucket", place, breaks, request)
    };
    listed.iter().map(list).collect()
}
