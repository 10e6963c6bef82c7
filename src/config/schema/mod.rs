//! What may be written in the TOML file: names, types and defaults. Values
//! that can be wrong in their meaning carry their place, for `validate`.

mod dataset;
mod profile;
mod quotas;
mod task;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

pub use dataset::{Complete, Dataset};
pub use profile::{BootstrapAction, Fleet, Profile};
pub use quotas::{Quota, Quotas};
pub use task::{Need, Retry, Schedule, Step, StepKind, Task};

/// A value and its place in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Placed<T>(Spanned<T>);

pub type Text = Placed<String>;
pub type Duration = Placed<SignedDuration>;

impl<T> Placed<T> {
    /// A default, which has no place.
    fn unplaced(value: T) -> Self {
        Self(Spanned::new(0..0, value))
    }

    pub fn get_ref(&self) -> &T {
        self.0.get_ref()
    }

    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }

    /// Bytes of the file.
    pub fn span(&self) -> Range<usize> {
        self.0.span()
    }
}

impl<T: Default> Default for Placed<T> {
    fn default() -> Self {
        Self::unplaced(T::default())
    }
}

impl Borrow<str> for Placed<String> {
    fn borrow(&self) -> &str {
        self.get_ref()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Names this installation: in clusters' names and tags, and in alerts.
    pub deployment: Text,
    pub aws: Aws,
    #[serde(default)]
    pub engine: Engine,
    #[serde(default)]
    pub quotas: Quotas,
    #[serde(default)]
    pub profiles: BTreeMap<Text, Profile>,
    #[serde(default)]
    pub datasets: BTreeMap<Text, Dataset>,
    #[serde(default)]
    pub tasks: BTreeMap<Text, Task>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Aws {
    /// Left out: as the environment says (AWS_REGION, the instance's region).
    pub region: Option<String>,
    pub queue: Text,
    pub quarantine: Text,
    pub topic_arn: Text,
    /// Default: `DEPLOYMENT-`.
    pub table_prefix: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Engine {
    pub poll_interval: Duration,
    pub poll_interval_with_events: Duration,
    pub steps_interval: Duration,
    pub sweep_interval: Duration,
    pub visibility_timeout: Duration,
    pub receivers: Placed<u32>,
    pub send_within: Duration,
    pub list_lag: Duration,
}

impl Default for Engine {
    fn default() -> Self {
        let secs = |secs| Placed::unplaced(SignedDuration::from_secs(secs));
        Self {
            poll_interval: secs(30),
            poll_interval_with_events: secs(600),
            steps_interval: secs(300),
            sweep_interval: secs(30),
            visibility_timeout: secs(120),
            receivers: Placed::unplaced(2),
            send_within: secs(20),
            list_lag: secs(60),
        }
    }
}
