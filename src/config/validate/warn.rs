//! Warnings: what may be written, but is likely not meant. Only asked of a
//! configuration without mistakes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Check;
use crate::config::Settings;
use crate::config::mistake::Mistake;
use crate::config::schema::{File, Placed, Step, Task, Text};
use crate::core::batch::goes_newest_first;
use crate::core::catalog::{Catalog, Dataset};
use crate::core::load::Mode;
use crate::core::partition::{Grain, Partition};
use crate::core::schedule::Schedule;

/// Recording a batch of messages takes its writes' time, and SQS shows the
/// messages to another receiver after less than this.
const VISIBILITY_MIN: SignedDuration = SignedDuration::from_secs(30);
/// An item of so many elements has some 32 KB, and every arrival writes it.
const WINDOW_PARTITIONS: usize = 400;
/// Slots of a schedule that are looked at: some days of an hourly one.
const SLOTS_COMPARED: usize = 100;

impl Check {
    pub(super) fn warnings(&mut self, file: &File, catalog: &Catalog, settings: &Settings) {
        if settings.visibility_timeout < VISIBILITY_MIN {
            self.warn(
                Mistake::at(
                    file.engine.visibility_timeout.span(),
                    format!(
                        "visibility-timeout is {:#}: messages may come again while they are still worked on",
                        settings.visibility_timeout
                    ),
                )
                .help(format!("at least {VISIBILITY_MIN:#} is advisable; the default is 2m")),
            );
        }
        if file.aws.assets.is_none() && !file.profiles.is_empty() {
            self.warn(
                Mistake::at(file.deployment.span(), "clusters carry no deadline of their own").help(
                    "if no sluicegate is left, only EMR's idle time-out ends them, and none that hangs \
                     in a step: name [aws] assets, and run sluicegate deploy-assets",
                ),
            );
        }
        self.profile_warnings(file);
        if file.task_files.is_none() {
            self.unused(file);
        }
        self.overlaps(file, catalog);
        self.task_warnings(file, catalog);
    }

    fn profile_warnings(&mut self, file: &File) {
        for (name, profile) in &file.profiles {
            if profile.log_uri.is_none() {
                self.warn(
                    Mistake::at(name.span(), format!("{:?} has no log-uri", name.get_ref())).help(
                        "alerts of failed steps cannot show the end of their log: log-uri = \"s3://…\"",
                    ),
                );
            }
            if !profile.guard.get_ref() {
                let lag = file.engine.list_lag.get_ref();
                self.warn(
                    Mistake::at(profile.guard.span(), "guard = false: a task partition may run twice")
                        .help(format!(
                            "if an answer of EMR is lost and its list shows the cluster (or its steps) \
                             later than list-lag ({lag:#}), or a request reaches EMR after its deadline, \
                             a second cluster (or step) does the same work; with a guard it cannot"
                        )),
                );
            }
            let (idle, lifetime) = (&profile.idle_timeout, &profile.lifetime);
            if idle.get_ref() > lifetime.get_ref() {
                // A default has no place of its own.
                let place = if idle.span().is_empty() { lifetime.span() } else { idle.span() };
                let message = format!(
                    "idle-timeout ({:#}) is longer than lifetime ({:#})",
                    idle.get_ref(),
                    lifetime.get_ref()
                );
                self.warn(Mistake::at(place, message).help(
                    "EMR's own time-out is the safety net if sluicegate is gone: it should come first",
                ));
            }
        }
    }

    /// What nothing uses; where there are task files, they may.
    fn unused(&mut self, file: &File) {
        let used: BTreeSet<_> = file.tasks.values().map(|task| task.profile.get_ref()).collect();
        for name in file.profiles.keys().filter(|name| !used.contains(name.get_ref())) {
            let message = format!("no task uses the profile {:?}", name.get_ref());
            self.warn(Mistake::at(name.span(), message));
        }
        let mut used = BTreeSet::new();
        for task in file.tasks.values() {
            used.extend(task.inputs.iter().map(|input| input.dataset.get_ref()));
            used.extend(task.outputs.iter().map(Placed::get_ref));
        }
        for name in file.datasets.keys().filter(|name| !used.contains(name.get_ref())) {
            let message = format!("no task reads or makes the dataset {:?}", name.get_ref());
            self.warn(Mistake::at(name.span(), message));
        }
    }

    /// An object that belongs to two datasets is recorded for both. Found with
    /// an example of each, so that what is said is true; it is not all there
    /// may be.
    fn overlaps(&mut self, file: &File, catalog: &Catalog) {
        let mut same: BTreeMap<String, &str> = BTreeMap::new();
        for (name, raw) in &file.datasets {
            let Some(dataset) = catalog.datasets.get(name.get_ref()) else { continue };
            let message = if let Some(first) = same.get(&dataset.location.to_string()) {
                format!("{:?} has the same location as {first:?}", name.get_ref())
            } else {
                same.insert(dataset.location.to_string(), name.get_ref());
                let Some(other) = overlapped(dataset, catalog) else { continue };
                format!("objects of {:?} also belong to {other:?}", name.get_ref())
            };
            self.warn(
                Mistake::at(raw.location.span(), message)
                    .help("every object counts for both; give them locations of their own if that is not meant"),
            );
        }
    }

    /// A step that is cancelled after its attempt-timeout takes only its own process
    /// along.
    fn outlives_its_step(&mut self, task: &Task) {
        if task.attempt_timeout.is_none() {
            return;
        }
        let retried = task.steps.iter().filter(|step| *step.retry.attempts.get_ref() > 0);
        for (step, mode) in retried.filter_map(|step| Some((step, cluster_mode(step)?))) {
            let message = format!(
                "step {:?} is tried again after attempt-timeout while what it began in YARN may go on",
                step.name.get_ref()
            );
            self.warn(Mistake::at(mode.span(), message).help(
                "cancelling a step ends spark-submit, and in cluster mode not its application: both \
                 tries may write the same output; use deploy mode client, or no retry here (the \
                 profile's attempts give a new cluster)",
            ));
        }
    }

    fn task_warnings(&mut self, file: &File, catalog: &Catalog) {
        for (name, raw) in &file.tasks {
            let Some(task) = catalog.tasks.get(name.get_ref()) else { continue };
            if let (Some(schedule), Some(raw)) = (&task.schedule, &raw.schedule)
                && schedule.next(Timestamp::UNIX_EPOCH).is_none()
            {
                let message = format!("the schedule {:?} never comes", raw.cron.get_ref());
                self.warn(Mistake::at(raw.cron.span(), message).help(
                    "there is no such day in any year; the task's partitions never become ready",
                ));
            }
            if let (Some(schedule), Some(raw)) = (&task.schedule, &raw.schedule)
                && has_doubled(schedule, task.grain)
            {
                let (grain, example) = match task.grain {
                    Grain::Hour => ("hour", "5 * * * *"),
                    Grain::Day => ("day", "5 6 * * *"),
                };
                let cron = raw.cron.get_ref();
                let message = format!("the schedule {cron:?} has several slots for one {grain}");
                self.warn(Mistake::at(raw.cron.span(), message).help(format!(
                    "a partition runs once, its other slots do nothing: one slot is enough, as in {example:?}"
                )));
            }
            if goes_newest_first(task)
                && let (Some(spec), Some(raw)) = (&task.load, &raw.load)
                && matches!(spec.mode, Mode::ReplaceTable | Mode::Upsert(_))
            {
                let mode = spec.mode.name();
                let message =
                    format!("with catch-up = \"newest-first\" the oldest {mode} is the last");
                self.warn(Mistake::at(raw.mode.span(), message).help(
                    "older rows come over newer ones: catch up in order, or load with \
                     mode = \"replace-partition\"",
                ));
            }
            let lifetime = catalog.profiles.get(&task.profile).map(|it| it.limits.lifetime);
            if let (Some(timeout), Some(lifetime)) = (&raw.attempt_timeout, lifetime)
                && *timeout.get_ref() >= lifetime
            {
                let message = format!(
                    "attempt-timeout ({:#}) is not shorter than the lifetime ({lifetime:#}) of its profile",
                    timeout.get_ref()
                );
                self.warn(Mistake::at(timeout.span(), message).help(
                    "the cluster ends first, and with it every step: shorten attempt-timeout",
                ));
            }
            self.outlives_its_step(raw);
            for (input, raw) in task.inputs.iter().zip(&raw.inputs) {
                let partitions = catalog.window_partitions(input);
                if partitions > WINDOW_PARTITIONS {
                    let message = format!("the window has {partitions} partitions");
                    self.warn(Mistake::at(raw.dataset.span(), message).help(
                        "every arrival writes the whole list anew: let another task gather them by day first",
                    ));
                }
            }
        }
    }
}

/// The option by which an application runs apart from its step, in YARN.
fn cluster_mode(step: &Step) -> Option<&Text> {
    let words: Vec<_> = step.options.iter().chain(&step.args).collect();
    let follows = words.windows(2).find_map(|two| {
        let mode = two[0].get_ref() == "--deploy-mode" && two[1].get_ref() == "cluster";
        mode.then_some(two[1])
    });
    let one = |word: &&&Text| {
        ["--deploy-mode=cluster", "spark.submit.deployMode=cluster"]
            .iter()
            .any(|mode| word.get_ref().ends_with(mode))
    };
    follows.or_else(|| words.iter().find(one).copied())
}

/// Whether several of a schedule's first slots stand for one partition.
fn has_doubled(schedule: &Schedule, grain: Grain) -> bool {
    let slots = schedule.due(Timestamp::UNIX_EPOCH, Timestamp::MAX, SLOTS_COMPARED);
    let partition = |slot: &Timestamp| schedule.partition_of(*slot, grain);
    slots.windows(2).any(|two| partition(&two[0]) == partition(&two[1]))
}

/// Another dataset that an object of this one belongs to as well.
fn overlapped(dataset: &Dataset, catalog: &Catalog) -> Option<String> {
    let partition = Partition::containing(Timestamp::UNIX_EPOCH, dataset.location.grain());
    let mut key = dataset.location.key_of(&partition);
    // Of many objects, or of a folder that a task fills, this is one.
    if dataset.location.is_many() || key.ends_with('/') {
        key.push_str("part-00000");
    }
    let mut found = catalog.datasets_of(dataset.location.bucket(), &key);
    let (other, _) = found.find(|(other, _)| other.location != dataset.location)?;
    Some(other.name.clone())
}
