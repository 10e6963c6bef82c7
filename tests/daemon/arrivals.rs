//! From a notification to a run: what counts, what does not, what is kept.

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
    assert_eq!(world.calls("dynamodb", "GetItem"), 0);
    assert_eq!(world.calls("dynamodb", "TransactWriteItems"), 0);
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
    world.start();
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
    world.start();
    world.mail("t/2013-01-01/succeeded").await;
}
