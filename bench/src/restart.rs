//! A start with many runs in flight: how soon the daemon knows how all of their
//! clusters are, at EMR's own quotas.

use std::time::Duration;

use tokio::time::Instant;

use crate::bench::Bench;
use crate::report::{Row, Section};
use crate::stand::{self, Setup, Stand};
use crate::wait::poll;
use crate::workload::{FILES, daily_task, day, emr_quotas, file_event, head, profile};

/// A page of ListClusters.
const PAGE: u32 = 50;
/// Longer than the bench.
const STARTING: Duration = Duration::from_secs(3600);

pub async fn restart(bench: &Bench) -> anyhow::Result<Section> {
    let count = bench.size(3, 1000);
    let setup = Setup { events: true, starting: STARTING, ..Setup::default() };
    let stand = Stand::start(setup).await?;
    let tasks = [profile("p", 1), daily_task("etl", "p", &FILES)].concat();
    let program = stand.daemon(&bench.daemon, &[head("30s"), tasks.clone()].concat()).await?;
    let daemon = program.start().await?;
    for file in FILES {
        for number in 0..count {
            stand.send("inbox", file_event("etl", file, day(number), stand.now()))?;
        }
    }
    stand.called("elasticmapreduce", "RunJobFlow", count.into()).await?;
    stand.at_rest(Duration::from_millis(500)).await?;
    drop(daemon);
    let program = stand.daemon(&bench.daemon, &[emr_quotas("30s"), tasks].concat()).await?;
    let before = stand.counts();
    let began = Instant::now();
    let daemon = program.start().await?;
    let ready = daemon.ready_after.as_secs_f64();
    let pages = u64::from(count.div_ceil(PAGE));
    let made = |action| {
        let calls = |counts| stand::count(counts, "elasticmapreduce", Some(action));
        calls(&stand.counts()) - calls(&before)
    };
    poll("a look at every cluster", Duration::from_millis(5), async || {
        // One that is asked for alone is described: that costs no more than a list.
        let all = made("ListClusters") >= pages || made("DescribeCluster") >= count.into();
        Ok(all.then_some(()))
    })
    .await?;
    let known = began.elapsed().as_secs_f64();
    let calls = |counts| stand::count(counts, "elasticmapreduce", None);
    let made = calls(&stand.counts()) - calls(&before);
    let usage = daemon.usage()?;
    drop(daemon);
    stand.end().await;
    Ok(Section {
        name: "restart",
        title: "a start with many runs in flight, at EMR's own quotas",
        rows: vec![
            Row::new("start to ready", "s", ready),
            Row::new(format!("start to the state of all {count} clusters known"), "s", known)
                .at_most(10.0),
            Row::new("EMR calls for that", "calls", made as f64).at_most(pages as f64 * 2.0),
            Row::new("memory", "MB", usage.memory.rss_kib as f64 * 1024.0 / 1e6).at_most(40.0),
        ],
        notes: vec!["the daemon before it was killed".to_owned()],
    })
}
