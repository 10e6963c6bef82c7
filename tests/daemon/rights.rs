//! A role that lacks a right: what is said before the service starts, and that trying it
//! changes nothing. The refusals are of the network's making: IAM itself does not run here
//! (tests/iam evaluates the policies).

use std::time::Duration;

use sluicegate::app::ServiceError;
use sluicegate::aws::rights::Denied;

use crate::network::{Fault, Network};
use crate::world::{BUCKET, World, daily_file, daily_task};

/// What a service that is started says, if it does not go on.
async fn started(world: &World, network: &Network) -> Option<ServiceError> {
    let running = world.beside(&network.endpoint);
    let abort = running.abort_handle();
    match tokio::time::timeout(Duration::from_secs(8), running).await {
        Ok(ended) => ended.unwrap().err(),
        Err(_) => {
            abort.abort();
            None
        }
    }
}

fn tasks() -> String {
    daily_file("a") + &daily_task("t", &["a"], "true")
}

#[tokio::test]
async fn each_right_that_is_lacking_is_named_with_what_it_breaks() {
    let mut world = World::new(&tasks()).await;
    world.stop().await;
    let network = Network::to(world.local.cloud()).await;
    for (call, actions, resource) in [
        ("ReceiveMessage", &["sqs:ReceiveMessage"][..], "/inbox"),
        ("DeleteMessageBatch", &["sqs:DeleteMessage"], "/inbox"),
        ("ChangeMessageVisibilityBatch", &["sqs:ChangeMessageVisibility"], "/inbox"),
        ("SendMessage", &["sqs:SendMessage"], "/quarantine"),
        ("Publish", &["sns:Publish"], ":status"),
        ("GetItem", &["dynamodb:GetItem"; 2], "test-"),
        ("PutItem", &["dynamodb:PutItem"; 2], "test-"),
        ("PutRun", &["dynamodb:PutItem"], "test-run"),
        ("UpdateItem", &["dynamodb:UpdateItem"; 2], "test-"),
        ("TransactWriteItems", &["dynamodb:ConditionCheckItem"], "test-task"),
        ("ListClusters", &["elasticmapreduce:ListClusters"], "*"),
        ("ListObjectsV2", &["s3:ListBucket"], BUCKET),
    ] {
        network.order(call, Fault::Denied, usize::MAX);
        let error = started(&world, &network).await;
        network.lift();
        let Some(ServiceError::Denied(denied)) = &error else { panic!("{call}: {error:?}") };
        let found: Vec<_> = denied.iter().map(|denied| denied.action).collect();
        assert_eq!(found, actions, "{call}");
        assert!(denied.iter().all(|denied| denied.resource.contains(resource)), "{denied:?}");
        let words = error.as_ref().unwrap().to_string();
        let Denied { action, resource, breaks } = &denied[0];
        assert!(words.contains(&format!("    {action} on {resource}: {breaks}\n")), "{words}");
        assert!(words.contains("nothing was started"), "{words}");
    }
    // Nothing of that has left a trace, and with all rights it works.
    assert!(world.mails_about("").is_empty());
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn what_only_task_files_declare_is_tried_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.toml"), tasks()).unwrap();
    let mut world = World::new("").await;
    world.stop().await;
    world.configure_head(&format!("task-files = {{ path = \"{}\" }}\n", folder.path().display()));
    let network = Network::to(world.local.cloud()).await;
    network.order("ListObjectsV2", Fault::Denied, usize::MAX);
    let error = started(&world, &network).await;
    let Some(ServiceError::Denied(denied)) = &error else { panic!("{error:?}") };
    assert_eq!((denied.len(), denied[0].action), (1, "s3:ListBucket"), "{denied:?}");
}

/// The others' data goes on; the place is told of by mail when something waits for it.
#[tokio::test]
async fn one_place_of_many_that_may_not_be_listed_stops_nothing() {
    let other = daily_file("b").replace(BUCKET, "partner");
    let mut world = World::new(&(tasks() + &other)).await;
    world.stop().await;
    let network = Network::to(world.local.cloud()).await;
    // The first list that is tried, and no other.
    network.order("ListObjectsV2", Fault::Denied, 1);
    let running = world.beside(&network.endpoint);
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    running.abort();
}

#[tokio::test]
async fn a_call_without_an_answer_hides_no_other() {
    let mut world = World::new(&tasks()).await;
    world.stop().await;
    let network = Network::to(world.local.cloud()).await;
    network.order("Publish", Fault::RequestHeld, usize::MAX);
    network.order("SendMessage", Fault::Denied, usize::MAX);
    let error = started(&world, &network).await;
    let Some(ServiceError::Denied(denied)) = &error else { panic!("{error:?}") };
    assert_eq!((denied.len(), denied[0].action), (1, "sqs:SendMessage"), "{denied:?}");
}

/// Nobody else would follow the cluster.
#[tokio::test]
async fn a_service_with_runs_under_way_goes_on_without_a_right() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go").display().to_string();
    let script = format!("until test -e {go}; do sleep 0.05; done");
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], &script))).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/running").await;
    world.kill().await;
    let network = Network::to(world.local.cloud()).await;
    network.order("SendMessage", Fault::Denied, usize::MAX);
    let running = world.beside(&network.endpoint);
    std::fs::write(&go, "").unwrap();
    world.mail("t/2013-01-01/succeeded").await;
    running.abort();
}
