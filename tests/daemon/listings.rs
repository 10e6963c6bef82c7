//! Objects whose notification never came: found by listings, before an hour is
//! closed and every so often. And what came late, and what a run took.

use sluicegate::aws;
use sluicegate::aws::store::Store;
use sluicegate::core::task::TaskKey;

use crate::commands::{answer, json};
use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

/// A Firehose-like dataset, and a task for each hour of it.
fn hourly() -> String {
    let task = daily_task("t", &["m"], "true").replace(
        "partition = \"day\"",
        "partition = \"hour\"\nwhen-empty = \"skip\"\nschedule = { cron = \"5 * * * *\" }",
    );
    "[datasets.m]\nlocation = \"s3://landing/m/{yyyy}/{MM}/{dd}/{HH}/*\"\n\
        complete = \"closed\"\nsettle = \"20m\"\n"
        .to_owned()
        + &task
}

/// Waits until the daemon knows a task: what is written from then on is for it.
async fn until_seen(world: &World, task: &str) {
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    let text = |value: &str| aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned());
    let seen = || async {
        let get = dynamodb.get_item().table_name("test-task").consistent_read(true);
        let get = get.key("task", text(task)).key("partition", text("~first-seen"));
        get.send().await.unwrap().item
    };
    world.until_async("a task that is known", seen).await;
}

#[tokio::test]
async fn an_hour_without_notifications_is_not_closed_as_empty() {
    // Twenty minutes of this clock are a second.
    let world = World::at(&hourly(), "2013-01-01T05:30:00Z", 1200.0).await;
    world.notify(false).await;
    for name in ["s-1", "s%2B2", "caf%C3%A9%20%26"] {
        world.put(&format!("m/2013/01/01/05/{name}"), "1").await;
    }
    let mail = world.mail("t/2013-01-01T05/ready").await;
    assert!(mail.text.contains("m (3 objects)"), "{}", mail.text);
    world.mail("t/2013-01-01T05/succeeded").await;
    let warning = world.mail("listing/").await;
    let subject = "[test] 3 objects came without a notification: m";
    assert_eq!(warning.subject, subject);
    assert!(warning.text.contains("3 of m, such as s3://landing/m/2013/01/01/05/"));
    assert_eq!(world.daemon().metric("sluicegate_found_by_list_total{dataset=\"m\"}").await, 3.0);
    // What came once the hour was closed and run is late, and told once an hour.
    world.notify(true).await;
    world.put("m/2013/01/01/05/late-1", "1").await;
    let first = world.mail("t/2013-01-01T05/late-data/1").await;
    assert_eq!(first.subject, "[test] t 2013-01-01T05 has late data: 1 of m");
    for name in ["late-2", "late-3", "late-1"] {
        world.put(&format!("m/2013/01/01/05/{name}"), "1").await;
    }
    world.mail("t/2013-01-01T05/late-data/3").await;
    assert_eq!(world.mails_about("t/2013-01-01T05/late-data").len(), 2);
    // The run keeps what it took.
    let inputs = json(&world, &["inputs", "t", "2013-01-01T05"]).await;
    let objects = inputs["inputs"][0]["objects"].as_array().unwrap();
    let names: Vec<_> = objects.iter().map(|object| object["object"].as_str().unwrap()).collect();
    let place = "s3://landing/m/2013/01/01/05/";
    assert_eq!(names, ["caf\u{e9} &", "s+2", "s-1"].map(|name| format!("{place}{name}")));
    assert!(objects.iter().all(|object| object["listed"] == true && object["bytes"] == 1));
}

#[tokio::test]
async fn an_hour_that_cannot_be_listed_waits_and_says_why() {
    let mut world = World::at(&hourly(), "2013-01-01T05:30:00Z", 1200.0).await;
    world.notify(false).await;
    world.put("m/2013/01/01/05/s-1", "1").await;
    let network = Network::to(world.local.cloud()).await;
    // A service that may not from its start on would not start.
    network.order("ListObjectsV2", Fault::Unavailable, usize::MAX);
    world.through(&network).await;
    network.order("ListObjectsV2", Fault::Denied, usize::MAX);
    let mail = world.mail("listing/landing/").await;
    assert!(
        mail.subject.starts_with("[test] S3 cannot be listed: AccessDenied"),
        "{}",
        mail.subject
    );
    assert!(mail.text.contains("s3:ListBucket"), "{}", mail.text);
    let refused = || async {
        let sentence = answer(&world, &["why", "t", "2013-01-01T05"]).await;
        sentence.contains("before its objects can be listed (listing").then_some(sentence)
    };
    let sentence = world.until_async("the reason", refused).await;
    assert!(sentence.contains("failed with AccessDenied: of a test"), "{sentence}");
    world.kill().await;
    network.order("ListObjectsV2", Fault::Unavailable, usize::MAX);
    world.start().await;
    world.until_ready().await;
    let tries = network.met("ListObjectsV2");
    world.until("more tries", || (network.met("ListObjectsV2") > tries).then_some(())).await;
    assert!(world.mails_about("t/2013-01-01T05").is_empty());
    network.lift();
    let mail = world.mail("t/2013-01-01T05/ready").await;
    assert!(mail.text.contains("m (1 object)"), "{}", mail.text);
    world.mail("t/2013-01-01T05/succeeded").await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let key = TaskKey::new("t", "2013-01-01T05".parse().unwrap());
    assert_eq!(store.task(&key).await.unwrap().unwrap().unlisted, None);
}

/// Its receiver finds no count yet that it could correct.
#[tokio::test]
async fn what_comes_while_an_hour_is_listed_for_its_close_is_counted() {
    let mut world = World::at(&hourly(), "2013-01-01T05:30:00Z", 1200.0).await;
    world.taken().await;
    world.configure_engine("list-interval = \"off\"");
    let network = Network::to(world.local.cloud()).await;
    network.order("ListObjectsV2", Fault::AnswerHeld, usize::MAX);
    world.through(&network).await;
    world.put("m/2013/01/01/05/s-1", "1").await;
    let asked = || (network.met("ListObjectsV2") > 0).then_some(());
    world.until("a listing", asked).await;
    world.put("m/2013/01/01/05/s-2", "1").await;
    world.taken().await;
    network.lift();
    let mail = world.mail("t/2013-01-01T05/ready").await;
    assert!(mail.text.contains("m (2 objects)"), "{}", mail.text);
}

#[tokio::test]
async fn objects_that_nobody_told_of_are_found_and_the_past_is_not_made_up() {
    let counted = "[datasets.c]\nlocation = \"s3://landing/c/{yyyy}/{MM}/{dd}/*\"\n\
        complete = \"count\"\nobjects = 3\n";
    let tasks = daily_file("a") + counted + &daily_task("t", &["a", "c"], "true");
    let mut world = World::at(&tasks, "2013-01-01T09:00:00Z", 600.0).await;
    until_seen(&world, "t").await;
    world.stop().await;
    world.notify(false).await;
    // Written before its task was known: nobody was there to be told.
    world.put("p/2013-01-01.csv", "1").await;
    world.configure(&(tasks + &daily_file("p") + &daily_task("new", &["p"], "true")));
    world.configure_engine("list-interval = \"5m\"");
    world.start().await;
    until_seen(&world, "new").await;
    world.put("a/2013-01-01.csv", "1").await;
    world.notify(true).await;
    world.put("c/2013/01/01/1", "1").await;
    world.taken().await;
    world.notify(false).await;
    world.put("c/2013/01/01/2", "1").await;
    world.kill().await;
    world.start().await;
    world.put("c/2013/01/01/3", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    let warnings = || {
        let found: Vec<_> =
            world.mails_about("listing/").iter().map(|mail| mail.text.clone()).collect();
        found.join("\n").contains(" of a, such as s3://landing/a/2013-01-01.csv").then_some(())
    };
    world.until("the warning", warnings).await;
    assert!(world.mails_about("new/").is_empty());
    assert!(world.daemon().metric("sluicegate_list_calls_total").await > 0.0);
    let words = answer(&world, &["inputs", "t", "2013-01-01"]).await;
    assert!(words.contains("\na 2013-01-01 (object:"), "{words}");
    assert!(words.contains("\n  s3://landing/a/2013-01-01.csv  "), "{words}");
    assert!(
        words.contains(
            "s3://landing/c/2013/01/01/3  c4ca4238a0b923820dcc509a6f75849b  1 byte  listed"
        ),
        "{words}"
    );
}

#[tokio::test]
async fn an_object_written_again_after_the_run_is_late_and_told_once() {
    let ignoring = daily_task("u", &["a"], "true")
        .replace("partition = \"day\"", "partition = \"day\"\nlate-data = \"ignore\"");
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true") + &ignoring;
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    for task in ["t", "u"] {
        world.mail(&format!("{task}/2013-01-01/succeeded")).await;
    }
    // The same again, then another one.
    world.put("a/2013-01-01.csv", "1").await;
    world.taken().await;
    world.put("a/2013-01-01.csv", "2").await;
    let mail = world.mail("t/2013-01-01/late-data/1").await;
    assert_eq!(mail.subject, "[test] t 2013-01-01 has late data: 1 of a");
    assert_eq!(mail.attributes["severity"], "lateness");
    world.put("a/2013-01-01.csv", "3").await;
    world.taken().await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let recorded = |task: &'static str| {
        let store = &store;
        async move {
            let key = TaskKey::new(task, "2013-01-01".parse().unwrap());
            let item = store.task(&key).await.unwrap().unwrap();
            let receipt = item.received.values().next().unwrap().to_string();
            (receipt == "object:eccbc87e4b5ce2fe28308fd9f2a7baf3").then_some(())
        }
    };
    for task in ["t", "u"] {
        world.until_async("the newest version", || recorded(task)).await;
    }
    assert_eq!(world.mails_about("/late-data/").len(), 1);
    let inputs = json(&world, &["inputs", "t", "2013-01-01"]).await;
    let version = &inputs["inputs"][0]["objects"][0]["version"];
    assert_eq!(version, "c4ca4238a0b923820dcc509a6f75849b", "what the run took");
}

#[tokio::test]
async fn a_run_knows_what_lay_beside_a_marker() {
    let marked =
        "[datasets.m]\nlocation = \"s3://landing/m/{yyyy}/{MM}/{dd}/*\"\ncomplete = \"marker\"\n";
    let world = World::new(&(marked.to_owned() + &daily_task("t", &["m"], "true"))).await;
    for name in ["part-0", "part-1", "_SUCCESS"] {
        world.put(&format!("m/2013/01/01/{name}"), "1").await;
    }
    world.mail("t/2013-01-01/succeeded").await;
    let inputs = json(&world, &["inputs", "t", "2013-01-01"]).await;
    let objects = inputs["inputs"][0]["objects"].as_array().unwrap();
    let names: Vec<_> = objects.iter().map(|object| object["object"].as_str().unwrap()).collect();
    let place = "s3://landing/m/2013/01/01/";
    assert_eq!(names, ["_SUCCESS", "part-0", "part-1"].map(|name| format!("{place}{name}")));
}

#[tokio::test]
async fn an_hour_runs_again_for_what_came_late() {
    let again = "partition = \"hour\"\nlate-data = { run-again = \"24h\", back-off = \"30m\" }";
    let tasks = hourly().replace("partition = \"hour\"", again);
    let world = World::at(&tasks, "2013-01-01T05:30:00Z", 600.0).await;
    world.put("m/2013/01/01/05/first", "1").await;
    world.mail("t/2013-01-01T05/succeeded").await;
    world.put("m/2013/01/01/05/late-1", "1").await;
    let mail = world.mail("t/2013-01-01T05/late-data/1").await;
    assert!(mail.text.contains("it runs again at "), "{}", mail.text);
    let mail = world.mail("t/2013-01-01T05/ready/2").await;
    let said = "t 2013-01-01T05 is ready again: 1 object came after its inputs were taken";
    assert!(mail.text.contains(said), "{}", mail.text);
    world.mail("t/2013-01-01T05/succeeded/2").await;
    let inputs = json(&world, &["inputs", "t", "2013-01-01T05"]).await;
    assert_eq!(inputs["inputs"][0]["objects"].as_array().unwrap().len(), 2);
    // The next time is in an hour of its clock, and once more data has come.
    world.put("m/2013/01/01/05/late-2", "1").await;
    world.mail("t/2013-01-01T05/succeeded/3").await;
    assert!(world.mails_about("t/2013-01-01T05/ready/4").is_empty());
}
