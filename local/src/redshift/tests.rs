//! The API over a database of the tests' own, which does as it is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Notify;

use super::warehouse::{Outcome, Session};
use super::*;
use crate::clock::Clock;

/// Statements say what to do: `wait`, `fail`, or anything else, which works.
#[derive(Debug, Default)]
struct Told {
    refuses: bool,
    fails_to_commit: bool,
    commits: AtomicUsize,
    rollbacks: AtomicUsize,
    go_on: Notify,
}

struct ToldSession(Arc<Told>);

#[derive(Debug)]
struct ToldWarehouse(Arc<Told>);

#[async_trait]
impl Warehouse for ToldWarehouse {
    async fn connect(&self, _database: &str) -> Result<Box<dyn Session>, SqlError> {
        if self.0.refuses {
            return Err(SqlError::failed("no room"));
        }
        Ok(Box::new(ToldSession(Arc::clone(&self.0))))
    }

    async fn close(&self) {}
}

#[async_trait]
impl Session for ToldSession {
    async fn begin(&mut self) -> Result<(), SqlError> {
        Ok(())
    }

    async fn execute(&mut self, sql: &str, stop: &CancellationToken) -> Result<Outcome, SqlError> {
        match sql {
            "wait" => tokio::select! {
                biased;
                () = stop.cancelled() => Err(SqlError::Cancelled),
                () = self.0.go_on.notified() => Ok(Outcome::default()),
            },
            "fail" => Err(SqlError::failed("told so")),
            _ => Ok(Outcome::default()),
        }
    }

    async fn commit(&mut self) -> Result<(), SqlError> {
        if self.0.fails_to_commit {
            return Err(SqlError::failed("not serializable"));
        }
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn rollback(&mut self) {
        self.0.rollbacks.fetch_add(1, Ordering::Relaxed);
    }
}

fn api(told: &Arc<Told>, shutdown: &CancellationToken) -> RedshiftData {
    let warehouse: Arc<dyn Warehouse> = Arc::new(ToldWarehouse(Arc::clone(told)));
    let time = Time::new(Clock::real());
    RedshiftData::new(Some(warehouse), time, Arc::new(Ids::new(7)), shutdown.clone())
}

fn submit(api: &RedshiftData, sqls: &[&str]) -> Result<String, ApiError> {
    let body = json!({ "Sqls": sqls, "WorkgroupName": "main", "Database": "dev" });
    let answer = api.call("BatchExecuteStatement", body)?;
    Ok(answer["Id"].as_str().unwrap().to_owned())
}

fn status(api: &RedshiftData, id: &str) -> (String, Value) {
    let described = api.call("DescribeStatement", json!({ "Id": id })).unwrap();
    (described["Status"].as_str().unwrap().to_owned(), described["Error"].clone())
}

/// Lets the statements go on as far as they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_batch_commits_once_or_is_rolled_back() {
    let told = Arc::new(Told::default());
    let api = api(&told, &CancellationToken::new());
    let good = submit(&api, &["a", "b"]).unwrap();
    let bad = submit(&api, &["a", "fail", "b"]).unwrap();
    assert_eq!(status(&api, &good).0, "SUBMITTED");
    settle().await;
    assert_eq!(status(&api, &good), ("FINISHED".to_owned(), Value::Null));
    assert_eq!(
        status(&api, &bad),
        ("FAILED".to_owned(), json!("Query #2 failed with ERROR: told so"))
    );
    assert_eq!(told.commits.load(Ordering::Relaxed), 1);
    assert_eq!(told.rollbacks.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_failure_of_the_whole_is_told_without_a_number() {
    for (told, error) in [
        (Told { refuses: true, ..Told::default() }, "ERROR: no room"),
        (Told { fails_to_commit: true, ..Told::default() }, "ERROR: not serializable"),
    ] {
        let api = api(&Arc::new(told), &CancellationToken::new());
        let id = submit(&api, &["a"]).unwrap();
        settle().await;
        assert_eq!(status(&api, &id), ("FAILED".to_owned(), json!(error)));
    }
}

#[tokio::test]
async fn what_finds_no_slot_waits_and_no_more_than_500_are_accepted() {
    let told = Arc::new(Told::default());
    let shutdown = CancellationToken::new();
    let api = api(&told, &shutdown);
    let ids: Vec<String> =
        (0..machine::ACTIVE_MAX).map(|_| submit(&api, &["wait"]).unwrap()).collect();
    let refusal = submit(&api, &["a"]).unwrap_err();
    assert_eq!(refusal.code, "ActiveStatementsExceededException");
    settle().await;
    let count = |wanted: &str| ids.iter().filter(|id| status(&api, id).0 == wanted).count();
    assert_eq!((count("STARTED"), count("SUBMITTED")), (SLOTS, machine::ACTIVE_MAX - SLOTS));
    // One that waits for a slot can be cancelled, and one that ends makes room.
    let last = ids.last().unwrap();
    api.call("CancelStatement", json!({ "Id": last })).unwrap();
    told.go_on.notify_one();
    settle().await;
    assert_eq!(status(&api, last).0, "ABORTED");
    assert_eq!((count("STARTED"), count("FINISHED")), (SLOTS, 1));
    assert!(submit(&api, &["a"]).is_ok());
    // The end stops all.
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), api.close()).await.unwrap();
    assert_eq!(count("ABORTED"), machine::ACTIVE_MAX - 1);
}
