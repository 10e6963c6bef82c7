//! `runs` and `run show`: which runs there were, and everything about one.

use clap::Args;
use jiff::Timestamp;

use super::output::{self, Output, ago, length, or_dash, time};
use super::shown::{ShownRun, class, log_place, outcome};
use super::{AwsArgs, Failure, Session, find_task, limit, unknown};
use crate::aws::store::{RunFilter, RunGlance};
use crate::core::run::{Attempt, Run, RunState, StepTry};

/// In a whole id.
pub const ID_CHARS: usize = 26;

/// List runs, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate runs --config prod.toml\n  \
    sluicegate runs --task daily-report --state failed --limit 5 --config prod.toml\n  \
    sluicegate runs --config prod.toml --json | jq -r '.runs[].id'")]
pub struct RunsArgs {
    /// Only runs with a partition of this task
    #[arg(long)]
    task: Option<String>,
    /// Only runs of this cluster profile
    #[arg(long)]
    profile: Option<String>,
    /// Only runs in this state
    #[arg(long, value_parser = run_state, value_name = "STATE")]
    state: Option<RunState>,
    /// At most so many
    #[arg(long, default_value = "20", value_parser = limit, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    aws: AwsArgs,
}

fn run_state(text: &str) -> Result<RunState, String> {
    let names: Vec<_> = RunState::ALL.iter().map(|state| state.name()).collect();
    let found = RunState::ALL.into_iter().find(|state| state.name() == text);
    found.ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

pub async fn list(args: &RunsArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    if let Some(task) = &args.task {
        find_task(&session.config, task)?;
    }
    if let Some(profile) = &args.profile {
        let known = &session.config.catalog.profiles;
        if !known.contains_key(profile) {
            return Err(unknown("profile", profile, known.keys().map(String::as_str)));
        }
    }
    let filter =
        RunFilter { task: args.task.clone(), profile: args.profile.clone(), state: args.state };
    let found = session.store.runs(&filter, args.limit).await?;
    let mut text = match found.runs.as_slice() {
        [] => "no runs".to_owned(),
        runs => table(runs, session.now()),
    };
    if found.truncated {
        text.push_str("\nthere are more; raise --limit to see them\n");
    }
    Output::new(text, &found)
}

/// The runs as a table; the cluster, for which 80 columns are too few, is in
/// the JSON and in `run show`.
pub fn table(runs: &[RunGlance], now: Timestamp) -> String {
    let rows = runs.iter().map(|run| {
        let took =
            run.created.map(|created| length(run.ended.unwrap_or(now).duration_since(created)));
        [
            run.id.clone(),
            run.state.name().to_owned(),
            run.profile.clone(),
            run.members.clone(),
            or_dash(run.created.map(|created| ago(created, now))),
            or_dash(took),
        ]
    });
    output::table(["RUN", "STATE", "PROFILE", "OF", "CREATED", "TOOK"], rows.collect())
}

/// Show everything about one run
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate run show 01J9ZC2V --config prod.toml\n  \
    sluicegate run show 01J9ZC2V --config prod.toml --json | jq '.attempts[-1].cluster'")]
pub struct ShowArgs {
    /// The run's id, or so much of its beginning that no other run has it
    id: String,
    #[command(flatten)]
    aws: AwsArgs,
}

pub async fn show(args: &ShowArgs) -> Result<Output, Failure> {
    let beginning = id_beginning(&args.id)?;
    let session = args.aws.open().await?;
    let run = find(&session, beginning).await?;
    Output::new(words(&run, &session), &ShownRun::of(&run)?)
}

/// A run's id as a person writes it, or its beginning.
pub fn id_beginning(text: &str) -> Result<String, Failure> {
    // Ids are written in capitals; people need not.
    let beginning = text.to_uppercase();
    match may_begin_id(&beginning) {
        true => Ok(beginning),
        false => Err(Failure::Use(format!(
            "{text:?} is no run's id: expected up to {ID_CHARS} digits and letters such as 01J9ZC2V\n    \
             list them with: sluicegate runs --config FILE"
        ))),
    }
}

/// The only run whose id begins so.
pub async fn find(session: &Session, beginning: String) -> Result<Run, Failure> {
    let id = match session.store.run_ids(&beginning).await?.as_slice() {
        [id] => id.clone(),
        // The whole id of one run can only be another's beginning by mistake.
        [id, _] if *id == beginning => id.clone(),
        // The index may lag behind a run just made.
        [] => beginning,
        _ => {
            return Err(Failure::Use(format!(
                "several runs begin with {beginning}: give more of the id"
            )));
        }
    };
    session.store.run(&id).await?.ok_or_else(|| {
        Failure::Failed(format!(
            "there is no run {id} (what ended longer ago than [retention] keeps is deleted)\n    list \
             them with: sluicegate runs --config FILE"
        ))
    })
}

/// Ids are ULIDs: the first character says the time's highest bits, and letters
/// that look like digits are not used.
fn may_begin_id(text: &str) -> bool {
    let in_id = |c: char| c.is_ascii_digit() || (c.is_ascii_uppercase() && !"ILOU".contains(c));
    text.starts_with(|first| ('0'..='7').contains(&first))
        && text.len() <= ID_CHARS
        && text.chars().all(in_id)
}

fn words(run: &Run, session: &Session) -> String {
    let now = session.now();
    let mut text = String::new();
    let mut line = |label: &str, value: String| text.push_str(&output::labelled(label, &value));
    line("run", run.id.clone());
    line("state", run.state.name().to_owned());
    line("profile", run.profile.clone());
    line("created", format!("{} ({})", time(run.created), ago(run.created, now)));
    if let Some(ended) = run.ended {
        line(
            "ended",
            format!("{} (took {})", time(ended), length(ended.duration_since(run.created))),
        );
    }
    line("attempts", format!("{} of at most {}", run.attempts.len(), run.most_attempts()));
    for notice in &run.notices {
        line("unpublished", format!("{} ({})", notice.headline, time(notice.at)));
    }
    let rows = run.members.iter().map(|member| {
        let (outcome, reason) = outcome(member);
        let reason = match (class(member), reason) {
            (Some(class), Some(reason)) => Some(format!("{}: {reason}", class.name())),
            _ => reason.map(str::to_owned),
        };
        [member.key.to_string(), outcome.to_owned(), or_dash(reason)]
    });
    text.push_str(&format!(
        "\n{}",
        output::table(["PARTITION", "OUTCOME", "REASON"], rows.collect())
    ));
    for member in &run.members {
        for (dataset, place) in &member.outputs {
            let words = format!("output {dataset} of {}: {place}", member.key);
            text.push_str(&output::paragraph(&words));
        }
    }
    for attempt in &run.attempts {
        text.push_str(&attempt_words(run, attempt));
    }
    text
}

fn attempt_words(run: &Run, attempt: &Attempt) -> String {
    let state = match (attempt.cluster_state, run.state) {
        (Some(state), _) => state.name(),
        (None, RunState::Launching) => "not created yet",
        (None, _) => "never created",
    };
    let cluster = attempt.cluster.as_deref().unwrap_or("no cluster");
    let words = format!(
        "attempt {}: {cluster}, {state}; opened {}, expires {}",
        attempt.number,
        time(attempt.opened),
        time(attempt.expires)
    );
    let mut text = format!("\n{}", output::paragraph(&words));
    if let Some(class) = attempt.class {
        let why = run.stall_words(attempt).unwrap_or_else(|| attempt.end_reason.clone());
        text.push_str(&output::paragraph(&format!("lost: {}: {why}", class.name())));
    }
    if let Some(logs) = log_place(run, attempt) {
        text.push_str(&format!("logs: {logs}\n"));
    }
    let rows: Vec<_> = attempt.tries.iter().map(try_row).collect();
    if !rows.is_empty() {
        text.push_str(&output::table(["TRY", "EMR STEP", "STATE", "STARTED", "TOOK"], rows));
    }
    for step_try in &attempt.tries {
        if let Some(failure) = &step_try.failure {
            let class = step_try.class().map_or_else(String::new, |it| format!(" ({})", it.name()));
            let words = format!("{} failed{class}: {failure}", step_try.name);
            text.push_str(&output::paragraph(&words));
        }
    }
    text
}

fn try_row(step_try: &StepTry) -> [String; 5] {
    let took = match (step_try.started, step_try.ended) {
        (Some(started), Some(ended)) => Some(length(ended.duration_since(started))),
        _ => None,
    };
    [
        step_try.name.clone(),
        or_dash(step_try.id.as_deref()),
        step_try.state.name().to_owned(),
        or_dash(step_try.started.map(|at| at.strftime("%H:%M:%S").to_string())),
        or_dash(took),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_other_words() {
        for (text, is_id) in [
            ("0", true),
            ("01J9ZC2V", true),
            ("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", true),
            ("7ZZZZZZZZZZZZZZZZZZZZZZZZZZ", false),
            ("", false),
            ("8", false),
            ("X", false),
            ("01LOUI", false),
            ("DAILY-REPORT", false),
            ("0É", false),
        ] {
            assert_eq!(may_begin_id(text), is_id, "{text}");
        }
    }
}
