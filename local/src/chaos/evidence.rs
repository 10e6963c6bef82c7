//! What a chaos run has left behind, gathered from outside the daemons: tables,
//! clusters, mails, queues, the log of requests, and what the steps wrote.
//! Judges nothing: that is done in `judge`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::line::Seen;
use super::plan::{Key, Plan};
use super::torment::Tally;
use crate::stage::mailbox::Mail;
use crate::stage::observe::{Cluster, Partition, Run};

#[derive(Debug, Default)]
pub struct Evidence {
    pub partitions: BTreeMap<Key, Partition>,
    pub runs: Vec<Run>,
    /// The daemons' own, and those that somebody else made.
    pub clusters: Vec<Cluster>,
    pub foreign: Vec<String>,
    /// In order of their coming.
    pub mails: Vec<Mail>,
    pub executions: Vec<Execution>,
    pub requests: Vec<Request>,
    /// Messages left in the inbox, and those in quarantine.
    pub inbox: u64,
    pub quarantine: u64,
    pub seen: Seen,
    pub tally: Tally,
    /// What was still open when time was up; empty if all came to rest.
    pub open: Vec<String>,
    /// Logs of daemons that contain a panic.
    pub panics: Vec<String>,
}

/// A line that a step wrote: it began or ended, on this cluster as this step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    pub key: Key,
    /// The step's name in the task.
    pub step: String,
    pub ended: bool,
    pub cluster: String,
    pub id: String,
}

/// A call to EMR that ends or adds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub action: String,
    /// The clusters that it names.
    pub clusters: Vec<String>,
}

impl Evidence {
    /// The daemons' clusters by `run/attempt`, which is the end of their names.
    pub fn by_attempt(&self, deployment: &str) -> BTreeMap<String, Vec<&Cluster>> {
        let mut attempts: BTreeMap<String, Vec<&Cluster>> = BTreeMap::new();
        for cluster in &self.clusters {
            let name =
                cluster.name.strip_prefix(deployment).and_then(|name| name.strip_prefix('/'));
            if let Some(name) = name.filter(|_| !self.foreign.contains(&cluster.id)) {
                attempts.entry(name.to_owned()).or_default().push(cluster);
            }
        }
        attempts
    }

    /// How many task partitions are as the plan has them.
    pub fn as_expected(&self, plan: &Plan) -> usize {
        let state = |key| self.partitions.get(key).map(|partition| partition.state.as_str());
        plan.expected.iter().filter(|(key, expected)| state(key) == Some(**expected)).count()
    }
}

/// What the steps wrote into `folder`: files `TASK.PARTITION.STEP`, with lines
/// `begin CLUSTER/steps/STEP…` and `end …`.
pub fn executions(folder: &Path) -> anyhow::Result<Vec<Execution>> {
    let mut executions = Vec::new();
    for entry in fs::read_dir(folder).context("cannot read what the steps wrote")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        for line in text.lines() {
            let execution = execution(&name, line);
            executions.push(execution.with_context(|| format!("{name} has the line {line:?}"))?);
        }
    }
    Ok(executions)
}

fn execution(file: &str, line: &str) -> Option<Execution> {
    let mut names = file.splitn(3, '.');
    let key = (names.next()?.to_owned(), names.next()?.to_owned());
    let step = names.next()?.to_owned();
    let (what, place) = line.split_once(' ')?;
    let mut place = place.split('/');
    let cluster = place.next()?.to_owned();
    let id = place.nth(1)?.to_owned();
    let ended = match what {
        "begin" => false,
        "end" => true,
        _ => return None,
    };
    Some(Execution { key, step, ended, cluster, id })
}

#[derive(Deserialize)]
struct LoggedRequest {
    action: String,
    body: String,
}

/// The calls of the request log that add to clusters or end them.
pub fn requests(log: &Path) -> anyhow::Result<Vec<Request>> {
    let text = fs::read_to_string(log).context("cannot read the log of requests")?;
    let mut requests = Vec::new();
    for line in text.lines().filter(|line| line.contains("\"elasticmapreduce\"")) {
        let LoggedRequest { action, body } =
            serde_json::from_str(line).context("a line of the log of requests")?;
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let many = body["JobFlowIds"].as_array().into_iter().flatten();
        let named = many.chain([&body["JobFlowId"]]).filter_map(Value::as_str);
        let clusters: Vec<_> = named.map(str::to_owned).collect();
        if !clusters.is_empty() {
            requests.push(Request { action, clusters });
        }
    }
    Ok(requests)
}

/// The logs in which somebody panicked.
pub fn panics(logs: &Path) -> anyhow::Result<Vec<String>> {
    let mut panics = Vec::new();
    for entry in fs::read_dir(logs).context("cannot read the daemons' logs")? {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if String::from_utf8_lossy(&text).contains("panicked at") {
            panics.push(path.display().to_string());
        }
    }
    Ok(panics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_step_says_where_it_ran() {
        let found = execution("load.2013-01-01T05.load", "end j-1/steps/s-2/work").unwrap();
        assert_eq!(found.key, ("load".to_owned(), "2013-01-01T05".to_owned()));
        assert_eq!((found.step.as_str(), found.ended), ("load", true));
        assert_eq!((found.cluster.as_str(), found.id.as_str()), ("j-1", "s-2"));
        assert_eq!(execution("load.2013-01-01T05.load", "ended"), None);
    }

    #[test]
    fn only_calls_that_name_clusters_to_change_count() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("requests.jsonl");
        let line = |action: &str, body: &str| {
            let body = Value::from(body);
            format!(
                r#"{{"service":"elasticmapreduce","action":"{action}","outcome":"ok","body":{body}}}"#
            )
        };
        let lines = [
            line("ListClusters", "{}"),
            line("TerminateJobFlows", r#"{"JobFlowIds":["j-1","j-2"]}"#),
            line("AddJobFlowSteps", r#"{"JobFlowId":"j-3"}"#),
        ];
        fs::write(&log, lines.join("\n")).unwrap();
        let found: Vec<_> = requests(&log).unwrap().into_iter().map(|call| call.clusters).collect();
        assert_eq!(found, [vec!["j-1".to_owned(), "j-2".to_owned()], vec!["j-3".to_owned()]]);
    }
}
