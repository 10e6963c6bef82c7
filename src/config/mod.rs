//! The TOML file: `schema` is what may be written, `validate` turns it into
//! the catalog and settings and reports every mistake with its place.

mod mistake;
mod schema;
mod validate;

use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use crate::core::catalog::Catalog;
use crate::core::quota::Quotas;

pub use mistake::{Mistake, Mistakes};

/// A configuration that has passed every check.
#[derive(Debug)]
pub struct Config {
    pub catalog: Catalog,
    pub settings: Settings,
}

/// How the service itself runs, apart from what it runs.
#[derive(Debug, Clone, PartialEq)]
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
    /// What the account may ask of EMR, in real time.
    pub quotas: Quotas,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{0}")]
    Invalid(Mistakes),
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
    parse(&text, path).map_err(ConfigError::Invalid)
}

/// Checks a configuration text; `path` is only for messages.
pub fn parse(text: &str, path: &Path) -> Result<Config, Mistakes> {
    let file = toml::from_str::<schema::File>(text).map_err(|error| {
        let at = error.span().unwrap_or_default();
        Mistakes::new(path, text, vec![Mistake::at(at, error.message())])
    })?;
    validate::validate(file).map_err(|mistakes| Mistakes::new(path, text, mistakes))
}

#[cfg(test)]
mod tests;
