//! Turns the file as written into the catalog and settings, and collects every
//! mistake on the way instead of stopping at the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use jiff::SignedDuration;
use toml::Spanned;

use super::mistake::Mistake;
use super::schema::{self, Complete, File, StepKind};
use super::{Config, Settings};
use crate::core::catalog::{
    AttemptLimits, BootstrapAction, Catalog, ClusterSpec, Completeness, Dataset, Fleet, FleetRole,
    Input, Profile, Retry, StepSpec, StepWork, Task,
};
use crate::core::render::{Placeholder, Text};
use crate::core::schedule::{Schedule, ScheduleError};
use crate::core::template::Template;

/// A transaction of DynamoDB takes 100 items: the run and one for each member.
const BATCH_SIZE_MAX: u32 = 50;
/// More is a job for the scheduler's next slot, not for a retry.
const RETRIES_MAX: u32 = 20;
const NAME_CHARS_MAX: usize = 64;

pub fn validate(file: File) -> Result<Config, Vec<Mistake>> {
    let mut check = Check::default();
    let settings = check.settings(&file);
    let limits = check.limits(&file.engine);
    let profiles: Vec<_> =
        file.profiles.iter().filter_map(|(name, raw)| check.profile(name, raw, limits)).collect();
    let producers = check.producers(&file);
    let datasets: Vec<_> = file
        .datasets
        .iter()
        .filter_map(|(name, raw)| check.dataset(name, raw, &producers))
        .collect();
    let tasks: Vec<_> =
        file.tasks.iter().filter_map(|(name, raw)| check.task(name, raw, &file)).collect();
    if !check.mistakes.is_empty() {
        return Err(check.mistakes);
    }
    let catalog = Catalog::new(file.deployment.into_inner(), datasets, profiles, tasks);
    Ok(Config { catalog, settings })
}

#[derive(Default)]
struct Check {
    mistakes: Vec<Mistake>,
}

impl Check {
    fn report(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// Reports an error and goes on without the value.
    fn ok<T, E: Display>(&mut self, span: Range<usize>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.report(Mistake::at(span, error.to_string()))).ok()
    }

    /// Names become parts of keys, step names and cluster names.
    fn name(&mut self, what: &str, name: &Spanned<String>) {
        let text = name.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.chars().all(plain) {
            self.report(
                Mistake::at(name.span(), format!("{text:?} cannot name a {what}"))
                    .help(format!("use up to {NAME_CHARS_MAX} letters, digits, - and _")),
            );
        }
    }

    fn within(
        &mut self,
        what: &str,
        value: &Spanned<SignedDuration>,
        range: RangeInclusive<SignedDuration>,
    ) -> SignedDuration {
        let duration = *value.get_ref();
        if !range.contains(&duration) {
            let (low, high) = (range.start(), range.end());
            self.report(Mistake::at(
                value.span(),
                format!("{what} is {duration:#}: expected {low:#} to {high:#}"),
            ));
        }
        duration
    }

    fn count(&mut self, what: &str, value: &Spanned<u32>, range: RangeInclusive<u32>) -> u32 {
        let number = *value.get_ref();
        if !range.contains(&number) {
            let (low, high) = (range.start(), range.end());
            self.report(Mistake::at(
                value.span(),
                format!("{what} is {number}: expected {low} to {high}"),
            ));
        }
        number
    }

    fn settings(&mut self, file: &File) -> Settings {
        self.name("deployment", &file.deployment);
        for (what, text) in [("queue", &file.aws.queue), ("quarantine", &file.aws.quarantine)] {
            if text.get_ref().is_empty() {
                self.report(
                    Mistake::at(text.span(), format!("{what} is empty"))
                        .help("write the queue's name or its URL"),
                );
            }
        }
        if file.aws.queue.get_ref() == file.aws.quarantine.get_ref() {
            self.report(Mistake::at(
                file.aws.quarantine.span(),
                "quarantine must be another queue than the one that is read",
            ));
        }
        if !file.aws.topic_arn.get_ref().starts_with("arn:") {
            self.report(
                Mistake::at(file.aws.topic_arn.span(), "topic-arn is no ARN")
                    .help("expected arn:aws:sns:REGION:ACCOUNT:NAME"),
            );
        }
        if let Some(prefix) = &file.aws.table_prefix {
            self.name("table prefix", prefix);
        }
        let hours = SignedDuration::from_hours;
        let engine = &file.engine;
        let second = SignedDuration::from_secs(1);
        Settings {
            region: file.aws.region.clone(),
            queue: file.aws.queue.get_ref().clone(),
            quarantine: file.aws.quarantine.get_ref().clone(),
            topic_arn: file.aws.topic_arn.get_ref().clone(),
            table_prefix: match &file.aws.table_prefix {
                Some(prefix) => prefix.get_ref().clone(),
                None => format!("{}-", file.deployment.get_ref()),
            },
            sweep_interval: self.within(
                "sweep-interval",
                &engine.sweep_interval,
                second..=hours(1),
            ),
            // SQS allows at most 12 hours.
            visibility_timeout: self.within(
                "visibility-timeout",
                &engine.visibility_timeout,
                second..=hours(12),
            ),
        }
    }

    fn limits(&mut self, engine: &schema::Engine) -> AttemptLimits {
        let second = SignedDuration::from_secs(1);
        let hour = SignedDuration::from_hours(1);
        AttemptLimits {
            max_attempts: 1,
            lifetime: hour,
            poll_interval: self.within("poll-interval", &engine.poll_interval, second..=hour),
            send_within: self.within("send-within", &engine.send_within, second..=hour),
            list_lag: self.within("list-lag", &engine.list_lag, second..=hour),
        }
    }

    fn profile(
        &mut self,
        name: &Spanned<String>,
        raw: &schema::Profile,
        limits: AttemptLimits,
    ) -> Option<Profile> {
        self.name("profile", name);
        let minutes = SignedDuration::from_mins;
        let hours = SignedDuration::from_hours;
        let limits = AttemptLimits {
            max_attempts: self.count("max-attempts", &raw.max_attempts, 1..=10),
            lifetime: self.within("lifetime", &raw.lifetime, minutes(5)..=hours(24 * 7)),
            ..limits
        };
        let fleets = [
            (FleetRole::Primary, Some(&raw.primary)),
            (FleetRole::Core, raw.core.as_ref()),
            (FleetRole::Task, raw.task.as_ref()),
        ];
        if let Some(log_uri) = raw.log_uri.as_ref().filter(|uri| !uri.get_ref().starts_with("s3")) {
            self.report(Mistake::at(log_uri.span(), "log-uri does not start with s3://"));
        }
        for tag in raw.tags.keys().filter(|tag| tag.get_ref().starts_with("sluicegate:")) {
            self.report(Mistake::at(tag.span(), "tags that start with sluicegate: are our own"));
        }
        Some(Profile {
            name: name.get_ref().clone(),
            batch_size: self.count("batch-size", &raw.batch_size, 1..=BATCH_SIZE_MAX) as usize,
            max_wait: self.within("max-wait", &raw.max_wait, SignedDuration::ZERO..=hours(24)),
            limits,
            cluster: ClusterSpec {
                release_label: raw.release_label.get_ref().clone(),
                applications: raw.applications.clone(),
                service_role: raw.service_role.clone(),
                instance_profile: raw.instance_profile.clone(),
                log_uri: raw.log_uri.as_ref().map(|uri| uri.get_ref().clone()),
                visible_to_all_users: raw.visible_to_all_users,
                subnets: raw.subnets.clone(),
                fleets: fleets
                    .into_iter()
                    .filter_map(|(role, fleet)| self.fleet(role, fleet?))
                    .collect(),
                configurations: raw.configurations.clone(),
                bootstrap_actions: raw.bootstrap_actions.iter().map(bootstrap_action).collect(),
                tags: raw
                    .tags
                    .iter()
                    .map(|(key, value)| (key.get_ref().clone(), value.clone()))
                    .collect(),
                // EMR's own bounds.
                idle_timeout: self.within(
                    "idle-timeout",
                    &raw.idle_timeout,
                    minutes(1)..=hours(168),
                ),
            },
        })
    }

    fn fleet(&mut self, role: FleetRole, raw: &schema::Fleet) -> Option<Fleet> {
        let types = raw.instance_types.get_ref();
        if types.is_empty() || types.len() > 5 {
            self.report(Mistake::at(
                raw.instance_types.span(),
                format!("{} instance types: EMR takes 1 to 5 for a fleet", types.len()),
            ));
        }
        let count = raw.on_demand.saturating_add(raw.spot);
        if count == 0 || (role == FleetRole::Primary && count != 1) {
            let expected = match role {
                FleetRole::Primary => "a primary fleet has exactly 1 instance",
                _ => "a fleet needs at least 1 instance",
            };
            self.report(
                Mistake::at(raw.instance_types.span(), expected)
                    .help("set on-demand or spot beside instance-types"),
            );
        }
        Some(Fleet {
            role,
            on_demand: raw.on_demand,
            spot: raw.spot,
            instance_types: types.clone(),
        })
    }

    /// Dataset → the task that lists it as an output.
    fn producers(&mut self, file: &File) -> BTreeMap<String, String> {
        let mut producers: BTreeMap<String, String> = BTreeMap::new();
        for (task, raw) in &file.tasks {
            for output in &raw.outputs {
                let Some(dataset) = file.datasets.get(output.get_ref().as_str()) else {
                    let known = file.datasets.keys().map(|name| name.get_ref().as_str());
                    let mistake =
                        Mistake::unknown(output.span(), "dataset", output.get_ref(), known);
                    self.report(mistake);
                    continue;
                };
                if let Ok(location) = Template::parse(dataset.location.get_ref())
                    && location.grain() != raw.partition
                {
                    self.report(Mistake::at(
                        output.span(),
                        format!(
                            "{:?} and the task differ in their partition: one is by hour, one by day",
                            output.get_ref()
                        ),
                    ));
                }
                let earlier = producers.insert(output.get_ref().clone(), task.get_ref().clone());
                if let Some(earlier) = earlier {
                    self.report(Mistake::at(
                        output.span(),
                        format!("{:?} is already an output of task {earlier:?}", output.get_ref()),
                    ));
                }
            }
        }
        producers
    }

    fn dataset(
        &mut self,
        name: &Spanned<String>,
        raw: &schema::Dataset,
        producers: &BTreeMap<String, String>,
    ) -> Option<Dataset> {
        self.name("dataset", name);
        let location = self.ok(raw.location.span(), Template::parse(raw.location.get_ref()))?;
        let completeness = self.completeness(name, raw, &location, producers)?;
        Some(Dataset { name: name.get_ref().clone(), location, completeness })
    }

    fn completeness(
        &mut self,
        name: &Spanned<String>,
        raw: &schema::Dataset,
        location: &Template,
        producers: &BTreeMap<String, String>,
    ) -> Option<Completeness> {
        let complete = raw.complete.as_ref();
        if let Some(task) = producers.get(name.get_ref()) {
            if let Some(complete) = complete {
                self.report(
                    Mistake::at(complete.span(), format!("task {task:?} produces this dataset"))
                        .help(
                            "leave complete out: its partition is complete when the task succeeds",
                        ),
                );
            }
            return Some(Completeness::Produced { task: task.clone() });
        }
        let kind = complete.map(|complete| *complete.get_ref());
        match (kind, location.is_many(), &raw.settle) {
            (None | Some(Complete::Object), false, None) => Some(Completeness::Object),
            (Some(Complete::Closed), true, Some(settle)) => {
                let bounds = SignedDuration::ZERO..=SignedDuration::from_hours(48);
                Some(Completeness::Closed { settle: self.within("settle", settle, bounds) })
            }
            (Some(Complete::Closed), _, None) => {
                self.report(Mistake::at(name.span(), "complete = \"closed\" needs settle").help(
                    "how long after its end a period may still get objects; \
                         for Firehose its buffer (up to 900 s) and a margin: settle = \"16m\"",
                ));
                None
            }
            (None | Some(Complete::Object), true, _) => {
                self.report(
                    Mistake::at(
                        raw.location.span(),
                        "a location that ends in * has no one object to wait for",
                    )
                    .help("add complete = \"closed\" and settle = \"16m\""),
                );
                None
            }
            (Some(Complete::Closed), false, _) => {
                self.report(
                    Mistake::at(raw.location.span(), "complete = \"closed\" is for many objects")
                        .help("end the location in *, or leave complete out"),
                );
                None
            }
            (None | Some(Complete::Object), false, Some(settle)) => {
                self.report(
                    Mistake::at(settle.span(), "settle belongs to complete = \"closed\"")
                        .help("leave it out: an exact object is complete when it is there"),
                );
                None
            }
        }
    }

    fn task(&mut self, name: &Spanned<String>, raw: &schema::Task, file: &File) -> Option<Task> {
        self.name("task", name);
        if !file.profiles.contains_key(raw.profile.get_ref().as_str()) {
            let known = file.profiles.keys().map(|name| name.get_ref().as_str());
            let mistake =
                Mistake::unknown(raw.profile.span(), "profile", raw.profile.get_ref(), known);
            self.report(mistake);
        }
        self.retries_in_time(raw, file);
        if raw.steps.is_empty() {
            self.report(Mistake::at(name.span(), "a task needs at least one step"));
        }
        if raw.inputs.is_empty() && raw.schedule.is_none() {
            self.report(
                Mistake::at(name.span(), "nothing ever makes this task ready")
                    .help("give it inputs, a schedule, or both"),
            );
        }
        let schedule = match &raw.schedule {
            Some(schedule) => Some(self.schedule(schedule)?),
            None => None,
        };
        let inputs = self.inputs(raw, file);
        let scope = Scope {
            inputs: raw.inputs.iter().map(|input| input.dataset.get_ref().as_str()).collect(),
            outputs: raw.outputs.iter().map(|output| output.get_ref().as_str()).collect(),
        };
        let mut names = BTreeSet::new();
        let steps = raw
            .steps
            .iter()
            .filter_map(|step| {
                if !names.insert(step.name.get_ref()) {
                    self.report(Mistake::at(step.name.span(), "two steps of one name"));
                }
                self.step(step, &scope)
            })
            .collect();
        Some(Task {
            name: name.get_ref().clone(),
            profile: raw.profile.get_ref().clone(),
            grain: raw.partition,
            schedule,
            inputs,
            outputs: raw.outputs.iter().map(|output| output.get_ref().clone()).collect(),
            when_empty: raw.when_empty,
            steps,
        })
    }

    /// EMR ends an idle cluster, so a retry must come before that.
    fn retries_in_time(&mut self, raw: &schema::Task, file: &File) {
        let Some(profile) = file.profiles.get(raw.profile.get_ref().as_str()) else { return };
        let idle = *profile.idle_timeout.get_ref();
        for step in &raw.steps {
            let retry = Retry {
                attempts: *step.retry.attempts.get_ref(),
                delay: *step.retry.delay.get_ref(),
                backoff_rate: *step.retry.backoff_rate.get_ref(),
            };
            let longest = retry.delay_after(retry.attempts);
            if let Some(longest) = longest.filter(|longest| *longest >= idle) {
                self.report(
                    Mistake::at(
                        step.retry.attempts.span(),
                        format!(
                            "the last retry comes after {longest:#}, but EMR ends the idle cluster after {idle:#}"
                        ),
                    )
                    .help("shorten delay, attempts or backoff-rate, or raise the profile's idle-timeout"),
                );
            }
        }
    }

    fn schedule(&mut self, raw: &schema::Schedule) -> Option<Schedule> {
        let parsed = Schedule::parse(raw.cron.get_ref(), raw.time_zone.get_ref(), raw.partition);
        let span = match parsed {
            Err(ScheduleError::Zone(_)) => raw.time_zone.span(),
            _ => raw.cron.span(),
        };
        self.ok(span, parsed)
    }

    fn inputs(&mut self, raw: &schema::Task, file: &File) -> Vec<Input> {
        let mut seen = BTreeSet::new();
        let mut inputs = Vec::new();
        for input in &raw.inputs {
            let name = input.dataset.get_ref();
            if !file.datasets.contains_key(name.as_str()) {
                let known = file.datasets.keys().map(|name| name.get_ref().as_str());
                self.report(Mistake::unknown(input.dataset.span(), "dataset", name, known));
            }
            if !seen.insert(name) {
                self.report(
                    Mistake::at(input.dataset.span(), format!("{name:?} is an input twice"))
                        .help("widen its window with from and to instead"),
                );
            }
            let bounds =
                SignedDuration::from_hours(-24 * 400)..=SignedDuration::from_hours(24 * 400);
            let mut bound = |what, value: &Option<_>, default| match value {
                Some(value) => self.within(what, value, bounds.clone()),
                None => default,
            };
            let from = bound("from", &input.from, SignedDuration::ZERO);
            let to = bound("to", &input.to, raw.partition.length());
            if from >= to {
                self.report(
                    Mistake::at(input.dataset.span(), "the window is empty: from is not before to")
                        .help("both count from the start of the task's partition"),
                );
            }
            inputs.push(Input { dataset: name.clone(), from, to });
        }
        inputs
    }

    fn step(&mut self, raw: &schema::Step, scope: &Scope<'_>) -> Option<StepSpec> {
        self.name("step", &raw.name);
        let kind = *raw.kind.get_ref();
        let is = |kinds: &[StepKind]| kinds.contains(&kind);
        let variables = raw.variables.keys().next();
        let fields = [
            ("script", raw.script.as_ref(), is(&[StepKind::SparkSubmit, StepKind::Hive])),
            ("jar", raw.jar.as_ref(), is(&[StepKind::Jar])),
            ("main-class", raw.main_class.as_ref(), is(&[StepKind::Jar])),
            ("options", raw.options.first(), is(&[StepKind::SparkSubmit])),
            ("args", raw.args.first(), !is(&[StepKind::Hive])),
            ("variables", variables, is(&[StepKind::Hive])),
        ];
        for (field, value, allowed) in fields {
            if let Some(value) = value.filter(|_| !allowed) {
                let message = format!("{field} does not belong to a step of this kind");
                self.report(Mistake::at(value.span(), message));
            }
        }
        let args = |check: &mut Self| check.texts(&raw.args, scope);
        let work = match kind {
            StepKind::SparkSubmit => StepWork::SparkSubmit {
                options: self.texts(&raw.options, scope),
                script: self.required("script", raw.script.as_ref(), raw, scope)?,
                args: args(self),
            },
            StepKind::Hive => StepWork::Hive {
                script: self.required("script", raw.script.as_ref(), raw, scope)?,
                variables: raw
                    .variables
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.get_ref().clone(), self.text(value, scope)?))
                    })
                    .collect(),
            },
            StepKind::Command => {
                self.required("args", raw.args.first(), raw, scope)?;
                StepWork::Command { args: args(self) }
            }
            StepKind::Jar => StepWork::Jar {
                jar: self.required("jar", raw.jar.as_ref(), raw, scope)?,
                main_class: raw.main_class.as_ref().map(|class| class.get_ref().clone()),
                args: args(self),
            },
        };
        let retry = self.retry(&raw.retry);
        Some(StepSpec { name: raw.name.get_ref().clone(), work, retry })
    }

    fn retry(&mut self, raw: &schema::Retry) -> Retry {
        let backoff_rate = *raw.backoff_rate.get_ref();
        if !(1.0..=10.0).contains(&backoff_rate) {
            self.report(Mistake::at(
                raw.backoff_rate.span(),
                format!("backoff-rate is {backoff_rate}: expected 1.0 to 10.0"),
            ));
        }
        let bounds = SignedDuration::ZERO..=SignedDuration::from_hours(6);
        Retry {
            attempts: self.count("attempts", &raw.attempts, 0..=RETRIES_MAX),
            delay: self.within("delay", &raw.delay, bounds),
            backoff_rate,
        }
    }

    fn required(
        &mut self,
        field: &str,
        value: Option<&schema::Text>,
        step: &schema::Step,
        scope: &Scope<'_>,
    ) -> Option<Text> {
        let Some(value) = value else {
            self.report(Mistake::at(
                step.kind.span(),
                format!("a step of this kind needs {field}"),
            ));
            return None;
        };
        self.text(value, scope)
    }

    fn texts(&mut self, raw: &[schema::Text], scope: &Scope<'_>) -> Vec<Text> {
        raw.iter().filter_map(|text| self.text(text, scope)).collect()
    }

    fn text(&mut self, raw: &schema::Text, scope: &Scope<'_>) -> Option<Text> {
        let text = self.ok(raw.span(), Text::parse(raw.get_ref()))?;
        for placeholder in text.placeholders() {
            let (what, name, known) = match placeholder {
                Placeholder::Input(name) => ("input", name, &scope.inputs),
                Placeholder::Output(name) => ("output", name, &scope.outputs),
                _ => continue,
            };
            if !known.contains(&name.as_str()) {
                let known = known.iter().copied();
                self.report(Mistake::unknown(raw.span(), what, name, known));
            }
        }
        Some(text)
    }
}

/// What the placeholders of a task's steps may name.
struct Scope<'a> {
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
}

fn bootstrap_action(raw: &schema::BootstrapAction) -> BootstrapAction {
    BootstrapAction { name: raw.name.clone(), script: raw.script.clone(), args: raw.args.clone() }
}
