//! What happens on the cluster: steps in order, retries, failures, and its end
//! in every case.

use std::collections::HashMap;
use std::fs;

use aws_sdk_dynamodb::types::AttributeValue;
use sluicegate::aws;

use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

/// A daily task on file `a` with the given steps (name, script, retries).
fn steps(name: &str, steps: &[(&str, &str, u32)]) -> String {
    let mut text = format!(
        "[tasks.{name}]\nprofile = \"p\"\npartition = \"day\"\ninputs = [{{ dataset = \"a\" }}]\n"
    );
    for (step, script, retries) in steps {
        text.push_str(&format!(
            "[[tasks.{name}.steps]]\nname = \"{step}\"\nkind = \"command\"\n\
             args = [\"bash\", \"-c\", '''{script}''']\n\
             retry = {{ attempts = {retries}, delay = \"1s\", backoff-rate = 1.0 }}\n"
        ));
    }
    text
}

#[tokio::test]
async fn steps_run_in_order_and_a_failed_one_is_retried_on_the_same_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let once = format!(
        "echo flaky >> {path}/log; test -e {path}/mark || {{{{ touch {path}/mark; exit 1; }}}}"
    );
    let first = format!("echo first >> {path}/log");
    let last = format!("echo last >> {path}/log");
    let tasks = daily_file("a")
        + &steps("t", &[("first", &first, 0), ("flaky", &once, 3), ("last", &last, 0)]);
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), ["first", "flaky", "flaky", "last"]);
    assert_eq!(world.mails_about("step-failed/t/2013-01-01/flaky").len(), 1);
}

#[tokio::test]
async fn a_failure_is_announced_with_its_reason_and_the_cluster_ends() {
    let tasks = daily_file("a")
        + &steps("t", &[("bad", "echo oh no >&2; exit 3", 1), ("never", "true", 0)]);
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    let mail = world.mail("t/2013-01-01/failed").await;
    assert_eq!(mail.subject, "[test] t 2013-01-01 FAILED: step bad failed 2 times: oh no");
    assert_eq!(mail.attributes["severity"], "failure");
    assert!(mail.text.contains("step bad failed 2 times"), "{}", mail.text);
    world.mail("run-failed").await;
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn one_failing_partition_of_a_batch_fails_alone() {
    let profile = "[profiles.three]\nbatch-size = 3\nguard = false\nrelease-label = \"emr-7.13.0\"\n\
        service-role = \"s\"\ninstance-profile = \"i\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
    let tasks = [("good", "true"), ("bad", "exit 1"), ("also-good", "true")]
        .map(|(name, script)| daily_task(name, &["a"], script))
        .concat()
        .replace("profile = \"p\"", "profile = \"three\"");
    let world = World::new(&(profile.to_owned() + &daily_file("a") + &tasks)).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("bad/2013-01-01/failed").await;
    world.mail("good/2013-01-01/succeeded").await;
    world.mail("also-good/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn a_run_is_taken_up_again_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = format!("echo ran >> {path}/log; until test -e {path}/go; do sleep 0.05; done");
    let tasks = daily_file("a") + &daily_task("t", &["a"], &script);
    let mut world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    let log = folder.path().join("log");
    world.until("the step's start", || log.exists().then_some(())).await;
    world.kill().await;
    fs::write(folder.path().join("go"), "").unwrap();
    world.start().await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_cluster_that_somebody_ends_is_replaced_where_the_profile_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = format!("echo ran >> {path}/log; test -e {path}/go || sleep 600");
    let tasks = daily_file("a") + &daily_task("t", &["a"], &script);
    let tasks = format!("[profiles.p.attempts]\nexternal = {{ max = 2 }}\n{tasks}");
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    let log = folder.path().join("log");
    world.until("the step's start", || log.exists().then_some(())).await;
    fs::write(folder.path().join("go"), "").unwrap();
    world.terminate_all().await;
    world.mail("t/2013-01-01/succeeded").await;
    let lost = world.mails_about("attempt-lost");
    assert_eq!((lost.len(), lost[0].attributes["class"].as_str()), (1, "external"));
    assert_eq!(world.clusters_ended().await, 2);
}

/// The intent is stored, its answer lost, and the SDK's repetition fails on the
/// condition. Who took that for another's write would have to wait until the
/// call can no longer arrive: an hour here.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_known_to_be_ours() {
    let mut world =
        World::new(&format!("{}{}", daily_file("a"), daily_task("t", &["a"], "true"))).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("PutRun", Fault::AnswerLost, 1);
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(network.met("PutRun"), 1);
    assert_eq!(world.calls("elasticmapreduce", "RunJobFlow"), 1);
}

/// A run that a newer version has written: it stays as it is, people are told
/// once, and nothing else waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_wrote_is_left_alone_and_told_once() {
    let world =
        World::new(&format!("{}{}", daily_file("a"), daily_task("t", &["a"], "true"))).await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let number = |number: u64| AttributeValue::N(number.to_string());
    let item = HashMap::from([
        ("id".to_owned(), text("01NEWER")),
        ("format".to_owned(), number(99)),
        ("version".to_owned(), number(7)),
        ("shard".to_owned(), text("0")),
        ("due".to_owned(), number(0)),
        ("document".to_owned(), text("of another form")),
    ]);
    let put = dynamodb.put_item().table_name("test-run").set_item(Some(item.clone()));
    put.send().await.unwrap();
    let mail = world.mail("item/01NEWER").await;
    assert!(mail.text.contains("format of a newer version"), "{}", mail.text);
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("run-succeeded").await;
    assert_eq!(world.mails_about("item/01NEWER").len(), 1);
    let found = dynamodb.get_item().table_name("test-run").key("id", text("01NEWER"));
    assert_eq!(found.send().await.unwrap().item, Some(item));
}

/// Some of EMR's models say that its inner errors are the client's: they are no
/// refusal, the call may have had its effect.
#[tokio::test]
async fn an_inner_error_with_a_clients_status_is_no_refusal() {
    let task = daily_file("a") + &daily_task("t", &["a"], "true");
    let mut world = World::new(&task).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("RunJobFlow", Fault::Muddled, 1);
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!(network.met("RunJobFlow"), 1);
    assert_eq!(world.clusters_ended().await, 1);
}

/// An answer without ids does not say that the steps are there: they are looked
/// for, and submitted again.
#[tokio::test]
async fn steps_without_ids_are_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("mkdir {}/first && exit 1 || true", folder.path().display());
    let task = daily_task("t", &["a"], &script)
        + "retry = { attempts = 1, delay = \"1s\", backoff-rate = 1.0 }\n";
    let mut world = World::new(&format!("{}{task}", daily_file("a"))).await;
    world.reconfigure("send-within = \"30m\"", "send-within = \"5s\"");
    world.reconfigure("list-lag = \"30m\"", "list-lag = \"1s\"");
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("AddJobFlowSteps", Fault::Hollow, 1);
    network.order("RunJobFlow", Fault::Hollow, 1);
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("t/2013-01-01/succeeded").await;
    assert_eq!((network.met("AddJobFlowSteps"), network.met("RunJobFlow")), (1, 1));
    assert_eq!(world.clusters_ended().await, 1);
}
