//! `check`: says every mistake in a configuration.

use clap::Args;
use serde_json::json;

use super::output::Output;
use super::{ConfigArgs, Failure};

/// Check a configuration and say every mistake in it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sluicegate check --config config/example.toml")]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub fn check(args: &CheckArgs) -> Result<Output, Failure> {
    let catalog = args.config.load()?.catalog;
    let (tasks, datasets) = (catalog.tasks.len(), catalog.datasets.len());
    let profiles = catalog.profiles.len();
    let path = args.config.path()?.display();
    Output::new(
        format!("{path}: no mistakes; {tasks} tasks, {datasets} datasets, {profiles} profiles"),
        &json!({ "mistakes": [], "tasks": tasks, "datasets": datasets, "profiles": profiles }),
    )
}
