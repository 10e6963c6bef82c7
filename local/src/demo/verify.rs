//! Runs `tests/demo/verify.py`, which computes from the source data what the
//! outputs must hold. Computes nothing itself.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// What to compare with what.
#[derive(Debug, Clone)]
pub struct Verification {
    pub python: PathBuf,
    pub script: PathBuf,
    pub world: PathBuf,
    pub bucket: String,
    pub data: PathBuf,
    /// First and last hour, as `2013-01-01T10`.
    pub hours: (String, String),
    pub day: String,
    /// The warehouse's database and table that hold the hours.
    pub table: String,
    pub buffer_secs: i64,
}

/// The script's judgement.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verified {
    pub equal: bool,
    pub outputs: Vec<Output>,
    pub problems: Vec<String>,
}

/// Rows of one output, counted on both sides.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Output {
    pub name: String,
    pub rows_expected: u64,
    pub rows_found: u64,
    #[serde(skip_serializing, default)]
    problems: Vec<String>,
}

impl Verification {
    /// Never fails: what cannot be verified is not equal, and says why.
    pub async fn run(&self) -> Verified {
        match self.outputs().await {
            Ok((equal, outputs)) => {
                let problems = |output: &Output| {
                    let name = output.name.clone();
                    let told = output.problems.clone().into_iter();
                    told.map(move |problem| format!("{name}: {problem}"))
                };
                let problems = outputs.iter().flat_map(problems).collect();
                Verified { equal, outputs, problems }
            }
            Err(error) => {
                let problems = vec![format!("{error:#}")];
                Verified { equal: false, outputs: Vec::new(), problems }
            }
        }
    }

    async fn outputs(&self) -> anyhow::Result<(bool, Vec<Output>)> {
        #[derive(Deserialize)]
        struct Report {
            equal: bool,
            outputs: Vec<Output>,
        }
        let output = Command::new(&self.python)
            .arg(&self.script)
            .arg("--world")
            .arg(&self.world)
            .arg("--data")
            .arg(&self.data)
            .args(["--bucket", &self.bucket])
            .args(["--hours", &format!("{}..{}", self.hours.0, self.hours.1)])
            .args(["--report", &self.day])
            .args(["--table", &self.table])
            .args(["--buffer-secs", &self.buffer_secs.to_string()])
            .arg("--json")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.python.display()))?;
        let report: Report = serde_json::from_slice(&output.stdout).with_context(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("{} says: {}", self.script.display(), errors.trim())
        })?;
        Ok((report.equal && output.status.success(), report.outputs))
    }
}
