//! Cron slots and closed hours, on a clock that runs faster.

use sluicegate::aws;
use sluicegate::aws::store::{Mark, Store};
use sluicegate::core::partition::Partition;
use sluicegate::core::task::{Element, TaskKey};

use crate::commands::answer;
use crate::world::{BUCKET, World};

/// Minute 5 of every hour, for the previous hour, closed after 10 minutes.
fn hourly(when_empty: &str) -> String {
    format!(
        r#"
[datasets.raw]
location = "s3://{BUCKET}/raw/{{yyyy}}/{{MM}}/{{dd}}/{{HH}}/*"
complete = "closed"
settle = "10m"

[tasks.etl]
profile = "p"
partition = "hour"
schedule = {{ cron = "5 * * * *" }}
when-empty = "{when_empty}"
inputs = [{{ dataset = "raw" }}]
[[tasks.etl.steps]]
name = "work"
kind = "command"
args = ["bash", "-c", "ls {{input.raw}}; true"]
"#
    )
}

/// Ten minutes a second.
const FACTOR: f64 = 600.0;

#[tokio::test]
async fn a_closed_hour_runs_once_with_what_came_late() {
    let world = World::at(&hourly("skip"), "2013-01-01T05:30:00Z", FACTOR).await;
    for object in 0..25 {
        world.put(&format!("raw/2013/01/01/05/{object:03}.gz"), "x").await;
    }
    // Past minute 5, before the hour is closed.
    let clock = world.local.cloud().time().clock();
    clock.sleep_until("2013-01-01T06:06:00Z".parse().unwrap()).await;
    world.put("raw/2013/01/01/05/late.gz", "x").await;
    let mail = world.mail("etl/2013-01-01T05/ready").await;
    assert!(mail.text.contains("raw (26 objects)"), "{}", mail.text);
    world.mail("etl/2013-01-01T05/succeeded").await;
    assert_eq!(world.mails_about("etl/2013-01-01T05/running").len(), 1);
}

#[tokio::test]
async fn an_hour_without_data_does_what_the_task_says() {
    for (when_empty, event) in [("skip", "skipped"), ("fail", "failed"), ("run", "succeeded")] {
        let world = World::at(&hourly(when_empty), "2013-01-01T05:55:00Z", FACTOR).await;
        world.mail(&format!("etl/2013-01-01T05/{event}")).await;
    }
}

#[tokio::test]
async fn slots_missed_while_the_daemon_was_down_are_made_up() {
    let mut world = World::at(&hourly("skip"), "2013-01-01T05:30:00Z", FACTOR).await;
    world.mail("etl/2013-01-01T05/skipped").await;
    world.stop().await;
    let clock = world.local.cloud().time().clock();
    clock.sleep_until("2013-01-01T09:30:00Z".parse().unwrap()).await;
    world.start().await;
    for hour in 6..=8 {
        world.mail(&format!("etl/2013-01-01T{hour:02}/skipped")).await;
    }
    for hour in 5..=8 {
        assert_eq!(world.mails_about(&format!("etl/2013-01-01T{hour:02}/skipped")).len(), 1);
    }
}

/// A daemon that was away from 05:30 to 09:58: which hours get their slots, with the
/// next one, at 10:05.
async fn made_up(catch_up: &str) -> Vec<String> {
    let policy = format!("\"5 * * * *\", catch-up = \"{catch_up}\" }}");
    let tasks = hourly("skip").replace("\"5 * * * *\" }", &policy);
    // A minute of it is a second: what comes now is far from being missed.
    let mut world = World::at(&tasks, "2013-01-01T09:58:00Z", 60.0).await;
    let store = &Store::new(&aws::connect(&world.access()).await, "test-");
    let mark = || async { store.mark("etl").await.unwrap() };
    let begun = world.until_async("the schedule's mark", mark).await;
    world.stop().await;
    let left = Mark::at("2013-01-01T05:30:00Z".parse().unwrap());
    store.fire("etl", Some(&begun), &left, &[]).await.unwrap();
    world.start().await;
    let slot = |hour: u32| async move {
        let partition: Partition = format!("2013-01-01T{hour:02}").parse().unwrap();
        let item = store.task(&TaskKey::new("etl", partition)).await.unwrap()?;
        item.has(&Element::Slot).then(|| partition.to_string())
    };
    world.until_async("the next slot", || slot(9)).await;
    let mut found = Vec::new();
    for hour in 4..10 {
        found.extend(slot(hour).await);
    }
    found
}

#[tokio::test]
async fn only_the_newest_of_the_missed_slots_is_made_up_where_the_schedule_says_so() {
    assert_eq!(made_up("last").await, ["2013-01-01T08", "2013-01-01T09"]);
}

#[tokio::test]
async fn missed_slots_are_passed_over_where_the_schedule_says_so() {
    assert_eq!(made_up("none").await, ["2013-01-01T09"]);
}

#[tokio::test]
async fn the_newest_of_the_missed_slots_goes_first_where_the_schedule_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let work = format!("\"ls {{input.raw}}; echo {{partition}} >> {}\"", log.display());
    let tasks = hourly("run").replace("\"ls {input.raw}; true\"", &work).replace(
        "{ cron = \"5 * * * *\" }",
        "{ cron = \"5 * * * *\", catch-up = \"newest-first\" }\nmax-active = 1",
    );
    let mut world = World::at(&tasks, "2013-01-01T09:58:00Z", 60.0).await;
    let store = &Store::new(&aws::connect(&world.access()).await, "test-");
    let mark = || async { store.mark("etl").await.unwrap() };
    let begun = world.until_async("the schedule's mark", mark).await;
    // While they wait for each other none is the only one.
    answer(&world, &["pause", "etl", "--by", "me"]).await;
    world.stop().await;
    let left = Mark::at("2013-01-01T05:30:00Z".parse().unwrap());
    store.fire("etl", Some(&begun), &left, &[]).await.unwrap();
    world.start().await;
    for hour in 5..=8 {
        world.mail(&format!("etl/2013-01-01T{hour:02}/ready")).await;
    }
    answer(&world, &["resume", "etl", "--by", "me"]).await;
    for hour in 5..=8 {
        world.mail(&format!("etl/2013-01-01T{hour:02}/succeeded")).await;
    }
    let log = std::fs::read_to_string(log).unwrap();
    // The slot at 10:05 comes when it comes.
    let made_up: Vec<_> = log.lines().filter(|hour| *hour < "2013-01-01T09").collect();
    let expected = [8, 7, 6, 5].map(|hour| format!("2013-01-01T0{hour}"));
    assert_eq!(made_up, expected);
}
