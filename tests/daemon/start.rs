//! What the command says when something is wrong before it can start.

use std::net::TcpListener;
use std::process::Command;

use aws_sdk_dynamodb::types::{DeleteGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate};
use sluicegate::aws::store::Store;
use sluicegate::aws::{self, Access};
use sluicegate_local::{LocalAws, Options};

use crate::commands::sluicegate;

pub const CONFIG: &str = r#"
deployment = "test"
[aws]
queue = "inbox"
quarantine = "quarantine"
topic-arn = "arn:aws:sns:us-east-1:000000000000:status"
"#;

pub fn config(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn the_examples_have_no_mistakes() {
    for file in ["config/example.toml", "config/local.toml", "config/three-files.toml"] {
        let (code, out, error) = sluicegate(&["check", "--config", file]);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(out.contains("no mistakes"), "{out}");
    }
}

#[test]
fn a_mistake_is_said_with_its_place() {
    let (_folder, path) = config(&CONFIG.replace("queue = \"inbox\"", "qeue = \"inbox\""));
    let (code, _, error) = sluicegate(&["check", "--config", &path]);
    assert_eq!(code, 2);
    assert!(error.contains("c.toml:4:1: unknown field \"qeue\""), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let (code, _, error) = sluicegate(&["check", "--config", "/nowhere.toml"]);
    assert_eq!(code, 2);
    assert!(error.contains("cannot read /nowhere.toml: No such file"), "{error}");
}

#[test]
fn an_unreachable_endpoint_is_named() {
    let (_folder, path) = config(CONFIG);
    let (code, _, error) = sluicegate(&["run", "--config", &path, "--local", "http://127.0.0.1:1"]);
    assert_eq!(code, 1);
    assert!(error.contains("http://127.0.0.1:1"), "{error}");
    let (code, _, error) =
        sluicegate(&["tables", "create", "--config", &path, "--local", "http://127.0.0.1:1"]);
    assert_eq!(code, 1);
    assert!(error.contains("http://127.0.0.1:1") && error.contains("start it with"), "{error}");
}

#[tokio::test]
async fn what_is_missing_is_named_with_the_way_to_get_it() {
    let local = LocalAws::start(Options::default()).await.unwrap();
    let endpoint = local.endpoint().to_owned();
    let (_folder, path) = config(CONFIG);
    let run = move |args: &'static [&'static str]| {
        let (path, endpoint) = (path.clone(), endpoint.clone());
        tokio::task::spawn_blocking(move || {
            let mut all = args.to_vec();
            all.extend(["--config", &path, "--local", &endpoint]);
            sluicegate(&all)
        })
    };
    let (code, _, error) = run(&["run"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(error.contains("missing tables: test-task, test-file-unit, test-run"), "{error}");
    assert!(error.contains("sluicegate tables create"), "{error}");
    let (code, out, _) = run(&["tables", "create"]).await.unwrap();
    assert_eq!((code, out.as_str()), (0, "created: test-task, test-file-unit, test-run\n"));
    let (code, out, _) = run(&["tables", "create"]).await.unwrap();
    assert_eq!((code, out.as_str()), (0, "all tables exist already\n"));
    let (code, _, error) = run(&["run"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(error.contains("a queue ([aws] queue, quarantine) does not exist"), "{error}");
}

#[tokio::test]
async fn task_files_do_not_stand_in_the_way_of_the_tables() {
    let local = LocalAws::start(Options::default()).await.unwrap();
    let endpoint = local.endpoint().to_owned();
    let (_folder, path) = config(&format!("task-files = {{ path = \"tasks\" }}\n{CONFIG}"));
    let create = move || sluicegate(&["tables", "create", "--config", &path, "--local", &endpoint]);
    let (code, out, error) = tokio::task::spawn_blocking(create).await.unwrap();
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(out, "created: test-task, test-file-unit, test-run\n");
}

#[tokio::test]
async fn a_run_table_of_an_older_version_gets_its_index() {
    let local = LocalAws::start(Options::default()).await.unwrap();
    let local_endpoint = Some(local.endpoint().to_owned());
    let access = Access { local: local_endpoint, ..Access::default() };
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws::connect(&access).await);
    Store::new(&aws::connect(&access).await, "test-").create_tables().await.unwrap();
    let delete = DeleteGlobalSecondaryIndexAction::builder().index_name("recent").build().unwrap();
    dynamodb
        .update_table()
        .table_name("test-run")
        .global_secondary_index_updates(
            GlobalSecondaryIndexUpdate::builder().delete(delete).build(),
        )
        .send()
        .await
        .unwrap();
    let (_folder, path) = config(CONFIG);
    let endpoint = local.endpoint().to_owned();
    let run = move |args: &'static [&'static str]| {
        let (path, endpoint) = (path.clone(), endpoint.clone());
        tokio::task::spawn_blocking(move || {
            let mut all = args.to_vec();
            all.extend(["--config", &path, "--local", &endpoint]);
            sluicegate(&all)
        })
    };
    for command in [&["run", "--http", "off"][..], &["runs"]] {
        let (code, _, error) = run(command).await.unwrap();
        assert_eq!(code, 1);
        assert!(error.contains("sluicegate tables create"), "{error}");
    }
    let (code, out, _) = run(&["tables", "create"]).await.unwrap();
    assert_eq!((code, out.as_str()), (0, "created: index recent of test-run\n"));
    let (code, out, _) = run(&["runs"]).await.unwrap();
    assert_eq!((code, out.as_str()), (0, "no runs\n"));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_folder, path) = config(CONFIG);
    let args = ["run", "--config", &path, "--http", &address].map(str::to_owned);
    let run = tokio::task::spawn_blocking(move || sluicegate(&args.each_ref().map(String::as_str)));
    let (code, _, error) = run.await.unwrap();
    assert_eq!(code, 1);
    assert!(error.contains(&format!("cannot listen at {address}")), "{error}");
    assert!(error.contains("[http] listen"), "{error}");
}

/// Calls that carry a company's data go to AWS, unless somebody says so twice.
#[test]
fn an_endpoint_of_the_environment_is_refused_without_a_switch() {
    let (folder, path) = config(CONFIG);
    let profile = folder.path().join("aws");
    std::fs::write(&profile, "[default]\nendpoint_url = http://127.0.0.1:1\n").unwrap();
    let said = |name: &str, value: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .args(["run", "--http", "off", "--config", &path])
            .args(more)
            .env_clear()
            .envs([("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")])
            .envs([("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")])
            .env(name, value)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(if more.is_empty() { 2 } else { 1 }), "{error}");
        error
    };
    let elsewhere = "http://127.0.0.1:1";
    for (name, value, service) in [
        ("AWS_ENDPOINT_URL", elsewhere, "every service"),
        ("AWS_ENDPOINT_URL_EMR", elsewhere, "EMR"),
        ("AWS_ENDPOINT_URL_REDSHIFT_DATA", elsewhere, "Redshift Data"),
        ("AWS_CONFIG_FILE", profile.to_str().unwrap(), "every service"),
    ] {
        let error = said(name, value, &[]);
        let refused = format!("{service} would be asked at {elsewhere}, not where AWS");
        assert!(error.contains(&refused) && error.contains("--allow-endpoints"), "{error}");
    }
    let error = said("AWS_ENDPOINT_URL", elsewhere, &["--allow-endpoints"]);
    assert!(error.contains("cannot use the tables"), "{error}");
}
