//! From a notification to a run: what counts, what does not, what is kept.

use aws_sdk_dynamodb::types::AttributeValue;
use sluicegate::aws;

use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

#[tokio::test]
async fn three_files_in_any_order_make_one_run_and_its_mails() {
    let files = ["a", "b", "c"].map(daily_file).concat();
    let task = daily_task("join", &["a", "b", "c"], "echo {input.a}");
    let world = World::new(&(files + &task)).await;
    for name in ["c", "a", "b", "a"] {
        world.put(&format!("{name}/2013-01-01.csv"), "1").await;
    }
    let mail = world.mail("join/2013-01-01/succeeded").await;
    assert_eq!(mail.subject, "[test] join 2013-01-01 succeeded");
    world.mail("run-succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.mails_about("join/2013-01-01/ready").len(), 1);
}

#[tokio::test]
async fn one_file_serves_several_tasks() {
    let tasks = daily_file("a")
        + &daily_task("first", &["a"], "true")
        + &daily_task("second", &["a"], "true");
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("first/2013-01-01/succeeded").await;
    world.mail("second/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn arrivals_cost_one_write_each_and_no_read() {
    let tasks = daily_file("a") + &daily_file("b") + &daily_task("join", &["a", "b"], "true");
    let world = World::new(&tasks).await;
    for day in 1..=20 {
        world.put(&format!("a/2013-01-{day:02}.csv"), "1").await;
    }
    world
        .until("twenty messages deleted", || {
            (world.calls("dynamodb", "UpdateItem") == 20).then_some(())
        })
        .await;
    // The start's own: what the tables keep.
    assert_eq!(world.calls("dynamodb", "GetItem"), 1);
    assert_eq!(world.calls("dynamodb", "TransactWriteItems"), 0);
}

#[tokio::test]
async fn a_partition_that_somebody_removes_while_it_waits_begins_anew() {
    let tasks = daily_file("a") + &daily_file("b") + &daily_task("join", &["a", "b"], "true");
    let world = World::new(&tasks).await;
    let put = async |name: &str, writes: u64| {
        world.put(&format!("{name}/2013-01-01.csv"), "1").await;
        let written = || (world.calls("dynamodb", "UpdateItem") >= writes).then_some(());
        world.until("the arrival", written).await;
    };
    put("a", 1).await;
    world.taken().await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    dynamodb
        .delete_item()
        .table_name("test-task")
        .key("task", AttributeValue::S("join".into()))
        .key("partition", AttributeValue::S("2013-01-01".into()))
        .send()
        .await
        .unwrap();
    // The daemon remembers that it stored it, so this takes a second write.
    put("b", 3).await;
    assert!(world.mails_about("join/2013-01-01/ready").is_empty());
    put("a", 4).await;
    world.mail("join/2013-01-01/succeeded").await;
}

/// Each of two receivers completes the same ten partitions in the same moment.
#[tokio::test]
async fn who_is_second_to_decide_does_not_leave_its_message_behind() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let mut world = World::new(&tasks).await;
    world.taken().await;
    world.stop().await;
    for _ in 0..2 {
        for day in 1..=10 {
            world.put(&format!("a/2013-01-{day:02}.csv"), "1").await;
        }
    }
    world.start().await;
    // A message that is left behind comes again after two minutes.
    world.taken().await;
    let ready = || (world.mails_about("/ready").len() == 10).then_some(());
    world.until("ten partitions ready", ready).await;
}

#[tokio::test]
async fn what_cannot_be_read_goes_to_quarantine_and_stops_nothing() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let world = World::new(&tasks).await;
    world.send("{\"half\": ").await;
    world.send("{\"Records\": [{\"eventVersion\": \"9.0\"}]}").await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    world.until("two alerts", || (world.mails_about("message/").len() == 2).then_some(())).await;
    assert_eq!(world.queued("quarantine").await, 2);
    for alert in world.mails_about("message/") {
        let expected = "[test] a message could not be read: ";
        assert!(alert.subject.starts_with(expected), "{}", alert.subject);
        assert!(alert.text.contains("/quarantine\n"), "{}", alert.text);
    }
}

#[tokio::test]
async fn a_message_that_the_quarantine_does_not_take_comes_again_and_is_told_once() {
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("SendMessage", Fault::Refused, 2);
    world.send("{\"half\": ").await;
    let kept = async || (world.queued("quarantine").await == 1).then_some(());
    world.until_async("the message in quarantine", kept).await;
    assert_eq!(network.met("SendMessage"), 2);
    assert_eq!(world.mails_about("message/").len(), 1);
}

#[tokio::test]
async fn foreign_objects_are_no_arrivals() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let world = World::new(&tasks).await;
    world.put("somewhere/else.txt", "1").await;
    world.put("a/2013-02-30.csv", "1").await;
    world.put("A/2013-01-01.csv", "1").await;
    world.put("a/2013-01-02.csv", "1").await;
    world.mail("t/2013-01-02/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.mails_about("2013-01-01").len(), 0);
    assert_eq!(world.queued("quarantine").await, 0);
}

#[tokio::test]
async fn a_stopped_daemon_leaves_messages_to_the_next() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let mut world = World::new(&tasks).await;
    world.stop().await;
    world.put("a/2013-01-01.csv", "1").await;
    assert!(world.queued("inbox").await >= 1);
    world.start().await;
    world.mail("t/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn a_partition_that_a_new_configuration_completes_runs_after_the_restart() {
    let files = daily_file("a") + &daily_file("b");
    let task = daily_task("t", &["a", "b"], "true");
    let mut world = World::new(&(files.clone() + &task)).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.until("the arrival", || (world.calls("dynamodb", "UpdateItem") == 1).then_some(())).await;
    world.stop().await;
    world.configure(&(files + &daily_task("t", &["a"], "true")));
    world.start().await;
    world.mail("t/2013-01-01/succeeded").await;
}

/// A notification of S3's own with these (encoded) keys.
fn notification(keys: &[String]) -> String {
    let records: Vec<_> = keys
        .iter()
        .map(|key| {
            format!(
                r#"{{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                "s3": {{"bucket": {{"name": "landing"}}, "object": {{"key": "{key}", "eTag": "e"}}}}}}"#
            )
        })
        .collect();
    format!(r#"{{"Records": [{}]}}"#, records.join(","))
}

#[tokio::test]
async fn keys_of_every_kind_are_arrivals() {
    let dataset = "[datasets.odd]\nlocation = \"s3://landing/odd/{yyyy}-{MM}-{dd}/*\"\n\
                   complete = \"count\"\nobjects = 8\n";
    let world = World::new(&(dataset.to_owned() + &daily_task("t", &["odd"], "true"))).await;
    let longest = "x".repeat(1024 - "odd/2013-01-01/".len());
    let keys =
        ["a+b", "a%2Bb", "100%25", "what%3F%23", "nul%00", "%E2%82%AC+caf%C3%A9", "%F0%9F%9A%B0"]
            .map(str::to_owned)
            .into_iter()
            .chain([longest]);
    let keys: Vec<_> = keys.map(|key| format!("odd/2013-01-01/{key}")).collect();
    world.send(&notification(&keys)).await;
    let mail = world.mail("t/2013-01-01/succeeded").await;
    assert!(mail.subject.contains("t 2013-01-01 succeeded"));
    assert_eq!(world.queued("quarantine").await, 0);
}

#[tokio::test]
async fn a_message_of_a_thousand_records_counts_each() {
    let files = daily_file("a");
    let mut world =
        World::new(&(files + &daily_task("t", &["a", "b"], "true") + &daily_file("b"))).await;
    world.until_ready().await;
    world.stop().await;
    // It is not to come again before all of it is recorded.
    world.reconfigure("visibility-timeout = \"5s\"", "visibility-timeout = \"10m\"");
    world.start().await;
    let day = |number: usize| {
        format!(
            "a/{:04}-{:02}-{:02}.csv",
            2000 + number / 300,
            1 + number / 25 % 12,
            1 + number % 25
        )
    };
    let mut keys: Vec<_> = (0..999).map(day).collect();
    keys.push("a/%FF.csv".to_owned());
    world.send(&notification(&keys)).await;
    world.until("the alert", || (world.mails_about("message/").len() == 1).then_some(())).await;
    let is_done = || async { (world.queued("inbox").await == 0).then_some(()) };
    world.until_async("the end of the message", is_done).await;
    assert_eq!(world.calls("dynamodb", "UpdateItem"), 999);
    assert_eq!(world.queued("quarantine").await, 1);
}

#[tokio::test]
async fn the_last_days_of_time_are_days_like_others() {
    let world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    // Beyond what can be named, and beyond what exists.
    world.put("a/9999-12-31.csv", "1").await;
    world.put("a/2013-02-30.csv", "1").await;
    world.put("a/9999-12-30.csv", "1").await;
    world.mail("t/9999-12-30/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.queued("quarantine").await, 0);
}

#[tokio::test]
async fn a_stop_gives_back_what_it_has_received() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let mut world = World::new(&tasks).await;
    world.stop().await;
    // Nothing that is kept hidden comes again in time.
    world.reconfigure("visibility-timeout = \"5s\"", "visibility-timeout = \"12h\"");
    world.configure_engine("receivers = 4");
    for day in 1..=5 {
        world.start().await;
        let key = format!("a/2013-01-{day:02}.csv");
        // The stop meets long polls that this answers, or is about to.
        world.put(&key, "1").await;
        world.stop().await;
    }
    world.start().await;
    for day in 1..=5 {
        world.mail(&format!("t/2013-01-{day:02}/succeeded")).await;
    }
}
