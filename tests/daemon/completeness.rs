//! When a partition is complete: every rule, from the notification to the run.

use sluicegate::aws;
use sluicegate::aws::store::{DueKey, Store};
use sluicegate::core::task::{Element, Receipt, TaskKey, TaskState};

use crate::commands::{answer, json};
use crate::world::{World, daily_file, daily_task};

/// A daily dataset of many objects with the given rule.
fn many(name: &str, rule: &str) -> String {
    format!(
        "[datasets.{name}]\nlocation = \"s3://landing/{name}/{{yyyy}}/{{MM}}/{{dd}}/*\"\n{rule}\n"
    )
}

#[tokio::test]
async fn a_marker_says_that_all_others_are_there() {
    let tasks = many("m", "complete = \"marker\"") + &daily_task("t", &["m"], "true");
    let world = World::new(&tasks).await;
    for day in ["01", "02"] {
        world.put(&format!("m/2013/01/{day}/part-0"), "1").await;
        world.put(&format!("m/2013/01/{day}/deep/_SUCCESS"), "").await;
    }
    world.put("m/2013/01/02/_SUCCESS", "").await;
    world.mail("t/2013-01-02/succeeded").await;
    assert_eq!(world.mails_about("t/2013-01-01").len(), 0);
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn a_number_of_objects_counts_each_object_once() {
    let tasks = many("m", "complete = \"count\"\nobjects = 3") + &daily_task("t", &["m"], "true");
    let world = World::new(&tasks).await;
    let notification = |key: &str| {
        format!(
            r#"{{"Records": [{{"eventVersion": "2.1", "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put", "s3": {{"bucket": {{"name": "landing"}},
            "object": {{"key": "{key}", "eTag": "e1"}}}}}}]}}"#
        )
    };
    for _ in 0..3 {
        world.send(&notification("m/2013/01/01/a")).await;
    }
    world.send(&notification("m/2013/01/01/b")).await;
    world.taken().await;
    assert_eq!(world.mails_about("t/2013-01-01/ready").len(), 0);
    world.send(&notification("m/2013/01/01/c")).await;
    let mail = world.mail("t/2013-01-01/ready").await;
    assert!(mail.text.contains("m (3 objects)"), "{}", mail.text);
    world.mail("t/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn an_object_written_again_is_not_one_more() {
    let tasks = many("m", "complete = \"count\"\nobjects = 2") + &daily_task("t", &["m"], "true");
    let world = World::new(&tasks).await;
    world.put("m/2013/01/01/a", "1").await;
    world.put("m/2013/01/01/a", "2").await;
    world.taken().await;
    assert_eq!(world.mails_about("t/2013-01-01/ready").len(), 0);
    world.put("m/2013/01/01/b", "1").await;
    world.mail("t/2013-01-01/ready").await;
}

#[tokio::test]
async fn who_counted_before_the_last_object_came_takes_nothing_back() {
    let tasks = many("m", "complete = \"count\"\nobjects = 2") + &daily_task("t", &["m"], "true");
    let world = World::new(&tasks).await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let day = "2013-01-01".parse().unwrap();
    let key = TaskKey::new("elsewhere", day);
    let element = Element::data("m", day);
    let now = "2013-01-01T05:00:00Z".parse().unwrap();
    for (written, stands) in [
        (Receipt::Begun(now), Receipt::Begun(now)),
        (Receipt::Closed(2), Receipt::Closed(2)),
        (Receipt::Begun(now), Receipt::Closed(2)),
        (Receipt::Closed(3), Receipt::Closed(3)),
    ] {
        let item =
            store.receive(&key, &[(element.clone(), written)], None, false, now).await.unwrap();
        assert_eq!(item.received[&element], stands);
    }
}

/// The slot alone gives nothing to look for, and the object alone neither.
#[tokio::test]
async fn a_quiet_period_that_a_slot_waits_for_stands_in_the_index() {
    let task = daily_task("t", &["m"], "true")
        .replace("partition = \"day\"", "partition = \"day\"\nschedule = { cron = \"5 0 * * *\" }");
    let tasks = many("m", "complete = \"quiet\"\nquiet = \"48h\"") + &task;
    let world = World::at(&tasks, "2013-01-01T23:59:00Z", 600.0).await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let key = TaskKey::new("t", "2013-01-01".parse().unwrap());
    let (store, key) = (&store, &key);
    let looked = || async { store.task(key).await.unwrap().filter(|item| item.due.is_none()) };
    let slot = world.until_async("the slot, looked at", looked).await;
    assert!(slot.has(&Element::Slot));
    world.put("m/2013/01/01/a", "1").await;
    world.until_due(|due| *due == [DueKey::Task(key.clone())]).await;
}

#[tokio::test]
async fn a_quiet_period_ends_after_the_last_object() {
    let tasks =
        many("m", "complete = \"quiet\"\nquiet = \"30m\"") + &daily_task("t", &["m"], "true");
    // A minute and a half of this clock is a second.
    let world = World::at(&tasks, "2013-01-01T09:00:00Z", 900.0).await;
    for name in ["a", "b", "c"] {
        world.put(&format!("m/2013/01/01/{name}"), "1").await;
    }
    let mail = world.mail("t/2013-01-01/ready").await;
    assert!(mail.text.contains("m (3 objects)"), "{}", mail.text);
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// So that a retry waits for its end, and not for that of what came before.
#[tokio::test]
async fn a_quiet_period_goes_on_while_its_reader_is_cancelled() {
    let tasks =
        many("m", "complete = \"quiet\"\nquiet = \"30m\"") + &daily_task("t", &["m"], "true");
    let world = World::new(&tasks).await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let key = TaskKey::new("t", "2013-01-01".parse().unwrap());
    let (element, store, key) = (Element::data("m", key.partition), &store, &key);
    world.put("m/2013/01/01/a", "1").await;
    world.taken().await;
    let before = store.task(key).await.unwrap().unwrap().received[&element].clone();
    answer(&world, &["cancel", "t", "2013-01-01", "--by", "alice"]).await;
    world.mail("t/2013-01-01/cancelled").await;
    world.put("m/2013/01/01/b", "1").await;
    world.taken().await;
    let item = store.task(key).await.unwrap().unwrap();
    let (Receipt::Partial(before), Receipt::Partial(last)) = (before, &item.received[&element])
    else {
        panic!("{item:?}")
    };
    assert!(before < *last);
    assert_eq!((item.state, item.late), (TaskState::Cancelled, None));
    let done = json(&world, &["retry", "t", "2013-01-01", "--by", "bob"]).await;
    assert_eq!(done["state"], "waiting");
}

#[tokio::test]
async fn a_quiet_period_survives_a_crash() {
    let tasks =
        many("m", "complete = \"quiet\"\nquiet = \"2h\"") + &daily_task("t", &["m"], "true");
    let mut world = World::at(&tasks, "2013-01-01T09:00:00Z", 1800.0).await;
    world.put("m/2013/01/01/a", "1").await;
    world.until("the arrival", || (world.calls("dynamodb", "UpdateItem") >= 1).then_some(())).await;
    world.kill().await;
    world.start().await;
    world.mail("t/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn any_input_is_enough_when_the_task_says_so() {
    let task = daily_task("t", &["a", "b"], "echo {input.a} {input.b}");
    let task = task.replace("partition = \"day\"", "partition = \"day\"\nneed = \"any\"");
    let world = World::new(&(daily_file("a") + &daily_file("b") + &task)).await;
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn a_task_runs_with_what_is_there_when_its_time_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!("echo [{{input.a}}] [{{input.b}}] > {}", log.display());
    let task = daily_task("t", &["a", "b"], &script).replace(
        "partition = \"day\"",
        "partition = \"day\"\nwait-timeout = \"3h\"\non-timeout = \"run\"",
    );
    let tasks = daily_file("a") + &daily_file("b") + &task;
    let world = World::at(&tasks, "2013-01-01T14:00:00Z", 3600.0).await;
    world.put("a/2013-01-01.csv", "1").await;
    let mail = world.mail("t/2013-01-01/ready").await;
    assert!(mail.subject.ends_with("is ready: without b 2013-01-01"), "{}", mail.text);
    world.mail("t/2013-01-01/succeeded").await;
    let told = std::fs::read_to_string(log).unwrap();
    assert_eq!(told.trim(), "[s3://landing/a/2013-01-01.csv] []");
}

/// An input that was empty when its time was up: each of its objects is late data, not
/// only the first.
/// A retry waits for the end of a period that begins while its reader is cancelled.
#[tokio::test]
async fn a_quiet_period_begins_while_its_reader_is_cancelled() {
    let tasks = daily_file("a")
        + &many("m", "complete = \"quiet\"\nquiet = \"30m\"")
        + &daily_task("t", &["a", "m"], "true");
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.taken().await;
    answer(&world, &["cancel", "t", "2013-01-01", "--by", "alice"]).await;
    world.mail("t/2013-01-01/cancelled").await;
    world.put("m/2013/01/01/first", "1").await;
    world.taken().await;
    let done = json(&world, &["retry", "t", "2013-01-01", "--by", "bob"]).await;
    assert_eq!(done["state"], "waiting");
}

#[tokio::test]
async fn what_it_ran_without_makes_it_run_again_when_it_comes() {
    goes_without_and_runs_again(&[]).await;
}

#[tokio::test]
async fn what_had_begun_when_it_ran_without_it_makes_it_run_again_too() {
    goes_without_and_runs_again(&["early"]).await;
}

/// `early`: objects of the quiet input that come in time, without its end.
async fn goes_without_and_runs_again(early: &[&str]) {
    let task = daily_task("t", &["a", "m"], "true").replace(
        "partition = \"day\"",
        "partition = \"day\"\nwait-timeout = \"3h\"\non-timeout = \"run\"\n\
         late-data = { run-again = \"960h\", back-off = \"2h\" }",
    );
    let rule = "complete = \"quiet\"\nquiet = \"24h\"";
    let tasks = daily_file("a") + &many("m", rule) + &task;
    let world = World::at(&tasks, "2013-01-01T14:00:00Z", 3600.0).await;
    for object in early {
        world.put(&format!("m/2013/01/01/{object}"), "1").await;
    }
    world.put("a/2013-01-01.csv", "1").await;
    let mail = world.mail("t/2013-01-01/ready").await;
    assert!(mail.subject.ends_with("is ready: without m 2013-01-01"), "{}", mail.text);
    world.mail("t/2013-01-01/succeeded").await;
    for (object, round) in [("first", 2), ("second", 3)] {
        world.put(&format!("m/2013/01/01/{object}"), "1").await;
        world.mail(&format!("t/2013-01-01/succeeded/{round}")).await;
        let inputs = json(&world, &["inputs", "t", "2013-01-01"]).await;
        let inputs = inputs["inputs"].as_array().unwrap();
        let of_m = inputs.iter().find(|input| input["dataset"] == "m").unwrap();
        let count = of_m["objects"].as_array().unwrap().len();
        assert_eq!(count, early.len() + round - 1, "{of_m}");
    }
}

#[tokio::test]
async fn a_partition_of_which_nothing_ever_came_fails_in_time() {
    let task = daily_task("t", &["a"], "true")
        .replace("partition = \"day\"", "partition = \"day\"\nwait-timeout = \"3h\"");
    let world = World::at(&(daily_file("a") + &task), "2013-01-01T14:00:00Z", 3600.0).await;
    let mail = world.mail("t/2013-01-01/failed").await;
    let words = "not everything came within 3h after the end of 2013-01-01: missing a 2013-01-01";
    assert!(mail.text.contains(words), "{}", mail.text);
    assert_eq!(world.clusters_ended().await, 0);
}

/// An expression of DynamoDB holds 4 KB: it has no room for 768 receipts at once.
#[tokio::test]
async fn a_month_of_closed_hours_is_closed_together() {
    let hours = "[datasets.m]\nlocation = \"s3://landing/m/{yyyy}/{MM}/{dd}/{HH}/*\"\n\
        complete = \"closed\"\nsettle = \"0s\"\n";
    let task = daily_task("t", &["m"], "true")
        .replace("dataset = \"m\"", "dataset = \"m\", from = \"-744h\", to = \"24h\"");
    let world = World::at(&format!("{hours}{task}"), "2013-01-02T00:10:00Z", 1.0).await;
    world.put("m/2013/01/01/05/a", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.mails_about("t/2013-01-02").len(), 0);
}
