//! The rules for a cluster's instances, network and scaling that span members,
//! in AWS's words. Tested with the rest of the request in `rules`.

use super::parse::refused;
use super::request::{
    ComputeUnit, EbsConfiguration, InstanceFleet, InstanceGroup, InstanceRole, Instances,
    RunJobFlow,
};
use crate::wire::ApiError;

const SPOT_TIMEOUT_MINUTES: std::ops::RangeInclusive<i32> = 5..=1440;
/// Instance types in a fleet without and with an allocation strategy.
const FLEET_TYPES_MAX: (usize, usize) = (5, 30);
const VOLUME_TYPES: [&str; 6] = ["gp3", "gp2", "io1", "st1", "sc1", "standard"];

pub fn check_instances(instances: &Instances) -> Result<(), ApiError> {
    let ways = [
        !instances.instance_fleets.is_empty(),
        !instances.instance_groups.is_empty(),
        instances.master_instance_type.is_some() || instances.instance_count.is_some(),
    ];
    if ways.into_iter().filter(|given| *given).count() != 1 {
        return Err(refused(
            "Specify exactly one of instanceFleets, instanceGroups, or masterInstanceType with \
             instanceCount.",
        ));
    }
    check_network(instances)?;
    if ways[2] {
        return check_counted(instances);
    }
    let fleets = instances.instance_fleets.iter();
    let groups = instances.instance_groups.iter();
    let primaries = fleets.clone().filter(|f| f.instance_fleet_type == InstanceRole::Master);
    let primaries = primaries.count()
        + groups.clone().filter(|g| g.instance_role == InstanceRole::Master).count();
    if primaries != 1 {
        return Err(refused("The cluster must have exactly one MASTER fleet or group."));
    }
    let roles: Vec<_> = fleets
        .clone()
        .map(|fleet| fleet.instance_fleet_type)
        .chain(groups.clone().map(|group| group.instance_role))
        .collect();
    let has = |role| roles.contains(&role);
    if has(InstanceRole::Task) && !has(InstanceRole::Core) {
        return Err(refused("A TASK fleet or group needs a CORE fleet or group."));
    }
    fleets.map(check_fleet).chain(groups.map(check_group)).collect()
}

fn check_network(instances: &Instances) -> Result<(), ApiError> {
    if instances.ec2_subnet_id.is_some() && !instances.ec2_subnet_ids.is_empty() {
        return Err(refused("ec2SubnetId and ec2SubnetIds must not both be specified."));
    }
    if instances.instance_fleets.is_empty() && instances.ec2_subnet_ids.len() > 1 {
        return Err(refused("A cluster with instance groups must have one subnet."));
    }
    let primary = &instances.emr_managed_master_security_group;
    let others = &instances.emr_managed_slave_security_group;
    if primary.is_some() != others.is_some() {
        return Err(refused(
            "emrManagedMasterSecurityGroup and emrManagedSlaveSecurityGroup must be specified \
             together.",
        ));
    }
    Ok(())
}

fn check_counted(instances: &Instances) -> Result<(), ApiError> {
    if instances.master_instance_type.is_none() {
        return Err(refused("instances.masterInstanceType must be specified."));
    }
    match instances.instance_count {
        Some(1..) => Ok(()),
        _ => Err(refused("instances.instanceCount must be at least 1.")),
    }
}

fn check_group(group: &InstanceGroup) -> Result<(), ApiError> {
    let least = if group.instance_role == InstanceRole::Task { 0 } else { 1 };
    if group.instance_count < least {
        return Err(refused("instanceGroups.instanceCount is too small."));
    }
    if group.instance_role == InstanceRole::Master && ![1, 3].contains(&group.instance_count) {
        return Err(refused("The MASTER instance group must have 1 or 3 instances."));
    }
    check_ebs(group.ebs_configuration.as_ref())
}

fn check_fleet(fleet: &InstanceFleet) -> Result<(), ApiError> {
    let on_demand = fleet.target_on_demand_capacity.unwrap_or(0);
    let spot = fleet.target_spot_capacity.unwrap_or(0);
    if on_demand < 0 || spot < 0 || on_demand + spot == 0 {
        return Err(refused(
            "instanceFleets: targetOnDemandCapacity and targetSpotCapacity must not both be 0.",
        ));
    }
    if fleet.instance_fleet_type == InstanceRole::Master && on_demand + spot != 1 {
        return Err(refused("The MASTER instance fleet must have a capacity of 1."));
    }
    let launch = fleet.launch_specifications.as_ref();
    let spot_specification = launch.and_then(|launch| launch.spot_specification.as_ref());
    if let Some(specification) = spot_specification
        && !SPOT_TIMEOUT_MINUTES.contains(&specification.timeout_duration_minutes)
    {
        return Err(refused(
            "spotSpecification.timeoutDurationMinutes must be between 5 and 1440.",
        ));
    }
    let has_strategy = spot_specification.is_some_and(|spot| spot.allocation_strategy.is_some())
        || launch.is_some_and(|launch| launch.on_demand_specification.is_some());
    let most = if has_strategy { FLEET_TYPES_MAX.1 } else { FLEET_TYPES_MAX.0 };
    if !(1..=most).contains(&fleet.instance_type_configs.len()) {
        return Err(refused(format!(
            "instanceFleets.instanceTypeConfigs must have between 1 and {most} entries."
        )));
    }
    for config in &fleet.instance_type_configs {
        if config.bid_price.is_some() && config.bid_price_as_percentage_of_on_demand_price.is_some()
        {
            return Err(refused(
                "bidPrice and bidPriceAsPercentageOfOnDemandPrice must not both be specified.",
            ));
        }
        check_ebs(config.ebs_configuration.as_ref())?;
    }
    Ok(())
}

fn check_ebs(ebs: Option<&EbsConfiguration>) -> Result<(), ApiError> {
    for device in ebs.map_or(&[][..], |ebs| &ebs.ebs_block_device_configs) {
        let volume = &device.volume_specification;
        if !VOLUME_TYPES.contains(&volume.volume_type.as_str()) {
            return Err(refused(format!("The volume type {} is invalid.", volume.volume_type)));
        }
        if volume.size_in_gb < 1 || device.volumes_per_instance.is_some_and(|count| count < 1) {
            return Err(refused(
                "ebsBlockDeviceConfigs: sizeInGB and volumesPerInstance must be at least 1.",
            ));
        }
        if volume.volume_type == "io1" && volume.iops.is_none() {
            return Err(refused("iops must be specified for a volume of type io1."));
        }
    }
    Ok(())
}

pub fn check_managed_scaling(request: &RunJobFlow) -> Result<(), ApiError> {
    let policy = request.managed_scaling_policy.as_ref();
    let Some(limits) = policy.and_then(|policy| policy.compute_limits.as_ref()) else {
        return Ok(());
    };
    let fleets = !request.instances.instance_fleets.is_empty();
    if fleets != (limits.unit_type == ComputeUnit::InstanceFleetUnits) {
        return Err(refused(
            "The unit type InstanceFleetUnits is for instance fleets, Instances and VCPU are for \
             instance groups.",
        ));
    }
    let (least, most) = (limits.minimum_capacity_units, limits.maximum_capacity_units);
    if least < 1 || least > most {
        return Err(refused(
            "MinimumCapacityUnits must be at least 1 and not above MaximumCapacityUnits.",
        ));
    }
    let parts = [limits.maximum_on_demand_capacity_units, limits.maximum_core_capacity_units];
    if parts.into_iter().flatten().any(|part| part < 0 || part > most) {
        return Err(refused(
            "MaximumOnDemandCapacityUnits and MaximumCoreCapacityUnits must not exceed \
             MaximumCapacityUnits.",
        ));
    }
    Ok(())
}
