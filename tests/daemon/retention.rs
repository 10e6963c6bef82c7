//! What has ended expires, and what may be gone is not begun again by itself; `gc`
//! deletes what expiry leaves, and nothing else; items of earlier versions are read.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue::{self, B, Bool, N, S, Ss};
use aws_sdk_dynamodb::types::TimeToLiveSpecification;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sluicegate::aws;
use sluicegate::aws::store::Store;
use sluicegate::core::cap::Capped;
use sluicegate::core::partition::Partition;
use sluicegate::core::run::RunState;
use sluicegate::core::task::{TaskKey, TaskPartition, TaskState};

use crate::commands::{answer, ask, json};
use crate::world::{BUCKET, World, daily_file, daily_task};

type Item = HashMap<String, AttributeValue>;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn text(value: &str) -> AttributeValue {
    S(value.to_owned())
}

fn item<const COUNT: usize>(attributes: [(&str, AttributeValue); COUNT]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn tables(world: &World) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(&aws::connect(&world.access()).await)
}

async fn store(world: &World) -> Store {
    Store::new(&aws::connect(&world.access()).await, "test-")
}

async fn put(world: &World, table: &str, item: Item) {
    let put = tables(world).await.put_item().table_name(format!("test-{table}"));
    put.set_item(Some(item)).send().await.unwrap();
}

async fn set(world: &World, task: &str, partition: &str, name: &str, value: AttributeValue) {
    let key = item([("task", text(task)), ("partition", text(partition))]);
    let update = tables(world).await.update_item().table_name("test-task").set_key(Some(key));
    let update = update.update_expression("SET #name = :value");
    let update = update.expression_attribute_names("#name", name);
    update.expression_attribute_values(":value", value).send().await.unwrap();
}

async fn stored(world: &World, task: &str, partition: &str) -> Option<TaskPartition> {
    let key = TaskKey::new(task, partition.parse().unwrap());
    store(world).await.task(&key).await.unwrap()
}

/// From the daemon's next start on, the deployment has kept things so for two years,
/// and knows these tasks as long.
async fn has_been_there_for_years(world: &World, tasks: &[&str]) {
    let since = Timestamp::now() - 730 * 24 * SignedDuration::from_hours(1);
    for task in tasks {
        let check = || async { store(world).await.seen(task).await.unwrap() };
        world.until_async("since when the task is known", check).await;
        let millis = N(since.as_millisecond().to_string());
        set(world, task, "~first-seen", "since", millis).await;
    }
    let document = format!(r#"{{"periods":[{{"from":"{since}","kept":"PT2160H"}}]}}"#);
    set(world, "~retention", "partitions", "document", text(&document)).await;
}

/// What has ended long ago expires within the hour that has passed.
async fn expire(world: &World, task: &str, partition: &str) {
    let past = (Timestamp::now() - SignedDuration::from_hours(1)).as_second();
    set(world, task, partition, "expires", N(past.to_string())).await;
}

fn sweep(world: &World) -> usize {
    world.local.cloud().dynamodb().database().sweep_ttl().unwrap()
}

fn today() -> String {
    Timestamp::now().strftime("%Y-%m-%d").to_string()
}

#[tokio::test]
async fn tables_create_switches_expiry_on_and_a_start_without_it_only_warns() {
    let mut world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "true"))).await;
    let (client, names) = (tables(&world).await, ["test-task", "test-file-unit", "test-run"]);
    for table in names {
        let found = client.describe_time_to_live().table_name(table).send().await.unwrap();
        let found = found.time_to_live_description.unwrap();
        assert_eq!(found.attribute_name(), Some("expires"));
        assert_eq!(found.time_to_live_status.unwrap().as_str(), "ENABLED");
    }
    let off = TimeToLiveSpecification::builder().enabled(false).attribute_name("expires");
    let update = client.update_time_to_live().table_name("test-run");
    update.time_to_live_specification(off.build().unwrap()).send().await.unwrap();
    assert_eq!(store(&world).await.tables_without_expiry().await.unwrap(), ["test-run"]);
    world.stop().await;
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    let made = json(&world, &["tables", "create"]).await;
    assert_eq!(made["created"][0], "expiry of test-run");
    assert_eq!(answer(&world, &["tables", "create"]).await, "all tables exist already\n");
}

#[tokio::test]
async fn what_ends_expires_and_what_is_begun_again_does_not() {
    let world = World::new(&(daily_file("a") + &daily_task("t", &["a"], "false"))).await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/failed").await;
    let item = stored(&world, "t", "2013-01-01").await.unwrap();
    let days = |item: &TaskPartition| item.expires.map(|at| at.duration_since(item.since.unwrap()));
    let kept = days(&item).unwrap();
    assert!((DAY * 91 - kept).abs() < SignedDuration::from_secs(2), "{kept}");
    answer(&world, &["pause", "t", "--by", "alice"]).await;
    answer(&world, &["retry", "t", "2013-01-01", "--by", "alice"]).await;
    let again = stored(&world, "t", "2013-01-01").await.unwrap();
    assert_eq!((again.state, again.expires), (TaskState::Ready, None));
    answer(&world, &["resume", "t", "--by", "alice"]).await;
    world.mail("t/2013-01-01/failed/2").await;
    assert!(stored(&world, "t", "2013-01-01").await.unwrap().expires.is_some());
    // The run expires with the write that leaves nothing of it to tell.
    let run = item.run.unwrap();
    world.until_due(<[_]>::is_empty).await;
    let get = tables(&world).await.get_item().table_name("test-run");
    let run = get.key("id", text(&run)).send().await.unwrap().item.unwrap();
    let ended: i64 = run["ended"].as_n().unwrap().parse().unwrap();
    assert_eq!(run["expires"].as_n().unwrap(), &(ended / 1000 + 91 * 24 * 3600).to_string());
}

/// The attribute `expires` of every item of the file-unit table, by its key.
async fn expiries(world: &World) -> Vec<(String, Option<Timestamp>)> {
    let scan = tables(world).await.scan().table_name("test-file-unit").send().await.unwrap();
    let items = scan.items.unwrap().into_iter();
    let mut found: Vec<_> = items
        .map(|item| {
            let expires = item.get("expires").map(|value| value.as_n().unwrap().parse().unwrap());
            let expires = expires.map(|seconds| Timestamp::from_second(seconds).unwrap());
            (item["unit"].as_s().unwrap().clone(), expires)
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn rows_expire_after_those_who_read_them_where_waiting_has_a_limit() {
    let counted = ["with", "without"].map(|name| {
        format!(
            "[datasets.{name}]\nlocation = \"s3://{BUCKET}/{name}/{{yyyy}}-{{MM}}-{{dd}}/*\"\n\
             complete = \"count\"\nobjects = 1\n"
        )
    });
    let limited = daily_task("t", &["with"], "true")
        .replace("partition = \"day\"\n", "partition = \"day\"\nwait-timeout = \"48h\"\n");
    let world =
        World::new(&(counted.concat() + &limited + &daily_task("u", &["without"], "true"))).await;
    let day = (Timestamp::now() + DAY * 10).strftime("%Y-%m-%d").to_string();
    for name in ["with", "without"] {
        world.put(&format!("{name}/{day}/1"), "1").await;
    }
    for task in ["t", "u"] {
        world.mail(&format!("{task}/{day}/succeeded")).await;
    }
    let end = Partition::end(&day.parse().unwrap());
    let kept = DAY * 181;
    assert_eq!(
        expiries(&world).await,
        [
            (format!("with@{day}"), Some(end + DAY * 2 + kept)),
            // Who waits for ever may need it for as long.
            (format!("without@{day}"), None),
            (format!("~inputs/t@{day}"), Some(end + kept)),
            (format!("~inputs/u@{day}"), Some(end + kept)),
        ]
    );
}

/// A task that reads a file, and one that reads what it makes.
fn maker_and_reader() -> String {
    let made =
        format!("[datasets.made]\nlocation = \"s3://{BUCKET}/made/{{yyyy}}/{{MM}}/{{dd}}/\"\n");
    let maker =
        daily_task("maker", &["a"], "true").replace("[[tasks", "outputs = [\"made\"]\n[[tasks");
    daily_file("a") + &made + &maker + &daily_task("reader", &["made"], "true")
}

#[tokio::test]
async fn what_has_expired_is_not_run_again_whether_swept_or_not() {
    let mut world = World::new(&maker_and_reader()).await;
    world.put("a/2013-01-01.csv", "1").await;
    for task in ["maker", "reader"] {
        world.mail(&format!("{task}/2013-01-01/succeeded")).await;
    }
    world.until_due(<[_]>::is_empty).await;
    has_been_there_for_years(&world, &["maker", "reader"]).await;
    for task in ["maker", "reader"] {
        expire(&world, task, "2013-01-01").await;
    }
    let before = stored(&world, "maker", "2013-01-01").await;
    world.kill().await;
    world.start().await;

    world.put("a/2013-01-01.csv", "another").await;
    let mail = world.mail("listing/").await;
    assert!(
        mail.subject.contains("an object came for a partition that is too old: a"),
        "{}",
        mail.subject
    );
    assert!(mail.text.contains("s3://landing/a/2013-01-01.csv"), "{}", mail.text);
    world.taken().await;
    assert_eq!(stored(&world, "maker", "2013-01-01").await, before);

    let counts = json(&world, &["status"]).await["tasks"]["maker"]["counts"].clone();
    assert_eq!(counts, serde_json::json!({}));
    assert_eq!(sweep(&world), 2);
    world.put("a/2013-01-01.csv", "a third").await;
    // Never stored, and as old: nobody can tell.
    world.put("a/2013-01-02.csv", "1").await;
    world.put(&format!("a/{}.csv", today()), "1").await;
    world.mail(&format!("reader/{}/succeeded", today())).await;
    world.taken().await;
    for partition in ["2013-01-01", "2013-01-02"] {
        assert_eq!(stored(&world, "maker", partition).await, None);
    }
    assert_eq!(world.calls("elasticmapreduce", "RunJobFlow"), 4);
    assert_eq!(world.mails_about("maker/2013-01-01/late-data").len(), 0);

    operators_are_told(&world).await;
    // A person begins it, and what comes for it from then on counts; its reader is
    // another partition that may have run.
    answer(
        &world,
        &[
            "backfill",
            "maker",
            "--from",
            "2013-01-01",
            "--to",
            "2013-01-01",
            "--force",
            "--ignore-inputs",
            "--wait",
            "--by",
            "alice",
        ],
    )
    .await;
    assert_eq!(stored(&world, "maker", "2013-01-01").await.unwrap().state, TaskState::Succeeded);
    world.until_due(<[_]>::is_empty).await;
    assert_eq!(stored(&world, "reader", "2013-01-01").await, None);
    world.put("a/2013-01-01.csv", "a fourth").await;
    world.mail("maker/2013-01-01/late-data").await;
}

/// What commands say of partitions that are too old.
async fn operators_are_told(world: &World) {
    let why = json(world, &["why", "maker", "2013-01-01"]).await;
    let sentence = why["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("maker 2013-01-01 ended longer ago than partitions are kept (90d)"),
        "{sentence}"
    );
    assert_eq!((why["stored"].as_bool(), &why["waits_for"]), (Some(false), &Value::Array(vec![])));
    for command in ["retry", "skip", "cancel"] {
        let (code, _, error) = ask(world, &[command, "maker", "2013-01-01", "--by", "alice"]).await;
        assert_eq!(code, 1);
        assert!(error.contains("nothing is stored of it, nothing was changed"), "{error}");
        assert!(error.contains("sluicegate backfill maker --from 2013-01-01"), "{error}");
    }
    assert_eq!(stored(world, "maker", "2013-01-01").await, None);
    let window =
        ["backfill", "maker", "--from", "2013-01-01", "--to", "2013-01-02", "--by", "alice"];
    let foreseen = json(world, &[&window[..], &["--dry-run"]].concat()).await;
    assert_eq!(foreseen["left"]["too-old"], 2);
    let done = json(world, &[&window[..], &["--wait"]].concat()).await;
    assert_eq!(done["counts"]["too-old"], 2);
}

#[tokio::test]
async fn a_calendar_passes_over_what_is_too_old() {
    let task = daily_file("a")
        + &daily_task("t", &["a"], "true").replace(
            "partition = \"day\"\n",
            "partition = \"day\"\nschedule = { cron = \"0 0 1 1 *\" }\n",
        );
    let mut world = World::new(&task).await;
    let mark = || async { store(&world).await.mark("t").await.unwrap() };
    world.until_async("the schedule's mark", mark).await;
    has_been_there_for_years(&world, &["t"]).await;
    // One that waits for its slot is stored; it never expires.
    world.put("a/2014-12-31.csv", "1").await;
    world.taken().await;
    world.stop().await;
    // Of one that a newer version has written nobody knows whether it is over.
    set(&world, "t", "2016-12-31", "format", N("99".into())).await;
    let left: Timestamp = "2012-12-31T00:00:00Z".parse().unwrap();
    set(&world, "t", "~schedule", "mark", N(left.as_millisecond().to_string())).await;
    world.start().await;
    world.mail("t/2014-12-31/succeeded").await;
    for partition in ["2012-12-31", "2013-12-31", "2019-12-31"] {
        assert_eq!(stored(&world, "t", partition).await, None);
    }
    let moved = || async {
        let mark = store(&world).await.mark("t").await.unwrap();
        mark.filter(|mark| mark.reached > left + DAY * 4_000)
    };
    let mark = world.until_async("the mark of this year", moved).await;
    let owed: Vec<_> = mark.owed.iter().map(|entry| entry.partition().to_string()).collect();
    assert_eq!(owed, ["2016-12-31"]);
}

/// Claims, inputs and manifests of a run of long ago, which is gone, and of a newer
/// one; and objects of a dataset that is not declared.
async fn leave_remnants(world: &World, run: &str, newer: &str) {
    for run in [run, newer] {
        let id = text(&format!("claim/{run}/1/1"));
        put(world, "run", item([("id", id), ("holder", text("j-1"))])).await;
    }
    for (partition, run) in [("2013-01-01", run), ("2013-01-02", run), ("2013-01-03", newer)] {
        let (unit, row) = (format!("~inputs/t@{partition}"), format!("{run}/0000"));
        let (unit, row) = (("unit", text(&unit)), ("row", text(&row)));
        put(world, "file-unit", item([unit, row, ("format", N("1".into())), ("inputs", text(""))]))
            .await;
    }
    for key in [format!("t/2013-01-01/{run}-1"), format!("t/2013-01-02/{run}-1"), "more".into()] {
        world.put(&format!("manifests/{key}.json"), "{}").await;
    }
    let expires = N((Timestamp::now() - DAY).as_second().to_string());
    let (day, name) = (("task", text("~notice/2013-01-01")), ("partition", text("06:00/t")));
    put(world, "task", item([day, name, ("format", N("1".into())), ("expires", expires)])).await;
    let (unit, row) = (("unit", text("gone@2013-01-01")), ("row", text("0a")));
    put(world, "file-unit", item([unit, row, ("format", N("1".into()))])).await;
}

#[tokio::test]
async fn gc_deletes_what_is_left_over_and_nothing_else() {
    let many = format!(
        "[datasets.many]\nlocation = \"s3://{BUCKET}/many/{{yyyy}}-{{MM}}-{{dd}}/*\"\n\
         complete = \"count\"\nobjects = 2\n"
    );
    let warehouse = "[warehouses.mart]\nworkgroup = \"mart\"\ndatabase = \"dev\"\n\
        role = \"arn:aws:iam::000000000000:role/copy\"\nmanifests = \"s3://landing/manifests/\"\n";
    let tasks = many + warehouse + &daily_task("t", &["many"], "true");
    let mut world = World::new(&tasks).await;
    for key in ["2013-01-01/1", "2013-01-01/2", "2013-01-02/1"] {
        world.put(&format!("many/{key}"), "1").await;
    }
    world.put(&format!("many/{}/1", today()), "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    world.taken().await;
    world.until_due(<[_]>::is_empty).await;
    let gc = async |more: &[&str]| {
        json(&world, &[&["gc", "--rate", "100000"], more].concat()).await["collected"]["left_over"]
            .clone()
    };
    // Nothing is old enough, whatever partition it is of.
    assert_eq!(gc(&[]).await, serde_json::json!({}));
    has_been_there_for_years(&world, &["t"]).await;
    assert_eq!(gc(&[]).await, serde_json::json!({}));
    // It ended two years ago; what an earlier version wrote does not expire.
    let old = Timestamp::now() - DAY * 700;
    let ended = stored(&world, "t", "2013-01-01").await.unwrap();
    let run = ulid::Ulid::from_parts(old.as_millisecond() as u64, 7).to_string();
    set(&world, "t", "2013-01-01", "since", N(old.as_millisecond().to_string())).await;
    let newer = ended.run.unwrap();
    leave_remnants(&world, &run, &newer).await;
    // The first one's rows and inputs are left over once the first one is gone. The
    // second one still waits; its other object may come.
    assert_eq!(
        gc(&["--dry-run"]).await,
        serde_json::json!({ "claims": 1, "notices": 1, "partitions": 1 })
    );
    let (store, day) = (store(&world).await, "2013-01-01".parse().unwrap());
    let rows = store.read_journal("many", &day, None).await.unwrap().rows.len();
    let collected = gc(&[]).await;
    assert_eq!(
        collected,
        serde_json::json!({
            "claims": 1, "inputs": 1, "journal rows": rows, "manifests": 1, "notices": 1, "partitions": 1
        })
    );
    assert_eq!(gc(&[]).await, serde_json::json!({}));
    assert_eq!(stored(&world, "t", "2013-01-01").await, None);
    world.kill().await;
    world.start().await;
    world.put("many/2013-01-02/2", "1").await;
    world.mail("t/2013-01-02/succeeded").await;
    world.put(&format!("many/{}/2", today()), "1").await;
    world.mail(&format!("t/{}/succeeded", today())).await;
    // Its rows were not touched, and it is not begun again by one of them.
    world.put("many/2013-01-01/1", "2").await;
    world.mail("listing/").await;
    assert_eq!(stored(&world, "t", "2013-01-01").await, None);
}

/// DynamoDB's JSON.
fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    let text = || value.as_str().unwrap().to_owned();
    match kind.as_str() {
        "S" => S(text()),
        "N" => N(text()),
        "BOOL" => Bool(value.as_bool().unwrap()),
        "B" => B(Blob::new(base64(&text()))),
        "SS" => {
            Ss(value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().into()).collect())
        }
        other => panic!("{other}"),
    }
}

fn base64(text: &str) -> Vec<u8> {
    aws_smithy_types::base64::decode(text).unwrap()
}

/// Puts the items of an earlier version into the tables.
async fn put_items(world: &World, written: &str) {
    let all: Value = serde_json::from_str(include_str!("retention/items.json")).unwrap();
    for found in all[written].as_array().unwrap() {
        let attributes = found["item"].as_object().unwrap().iter();
        let item = attributes.map(|(name, value)| (name.clone(), attribute(value))).collect();
        put(world, found["table"].as_str().unwrap(), item).await;
    }
}

#[tokio::test]
async fn items_of_earlier_versions_are_read() {
    use TaskState::{Failed, Ready, Running, Skipped, Succeeded, Waiting};
    let mut world = World::new("").await;
    world.stop().await;
    let store = store(&world).await;
    let state = async |task, partition| stored(&world, task, partition).await.unwrap().state;

    put_items(&world, "the first daemon that ran").await;
    assert_eq!(state("join", "2024-05-01").await, Succeeded);
    assert_eq!(state("t", "2026-01-01").await, Failed);
    assert_eq!(state("two", "2026-01-01").await, Waiting);
    let pending = stored(&world, "t", "2025-01-15").await.unwrap();
    assert_eq!((pending.state, pending.notices.len()), (Succeeded, 3));
    assert_eq!(
        store.mark("t").await.unwrap().unwrap().reached,
        "2026-10-29T00:30:00Z".parse().unwrap()
    );
    for (id, state) in [
        ("01M7Y68CFWPFV21VKH6B6CYX97", RunState::Succeeded),
        ("01KDVE72Y81S7HDRXV5AB1JXPP", RunState::Failed),
    ] {
        assert_eq!(store.run(id).await.unwrap().unwrap().state, state);
    }

    put_items(&world, "before inputs were stored").await;
    assert_eq!(state("report", "2013-01-05T03").await, Ready);
    assert_eq!(state("report", "2013-01-04T06").await, Running);
    let loaded = stored(&world, "hourly-etl", "2013-01-01T10").await.unwrap();
    assert_eq!((loaded.state, loaded.load.unwrap().attempt), (Succeeded, 1));
    let run = store.run("017MHQSG6YGBZ8BEQH7BYB5K87").await.unwrap().unwrap();
    assert_eq!((run.state, run.attempts.len()), (RunState::Running, 1));
    let claim = "claim/017MHM62KDYGCJPNSVJV84KA49/1/1";
    assert_eq!(store.claim(claim, "j-2").await.unwrap(), "nobody");
    let hour = "2013-01-01T00".parse().unwrap();
    let journal = store.read_journal("parts", &hour, None).await.unwrap();
    assert_eq!(journal.rows.len(), 1);
    let term = SignedDuration::from_secs(90);
    store.take_poll_lease("me", Timestamp::now(), term).await.unwrap();

    put_items(&world, "before retention").await;
    assert_eq!(state("hourly-etl", "2013-01-01T09").await, Skipped);
    assert_eq!(state("hourly-etl", "2013-01-01T13").await, Waiting);
    assert!(store.seen("hourly-etl").await.unwrap().is_some());
    assert_eq!(store.folded("airlines-upload/failed/2").await.unwrap(), None);
    let planes = TaskKey::new("planes-summary", "2013-01-01".parse().unwrap());
    let inputs = store.read_inputs("017FTTJ9P6H0VM1EQ06NK0WHFT", &planes).await.unwrap();
    assert_eq!(inputs[0].element.to_string(), "planes@2013-01-01");
    let paused = store.pauses().await.unwrap();
    assert_eq!(paused[0].paused.as_ref().unwrap().by, "alice");
    assert_eq!(store.backfills().await.unwrap()[0].done(), 2);
    assert_eq!(store.cap(&Capped::Task("join".into())).await.unwrap().count(), 2);
    assert_eq!(store.task_files().await.unwrap().texts["etl.toml"], "[tasks.etl]\n");
}

/// The next write makes an old item one of today.
#[tokio::test]
async fn a_partition_of_an_earlier_version_goes_on_and_expires() {
    let inputs = ["a", "b", "c"];
    let files = inputs.map(daily_file).concat();
    let tasks = files
        + &daily_task("two", &["a", "b"], "true")
        + &daily_task("t", &["a"], "true")
        + &daily_task("join", &inputs, "true");
    let mut world = World::new("").await;
    world.stop().await;
    put_items(&world, "the first daemon that ran").await;
    world.configure(&tasks);
    world.start().await;
    // The three notices that were left to tell.
    for event in ["ready", "running", "succeeded"] {
        world.mail(&format!("t/2025-01-15/{event}")).await;
    }
    world.put("b/2026-01-01.csv", "1").await;
    world.mail("two/2026-01-01/succeeded").await;
    answer(&world, &["retry", "t", "2026-01-01", "--by", "alice"]).await;
    world.mail("t/2026-01-01/succeeded/2").await;
    for task in ["two", "t"] {
        assert!(stored(&world, task, "2026-01-01").await.unwrap().expires.is_some(), "{task}");
    }
    // What nobody writes again is left to gc.
    assert_eq!(stored(&world, "join", "2024-05-01").await.unwrap().expires, None);
}
