//! Runs one job of a cluster as a process of this machine: its environment,
//! its process group, its logs, its end. Not for what a job's end means.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::command::Invocation;
use super::folder::{ClusterFolder, JobFolder};
use super::logs;
use super::model::Exit;
use crate::clock::Clock;
use crate::python::Environment;

/// What a process has to end within after it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// What of the person's own environment a job may see: no credentials.
const INHERITED: &[&str] = &["LANG", "LC_ALL", "LOGNAME", "PATH", "USER"];

/// Marks a cluster's processes, and tells them where its folder is.
const CLUSTER_DIR: &str = "SLUICEGATE_CLUSTER_DIR";

/// This machine, as jobs see it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where clusters have their folders.
    pub clusters: PathBuf,
    /// Where buckets have their folders.
    pub buckets: PathBuf,
    /// The local AWS.
    pub endpoint: String,
    pub region: String,
    pub clock: Clock,
    /// Without it there is no Spark, Hive or AWS command line.
    pub environment: Option<Environment>,
}

impl Host {
    pub fn folder(&self, cluster: &str) -> ClusterFolder {
        ClusterFolder::new(&self.clusters, cluster)
    }

    /// The whole environment of a job.
    fn variables(&self, cluster: &ClusterFolder, job: &JobFolder) -> BTreeMap<String, OsString> {
        let inherited = INHERITED.iter().filter_map(|name| {
            let value = std::env::var_os(name)?;
            Some(((*name).to_owned(), value))
        });
        let mut variables: BTreeMap<String, OsString> = inherited.collect();
        let mut path = vec![cluster.shims()];
        let mut set = |name: &str, value: OsString| variables.insert(name.to_owned(), value);
        for name in ["AWS_ENDPOINT_URL", "SLUICEGATE_ENDPOINT_URL"] {
            set(name, self.endpoint.clone().into());
        }
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            set(name, "local".into());
        }
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            set(name, self.region.clone().into());
        }
        set("AWS_EC2_METADATA_DISABLED", "true".into());
        set("AWS_CONFIG_FILE", cluster.aws_config().into());
        set("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into());
        set("AWS_PAGER", "".into());
        set("HOME", cluster.path().into());
        set("TMPDIR", job.temporary().into());
        set("TZ", "UTC".into());
        set("SLUICEGATE_JOB_FLOW_JSON", cluster.job_flow_json().into());
        set(CLUSTER_DIR, cluster.path().into());
        let seconds = |at: jiff::Timestamp| (at.as_millisecond() as f64 / 1000.0).to_string();
        set("SLUICEGATE_CLOCK_START", seconds(self.clock.start).into());
        set("SLUICEGATE_CLOCK_ANCHOR", seconds(self.clock.anchor).into());
        set("SLUICEGATE_CLOCK_FACTOR", self.clock.factor.to_string().into());
        if let Some(environment) = &self.environment {
            path.push(environment.bin_dir());
            path.push(environment.java_home().join("bin"));
            set("SLUICEGATE_PYTHON_BIN", environment.bin_dir().into());
            set("JAVA_HOME", environment.java_home().into());
            set("SPARK_HOME", environment.spark_home().into());
            set("SPARK_CONF_DIR", job.spark_conf().into());
            set("SLUICEGATE_HIVE_CONF_DIR", job.hive_conf().into());
            set("PYSPARK_PYTHON", environment.python().into());
            set("SPARK_LOCAL_IP", "127.0.0.1".into());
        }
        if let Some(own) = variables.get("PATH") {
            path.extend(std::env::split_paths(own));
        }
        // A folder with a colon in its name cannot be in PATH at all.
        if let Ok(path) = std::env::join_paths(path) {
            variables.insert("PATH".to_owned(), path);
        }
        variables
    }
}

/// How hard to end a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ask first.
    Interrupt,
    Force,
}

/// A job's processes. Whatever of them is left when it is dropped is killed.
#[derive(Debug)]
pub struct Group(Pid);

impl Group {
    fn of(child: &Child) -> Option<Self> {
        let id = i32::try_from(child.id()?).ok()?;
        Pid::from_raw(id).map(Self)
    }

    /// Whether any process is left. An empty group's number may be given to
    /// strangers, so that it must not be kept.
    pub fn is_alive(&self) -> bool {
        test_kill_process_group(self.0).is_ok()
    }

    fn signal(&self, signal: Signal) {
        // Fails only if all have ended by themselves.
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Ends what a cluster's jobs started and took out of their groups, as
/// `setsid` does. Where there is no /proc, such processes stay.
pub fn kill_escaped(cluster: &ClusterFolder) {
    let mark = format!("{CLUSTER_DIR}={}", cluster.path().display());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let (Some(id), Ok(environment)) = (id, fs::read(process.path().join("environ"))) else {
            continue;
        };
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            // Fails only if it has just ended by itself.
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

/// Runs a job to its end. Also returns its group if it left processes behind,
/// as a job on EMR may.
pub async fn run(
    invocation: &Invocation,
    host: &Host,
    cluster: &ClusterFolder,
    job: &JobFolder,
    stop: watch::Receiver<Option<Stop>>,
) -> (Exit, Option<Group>) {
    let mut child = match spawn(invocation, host, cluster, job) {
        Ok(child) => child,
        Err(error) => {
            return (not_started(&invocation.program.to_string_lossy(), &error, job), None);
        }
    };
    let Some(group) = Group::of(&child) else {
        return (Exit::with_code(127), None);
    };
    let (status, was_stopped) = wait(&mut child, &group, stop).await;
    let mut exit = Exit::with_code(status.map_or(127, code));
    if exit.code != 0 {
        exit.message = logs::failure_message(job);
    }
    let left = (!was_stopped && group.is_alive()).then_some(group);
    (exit, left)
}

/// A job that could not even start says so where its reader looks.
pub fn not_started(what: &str, error: &dyn std::error::Error, job: &JobFolder) -> Exit {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    let message = format!("cannot run {what}: {error}{source}");
    if let Err(error) = fs::write(job.log("stderr"), format!("{message}\n")) {
        tracing::warn!(%error, "log of a step not written");
    }
    Exit { code: 127, message: Some(message) }
}

fn spawn(
    invocation: &Invocation,
    host: &Host,
    cluster: &ClusterFolder,
    job: &JobFolder,
) -> io::Result<Child> {
    let mut controller = File::create(job.log("controller"))?;
    writeln!(controller, "INFO startExec '{}'", line(invocation))?;
    writeln!(controller, "INFO working directory {}", job.work().display())?;
    Command::new(&invocation.program)
        .args(&invocation.args)
        .env_clear()
        .envs(host.variables(cluster, job))
        .current_dir(job.work())
        .stdin(Stdio::null())
        .stdout(File::create(job.log("stdout"))?)
        .stderr(File::create(job.log("stderr"))?)
        .process_group(0)
        .spawn()
}

fn line(invocation: &Invocation) -> String {
    let program = invocation.program.to_string_lossy().into_owned();
    let words = [vec![program], invocation.args.clone()].concat();
    words.join(" ")
}

async fn wait(
    child: &mut Child,
    group: &Group,
    mut stop: watch::Receiver<Option<Stop>>,
) -> (io::Result<ExitStatus>, bool) {
    let ordered = tokio::select! {
        biased;
        status = child.wait() => return (status, false),
        ordered = stop.wait_for(Option::is_some) => ordered.map(|order| *order),
    };
    if let Ok(Some(Stop::Interrupt)) = ordered {
        group.signal(Signal::TERM);
        let forced = stop.wait_for(|order| *order == Some(Stop::Force));
        tokio::select! {
            biased;
            // What it started may still run, and ends with it.
            status = child.wait() => return (status, true),
            _ = tokio::time::timeout(GRACE, forced) => {}
        }
    }
    group.signal(Signal::KILL);
    (child.wait().await, true)
}

/// As a shell reports it.
fn code(status: ExitStatus) -> i32 {
    let signalled = status.signal().map(|signal| 128 + signal);
    status.code().or(signalled).unwrap_or(127)
}
