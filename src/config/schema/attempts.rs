//! `[profiles.NAME.attempts]`: what follows when a cluster is lost, by the class of
//! the failure.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Placed};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Attempts {
    /// A bootstrap action or an application that EMR installs failed. Left out, 2
    /// attempts at most: it is seldom only bad luck.
    pub bootstrap: Policy,
    /// EC2 has not got the machines, or the account's quota is used up. Left out, the
    /// next attempt waits 10 minutes.
    pub capacity: Policy,
    /// Spot instances were taken away.
    pub spot_loss: Policy,
    /// EMR does not take what it is asked for. Left out, there is no other attempt: it
    /// would be refused, too.
    pub validation: Policy,
    /// The cluster ended because it outlived its time or was idle.
    pub time_out: Policy,
    /// Somebody else ended the cluster. Left out, there is no other attempt: a person
    /// meant it.
    pub external: Policy,
    /// EMR's own error, or an end without a reason.
    pub internal: Policy,
    /// Whether the last attempt after a lack of machines or a loss of spot instances
    /// buys on demand what the profile buys as spot.
    pub on_demand_last: bool,
}

impl Default for Attempts {
    /// The last attempt is to succeed: its price is less than that of data that do
    /// not come.
    fn default() -> Self {
        let plain = Policy::default;
        Self {
            bootstrap: plain(),
            capacity: plain(),
            spot_loss: plain(),
            validation: plain(),
            time_out: plain(),
            external: plain(),
            internal: plain(),
            on_demand_last: true,
        }
    }
}

/// What follows when a cluster is lost to this class of failure.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// How many attempts a batch may have in all, the lost one included. Left out, as
    /// many as `max-attempts` says.
    pub max: Option<Placed<u32>>,
    /// How long the next attempt waits. Left out, it follows at once.
    pub delay: Option<Duration>,
}
