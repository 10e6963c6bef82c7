//! What becomes of a task partition at a person's command: retry, cancel, skip.
//! Decides from what is stored; the change is made only if that is still so. Not
//! for steps under way: those a run cancels (see `run`).

mod due;

use super::asked::Asked;
use super::catalog::{Catalog, Task};
use super::class::FailureClass;
use super::late::Late;
use super::readiness::{Readiness, readiness};
use super::run::Run;
use super::task::{Element, Receipt, Round, TaskChange, TaskKey, TaskPartition, TaskState};
use super::why::slot_of;

pub use due::{NotDue, lacks_slot, newest_over, refuse_ahead, refuse_without_slot};

/// It cannot be done as things stand; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {state}, nothing was changed\n    {advice}")]
pub struct Refused {
    pub key: TaskKey,
    pub state: String,
    pub advice: String,
}

impl Refused {
    fn new(key: &TaskKey, state: TaskState, advice: &str) -> Self {
        let state = match state {
            TaskState::Succeeded => "has succeeded".to_owned(),
            state => format!("is {}", state.name()),
        };
        Self { key: key.clone(), state, advice: advice.to_owned() }
    }
}

/// What a cancellation comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancel {
    /// Nothing of it runs yet.
    Now(Box<TaskChange>),
    /// Its run has to be told.
    InRun(String),
}

/// What a person may add to `retry`.
#[derive(Debug, Clone, Default)]
pub struct Again {
    /// Also what has succeeded.
    pub force: bool,
    /// The backfill that it is done for.
    pub backfill: Option<String>,
    /// What it is given with it (see [`granted`]).
    pub receipts: Vec<(Element, Receipt)>,
}

/// Another round of what has ended. What lacks inputs that may yet come waits
/// for them, everything else becomes ready. `run` is the partition's last.
pub fn retry(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    run: Option<&Run>,
    again: &Again,
    asked: &Asked,
) -> Result<TaskChange, Refused> {
    let advice = match item.state {
        TaskState::Waiting => {
            "what it waits for: sluicegate why; to take its inputs for there: --ignore-inputs"
        }
        TaskState::Ready => "it runs with the next batch",
        TaskState::Running => "wait for its end, or cancel it first",
        TaskState::Loading => "wait for the end of its load",
        TaskState::Succeeded if !again.force => "to run it once more all the same: --force",
        TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped => "",
    };
    if !advice.is_empty() {
        return Err(Refused::new(&item.key, item.state, advice));
    }
    if let Some(run) = run.filter(|run| !run.has_let_go(&item.key)) {
        return Err(Refused {
            key: item.key.clone(),
            state: format!("may still have a step on the cluster of run {}", run.id),
            advice: "the cluster is being ended: try again in some minutes".to_owned(),
        });
    }
    let mut as_waiting = TaskPartition { state: TaskState::Waiting, ..item.clone() };
    as_waiting.received.extend(again.receipts.iter().cloned());
    let to = match readiness(catalog, task, &as_waiting, asked.at) {
        // It would run without what it is for.
        Readiness::Change(end) if end.notice.class == Some(FailureClass::TimeOut) => {
            return Err(Refused {
                key: item.key.clone(),
                state: "lacks inputs, and the time to wait for them is up".to_owned(),
                advice: "try again when they have come, or run with what is there: \
                         --ignore-inputs"
                    .to_owned(),
            });
        }
        Readiness::Change(_) => TaskState::Ready,
        Readiness::Waiting { .. } | Readiness::Close(_) => TaskState::Waiting,
    };
    let then = match to {
        TaskState::Ready => format!("it runs with the next batch of profile {}", task.profile),
        _ => "it waits for the inputs that are not there yet".to_owned(),
    };
    let round =
        Round { number: item.round.number.saturating_add(1), backfill: again.backfill.clone() };
    let mut change = change(Some(task), item, to, asked).of_round(&round).then(&then);
    change.again = true;
    change.receipts = item.given_with(&again.receipts);
    change.late = item.late.clone().map(Late::taken);
    let sentence =
        format!("{} is {} again: {} wants it to run once more", item.key, to.name(), asked.by);
    change.notice = change.notice.saying(sentence);
    Ok(change)
}

/// The load alone once more, of what has failed in it (and was skipped then): another round, in which no step
/// runs. What lies in the output is loaded, for the run that has made it.
pub fn load_again(task: &Task, item: &TaskPartition, asked: &Asked) -> Result<TaskChange, Refused> {
    let refused = |advice| Err(Refused::new(&item.key, item.state, advice));
    let load = match (item.state, &item.load) {
        (TaskState::Failed | TaskState::Skipped, Some(_)) if task.load.is_none() => {
            return refused("its task declares no load any more: declare it again");
        }
        (TaskState::Failed | TaskState::Skipped, Some(load)) => load,
        (TaskState::Loading, _) => return refused("wait for the end of its load"),
        (TaskState::Succeeded, Some(_)) => return refused("its output is in the table"),
        _ if task.load.is_none() => return refused("its task declares no load"),
        (TaskState::Waiting | TaskState::Ready | TaskState::Running, _) => {
            return refused("its steps come first: sluicegate why");
        }
        _ => return refused("it has no load that failed: sluicegate retry runs its steps"),
    };
    let round = Round { number: item.round.number.saturating_add(1), backfill: None };
    let next = "its output is loaded as it is now; no step runs";
    let mut change =
        change(Some(task), item, TaskState::Loading, asked).of_round(&round).then(next);
    change.again = true;
    change = change.in_run(&load.run).loading(load.again(asked.at));
    let sentence = format!("{} is loading again: {} wants it to", item.key, asked.by);
    change.notice = change.notice.saying(sentence);
    Ok(change)
}

/// Ends what has not run, or says which run has to be told; the task may be
/// declared no more.
pub fn cancel(task: Option<&Task>, item: &TaskPartition, asked: &Asked) -> Result<Cancel, Refused> {
    match (item.state, &item.run) {
        (TaskState::Waiting | TaskState::Ready, _) => {
            let next = format!(
                "tasks that read its outputs go on waiting; to run it all the same: sluicegate \
                 retry {} {}",
                item.key.task, item.key.partition
            );
            let change = change(task, item, TaskState::Cancelled, asked);
            Ok(Cancel::Now(Box::new(because(change, asked).then(&next))))
        }
        (TaskState::Running, Some(run)) => Ok(Cancel::InRun(run.clone())),
        (TaskState::Running, None) => {
            Err(Refused::new(&item.key, item.state, "but no run of it is stored"))
        }
        (TaskState::Loading, _) => Err(Refused::new(
            &item.key,
            item.state,
            "its steps have completed, and a load is one transaction: wait for its end",
        )),
        _ => Err(Refused::new(&item.key, item.state, "nothing of it is left to cancel")),
    }
}

/// Takes it for done, with nothing there: whoever reads its outputs goes on
/// without them, as when an hour without data is skipped.
pub fn skip(task: &Task, item: &TaskPartition, asked: &Asked) -> Result<TaskChange, Refused> {
    let advice = match item.state {
        TaskState::Running => "cancel it first",
        TaskState::Loading => "wait for the end of its load",
        TaskState::Succeeded | TaskState::Skipped => "tasks that read its outputs go on already",
        TaskState::Waiting | TaskState::Ready | TaskState::Failed | TaskState::Cancelled => {
            let next = "tasks that read its outputs take this partition for complete and empty";
            let change = change(Some(task), item, TaskState::Skipped, asked);
            return Ok(because(change, asked).then(next));
        }
    };
    Err(Refused::new(&item.key, item.state, advice))
}

/// The receipts by which a person takes what is missing for there.
pub fn granted(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    by: &str,
) -> Vec<(Element, Receipt)> {
    let elements = catalog.elements(task, &item.key.partition);
    let missing = item.missing(&elements).into_iter().cloned();
    let receipt = |element: Element| match element {
        Element::Slot => slot_granted(task, &item.key),
        data => (data, Receipt::Granted(by.to_owned())),
    };
    missing.map(receipt).collect()
}

/// The slot that stands for the partition; its end where somebody insists although
/// the schedule has none (see [`lacks_slot`]).
pub fn slot_granted(task: &Task, key: &TaskKey) -> (Element, Receipt) {
    let slot = slot_of(task, &key.partition).unwrap_or_else(|| key.partition.end());
    (Element::Slot, Receipt::Slot(slot))
}

fn change(task: Option<&Task>, item: &TaskPartition, to: TaskState, asked: &Asked) -> TaskChange {
    let mut change = TaskChange::new(&item.key, item.state, to, asked.at, vec![]);
    change.notice.profile = task.map(|task| task.profile.clone());
    change.of_round(&item.round).since(item.since).asked(asked)
}

/// The person's word is the stored reason; the notice has it already.
fn because(mut change: TaskChange, asked: &Asked) -> TaskChange {
    change.reason = Some(asked.to_string());
    change.notice = change.notice.detailed(&asked.to_string());
    change
}

#[cfg(test)]
mod tests;
