//! The log of the real binary in JSON: what concerns a partition or a run says
//! so on every line.

use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::world::{World, daily_file, daily_task};

#[tokio::test]
async fn every_line_of_a_run_names_it() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let mut world = World::new(&tasks).await;
    // The binary takes over.
    world.stop().await;
    let config = world.config_file();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["run", "--log-format", "json", "--http", "off", "--local", world.local.endpoint()])
        .arg("--config")
        .arg(config.path())
        .env("RUST_LOG", "sluicegate=debug")
        .stderr(Stdio::from(std::fs::File::create(&path).unwrap()))
        .spawn()
        .unwrap();
    world.put("a/2013-01-01.csv", "1").await;
    world.put("odd/line%0Abreak%C2%9B1m.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;
    world.mail("run-succeeded").await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let log = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let run = lines.iter().find_map(|line| line["run"].as_str()).unwrap();
    let changes: Vec<_> = lines.iter().filter(|line| line["message"] == "task partition").collect();
    assert_eq!(changes.len(), 3, "ready, running, succeeded: {log}");
    for line in &changes {
        assert_eq!((&line["task"], &line["partition"]), (&"t".into(), &"2013-01-01".into()));
        assert!(line["state"] == "ready" || line["run"] == run, "{line}");
    }
    let of_run = lines.iter().filter(|line| line["message"] == "run");
    assert!(of_run.clone().count() >= 3, "running, terminating, succeeded: {log}");
    assert!(of_run.clone().all(|line| line["run"] == run), "{log}");
    let odd = lines.iter().find(|line| line["bucket"] == "landing");
    assert_eq!(odd.unwrap()["key"], "odd/line\nbreak\u{9b}1m.csv", "outside text is escaped");
    assert!(!log.contains('\u{9b}'), "a terminal obeys it");
}

#[tokio::test]
async fn a_service_that_cannot_start_says_so_in_its_log() {
    let mut world = World::new(&daily_file("a")).await;
    world.stop().await;
    let config = world.config_file();
    let text = std::fs::read_to_string(config.path()).unwrap();
    let run = async |text: &str| {
        std::fs::write(config.path(), text).unwrap();
        let ended = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .args(["run", "--log-format", "json", "--http", "off"])
            .args(["--local", world.local.endpoint(), "--config"])
            .arg(config.path())
            .output()
            .await
            .unwrap();
        let log = String::from_utf8(ended.stderr).unwrap();
        let lines: Result<Vec<Value>, _> = log.lines().map(serde_json::from_str).collect();
        let lines = lines.unwrap_or_else(|_| panic!("not of JSON: {log}"));
        let line = lines.last().unwrap();
        assert_eq!(
            (&line["level"], &line["message"]),
            (&"ERROR".into(), &"the service ends".into())
        );
        (ended.status.code(), line["error"].as_str().unwrap().to_owned())
    };
    let (code, error) = run(&text.replace(":status\"", ":nowhere\"")).await;
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(":nowhere does not exist"), "{error}");
    let (code, error) = run(&format!("{text}\n[nothing]\n")).await;
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("nothing"), "{error}");
}

#[tokio::test]
async fn what_lets_nothing_run_is_said_at_the_start() {
    let mut world = World::new(&daily_file("a")).await;
    world.stop().await;
    world.reconfigure("[aws]\n", "[aws]\nassets = \"s3://landing/assets/\"\n");
    let start = async || {
        let config = world.config_file();
        let mut daemon = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .args(["run", "--http", "off", "--local", world.local.endpoint(), "--config"])
            .arg(config.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push_str(&line);
            if line.contains("the gate is watched") {
                return said;
            }
        }
        panic!("it has ended: {said}");
    };
    let said = start().await;
    assert!(said.contains("no cluster can start without this script"), "{said}");
    assert!(said.contains("s3://landing/assets/deadline.sh"), "{said}");
    assert!(said.contains("no task is in force"), "{said}");
    world.put("assets/deadline.sh.bak", "exit").await;
    assert!(start().await.contains("no cluster can start without this script"));
    world.put("assets/deadline.sh", "exit").await;
    let said = start().await;
    assert!(!said.contains("no cluster can start"), "{said}");
}
