//! What the calls of a run would cost on DynamoDB: its requests are played
//! again to an empty engine, in order, with the consumed capacity asked for.
//! Strings and numbers count by DynamoDB's own rules of rounding: a write unit
//! for each 1 KB of an item and of each index entry it changes, half a read
//! unit for each 4 KB of an eventually consistent read.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use sluicegate_local::clock::Clock;
use sluicegate_local::dynamodb::DynamoDb;
use sluicegate_local::time::Time;

#[derive(Deserialize)]
struct Line {
    service: String,
    action: String,
    outcome: String,
    body: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Units {
    pub write: f64,
    pub read: f64,
}

/// How many requests the log holds so far: where a count begins.
pub fn mark(log: &Path) -> anyhow::Result<usize> {
    Ok(fs::read_to_string(log).context("cannot read the requests")?.lines().count())
}

/// The units of the requests after `from`.
pub fn units(log: &Path, from: usize) -> anyhow::Result<Units> {
    let engine = DynamoDb::in_memory(Time::new(Clock::real()))?;
    let mut units = Units::default();
    let log = fs::read_to_string(log).context("cannot read the requests")?;
    for (number, line) in log.lines().enumerate() {
        let line: Line = serde_json::from_str(line)?;
        if line.service != "dynamodb" {
            continue;
        }
        let mut body: Value = serde_json::from_str(&line.body)?;
        let data = ["Item", "Query", "Scan"];
        let counts = data.iter().any(|name| line.action.contains(name));
        if counts {
            body["ReturnConsumedCapacity"] = "TOTAL".into();
        }
        let answer = engine.call(&line.action, &Bytes::from(body.to_string()));
        // Requests that raced may be logged in another order than they took effect.
        let outcomes = [answer.outcome.as_str(), line.outcome.as_str()];
        ensure!(
            outcomes[0] == outcomes[1] || outcomes.contains(&"ConditionalCheckFailedException"),
            "request {number}, {}: {} at first, {} when played again",
            line.action,
            outcomes[1],
            outcomes[0]
        );
        if counts && number >= from {
            let answer: Value = serde_json::from_slice(answer.response.body())?;
            let consumed = consumed(&answer["ConsumedCapacity"]);
            match line.action.contains("Query") || line.action.contains("Get") {
                true => units.read += consumed,
                false => units.write += consumed,
            }
        }
    }
    Ok(units)
}

/// Of one table, or of several.
fn consumed(capacity: &Value) -> f64 {
    match capacity {
        Value::Array(tables) => tables.iter().map(consumed).sum(),
        table => table["CapacityUnits"].as_f64().unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_cost_what_dynamodb_takes_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("requests.jsonl");
        let line = |action: &str, body: Value| {
            let body = body.to_string();
            let service = "dynamodb";
            serde_json::json!({ "service": service, "action": action, "outcome": "ok", "body": body })
                .to_string()
        };
        let table = serde_json::json!({
            "TableName": "runs",
            "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }],
            "BillingMode": "PAY_PER_REQUEST",
        });
        let put = |bytes: usize| {
            let item = serde_json::json!({ "id": { "S": "a" }, "x": { "S": "x".repeat(bytes) } });
            line("PutItem", serde_json::json!({ "TableName": "runs", "Item": item }))
        };
        let key = serde_json::json!({ "id": { "S": "a" } });
        let get = line("GetItem", serde_json::json!({ "TableName": "runs", "Key": key }));
        let lines = [line("CreateTable", table), put(10), put(10), put(1500), get];
        fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(units(&log, 0).unwrap(), Units { write: 4.0, read: 0.5 });
        assert_eq!(units(&log, 3).unwrap(), Units { write: 2.0, read: 0.5 });
    }
}
