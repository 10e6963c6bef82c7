//! Queues, topics and tables as the AWS SDKs see them, over HTTP.

mod common;

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, Put,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TransactWriteItem,
};
use aws_sdk_sns::types::MessageAttributeValue;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use common::client;
use sluicegate_local::{LocalAws, Options};

/// Far below the longest poll, far above what a busy machine needs.
const SOON: Duration = Duration::from_secs(10);

async fn queue(client: &aws_sdk_sqs::Client, name: &str, redrive: Option<&str>) -> String {
    client
        .create_queue()
        .queue_name(name)
        .set_attributes(redrive.map(|policy| {
            [
                (QueueAttributeName::RedrivePolicy, policy.to_owned()),
                (QueueAttributeName::VisibilityTimeout, "0".to_owned()),
            ]
            .into()
        }))
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap()
}

#[tokio::test]
async fn a_long_poll_does_not_wait_its_time_out() {
    let aws = LocalAws::start(Options::default()).await.unwrap();
    let sqs = client!(aws_sdk_sqs, aws.endpoint());
    let url = queue(&sqs, "q", None).await;
    assert_eq!(url, format!("{}/000000000000/q", aws.endpoint()));
    let both = async {
        tokio::join!(
            sqs.receive_message().queue_url(&url).wait_time_seconds(20).send(),
            sqs.send_message().queue_url(&url).message_body("hello").send(),
        )
    };
    let (received, sent) = tokio::time::timeout(SOON, both).await.unwrap();
    sent.unwrap();
    let messages = received.unwrap().messages.unwrap();
    assert_eq!(messages[0].body(), Some("hello"));
    aws.shutdown().await;
}

#[tokio::test]
async fn shutting_down_ends_long_polls() {
    let aws = LocalAws::start(Options::default()).await.unwrap();
    let sqs = client!(aws_sdk_sqs, aws.endpoint());
    let url = queue(&sqs, "q", None).await;
    let poll = sqs.receive_message().queue_url(&url).wait_time_seconds(20).send();
    let poll = tokio::spawn(poll);
    tokio::time::timeout(SOON, aws.shutdown()).await.unwrap();
    // Answered if it got in before the end, refused if not: it must not wait.
    let _ = tokio::time::timeout(SOON, poll).await.unwrap();
}

#[tokio::test]
async fn errors_have_the_types_of_the_sdk() {
    let aws = LocalAws::start(Options::default()).await.unwrap();
    let sqs = client!(aws_sdk_sqs, aws.endpoint());
    let missing = sqs.get_queue_url().queue_name("none").send().await.unwrap_err();
    assert!(missing.into_service_error().is_queue_does_not_exist());
    let url = queue(&sqs, "q", None).await;
    let delete = sqs.delete_message().queue_url(&url).receipt_handle("nonsense").send().await;
    assert!(delete.unwrap_err().into_service_error().is_receipt_handle_is_invalid());
    let empty = sqs.send_message_batch().queue_url(&url).set_entries(Some(Vec::new())).send().await;
    assert!(empty.unwrap_err().into_service_error().is_empty_batch_request());
    let sns = client!(aws_sdk_sns, aws.endpoint());
    let publish = sns.publish().topic_arn("arn:aws:sns:eu-west-1:000000000000:none").message("m");
    assert!(publish.send().await.unwrap_err().into_service_error().is_not_found_exception());
    aws.shutdown().await;
}

#[tokio::test]
async fn a_poison_message_becomes_a_dead_letter() {
    let aws = LocalAws::start(Options::default()).await.unwrap();
    let sqs = client!(aws_sdk_sqs, aws.endpoint());
    let dead = queue(&sqs, "dead", None).await;
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:dead","maxReceiveCount":"2"}"#;
    let url = queue(&sqs, "q", Some(policy)).await;
    sqs.send_message().queue_url(&url).message_body("poison").send().await.unwrap();
    let mut counts = Vec::new();
    loop {
        let received = sqs
            .receive_message()
            .queue_url(&url)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .unwrap();
        let Some(message) = received.messages().first() else {
            break;
        };
        let attributes = message.attributes().unwrap();
        counts.push(attributes[&MessageSystemAttributeName::ApproximateReceiveCount].clone());
    }
    assert_eq!(counts, ["1", "2"]);
    let received = sqs.receive_message().queue_url(&dead).send().await.unwrap();
    assert_eq!(received.messages()[0].body(), Some("poison"));
    aws.shutdown().await;
}

#[tokio::test]
async fn a_topic_reaches_queues_and_mailboxes() {
    let dir = tempfile::tempdir().unwrap();
    let data = Some(dir.path().to_owned());
    let aws = LocalAws::start(Options { data, ..Options::default() }).await.unwrap();
    let (sqs, sns) = (client!(aws_sdk_sqs, aws.endpoint()), client!(aws_sdk_sns, aws.endpoint()));
    let topic = sns.create_topic().name("alerts").send().await.unwrap().topic_arn.unwrap();
    let arn = |name: &str| format!("arn:aws:sqs:eu-west-1:000000000000:{name}");
    let (raw, wrapped) = (queue(&sqs, "raw", None).await, queue(&sqs, "wrapped", None).await);
    let subscribe = || sns.subscribe().topic_arn(&topic);
    let raw_delivery = subscribe().attributes("RawMessageDelivery", "true");
    raw_delivery.protocol("sqs").endpoint(arn("raw")).send().await.unwrap();
    subscribe().protocol("sqs").endpoint(arn("wrapped")).send().await.unwrap();
    let failures = subscribe().attributes("FilterPolicy", r#"{"state":["FAILED"]}"#);
    failures.protocol("email").endpoint("ops@example.com").send().await.unwrap();

    for state in ["COMPLETED", "FAILED"] {
        let value = MessageAttributeValue::builder().data_type("String").string_value(state);
        sns.publish()
            .topic_arn(&topic)
            .subject(format!("flights {state}"))
            .message(format!("<{state}> & more"))
            .message_attributes("state", value.build().unwrap())
            .send()
            .await
            .unwrap();
    }
    let all = |url: String| {
        let receive = sqs.receive_message().queue_url(url).max_number_of_messages(10);
        receive.message_attribute_names("All").send()
    };
    let received = all(raw).await.unwrap();
    let message = &received.messages()[1];
    assert_eq!(message.body(), Some("<FAILED> & more"));
    assert_eq!(message.message_attributes().unwrap()["state"].string_value(), Some("FAILED"));
    let received = all(wrapped).await.unwrap();
    let envelope: serde_json::Value =
        serde_json::from_str(received.messages()[0].body().unwrap()).unwrap();
    for (member, expected) in [
        ("Type", "Notification"),
        ("TopicArn", topic.as_str()),
        ("Subject", "flights COMPLETED"),
        ("Message", "<COMPLETED> & more"),
    ] {
        assert_eq!(envelope[member], expected, "{member}");
    }
    assert_eq!(envelope["MessageAttributes"]["state"]["Value"], "COMPLETED");
    let mails: Vec<_> = std::fs::read_dir(dir.path().join("mail")).unwrap().collect();
    assert_eq!(mails.len(), 1);
    let mail = std::fs::read_to_string(mails[0].as_ref().unwrap().path()).unwrap();
    assert!(mail.contains("Subject: flights FAILED"), "{mail}");
    aws.shutdown().await;
}

#[tokio::test]
async fn tables_survive_a_restart_and_tell_lost_races() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let data = Some(dir.path().to_owned());
        LocalAws::start(Options { data, in_memory: false, ..Options::default() })
    };
    let aws = start().await.unwrap();
    let db = client!(aws_sdk_dynamodb, aws.endpoint());
    let key = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash);
    let attribute =
        AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S);
    db.create_table()
        .table_name("runs")
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.build().unwrap())
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    let item = AttributeValue::S("run-1".to_owned());
    db.put_item().table_name("runs").item("pk", item.clone()).send().await.unwrap();
    aws.shutdown().await;

    let aws = start().await.unwrap();
    let db = client!(aws_sdk_dynamodb, aws.endpoint());
    let put = Put::builder()
        .table_name("runs")
        .item("pk", item.clone())
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let write = TransactWriteItem::builder().put(put.build().unwrap()).build();
    let refused = db.transact_write_items().transact_items(write).send().await.unwrap_err();
    let refused = refused.into_service_error();
    let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(cancelled) = refused else {
        panic!("{refused}");
    };
    let reason = &cancelled.cancellation_reasons()[0];
    assert_eq!(reason.code(), Some("ConditionalCheckFailed"));
    assert_eq!(reason.item().unwrap()["pk"], item);
    aws.shutdown().await;
}
