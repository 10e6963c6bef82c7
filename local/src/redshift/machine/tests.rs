//! The statements' life by a clock that the tests move.

use jiff::ToSpan;
use serde_json::{Value, json};

use super::*;

fn request(change: Value) -> Submission {
    let mut body = json!({ "Database": "dev", "WorkgroupName": "main", "Sql": "select 1" });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    let is_batch = body.get("Sqls").is_some();
    Submission::read(body, is_batch).unwrap()
}

fn start() -> Timestamp {
    "2013-01-01T05:00:00Z".parse().unwrap()
}

fn statuses(machine: &Machine, id: &str) -> (Status, Vec<Status>) {
    let (found, _) = machine.find(id).unwrap();
    (found.status, found.parts.iter().map(|part| part.status).collect())
}

#[test]
fn a_token_stands_for_its_request_for_eight_hours() {
    let mut machine = Machine::default();
    let now = start();
    let first = request(json!({ "ClientToken": "t" }));
    let new = |id: &str| Ok(Accepted::New(id.to_owned()));
    let mut submit =
        |request: &Submission, id: &str, at| machine.submit(request.clone(), id.to_owned(), at);
    assert_eq!(submit(&first, "a", now), new("a"));
    assert_eq!(submit(&first, "b", now + 7.hours()), Ok(Accepted::Known("a".to_owned())));
    let other = request(json!({ "ClientToken": "t", "Sql": "select 2" }));
    assert_eq!(submit(&other, "c", now), Err(Refusal::TokenOfAnother));
    let batch = request(json!({ "ClientToken": "t", "Sqls": ["select 1"] }));
    assert_eq!(submit(&batch, "d", now), Err(Refusal::TokenOfAnother));
    // Letters count, and whoever gives no token gets a new statement.
    assert_eq!(submit(&request(json!({ "ClientToken": "T" })), "e", now), new("e"));
    assert_eq!(submit(&request(json!({})), "f", now), new("f"));
    assert_eq!(submit(&request(json!({})), "g", now), new("g"));
    assert_eq!(submit(&other, "h", now + 8.hours()), new("h"));
}

#[test]
fn the_first_failure_of_a_batch_ends_it() {
    let mut machine = Machine::default();
    let now = start();
    let batch = request(json!({ "Sqls": ["a", "b", "c"] }));
    machine.submit(batch, "x".to_owned(), now).unwrap();
    machine.picked("x", now);
    machine.started("x", 0, now);
    assert_eq!(statuses(&machine, "x").0, Status::Started);
    machine.succeeded("x", 0, Outcome { rows: 3, table: None }, now + 1.second());
    machine.started("x", 1, now + 1.second());
    machine.ended("x", Some(1), SqlError::failed("no b"), now + 2.seconds());
    let (status, parts) = statuses(&machine, "x");
    assert_eq!(status, Status::Failed);
    assert_eq!(parts, [Status::Finished, Status::Failed, Status::Aborted]);
    let (found, _) = machine.find("x").unwrap();
    assert_eq!(found.error.as_deref(), Some("Query #2 failed with ERROR: no b"));
    assert_eq!(found.parts[1].error.as_deref(), Some("ERROR: no b"));
    assert_eq!(found.duration(), SignedDuration::from_secs(2));
    assert_eq!(machine.check_running("x"), Err(Refusal::HasEnded(Status::Failed)));
    for (id, part) in [("x:1", Ok(Some(0))), ("x:3", Ok(Some(2))), ("x:4", Err(Refusal::Unknown))] {
        assert_eq!(machine.find(id).map(|(_, part)| part), part, "{id}");
    }
    for id in ["x:0", "x:", "x:-1", "y", "y:1", ""] {
        assert_eq!(machine.find(id).map(|_| ()), Err(Refusal::Unknown), "{id}");
    }
}

#[test]
fn what_is_stopped_is_aborted_without_an_error() {
    let mut machine = Machine::default();
    let now = start();
    machine.submit(request(json!({})), "x".to_owned(), now).unwrap();
    machine.started("x", 0, now);
    machine.ended("x", Some(0), SqlError::Cancelled, now);
    assert_eq!(statuses(&machine, "x"), (Status::Aborted, vec![Status::Aborted]));
    assert_eq!(machine.find("x").unwrap().0.error, None);
    // A part has a number only in a batch.
    assert_eq!(machine.find("x:1").map(|_| ()), Err(Refusal::Unknown));
}

#[test]
fn no_more_than_500_are_under_way() {
    let mut machine = Machine::default();
    let now = start();
    for number in 0..ACTIVE_MAX {
        machine.submit(request(json!({})), number.to_string(), now).unwrap();
    }
    let more = machine.submit(request(json!({})), "more".to_owned(), now);
    assert_eq!(more, Err(Refusal::TooManyActive));
    let other = request(json!({ "WorkgroupName": "other" }));
    assert!(machine.submit(other, "other".to_owned(), now).is_ok());
    machine.finished("7", now);
    assert!(machine.submit(request(json!({})), "more".to_owned(), now).is_ok());
}

#[test]
fn a_statement_is_kept_for_a_day_after_its_end() {
    let mut machine = Machine::default();
    let now = start();
    for id in ["endless", "done"] {
        machine.submit(request(json!({})), id.to_owned(), now).unwrap();
        machine.started(id, 0, now);
    }
    machine.finished("done", now + 1.hour());
    machine.forget_old(now + 24.hours());
    assert!(machine.find("done").is_ok());
    machine.forget_old(now + 25.hours());
    assert_eq!(machine.find("done").map(|_| ()), Err(Refusal::Unknown));
    assert!(machine.find("endless").is_ok());
}
