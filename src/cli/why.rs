//! `why`: gathers what is stored about a task partition and lets the core say
//! in a sentence why it is where it is.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;

use super::output::{self, Output};
use super::{AwsArgs, Failure, Session, find_partition, find_task};
use crate::core::cap::{Capped, Full};
use crate::core::catalog::Task;
use crate::core::pause::holding;
use crate::core::task::{TaskKey, TaskPartition, TaskState};
use crate::core::why::{self, Known};

/// Reads for one answer: producing partitions, and ready ones of the profile.
const READS_MAX: usize = 100;

/// Say in one sentence why a task's partition is where it is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate why daily-report 2013-01-01 --config prod.toml\n  \
    sluicegate why hourly-etl 2013-01-01T05 --config prod.toml --json")]
pub struct WhyArgs {
    task: String,
    /// An hour such as 2013-01-01T05 or a day such as 2013-01-01, UTC
    partition: String,
    #[command(flatten)]
    aws: AwsArgs,
}

pub async fn why(args: &WhyArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let task = find_task(&session.config, &args.task)?;
    let key = find_partition(task, &args.partition)?;
    let item = session.store.task(&key).await?;
    let now = session.now();
    let run = match item.as_ref().and_then(|item| item.run.as_deref()) {
        Some(id) => session.store.run(id).await?,
        None => None,
    };
    let mark = match task.has_calendar() {
        true => session.store.mark(&task.name).await?.map(|mark| mark.0),
        false => None,
    };
    let unstored = TaskPartition::new(key.clone());
    let state = item.as_ref().unwrap_or(&unstored).state;
    let ready = match state {
        TaskState::Ready => ready_count(&session, task, now).await?,
        _ => 0,
    };
    let producers = match state {
        TaskState::Waiting => producers(&session, task, item.as_ref().unwrap_or(&unstored)).await?,
        _ => BTreeMap::new(),
    };
    let pauses = session.store.pauses().await?;
    let full = match state {
        TaskState::Ready => full(&session, task).await?,
        _ => None,
    };
    let backfills = session.store.backfills().await?;
    let known = Known {
        key: &key,
        item: item.as_ref(),
        run: run.as_ref(),
        ready,
        mark,
        producers: &producers,
        paused: holding(&pauses, task),
        full: full.as_ref(),
        to_come: backfills.iter().find(|backfill| backfill.is_to_come(&key)),
    };
    let why = why::why(&session.config.catalog, task, known, now);
    Output::new(output::plain(&why.sentence), &why)
}

/// A cap that leaves no room for another run of the task.
async fn full(session: &Session, task: &Task) -> Result<Option<Full>, Failure> {
    let catalog = &session.config.catalog;
    let profile = catalog.profiles.get(&task.profile);
    let mut caps = profile.map_or_else(Vec::new, |profile| catalog.caps_of_clusters(profile));
    caps.extend(task.max_active.map(|max| (Capped::Task(task.name.clone()), max)));
    for (of, max) in caps {
        let mut cap = session.store.cap(&of).await?;
        for id in cap.used.keys().cloned().collect::<Vec<_>>() {
            cap.look(&id, session.store.run(&id).await?.as_ref());
        }
        if cap.count() >= max {
            return Ok(Some(Full { of, count: cap.count(), max }));
        }
    }
    Ok(None)
}

/// Where the partitions stand whose outputs are missing.
async fn producers(
    session: &Session,
    task: &Task,
    item: &TaskPartition,
) -> Result<BTreeMap<TaskKey, TaskState>, Failure> {
    let mut states = BTreeMap::new();
    for key in why::producers(&session.config.catalog, task, item).into_iter().take(READS_MAX) {
        if let Some(item) = session.store.task(&key).await? {
            states.insert(key, item.state);
        }
    }
    Ok(states)
}

/// How many partitions of the task's profile are ready, counted up to a batch.
async fn ready_count(session: &Session, task: &Task, now: Timestamp) -> Result<usize, Failure> {
    let catalog = &session.config.catalog;
    let enough = catalog.profiles.get(&task.profile).map_or(1, |profile| profile.batch_size);
    let same_profile =
        |key: &TaskKey| catalog.tasks.get(&key.task).is_some_and(|t| t.profile == task.profile);
    let (_, due) = session.store.open(now).await?;
    let mut ready = 0;
    for key in due.iter().filter(|key| same_profile(key)).take(READS_MAX) {
        let item = session.store.task(key).await?;
        ready += usize::from(item.is_some_and(|item| item.state == TaskState::Ready));
        if ready >= enough {
            break;
        }
    }
    Ok(ready)
}
