//! What an operator sets up before the daemon starts: queues, topic, bucket,
//! notifications, the rule for EMR's events, and the jobs in the bucket. Not
//! the tables: those the daemon's own command creates.

use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::account::Account;
use super::config::Aws;
use crate::wire::ACCOUNT;

/// Who gets the mails.
const READER: &str = "operator@example.com";
/// After so many failed receives a message is put aside.
const RECEIVES_MAX: u32 = 5;

/// The dead-letter queue of a queue.
pub fn dead_letters_of(queue: &str) -> String {
    format!("{queue}-dead")
}

/// Sets everything up; S3 tells of the objects whose keys begin with one of
/// `incoming`.
pub async fn provision(
    account: Account<'_>,
    aws: &Aws,
    bucket: &str,
    incoming: &[&str],
) -> anyhow::Result<()> {
    let queue_arn = queues(account, aws).await?;
    let topic = aws.topic_arn.rsplit(':').next().unwrap_or_default();
    account.sns("CreateTopic", &[("Name", topic)]).await?;
    let subscription =
        [("TopicArn", aws.topic_arn.as_str()), ("Protocol", "email"), ("Endpoint", READER)];
    account.sns("Subscribe", &subscription).await?;
    account.s3_put(&format!("/{bucket}"), bytes::Bytes::new()).await?;
    let notifications = notifications(&queue_arn, incoming);
    account.s3_put(&format!("/{bucket}?notification"), notifications.into()).await?;
    let pattern = json!({ "source": ["aws.emr"] }).to_string();
    account.events("PutRule", json!({ "Name": "emr-events", "EventPattern": pattern })).await?;
    let targets = json!([{ "Id": "inbox", "Arn": queue_arn }]);
    account.events("PutTargets", json!({ "Rule": "emr-events", "Targets": targets })).await?;
    Ok(())
}

/// The inbox with its dead-letter queue, and the quarantine; returns the ARN
/// of the inbox.
async fn queues(account: Account<'_>, aws: &Aws) -> anyhow::Result<String> {
    let arn = |name: &str| format!("arn:aws:sqs:{}:{ACCOUNT}:{name}", account.region);
    let dead_letters = dead_letters_of(&aws.queue);
    for name in [&dead_letters, &aws.quarantine] {
        account.sqs("CreateQueue", json!({ "QueueName": name })).await?;
    }
    let redrive = json!({
        "deadLetterTargetArn": arn(&dead_letters),
        "maxReceiveCount": RECEIVES_MAX.to_string(),
    });
    let attributes = json!({ "RedrivePolicy": redrive.to_string() });
    let queue = json!({ "QueueName": aws.queue, "Attributes": attributes });
    account.sqs("CreateQueue", queue).await?;
    Ok(arn(&aws.queue))
}

fn notifications(queue_arn: &str, incoming: &[&str]) -> String {
    let configurations: String = incoming
        .iter()
        .map(|prefix| {
            format!(
                "<QueueConfiguration><Id>{}</Id><Queue>{queue_arn}</Queue>\
                 <Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule>\
                 <Name>prefix</Name><Value>{prefix}</Value></FilterRule></S3Key></Filter>\
                 </QueueConfiguration>",
                prefix.trim_end_matches('/')
            )
        })
        .collect();
    format!("<NotificationConfiguration>{configurations}</NotificationConfiguration>")
}

/// Puts the files of a folder below `code/`, where steps find them.
pub async fn upload(account: Account<'_>, bucket: &str, jobs: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot read the jobs in {}", jobs.display());
    for entry in std::fs::read_dir(jobs).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let (true, Some(name)) = (path.is_file(), path.file_name().and_then(|name| name.to_str()))
        else {
            continue;
        };
        let content = std::fs::read(&path).with_context(failed)?;
        account.s3_put(&format!("/{bucket}/code/{name}"), content.into()).await?;
    }
    Ok(())
}
