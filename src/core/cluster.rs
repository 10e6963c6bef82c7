//! The cluster that a run asks EMR for: everything in RunJobFlow besides the
//! steps. A run stores it and so keeps what it started with; whatever is added
//! here later needs a default, or the runs of an older version cannot be read.
//! Not for the rules between its parts: `config::validate` has them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::secret::SecretRef;

/// What RunJobFlow needs besides the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    pub release_label: String,
    pub applications: Vec<String>,
    pub service_role: String,
    pub instance_profile: String,
    pub log_uri: Option<String>,
    #[serde(default)]
    pub log_encryption_key: Option<String>,
    pub visible_to_all_users: bool,
    pub subnets: Vec<String>,
    #[serde(default)]
    pub security_groups: Option<SecurityGroups>,
    #[serde(default)]
    pub key_name: Option<String>,
    /// Either fleets or groups, never both.
    pub fleets: Vec<Fleet>,
    #[serde(default)]
    pub groups: Vec<Group>,
    #[serde(default)]
    pub managed_scaling: Option<ManagedScaling>,
    #[serde(default)]
    pub scale_down: Option<ScaleDown>,
    #[serde(default)]
    pub unhealthy_node_replacement: Option<bool>,
    #[serde(default)]
    pub image: Image,
    /// Classification → its settings, as in `spark-defaults`.
    pub configurations: BTreeMap<String, Settings>,
    pub bootstrap_actions: Vec<BootstrapAction>,
    #[serde(default)]
    pub security_configuration: Option<String>,
    #[serde(default)]
    pub kerberos: Option<Kerberos>,
    pub tags: BTreeMap<String, String>,
    pub idle_timeout: SignedDuration,
    /// Steps that EMR runs side by side.
    #[serde(default = "one")]
    pub step_concurrency: u32,
    /// Every submission of steps begins with one that claims the run's attempt,
    /// so that no second cluster can execute it.
    #[serde(default)]
    pub guard: bool,
    /// The script that shuts the machines down when the lifetime is over, even
    /// if no sluicegate is left to do it.
    #[serde(default)]
    pub deadline: Option<String>,
}

impl ClusterSpec {
    /// Whether some of its instances may be taken away.
    pub fn buys_spot(&self) -> bool {
        self.fleets.iter().any(|fleet| fleet.spot > 0)
            || self.groups.iter().any(|group| group.market == Market::Spot)
    }

    /// The same cluster with everything bought on demand that would be spot.
    #[must_use]
    pub fn on_demand(&self) -> Self {
        let mut all = self.clone();
        for fleet in &mut all.fleets {
            fleet.on_demand = fleet.on_demand.saturating_add(std::mem::take(&mut fleet.spot));
            // With more than 5 types EMR wants to know how to choose among them.
            let strategy = fleet.spot_launch.take().and_then(|launch| launch.strategy);
            let strategy = strategy.map(|strategy| match strategy {
                SpotStrategy::CapacityOptimizedPrioritized => OnDemandStrategy::Prioritized,
                _ => OnDemandStrategy::LowestPrice,
            });
            fleet.on_demand_strategy = fleet.on_demand_strategy.or(strategy);
        }
        for group in &mut all.groups {
            (group.market, group.bid_price) = (Market::OnDemand, None);
        }
        for kind in all.fleets.iter_mut().flat_map(|fleet| &mut fleet.instance_types) {
            (kind.bid_percent, kind.bid_price) = (None, None);
        }
        if let Some(scaling) = &mut all.managed_scaling {
            // What is beyond it would be spot.
            scaling.maximum_on_demand = None;
        }
        all
    }
}

fn one() -> u32 {
    1
}

/// What the instances boot from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    pub custom_ami: Option<String>,
    pub os_release_label: Option<String>,
    pub root_volume_gib: Option<u32>,
    pub root_volume_iops: Option<u32>,
    pub root_volume_throughput: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapAction {
    pub name: String,
    pub script: String,
    pub args: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceRole {
    Primary,
    Core,
    Task,
}

/// Instances of several types, bought until their capacity is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub role: InstanceRole,
    pub on_demand: u32,
    pub spot: u32,
    pub instance_types: Vec<InstanceType>,
    #[serde(default)]
    pub on_demand_strategy: Option<OnDemandStrategy>,
    #[serde(default)]
    pub spot_launch: Option<SpotLaunch>,
}

/// How a fleet's spot capacity is bought, and what happens if it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpotLaunch {
    pub strategy: Option<SpotStrategy>,
    pub timeout: SignedDuration,
    pub timeout_action: SpotTimeoutAction,
}

/// EMR's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpotStrategy {
    CapacityOptimized,
    PriceCapacityOptimized,
    LowestPrice,
    Diversified,
    CapacityOptimizedPrioritized,
}

/// EMR's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDemandStrategy {
    LowestPrice,
    Prioritized,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpotTimeoutAction {
    #[default]
    SwitchToOnDemand,
    TerminateCluster,
}

/// One instance type of a fleet. Written as its name alone, or as a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InstanceType {
    #[serde(rename = "type")]
    pub name: String,
    /// How many units of the fleet's capacity one instance is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The most to pay for a spot instance, in percent of the on-demand price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bid_percent: Option<u32>,
    /// The same in US dollars an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bid_price: Option<String>,
    /// The lower, the sooner, for the strategies that go by priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ebs: Vec<Volumes>,
}

/// Equal EBS volumes of every instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Volumes {
    /// The type of the volumes: gp3.
    #[serde(rename = "type")]
    pub kind: String,
    /// The size of each.
    pub size_gib: u32,
    /// The I/O operations a second of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u32>,
    /// The throughput of each in MiB a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<u32>,
    /// How many of them.
    #[serde(default = "one")]
    pub count: u32,
}

/// Instances of one type: the older way, fixed in number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub role: InstanceRole,
    pub instance_type: String,
    pub count: u32,
    pub market: Market,
    pub bid_price: Option<String>,
    pub ebs: Vec<Volumes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Market {
    #[default]
    OnDemand,
    Spot,
}

/// The bounds within which EMR resizes the cluster by its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ManagedScaling {
    /// What the bounds count.
    pub unit: ScalingUnit,
    /// The least that EMR keeps.
    pub minimum: u32,
    /// The most that EMR adds.
    pub maximum: u32,
    /// The most of it that may be bought on demand.
    #[serde(default)]
    pub maximum_on_demand: Option<u32>,
    /// The most of it that may be core nodes.
    #[serde(default)]
    pub maximum_core: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingUnit {
    InstanceFleetUnits,
    Instances,
    Vcpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleDown {
    TerminateAtInstanceHour,
    TerminateAtTaskCompletion,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SecurityGroups {
    /// The primary node's group.
    pub primary: Option<String>,
    /// The other nodes' group.
    pub core_and_task: Option<String>,
    /// The group that EMR uses to reach nodes in a private subnet.
    pub service_access: Option<String>,
    /// More groups of the primary node.
    pub additional_primary: Vec<String>,
    /// More groups of the other nodes.
    pub additional_core_and_task: Vec<String>,
}

/// Kerberos beside the security configuration that asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kerberos {
    /// The Kerberos realm.
    pub realm: String,
    /// The password of the KDC: the environment variable that holds it.
    pub kdc_admin_password: SecretRef,
    /// The password of the trust between realms: the environment variable that
    /// holds it.
    #[serde(default)]
    pub cross_realm_trust_password: Option<SecretRef>,
    /// The user that joins machines to the Active Directory domain.
    #[serde(default)]
    pub ad_domain_join_user: Option<String>,
    /// That user's password: the environment variable that holds it.
    #[serde(default)]
    pub ad_domain_join_password: Option<SecretRef>,
}

/// A classification's settings: properties (texts) and nested classifications
/// (tables), such as `export` in `hadoop-env`.
pub type Settings = BTreeMap<String, Setting>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Setting {
    Property(String),
    Nested(Settings),
}

impl JsonSchema for Setting {
    fn schema_name() -> Cow<'static, str> {
        "Setting".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Classifications may be nested without end; what stands within is
        // left to reading.
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "object" }] })
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Setting;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a property's value in quotes, or a table: a nested classification")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Setting, E> {
                Ok(Setting::Property(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Setting, A::Error> {
                Settings::deserialize(MapAccessDeserializer::new(map)).map(Setting::Nested)
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

/// An instance type of which there is more to say than its name.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct InstanceTypeTable {
    /// The name: m5.xlarge.
    #[serde(rename = "type")]
    name: String,
    /// How many units of the fleet's capacity one instance is.
    weight: Option<u32>,
    /// The most to pay for a spot instance, in percent of the on-demand price.
    bid_percent: Option<u32>,
    /// The most to pay for a spot instance, in US dollars an hour.
    bid_price: Option<String>,
    /// The lower, the sooner, for the strategies that go by priority.
    priority: Option<u32>,
    /// The EBS volumes of each of its machines.
    #[serde(default)]
    ebs: Vec<Volumes>,
}

impl JsonSchema for InstanceType {
    fn schema_name() -> Cow<'static, str> {
        "InstanceType".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = InstanceTypeTable::json_schema(generator);
        json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

impl<'de> Deserialize<'de> for InstanceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = InstanceType;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an instance type's name, or a table { type = …, weight = … }")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<InstanceType, E> {
                Ok(InstanceType { name: name.to_owned(), ..InstanceType::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<InstanceType, A::Error> {
                let table = InstanceTypeTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(InstanceType {
                    name: table.name,
                    weight: table.weight,
                    bid_percent: table.bid_percent,
                    bid_price: table.bid_price,
                    priority: table.priority,
                    ebs: table.ebs,
                })
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

/// A plain cluster for the tests of the core.
#[cfg(test)]
pub mod testing {
    use super::*;

    pub fn cluster() -> ClusterSpec {
        ClusterSpec {
            release_label: "emr-7.13.0".into(),
            applications: vec!["Spark".into()],
            service_role: "service".into(),
            instance_profile: "ec2".into(),
            log_uri: None,
            log_encryption_key: None,
            visible_to_all_users: true,
            subnets: vec![],
            security_groups: None,
            key_name: None,
            fleets: vec![],
            groups: vec![],
            managed_scaling: None,
            scale_down: None,
            unhealthy_node_replacement: None,
            image: Image::default(),
            configurations: BTreeMap::new(),
            bootstrap_actions: vec![],
            security_configuration: None,
            kerberos: None,
            tags: BTreeMap::new(),
            idle_timeout: SignedDuration::from_hours(1),
            step_concurrency: 1,
            guard: false,
            deadline: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1 stored it.
    const OLD: &str = r#"{
        "release_label": "emr-7.13.0", "applications": ["Spark"], "service_role": "s",
        "instance_profile": "i", "log_uri": "s3://logs/", "visible_to_all_users": true,
        "subnets": [], "fleets": [
            {"role": "primary", "on_demand": 1, "spot": 0, "instance_types": ["m5.xlarge"]},
            {"role": "core", "on_demand": 1, "spot": 1, "instance_types": ["m5.xlarge", "m5a.xlarge"]}],
        "configurations": {"spark-defaults": {"spark.sql.shuffle.partitions": "64"}},
        "bootstrap_actions": [{"name": "b", "script": "s3://code/b.sh", "args": ["x"]}],
        "tags": {"cost-center": "analytics"}, "idle_timeout": "PT1H"}"#;

    #[test]
    fn the_clusters_of_an_older_version_are_read() {
        let spec: ClusterSpec = serde_json::from_str(OLD).unwrap();
        let names: Vec<_> = spec.fleets[1].instance_types.iter().map(|kind| &kind.name).collect();
        assert_eq!(names, ["m5.xlarge", "m5a.xlarge"]);
        assert_eq!(
            spec.configurations["spark-defaults"]["spark.sql.shuffle.partitions"],
            Setting::Property("64".into())
        );
        assert_eq!((spec.step_concurrency, &spec.image), (1, &Image::default()));
        let stored = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ClusterSpec>(&stored).unwrap(), spec);
    }

    #[test]
    fn settings_nest_and_say_what_they_are() {
        let text = r#"{"a": "1", "export": {"JAVA_HOME": "/jdk"}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_string(&settings).unwrap(),
            text.replace(": ", ":").replace(", ", ",")
        );
        let error = serde_json::from_str::<Settings>(r#"{"a": 1}"#).unwrap_err().to_string();
        assert!(error.contains("a property's value in quotes"), "{error}");
    }
}
