//! Backfills as an operator orders them, carried out by daemons that are killed:
//! the cap holds, nothing is done twice, and one summary is sent.
//!
//! `SLUICEGATE_BACKFILL_DAYS=31` makes the large test one of 31 days of 24 hours
//! (744 partitions, some minutes); two days by default.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sluicegate::aws;
use sluicegate::aws::store::{DueKey, Store, StoreError};
use sluicegate::core::asked::Asked;
use sluicegate::core::backfill::{Backfill, Order, Window};
use sluicegate::core::task::{Element, Receipt, Round, TaskChange, TaskKey, TaskState};
use sluicegate_local::Options;

use crate::commands::{answer, ask, json};
use crate::world::{BUCKET, World};

/// An hourly task with a schedule, of one file an hour, in batches of `batch`. Its
/// step notes when it begins and ends.
fn hourly(folder: &Path, batch: usize, script: &str) -> String {
    let log = folder.join("log").display().to_string();
    format!(
        r#"
[profiles.batches]
batch-size = {batch}
max-wait = "1s"
guard = false
release-label = "emr-7.13.0"
service-role = "s"
instance-profile = "i"
primary = {{ instance-types = ["m5.xlarge"], on-demand = 1 }}

[datasets.raw]
location = "s3://{BUCKET}/raw/{{yyyy}}/{{MM}}/{{dd}}/{{HH}}.csv"

[tasks.etl]
profile = "batches"
partition = "hour"
schedule = {{ cron = "5 * * * *" }}
inputs = [{{ dataset = "raw" }}]
[[tasks.etl.steps]]
name = "work"
kind = "command"
args = ["bash", "-c", '''echo begin {{partition}} >> {log}; {script}; code=$?; echo end {{partition}} >> {log}; exit $code''']
"#
    )
}

/// What the steps have noted: how often each partition began.
fn begun(folder: &Path) -> BTreeMap<String, usize> {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let mut begun = BTreeMap::new();
    for partition in log.lines().filter_map(|line| line.strip_prefix("begin ")) {
        *begun.entry(partition.to_owned()).or_default() += 1;
    }
    begun
}

async fn id_of(world: &World) -> String {
    let list = json(world, &["backfill", "list"]).await;
    list["backfills"][0]["id"].as_str().unwrap().to_owned()
}

async fn ended(world: &World, id: &str) -> serde_json::Value {
    let check = || async {
        let shown = json(world, &["backfill", "show", id]).await;
        shown["ended"].is_string().then_some(shown)
    };
    world.until_async("the backfill's end", check).await
}

/// So many of the window's partitions are ready or running now, by the tables.
async fn under_way(store: &Store, window: &sluicegate::core::backfill::Window) -> usize {
    use sluicegate::core::task::TaskState::{Ready, Running};
    let (items, _) = store.window(window).await.unwrap();
    items.values().filter(|item| matches!(item.state, Ready | Running)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_keeps_its_cap_and_does_nothing_twice_over_kills() {
    let days: usize =
        std::env::var("SLUICEGATE_BACKFILL_DAYS").map_or(2, |days| days.parse().unwrap());
    let (cap, hours) = (12, days * 24);
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default();
    let mut world = World::with(&hourly(folder.path(), 6, "true"), options).await;
    let last = format!("2013-01-{days:02}");
    let args = ["backfill", "etl", "--from", "2013-01-01", "--to", &last, "--max-parallel", "12"];
    let more = ["--ignore-inputs", "--by", "alice", "--reason", "new column"];
    let said = answer(&world, &[&args[..], &more].concat()).await;
    assert!(said.contains(&format!("{hours} partitions of etl")), "{said}");
    let id = id_of(&world).await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let window = store.backfill(&id).await.unwrap().unwrap().window;

    let (mut kills, mut peak) = (0, 0);
    let start = std::time::Instant::now();
    loop {
        let open = under_way(&store, &window).await;
        assert!(open <= cap, "{open} are ready or running, and {cap} may be");
        peak = peak.max(open);
        let backfill = store.backfill(&id).await.unwrap().unwrap();
        if backfill.ended.is_some() {
            break;
        }
        // Killed at a third and two thirds of the way; the second time two go on.
        if backfill.done() as usize >= (kills + 1) * hours / 3 && kills < 2 {
            world.kill().await;
            kills += 1;
            world.start().await;
            if kills == 2 {
                world.another().await;
            }
        }
        let patience = std::time::Duration::from_secs(60 + 2 * hours as u64);
        assert!(start.elapsed() < patience, "it does not end: {backfill:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(kills, 2);
    assert!(peak >= cap / 2, "at most {peak} were ever under way");
    let begun = begun(folder.path());
    assert_eq!(begun.len(), hours);
    assert!(begun.values().all(|times| *times == 1), "{begun:?}");
    let shown = json(&world, &["backfill", "show", &id]).await;
    assert_eq!(shown["counts"]["succeeded"], hours);
    let mail = world.mail(&format!("backfill/{id}/backfill-ended")).await;
    assert!(mail.text.contains(&format!("{hours} succeeded")), "{}", mail.text);
    world.until_due(<[DueKey]>::is_empty).await;
    let events: Vec<_> =
        world.mails().iter().map(|mail| mail.attributes["event"].clone()).collect();
    assert!(events.iter().all(|event| event.starts_with("backfill/")), "{events:?}");
    world.clusters_ended().await;
}

#[tokio::test]
async fn what_is_done_or_lacks_inputs_is_left_alone_and_what_failed_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        format!("test -e {}/go || test {{partition}} != 2013-01-01T01", folder.path().display());
    let world = World::new(&hourly(folder.path(), 1, &script)).await;
    for hour in [0, 1] {
        world.put(&format!("raw/2013/01/01/{hour:02}.csv"), "x").await;
    }
    world.taken().await;
    let window = ["backfill", "etl", "--from", "2013-01-01T00", "--to", "2013-01-01T02"];
    let dry = json(&world, &[&window[..], &["--dry-run"]].concat()).await;
    assert_eq!(dry["run"], serde_json::json!(["2013-01-01T00", "2013-01-01T01"]));
    assert_eq!(dry["left"]["lacks-inputs"], 1);
    // As the README shows it.
    let dry = answer(&world, &[&window[..], &["--dry-run", "--by", "a"]].concat()).await;
    let readme = include_str!("../../README.md");
    let command = "$ sluicegate backfill etl --from 2013-01-01T00 --to 2013-01-01T02 --dry-run\n";
    assert!(readme.contains(&format!("{command}{dry}")), "{dry}");
    assert_eq!(json(&world, &["backfill", "list"]).await["backfills"], serde_json::json!([]));

    let order = [&window[..], &["--order", "desc", "--wait", "--by", "alice"]].concat();
    let (code, out, error) = ask(&world, &order).await;
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.contains("1 FAILED") && out.contains("failed      2013-01-01T01"), "{out}");
    assert!(out.contains("1 left alone: inputs have not come"), "{out}");
    assert!(error.contains("1 of the partitions of backfill"), "{error}");
    let first = id_of(&world).await;
    let mail = world.mail(&format!("{first}/backfill-ended")).await;
    assert_eq!(mail.attributes["severity"], "failure");
    assert!(mail.text.contains("sluicegate why etl 2013-01-01T01"), "{}", mail.text);
    assert!(world.mails_about("etl/2013-01-01").is_empty());

    fs::write(folder.path().join("go"), "").unwrap();
    world.clusters_ended().await;
    let (code, out, error) = ask(&world, &[&window[..], &["--wait", "--by", "bob"]].concat()).await;
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    let second = id_of(&world).await;
    assert_ne!(first, second);
    let shown = ended(&world, &second).await;
    assert_eq!(shown["counts"]["succeeded"], 1);
    assert_eq!(shown["counts"]["done-before"], 1);
    let begun = begun(folder.path());
    assert_eq!(begun.values().copied().collect::<Vec<_>>(), [1, 2]);
    // By hand its notices are told again.
    answer(&world, &["retry", "etl", "2013-01-01T01", "--force", "--by", "carol"]).await;
    world.mail("etl/2013-01-01T01/succeeded/3").await;
}

#[tokio::test]
async fn a_cancelled_backfill_lets_what_runs_end_and_begins_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("until test -e {}/go; do sleep 0.05; done", folder.path().display());
    let world = World::new(&hourly(folder.path(), 1, &script)).await;
    let order = ["backfill", "etl", "--from", "2013-01-01", "--to", "2013-01-01"];
    let more = ["--max-parallel", "1", "--ignore-inputs", "--by", "alice"];
    answer(&world, &[&order[..], &more].concat()).await;
    let id = id_of(&world).await;
    world.until("the first step", || (!begun(folder.path()).is_empty()).then_some(())).await;
    let words = || async {
        let first = answer(&world, &["why", "etl", "2013-01-01T00"]).await;
        first.contains("is running in run").then_some(first)
    };
    let first = world.until_async("it runs", words).await;
    assert!(first.contains(&format!("; it belongs to backfill {id}.")), "{first}");
    let next = answer(&world, &["why", "etl", "2013-01-01T05"]).await;
    let cap = format!(
        "; backfill {id} has yet to come to it: 1 of it are ready or running, and 1 may be at once."
    );
    assert!(next.ends_with(&format!("{cap}\n")), "{next}");
    answer(&world, &["backfill", "cancel", &id[..20], "--by", "bob", "--reason", "wrong"]).await;
    let (code, _, error) = ask(&world, &["backfill", "cancel", &id, "--by", "bob"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("it is cancelling already"), "{error}");
    fs::write(folder.path().join("go"), "").unwrap();
    let shown = ended(&world, &id).await;
    assert_eq!(shown["state"], "cancelled");
    assert_eq!(
        (&shown["counts"]["succeeded"], &shown["counts"]["not-begun"]),
        (&1.into(), &23.into())
    );
    assert_eq!(begun(folder.path()).len(), 1);
    for (args, said) in [
        (
            &["backfill", "etl", "--from", "2013-01-02", "--to", "2013-01-01"][..],
            "the window is empty",
        ),
        (&["backfill", "etl", "--from", "2013-01-01"], "required"),
        (&["backfill", "etl", "--from", "soon", "--to", "2013-01-01"], "is no partition"),
        (
            &["backfill", "elt", "--from", "2013-01-01", "--to", "2013-01-01"],
            "did you mean \"etl\"?",
        ),
        (&["backfill", "etl", "--from", "2013-01-01", "--to", "2018-01-01"], "divide it"),
        (
            &[
                "backfill",
                "etl",
                "--from",
                "2013-01-01",
                "--to",
                "2013-01-01",
                "--max-parallel",
                "0",
            ],
            "0 is not in",
        ),
    ] {
        let (code, _, error) = ask(&world, args).await;
        assert_eq!(code, 2, "{args:?}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
    let (code, _, error) = ask(&world, &["backfill", "show", "7n0ne"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("there is no backfill 7N0NE"), "{error}");
}

/// A replica in the middle of its turn goes by what it has read.
#[tokio::test]
async fn nothing_is_begun_by_a_backfill_that_has_changed_since_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(&hourly(folder.path(), 1, "true")).await;
    world.stop().await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let now = world.local.cloud().time().dev();
    let hours: Vec<_> = (0..3)
        .map(|hour| TaskKey::new("etl", format!("2013-01-01T{hour:02}").parse().unwrap()))
        .collect();
    let window = Window {
        task: "etl".into(),
        first: hours[0].partition,
        last: hours[2].partition,
        max_parallel: 3,
        order: Order::Asc,
        force: false,
        ignore_inputs: true,
    };
    let mut backfill = Backfill::new("B", window, Asked::new("alice", None, now));
    store.commit_document(&mut backfill).await.unwrap();
    // More than an expression has room for.
    let granted = |number: usize| {
        (Element::data(&format!("raw{number}"), hours[0].partition), Receipt::Skipped)
    };
    let receipts: Vec<_> = (0..250).map(granted).collect();
    let adopted = store.adopt(&hours[0], &backfill, &receipts, now).await.unwrap();
    assert_eq!((adopted.received.len(), adopted.state), (250, TaskState::Waiting));
    assert_eq!(adopted.round.backfill.as_deref(), Some("B"));
    let change = |from| {
        let mut change = TaskChange::new(&hours[0], from, TaskState::Ready, now, vec![])
            .of_round(&Round { number: 1, backfill: Some("B".into()) });
        change.again = true;
        change.receipts.clone_from(&receipts);
        change
    };
    let ended = TaskChange::new(&hours[0], TaskState::Waiting, TaskState::Failed, now, vec![]);
    let ended = store.change_task(&ended, adopted.version).await.unwrap();
    let again = store.begin_for(&change(ended.state), ended.version, &backfill).await.unwrap();
    assert_eq!((again.received.len(), again.state), (250, TaskState::Ready));

    // What it was given goes with the name, all of it.
    let key = TaskKey::new("etl", "2013-01-02T00".parse().unwrap());
    let adopted = store.adopt(&key, &backfill, &receipts, now).await.unwrap();
    assert_eq!(adopted.received.len(), 250);
    store.leave(&adopted).await.unwrap();
    let left = store.task(&key).await.unwrap().unwrap();
    assert_eq!((left.received.len(), &left.round.backfill), (0, &None));
    // What comes by itself stands in its place.
    let element = receipts[7].0.clone();
    for (receipt, counts) in
        [(Receipt::Begun(now), false), (Receipt::Partial(now), false), (Receipt::Closed(3), true)]
    {
        store.give(&key, &receipts, &backfill.asked, now).await.unwrap();
        let came = [(element.clone(), receipt.clone())];
        let item = store.receive(&key, &came, None, true, now).await.unwrap();
        let expected = if counts { &receipt } else { &receipts[7].1 };
        assert_eq!((item.received.len(), &item.received[&element]), (250, expected));
    }

    let read = backfill.clone();
    assert!(backfill.ask_cancel(Asked::new("bob", None, now)));
    store.commit_document(&mut backfill).await.unwrap();
    let refused = store.adopt(&hours[1], &read, &receipts, now).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(store.task(&hours[1]).await.unwrap(), None);
    let other = store.receive(&hours[2], &[], None, false, now).await.unwrap();
    let mut change = TaskChange::new(&hours[2], other.state, TaskState::Ready, now, vec![]);
    change.round.backfill = Some("B".into());
    change.receipts = receipts;
    let refused = store.begin_for(&change, other.version, &read).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(store.task(&hours[2]).await.unwrap(), Some(other));
}

#[tokio::test]
async fn one_that_is_cancelled_while_its_task_is_not_declared_lets_go_of_everything() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = hourly(folder.path(), 1, "true");
    let mut world = World::new(&tasks).await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    answer(&world, &["pause", "etl", "--by", "alice"]).await;
    let order = ["backfill", "etl", "--from", "2013-01-01", "--to", "2013-01-01"];
    let more = ["--max-parallel", "1", "--ignore-inputs", "--by", "alice"];
    answer(&world, &[&order[..], &more].concat()).await;
    let id = id_of(&world).await;
    let key = TaskKey::new("etl", "2013-01-01T00".parse().unwrap());
    let (store, key) = (&store, &key);
    let ready =
        || async { store.task(key).await.unwrap().filter(|item| item.state == TaskState::Ready) };
    world.until_async("the first one, ready", ready).await;
    world.stop().await;
    world.configure("");
    answer(&world, &["backfill", "cancel", &id, "--by", "bob"]).await;
    world.start().await;
    let shown = ended(&world, &id).await;
    assert_eq!(
        (&shown["counts"]["cancelled"], &shown["counts"]["not-begun"]),
        (&1.into(), &23.into())
    );
    assert_eq!(store.task(key).await.unwrap().unwrap().state, TaskState::Cancelled);
    // Its task comes back, and nothing of it runs.
    world.stop().await;
    world.configure(&tasks);
    world.start().await;
    answer(&world, &["resume", "etl", "--by", "alice"]).await;
    world.mail("pause/task/etl/").await;
    world.until_due(<[DueKey]>::is_empty).await;
    assert!(begun(folder.path()).is_empty());
}

/// What is given too early runs without what still comes, and never again.
#[tokio::test]
async fn what_has_not_ended_is_left_out_and_given_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = hourly(folder.path(), 2, "true");
    let world = World::at(&tasks, "2013-01-02T10:10:00Z", 1.0).await;
    let window = ["backfill", "etl", "--from", "2013-01-02T08", "--to", "2013-01-02"];
    let window = [&window[..], &["--ignore-inputs", "--by", "alice"]].concat();
    let dry = [&window[..], &["--dry-run"]].concat();
    let said = answer(&world, &dry).await;
    assert!(said.ends_with("     14 left out: not ended yet\n"), "{said}");
    let dry = json(&world, &dry).await;
    assert_eq!(dry["run"], serde_json::json!(["2013-01-02T08", "2013-01-02T09"]));
    assert_eq!(dry["left_out"], serde_json::json!({ "not_ended": 14, "no_slot": 0 }));
    let day = ["etl", "2013-01-02T10"];
    let over = "ends at 2013-01-02T11:00:00Z, which has not come: nothing was changed";
    for (args, key) in [
        (&["backfill", "etl", "--from", "2013-01-02T10", "--to", "2013-01-02"][..], "T10"),
        (&["backfill", "etl", "--from", day[1], "--to", "2027-01-01", "--dry-run"], "T10"),
        (&["retry", day[0], day[1], "--ignore-inputs"], "T10"),
        (&["retry", day[0], day[1], "--ignore-inputs", "--force"], "T10"),
        (&["skip", day[0], day[1]], "T10"),
    ] {
        let (code, _, error) = ask(&world, &[args, &["--by", "a"]].concat()).await;
        assert_eq!(code, 2, "{args:?}: {error}");
        assert!(error.contains(&format!("etl 2013-01-02{key} {over}")), "{args:?}: {error}");
        assert!(error.contains("newest partition that is over is 2013-01-02T09"), "{error}");
    }
    // Nothing is given by these.
    answer(&world, &["cancel", day[0], day[1], "--by", "alice"]).await;
    let again = json(&world, &["retry", day[0], day[1], "--by", "alice"]).await;
    assert_eq!(again["state"], "waiting");

    let done = json(&world, &[&window[..], &["--wait"]].concat()).await;
    assert_eq!(
        (&done["counts"]["succeeded"], &done["left_out"]["not_ended"]),
        (&2.into(), &14.into())
    );
    assert_eq!(
        begun(folder.path()).into_keys().collect::<Vec<_>>(),
        ["2013-01-02T08", "2013-01-02T09"]
    );
}

/// Orders one for hours of which nothing has come.
async fn order(world: &World, from: &str, to: &str, more: &[&str]) -> (i32, String, String) {
    let words = ["backfill", "etl", "--from", from, "--to", to, "--ignore-inputs", "--by", "a"];
    ask(world, &[&words[..], more].concat()).await
}

#[tokio::test]
async fn of_backfills_with_the_same_partitions_only_one_is_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(&hourly(folder.path(), 2, "true")).await;
    world.stop().await;
    // At the same moment: what the one has read, the other changes.
    let both =
        futures::future::join_all([(); 3].map(|()| order(&world, "2013-01-01", "2013-01-02", &[])));
    let mut codes: Vec<_> = both.await.into_iter().map(|(code, ..)| code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 2, 2]);
    let id = id_of(&world).await;
    let what =
        "is at work on the same partitions: 48 partitions of etl, 2013-01-01T00 to 2013-01-02T23";
    for more in [&[][..], &["--force"], &["--dry-run"]] {
        let (code, _, error) = order(&world, "2013-01-02T23", "2013-01-03", more).await;
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(&format!("backfill {id} {what}; nothing was ordered")), "{error}");
        assert!(error.contains(&format!("sluicegate backfill cancel {id}")), "{error}");
    }
    let (code, _, error) = order(&world, "2013-01-03", "2013-01-03", &[]).await;
    assert_eq!(code, 0, "{error}");
    answer(&world, &["backfill", "cancel", &id, "--by", "bob"]).await;
    let (code, _, error) = order(&world, "2013-01-01", "2013-01-02", &[]).await;
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("it is being cancelled: wait for its end"), "{error}");
    world.start().await;
    ended(&world, &id).await;
    let (code, _, error) = order(&world, "2013-01-01", "2013-01-02", &[]).await;
    assert_eq!(code, 0, "{error}");
}

#[tokio::test]
async fn what_the_schedule_has_no_slot_for_is_left_out_unless_somebody_insists() {
    let folder = tempfile::tempdir().unwrap();
    // The slot on a Tuesday stands for Monday.
    let tasks = hourly(folder.path(), 40, "true")
        .replace("5 * * * *", "0 6 * * 2")
        .replace("partition = \"hour\"", "partition = \"day\"")
        .replace("inputs = [{ dataset = \"raw\" }]", "")
        .replace("/{HH}.csv", ".csv")
        .replace("etl", "weekly");
    let world = World::at(&tasks, "2026-12-06T10:10:00Z", 1.0).await;
    for (partition, said) in [
        ("2026-11-17", "has no slot in its task's schedule and does not wait"),
        ("2026-12-07", "has not begun and does not wait: there is nothing to cancel"),
    ] {
        let (code, _, error) = ask(&world, &["cancel", "weekly", partition, "--by", "a"]).await;
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(said), "{error}");
    }
    for args in [
        &["retry", "weekly", "2026-11-17", "--ignore-inputs"][..],
        &["retry", "weekly", "2026-11-17"],
        &["skip", "weekly", "2026-11-18"],
        &["backfill", "weekly", "--from", "2026-11-17", "--to", "2026-11-20"],
    ] {
        let (code, _, error) = ask(&world, &[args, &["--by", "a"]].concat()).await;
        assert_eq!(code, 2, "{args:?}: {error}");
        assert!(error.contains("has no slot in its task's schedule"), "{args:?}: {error}");
        let nearest = "the nearest that have one are 2026-11-16 and 2026-11-23";
        assert!(error.contains(nearest), "{args:?}: {error}");
    }
    let window = ["backfill", "weekly", "--from", "2026-11-01", "--to", "2026-12-05", "--by", "a"];
    let dry = json(&world, &[&window[..], &["--dry-run"]].concat()).await;
    let mondays = ["2026-11-02", "2026-11-09", "2026-11-16", "2026-11-23", "2026-11-30"];
    assert_eq!(dry["run"], serde_json::json!(mondays));
    assert_eq!((&dry["left"]["no-slot"], &dry["left_out"]["no_slot"]), (&30.into(), &30.into()));
    let all = json(&world, &[&window[..], &["--dry-run", "--force"]].concat()).await;
    assert_eq!(all["run"].as_array().unwrap().len(), 35);
    let said = answer(&world, &[&window[..], &["--wait"]].concat()).await;
    let left = "30 partitions have no slot in the task's schedule: left out";
    assert!(said.contains(left), "{said}");
    assert!(said.contains("    30 left out: no slot in the task's schedule (--force)"), "{said}");
    assert_eq!(begun(folder.path()).into_keys().collect::<Vec<_>>(), mondays);

    answer(&world, &["skip", "weekly", "2026-11-18", "--force", "--by", "a"]).await;
    let insists = ["retry", "weekly", "2026-11-17", "--ignore-inputs", "--force", "--by", "a"];
    answer(&world, &insists).await;
    world.mail("weekly/2026-11-17/succeeded").await;
}
