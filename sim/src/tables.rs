//! A world's tables: made as an operator makes them, with some things in the
//! account that are not ours to touch, and read from outside. Not for judging
//! what is in them.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use serde_json::{Value, json};
use sluicegate::aws::store::{Store, StoreError};
use sluicegate::core::asked::Asked;
use sluicegate::core::backfill::Backfill;

use crate::replica::operator;
use crate::scenario::DEPLOYMENT;
use crate::world::World;

pub const TASK: &str = "sim-task";
pub const UNIT: &str = "sim-file-unit";
pub const RUN: &str = "sim-run";
/// A format that only a later version writes.
const NEWER: &str = "999";
/// The task partition of a newer version; an hour for which nothing else comes.
pub const NEWER_TASK: &str = "t0";
pub const NEWER_PARTITION: &str = "2013-01-01T01";
/// Items of a newer version: to be left alone.
pub const NEWER_ITEMS: [(&str, &str); 2] =
    [(TASK, "t0 2013-01-01T01"), (RUN, "00000000000000000000000000")];

/// Creates the tables by the daemon's own command.
pub async fn create(world: &Arc<World>) -> anyhow::Result<()> {
    let store = Store::new(&operator(world), &format!("{DEPLOYMENT}-"));
    store.create_tables().await.context("the tables cannot be created")?;
    Ok(())
}

/// Stores a backfill as the command does.
pub async fn order(world: &Arc<World>, mut backfill: Backfill) {
    let store = Store::new(&operator(world), &format!("{DEPLOYMENT}-"));
    let stored = match store.last_order(&backfill.window.task).await {
        Ok(last) => store.order(&mut backfill, last).await,
        Err(error) => Err(error),
    };
    if let Err(error) = stored {
        world.violated("scenario", &format!("a backfill is refused: {error}"));
    }
    remember(world, &backfill.id);
}

/// Takes it back, as the command does; false if it is over.
pub async fn cancel(world: &Arc<World>, id: &str, asked: Asked) -> bool {
    let store = Store::new(&operator(world), &format!("{DEPLOYMENT}-"));
    loop {
        let Ok(Some(mut backfill)) = store.backfill(id).await else {
            world.violated("scenario", "the backfill that was ordered is not there");
            return false;
        };
        if !backfill.ask_cancel(asked.clone()) {
            return false;
        }
        match store.commit_document(&mut backfill).await {
            Ok(()) => break,
            Err(StoreError::Conflict(_)) => {}
            Err(error) => world.violated("scenario", &format!("no backfill is cancelled: {error}")),
        }
    }
    remember(world, id);
    true
}

/// The oracle sees what replicas write; this is an operator's.
fn remember(world: &World, id: &str) {
    let name = format!("~backfill {id}");
    if let Some(item) = read(world, TASK, &name) {
        world.oracle().ordered(&name, item);
    }
}

/// Clusters of others, some with names like ours but without our tag.
pub async fn plant_clusters(world: &World) {
    let run = "01AAAAAAAAAAAAAAAAAAAAAAAA/1";
    let names = ["somebody's notebook".to_owned(), format!("sim2/{run}"), format!("sim/{run}")];
    for name in names {
        plant_cluster(world, &name).await;
    }
}

/// A cluster that somebody else creates.
pub async fn plant_cluster(world: &World, name: &str) {
    let past = json!([{ "Key": "sluicegate:expires-at", "Value": "2013-01-01T00:00:00Z" }]);
    let body = json!({
        "Tags": past,
        "Name": name, "ReleaseLabel": "emr-7.13.0",
        "ServiceRole": "service", "JobFlowRole": "ec2",
        "Instances": {
            "KeepJobFlowAliveWhenNoSteps": true,
            "InstanceFleets": [{
                "InstanceFleetType": "MASTER", "TargetOnDemandCapacity": 1,
                "InstanceTypeConfigs": [{ "InstanceType": "m5.xlarge" }],
            }],
        },
    });
    world.ask("ElasticMapReduce.RunJobFlow", &body).await;
}

/// Items of a newer version.
pub async fn plant_items(world: &World) {
    for (table, name) in NEWER_ITEMS {
        let mut item = key(table, name);
        item["format"] = json!({ "N": NEWER });
        item["state"] = json!({ "S": "waiting" });
        item["shard"] = json!({ "S": "0" });
        item["due"] = json!({ "N": "1" });
        item["version"] = json!({ "N": "7" });
        let body = json!({ "TableName": table, "Item": item });
        world.ask("DynamoDB_20120810.PutItem", &body).await;
    }
}

/// An item as it is, or None. The document of a run is read once, here: what is
/// asked about it is asked often.
pub fn read(world: &World, table: &str, name: &str) -> Option<Value> {
    let body = json!({ "TableName": table, "Key": key(table, name), "ConsistentRead": true });
    let answer = world.cloud.dynamodb().call("GetItem", &Bytes::from(body.to_string()));
    let mut answer: Value = serde_json::from_slice(answer.response.body()).ok()?;
    let mut item = answer.get_mut("Item").map(Value::take)?;
    let document = item["document"]["S"].as_str().map(serde_json::from_str::<Value>);
    if let Some(document) = document {
        item["document"] = document.unwrap_or(Value::Null);
    }
    Some(item)
}

/// The key of an item by its name (see `call::Write::name`).
fn key(table: &str, name: &str) -> Value {
    let (first, second) = name.rsplit_once(' ').unwrap_or((name, ""));
    match table {
        RUN => json!({ "id": { "S": name } }),
        UNIT => json!({ "unit": { "S": first }, "row": { "S": second } }),
        _ => json!({ "task": { "S": first }, "partition": { "S": second } }),
    }
}
