//! What the configuration declares, checked and indexed: datasets, tasks and
//! cluster profiles, which key belongs to which dataset, and which task
//! partitions a dataset partition touches. Holds nothing that changes while the
//! service runs.

mod limits;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::ClusterSpec;
use super::lateness::TimeLimits;
use super::load::{LoadSpec, Warehouse};
use super::partition::{Grain, Partition};
use super::render::Text;
use super::schedule::Schedule;
use super::task::{Element, TaskKey};
use super::template::Template;

pub use limits::{AttemptLimits, AttemptPolicy};

/// A set of objects cut into partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    pub name: String,
    pub location: Template,
    pub completeness: Completeness,
    /// S3 may be asked which objects are there.
    pub list: bool,
}

impl Dataset {
    /// Whether S3 is asked which objects are there: of what a task makes, the
    /// task says so.
    pub fn is_listed(&self) -> bool {
        self.list && !matches!(self.completeness, Completeness::Produced { .. })
    }

    /// Whether its periods are over by time alone, and S3 is asked before that is
    /// believed.
    pub fn is_listed_at_its_close(&self) -> bool {
        self.list && matches!(self.completeness, Completeness::Closed { .. })
    }

    /// Whether its objects go into the journal.
    pub fn is_journalled(&self) -> bool {
        match self.completeness {
            Completeness::Count { .. }
            | Completeness::Quiet { .. }
            | Completeness::Closed { .. } => true,
            Completeness::Object | Completeness::Marker { .. } | Completeness::Produced { .. } => {
                false
            }
        }
    }

    /// Whether an object that belongs to the dataset says something about
    /// completeness: beside a marker only the marker does.
    pub fn counts(&self, key: &str) -> bool {
        match &self.completeness {
            Completeness::Marker { name } => self.location.rest(key) == Some(name),
            _ => true,
        }
    }
}

/// When a dataset partition is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completeness {
    /// Its one object has arrived.
    Object,
    /// The object of this name has arrived beside the others (`_SUCCESS`).
    Marker { name: String },
    /// So many distinct objects have arrived.
    Count { objects: u64 },
    /// At least one object has arrived, and then none for so long.
    Quiet { quiet: SignedDuration },
    /// Its period is over and `settle` has passed since: every object that
    /// Firehose buffered for it has landed.
    Closed { settle: SignedDuration },
    /// The task that lists it as an output has succeeded (or was skipped).
    Produced { task: String },
}

/// What a task does when an input holds no data at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhenEmpty {
    #[default]
    Run,
    Skip,
    Fail,
}

/// What a task does about data that comes after it has taken its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LateData {
    /// Record it, and nothing else.
    Ignore,
    /// Record it and tell people, at most once an hour.
    #[default]
    Alert,
    /// Tell people, and run what has succeeded or was skipped once more.
    RunAgain {
        /// No more once this time has passed since the partition's end.
        until: SignedDuration,
        /// So long after its last end at the earliest, and twice as long each time.
        back_off: SignedDuration,
    },
}

/// How many of several things must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    #[default]
    All,
    /// 1 is "any".
    AtLeast(u32),
}

/// What a task does when it has waited long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeout {
    #[default]
    Fail,
    /// Run with what is there.
    Run,
}

/// How long a task partition waits for its inputs after its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitLimit {
    pub timeout: SignedDuration,
    pub then: OnTimeout,
}

impl WaitLimit {
    pub fn deadline(&self, partition: &Partition) -> Timestamp {
        partition.end().saturating_add(self.timeout).unwrap_or(Timestamp::MAX)
    }
}

/// A dataset that a task reads, and which of its partitions: those that
/// overlap `[start + from, start + to)` of the task partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub dataset: String,
    pub from: SignedDuration,
    pub to: SignedDuration,
    /// How many partitions of the window.
    pub need: Need,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub name: String,
    pub profile: String,
    pub grain: Grain,
    /// So many of its partitions run at once at most.
    pub max_active: Option<u32>,
    pub schedule: Option<Schedule>,
    pub inputs: Vec<Input>,
    /// How many of the inputs.
    pub need: Need,
    pub wait: Option<WaitLimit>,
    /// When people are told that a partition is late.
    pub time_limits: TimeLimits,
    pub outputs: Vec<String>,
    pub when_empty: WhenEmpty,
    pub late_data: LateData,
    /// A step that runs longer is cancelled, which is a failed try.
    pub attempt_timeout: Option<SignedDuration>,
    pub steps: Vec<StepSpec>,
    /// What goes into the warehouse when the steps have completed.
    pub load: Option<LoadSpec>,
}

impl Task {
    /// Whether time alone calls its partitions into being: its schedule, or
    /// the end of each partition where waiting has a limit, or lateness has.
    pub fn has_calendar(&self) -> bool {
        self.schedule.is_some() || self.wait.is_some() || self.time_limits.expect_partitions()
    }
}

/// A step as written in the configuration, placeholders not yet filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSpec {
    pub name: String,
    pub work: StepWork,
    pub retry: Retry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepWork {
    SparkSubmit { options: Vec<Text>, script: Text, args: Vec<Text> },
    Hive { form: HiveForm, script: Text, variables: BTreeMap<String, Text> },
    Command { args: Vec<Text> },
    Jar { jar: Text, main_class: Option<String>, args: Vec<Text> },
}

/// How a Hive script is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HiveForm {
    /// `hive -f SCRIPT --hivevar NAME=VALUE`
    #[default]
    Hive,
    /// `hive-script --run-hive-script --args -f SCRIPT -d NAME=VALUE`, EMR's own
    /// and older form.
    HiveScript,
}

/// The retry block of a step: like Step Functions', `attempts` counts the
/// retries after the first try.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    pub attempts: u32,
    pub delay: SignedDuration,
    pub backoff_rate: f64,
}

impl Retry {
    /// How long to wait after the `failed`-th failure (1 is the first); None
    /// when no retry is left.
    pub fn delay_after(&self, failed: u32) -> Option<SignedDuration> {
        if failed == 0 || failed > self.attempts {
            return None;
        }
        let exponent = i32::try_from(failed - 1).unwrap_or(i32::MAX);
        let secs = self.delay.as_secs_f64() * self.backoff_rate.powi(exponent);
        // Out of range means longer than any cluster lives.
        Some(SignedDuration::try_from_secs_f64(secs).unwrap_or(SignedDuration::MAX))
    }
}

/// How ready partitions gather, and the cluster they get.
#[derive(Debug, Clone)]
pub struct Profile {
    pub name: String,
    pub batch_size: usize,
    /// So many of its clusters are at work at once at most.
    pub max_clusters: Option<u32>,
    pub max_wait: SignedDuration,
    pub limits: AttemptLimits,
    pub cluster: ClusterSpec,
}

/// Everything declared, with the indexes that make an arrival cost no look-up.
#[derive(Debug)]
pub struct Catalog {
    pub deployment: String,
    pub datasets: BTreeMap<String, Dataset>,
    pub profiles: BTreeMap<String, Profile>,
    pub tasks: BTreeMap<String, Task>,
    pub warehouses: BTreeMap<String, Warehouse>,
    /// So many clusters are at work at once at most.
    pub max_clusters: Option<u32>,
    /// Bucket → literal start of the key → datasets.
    by_prefix: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Dataset → tasks that read it.
    readers: BTreeMap<String, BTreeSet<String>>,
}

impl Catalog {
    pub fn new(
        deployment: String,
        datasets: Vec<Dataset>,
        profiles: Vec<Profile>,
        tasks: Vec<Task>,
    ) -> Self {
        let mut by_prefix: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
        for dataset in &datasets {
            by_prefix
                .entry(dataset.location.bucket().to_owned())
                .or_default()
                .entry(dataset.location.literal_prefix().to_owned())
                .or_default()
                .push(dataset.name.clone());
        }
        let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for task in &tasks {
            for input in &task.inputs {
                readers.entry(input.dataset.clone()).or_default().insert(task.name.clone());
            }
        }
        Self {
            deployment,
            datasets: datasets.into_iter().map(|dataset| (dataset.name.clone(), dataset)).collect(),
            profiles: profiles.into_iter().map(|profile| (profile.name.clone(), profile)).collect(),
            tasks: tasks.into_iter().map(|task| (task.name.clone(), task)).collect(),
            warehouses: BTreeMap::new(),
            max_clusters: None,
            by_prefix,
            readers,
        }
    }

    #[must_use]
    pub fn with_warehouses(mut self, warehouses: Vec<Warehouse>) -> Self {
        let named = warehouses.into_iter().map(|warehouse| (warehouse.name.clone(), warehouse));
        self.warehouses = named.collect();
        self
    }

    #[must_use]
    pub fn with_max_clusters(mut self, max: Option<u32>) -> Self {
        self.max_clusters = max;
        self
    }

    /// The tasks whose waiting partitions have to be decided about again after
    /// `before`: they are new, or differ, or read a dataset that does.
    pub fn changed_tasks(&self, before: &Catalog) -> impl Iterator<Item = &Task> {
        self.tasks.values().filter(|task| {
            let differs = |dataset| self.datasets.get(dataset) != before.datasets.get(dataset);
            before.tasks.get(&task.name) != Some(*task)
                || task.inputs.iter().any(|input| differs(&input.dataset))
        })
    }

    /// Whether any dataset lies in the bucket.
    pub fn knows_bucket(&self, bucket: &str) -> bool {
        self.by_prefix.contains_key(bucket)
    }

    /// Whether it is ours and nobody's input: a log of a cluster, or what clusters read
    /// of `assets`.
    pub fn is_our_own(&self, bucket: &str, key: &str) -> bool {
        let uri = format!("s3://{bucket}/{key}");
        let mut clusters = self.profiles.values().map(|profile| &profile.cluster);
        clusters.any(|cluster| {
            let below = |place: &str| {
                uri.strip_prefix(place.trim_end_matches('/'))
                    .is_some_and(|rest| rest.starts_with('/'))
            };
            cluster.log_uri.as_deref().is_some_and(below) || cluster.deadline.as_ref() == Some(&uri)
        })
    }

    /// The dataset partitions that an object (key decoded) belongs to. What
    /// lies beside a marker belongs too; `Dataset::counts` tells them apart.
    pub fn datasets_of<'a>(
        &'a self,
        bucket: &str,
        key: &'a str,
    ) -> impl Iterator<Item = (&'a Dataset, Partition)> {
        self.near(bucket, key)
            .filter_map(move |dataset| Some((dataset, dataset.location.matches(key)?)))
    }

    /// The dataset that an object would belong to if its key named a date that
    /// exists.
    pub fn misdated<'a>(&'a self, bucket: &str, key: &'a str) -> Option<&'a Dataset> {
        self.near(bucket, key).find(|dataset| dataset.location.names_no_date(key))
    }

    /// The datasets whose location starts as the key does.
    fn near<'a>(&'a self, bucket: &str, key: &'a str) -> impl Iterator<Item = &'a Dataset> {
        let prefixes = self.by_prefix.get(bucket);
        let starts = (0..=key.len()).filter_map(move |end| key.get(..end));
        starts
            .filter_map(move |start| prefixes?.get(start))
            .flatten()
            .filter_map(|name| self.datasets.get(name))
    }

    /// The task partitions that read a dataset partition.
    pub fn readers_of(&self, dataset: &str, partition: &Partition) -> BTreeSet<TaskKey> {
        let mut found = BTreeSet::new();
        for name in self.readers.get(dataset).into_iter().flatten() {
            let Some(task) = self.tasks.get(name) else { continue };
            for input in task.inputs.iter().filter(|input| input.dataset == dataset) {
                let candidates = touched_by(input, partition, task.grain);
                found.extend(candidates.map(|partition| TaskKey::new(name, partition)));
            }
        }
        found
    }

    /// All that a task partition waits for.
    pub fn elements(&self, task: &Task, partition: &Partition) -> BTreeSet<Element> {
        let slot = task.schedule.is_some().then_some(Element::Slot);
        let data = task.inputs.iter().flat_map(|input| {
            self.window(input, partition).map(|partition| Element::data(&input.dataset, partition))
        });
        slot.into_iter().chain(data).collect()
    }

    /// How many partitions `window` gives at most.
    pub fn window_partitions(&self, input: &Input) -> usize {
        let Some(dataset) = self.datasets.get(&input.dataset) else { return 0 };
        let length = dataset.location.grain().length().as_secs();
        let (from, to) = (input.from.as_secs(), input.to.as_secs());
        let partitions = to.saturating_sub(from).saturating_add(length - 1) / length;
        usize::try_from(partitions).unwrap_or(0)
    }

    /// Where a task partition's outputs lie: dataset → `s3://…`.
    pub fn outputs(&self, task: &Task, partition: &Partition) -> BTreeMap<String, String> {
        let locations = task.outputs.iter().filter_map(|name| {
            Some((name.clone(), self.datasets.get(name)?.location.uri_of(partition)))
        });
        locations.collect()
    }

    /// The partitions of one input that a task partition reads, oldest first.
    pub fn window(
        &self,
        input: &Input,
        partition: &Partition,
    ) -> impl Iterator<Item = Partition> + use<> {
        let grain = self.datasets.get(&input.dataset).map(|dataset| dataset.location.grain());
        let from = shifted(partition.start(), input.from);
        let to = shifted(partition.start(), input.to);
        grain.into_iter().flat_map(move |grain| Partition::overlapping(from, to, grain))
    }
}

/// The task partitions whose window of `input` overlaps `partition`: the
/// inverse of `window`.
fn touched_by(
    input: &Input,
    partition: &Partition,
    grain: Grain,
) -> impl Iterator<Item = Partition> + use<> {
    // P overlaps iff P.start > start - to and P.start < end - from.
    let after = shifted(partition.start(), -input.to);
    let before = shifted(partition.end(), -input.from);
    Partition::overlapping(after, before, grain).filter(move |candidate| candidate.start() > after)
}

fn shifted(instant: Timestamp, by: SignedDuration) -> Timestamp {
    // saturating_add fails only for units that need a calendar.
    instant.saturating_add(by).unwrap_or(instant)
}

#[cfg(test)]
pub mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retries_back_off_by_their_rate() {
        let retry = Retry { attempts: 3, delay: SignedDuration::from_secs(1), backoff_rate: 2.0 };
        let delays: Vec<_> = (0..5).map(|failed| retry.delay_after(failed)).collect();
        let secs = |secs| Some(SignedDuration::from_secs(secs));
        assert_eq!(delays, [None, secs(1), secs(2), secs(4), None]);
    }

    fn catalog(location: &str, grain: Grain, from: i64, to: i64) -> Catalog {
        let dataset = Dataset {
            name: "d".into(),
            location: Template::parse(location).unwrap(),
            completeness: Completeness::Object,
            list: true,
        };
        let task = Task {
            name: "t".into(),
            profile: "p".into(),
            grain,
            schedule: None,
            inputs: vec![Input {
                dataset: "d".into(),
                from: SignedDuration::from_hours(from),
                to: SignedDuration::from_hours(to),
                need: Need::All,
            }],
            need: Need::All,
            wait: None,
            time_limits: Default::default(),
            outputs: vec![],
            when_empty: WhenEmpty::Run,
            late_data: Default::default(),
            attempt_timeout: None,
            steps: vec![],
            load: None,
            max_active: None,
        };
        Catalog::new("x".into(), vec![dataset], vec![], vec![task])
    }

    #[test]
    fn a_key_finds_its_datasets_without_regard_to_others() {
        let catalog = catalog("s3://b/in/{yyyy}/{MM}/{dd}.gz", Grain::Day, 0, 24);
        let found = |bucket, key| catalog.datasets_of(bucket, key).count();
        assert_eq!(found("b", "in/2013/01/01.gz"), 1);
        assert_eq!(found("other", "in/2013/01/01.gz"), 0);
        assert_eq!(found("b", "é/2013/01/01.gz"), 0);
    }

    proptest! {
        /// A task partition reads exactly those dataset partitions that touch it.
        #[test]
        fn windows_and_readers_agree(
            hours in 0i64..1_000_000, from in -60i64..60, length in 1i64..60, daily: bool, by_day: bool,
        ) {
            let location = if by_day { "s3://b/{yyyy}{MM}{dd}" } else { "s3://b/{yyyy}{MM}{dd}{HH}" };
            let grain = if daily { Grain::Day } else { Grain::Hour };
            let catalog = catalog(location, grain, from, from + length);
            let task = &catalog.tasks["t"];
            let partition = Partition::containing(Timestamp::from_second(hours * 3600).unwrap(), grain);
            for read in catalog.window(&task.inputs[0], &partition) {
                let key = TaskKey::new("t", partition);
                prop_assert!(catalog.readers_of("d", &read).contains(&key));
            }
            let data = Partition::containing(partition.start(), catalog.datasets["d"].location.grain());
            for reader in catalog.readers_of("d", &data) {
                prop_assert!(catalog.window(&task.inputs[0], &reader.partition).any(|read| read == data));
            }
        }
    }
}
