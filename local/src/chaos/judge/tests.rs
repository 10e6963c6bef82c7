//! A small world in which all is well, and each way to break a promise in it.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::chaos::evidence::{Execution, Request};
use crate::chaos::torment::Misdeed;
use crate::stage::mailbox::Mail;
use crate::stage::observe::{Attempt, Partition};

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn key() -> Key {
    ("load".to_owned(), "2013-01-01T05".to_owned())
}

fn plan() -> Plan {
    let bad = ("flaky".to_owned(), "2013-01-01T07".to_owned());
    let expected = BTreeMap::from([(key(), "succeeded"), (bad, "failed")]);
    Plan { expected, unreadable: 1, ..Plan::default() }
}

fn step(id: &str, name: &str, state: &str, started: i64) -> Step {
    let (id, name, state) = (id.to_owned(), name.to_owned(), state.to_owned());
    Step { id, name, state, started: Some(at(started)), changed: at(started + 1), message: None }
}

fn cluster(id: &str, name: &str, span: (i64, Option<i64>), steps: Vec<Step>) -> Cluster {
    let state = if span.1.is_some() { "TERMINATED" } else { "WAITING" };
    let (id, name, state) = (id.to_owned(), name.to_owned(), state.to_owned());
    Cluster { id, name, state, created: at(span.0), ended: span.1.map(at), steps }
}

fn mail(event: &str, severity: &str) -> Mail {
    Mail {
        subject: String::new(),
        at: at(0),
        event: event.to_owned(),
        severity: severity.to_owned(),
        status: String::new(),
        task: None,
        partition: None,
        run: None,
    }
}

fn execution(id: &str, ended: bool) -> Execution {
    let (cluster, step) = (String::new(), String::new());
    Execution { key: key(), step, ended, cluster, id: id.to_owned() }
}

/// One run: its first cluster is lost in the step, its second executes it.
fn world() -> Evidence {
    let name = "load/2013-01-01T05/load/1";
    let guard = || step("s-0", "sluicegate/guard/1", "COMPLETED", 10);
    let lost = step("s-1", name, "CANCELLED", 11);
    let done = vec![
        guard(),
        step("s-2", name, "COMPLETED", 30),
        step("s-3", "flaky/2013-01-01T07/try/2", "FAILED", 32),
    ];
    let run = serde_json::json!({
        "id": "R", "state": "failed", "created": at(0), "notices": [], "members": [],
        "attempts": [{ "cluster": "j-1" }, { "cluster": "j-2" }],
    });
    let partition = |(key, state): (&Key, &&str)| {
        let state = (*state).to_owned();
        (key.clone(), Partition { state, ..Partition::default() })
    };
    let mails = [
        ("load/2013-01-01T05/ready", "info"),
        ("flaky/2013-01-01T07/ready", "info"),
        ("load/2013-01-01T05/running", "info"),
        ("flaky/2013-01-01T07/running", "info"),
        ("load/2013-01-01T05/succeeded", "info"),
        ("load/2013-01-01T05/ready", "info"),
        ("flaky/2013-01-01T07/failed", "failure"),
        ("run/R/2/run-failed", "warning"),
    ];
    Evidence {
        partitions: plan().expected.iter().map(partition).collect(),
        runs: vec![serde_json::from_value(run).unwrap()],
        clusters: vec![
            cluster("j-0", "nightly", (0, None), Vec::new()),
            cluster("j-1", "chaos/R/1", (1, Some(20)), vec![guard(), lost]),
            cluster("j-2", "chaos/R/2", (21, Some(40)), done),
        ],
        foreign: vec!["j-0".to_owned()],
        mails: mails.map(|(event, severity)| mail(event, severity)).to_vec(),
        executions: vec![
            execution("s-1", false),
            execution("s-2", false),
            execution("s-2", true),
            execution("s-3", false),
        ],
        requests: vec![call("TerminateJobFlows", "j-2")],
        quarantine: 1,
        ..Evidence::default()
    }
}

fn call(action: &str, cluster: &str) -> Request {
    Request { action: action.to_owned(), clusters: vec![cluster.to_owned()] }
}

/// What is broken by a change of the world.
fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<(&'static str, String)> {
    let mut world = world();
    change(&mut world);
    let violations = judge(&plan(), &world).into_iter();
    violations.map(|violation| (violation.invariant, violation.what)).collect()
}

#[test]
fn a_world_in_which_all_is_well_breaks_nothing() {
    assert_eq!(broken(|_| {}), []);
}

#[test]
fn every_broken_promise_is_found_and_named() {
    type Change = fn(&mut Evidence);
    let cases: [(Change, &str, &str); 24] = [
        (|w| w.open.push("run R is running".into()), "converged", "run R is running"),
        (
            |w| w.partitions.get_mut(&key()).unwrap().state = "waiting".into(),
            "nothing-lost",
            "load 2013-01-01T05 is waiting, not succeeded",
        ),
        (|w| drop(w.partitions.remove(&key())), "nothing-lost", "is unknown"),
        (|w| w.inbox = 3, "nothing-lost", "3 messages are left"),
        (|w| w.quarantine = 0, "nothing-lost", "0 of 1 unreadable"),
        (
            |w| {
                let again = w.clusters[2].steps[1].clone();
                w.clusters[2].steps.push(again);
            },
            "nothing-twice",
            "load/2013-01-01T05/load/1 began 2 times",
        ),
        (
            |w| w.clusters[2].steps.push(step("s-9", "load/2013-01-01T05/load/4", "COMPLETED", 34)),
            "nothing-twice",
            "load 2013-01-01T05 load completed 2 times",
        ),
        (
            |w| w.clusters[1].steps[1].state = "COMPLETED".into(),
            "nothing-twice",
            "load 2013-01-01T05 was executed to success 2 times",
        ),
        (
            |w| w.clusters[2].steps[1].state = "FAILED".into(),
            "nothing-twice",
            "was executed to success 0 times",
        ),
        (|w| drop(w.executions.remove(2)), "nothing-twice", "but wrote 1 beginnings and 0 ends"),
        (|w| w.executions.push(execution("s-3", false)), "nothing-twice", "wrote 2 beginnings"),
        (
            |w| {
                let steps = vec![step("s-7", "flaky/2013-01-01T07/try/1", "FAILED", 31)];
                w.clusters.push(cluster("j-3", "chaos/R/2", (21, Some(40)), steps));
            },
            "one-worker",
            "R/2 was executed by j-2 and j-3",
        ),
        (|w| w.clusters[1].ended = Some(at(31)), "next-attempt", "before j-1 of the attempt"),
        (|w| w.clusters[2].state = "WAITING".into(), "nothing-alive", "j-2 (R/2) is WAITING"),
        (|w| w.runs[0].attempts = vec![Attempt { cluster: None }], "nothing-alive", "knows of j-2"),
        (|w| w.clusters[0].state = "TERMINATED".into(), "only-our-own", "does not wait any more"),
        (|w| w.requests.push(call("AddJobFlowSteps", "j-0")), "only-our-own", "called for j-0"),
        (
            |w| w.mails.retain(|mail| !mail.event.ends_with("/failed")),
            "everything-announced",
            "no mail says that flaky 2013-01-01T07 is failed",
        ),
        (|w| w.mails.swap(0, 4), "everything-announced", "not in the order of its states"),
        (|w| w.mails[6].severity = "info".into(), "everything-announced", "none of a failure"),
        (
            |w| w.mails.push(mail("load/2013-01-01T05/failed", "failure")),
            "everything-announced",
            "a mail says that load 2013-01-01T05 is failed",
        ),
        (|w| drop(w.mails.pop()), "everything-announced", "run R has failed"),
        (
            |w| w.seen.deleted_early.push("file/a".into()),
            "recorded-before-deleted",
            "the message of file/a",
        ),
        (
            |w| {
                let what = "daemon-1 ended by itself".to_owned();
                w.tally.misdeeds.push(Misdeed { what, log: "log".into() });
            },
            "processes-behave",
            "daemon-1 ended by itself",
        ),
    ];
    for (number, (change, invariant, words)) in cases.into_iter().enumerate() {
        let found = broken(change);
        let named = found.iter().any(|(name, what)| *name == invariant && what.contains(words));
        assert!(named, "case {number}, {invariant}, {words}: {found:#?}");
    }
}
