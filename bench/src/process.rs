//! A process that is measured: started, asked over HTTP or its standard
//! streams, its memory and CPU read, stopped. It ends with its handle.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sluicegate_local::usage::{Memory, cpu_secs, memory};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::wait::{PATIENCE, poll};

const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The CPU time and memory of a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub cpu_secs: f64,
    pub memory: Memory,
}

fn usage(pid: u32) -> anyhow::Result<Usage> {
    let cpu_secs = cpu_secs(pid).context("/proc tells no CPU time")?;
    Ok(Usage { cpu_secs, memory: memory(pid).context("/proc tells no memory")? })
}

/// Of this process, in which the local AWS runs.
pub fn own_usage() -> anyhow::Result<Usage> {
    usage(std::process::id())
}

fn pid(child: &Child) -> anyhow::Result<u32> {
    child.id().context("a measured process has ended by itself")
}

/// How to call the daemon.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub config: PathBuf,
    pub endpoint: String,
    pub log: PathBuf,
}

impl Program {
    pub async fn create_tables(&self) -> anyhow::Result<()> {
        self.run(&["tables", "create"]).await
    }

    /// Runs one of its commands to the end.
    pub async fn run(&self, words: &[&str]) -> anyhow::Result<()> {
        let output = self.command(words).output().await;
        let output = output.with_context(|| format!("cannot run {}", self.path.display()))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} went wrong: {errors}", words.join(" "));
        Ok(())
    }

    /// Starts it, and waits until it says that it is ready.
    pub async fn start(&self) -> anyhow::Result<Daemon> {
        // Free a moment ago, and nobody else takes ports here.
        let http = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
        let log = File::create(&self.log)?;
        let began = Instant::now();
        let mut command = self.command(&["run"]);
        command.arg("--http").arg(http.to_string()).env("RUST_LOG", "warn");
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("cannot start {}", self.path.display()))?;
        let mut daemon = Daemon { child, http, log: self.log.clone(), ready_after: Duration::ZERO };
        poll("the daemon to be ready", Duration::from_millis(1), async || {
            daemon.alive()?;
            Ok(matches!(daemon.get("/readyz").await, Ok((200, _))).then_some(()))
        })
        .await?;
        daemon.ready_after = began.elapsed();
        Ok(daemon)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(words).arg("--config").arg(&self.config).args(["--local", &self.endpoint]);
        command.env("NO_COLOR", "1").stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// The daemon, running.
pub struct Daemon {
    child: Child,
    http: SocketAddr,
    log: PathBuf,
    /// From its start until it said that it is ready.
    pub ready_after: Duration,
}

impl Daemon {
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage(pid(&self.child)?)
    }

    /// An error if it has ended, with its log.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended ({status}):\n{}", self.log_text()),
        }
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.context("no HTTP status")?, body.to_owned()))
    }

    /// The sum of a metric's samples whose labels contain `label`.
    pub async fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let (_, text) = self.get("/metrics").await?;
        let samples = text.lines().filter_map(|line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let labels = sample.strip_prefix(name)?;
            let named = labels.is_empty() || labels.starts_with('{');
            (named && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        Ok(samples.sum())
    }

    /// As an operator stops it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        terminate(&self.child)?;
        let status =
            timeout(STOP_TIMEOUT, self.child.wait()).await.context("it does not stop")??;
        ensure!(status.success(), "the daemon ended with {status}:\n{}", self.log_text());
        Ok(())
    }
}

fn terminate(child: &Child) -> anyhow::Result<()> {
    let id = i32::try_from(pid(child)?).ok().and_then(Pid::from_raw);
    kill_process(id.context("no such process")?, Signal::TERM).context("cannot stop it")
}

/// This program again, as another design that works on the same events.
pub struct Rival {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Rival {
    pub async fn start(program: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start another design")?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = child.stdout.take().context("no standard output")?;
        let mut rival = Self { child, orders, answers: BufReader::new(answers).lines() };
        rival.answered().await?;
        Ok(rival)
    }

    /// Has it done what comes before a round, and waits until it is.
    pub async fn prepare(&mut self, round: u32) -> anyhow::Result<()> {
        self.orders.write_all(format!("{round}\n").as_bytes()).await?;
        self.answered().await
    }

    async fn answered(&mut self) -> anyhow::Result<()> {
        let line = timeout(PATIENCE, self.answers.next_line()).await.context("no answer")??;
        ensure!(line.as_deref() == Some("done"), "another design ended by itself");
        Ok(())
    }

    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage(pid(&self.child)?)
    }
}

/// Waits until a metric of the daemon has reached `least`.
pub async fn until_metric(
    daemon: &mut Daemon,
    name: &str,
    label: &str,
    least: f64,
) -> anyhow::Result<()> {
    poll(&format!("{name} to be {least}"), Duration::from_millis(50), async || {
        daemon.alive()?;
        Ok((daemon.metric(name, label).await? >= least).then_some(()))
    })
    .await
}
