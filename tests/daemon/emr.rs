//! What a run costs in calls to EMR: with events, without them, and when the
//! quota is short.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue::S;
use sluicegate::aws;
use sluicegate_local::clock::Clock;
use sluicegate_local::{Options, emr};

use crate::world::{World, daily_file, daily_task};

/// Calls to EMR are logged with their time, and clusters start at once.
fn options() -> Options {
    let emr = emr::Options {
        starting: Duration::from_millis(200),
        terminating: Duration::from_millis(200),
        ..emr::Options::default()
    };
    Options { in_memory: false, emr, ..Options::default() }
}

fn count(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, action, _) in world.emr_calls() {
        *counts.entry(action).or_default() += 1;
    }
    counts
}

async fn runs_succeeded(world: &World, runs: usize) {
    let all = || (world.mails_about("run-succeeded").len() == runs).then_some(());
    world.until("the success of every run", all).await;
}

#[tokio::test]
async fn with_events_a_run_costs_four_calls_however_long_its_steps_last() {
    // Longer than several poll intervals of a second.
    let second =
        "[[tasks.t.steps]]\nname = \"more\"\nkind = \"command\"\nargs = [\"sleep\", \"3\"]\n";
    let tasks = daily_file("a") + &daily_task("t", &["a"], "sleep 3") + second;
    let world = World::with(&tasks, options()).await;
    world.bring_events().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("run-succeeded").await;
    let counts = count(&world);
    assert_eq!(counts["RunJobFlow"], 1, "{counts:?}");
    assert_eq!(counts["TerminateJobFlows"], 1, "{counts:?}");
    assert!(counts.values().sum::<usize>() <= 4, "{counts:?}");
    assert_eq!(world.mails_about("running").len(), 2, "of the task and of the run");
}

#[tokio::test]
async fn without_events_runs_share_the_list_of_clusters_and_end() {
    let names: Vec<_> = (0..6).map(|number| format!("t{number}")).collect();
    let tasks: String = names.iter().map(|name| daily_task(name, &["a"], "sleep 4")).collect();
    let world = World::with(&(daily_file("a") + &tasks), options()).await;
    world.put("a/2013-01-01.csv", "1").await;
    runs_succeeded(&world, 6).await;
    let counts = count(&world);
    let described = counts.get("DescribeCluster").copied().unwrap_or(0);
    // Six runs that each poll every second for some six seconds.
    assert!(counts["ListClusters"] > 1, "{counts:?}");
    assert!(counts["ListClusters"] + described <= 20, "{counts:?}");
    // Once to learn what runs, once at the end.
    assert!(counts["ListSteps"] <= 14, "{counts:?}");
    assert_eq!(world.clusters_ended().await, 6);
}

/// As after two months, or in another account: what the run names is not there.
#[tokio::test]
async fn a_run_whose_cluster_emr_has_forgotten_fails_when_its_lifetime_is_over() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "sleep 600");
    let clock = Clock::starting_at("2013-01-01T09:00:00Z".parse().unwrap(), 2000.0);
    let mut world = World::with(&tasks, Options { clock, ..options() }).await;
    world.taken().await;
    world.stop().await;
    world.reconfigure("lifetime = \"168h\"", "lifetime = \"3h\"");
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    let tables = &aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    let adopted = || async move {
        let runs = tables.scan().table_name("test-run").send().await.unwrap().items.unwrap();
        runs.into_iter().find(|item| item.contains_key("cluster"))
    };
    world.until_async("a run with a cluster", adopted).await;
    world.kill().await;
    let mut run = adopted().await.unwrap();
    let cluster = run["cluster"].as_s().unwrap().clone();
    for value in run.values_mut() {
        if let S(text) = value {
            *text = text.replace(&cluster, "j-0FORGOTTEN0");
        }
    }
    tables.put_item().table_name("test-run").set_item(Some(run)).send().await.unwrap();
    world.start().await;
    let failed = world.mail("t/2013-01-01/failed").await;
    assert!(failed.text.contains("EMR does not know its cluster j-0FORGOTTEN0"), "{}", failed.text);
    world.mail("run-failed").await;
    world.until_due(<[_]>::is_empty).await;
    world.terminate_all().await;
}

#[tokio::test]
async fn many_runs_at_once_keep_to_the_quotas_and_all_end() {
    const RUNS: usize = 30;
    let quotas = "[quotas]\nrun-job-flow = { burst = 4, per-second = 5 }\n\
        list-steps = { burst = 3, per-second = 6 }\n\
        terminate-job-flows = { burst = 3, per-second = 6 }\n\
        describe-cluster = { burst = 3, per-second = 4 }\n\
        list-clusters = { burst = 2, per-second = 2 }\n\
        account = { burst = 8, per-second = 15 }\n";
    let names: Vec<_> = (0..RUNS).map(|number| format!("t{number}")).collect();
    let tasks: String = names.iter().map(|name| daily_task(name, &["a"], "true")).collect();
    let world = World::with(&(quotas.to_owned() + &daily_file("a") + &tasks), options()).await;
    world.bring_events().await;
    world.put("a/2013-01-01.csv", "1").await;
    runs_succeeded(&world, RUNS).await;
    let calls = world.emr_calls();
    assert_eq!(calls.iter().filter(|(_, action, _)| action == "RunJobFlow").count(), RUNS);
    for (action, burst, per_second) in [
        ("RunJobFlow", 4, 5),
        ("ListSteps", 3, 6),
        ("TerminateJobFlows", 3, 6),
        ("DescribeCluster", 3, 4),
        ("ListClusters", 2, 2),
        ("", 8, 15),
    ] {
        let of_action = calls.iter().filter(|(_, name, _)| action.is_empty() || name == action);
        let times: Vec<_> = of_action.map(|(time, ..)| *time).collect();
        for (first, start) in times.iter().enumerate() {
            for (more, end) in times[first..].iter().enumerate() {
                // Calls leave in time; how late each arrives differs a little.
                let room = burst + (end - start + 500) * per_second / 1_000 + 1;
                let made = i64::try_from(more).unwrap() + 1;
                assert!(made <= room, "{action}: {made} calls in {} ms", end - start);
            }
        }
    }
}

#[tokio::test]
async fn throttled_calls_burn_no_attempt_and_are_made_again() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let mut options = options();
    let throttles = [("RunJobFlow", 2), ("ListSteps", 1), ("TerminateJobFlows", 1)];
    options.emr.throttles = throttles.map(|(action, times)| (action.into(), times)).into();
    let world = World::with(&tasks, options).await;
    world.bring_events().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("run-succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert!(world.mails_about("attempt-lost").is_empty());
    let calls = world.emr_calls();
    let throttled = calls.iter().filter(|(.., outcome)| outcome == "ThrottlingException");
    assert_eq!(throttled.count(), 4);
}
