//! What a run keeps of its notices while SNS takes none of them.

use super::*;
use crate::core::notice::Severity;
use crate::core::run::notices::stored_bytes;

/// Follows a run of tasks that fail so often, with these words each time.
fn failing(tasks: usize, steps: usize, retries: u32, words: &str) -> Run {
    let mut run = run(tasks, steps);
    run.cluster.log_uri = Some("s3://logs/".into());
    run.limits.lifetime = SignedDuration::from_hours(24);
    let mut emr = FakeEmr { words: words.into(), ..FakeEmr::default() };
    for member in &mut run.members {
        for step in &mut member.steps {
            step.retry.attempts = retries;
            step.retry.backoff_rate = 1.0;
            let name = format!("{}/2013-01-01T05/{}", member.key.task, step.name);
            emr.outcomes.insert(name, vec![false; retries as usize + 1]);
        }
    }
    follow(&mut run, &mut emr, |_| false);
    run
}

fn statuses(run: &Run) -> Vec<&str> {
    run.notices.iter().map(|notice| notice.status.as_str()).collect()
}

/// Tells the logs that the run wants as far as it takes them.
fn tell_logs(run: &mut Run, text: &str) {
    for log in run.logs.clone() {
        let seen = LogSeen::Tail { file: "stderr.gz".into(), text: text.into() };
        if !run.take_log(&log.try_name, &seen, at(90_000)) {
            break;
        }
    }
}

#[test]
fn few_notices_are_all_kept() {
    let run = failing(2, 1, 3, "exit code 3");
    assert_eq!(statuses(&run).iter().filter(|status| **status == "step-failed").count(), 6);
    assert_eq!(run.left_out, 0);
}

#[test]
fn retries_make_room_for_what_matters_and_one_notice_counts_them() {
    let run = failing(5, 1, 20, &"word ".repeat(100));
    assert_eq!(run.state, RunState::Failed);
    let statuses = statuses(&run);
    for status in ["launching", "starting", "running", "terminating", "run-failed"] {
        assert!(statuses.contains(&status), "{status}: {statuses:?}");
    }
    let kept = statuses.iter().filter(|status| **status == "step-failed").count();
    assert_eq!(kept + run.left_out as usize, 5 * 20, "each is kept or counted");
    // Of each step the last retry is kept: it says how many there were.
    let last = run
        .notices
        .iter()
        .filter(|notice| notice.facts.iter().any(|fact| fact.text.starts_with("retry 20 of 20")));
    assert_eq!(last.count(), 5);
    let told: Vec<_> = run.notices.iter().filter(|notice| notice.status == "left-out").collect();
    let [told] = told[..] else { panic!("{statuses:?}") };
    assert!(told.sentence.starts_with(&format!("{} notices of this run", run.left_out)));
    insta::assert_snapshot!("left-out", told.message("prod").as_text());
    assert!(stored_bytes(&run) < 400_000);
}

#[test]
fn what_was_published_is_not_counted_again() {
    let mut run = failing(5, 1, 20, &"word ".repeat(100));
    let position = run.notices.iter().position(|notice| notice.status == "left-out").unwrap();
    run.published(position);
    assert!(run.left_out > 0, "not told yet");
    let id = run.notices[0].id.clone();
    run.published(1);
    assert_eq!(run.left_out, 0);
    assert!(run.notices.iter().all(|notice| notice.id != id));
    run.published(usize::MAX);
    assert!(run.notices.is_empty());
}

#[test]
fn logs_wait_until_there_is_room_and_none_is_lost() {
    let mut run = failing(40, 1, 0, "exit code 3");
    assert_eq!(run.logs.len(), 40);
    let (mut told, mut rounds) = (0, 0);
    while !run.logs.is_empty() {
        tell_logs(&mut run, &"a line of the log, as long as they are\n".repeat(200));
        told += statuses(&run).iter().filter(|status| **status == "step-log").count();
        assert!(stored_bytes(&run.notices) <= 100_000);
        run.published(usize::MAX);
        rounds += 1;
    }
    assert_eq!(told, 40);
    assert!((2..12).contains(&rounds), "{rounds}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Whatever fails, however often and in whatever words, and although SNS
    /// takes nothing: the notices stay within their bound, none that says of a
    /// failure or of the run's end is lost, and each is kept or counted.
    #[test]
    fn notices_are_bounded(
        tasks in 1usize..4,
        steps in 1usize..3,
        retries in 0u32..21,
        words in "[\\PC\u{1}\n]{0,40}",
        repeated in 0usize..60,
    ) {
        let words = words.repeat(repeated);
        let mut run = failing(tasks, steps, retries, &words);
        tell_logs(&mut run, &words);
        prop_assert!(stored_bytes(&run.notices) <= 100_000);
        prop_assert!(statuses(&run).contains(&"run-failed"));
        let failures = run.notices.iter().filter(|notice| notice.severity == Severity::Failure);
        prop_assert_eq!(failures.count() + run.logs.len(), tasks, "a log of each, told or wanted");
        let told = statuses(&run).iter().filter(|status| **status == "step-failed").count();
        prop_assert_eq!(run.left_out > 0, statuses(&run).contains(&"left-out"));
        prop_assert!(told + run.left_out as usize >= tasks * retries as usize);
    }
}

#[test]
fn tries_are_bounded_and_what_they_leave_undone_fails() {
    // A hundred partitions of long names, all of whose steps fail nearly for ever.
    let run = failing(50, 4, 20, &"x".repeat(500));
    assert!(run.state.is_final());
    let bytes = stored_bytes(&run) - stored_bytes(&run.notices);
    assert!((250_000..365_000).contains(&bytes), "{bytes}");
    let reason = |member: &Member| match &member.outcome {
        Some(Outcome::Failed { reason, .. }) => reason.clone(),
        outcome => panic!("{outcome:?}"),
    };
    let full = "step s0 cannot be tried again: the run's record has no room for more tries";
    let failed = run.members.iter().filter(|member| reason(member) == full).count();
    assert!(failed > 30, "{failed}");
}

/// EMR's validation errors repeat what they complain about.
#[test]
fn long_words_of_emr_leave_room_for_the_end() {
    let words = "Value '[\u{1b}\u{1f986}]' at 'steps' failed to satisfy constraint ".repeat(2_000);
    let mut refused = run(50, 1);
    let launch = refused.decide(Observation::Nothing, &Hints::default(), at(0));
    assert_eq!(launch.act, Act::Launch);
    let answer = Observation::Launched(Err(CallFailure::Refused(words.clone())));
    let end = refused.decide(answer, &Hints::default(), at(1));
    assert_eq!((refused.state, end.changes.len()), (RunState::Failed, 50));
    let bytes = stored_bytes(&refused);
    assert!(bytes < 150_000, "{bytes}");

    let mut lost = run(50, 1);
    lost.limits.max_attempts = 1;
    let mut emr = FakeEmr { dying: 1, end_words: words, ..FakeEmr::default() };
    follow(&mut lost, &mut emr, |_| false);
    assert_eq!(lost.state, RunState::Failed);
    let bytes = stored_bytes(&lost);
    assert!(bytes < 150_000, "{bytes}");
}

#[test]
fn a_run_as_large_as_may_be_can_record_how_each_member_failed() {
    for words in ["x".repeat(500), "\u{1b}".repeat(500)] {
        let mut run = run(50, 1);
        run.cluster.log_uri = Some("s3://logs/".into());
        while run.is_small_enough() {
            for member in &mut run.members {
                let command = &mut member.steps[0].command;
                command.args.extend(vec![command.args[0].clone(); 10]);
            }
        }
        run.limits.lifetime = SignedDuration::from_hours(24);
        // Or each failure would cancel the others, which take room too.
        let mut emr = FakeEmr { words, continues: true, ..FakeEmr::default() };
        for member in &mut run.members {
            member.steps[0].retry.attempts = 0;
            let name = format!("{}/2013-01-01T05/s0", member.key.task);
            emr.outcomes.insert(name, vec![false]);
        }
        follow(&mut run, &mut emr, |_| false);
        assert_eq!((run.state, run.logs.len()), (RunState::Failed, 50));
        let bytes = stored_bytes(&run);
        assert!((200_000..400_000).contains(&bytes), "{bytes}");
    }
}

#[test]
fn a_termination_that_emr_refuses_is_told_once_and_goes_on() {
    let (mut run, mut emr) = (run(1, 1), FakeEmr { unterminable: 5, ..FakeEmr::default() });
    follow(&mut run, &mut emr, |act| act % 3 == 0);
    assert_eq!((run.state, emr.alive(), emr.unterminable), (RunState::Succeeded, 0, 0));
    let told: Vec<_> =
        run.notices.iter().filter(|notice| notice.status == "not-terminated").collect();
    let [told] = told[..] else { panic!("{told:?}") };
    insta::assert_snapshot!("not-terminated", told.message("prod").as_text());
}
