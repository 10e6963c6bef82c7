//! What operators reach for, with the real binary beside a daemon: pause and
//! resume, retry, cancel, skip.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use sluicegate::aws;
use sluicegate::aws::store::DueKey;
use sluicegate_local::{Options, emr};

use crate::commands::{answer, ask, json};
use crate::world::{World, daily_file, daily_task};

/// Two tasks of one file each.
fn two_tasks() -> String {
    daily_file("a")
        + &daily_file("b")
        + &daily_task("t", &["a"], "true")
        + &daily_task("u", &["b"], "true")
}

/// Asks why until the answer has these words.
async fn until_why(world: &World, task: &str, words: &str) -> String {
    let check = || async {
        let sentence = answer(world, &["why", task, "2013-01-01"]).await;
        sentence.contains(words).then_some(sentence)
    };
    world.until_async(words, check).await
}

#[tokio::test]
async fn a_pause_holds_what_is_ready_over_restarts_and_replicas() {
    let mut world = World::new(&two_tasks()).await;
    let said = answer(&world, &["pause", "t", "--by", "alice", "--reason", "new release"]).await;
    assert!(said.starts_with("task t is paused: nothing new of it is run"), "{said}");
    let mail = world.mail("pause/task/t/1/paused").await;
    assert_eq!(mail.subject, "[test] task t was paused by alice");
    assert!(mail.text.contains("reason:     new release"), "{}", mail.text);

    world.put("a/2013-01-01.csv", "1").await;
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/ready").await;
    world.mail("u/2013-01-01/succeeded").await;
    let why = until_why(&world, "t", "held back").await;
    assert!(why.contains("task t is paused since ") && why.contains("by alice (new release)"));
    world.kill().await;
    world.start().await;
    let other = world.another().await;
    // Both have found it, and made no run of it.
    let ready = "sluicegate_partitions{task=\"t\",state=\"ready\"}";
    for daemon in [world.daemon(), &other] {
        let found = || async { (daemon.metric(ready).await == 1.0).then_some(()) };
        world.until_async("a ready partition", found).await;
    }
    world.put("b/2013-01-02.csv", "1").await;
    world.mail("u/2013-01-02/succeeded").await;
    assert_eq!(world.calls("elasticmapreduce", "RunJobFlow"), 2, "u's runs");
    let status = answer(&world, &["status"]).await;
    assert!(status.contains("task t") && status.contains("alice"), "{status}");
    let status = json(&world, &["status"]).await;
    assert_eq!(status["paused"][0]["by"], "alice");
    assert_eq!(status["paused"][0]["scope"], "task/t", "as `pause` and `resume` answer");

    let (code, _, error) = ask(&world, &["pause", "t", "--by", "bob"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("task t is paused already") && error.contains("by alice"), "{error}");
    answer(&world, &["resume", "t", "--by", "bob"]).await;
    world.mail("t/2013-01-01/succeeded").await;
    world.mail("pause/task/t/").await;
    let (code, _, error) = ask(&world, &["resume", "t", "--by", "bob"]).await;
    assert_eq!((code, error.as_str()), (1, "error: there is no pause of task t\n"));
    world.until_due(|due| due.iter().all(|key| matches!(key, DueKey::Run(_)))).await;
    // Two replicas may publish the same event.
    let events = world.mails_about("pause/").into_iter();
    let events: BTreeSet<_> = events.map(|mail| mail.attributes["event"].clone()).collect();
    assert_eq!(events.len(), 2, "{events:?}");
}

/// What a newer version has paused stays so, and nothing else is held by that.
#[tokio::test]
async fn a_pause_that_cannot_be_read_holds_its_own_task_only() {
    let world = World::new(&two_tasks()).await;
    let tables = aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await);
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = tables.put_item().table_name("test-task").item("task", text("~pause"));
    let put = put.item("partition", text("task/t")).item("document", text("of another form"));
    put.item("format", AttributeValue::N("99".to_owned())).send().await.unwrap();
    world.put("a/2013-01-01.csv", "1").await;
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("u/2013-01-01/succeeded").await;
    let why = until_why(&world, "t", "held back").await;
    assert!(why.contains("its item cannot be read"), "{why}");
    let (code, _, error) = ask(&world, &["resume", "t", "--by", "alice"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("item ~pause task/t in table test-task"), "{error}");
}

#[tokio::test]
async fn profiles_and_everything_are_paused_as_well() {
    let world = World::new(&two_tasks()).await;
    answer(&world, &["pause", "--profile", "p", "--by", "alice"]).await;
    answer(&world, &["pause", "--all", "--by", "bob"]).await;
    world.put("a/2013-01-01.csv", "1").await;
    until_why(&world, "t", "held back: profile p is paused").await;
    let said = answer(&world, &["resume", "--profile", "p", "--by", "alice"]).await;
    assert_eq!(said, "profile p is resumed\n    but every task is still paused\n");
    until_why(&world, "t", "held back: every task is paused").await;
    answer(&world, &["resume", "--all", "--by", "alice"]).await;
    world.mail("t/2013-01-01/succeeded").await;
    for (args, said) in [
        (&["pause"][..], "required"),
        (&["pause", "t", "--all"], "cannot be used with"),
        (&["pause", "x"], "there is no task"),
        (&["pause", "--profile", "q"], "there is no profile"),
        (&["pause", "t", "--by", " "], "add --by NAME"),
    ] {
        let (code, _, error) = ask(&world, args).await;
        assert_eq!(code, 2, "{args:?}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}

/// A step that notes each start and waits for the file `go`.
fn noted(path: &std::path::Path) -> String {
    let path = path.display();
    format!("echo ran >> {path}/log; until test -e {path}/go; do sleep 0.05; done")
}

#[tokio::test]
async fn what_failed_is_retried_and_told_of_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("echo ran >> {0}/log; test -e {0}/go", folder.path().display());
    let tasks = daily_file("a") + &daily_task("t", &["a"], &script);
    let mut world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/failed").await;
    world.mail("run-failed").await;
    world.clusters_ended().await;
    let day = ["t", "2013-01-01"];
    let retry = [&["retry"][..], &day, &["--by", "alice", "--reason", "disk was full"]].concat();
    // The cluster has ended, and the run is about to learn it.
    let retried = || async {
        let (code, out, error) = ask(&world, &retry).await;
        assert!(code == 0 || error.contains("may still have a step"), "{error}");
        (code == 0).then_some(out)
    };
    let said = world.until_async("a retry", retried).await;
    assert_eq!(said, "t 2013-01-01 is ready now; it was failed\n");
    let mail = world.mail("t/2013-01-01/ready/2").await;
    assert!(mail.text.contains("alice wants it to run once more"), "{}", mail.text);
    // It fails once more, and that is another mail.
    world.mail("t/2013-01-01/failed/2").await;
    world.until_due(<[DueKey]>::is_empty).await;
    fs::write(folder.path().join("go"), "").unwrap();
    world.kill().await;
    answer(&world, &retry).await;
    world.start().await;
    world.mail("t/2013-01-01/succeeded/3").await;
    assert_eq!(fs::read_to_string(folder.path().join("log")).unwrap().lines().count(), 3);
    let (code, _, error) = ask(&world, &retry).await;
    assert_eq!(code, 1);
    assert!(error.contains("has succeeded, nothing was changed") && error.contains("--force"));
    world.until_due(<[DueKey]>::is_empty).await;
    answer(&world, &[&retry[..], &["--force"]].concat()).await;
    world.mail("t/2013-01-01/succeeded/4").await;
    world.clusters_ended().await;
}

#[tokio::test]
async fn what_waits_or_is_ready_is_cancelled_and_comes_back() {
    let mut world = World::new(&two_tasks()).await;
    world.stop().await;
    let (code, _, error) = ask(&world, &["cancel", "t", "--by", "alice"]).await;
    assert_eq!(code, 2);
    assert!(error.contains("t is a task, and only one of its partitions"), "{error}");
    let (code, _, error) = ask(&world, &["cancel", "x", "--by", "alice"]).await;
    assert_eq!(code, 2);
    assert!(error.contains("\"x\" is no run's id"), "{error}");
    // Of this one nothing has arrived.
    answer(&world, &["cancel", "t", "2013-01-01", "--by", "alice", "--reason", "wrong"]).await;
    let why = answer(&world, &["why", "t", "2013-01-01"]).await;
    assert!(why.starts_with("t 2013-01-01 was cancelled at "), "{why}");
    assert!(why.ends_with(" by alice (wrong).\n"), "{why}");
    world.start().await;
    world.mail("t/2013-01-01/cancelled").await;
    world.put("a/2013-01-01.csv", "1").await;
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("u/2013-01-01/succeeded").await;
    world.taken().await;
    let (code, _, error) = ask(&world, &["cancel", "t", "2013-01-01", "--by", "bob"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("is cancelled, nothing was changed"), "{error}");
    assert_eq!(world.calls("elasticmapreduce", "RunJobFlow"), 1, "u's run");
    let done = json(&world, &["retry", "t", "2013-01-01", "--by", "bob"]).await;
    assert_eq!((&done["before"], &done["state"]), (&"cancelled".into(), &"ready".into()));
    world.mail("t/2013-01-01/succeeded/2").await;

    // One that lacks its input waits again, until it is taken for there.
    answer(&world, &["skip", "t", "2013-01-02", "--by", "alice"]).await;
    let done = json(&world, &["retry", "t", "2013-01-02", "--by", "bob"]).await;
    assert_eq!(done["state"], "waiting");
    let ignore = ["retry", "t", "2013-01-02", "--ignore-inputs", "--by", "bob", "--reason", "late"];
    let given = json(&world, &ignore).await;
    assert_eq!((&given["before"], &given["state"]), (&"waiting".into(), &"waiting".into()));
    let mail = world.mail("t/2013-01-02/ready/2").await;
    let said = "t 2013-01-02 is ready: bob takes for there what has not come";
    assert!(mail.text.contains(said), "{}", mail.text);
    for (label, text) in [("taken for there", "a 2013-01-02"), ("by", "bob"), ("reason", "late")] {
        let line = format!("{:<17}{text}\n", format!("{label}:"));
        assert!(mail.text.replace("\r\n", "\n").contains(&line), "{line}{}", mail.text);
    }
    world.mail("t/2013-01-02/succeeded/2").await;

    // Who asked is kept with it, and `why` says so until it has run.
    answer(&world, &["pause", "t", "--by", "carol"]).await;
    let ignore = ["retry", "t", "2013-01-03", "--ignore-inputs", "--by", "bob", "--reason", "gone"];
    answer(&world, &ignore).await;
    world.mail("t/2013-01-03/ready").await;
    let why = answer(&world, &["why", "t", "2013-01-03"]).await;
    assert!(why.ends_with("; a 2013-01-03: taken for there by bob (gone).\n"), "{why}");
}

/// Of what has ended nothing more is recorded but by the change that begins it anew.
#[tokio::test]
async fn what_has_ended_runs_again_with_the_inputs_that_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!("echo {{partition}} {{input.a}} {{input.b}} >> {}", log.display());
    let tasks = daily_file("a") + &daily_file("b") + &daily_task("t", &["a", "b"], &script);
    let world = World::new(&tasks).await;
    for day in ["2013-01-01", "2013-01-02"] {
        world.put(&format!("a/{day}.csv"), "1").await;
        world.taken().await;
        answer(&world, &["cancel", "t", day, "--by", "alice"]).await;
    }
    let again = ["retry", "t", "2013-01-01", "--ignore-inputs", "--by", "bob"];
    assert_eq!(answer(&world, &again).await, "t 2013-01-01 is ready now; it was cancelled\n");
    world.mail("t/2013-01-01/succeeded/2").await;
    let window = ["backfill", "t", "--from", "2013-01-02", "--to", "2013-01-02"];
    let more = ["--ignore-inputs", "--wait", "--by", "bob"];
    answer(&world, &[&window[..], &more].concat()).await;
    let ran = fs::read_to_string(&log).unwrap();
    let line = |day| format!("{day} s3://landing/a/{day}.csv s3://landing/b/{day}.csv\n");
    assert_eq!(ran, line("2013-01-01") + &line("2013-01-02"));
}

#[tokio::test]
async fn a_running_partition_is_cancelled_with_its_cluster_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = daily_file("a") + &daily_task("t", &["a"], &noted(folder.path()));
    let mut world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    let log = folder.path().join("log");
    world.until("the step's start", || log.exists().then_some(())).await;
    until_why(&world, "t", "is running in run").await;
    world.kill().await;
    let said = answer(&world, &["cancel", "t", "2013-01-01", "--by", "alice"]).await;
    assert!(said.contains("was told to cancel t 2013-01-01"), "{said}");
    until_why(&world, "t", "is being cancelled since ").await;
    let (code, _, error) = ask(&world, &["cancel", "t", "2013-01-01", "--by", "bob"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("is being cancelled already, since "), "{error}");
    let (code, _, error) = ask(&world, &["retry", "t", "2013-01-01", "--by", "bob"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("cancel it first"), "{error}");
    world.start().await;
    let mail = world.mail("t/2013-01-01/cancelled").await;
    assert!(mail.text.contains("reason:        by alice"), "{}", mail.text);
    world.mail("run-cancelled").await;
    assert_eq!(world.clusters_ended().await, 1);
    assert_eq!(world.calls("elasticmapreduce", "CancelSteps"), 0);
    fs::write(folder.path().join("go"), "").unwrap();
    world.until_due(<[DueKey]>::is_empty).await;
    answer(&world, &["retry", "t", "2013-01-01", "--by", "bob"]).await;
    world.mail("t/2013-01-01/succeeded/2").await;
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn one_of_a_batch_is_cancelled_by_its_steps_and_a_run_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let profile = "[profiles.two]\nbatch-size = 2\nguard = false\nrelease-label = \"emr-7.13.0\"\n\
        service-role = \"s\"\ninstance-profile = \"i\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
    let tasks = (daily_task("t", &["a"], &noted(folder.path())) + &daily_task("u", &["a"], "true"))
        .replace("profile = \"p\"", "profile = \"two\"");
    let world = World::new(&(profile.to_owned() + &daily_file("a") + &tasks)).await;
    world.put("a/2013-01-01.csv", "1").await;
    let log = folder.path().join("log");
    world.until("the step's start", || log.exists().then_some(())).await;
    until_why(&world, "t", "is running in run").await;
    answer(&world, &["cancel", "t", "2013-01-01", "--by", "alice"]).await;
    world.mail("t/2013-01-01/cancelled").await;
    world.mail("u/2013-01-01/succeeded").await;
    world.mail("run-cancelled").await;
    assert_eq!(world.clusters_ended().await, 1);

    world.put("a/2013-01-02.csv", "1").await;
    let runs = || async {
        let runs = json(&world, &["runs", "--state", "running"]).await;
        Some(runs["runs"][0]["id"].as_str()?.to_owned())
    };
    let id = world.until_async("a second run", runs).await;
    answer(&world, &["cancel", &id, "--by", "alice", "--reason", "enough"]).await;
    world.mail("t/2013-01-02/cancelled").await;
    let mail = world.mail(&format!("run/{id}/1/cancel-asked")).await;
    assert!(mail.text.contains("reason:     enough"), "{}", mail.text);
    world
        .until("the run's end", || (world.mails_about("run-cancelled").len() == 2).then_some(()))
        .await;
    assert_eq!(world.clusters_ended().await, 2);
    let shown = json(&world, &["run", "show", &id]).await;
    assert_eq!(shown["state"], "cancelled");
    assert_eq!(shown["members"][0]["outcome"], "cancelled");
    let (code, _, error) = ask(&world, &["cancel", &id, "--by", "bob"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("which is cancelled: nothing was changed"), "{error}");
}

#[tokio::test]
async fn readers_of_a_skipped_partition_go_on_without_it() {
    let out = "[datasets.o]\nlocation = \"s3://landing/o/{yyyy}-{MM}-{dd}/\"\n";
    let first =
        daily_task("t", &["a"], "exit 3").replace("inputs =", "outputs = [\"o\"]\ninputs =");
    let tasks =
        daily_file("a") + &daily_file("b") + out + &first + &daily_task("u", &["o", "b"], "true");
    let world = World::new(&tasks).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/failed").await;
    until_why(&world, "u", "which t produces and FAILED for it").await;
    answer(&world, &["skip", "t", "2013-01-01", "--by", "alice", "--reason", "no matter"]).await;
    let why = until_why(&world, "t", "was skipped").await;
    assert!(why.ends_with(": by alice (no matter).\n"), "{why}");
    world.mail("t/2013-01-01/skipped").await;
    world.mail("u/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn the_end_of_a_steps_log_is_shown_by_its_number() {
    let script = "echo to the output; for i in $(seq 3); do echo line $i >&2; done; exit 3";
    let tasks = daily_file("a") + &daily_task("t", &["a"], script);
    let emr = emr::Options { log_delay: Duration::ZERO, ..emr::Options::default() };
    let world = World::with(&tasks, Options { emr, ..Options::default() }).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/failed").await;
    world.mail("run-failed").await;
    let runs = json(&world, &["runs"]).await;
    let id = runs["runs"][0]["id"].as_str().unwrap();
    let list = answer(&world, &["logs", id]).await;
    assert!(list.contains("1     t/2013-01-01/work/1  failed"), "{list}");
    assert!(list.contains("logs: s3://landing/logs/j-"), "{list}");
    let shown = || async {
        let (code, out, _) = ask(&world, &["logs", id, "--step", "1"]).await;
        (code == 0).then_some(out)
    };
    let text = world.until_async("the log", shown).await;
    assert!(text.contains("/stderr.gz\n\n") && text.ends_with("line 2\nline 3\n"), "{text}");
    let output = json(&world, &["logs", id, "--step", "1", "--file", "stdout"]).await;
    assert_eq!((&output["file"], &output["text"]), (&"stdout".into(), &"to the output\n".into()));
    for (args, code, said) in [
        (&["--step", "2"][..], 2, "has no step 2: so far its steps go up to 1"),
        (&["--attempt", "7"], 2, "has no attempt 7: so far the last is 1"),
        (&["--file", "stdout"], 2, "--step"),
        (&["--step", "1", "--file", "syslog"], 1, "nothing of it stands in s3://landing/logs/"),
    ] {
        let (is, _, error) = ask(&world, &[&["logs", id][..], args].concat()).await;
        assert_eq!(is, code, "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}
