//! Every cause is reached, and its sentence is the one that a person knows it by.

use std::collections::BTreeSet;

use super::*;
use crate::core::cap::Capped;
use crate::core::load::Load;

const NOW: &str = "2013-01-01T06:20:00Z";

fn hour() -> Case {
    Case::new("etl", "2013-01-01T05")
}

fn ready() -> Case {
    let mut hour = hour();
    hour.item().state = TaskState::Ready;
    hour.item().ready_at = Some(at("2013-01-01T06:16:00Z"));
    hour
}

fn backfill() -> Backfill {
    let window = crate::core::backfill::Window {
        task: "etl".into(),
        first: "2013-01-01T00".parse().unwrap(),
        last: "2013-01-01T23".parse().unwrap(),
        max_parallel: 2,
        order: Default::default(),
        force: false,
        ignore_inputs: false,
    };
    Backfill::new("B", window, Asked::new("alice", None, at(NOW)))
}

/// Running on cluster j-1, whose steps stand so.
fn on_cluster(state: ClusterState, first: StepState, second: StepState) -> Case {
    let steps = [("etl/2013-01-01T05/extract/1", first), ("etl/2013-01-01T05/load/2", second)];
    let launched = [Observation::Nothing, Observation::Launched(Ok("j-1".into()))];
    let observed = launched.into_iter().chain(seen(state, &steps));
    hour().running(vec![observed.map(|observed| (NOW, observed)).collect()])
}

#[test]
fn every_cause_is_reached_and_said() {
    use ClusterState::{Running, Terminating, Waiting};
    use StepState::{Cancelled, Completed, Failed, Pending};
    let with = |mut case: Case, change: &dyn Fn(&mut Case)| {
        change(&mut case);
        case
    };
    let closed = || hour().received("raw@2013-01-01T05", "closed:3");
    let asked = Asked::new("alice", None, at(NOW));
    let quota = Act::Launch.postponed(at("2013-01-01T06:50:00Z"));
    let cases = [
        (Cause::Slot, closed(), "waits for its slot at 06:05 UTC"),
        (
            Cause::Settle,
            Case::new("etl", "2013-01-01T06"),
            "raw 2013-01-01T06, which closes at 07:16 UTC",
        ),
        (Cause::Inputs, Case::new("report", "2013-01-01"), "waits for all 24 partitions of hourly"),
        (
            Cause::Look,
            closed().received("slot", "slot:2013-01-01T06:05:00Z"),
            "is about to become ready",
        ),
        (Cause::Batch, with(ready(), &|case| case.ready = 1), "waits for 3 more ready partitions"),
        (Cause::Look, with(ready(), &|case| case.ready = 4), "a run is about to be made"),
        (
            Cause::Paused,
            with(ready(), &|case| case.paused = Some((Scope::All, asked.clone()))),
            "every task is paused since 06:20 UTC by alice",
        ),
        (
            Cause::Cap,
            with(ready(), &|case| {
                case.full = Some(Full { of: Capped::Task("etl".into()), count: 2, max: 2 });
            }),
            "2 of task etl run, and 2 may at once",
        ),
        (
            Cause::Backfill,
            with(hour(), &|case| case.to_come = Some(backfill())),
            "backfill B has yet to come to it",
        ),
        (
            Cause::Run,
            with(hour().running(vec![]), &|case| case.run = None),
            "run R1, which cannot be found",
        ),
        (
            Cause::Quota,
            hour().running(vec![vec![(NOW, Observation::Nothing), (NOW, quota)]]),
            "EMR's quota has no room for its cluster before 06:50 UTC",
        ),
        (Cause::Cluster, hour().running(vec![]), "its cluster is about to be asked for"),
        (
            Cause::Cluster,
            on_cluster(ClusterState::Bootstrapping, Pending, Pending),
            "cluster j-1 is bootstrapping since 06:20 UTC",
        ),
        (
            Cause::ClusterEnding,
            on_cluster(Terminating, Pending, Pending),
            "cluster j-1 is terminating before its work was done",
        ),
        (
            Cause::Guard,
            with(on_cluster(Terminating, Pending, Pending), &|case| {
                let attempt = &mut case.run.as_mut().unwrap().attempts[0];
                attempt.guards = vec![StepState::Failed];
            }),
            "as its guard has refused it",
        ),
        (
            Cause::Retry,
            on_cluster(Waiting, Failed, Cancelled),
            "step extract failed on cluster j-1 and is tried again at 06:45 UTC",
        ),
        (
            Cause::Queue,
            on_cluster(Running, Completed, Pending),
            "step load is queued on cluster j-1",
        ),
        (
            Cause::Step,
            on_cluster(Running, StepState::Running, Pending),
            "step extract runs on cluster j-1 since 06:30 UTC",
        ),
        (
            Cause::Cancelling,
            with(hour().running(vec![]), &|case| {
                case.run.as_mut().unwrap().ask_cancel(|_| true, &asked);
            }),
            "is being cancelled since 06:20 UTC by alice",
        ),
        (
            Cause::Load,
            with(hour(), &|case| {
                case.item().state = TaskState::Loading;
                case.item().load = Some(Load::new("R1", at(NOW)));
            }),
            "is loading",
        ),
    ];
    let mut reached = BTreeSet::new();
    for (cause, case, words) in cases {
        let why = case.why(NOW);
        assert!(why.sentence.contains(words), "{}", why.sentence);
        assert_eq!(why.cause, Some(cause), "{}", why.sentence);
        reached.insert(cause);
    }
    // The last that is declared: an enum is numbered in its order.
    assert_eq!(reached.len(), Cause::Load as usize + 1);
    for state in TaskState::ALL.into_iter().filter(|state| state.is_final()) {
        assert_eq!(with(hour(), &|case| case.item().state = state).why(NOW).cause, None);
    }
}
