//! The README's walk by hand, as it stands there, with the real AWS command
//! line: three files in, a run and its mails out.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use sluicegate_local::python::Environment;

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_by_hand_works_as_written() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let environment =
        tokio::task::spawn_blocking(|| Environment::ensure(&repository.join(".venv")));
    environment.await.unwrap().unwrap();
    let readme = std::fs::read_to_string(repository.join("README.md")).unwrap();
    let (_, section) = readme.split_once("### Try it by hand").unwrap();
    let (_, block) = section.split_once("```bash\n").unwrap();
    let (script, _) = block.split_once("```").unwrap();
    // Another port and folder, so that it gets in nobody's way.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").display().to_string();
    // All binaries of the workspace are built beside each other.
    let binaries = Path::new(env!("CARGO_BIN_EXE_sluicegate")).parent().unwrap();
    assert!(script.contains("$PWD/target/debug"));
    let script = script
        .replace("4510", &port.to_string())
        .replace("mkdir -p out\n", &format!("mkdir -p {out}\n"))
        .replace("out/", &format!("{out}/"))
        .replace("$PWD/target/debug", &binaries.display().to_string());
    let output = tokio::task::spawn_blocking(move || {
        Command::new("timeout")
            .args(["120", "bash", "-ec", &script])
            .current_dir(repository)
            // The default port may be taken here.
            .env("SLUICEGATE_HTTP", "off")
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let log = std::fs::read_to_string(folder.path().join("out/sluicegate.log")).unwrap_or_default();
    assert!(output.status.success(), "{output:?}\n{log}");
    assert!(text.contains("created: hand-task, hand-file-unit, hand-run"), "{text}");
    assert!(text.contains("run-of-invoices-2024-05-01-succeeded.eml"), "{text}");
    assert!(text.contains("/1\tTERMINATED"), "{text}");
    assert!(text.contains("invoices 2024-05-02 waits for stock 2024-05-02.\n"), "{text}");
    assert!(text.contains("invoices  1     0      0    0     1     0 "), "{text}");
    let mails = std::fs::read_dir(folder.path().join("out/hand/mail")).unwrap().count();
    assert_eq!(
        mails, 8,
        "ready, running, succeeded; created, starting, running, terminating, succeeded"
    );
}
