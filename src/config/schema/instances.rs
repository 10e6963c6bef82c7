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
    /// The instance types to choose from: names, or tables where there is more to
    /// say.
    pub instance_types: Placed<Vec<Placed<InstanceType>>>,
    /// How many units of capacity to buy on demand.
    #[serde(default)]
    pub on_demand: u32,
    /// How many units of capacity to buy as spot instances.
    #[serde(default)]
    pub spot: u32,
    /// How EMR chooses among the types for on-demand capacity, in EMR's words.
    pub on_demand_strategy: Option<OnDemandStrategy>,
    /// How EMR chooses among the types for spot capacity, in EMR's words.
    pub spot_strategy: Option<Placed<SpotStrategy>>,
    /// How long EMR tries to get the spot capacity.
    pub spot_timeout: Option<Duration>,
    /// What EMR does when it has not got it.
    pub spot_timeout_action: Option<Placed<SpotTimeoutAction>>,
    /// The EBS volumes of every instance type that has none of its own.
    #[serde(default)]
    pub ebs: Vec<Placed<Volumes>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Groups {
    /// The primary node: exactly one machine.
    pub primary: Group,
    /// The core nodes, which store and compute.
    pub core: Option<Group>,
    /// The task nodes, which only compute.
    pub task: Option<Group>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Group {
    /// The one instance type of the group.
    pub instance_type: Text,
    /// How many machines.
    #[serde(default = "super::profile::one")]
    pub count: Placed<u32>,
    /// How they are bought.
    #[serde(default)]
    pub market: Market,
    /// The most to pay for a spot instance, in US dollars an hour.
    pub bid_price: Option<Text>,
    /// The EBS volumes of every machine.
    #[serde(default)]
    pub ebs: Vec<Placed<Volumes>>,
}
