//! `gc`: deletes what the tables' own expiry leaves. What that is: see `engine::gc`.

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;

use super::output::Output;
use super::{AwsArgs, Failure, Session};
use crate::aws::s3::S3;
use crate::engine::{Collected, Gc, GcError};

/// Delete what is left over of what has ended and is older than [retention] keeps
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate gc --dry-run --config prod.toml\n  \
    sluicegate gc --rate 100 --config prod.toml --json\n\n\
    The tables' own expiry deletes most of it. This goes through the tables for the rest: journal \
    rows and inputs whose partition is gone, claims whose run is gone, manifests of loads, and \
    what an older version wrote. Nothing that is open or younger is touched. Once a week or a \
    month is enough; it needs dynamodb:Scan and dynamodb:DeleteItem, which the service does not.")]
pub struct GcArgs {
    /// Delete nothing; show what would be deleted, but for what only hangs on that
    #[arg(long)]
    dry_run: bool,
    /// Read units of DynamoDB a second at most
    #[arg(long, value_name = "UNITS", default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    #[command(flatten)]
    aws: AwsArgs,
}

pub async fn gc(args: &GcArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let Session { config, clock, aws, store } = &session;
    let gc = Gc {
        store,
        s3: &S3::new(aws),
        catalog: &config.catalog,
        clock,
        rate: f64::from(args.rate),
        dry_run: args.dry_run,
    };
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new_spinner();
    let verb = if args.dry_run { "would delete" } else { "deleted" };
    let told = |found: &Collected| {
        let deleted: u64 = found.left_over.values().sum();
        bar.set_message(format!("{} looked at, {verb} {deleted}", found.looked_at));
        bar.tick();
    };
    let found = gc.run(told).await;
    bar.finish_and_clear();
    let found = found.map_err(|error| match error {
        GcError::Store(error) => Failure::Store(error),
        GcError::Aws(error) => Failure::Aws(error),
    })?;
    let text = text(&found, verb);
    Output::new(text, &json!({ "dry_run": args.dry_run, "collected": found }))
}

fn text(found: &Collected, verb: &str) -> String {
    let Collected { looked_at, left_over, changed, undeclared } = found;
    let mut text = match left_over.is_empty() {
        true => format!("nothing is left over; {looked_at} looked at"),
        false => format!("{verb}, of {looked_at} looked at:"),
    };
    for (kind, count) in left_over {
        text.push_str(&format!("\n{count:>8} {kind}"));
    }
    if *changed > 0 {
        text.push_str(&format!("\n{changed:>8} left alone: changed meanwhile"));
    }
    if *undeclared > 0 {
        text.push_str(&format!(
            "\n{undeclared:>8} journal rows left alone: their dataset is not declared"
        ));
    }
    text
}
