//! Garbage collection, for a command: what the tables' own expiry leaves, because
//! nobody knew when it was written how long it would be needed, or because an older
//! version wrote it. Deletes only what is left of what has ended and is older than it
//! is kept. Not for the service, which never looks at whole tables.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use ulid::Ulid;

use crate::aws::error::AwsError;
use crate::aws::s3::S3;
use crate::aws::store::{Kept, Remnant, Store, StoreError, Table};
use crate::clock::Clock;
use crate::core::catalog::Catalog;
use crate::core::partition::Partition;
use crate::core::retention::is_over;
use crate::core::task::TaskKey;

/// Items of one request.
const PAGE_ITEMS: i32 = 200;
/// Objects of one request.
const PAGE_OBJECTS: usize = 1_000;

/// What it works on, and how.
pub struct Gc<'a> {
    pub store: &'a Store,
    pub s3: &'a S3,
    pub catalog: &'a Catalog,
    pub clock: &'a Clock,
    /// Read units a second of real time.
    pub rate: f64,
    pub dry_run: bool,
}

/// What was found so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    pub looked_at: u64,
    /// Kind → how many were left over: deleted, unless nothing is to be.
    pub left_over: BTreeMap<&'static str, u64>,
    /// Left alone: changed meanwhile.
    pub changed: u64,
    /// Left alone: their dataset is not declared, so nobody can tell who reads them.
    pub undeclared: u64,
}

/// Where the last judgement of items beside each other may be used again.
#[derive(Default)]
struct Judged {
    runs: BTreeMap<String, bool>,
    journal: Option<((String, Partition), bool)>,
    reads: u32,
}

impl Gc<'_> {
    /// Goes through all tables and the manifests of loads, and says how far it is.
    pub async fn run(&self, told: impl Fn(&Collected)) -> Result<Collected, GcError> {
        let mut found = Collected::default();
        for table in Table::ALL {
            let mut from = None;
            loop {
                let page = self.store.scan(table, from, PAGE_ITEMS).await?;
                found.looked_at += page.looked_at as u64;
                let mut judged = Judged::default();
                for remnant in &page.remnants {
                    self.collect(remnant, &mut judged, &mut found).await?;
                }
                told(&found);
                from = page.next;
                if from.is_none() {
                    break;
                }
                self.pause(page.read_units + f64::from(judged.reads)).await;
            }
        }
        self.manifests(&mut found, told).await?;
        Ok(found)
    }

    /// So that others find the tables as fast as before.
    async fn pause(&self, read_units: f64) {
        let span = SignedDuration::try_from_secs_f64(
            read_units / self.rate.max(f64::MIN_POSITIVE) * self.clock.factor(),
        );
        let until = span.ok().and_then(|span| self.clock.now().checked_add(span).ok());
        self.clock.sleep_until(until.unwrap_or_else(|| self.clock.now())).await;
    }

    async fn collect(
        &self,
        remnant: &Remnant,
        judged: &mut Judged,
        found: &mut Collected,
    ) -> Result<(), GcError> {
        let (kind, over) = self.judge(&remnant.what, judged, found).await?;
        if !over {
            return Ok(());
        }
        match self.dry_run || self.store.delete(remnant).await? {
            true => *found.left_over.entry(kind).or_default() += 1,
            false => found.changed += 1,
        }
        Ok(())
    }

    /// What it is, and whether nobody needs it any more.
    async fn judge(
        &self,
        what: &Kept,
        judged: &mut Judged,
        found: &mut Collected,
    ) -> Result<(&'static str, bool), GcError> {
        let (now, retention) = (self.clock.now(), self.store.retention());
        let is_past = |expires: Option<Timestamp>| expires.is_some_and(|expires| expires <= now);
        Ok(match what {
            Kept::Partition(item) => {
                // What is not hidden then would count as new.
                let over = is_over(item, retention, now)
                    && self.store.is_beyond(&item.key, None, now).await?;
                ("partitions", over)
            }
            Kept::Backfill(backfill) => {
                let over = backfill.ended.filter(|_| backfill.notices.is_empty());
                ("backfills", is_past(over.and_then(|over| retention.run_expires(over))))
            }
            Kept::Notices { expires } => ("notices", is_past(Some(*expires))),
            Kept::Run { over } => {
                ("runs", is_past(over.and_then(|over| retention.run_expires(over))))
            }
            Kept::Claim { run } => {
                let old = is_past(made_at(run).and_then(|made| retention.run_expires(made)));
                ("claims", old && !self.has_run(run, judged).await?)
            }
            Kept::Inputs { key, run } => {
                let made = made_at(run);
                let old = is_past(
                    made.and_then(|made| retention.partition_expires(&key.partition, made)),
                );
                ("inputs", old && !self.has_run(run, judged).await? && self.is_gone(key).await?)
            }
            Kept::Journal { dataset, partition } => {
                if !self.catalog.datasets.contains_key(dataset) {
                    found.undeclared += 1;
                    return Ok(("journal rows", false));
                }
                let old = is_past(retention.beside_expires(partition.end()));
                ("journal rows", old && self.is_unread(dataset, *partition, judged).await?)
            }
        })
    }

    async fn has_run(&self, run: &str, judged: &mut Judged) -> Result<bool, StoreError> {
        if let Some(known) = judged.runs.get(run) {
            return Ok(*known);
        }
        judged.reads += 1;
        let has = self.store.has_run(run).await?;
        judged.runs.insert(run.to_owned(), has);
        Ok(has)
    }

    /// Whether nothing is known of a partition, nor will be by itself.
    async fn is_gone(&self, key: &TaskKey) -> Result<bool, StoreError> {
        let item = self.store.task(key).await?;
        self.store.is_forgotten(key, item.as_ref(), self.clock.now()).await
    }

    /// Whether every task partition that reads a partition of a dataset is gone.
    async fn is_unread(
        &self,
        dataset: &str,
        partition: Partition,
        judged: &mut Judged,
    ) -> Result<bool, StoreError> {
        let place = (dataset.to_owned(), partition);
        if let Some((_, unread)) = judged.journal.as_ref().filter(|(last, _)| *last == place) {
            return Ok(*unread);
        }
        let readers = self.catalog.readers_of(dataset, &partition);
        // Whoever declares its reader again still needs it.
        let mut unread = !readers.is_empty();
        for reader in readers.iter().rev() {
            judged.reads += 1;
            if !self.is_gone(reader).await? {
                unread = false;
                break;
            }
        }
        judged.journal = Some((place, unread));
        Ok(unread)
    }

    /// The manifests of loads, whose partitions are gone.
    async fn manifests(
        &self,
        found: &mut Collected,
        told: impl Fn(&Collected),
    ) -> Result<(), GcError> {
        for warehouse in self.catalog.warehouses.values() {
            let (bucket, prefix) = &warehouse.manifests;
            let mut from = None;
            loop {
                let page = self.s3.page(bucket, prefix, PAGE_OBJECTS, from).await?;
                found.looked_at += page.objects.len() as u64;
                for object in &page.objects {
                    if self.is_manifest_over(prefix, &object.key).await? {
                        if !self.dry_run {
                            self.s3.delete(bucket, &object.key).await?;
                        }
                        *found.left_over.entry("manifests").or_default() += 1;
                    }
                }
                told(found);
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// `PREFIX TASK/PARTITION/RUN-ATTEMPT.json`; anything else is not ours.
    async fn is_manifest_over(&self, prefix: &str, key: &str) -> Result<bool, StoreError> {
        let Some((key, made)) = key.strip_prefix(prefix).and_then(manifest_of) else {
            return Ok(false);
        };
        let expires = self.store.retention().partition_expires(&key.partition, made);
        let old = expires.is_some_and(|expires| expires <= self.clock.now());
        Ok(old && self.is_gone(&key).await?)
    }
}

/// When a run was made: its id says so.
fn made_at(run: &str) -> Option<Timestamp> {
    let millis = run.parse::<Ulid>().ok()?.timestamp_ms();
    Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok()
}

/// Of which task partition a manifest is, and when its run was made.
fn manifest_of(name: &str) -> Option<(TaskKey, Timestamp)> {
    let mut parts = name.strip_suffix(".json")?.split('/');
    let (task, partition, run) = (parts.next()?, parts.next()?, parts.next()?);
    let (run, attempt) = run.split_once('-')?;
    let is_number = !attempt.is_empty() && attempt.bytes().all(|byte| byte.is_ascii_digit());
    let whole = parts.next().is_none() && is_number;
    let key = TaskKey::new(task, partition.parse().ok()?);
    whole.then_some((key, made_at(run)?))
}

#[derive(Debug, thiserror::Error)]
pub enum GcError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Aws(#[from] AwsError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_sluicegate_has_written_is_taken_for_a_manifest() {
        let run = "01CY2Z6NY0ABCDEFGHJKMNPQRS";
        let (key, made) = manifest_of(&format!("etl/2013-01-01T05/{run}-2.json")).unwrap();
        assert_eq!(key.to_string(), "etl 2013-01-01T05");
        assert_eq!(Some(made), made_at(run));
        for other in [
            format!("etl/2013-01-01T05/{run}.json"),
            format!("etl/2013-01-01T05/{run}-2.csv"),
            format!("etl/2013-01-01T05/{run}-x.json"),
            format!("etl/2013-01-01T05/more/{run}-2.json"),
            format!("etl/yesterday/{run}-2.json"),
            "etl/2013-01-01T05/report-2.json".to_owned(),
            String::new(),
        ] {
            assert_eq!(manifest_of(&other), None, "{other}");
        }
    }
}
