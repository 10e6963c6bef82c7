//! What a stage must know of the daemon's configuration: the names of what it
//! provisions, and how long a batch waits. Checking it is the daemon's.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use jiff::SignedDuration;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    pub aws: Aws,
    pub profiles: BTreeMap<String, Profile>,
    pub tasks: BTreeMap<String, Task>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Aws {
    pub region: String,
    pub queue: String,
    pub quarantine: String,
    pub topic_arn: String,
    pub table_prefix: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Profile {
    pub batch_size: usize,
    #[serde(default)]
    pub max_wait: SignedDuration,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Task {
    pub profile: String,
}

impl Config {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not for a stage", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The cluster profile that a task's partitions gather in.
    pub fn profile_of(&self, task: &str) -> Option<&Profile> {
        self.profiles.get(&self.tasks.get(task)?.profile)
    }
}
