//! How often a run looks, and what it believes: lists that hide or lag, steps
//! cancelled from outside, calls that have to wait.

use super::*;

fn seen(state: ClusterState) -> ClusterSeen {
    ClusterSeen { state, reason: String::new(), ended: None }
}

/// A run of one task whose cluster `j-0` was created at 0.
fn running(steps: usize) -> Run {
    let mut run = run(1, steps);
    assert_eq!(run.decide(Observation::Nothing, &Hints::default(), at(0)).act, Act::Launch);
    let launched = Observation::Launched(Ok("j-0".into()));
    let _ = run.decide(launched, &Hints::default(), at(0));
    run
}

fn decide(run: &mut Run, observation: Observation, secs: i64) -> Act {
    run.decide(observation, &Hints::default(), at(secs)).act
}

/// The run's steps as EMR lists them, all in this state.
fn steps(run: &Run, state: StepState) -> Observation {
    let tries = &run.attempt().unwrap().tries;
    let steps = tries.iter().map(|step_try| StepSeen {
        id: format!("s-{}", step_try.name),
        name: step_try.name.clone(),
        state,
        created: None,
        started: None,
        ended: state.has_ended().then_some(at(1)),
        failure: None,
    });
    Observation::Steps(steps.collect())
}

fn read_steps(spare: bool) -> Act {
    Act::ReadSteps { cluster: "j-0".into(), spare }
}

fn describe() -> Act {
    Act::Describe { cluster: "j-0".into() }
}

#[test]
fn with_events_a_run_costs_four_calls_and_a_partition_more_in_a_batch() {
    for (tasks, steps, list_steps) in [(1, 1, 1), (1, 3, 1), (3, 2, 3)] {
        let mut run = run(tasks, steps);
        let mut emr = FakeEmr { arriving: Some(vec![]), ..FakeEmr::default() };
        follow(&mut run, &mut emr, |_| false);
        assert_eq!(run.state, RunState::Succeeded);
        let total: usize = emr.counts.values().sum();
        assert!(emr.counts["ListSteps"] <= list_steps, "{:?}", emr.counts);
        assert!(total <= 3 + list_steps, "{:?}", emr.counts);
    }
}

#[test]
fn without_events_a_single_task_reads_its_steps_when_the_cluster_waits() {
    let (mut run, mut emr) = (run(1, 3), FakeEmr::default());
    follow(&mut run, &mut emr, |_| false);
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!((emr.counts["ListSteps"], emr.counts["TerminateJobFlows"]), (1, 1));
}

#[test]
fn a_step_in_the_middle_changes_nothing_and_a_lost_event_is_made_up_for() {
    let mut run = running(2);
    let names: Vec<_> = run.attempt().unwrap().tries.iter().map(|t| t.name.clone()).collect();
    let mut hints = Hints { looked: Some(at(1)), ..Hints::default() };
    for (event, act) in [
        (Event::Running, None),
        (Event::StepRunning(names[0].clone()), None),
        (Event::StepCompleted(names[0].clone()), None),
        (Event::StepStopped("somebody else's".into()), None),
        (Event::StepStopped(names[0].clone()), None),
        (Event::StepRunning(names[1].clone()), None),
        (Event::StepStopped(names[1].clone()), Some(read_steps(false))),
        (Event::StepCompleted(names[1].clone()), Some(read_steps(false))),
        (Event::StepCompleted(String::new()), Some(read_steps(false))),
        (Event::Ended, Some(Act::Survey)),
    ] {
        hints.events = [event.clone()].into();
        hints.heard = true;
        let decided = run.decide(Observation::Nothing, &hints, at(2)).act;
        match act {
            Some(act) => assert_eq!(decided, act, "{event:?}"),
            None => assert!(matches!(decided, Act::Rest(Some(_))), "{event:?}: {decided:?}"),
        }
    }
    assert_eq!(run.notices.last().unwrap().status, "running");
    let states: Vec<_> = run.attempt().unwrap().tries.iter().map(|t| t.state).collect();
    assert_eq!(states, [StepState::Completed, StepState::Running]);
    assert_eq!(run.members[0].outcome, None);
    // Nothing is heard any more: polling is the safety net.
    let quiet = Hints { heard: true, looked: Some(at(1)), ..Hints::default() };
    let Act::Rest(Some(until)) = run.decide(Observation::Nothing, &quiet, at(2)).act else {
        panic!("it rests")
    };
    assert!(until > at(5 * 60) && until <= at(16 * 60), "{until}");
    assert_eq!(run.decide(Observation::Nothing, &quiet, until).act, Act::Survey);
}

/// Turns of a run that has heard an event, while EMR goes on answering what it
/// answered before: when each of the first looks is made, in seconds.
fn looks_in_vain(run: &mut Run, event: &Event, answer: &Observation, until: i64) -> Vec<i64> {
    let mut hints = Hints::default();
    hints.learn(&Observation::Surveyed(Some(seen(ClusterState::Running))), at(0));
    hints = hints.after_turn(run, &[event.clone()].into());
    hints.heard = true;
    let (mut looks, mut now) = (Vec::new(), 1);
    while now < until {
        let mut act = run.decide(Observation::Nothing, &hints, at(now)).act;
        if !matches!(act, Act::Rest(_)) {
            looks.push(now);
            let survey = Observation::Surveyed(Some(seen(ClusterState::Running)));
            for observation in [survey, answer.clone()] {
                if act == Act::Survey || observation == *answer {
                    hints.learn(&observation, at(now));
                    act = run.decide(observation, &hints, at(now)).act;
                }
            }
        }
        // Events come twice; the second says nothing new.
        hints.hear(event.clone());
        let came = hints.events.clone();
        hints = hints.after_turn(run, &came);
        let Act::Rest(Some(next)) = act else { panic!("{act:?}") };
        // Something else wakes the run in between.
        now = (next.as_second() - at(0).as_second()).min(now + 1);
    }
    looks
}

#[test]
fn an_event_is_kept_until_a_list_that_lags_shows_what_it_says() {
    let mut run = running(1);
    let name = run.attempt().unwrap().tries[0].name.clone();
    let lagging = steps(&run, StepState::Running);
    let described = Observation::Described(seen(ClusterState::Running));
    for (event, answer) in [
        (Event::StepCompleted(name.clone()), &lagging),
        (Event::StepStopped(name.clone()), &lagging),
        (Event::Ended, &described),
    ] {
        // Soon, then less and less often: far fewer than a look a second.
        let looks = looks_in_vain(&mut run.clone(), &event, answer, 300);
        assert_eq!(looks, [1, 2, 4, 8, 16, 32, 64, 128, 256], "{event:?}");
    }
    // One of a step that is nobody's, or without a name, is looked for once.
    for name in ["another/step/1", ""] {
        let looks = looks_in_vain(&mut run, &Event::StepStopped(name.into()), &lagging, 200);
        assert!(looks.len() <= 1, "{name:?}: {looks:?}");
    }
}

#[test]
fn an_event_is_forgotten_when_its_step_is_seen_and_a_new_one_is_looked_for_at_once() {
    let mut run = running(1);
    let event = Event::StepCompleted(run.attempt().unwrap().tries[0].name.clone());
    let mut hints = Hints::default();
    hints.hear(event.clone());
    let lagging = steps(&run, StepState::Running);
    hints.learn(&lagging, at(10));
    let act = run.decide(lagging, &hints, at(10)).act;
    assert_eq!(act, Act::Rest(Some(at(11))));
    let came = [event, Event::Ended].into();
    hints = hints.after_turn(&run, &came);
    assert_eq!((hints.events.len(), hints.look_again), (2, None), "the end is news");
    let completed = steps(&run, StepState::Completed);
    hints.learn(&completed, at(12));
    let _ = run.decide(completed, &hints, at(12));
    let ended = Observation::Described(seen(ClusterState::Terminated));
    hints.learn(&ended, at(13));
    let _ = run.decide(ended, &hints, at(13));
    let hints = hints.clone().after_turn(&run, &hints.events);
    assert_eq!((hints.events.len(), hints.look_again, hints.in_vain), (0, None, 0));
}

#[test]
fn a_replica_that_is_spared_the_polls_makes_only_the_looks_that_something_called_for() {
    let spared = Hints { spared: true, ..Hints::default() };
    let rests = |run: &mut Run, now| {
        let act = run.decide(Observation::Nothing, &spared, now).act;
        assert!(matches!(act, Act::Rest(Some(until)) if until > now), "{act:?}");
    };
    // Nobody knows what became of its launch: whoever polls finds out.
    let mut launching = run(1, 1);
    assert_eq!(launching.decide(Observation::Nothing, &spared, at(0)).act, Act::Launch);
    rests(&mut launching, at(60));
    assert_eq!(decide(&mut launching, Observation::Nothing, 60), Act::LookUp);

    let mut run = running(1);
    rests(&mut run, at(60));
    assert_eq!(decide(&mut run.clone(), Observation::Nothing, 60), Act::Survey);
    let told = Hints { heard: true, events: [Event::Ended].into(), ..spared.clone() };
    assert_eq!(run.decide(Observation::Nothing, &told, at(60)).act, Act::Survey);
    let name = run.attempt().unwrap().tries[0].name.clone();
    let told = Hints { events: [Event::StepCompleted(name)].into(), ..told };
    assert_eq!(run.decide(Observation::Nothing, &told, at(60)).act, read_steps(false));

    // The retry of a step waits for nobody, nor does the end of a lifetime.
    let failed = steps(&run, StepState::Failed);
    assert!(matches!(decide(&mut run, failed, 1), Act::Rest(_)));
    let act = run.decide(Observation::Nothing, &spared, at(70)).act;
    assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
    let expires = run.attempt().unwrap().expires;
    assert_eq!(run.decide(Observation::Nothing, &spared, expires).act, describe());
}

#[test]
fn a_process_looks_at_once_at_a_run_that_it_found() {
    let mut run = running(1);
    let mut hints = Hints { found: true, ..Hints::default() };
    assert_eq!(run.decide(Observation::Nothing, &hints, at(1)).act, Act::Survey);
    // The list could not be read: again, but not at once.
    let act = run.decide(Observation::NotSeen, &hints, at(1)).act;
    assert!(matches!(act, Act::Rest(Some(until)) if until > at(1)), "{act:?}");
    let shown = Observation::Surveyed(Some(seen(ClusterState::Starting)));
    hints.learn(&shown, at(2));
    let act = run.decide(shown, &hints, at(2)).act;
    assert!(matches!(act, Act::Rest(Some(until)) if until > at(2)), "{act:?}");
}

#[test]
fn after_the_clock_was_put_back_a_list_says_something_new_again() {
    let hints = Hints { looked: Some(at(10)), ..Hints::default() };
    for (began, now, news) in [(9, 11, false), (10, 11, true), (11, 11, true), (5, 5, true)] {
        assert_eq!(hints.is_news(at(began), at(now)), news, "begun at {began}, now {now}");
    }
}

#[test]
fn all_runs_look_in_the_same_moment() {
    let looks = [3, 11, 19].map(|secs| decide(&mut running(1), Observation::NotSeen, secs));
    assert!(looks.iter().all(|look| *look == looks[0]), "{looks:?}");
}

#[test]
fn a_cluster_that_the_survey_hides_is_described_not_dead() {
    let mut run = running(1);
    assert_eq!(decide(&mut run, Observation::Nothing, 60), Act::Survey);
    assert_eq!(decide(&mut run, Observation::Surveyed(None), 60), describe());
    assert!(matches!(decide(&mut run, Observation::NotSeen, 60), Act::Rest(Some(_))));
    assert_eq!((run.attempts.len(), run.state), (1, RunState::Running));
}

/// A new cluster may be unknown for a moment; one whose lifetime is over is gone, and
/// what became of its steps nobody can tell any more.
#[test]
fn a_cluster_that_emr_does_not_know_ends_its_run_with_its_lifetime() {
    let mut run = running(1);
    let expires = run.attempt().unwrap().expires;
    let hints = Hints::default();
    let early = run.decide(Observation::Absent, &hints, at(60));
    assert!(matches!(early.act, Act::Rest(Some(_))) && early.changes.is_empty(), "{early:?}");
    let over = run.decide(Observation::Absent, &hints, expires);
    assert_eq!((over.act, run.state), (Act::Rest(None), RunState::Failed));
    assert!(over.changes.iter().all(|change| change.to == TaskState::Failed));
    assert_eq!((over.changes.len(), run.attempts.len()), (1, 1));
    // One that is only to be terminated has nothing left to lose.
    let mut run = running(1);
    run.ask_cancel(|_| true, &Asked::new("alice", None, at(1)));
    let _ = run.decide(Observation::Nothing, &hints, at(2));
    let _ = run.decide(Observation::Absent, &hints, expires);
    assert_eq!(run.state, RunState::Cancelled);
}

#[test]
fn a_stale_survey_takes_nothing_back() {
    let mut run = running(1);
    let ended = Observation::Described(seen(ClusterState::Terminated));
    assert_eq!(decide(&mut run, ended, 60), read_steps(false));
    let stale = Observation::Surveyed(Some(seen(ClusterState::Running)));
    assert_eq!(decide(&mut run, stale, 61), read_steps(false));
    // The steps were read after the end, so they are final: a success counts.
    let completed = steps(&run, StepState::Completed);
    assert_eq!(decide(&mut run, completed, 62), Act::Rest(None));
    assert_eq!(run.state, RunState::Succeeded);
}

#[test]
fn an_end_that_an_event_told_of_is_not_forgotten_over_a_survey_that_began_before_it() {
    let mut run = running(1);
    let hints = Hints { heard: true, events: [Event::Ended].into(), ..Hints::default() };
    assert_eq!(run.decide(Observation::Nothing, &hints, at(30)).act, Act::Survey);
    let stale = Observation::Surveyed(Some(seen(ClusterState::Running)));
    assert_eq!(run.decide(stale, &hints, at(31)).act, describe());
    let ended = Observation::Described(seen(ClusterState::Terminated));
    assert_eq!(run.decide(ended, &hints, at(32)).act, read_steps(false));
}

#[test]
fn cancelled_steps_are_blamed_on_somebody_only_when_the_cluster_goes_on_after_them() {
    // A survey that may have begun before the steps were read proves nothing.
    for (state, outcome) in [
        (ClusterState::Waiting, Some(RunState::Terminating)),
        (ClusterState::Terminating, None),
        (ClusterState::Terminated, None),
    ] {
        let mut run = running(1);
        let _ = decide(&mut run, Observation::Surveyed(Some(seen(ClusterState::Running))), 30);
        let cancelled = steps(&run, StepState::Cancelled);
        assert_eq!(decide(&mut run, cancelled.clone(), 31), describe());
        let survey = Observation::Surveyed(Some(seen(ClusterState::Running)));
        assert_eq!(decide(&mut run, survey, 32), describe());
        let act = decide(&mut run, Observation::Described(seen(state)), 33);
        if let Some(outcome) = outcome {
            assert_eq!(run.state, outcome);
            let Some(Outcome::Failed { reason, .. }) = &run.members[0].outcome else { panic!() };
            assert_eq!(reason, "step s0 was cancelled from outside");
            continue;
        }
        assert_eq!(run.members[0].outcome, None);
        if state.has_ended() {
            assert_eq!(act, read_steps(false));
            let _ = decide(&mut run, cancelled, 34);
            assert_eq!((run.attempts.len(), run.state), (2, RunState::Launching));
        }
    }
}

#[test]
fn a_failure_is_not_blamed_for_a_cancelled_step_after_which_others_ran() {
    use StepState::{Cancelled, Completed, Failed};
    // Two partitions of two steps; the first of the second one is cancelled.
    for (states, blamed) in [
        // By EMR: a step before it has failed.
        ([Completed, Failed, Cancelled, Cancelled], false),
        ([Failed, Cancelled, Cancelled, Cancelled], false),
        // By somebody: EMR went on with the next, which failed or not.
        ([Completed, Completed, Cancelled, Failed], true),
        ([Completed, Completed, Cancelled, Completed], true),
    ] {
        let mut run = run(2, 2);
        assert_eq!(decide(&mut run, Observation::Nothing, 0), Act::Launch);
        let _ = decide(&mut run, Observation::Launched(Ok("j-0".into())), 0);
        let _ = decide(&mut run, Observation::Surveyed(Some(seen(ClusterState::Running))), 30);
        let Observation::Steps(mut shown) = steps(&run, Cancelled) else { panic!() };
        assert_eq!(shown.len(), states.len());
        for (step, state) in shown.iter_mut().zip(states) {
            step.state = state;
        }
        let _ = decide(&mut run, Observation::Steps(shown), 31);
        let waiting = Observation::Described(seen(ClusterState::Waiting));
        let _ = decide(&mut run, waiting, 32);
        let failed = run.members[1].outcome.as_ref().map(|outcome| match outcome {
            Outcome::Failed { reason, .. } => reason.as_str(),
            Outcome::Succeeded => "succeeded",
            Outcome::Cancelled { .. } => "cancelled",
        });
        let expected = blamed.then_some("step s0 was cancelled from outside");
        assert_eq!(failed, expected, "{states:?}");
    }
}

#[test]
fn an_old_failure_does_not_explain_that_a_retry_was_cancelled() {
    for (submitted, blamed) in [(70, true), (1, false)] {
        let mut run = running(1);
        let failed = steps(&run, StepState::Failed);
        let _ = decide(&mut run, failed, 1);
        let spared = Hints { spared: true, ..Hints::default() };
        let act = run.decide(Observation::Nothing, &spared, at(70)).act;
        assert!(matches!(act, Act::AddSteps { .. }), "{act:?}");
        let _ = decide(&mut run, Observation::Added(Ok(vec!["s-9".into()])), 90);
        let Observation::Steps(mut seen_steps) = steps(&run, StepState::Failed) else { panic!() };
        for retried in &mut seen_steps[1..] {
            retried.state = StepState::Cancelled;
            retried.created = Some(at(submitted));
        }
        let act = decide(&mut run, Observation::Steps(seen_steps), 120);
        if !blamed {
            assert!(matches!(act, Act::AddSteps { .. } | Act::Rest(_)), "{act:?}");
            assert_eq!(run.members[0].outcome, None);
            continue;
        }
        assert_eq!(act, describe());
        let _ = decide(&mut run, Observation::Described(seen(ClusterState::Waiting)), 121);
        let Some(Outcome::Failed { reason, .. }) = &run.members[0].outcome else { panic!() };
        assert_eq!(reason, "step s0 was cancelled from outside");
    }
}

#[test]
fn a_list_from_before_the_lag_is_over_proves_nothing() {
    let mut run = run(1, 1);
    let _ = run.decide(Observation::Nothing, &Hints::default(), at(0));
    let lost = Observation::Launched(Err(CallFailure::Unknown("no answer".into())));
    let _ = decide(&mut run, lost, 0);
    // The deadline is at 20, the lag ends at 80.
    for (began, now, launches) in [(10, 40, false), (79, 100, false), (81, 100, true)] {
        let absent = Observation::LookedUp { cluster: None, began: at(began) };
        let act = decide(&mut run.clone(), absent, now);
        assert_eq!(act == Act::Launch, launches, "began at {began}: {act:?}");
    }
}

#[test]
fn what_the_quota_puts_off_is_not_sent_and_counts_as_nothing() {
    let mut run = run(1, 1);
    let launch = decide(&mut run, Observation::Nothing, 0);
    assert_eq!(decide(&mut run, launch.postponed(at(40)), 0), Act::Rest(Some(at(40))));
    assert_eq!(run.attempt().unwrap().launch.throttled, 0);
    assert_eq!(decide(&mut run, Observation::Nothing, 20), Act::Rest(Some(at(40))));
    assert_eq!(decide(&mut run, Observation::Nothing, 40), Act::Launch);
    assert_eq!(run.attempts.len(), 1);

    let mut run = running(1);
    let completed = steps(&run, StepState::Completed);
    let terminate = decide(&mut run, completed, 30);
    let postponed = terminate.postponed(at(50));
    let mut hints = Hints { looked: Some(at(30)), ..Hints::default() };
    hints.learn(&postponed, at(30));
    assert_eq!(run.decide(postponed, &hints, at(30)).act, Act::Rest(Some(at(50))));
    // It is sent without another look.
    assert_eq!(run.decide(Observation::Nothing, &hints, at(50)).act, terminate);
}

#[test]
fn steps_that_end_while_others_follow_are_read_now_and_then() {
    let mut run = run(2, 1);
    let _ = run.decide(Observation::Nothing, &Hints::default(), at(0));
    let _ = decide(&mut run, Observation::Launched(Ok("j-0".into())), 0);
    let survey = || Observation::Surveyed(Some(seen(ClusterState::Running)));
    // Once, so that somebody who asks learns what runs.
    assert_eq!(decide(&mut run, survey(), 30), read_steps(true));
    let hints = Hints { steps_read: Some(at(300)), ..Hints::default() };
    assert!(matches!(run.decide(survey(), &hints, at(599)).act, Act::Rest(Some(_))));
    assert_eq!(run.decide(survey(), &hints, at(600)).act, read_steps(true));
}

#[test]
fn a_run_stored_by_the_version_before_is_read() {
    let run = running(1);
    let mut stored = serde_json::to_value(&run).unwrap();
    let limits = stored["limits"].as_object_mut().unwrap();
    assert!(limits.remove("poll_interval_with_events").is_some());
    assert!(limits.remove("steps_interval").is_some());
    assert!(stored["attempts"][0].as_object_mut().unwrap().remove("end_reason").is_some());
    assert_eq!(serde_json::from_value::<Run>(stored).unwrap(), run);
}

/// As where the cluster's tag was taken away: it ends by its deadline all the same.
#[test]
fn a_cluster_that_may_not_be_terminated_is_seen_to_end_by_itself() {
    let mut run = running(1);
    let completed = steps(&run, StepState::Completed);
    let terminate = decide(&mut run, completed, 30);
    assert_eq!(terminate, Act::Terminate { cluster: "j-0".into() });
    let refused = || Observation::Terminated(Err(CallFailure::Refused("AccessDenied".into())));
    let mut hints = Hints { looked: Some(at(30)), ..Hints::default() };
    hints.learn(&refused(), at(30));
    let Act::Rest(Some(until)) = run.decide(refused(), &hints, at(30)).act else { panic!() };
    assert_eq!(run.decide(Observation::Nothing, &hints, until).act, Act::Survey);
    // It lives: it is to be terminated.
    let alive = Observation::Surveyed(Some(seen(ClusterState::Waiting)));
    assert_eq!(run.clone().decide(alive, &hints, until).act, terminate);
    let ended = Observation::Surveyed(Some(seen(ClusterState::Terminated)));
    let _ = run.decide(ended, &hints, until);
    assert!(run.state.is_final(), "{:?}", run.state);
}
