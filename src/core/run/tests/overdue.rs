//! What takes too long: steps past their time-out, clusters on which nothing runs.

use super::*;
use crate::core::class::FailureClass;

const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);

/// A run whose tasks' steps may take half an hour each.
fn bounded(tasks: usize, steps: usize) -> Run {
    let mut run = run(tasks, steps);
    run.members.iter_mut().for_each(|member| member.attempt_timeout = Some(HALF_AN_HOUR));
    run
}

fn hanging(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.replace(' ', "/2013-01-01T05/")).collect()
}

#[test]
fn a_step_past_its_time_out_is_cancelled_and_tried_again() {
    // With all memory, or what the table has alone; with events or without.
    for (crashes, arriving) in [(false, None), (true, None), (false, Some(vec![]))] {
        let mut run = bounded(2, 3);
        let hangs_once = true;
        let mut emr =
            FakeEmr { hanging: hanging(&["t0 s1"]), hangs_once, arriving, ..FakeEmr::default() };
        let changes = follow(&mut run, &mut emr, |act| crashes && act % 4 == 0);
        assert_eq!((run.state, emr.clusters.len(), emr.alive()), (RunState::Succeeded, 1, 0));
        assert_eq!(changes.len(), 2);
        let tries: Vec<_> = run.attempts[0].tries.iter().collect();
        let late = tries.iter().find(|step_try| step_try.stop == Some(Stop::TimeOut)).unwrap();
        assert_eq!((late.state, late.class()), (StepState::Failed, Some(FailureClass::TimeOut)));
        let ran = late.ended.unwrap().duration_since(late.started.unwrap());
        let latest = HALF_AN_HOUR + SignedDuration::from_mins(2);
        assert!(ran >= HALF_AN_HOUR && ran < latest, "{ran:#}");
        // The step after it did not run without it.
        let count = |of: &str| emr.executed.iter().filter(|name| name.contains(of)).count();
        assert_eq!((count("t0/2013-01-01T05/s1"), count("t0/2013-01-01T05/s2")), (2, 1));
        assert_eq!(count("t1/"), 3, "the other partition is left alone");
        let told = run.notices.iter().find(|notice| notice.status == "step-failed").unwrap();
        assert_eq!(told.class, Some(FailureClass::TimeOut));
        assert!(told.detail.contains("ran longer than attempt-timeout (30m)"), "{}", told.detail);
    }
}

#[test]
fn a_step_that_always_takes_too_long_fails_its_partition() {
    let mut run = bounded(2, 2);
    let mut emr = FakeEmr { hanging: hanging(&["t0 s0"]), ..FakeEmr::default() };
    run.limits.lifetime = SignedDuration::from_hours(4);
    let changes = follow(&mut run, &mut emr, |_| false);
    let failed = changes.iter().find(|change| change.key.task == "t0").unwrap();
    let reason =
        "step s0 failed 3 times: it ran longer than attempt-timeout (30m) and was cancelled";
    assert_eq!(failed.reason.as_deref(), Some(reason));
    assert_eq!(failed.notice.class, Some(FailureClass::TimeOut));
    assert_eq!((run.state, emr.clusters.len(), emr.alive()), (RunState::Failed, 1, 0));
    assert!(!emr.executed.iter().any(|name| name.contains("t0/2013-01-01T05/s1")));
}

/// Whether a step has begun nobody needs to ask but the holder of the poll lease; when
/// it has run for too long every replica knows.
#[test]
fn a_spared_replica_does_not_ask_whether_a_step_has_begun() {
    let mut run = bounded(1, 1);
    let holder = Hints::default();
    let spared = Hints { spared: true, ..Hints::default() };
    let _ = run.decide(Observation::Nothing, &holder, at(0));
    let _ = run.decide(Observation::Launched(Ok("j-0".into())), &holder, at(0));
    run.attempts[0].cluster_state = Some(ClusterState::Running);
    let act = |run: &Run, hints: &Hints, now| {
        run.clone().decide(Observation::Nothing, hints, at(now)).act
    };
    let describe = Act::Describe { cluster: "j-0".into() };
    assert_eq!(act(&run, &holder, 1_800), describe);
    assert!(matches!(act(&run, &spared, 1_800), Act::Rest(_)));
    let step_try = &mut run.attempts[0].tries[0];
    (step_try.state, step_try.started) = (StepState::Running, Some(at(60)));
    assert_eq!(act(&run, &spared, 60 + 1_799), Act::Rest(Some(at(60 + 1_800))));
    assert_eq!(act(&run, &spared, 60 + 1_800), describe);
}

/// EMR goes on with the next step before it gets to cancelling that, too.
#[test]
fn what_ran_after_a_time_out_is_done_again() {
    let mut run = bounded(1, 2);
    let hints = Hints { steps_fresh: true, state_fresh: true, ..Hints::default() };
    let _ = run.decide(Observation::Nothing, &hints, at(0));
    let _ = run.decide(Observation::Launched(Ok("j-0".into())), &hints, at(0));
    let seen = |run: &Run, states: [StepState; 2], ended: bool| {
        let tries = run.attempts[0].tries.iter().zip(states).enumerate();
        let steps = tries.map(|(number, (step_try, state))| StepSeen {
            id: format!("s-{number}"),
            name: step_try.name.clone(),
            state,
            created: Some(at(0)),
            started: Some(at(60)),
            ended: ended.then(|| at(2_000)),
            failure: None,
        });
        Observation::Steps(steps.collect())
    };
    let observation = seen(&run, [StepState::Running, StepState::Pending], false);
    let decision = run.decide(observation, &hints, at(1_900));
    let steps = vec!["s-1".to_owned(), "s-0".to_owned()];
    assert_eq!(decision.act, Act::CancelSteps { cluster: "j-0".into(), steps });
    let stops: Vec<_> = run.attempts[0].tries.iter().map(|step_try| step_try.stop).collect();
    assert_eq!(stops, [Some(Stop::TimeOut), Some(Stop::Along)]);
    // The second is told to end again when it runs.
    let observation = seen(&run, [StepState::Cancelled, StepState::Running], false);
    let decision = run.decide(observation, &hints, at(1_950));
    let steps = vec!["s-1".to_owned()];
    assert_eq!(decision.act, Act::CancelSteps { cluster: "j-0".into(), steps });
    let observation = seen(&run, [StepState::Cancelled, StepState::Completed], true);
    let decision = run.decide(observation, &hints, at(2_010));
    assert_eq!(
        (decision.changes, decision.act),
        (vec![], Act::AddSteps { cluster: "j-0".into(), tries: vec![2, 3] })
    );
    // Both are told to end once more, and complete before: that is no reason to do the
    // second again.
    let mut done = run.clone();
    for (step_try, stop) in done.attempts[0].tries[2..].iter_mut().zip([Stop::TimeOut, Stop::Along])
    {
        (step_try.stop, step_try.state) = (Some(stop), StepState::Completed);
    }
    done.attempts[0].disregard_after_time_out();
    let states = done.attempts[0].tries[2..].iter().map(|step_try| step_try.state);
    assert!(states.into_iter().all(|state| state == StepState::Completed));
    // A step that completed before its cancellation came is done.
    let mut in_time = run.clone();
    in_time.attempts[0].tries.truncate(2);
    let observation = seen(&in_time, [StepState::Completed, StepState::Cancelled], true);
    let _ = in_time.decide(observation, &hints, at(2_010));
    let last = in_time.attempts[0].tries.last().unwrap();
    assert_eq!((in_time.attempts[0].tries.len(), last.step), (3, 1));
    assert_eq!(in_time.members[0].outcome, None);
}

#[test]
fn a_cluster_on_which_nothing_runs_is_given_up_and_replaced() {
    for (stuck, idle, class) in [(1, 0, FailureClass::Capacity), (0, 1, FailureClass::TimeOut)] {
        for (guard, arriving) in [(false, None), (true, None), (false, Some(vec![]))] {
            let mut run = run(2, 2);
            run.cluster.guard = guard;
            run.limits.stall_timeout = Some(HALF_AN_HOUR);
            let mut emr = FakeEmr { stuck, idle, arriving, ..FakeEmr::default() };
            let changes = follow(&mut run, &mut emr, |act| act % 5 == 0);
            assert_eq!((run.state, emr.clusters.len(), emr.alive()), (RunState::Succeeded, 2, 0));
            assert_eq!((changes.len(), run.attempts.len()), (2, 2));
            let lost = &run.attempts[0];
            assert_eq!((lost.given_up, lost.class), (Some(class), Some(class)));
            let lived = lost.ended_at.unwrap().duration_since(lost.opened);
            assert!(lived >= HALF_AN_HOUR && lived < HALF_AN_HOUR * 2, "{lived:#}");
            let told = run.notices.iter().find(|notice| notice.status == "attempt-lost").unwrap();
            let reason = &told.facts[0].text;
            assert!(reason.ends_with("for longer than stall-timeout (30m)"), "{reason}");
        }
    }
}

#[test]
fn a_cluster_that_works_or_waits_for_a_retry_is_no_stall() {
    let mut run = run(2, 2);
    run.limits.stall_timeout = Some(SignedDuration::from_mins(5));
    run.limits.lifetime = SignedDuration::from_hours(8);
    for step in run.members.iter_mut().flat_map(|member| &mut member.steps) {
        step.retry.delay = SignedDuration::from_mins(50);
    }
    run.members[1].attempt_timeout = Some(SignedDuration::from_hours(2));
    let hangs_once = true;
    let mut emr = FakeEmr { hanging: hanging(&["t1 s0"]), hangs_once, ..FakeEmr::default() };
    emr.outcomes.insert("t0/2013-01-01T05/s0".into(), vec![false, true]);
    follow(&mut run, &mut emr, |_| false);
    assert_eq!((run.state, emr.clusters.len()), (RunState::Succeeded, 1));
}

/// As version 0.1 stored it: without any of the limits.
#[test]
fn a_run_without_the_limits_has_none() {
    let mut run = bounded(1, 1);
    run.limits.stall_timeout = Some(HALF_AN_HOUR);
    let mut stored = serde_json::to_value(&run).unwrap();
    for field in ["stall_timeout", "policies", "on_demand_last"] {
        stored["limits"].as_object_mut().unwrap().remove(field);
    }
    stored["members"][0].as_object_mut().unwrap().remove("attempt_timeout");
    let old: Run = serde_json::from_value(stored).unwrap();
    assert_eq!((old.limits.stall_timeout, old.limits.on_demand_last), (None, false));
    assert_eq!(old.members[0].attempt_timeout, None);
    let policy = old.limits.policy(FailureClass::External);
    assert_eq!((policy.max, policy.delay), (2, SignedDuration::ZERO), "as it was then");
}

proptest! {
    /// Whatever hangs, whatever is lost or lags, and wherever it crashes: with
    /// time-outs every run ends before its clusters' lifetime does, each partition
    /// once, no cluster is left, and no step of a cluster counts twice.
    #[test]
    fn time_outs_end_every_run(
        tasks in 1usize..4,
        steps in 1usize..3,
        hangs in proptest::collection::btree_set((0usize..3, 0usize..2), 0..3),
        hangs_once: bool,
        guard: bool,
        stuck in 0usize..2,
        fates in proptest::collection::vec(fate(), 0..8),
        crashes in proptest::collection::vec(1usize..30, 0..4),
        sights in proptest::collection::vec(sight(), 0..10),
        arriving in proptest::option::of(proptest::collection::vec(any::<bool>(), 0..12)),
    ) {
        let mut run = bounded(tasks, steps);
        run.cluster.guard = guard;
        run.limits.stall_timeout = Some(HALF_AN_HOUR);
        run.limits.lifetime = SignedDuration::from_hours(24 * 7);
        let hanging = hangs.iter().map(|(task, step)| format!("t{task}/2013-01-01T05/s{step}"));
        let mut emr = FakeEmr {
            hanging: hanging.collect(), hangs_once, stuck, fates, sights, arriving,
            ..FakeEmr::default()
        };
        let changes = follow(&mut run, &mut emr, |act| crashes.contains(&act));
        prop_assert!(run.state.is_final() && run.ended.unwrap() < at(24 * 3600));
        prop_assert_eq!(changes.len(), tasks);
        emr.go_on_all(at(0));
        prop_assert_eq!(emr.alive(), 0);
        if hangs_once && stuck == 0 {
            prop_assert_eq!(run.state, RunState::Succeeded);
        }
    }
}
