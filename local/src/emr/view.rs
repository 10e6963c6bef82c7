//! The answers of the EMR API about a cluster and its parts, as JSON. Missing
//! values are left out, as the service does. Not for choosing what to show.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::model::{Cluster, ClusterState, Reason, Step};
use super::request::{
    EbsConfiguration, InstanceFleet, InstanceGroup, InstanceRole, InstanceTypeConfig,
    KerberosAttributes, Market,
};
use crate::ids::md5_hex;

const MASK: &str = "*************";

/// Whose account and where: parts of every ARN.
#[derive(Debug, Clone)]
pub struct Place {
    pub region: String,
    pub account: String,
}

/// DescribeCluster's answer.
pub fn cluster(cluster: &Cluster, place: &Place) -> Value {
    let request = &cluster.request;
    let instances = &request.instances;
    let subnet = instances.ec2_subnet_id.as_ref().or(instances.ec2_subnet_ids.first());
    let zone = instances.placement.as_ref().and_then(|placement| {
        let zone = placement.availability_zone.as_ref();
        zone.or(placement.availability_zones.first())
    });
    let requested_zones = instances.placement.as_ref().map(|place| &place.availability_zones);
    let collection =
        if instances.instance_fleets.is_empty() { "INSTANCE_GROUP" } else { "INSTANCE_FLEET" };
    compact(json!({
        "Id": cluster.id,
        "Name": request.name,
        "Status": status(cluster),
        "Ec2InstanceAttributes": {
            "Ec2KeyName": instances.ec2_key_name,
            "Ec2SubnetId": subnet,
            "RequestedEc2SubnetIds": instances.ec2_subnet_ids,
            "Ec2AvailabilityZone": zone.cloned().unwrap_or_else(|| format!("{}a", place.region)),
            "RequestedEc2AvailabilityZones": requested_zones,
            "IamInstanceProfile": request.job_flow_role,
            "EmrManagedMasterSecurityGroup": instances.emr_managed_master_security_group,
            "EmrManagedSlaveSecurityGroup": instances.emr_managed_slave_security_group,
            "ServiceAccessSecurityGroup": instances.service_access_security_group,
            "AdditionalMasterSecurityGroups": instances.additional_master_security_groups,
            "AdditionalSlaveSecurityGroups": instances.additional_slave_security_groups,
        },
        "InstanceCollectionType": collection,
        "LogUri": request.log_uri,
        "LogEncryptionKmsKeyId": request.log_encryption_kms_key_id,
        "RequestedAmiVersion": request.ami_version,
        "ReleaseLabel": request.release_label,
        "AutoTerminate": !cluster.keep_alive,
        "TerminationProtected": cluster.termination_protected,
        "UnhealthyNodeReplacement": instances.unhealthy_node_replacement,
        "VisibleToAllUsers": cluster.visible_to_all_users,
        "Applications": request.applications,
        "Tags": tags(cluster),
        "ServiceRole": request.service_role,
        "NormalizedInstanceHours": 0,
        "MasterPublicDnsName": cluster.ready.map(|_| "localhost"),
        "Configurations": request.configurations,
        "SecurityConfiguration": request.security_configuration,
        "AutoScalingRole": request.auto_scaling_role,
        "ScaleDownBehavior": request.scale_down_behavior,
        "CustomAmiId": request.custom_ami_id,
        "EbsRootVolumeSize": request.ebs_root_volume_size,
        "EbsRootVolumeIops": request.ebs_root_volume_iops,
        "EbsRootVolumeThroughput": request.ebs_root_volume_throughput,
        "KerberosAttributes": request.kerberos_attributes.as_ref().map(kerberos),
        "RepoUpgradeOnBoot": request.repo_upgrade_on_boot,
        "ClusterArn": arn(cluster, place),
        "StepConcurrencyLevel": cluster.step_concurrency(),
        "OSReleaseLabel": request.os_release_label,
    }))
}

/// Passwords do not come back.
fn kerberos(attributes: &KerberosAttributes) -> Value {
    let masked = |password: &Option<String>| password.as_ref().map(|_| MASK);
    json!({
        "Realm": attributes.realm,
        "KdcAdminPassword": MASK,
        "CrossRealmTrustPrincipalPassword":
            masked(&attributes.cross_realm_trust_principal_password),
        "ADDomainJoinUser": attributes.ad_domain_join_user,
        "ADDomainJoinPassword": masked(&attributes.ad_domain_join_password),
    })
}

/// An entry of ListClusters; it carries no tags.
pub fn cluster_summary(cluster: &Cluster, place: &Place) -> Value {
    compact(json!({
        "Id": cluster.id,
        "Name": cluster.request.name,
        "Status": status(cluster),
        "NormalizedInstanceHours": 0,
        "ClusterArn": arn(cluster, place),
    }))
}

pub fn arn(cluster: &Cluster, place: &Place) -> String {
    format!("arn:aws:elasticmapreduce:{}:{}:cluster/{}", place.region, place.account, cluster.id)
}

/// A step, in DescribeStep as well as in ListSteps.
pub fn step(step: &Step) -> Value {
    let properties = step.jar.properties.iter();
    let properties: serde_json::Map<String, Value> =
        properties.map(|pair| (pair.key.clone(), json!(pair.value))).collect();
    compact(json!({
        "Id": step.id,
        "Name": step.name,
        "Config": {
            "Jar": step.jar.jar,
            "Properties": properties,
            "MainClass": step.jar.main_class,
            "Args": step.jar.args,
        },
        "ActionOnFailure": step.action_on_failure,
        "Status": {
            "State": step.state,
            // EMR never fills it; what went wrong is in the failure details.
            "StateChangeReason": {},
            "FailureDetails": step.failure,
            "Timeline": {
                "CreationDateTime": seconds(step.created),
                "StartDateTime": step.started.map(seconds),
                "EndDateTime": step.ended.map(seconds),
            },
        },
    }))
}

pub fn bootstrap_actions(cluster: &Cluster) -> Vec<Value> {
    let actions = cluster.request.bootstrap_actions.iter();
    actions
        .map(|action| {
            let script = &action.script_bootstrap_action;
            json!({"Name": action.name, "ScriptPath": script.path, "Args": script.args})
        })
        .collect()
}

pub fn fleets(cluster: &Cluster) -> Vec<Value> {
    let fleets = cluster.request.instances.instance_fleets.iter();
    fleets
        .enumerate()
        .map(|(index, fleet)| {
            let provisioned = cluster.state != ClusterState::Starting;
            let capacity = |target: Option<i32>| {
                let target = target.unwrap_or(0);
                (target, if provisioned { target } else { 0 })
            };
            let (on_demand, on_demand_now) = capacity(fleet.target_on_demand_capacity);
            let (spot, spot_now) = capacity(fleet.target_spot_capacity);
            compact(json!({
                "Id": part_id(cluster, "if", index),
                "Name": fleet.name,
                "InstanceFleetType": fleet.instance_fleet_type,
                "Status": part_status(cluster),
                "TargetOnDemandCapacity": on_demand,
                "TargetSpotCapacity": spot,
                "ProvisionedOnDemandCapacity": on_demand_now,
                "ProvisionedSpotCapacity": spot_now,
                "InstanceTypeSpecifications":
                    fleet.instance_type_configs.iter().map(type_specification).collect::<Vec<_>>(),
                "LaunchSpecifications": fleet.launch_specifications,
            }))
        })
        .collect()
}

/// A type of a fleet as DescribeCluster's family shows it: its volumes one by
/// one.
fn type_specification(config: &InstanceTypeConfig) -> Value {
    let ebs = config.ebs_configuration.as_ref();
    json!({
        "InstanceType": config.instance_type,
        "WeightedCapacity": config.weighted_capacity,
        "BidPrice": config.bid_price,
        "BidPriceAsPercentageOfOnDemandPrice": config.bid_price_as_percentage_of_on_demand_price,
        "Configurations": config.configurations,
        "EbsBlockDevices": ebs.map(devices),
        "EbsOptimized": ebs.and_then(|ebs| ebs.ebs_optimized),
        "CustomAmiId": config.custom_ami_id,
        "Priority": config.priority,
    })
}

fn devices(ebs: &EbsConfiguration) -> Vec<Value> {
    let volumes = ebs.ebs_block_device_configs.iter().flat_map(|device| {
        let count = device.volumes_per_instance.unwrap_or(1).max(0);
        (0..count).map(|_| &device.volume_specification)
    });
    // EMR attaches further volumes from sdb on.
    let names = ('b'..='z').map(|letter| format!("/dev/sd{letter}"));
    volumes
        .zip(names)
        .map(|(specification, name)| json!({"VolumeSpecification": specification, "Device": name}))
        .collect()
}

pub fn groups(cluster: &Cluster) -> Vec<Value> {
    let groups = instance_groups(cluster);
    let running = cluster.ready.is_some() && !cluster.state.has_ended();
    groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            compact(json!({
                "Id": part_id(cluster, "ig", index),
                "Name": group.name,
                "Market": group.market.unwrap_or(Market::OnDemand),
                "InstanceGroupType": group.instance_role,
                "BidPrice": group.bid_price,
                "InstanceType": group.instance_type,
                "RequestedInstanceCount": group.instance_count,
                "RunningInstanceCount": if running { group.instance_count } else { 0 },
                "Status": part_status(cluster),
                "Configurations": group.configurations,
                "EbsBlockDevices": group.ebs_configuration.as_ref().map(devices),
                "EbsOptimized": group.ebs_configuration.as_ref().and_then(|ebs| ebs.ebs_optimized),
                "CustomAmiId": group.custom_ami_id,
            }))
        })
        .collect()
}

/// One machine of a cluster, with what a filter asks for beside its answer.
#[derive(Debug)]
pub struct Instance {
    pub role: InstanceRole,
    pub part: String,
    pub state: &'static str,
    pub answer: Value,
}

/// All machines, fleet by fleet or group by group.
pub fn instances(cluster: &Cluster) -> Vec<Instance> {
    let fleets = cluster.request.instances.instance_fleets.iter().enumerate();
    let of_fleets = fleets.map(|(index, fleet)| {
        let (count, instance_type, market) = size(fleet);
        let part = part_id(cluster, "if", index);
        (fleet.instance_fleet_type, part, "InstanceFleetId", count, instance_type, market)
    });
    let of_groups = instance_groups(cluster).into_iter().enumerate().map(|(index, group)| {
        let market = group.market.unwrap_or(Market::OnDemand);
        let part = part_id(cluster, "ig", index);
        let kind = group.instance_type;
        (group.instance_role, part, "InstanceGroupId", group.instance_count, kind, market)
    });
    let state = instance_state(cluster.state);
    of_fleets
        .chain(of_groups)
        .flat_map(|(role, part, part_name, count, instance_type, market)| {
            (0..count).map(move |number| {
                let hash = md5_hex(format!("{part}/{number}").as_bytes());
                let mut answer = json!({
                    "Id": format!("ci-{}", hash[..13].to_uppercase()),
                    "Ec2InstanceId": format!("i-{}", &hash[..17]),
                    "PrivateDnsName": "localhost",
                    "PrivateIpAddress": "127.0.0.1",
                    "Status": {"State": state, "StateChangeReason": {}, "Timeline": {}},
                    "Market": market,
                    "InstanceType": instance_type.as_str(),
                    "EbsVolumes": [],
                });
                answer[part_name] = json!(part.as_str());
                Instance { role, part: part.clone(), state, answer }
            })
        })
        .collect()
}

/// The EC2 id of the primary node, under which EMR files its logs.
pub fn primary_instance_id(cluster: &Cluster) -> Option<String> {
    let mut all = instances(cluster).into_iter();
    let primary = all.find(|instance| instance.role == InstanceRole::Master)?;
    primary.answer["Ec2InstanceId"].as_str().map(str::to_owned)
}

/// Groups as given, or as the counted form of the request implies them.
fn instance_groups(cluster: &Cluster) -> Vec<InstanceGroup> {
    let instances = &cluster.request.instances;
    let Some(primary_type) = &instances.master_instance_type else {
        return instances.instance_groups.clone();
    };
    let group = |role, instance_type: &str, count| InstanceGroup {
        name: None,
        market: None,
        instance_role: role,
        bid_price: None,
        instance_type: instance_type.to_owned(),
        instance_count: count,
        configurations: Vec::new(),
        ebs_configuration: None,
        custom_ami_id: None,
    };
    let mut groups = vec![group(InstanceRole::Master, primary_type, 1)];
    let others = instances.instance_count.unwrap_or(1) - 1;
    if others > 0 {
        let kind = instances.slave_instance_type.as_ref().unwrap_or(primary_type);
        groups.push(group(InstanceRole::Core, kind, others));
    }
    groups
}

/// How many machines fill a fleet if all are of its first type.
fn size(fleet: &InstanceFleet) -> (i32, String, Market) {
    let spot = fleet.target_spot_capacity.unwrap_or(0);
    let target = fleet.target_on_demand_capacity.unwrap_or(0) + spot;
    let first = fleet.instance_type_configs.first();
    let weight = first.and_then(|first| first.weighted_capacity).unwrap_or(1).max(1);
    let kind = first.map(|first| first.instance_type.clone()).unwrap_or_default();
    let market = if spot > 0 { Market::Spot } else { Market::OnDemand };
    ((target + weight - 1) / weight, kind, market)
}

fn instance_state(state: ClusterState) -> &'static str {
    match state {
        ClusterState::Starting => "PROVISIONING",
        ClusterState::Bootstrapping => "BOOTSTRAPPING",
        ClusterState::Running | ClusterState::Waiting | ClusterState::Terminating => "RUNNING",
        ClusterState::Terminated | ClusterState::TerminatedWithErrors => "TERMINATED",
    }
}

fn part_status(cluster: &Cluster) -> Value {
    let state = match cluster.state {
        ClusterState::Terminating => "TERMINATING",
        other => instance_state(other),
    };
    json!({"State": state, "StateChangeReason": {}, "Timeline": timeline(cluster)})
}

/// Fleets and groups keep their ids without having to be stored.
fn part_id(cluster: &Cluster, prefix: &str, index: usize) -> String {
    let hash = md5_hex(format!("{}/{prefix}/{index}", cluster.id).as_bytes());
    format!("{prefix}-{}", hash[..13].to_uppercase())
}

fn status(cluster: &Cluster) -> Value {
    json!({
        "State": cluster.state,
        "StateChangeReason": reason(&cluster.reason),
        "Timeline": timeline(cluster),
    })
}

fn timeline(cluster: &Cluster) -> Value {
    json!({
        "CreationDateTime": seconds(cluster.created),
        "ReadyDateTime": cluster.ready.map(seconds),
        "EndDateTime": cluster.ended.map(seconds),
    })
}

fn reason(reason: &Reason) -> Value {
    let message = Some(&reason.message).filter(|message| !message.is_empty());
    json!({"Code": reason.code, "Message": message})
}

fn tags(cluster: &Cluster) -> Vec<Value> {
    let tags = cluster.tags.iter();
    tags.map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// The protocol's dates: seconds since 1970, with milliseconds.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// Leaves out members without a value.
pub fn compact(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let present = members.into_iter().filter(|(_, value)| !value.is_null());
            present.map(|(name, value)| (name, compact(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(compact).collect(),
        other => other,
    }
}
