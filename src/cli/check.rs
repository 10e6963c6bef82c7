//! `check` and `schema`: a configuration looked at without running anything.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{ConfigArgs, DONE, WRONG_USE, report};
use crate::config::{self, ConfigError, Finding, counted};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print what was found as JSON, for editors and CI
    #[arg(long)]
    json: bool,
}

/// Exit code 0 without mistakes; warnings do not count.
pub(super) fn check(args: &CheckArgs) -> u8 {
    let path = &args.config.config;
    match config::load_with_task_files(path) {
        Ok(config) => {
            let catalog = &config.catalog;
            let counts = [
                ("task", catalog.tasks.len()),
                ("dataset", catalog.datasets.len()),
                ("profile", catalog.profiles.len()),
            ];
            if args.json {
                print_json(path, &[], config.warnings.list());
                return DONE;
            }
            let mut warned = String::new();
            if !config.warnings.is_empty() {
                eprintln!("{}", config.warnings);
                warned = format!(", {}", config.warnings.count());
            }
            let found = counts.map(|(noun, count)| counted(count, noun)).join(", ");
            println!("{}: no mistakes{warned}; {found}", path.display());
            DONE
        }
        Err(error) if args.json => {
            let found = match error {
                ConfigError::Invalid(mistakes) => mistakes.list().to_vec(),
                ConfigError::Read(_, ref cause) => vec![Finding {
                    file: path.clone(),
                    line: None,
                    column: None,
                    message: format!("{error}: {cause}"),
                    help: None,
                }],
            };
            print_json(path, &found, &[]);
            WRONG_USE
        }
        Err(error) => {
            say(&error);
            WRONG_USE
        }
    }
}

/// Says on standard error why a configuration cannot be used.
pub(super) fn say(error: &ConfigError) {
    match error {
        ConfigError::Invalid(mistakes) => eprintln!("{mistakes}"),
        ConfigError::Read(..) => report(error),
    }
}

fn print_json(path: &Path, mistakes: &[Finding], warnings: &[Finding]) {
    let file = path.display().to_string();
    println!("{:#}", json!({ "file": file, "mistakes": mistakes, "warnings": warnings }));
}

/// Prints the JSON Schema of the configuration.
pub(super) fn schema() -> u8 {
    println!("{:#}", config::json_schema());
    DONE
}
