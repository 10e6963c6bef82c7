//! Bugs in reading notifications: what was not read, not kept, or taken for
//! something seen before.

use aws_sdk_dynamodb::Client as DynamoDb;
use sluicegate::aws;
use sluicegate::aws::store::Store;
use sluicegate_local::Options;
use sluicegate_local::clock::Clock;

use super::quick;
use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

const ALWAYS: usize = usize::MAX;

/// A record of S3's own notification.
fn record(key: &str, etag: &str) -> String {
    format!(
        r#"{{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "s3": {{"bucket": {{"name": "landing"}}, "object": {{"key": "{key}", "eTag": "{etag}"}}}}}}"#
    )
}

fn notification(records: &[String]) -> String {
    format!(r#"{{"Records": [{}]}}"#, records.join(","))
}

/// What EventBridge sends of an object.
fn bridged(key: &str) -> String {
    format!(
        r#"{{"version": "0", "detail-type": "Object Created", "source": "aws.s3",
        "detail": {{"version": "0", "bucket": {{"name": "landing"}},
        "object": {{"key": "{key}", "size": 1, "etag": "e1"}}, "reason": "PutObject"}}}}"#
    )
}

fn day(number: u32) -> String {
    format!("a/2013-01-{number:02}.csv")
}

/// Task `t` on the daily file `a`.
fn one_task() -> String {
    daily_file("a") + &daily_task("t", &["a"], "true")
}

/// A world whose daemon reaches AWS over a network that may fail; messages that
/// are not deleted come again after a second.
async fn over_a_network(tasks: &str) -> (World, Network) {
    let mut world = World::with(tasks, quick()).await;
    let network = Network::to(world.local.cloud()).await;
    world.reconfigure("visibility-timeout = \"5s\"", "visibility-timeout = \"1s\"");
    world.through(&network).await;
    (world, network)
}

async fn met(world: &World, network: &Network, action: &str, times: usize) {
    let what = format!("{times} failed calls of {action}");
    world.until(&what, || (network.met(action) >= times).then_some(())).await;
}

/// Vector's S3 source: events that come through EventBridge are not read.
#[tokio::test]
async fn vector_does_not_read_the_shape_of_eventbridge() {
    let world = World::with(&one_task(), quick()).await;
    world.send(&bridged(&day(1))).await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.queued("quarantine").await, 0);
}

/// Vector's S3 source: the first record that cannot be read aborts its message.
#[tokio::test]
async fn vector_lets_an_unreadable_record_abort_its_message() {
    let world = World::with(&one_task(), quick()).await;
    let unreadable = "{\"eventVersion\": \"9.0\"}".to_owned();
    let records =
        [unreadable, record(&day(1), "e"), record("a/%FF.csv", "e"), record(&day(2), "e")];
    world.send(&notification(&records)).await;
    world.mail("t/2013-01-01/succeeded").await;
    world.mail("t/2013-01-02/succeeded").await;
    world.taken().await;
    assert_eq!(world.queued("quarantine").await, 1);
}

/// Vector's S3 source: the first record that cannot be handled aborts its
/// message.
#[tokio::test]
async fn vector_lets_a_failing_record_abort_its_message() {
    let (world, network) = over_a_network(&one_task()).await;
    network.order("UpdateItem", Fault::Refused, 1);
    let records = [1, 2, 3].map(|number| record(&day(number), "e"));
    world.send(&notification(&records)).await;
    let others = || (world.mails_about("/succeeded").len() == 2).then_some(());
    world.until("the success of the two others", others).await;
    world.taken().await;
    assert_eq!(network.met("UpdateItem"), 1);
    assert_eq!(world.queued("quarantine").await, 1);
}

/// Vector #21657: a shutdown drops what is under way.
#[tokio::test]
async fn vector_21657_a_shutdown_drops_work_in_flight() {
    let (mut world, network) = over_a_network(&one_task()).await;
    // Nothing comes again in time.
    world.reconfigure("visibility-timeout = \"1s\"", "visibility-timeout = \"12h\"");
    world.through(&network).await;
    network.order("UpdateItem", Fault::RequestHeld, ALWAYS);
    world.put(&day(1), "1").await;
    met(&world, &network, "UpdateItem", 1).await;
    // The stop comes first, while the write is still on its way.
    tokio::join!(biased; world.stop(), async { network.lift() });
    assert_eq!(world.queued("inbox").await, 0, "done, and deleted before the end");
    world.start().await;
    world.mail("t/2013-01-01/succeeded").await;
}

/// Vector #19711: a message is deleted although its effect could not be stored.
#[tokio::test]
async fn vector_19711_a_message_is_deleted_although_the_store_failed() {
    let (world, network) = over_a_network(&one_task()).await;
    network.order("UpdateItem", Fault::Unavailable, ALWAYS);
    world.put(&day(1), "1").await;
    // The SDK tries three times; more means that the message came again.
    met(&world, &network, "UpdateItem", 4).await;
    assert_eq!(world.queued("inbox").await, 1);
    assert_eq!(world.mails_about("t/2013-01-01").len(), 0);
    network.lift();
    world.mail("t/2013-01-01/succeeded").await;
    world.taken().await;
    assert_eq!(world.queued("quarantine").await, 0);
    assert_eq!(world.mails_about("t/2013-01-01/ready").len(), 1);
}

/// The same with a table that is not there for a while.
#[tokio::test]
async fn vector_19711_a_message_is_deleted_although_the_table_is_gone() {
    let (world, _network) = over_a_network(&one_task()).await;
    // Once it works, the daemon has seen at its start that the table is there.
    world.put(&day(2), "1").await;
    world.mail("run-succeeded").await;
    world.until_due(|due| due.is_empty()).await;
    world.taken().await;
    let before = world.calls("dynamodb", "UpdateItem");
    let aws = aws::connect(&world.access()).await;
    DynamoDb::new(&aws).delete_table().table_name("test-task").send().await.unwrap();
    world.put(&day(1), "1").await;
    let refused = || (world.calls("dynamodb", "UpdateItem") >= before + 2).then_some(());
    world.until("two deliveries of the message", refused).await;
    assert_eq!(world.queued("inbox").await, 1);
    Store::new(&aws, "test-").create_tables().await.unwrap();
    world.mail("t/2013-01-01/succeeded").await;
    world.taken().await;
    assert_eq!(world.queued("quarantine").await, 0);
}

/// Vector #19711, at the other end: what could not be sent on is dropped.
#[tokio::test]
async fn vector_19711_a_notice_is_dropped_although_it_was_not_accepted() {
    let clock = Clock::starting_at("2013-01-02T00:00:00Z".parse().unwrap(), 120.0);
    let mut world = World::with(&one_task(), Options { clock, ..quick() }).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    for action in ["Publish", "PublishBatch"] {
        network.order(action, Fault::Unavailable, ALWAYS);
    }
    world.put(&day(1), "1").await;
    let failed = || (network.met("Publish") + network.met("PublishBatch") >= 4).then_some(());
    world.until("failed calls of SNS", failed).await;
    assert_eq!(world.mails_about("t/2013-01-01").len(), 0);
    network.lift();
    for state in ["ready", "running", "succeeded"] {
        world.mail(&format!("t/2013-01-01/{state}")).await;
    }
}

/// Quickwit #5148: of a message only the first record is read.
#[tokio::test]
async fn quickwit_reads_the_first_record_only() {
    let world = World::with(&one_task(), quick()).await;
    let records = [1, 2, 3].map(|number| record(&day(number), "e"));
    world.send(&notification(&records)).await;
    for number in 1..=3 {
        world.mail(&format!("t/2013-01-{number:02}/succeeded")).await;
    }
}

/// Quickwit #5148: keys are taken as they are encoded, so that an object whose
/// key has a space is not found.
#[tokio::test]
async fn quickwit_does_not_decode_a_plus() {
    let odd = "[datasets.odd]\nlocation = \"s3://landing/an odd name/{yyyy}-{MM}-{dd}.csv\"\n";
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let script = format!("echo \"$1\" > {}", told.display());
    let task = daily_task("t", &["odd"], &script);
    let task = task.replace("''']", "''', \"work\", \"{input.odd}\"]");
    let tasks = odd.to_owned() + &task;
    let world = World::with(&tasks, quick()).await;
    // As S3 itself encodes it.
    world.send(&notification(&[record("an+odd+name/2013-01-01.csv", "e")])).await;
    world.mail("t/2013-01-01/succeeded").await;
    let input = std::fs::read_to_string(&told).unwrap();
    assert_eq!(input.trim(), "s3://landing/an odd name/2013-01-01.csv");
    // A plus itself is another key, and EventBridge does not encode.
    world.send(&notification(&[record("an%2Bodd%2Bname/2013-01-02.csv", "e")])).await;
    world.send(&bridged("an+odd+name/2013-01-03.csv")).await;
    world.send(&bridged("an odd name/2013-01-04.csv")).await;
    world.mail("t/2013-01-04/succeeded").await;
    world.taken().await;
    for foreign in ["2013-01-02", "2013-01-03"] {
        assert_eq!(world.mails_about(foreign).len(), 0);
    }
}

/// Quickwit #5148: known by its URI alone, an object that was overwritten is
/// not seen again.
#[tokio::test]
async fn quickwit_does_not_see_an_overwrite() {
    let many = "[datasets.m]\nlocation = \"s3://landing/m/{yyyy}/{MM}/{dd}/*\"\n\
                complete = \"quiet\"\nquiet = \"1h\"\n";
    let tasks = many.to_owned() + &daily_task("t", &["m"], "true");
    let clock = Clock::starting_at("2013-01-01T09:00:00Z".parse().unwrap(), 1800.0);
    let world = World::with(&tasks, Options { clock, ..quick() }).await;
    // Twice the same, as SQS may deliver it, then another object of that name.
    let first = notification(&[record("m/2013/01/01/part-0", "e1")]);
    world.send(&first).await;
    world.send(&first).await;
    world.send(&notification(&[record("m/2013/01/01/part-0", "e2")])).await;
    let mail = world.mail("t/2013-01-01/ready").await;
    assert!(mail.text.contains("m (2 objects)"), "{}", mail.text);
}
