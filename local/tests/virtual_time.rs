//! The cloud on virtual time, without a socket: what a simulator relies on.

mod common;

use std::time::Duration;

use common::{cloud_with, queue, sqs};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sluicegate_local::clock::Clock;
use sluicegate_local::cloud::Cloud;
use sluicegate_local::time::Time;
use tokio::time::Instant;

/// A cloud whose time is the runtime's, which stands still unless all wait.
fn virtual_cloud(data: &std::path::Path) -> Cloud {
    let origin: Timestamp = "2013-01-01T00:00:00Z".parse().unwrap();
    let clock = Clock { start: origin, anchor: origin, factor: 1.0 };
    let started = Instant::now();
    let now = move || origin + SignedDuration::try_from(started.elapsed()).unwrap();
    cloud_with(data, Time::with_source(clock, now))
}

#[tokio::test(start_paused = true)]
async fn queues_follow_virtual_time() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = virtual_cloud(dir.path());
    let (url, _) = queue(&cloud, "q").await;
    let started = Instant::now();
    let receive = |wait: u32| {
        sqs(&cloud, "ReceiveMessage", json!({ "QueueUrl": url, "WaitTimeSeconds": wait }))
    };
    assert_eq!(receive(20).await, json!({}));
    assert_eq!(started.elapsed(), Duration::from_secs(20));

    let delayed = json!({ "QueueUrl": url, "MessageBody": "late", "DelaySeconds": 7 });
    sqs(&cloud, "SendMessage", delayed).await;
    assert_eq!(receive(20).await["Messages"][0]["Body"], "late");
    assert_eq!(started.elapsed(), Duration::from_secs(27));

    // Not deleted, it comes again after the visibility of 30 s.
    assert_eq!(receive(20).await, json!({}));
    assert_eq!(receive(20).await["Messages"][0]["Body"], "late");
    assert_eq!(started.elapsed(), Duration::from_secs(57));
}

#[tokio::test(start_paused = true)]
async fn a_poll_wakes_at_the_very_instant_of_a_send() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = virtual_cloud(dir.path());
    let (url, _) = queue(&cloud, "q").await;
    let started = Instant::now();
    let poll = sqs(&cloud, "ReceiveMessage", json!({ "QueueUrl": url, "WaitTimeSeconds": 20 }));
    let send = async {
        tokio::time::advance(Duration::from_secs(3)).await;
        sqs(&cloud, "SendMessage", json!({ "QueueUrl": url, "MessageBody": "m" })).await;
    };
    let (received, ()) = tokio::join!(poll, send);
    assert_eq!(received["Messages"][0]["Body"], "m");
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_identifiers() {
    let mut answers = Vec::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let cloud = virtual_cloud(dir.path());
        let (url, _) = queue(&cloud, "q").await;
        sqs(&cloud, "SendMessage", json!({ "QueueUrl": url, "MessageBody": "m" })).await;
        answers.push(sqs(&cloud, "ReceiveMessage", json!({ "QueueUrl": url })).await);
    }
    assert!(answers[0]["Messages"][0]["MessageId"].is_string());
    assert_eq!(answers[0], answers[1]);
}
