//! `why`: says in a sentence why a task partition is where it is. What is read
//! for that: see `engine::why`.

use clap::Args;

use super::output::{self, Output};
use super::{AwsArgs, Failure, find_partition, find_task};
use crate::engine;

/// Say in one sentence why a task's partition is where it is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate why daily-report 2013-01-01 --config prod.toml\n  \
    sluicegate why hourly-etl 2013-01-01T05 --config prod.toml --json")]
pub struct WhyArgs {
    task: String,
    /// An hour such as 2013-01-01T05 or a day such as 2013-01-01, UTC
    partition: String,
    #[command(flatten)]
    aws: AwsArgs,
}

pub async fn why(args: &WhyArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let task = find_task(&session.config, &args.task)?;
    let key = find_partition(task, &args.partition)?;
    let mut item = session.store.task(&key).await?;
    let (store, catalog) = (&session.store, &session.config.catalog);
    let too_old = store.is_forgotten(&key, item.as_ref(), session.now()).await?;
    item = item.filter(|_| !too_old);
    let mut why = engine::why(store, catalog, task, &key, item.as_ref(), session.now()).await?;
    // A backfill may be about to come to it.
    if too_old && why.backfill.is_none() {
        why = why.too_old(store.retention().partitions);
    }
    Output::new(output::plain(&why.sentence), &why)
}
