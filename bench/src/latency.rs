//! Single runs, one after the other: from the last input's message to RunJobFlow,
//! from a step's end to TerminateJobFlows, and what a run costs beyond its stages.

use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};

use crate::bench::Bench;
use crate::report::{Row, Section};
use crate::stand::{Call, Setup, Stand};
use crate::stats::Stats;
use crate::workload::{FILES, daily_task, day, file_event, head, profile};

const STARTING: Duration = Duration::from_millis(100);
const TERMINATING: Duration = Duration::from_millis(100);
/// How often the daemon looks where no events come.
const POLL_SECS: u32 = 1;

/// One run as the local AWS saw it, in seconds.
struct Timing {
    reaction: f64,
    end: f64,
    overhead: f64,
}

struct Runs {
    timings: Vec<Timing>,
    emr_calls: f64,
    cpu_secs: f64,
}

impl Runs {
    fn stats(&self, value: impl Fn(&Timing) -> f64) -> anyhow::Result<Stats> {
        Stats::of(self.timings.iter().map(value).collect()).context("nothing was measured")
    }
}

async fn runs(bench: &Bench, count: u32, events: bool) -> anyhow::Result<Runs> {
    let setup = Setup {
        call_log: true,
        events,
        starting: STARTING,
        terminating: TERMINATING,
        ..Setup::default()
    };
    let stand = Stand::start(setup).await?;
    let poll_interval = if events { "30s".to_owned() } else { format!("{POLL_SECS}s") };
    let config = [head(&poll_interval), profile("p", 1), daily_task("etl", "p", &FILES)].concat();
    let program = stand.daemon(&bench.daemon, &config).await?;
    let mut daemon = program.start().await?;
    let mut sent = Vec::new();
    let (mut cpu, mut emr_calls) = (0.0, 0);
    // The first one warms up.
    for number in 0..=count {
        if number == 1 {
            (cpu, emr_calls) = (daemon.usage()?.cpu_secs, stand.calls("elasticmapreduce", None));
        }
        for file in &FILES[..2] {
            stand.send("inbox", file_event("etl", file, day(number), stand.now()))?;
        }
        stand.drained("inbox").await?;
        let event = file_event("etl", FILES[2], day(number), stand.now());
        sent.push(stand.now());
        stand.send("inbox", event)?;
        stand.clusters_ended(number + 1).await?;
        daemon.alive()?;
        stand.at_rest(Duration::from_millis(100)).await?;
    }
    let result = Runs {
        timings: timings(&stand, &sent)?.split_off(1),
        emr_calls: (stand.calls("elasticmapreduce", None) - emr_calls) as f64 / f64::from(count),
        cpu_secs: (daemon.usage()?.cpu_secs - cpu) / f64::from(count),
    };
    daemon.stop().await?;
    stand.end().await;
    Ok(result)
}

/// Runs follow each other, so that calls and clusters belong to them in order.
fn timings(stand: &Stand, sent: &[Timestamp]) -> anyhow::Result<Vec<Timing>> {
    let log = stand.call_log()?;
    let times = |service: &str, action: &str| -> Vec<Timestamp> {
        let of = |call: &&Call| call.service == service && call.action == action;
        log.iter().filter(of).map(|call| call.time).collect()
    };
    let launched = times("elasticmapreduce", "RunJobFlow");
    let ended = times("elasticmapreduce", "TerminateJobFlows");
    let published = times("sns", "Publish");
    let clusters = stand.clusters();
    let each = [launched.len(), ended.len(), clusters.len()];
    ensure!(each == [sent.len(); 3], "{} runs, but calls and clusters {each:?}", sent.len());
    let secs = |span: SignedDuration| span.as_secs_f64();
    let mut timings = Vec::new();
    for (number, cluster) in clusters.iter().enumerate() {
        let step = cluster.steps.first().context("a cluster without steps")?;
        let (begun, over) = (step.started.context("not run")?, step.ended.context("not ended")?);
        let (ready, gone) = (cluster.ready.context("no start")?, cluster.ended.context("alive")?);
        let next = sent.get(number + 1).copied().unwrap_or(Timestamp::MAX);
        let told = published.iter().filter(|at| **at < next).max().context("no notice")?;
        let stages = [
            ready.duration_since(cluster.created),
            over.duration_since(begun),
            gone.duration_since(ended[number]),
        ];
        let stages: f64 = stages.into_iter().map(secs).sum();
        timings.push(Timing {
            reaction: secs(launched[number].duration_since(sent[number])),
            end: secs(ended[number].duration_since(over)),
            overhead: secs(told.duration_since(sent[number])) - stages,
        });
    }
    Ok(timings)
}

/// The same measurements by a percentile that is no median.
fn p99(what: &str, stats: Stats) -> Row {
    Row { value: stats.p99, ..Row::median(what, "ms", stats) }
}

pub async fn reaction(bench: &Bench) -> anyhow::Result<Section> {
    let count = bench.size(2, 100);
    let runs = runs(bench, count, true).await?;
    let reaction = runs.stats(|run| run.reaction * 1e3)?;
    let end = runs.stats(|run| run.end * 1e3)?;
    let overhead = runs.stats(|run| run.overhead)?;
    Ok(Section {
        name: "reaction",
        title: "runs one after the other, with EMR's events",
        rows: vec![
            Row::median("last input's message there → RunJobFlow, median", "ms", reaction).at_most(20.0),
            p99("last input's message there → RunJobFlow, p99", reaction).at_most(100.0),
            Row::median("step ends → TerminateJobFlows, median", "ms", end),
            p99("step ends → TerminateJobFlows, p99", end).at_most(200.0),
            Row::median("overhead of a run beyond its stages", "s", overhead).at_most(0.3),
            Row::new("EMR calls a run", "calls", runs.emr_calls).at_most(4.0),
            Row::new("CPU a run", "s", runs.cpu_secs).at_most(0.02),
        ],
        notes: vec![
            format!(
                "{count} runs of one step after one that warms up; EMR takes {} ms to start and {} ms to terminate, and its clock ticks every 25 ms",
                STARTING.as_millis(),
                TERMINATING.as_millis()
            ),
            "calls are timed when the local AWS gets them; the overhead is from the message to the run's last notice, less the stages".to_owned(),
        ],
    })
}

pub async fn end(bench: &Bench) -> anyhow::Result<Section> {
    let count = bench.size(1, 20);
    let runs = runs(bench, count, false).await?;
    let end = runs.stats(|run| run.end)?;
    Ok(Section {
        name: "end",
        title: "the same without events",
        rows: vec![
            Row { value: end.p99, ..Row::median("step ends → TerminateJobFlows, p99", "s", end) }
                .at_most(f64::from(POLL_SECS)),
            Row::median("step ends → TerminateJobFlows, median", "s", end),
            Row::median(
                "overhead of a run beyond its stages",
                "s",
                runs.stats(|run| run.overhead)?,
            ),
            Row::new("EMR calls a run", "calls", runs.emr_calls),
        ],
        notes: vec![format!(
            "{count} runs after one that warms up; poll-interval is {POLL_SECS} s; calls a run grow with its stages"
        )],
    })
}
