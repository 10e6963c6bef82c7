//! The TOML file: `document` reads it, `schema` is what may be written,
//! `structure` compares the two, `validate` turns the file into the catalog and
//! settings. Every mistake is reported, with its place.

mod document;
mod mistake;
mod schema;
pub mod secret;
mod structure;
mod validate;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use mistake::Mistake;

use crate::core::catalog::Catalog;

pub use mistake::{Finding, Findings, counted};
pub use schema::json_schema;

/// A longer file is refused: it is something else given by accident.
const BYTES_MAX: u64 = 1024 * 1024;

/// A configuration that has passed every check.
#[derive(Debug)]
pub struct Config {
    pub catalog: Catalog,
    pub settings: Settings,
    /// What is allowed but likely not meant.
    pub warnings: Findings,
}

/// How the service itself runs, apart from what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// None leaves the region to the environment.
    pub region: Option<String>,
    /// Name or URL of the queue that S3 notifies.
    pub queue: String,
    /// Name or URL of the queue for messages that nobody can read.
    pub quarantine: String,
    pub topic_arn: String,
    pub table_prefix: String,
    /// How often the tables are searched for work that no event announced.
    pub sweep_interval: SignedDuration,
    /// How long a received message stays hidden from other receivers.
    pub visibility_timeout: SignedDuration,
    /// How many receive from the queue side by side.
    pub receivers: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] ReadError),
    #[error("{0}")]
    Invalid(Findings),
}

/// Why there is no text to check.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is longer than 1 MiB, the most that a configuration may have")]
    TooLong,
    #[error("line {line} is not UTF-8 (byte {byte} of the file): save the file as UTF-8")]
    NotUtf8 { line: usize, byte: usize },
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = read(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
    parse(&text, path).map_err(ConfigError::Invalid)
}

fn read(path: &Path) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    // One more than allowed, so that endless files end too.
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(ReadError::TooLong);
    }
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        let newlines = error.as_bytes()[..byte].iter().filter(|byte| **byte == b'\n').count();
        ReadError::NotUtf8 { line: newlines + 1, byte: byte + 1 }
    })
}

/// Checks a configuration text; `path` is only for messages.
pub fn parse(text: &str, path: &Path) -> Result<Config, Findings> {
    let mistakes = |mistakes| Findings::mistakes(path, text, mistakes);
    let mut document = document::parse(text).map_err(|mistake| mistakes(vec![mistake]))?;
    let schema = json_schema();
    let mut found = structure::check(&document, &schema);
    let set_aside = if found.is_empty() {
        Default::default()
    } else {
        match structure::set_aside(&mut document, &schema) {
            Some(names) => names,
            None => return Err(mistakes(found)),
        }
    };
    let checked = document::read(document)
        .map_err(|mistake| vec![mistake])
        .and_then(|file| validate::validate(&file));
    match checked {
        Ok((catalog, settings, warnings)) if found.is_empty() => {
            Ok(Config { catalog, settings, warnings: Findings::warnings(path, text, warnings) })
        }
        Ok(_) => Err(mistakes(found)),
        Err(more) => {
            // Who names a table that was set aside is not to blame.
            let blamed = |mistake: &Mistake| {
                mistake.unknown_name().is_none_or(|name| !set_aside.contains(name))
            };
            found.extend(more.into_iter().filter(blamed));
            Err(mistakes(found))
        }
    }
}

#[cfg(test)]
mod tests;
