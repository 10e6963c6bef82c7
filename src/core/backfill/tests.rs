//! Backfills against a table in memory, with crashes between any two acts.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::core::catalog::{Completeness, Dataset, testing};
use crate::core::partition::Grain;
use crate::core::schedule::{Schedule, SlotPartition};
use crate::core::task::Round;
use crate::core::template::Template;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_400_000_000 + secs).unwrap()
}

fn asked() -> Asked {
    Asked::new("alice", Some("new column"), at(0))
}

fn catalog(scheduled: bool) -> Catalog {
    let location = Template::parse("s3://b/a/{yyyy}-{MM}-{dd}-{HH}.csv").unwrap();
    let completeness = Completeness::Object;
    let dataset = Dataset { name: "a".into(), location, completeness, list: true };
    let schedule = Schedule::parse("5 * * * *", "UTC", SlotPartition::Previous).unwrap();
    let schedule = scheduled.then_some(schedule);
    let task =
        Task { schedule, ..testing::task("t", Grain::Hour, vec![testing::input("a", 0, 1)]) };
    Catalog::new("test".into(), vec![dataset], vec![], vec![task])
}

fn window(first: &str, last: &str, max_parallel: u32) -> Window {
    Window {
        task: "t".into(),
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        max_parallel,
        order: Order::Asc,
        force: false,
        ignore_inputs: false,
    }
}

fn item(partition: Partition, state: TaskState, receipt: Option<&str>) -> TaskPartition {
    let mut item = TaskPartition::new(TaskKey::new("t", partition));
    item.state = state;
    let receipt = receipt.map(|receipt| receipt.parse().unwrap());
    item.received.extend(receipt.map(|receipt| (Element::data("a", partition), receipt)));
    item
}

#[test]
fn a_window_counts_its_partitions_in_its_order() {
    let mut month = window("2013-01-01T00", "2013-01-31T23", 24);
    assert_eq!(month.partitions(), 744);
    assert_eq!(month.nth(0).to_string(), "2013-01-01T00");
    assert_eq!(month.nth(743).to_string(), "2013-01-31T23");
    month.order = Order::Desc;
    assert_eq!(month.nth(0).to_string(), "2013-01-31T23");
    assert_eq!(month.nth(743).to_string(), "2013-01-01T00");
}

#[test]
fn each_state_of_a_partition_has_its_step() {
    use TaskState::{Cancelled, Failed, Ready, Running, Skipped, Succeeded, Waiting};
    let catalog = catalog(false);
    let task = &catalog.tasks["t"];
    let hour: Partition = "2013-01-01T05".parse().unwrap();
    let backfill = Backfill::new("B", window("2013-01-01T00", "2013-01-01T23", 2), asked());
    let step = |backfill: &Backfill, item: &TaskPartition| {
        backfill.step(&catalog, task, item, None, at(9))
    };
    let there = Some("object:e");
    for (state, receipt, expected) in [
        (Waiting, None, Step::Over(How::LacksInputs)),
        (Waiting, there, Step::Adopt(vec![])),
        (Ready, there, Step::Over(How::UnderWay)),
        (Running, there, Step::Over(How::UnderWay)),
        (Succeeded, there, Step::Over(How::DoneBefore)),
        (Skipped, there, Step::Over(How::DoneBefore)),
        (Failed, None, Step::Over(How::LacksInputs)),
        (Cancelled, Some("skipped"), Step::Over(How::DoneBefore)),
    ] {
        assert_eq!(step(&backfill, &item(hour, state, receipt)), expected, "{state:?}");
    }
    for state in [Failed, Cancelled] {
        let Step::Again(change) = step(&backfill, &item(hour, state, there)) else {
            panic!("{state:?} is not begun again");
        };
        assert_eq!(change.round, Round { number: 1, backfill: Some("B".into()) });
        assert!(!change.is_told() && change.again);
    }
    for (state, expected) in [
        (Waiting, Step::Adopt(vec![])),
        (Ready, Step::Wait),
        (Running, Step::Wait),
        (Succeeded, Step::Over(How::Succeeded)),
        (Failed, Step::Over(How::Failed)),
        (Cancelled, Step::Over(How::Cancelled)),
        (Skipped, Step::Over(How::Skipped)),
    ] {
        let mut ours = item(hour, state, there);
        ours.round.backfill = Some("B".into());
        assert_eq!(step(&backfill, &ours), expected, "ours, {state:?}");
    }
    let mut willing = backfill.clone();
    willing.window.ignore_inputs = true;
    let Step::Adopt(receipts) = step(&willing, &item(hour, Waiting, None)) else { panic!() };
    assert_eq!(receipts[0].1, Receipt::Granted("alice".into()));
    willing.window.force = true;
    assert!(matches!(step(&willing, &item(hour, Succeeded, there)), Step::Again(..)));
    // What has ended is given the same, in the change that begins its round.
    let Step::Again(change) = step(&willing, &item(hour, Failed, None)) else { panic!() };
    assert_eq!((change.to, change.receipts), (Ready, receipts));
}

/// What the backfill has begun and not run ends with it, or is nobody's again.
#[test]
fn a_cancelled_one_leaves_what_waits_and_cancels_what_would_run() {
    use TaskState::{Cancelled, Loading, Ready, Running, Succeeded, Waiting};
    let catalog = catalog(false);
    let task = &catalog.tasks["t"];
    let hour: Partition = "2013-01-01T05".parse().unwrap();
    let mut backfill = Backfill::new("B", window("2013-01-01T00", "2013-01-01T03", 2), asked());
    let granted = Some("granted:alice");
    let ours = |state, receipt| {
        let mut ours = item(hour, state, receipt);
        ours.round.backfill = Some("B".into());
        ours
    };
    assert_eq!(backfill.step_undeclared(&ours(Waiting, None)), Step::Wait, "it may come back");
    assert!(backfill.ask_cancel(asked()));
    for (state, receipt, declared, undeclared) in [
        (Waiting, None, Step::Leave(How::NotBegun), Step::Leave(How::NotBegun)),
        (Running, granted, Step::Wait, Step::Wait),
        (Loading, granted, Step::Wait, Step::Leave(How::UnderWay)),
        (Succeeded, granted, Step::Over(How::Succeeded), Step::Over(How::Succeeded)),
    ] {
        let item = ours(state, receipt);
        assert_eq!(backfill.step(&catalog, task, &item, None, at(9)), declared, "{state:?}");
        assert_eq!(backfill.step_undeclared(&item), undeclared, "{state:?}");
    }
    let steps = [
        backfill.step(&catalog, task, &ours(Waiting, granted), None, at(9)),
        backfill.step(&catalog, task, &ours(Ready, granted), None, at(9)),
        backfill.step_undeclared(&ours(Ready, granted)),
    ];
    for step in steps {
        let Step::Cancel(change) = step else { panic!("{step:?}") };
        assert_eq!(change.to, Cancelled);
    }
    let others = item(hour, Waiting, granted);
    assert_eq!(backfill.step_undeclared(&others), Step::Over(How::NotBegun));
}

#[test]
fn a_slot_that_never_came_is_given() {
    let catalog = catalog(true);
    let hour: Partition = "2013-01-01T05".parse().unwrap();
    let backfill = Backfill::new("B", window("2013-01-01T05", "2013-01-01T05", 1), asked());
    let item = item(hour, TaskState::Waiting, Some("object:e"));
    let Step::Adopt(receipts) = backfill.step(&catalog, &catalog.tasks["t"], &item, None, at(9))
    else {
        panic!()
    };
    let slot = Receipt::Slot("2013-01-01T06:05:00Z".parse().unwrap());
    assert_eq!(receipts, [(Element::Slot, slot)]);
}

/// Nothing calls for it, unless somebody insists or its slot came by an earlier schedule.
#[test]
fn what_the_schedule_has_no_slot_for_is_left_out() {
    let mut catalog = catalog(true);
    let sundays = Schedule::parse("0 6 * * 0", "UTC", SlotPartition::Previous).unwrap();
    catalog.tasks.get_mut("t").unwrap().schedule = Some(sundays);
    let task = &catalog.tasks["t"];
    let hour: Partition = "2013-01-01T05".parse().unwrap();
    let mut backfill = Backfill::new("B", window("2013-01-01T05", "2013-01-01T05", 1), asked());
    for state in [TaskState::Waiting, TaskState::Failed] {
        let mut item = item(hour, state, Some("object:e"));
        backfill.window.force = false;
        let step = backfill.step(&catalog, task, &item, None, at(9));
        assert_eq!(step, Step::Over(How::NoSlot), "{state:?}");
        backfill.window.force = true;
        let step = backfill.step(&catalog, task, &item, None, at(9));
        assert!(matches!(step, Step::Adopt(_) | Step::Again(_)), "{state:?}: {step:?}");
        backfill.window.force = false;
        item.received.insert(Element::Slot, "slot:2013-01-01T06:05:00Z".parse().unwrap());
        let step = backfill.step(&catalog, task, &item, None, at(9));
        assert!(matches!(step, Step::Adopt(_) | Step::Again(_)), "{state:?}: {step:?}");
    }
}

#[test]
fn windows_of_a_task_intersect_where_they_share_a_partition() {
    let day = window("2013-01-02T00", "2013-01-02T23", 1);
    for (first, last, expected) in [
        ("2013-01-01T00", "2013-01-01T23", false),
        ("2013-01-01T00", "2013-01-02T00", true),
        ("2013-01-02T05", "2013-01-02T06", true),
        ("2013-01-02T23", "2013-01-05T00", true),
        ("2013-01-03T00", "2013-01-03T01", false),
    ] {
        let other = window(first, last, 1);
        assert_eq!((day.intersects(&other), other.intersects(&day)), (expected, expected));
        assert!(!day.intersects(&Window { task: "u".into(), ..other }));
    }
}

#[test]
fn its_summary_says_what_came_of_it() {
    let mut backfill = Backfill::new("B", window("2013-01-01T00", "2013-01-01T03", 4), asked());
    backfill.begin();
    for (partition, how) in [
        ("2013-01-01T00", How::Succeeded),
        ("2013-01-01T01", How::Failed),
        ("2013-01-01T02", How::DoneBefore),
        ("2013-01-01T03", How::Succeeded),
    ] {
        backfill.end(at(60));
        assert_eq!(backfill.ended, None);
        backfill.over(partition.parse().unwrap(), how);
    }
    backfill.end(at(3600));
    backfill.end(at(9999));
    let ids: Vec<_> = backfill.notices.iter().map(|notice| notice.id.as_str()).collect();
    assert_eq!(ids, ["backfill/B/backfill-begun", "backfill/B/backfill-ended"]);
    insta::assert_snapshot!("backfill-ended", backfill.notices[1].message("prod").as_text());
    insta::assert_snapshot!("backfill-begun", backfill.notices[0].message("prod").as_text());
}

#[test]
fn what_is_told_of_a_cancelled_one() {
    let mut backfill = Backfill::new("B", window("2013-01-01T00", "2013-01-01T23", 4), asked());
    backfill.begin();
    backfill.over("2013-01-01T00".parse().unwrap(), How::Succeeded);
    let cancelled = Asked::new("bob", Some("the wrong window"), at(600));
    assert!(backfill.ask_cancel(cancelled));
    for (partition, how) in [
        ("2013-01-01T01", How::Failed),
        ("2013-01-01T02", How::Cancelled),
        ("2013-01-01T03", How::NotBegun),
    ] {
        backfill.over(partition.parse().unwrap(), how);
    }
    backfill.end(at(1_200));
    let mails = backfill.notices.iter().map(|notice| notice.message("prod").as_text());
    let [_, told, ended] = mails.collect::<Vec<_>>().try_into().unwrap();
    insta::assert_snapshot!("backfill-cancelled", told);
    insta::assert_snapshot!("backfill-ended-cancelled", ended);
}

/// A table with what became of each partition, and what a service does with it.
struct Table {
    items: BTreeMap<Partition, TaskPartition>,
    /// How often each ran for the backfill.
    runs: BTreeMap<Partition, u32>,
    /// Whether each of the next runs fails.
    failures: VecDeque<bool>,
}

impl Table {
    fn under_way(&self) -> usize {
        let open = |item: &&TaskPartition| {
            matches!(item.state, TaskState::Ready | TaskState::Running)
                && item.round.backfill.is_some()
        };
        self.items.values().filter(open).count()
    }

    /// Makes what a step says, as the store would.
    fn make(&mut self, step: &Step, partition: Partition) {
        let unstored = TaskPartition::new(TaskKey::new("t", partition));
        let item = self.items.entry(partition).or_insert(unstored);
        match step {
            Step::Adopt(receipts) if item.state == TaskState::Waiting => {
                item.round.backfill = Some("B".into());
                item.received.extend(receipts.iter().cloned());
                item.state = TaskState::Ready;
            }
            Step::Again(change) if item.state == change.from => {
                item.received.extend(change.receipts.iter().cloned());
                item.round = change.round.clone();
                item.state = change.to;
            }
            Step::Cancel(change) if item.state == change.from => item.state = change.to,
            Step::Leave(_) => item.round.backfill = None,
            _ => {}
        }
    }

    /// Time passes: what is ready runs, what runs ends.
    fn go_on(&mut self) {
        for (partition, item) in &mut self.items {
            item.state = match item.state {
                TaskState::Ready => {
                    let ours = u32::from(item.round.backfill.is_some());
                    *self.runs.entry(*partition).or_default() += ours;
                    TaskState::Running
                }
                TaskState::Running if self.failures.pop_front() == Some(true) => TaskState::Failed,
                TaskState::Running => TaskState::Succeeded,
                state => state,
            };
        }
    }
}

proptest! {
    /// Whatever each partition is before, and wherever its driver crashes before
    /// it has stored what it knows: the cap holds at every moment, each partition
    /// runs once at most, the end comes, and the counts add up.
    #[test]
    fn the_cap_holds_and_nothing_runs_twice(
        before in proptest::collection::vec(
            proptest::option::of((0usize..8, any::<bool>())), 1..40,
        ),
        cap in 1u32..6,
        desc: bool,
        force: bool,
        crashes in proptest::collection::btree_set(0usize..120, 0..30),
        failures in proptest::collection::vec(any::<bool>(), 0..20),
        cancelled_at in proptest::option::of(0usize..40),
    ) {
        let catalog = catalog(false);
        let first: Partition = "2013-01-01T00".parse().unwrap();
        let hours: Vec<_> = Partition::overlapping(first.start(), Timestamp::MAX, Grain::Hour)
            .take(before.len())
            .collect();
        let mut window = window("2013-01-01T00", "2013-01-01T00", cap);
        window.last = *hours.last().unwrap();
        window.order = if desc { Order::Desc } else { Order::Asc };
        window.force = force;
        let items = hours.iter().zip(&before).filter_map(|(hour, before)| {
            let (state, there) = (*before)?;
            Some((*hour, item(*hour, TaskState::ALL[state], there.then_some("object:e"))))
        });
        let mut table =
            Table { items: items.collect(), runs: BTreeMap::new(), failures: failures.into() };
        let mut stored = Backfill::new("B", window, asked());
        let mut acts = 0;
        let mut crashed = || { acts += 1; crashes.contains(&acts) };
        for turn in 0..2_000 {
            if stored.ended.is_some() { break }
            if cancelled_at == Some(turn) {
                stored.ask_cancel(asked());
            }
            let mut backfill = stored.clone();
            backfill.begin();
            stored = backfill.clone();
            prop_assert!(stored.open.len() <= cap as usize);
            let mut lost = crashed();
            for partition in stored.open.clone() {
                if lost { break }
                let unstored = TaskPartition::new(TaskKey::new("t", partition));
                let item = table.items.get(&partition).unwrap_or(&unstored).clone();
                match backfill.step(&catalog, &catalog.tasks["t"], &item, None, at(9)) {
                    Step::Over(how) => backfill.over(partition, how),
                    Step::Leave(how) => {
                        table.make(&Step::Leave(how), partition);
                        backfill.over(partition, how);
                    }
                    step => table.make(&step, partition),
                }
                prop_assert!(table.under_way() <= cap as usize, "the cap is broken");
                lost = crashed();
            }
            backfill.end(at(99));
            if !lost {
                stored = backfill;
            }
            table.go_on();
        }
        prop_assert!(stored.ended.is_some(), "it does not end: {:#?}", stored);
        prop_assert_eq!(stored.done(), stored.window.partitions());
        prop_assert!(table.runs.values().all(|runs| *runs <= 1), "{:?}", table.runs);
        if cancelled_at.is_none() {
            // What could be run was run.
            for (hour, before) in hours.iter().zip(&before) {
                let runs = before.is_some_and(|(state, there)| there && match TaskState::ALL[state] {
                    TaskState::Waiting | TaskState::Failed | TaskState::Cancelled => true,
                    TaskState::Succeeded | TaskState::Skipped => force,
                    // Somebody else's, who runs it.
                    _ => false,
                });
                if runs {
                    prop_assert_eq!(table.runs.get(hour), Some(&1), "{} was not run", hour);
                }
            }
        }
    }
}
