//! Tasks: their schedule, inputs and outputs. Their steps: see `step`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use jiff::SignedDuration;

use super::Check;
use super::step::{RETRIES_MAX, Scope};
use crate::config::mistake::Mistake;
use crate::config::schema::{self, File, Placed};
use crate::core::catalog::{Input, LateData, Need, Retry, Task, WaitLimit};
use crate::core::lateness::TimeLimits;
use crate::core::load::ModeName;
use crate::core::schedule::{Schedule, ScheduleError};

/// How long a step may run, if its task says.
const TIMEOUTS: RangeInclusive<SignedDuration> =
    SignedDuration::from_mins(1)..=SignedDuration::from_hours(168);
const CRON_HELP: &str = "write five fields: minute (0-59), hour (0-23), day of month (1-31), month (1-12), \
    day of week (0-7, 0 and 7 are Sunday): \"5 * * * *\"";
const ZONE_HELP: &str = "write an IANA name: \"UTC\", \"Europe/Berlin\"";

impl Check {
    pub(super) fn task(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Task,
        file: &File,
    ) -> Option<Task> {
        self.name("task", name);
        if !file.profiles.contains_key(raw.profile.get_ref().as_str()) {
            let known = file.profiles.keys().map(|name| name.get_ref().as_str());
            let mistake =
                Mistake::unknown(raw.profile.span(), "profile", raw.profile.get_ref(), known);
            self.report(mistake);
        }
        self.retries_in_time(raw, file);
        self.steps_side_by_side(name, raw, file);
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
            datasets: &file.datasets,
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
            max_active: self.cap("max-active", raw.max_active.as_ref()),
            schedule,
            inputs,
            need: self.need(&raw.need, Some(raw.inputs.len())),
            wait: self.wait(raw),
            time_limits: self.time_limits(raw),
            outputs: raw.outputs.iter().map(|output| output.get_ref().clone()).collect(),
            when_empty: raw.when_empty,
            late_data: self.late_data(raw),
            attempt_timeout: raw
                .attempt_timeout
                .as_ref()
                .map(|timeout| self.within("attempt-timeout", timeout, TIMEOUTS)),
            steps,
            load: raw.load.as_ref().and_then(|load| self.load(load, name, raw, file)),
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
            // More attempts are a mistake of their own.
            let longest = longest.filter(|_| retry.attempts <= RETRIES_MAX);
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

    /// `of` is how many there are, where that is known.
    fn need(&mut self, raw: &Placed<schema::Need>, of: Option<usize>) -> Need {
        let count = match *raw.get_ref() {
            schema::Need::All => return Need::All,
            schema::Need::Any => 1,
            schema::Need::AtLeast(count) => count,
        };
        if count == 0 || of.is_some_and(|of| count as usize > of) {
            let expected = match of {
                Some(of) => format!("1 to {of}, as there are inputs"),
                None => "at least 1".to_owned(),
            };
            self.report(
                Mistake::at(raw.span(), format!("need is {count}: expected {expected}"))
                    .help("or write \"all\" or \"any\""),
            );
        }
        Need::AtLeast(count)
    }

    fn late_data(&mut self, task: &schema::Task) -> LateData {
        let raw = match &task.late_data {
            schema::LateData::Ignore => return LateData::Ignore,
            schema::LateData::Alert => return LateData::Alert,
            schema::LateData::RunAgain(raw) => raw,
        };
        let mode = task.load.as_ref().map(|load| *load.mode.get_ref());
        if mode.is_some_and(|mode| mode != ModeName::ReplacePartition) {
            self.report(
                Mistake::at(
                    raw.run_again.span(),
                    "late data runs the partition again, but its load replaces no partition",
                )
                .help("write mode = \"replace-partition\" in the load, or late-data = \"alert\""),
            );
        }
        let bounds = SignedDuration::from_mins(1)..=SignedDuration::from_hours(24 * 60);
        let until = self.within("run-again", &raw.run_again, bounds.clone());
        let back_off = self.within("back-off", &raw.back_off, bounds);
        if back_off >= until {
            self.report(
                Mistake::at(
                    raw.run_again.span(),
                    format!(
                        "late data runs nothing again: back-off is {back_off:#}, and run-again \
                         ends after {until:#}"
                    ),
                )
                .help("give run-again a longer time, or back-off a shorter one"),
            );
        }
        LateData::RunAgain { until, back_off }
    }

    fn wait(&mut self, raw: &schema::Task) -> Option<WaitLimit> {
        let Some(timeout) = &raw.wait_timeout else {
            if let Some(then) = &raw.on_timeout {
                self.report(
                    Mistake::at(then.span(), "on-timeout without wait-timeout").help(
                        "say how long to wait after the partition's end: wait-timeout = \"6h\"",
                    ),
                );
            }
            return None;
        };
        let bounds = SignedDuration::ZERO..=SignedDuration::from_hours(24 * 60);
        Some(WaitLimit {
            timeout: self.within("wait-timeout", timeout, bounds),
            then: raw.on_timeout.as_ref().map(|then| *then.get_ref()).unwrap_or_default(),
        })
    }

    /// When people are told that a partition is late.
    fn time_limits(&mut self, raw: &schema::Task) -> TimeLimits {
        let most = SignedDuration::from_hours(24 * 60);
        let mut limit = |what, value: &Option<_>| {
            value.as_ref().map(|value| self.within(what, value, SignedDuration::ZERO..=most))
        };
        let start_by = limit("start-by", &raw.start_by);
        let end_by = limit("end-by", &raw.end_by);
        let least = SignedDuration::from_secs(1);
        let duration_max =
            raw.duration_max.as_ref().map(|value| self.within("duration-max", value, least..=most));
        if let (Some(start), Some(end), Some(raw)) = (start_by, end_by, &raw.end_by)
            && end < start
        {
            self.report(
                Mistake::at(raw.span(), format!("end-by is {end:#}, before start-by, {start:#}"))
                    .help("both count from the slot or, without a schedule, the partition's end"),
            );
        }
        TimeLimits { start_by, end_by, duration_max }
    }

    /// EMR starts a task's second step beside its first where it may run
    /// several, so only tasks of one step can share such a cluster.
    fn steps_side_by_side(&mut self, name: &Placed<String>, raw: &schema::Task, file: &File) {
        let Some(profile) = file.profiles.get(raw.profile.get_ref().as_str()) else { return };
        let level = *profile.step_concurrency.get_ref();
        if let (2.., [_, second, ..]) = (level, raw.steps.as_slice()) {
            self.report(
                Mistake::at(
                    second.name.span(),
                    format!(
                        "{:?} has {} steps, and its profile has step-concurrency = {level}: EMR \
                         would not wait for the first before it starts the second",
                        name.get_ref(),
                        raw.steps.len()
                    ),
                )
                .help("give the task a profile with step-concurrency = 1, or make it one step"),
            );
        }
    }

    fn schedule(&mut self, raw: &schema::Schedule) -> Option<Schedule> {
        let parsed = Schedule::parse(raw.cron.get_ref(), raw.time_zone.get_ref(), raw.partition);
        let error = match parsed {
            Ok(schedule) => return Some(schedule.catching_up(raw.catch_up)),
            Err(error) => error,
        };
        let (span, help) = match error {
            ScheduleError::Zone(_) => (raw.time_zone.span(), ZONE_HELP),
            ScheduleError::Cron(_) => (raw.cron.span(), CRON_HELP),
        };
        self.report(Mistake::at(span, error.to_string()).help(help));
        None
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
            let need = self.need(&input.need, None);
            inputs.push(Input { dataset: name.clone(), from, to, need });
        }
        inputs
    }
}
