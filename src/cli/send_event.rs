//! `send-event`: tells the service of an object as S3 would, to try out a
//! set-up or to make up for a notification that never came.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::output::{self, Output};
use super::{AwsArgs, Failure, Session};
use crate::aws::s3::{S3, split_uri};
use crate::aws::sqs::Sqs;
use crate::core::catalog::Catalog;
use crate::core::task::TaskKey;
use crate::sources::simulate::{self, Object};

/// Tell the service of an object, as S3's notification would
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate send-event s3://landing/orders/2024-05-01.csv --config prod.toml\n  \
    sluicegate send-event s3://landing/orders/2024-05-01.csv --dry-run --config prod.toml\n  \
    sluicegate send-event 's3://landing/a b+c.csv' --force --config prod.toml\n\n\
    Keys are written as they are, not encoded. Several objects may be named.")]
pub struct SendEventArgs {
    /// s3://BUCKET/KEY
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<String>,
    /// Send nothing; show the message and what it would touch
    #[arg(long)]
    dry_run: bool,
    /// Send it although the object does not exist
    #[arg(long)]
    force: bool,
    /// The object's ETag; then S3 is not asked for the object
    #[arg(long)]
    etag: Option<String>,
    #[command(flatten)]
    aws: AwsArgs,
}

/// One event, and what it touches.
#[derive(Debug, Serialize)]
struct Event {
    object: String,
    /// None for a dry run.
    message: Option<String>,
    /// `dataset@partition`.
    datasets: Vec<String>,
    tasks: Vec<TaskKey>,
    body: Value,
}

pub async fn send_event(args: &SendEventArgs) -> Result<Output, Failure> {
    let named: Result<Vec<_>, _> = args.objects.iter().map(|uri| named(uri)).collect();
    let named = named?;
    let session = args.aws.open().await?;
    // All are looked up before the first is sent.
    let mut objects = Vec::with_capacity(named.len());
    for (bucket, key) in named {
        objects.push(look_up(args, &session, bucket, key).await?);
    }
    let region = session.aws.region().map_or("us-east-1", |region| region.as_ref());
    let mut events: Vec<_> = objects
        .iter()
        .map(|object| {
            let body = simulate::notification(object, region, session.now());
            event(&session.config.catalog, object, body)
        })
        .collect();
    if !args.dry_run {
        let settings = &session.config.settings;
        let sqs = Sqs::open(&session.aws, &settings.queue, &settings.quarantine).await?;
        for event in &mut events {
            event.message = Some(sqs.send(&event.body.to_string()).await?);
        }
    }
    let text: Vec<_> = events.iter().map(words).collect();
    Output::new(text.join("\n"), &serde_json::json!({ "events": events }))
}

fn named(uri: &str) -> Result<(&str, &str), Failure> {
    split_uri(uri)
        .filter(|(_, key)| !key.is_empty())
        .ok_or_else(|| Failure::Use(format!("{uri:?} names no object: expected s3://BUCKET/KEY")))
}

async fn look_up(
    args: &SendEventArgs,
    session: &Session,
    bucket: &str,
    key: &str,
) -> Result<Object, Failure> {
    let object = |etag: &str, version, bytes| Object {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        etag: etag.to_owned(),
        version,
        bytes,
    };
    if let Some(etag) = &args.etag {
        return Ok(object(etag, None, 0));
    }
    match S3::new(&session.aws).head(bucket, key).await? {
        Some(head) => Ok(object(&head.etag, head.version, head.bytes)),
        None if args.force => Ok(object("00000000000000000000000000000000", None, 0)),
        None => Err(Failure::Failed(format!(
            "s3://{bucket}/{key} does not exist: correct it, or add --force to tell of it all the same"
        ))),
    }
}

fn event(catalog: &Catalog, object: &Object, body: Value) -> Event {
    let mut datasets = Vec::new();
    let mut tasks = BTreeSet::new();
    for (dataset, partition) in catalog.datasets_of(&object.bucket, &object.key) {
        datasets.push(format!("{}@{partition}", dataset.name));
        tasks.extend(catalog.readers_of(&dataset.name, &partition));
    }
    Event {
        object: format!("s3://{}/{}", object.bucket, object.key),
        message: None,
        datasets,
        tasks: tasks.into_iter().collect(),
        body,
    }
}

fn words(event: &Event) -> String {
    let sent = match &event.message {
        Some(id) => format!("sent as message {id}"),
        None => "not sent (dry run)".to_owned(),
    };
    let mut text = format!("{}: {sent}\n", output::plain(&event.object));
    let list = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let tasks: Vec<_> = event.tasks.iter().map(ToString::to_string).collect();
    text.push_str(&format!("  datasets  {}\n", list(&event.datasets)));
    text.push_str(&format!("  tasks     {}\n", list(&tasks)));
    if event.datasets.is_empty() {
        text.push_str("  no dataset's location matches: the service will do nothing about it\n");
    }
    if event.message.is_none() {
        text.push_str(&format!("{:#}\n", event.body));
    }
    text
}
