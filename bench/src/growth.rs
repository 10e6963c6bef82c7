//! More and more task partitions that wait: what an event costs then, how much
//! memory each takes, how long a start takes with all of them, and an operator's
//! commands.

use std::time::Duration;

use tokio::time::Instant;

use crate::bench::Bench;
use crate::operator;
use crate::process::Daemon;
use crate::report::{Row, Section};
use crate::stand::{Setup, Stand};
use crate::stats::Stats;
use crate::workload::{FILES, daily_task, day, file_event, head, profile, task_name};

const TASKS: u32 = 50;
/// Longer than the bench: what a backfill begins does not end.
const STARTING: Duration = Duration::from_secs(3600);
/// Events that are in the queue at most.
const QUEUED_MAX: u32 = 5_000;
/// Events that a cost is measured with.
const PROBES: u32 = 1_000;

struct Point {
    partitions: u32,
    rss_kib: f64,
    micros_an_event: Stats,
    cpu_micros_an_event: f64,
    calls_an_event: f64,
}

pub async fn growth(bench: &Bench) -> anyhow::Result<Section> {
    let sizes: &[u32] = if bench.quick { &[100, 200] } else { &[100, 1_000, 10_000, 100_000] };
    let stand = Stand::start(Setup { starting: STARTING, ..Setup::default() }).await?;
    let mut config = head("30s") + &profile("p", 1) + &operator::hourly_task("p");
    for number in 0..TASKS {
        config.push_str(&daily_task(&task_name(number), "p", &FILES));
    }
    let program = stand.daemon(&bench.daemon, &config).await?;
    let daemon = program.start().await?;
    let mut points = Vec::new();
    let mut there = 0;
    for size in sizes {
        send(&stand, FILES[0], there..*size).await?;
        there = *size;
        points.push(point(&stand, &daemon, bench, there).await?);
    }
    daemon.stop().await?;
    let calls = stand.calls("dynamodb", None);
    let daemon = program.start().await?;
    let ready = daemon.ready_after;
    stand.at_rest(Duration::from_secs(1)).await?;
    let after = daemon.usage()?;
    let restart = [
        Row::new(format!("start with {there}: to ready"), "ms", ready.as_secs_f64() * 1e3),
        Row::new(format!("start with {there}: CPU until at rest"), "s", after.cpu_secs),
        Row::new(
            format!("start with {there}: DynamoDB calls until at rest"),
            "calls",
            (stand.calls("dynamodb", None) - calls) as f64,
        ),
        Row::new(
            format!("start with {there}: memory"),
            "MB",
            after.memory.rss_kib as f64 * 1024.0 / 1e6,
        ),
        Row::new(
            format!("start with {there}: memory at its peak"),
            "MB",
            after.memory.peak_rss_kib as f64 * 1024.0 / 1e6,
        ),
    ];
    let (task, date) = (task_name(0), day(0).to_string());
    let asked = [task.as_str(), &date];
    let operator = operator::rows(bench, &program, (&stand, &daemon), asked, there).await?;
    daemon.stop().await?;
    stand.end().await;
    let mut rows = rows(&points);
    rows.extend(restart);
    rows.extend(operator);
    Ok(Section {
        name: "growth",
        title: "more and more task partitions that wait for a file",
        rows,
        notes: vec![
            format!(
                "{TASKS} tasks; {PROBES} events a measurement, for partitions that are there already, all over them"
            ),
            "memory is above that at the smallest size, over the partitions that were added"
                .to_owned(),
        ],
    })
}

fn rows(points: &[Point]) -> Vec<Row> {
    let mut rows = Vec::new();
    for point in points {
        let what = |name: &str| format!("{} waiting: {name}", point.partitions);
        rows.push(Row::median(what("time an event"), "µs", point.micros_an_event));
        rows.push(Row::new(what("CPU an event"), "µs", point.cpu_micros_an_event));
        rows.push(Row::new(what("DynamoDB calls an event"), "calls", point.calls_an_event));
        rows.push(Row::new(what("memory"), "MB", point.rss_kib * 1024.0 / 1e6));
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let added = f64::from(last.partitions - first.partitions);
        let bytes = (last.rss_kib - first.rss_kib) * 1024.0 / added;
        rows.push(Row::new("memory a waiting partition", "bytes", bytes).at_most(1024.0));
        let growth = last.cpu_micros_an_event / first.cpu_micros_an_event;
        // Noise of a shared machine is within a fifth.
        rows.push(Row::new("CPU an event, largest over smallest", "×", growth).at_most(1.2));
    }
    rows
}

async fn point(
    stand: &Stand,
    daemon: &Daemon,
    bench: &Bench,
    partitions: u32,
) -> anyhow::Result<Point> {
    let (calls, before) = (stand.calls("dynamodb", None), daemon.usage()?);
    let mut micros = Vec::new();
    let rounds = bench.rounds();
    // A second file: they go on waiting for the third. Later rounds repeat it,
    // as a sender that writes a file again does.
    let step = (partitions / PROBES).max(1);
    for _ in 0..rounds {
        let began = Instant::now();
        for probe in 0..PROBES {
            send_one(stand, FILES[1], probe * step % partitions)?;
        }
        stand.drained("inbox").await?;
        micros.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(PROBES));
    }
    let after = daemon.usage()?;
    let events = f64::from(PROBES * rounds);
    Ok(Point {
        partitions,
        rss_kib: after.memory.rss_kib as f64,
        micros_an_event: Stats::of(micros).ok_or_else(|| anyhow::anyhow!("nothing measured"))?,
        cpu_micros_an_event: (after.cpu_secs - before.cpu_secs) * 1e6 / events,
        calls_an_event: (stand.calls("dynamodb", None) - calls) as f64 / events,
    })
}

/// Sends a file of each of these partitions, and waits for its effect.
async fn send(stand: &Stand, file: &str, range: std::ops::Range<u32>) -> anyhow::Result<()> {
    let mut queued = 0;
    for partition in range {
        send_one(stand, file, partition)?;
        queued += 1;
        if queued == QUEUED_MAX {
            stand.drained("inbox").await?;
            queued = 0;
        }
    }
    stand.drained("inbox").await
}

fn send_one(stand: &Stand, file: &str, partition: u32) -> anyhow::Result<()> {
    let (task, date) = (task_name(partition % TASKS), day(partition / TASKS));
    stand.send("inbox", file_event(&task, file, date, stand.now()))
}
