//! A person's word that members, or the whole run, are to end.

use super::*;

fn asked() -> Asked {
    Asked::new("alice", Some("wrong data"), at(0))
}

/// Cancels these members at the given turn.
fn at_turn<T: ToString>(
    turn: usize,
    tasks: &[T],
) -> impl FnMut(usize, &mut Run, Timestamp) + use<T> {
    let tasks: BTreeSet<_> = tasks.iter().map(ToString::to_string).collect();
    move |now, run, _| {
        if now >= turn && run.members.iter().all(|member| member.cancel.is_none()) {
            run.ask_cancel(|key| tasks.contains(&key.task), &asked());
        }
    }
}

/// Steps of every task that never end by themselves.
fn hanging(tasks: &[impl ToString]) -> BTreeSet<String> {
    tasks.iter().map(|task| format!("{}/2013-01-01T05/s0", task.to_string())).collect()
}

/// Of what is said to be cancelled, nothing runs on any cluster.
fn runs_no_more(change: &TaskChange, emr: &FakeEmr) {
    if change.to != TaskState::Cancelled {
        return;
    }
    let start = format!("{}/", change.key.task);
    for cluster in emr.clusters.iter().filter(|cluster| !cluster.state.has_ended()) {
        let runs =
            |step: &StepSeen| step.state == StepState::Running && step.name.starts_with(&start);
        assert!(!cluster.steps.iter().any(runs), "{} runs", change.key);
    }
}

#[test]
fn a_whole_run_is_cancelled_with_its_cluster() {
    let (mut run, mut emr) = (run(2, 2), FakeEmr::default());
    emr.hanging = hanging(&["t0"]);
    let word = at_turn(8, &["t0", "t1"]);
    let changes = follow_word(&mut run, &mut emr, |_| false, word, |_, _| {});
    let cancelled = TaskState::Cancelled;
    assert_eq!(states(&changes), [("t0".into(), cancelled), ("t1".into(), cancelled)]);
    assert_eq!(changes[0].reason.as_deref(), Some("by alice (wrong data)"));
    assert_eq!((run.state, emr.clusters.len(), emr.alive()), (RunState::Cancelled, 1, 0));
    assert_eq!(emr.counts.get("CancelSteps"), None, "the cluster's end cancels all");
    let statuses: Vec<_> = run.notices.iter().map(|notice| notice.status.as_str()).collect();
    assert!(statuses.contains(&"cancel-asked") && statuses.contains(&"run-cancelled"));
}

#[test]
fn one_member_is_cancelled_and_the_others_go_on() {
    let (mut run, mut emr) = (run(3, 2), FakeEmr::default());
    emr.hanging = hanging(&["t1"]);
    let word = at_turn(8, &["t1"]);
    let changes = follow_word(&mut run, &mut emr, |_| false, word, |_, _| {});
    let ended: BTreeMap<_, _> = states(&changes).into_iter().collect();
    assert_eq!(ended["t0"], TaskState::Succeeded);
    assert_eq!(ended["t1"], TaskState::Cancelled);
    assert_eq!(ended["t2"], TaskState::Succeeded);
    assert_eq!((run.state, emr.clusters.len(), emr.alive()), (RunState::Cancelled, 1, 0));
    assert!(!emr.executed.iter().any(|name| name.contains("t1/2013-01-01T05/s1")));
}

#[test]
fn a_run_whose_cluster_was_never_asked_for_ends_at_once() {
    let (mut run, mut emr) = (run(2, 1), FakeEmr::default());
    follow_word(&mut run, &mut emr, |_| false, at_turn(0, &["t0", "t1"]), |_, _| {});
    assert_eq!((run.state, emr.clusters.len()), (RunState::Cancelled, 0));
    let (mut run, mut emr) = (super::run(2, 1), FakeEmr::default());
    // What was planned before the refusal is planned anew.
    emr.fates = vec![Fate::Throttled];
    follow_word(&mut run, &mut emr, |_| false, at_turn(1, &["t0"]), |_, _| {});
    assert_eq!(emr.executed, ["t1/2013-01-01T05/s0/1"]);
    assert_eq!(run.state, RunState::Cancelled);
}

#[test]
fn what_has_ended_is_not_cancelled_and_a_word_is_told_once() {
    let mut run = run(2, 1);
    run.members[0].outcome = Some(Outcome::Succeeded);
    let keys = run.ask_cancel(|_| true, &asked());
    assert_eq!(keys.len(), 1);
    assert!(run.asked, "the next sweep wakes it");
    assert!(run.ask_cancel(|_| true, &asked()).is_empty());
    assert!(!run.has_let_go(&run.members[1].key));
}

/// The cluster that is known is refused by its guard, another executes the
/// attempt: the run has to look at its cluster to learn that.
#[test]
fn one_that_runs_on_another_cluster_is_followed_there() {
    let (mut run, mut emr) = (run(2, 1), FakeEmr::default());
    run.cluster.guard = true;
    emr.fates = vec![Fate::AnswerLost];
    emr.sights = vec![Sight::Hidden; 6];
    emr.lags_without_bound = true;
    emr.hanging = hanging(&["t0"]);
    let word = at_turn(1, &["t0"]);
    let changes = follow_word(&mut run, &mut emr, |_| false, word, runs_no_more);
    let ended: BTreeMap<_, _> = states(&changes).into_iter().collect();
    assert_eq!(ended["t0"], TaskState::Cancelled);
    assert_eq!(ended["t1"], TaskState::Succeeded);
    assert_eq!((emr.clusters.len(), emr.alive()), (2, 0));
    assert!(run.ended.unwrap() < at(3600), "before its lifetime");
}

/// `t0` fails once, which cancels `t1`. `t1` is submitted again, together with
/// `t0` unless its retry has to wait for a second. These are the fates of that
/// submission, during which a person wants `t1` to end.
fn cancelled_while_adding(fates: &[Fate], guard: bool, delay: i64) -> (Run, FakeEmr) {
    let (mut run, mut emr) = (run(2, 1), FakeEmr::default());
    run.cluster.guard = guard;
    run.members[0].steps[0].retry.delay = SignedDuration::from_secs(delay);
    emr.fates = [&[Fate::Works], fates].concat();
    emr.outcomes.insert("t0/2013-01-01T05/s0".into(), vec![false]);
    emr.hanging = hanging(&["t1"]);
    let word = |_: usize, run: &mut Run, _: Timestamp| {
        if run.attempt().is_some_and(|attempt| attempt.adding.is_some()) {
            run.ask_cancel(|key| key.task == "t1", &asked());
        }
    };
    let changes = follow_word(&mut run, &mut emr, |_| false, word, runs_no_more);
    let ended: BTreeMap<_, _> = states(&changes).into_iter().collect();
    assert_eq!(ended["t0"], TaskState::Succeeded, "{fates:?}");
    assert_eq!(ended["t1"], TaskState::Cancelled, "{fates:?}");
    assert_eq!((emr.clusters.len(), emr.alive()), (1, 0), "{fates:?}");
    assert!(run.ended.unwrap() < at(600), "{fates:?}: {:?}", run.ended);
    (run, emr)
}

#[test]
fn a_submission_that_is_held_up_is_repeated_for_those_that_go_on() {
    for (guard, fates, ran) in [
        (true, vec![Fate::Throttled], 0),
        (false, vec![Fate::Throttled; 3], 0),
        (true, vec![Fate::RequestLost], 1),
        (false, vec![Fate::RequestLost], 1),
        // Nobody knows whether the first of them was lost.
        (true, vec![Fate::RequestLost, Fate::Throttled], 1),
        (true, vec![Fate::Late], 1),
    ] {
        let (_, emr) = cancelled_while_adding(&fates, guard, 0);
        let times = emr.executed.iter().filter(|name| name.starts_with("t1/")).count();
        assert_eq!(times, ran, "{fates:?}: {:?}", emr.executed);
    }
}

#[test]
fn a_submission_for_nobody_is_not_made_and_the_next_has_its_number() {
    let (run, emr) = cancelled_while_adding(&[Fate::Throttled], true, 1);
    assert_eq!(emr.counts.get("AddJobFlowSteps"), Some(&2), "the throttled one, and t0's");
    assert_eq!(run.attempt().unwrap().guards, [StepState::Completed; 2]);
    assert!(emr.executed.iter().all(|name| name.starts_with("t0/")), "{:?}", emr.executed);
}

/// The first call may have created a cluster, the second certainly did not, and
/// a third one nobody wants.
#[test]
fn nothing_is_created_for_a_run_that_is_cancelled_in_full() {
    for (first, clusters) in [(Fate::RequestLost, 0), (Fate::AnswerLost, 1), (Fate::Late, 1)] {
        for guard in [true, false] {
            if first == Fate::Late && !guard {
                continue;
            }
            let (mut run, mut emr) = (run(2, 1), FakeEmr::default());
            run.cluster.guard = guard;
            emr.fates = vec![first, Fate::Throttled];
            // The list hides it until it is asked for again.
            emr.sights = vec![Sight::Hidden; 4];
            emr.lags_without_bound = true;
            emr.hanging = hanging(&["t0"]);
            let mut asked_at = None;
            let word = |_: usize, run: &mut Run, now: Timestamp| {
                let launch = &run.attempt().unwrap().launch;
                if launch.send_at.is_some() && launch.uncertain && asked_at.is_none() {
                    run.ask_cancel(|_| true, &asked());
                    asked_at = Some(now);
                }
            };
            let changes = follow_word(&mut run, &mut emr, |_| false, word, runs_no_more);
            assert!(asked_at.is_some(), "{first:?}");
            assert!(states(&changes).iter().all(|(_, to)| *to == TaskState::Cancelled));
            assert_eq!((changes.len(), run.state), (2, RunState::Cancelled), "{first:?}");
            assert_eq!(emr.counts.get("RunJobFlow"), Some(&2), "{first:?} {guard}");
            for _ in 0..3 {
                emr.go_on_all(at(0));
            }
            assert_eq!(emr.clusters.len(), clusters, "{first:?} {guard}");
        }
    }
}

#[test]
fn a_failed_member_lets_go_when_its_steps_have_ended() {
    let (mut run, mut emr) = (run(2, 1), FakeEmr::default());
    emr.outcomes.insert("t0/2013-01-01T05/s0".into(), vec![false; 9]);
    emr.hanging = hanging(&["t1"]);
    let check = |change: &TaskChange, _: &FakeEmr| assert_eq!(change.key.task, "t0");
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        follow_word(&mut run, &mut emr, |_| false, |_, _, _| {}, check)
    }));
    // `t1` hangs until the lifetime is over, and fails then.
    assert!(seen.is_err());
    assert!(run.has_let_go(&run.members[0].key));
    assert!(!run.has_let_go(&run.members[1].key), "its step may still run");
}

proptest! {
    /// Whenever it is asked, whatever is lost or late, and wherever it crashes:
    /// the run ends, each partition once, and nothing of one that was cancelled
    /// runs then or later.
    #[test]
    fn nothing_runs_of_what_is_cancelled(
        tasks in 1usize..4,
        steps in 1usize..3,
        turn in 0usize..30,
        wanted in proptest::collection::btree_set(0usize..4, 1..4),
        hangs in proptest::collection::btree_set(0usize..4, 0..4),
        guard: bool,
        fates in proptest::collection::vec(prop_oneof![fate(), Just(Fate::Late)], 0..8),
        dying in 0usize..3,
        crashes in proptest::collection::vec(1usize..20, 0..4),
        sights in proptest::collection::vec(sight(), 0..10),
        arriving in proptest::option::of(proptest::collection::vec(any::<bool>(), 0..12)),
    ) {
        let mut run = run(tasks, steps);
        run.cluster.guard = guard;
        let names = |numbers: &BTreeSet<usize>| {
            numbers.iter().map(|number| format!("t{number}")).collect::<Vec<_>>()
        };
        let (wanted, hangs) = (names(&wanted), names(&hangs));
        // Without a guard nothing is promised of calls without bounds.
        let fates = fates.into_iter().filter(|fate| guard || *fate != Fate::Late).collect();
        let mut emr = FakeEmr {
            fates, dying, sights, arriving, lags_without_bound: guard,
            hanging: hanging(&hangs),
            ..FakeEmr::default()
        };
        let mut executed: BTreeMap<String, usize> = BTreeMap::new();
        let count = |emr: &FakeEmr, task: &str| {
            let start = format!("{task}/");
            emr.executed.iter().filter(|name| name.starts_with(&start)).count()
        };
        let check = |change: &TaskChange, emr: &FakeEmr| {
            runs_no_more(change, emr);
            if change.to == TaskState::Cancelled {
                executed.insert(change.key.task.clone(), count(emr, &change.key.task));
            }
        };
        let word = at_turn(turn, &wanted);
        let changes = follow_word(&mut run, &mut emr, |act| crashes.contains(&act), word, check);
        prop_assert!(run.state.is_final());
        prop_assert_eq!(changes.len(), tasks);
        for _ in 0..3 {
            emr.go_on_all(at(0));
        }
        prop_assert_eq!(emr.alive(), 0);
        for (task, before) in executed {
            prop_assert_eq!(count(&emr, &task), before, "{} was executed after its end", task);
        }
    }
}
