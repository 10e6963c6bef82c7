//! Items that a newer version of the daemon has written: they are left alone,
//! and what was meant for them waits until they can be read again.

use std::collections::HashMap;
use std::fs;

use aws_sdk_dynamodb::types::AttributeValue::{self, N, S};
use sluicegate::aws;
use sluicegate::aws::store::{DueKey, Store};

use crate::world::{BUCKET, World, daily_file, daily_task, requests_file};

type Item = HashMap<String, AttributeValue>;

async fn tables(world: &World) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await)
}

fn key(task: &str, partition: &str) -> Item {
    let text = |value: &str| S(value.to_owned());
    HashMap::from([("task".into(), text(task)), ("partition".into(), text(partition))])
}

/// A task partition as a version would write it that is not made yet.
async fn write_newer(world: &World, task: &str, partition: &str) -> Item {
    let mut item = key(task, partition);
    for (name, value) in [
        ("format", N("99".into())),
        ("version", N("7".into())),
        ("state", S("waiting".into())),
        ("secret", S("of the future".into())),
    ] {
        item.insert(name.into(), value);
    }
    write(world, &item).await;
    item
}

async fn write(world: &World, item: &Item) {
    let put = tables(world).await.put_item().table_name("test-task");
    put.set_item(Some(item.clone())).send().await.unwrap();
}

async fn read(world: &World, task: &str, partition: &str) -> Item {
    let get = tables(world).await.get_item().table_name("test-task");
    let answer = get.set_key(Some(key(task, partition))).consistent_read(true).send().await;
    answer.unwrap().item.unwrap()
}

async fn remove(world: &World, task: &str, partition: &str) {
    let delete = tables(world).await.delete_item().table_name("test-task");
    delete.set_key(Some(key(task, partition))).send().await.unwrap();
}

/// Waits until so many writes of the daemon to an item were refused.
async fn refused(world: &World, task: &str, partition: &str, times: usize) {
    let check = || {
        let log = fs::read_to_string(requests_file(None)).unwrap();
        let writes = log.lines().filter(|line| {
            // The last line may be half written.
            let line = serde_json::from_str(line).unwrap_or(serde_json::Value::Null);
            let body = line["body"].as_str().unwrap_or_default();
            let named = [task, partition].iter().all(|name| body.contains(&format!("{name:?}")));
            let written = line["action"] == "UpdateItem" || line["action"] == "TransactWriteItems";
            named && written && line["outcome"] != "ok"
        });
        (writes.count() >= times).then_some(())
    };
    world.until(&format!("{times} refused writes to {task} {partition}"), check).await;
}

#[tokio::test]
async fn an_arrival_for_a_newer_item_waits_in_the_queue() {
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    world.taken().await;
    world.stop().await;
    world.reconfigure("visibility-timeout = \"5s\"", "visibility-timeout = \"1s\"");
    world.start().await;
    let newer = write_newer(&world, "t", "2013-01-01").await;
    world.put("a/2013-01-01.csv", "1").await;
    world.put("a/2013-01-02.csv", "1").await;
    world.mail("t/2013-01-02/succeeded").await;
    refused(&world, "t", "2013-01-01", 2).await;
    world.mail("item/t/2013-01-01").await;
    assert_eq!(world.mails_about("item/t/2013-01-01").len(), 1);
    assert_eq!(read(&world, "t", "2013-01-01").await, newer);
    assert_eq!(world.queued("inbox").await, 1);
    assert_eq!(world.queued("quarantine").await, 0);
    remove(&world, "t", "2013-01-01").await;
    world.mail("t/2013-01-01/succeeded").await;
    world.taken().await;
}

#[tokio::test]
async fn an_output_for_a_newer_item_is_told_later_and_to_others_at_once() {
    let produced =
        format!("[datasets.made]\nlocation = \"s3://{BUCKET}/made/{{yyyy}}/{{MM}}/{{dd}}/\"\n");
    let maker =
        daily_task("maker", &["a"], "true").replace("[[tasks", "outputs = [\"made\"]\n[[tasks");
    let readers = ["old", "new"].map(|name| daily_task(name, &["made"], "true")).concat();
    let world = World::new(&(daily_file("a") + &produced + &maker + &readers)).await;
    let newer = write_newer(&world, "new", "2013-01-01").await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("maker/2013-01-01/succeeded").await;
    world.mail("old/2013-01-01/succeeded").await;
    refused(&world, "new", "2013-01-01", 2).await;
    assert_eq!(read(&world, "new", "2013-01-01").await, newer);
    remove(&world, "new", "2013-01-01").await;
    world.mail("new/2013-01-01/succeeded").await;
    world.until_due(<[_]>::is_empty).await;
    assert_eq!(world.mails_about("maker/2013-01-01/succeeded").len(), 1);
}

/// Two objects a day.
const COUNTED: &str = "[datasets.c]\nlocation = \"s3://landing/c/{yyyy}/{MM}/{dd}/*\"\n\
    complete = \"count\"\nobjects = 2\n";

/// One that DynamoDB cannot count up a version of.
async fn write_damaged(world: &World, task: &str, partition: &str) -> Item {
    let mut item = key(task, partition);
    item.extend([("format".into(), N("1".into())), ("version".into(), S("broken".into()))]);
    write(world, &item).await;
    item
}

#[tokio::test]
async fn an_output_for_an_item_that_cannot_be_written_is_told_to_others_at_once() {
    let produced =
        format!("[datasets.made]\nlocation = \"s3://{BUCKET}/made/{{yyyy}}/{{MM}}/{{dd}}/\"\n");
    let maker =
        daily_task("maker", &["a"], "true").replace("[[tasks", "outputs = [\"made\"]\n[[tasks");
    let readers = ["broken", "other"].map(|name| daily_task(name, &["made"], "true")).concat();
    let world = World::new(&(daily_file("a") + &produced + &maker + &readers)).await;
    let damaged = write_damaged(&world, "broken", "2013-01-01").await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("other/2013-01-01/succeeded").await;
    world.mail("maker/2013-01-01/succeeded").await;
    world.mail("item/broken/2013-01-01").await;
    assert_eq!(read(&world, "broken", "2013-01-01").await, damaged);
}

#[tokio::test]
async fn an_output_for_an_item_that_cannot_be_read_is_told_when_it_is_mended() {
    let produced =
        format!("[datasets.made]\nlocation = \"s3://{BUCKET}/made/{{yyyy}}/{{MM}}/{{dd}}/\"\n");
    let maker =
        daily_task("maker", &["a"], "true").replace("[[tasks", "outputs = [\"made\"]\n[[tasks");
    let tasks = daily_file("a") + &daily_file("b") + &produced + &maker;
    let world = World::new(&(tasks + &daily_task("reader", &["made", "b"], "true"))).await;
    world.put("b/2013-01-01.csv", "1").await;
    world.taken().await;
    let whole = read(&world, "reader", "2013-01-01").await;
    let mut damaged = whole.clone();
    damaged.insert("state".into(), S("broken".into()));
    write(&world, &damaged).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("maker/2013-01-01/succeeded").await;
    world.mail("item/reader/2013-01-01").await;
    assert_eq!(read(&world, "reader", "2013-01-01").await, damaged);
    write(&world, &whole).await;
    world.mail("reader/2013-01-01/succeeded").await;
    assert_eq!(world.mails_about("item/reader/2013-01-01").len(), 1);
}

#[tokio::test]
async fn many_objects_for_an_item_that_cannot_be_written_are_kept_and_told_of_once() {
    let readers = ["a", "b"].map(|name| daily_task(name, &["c"], "true")).concat();
    let world = World::new(&(COUNTED.to_owned() + &readers)).await;
    let damaged = write_damaged(&world, "a", "2013-01-01").await;
    for number in 1..=3 {
        world.put(&format!("c/2013/01/01/{number}"), "1").await;
    }
    world.mail("b/2013-01-01/succeeded").await;
    world.taken().await;
    assert_eq!(world.queued("quarantine").await, 3);
    assert_eq!(read(&world, "a", "2013-01-01").await, damaged);
    assert_eq!(world.mails_about("item/a/2013-01-01").len(), 1);
    assert_eq!(world.mails_about("message/").len(), 0);
}

#[tokio::test]
async fn a_damaged_item_of_one_task_keeps_no_other_from_being_listed() {
    let tasks =
        daily_file("x") + &daily_task("a", &["x"], "true") + &daily_task("t", &["x"], "true");
    let mut world = World::at(&tasks, "2013-01-01T09:00:00Z", 600.0).await;
    world.taken().await;
    world.stop().await;
    world.configure_engine("list-interval = \"5m\"");
    let mut damaged = key("a", "~first-seen");
    damaged.insert("since".into(), AttributeValue::Bool(true));
    write(&world, &damaged).await;
    world.start().await;
    world.notify(false).await;
    world.put("x/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    world.mail("item/a/~first-seen").await;
}

#[tokio::test]
async fn a_newer_item_keeps_no_counted_input_from_other_readers() {
    let readers = ["a", "b"].map(|name| daily_task(name, &["c"], "true")).concat();
    let world = World::new(&(COUNTED.to_owned() + &readers)).await;
    let newer = write_newer(&world, "a", "2013-01-01").await;
    for number in 1..=2 {
        world.put(&format!("c/2013/01/01/{number}"), "1").await;
    }
    world.mail("b/2013-01-01/succeeded").await;
    assert_eq!(read(&world, "a", "2013-01-01").await, newer);
}

#[tokio::test]
async fn listings_go_on_beside_an_item_that_cannot_be_read() {
    let tasks = daily_task("a", &["c"], "true") + &daily_task("t", &["x"], "true");
    let tasks = COUNTED.to_owned() + &daily_file("x") + &tasks;
    let mut world = World::at(&tasks, "2013-01-01T09:00:00Z", 600.0).await;
    world.taken().await;
    world.stop().await;
    world.configure_engine("list-interval = \"5m\"");
    let mut damaged = key("a", "2013-01-01");
    damaged.insert("state".into(), N("1".into()));
    damaged.insert("version".into(), N("1".into()));
    write(&world, &damaged).await;
    world.start().await;
    for number in 1..=2 {
        world.put(&format!("c/2013/01/01/{number}"), "1").await;
    }
    let listed = || async {
        let calls = world.daemon().metric("sluicegate_list_calls_total").await;
        (calls > 0.0).then_some(())
    };
    world.until_async("a listing", listed).await;
    world.notify(false).await;
    world.put("x/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(read(&world, "a", "2013-01-01").await["state"], N("1".into()));
}

#[tokio::test]
async fn a_slot_for_an_item_that_cannot_be_written_is_owed_to_it_and_keeps_no_other_waiting() {
    let task = "[tasks.t]\nprofile = \"p\"\npartition = \"hour\"\nschedule = { cron = \"5 * * * *\" }\n\
        [[tasks.t.steps]]\nname = \"work\"\nkind = \"command\"\nargs = [\"true\"]\n";
    // Ten minutes a second.
    let world = World::at(task, "2013-01-01T05:38:00Z", 600.0).await;
    let newer = write_newer(&world, "t", "2013-01-01T05").await;
    let damaged = write_damaged(&world, "t", "2013-01-01T06").await;
    let left = [("2013-01-01T05", newer), ("2013-01-01T06", damaged)];
    world.mail("t/2013-01-01T07/succeeded").await;
    world.mail("t/2013-01-01T08/succeeded").await;
    for (partition, item) in left {
        assert_eq!(read(&world, "t", partition).await, item);
        assert_eq!(world.mails_about(&format!("item/t/{partition}")).len(), 1);
        remove(&world, "t", partition).await;
        world.mail(&format!("t/{partition}/succeeded")).await;
    }
    let store = &Store::new(&aws::connect(&world.access()).await, "test-");
    let paid = || async {
        let mark = store.mark("t").await.unwrap();
        mark.filter(|mark| mark.owed.is_empty())
    };
    world.until_async("that nothing is owed", paid).await;
}

/// While a run of two partitions runs, the first one's item becomes such that it
/// cannot be read: the run and the other one end, and it stays as it is.
async fn an_item_of_a_run_becomes(damage: impl Fn(&mut Item)) {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], &script))).await;
    world.stop().await;
    world.reconfigure("[profiles.p]\n", "[profiles.p]\nbatch-size = 2\nmax-wait = \"1h\"\n");
    world.start().await;
    for day in ["01", "02"] {
        world.put(&format!("a/2013-01-{day}.csv"), "1").await;
    }
    for day in ["01", "02"] {
        world.mail(&format!("t/2013-01-{day}/running")).await;
    }
    world.until_due(|due| due.iter().all(|key| matches!(key, DueKey::Run(_)))).await;
    let whole = read(&world, "t", "2013-01-01").await;
    let mut item = whole.clone();
    damage(&mut item);
    write(&world, &item).await;
    fs::write(go, "").unwrap();
    world.mail("t/2013-01-02/succeeded").await;
    world.mail("run-succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    world.mail("item/t/2013-01-01").await;
    assert_eq!(read(&world, "t", "2013-01-01").await, item);
    // Its end is owed to it until it can be read.
    write(&world, &whole).await;
    world.mail("t/2013-01-01/succeeded").await;
    world.until_due(<[_]>::is_empty).await;
    assert_eq!(world.mails_about("t/2013-01-01/succeeded").len(), 1);
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn a_run_ends_beside_an_item_that_is_damaged() {
    an_item_of_a_run_becomes(|item| drop(item.insert("state".into(), S("broken".into())))).await;
}

#[tokio::test]
async fn a_run_ends_beside_an_item_that_cannot_be_written() {
    an_item_of_a_run_becomes(|item| drop(item.insert("version".into(), S("broken".into())))).await;
}

#[tokio::test]
async fn a_run_ends_beside_an_item_that_became_newer() {
    an_item_of_a_run_becomes(|item| drop(item.insert("format".into(), N("99".into())))).await;
}
