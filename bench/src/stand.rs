//! The test stand: a local AWS in this process, with what an operator would
//! make in it. Events are put into its queues directly, and it is looked at
//! directly, so that neither counts as a call.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sluicegate_local::call_log::Counts;
use sluicegate_local::emr::model::Cluster;
use sluicegate_local::{LocalAws, Options, emr};
use tempfile::TempDir;

use crate::process::Program;
use crate::wait::poll;

pub const REGION: &str = "us-east-1";
pub const BUCKET: &str = "landing";

/// How a stand differs from the usual one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// Keeps the time of every call. The tables are in a file then.
    pub call_log: bool,
    /// Keeps the body of every request.
    pub request_log: bool,
    /// EMR tells the daemon's queue what happens to clusters.
    pub events: bool,
    /// From RunJobFlow to the first step.
    pub starting: Duration,
    pub terminating: Duration,
}

pub struct Stand {
    pub local: LocalAws,
    folder: TempDir,
    queues: Vec<String>,
}

/// One line of the call log.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    pub time: Timestamp,
    pub service: String,
    pub action: String,
}

impl Stand {
    pub async fn start(setup: Setup) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder")?;
        let local = LocalAws::start(Options {
            data: Some(folder.path().join("aws")),
            in_memory: !setup.call_log,
            requests: setup.request_log.then(|| folder.path().join("requests.jsonl")),
            emr: emr::Options {
                starting: setup.starting,
                terminating: setup.terminating,
                ..emr::Options::default()
            },
            ..Options::default()
        })
        .await?;
        let mut stand = Self { local, folder, queues: Vec::new() };
        for queue in ["inbox", "quarantine"] {
            stand.create_queue(queue).await?;
        }
        let topic = b"Action=CreateTopic&Name=status&Version=2010-03-31";
        let answer = stand.local.cloud().sns().call(topic, REGION);
        ensure!(answer.outcome == "ok", "no topic: {}", answer.outcome);
        if setup.events {
            stand.bring_events()?;
        }
        Ok(stand)
    }

    pub async fn create_queue(&mut self, name: &str) -> anyhow::Result<()> {
        self.sqs("CreateQueue", json!({ "QueueName": name })).await?;
        self.queues.push(name.to_owned());
        Ok(())
    }

    fn bring_events(&self) -> anyhow::Result<()> {
        let events = self.local.cloud().events();
        let pattern = json!({ "source": ["aws.emr"] }).to_string();
        events.call("PutRule", json!({ "Name": "emr", "EventPattern": pattern }), REGION)?;
        let targets = json!([{ "Id": "inbox", "Arn": queue_arn("inbox") }]);
        events.call("PutTargets", json!({ "Rule": "emr", "Targets": targets }), REGION)?;
        Ok(())
    }

    async fn sqs(&self, action: &str, body: Value) -> anyhow::Result<Value> {
        Ok(self.local.cloud().sqs().call(action, body, REGION).await?)
    }

    /// A file of the stand's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The daemon with this configuration, its tables made.
    pub async fn daemon(&self, path: &Path, config: &str) -> anyhow::Result<Program> {
        let program = Program {
            path: path.to_owned(),
            config: self.path("bench.toml"),
            endpoint: self.local.endpoint().to_owned(),
            log: self.path("daemon.log"),
        };
        fs::write(&program.config, config)?;
        program.create_tables().await?;
        Ok(program)
    }

    pub fn send(&self, queue: &str, body: String) -> anyhow::Result<()> {
        self.local.cloud().sqs().deliver(&queue_arn(queue), body, BTreeMap::new())?;
        Ok(())
    }

    /// Waits until every message has been taken from a queue.
    pub async fn drained(&self, queue: &str) -> anyhow::Result<()> {
        let url = format!("{}/000000000000/{queue}", self.local.endpoint());
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let body = json!({ "QueueUrl": url, "AttributeNames": names });
        poll("the queue to be empty", Duration::from_millis(2), async || {
            let answer = self.sqs("GetQueueAttributes", body.clone()).await?;
            let left = |name| answer["Attributes"][name].as_str() != Some("0");
            Ok((!names.into_iter().any(left)).then_some(()))
        })
        .await
    }

    /// How often actions of a service were called: all, or one.
    pub fn calls(&self, service: &str, action: Option<&str>) -> u64 {
        count(&self.counts(), service, action)
    }

    pub fn counts(&self) -> Counts {
        self.local.cloud().calls()
    }

    /// Waits until an action was called so often.
    pub async fn called(&self, service: &str, action: &str, times: u64) -> anyhow::Result<()> {
        poll(&format!("call {times} of {action}"), Duration::from_millis(1), async || {
            Ok((self.calls(service, Some(action)) >= times).then_some(()))
        })
        .await
    }

    /// The call log so far.
    pub fn call_log(&self) -> anyhow::Result<Vec<Call>> {
        let log = fs::read_to_string(self.local.data().join("calls.jsonl"))?;
        Ok(log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Waits until no call has come for `pause`: what follows from events later.
    pub async fn at_rest(&self, pause: Duration) -> anyhow::Result<()> {
        let mut last = 0;
        poll("the calls to end", pause, async || {
            let calls = self.calls("dynamodb", None) + self.calls("sns", None);
            let same = calls == last;
            last = calls;
            Ok(same.then_some(()))
        })
        .await
    }

    /// All clusters there ever were, in the order they were made.
    pub fn clusters(&self) -> Vec<Cluster> {
        let emr = self.local.cloud().emr();
        let mut clusters: Vec<_> = emr.with(|machine, _| machine.clusters().cloned().collect());
        clusters.sort_by_key(|cluster| cluster.number);
        clusters
    }

    /// Waits until there have been so many clusters, and none is alive.
    pub async fn clusters_ended(&self, count: u32) -> anyhow::Result<()> {
        poll(&format!("{count} clusters to end"), Duration::from_millis(10), async || {
            let ended = self.local.cloud().emr().with(|machine, _| {
                let ended = |cluster: &&Cluster| cluster.ended.is_some();
                machine.clusters().filter(ended).count()
            });
            Ok((ended >= count as usize).then_some(()))
        })
        .await
    }

    pub fn now(&self) -> Timestamp {
        self.local.cloud().time().dev()
    }

    pub async fn end(self) {
        self.local.shutdown().await;
    }
}

pub fn count(counts: &Counts, service: &str, action: Option<&str>) -> u64 {
    let found = counts
        .iter()
        .filter(|((of, name), _)| of == service && action.is_none_or(|action| action == name));
    found.map(|(_, count)| count).sum()
}

fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:000000000000:{name}")
}
