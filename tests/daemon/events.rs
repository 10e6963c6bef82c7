//! `events tail`: what people were told, from the tables alone.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluicegate::aws;
use sluicegate::aws::store::{NOTICES_KEPT, Store};
use sluicegate::core::notice::{Kind, Notice, NoticeGlance, Severity};

use crate::commands::{answer, ask, json};
use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

fn words<'a>(found: &'a Value, field: &str) -> Vec<&'a str> {
    let notices = found["notices"].as_array().unwrap().iter();
    notices.map(|notice| notice[field].as_str().unwrap()).collect()
}

/// All that two partitions of two tasks were told, in the order of the mails.
#[tokio::test(flavor = "multi_thread")]
async fn the_tail_shows_what_the_mails_said() {
    let tasks = daily_file("a")
        + &daily_file("b")
        + &daily_task("t", &["a"], "true")
        + &daily_task("u", &["b"], "exit 3");
    let world = World::new(&tasks).await;
    assert_eq!(answer(&world, &["events", "tail"]).await, "no events\n");
    for input in ["a", "b"] {
        world.put(&format!("{input}/2013-01-01.csv"), "x").await;
    }
    world.mail("t/2013-01-01/succeeded").await;
    world.mail("u/2013-01-01/failed").await;
    let ended = || world.mails().iter().filter(|mail| mail.subject.contains("run of")).count() >= 8;
    world.until("the end of both runs", || ended().then_some(())).await;
    // Each is stored right after its mail has gone.
    let all = world
        .until_async("all events", || async {
            let found = json(&world, &["events", "tail"]).await;
            (words(&found, "event").len() >= world.mails().len()).then_some(found)
        })
        .await;
    let (mut told, mut listed) = (
        world.mails().into_iter().map(|mail| mail.attributes["event"].clone()).collect::<Vec<_>>(),
        words(&all, "event"),
    );
    told.sort();
    listed.sort_unstable();
    assert_eq!(listed, told);
    assert!(words(&all, "published").is_sorted());

    let of_t = json(&world, &["events", "tail", "--task", "t"]).await;
    assert_eq!(words(&of_t, "status"), ["ready", "running", "succeeded"]);
    let last = json(&world, &["events", "tail", "--task", "t", "--limit", "1"]).await;
    assert_eq!(words(&last, "status"), ["succeeded"]);
    assert_eq!(last["truncated"], true);
    let text = answer(&world, &["events", "tail"]).await;
    assert!(text.contains("u 2013-01-01 FAILED"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for (args, said) in [
        (&["--task", "T"][..], "there is no task \"T\""),
        (&["--since", "400h"], "events are kept for 336 h"),
        (&["--since", "soon"], "expected a length such as 30m"),
    ] {
        let (code, _, error) = ask(&world, &[&["events", "tail"], args].concat()).await;
        assert_eq!(code, 2, "{args:?}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_with_what_comes_each_once() {
    let world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("t/2013-01-01/succeeded").await;
    let config = world.config_file();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["events", "tail", "--follow", "--task", "t", "--json", "--config"])
        .arg(config.path())
        .args(["--local", world.local.endpoint()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |count: usize| {
        let events = lines.by_ref().take(count).map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            event["event"].as_str().unwrap().to_owned()
        });
        tokio::task::block_in_place(|| events.collect::<Vec<_>>())
    };
    let of_day = |day| ["ready", "running", "succeeded"].map(|it| format!("t/2013-01-0{day}/{it}"));
    assert_eq!(next(3), of_day(1));
    world.put("a/2013-01-02.csv", "x").await;
    assert_eq!(next(3), of_day(2));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// DynamoDB refuses what is only for this list: mails and runs go on, each mail once.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listed_is_told_all_the_same() {
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    network.order("KeepNotice", Fault::Refused, usize::MAX);
    world.put("a/2013-01-01.csv", "x").await;
    world.mail("run-succeeded").await;
    assert!(network.met("KeepNotice") >= 2);
    assert_eq!(world.mails_about("t/2013-01-01/succeeded").len(), 1);
    let found = json(&world, &["events", "tail"]).await;
    assert_eq!(words(&found, "event"), [""; 0]);
}

/// Days are read one after the other, the newest first, and no further than asked.
#[tokio::test]
async fn the_log_is_read_over_days_and_past_what_cannot_be_read() {
    let mut world = World::new("").await;
    world.stop().await;
    let aws = aws::connect(&world.access()).await;
    let store = Store::new(&aws, "test-");
    let now: Timestamp = "2013-01-15T00:01:00Z".parse().unwrap();
    let before = |hours: i64| now - SignedDuration::from_hours(hours);
    // Every twelve hours, for longer than they are kept.
    for number in 0..40 {
        let at = before(12 * number);
        let event = format!("t/{number}");
        let mut notice = Notice::new(Kind::Task, event, at, Severity::Info, "ready", "x");
        notice.task = Some(if number % 2 == 0 { "even" } else { "odd" }.to_owned());
        store.keep_published(&[NoticeGlance::of(&notice, at)]).await.unwrap();
        // An answer was lost: the same again.
        store.keep_published(&[NoticeGlance::of(&notice, at)]).await.unwrap();
    }
    let read = async |since: Timestamp, task: Option<&str>, limit: usize| {
        let found = store.published(since, task, limit, now).await.unwrap();
        let events = found.notices.iter().map(|notice| notice.event.clone());
        (events.collect::<Vec<_>>().join(" "), found.truncated)
    };
    let expected = |text: &str, truncated| (text.to_owned(), truncated);
    assert_eq!(read(before(36), None, 100).await, expected("t/3 t/2 t/1 t/0", false));
    assert_eq!(read(before(36), Some("odd"), 100).await, expected("t/3 t/1", false));
    assert_eq!(read(before(36), None, 2).await, expected("t/1 t/0", true));
    assert_eq!(read(before(36), None, 4).await, expected("t/3 t/2 t/1 t/0", false));
    let (all, truncated) = read(Timestamp::UNIX_EPOCH, None, 100).await;
    let kept = NOTICES_KEPT.as_hours() / 12 + 1;
    assert_eq!((all.split(' ').count(), truncated), (usize::try_from(kept).unwrap(), false));

    let tables = aws_sdk_dynamodb::Client::new(&aws);
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let key = tables.get_item().table_name("test-task").key("task", text("~notice/2013-01-15"));
    let key = key.key("partition", text("2013-01-15T00:01:00.000Z/t/0"));
    let mut item = key.send().await.unwrap().item.unwrap();
    let expires = (now + NOTICES_KEPT).as_second().to_string();
    assert_eq!(item["expires"], AttributeValue::N(expires));
    item.insert("format".into(), AttributeValue::N("99".into()));
    tables.put_item().table_name("test-task").set_item(Some(item)).send().await.unwrap();
    let found = store.published(before(36), None, 100, now).await.unwrap();
    assert_eq!((found.notices.len(), found.unreadable), (3, 1));
}
