//! `status`: how the service and each task stand, at a glance.

use std::collections::BTreeMap;

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;

use super::output::{self, Output, ago, or_dash};
use super::{AwsArgs, Failure, Session, find_task, runs};
use crate::aws::sqs::{Depth, Sqs};
use crate::aws::store::{RunGlance, TaskGlance};
use crate::core::asked::Asked;
use crate::core::backfill::How;
use crate::core::pause::Pause;
use crate::core::task::TaskState;

/// Partitions that are read to be counted, of all tasks together.
const COUNTED_MAX: usize = 12_000;
/// Tasks that are read side by side.
const QUERIES_MAX: usize = 8;

/// Show how the service and its tasks stand
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate status --config prod.toml\n  \
    sluicegate status --task hourly-etl --newest 24 --config prod.toml\n  \
    sluicegate status --config prod.toml --json | jq '.tasks[\"hourly-etl\"].counts'\n\n\
    Counts the newest 12,000 partitions of one task, or its share of them of each: with 50 tasks \
    the newest 240.")]
pub struct StatusArgs {
    /// Only this task
    #[arg(long)]
    task: Option<String>,
    /// How many of the newest partitions of each task to show
    #[arg(long, default_value_t = 3)]
    newest: usize,
    #[command(flatten)]
    aws: AwsArgs,
}

#[derive(Serialize)]
struct Status {
    at: Timestamp,
    inbox: Depth,
    quarantine: Depth,
    open_runs: Vec<RunGlance>,
    paused: Vec<Paused>,
    /// Those that have not ended.
    backfills: Vec<OpenBackfill>,
    tasks: BTreeMap<String, TaskGlance>,
}

/// What is paused, since when, by whom and why.
#[derive(Serialize)]
struct Paused {
    /// As `pause` answers.
    scope: String,
    #[serde(skip)]
    words: String,
    #[serde(flatten)]
    asked: Asked,
}

pub async fn status(args: &StatusArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let settings = &session.config.settings;
    let names: Vec<_> = match &args.task {
        Some(name) => vec![find_task(&session.config, name)?.name.clone()],
        None => session.config.catalog.tasks.keys().cloned().collect(),
    };
    let sqs = Sqs::open(&session.aws, &settings.queue, &settings.quarantine).await?;
    let (inbox, quarantine) = sqs.depths().await?;
    let now = session.now();
    let most = (COUNTED_MAX / names.len().max(1)).max(args.newest).max(1);
    let (session, store) = (&session, &session.store);
    let tasks = futures::stream::iter(names)
        .map(|name| async move {
            let glance = store.glance(&name, args.newest, most, now).await?;
            Ok::<_, Failure>((name, glance))
        })
        .buffer_unordered(QUERIES_MAX)
        .try_collect()
        .await?;
    let open_runs = open_runs(session, now).await?;
    let paused = paused(session).await?;
    let backfills = open_backfills(session).await?;
    let status = Status { at: now, inbox, quarantine, open_runs, paused, backfills, tasks };
    Output::new(words(&status), &status)
}

async fn open_runs(session: &Session, now: Timestamp) -> Result<Vec<RunGlance>, Failure> {
    let (ids, _) = session.store.open(now).await?;
    let mut open = session.store.run_glances(&ids).await?;
    // The index also holds ended runs with a notice still to publish.
    open.retain(|run| !run.state.is_final());
    Ok(open)
}

/// A backfill in short.
#[derive(Serialize)]
struct OpenBackfill {
    id: String,
    task: String,
    state: &'static str,
    done: u32,
    partitions: u32,
    under_way: usize,
    failed: u32,
}

async fn open_backfills(session: &Session) -> Result<Vec<OpenBackfill>, Failure> {
    let backfills = session.store.backfills().await?.into_iter();
    let open = backfills.filter(|backfill| backfill.ended.is_none());
    let short = open.map(|backfill| OpenBackfill {
        state: backfill.state(),
        done: backfill.done(),
        partitions: backfill.window.partitions(),
        under_way: backfill.open.len(),
        failed: backfill.count(How::Failed),
        id: backfill.id,
        task: backfill.window.task,
    });
    Ok(short.collect())
}

async fn paused(session: &Session) -> Result<Vec<Paused>, Failure> {
    let pauses = session.store.pauses().await?.into_iter();
    let paused = pauses.filter_map(|Pause { scope, paused, .. }| {
        Some(Paused { scope: scope.to_string(), words: scope.words(), asked: paused? })
    });
    Ok(paused.collect())
}

fn words(status: &Status) -> String {
    let now = status.at;
    let mut text = format!(
        "{:<12}{}\n{:<12}{}\n{:<12}{}\n",
        "inbox",
        depth(status.inbox),
        "quarantine",
        depth(status.quarantine),
        "open runs",
        status.open_runs.len()
    );
    if !status.paused.is_empty() {
        let rows = status.paused.iter().map(|Paused { words, asked, .. }| {
            [words.clone(), ago(asked.at, now), asked.by.clone(), or_dash(asked.reason.as_deref())]
        });
        let table = output::table(["PAUSED", "SINCE", "BY", "REASON"], rows.collect());
        text.push_str(&format!("\n{table}"));
    }
    if !status.backfills.is_empty() {
        let rows = status.backfills.iter().map(|open| {
            [
                open.id.clone(),
                open.task.clone(),
                open.state.to_owned(),
                format!("{}/{}", open.done, open.partitions),
                open.under_way.to_string(),
                open.failed.to_string(),
            ]
        });
        let header = ["BACKFILL", "TASK", "STATE", "DONE", "UNDER WAY", "FAILED"];
        text.push_str(&format!("\n{}", output::table(header, rows.collect())));
    }
    if !status.tasks.is_empty() {
        text.push_str(&format!("\n{}", counts(status)));
    }
    let newest = newest(status, now);
    if !newest.is_empty() {
        text.push_str(&format!("\n{newest}"));
    }
    if !status.open_runs.is_empty() {
        text.push_str(&format!("\n{}", runs::table(&status.open_runs, now)));
    }
    let more: Vec<_> =
        status.tasks.iter().filter(|(_, it)| it.truncated).map(|(task, _)| task.as_str()).collect();
    if !more.is_empty() {
        text.push_str(&format!(
            "\nonly the newest partitions are counted of {}; --task counts more of one\n",
            more.join(", ")
        ));
    }
    for (task, glance) in &status.tasks {
        if glance.unreadable > 0 {
            text.push_str(&format!(
                "\n{task}: {} items cannot be read; a newer version wrote them, or they are damaged\n",
                glance.unreadable
            ));
        }
    }
    text
}

fn depth(depth: Depth) -> String {
    let Depth { visible, in_flight, delayed } = depth;
    let messages = if visible == 1 { "message" } else { "messages" };
    match (in_flight, delayed) {
        (0, 0) => format!("{visible} {messages}"),
        _ => format!("{visible} {messages}, {in_flight} being handled, {delayed} delayed"),
    }
}

fn counts(status: &Status) -> String {
    let rows = status.tasks.iter().map(|(task, glance)| {
        let count = |state: TaskState| {
            glance.counts.get(state.name()).copied().unwrap_or_default().to_string()
        };
        [
            task.clone(),
            count(TaskState::Waiting),
            count(TaskState::Ready),
            count(TaskState::Running),
            count(TaskState::Loading),
            count(TaskState::Succeeded),
            count(TaskState::Failed),
            count(TaskState::Cancelled),
            count(TaskState::Skipped),
            or_dash(glance.oldest_waiting),
        ]
    });
    let header = [
        "TASK",
        "WAIT",
        "READY",
        "RUN",
        "LOAD",
        "DONE",
        "FAIL",
        "CANCEL",
        "SKIP",
        "OLDEST WAITING",
    ];
    output::table(header, rows.collect())
}

fn newest(status: &Status, now: Timestamp) -> String {
    let rows: Vec<_> = status
        .tasks
        .iter()
        .flat_map(|(task, glance)| {
            glance.newest.iter().map(|found| {
                [
                    task.clone(),
                    found.partition.to_string(),
                    found.state.name().to_owned(),
                    or_dash(found.since.map(|since| ago(since, now))),
                    or_dash(found.reason.as_deref()),
                ]
            })
        })
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => output::table(["TASK", "NEWEST", "STATE", "SINCE", "REASON"], rows),
    }
}
