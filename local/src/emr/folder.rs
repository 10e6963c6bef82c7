//! The folder that stands for a cluster's machines: shims before the real
//! commands, job-flow.json, AWS settings, one folder for each job. Not for
//! running anything in it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::model::Job;
use crate::clock::Clock;

const SPARK: &str = include_str!("shims/spark");
const SHUTDOWN: &str = include_str!("shims/shutdown");
const SHIMS: &[(&str, &str)] = &[
    ("aws", include_str!("shims/aws")),
    ("sudo", include_str!("shims/sudo")),
    ("hive-script", include_str!("shims/hive-script")),
    ("spark-submit", SPARK),
    ("spark-sql", SPARK),
    ("hive", SPARK),
    ("shutdown", SHUTDOWN),
    ("poweroff", SHUTDOWN),
    ("halt", SHUTDOWN),
    ("reboot", SHUTDOWN),
];
/// Only where the development clock is not real time.
const CLOCK_SHIMS: &[(&str, &str)] =
    &[("date", include_str!("shims/date")), ("sleep", include_str!("shims/sleep"))];
/// The files of a job that become its logs.
pub const LOGS: [&str; 3] = ["controller", "stderr", "stdout"];

/// A cluster's folder.
#[derive(Debug, Clone)]
pub struct ClusterFolder(PathBuf);

impl ClusterFolder {
    pub fn new(root: &Path, cluster: &str) -> Self {
        Self(root.join(cluster))
    }

    /// Makes it; a second time changes nothing.
    pub fn prepare(&self, cluster: &str, clock: &Clock) -> io::Result<()> {
        if self.job_flow_json().exists() {
            return Ok(());
        }
        fs::create_dir_all(self.shims())?;
        fs::create_dir_all(self.warehouse())?;
        let clock_shims = if is_real(clock) { &[][..] } else { CLOCK_SHIMS };
        for (name, script) in SHIMS.iter().chain(clock_shims) {
            let path = self.shims().join(name);
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        // Path style, since a bucket's name in front of a loopback host leads
        // nowhere.
        let settings = "[default]\nregion = us-east-1\ns3 =\n    addressing_style = path\n";
        fs::write(self.aws_config(), settings)?;
        fs::write(self.job_flow_json(), json!({ "jobFlowId": cluster }).to_string())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn shims(&self) -> PathBuf {
        self.0.join("bin")
    }

    pub fn warehouse(&self) -> PathBuf {
        self.0.join("warehouse")
    }

    pub fn aws_config(&self) -> PathBuf {
        self.0.join("aws-config")
    }

    pub fn job_flow_json(&self) -> PathBuf {
        self.0.join("job-flow.json")
    }

    /// Takes the order that the shutdown shim left, if there is one.
    pub fn take_shutdown_order(&self) -> Option<ShutdownOrder> {
        let path = self.0.join("shutdown-order");
        let text = fs::read_to_string(&path).ok()?;
        fs::remove_file(&path).ok()?;
        Some(ShutdownOrder::parse(&text))
    }

    pub fn job(&self, job: &Job) -> JobFolder {
        JobFolder(match job {
            Job::BootstrapAction(index) => {
                let number = (index + 1).to_string();
                self.0.join("bootstrap-actions").join(number)
            }
            Job::Step(id) => self.0.join("steps").join(id),
        })
    }
}

fn is_real(clock: &Clock) -> bool {
    let ahead = clock.start.duration_since(clock.anchor).abs();
    clock.factor == 1.0 && ahead < SignedDuration::from_secs(1)
}

/// A job's folder.
#[derive(Debug, Clone)]
pub struct JobFolder(PathBuf);

impl JobFolder {
    pub fn prepare(&self) -> io::Result<()> {
        for folder in [self.work(), self.temporary(), self.spark_conf(), self.hive_conf()] {
            fs::create_dir_all(folder)?;
        }
        Ok(())
    }

    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    pub fn spark_conf(&self) -> PathBuf {
        self.0.join("spark-conf")
    }

    pub fn hive_conf(&self) -> PathBuf {
        self.0.join("hive-conf")
    }

    /// One of `LOGS`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// What a script on the cluster told the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownOrder {
    /// After so many minutes.
    After(u32),
    Cancel,
}

impl ShutdownOrder {
    /// The command's name, then its arguments, a line each. A time that is
    /// not understood means now: no cluster is to outlive an order.
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some("shutdown") {
            return Self::After(0);
        }
        let mut after = None;
        for argument in lines {
            match argument {
                "-c" => return Self::Cancel,
                option if option.starts_with('-') => {}
                time if after.is_none() => after = Some(minutes(time)),
                _message => {}
            }
        }
        // As the real command: in a minute if it is not told when.
        Self::After(after.unwrap_or(1))
    }

    /// The instant on the clock that `now` was read from; `None` takes an
    /// earlier order back.
    pub fn due(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::After(minutes) => {
                let delay = SignedDuration::from_mins(i64::from(minutes));
                Some(now.saturating_add(delay).unwrap_or(Timestamp::MAX))
            }
            Self::Cancel => None,
        }
    }
}

fn minutes(time: &str) -> u32 {
    time.trim_start_matches('+').parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_of_shutdown() {
        use ShutdownOrder::{After, Cancel};
        for (order, meaning) in [
            ("shutdown\n-h\nnow", After(0)),
            ("shutdown\n-h\n+90\nbye", After(90)),
            ("shutdown\n-P\n5", After(5)),
            ("shutdown", After(1)),
            ("shutdown\n-c", Cancel),
            ("shutdown\n-h\nsoon", After(0)),
            ("poweroff", After(0)),
            ("reboot\n-f", After(0)),
        ] {
            assert_eq!(ShutdownOrder::parse(order), meaning, "{order}");
        }
    }
}
