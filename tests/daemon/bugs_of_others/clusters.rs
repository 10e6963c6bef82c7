//! Bugs in following clusters: success that was none, clusters and steps left,
//! doubled or forgotten.

use std::collections::BTreeSet;

use aws_sdk_emr::Client as Emr;
use aws_sdk_emr::types::{JobFlowInstancesConfig, StepCancellationOption};
use sluicegate::aws;
use sluicegate_local::Options;
use sluicegate_local::clock::Clock;
use sluicegate_local::emr::request::ActionOnFailure;

use super::{Gate, cluster_is, clusters, quick, retried};
use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

const ALWAYS: usize = usize::MAX;
const DAY: &str = "a/2013-01-01.csv";

/// Task `t` on the daily file `a`, with this script as its only step.
fn one_task(script: &str) -> String {
    daily_file("a") + &daily_task("t", &["a"], script)
}

async fn over_a_network(tasks: &str, options: Options) -> (World, Network) {
    let mut world = World::with(tasks, options).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    (world, network)
}

async fn met(world: &World, network: &Network, action: &str, times: usize) {
    let what = format!("{times} failed calls of {action}");
    world.until(&what, || (network.met(action) >= times).then_some(())).await;
}

async fn emr(world: &World) -> Emr {
    Emr::new(&aws::connect(&world.access()).await)
}

/// Looks of the daemon at its clusters so far.
fn looks(world: &World) -> u64 {
    ["ListClusters", "DescribeCluster", "ListSteps"]
        .map(|action| world.calls("elasticmapreduce", action))
        .into_iter()
        .sum()
}

async fn three_more_looks(world: &World) {
    let before = looks(world);
    world.until("three more looks", || (looks(world) >= before + 3).then_some(())).await;
}

/// Airflow #45651, #61180: a task succeeds as soon as its cluster is RUNNING or
/// WAITING, whatever becomes of its steps.
#[tokio::test]
async fn airflow_45651_61180_a_cluster_that_runs_or_waits_is_a_success() {
    let gate = Gate::closed();
    let task = retried(one_task(&gate.script("exit 1")), 1);
    let task = task.replace("delay = \"1s\"", "delay = \"3s\"");
    let world = World::with(&task, quick()).await;
    world.put(DAY, "1").await;
    gate.reached(&world, 1).await;
    cluster_is(&world, "RUNNING").await;
    three_more_looks(&world).await;
    assert_eq!(world.mails_about("succeeded").len(), 0);
    gate.open();
    // Between the step's two tries nothing runs on it.
    cluster_is(&world, "WAITING").await;
    let before = looks(&world);
    world.until("a look meanwhile", || (looks(&world) > before).then_some(())).await;
    assert_eq!(world.mails_about("succeeded").len(), 0);
    world.mail("t/2013-01-01/failed").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.mails_about("succeeded").len(), 0);
}

/// Airflow #61010: the cluster of a task that failed stays.
#[tokio::test]
async fn airflow_61010_a_failed_step_leaves_its_cluster() {
    let world = World::with(&one_task("exit 1"), quick()).await;
    world.put(DAY, "1").await;
    world.mail("t/2013-01-01/failed").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// Airflow #61010: a worker that dies between the launch and its record leaves
/// a cluster that nobody knows.
#[tokio::test]
async fn airflow_61010_a_crash_after_the_launch_leaves_its_cluster() {
    let (mut world, network) = over_a_network(&one_task("true"), quick()).await;
    network.order("RunJobFlow", Fault::AnswerHeld, 1);
    world.put(DAY, "1").await;
    world.until("the cluster", || (clusters(&world).len() == 1).then_some(())).await;
    world.kill().await;
    world.start().await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// Airflow #61010: a cluster to which the steps cannot be submitted stays.
#[tokio::test]
async fn airflow_61010_a_failed_submission_leaves_its_cluster() {
    let clock = Clock::starting_at("2013-01-02T00:00:00Z".parse().unwrap(), 900.0);
    let task = retried(one_task("exit 1"), 3);
    let (mut world, network) = over_a_network(&task, Options { clock, ..quick() }).await;
    world.reconfigure("lifetime = \"168h\"", "lifetime = \"1h\"\nmax-attempts = 1");
    world.through(&network).await;
    network.order("AddJobFlowSteps", Fault::Refused, ALWAYS);
    world.put(DAY, "1").await;
    met(&world, &network, "AddJobFlowSteps", 1).await;
    world.mail("t/2013-01-01/failed").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// Airflow #28704: after a crash the steps are submitted once more.
#[tokio::test]
async fn airflow_28704_a_crash_submits_steps_twice() {
    let gate = Gate::closed();
    let task = retried(one_task(&gate.script("exit 1")), 1);
    let (mut world, network) = over_a_network(&task, quick()).await;
    gate.open();
    network.order("AddJobFlowSteps", Fault::AnswerHeld, 1);
    world.put(DAY, "1").await;
    gate.reached(&world, 2).await;
    world.kill().await;
    world.start().await;
    world.mail("t/2013-01-01/failed").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!((gate.begun(), world.calls("elasticmapreduce", "AddJobFlowSteps")), (2, 1));
}

/// Airflow #28704: a submission whose answer is lost is repeated.
#[tokio::test]
async fn airflow_28704_a_lost_answer_submits_steps_twice() {
    let gate = Gate::closed();
    let task = retried(one_task(&gate.script("exit 1")), 1);
    let (world, network) = over_a_network(&task, quick()).await;
    gate.open();
    network.order("AddJobFlowSteps", Fault::AnswerLost, 1);
    world.put(DAY, "1").await;
    world.mail("t/2013-01-01/failed").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!((gate.begun(), world.calls("elasticmapreduce", "AddJobFlowSteps")), (2, 1));
}

/// Airflow #56050: what EMR's events say is ignored.
#[tokio::test]
async fn airflow_56050_events_are_ignored() {
    let second = "[[tasks.t.steps]]\nname = \"more\"\nkind = \"command\"\nargs = [\"true\"]\n";
    let mut world = World::with(&(one_task("true") + second), quick()).await;
    world.bring_events().await;
    // Without events nobody would look again for an hour.
    let hour = "poll-interval = \"1h\"\npoll-interval-with-events = \"1h\"\n\
                steps-interval = \"1h\"";
    world.reconfigure("poll-interval = \"1s\"", hour);
    world.kill().await;
    world.start().await;
    world.put(DAY, "1").await;
    world.mail("run-succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// Airflow #63507: an event that comes twice has its effect twice.
#[tokio::test]
async fn airflow_63507_a_doubled_event_counts_twice() {
    let world = World::with(&retried(one_task("exit 1"), 1), quick()).await;
    world.bring_events_by("emr").await;
    world.bring_events_by("emr-too").await;
    world.put(DAY, "1").await;
    world.mail("run-failed").await;
    world.taken().await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.calls("elasticmapreduce", "AddJobFlowSteps"), 1);
    let events: Vec<_> =
        world.mails().into_iter().map(|mail| mail.attributes["event"].clone()).collect();
    let distinct: BTreeSet<_> = events.iter().collect();
    assert_eq!(distinct.len(), events.len(), "{events:#?}");
}

/// Airflow #63507: two schedulers that both live do everything twice.
#[tokio::test]
async fn airflow_63507_two_daemons_do_everything_twice() {
    const DAYS: u32 = 5;
    let gate = Gate::closed();
    gate.open();
    let world = World::with(&one_task(&gate.script("true")), quick()).await;
    world.bring_events().await;
    let other = world.another().await;
    for day in 1..=DAYS {
        world.put(&format!("a/2013-01-{day:02}.csv"), "1").await;
    }
    for day in 1..=DAYS {
        for state in ["ready", "running", "succeeded"] {
            world.mail(&format!("t/2013-01-{day:02}/{state}")).await;
        }
    }
    assert_eq!(world.clusters_ended().await, DAYS as usize);
    assert_eq!(gate.begun(), DAYS as usize);
    assert_eq!(world.calls("elasticmapreduce", "RunJobFlow"), u64::from(DAYS));
    world.until_due(|due| due.is_empty()).await;
    assert!(other.is_running());
    // A mail may come twice; then both are of one event, so of one change.
    let text = |event: &str| {
        let mails = world.mails_about(event);
        mails.into_iter().map(|mail| mail.text).collect::<BTreeSet<_>>()
    };
    for day in 1..=DAYS {
        for state in ["ready", "running", "succeeded"] {
            assert_eq!(text(&format!("t/2013-01-{day:02}/{state}")).len(), 1, "{day} {state}");
        }
    }
}

/// Airflow #56050, #63507: events are matched to the wrong work. What others run
/// in the account is none of ours.
#[tokio::test]
async fn airflow_63507_events_of_other_clusters_are_taken_for_ours() {
    let gate = Gate::closed();
    let mut world = World::with(&one_task(&gate.script("true")), quick()).await;
    world.configure_engine("poll-interval-with-events = \"1s\"");
    world.kill().await;
    world.start().await;
    world.bring_events().await;
    let instances = JobFlowInstancesConfig::builder()
        .master_instance_type("m5.xlarge")
        .instance_count(1)
        .keep_job_flow_alive_when_no_steps(true);
    let request =
        emr(&world).await.run_job_flow().name("other/01ABC/1").instances(instances.build());
    let request = request.release_label("emr-7.13.0").job_flow_role("ec2").service_role("service");
    request.send().await.unwrap();
    world.put(DAY, "1").await;
    gate.reached(&world, 1).await;
    let ended = r#"{"version": "0", "source": "aws.emr", "detail-type": "EMR Cluster State Change",
        "detail": {"name": "test/01ABC/1", "clusterId": "j-UNKNOWN", "state": "TERMINATED"}}"#;
    world.send(ended).await;
    world.taken().await;
    three_more_looks(&world).await;
    assert_eq!(world.mails_about("t/2013-01-01/succeeded").len(), 0);
    gate.open();
    world.mail("run-succeeded").await;
    cluster_is(&world, "TERMINATED").await;
    let mut states: Vec<_> = clusters(&world).into_iter().map(|(state, _)| state).collect();
    states.sort();
    assert_eq!(states, ["TERMINATED", "WAITING"], "the other's is left alone");
    assert_eq!(world.queued("quarantine").await, 0);
}

/// Airflow #60858: work that was killed is reported as a success.
#[tokio::test]
async fn airflow_60858_a_killed_cluster_is_a_success() {
    let gate = Gate::closed();
    let world = World::with(&one_task(&gate.script("true")), quick()).await;
    world.put(DAY, "1").await;
    gate.reached(&world, 1).await;
    world.terminate_all().await;
    let failed = world.mail("t/2013-01-01/failed").await;
    // A person meant it: there is no other attempt.
    assert_eq!(failed.attributes["class"], "external");
    world.mail("run-failed").await;
    assert_eq!(world.mails_about("succeeded").len(), 0);
    assert_eq!(world.clusters_ended().await, 1);
}

/// Airflow #60858: a step that was killed is reported as a success.
#[tokio::test]
async fn airflow_60858_a_cancelled_step_is_a_success() {
    let gate = Gate::closed();
    let world = World::with(&one_task(&gate.script("true")), quick()).await;
    world.put(DAY, "1").await;
    gate.reached(&world, 1).await;
    let ids = world.local.cloud().emr().with(|machine, _| {
        let cluster = machine.clusters().next().unwrap();
        (cluster.id.clone(), cluster.steps[0].id.clone())
    });
    let request = emr(&world).await.cancel_steps().cluster_id(ids.0).step_ids(ids.1);
    let kill = StepCancellationOption::TerminateProcess;
    request.step_cancellation_option(kill).send().await.unwrap();
    let mail = world.mail("t/2013-01-01/failed").await;
    assert!(mail.subject.contains("step work was cancelled from outside"), "{}", mail.subject);
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.mails_about("succeeded").len(), 0);
}

/// AWS Step Functions, aws-cdk #28697: an execution that is stopped leaves its
/// cluster WAITING.
#[tokio::test]
async fn step_functions_28697_a_stop_leaves_the_cluster_waiting() {
    let gate = Gate::closed();
    let mut world = World::with(&one_task(&gate.script("true")), quick()).await;
    world.put(DAY, "1").await;
    gate.reached(&world, 1).await;
    world.stop().await;
    gate.open();
    cluster_is(&world, "WAITING").await;
    world.start().await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// dataflow-runner #103: a cluster that ended as TERMINATED, without a reason,
/// is taken for a success, though a step of it failed.
#[tokio::test]
async fn dataflow_runner_103_a_plain_end_is_a_success() {
    let gate = Gate::closed();
    let mut options = quick();
    options.emr.plain_terminated_on_step_failure = true;
    let mut world = World::with(&one_task(&gate.script("exit 3")), options).await;
    world.put(DAY, "1").await;
    gate.reached(&world, 1).await;
    // Only the end is seen, and the failure ends the cluster.
    world.kill().await;
    world.local.cloud().emr().with(|machine, now| {
        let id = machine.clusters().next().unwrap().id.clone();
        let ends_it = |cluster: &mut sluicegate_local::emr::model::Cluster| {
            cluster.steps[0].action_on_failure = ActionOnFailure::TerminateCluster;
        };
        machine.update(&id, now, ends_it).unwrap();
    });
    gate.open();
    cluster_is(&world, "TERMINATED").await;
    assert_eq!(clusters(&world), [("TERMINATED".to_owned(), String::new())]);
    world.start().await;
    let mail = world.mail("t/2013-01-01/failed").await;
    assert!(mail.subject.contains("step work failed"), "{}", mail.subject);
    world.mail("run-failed").await;
    assert_eq!(world.mails_about("succeeded").len(), 0);
}

/// Signiant/dynamodb-emr-exporter #2: RunJobFlow is repeated without a look
/// whether the first call made a cluster.
#[tokio::test]
async fn signiant_2_a_lost_answer_makes_two_clusters() {
    let (world, network) = over_a_network(&one_task("true"), quick()).await;
    network.order("RunJobFlow", Fault::AnswerLost, 1);
    world.put(DAY, "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(network.met("RunJobFlow"), 1);
    assert_eq!(world.calls("elasticmapreduce", "RunJobFlow"), 1);
    assert_eq!(world.clusters_ended().await, 1);
}

/// The same when the call was lost itself: it is repeated, but only when it can
/// arrive no more.
#[tokio::test]
async fn signiant_2_a_lost_request_makes_one_cluster() {
    let clock = Clock::starting_at("2013-01-02T00:00:00Z".parse().unwrap(), 1800.0);
    let options = Options { clock, ..quick() };
    let (world, network) = over_a_network(&one_task("true"), options).await;
    network.order("RunJobFlow", Fault::RequestLost, 1);
    world.put(DAY, "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(network.met("RunJobFlow"), 1);
    assert_eq!(world.clusters_ended().await, 1);
}
