//! What a chaos run gives the daemons to do, and what has to come of it. The
//! steps themselves stand in `config.toml`. Not for the faults.

use std::collections::BTreeMap;

use anyhow::Context;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

/// The daemons' configuration.
pub const CONFIG: &str = include_str!("config.toml");
pub const BUCKET: &str = "landing";
/// Prefixes whose objects S3 tells of.
pub const INCOMING: [&str; 3] = ["file/", "marked/", "parts/"];
/// What names our clusters, and what our tables' names start with.
pub const DEPLOYMENT: &str = "chaos";
pub const TABLE_PREFIX: &str = "chaos-";

/// Each hour has one partition of each task; its last step, with which it has
/// succeeded.
pub const TASKS: [(&str, &str); 5] =
    [("count", "count"), ("flaky", "try"), ("load", "load"), ("report", "write"), ("sum", "sum")];
/// The hours of a day in which a task fails for good, as its step has them.
const BAD_HOURS: (&str, [&str; 2]) = ("flaky", ["T07", "T17"]);
/// Of so many objects one is put twice.
const TWICE_IN: usize = 10;
/// Messages that nobody can read.
const UNREADABLE: usize = 5;
/// How far, in parts of the whole, something lands from where it belongs.
const JITTER: f64 = 0.1;

/// A task partition.
pub type Key = (String, String);

/// What the outside world does, and when: a part of the time there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub at: f64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An object of this key is put.
    Object(String),
    /// A message of this text comes to the queue.
    Message(String),
}

/// What is recorded when an object has been: in a task partition's item the
/// attribute `in:DATASET@PARTITION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Key,
    pub attribute: String,
}

#[derive(Debug, Default)]
pub struct Plan {
    /// In order of time.
    pub deliveries: Vec<Delivery>,
    /// The final state of every task partition.
    pub expected: BTreeMap<Key, &'static str>,
    /// What each object's message must leave behind.
    pub records: BTreeMap<String, Vec<Record>>,
    pub unreadable: usize,
}

impl Plan {
    /// As many whole hours as it takes for `partitions`.
    pub fn new(partitions: usize, rng: &mut Rng) -> anyhow::Result<Self> {
        let first: Timestamp = "2013-01-01T00:00:00Z".parse().context("the first hour")?;
        let hours = partitions.div_ceil(TASKS.len());
        let mut plan = Self { unreadable: UNREADABLE, ..Self::default() };
        for number in 0..hours {
            let passed = SignedDuration::from_hours(i64::try_from(number)?);
            plan.add_hour(first + passed, number as f64 / hours as f64, rng);
        }
        for number in 0..UNREADABLE {
            let what = What::Message(format!("this is no notification, number {number}"));
            plan.deliveries.push(Delivery { at: rng.f64(), what });
        }
        plan.deliveries.sort_by(|a, b| a.at.total_cmp(&b.at));
        Ok(plan)
    }

    fn add_hour(&mut self, hour: Timestamp, at: f64, rng: &mut Rng) {
        let name = hour.strftime("%Y-%m-%dT%H").to_string();
        let folder = hour.strftime("%Y/%m/%d/%H").to_string();
        for (task, _) in TASKS {
            let (fails, bad_hours) = BAD_HOURS;
            let bad = task == fails && bad_hours.iter().any(|bad| name.ends_with(bad));
            let state = if bad { "failed" } else { "succeeded" };
            self.expected.insert((task.to_owned(), name.clone()), state);
        }
        self.add_object(format!("file/{folder}.csv"), "file", &["flaky", "load"], &name, at, rng);
        let marker = format!("marked/{folder}/_SUCCESS");
        self.add_object(marker, "marked", &["sum"], &name, at, rng);
        for part in 0..3 {
            let key = format!("parts/{folder}/{part}");
            self.add_object(key, "parts", &["count"], &name, at, rng);
        }
    }

    fn add_object(
        &mut self,
        key: String,
        dataset: &str,
        readers: &[&str],
        partition: &str,
        at: f64,
        rng: &mut Rng,
    ) {
        let records = readers.iter().map(|task| Record {
            key: ((*task).to_owned(), partition.to_owned()),
            attribute: format!("in:{dataset}@{partition}"),
        });
        self.records.insert(key.clone(), records.collect());
        let times = if rng.usize(..TWICE_IN) == 0 { 2 } else { 1 };
        for _ in 0..times {
            let at = (at + rng.f64() * JITTER).min(1.0);
            self.deliveries.push(Delivery { at, what: What::Object(key.clone()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::config::Config;

    #[test]
    fn every_task_of_the_configuration_has_its_partitions() {
        let config = Config::parse(CONFIG).unwrap();
        assert!(config.tasks.keys().eq(TASKS.map(|(task, _)| task).iter()));
        assert_eq!(config.aws.table_prefix, TABLE_PREFIX);
        let plan = Plan::new(520, &mut Rng::with_seed(1)).unwrap();
        assert_eq!(plan.expected.len(), 520);
        let failed = plan.expected.values().filter(|state| **state == "failed").count();
        assert_eq!(failed, 9, "104 hours have T07 five times and T17 four times");
        assert_eq!(plan.records.len(), 5 * 104);
        assert_eq!(plan.records["file/2013/01/01/05.csv"].len(), 2);
        assert!(plan.deliveries.len() > plan.records.len() + UNREADABLE, "some come twice");
    }

    #[test]
    fn a_seed_gives_the_same_plan_again() {
        let plan = |seed| Plan::new(50, &mut Rng::with_seed(seed)).unwrap().deliveries;
        assert_eq!(plan(3), plan(3));
        assert_ne!(plan(3), plan(4));
    }
}
