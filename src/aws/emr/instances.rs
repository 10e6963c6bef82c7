//! The instances of a cluster as RunJobFlow takes them: fleets or groups, and
//! the network they are in.

use aws_sdk_emr::types::{
    EbsBlockDeviceConfig, EbsConfiguration, InstanceFleetConfig,
    InstanceFleetProvisioningSpecifications, InstanceFleetType, InstanceGroupConfig,
    InstanceRoleType, InstanceTypeConfig, JobFlowInstancesConfig, MarketType,
    OnDemandProvisioningAllocationStrategy, OnDemandProvisioningSpecification,
    SpotProvisioningAllocationStrategy, SpotProvisioningSpecification,
    SpotProvisioningTimeoutAction, VolumeSpecification,
};
use jiff::SignedDuration;

use crate::core::cluster::{
    ClusterSpec, Fleet, Group, InstanceRole, InstanceType, Market, OnDemandStrategy, SpotLaunch,
    SpotStrategy, SpotTimeoutAction, Volumes,
};

pub fn instances(spec: &ClusterSpec) -> JobFlowInstancesConfig {
    let mut builder = JobFlowInstancesConfig::builder()
        // Retries are added while it waits; it ends by our call, by its idle
        // time-out or by its lifetime.
        .keep_job_flow_alive_when_no_steps(true)
        .termination_protected(false)
        .set_unhealthy_node_replacement(spec.unhealthy_node_replacement)
        .set_ec2_key_name(spec.key_name.clone());
    // EMR chooses among several subnets only for fleets.
    builder = match spec.subnets.as_slice() {
        [] => builder,
        [subnet, ..] if spec.fleets.is_empty() => builder.ec2_subnet_id(subnet),
        subnets => builder.set_ec2_subnet_ids(Some(subnets.to_vec())),
    };
    if let Some(groups) = &spec.security_groups {
        let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
        builder = builder
            .set_emr_managed_master_security_group(groups.primary.clone())
            .set_emr_managed_slave_security_group(groups.core_and_task.clone())
            .set_service_access_security_group(groups.service_access.clone())
            .set_additional_master_security_groups(some(&groups.additional_primary))
            .set_additional_slave_security_groups(some(&groups.additional_core_and_task));
    }
    for spec in &spec.fleets {
        builder = builder.instance_fleets(fleet(spec));
    }
    for spec in &spec.groups {
        builder = builder.instance_groups(group(spec));
    }
    builder.build()
}

/// The service model has signed numbers.
pub fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn fleet(spec: &Fleet) -> InstanceFleetConfig {
    let role = match spec.role {
        InstanceRole::Primary => InstanceFleetType::Master,
        InstanceRole::Core => InstanceFleetType::Core,
        InstanceRole::Task => InstanceFleetType::Task,
    };
    InstanceFleetConfig::builder()
        .name(role.as_str().to_lowercase())
        .instance_fleet_type(role)
        .target_on_demand_capacity(count(spec.on_demand))
        .target_spot_capacity(count(spec.spot))
        .set_instance_type_configs(Some(spec.instance_types.iter().map(instance_type).collect()))
        .set_launch_specifications(launch_specifications(spec))
        .build()
}

fn instance_type(spec: &InstanceType) -> InstanceTypeConfig {
    InstanceTypeConfig::builder()
        .instance_type(&spec.name)
        .set_weighted_capacity(spec.weight.map(count))
        .set_bid_price(spec.bid_price.clone())
        .set_bid_price_as_percentage_of_on_demand_price(spec.bid_percent.map(f64::from))
        .set_priority(spec.priority.map(f64::from))
        .set_ebs_configuration(ebs(&spec.ebs))
        .build()
}

fn launch_specifications(spec: &Fleet) -> Option<InstanceFleetProvisioningSpecifications> {
    if spec.on_demand_strategy.is_none() && spec.spot_launch.is_none() {
        return None;
    }
    let on_demand = spec.on_demand_strategy.map(|strategy| {
        let strategy = match strategy {
            OnDemandStrategy::LowestPrice => OnDemandProvisioningAllocationStrategy::LowestPrice,
            OnDemandStrategy::Prioritized => OnDemandProvisioningAllocationStrategy::Prioritized,
        };
        OnDemandProvisioningSpecification::builder().allocation_strategy(strategy).build()
    });
    let spot = spec.spot_launch.as_ref().map(spot_specification);
    Some(
        InstanceFleetProvisioningSpecifications::builder()
            .set_on_demand_specification(on_demand)
            .set_spot_specification(spot)
            .build(),
    )
}

fn spot_specification(launch: &SpotLaunch) -> SpotProvisioningSpecification {
    let strategy = launch.strategy.map(|strategy| match strategy {
        SpotStrategy::CapacityOptimized => SpotProvisioningAllocationStrategy::CapacityOptimized,
        SpotStrategy::PriceCapacityOptimized => {
            SpotProvisioningAllocationStrategy::PriceCapacityOptimized
        }
        SpotStrategy::LowestPrice => SpotProvisioningAllocationStrategy::LowestPrice,
        SpotStrategy::Diversified => SpotProvisioningAllocationStrategy::Diversified,
        SpotStrategy::CapacityOptimizedPrioritized => {
            SpotProvisioningAllocationStrategy::CapacityOptimizedPrioritized
        }
    });
    let action = match launch.timeout_action {
        SpotTimeoutAction::SwitchToOnDemand => SpotProvisioningTimeoutAction::SwitchToOnDemand,
        SpotTimeoutAction::TerminateCluster => SpotProvisioningTimeoutAction::TerminateCluster,
    };
    SpotProvisioningSpecification::builder()
        .timeout_duration_minutes(whole_minutes(launch.timeout))
        .timeout_action(action)
        .set_allocation_strategy(strategy)
        .build()
}

/// Rounded up: what is asked for is waited for.
fn whole_minutes(duration: SignedDuration) -> i32 {
    i32::try_from(duration.as_secs().saturating_add(59) / 60).unwrap_or(i32::MAX)
}

fn group(spec: &Group) -> InstanceGroupConfig {
    let role = match spec.role {
        InstanceRole::Primary => InstanceRoleType::Master,
        InstanceRole::Core => InstanceRoleType::Core,
        InstanceRole::Task => InstanceRoleType::Task,
    };
    let market = match spec.market {
        Market::OnDemand => MarketType::OnDemand,
        Market::Spot => MarketType::Spot,
    };
    InstanceGroupConfig::builder()
        .name(role.as_str().to_lowercase())
        .instance_role(role)
        .instance_type(&spec.instance_type)
        .instance_count(count(spec.count))
        .market(market)
        .set_bid_price(spec.bid_price.clone())
        .set_ebs_configuration(ebs(&spec.ebs))
        .build()
}

fn ebs(all: &[Volumes]) -> Option<EbsConfiguration> {
    if all.is_empty() {
        return None;
    }
    let devices = all.iter().map(|volumes| {
        let specification = VolumeSpecification::builder()
            .volume_type(&volumes.kind)
            .size_in_gb(count(volumes.size_gib))
            .set_iops(volumes.iops.map(count))
            .set_throughput(volumes.throughput.map(count))
            .build();
        EbsBlockDeviceConfig::builder()
            .volume_specification(specification)
            .volumes_per_instance(count(volumes.count))
            .build()
    });
    Some(EbsConfiguration::builder().set_ebs_block_device_configs(Some(devices.collect())).build())
}
