//! What an operator waits for: the commands that ask, and a large backfill. Each is
//! timed as a whole process, from its start to its end.

use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::{SignedDuration, ToSpan};
use tokio::time::Instant;

use crate::bench::Bench;
use crate::process::{Daemon, Program};
use crate::report::Row;
use crate::stand::Stand;
use crate::stats::Stats;

/// A task that nothing but a backfill runs.
const BACKFILLED: &str = "hourly";
const FROM: Date = date(2011, 1, 1);

/// Its declaration.
pub fn hourly_task(profile: &str) -> String {
    format!(
        "\n[tasks.{BACKFILLED}]\nprofile = \"{profile}\"\npartition = \"hour\"\n\
         schedule = {{ cron = \"0 0 1 1 *\" }}\n\
         [[tasks.{BACKFILLED}.steps]]\nname = \"work\"\nkind = \"command\"\nargs = [\"true\"]\n"
    )
}

/// `asked` is a task and a partition of it that waits.
pub async fn rows(
    bench: &Bench,
    program: &Program,
    (stand, daemon): (&Stand, &Daemon),
    asked: [&str; 2],
    there: u32,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let [task, partition] = asked;
    for words in [&["status"][..], &["status", "--task", task], &["why", task, partition]] {
        let calls = stand.calls("dynamodb", None);
        let mut millis = Vec::new();
        for _ in 0..bench.rounds() {
            let began = Instant::now();
            program.run(words).await?;
            millis.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let calls = (stand.calls("dynamodb", None) - calls) as f64 / f64::from(bench.rounds());
        let stats = Stats::of(millis).ok_or_else(|| anyhow::anyhow!("nothing measured"))?;
        let what = format!("{there} partitions: {}", words.join(" "));
        rows.push(Row::new(format!("{what}, the slowest"), "ms", stats.max).at_most(200.0));
        rows.push(Row::new(
            format!("{what}: DynamoDB calls (some are the service's)"),
            "calls",
            calls,
        ));
    }
    let slots = bench.size(48, 10_000);
    let to = FROM.at(0, 0, 0, 0) + (i64::from(slots) - 1).hours();
    let (from, to) = (format!("{FROM}T00"), to.strftime("%Y-%m-%dT%H").to_string());
    let before = daemon.usage()?.memory;
    let began = Instant::now();
    // The schedule has none of these slots: nothing else is to run the task.
    let order = ["backfill", BACKFILLED, "--from", &from, "--to", &to, "--force", "--by", "bench"];
    program.run(&order).await?;
    let accepted = SignedDuration::try_from(began.elapsed())?;
    let what = format!("backfill of {slots} slots");
    rows.push(Row::new(format!("{what}: accepted"), "s", accepted.as_secs_f64()).at_most(5.0));
    stand.called("elasticmapreduce", "RunJobFlow", 1).await?;
    stand.at_rest(Duration::from_secs(1)).await?;
    let after = daemon.usage()?.memory;
    let added = (after.rss_kib as f64 - before.rss_kib as f64) * 1024.0 / 1e6;
    rows.push(Row::new(format!("{what}: memory of the service, added"), "MB", added));
    Ok(rows)
}
