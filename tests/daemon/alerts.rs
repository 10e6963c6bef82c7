//! What reaches a mailbox: partitions that are late, by the daemon's own clock,
//! told once, also by another process; repeats, folded; and how fast all of it goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sluicegate::aws::store::DueKey;

use sluicegate_local::Options;
use sluicegate_local::pattern::Pattern;

use crate::world::{World, daily_file, daily_task};

/// An hour a second.
const FACTOR: f64 = 3600.0;

#[tokio::test]
async fn a_partition_that_nobody_has_heard_of_is_late_once_and_then_recovers() {
    let task = daily_task("t", &["a"], "true").replace(
        "partition = \"day\"\n",
        "partition = \"day\"\nstart-by = \"1h\"\nend-by = \"5h\"\n",
    );
    let mut world = World::at(&(daily_file("a") + &task), "2013-01-01T14:00:00Z", FACTOR).await;
    let late = world.mail("t/2013-01-01/start-late").await;
    assert_eq!(late.subject, "[test] t 2013-01-01 starts LATE: waits for a 2013-01-01");
    assert_eq!(late.attributes["severity"], "lateness");
    assert!(
        late.text.contains("start-by of 1h after its end, at 2013-01-02 01:00"),
        "{}",
        late.text
    );
    // Another process finds it told.
    world.until_due(|due| matches!(due, [DueKey::Task(_), ..])).await;
    world.kill().await;
    world.start().await;
    world.mail("t/2013-01-01/end-late").await;
    assert_eq!(world.mails_about("t/2013-01-01/start-late").len(), 1);
    world.put("a/2013-01-01.csv", "1").await;
    let recovered = world.mail("t/2013-01-01/recovered").await;
    assert_eq!(recovered.subject, "[test] t 2013-01-01 RECOVERED: it succeeded and was late");
    assert_eq!(recovered.attributes["severity"], "recovery");
    assert!(recovered.text.contains("end late since:"), "{}", recovered.text);
    assert_eq!(world.mails_about("t/2013-01-01/end-late").len(), 1);
}

/// What the deployment's e-mail subscription is to get.
const FILTER: &str = include_str!("../../deploy/sns/email-filter.json");

#[tokio::test]
async fn repeats_of_a_failure_reach_the_mailbox_as_one_summary() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "echo oh no >&2; exit 3");
    // A minute a second.
    let mut world = World::at(&tasks, "2013-01-05T05:00:00Z", 60.0).await;
    world.kill().await;
    world.reconfigure("fold-window = \"0s\"", "fold-window = \"15m\"");
    world.start().await;
    let aws = sluicegate::aws::connect(&world.access()).await;
    aws_sdk_sns::Client::new(&aws)
        .subscribe()
        .topic_arn("arn:aws:sns:us-east-1:000000000000:status")
        .protocol("email")
        .endpoint("ops@example.com")
        .attributes("FilterPolicy", FILTER)
        .send()
        .await
        .unwrap();
    for day in 1..=4 {
        world.put(&format!("a/2013-01-0{day}.csv"), "1").await;
    }
    let summary = world.mail("/and-more/3").await;
    assert_eq!(
        summary.subject,
        "[test] t: and 3 more partitions FAILED the same way: step work failed: oh no"
    );
    let to = |reader: &str, event: &str| {
        let mails = world.mails_about(event).into_iter();
        mails.filter(|mail| mail.to == reader).collect::<Vec<_>>()
    };
    // Whoever has no filter gets every failure.
    let failures: Vec<_> = (1..=4)
        .flat_map(|day| to("team@example.com", &format!("t/2013-01-0{day}/failed")))
        .collect();
    let failures: Vec<_> =
        failures.iter().filter(|mail| !mail.attributes["event"].contains("and-more")).collect();
    let days: BTreeSet<_> = failures.iter().map(|mail| &mail.attributes["partition"]).collect();
    assert_eq!(days.len(), 4);
    let folded = failures.iter().filter(|mail| mail.attributes.contains_key("folded"));
    assert_eq!(folded.count(), 3);
    // With it, one of them and the summary of the others.
    let events: Vec<_> = to("ops@example.com", "t/2013")
        .into_iter()
        .filter(|mail| mail.attributes["kind"] == "task")
        .map(|mail| mail.attributes["event"].clone())
        .collect();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[1], format!("{}/and-more/3", events[0]));
    assert_eq!(to("ops@example.com", "ready").len(), 0);
}

#[tokio::test]
async fn notices_wait_for_their_second_in_order_and_no_run_waits_for_them() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let options = Options { in_memory: false, ..Options::default() };
    let mut world = World::with(&tasks, options).await;
    world.kill().await;
    world.reconfigure("notices-per-second = 1000", "notices-per-second = 1");
    world.start().await;
    for day in 1..=8 {
        world.put(&format!("a/2013-01-0{day}.csv"), "1").await;
    }
    world
        .until_async("the end of all runs", || async {
            (world.calls("elasticmapreduce", "TerminateJobFlows") == 8).then_some(())
        })
        .await;
    let (told, times) = (world.mails().len(), world.times("Publish"));
    assert!(told < 40, "{told} of 64: the runs have waited for their notices");
    let span = (times[times.len() - 1] - times[0]) as usize / 1000;
    assert!(times.len() <= span + 2, "{} notices in {span} s", times.len());
    // Each partition's in the order of its states, however long they wait.
    world.mail("t/2013-01-01/running").await;
    let ranks = ["ready", "running", "succeeded"];
    for day in 1..=8 {
        let mails = world.mails_about(&format!("t/2013-01-0{day}/"));
        let told: Vec<_> = mails.iter().map(|mail| mail.attributes["status"].as_str()).collect();
        assert_eq!(told, ranks[..told.len()], "day {day}");
    }
}

/// Every snapshot below a folder.
fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => snapshots(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "snap"))
        .collect()
}

/// The attributes of every kind of mail, as the snapshots show them.
#[test]
fn the_email_filter_takes_failures_lateness_and_recoveries_and_nothing_else() {
    let filter = Pattern::parse(&serde_json::from_str(FILTER).unwrap()).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut taken, mut left) = (BTreeSet::new(), BTreeSet::new());
    for path in snapshots(&source) {
        let text = std::fs::read_to_string(&path).unwrap();
        let Some((_, attributes)) = text.rsplit_once("\n-- \n") else { continue };
        let attributes: serde_json::Map<_, _> = attributes
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let name = path.file_stem().unwrap().to_str().unwrap().rsplit("__").next().unwrap();
        let wants = filter.matches(Some(&attributes.into()));
        if wants { &mut taken } else { &mut left }.insert(name.to_owned());
    }
    let expected = [
        "a_message_that_cannot_be_read_is_told_with_what_to_do",
        "backfill-ended",
        "forgotten-task-failed",
        "backfill-ended-cancelled",
        "item-unreadable",
        "lifetime-task-failed",
        "load-stuck",
        "load-undeclared",
        "lost-task-failed",
        "not-begun-task-failed",
        "not-terminated",
        "refused-task-failed",
        "run-not-seen",
        "service-not-terminated",
        "step-step-log",
        "task-end-late",
        "task-failed",
        "task-failed-and-more",
        "task-failed-out-of-time",
        "task-failed-without-data",
        "task-files-broken",
        "task-late-data",
        "task-recovered",
        "task-start-late",
        "task-too-long",
        "too-large-step-step-log",
        "without-logs-task-failed",
    ];
    assert_eq!(taken, expected.map(str::to_owned).into());
    assert!(left.contains("task-failed-folded") && left.contains("backfill-begun"), "{left:?}");
}
