//! Gathers what is stored about a task partition and lets the core say in a
//! sentence why it is where it is: for the command and for what is told of
//! lateness, in the same words. Not for turns that decide: this reads much.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::aws::store::{Store, StoreError};
use crate::core::cap::{Capped, Full};
use crate::core::catalog::{Catalog, Task};
use crate::core::pause::holding;
use crate::core::task::{TaskKey, TaskPartition, TaskState};
use crate::core::why::{self, Known, Usual, Why};

/// Reads for one answer: producing partitions, and ready ones of the profile.
const READS_MAX: usize = 100;
/// So many of a task's last partitions say what is usual.
const TIMINGS: i32 = 30;

/// Why a partition is where it is; `item` is what is stored of it.
pub async fn why(
    store: &Store,
    catalog: &Catalog,
    task: &Task,
    key: &TaskKey,
    item: Option<&TaskPartition>,
    now: Timestamp,
) -> Result<Why, StoreError> {
    let run = match item.and_then(|item| item.run.as_deref()) {
        Some(id) => store.run(id).await?,
        None => None,
    };
    let mark = match task.has_calendar() {
        true => store.mark(&task.name).await?.map(|mark| mark.reached),
        false => None,
    };
    let unstored = TaskPartition::new(key.clone());
    let state = item.unwrap_or(&unstored).state;
    let (ready, full) = match state {
        TaskState::Ready => {
            (ready_count(store, catalog, task, now).await?, full(store, catalog, task).await?)
        }
        _ => (0, None),
    };
    let (producers, usual) = match state {
        TaskState::Waiting => {
            let item = item.unwrap_or(&unstored);
            (producers(store, catalog, task, item).await?, usual(store, catalog, task, item).await?)
        }
        _ => Default::default(),
    };
    let pauses = store.pauses().await?;
    let backfills = store.backfills().await?;
    let known = Known {
        key,
        item,
        run: run.as_ref(),
        ready,
        mark,
        producers: &producers,
        usual: &usual,
        paused: holding(&pauses, task),
        full: full.as_ref(),
        to_come: backfills.iter().find(|backfill| backfill.is_to_come(key)),
    };
    Ok(why::why(catalog, task, known, now))
}

/// A cap that leaves no room for another run of the task.
async fn full(store: &Store, catalog: &Catalog, task: &Task) -> Result<Option<Full>, StoreError> {
    let profile = catalog.profiles.get(&task.profile);
    let mut caps = profile.map_or_else(Vec::new, |profile| catalog.caps_of_clusters(profile));
    caps.extend(task.max_active.map(|max| (Capped::Task(task.name.clone()), max)));
    for (of, max) in caps {
        let mut cap = store.cap(&of).await?;
        for id in cap.used.keys().cloned().collect::<Vec<_>>() {
            cap.look(&id, store.run(&id).await?.as_ref());
        }
        if cap.count() >= max {
            return Ok(Some(Full { of, count: cap.count(), max }));
        }
    }
    Ok(None)
}

/// Where the partitions stand whose outputs are missing.
async fn producers(
    store: &Store,
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
) -> Result<BTreeMap<TaskKey, TaskState>, StoreError> {
    let mut states = BTreeMap::new();
    for key in why::producers(catalog, task, item).into_iter().take(READS_MAX) {
        if let Some(item) = store.task(&key).await? {
            states.insert(key, item.state);
        }
    }
    Ok(states)
}

/// When the task's inputs were all there for its last partitions, and when the tasks
/// were done that produce what it lacks. One query each.
async fn usual(
    store: &Store,
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
) -> Result<BTreeMap<String, Usual>, StoreError> {
    let mut last = BTreeMap::from([(task.name.clone(), item.key.clone())]);
    for key in why::producers(catalog, task, item) {
        last.entry(key.task.clone())
            .and_modify(|it| *it = key.clone().min(it.clone()))
            .or_insert(key);
    }
    let mut usual = BTreeMap::new();
    for (name, before) in last {
        if let Some(task) = catalog.tasks.get(&name) {
            usual.insert(name, Usual::of(task, &store.timings(&before, TIMINGS).await?));
        }
    }
    Ok(usual)
}

/// How many partitions of the task's profile are ready, counted up to a batch.
async fn ready_count(
    store: &Store,
    catalog: &Catalog,
    task: &Task,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let enough = catalog.profiles.get(&task.profile).map_or(1, |profile| profile.batch_size);
    let same_profile =
        |key: &TaskKey| catalog.tasks.get(&key.task).is_some_and(|t| t.profile == task.profile);
    let (_, due) = store.open(now).await?;
    let mut ready = 0;
    for key in due.iter().filter(|key| same_profile(key)).take(READS_MAX) {
        let item = store.task(key).await?;
        ready += usize::from(item.is_some_and(|item| item.state == TaskState::Ready));
        if ready >= enough {
            break;
        }
    }
    Ok(ready)
}
