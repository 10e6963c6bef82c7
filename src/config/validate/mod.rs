//! Turns the file as written into the catalog and settings, and collects every
//! mistake on the way instead of stopping at the first.

mod attempts;
mod aws;
mod cycle;
mod dataset;
mod http;
mod instances;
mod profile;
mod quotas;
mod retention;
mod step;
mod task;
mod warehouse;
mod warn;
mod window;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use jiff::SignedDuration;

use super::files::{Place, S3, TaskFiles};
use super::mistake::Mistake;
use super::schema::{self, File, Placed, Text};
use super::{Assets, Settings};
use crate::core::catalog::{AttemptLimits, Catalog};
use crate::core::listing::Listing;

const NAME_CHARS_MAX: usize = 64;
/// Each partition in the window may be listed every time.
const LIST_DAYS_MAX: i64 = 31;
/// What SNS takes in the largest regions.
const NOTICES_PER_SECOND_MAX: u32 = 30_000;
/// Of a secret, and what to write instead.
const NO_VARIABLE: &str = "a secret names no environment variable";
const VARIABLE: &str = "expected { env = \"NAME\" }, of letters, digits and _";
/// Each cap names the runs that use it in one item.
const CAP_MAX: u32 = 500;

/// The catalog, the settings and warnings; or every mistake.
pub fn validate(file: &File) -> Result<(Catalog, Settings, Vec<Mistake>), Vec<Mistake>> {
    let mut check = Check::default();
    let settings = check.settings(file);
    let limits = check.limits(&file.engine);
    let assets = settings.assets.as_ref();
    let profiles: Vec<_> = file
        .profiles
        .iter()
        .filter_map(|(name, raw)| check.profile(name, raw, &limits, assets))
        .collect();
    let warehouses: Vec<_> =
        file.warehouses.iter().filter_map(|(name, raw)| check.warehouse(name, raw)).collect();
    let producers = check.producers(file);
    let datasets: Vec<_> = file
        .datasets
        .iter()
        .filter_map(|(name, raw)| check.dataset(name, raw, &producers))
        .collect();
    let tasks: Vec<_> =
        file.tasks.iter().filter_map(|(name, raw)| check.task(name, raw, file)).collect();
    check.cycles(file, &producers);
    let max_clusters = check.cap("max-clusters", file.engine.max_clusters.as_ref());
    let catalog = Catalog::new(file.deployment.get_ref().clone(), datasets, profiles, tasks)
        .with_warehouses(warehouses)
        .with_max_clusters(max_clusters);
    check.windows(file, &catalog);
    check.ledgers(file, &catalog);
    check.kept_long_enough(file, &catalog, settings.retention.partitions, settings.listing);
    if !check.mistakes.is_empty() {
        return Err(check.mistakes);
    }
    check.warnings(file, &catalog, &settings);
    Ok((catalog, settings, check.warnings))
}

#[derive(Default)]
struct Check {
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
}

impl Check {
    fn report(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    fn warn(&mut self, warning: Mistake) {
        self.warnings.push(warning);
    }

    /// Reports an error and goes on without the value.
    fn ok<T, E: Display>(&mut self, span: Range<usize>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.report(Mistake::at(span, error.to_string()))).ok()
    }

    /// Names become parts of keys, step names and cluster names.
    fn name(&mut self, what: &str, name: &Placed<String>) {
        let text = name.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.chars().all(plain) {
            self.report(
                Mistake::at(name.span(), format!("{text:?} cannot name a {what}"))
                    .help(format!("use up to {NAME_CHARS_MAX} letters, digits, - and _")),
            );
        }
    }

    /// A mistake goes on as the nearest allowed value: what is computed from it
    /// must stay small.
    fn within(
        &mut self,
        what: &str,
        value: &schema::Duration,
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
        duration.clamp(*range.start(), *range.end())
    }

    fn count(&mut self, what: &str, value: &Placed<u32>, range: RangeInclusive<u32>) -> u32 {
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
        self.aws(&file.aws);
        let hours = SignedDuration::from_hours;
        let engine = &file.engine;
        let second = SignedDuration::from_secs(1);
        Settings {
            region: file.aws.region.as_ref().map(|region| region.get_ref().clone()),
            queue: file.aws.queue.get_ref().clone(),
            quarantine: file.aws.quarantine.get_ref().clone(),
            topic_arn: file.aws.topic_arn.get_ref().clone(),
            table_prefix: match &file.aws.table_prefix {
                Some(prefix) => prefix.get_ref().clone(),
                None => format!("{}-", file.deployment.get_ref()),
            },
            assets: file.aws.assets.as_ref().and_then(|text| self.assets(text)),
            sweep_interval: self.within(
                "sweep-interval",
                &engine.sweep_interval,
                second..=hours(1),
            ),
            listing: self.listing(engine),
            http: self.http(&file.http),
            // SQS allows at most 12 hours.
            visibility_timeout: self.within(
                "visibility-timeout",
                &engine.visibility_timeout,
                second..=hours(12),
            ),
            receivers: self.count("receivers", &engine.receivers, 1..=32),
            quotas: self.quotas(&file.quotas),
            retention: self.retention(file),
            notices_per_second: self.count(
                "notices-per-second",
                &engine.notices_per_second,
                1..=NOTICES_PER_SECOND_MAX,
            ),
            fold_window: self.within(
                "fold-window",
                &engine.fold_window,
                SignedDuration::ZERO..=hours(24),
            ),
            task_files: file.task_files.as_ref().and_then(|raw| self.task_files(raw)),
        }
    }

    fn listing(&mut self, engine: &schema::Engine) -> Option<Listing> {
        let hours = SignedDuration::from_hours;
        let window =
            self.within("list-window", &engine.list_window, hours(1)..=hours(LIST_DAYS_MAX * 24));
        let text = &engine.list_interval;
        if text.get_ref() == "off" {
            return None;
        }
        let (low, high) = (SignedDuration::from_mins(1), hours(24));
        let interval = text.get_ref().parse::<SignedDuration>().ok();
        let interval = interval.filter(|interval| (low..=high).contains(interval));
        if interval.is_none() {
            self.report(
                Mistake::at(
                    text.span(),
                    format!("list-interval is {:?}: expected {low:#} to {high:#}", text.get_ref()),
                )
                .help("write a duration such as \"15m\", or \"off\""),
            );
        }
        interval.map(|interval| Listing { interval, window })
    }

    fn task_files(&mut self, raw: &schema::TaskFiles) -> Option<TaskFiles> {
        let path = raw.path.get_ref();
        if path.is_empty() {
            self.report(Mistake::at(raw.path.span(), "path is empty").help(
                "name a folder beside this file, \"tasks\", or a prefix, \"s3://bucket/tasks/\"",
            ));
            return None;
        }
        let place = match path.starts_with(S3) {
            false => Place::Folder(path.into()),
            true => {
                let (bucket, prefix) = self.s3_prefix(&raw.path)?;
                Place::Prefix { bucket, prefix }
            }
        };
        let bounds = SignedDuration::from_secs(5)..=SignedDuration::from_hours(24);
        Some(TaskFiles { place, interval: self.within("interval", &raw.interval, bounds) })
    }

    /// Bucket and prefix of `s3://bucket/prefix/`.
    fn s3_prefix(&mut self, text: &Text) -> Option<(String, String)> {
        let place = text.get_ref().strip_prefix(S3).and_then(|rest| rest.split_once('/'));
        match place {
            Some((bucket, prefix)) if !bucket.is_empty() && prefix.ends_with('/') => {
                Some((bucket.to_owned(), prefix.to_owned()))
            }
            _ => {
                let message = format!("{:?} is no prefix in S3", text.get_ref());
                self.report(
                    Mistake::at(text.span(), message)
                        .help("write a bucket and a prefix that ends in /: \"s3://bucket/tasks/\""),
                );
                None
            }
        }
    }

    fn assets(&mut self, text: &Text) -> Option<Assets> {
        let (bucket, prefix) = self.s3_prefix(text)?;
        Some(Assets { bucket, prefix })
    }

    /// A limit to what is at work at once.
    fn cap(&mut self, what: &str, raw: Option<&Placed<u32>>) -> Option<u32> {
        raw.map(|raw| self.count(what, raw, 1..=CAP_MAX))
    }

    fn limits(&mut self, engine: &schema::Engine) -> AttemptLimits {
        let second = SignedDuration::from_secs(1);
        let hour = SignedDuration::from_hours(1);
        AttemptLimits {
            max_attempts: 1,
            policies: BTreeMap::new(),
            on_demand_last: true,
            stall_timeout: None,
            lifetime: hour,
            poll_interval: self.within("poll-interval", &engine.poll_interval, second..=hour),
            poll_interval_with_events: self.within(
                "poll-interval-with-events",
                &engine.poll_interval_with_events,
                second..=hour,
            ),
            steps_interval: self.within("steps-interval", &engine.steps_interval, second..=hour),
            send_within: self.within("send-within", &engine.send_within, second..=hour),
            list_lag: self.within("list-lag", &engine.list_lag, second..=hour),
        }
    }
}
