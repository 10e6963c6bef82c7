//! A short chaos run: two real daemon processes, killed and stopped behind a
//! faulty line. `make chaos` is the long one; single faults have tests of their
//! own.

use std::path::Path;
use std::time::Duration;

use sluicegate_local::chaos::{self, Options};
use sluicegate_local::python::Environment;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_that_are_killed_as_processes_keep_every_promise() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let environment =
        tokio::task::spawn_blocking(|| Environment::ensure(&repository.join(".venv")));
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        daemon: env!("CARGO_BIN_EXE_sluicegate").into(),
        out: folder.path().to_owned(),
        environment: environment.await.unwrap().unwrap(),
        faulty: Duration::from_secs(12),
        partitions: 60,
        seed: fastrand::u64(..1_000_000),
    };
    let summary = chaos::run(&options, CancellationToken::new()).await.unwrap();
    if !summary.ok {
        // What tells more must outlive the test.
        let kept = folder.keep();
        panic!("see {}: {:#?}", kept.display(), summary.violations);
    }
    assert_eq!(summary.partitions.as_expected, 60);
    assert!(summary.processes.kills >= 3, "{:?}", summary.processes);
    assert!(summary.calls.faulty > 0 && summary.clusters.created > 0);
}
