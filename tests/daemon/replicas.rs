//! Several replicas on one queue and its tables: which of them polls EMR, and
//! that nothing depends on it. Not for what happens when they are killed at
//! any moment: that is `chaos`.

use std::fs;
use std::path::Path;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::SignedDuration;
use sluicegate::aws;
use sluicegate::aws::store::{Store, StoreError};

use crate::world::{Daemon, World, daily_file, daily_task};

const HELD: &str = "sluicegate_lease_held";

async fn until_metric(world: &World, daemon: &Daemon, series: &str, value: f64) {
    let check = || async { (daemon.metric(series).await == value).then_some(()) };
    world.until_async(&format!("{series} {value}"), check).await;
}

/// How often a daemon has asked EMR for something, with success.
async fn emr_calls(daemon: &Daemon, action: &str) -> f64 {
    let labels = format!("service=\"elasticmapreduce\",action=\"{action}\",outcome=\"ok\"");
    daemon.metric(&format!("sluicegate_aws_calls_total{{{labels}}}")).await
}

/// A daily task whose step waits for the file `go`.
fn waiting_task(folder: &Path) -> String {
    let path = folder.display();
    let script = format!("echo ran >> {path}/log; until test -e {path}/go; do sleep 0.05; done");
    // Whoever ends a cluster here wants another one.
    let attempts = "[profiles.p.attempts]\nexternal = { max = 2 }\n";
    format!("{attempts}{}{}", daily_file("a"), daily_task("t", &["a"], &script))
}

#[tokio::test]
async fn only_the_replica_with_the_lease_polls() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(&waiting_task(folder.path())).await;
    world.stop().await;
    // A busy machine must not make the lease lapse.
    world.reconfigure("sweep-interval = \"1s\"", "sweep-interval = \"4s\"");
    world.start().await;
    until_metric(&world, world.daemon(), HELD, 1.0).await;
    let other = world.another().await;
    // A run older than a process is looked at by it once.
    until_metric(&world, &other, HELD, 0.0).await;
    world.put("a/2013-01-01.csv", "1").await;
    // The other one finds the run by its sweeps.
    let other_runs = "sluicegate_runs{profile=\"p\",state=\"running\"}";
    until_metric(&world, &other, other_runs, 1.0).await;
    // Three polls of the holder; one replica alone makes as many calls.
    let polls = || async {
        let holder = world.daemon();
        let looks = emr_calls(holder, "ListClusters").await
            + emr_calls(holder, "DescribeCluster").await
            + emr_calls(holder, "ListSteps").await;
        (looks >= 4.0).then_some(())
    };
    world.until_async("polls", polls).await;
    fs::write(folder.path().join("go"), "").unwrap();
    world.mail("run-succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(other.metric(HELD).await, 0.0);
    for action in ["ListClusters", "DescribeCluster", "ListSteps"] {
        assert_eq!(emr_calls(&other, action).await, 0.0, "{action}");
    }
    assert!(other.is_running());
}

#[tokio::test]
async fn a_run_ends_although_the_replica_that_polls_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(&waiting_task(folder.path())).await;
    until_metric(&world, world.daemon(), HELD, 1.0).await;
    let other = world.another().await;
    world.put("a/2013-01-01.csv", "1").await;
    let log = folder.path().join("log");
    world.until("the step's start", || log.exists().then_some(())).await;
    assert_eq!(other.metric(HELD).await, 0.0);
    world.kill().await;
    fs::write(folder.path().join("go"), "").unwrap();
    world.mail("run-succeeded").await;
    assert_eq!(other.metric(HELD).await, 1.0);
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 1);
}

/// A killed process may have had the lease, and its successor must not wait for
/// its end: here that lasts longer than the test.
#[tokio::test]
async fn a_start_looks_at_what_it_finds_whoever_has_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(&waiting_task(folder.path())).await;
    world.put("a/2013-01-01.csv", "1").await;
    let log = folder.path().join("log");
    world.until("the step's start", || log.exists().then_some(())).await;
    world.stop().await;
    world.reconfigure("sweep-interval = \"1s\"", "sweep-interval = \"30s\"");
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let (now, term) = (jiff::Timestamp::now(), SignedDuration::from_secs(90));
    store.take_poll_lease("gone", now, term).await.unwrap();
    world.terminate_all().await;
    world.clusters_ended().await;
    world.start().await;
    world.mail("/attempt-lost").await;
    assert_eq!(world.daemon().metric(HELD).await, 0.0);
    fs::write(folder.path().join("go"), "").unwrap();
}

#[tokio::test]
async fn a_stop_hands_the_lease_over_and_a_kill_lets_it_lapse() {
    let mut world = World::new("").await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let now = jiff::Timestamp::now();
    // As long as no lapse happens in this test.
    let term = SignedDuration::from_hours(1);
    until_metric(&world, world.daemon(), HELD, 1.0).await;
    world.stop().await;
    store.take_poll_lease("a", now, term).await.unwrap();

    let at = |mins| now + SignedDuration::from_mins(mins);
    let refused = |result| matches!(result, Err(StoreError::Conflict(_)));
    assert!(refused(store.take_poll_lease("b", at(1), term).await));
    store.take_poll_lease("a", at(30), term).await.unwrap();
    assert!(refused(store.take_poll_lease("b", at(89), term).await), "it was renewed");
    store.take_poll_lease("b", at(90), term).await.unwrap();
    assert!(refused(store.take_poll_lease("a", at(91), term).await), "it was taken over");
    // Whoever has lost it releases nothing.
    store.release_poll_lease("a").await.unwrap();
    assert!(refused(store.take_poll_lease("a", at(91), term).await));
    store.release_poll_lease("b").await.unwrap();
    store.take_poll_lease("a", at(91), term).await.unwrap();
    // A clock that was wrong by years keeps nobody out for years.
    store.take_poll_lease("a", at(9_000_000), term).await.unwrap();
    store.take_poll_lease("b", at(92), term).await.unwrap();
    // Nor does an end that is none.
    let tables = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let damage = tables.put_item().table_name("test-task");
    let damage = damage.item("task", text("~lease")).item("partition", text("poll"));
    damage.item("holder", text("b")).item("until", text("later")).send().await.unwrap();
    store.take_poll_lease("a", at(93), term).await.unwrap();
    assert!(refused(store.take_poll_lease("b", at(94), term).await));
}
