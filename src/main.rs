//! The `sluicegate` binary: everything is in the library.

use std::process::ExitCode;

#[cfg(feature = "planted-bugs")]
compile_error!("planted bugs are for the simulator: no daemon is built with them");

// It waits for answers nearly all the time; more threads would only hold memory.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    sluicegate::cli::main().await
}
