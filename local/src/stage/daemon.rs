//! The daemon as a child process: started, watched, measured, stopped. It ends
//! with its handle. Not for what it does: that shows in the local AWS.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::usage::{Memory, memory};

/// How to call it.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub config: PathBuf,
    pub endpoint: String,
    pub log: PathBuf,
}

/// It takes 25 s at most for what is under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
const STOP_SECS_MAX: f64 = 10.0;
/// Lines of its log that are shown when it fails.
const TAIL_LINES: usize = 20;

/// How it ended after SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stopped {
    /// None if a signal ended it.
    pub exit_code: Option<i32>,
    pub seconds: f64,
}

impl Stopped {
    /// By itself, with exit code 0, and soon.
    pub fn is_clean(&self) -> bool {
        self.exit_code == Some(0) && self.seconds <= STOP_SECS_MAX
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit_code {
            Some(code) => write!(f, "exit code {code} after {:.1} s", self.seconds),
            None => write!(f, "killed after {:.1} s", self.seconds),
        }
    }
}

pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Runs the command that creates the tables.
    pub async fn create_tables(&self) -> anyhow::Result<()> {
        let output = self.command(&["tables", "create"]).output().await;
        let output = output.with_context(|| {
            format!("cannot run {}: is it built, with cargo build?", self.path.display())
        })?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("the tables were not created ({}): {}", output.status, errors.trim());
        }
        Ok(())
    }

    pub fn start(&self) -> anyhow::Result<Daemon> {
        let log = File::create(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let child = self
            .command(&["run"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        Ok(Daemon { child, log: self.log.clone() })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(words).arg("--config").arg(&self.config).args(["--local", &self.endpoint]);
        // The log is a file, where colours are noise.
        // Several demos may run at once; the log tells the port.
        command.env("SLUICEGATE_HTTP", "127.0.0.1:0");
        command.env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

impl Daemon {
    /// Returns only if it ends by itself, with what to say then.
    pub async fn died(&mut self) -> anyhow::Error {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        anyhow::anyhow!("the daemon ended ({status}); its log ends with\n{}", tail(&self.log))
    }

    /// None where it cannot be known.
    pub fn memory(&self) -> Option<Memory> {
        memory(self.child.id()?)
    }

    /// Kills it, as the kernel does when memory runs out.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill the daemon")
    }

    /// Takes all CPU time from it until [`Self::resume`].
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        // One that has ended has no process any more, and hears of nothing.
        pid.map_or(Ok(()), |pid| kill_process(pid, signal).context("cannot signal the daemon"))
    }

    /// Asks it to stop, and says how it did; kills it when it does not.
    pub async fn stop(mut self) -> anyhow::Result<Stopped> {
        let asked = Instant::now();
        self.signal(Signal::TERM)?;
        let exit_code = match timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) => status.map(|status: ExitStatus| status.code())?,
            Err(_) => {
                self.child.kill().await?;
                None
            }
        };
        Ok(Stopped { exit_code, seconds: asked.elapsed().as_secs_f64() })
    }
}

/// The end of a text file; empty if it cannot be read.
pub fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, script: &str) -> Program {
        use std::os::unix::fs::PermissionsExt;
        let (text, path) = (folder.join("text"), folder.join("daemon"));
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
        // A program that some process can write to cannot be started, and the
        // children of other tests inherit what is open here.
        let copied = std::process::Command::new("cp").arg(&text).arg(&path).status().unwrap();
        assert!(copied.success());
        Program {
            path,
            config: folder.join("config.toml"),
            endpoint: "http://127.0.0.1:1".to_owned(),
            log: folder.join("daemon.log"),
        }
    }

    #[tokio::test]
    async fn an_early_end_is_told_with_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let program = program(folder.path(), "seq 1 50 >&2; exit 3");
        let error = program.start().unwrap().died().await.to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("49\n50") && !error.contains("\n30\n"), "{error}");
    }

    #[tokio::test]
    async fn it_is_asked_to_stop_and_its_exit_code_counts() {
        let folder = tempfile::tempdir().unwrap();
        // Says when it listens for the signal.
        let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
        let program = program(folder.path(), script);
        let daemon = program.start().unwrap();
        let ready = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            while tail(&program.log) != "ready" {
                ticks.tick().await;
            }
        };
        timeout(Duration::from_secs(10), ready).await.unwrap();
        assert_eq!(daemon.stop().await.unwrap().exit_code, Some(7));
    }

    #[tokio::test]
    async fn tables_that_cannot_be_created_are_explained() {
        let folder = tempfile::tempdir().unwrap();
        let program = program(folder.path(), "echo no such region >&2; exit 1");
        let error = program.create_tables().await.unwrap_err().to_string();
        assert!(error.contains("no such region"), "{error}");
    }
}
