//! `check` and `schema`: a configuration looked at without running anything.

use std::io::{ErrorKind, Write};
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{ConfigArgs, DONE, FAILED, WRONG_USE, report};
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
    let config = match config::load_with_task_files(path) {
        Ok(config) => config,
        Err(error) => {
            if args.json {
                print(&json(path, &found(&error), &[]));
            } else {
                say(&error);
            }
            return WRONG_USE;
        }
    };
    if args.json {
        return print(&json(path, &[], config.warnings.list()));
    }
    let catalog = &config.catalog;
    let mut parts = vec!["no mistakes".to_owned()];
    if !config.warnings.is_empty() {
        eprintln!("{}", config.warnings);
        parts.push(config.warnings.count());
    }
    parts.push(counted(catalog.tasks.len(), "task"));
    parts.push(counted(catalog.datasets.len(), "dataset"));
    parts.push(counted(catalog.profiles.len(), "profile"));
    print(&format!("{}: {}", path.display(), parts.join(", ")))
}

/// Says on standard error why a configuration cannot be used.
pub(super) fn say(error: &ConfigError) {
    match error {
        ConfigError::Invalid(mistakes) => eprintln!("{mistakes}"),
        ConfigError::Read(..) => report(error),
    }
}

fn found(error: &ConfigError) -> Vec<Finding> {
    match error {
        ConfigError::Invalid(mistakes) => mistakes.list().to_vec(),
        ConfigError::Read(path, cause) => {
            let message = format!("{error}: {cause}");
            vec![Finding { file: path.clone(), line: None, column: None, message, help: None }]
        }
    }
}

fn json(path: &Path, mistakes: &[Finding], warnings: &[Finding]) -> String {
    let file = path.display().to_string();
    format!("{:#}", json!({ "file": file, "mistakes": mistakes, "warnings": warnings }))
}

/// Prints the JSON Schema of the configuration.
pub(super) fn schema() -> u8 {
    print(&format!("{:#}", config::json_schema()))
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> u8 {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            report(&error);
            FAILED
        }
        _ => DONE,
    }
}
