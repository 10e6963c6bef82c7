//! `logs`: the end of a step's log, from where EMR writes it in S3. Not for the
//! service's own log, which goes to standard error.

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::output::{self, Output, or_dash};
use super::shown::log_place;
use super::{AwsArgs, Failure, runs};
use crate::aws::s3::{LogEnd, S3, split_uri};
use crate::core::run::{Attempt, Run, StepTry};

/// Show the end of a step's log, as EMR has written it to S3
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate logs 01J9ZC2V --config prod.toml\n  \
    sluicegate logs 01J9ZC2V --step 2 --config prod.toml\n  \
    sluicegate logs 01J9ZC2V --step 2 --file stdout --attempt 1 --config prod.toml --json\n\n\
    Without --step: the steps of the run's attempt by their numbers, and where their logs are. \
    EMR writes logs to the profile's log-uri every five minutes, and when a cluster ends.")]
pub struct LogsArgs {
    /// The run's id, or so much of its beginning that no other run has it
    run: String,
    /// The step by its number in the list; a retry has a number of its own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    step: Option<u32>,
    /// Of this attempt; default: the last
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Which of its files; default: the first that says something
    #[arg(long, value_enum, requires = "step")]
    file: Option<LogFile>,
    #[command(flatten)]
    aws: AwsArgs,
}

/// What EMR writes of each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum LogFile {
    Stderr,
    Stdout,
    Controller,
    Syslog,
}

impl LogFile {
    fn name(self) -> &'static str {
        match self {
            LogFile::Stderr => "stderr.gz",
            LogFile::Stdout => "stdout.gz",
            LogFile::Controller => "controller.gz",
            LogFile::Syslog => "syslog.gz",
        }
    }
}

pub async fn logs(args: &LogsArgs) -> Result<Output, Failure> {
    let beginning = runs::id_beginning(&args.run)?;
    let session = args.aws.connect().await?;
    let run = runs::find(&session, beginning).await?;
    let attempt = attempt(&run, args.attempt)?;
    let Some(number) = args.step else { return list(&run, attempt) };
    let step = attempt.tries.get(number as usize - 1).ok_or_else(|| {
        Failure::Use(format!(
            "attempt {} of run {} has no step {number}: so far its steps go up to {}",
            attempt.number,
            run.id,
            attempt.tries.len()
        ))
    })?;
    let folder = folder(&run, attempt, step).ok_or_else(|| {
        Failure::Failed(format!(
            "EMR keeps no log of step {number}: {}",
            match run.cluster.log_uri {
                None => "the profile has no log-uri",
                Some(_) => "it was not yet seen on a cluster",
            }
        ))
    })?;
    let s3 = S3::new(&session.aws);
    let all = [LogFile::Stderr, LogFile::Stdout, LogFile::Controller, LogFile::Syslog];
    let files = args.file.map_or(all.to_vec(), |file| vec![file]);
    for file in files {
        if let Some(text) = read(&s3, &folder, file).await? {
            let place = format!("{folder}{}", file.name());
            let value = json!({ "run": run.id, "attempt": attempt.number, "step": step.name,
                "file": file, "place": place, "text": text });
            let lines: Vec<_> = text.lines().map(output::plain).collect();
            return Output::new(format!("{place}\n\n{}", lines.join("\n")), &value);
        }
    }
    Err(Failure::Failed(format!(
        "nothing of it stands in {folder}\n    EMR writes logs every five minutes, and when the \
         cluster ends"
    )))
}

fn attempt(run: &Run, number: Option<u32>) -> Result<&Attempt, Failure> {
    let found = match number {
        None => run.attempt(),
        Some(number) => run.attempts.iter().find(|attempt| attempt.number == number),
    };
    found.ok_or_else(|| {
        let (id, last) = (&run.id, run.attempts.len());
        Failure::Use(match number {
            None => format!("run {id} has no attempt yet"),
            Some(number) => {
                format!("run {id} has no attempt {number}: so far the last is {last}")
            }
        })
    })
}

/// Where EMR writes a step's logs.
fn folder(run: &Run, attempt: &Attempt, step: &StepTry) -> Option<String> {
    Some(format!("{}steps/{}/", log_place(run, attempt)?, step.id.as_deref()?))
}

fn list(run: &Run, attempt: &Attempt) -> Result<Output, Failure> {
    let steps = attempt.tries.iter().zip(1..);
    let rows: Vec<[String; 4]> = steps
        .clone()
        .map(|(step, number): (&StepTry, u32)| {
            [
                number.to_string(),
                step.name.clone(),
                step.state.name().to_owned(),
                or_dash(step.id.as_deref()),
            ]
        })
        .collect();
    let place = log_place(run, attempt);
    let mut text = output::table(["STEP", "NAME", "STATE", "EMR STEP"], rows);
    text.push_str(&format!("\nlogs: {}\n", or_dash(place.as_deref())));
    let value: Vec<_> = steps
        .map(|(step, number)| {
            json!({ "step": number, "name": step.name, "state": step.state,
                "logs": folder(run, attempt, step) })
        })
        .collect();
    Output::new(text, &json!({ "run": run.id, "attempt": attempt.number, "steps": value }))
}

/// The end of a file, if anything stands in it.
async fn read(s3: &S3, folder: &str, file: LogFile) -> Result<Option<String>, Failure> {
    let Some((bucket, prefix)) = split_uri(folder) else { return Ok(None) };
    match s3.log_end(bucket, &format!("{prefix}{}", file.name())).await? {
        LogEnd::Text(text) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        LogEnd::Missing => Ok(None),
        LogEnd::TooLarge => Err(Failure::Failed(format!(
            "{folder}{} is too large to be shown: read it in S3",
            file.name()
        ))),
    }
}
