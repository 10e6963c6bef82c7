//! Bugs that other tools are known for, each as a test that passes here: what
//! it names went wrong there. Numbers are those of the projects' public issues.
//! That an append COPY which is retried loads twice (AWS Data Pipeline, Airflow) is a
//! matter of `loads`.

mod clusters;
mod data;
mod messages;

use std::fs;
use std::time::Duration;

use sluicegate_local::{Options, emr};
use tempfile::TempDir;

use crate::world::World;

/// Clusters start and end at once.
fn quick() -> Options {
    let emr = emr::Options {
        starting: Duration::from_millis(200),
        terminating: Duration::from_millis(200),
        ..emr::Options::default()
    };
    Options { emr, ..Options::default() }
}

/// A step that says that it runs and goes on when the test lets it.
struct Gate(TempDir);

impl Gate {
    fn closed() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The step's script; then it does something more.
    fn script(&self, then: &str) -> String {
        let path = self.0.path().display();
        format!("echo ran >> {path}/log; until test -e {path}/go; do sleep 0.05; done; {then}")
    }

    fn open(&self) {
        fs::write(self.0.path().join("go"), "").unwrap();
    }

    /// How often the step has been begun.
    fn begun(&self) -> usize {
        fs::read_to_string(self.0.path().join("log")).map_or(0, |log| log.lines().count())
    }

    async fn reached(&self, world: &World, times: usize) {
        let what = format!("begin {times} of the step");
        world.until(&what, || (self.begun() >= times).then_some(())).await;
    }
}

/// The state of every cluster, as EMR names it, and what it says of the reason.
fn clusters(world: &World) -> Vec<(String, String)> {
    world.local.cloud().emr().with(|machine, _| {
        let seen = machine.clusters().map(|cluster| {
            let state = serde_json::to_value(cluster.state).unwrap();
            let reason = cluster.reason.code.map(|code| format!("{code:?} "));
            let reason = reason.unwrap_or_default() + &cluster.reason.message;
            (state.as_str().unwrap().to_owned(), reason)
        });
        seen.collect()
    })
}

/// Waits until some cluster is in the state.
async fn cluster_is(world: &World, state: &str) {
    let found = || clusters(world).iter().any(|(now, _)| now == state).then_some(());
    world.until(&format!("a cluster that is {state}"), found).await;
}

/// The last step of a task, with this many retries a second apart.
fn retried(task: String, attempts: u32) -> String {
    format!("{task}retry = {{ attempts = {attempts}, delay = \"1s\", backoff-rate = 1.0 }}\n")
}
