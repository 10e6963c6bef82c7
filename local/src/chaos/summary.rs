//! The end of a chaos run in numbers: as a table for a person, as
//! `summary.json` for programs. Judges nothing: that is done in `judge`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use console::style;
use serde::Serialize;

use super::evidence::Evidence;
use super::judge::Violation;
use super::plan::{DEPLOYMENT, Plan};
use super::torment::Tally;
use crate::stage::screen;

/// The names of its fields are stable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    pub ok: bool,
    pub seed: u64,
    /// Of real time: under faults, and until all was at rest after them.
    pub faulty_seconds: f64,
    pub calm_seconds: f64,
    pub partitions: Partitions,
    pub runs: Runs,
    pub clusters: Clusters,
    /// Executions of steps, guards left out.
    pub executions: usize,
    pub processes: Tally,
    pub calls: Calls,
    pub messages_deleted: u64,
    pub mails: Mails,
    pub violations: Vec<Violation>,
    pub folder: PathBuf,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Partitions {
    pub expected: usize,
    pub as_expected: usize,
    /// By state, those that nobody expected included.
    pub by_state: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Runs {
    pub all: usize,
    /// Runs that needed a second cluster.
    pub with_several_attempts: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Clusters {
    pub created: usize,
    pub alive: usize,
    /// Beyond one for an attempt: born of lost answers.
    pub surplus: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Calls {
    /// While the line was faulty.
    pub all: u64,
    pub faulty: u64,
    /// By kind of fault, then by service.
    pub faults: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mails {
    pub all: usize,
    /// Distinct events that they tell of.
    pub events: usize,
}

/// What only the stage knows.
#[derive(Debug, Clone)]
pub struct Frame {
    pub seed: u64,
    pub faulty_seconds: f64,
    pub calm_seconds: f64,
    pub folder: PathBuf,
}

impl Summary {
    pub fn new(plan: &Plan, evidence: &Evidence, violations: Vec<Violation>, frame: Frame) -> Self {
        let mut by_state = BTreeMap::new();
        for partition in evidence.partitions.values() {
            *by_state.entry(partition.state.clone()).or_default() += 1;
        }
        let attempts = evidence.by_attempt(DEPLOYMENT);
        let ours = || attempts.values().flatten();
        let met = &evidence.seen.met;
        let events: std::collections::BTreeSet<_> =
            evidence.mails.iter().map(|mail| &mail.event).collect();
        Self {
            ok: violations.is_empty(),
            seed: frame.seed,
            faulty_seconds: frame.faulty_seconds,
            calm_seconds: frame.calm_seconds,
            partitions: Partitions {
                expected: plan.expected.len(),
                as_expected: evidence.as_expected(plan),
                by_state,
            },
            runs: Runs {
                all: evidence.runs.len(),
                with_several_attempts: evidence
                    .runs
                    .iter()
                    .filter(|run| run.attempts.len() > 1)
                    .count(),
            },
            clusters: Clusters {
                created: ours().count(),
                alive: ours().filter(|cluster| !cluster.has_ended()).count(),
                surplus: ours().count() - attempts.len(),
            },
            executions: evidence.executions.iter().filter(|execution| !execution.ended).count(),
            processes: evidence.tally.clone(),
            calls: Calls {
                all: evidence.seen.calls,
                faulty: met.values().flat_map(BTreeMap::values).sum(),
                faults: met.iter().map(|(fault, by)| (fault.name(), by.clone())).collect(),
            },
            messages_deleted: evidence.seen.deleted,
            mails: Mails { all: evidence.mails.len(), events: events.len() },
            violations,
            folder: frame.folder,
        }
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn print(&self) {
        screen::heading("What came of it");
        let Partitions { expected, as_expected, by_state } = &self.partitions;
        let states: Vec<_> =
            by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let states = states.join(", ");
        screen::entry("partitions", &format!("{as_expected} of {expected} as expected: {states}"));
        let Runs { all, with_several_attempts: several } = self.runs;
        screen::entry("runs", &format!("{all}, {several} of them with more than one attempt"));
        let Clusters { created, alive, surplus } = self.clusters;
        let text = format!("{created} created, {surplus} born of lost answers, {alive} alive");
        screen::entry("clusters", &text);
        screen::entry("executions", &format!("{} of steps", self.executions));
        self.print_processes();
        let Calls { all, faulty, faults } = &self.calls;
        screen::entry("calls", &format!("{all} under faults, {faulty} met one"));
        for (fault, by_service) in faults {
            let services: Vec<_> =
                by_service.iter().map(|(service, count)| format!("{service} {count}")).collect();
            let sum: u64 = by_service.values().sum();
            screen::line(format_args!("    {fault:<23} {sum:>5}  {}", services.join(", ")));
        }
        screen::entry("messages", &format!("{} deleted", self.messages_deleted));
        screen::entry("mails", &format!("{} for {} events", self.mails.all, self.mails.events));
        let (faulty, calm) = (self.faulty_seconds, self.calm_seconds);
        let text = format!("{faulty:.0} s of faults, at rest {calm:.0} s after them");
        screen::entry("time", &text);
        self.print_violations();
    }

    fn print_processes(&self) {
        let Tally { starts, kills, stops, long_stops, terminations, .. } = self.processes;
        let text = format!(
            "{kills} kills, {stops} stops and {long_stops} beyond the lease, \
             {terminations} SIGTERMs, {} of {starts} starts failed",
            self.processes.refused_starts
        );
        screen::entry("daemons", &text);
        screen::entry("EMR", &format!("{} clusters lost", self.processes.clusters_killed));
    }

    fn print_violations(&self) {
        screen::line("");
        if self.ok {
            let text = "0 duplicates, 0 lost, 0 alive, all announced: every invariant holds";
            return screen::line(style(text).green());
        }
        for Violation { invariant, what, look } in &self.violations {
            screen::line(format_args!("{} {what}", style(invariant).red().bold()));
            screen::line(style(format_args!("    look at {look}")).dim());
        }
        let count = self.violations.len();
        let (folder, seed) = (self.folder.display(), self.seed);
        let text = format!("{count} violations with seed {seed}; everything is left in {folder}");
        screen::line(style(text).red());
    }
}
