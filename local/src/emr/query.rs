//! The smaller requests of the EMR API: questions about clusters and steps,
//! and changes to them. Not for starting one: that is in `request`.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

use super::model::{ClusterState, StepState};
use super::request::{AutoTerminationPolicy, InstanceRole, StepConfig, Tag};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddJobFlowSteps {
    pub job_flow_id: String,
    pub steps: Vec<StepConfig>,
}

/// Actions that need no more than the cluster, and at most a marker.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfCluster {
    pub cluster_id: String,
    pub marker: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListClusters {
    #[serde(deserialize_with = "epoch_seconds")]
    pub created_after: Option<Timestamp>,
    #[serde(deserialize_with = "epoch_seconds")]
    pub created_before: Option<Timestamp>,
    pub cluster_states: Vec<ClusterState>,
    pub marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListSteps {
    pub cluster_id: String,
    #[serde(default)]
    pub step_states: Vec<StepState>,
    #[serde(default)]
    pub step_ids: Vec<String>,
    pub marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeStep {
    pub cluster_id: String,
    pub step_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepCancellation {
    SendInterrupt,
    TerminateProcess,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CancelSteps {
    pub cluster_id: String,
    pub step_ids: Vec<String>,
    pub step_cancellation_option: Option<StepCancellation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfJobFlows {
    pub job_flow_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetTerminationProtection {
    pub job_flow_ids: Vec<String>,
    pub termination_protected: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetVisibleToAllUsers {
    pub job_flow_ids: Vec<String>,
    pub visible_to_all_users: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetKeepJobFlowAlive {
    pub job_flow_ids: Vec<String>,
    pub keep_job_flow_alive_when_no_steps: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddTags {
    pub resource_id: String,
    pub tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemoveTags {
    pub resource_id: String,
    pub tag_keys: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InstanceState {
    AwaitingFulfillment,
    Provisioning,
    Bootstrapping,
    Running,
    Terminated,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListInstances {
    pub cluster_id: String,
    pub instance_group_id: Option<String>,
    #[serde(default)]
    pub instance_group_types: Vec<InstanceRole>,
    pub instance_fleet_id: Option<String>,
    pub instance_fleet_type: Option<InstanceRole>,
    #[serde(default)]
    pub instance_states: Vec<InstanceState>,
    pub marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ModifyCluster {
    pub cluster_id: String,
    pub step_concurrency_level: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutAutoTerminationPolicy {
    pub cluster_id: String,
    pub auto_termination_policy: Option<AutoTerminationPolicy>,
}

/// The protocol sends dates as seconds since 1970, with a fraction.
fn epoch_seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(seconds) = Option::<f64>::deserialize(from)? else {
        return Ok(None);
    };
    // The cast saturates, and what is out of range is refused below.
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64)
        .map(Some)
        .map_err(de::Error::custom)
}
