//! May a task partition run? Answers from what has been received and the time
//! alone. Not for gathering ready partitions (see `batch`).

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::catalog::{Catalog, Completeness, Input, Need, OnTimeout, Task, WaitLimit, WhenEmpty};
use super::class::FailureClass;
use super::notice::Fact;
use super::partition::Partition;
use super::task::{Element, Receipt, TaskChange, TaskPartition, TaskState};
use crate::planted::{Bug, planted};

/// Partitions of one input that a reason names.
const MISSING_NAMED_MAX: usize = 5;

/// What a waiting task partition needs next.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Readiness {
    /// Not all is there. `until` is when time alone may change that.
    Waiting { until: Option<Timestamp> },
    /// These periods are over: count their objects, record the counts, ask
    /// again.
    Close(Vec<(String, Partition)>),
    /// Everything is there, or a policy says how it ends.
    Change(Box<TaskChange>),
}

/// How far one input has come.
struct Progress<'a> {
    input: &'a Input,
    standing: Standing,
    missing: Vec<Partition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// More can come, and is needed.
    Open,
    /// As much as is needed, with data.
    Filled,
    /// Nothing more can come, and there is no data.
    Empty,
}

/// Decides about a waiting task partition.
pub fn readiness(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    now: Timestamp,
) -> Readiness {
    if task.schedule.is_some() && !item.has(&Element::Slot) {
        return Readiness::Waiting { until: None };
    }
    let inputs: Vec<_> =
        task.inputs.iter().map(|input| Progress::of(catalog, item, input)).collect();
    let change = match standing(task, &inputs) {
        Standing::Filled => ready(task, item, now, vec![]),
        Standing::Empty => empty(task, item, now, &empty_reason(item, &inputs)),
        Standing::Open => {
            let deadline = task.wait.map(|wait| wait.deadline(&item.key.partition));
            let timed_out = deadline.is_some_and(|deadline| deadline <= now);
            let (due, next) = closings(catalog, task, item, &inputs, timed_out, now);
            if !due.is_empty() {
                return Readiness::Close(due);
            }
            match task.wait.filter(|_| timed_out) {
                Some(wait) => out_of_time(task, item, wait, &inputs, now),
                None => {
                    return Readiness::Waiting { until: next.into_iter().chain(deadline).min() };
                }
            }
        }
    };
    Readiness::Change(Box::new(change))
}

impl<'a> Progress<'a> {
    fn of(catalog: &Catalog, item: &TaskPartition, input: &'a Input) -> Self {
        let (mut with_data, mut missing) = (0, Vec::new());
        for partition in catalog.window(input, &item.key.partition) {
            let element = Element::data(&input.dataset, partition);
            if !item.has(&element) {
                missing.push(partition);
            } else if item.has_data(&element) {
                with_data += 1;
            }
        }
        let enough = match input.need {
            Need::All => missing.is_empty(),
            Need::AtLeast(count) => missing.is_empty() || with_data >= count,
        };
        let standing = match (enough, with_data) {
            (false, _) => Standing::Open,
            (true, 0) => Standing::Empty,
            (true, _) => Standing::Filled,
        };
        Self { input, standing, missing }
    }
}

/// How far the task has come as a whole.
fn standing(task: &Task, inputs: &[Progress<'_>]) -> Standing {
    let count = |standing| inputs.iter().filter(|input| input.standing == standing).count();
    let (open, filled) = (count(Standing::Open), count(Standing::Filled));
    match task.need {
        Need::All if open > 0 => Standing::Open,
        Need::All if filled == inputs.len() => Standing::Filled,
        Need::AtLeast(needed) if filled >= needed as usize => Standing::Filled,
        Need::AtLeast(_) if open > 0 => Standing::Open,
        Need::All | Need::AtLeast(_) => Standing::Empty,
    }
}

/// The periods to be closed now, and when the next ones are. Where all
/// partitions are needed none is of use before the others, so they are closed
/// together after the last one; otherwise each as its time comes, and all that
/// can be once the task has waited long enough.
fn closings(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    inputs: &[Progress<'_>],
    timed_out: bool,
    now: Timestamp,
) -> (Vec<(String, Partition)>, Option<Timestamp>) {
    let (mut due, mut together) = (Vec::new(), Vec::new());
    let (mut next, mut last) = (None, None);
    for progress in inputs.iter().filter(|progress| progress.standing == Standing::Open) {
        let each = timed_out || task.need != Need::All || progress.input.need != Need::All;
        for partition in &progress.missing {
            let dataset = &progress.input.dataset;
            let Some(at) = closes_at(catalog, item, dataset, *partition) else { continue };
            let unit = (dataset.clone(), *partition);
            if !each {
                together.push(unit);
                last = last.max(Some(at));
            } else if at <= now {
                due.push(unit);
            } else {
                next = next.into_iter().chain([at]).min();
            }
        }
    }
    match last {
        Some(last) if last <= now => due.extend(together),
        Some(last) => next = next.into_iter().chain([last]).min(),
        None => {}
    }
    (due, next)
}

/// When a period counts as over; None where time does not say so.
fn closes_at(
    catalog: &Catalog,
    item: &TaskPartition,
    dataset: &str,
    partition: Partition,
) -> Option<Timestamp> {
    let (from, wait) = match catalog.datasets.get(dataset)?.completeness {
        Completeness::Closed { .. } if planted(Bug::ClosedTooEarly) => {
            (partition.end(), SignedDuration::ZERO)
        }
        Completeness::Closed { settle } => (partition.end(), settle),
        Completeness::Quiet { quiet } => {
            match item.received.get(&Element::data(dataset, partition)) {
                Some(Receipt::Partial(last)) => (*last, quiet),
                _ => return None,
            }
        }
        Completeness::Object
        | Completeness::Marker { .. }
        | Completeness::Count { .. }
        | Completeness::Produced { .. } => return None,
    };
    Some(from.saturating_add(wait).unwrap_or(Timestamp::MAX))
}

fn change(
    task: &Task,
    item: &TaskPartition,
    to: TaskState,
    now: Timestamp,
    facts: Vec<Fact>,
) -> TaskChange {
    let change = TaskChange::new(&item.key, TaskState::Waiting, to, now, facts);
    change.of_round(&item.round).on(&task.profile).since(item.since)
}

fn ready(task: &Task, item: &TaskPartition, now: Timestamp, mut more: Vec<Fact>) -> TaskChange {
    let mut facts = vec![received(item)];
    facts.append(&mut more);
    let taken = item.taken_for_there();
    if let Some((names, asked)) = &taken {
        facts.push(Fact::new("taken for there", names.as_str()));
        facts.extend(asked.facts());
    }
    let next = format!("it runs with the next batch of profile {}", task.profile);
    let mut change = change(task, item, TaskState::Ready, now, facts).then(&next);
    if let Some((names, asked)) = taken {
        let sentence =
            format!("{} is ready: {} takes for there what has not come", item.key, asked.by);
        change.notice = change.notice.detailed(&format!("without {names}")).saying(sentence);
    }
    change
}

/// It ends without having run; `why` names the setting that says so.
fn failed(
    task: &Task,
    item: &TaskPartition,
    now: Timestamp,
    reason: &str,
    why: &str,
) -> TaskChange {
    let next = format!(
        "nothing was run, as the task's {why} says; find out why the data did not come: \
         sluicegate why {} {}",
        item.key.task, item.key.partition
    );
    change(task, item, TaskState::Failed, now, vec![]).because(reason).then(&next)
}

/// No data at all: the task says what that means.
fn empty(task: &Task, item: &TaskPartition, now: Timestamp, reason: &str) -> TaskChange {
    match task.when_empty {
        WhenEmpty::Run => ready(task, item, now, vec![]),
        WhenEmpty::Skip => change(task, item, TaskState::Skipped, now, vec![])
            .because(reason)
            .then("tasks that read its outputs take this partition for complete and empty"),
        WhenEmpty::Fail => failed(task, item, now, reason, "when-empty"),
    }
}

fn empty_reason(item: &TaskPartition, inputs: &[Progress<'_>]) -> String {
    let empty = inputs.iter().filter(|progress| progress.standing == Standing::Empty);
    let names: Vec<_> = empty.map(|progress| progress.input.dataset.as_str()).collect();
    let (noun, verb) = if names.len() == 1 { ("input", "has") } else { ("inputs", "have") };
    format!("{noun} {} {verb} no data for {}", names.join(", "), item.key.partition)
}

/// The task has waited as long as it may.
fn out_of_time(
    task: &Task,
    item: &TaskPartition,
    wait: WaitLimit,
    inputs: &[Progress<'_>],
    now: Timestamp,
) -> TaskChange {
    let missing = missing_words(inputs);
    let reason = format!(
        "not everything came within {:#} after the end of {}: missing {missing}",
        wait.timeout, item.key.partition
    );
    let any_data = item
        .received
        .keys()
        .any(|element| matches!(element, Element::Data { .. }) && item.has_data(element));
    match wait.then {
        OnTimeout::Fail => {
            let class = Some(FailureClass::TimeOut);
            failed(task, item, now, &reason, "on-timeout").of_class(class)
        }
        OnTimeout::Run if any_data => {
            let sentence =
                format!("{} is ready without all of its inputs: its time is up", item.key);
            let detail = format!("without {missing}");
            ready(task, item, now, vec![Fact::new("missing", missing)]).warning(&detail, &sentence)
        }
        OnTimeout::Run => empty(task, item, now, &reason),
    }
}

/// What is missing, short enough for a mail.
fn missing_words(inputs: &[Progress<'_>]) -> String {
    let open = inputs.iter().filter(|progress| progress.standing == Standing::Open);
    let words = open.map(|Progress { input, missing, .. }| {
        let named: Vec<_> =
            missing.iter().take(MISSING_NAMED_MAX).map(ToString::to_string).collect();
        let more = match missing.len().saturating_sub(MISSING_NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} {}{more}", input.dataset, named.join(", "))
    });
    words.collect::<Vec<_>>().join("; ")
}

fn received(item: &TaskPartition) -> Fact {
    let came = item.received.iter().filter(|(_, receipt)| !matches!(receipt, Receipt::Granted(_)));
    let data: BTreeSet<&str> = came
        .filter_map(|(element, _)| match element {
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
            0 if names.is_empty() && item.taken_for_there().is_some() => "none has come".to_owned(),
            0 => names,
            1 => format!("{names} (1 object)"),
            more => format!("{names} ({more} objects)"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::Dataset;
    use crate::core::catalog::testing::{input, task};
    use crate::core::partition::Grain;
    use crate::core::schedule::{Schedule, SlotPartition};
    use crate::core::task::TaskKey;
    use crate::core::template::Template;
    use jiff::SignedDuration;

    fn dataset(name: &str, location: &str, completeness: Completeness) -> Dataset {
        let location = Template::parse(location).unwrap();
        Dataset { name: name.into(), location, completeness, list: true }
    }

    fn catalog(tasks: Vec<Task>) -> Catalog {
        let closed = Completeness::Closed { settle: SignedDuration::from_mins(15) };
        let datasets = vec![
            dataset("raw", "s3://b/raw/{yyyy}/{MM}/{dd}/{HH}/*", closed),
            dataset("weather", "s3://b/w/{yyyy}{MM}{dd}", Completeness::Object),
            dataset(
                "partner",
                "s3://b/p/{yyyy}/{MM}/{dd}/{HH}/*",
                Completeness::Quiet { quiet: SignedDuration::from_mins(30) },
            ),
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

    /// What the decision is, in a word, or until when it waits.
    fn said(task: Task, item: &TaskPartition, now: &str) -> String {
        match decide(task, item, now) {
            Readiness::Waiting { until: None } => "waits".to_owned(),
            Readiness::Waiting { until: Some(until) } => format!("until {until}"),
            Readiness::Close(periods) => {
                let periods: Vec<_> =
                    periods.iter().map(|(name, period)| format!("{name}@{period}")).collect();
                format!("close {}", periods.join(" "))
            }
            Readiness::Change(change) => {
                let reason = change.reason.unwrap_or_default();
                format!("{} {reason}", change.to.name()).trim_end().to_owned()
            }
        }
    }

    #[test]
    fn a_quiet_period_counts_from_the_last_object() {
        let hourly = task("t", Grain::Hour, vec![input("partner", 0, 1)]);
        let last = |at: &str| {
            item("t", "2013-01-01T05", &[("partner@2013-01-01T05", &format!("partial:{at}"))])
        };
        for (item, now, expected) in [
            (item("t", "2013-01-01T05", &[]), "2013-01-02T00:00:00Z", "waits"),
            (last("2013-01-01T09:00:00Z"), "2013-01-01T09:29:59Z", "until 2013-01-01T09:30:00Z"),
            (last("2013-01-01T09:00:00Z"), "2013-01-01T09:30:00Z", "close partner@2013-01-01T05"),
            (last("2013-01-01T09:10:00Z"), "2013-01-01T09:30:00Z", "until 2013-01-01T09:40:00Z"),
        ] {
            assert_eq!(said(hourly.clone(), &item, now), expected);
        }
    }

    #[test]
    fn any_and_at_least_go_by_partitions_with_data() {
        let need = |need| {
            let mut daily = task("t", Grain::Day, vec![input("etl", 0, 4)]);
            daily.inputs[0].need = need;
            daily
        };
        let at = "2013-01-02T00:00:00Z";
        let skipped = [
            ("etl@2013-01-01T00", "skipped"),
            ("etl@2013-01-01T01", "skipped"),
            ("etl@2013-01-01T02", "skipped"),
            ("etl@2013-01-01T03", "skipped"),
        ];
        for (needed, received, expected) in [
            (Need::AtLeast(1), &[][..], "waits"),
            (Need::AtLeast(1), &[("etl@2013-01-01T00", "skipped")][..], "waits"),
            (Need::AtLeast(1), &[("etl@2013-01-01T02", "run:1")][..], "ready"),
            (Need::AtLeast(2), &[("etl@2013-01-01T02", "run:1")][..], "waits"),
            (
                Need::AtLeast(2),
                &[("etl@2013-01-01T02", "run:1"), ("etl@2013-01-01T03", "run:2")][..],
                "ready",
            ),
            (Need::AtLeast(2), &skipped[..], "skipped input etl has no data for 2013-01-01"),
            (Need::All, &skipped[..3], "waits"),
        ] {
            assert_eq!(said(need(needed), &item("t", "2013-01-01", received), at), expected);
        }
    }

    #[test]
    fn a_task_may_need_only_some_of_its_inputs() {
        let mut daily = task("t", Grain::Day, vec![input("weather", 0, 24), input("etl", 0, 1)]);
        daily.need = Need::AtLeast(1);
        let weather = ("weather@2013-01-01", "object:e");
        for (received, expected) in [
            (vec![], "waits"),
            (vec![weather], "ready"),
            (vec![("etl@2013-01-01T00", "skipped")], "waits"),
            (vec![("etl@2013-01-01T00", "skipped"), weather], "ready"),
        ] {
            let item = item("t", "2013-01-01", &received);
            assert_eq!(said(daily.clone(), &item, "2013-01-02T00:00:00Z"), expected);
        }
    }

    #[test]
    fn waiting_has_a_limit_when_the_task_says_so() {
        let limited = |then| {
            let mut daily = task(
                "t",
                Grain::Day,
                vec![input("weather", 0, 24), input("partner", 5, 6), input("raw", 5, 6)],
            );
            daily.wait = Some(WaitLimit { timeout: SignedDuration::from_hours(6), then });
            daily
        };
        let nothing = item("t", "2013-01-01", &[]);
        let part = item(
            "t",
            "2013-01-01",
            &[
                ("partner@2013-01-01T05", "partial:2013-01-02T05:59:00Z"),
                ("raw@2013-01-01T05", "closed:3"),
            ],
        );
        let fail = OnTimeout::Fail;
        let run = OnTimeout::Run;
        let words = "not everything came within 6h after the end of 2013-01-01: missing \
                     weather 2013-01-01";
        for (then, item, now, expected) in [
            (fail, &nothing, "2013-01-01T00:00:00Z", "until 2013-01-01T06:15:00Z".to_owned()),
            (fail, &nothing, "2013-01-02T06:00:00Z", "close raw@2013-01-01T05".to_owned()),
            (fail, &part, "2013-01-02T05:59:59Z", "until 2013-01-02T06:00:00Z".to_owned()),
            (fail, &part, "2013-01-02T06:00:00Z", format!("failed {words}; partner 2013-01-01T05")),
            (run, &part, "2013-01-02T06:00:00Z", "ready".to_owned()),
        ] {
            assert_eq!(said(limited(then), item, now), expected);
        }
        let empty = item("t", "2013-01-01", &[("raw@2013-01-01T05", "closed:0")]);
        let said = said(limited(run), &empty, "2013-01-02T06:00:00Z");
        assert!(said.starts_with("skipped not everything came within 6h"), "{said}");
    }
}
