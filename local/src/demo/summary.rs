//! The demo's end in numbers: as lines for a person and as `summary.json` for
//! programs. Judges nothing: that is done in `checks`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use console::style;
use jiff::Timestamp;
use serde::Serialize;

use super::checks::{Check, Evidence};
use super::verify::Output;
use crate::stage::daemon::Stopped;
use crate::stage::observe::{self, Calls};
use crate::stage::screen;
use crate::usage::Memory;

/// The services that only the daemon calls; S3 is called by the steps.
const DAEMONS_SERVICES: [&str; 5] = ["dynamodb", "elasticmapreduce", "redshift-data", "sns", "sqs"];

/// The names of its fields are stable.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub ok: bool,
    /// Real time, from the start of the demo.
    pub seconds: f64,
    pub clock: ClockSpan,
    pub partitions: Vec<PartitionEnd>,
    pub runs: Vec<RunEnd>,
    pub clusters: Clusters,
    pub rows: Rows,
    pub mails: Mails,
    pub calls: CallCounts,
    pub daemon: Process,
    pub checks: Vec<Check>,
}

/// What the development clock showed.
#[derive(Debug, Serialize)]
pub struct ClockSpan {
    pub start: Timestamp,
    pub end: Timestamp,
    pub factor: f64,
}

#[derive(Debug, Serialize)]
pub struct PartitionEnd {
    pub task: String,
    pub partition: String,
    pub state: String,
    pub run: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct RunEnd {
    pub id: String,
    pub state: String,
    /// As `task partition`.
    pub partitions: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Clusters {
    pub created: usize,
    pub terminated: usize,
    pub alive: usize,
}

#[derive(Debug, Serialize)]
pub struct Rows {
    pub equal: bool,
    pub outputs: Vec<Output>,
}

#[derive(Debug, Serialize)]
pub struct Mails {
    pub total: usize,
    pub notices: usize,
    pub by_severity: BTreeMap<String, usize>,
}

/// From the daemon's start on.
#[derive(Debug, Serialize)]
pub struct CallCounts {
    /// Of the daemon, by service and action.
    pub daemon: Calls,
    pub daemon_total: usize,
    /// Those that were answered with an error, by its code.
    pub daemon_errors: BTreeMap<String, usize>,
    /// Of the steps, and of those who deliver data.
    pub others: Calls,
    /// Of all the daemon's calls, for each of its runs.
    pub per_run: f64,
    /// The calls to EMR among them.
    pub emr_per_run: f64,
    /// Of all the daemon's calls, for each object that S3 told of.
    pub per_event: f64,
    pub events: usize,
}

#[derive(Debug, Serialize)]
pub struct Process {
    pub memory: Option<Memory>,
    pub stopped: Option<Stopped>,
}

impl Summary {
    pub fn new(evidence: &Evidence, checks: Vec<Check>, clock: ClockSpan, seconds: f64) -> Self {
        let partitions = evidence.partitions.iter().map(|item| PartitionEnd {
            task: item.task.clone(),
            partition: item.partition.clone(),
            state: item.state.clone(),
            run: item.run.clone(),
            reason: item.reason.clone(),
        });
        let runs = evidence.runs.iter().map(|run| RunEnd {
            id: run.id.clone(),
            state: run.state.clone(),
            partitions: run
                .members
                .iter()
                .map(|member| format!("{} {}", member.key.task, member.key.partition))
                .collect(),
        });
        let terminated = evidence.clusters.iter().filter(|cluster| cluster.has_ended()).count();
        let created = evidence.clusters.len();
        let mut by_severity = BTreeMap::new();
        for mail in &evidence.mails {
            *by_severity.entry(mail.severity.clone()).or_default() += 1;
        }
        Self {
            ok: checks.iter().all(|check| check.ok),
            seconds,
            clock,
            partitions: partitions.collect(),
            runs: runs.collect(),
            clusters: Clusters { created, terminated, alive: created - terminated },
            rows: Rows {
                equal: evidence.verified.equal,
                outputs: evidence.verified.outputs.clone(),
            },
            mails: Mails { total: evidence.mails.len(), notices: evidence.notices(), by_severity },
            calls: CallCounts::new(evidence),
            daemon: Process { memory: evidence.memory, stopped: evidence.stopped },
            checks,
        }
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// For a person.
    pub fn print(&self) {
        screen::heading("What came of it");
        for item in &self.partitions {
            let name = format!("{} {}", item.task, item.partition);
            let reason = item.reason.as_deref().unwrap_or_default();
            let line = format!("{name:<28} {:<10} {}", item.state, style(reason).dim());
            screen::entry("partition", line.trim_end());
        }
        let Clusters { created, terminated, alive } = self.clusters;
        let text = format!("{created} created, {terminated} terminated, {alive} alive");
        screen::entry("clusters", &text);
        for Output { name, rows_expected, rows_found, .. } in &self.rows.outputs {
            let text = format!("{name:<28} {rows_found} rows, {rows_expected} by the source");
            screen::entry("rows", &text);
        }
        let Mails { total, notices, by_severity } = &self.mails;
        let severities: Vec<String> =
            by_severity.iter().map(|(severity, count)| format!("{count} {severity}")).collect();
        let text = format!("{total} for {notices} notices: {}", severities.join(", "));
        screen::entry("mails", &text);
        self.calls.print();
        match self.daemon.memory {
            Some(Memory { rss_kib, peak_rss_kib }) => {
                let mib = |kib: u64| kib as f64 / 1024.0;
                let (rss, peak) = (mib(rss_kib), mib(peak_rss_kib));
                let text = format!("{rss:.1} MiB resident, {peak:.1} MiB at its peak");
                screen::entry("daemon", &text);
            }
            None => screen::entry("daemon", "its memory is not known here"),
        }
        screen::entry("time", &format!("{:.0} seconds", self.seconds));
        screen::heading("What was to be shown");
        for check in &self.checks {
            screen::verdict(check.ok, &check.name, &check.detail);
        }
    }
}

impl CallCounts {
    fn new(evidence: &Evidence) -> Self {
        let services = BTreeSet::from(DAEMONS_SERVICES);
        let (daemon, others): (Vec<_>, Vec<_>) =
            evidence.calls.iter().partition(|call| services.contains(call.service.as_str()));
        let mut daemon_errors = BTreeMap::new();
        for call in daemon.iter().filter(|call| call.outcome != "ok") {
            *daemon_errors.entry(call.outcome.clone()).or_default() += 1;
        }
        let of_emr = daemon.iter().filter(|call| call.service == "elasticmapreduce").count();
        let each = |calls: usize, of: usize| calls as f64 / of.max(1) as f64;
        let (runs, events) = (evidence.runs.len(), evidence.objects_delivered);
        Self {
            daemon_total: daemon.len(),
            daemon_errors,
            per_run: each(daemon.len(), runs),
            emr_per_run: each(of_emr, runs),
            per_event: each(daemon.len(), events),
            events,
            daemon: observe::count(daemon.into_iter()),
            others: observe::count(others.into_iter()),
        }
    }

    fn print(&self) {
        let sum = |actions: &BTreeMap<String, u64>| actions.values().sum::<u64>();
        let services: Vec<String> =
            self.daemon.iter().map(|(name, actions)| format!("{name} {}", sum(actions))).collect();
        screen::entry("AWS calls", &format!("{}: {}", self.daemon_total, services.join(", ")));
        let Self { per_run, emr_per_run, per_event, events, .. } = self;
        let text = format!("{per_run:.1} a run, of these {emr_per_run:.1} to EMR");
        screen::entry("", &text);
        let text = format!("{per_event:.1} for each of the {events} objects that S3 told of");
        screen::entry("", &text);
        if !self.daemon_errors.is_empty() {
            let errors: Vec<String> =
                self.daemon_errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
            screen::entry("", &format!("answered with an error: {}", errors.join(", ")));
        }
    }
}
