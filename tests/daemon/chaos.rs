//! Two daemons on the same tables, killed again and again, behind a network
//! that loses requests and answers: every partition is executed once, what
//! fails is retried, and no cluster is left. Not for single faults, which have
//! tests of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use sluicegate::aws;
use sluicegate::aws::store::Store;
use sluicegate::core::task::{TaskKey, TaskState};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::world::{World, daily_file, daily_task};

const DAYS: u32 = 4;
/// The step of this day's last task fails at first.
const BAD_DAY: &str = "2013-01-02";

const PROFILE: &str = "
[profiles.b]
batch-size = 3
max-wait = \"1s\"
release-label = \"emr-7.13.0\"
guard = false
service-role = \"service\"
instance-profile = \"ec2\"
primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }
";

/// Passes connections on, and ends most of them at a bad moment.
async fn bad_network(upstream: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let upstream = upstream.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let upstream = upstream.clone();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(&upstream).await else { return };
                let life = match fastrand::u32(..10) {
                    0..=3 => fastrand::u64(..60),
                    4..=6 => fastrand::u64(..600),
                    _ => 5_000,
                };
                let passed = copy_bidirectional(&mut client, &mut server);
                let _ = tokio::time::timeout(Duration::from_millis(life), passed).await;
            });
        }
    });
    format!("http://{address}")
}

fn many(name: &str, rule: &str) -> String {
    format!(
        "[datasets.{name}]\nlocation = \"s3://landing/{name}/{{yyyy}}/{{MM}}/{{dd}}/*\"\n{rule}\n"
    )
}

/// Three tasks with every kind of input, the second on the outputs of the first.
fn tasks(log: &str) -> String {
    let script = format!("echo {{task}} {{partition}} >> {log}");
    let maker = daily_task("maker", &["file"], &script);
    let reader = daily_task("reader", &["made", "count"], &script);
    let fails_once = format!(
        "{script}; test {{partition}} != {BAD_DAY} -o -e {log}.bad || {{{{ touch {log}.bad; exit 3; }}}}"
    );
    let marked = daily_task("marked", &["marker", "closed"], &fails_once);
    [
        PROFILE,
        &daily_file("file"),
        &daily_file("made"),
        &many("count", "complete = \"count\"\nobjects = 5"),
        &many("marker", "complete = \"marker\""),
        &many("closed", "complete = \"closed\"\nsettle = \"10m\""),
        &maker.replace("partition = ", "outputs = [\"made\"]\npartition = "),
        &reader.replace("\"p\"", "\"b\""),
        &marked
            .replace("\"p\"", "\"b\"")
            .replace("kind =", "retry = { attempts = 1, delay = \"1s\" }\nkind ="),
    ]
    .concat()
}

async fn put_day(world: &World, day: u32) {
    world.put(&format!("file/2013-01-{day:02}.csv"), "1").await;
    for part in 0..5 {
        world.put(&format!("count/2013/01/{day:02}/{part}"), "1").await;
        world.put(&format!("closed/2013/01/{day:02}/{part}"), "1").await;
    }
    world.put(&format!("marker/2013/01/{day:02}/_SUCCESS"), "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_that_are_killed_on_a_bad_network_lose_nothing_and_do_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut world = World::new(&tasks(&log.display().to_string())).await;
    world.bring_events().await;
    world.kill().await;
    // The clock of this test runs as ours.
    world.reconfigure("\"30m\"", "\"5s\"");
    let network = bad_network(world.local.endpoint()).await;
    let mut daemons = [world.beside(&network), world.beside(&network)];
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    let ended = || async {
        for task in ["maker", "reader", "marked"] {
            for day in 1..=DAYS {
                let key = TaskKey::new(task, format!("2013-01-{day:02}").parse().unwrap());
                let item = store.task(&key).await.unwrap();
                item.filter(|item| item.state == TaskState::Succeeded)?;
            }
        }
        Some(())
    };
    for day in 1..=DAYS {
        put_day(&world, day).await;
        for daemon in &mut daemons {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..2_000))).await;
            daemon.abort();
            let _ = (&mut *daemon).await;
            *daemon = world.beside(&network);
        }
    }
    // A start on such a network may fail; a supervisor starts it again.
    let supervised = async {
        loop {
            for daemon in &mut daemons {
                if daemon.is_finished() {
                    *daemon = world.beside(&network);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let clusters = tokio::select! {
        never = supervised => never,
        clusters = async {
            world.until_async("the end of all partitions", ended).await;
            world.until_due(<[_]>::is_empty).await;
            world.clusters_ended().await
        } => clusters,
    };
    let mut executed: BTreeMap<String, u32> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        *executed.entry(line.to_owned()).or_default() += 1;
    }
    assert_eq!(executed.remove(&format!("marked {BAD_DAY}")), Some(2), "{executed:#?}");
    assert_eq!(executed.len() + 1, 3 * DAYS as usize, "{executed:#?}");
    assert!(executed.values().all(|times| *times == 1), "{executed:#?}");
    assert!(clusters <= 3 * DAYS as usize, "{clusters} clusters");
    daemons.iter().for_each(tokio::task::JoinHandle::abort);
}
