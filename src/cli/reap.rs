//! `reap`: ends clusters that nobody needs, without the service. To be run by a
//! scheduler of its own, for the day when no service runs at all.

use std::fmt::Write;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::output::{self, Output};
use super::{AwsArgs, Failure};
use crate::aws::emr::Emr;
use crate::aws::redshift::Redshift;
use crate::aws::s3::S3;
use crate::aws::sns::Sns;
use crate::emf;
use crate::engine::{Engine, Parts, Reaped, ReaperLook};
use crate::metrics::Metrics;

/// End clusters of this deployment that nobody needs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate reap --once --config prod.toml\n  \
    sluicegate reap --once --dry-run --json --config prod.toml\n  \
    sluicegate reap --once --emf --config prod.toml\n\n\
    Ends clusters whose run has ended, whose run goes on elsewhere, or whose deadline is over, \
    and tells people. Only clusters that bear this deployment's name and tag are touched. The \
    service does the same every ten minutes; schedule this beside it for when it is gone.")]
pub struct ReapArgs {
    /// Look once and exit
    #[arg(long, required = true)]
    once: bool,
    /// End nothing; show what would be ended
    #[arg(long)]
    dry_run: bool,
    /// After a look at all clusters, write one line to standard output that CloudWatch
    /// Logs makes a metric of (EMF)
    #[arg(long, conflicts_with = "dry_run")]
    emf: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

pub async fn reap(args: &ReapArgs) -> Result<Output, Failure> {
    let session = args.aws.connect().await?;
    let (aws, settings) = (&session.aws, session.config.settings);
    let engine = Engine::new(Parts {
        emr: Emr::new(aws, &session.config.catalog.deployment, session.store.run_table()),
        catalog: session.config.catalog,
        store: session.store,
        sns: Sns::new(aws, &settings.topic_arn),
        s3: S3::new(aws),
        redshift: Redshift::new(aws),
        clock: session.clock,
        sweep_interval: settings.sweep_interval,
        listing: None,
        quotas: settings.quotas,
        notices_per_second: settings.notices_per_second,
        fold_window: settings.fold_window,
        metrics: Arc::new(Metrics::default()),
    });
    let look = engine.reap(args.dry_run).await?;
    // What was not looked at may be what nobody needs.
    if args.emf && look.unknown == 0 {
        let line = emf::reaper_looked(&engine.catalog().deployment, engine.clock().now());
        emf::write(&line).map_err(|error| Failure::Failed(format!("cannot write: {error}")))?;
    }
    let rows: Vec<_> = look
        .reaped
        .iter()
        .map(|Reaped { cluster, name, reason, failure }| {
            json!({ "cluster": cluster, "name": name, "reason": reason.words(), "failure": failure })
        })
        .collect();
    let text = text(&look, args.dry_run);
    match look.reaped.iter().any(|reaped| reaped.failure.is_some()) {
        true => Err(Failure::Failed(text)),
        false => {
            let unknown = look.unknown;
            Output::new(
                text,
                &json!({ "reaped": rows, "unknown": unknown, "dry_run": args.dry_run }),
            )
        }
    }
}

fn text(look: &ReaperLook, dry_run: bool) -> String {
    let verb = if dry_run { "would end" } else { "ended" };
    let mut text = match look.reaped.len() {
        0 => "no cluster that nobody needs".to_owned(),
        1 => format!("{verb} 1 cluster"),
        more => format!("{verb} {more} clusters"),
    };
    for Reaped { cluster, name, reason, failure } in &look.reaped {
        let (cluster, name) = (output::plain(cluster), output::plain(name));
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {cluster}  {name}  {}", reason.words());
        if let Some(failure) = failure {
            let _ = write!(text, "\n    not ended: {}", output::plain(failure));
        }
    }
    if look.unknown > 0 {
        let _ = write!(
            text,
            "\n{} left alone, because nothing certain could be learned of them: look again, \
             or see the rights of who looks",
            look.unknown
        );
    }
    text
}
