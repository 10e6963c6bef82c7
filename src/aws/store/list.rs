//! What people ask for: the newest partitions of a task with their counts by
//! state, the newest runs, what is open. Queries only, all bounded; never a
//! scan, which the service's role may not do.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use jiff::Timestamp;
use serde::Serialize;

use super::item::{self, Item};
use super::{DueKey, Store, StoreError, run, tables};
use crate::aws::error::AwsError;
use crate::core::partition::Partition;
use crate::core::retention;
use crate::core::run::RunState;
use crate::core::task::{TaskKey, TaskState};
use crate::core::why::Timing;

/// Runs that a filtered list looks through.
const SEARCHED_MAX: usize = 10_000;

/// Open runs that are read one by one.
const OPEN_SHOWN_MAX: usize = 100;

/// A task partition as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionGlance {
    pub partition: Partition,
    pub state: TaskState,
    /// When it entered the state, if it ever changed.
    pub since: Option<Timestamp>,
    pub run: Option<String>,
    pub reason: Option<String>,
}

/// A task's partitions in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TaskGlance {
    /// State → how many partitions are in it.
    pub counts: BTreeMap<&'static str, usize>,
    pub newest: Vec<PartitionGlance>,
    /// The oldest partition that still waits.
    pub oldest_waiting: Option<Partition>,
    /// More partitions exist than were counted.
    pub truncated: bool,
    /// Items that this version cannot read.
    pub unreadable: usize,
}

/// A run as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunGlance {
    pub id: String,
    pub state: RunState,
    pub profile: String,
    /// The first task partitions, and how many more.
    pub members: String,
    pub tasks: Vec<String>,
    pub attempts: u64,
    /// The last attempt's cluster.
    pub cluster: Option<String>,
    pub created: Option<Timestamp>,
    pub ended: Option<Timestamp>,
}

/// Which runs to list; what is None is not asked for.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub task: Option<String>,
    pub profile: Option<String>,
    pub state: Option<RunState>,
}

/// Some runs, newest first, and whether more were not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Runs {
    pub runs: Vec<RunGlance>,
    pub truncated: bool,
}

impl Store {
    /// A task's newest partitions, and the counts by state of the `most` newest.
    pub async fn glance(
        &self,
        task: &str,
        newest: usize,
        most: usize,
        now: Timestamp,
    ) -> Result<TaskGlance, StoreError> {
        let mut glance = TaskGlance::default();
        let mut from = None;
        let mut counted = 0;
        loop {
            let page = self
                .query(&self.task_table)
                .key_condition_expression("#task = :task")
                .projection_expression("#partition, #state, #since, #run, #reason, #expires")
                .expression_attribute_names("#task", item::TASK)
                .expression_attribute_names("#partition", item::PARTITION)
                .expression_attribute_names("#state", item::STATE)
                .expression_attribute_names("#since", super::task::SINCE)
                .expression_attribute_names("#run", super::task::RUN)
                .expression_attribute_names("#reason", super::task::REASON)
                .expression_attribute_names("#expires", item::EXPIRES)
                .expression_attribute_values(":task", item::text(task))
                .scan_index_forward(false)
                .limit(i32::try_from(most - counted).unwrap_or(i32::MAX))
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            for found in page.items.unwrap_or_default() {
                // The schedule's mark stands among the partitions.
                if !found.contains_key(item::STATE) {
                    continue;
                }
                counted += 1;
                match partition_glance(&found) {
                    // Swept soon: it counts as gone already.
                    Some(glanced) if glanced.state.is_final() && is_gone(&found, now) => {}
                    Some(found) => glance.take(found, newest),
                    None => glance.unreadable += 1,
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() || counted >= most {
                glance.truncated = from.is_some();
                return Ok(glance);
            }
        }
    }

    /// When a task's last partitions before this one were ready and done, the newest
    /// first; `count` of those that are stored are looked at.
    pub async fn timings(&self, before: &TaskKey, count: i32) -> Result<Vec<Timing>, StoreError> {
        let page = self
            .query(&self.task_table)
            .key_condition_expression("#task = :task AND #partition < :before")
            .projection_expression("#partition, #state, #since, #ready, #round, #backfill")
            .expression_attribute_names("#task", item::TASK)
            .expression_attribute_names("#partition", item::PARTITION)
            .expression_attribute_names("#state", item::STATE)
            .expression_attribute_names("#since", super::task::SINCE)
            .expression_attribute_names("#ready", super::task::READY_AT)
            .expression_attribute_names("#round", super::task::ROUND)
            .expression_attribute_names("#backfill", super::task::BACKFILL)
            .expression_attribute_values(":task", item::text(&before.task))
            .expression_attribute_values(":before", item::text(before.partition.to_string()))
            .scan_index_forward(false)
            .limit(count)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
        Ok(page.items.unwrap_or_default().iter().filter_map(timing).collect())
    }

    /// The newest runs that pass the filter, at most `limit`.
    pub async fn runs(&self, filter: &RunFilter, limit: usize) -> Result<Runs, StoreError> {
        let mut runs = Vec::new();
        let mut from = None;
        let mut searched = 0;
        loop {
            let page = self
                .recent()
                .key_condition_expression("#shard = :shard")
                .scan_index_forward(false)
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            let found = page.items.unwrap_or_default();
            searched += found.len();
            for found in found.iter().filter_map(run_glance) {
                if !filter.passes(&found) {
                    continue;
                }
                if runs.len() == limit {
                    return Ok(Runs { runs, truncated: true });
                }
                runs.push(found);
            }
            from = page.last_evaluated_key;
            if from.is_none() || searched >= SEARCHED_MAX {
                return Ok(Runs { runs, truncated: from.is_some() });
            }
        }
    }

    /// The ids of runs that begin so, at most two: enough to tell whether the
    /// beginning is unique.
    pub async fn run_ids(&self, beginning: &str) -> Result<Vec<String>, StoreError> {
        let page = self
            .recent()
            .key_condition_expression("#shard = :shard AND begins_with(#id, :beginning)")
            .expression_attribute_names("#id", item::RUN_ID)
            .expression_attribute_values(":beginning", item::text(beginning))
            .limit(2)
            .send()
            .await
            .map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
        let found = page.items.unwrap_or_default();
        Ok(found.iter().filter_map(|found| text_of(found, item::RUN_ID)).collect())
    }

    /// Runs as a list shows them, of those ids that exist; at most
    /// [`OPEN_SHOWN_MAX`].
    pub async fn run_glances(&self, ids: &[String]) -> Result<Vec<RunGlance>, StoreError> {
        let mut found = Vec::new();
        for id in ids.iter().take(OPEN_SHOWN_MAX) {
            let names = run::GLANCE.iter().enumerate();
            let names: HashMap<_, _> = names
                .map(|(number, name)| (format!("#n{number}"), (*name).to_owned()))
                .chain([("#id".to_owned(), item::RUN_ID.to_owned())])
                .collect();
            let projection = names.keys().cloned().collect::<Vec<_>>().join(", ");
            let answer = self
                .client
                .get_item()
                .table_name(&self.run_table)
                .key(item::RUN_ID, item::text(id))
                .projection_expression(projection)
                .set_expression_attribute_names(Some(names))
                .send()
                .await
                .map_err(|error| AwsError::new("DynamoDB", "GetItem", &error))?;
            found.extend(answer.item.as_ref().and_then(run_glance));
        }
        Ok(found)
    }

    /// Open runs, and task partitions that the engine is to look at by `now`,
    /// by their keys.
    pub async fn open(&self, now: Timestamp) -> Result<(Vec<String>, Vec<TaskKey>), StoreError> {
        let (mut runs, mut tasks) = (Vec::new(), Vec::new());
        for (key, _) in self.due(now).await? {
            match key {
                DueKey::Run(id) => runs.push(id),
                DueKey::Task(key) => tasks.push(key),
                DueKey::Pause(_) | DueKey::Backfill(_) | DueKey::Fold(_) => {}
            }
        }
        Ok((runs, tasks))
    }

    fn query(&self, table: &str) -> QueryFluentBuilder {
        self.client.query().table_name(table)
    }

    fn recent(&self) -> QueryFluentBuilder {
        self.query(&self.run_table)
            .index_name(tables::RECENT_INDEX)
            .expression_attribute_names("#shard", item::SHARD)
            .expression_attribute_values(":shard", item::text(item::ONE_SHARD))
    }
}

impl TaskGlance {
    fn take(&mut self, found: PartitionGlance, newest: usize) {
        *self.counts.entry(found.state.name()).or_default() += 1;
        // They come newest first, so the last one seen is the oldest.
        if found.state == TaskState::Waiting {
            self.oldest_waiting = Some(found.partition);
        }
        if self.newest.len() < newest {
            self.newest.push(found);
        }
    }
}

impl RunFilter {
    fn passes(&self, run: &RunGlance) -> bool {
        self.task.as_ref().is_none_or(|task| run.tasks.contains(task))
            && self.profile.as_ref().is_none_or(|profile| run.profile == *profile)
            && self.state.is_none_or(|state| run.state == state)
    }
}

fn text_of(item: &Item, name: &str) -> Option<String> {
    item::read_optional_text(item, name)
}

fn is_gone(item: &Item, now: Timestamp) -> bool {
    item::read_expiry(item).is_ok_and(|expires| retention::is_gone(expires, now))
}

fn partition_glance(item: &Item) -> Option<PartitionGlance> {
    Some(PartitionGlance {
        partition: text_of(item, item::PARTITION)?.parse().ok()?,
        state: text_of(item, item::STATE)?.parse().ok()?,
        since: item::read_instant(item, super::task::SINCE).ok()?,
        run: text_of(item, super::task::RUN),
        reason: text_of(item, super::task::REASON),
    })
}

/// None of what a person has asked for.
fn timing(item: &Item) -> Option<Timing> {
    let asked = [super::task::ROUND, super::task::BACKFILL];
    if asked.iter().any(|name| item.contains_key(*name)) {
        return None;
    }
    let glance = partition_glance(item)?;
    Some(Timing {
        partition: glance.partition,
        ready: item::read_instant(item, super::task::READY_AT).ok()?,
        succeeded: glance.since.filter(|_| glance.state == TaskState::Succeeded),
    })
}

/// None for a run that a newer version wrote.
fn run_glance(item: &Item) -> Option<RunGlance> {
    let state = text_of(item, item::STATE)?;
    Some(RunGlance {
        id: text_of(item, item::RUN_ID)?,
        state: RunState::ALL.into_iter().find(|known| known.name() == state)?,
        profile: text_of(item, run::PROFILE)?,
        members: text_of(item, run::MEMBERS).unwrap_or_default(),
        tasks: item
            .get(run::TASKS)
            .and_then(|tasks| tasks.as_ss().ok())
            .cloned()
            .unwrap_or_default(),
        attempts: item::read_number(item, run::ATTEMPTS).unwrap_or(0),
        cluster: text_of(item, run::CLUSTER),
        created: item::read_instant(item, run::CREATED).ok()?,
        ended: item::read_instant(item, run::ENDED).ok()?,
    })
}
