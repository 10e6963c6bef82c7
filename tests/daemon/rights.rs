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
    match tokio::time::timeout(Duration::from_secs(3), running).await {
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
    assert!(started(&world, &network).await.is_none());
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
