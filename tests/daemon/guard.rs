//! What keeps a second cluster from doing the work again, and any cluster from
//! outliving its deadline, on real processes: the guard is the real AWS command
//! line in bash.

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use sluicegate::aws;
use sluicegate_local::clock::Clock;
use sluicegate_local::python::Environment;
use sluicegate_local::{Options, emr};

use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

async fn options() -> Options {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
    let environment = tokio::task::spawn_blocking(move || Environment::ensure(&folder));
    let environment = Some(environment.await.unwrap().unwrap());
    Options { emr: emr::Options { environment, ..emr::Options::default() }, ..Options::default() }
}

/// One task; each execution of its step leaves an object. Guarded from the
/// daemon's next start on.
async fn guarded(options: Options) -> World {
    let step = "aws s3 cp - s3://landing/done/$$-$RANDOM < /dev/null";
    let tasks = format!("{}{}", daily_file("a"), daily_task("t", &["a"], step));
    let mut world = World::with(&tasks, options).await;
    world.reconfigure("guard = false", "guard = true");
    world
}

fn executions(world: &World) -> usize {
    std::fs::read_dir(world.local.data().join("s3/landing/done")).map_or(0, Iterator::count)
}

async fn holder(world: &World, claim: &str) -> Option<String> {
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    let id = aws_sdk_dynamodb::types::AttributeValue::S(claim.to_owned());
    let item = dynamodb.get_item().table_name("test-run").key("id", id).send().await.unwrap();
    item.item?.get("holder")?.as_s().ok().cloned()
}

async fn clusters(world: &World) -> Vec<(String, String)> {
    let emr = aws_sdk_emr::Client::new(&aws::connect(&world.access()).await);
    let listed = emr.list_clusters().send().await.unwrap().clusters.unwrap_or_default();
    listed.into_iter().map(|cluster| (cluster.id.unwrap(), cluster.name.unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_claims_its_run_before_it_works() {
    let mut world = guarded(options().await).await;
    world.kill().await;
    world.start().await;
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("t/2013-01-01/succeeded").await;
    let clusters = clusters(&world).await;
    let [(cluster, name)] = clusters.as_slice() else { panic!("{clusters:?}") };
    let claim = format!("claim/{}/1", name.strip_prefix("test/").unwrap());
    assert_eq!(holder(&world, &claim).await.as_ref(), Some(cluster));
    assert_eq!(executions(&world), 1);
}

/// A call of RunJobFlow that is held up somewhere while another one is made, as
/// it may be after its answer was lost: two clusters of one name. The daemon
/// looks at either of them; one at most works, and both end.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_clusters_for_one_attempt_one_works() {
    let mut world = guarded(options().await).await;
    world.reconfigure("send-within = \"30m\"", "send-within = \"1s\"");
    world.reconfigure("list-lag = \"30m\"", "list-lag = \"1s\"");
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("RunJobFlow", Fault::RequestHeld, 1);
    world.put("a/2013-01-01.csv", "x").await;
    let second = || (world.calls("elasticmapreduce", "RunJobFlow") == 1).then_some(());
    world.until("the second call", second).await;
    network.lift();
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 2);
    assert_eq!(executions(&world), 1);
    let clusters = clusters(&world).await;
    assert_eq!(clusters[0].1, clusters[1].1, "of one attempt");
}

/// A retried step is submitted behind a guard of its own; a submission that is
/// there twice is executed once.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_claims_itself_too() {
    let step = "aws s3 cp - s3://landing/done/$$-$RANDOM < /dev/null; \
                [ $(aws s3 ls s3://landing/done/ | wc -l) -ge 2 ]";
    let task = daily_task("t", &["a"], step)
        + "retry = { attempts = 3, delay = \"1s\", backoff-rate = 1.0 }\n";
    let mut world = World::with(&format!("{}{task}", daily_file("a")), options().await).await;
    world.reconfigure("guard = false", "guard = true");
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("AddJobFlowSteps", Fault::AnswerLost, 1);
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(executions(&world), 2);
    let (_, name) = clusters(&world).await.pop().unwrap();
    let claim = format!("claim/{}/2", name.strip_prefix("test/").unwrap());
    assert!(holder(&world, &claim).await.unwrap().starts_with("s-"));
}

/// With no daemon at all: the cluster hangs in its step and ends itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_ends_by_its_deadline_though_nobody_is_left() {
    let start: Timestamp = "2013-01-01T12:00:00Z".parse().unwrap();
    let clock = Clock::starting_at(start, 120.0);
    let options = Options { clock, ..options().await };
    let tasks = format!("{}{}", daily_file("a"), daily_task("t", &["a"], "exec sleep 100000"));
    let mut world = World::with(&tasks, options).await;
    world.reconfigure("lifetime = \"168h\"", "lifetime = \"30m\"");
    let (queue, assets) = ("queue = \"inbox\"", "assets = \"s3://landing/code/\"");
    world.reconfigure(queue, &format!("{queue}\n{assets}"));
    world.put("code/deadline.sh", include_str!("../../deploy/emr/deadline.sh")).await;
    world.kill().await;
    world.start().await;
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("/1/running").await;
    world.kill().await;
    assert_eq!(world.clusters_ended().await, 1);
    let ended = world.local.cloud().time().dev();
    assert!(ended < start + SignedDuration::from_hours(2), "{ended}");
}

/// Whoever cannot tell its own id claims nothing and runs nothing: by the same
/// wrong word two clusters would both hold the claim.
#[test]
fn a_guard_that_does_not_know_itself_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("steps/s-ABC/deeper")).unwrap();
    let guard = |holder: &str, info: &str, place: &str| {
        fs::write(path("job-flow.json"), info).unwrap();
        // The function stands for the AWS command line and grants every claim.
        let script = concat!("aws() { :; }\n", include_str!("../../deploy/emr/guard.sh"));
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", script, "guard", "table", "claim/R/1/1", holder, "us-east-1"]);
        bash.env("SLUICEGATE_JOB_FLOW_JSON", path("job-flow.json"));
        let output = bash.current_dir(path(place)).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| said.trim().to_owned())
    };
    for (info, cluster) in [
        (r#"{"jobFlowId":"j-ONE","x":"y"}"#, Some("j-ONE")),
        ("{\n  \"jobFlowId\" : \"j-TWO\",\n  \"x\": 1\n}", Some("j-TWO")),
        (r#"{"jobFlowId":null,"name":"x"}"#, None),
        (r#"{"jobFlowId":"j-"}"#, None),
        ("", None),
    ] {
        let said = cluster.map(|id| format!("guard: {id} holds claim/R/1/1"));
        assert_eq!(guard("cluster", info, "."), said, "{info}");
    }
    for (place, step) in [("steps/s-ABC", true), ("steps/s-ABC/deeper", true), ("steps", false)] {
        let said = step.then(|| "guard: s-ABC holds claim/R/1/1".to_owned());
        assert_eq!(guard("step", "", place), said, "{place}");
    }
}
