//! Steps that were submitted twice, or that a lagging list hides: nothing is
//! submitted again before it is certain that they are not executed.

use super::*;

fn decide(run: &mut Run, observation: Observation, secs: i64) -> Act {
    run.decide(observation, &Hints::default(), at(secs)).act
}

fn shown(name: &str, state: StepState, secs: i64) -> StepSeen {
    StepSeen {
        id: format!("s-{name}-{secs}"),
        name: name.to_owned(),
        state,
        created: Some(at(secs)),
        started: None,
        ended: state.has_ended().then_some(at(secs + 1)),
        failure: None,
    }
}

fn guard(number: u32) -> String {
    format!("{GUARD_PREFIX}{number}")
}

/// A guarded run of one step whose first try has failed, and whose second was
/// submitted without an answer; with what EMR showed of the first.
fn resubmitted() -> (Run, Vec<StepSeen>) {
    let mut run = run(1, 1);
    run.cluster.guard = true;
    assert_eq!(decide(&mut run, Observation::Nothing, 0), Act::Launch);
    let _ = decide(&mut run, Observation::Launched(Ok("j-0".into())), 0);
    let first = run.attempt().unwrap().tries[0].name.clone();
    let steps =
        vec![shown(&guard(1), StepState::Completed, 1), shown(&first, StepState::Failed, 2)];
    let _ = decide(&mut run, Observation::Steps(steps.clone()), 3);
    let waiting = ClusterSeen { state: ClusterState::Waiting, reason: String::new(), ended: None };
    let act = decide(&mut run, Observation::Described(waiting), 60);
    assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
    let _ = decide(&mut run, Observation::Added(Err(CallFailure::Unknown("no answer".into()))), 60);
    (run, steps)
}

/// Nothing can settle whether it was ever added, but its wait is the lag of a
/// list, not the hour that a step which is known to exist is waited for.
#[test]
fn without_guard_a_submission_that_no_list_shows_is_given_up_after_the_lag() {
    let mut run = run(1, 1);
    let _ = decide(&mut run, Observation::Nothing, 0);
    let _ = decide(&mut run, Observation::Launched(Ok("j-0".into())), 0);
    let first = run.attempt().unwrap().tries[0].name.clone();
    let steps = vec![shown(&first, StepState::Failed, 2)];
    let _ = decide(&mut run, Observation::Steps(steps.clone()), 3);
    let waiting = ClusterSeen { state: ClusterState::Waiting, reason: String::new(), ended: None };
    let act = decide(&mut run, Observation::Described(waiting), 60);
    assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
    let _ = decide(&mut run, Observation::Added(Err(CallFailure::Unknown("no answer".into()))), 60);
    let ended = ClusterSeen {
        state: ClusterState::TerminatedWithErrors,
        reason: String::new(),
        ended: None,
    };
    let _ = decide(&mut run, Observation::Described(ended), 70);
    let lag = run.limits.list_lag.as_secs();
    for (secs, attempts) in [(70, 1), (70 + lag - 1, 1), (70 + lag, 2)] {
        let _ = decide(&mut run, Observation::Steps(steps.clone()), secs);
        assert_eq!(run.attempts.len(), attempts, "after {secs} s");
    }
}

/// What EMR shows when the copy that comes second is refused.
fn refused_copy(run: &Run, steps: &[StepSeen]) -> Vec<StepSeen> {
    let second = run.attempt().unwrap().tries[1].name.clone();
    let copy = [shown(&guard(2), StepState::Failed, 90), shown(&second, StepState::Cancelled, 90)];
    steps.iter().cloned().chain(copy).collect()
}

fn second_claim(run: &Run) -> Act {
    Act::Claim { key: run.claim(2), holder: "nobody".into() }
}

#[test]
fn a_copy_that_was_refused_is_not_repeated_while_another_may_be_executed() {
    let (mut run, steps) = resubmitted();
    let refused = refused_copy(&run, &steps);
    assert_eq!(decide(&mut run, Observation::Steps(refused.clone()), 100), second_claim(&run));
    let claimed = |holder: &str, run: &Run| Observation::Claimed {
        key: run.claim(2),
        holder: holder.to_owned(),
    };
    let held = claimed("s-hidden", &run);
    assert!(matches!(decide(&mut run, held, 100), Act::Rest(Some(_))));
    // The next look reads the steps, although none of those known is open.
    let waiting = ClusterSeen { state: ClusterState::Waiting, reason: String::new(), ended: None };
    let read = Act::ReadSteps { cluster: "j-0".into(), spare: false };
    assert_eq!(decide(&mut run, Observation::Surveyed(Some(waiting)), 130), read);
    // At last the list shows the copy that ran.
    let second = run.attempt().unwrap().tries[1].name.clone();
    let ran =
        [shown(&guard(2), StepState::Completed, 80), shown(&second, StepState::Completed, 80)];
    let all: Vec<_> = refused.into_iter().chain(ran).collect();
    let act = decide(&mut run, Observation::Steps(all), 131);
    assert_eq!(act, Act::Terminate { cluster: "j-0".into() });
    assert_eq!(run.members[0].outcome, Some(Outcome::Succeeded));
}

#[test]
fn a_submission_that_nobody_can_execute_any_more_is_repeated() {
    let (mut run, steps) = resubmitted();
    let refused = refused_copy(&run, &steps);
    assert_eq!(decide(&mut run, Observation::Steps(refused), 100), second_claim(&run));
    let nobody = Observation::Claimed { key: run.claim(2), holder: "nobody".into() };
    let act = decide(&mut run, nobody, 100);
    assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
    assert_eq!(run.attempt().unwrap().guards.len(), 3);
}

/// Its guard got the claim, no answer, and gave up: the claim that it holds keeps
/// everybody else out, and it does no work itself.
#[test]
fn a_submission_whose_guard_failed_with_the_claim_is_repeated() {
    let (mut run, steps) = resubmitted();
    let refused = refused_copy(&run, &steps);
    assert_eq!(decide(&mut run, Observation::Steps(refused.clone()), 100), second_claim(&run));
    let guard = refused.iter().find(|step| step.name == guard(2)).unwrap();
    let held = Observation::Claimed { key: run.claim(2), holder: guard.id.clone() };
    let act = decide(&mut run, held, 100);
    assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
    assert_eq!(run.attempt().unwrap().guards.len(), 3);
}

/// EMR goes on with what follows a step that somebody cancels, and a list may not show
/// it yet.
#[test]
fn a_submission_whose_guard_was_cancelled_with_the_claim_is_repeated_when_lists_show_all() {
    let (mut run, steps) = resubmitted();
    let mut cancelled = refused_copy(&run, &steps);
    let guard = cancelled.iter_mut().find(|step| step.name == guard(2)).unwrap();
    guard.state = StepState::Cancelled;
    let (holder, ended) = (guard.id.clone(), 91);
    assert_eq!(guard.ended, Some(at(ended)));
    let lag = run.limits.list_lag.as_secs();
    let mut look = |secs| {
        let steps = Observation::Steps(cancelled.clone());
        assert_eq!(decide(&mut run, steps, secs), second_claim(&run));
        let held = Observation::Claimed { key: run.claim(2), holder: holder.clone() };
        decide(&mut run, held, secs)
    };
    let act = look(ended + lag - 1);
    assert!(matches!(act, Act::Rest(Some(_))), "{act:?}");
    let act = look(ended + lag);
    assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
}

/// The guard of the launch has failed, which ends its cluster: what EMR shows, and the
/// end.
fn refused() -> (Run, Vec<StepSeen>, ClusterSeen) {
    let mut run = run(1, 1);
    run.cluster.guard = true;
    let _ = decide(&mut run, Observation::Nothing, 0);
    let _ = decide(&mut run, Observation::Launched(Ok("j-0".into())), 0);
    let first = run.attempt().unwrap().tries[0].name.clone();
    let steps =
        vec![shown(&guard(1), StepState::Failed, 1), shown(&first, StepState::Cancelled, 2)];
    let state = ClusterState::TerminatedWithErrors;
    (run, steps, ClusterSeen { state, reason: String::new(), ended: None })
}

#[test]
fn an_attempt_whose_first_guard_failed_with_the_claim_is_given_up() {
    let (mut run, steps, ended) = refused();
    let _ = decide(&mut run, Observation::Described(ended), 60);
    let act = decide(&mut run, Observation::Steps(steps), 60);
    assert_eq!(act, Act::Claim { key: run.claim(1), holder: "nobody".into() });
    let own = Observation::Claimed { key: run.claim(1), holder: "j-0".into() };
    let _ = decide(&mut run, own, 60);
    assert_eq!(run.attempts.len(), 2);
}

/// Found by `make chaos`: steps were added to the cluster that was refused, and waited for
/// on the other one for an hour.
#[test]
fn no_step_is_added_to_a_cluster_whose_guard_has_failed() {
    let (mut run, steps, ended) = refused();
    let waiting = ClusterSeen { state: ClusterState::Waiting, ..ended.clone() };
    for observation in [
        Observation::Steps(steps.clone()),
        Observation::Surveyed(Some(waiting.clone())),
        Observation::Described(waiting),
    ] {
        let act = decide(&mut run, observation, 3);
        assert!(matches!(act, Act::Rest(Some(_))), "{act:?}");
    }
    let _ = decide(&mut run, Observation::Described(ended.clone()), 60);
    let _ = decide(&mut run, Observation::Steps(steps), 60);
    let other = Observation::Claimed { key: run.claim(1), holder: "j-1".into() };
    let _ = decide(&mut run, other, 60);
    let attempt = run.attempt().unwrap();
    assert_eq!((attempt.cluster.as_deref(), attempt.tries.len()), (Some("j-1"), 1));
    assert_eq!(attempt.guards, [StepState::Submitted]);
    // Its machines are lost before it runs anything: nothing is waited for.
    let lost = [guard(1), attempt.tries[0].name.clone()];
    let lost = lost.map(|name| shown(&name, StepState::Cancelled, 70)).to_vec();
    let _ = decide(&mut run, Observation::Described(ended), 90);
    let _ = decide(&mut run, Observation::Steps(lost), 90);
    let own = Observation::Claimed { key: run.claim(1), holder: "j-1".into() };
    let _ = decide(&mut run, own, 90);
    assert_eq!(run.attempts.len(), 2);
}

#[test]
fn an_attempt_whose_last_submission_is_hidden_is_not_given_up() {
    let (mut run, steps) = resubmitted();
    let ended = ClusterSeen { state: ClusterState::Terminated, reason: String::new(), ended: None };
    let read = Act::ReadSteps { cluster: "j-0".into(), spare: false };
    assert_eq!(decide(&mut run, Observation::Described(ended), 100), read);
    assert_eq!(decide(&mut run, Observation::Steps(steps.clone()), 100), second_claim(&run));
    let held = Observation::Claimed { key: run.claim(2), holder: "s-hidden".into() };
    assert!(matches!(decide(&mut run, held, 100), Act::Rest(Some(_))));
    assert_eq!(run.attempts.len(), 1);
    // Its guard shows first, as if its step were still open.
    let second = run.attempt().unwrap().tries[1].name.clone();
    let guarded = shown(&guard(2), StepState::Completed, 80);
    let stale: Vec<_> =
        steps.iter().cloned().chain([guarded, shown(&second, StepState::Running, 80)]).collect();
    assert!(matches!(decide(&mut run, Observation::Steps(stale.clone()), 130), Act::Rest(Some(_))));
    assert_eq!(run.attempts.len(), 1);
    // After an hour nothing more is to be expected of that list.
    let _ = decide(&mut run, Observation::Steps(stale), 100 + 3_600);
    assert_eq!(run.attempts.len(), 2);
}

#[test]
fn an_attempt_whose_last_submission_never_ran_is_given_up() {
    let (mut run, steps) = resubmitted();
    let ended = ClusterSeen { state: ClusterState::Terminated, reason: String::new(), ended: None };
    let _ = decide(&mut run, Observation::Described(ended), 100);
    assert_eq!(decide(&mut run, Observation::Steps(steps), 100), second_claim(&run));
    let nobody = Observation::Claimed { key: run.claim(2), holder: "nobody".into() };
    let _ = decide(&mut run, nobody, 100);
    assert_eq!(run.attempts.len(), 2);
}

/// Three partitions; the first one's step fails and cancels the others, is
/// submitted again twice over, and fails again before the second copy begins.
#[test]
fn a_failure_explains_what_it_cancelled_of_both_copies() {
    let mut run = run(3, 1);
    run.cluster.guard = true;
    let _ = decide(&mut run, Observation::Nothing, 0);
    let _ = decide(&mut run, Observation::Launched(Ok("j-0".into())), 0);
    let names = |run: &Run| -> Vec<String> {
        run.attempt().unwrap().tries.iter().map(|step_try| step_try.name.clone()).collect()
    };
    let first = names(&run);
    let mut steps = vec![
        shown(&guard(1), StepState::Completed, 1),
        shown(&first[0], StepState::Failed, 2),
        shown(&first[1], StepState::Cancelled, 2),
        shown(&first[2], StepState::Cancelled, 2),
    ];
    let waiting = ClusterSeen { state: ClusterState::Waiting, reason: String::new(), ended: None };
    let act = decide(&mut run, Observation::Steps(steps.clone()), 5);
    assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
    let second = names(&run);
    for (at, guarded, state) in [
        (80, StepState::Completed, StepState::Failed),
        (90, StepState::Cancelled, StepState::Cancelled),
    ] {
        steps.push(shown(&guard(2), guarded, at));
        steps.push(StepSeen { ended: self::at(95).into(), ..shown(&second[3], state, at) });
        steps.push(StepSeen {
            ended: self::at(95).into(),
            ..shown(&second[4], StepState::Cancelled, at)
        });
        steps.push(StepSeen {
            ended: self::at(95).into(),
            ..shown(&second[5], StepState::Cancelled, at)
        });
    }
    steps.reverse();
    // As long as the list hides the copy that ran, nobody is to blame.
    let hides_first: Vec<_> =
        steps.iter().filter(|step| step.created != Some(at(80))).cloned().collect();
    for shown in [hides_first, steps] {
        let _ = decide(&mut run, Observation::Steps(shown), 100);
        let _ = decide(&mut run, Observation::Described(waiting.clone()), 101);
        assert_eq!(run.members.iter().filter(|member| member.outcome.is_some()).count(), 0);
    }
}
