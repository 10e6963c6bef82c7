//! What the command says when something is wrong before it can start.

use std::process::Command;

use sluicegate_local::{LocalAws, Options};

const CONFIG: &str = r#"
deployment = "test"
[aws]
queue = "inbox"
quarantine = "quarantine"
topic-arn = "arn:aws:sns:us-east-1:000000000000:status"
"#;

/// Exit code, standard output and error.
pub fn sluicegate(args: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sluicegate")).args(args).env("RUST_LOG", "off").output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

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
    assert!(error.contains("DynamoDB DescribeTable"), "{error}");
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
    assert!(error.contains("the queue does not exist"), "{error}");
}
