//! The instances of a profile: fleets, or groups instead.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Placed, Text};
use crate::core::cluster::{
    InstanceType, Market, OnDemandStrategy, SpotStrategy, SpotTimeoutAction, Volumes,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fleet {
    /// Names, or tables where there is more to say.
    pub instance_types: Placed<Vec<Placed<InstanceType>>>,
    #[serde(default)]
    pub on_demand: u32,
    #[serde(default)]
    pub spot: u32,
    pub on_demand_strategy: Option<OnDemandStrategy>,
    pub spot_strategy: Option<Placed<SpotStrategy>>,
    pub spot_timeout: Option<Duration>,
    pub spot_timeout_action: Option<Placed<SpotTimeoutAction>>,
    /// For every instance type that has none of its own.
    #[serde(default)]
    pub ebs: Vec<Placed<Volumes>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Groups {
    pub primary: Group,
    pub core: Option<Group>,
    pub task: Option<Group>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Group {
    pub instance_type: Text,
    #[serde(default = "one")]
    pub count: Placed<u32>,
    #[serde(default)]
    pub market: Market,
    pub bid_price: Option<Text>,
    #[serde(default)]
    pub ebs: Vec<Placed<Volumes>>,
}

fn one() -> Placed<u32> {
    Placed::unplaced(1)
}
