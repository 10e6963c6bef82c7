//! How long what has ended is kept, and which partitions are so old that what was
//! stored of them may be gone: those are not begun again by themselves. Not for
//! deleting anything: DynamoDB does by the instants that are computed here, and `gc`.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Completeness, LateData, Task};
use super::listing::Found;
use super::notice::{Fact, Kind, Notice, Severity};
use super::operate::Refused;
use super::partition::Partition;
use super::task::{TaskKey, TaskPartition};

/// Nothing is deleted before it has counted as gone for so long: then it makes no
/// difference who sweeps when, nor by whose clock.
const GRACE: SignedDuration = SignedDuration::from_hours(24);
/// For so long after a change some may still be kept by the retention before it: a
/// deployment may roll slowly, and what runs ahead of its time ends before its end.
const OVERLAP: SignedDuration = SignedDuration::from_hours(31 * 24);

/// How long is kept what has ended; None is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Task partitions, and what was stored of their inputs.
    pub partitions: Option<SignedDuration>,
    /// Runs and backfills.
    pub runs: Option<SignedDuration>,
}

fn after(from: Timestamp, span: SignedDuration) -> Timestamp {
    from.saturating_add(span).unwrap_or(Timestamp::MAX)
}

impl Retention {
    /// When a task partition that ended `at` may be deleted.
    pub fn partition_expires(&self, partition: &Partition, at: Timestamp) -> Option<Timestamp> {
        let kept = self.partitions?;
        Some(after(after(at.max(partition.end()), kept), GRACE))
    }

    /// When what is written for a task partition before its end may be deleted, if the
    /// partition is under way by `until`: twice as late, so that it outlives it.
    pub fn beside_expires(&self, until: Timestamp) -> Option<Timestamp> {
        let kept = self.partitions?;
        Some(after(after(after(until, kept), kept), GRACE))
    }

    /// When a run or a backfill that ended `at` may be deleted.
    pub fn run_expires(&self, at: Timestamp) -> Option<Timestamp> {
        Some(after(after(at, self.runs?), GRACE))
    }
}

/// Whether what expires then counts as gone, deleted or not.
pub fn is_gone(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_some_and(|expires| expires <= after(now, GRACE))
}

impl TaskPartition {
    /// Whether it counts as gone; what is open never does, whatever an older version
    /// has left in it.
    pub fn is_gone(&self, now: Timestamp) -> bool {
        self.state.is_final() && is_gone(self.expires, now)
    }
}

/// The retentions that were in force: what one of them has let go stays gone under a
/// longer one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Horizon {
    /// Rises by one with every write; kept beside the rest in the table.
    #[serde(skip)]
    pub version: u64,
    /// Oldest first; at most the last one is in force.
    periods: Vec<Period>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Period {
    from: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// How long task partitions were kept.
    kept: SignedDuration,
}

impl Period {
    /// Whether a partition whose task is known since `seen` may have ended under it
    /// and be gone.
    fn hides(&self, partition: &Partition, seen: Timestamp, now: Timestamp) -> bool {
        let ended = partition.end();
        self.until.is_none_or(|until| ended <= after(until, OVERLAP))
            && after(ended, self.kept) <= now
            && after(self.from.max(seen), self.kept) <= now
    }
}

impl Horizon {
    /// The retention of task partitions in force; None keeps them for ever.
    pub fn kept(&self) -> Option<SignedDuration> {
        self.periods.last().filter(|last| last.until.is_none()).map(|last| last.kept)
    }

    /// Whether what was stored of a partition may be gone, for a task that is known
    /// since `seen`.
    pub fn hides(&self, partition: &Partition, seen: Timestamp, now: Timestamp) -> bool {
        self.periods.iter().any(|period| period.hides(partition, seen, now))
    }

    /// From now on partitions are kept so long; false if they were before.
    pub fn keep(&mut self, kept: Option<SignedDuration>, now: Timestamp) -> bool {
        if self.kept() == kept {
            return false;
        }
        if let Some(last) = self.periods.last_mut() {
            last.until.get_or_insert(now);
        }
        // One that the last has overtaken hides nothing more than that one does.
        if let Some(last) = self.periods.last().copied() {
            let overtaken = |period: &Period| {
                let until = period.until.map_or(Timestamp::MAX, |until| after(until, OVERLAP));
                *period != last && after(until.max(last.from), last.kept) <= now
            };
            self.periods.retain(|period| !overtaken(period));
        }
        self.periods.extend(kept.map(|kept| Period { from: now, until: None, kept }));
        true
    }
}

/// Until when a task partition may wait for this partition of a dataset; None where
/// one may wait for ever.
pub fn awaited_until(catalog: &Catalog, dataset: &str, partition: &Partition) -> Option<Timestamp> {
    let mut until = partition.end();
    for reader in catalog.readers_of(dataset, partition) {
        let wait = catalog.tasks.get(&reader.task)?.wait?;
        until = until.max(wait.deadline(&reader.partition));
    }
    Some(until)
}

/// For how long after its end something may come for a partition of a task for the
/// first time, and the setting that says so.
pub fn needed(catalog: &Catalog, task: &Task) -> (SignedDuration, &'static str) {
    let zero = (SignedDuration::ZERO, "wait-timeout");
    let wait = task.wait.map_or(zero, |wait| (wait.timeout, "wait-timeout"));
    let late = match task.late_data {
        LateData::RunAgain { until, .. } => (until, "late-data"),
        _ => zero,
    };
    let windows = task.inputs.iter().map(|input| {
        let settle = match catalog.datasets.get(&input.dataset).map(|found| &found.completeness) {
            Some(Completeness::Closed { settle }) => *settle,
            Some(Completeness::Quiet { quiet }) => *quiet,
            _ => SignedDuration::ZERO,
        };
        let behind = input.to.saturating_sub(task.grain.length()).max(SignedDuration::ZERO);
        (behind.saturating_add(settle), "inputs")
    });
    windows.chain([wait, late]).max_by_key(|(span, _)| *span).unwrap_or(zero)
}

/// A person wants something of a partition that may be gone.
pub fn refused(key: &TaskKey, kept: Option<SignedDuration>) -> Refused {
    Refused {
        key: key.clone(),
        state: format!("{}, and nothing is stored of it", older_than(kept)),
        advice: format!(
            "whether it has run before is not known any more; to run it all the same: sluicegate \
             backfill {} --from {p} --to {p} --force",
            key.task,
            p = key.partition
        ),
    }
}

/// `ended longer ago than partitions are kept (90d)`.
fn older_than(kept: Option<SignedDuration>) -> String {
    match kept {
        Some(kept) => format!("ended longer ago than partitions are kept ({})", days(kept)),
        None => "ended longer ago than partitions were kept".to_owned(),
    }
}

/// Why such a partition is where it is.
pub fn too_old_words(kept: Option<SignedDuration>) -> String {
    format!(
        "{}: whether it has run is not known any more, and only a person begins it (sluicegate \
         backfill with --force)",
        older_than(kept)
    )
}

/// A span as a person writes it: `90d`, `15d 12h`.
pub fn days(span: SignedDuration) -> String {
    let (days, rest) = (span.as_hours() / 24, span.as_secs() % (24 * 3600));
    let rest_words = format!("{:#}", SignedDuration::from_secs(rest));
    match (days, rest) {
        (0, _) => rest_words,
        (days, 0) => format!("{days}d"),
        (days, _) => format!("{days}d {rest_words}"),
    }
}

/// Objects came for partitions that may be gone.
pub fn too_old(found: &Found, kept: Option<SignedDuration>, id: String, now: Timestamp) -> Notice {
    let headline = match found.objects() {
        1 => "an object came for a partition that is too old".to_owned(),
        more => format!("{more} objects came for partitions that are too old"),
    };
    Notice::new(Kind::Service, id, now, Severity::Warning, "too-old", headline)
        .detailed(&found.names().join(", "))
        .saying(format!(
            "What they came for {}: it may have run before, and is not begun again by itself",
            older_than(kept)
        ))
        .with(found.facts("came"))
        .with([Fact::new(
            "next",
            "nothing is stored of them; if these partitions are to run: sluicegate backfill TASK \
             --from FIRST --to LAST --force; if this is usual, lengthen [retention] partitions",
        )])
}

/// What `gc` may delete of the task table.
pub fn is_over(item: &TaskPartition, retention: &Retention, now: Timestamp) -> bool {
    let ended = item.since.unwrap_or_else(|| item.key.partition.end());
    item.state.is_final()
        && item.notices.is_empty()
        && !item.outputs_pending
        && item.due.is_none()
        && retention
            .partition_expires(&item.key.partition, ended)
            .is_some_and(|expires| expires <= now)
}

#[cfg(test)]
mod tests;
