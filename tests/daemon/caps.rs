//! Limits to what is at work at once, with two replicas that make batches side
//! by side.

use std::fs;
use std::path::Path;

use crate::commands::{answer, json};
use crate::world::{World, daily_file, daily_task};

/// A step that notes when it begins and ends, and takes a moment.
fn noted(folder: &Path, name: &str) -> String {
    let log = folder.join("log").display().to_string();
    format!("echo begin {name} >> {log}; sleep 0.3; echo end {name} >> {log}")
}

/// How many steps ran at once at most, of those whose names begin so.
fn most_at_once(folder: &Path, name: &str) -> usize {
    let log = fs::read_to_string(folder.join("log")).unwrap();
    let (mut now, mut most) = (0usize, 0);
    for line in log.lines() {
        let (what, of) = line.split_once(' ').unwrap();
        if !of.starts_with(name) {
            continue;
        }
        now = if what == "begin" { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    assert_eq!(now, 0);
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_and_a_profile_keep_their_caps() {
    let folder = tempfile::tempdir().unwrap();
    let task = |name: &str| daily_task(name, &["a"], &noted(folder.path(), name));
    let capped = task("capped").replace("partition = ", "max-active = 1\npartition = ");
    let tasks = daily_file("a") + &capped + &task("free");
    let mut world = World::new(&tasks).await;
    world.reconfigure("[profiles.p]\n", "[profiles.p]\nmax-clusters = 3\n");
    world.stop().await;
    world.start().await;
    let _other = world.another().await;
    let days = 1..=6;
    for day in days.clone() {
        world.put(&format!("a/2013-01-0{day}.csv"), "1").await;
    }
    let held = || async {
        for day in 1..=6 {
            let day = format!("2013-01-0{day}");
            let why = answer(&world, &["why", "capped", &day]).await;
            if why.contains("held back") {
                return Some(why);
            }
        }
        None
    };
    let why = world.until_async("one that is held back", held).await;
    assert!(
        why.contains("1 of task capped run, and 1 may at once")
            || why.contains("3 clusters of profile p are at work, and 3 may be at once"),
        "{why}"
    );
    for task in ["capped", "free"] {
        for day in days.clone() {
            world.mail(&format!("{task}/2013-01-0{day}/succeeded")).await;
        }
    }
    assert_eq!(most_at_once(folder.path(), "capped"), 1);
    assert!(most_at_once(folder.path(), "") <= 3);
    assert_eq!(world.clusters_ended().await, 12);
    let runs = json(&world, &["runs", "--limit", "20"]).await;
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 12);
    // By the runs themselves, from their making to their end.
    let instant = |run: &serde_json::Value, name: &str| {
        run[name].as_str().map(|at| at.parse::<jiff::Timestamp>().unwrap())
    };
    for run in runs {
        let at = instant(run, "created").unwrap();
        let open = runs.iter().filter(|other| {
            instant(other, "created").unwrap() <= at
                && instant(other, "ended").is_none_or(|ended| ended > at)
        });
        assert!(open.count() <= 3, "{runs:#?}");
    }
}

#[tokio::test]
async fn a_deployment_keeps_its_cap_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let task = |name: &str| daily_task(name, &["a"], &noted(folder.path(), name));
    let profile = "[profiles.q]\nguard = false\nrelease-label = \"emr-7.13.0\"\n\
        service-role = \"s\"\ninstance-profile = \"i\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
    let other = task("u").replace("profile = \"p\"", "profile = \"q\"");
    let mut world =
        World::new(&(profile.to_owned() + &daily_file("a") + &task("t") + &other)).await;
    world.configure_engine("max-clusters = 1");
    world.stop().await;
    world.start().await;
    for day in 1..=2 {
        world.put(&format!("a/2013-01-0{day}.csv"), "1").await;
    }
    let log = folder.path().join("log");
    world.until("the first step", || log.exists().then_some(())).await;
    world.taken().await;
    world.kill().await;
    world.start().await;
    for task in ["t", "u"] {
        for day in 1..=2 {
            world.mail(&format!("{task}/2013-01-0{day}/succeeded")).await;
        }
    }
    assert_eq!(most_at_once(folder.path(), ""), 1);
    assert_eq!(world.clusters_ended().await, 4);
}
