//! Bugs in judging data: what was not all there was taken for complete.

use sluicegate_local::Options;
use sluicegate_local::clock::Clock;

use super::quick;
use crate::world::{World, daily_file, daily_task};

/// Lets everything sent so far be handled: what is put last is ready last.
async fn settled(world: &World, day: u32) {
    world.put(&format!("sentinel/2013-02-{day:02}.csv"), "1").await;
    world.mail(&format!("sentinel/2013-02-{day:02}/ready")).await;
    world.taken().await;
}

fn with_sentinel(tasks: String) -> String {
    tasks + &daily_file("sentinel") + &daily_task("sentinel", &["sentinel"], "true")
}

/// dagster #34094: a day of which a part was delivered is consumed.
#[tokio::test]
async fn dagster_34094_a_window_with_a_gap_is_consumed() {
    let window = "{ dataset = \"a\", from = \"-48h\", to = \"24h\" }";
    let task = daily_task("t", &["a"], "echo {input.a}").replace("{ dataset = \"a\" }", window);
    let mut world = World::with(&with_sentinel(daily_file("a") + &task), quick()).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.put("a/2013-01-03.csv", "1").await;
    settled(&world, 1).await;
    assert_eq!(world.mails_about("t/").len(), 0);
    world.kill().await;
    world.start().await;
    settled(&world, 2).await;
    assert_eq!(world.mails_about("t/").len(), 0);
    world.put("a/2013-01-02.csv", "1").await;
    world.mail("t/2013-01-03/succeeded").await;
    // Of the windows around it none is whole.
    assert_eq!(world.mails_about("/ready").len(), 3, "of t and of the sentinel's two days");
}

/// dagster #34094: fewer objects than a day must have are consumed.
#[tokio::test]
async fn dagster_34094_a_count_not_reached_is_consumed() {
    let dataset = "[datasets.m]\nlocation = \"s3://landing/m/{yyyy}/{MM}/{dd}/*\"\n\
                   complete = \"count\"\nobjects = 3\n";
    let tasks = with_sentinel(dataset.to_owned() + &daily_task("t", &["m"], "true"));
    let mut world = World::with(&tasks, quick()).await;
    world.put("m/2013/01/01/a", "1").await;
    world.put("m/2013/01/01/b", "1").await;
    settled(&world, 1).await;
    world.kill().await;
    world.start().await;
    settled(&world, 2).await;
    assert_eq!(world.mails_about("t/").len(), 0);
    world.put("m/2013/01/01/c", "1").await;
    let mail = world.mail("t/2013-01-01/ready").await;
    assert!(mail.text.contains("m (3 objects)"), "{}", mail.text);
    world.mail("t/2013-01-01/succeeded").await;
}

/// dagster #34094: an hour is consumed before it is over, or before what came
/// late in it has settled.
#[tokio::test]
async fn dagster_34094_an_hour_that_is_not_over_is_consumed() {
    let dataset = "[datasets.m]\nlocation = \"s3://landing/m/{yyyy}/{MM}/{dd}/{HH}/*\"\n\
                   complete = \"closed\"\nsettle = \"20m\"\n";
    let task =
        daily_task("t", &["m"], "true").replace("partition = \"day\"", "partition = \"hour\"");
    let clock = Clock::starting_at("2013-01-01T05:30:00Z".parse().unwrap(), 1200.0);
    let options = Options { clock, ..quick() };
    let mut world = World::with(&(dataset.to_owned() + &task), options).await;
    let clock = *world.local.cloud().time().clock();
    world.put("m/2013/01/01/05/a", "1").await;
    world.taken().await;
    world.kill().await;
    world.start().await;
    for (time, object) in [("05:50", "b"), ("06:08", "c")] {
        clock.sleep_until(format!("2013-01-01T{time}:00Z").parse().unwrap()).await;
        assert_eq!(world.mails_about("t/").len(), 0, "at {time}");
        world.put(&format!("m/2013/01/01/05/{object}"), "1").await;
    }
    let mail = world.mail("t/2013-01-01T05/ready").await;
    assert!(mail.text.contains("m (3 objects)"), "{}", mail.text);
    assert!(clock.now() >= "2013-01-01T06:20:00Z".parse().unwrap());
    world.mail("t/2013-01-01T05/succeeded").await;
    assert_eq!(world.mails_about("t/2013-01-01T05/ready").len(), 1);
}
