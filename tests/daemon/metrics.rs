//! The lines that CloudWatch makes metrics of, as a running daemon writes them.

use std::fs::File;
use std::process::Stdio;

use serde_json::Value;
use sluicegate::aws;
use sluicegate_local::Options;
use sluicegate_local::clock::Clock;
use tokio::process::Command;

use crate::world::{World, daily_file, daily_task};

/// The newest line of what the daemon wrote to standard output.
fn newest(written: &std::path::Path) -> Option<Value> {
    let text = std::fs::read_to_string(written).unwrap();
    // One may just be written.
    let text = &text[..text.rfind('\n')?];
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["Deployment"] == "test"), "{text}");
    lines.into_iter().next_back()
}

#[tokio::test]
async fn the_heartbeat_stops_with_the_queue_and_the_outbox_ages_without_the_topic() {
    let clock = Clock::starting_at("2013-01-01T00:00:00Z".parse().unwrap(), 60.0);
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let mut world = World::with(&tasks, Options { clock, ..Options::default() }).await;
    world.taken().await;
    world.kill().await;
    let (config, out) = (world.config_file(), tempfile::NamedTempFile::new().unwrap());
    let _daemon = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["run", "--emf", "--log-format", "json", "--local", world.local.endpoint()])
        .arg("--config")
        .arg(config.path())
        .env("SLUICEGATE_HTTP", "off")
        .stdin(Stdio::null())
        .stdout(File::create(out.path()).unwrap())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let written = out.path();
    let until =
        |what, holds: fn(&Value) -> bool| world.until(what, move || newest(written).filter(holds));
    let line = until("a heartbeat", |line| line["Heartbeat"] == 1).await;
    assert_eq!(line["OutboxAge"], 0.0);
    let about = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(
        (&about["Namespace"], &about["Dimensions"][0][0]),
        (&"sluicegate".into(), &"Deployment".into())
    );
    let from = "2013-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert!(line["_aws"]["Timestamp"].as_i64().unwrap() > from, "{line}");

    let access = aws::connect(&world.access()).await;
    let sns = aws_sdk_sns::Client::new(&access);
    let topic = "arn:aws:sns:us-east-1:000000000000:status";
    sns.delete_topic().topic_arn(topic).send().await.unwrap();
    world.put("a/2013-01-01.csv", "1").await;
    until("a notice that waits", |line| line["OutboxAge"].as_f64() > Some(60.0)).await;
    sns.create_topic().name("status").send().await.unwrap();
    until("an empty outbox", |line| line["OutboxAge"] == 0.0).await;

    let sqs = aws_sdk_sqs::Client::new(&access);
    let url = sqs.get_queue_url().queue_name("inbox").send().await.unwrap();
    sqs.delete_queue().queue_url(url.queue_url().unwrap()).send().await.unwrap();
    until("a heart that stopped", |line| line["Heartbeat"] == 0).await;
    sqs.create_queue().queue_name("inbox").send().await.unwrap();
    until("a heartbeat again", |line| line["Heartbeat"] == 1).await;
}

/// Paid clusters are followed and ended even by a service that starts while nobody
/// can be told of them.
#[tokio::test]
async fn without_its_topic_the_service_starts_only_where_runs_are_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], &script))).await;
    world.taken().await;
    let sns = aws_sdk_sns::Client::new(&aws::connect(&world.access()).await);
    let topic = "arn:aws:sns:us-east-1:000000000000:status";
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/running").await;
    world.kill().await;
    sns.delete_topic().topic_arn(topic).send().await.unwrap();
    world.start().await;
    std::fs::write(go, "").unwrap();
    assert_eq!(world.clusters_ended().await, 1);
    world.stop().await;
    let fresh = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    let sns = aws_sdk_sns::Client::new(&aws::connect(&fresh.access()).await);
    sns.delete_topic().topic_arn(topic).send().await.unwrap();
    let error = fresh.another().await.ended().await.unwrap_err().to_string();
    assert!(error.contains(topic) && error.contains("does not exist"), "{error}");
}
