//! Output that goes into the warehouse: real statements on a real PostgreSQL
//! behind the Data API, exactly once whatever gets lost. What Redshift does
//! differently is said in local/README.md.

use std::path::Path;
use std::time::Duration;

use aws_sdk_redshiftdata::types::{Field, StatusString};
use sluicegate::aws;
use sluicegate::aws::store::Store;
use sluicegate::core::load::Load;
use sluicegate::core::task::{TaskChange, TaskKey, TaskState};
use sluicegate_local::Options;
use sluicegate_local::python::Environment;
use sluicegate_local::redshift::postgres::Programs;

use crate::commands::{self, answer};
use crate::network::{Fault, Network};
use crate::world::{World, daily_file, daily_task};

/// Three flights: carrier (text) and delay (double, one is null). Written by
/// duckdb.
const FLIGHTS: &[u8] = include_bytes!("data/three-flights.parquet");

const WAREHOUSE: &str = r#"
[warehouses.mart]
workgroup = "mart"
database = "dev"
role = "arn:aws:iam::000000000000:role/copy"
manifests = "s3://landing/manifests/"
retry-delay = "1s"

[datasets.out]
location = "s3://landing/out/{yyyy}-{MM}-{dd}/"
"#;

/// A world with PostgreSQL of the repository's Python environment, or this
/// machine's.
async fn world(tasks: &str) -> World {
    let find = || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
        let environment = Environment::ensure(&folder).unwrap();
        Programs::find(Some(&environment))
    };
    let postgres = tokio::task::spawn_blocking(find).await.unwrap();
    assert!(postgres.is_some(), "PostgreSQL in .venv or on this machine");
    World::with(tasks, Options { postgres, ..Options::default() }).await
}

/// A daily task on file `a` whose output is loaded.
fn loading(mode: &str, delay: &str) -> String {
    let task = daily_task("t", &["a"], "true");
    let task = task.replace("partition = ", "outputs = [\"out\"]\npartition = ");
    let load = format!(
        "[tasks.t.load]\nwarehouse = \"mart\"\ntable = \"flights\"\n{mode}\n\
         columns = [{{ name = \"carrier\", type = \"varchar(2)\" }}, {{ name = \"delay\", type = \"{delay}\" }}]\n"
    );
    [&daily_file("a"), &task, &load, WAREHOUSE].concat()
}

/// What a person would see who asks the warehouse; rows as text.
async fn ask(world: &World, sql: &str) -> Result<Vec<String>, String> {
    let client = aws_sdk_redshiftdata::Client::new(&aws::connect(&world.access()).await);
    let request = client.execute_statement().workgroup_name("mart").database("dev").sql(sql);
    let id = request.send().await.unwrap().id.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let seen = client.describe_statement().id(&id).send().await.unwrap();
        match seen.status {
            Some(StatusString::Finished) => break,
            Some(StatusString::Failed) => return Err(seen.error.unwrap_or_default()),
            _ => {}
        }
    }
    let result = client.get_statement_result().id(&id).send().await.unwrap();
    let text = |field: &Field| match field {
        Field::StringValue(text) => text.clone(),
        Field::LongValue(number) => number.to_string(),
        Field::DoubleValue(number) => number.to_string(),
        Field::IsNull(_) => "null".to_owned(),
        other => format!("{other:?}"),
    };
    let row = |row: &Vec<Field>| row.iter().map(text).collect::<Vec<_>>().join(" ");
    Ok(result.records.iter().map(row).collect())
}

async fn put_day(world: &World, day: &str) {
    world.put(&format!("out/{day}/part-0.snappy.parquet"), FLIGHTS).await;
    world.put(&format!("out/{day}/_SUCCESS"), "").await;
    world.put(&format!("a/{day}.csv"), "1").await;
}

#[tokio::test]
async fn what_the_steps_have_made_is_loaded_when_the_cluster_is_gone() {
    let world = world(&loading("", "double precision")).await;
    put_day(&world, "2013-01-01").await;
    let mail = world.mail("t/2013-01-01/loading").await;
    assert!(mail.text.contains("no cluster waits for that"), "{}", mail.text);
    let mail = world.mail("t/2013-01-01/succeeded").await;
    for said in
        ["table:         public.flights in mart", "rows:          3", "files:         1, 333 bytes"]
    {
        assert!(mail.text.contains(said), "{}", mail.text);
    }
    let rows = ask(&world, "SELECT carrier, delay FROM flights ORDER BY carrier").await.unwrap();
    assert_eq!(rows, ["AA 12.5", "DL -3", "UA null"]);
    let ledger = "SELECT deployment, task, part, target, files FROM sluicegate_loads";
    assert_eq!(ask(&world, ledger).await.unwrap(), ["test t 2013-01-01 public.flights 1"]);
    assert_eq!(world.clusters_ended().await, 1);
}

#[tokio::test]
async fn what_the_run_has_made_is_loaded_whatever_is_declared_meanwhile() {
    for (moved, end) in [
        ("location = \"s3://landing/moved/{yyyy}-{MM}-{dd}/\"", "succeeded"),
        // It is the output of nobody's run.
        (
            "location = \"s3://landing/out/{yyyy}-{MM}-{dd}/\"\n[datasets.other]\n\
             location = \"s3://landing/moved/{yyyy}-{MM}-{dd}/\"",
            "failed",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let go = folder.path().join("go").display().to_string();
        let script = format!("until test -e {go}; do sleep 0.05; done");
        let tasks = loading("mode = \"replace-table\"", "double precision");
        let mut world = world(&tasks.replace("'''true'''", &format!("'''{script}'''"))).await;
        put_day(&world, "2013-01-01").await;
        world.mail("t/2013-01-01/running").await;
        world.stop().await;
        world.reconfigure("location = \"s3://landing/out/{yyyy}-{MM}-{dd}/\"", moved);
        if end == "failed" {
            world.reconfigure("outputs = [\"out\"]", "outputs = [\"out\", \"other\"]");
            world.reconfigure("table = \"flights\"", "table = \"flights\"\ndataset = \"other\"");
        }
        world.start().await;
        std::fs::write(&go, "").unwrap();
        let mail = world.mail(&format!("t/2013-01-01/{end}")).await;
        match end {
            "succeeded" => {
                let rows = ask(&world, "SELECT carrier FROM flights").await.unwrap();
                assert_eq!(rows.len(), 3);
            }
            _ => assert!(mail.text.contains("its run has made no other"), "{}", mail.text),
        }
    }
}

#[tokio::test]
async fn a_load_that_cannot_work_fails_with_the_warehouses_words_and_leaves_nothing() {
    let world = world(&loading("", "date")).await;
    put_day(&world, "2013-01-01").await;
    let mail = world.mail("t/2013-01-01/failed").await;
    assert!(
        mail.subject.starts_with("[test] t 2013-01-01 FAILED: the load failed: "),
        "{}",
        mail.subject
    );
    assert!(mail.text.contains("nothing of it is in the table"), "{}", mail.text);
    let missing = ask(&world, "SELECT * FROM flights").await.unwrap_err();
    assert!(missing.contains("flights"), "{missing}");
}

/// The declared type is corrected; the steps have run once and for all.
#[tokio::test]
async fn a_load_that_failed_is_made_again_alone() {
    let mut world = world(&loading("", "date")).await;
    put_day(&world, "2013-01-01").await;
    let mail = world.mail("t/2013-01-01/failed").await;
    assert!(mail.text.contains("sluicegate retry --load"), "{}", mail.text);
    world.stop().await;
    world.reconfigure("type = \"date\"", "type = \"double precision\"");
    world.start().await;
    let again = ["retry", "t", "2013-01-01", "--load", "--by", "alice"];
    let said = answer(&world, &again).await;
    assert_eq!(said, "t 2013-01-01 is loading now; it was failed\n");
    let mail = world.mail("t/2013-01-01/loading/2").await;
    assert!(mail.text.contains("no step runs"), "{}", mail.text);
    let mail = world.mail("t/2013-01-01/succeeded/2").await;
    assert!(mail.text.contains("attempt:       1 of 3"), "{}", mail.text);
    assert_eq!(ask(&world, "SELECT COUNT(*) FROM flights").await.unwrap(), ["3"]);
    assert_eq!(world.clusters_ended().await, 1);
    let (code, _, said) = commands::ask(&world, &again).await;
    assert_eq!(code, 1);
    assert!(said.contains("its output is in the table"), "{said}");
}

#[tokio::test]
async fn replacing_takes_away_what_the_partition_or_the_table_held() {
    for (mode, expected) in [
        ("mode = \"replace-partition\"\npartition-column = \"day_of\"", "6 2"),
        ("mode = \"replace-table\"\npartition-column = \"day_of\"", "3 1"),
        ("mode = \"upsert\"\nunique-key = [\"carrier\"]\npartition-column = \"day_of\"", "3 1"),
    ] {
        let world = world(&loading(mode, "double precision")).await;
        for day in ["2013-01-01", "2013-01-02"] {
            put_day(&world, day).await;
            world.mail(&format!("t/{day}/succeeded")).await;
        }
        let sql = "SELECT COUNT(*), COUNT(DISTINCT day_of) FROM flights";
        assert_eq!(ask(&world, sql).await.unwrap(), [expected], "{mode}");
    }
}

#[tokio::test]
async fn an_upsert_leaves_other_rows_and_refuses_files_with_wrong_keys() {
    let mode = "mode = \"upsert\"\nunique-key = [\"carrier\"]\npartition-column = \"day_of\"";
    let world = world(&loading(mode, "double precision")).await;
    put_day(&world, "2013-01-01").await;
    world.mail("t/2013-01-01/succeeded").await;
    let other = "UPDATE flights SET carrier = 'XX' WHERE carrier = 'AA' RETURNING carrier";
    assert_eq!(ask(&world, other).await.unwrap(), ["XX"]);
    // The same three flights twice.
    world.put("out/2013-01-02/part-1.snappy.parquet", FLIGHTS).await;
    put_day(&world, "2013-01-02").await;
    let mail = world.mail("t/2013-01-02/failed").await;
    assert!(mail.text.contains("several rows have the same values"), "{}", mail.text);
    assert!(!mail.text.contains("division"), "{}", mail.text);
    put_day(&world, "2013-01-03").await;
    world.mail("t/2013-01-03/succeeded").await;
    let sql = "SELECT carrier, EXTRACT(DAY FROM day_of)::integer FROM flights ORDER BY carrier";
    assert_eq!(ask(&world, sql).await.unwrap(), ["AA 3", "DL 3", "UA 3", "XX 1"]);
}

/// Answers get lost at every call, and the daemon is killed between.
#[tokio::test]
async fn fifty_loads_on_a_bad_network_are_each_in_the_table_once() {
    const DAYS: i64 = 50;
    let profile = "[profiles.b]\nbatch-size = 10\nmax-wait = \"1s\"\nrelease-label = \"emr-7.13.0\"\n\
        guard = false\nservice-role = \"service\"\ninstance-profile = \"ec2\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
    let tasks = loading("", "double precision").replace("profile = \"p\"", "profile = \"b\"");
    let mut world = world(&format!("{profile}{tasks}")).await;
    let network = Network::to(world.local.cloud()).await;
    world.through(&network).await;
    let first: jiff::civil::Date = "2013-01-01".parse().unwrap();
    let days: Vec<_> =
        (0..DAYS).map(|day| (first + jiff::Span::new().days(day)).to_string()).collect();
    for (number, day) in days.iter().enumerate() {
        put_day(&world, day).await;
        if number % 10 != 9 {
            continue;
        }
        for (action, fault) in [
            ("BatchExecuteStatement", Fault::AnswerLost),
            ("DescribeStatement", Fault::Unavailable),
            ("GetStatementResult", Fault::RequestLost),
            ("PutObject", Fault::AnswerLost),
        ] {
            network.order(action, fault, 3);
        }
        world.mail(&format!("t/{}/loading", days[number - 5])).await;
        world.kill().await;
        network.lift();
        world.start().await;
    }
    for day in &days {
        world.mail(&format!("t/{day}/succeeded")).await;
    }
    assert!(network.met("BatchExecuteStatement") > 0);
    let count = ask(&world, "SELECT COUNT(*) FROM flights").await.unwrap();
    assert_eq!(count, [(3 * DAYS).to_string()]);
    let ledger = "SELECT COUNT(*), COUNT(DISTINCT part) FROM sluicegate_loads";
    assert_eq!(ask(&world, ledger).await.unwrap(), [format!("{DAYS} {DAYS}")]);
}

/// Its task is gone, or declares no load any more; both are the same to it.
#[tokio::test]
async fn a_load_that_nobody_declares_any_more_is_told_of() {
    let mut world = World::at(&daily_file("a"), "2013-01-02T00:00:00Z", 600.0).await;
    world.stop().await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let now = world.local.cloud().time().dev();
    let key = TaskKey::new("gone", "2013-01-01".parse().unwrap());
    let mut version = store.receive(&key, &[], Some(now), false, now).await.unwrap().version;
    let path = [TaskState::Waiting, TaskState::Ready, TaskState::Running, TaskState::Loading];
    for states in path.windows(2) {
        let mut change = TaskChange::new(&key, states[0], states[1], now, vec![]);
        if states[1] != TaskState::Ready {
            change = change.in_run("R1");
        }
        if states[1] == TaskState::Loading {
            change = change.loading(Load::new("R1", now));
        }
        version = store.change_task(&change, version).await.unwrap().version;
    }
    world.start().await;
    let mail = world.mail("gone/2013-01-01/load-stuck").await;
    assert!(mail.text.contains("declare the load of gone again"), "{}", mail.text);
    let item = store.task(&key).await.unwrap().unwrap();
    assert_eq!(item.state, TaskState::Loading);
}
