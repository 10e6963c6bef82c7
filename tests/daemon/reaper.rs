//! `sluicegate reap`: ends what nobody needs, and touches nothing else.

use aws_sdk_dynamodb::types::AttributeValue::{N, S};
use aws_sdk_emr::types::{JobFlowInstancesConfig, Tag};
use serde_json::Value;
use sluicegate::aws;

use crate::commands::{answer, ask, json};
use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

/// A cluster as a daemon that is gone may have left it, or as others make them.
async fn cluster(world: &World, name: &str, tags: &[(&str, &str)]) -> String {
    let emr = aws_sdk_emr::Client::new(&aws::connect(&world.access()).await);
    let instances = JobFlowInstancesConfig::builder()
        .master_instance_type("m5.xlarge")
        .instance_count(1)
        .keep_job_flow_alive_when_no_steps(true)
        .build();
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build());
    let request = emr.run_job_flow().name(name).release_label("emr-7.13.0").instances(instances);
    let request = request.service_role("service").job_flow_role("ec2");
    let answer = request.set_tags(Some(tags.collect())).send().await.unwrap();
    answer.job_flow_id.unwrap()
}

/// A run whose document nobody can read.
async fn damage(world: &World, run: &str) {
    let tables = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    let put = tables.put_item().table_name("test-run").item("id", S(run.into()));
    let put = put.item("format", N("1".into())).item("version", N("3".into()));
    put.item("document", S("{".into())).send().await.unwrap();
}

async fn is_alive(world: &World, id: &str) -> bool {
    let emr = aws_sdk_emr::Client::new(&aws::connect(&world.access()).await);
    let found = emr.describe_cluster().cluster_id(id).send().await.unwrap();
    let state = found.cluster.unwrap().status.unwrap().state.unwrap();
    !state.as_str().starts_with("TERMINAT")
}

#[tokio::test]
async fn a_cluster_that_emr_refuses_to_end_is_told_once_and_tried_again() {
    let task = daily_file("a") + &daily_task("t", &["a"], "true");
    // Ten minutes a second.
    let mut world = World::at(&task, "2013-01-01T05:00:00Z", 600.0).await;
    let network = Network::to(world.local.cloud()).await;
    network.order("TerminateJobFlows", Fault::Refused, usize::MAX);
    world.through(&network).await;
    let tags =
        [("sluicegate:deployment", "test"), ("sluicegate:expires-at", "2013-01-01T00:00:00Z")];
    let id = cluster(&world, "test/01UNKNOWN/1", &tags).await;
    let tried = || (network.met("TerminateJobFlows") >= 3).then_some(());
    world.until("three looks", tried).await;
    for what in ["reaped", "not-terminated"] {
        assert_eq!(world.mails_about(&format!("cluster/{id}/{what}")).len(), 1);
    }
    network.lift();
    world.until_async("its end", || async { (!is_alive(&world, &id).await).then_some(()) }).await;
}

#[tokio::test]
async fn only_what_is_ours_and_not_needed_is_ended() {
    let (deployment, expires) = ("sluicegate:deployment", "sluicegate:expires-at");
    let (over, later) = ("2013-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    let ours = |expires_at| [(deployment, "test"), (expires, expires_at)];
    let mut world =
        World::new(&format!("{}{}", daily_file("a"), daily_task("t", &["a"], "true"))).await;
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("run-succeeded").await;
    world.kill().await;
    let runs = json(&world, &["runs"]).await;
    let run = runs["runs"][0]["id"].as_str().unwrap().to_owned();
    let overdue = cluster(&world, "test/01UNKNOWN/1", &ours(over)).await;
    let late = cluster(&world, &format!("test/{run}/1"), &ours(later)).await;
    // Nobody can follow it, so nobody else ends its cluster.
    damage(&world, "01DAMAGED").await;
    let stuck = cluster(&world, "test/01DAMAGED/1", &ours(over)).await;
    let kept = [
        cluster(&world, "test/01DAMAGED/1", &ours(later)).await,
        cluster(&world, "test/01UNKNOWN/1", &ours(later)).await,
        // Who gives a cluster our name has not given it our tag.
        cluster(&world, "test/01UNKNOWN/1", &[(expires, over)]).await,
        cluster(&world, "test-2/01UNKNOWN/1", &[(deployment, "test-2"), (expires, over)]).await,
        cluster(&world, "their own", &ours(over)).await,
    ];
    let found = json(&world, &["reap", "--once", "--dry-run"]).await;
    assert_eq!(found["reaped"].as_array().unwrap().len(), 3, "{found}");
    assert!(is_alive(&world, &overdue).await);
    let text = answer(&world, &["reap", "--once"]).await;
    assert!(text.starts_with("ended 3 clusters\n"), "{text}");
    assert!(text.contains(&format!("{late}  test/{run}/1  its run has ended")), "{text}");
    for gone in [&overdue, &late, &stuck] {
        assert!(!is_alive(&world, gone).await);
        let mail = world.mail(&format!("cluster/{gone}/reaped")).await;
        assert!(mail.subject.contains("is terminated"), "{}", mail.subject);
    }
    for other in &kept {
        assert!(is_alive(&world, other).await);
    }
    assert_eq!(answer(&world, &["reap", "--once"]).await, "no cluster that nobody needs\n");
    // What the alarm for a silent reaper counts.
    let text = answer(&world, &["reap", "--once", "--emf"]).await;
    let (line, rest) = text.split_once('\n').unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["ReaperLooks"], &line["Deployment"]),
        (&Value::from(1), &Value::from("test"))
    );
    assert_eq!(rest, "no cluster that nobody needs\n");
    // When nobody can tell what runs need, the look was not complete.
    let tables = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    tables.delete_table().table_name("test-run").send().await.unwrap();
    let text = answer(&world, &["reap", "--once", "--emf"]).await;
    assert!(text.starts_with("no cluster that nobody needs\n3 left alone"), "{text}");
    assert_eq!(ask(&world, &["reap"]).await.0, 2, "--once is to be said");
}
