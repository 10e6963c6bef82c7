//! Many runs at once: whether all end well, at what pace they are launched,
//! what each costs.

use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use sluicegate_local::emr::model::Cluster;

use crate::bench::Bench;
use crate::process::until_metric;
use crate::report::{Row, Section};
use crate::stand::{Setup, Stand};
use crate::workload::{
    FILES, QUOTA_BURST, QUOTA_PER_SECOND, daily_task, day, file_event, head, profile,
};

const RUNS_ENDED: &str = "sluicegate_runs_ended_total";
/// EMR's own quota for RunJobFlow: so many at once, then so many a second.
const EMR_BURST: f64 = 10.0;
const EMR_PER_SECOND: f64 = 0.5;

pub async fn runs(bench: &Bench) -> anyhow::Result<Section> {
    // Long enough to start that all clusters live at once.
    let sizes: &[(u32, u64)] = if bench.quick { &[(3, 1)] } else { &[(100, 4), (1000, 20)] };
    let mut section = Section {
        name: "runs",
        title: "many runs at once, with EMR's events",
        rows: Vec::new(),
        notes: vec![format!(
            "quotas of EMR are set to {QUOTA_BURST} at once and {QUOTA_PER_SECOND} a second for every call; EMR's default for RunJobFlow is {EMR_BURST} and {EMR_PER_SECOND}, with which 1,000 launches take {:.0} min",
            (1000.0 - EMR_BURST) / EMR_PER_SECOND / 60.0
        )],
    };
    for (count, starting) in sizes {
        section.rows.extend(at_once(bench, *count, *starting).await?);
        section.notes.push(format!("{count} runs: a cluster takes {starting} s to start"));
    }
    Ok(section)
}

async fn at_once(bench: &Bench, count: u32, starting: u64) -> anyhow::Result<Vec<Row>> {
    let setup = Setup {
        events: true,
        starting: Duration::from_secs(starting),
        terminating: Duration::from_secs(1),
        ..Setup::default()
    };
    let stand = Stand::start(setup).await?;
    let config = [head("30s"), profile("p", 1), daily_task("etl", "p", &FILES)].concat();
    let program = stand.daemon(&bench.daemon, &config).await?;
    let mut daemon = program.start().await?;
    let before = daemon.usage()?;
    let began = stand.now();
    for file in FILES {
        for number in 0..count {
            stand.send("inbox", file_event("etl", file, day(number), stand.now()))?;
        }
    }
    stand.clusters_ended(count).await?;
    let label = "state=\"succeeded\"";
    until_metric(&mut daemon, RUNS_ENDED, label, f64::from(count)).await?;
    let took = stand.now().duration_since(began).as_secs_f64();
    stand.at_rest(Duration::from_millis(500)).await?;
    let after = daemon.usage()?;
    let succeeded = daemon.metric(RUNS_ENDED, label).await?;
    let clusters = stand.clusters();
    ensure!(clusters.len() == count as usize, "{} clusters for {count} runs", clusters.len());
    let calls = |service| stand.calls(service, None) as f64 / f64::from(count);
    let launched = clusters.iter().map(|cluster| cluster.created);
    let last = launched.max().unwrap_or(began).duration_since(began).as_secs_f64();
    let what = |name: &str| format!("{count} at once: {name}");
    let rows = vec![
        Row::new(what("succeeded"), "runs", succeeded).at_least(f64::from(count)),
        Row::new(what("clusters alive at once"), "clusters", most_alive(&clusters)),
        Row::new(what("first event to last RunJobFlow"), "s", last),
        Row::new(what("first event to last end"), "s", took),
        Row::new(what("EMR calls a run"), "calls", calls("elasticmapreduce")).at_most(4.0),
        Row::new(what("DynamoDB calls a run"), "calls", calls("dynamodb")),
        Row::new(what("notices a run"), "calls", calls("sns")),
        Row::new(what("CPU a run"), "s", (after.cpu_secs - before.cpu_secs) / f64::from(count))
            .at_most(0.02),
        Row::new(what("memory at its peak"), "MB", after.memory.peak_rss_kib as f64 * 1024.0 / 1e6),
    ];
    daemon.stop().await?;
    stand.end().await;
    Ok(rows)
}

/// How many lived side by side.
fn most_alive(clusters: &[Cluster]) -> f64 {
    let mut changes: Vec<(Timestamp, i32)> = Vec::new();
    for cluster in clusters {
        changes.push((cluster.created, 1));
        changes.extend(cluster.ended.map(|ended| (ended, -1)));
    }
    changes.sort_unstable();
    let alive = changes.iter().scan(0, |alive, (_, change)| {
        *alive += change;
        Some(*alive)
    });
    f64::from(alive.max().unwrap_or(0))
}
