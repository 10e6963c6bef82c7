//! All benches with small sizes, so that they do not rot. Not for any timing.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Needs the daemon beside it, as `cargo test --workspace` and `make test` build it.
#[test]
fn every_bench_measures_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let (text, json) = (folder.path().join("report.txt"), folder.path().join("report.json"));
    let output = Command::new(env!("CARGO_BIN_EXE_sluicegate-bench"))
        .args(["all", "--quick", "--text"])
        .arg(&text)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["setting"]["quick"], true);
    let sections = report["sections"].as_array().unwrap();
    let names: BTreeSet<_> =
        sections.iter().map(|section| section["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        BTreeSet::from([
            "end", "growth", "idle", "reaction", "restart", "runs", "start", "w1", "w2"
        ])
    );
    let figure = |name: &str, what: &str| {
        let section = sections.iter().find(|section| section["name"] == name).unwrap();
        let rows = section["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["what"] == what);
        row.unwrap_or_else(|| panic!("no {what} in {rows:#?}"))["value"].as_f64().unwrap()
    };
    // Counts do not depend on the machine, but for what shares a receive.
    let calls = figure("w1", "arrivals: DynamoDB calls");
    assert!((900.0..=1000.0).contains(&calls), "{calls}");
    assert_eq!(figure("w1", "with readiness: DynamoDB calls of the seeds' design").round(), 3000.0);
    assert_eq!(figure("w1", "with readiness: write units of the seeds' design").round(), 2667.0);
    assert!(figure("w2", "hours: DynamoDB calls") < 200.0);
    assert_eq!(figure("runs", "3 at once: succeeded"), 3.0);
    // One write, and now and then a sweep.
    let calls = figure("growth", "100 waiting: DynamoDB calls an event");
    assert!((1.0..1.1).contains(&calls), "{calls}");

    let text = std::fs::read_to_string(text).unwrap();
    assert_eq!(text, String::from_utf8_lossy(&output.stdout));
    assert!(text.contains("the figures mean nothing"), "{text}");
}
