//! What a person is told of a failure: at once its reason, and the end of the
//! step's log when EMR has written it, whatever happens in between.

use std::time::{Duration, Instant};

use sluicegate::aws::store::DueKey;
use sluicegate_local::clock::Clock;
use sluicegate_local::{Options, emr};

use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

/// The daemon looks for logs once a minute: here once a second.
fn minutes_are_seconds(log_delay: Duration) -> Options {
    Options {
        clock: Clock::starting_at("2013-01-01T05:00:00Z".parse().unwrap(), 60.0),
        emr: emr::Options { log_delay, ..emr::Options::default() },
        ..Options::default()
    }
}

/// A step whose log has more lines than are told.
const FAILING: &str = "for i in $(seq 30); do echo line $i >&2; done; echo oh no >&2; exit 3";

#[tokio::test]
async fn a_failure_is_told_at_once_and_its_log_when_it_comes_each_once() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], FAILING);
    let mut world = World::with(&tasks, minutes_are_seconds(Duration::from_secs(8))).await;
    world.put("a/2013-01-01.csv", "1").await;
    let failure = world.mail("t/2013-01-01/failed").await;
    assert_eq!(failure.subject, "[test] t 2013-01-01 FAILED: step work failed: oh no");
    assert!(failure.text.contains("sluicegate why t 2013-01-01"), "{}", failure.text);
    let ready = world.mails_about("t/2013-01-01/ready").remove(0);
    assert!(ready.text.contains("waiting since: 2013-01-01 05:"), "{}", ready.text);
    assert!(failure.text.contains("running since: 2013-01-01 05:"), "{}", failure.text);
    assert_eq!(world.mails_about("step-log").len(), 0, "EMR has not written it yet");
    // What is marked as published is not published again.
    world.until_due(|due| matches!(due, [DueKey::Run(_)])).await;
    world.kill().await;
    world.start().await;
    let log = world.mail("step-log").await;
    assert_eq!(log.subject, "[test] log of t 2013-01-01, step work");
    assert_eq!(
        (log.attributes["severity"].as_str(), log.attributes["kind"].as_str()),
        ("failure", "step")
    );
    assert!(log.text.contains("    line 30\n    oh no\n"), "{}", log.text);
    assert!(!log.text.contains("line 11\n") && log.text.contains("line 12\n"), "{}", log.text);
    world.until_due(<[DueKey]>::is_empty).await;
    assert_eq!(world.mails_about("t/2013-01-01/failed").len(), 1);
    assert_eq!(world.mails_about("step-log").len(), 1);
    assert!(world.calls("s3", "ListObjectsV2") < 30, "it looks once a minute");
}

#[tokio::test]
async fn a_log_that_never_comes_holds_nothing_up_and_is_given_up() {
    let profile = "[profiles.elsewhere]\nlifetime = \"168h\"\nguard = false\nrelease-label = \"emr-7.13.0\"\n\
        service-role = \"s\"\ninstance-profile = \"i\"\nlog-uri = \"s3://nowhere/logs\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
    let tasks =
        daily_task("t", &["a"], FAILING).replace("profile = \"p\"", "profile = \"elsewhere\"");
    let world = World::with(
        &(profile.to_owned() + &daily_file("a") + &tasks),
        minutes_are_seconds(Duration::ZERO),
    )
    .await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/failed").await;
    world.mail("run-failed").await;
    assert_eq!(world.clusters_ended().await, 1);
    // Twenty minutes after the cluster's end.
    world.until_due(<[DueKey]>::is_empty).await;
    assert_eq!(world.mails_about("step-log").len(), 0);
}

#[tokio::test]
async fn only_a_failure_for_good_has_its_log_told() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let mark = mark.display();
    let script = format!("echo not yet >&2; test -e {mark} || {{{{ touch {mark}; exit 1; }}}}");
    let task = daily_task("t", &["a"], &script)
        + "retry = { attempts = 1, delay = \"1s\", backoff-rate = 1.0 }\n";
    let world = World::with(&(daily_file("a") + &task), minutes_are_seconds(Duration::ZERO)).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("run-succeeded").await;
    let retry = world.mails_about("step-failed").remove(0);
    assert_eq!(retry.subject, "[test] t 2013-01-01 retries step work: not yet");
    world.until_due(<[DueKey]>::is_empty).await;
    assert_eq!(world.mails_about("step-log").len(), 0);
}

/// A notice that SNS does not take because of what it says is tried again with
/// the next look; others need not wait for that.
#[tokio::test]
async fn a_notice_that_sns_refuses_keeps_back_no_other() {
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("Publish", Fault::Refused, 1);
    world.put("a/2013-01-01.csv", "1").await;
    world.until("the refusal", || (network.met("Publish") == 1).then_some(())).await;
    // As long as a pause after an outage would be.
    let pause = Duration::from_secs(30);
    let start = Instant::now();
    world.put("a/2013-01-02.csv", "1").await;
    world.mail("t/2013-01-02/succeeded").await;
    assert!(start.elapsed() < pause, "{:?}", start.elapsed());
    world.mail("t/2013-01-01/ready").await;
}
