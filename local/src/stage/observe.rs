//! Looks at the world from outside the daemon: its tables, the clusters, the
//! queues and the call log, without a call of its own in that log. Decides
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cloud::Cloud;

/// A task partition as its table holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    pub task: String,
    pub partition: String,
    pub state: String,
    pub run: Option<String>,
    pub reason: Option<String>,
    pub ready_at: Option<Timestamp>,
    /// Datasets of which something has come in.
    pub datasets: BTreeSet<String>,
    /// Notices that are not yet published.
    pub notices_pending: usize,
}

/// A run as its table holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Run {
    pub id: String,
    pub state: String,
    pub created: Timestamp,
    pub members: Vec<Member>,
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    notices: Vec<Value>,
    /// Logs of failed steps that it still waits for.
    #[serde(default)]
    logs: Vec<Value>,
}

/// One cluster of a run, if it got one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attempt {
    pub cluster: Option<String>,
}

/// A task partition in a run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    pub key: Key,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Key {
    pub task: String,
    pub partition: String,
}

/// A cluster as ListClusters shows it, and its steps, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub id: String,
    pub name: String,
    pub state: String,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub id: String,
    pub name: String,
    pub state: String,
    /// When its process began, if it did.
    pub started: Option<Timestamp>,
    /// When it entered its state.
    pub changed: Timestamp,
    /// Why it failed, in EMR's words.
    pub message: Option<String>,
}

/// Calls of one client to one service: outcomes by action.
pub type Calls = BTreeMap<String, BTreeMap<String, u64>>;

impl Run {
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed")
    }

    /// Nothing of it is left to do or to tell.
    pub fn is_over(&self) -> bool {
        self.is_final() && self.notices.is_empty() && self.logs.is_empty()
    }
}

impl Partition {
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "skipped")
    }
}

impl Cluster {
    pub fn has_ended(&self) -> bool {
        self.state.starts_with("TERMINATED")
    }
}

/// All task partitions, by task and partition.
pub fn partitions(cloud: &Cloud, table_prefix: &str) -> anyhow::Result<Vec<Partition>> {
    let items = scan(cloud, &format!("{table_prefix}task"))?;
    let mut partitions: Vec<Partition> = items.iter().filter_map(partition).collect();
    partitions.sort_by(|a, b| (&a.task, &a.partition).cmp(&(&b.task, &b.partition)));
    Ok(partitions)
}

/// None for a schedule's mark, which stands in the same table.
fn partition(item: &Map<String, Value>) -> Option<Partition> {
    let text = |name: &str| item.get(name)?.get("S")?.as_str().map(str::to_owned);
    let millis = item.get("ready-at").and_then(|value| value.get("N")?.as_str()?.parse().ok());
    let dataset = |name: &String| Some(name.strip_prefix("in:")?.split_once('@')?.0.to_owned());
    Some(Partition {
        task: text("task")?,
        partition: text("partition")?,
        state: text("state")?,
        run: text("run"),
        reason: text("reason"),
        ready_at: millis.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        datasets: item.keys().filter_map(dataset).collect(),
        notices_pending: item.keys().filter(|name| name.starts_with("out:")).count(),
    })
}

/// All runs, in order of their creation.
pub fn runs(cloud: &Cloud, table_prefix: &str) -> anyhow::Result<Vec<Run>> {
    let items = scan(cloud, &format!("{table_prefix}run"))?;
    let mut runs: Vec<Run> = items.iter().filter_map(run).collect::<Result<_, _>>()?;
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(runs)
}

fn scan(cloud: &Cloud, table: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Page {
        items: Vec<Map<String, Value>>,
        last_evaluated_key: Option<Value>,
    }
    let mut items = Vec::new();
    let mut request = json!({ "TableName": table, "ConsistentRead": true });
    loop {
        let answer = cloud.dynamodb().call("Scan", &Bytes::from(request.to_string()));
        if answer.response.status() != StatusCode::OK {
            anyhow::bail!("table {table} cannot be read: {}", answer.outcome);
        }
        let mut page: Page = serde_json::from_slice(answer.response.body())?;
        items.append(&mut page.items);
        match page.last_evaluated_key {
            Some(key) => request["ExclusiveStartKey"] = key,
            None => return Ok(items),
        }
    }
}

/// None for a guard's claim, which stands in the same table.
fn run(item: &Map<String, Value>) -> Option<anyhow::Result<Run>> {
    let text = |name: &str| item.get(name)?.get("S")?.as_str();
    if text("id")?.starts_with("claim/") {
        return None;
    }
    let document = text("document").unwrap_or_default();
    Some(serde_json::from_str(document).context("a run in the table"))
}

/// All clusters there ever were, oldest first.
pub fn clusters(cloud: &Cloud) -> anyhow::Result<Vec<Cluster>> {
    let mut clusters = Vec::new();
    for summary in pages(cloud, "ListClusters", json!({}), "Clusters")? {
        let id = text(&summary, "/Id");
        let steps = pages(cloud, "ListSteps", json!({ "ClusterId": id }), "Steps")?;
        clusters.push(Cluster {
            id,
            name: text(&summary, "/Name"),
            state: text(&summary, "/Status/State"),
            created: timeline(&summary, "CreationDateTime").unwrap_or_default(),
            ended: timeline(&summary, "EndDateTime"),
            steps: steps.iter().rev().map(step).collect(),
        });
    }
    clusters.reverse();
    Ok(clusters)
}

fn step(step: &Value) -> Step {
    let mut times = ["EndDateTime", "StartDateTime", "CreationDateTime"].into_iter();
    let message = step.pointer("/Status/FailureDetails/Message").and_then(Value::as_str);
    Step {
        id: text(step, "/Id"),
        name: text(step, "/Name"),
        state: text(step, "/Status/State"),
        started: timeline(step, "StartDateTime"),
        changed: times.find_map(|name| timeline(step, name)).unwrap_or_default(),
        message: message.map(str::to_owned),
    }
}

/// The API has dates as seconds since 1970, with a fraction.
fn timeline(value: &Value, name: &str) -> Option<Timestamp> {
    let seconds = value.pointer(&format!("/Status/Timeline/{name}"))?.as_f64()?;
    let since = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_duration(since).ok()
}

fn pages(
    cloud: &Cloud,
    action: &str,
    mut request: Value,
    member: &str,
) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    loop {
        let mut answer = cloud.emr().call(action, request.clone())?;
        if let Some(Value::Array(mut page)) = answer.get_mut(member).map(Value::take) {
            all.append(&mut page);
        }
        match answer.get_mut("Marker").map(Value::take) {
            Some(marker) => request["Marker"] = marker,
            None => return Ok(all),
        }
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Messages in a queue, whether they can be received now or not.
pub async fn depth(cloud: &Cloud, region: &str, queue: &str) -> anyhow::Result<u64> {
    let request = json!({ "QueueUrl": queue, "AttributeNames": ["All"] });
    let answer = cloud.sqs().call("GetQueueAttributes", request, region).await?;
    let names = ["", "NotVisible", "Delayed"];
    let count = |name: &str| -> u64 {
        let pointer = format!("/Attributes/ApproximateNumberOfMessages{name}");
        text(&answer, &pointer).parse().unwrap_or(0)
    };
    Ok(names.into_iter().map(count).sum())
}

/// One line of the call log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Call {
    pub service: String,
    pub action: String,
    pub outcome: String,
}

/// The calls in the log from its line `first` on; a last line that is still
/// being written does not count.
pub fn calls(log: &Path, first: usize) -> anyhow::Result<Vec<Call>> {
    let text = fs::read_to_string(log).context("cannot read the call log")?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().skip(first);
    let call = |line: &str| serde_json::from_str(line).context("a line of the call log");
    lines.map(call).collect()
}

/// How often each service's actions were called.
pub fn count<'a>(calls: impl Iterator<Item = &'a Call>) -> Calls {
    let mut counts = Calls::new();
    for Call { service, action, .. } in calls {
        *counts.entry(service.clone()).or_default().entry(action.clone()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_and_a_mark_is_none() {
        let item = json!({
            "task": {"S": "etl"}, "partition": {"S": "2013-01-01T10"}, "state": {"S": "ready"},
            "ready-at": {"N": "1357038960000"}, "version": {"N": "3"},
            "in:slot": {"S": "slot:2013-01-01T11:05:00Z"},
            "in:raw@2013-01-01T10": {"S": "closed:6"},
            "out:ready": {"S": "{}"},
        });
        let expected = Partition {
            task: "etl".to_owned(),
            partition: "2013-01-01T10".to_owned(),
            state: "ready".to_owned(),
            ready_at: Some("2013-01-01T11:16:00Z".parse().unwrap()),
            datasets: BTreeSet::from(["raw".to_owned()]),
            notices_pending: 1,
            ..Partition::default()
        };
        assert_eq!(partition(item.as_object().unwrap()), Some(expected));
        let mark = json!({"task": {"S": "etl"}, "partition": {"S": "~schedule"}});
        assert_eq!(partition(mark.as_object().unwrap()), None);
    }

    #[test]
    fn a_run_is_read_and_a_claim_is_none() {
        let document = json!({
            "id": "R", "state": "running", "created": "2013-01-01T11:16:00Z", "notices": [],
            "members": [{"key": {"task": "etl", "partition": "2013-01-01T10"}}],
            "attempts": [{"cluster": "j-1"}],
        });
        let item = json!({"id": {"S": "R"}, "document": {"S": document.to_string()}});
        let found = run(item.as_object().unwrap()).unwrap().unwrap();
        assert_eq!(found.attempts, [Attempt { cluster: Some("j-1".to_owned()) }]);
        assert!(!found.is_over());
        let claim = json!({"id": {"S": "claim/R/1/1"}, "holder": {"S": "j-1"}});
        assert!(run(claim.as_object().unwrap()).is_none());
        let broken = json!({"id": {"S": "R"}});
        assert!(run(broken.as_object().unwrap()).unwrap().is_err());
    }

    #[test]
    fn calls_are_counted_from_a_line_on_and_only_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("calls.jsonl");
        let line = |service: &str, action: &str| {
            format!("{{\"service\":\"{service}\",\"action\":\"{action}\",\"outcome\":\"ok\"}}\n")
        };
        let text = [line("sqs", "CreateQueue"), line("sqs", "Receive"), line("sqs", "Receive")];
        fs::write(&log, text.concat() + "{\"service\":\"sn").unwrap();
        let counts = count(calls(&log, 1).unwrap().iter());
        let of_sqs = BTreeMap::from([("Receive".to_owned(), 2)]);
        assert_eq!(counts, Calls::from([("sqs".to_owned(), of_sqs)]));
        assert_eq!(calls(&log, 0).unwrap().len(), 3);
    }
}
