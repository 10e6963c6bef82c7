//! The daemon with nothing to do: how soon it is ready, what it takes then, how
//! large it is.

use std::fs;
use std::time::Duration;

use anyhow::Context;

use crate::bench::Bench;
use crate::report::{Row, Section};
use crate::stand::{Setup, Stand};
use crate::stats::Stats;
use crate::workload::{Load, Shape};

const MIB: f64 = 1024.0 * 1024.0;
/// As many as a middling installation has.
const TASKS: u32 = 30;
/// Two rounds of long polls and of sweeps.
const IDLE_SECS: u64 = 40;

fn config() -> String {
    Load { shape: Shape::Tasks, tasks: TASKS, periods: 1 }.config()
}

pub async fn idle(bench: &Bench) -> anyhow::Result<Section> {
    let stand = Stand::start(Setup::default()).await?;
    let program = stand.daemon(&bench.daemon, &config()).await?;
    let daemon = program.start().await?;
    stand.at_rest(Duration::from_millis(500)).await?;
    let seconds = if bench.quick { 1 } else { IDLE_SECS };
    let (before, calls) = (daemon.usage()?, stand.counts());
    let mut ticks = tokio::time::interval(Duration::from_secs(seconds));
    ticks.tick().await;
    ticks.tick().await;
    let after = daemon.usage()?;
    let made: u64 = stand.counts().values().sum::<u64>() - calls.values().sum::<u64>();
    daemon.stop().await?;
    stand.end().await;
    let size = fs::metadata(&bench.daemon).context("the daemon has no size")?.len() as f64;
    let cpu = (after.cpu_secs - before.cpu_secs) / seconds as f64 * 100.0;
    Ok(Section {
        name: "idle",
        title: "the daemon with nothing to do",
        rows: vec![
            Row::new("memory", "MB", after.memory.rss_kib as f64 * 1024.0 / 1e6).at_most(25.0),
            Row::new("memory at its peak", "MB", after.memory.peak_rss_kib as f64 * 1024.0 / 1e6),
            Row::new("CPU of a core", "%", cpu).at_most(0.2),
            Row::new("calls to AWS", "calls/min", made as f64 * 60.0 / seconds as f64),
            Row::new("installed size", "MB", size / 1e6).at_most(25.0),
        ],
        notes: vec![format!(
            "{TASKS} tasks of 3 datasets each; {seconds} s; no TLS, as the local AWS has none; the size is that of {:.1} MiB in one file",
            size / MIB
        )],
    })
}

pub async fn start(bench: &Bench) -> anyhow::Result<Section> {
    let stand = Stand::start(Setup::default()).await?;
    let program = stand.daemon(&bench.daemon, &config()).await?;
    let times = bench.size(2, 20);
    let mut ready = Vec::new();
    for _ in 0..times {
        let daemon = program.start().await?;
        ready.push(daemon.ready_after.as_secs_f64() * 1e3);
        daemon.stop().await?;
    }
    stand.end().await;
    let stats = Stats::of(ready).context("nothing was measured")?;
    Ok(Section {
        name: "start",
        title: "from the start of the process to 200 from /readyz",
        rows: vec![Row::median("start to ready", "ms", stats).at_most(150.0)],
        notes: vec![format!(
            "{times} starts with {TASKS} tasks and empty tables and queue; asked every 1 ms"
        )],
    })
}
