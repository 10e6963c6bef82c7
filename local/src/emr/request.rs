//! The requests of the EMR API, typed as its service model has them, for the
//! actions that the local EMR answers. Members that it neither checks nor
//! repeats are left out and, as on AWS, ignored. Not for rules that span
//! members: those are in `rules`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Starts a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunJobFlow {
    pub name: String,
    pub log_uri: Option<String>,
    pub log_encryption_kms_key_id: Option<String>,
    pub release_label: Option<String>,
    pub ami_version: Option<String>,
    pub instances: Instances,
    #[serde(default)]
    pub steps: Vec<StepConfig>,
    #[serde(default)]
    pub bootstrap_actions: Vec<BootstrapAction>,
    #[serde(default)]
    pub applications: Vec<Application>,
    #[serde(default)]
    pub configurations: Vec<Configuration>,
    pub visible_to_all_users: Option<bool>,
    pub job_flow_role: Option<String>,
    pub service_role: Option<String>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    pub security_configuration: Option<String>,
    pub auto_scaling_role: Option<String>,
    pub scale_down_behavior: Option<ScaleDownBehavior>,
    pub custom_ami_id: Option<String>,
    pub ebs_root_volume_size: Option<i32>,
    pub ebs_root_volume_iops: Option<i32>,
    pub ebs_root_volume_throughput: Option<i32>,
    pub repo_upgrade_on_boot: Option<RepoUpgradeOnBoot>,
    pub kerberos_attributes: Option<KerberosAttributes>,
    pub step_concurrency_level: Option<i32>,
    pub managed_scaling_policy: Option<ManagedScalingPolicy>,
    pub auto_termination_policy: Option<AutoTerminationPolicy>,
    #[serde(rename = "OSReleaseLabel")]
    pub os_release_label: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instances {
    pub master_instance_type: Option<String>,
    pub slave_instance_type: Option<String>,
    pub instance_count: Option<i32>,
    #[serde(default)]
    pub instance_groups: Vec<InstanceGroup>,
    #[serde(default)]
    pub instance_fleets: Vec<InstanceFleet>,
    pub ec2_key_name: Option<String>,
    pub placement: Option<Placement>,
    pub keep_job_flow_alive_when_no_steps: Option<bool>,
    pub termination_protected: Option<bool>,
    pub unhealthy_node_replacement: Option<bool>,
    pub ec2_subnet_id: Option<String>,
    #[serde(default)]
    pub ec2_subnet_ids: Vec<String>,
    pub emr_managed_master_security_group: Option<String>,
    pub emr_managed_slave_security_group: Option<String>,
    pub service_access_security_group: Option<String>,
    #[serde(default)]
    pub additional_master_security_groups: Vec<String>,
    #[serde(default)]
    pub additional_slave_security_groups: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Placement {
    pub availability_zone: Option<String>,
    #[serde(default)]
    pub availability_zones: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceGroup {
    pub name: Option<String>,
    pub market: Option<Market>,
    pub instance_role: InstanceRole,
    pub bid_price: Option<String>,
    pub instance_type: String,
    pub instance_count: i32,
    #[serde(default)]
    pub configurations: Vec<Configuration>,
    pub ebs_configuration: Option<EbsConfiguration>,
    pub custom_ami_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceFleet {
    pub name: Option<String>,
    pub instance_fleet_type: InstanceRole,
    pub target_on_demand_capacity: Option<i32>,
    pub target_spot_capacity: Option<i32>,
    #[serde(default)]
    pub instance_type_configs: Vec<InstanceTypeConfig>,
    pub launch_specifications: Option<LaunchSpecifications>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InstanceTypeConfig {
    pub instance_type: String,
    pub weighted_capacity: Option<i32>,
    pub bid_price: Option<String>,
    pub bid_price_as_percentage_of_on_demand_price: Option<f64>,
    pub ebs_configuration: Option<EbsConfiguration>,
    #[serde(default)]
    pub configurations: Vec<Configuration>,
    pub custom_ami_id: Option<String>,
    pub priority: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EbsConfiguration {
    #[serde(default)]
    pub ebs_block_device_configs: Vec<EbsBlockDevice>,
    pub ebs_optimized: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EbsBlockDevice {
    pub volume_specification: VolumeSpecification,
    pub volumes_per_instance: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeSpecification {
    pub volume_type: String,
    pub iops: Option<i32>,
    #[serde(rename = "SizeInGB")]
    pub size_in_gb: i32,
    pub throughput: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LaunchSpecifications {
    pub spot_specification: Option<SpotSpecification>,
    pub on_demand_specification: Option<OnDemandSpecification>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SpotSpecification {
    pub timeout_duration_minutes: i32,
    pub timeout_action: SpotTimeoutAction,
    pub block_duration_minutes: Option<i32>,
    pub allocation_strategy: Option<SpotAllocationStrategy>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OnDemandSpecification {
    pub allocation_strategy: OnDemandAllocationStrategy,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManagedScalingPolicy {
    pub compute_limits: Option<ComputeLimits>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComputeLimits {
    pub unit_type: ComputeUnit,
    pub minimum_capacity_units: i32,
    pub maximum_capacity_units: i32,
    pub maximum_on_demand_capacity_units: Option<i32>,
    pub maximum_core_capacity_units: Option<i32>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KerberosAttributes {
    pub realm: String,
    pub kdc_admin_password: String,
    pub cross_realm_trust_principal_password: Option<String>,
    #[serde(rename = "ADDomainJoinUser")]
    pub ad_domain_join_user: Option<String>,
    #[serde(rename = "ADDomainJoinPassword")]
    pub ad_domain_join_password: Option<String>,
}

impl std::fmt::Debug for KerberosAttributes {
    /// Without its passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KerberosAttributes").field("realm", &self.realm).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StepConfig {
    pub name: String,
    pub action_on_failure: Option<ActionOnFailure>,
    pub hadoop_jar_step: HadoopJarStep,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HadoopJarStep {
    pub jar: String,
    pub main_class: Option<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub properties: Vec<KeyValue>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyValue {
    #[serde(default)]
    pub key: String,
    #[serde(default)]
    pub value: String,
}

/// A tag; either part may be missing, which reads as empty.
pub type Tag = KeyValue;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BootstrapAction {
    pub name: String,
    pub script_bootstrap_action: ScriptBootstrapAction,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ScriptBootstrapAction {
    pub path: String,
    #[serde(default)]
    pub args: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Application {
    pub name: Option<String>,
    pub version: Option<String>,
    #[serde(default)]
    pub args: Vec<String>,
}

/// Settings of one application, such as the classification `spark-defaults`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Configuration {
    pub classification: Option<String>,
    #[serde(default)]
    pub configurations: Vec<Configuration>,
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AutoTerminationPolicy {
    /// Seconds.
    pub idle_timeout: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InstanceRole {
    Master,
    Core,
    Task,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Market {
    OnDemand,
    Spot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActionOnFailure {
    /// The older name of `TerminateCluster`.
    TerminateJobFlow,
    TerminateCluster,
    CancelAndWait,
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ScaleDownBehavior {
    TerminateAtInstanceHour,
    TerminateAtTaskCompletion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RepoUpgradeOnBoot {
    Security,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SpotTimeoutAction {
    SwitchToOnDemand,
    TerminateCluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpotAllocationStrategy {
    CapacityOptimized,
    PriceCapacityOptimized,
    LowestPrice,
    Diversified,
    CapacityOptimizedPrioritized,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDemandAllocationStrategy {
    LowestPrice,
    Prioritized,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComputeUnit {
    InstanceFleetUnits,
    Instances,
    #[serde(rename = "VCPU")]
    Vcpu,
}
