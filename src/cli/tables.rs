//! `tables create`: makes what the service needs in DynamoDB.

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::Output;
use super::{AwsArgs, Failure};

/// Work on the DynamoDB tables
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  sluicegate tables create --config prod.toml")]
pub enum TablesCommand {
    Create(CreateArgs),
}

/// Create the tables, indexes and expiry of existing tables, that are missing
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate tables create --config prod.toml\n  \
    sluicegate tables create --config config/local.toml --local http://127.0.0.1:4510\n\n\
    Does nothing to what exists. A new index of a large table takes AWS some minutes. Expiry \
    (TTL by the attribute expires) deletes what has ended, as [retention] says.")]
pub struct CreateArgs {
    #[command(flatten)]
    aws: AwsArgs,
}

pub async fn create(args: &CreateArgs) -> Result<Output, Failure> {
    let session = args.aws.connect().await?;
    let made = session.store.create_tables().await?;
    let text = match made.as_slice() {
        [] => "all tables exist already".to_owned(),
        made => format!("created: {}", made.join(", ")),
    };
    Output::new(text, &json!({ "created": made }))
}
