//! What takes too long: steps past their time-out, and clusters that never come.

use std::time::Duration;

use sluicegate_local::clock::Clock;
use sluicegate_local::{Options, emr};

use crate::world::{World, daily_file, daily_task};

const DAY: &str = "a/2013-01-01.csv";

/// A minute is a second here. The daemon that finds the step late is not the one that
/// saw it begin.
#[tokio::test]
async fn a_step_past_its_time_out_is_cancelled_and_tried_again_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = format!("if test ! -e {path}/ran; then touch {path}/ran; sleep 600; fi");
    let task = daily_task("t", &["a"], &script).replacen(
        "partition =",
        "attempt-timeout = \"3m\"\npartition =",
        1,
    );
    let task = format!("{task}retry = {{ attempts = 1, delay = \"1s\" }}\n");
    let mut world = World::at(&(daily_file("a") + &task), "2013-01-02T00:00:00Z", 60.0).await;
    world.put(DAY, "1").await;
    let ran = folder.path().join("ran");
    world.until("the step's start", || ran.exists().then_some(())).await;
    world.kill().await;
    world.start().await;
    let failed = world.mail("step-failed/t/2013-01-01/work/1").await;
    assert_eq!(failed.attributes["class"], "time-out");
    assert!(failed.text.contains("attempt-timeout (3m)"), "{}", failed.text);
    world.mail("t/2013-01-01/succeeded").await;
    world.mail("run-succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.mails_about("step-failed").len(), 1);
}

/// Ten minutes are a second here, and no cluster ever has its machines.
#[tokio::test]
async fn a_cluster_that_never_starts_is_given_up_as_for_want_of_machines() {
    let clock = Clock::starting_at("2013-01-02T00:00:00Z".parse().unwrap(), 600.0);
    let starting = Duration::from_secs(3600);
    let emr = emr::Options { starting, ..emr::Options::default() };
    let profile = "[profiles.q]\nstall-timeout = \"15m\"\nguard = false\n\
        release-label = \"emr-7.13.0\"\nservice-role = \"s\"\ninstance-profile = \"i\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
    let task = daily_task("t", &["a"], "true").replace("\"p\"", "\"q\"");
    let tasks = format!("{profile}{}{task}", daily_file("a"));
    let world = World::with(&tasks, Options { clock, emr, ..Options::default() }).await;
    world.put(DAY, "1").await;
    let failed = world.mail("t/2013-01-01/failed").await;
    assert_eq!(failed.attributes["class"], "capacity");
    let lost = world.mail("attempt-lost").await;
    assert_eq!(lost.attributes["class"], "capacity");
    for text in ["longer than stall-timeout (15m)", "gets another cluster in 10m"] {
        let unfolded = lost.text.replace("=\n", "");
        assert!(unfolded.contains(text), "{unfolded}");
    }
    world.mail("run-failed").await;
    assert_eq!(world.clusters_ended().await, 2);
}
