//! What each command makes of a task partition in each state.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::core::catalog::{Completeness, Dataset, OnTimeout, WaitLimit, WhenEmpty, testing};
use crate::core::load::testing::spec;
use crate::core::load::{Load, Mode};
use crate::core::partition::Grain;
use crate::core::template::Template;

fn asked() -> Asked {
    Asked::new("alice", Some("wrong data"), "2013-01-02T06:00:00Z".parse().unwrap())
}

fn catalog() -> Catalog {
    let location = Template::parse("s3://b/a/{yyyy}-{MM}-{dd}.csv").unwrap();
    let completeness = Completeness::Object;
    let dataset = Dataset { name: "a".into(), location, completeness, list: true };
    let task = testing::task("t", Grain::Day, vec![testing::input("a", 0, 24)]);
    Catalog::new("test".into(), vec![dataset], vec![], vec![task])
}

fn item(state: TaskState, receipt: Option<&str>) -> TaskPartition {
    let mut item = TaskPartition::new(TaskKey::new("t", "2013-01-01".parse().unwrap()));
    item.state = state;
    item.run = (state == TaskState::Running).then(|| "R".to_owned());
    let element: Element = "a@2013-01-01".parse().unwrap();
    item.received.extend(receipt.map(|receipt| (element, receipt.parse().unwrap())));
    item
}

/// The state that `retry` leads to, or the advice.
fn retried(catalog: &Catalog, item: &TaskPartition, force: bool) -> Result<TaskState, String> {
    let again = Again { force, ..Again::default() };
    let change = retry(catalog, &catalog.tasks["t"], item, None, &again, &asked());
    change.map(|change| change.to).map_err(|refused| refused.to_string())
}

#[test]
fn what_has_ended_becomes_ready_again_or_waits_for_what_may_come() {
    use TaskState::{Cancelled, Failed, Ready, Skipped, Succeeded, Waiting};
    let catalog = catalog();
    for (state, receipt, force, expected) in [
        (Failed, Some("object:e"), false, Ready),
        (Cancelled, Some("object:e"), false, Ready),
        (Cancelled, None, false, Waiting),
        (Skipped, None, false, Waiting),
        // Its input has no data: the task would skip it once more.
        (Skipped, Some("skipped"), false, Ready),
        (Succeeded, Some("object:e"), true, Ready),
        (Cancelled, Some("granted:alice"), false, Ready),
    ] {
        let item = item(state, receipt);
        assert_eq!(retried(&catalog, &item, force), Ok(expected), "{state:?} {receipt:?}");
    }
    // One that has waited too long runs with what is there only if its task says so.
    let mut limited = self::catalog();
    let wait = WaitLimit { timeout: SignedDuration::from_hours(1), then: OnTimeout::Fail };
    limited.tasks.get_mut("t").unwrap().wait = Some(wait);
    let refused = retried(&limited, &item(Failed, None), false).unwrap_err();
    assert!(refused.starts_with("t 2013-01-01 lacks inputs, and the time to wait"), "{refused}");
    assert!(refused.ends_with("run with what is there: --ignore-inputs"), "{refused}");
    assert_eq!(retried(&limited, &item(Failed, Some("object:e")), false), Ok(Ready));
    // That no input has data is no matter of time.
    limited.tasks.get_mut("t").unwrap().when_empty = WhenEmpty::Fail;
    assert_eq!(retried(&limited, &item(Failed, Some("skipped")), false), Ok(Ready));
    let wait = WaitLimit { then: OnTimeout::Run, ..wait };
    limited.tasks.get_mut("t").unwrap().wait = Some(wait);
    assert_eq!(retried(&limited, &item(Failed, None), false), Ok(Ready));
}

/// What is taken for there is in the change itself: nothing else may write the
/// inputs of what has ended.
#[test]
fn what_has_ended_becomes_ready_with_the_inputs_that_are_ignored() {
    let catalog = catalog();
    let task = &catalog.tasks["t"];
    let item = item(TaskState::Cancelled, None);
    let receipts = granted(&catalog, task, &item, "alice");
    let again = Again { receipts: receipts.clone(), ..Again::default() };
    let change = retry(&catalog, task, &item, None, &again, &asked()).unwrap();
    assert_eq!((change.to, change.receipts), (TaskState::Ready, receipts));
    let without = retry(&catalog, task, &item, None, &Again::default(), &asked()).unwrap();
    assert_eq!((without.to, without.receipts), (TaskState::Waiting, vec![]));
}

#[test]
fn a_retry_begins_a_round_with_notices_of_its_own() {
    let catalog = catalog();
    let mut item = item(TaskState::Failed, Some("object:e"));
    for event in ["t/2013-01-01/ready/2", "t/2013-01-01/ready/3"] {
        let again = Again::default();
        let change = retry(&catalog, &catalog.tasks["t"], &item, None, &again, &asked()).unwrap();
        assert!(change.again);
        assert_eq!(change.notice.id, event);
        let body = change.notice.message("prod").body;
        assert!(body.starts_with("t 2013-01-01 is ready again: alice wants it to run"), "{body}");
        assert!(body.contains("reason:     wrong data"), "{body}");
        item.round = change.round;
    }
}

#[test]
fn commands_that_make_no_sense_say_what_to_do() {
    use TaskState::{Loading, Ready, Running, Skipped, Succeeded, Waiting};
    let catalog = catalog();
    for (state, said) in [
        (Waiting, "t 2013-01-01 is waiting, nothing was changed\n    what it waits for"),
        (Ready, "it runs with the next batch"),
        (Running, "cancel it first"),
        (Loading, "wait for the end of its load"),
        (Succeeded, "t 2013-01-01 has succeeded, nothing was changed\n    to run it once more"),
    ] {
        let error = retried(&catalog, &item(state, None), false).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let task = &catalog.tasks["t"];
    for (state, said) in [(Loading, "a load is one transaction"), (Succeeded, "nothing of it")] {
        let error = cancel(Some(task), &item(state, None), &asked()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for (state, said) in [
        (Running, "cancel it first"),
        (Loading, "wait for the end"),
        (Succeeded, "go on already"),
        (Skipped, "go on already"),
    ] {
        let error = skip(task, &item(state, None), &asked()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn cancel_ends_what_has_not_run_and_tells_the_run_of_what_does() {
    use TaskState::{Cancelled, Ready, Running, Waiting};
    let catalog = catalog();
    let task = &catalog.tasks["t"];
    for state in [Waiting, Ready] {
        let Cancel::Now(change) = cancel(Some(task), &item(state, None), &asked()).unwrap() else {
            panic!("{state:?} has no run");
        };
        assert_eq!((change.to, change.due), (Cancelled, crate::core::task::URGENT));
        assert_eq!(change.reason.as_deref(), Some("by alice (wrong data)"));
    }
    let running = cancel(Some(task), &item(Running, None), &asked()).unwrap();
    assert_eq!(running, Cancel::InRun("R".into()));
}

#[test]
fn skip_takes_it_for_done() {
    use TaskState::{Cancelled, Failed, Ready, Waiting};
    let catalog = catalog();
    for state in [Waiting, Ready, Failed, Cancelled] {
        let change = skip(&catalog.tasks["t"], &item(state, None), &asked()).unwrap();
        assert_eq!((change.from, change.to), (state, TaskState::Skipped));
        assert!(change.completes_outputs());
    }
}

#[test]
fn only_what_is_missing_is_granted() {
    let catalog = catalog();
    let task = &catalog.tasks["t"];
    let grants = granted(&catalog, task, &item(TaskState::Waiting, None), "alice");
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0].1, Receipt::Granted("alice".into()));
    let partial = format!("partial:{}", Timestamp::UNIX_EPOCH);
    assert_eq!(granted(&catalog, task, &item(TaskState::Waiting, Some(&partial)), "a").len(), 1);
    assert!(granted(&catalog, task, &item(TaskState::Waiting, Some("object:e")), "a").is_empty());
}

#[test]
fn a_load_that_failed_begins_again_without_its_steps() {
    use TaskState::{Failed, Loading, Ready, Running, Skipped, Succeeded};
    let mut task = testing::task("t", Grain::Day, Vec::new());
    let load = Some(Load { attempt: 3, ..Load::new("R1", asked().at) });
    let of = |state, load: &Option<Load>| TaskPartition { load: load.clone(), ..item(state, None) };
    let refused = |task: &Task, item: &TaskPartition| {
        load_again(task, item, &asked()).unwrap_err().to_string()
    };
    assert!(refused(&task, &of(Failed, &load)).contains("declare it again"));
    assert!(refused(&task, &of(Failed, &None)).contains("declares no load"));
    task.load = Some(spec(Mode::Append));
    // So that readers could go on meanwhile.
    assert_eq!(load_again(&task, &of(Skipped, &load), &asked()).unwrap().to, Loading);
    let change = load_again(&task, &of(Failed, &load), &asked()).unwrap();
    assert_eq!((change.to, change.run.as_deref(), change.again), (Loading, Some("R1"), true));
    assert_eq!(change.round.number, 1);
    let again = change.load.unwrap();
    // A token of its own, and as many attempts as the first had.
    assert_eq!((again.attempt, again.number()), (4, 1));
    for (state, load, said) in [
        (Failed, &None, "has no load that failed"),
        (Succeeded, &None, "has no load that failed"),
        (Loading, &load, "wait for the end of its load"),
        (Succeeded, &load, "is in the table"),
        (Ready, &None, "its steps come first"),
        (Running, &None, "its steps come first"),
    ] {
        let words = refused(&task, &of(state, load));
        assert!(words.contains(said), "{words}");
    }
}
