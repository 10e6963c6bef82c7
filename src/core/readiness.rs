//! May a task partition run? Answers from what has been received and the time
//! alone. Not for gathering ready partitions (see `batch`).

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::catalog::{Catalog, Completeness, Task, WhenEmpty};
use super::notice::Fact;
use super::partition::Partition;
use super::task::{Element, Receipt, TaskChange, TaskPartition, TaskState};

/// What a waiting task partition needs next.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Readiness {
    /// Not all is there. `until` is when time alone may change that.
    Waiting { until: Option<Timestamp> },
    /// These closed periods are over: count their objects, record the counts,
    /// ask again.
    Close(Vec<(String, Partition)>),
    /// Everything is there, or the policy for empty input says how it ends.
    Change(Box<TaskChange>),
}

/// Decides about a waiting task partition.
pub fn readiness(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    now: Timestamp,
) -> Readiness {
    let elements = catalog.elements(task, &item.key.partition);
    let missing = item.missing(&elements);
    if missing.is_empty() {
        return Readiness::Change(Box::new(complete(catalog, task, item, now)));
    }
    let closings: Vec<_> = missing
        .iter()
        .filter_map(|element| match element {
            Element::Data { dataset, partition } => {
                let at = closes_at(catalog, dataset, partition)?;
                Some((at, dataset, partition))
            }
            Element::Slot => None,
        })
        .collect();
    // All are closed together once the last period has settled: none is of
    // use before the others.
    match closings.iter().map(|(at, ..)| *at).max() {
        Some(last) if last <= now => Readiness::Close(
            closings
                .into_iter()
                .map(|(_, dataset, partition)| (dataset.clone(), *partition))
                .collect(),
        ),
        until => Readiness::Waiting { until },
    }
}

/// When a period counts as over; None for datasets that are not closed by time.
fn closes_at(catalog: &Catalog, dataset: &str, partition: &Partition) -> Option<Timestamp> {
    match catalog.datasets.get(dataset)?.completeness {
        Completeness::Closed { settle } => {
            Some(partition.end().saturating_add(settle).unwrap_or(Timestamp::MAX))
        }
        Completeness::Object | Completeness::Produced { .. } => None,
    }
}

/// When a task partition has to be looked at for its closed periods alone:
/// what an arrival stores so that nobody forgets it.
pub fn last_closing(catalog: &Catalog, task: &Task, partition: &Partition) -> Option<Timestamp> {
    let elements = catalog.elements(task, partition);
    elements
        .iter()
        .filter_map(|element| match element {
            Element::Data { dataset, partition } => closes_at(catalog, dataset, partition),
            Element::Slot => None,
        })
        .max()
}

/// Everything has come in; an input without any data may still stop the task.
fn complete(catalog: &Catalog, task: &Task, item: &TaskPartition, now: Timestamp) -> TaskChange {
    let change = |to, facts| {
        let change = TaskChange::new(&item.key, TaskState::Waiting, to, now, facts);
        change.on(&task.profile).since(item.since)
    };
    let ready = || {
        let next = format!("it runs with the next batch of profile {}", task.profile);
        change(TaskState::Ready, vec![received(item)]).then(&next)
    };
    let Some(empty) = empty_input(catalog, task, item) else {
        return ready();
    };
    let reason = format!("input {empty} has no data for {}", item.key.partition);
    match task.when_empty {
        WhenEmpty::Run => ready(),
        WhenEmpty::Skip => change(TaskState::Skipped, vec![])
            .because(&reason)
            .then("tasks that read its outputs take this partition for complete and empty"),
        WhenEmpty::Fail => change(TaskState::Failed, vec![]).because(&reason).then(&format!(
            "nothing was run, as the task's when-empty says; find out why {empty} stayed empty: \
             sluicegate why {} {}",
            item.key.task, item.key.partition
        )),
    }
}

/// The first input of which no partition in the window holds any data.
fn empty_input<'a>(catalog: &Catalog, task: &'a Task, item: &TaskPartition) -> Option<&'a str> {
    let has_data = |dataset: &str, partition| {
        let receipt = item.received.get(&Element::data(dataset, partition));
        receipt.is_some_and(|receipt| !receipt.is_empty())
    };
    task.inputs
        .iter()
        .find(|input| {
            !catalog
                .window(input, &item.key.partition)
                .any(|partition| has_data(&input.dataset, partition))
        })
        .map(|input| input.dataset.as_str())
}

fn received(item: &TaskPartition) -> Fact {
    let data: BTreeSet<&str> = item
        .received
        .keys()
        .filter_map(|element| match element {
            Element::Data { dataset, .. } => Some(dataset.as_str()),
            Element::Slot => None,
        })
        .collect();
    let objects: u64 = item
        .received
        .values()
        .map(|receipt| match receipt {
            Receipt::Closed(objects) => *objects,
            Receipt::Object(_) => 1,
            _ => 0,
        })
        .sum();
    let names = Vec::from_iter(data).join(", ");
    Fact::new(
        "inputs",
        match objects {
            0 => names,
            1 => format!("{names} (1 object)"),
            more => format!("{names} ({more} objects)"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::{Dataset, Input};
    use crate::core::partition::Grain;
    use crate::core::schedule::{Schedule, SlotPartition};
    use crate::core::task::TaskKey;
    use crate::core::template::Template;
    use jiff::SignedDuration;

    fn dataset(name: &str, location: &str, completeness: Completeness) -> Dataset {
        Dataset { name: name.into(), location: Template::parse(location).unwrap(), completeness }
    }

    fn input(dataset: &str, from: i64, to: i64) -> Input {
        let hours = SignedDuration::from_hours;
        Input { dataset: dataset.into(), from: hours(from), to: hours(to) }
    }

    fn task(name: &str, grain: Grain, inputs: Vec<Input>) -> Task {
        Task {
            name: name.into(),
            profile: "p".into(),
            grain,
            schedule: None,
            inputs,
            outputs: vec![],
            when_empty: WhenEmpty::Skip,
            steps: vec![],
        }
    }

    fn catalog(tasks: Vec<Task>) -> Catalog {
        let closed = Completeness::Closed { settle: SignedDuration::from_mins(15) };
        let datasets = vec![
            dataset("raw", "s3://b/raw/{yyyy}/{MM}/{dd}/{HH}/*", closed),
            dataset("weather", "s3://b/w/{yyyy}{MM}{dd}", Completeness::Object),
            dataset(
                "etl",
                "s3://b/e/{yyyy}/{MM}/{dd}/{HH}/",
                Completeness::Produced { task: "t".into() },
            ),
        ];
        Catalog::new("x".into(), datasets, vec![], tasks)
    }

    fn item(task: &str, partition: &str, received: &[(&str, &str)]) -> TaskPartition {
        let mut item = TaskPartition::new(TaskKey::new(task, partition.parse().unwrap()));
        item.received = received
            .iter()
            .map(|(element, receipt)| (element.parse().unwrap(), receipt.parse().unwrap()))
            .collect();
        item
    }

    fn decide(task: Task, item: &TaskPartition, now: &str) -> Readiness {
        let catalog = catalog(vec![task.clone()]);
        readiness(&catalog, &task, item, now.parse().unwrap())
    }

    #[test]
    fn an_hour_closes_when_it_has_settled() {
        let hourly = task("t", Grain::Hour, vec![input("raw", 0, 1)]);
        let waiting = item("t", "2013-01-01T05", &[]);
        let until = Some("2013-01-01T06:15:00Z".parse().unwrap());
        assert_eq!(
            decide(hourly.clone(), &waiting, "2013-01-01T06:14:59Z"),
            Readiness::Waiting { until }
        );
        assert_eq!(
            decide(hourly, &waiting, "2013-01-01T06:15:00Z"),
            Readiness::Close(vec![("raw".into(), "2013-01-01T05".parse().unwrap())])
        );
    }

    #[test]
    fn what_an_empty_hour_does_is_the_tasks_choice() {
        let empty = item("t", "2013-01-01T05", &[("raw@2013-01-01T05", "closed:0")]);
        for (when_empty, state) in [
            (WhenEmpty::Run, TaskState::Ready),
            (WhenEmpty::Skip, TaskState::Skipped),
            (WhenEmpty::Fail, TaskState::Failed),
        ] {
            let mut hourly = task("t", Grain::Hour, vec![input("raw", 0, 1)]);
            hourly.when_empty = when_empty;
            let Readiness::Change(change) = decide(hourly, &empty, "2013-01-01T07:00:00Z") else {
                panic!("expected a change");
            };
            assert_eq!(change.to, state);
        }
    }

    #[test]
    fn a_window_waits_for_each_of_its_partitions_and_may_have_gaps() {
        let daily = task("report", Grain::Day, vec![input("etl", 5, 8), input("weather", 0, 24)]);
        let mut received = vec![
            ("weather@2013-01-01", "object:e"),
            ("etl@2013-01-01T05", "run:1"),
            ("etl@2013-01-01T06", "skipped"),
        ];
        let waiting = item("report", "2013-01-01", &received);
        assert_eq!(
            decide(daily.clone(), &waiting, "2013-01-02T00:00:00Z"),
            Readiness::Waiting { until: None }
        );
        received.push(("etl@2013-01-01T07", "run:2"));
        let complete = item("report", "2013-01-01", &received);
        let Readiness::Change(change) = decide(daily, &complete, "2013-01-02T00:00:00Z") else {
            panic!("expected a change");
        };
        assert_eq!(change.to, TaskState::Ready);
    }

    #[test]
    fn a_scheduled_task_waits_for_its_slot() {
        let mut hourly = task("t", Grain::Hour, vec![input("weather", 0, 1)]);
        hourly.schedule =
            Some(Schedule::parse("5 * * * *", "UTC", SlotPartition::Previous).unwrap());
        let waiting = item("t", "2013-01-01T05", &[("weather@2013-01-01", "object:e")]);
        assert_eq!(
            decide(hourly, &waiting, "2013-01-02T00:00:00Z"),
            Readiness::Waiting { until: None }
        );
    }
}
