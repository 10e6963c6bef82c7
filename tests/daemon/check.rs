//! `check` and `schema` as people, editors and CI call them.

use std::path::Path;

use serde_json::{Value, json};

use super::commands::sluicegate;
use super::start::config;

const WRONG: &str = "deployment = \"test\"\n[aws]\nqueue = 1\nquarantine = \"quarantine\"\n";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_schema_in_the_repository_is_the_one_that_is_printed() {
    let (code, printed, error) = sluicegate(&["schema"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let kept = std::fs::read_to_string(repository().join("config/sluicegate.schema.json")).unwrap();
    assert!(printed == kept, "run: target/debug/sluicegate schema > config/sluicegate.schema.json");
    let schema: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(schema["title"], "sluicegate configuration");
    assert_eq!(schema["properties"]["engine"]["properties"]["poll-interval"]["default"], "30s");
}

#[test]
fn mistakes_are_said_in_lines_and_counted() {
    let (_folder, path) = config(WRONG);
    let (code, out, error) = sluicegate(&["check", "--config", &path]);
    assert_eq!((code, out.as_str()), (2, ""));
    let expected = format!(
        "error: {path}:2:1: [aws] needs topic-arn\n    \
         topic-arn: The SNS topic that every status change goes to: arn:aws:sns:REGION:ACCOUNT:NAME.\n\
         error: {path}:3:9: queue: expected a text, found the number 1\n    \
         write it in quotes: queue = \"1\"\n\
         2 mistakes\n"
    );
    assert_eq!(error, expected);
    // The service says the same and does not start.
    let (code, _, error) = sluicegate(&["run", "--config", &path]);
    assert_eq!((code, error), (2, expected));
}

#[test]
fn the_readme_shows_what_is_said() {
    let example = std::fs::read_to_string(repository().join("config/example.toml")).unwrap();
    let (before, last) = example.rsplit_once("profile = \"etl\"").unwrap();
    let wrong = format!("{before}profile = \"elt\"{last}")
        .replacen("settle = \"20m\"", "settle = 20", 1)
        .replacen("when-empty = ", "when-emtpy = ", 1);
    let (_folder, path) = config(&wrong);
    let (code, _, error) = sluicegate(&["check", "--config", &path]);
    assert_eq!(code, 2);
    let said = error.replace(&path, "prod.toml");
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    assert!(
        readme.contains(&format!("$ sluicegate check --config prod.toml\n{said}```")),
        "{said}"
    );
}

#[test]
fn mistakes_as_json_are_for_editors_and_ci() {
    let (_folder, path) = config(WRONG);
    let (code, out, error) = sluicegate(&["check", "--json", "--config", &path]);
    assert_eq!((code, error.as_str()), (2, ""));
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["file"], path);
    assert_eq!(answer["warnings"], json!([]));
    let mistake = &answer["mistakes"][1];
    assert_eq!(
        *mistake,
        json!({
            "file": path, "line": 3, "column": 9,
            "message": "queue: expected a text, found the number 1",
            "help": "write it in quotes: queue = \"1\"",
        })
    );
}

#[test]
fn warnings_are_said_and_refuse_nothing() {
    let text = std::fs::read_to_string(repository().join("config/three-files.toml")).unwrap();
    let (_folder, path) = config(&text.replace("log-uri", "# log-uri"));
    let (code, out, error) = sluicegate(&["check", "--config", &path]);
    assert_eq!(code, 0);
    assert_eq!(out, format!("{path}: no mistakes, 1 warning, 1 task, 3 datasets, 1 profile\n"));
    assert!(error.starts_with(&format!("warning: {path}:")), "{error}");
    assert!(error.ends_with("\n1 warning\n"), "{error}");
    let (code, out, error) = sluicegate(&["check", "--json", "--config", &path]);
    assert_eq!((code, error.as_str()), (0, ""));
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["mistakes"], json!([]));
    assert_eq!(answer["warnings"][0]["message"], "\"small\" has no log-uri");
}

#[test]
fn a_file_that_cannot_be_read_is_said_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let long = vec![b'#'; 1024 * 1024 + 1];
    for (path, said) in [
        ("/nowhere.toml".to_owned(), "No such file"),
        (folder.path().display().to_string(), "Is a directory"),
        (
            write("latin1.toml", b"deployment = \"x\"\n# caf\xe9\n"),
            "line 2 is not UTF-8 (byte 23 of the file)",
        ),
        (write("long.toml", &long), "it is longer than 1 MiB"),
        // It never ends.
        ("/dev/zero".to_owned(), "it is longer than 1 MiB"),
    ] {
        let (code, out, error) = sluicegate(&["check", "--config", &path]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(error.contains(&format!("cannot read {path}: {said}")), "{error}");
        let (code, out, _) = sluicegate(&["check", "--json", "--config", &path]);
        assert_eq!(code, 2);
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(answer["mistakes"][0]["line"], Value::Null);
        assert!(answer["mistakes"][0]["message"].as_str().unwrap().contains(said), "{out}");
    }
}
