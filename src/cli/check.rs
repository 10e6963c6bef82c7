//! `check` and `schema`: a configuration looked at without running anything.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::output::Output;
use super::{Failure, WholeArgs};
use crate::config::{self, ConfigError, Finding, counted};

/// Check a configuration, and the task files of its folder, and say every
/// mistake
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate check --config config/example.toml\n  \
    sluicegate check --config config/example.toml --json\n  \
    sluicegate check --config prod.toml --tasks tasks\n\n\
    Exit code 0 without mistakes (warnings do not count), 2 with")]
pub struct CheckArgs {
    #[command(flatten)]
    config: WholeArgs,
}

pub fn check(args: &CheckArgs, json: bool) -> Result<Output, Failure> {
    let path = args.config.config.path()?;
    let config = match args.config.load() {
        Err(Failure::Config(error)) if json => {
            return Err(Failure::Found(in_json(path, &mistakes(error), &[])));
        }
        result => result?,
    };
    let catalog = &config.catalog;
    let counts = [
        ("task", catalog.tasks.len()),
        ("dataset", catalog.datasets.len()),
        ("profile", catalog.profiles.len()),
    ];
    let mut warned = String::new();
    if !config.warnings.is_empty() && !json {
        eprintln!("{}", config.warnings);
        warned = format!(", {}", config.warnings.count());
    }
    let found = counts.map(|(noun, count)| counted(count, noun)).join(", ");
    Output::new(
        format!("{}: no mistakes{warned}, {found}", path.display()),
        &in_json(path, &[], config.warnings.list()),
    )
}

fn mistakes(error: ConfigError) -> Vec<Finding> {
    match error {
        ConfigError::Invalid(mistakes) => mistakes.list().to_vec(),
        ConfigError::Read(ref file, ref cause) => vec![Finding {
            file: file.clone(),
            line: None,
            column: None,
            message: format!("{error}: {cause}"),
            help: None,
        }],
    }
}

fn in_json(path: &Path, mistakes: &[Finding], warnings: &[Finding]) -> Value {
    let file = path.display().to_string();
    json!({ "file": file, "mistakes": mistakes, "warnings": warnings })
}

/// Print the JSON Schema of the configuration, for editors
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate schema > sluicegate.schema.json\n\n\
    With `#:schema ./sluicegate.schema.json` as its first line, editors (Even Better TOML, \
    taplo) complete and check a configuration as it is written.")]
pub struct SchemaArgs {}

pub fn schema(_: &SchemaArgs) -> Result<Output, Failure> {
    let schema = config::json_schema();
    Output::new(format!("{schema:#}"), &schema)
}
