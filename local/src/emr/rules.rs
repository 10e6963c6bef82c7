//! The rules that span members of a request, as strict as EMR's. Refuses in
//! AWS's words and codes. Not for the members' types (see `parse`), nor for what
//! depends on clusters that exist.

use super::instance_rules::{check_instances, check_managed_scaling};
use super::machine::ACTIVE_STEPS_MAX;
use super::parse::refused;
use super::request::{AutoTerminationPolicy, HadoopJarStep, RunJobFlow, StepConfig, Tag};
use crate::wire::ApiError;

const NAME_LENGTH_MAX: usize = 256;
const TEXT_LENGTH_MAX: usize = 10_280;
const IDLE_TIMEOUT_SECS: std::ops::RangeInclusive<i64> = 60..=604_800;
/// All texts of a HadoopJarStep together.
const STEP_LENGTH_MAX: usize = 10_240;
const BOOTSTRAP_ACTIONS_MAX: usize = 16;
const TAGS_MAX: usize = 50;

/// The rules of RunJobFlow.
pub fn check_run_job_flow(request: &RunJobFlow) -> Result<(), ApiError> {
    check_length("name", &request.name, NAME_LENGTH_MAX)?;
    match (&request.release_label, &request.ami_version) {
        (Some(label), _) if !is_release_label(label) => {
            return Err(refused(format!("The supplied release label is invalid: {label}.")));
        }
        (None, None) => {
            return Err(refused("A release label (releaseLabel) must be specified."));
        }
        _ => {}
    }
    for (member, role) in
        [("ServiceRole", &request.service_role), ("JobFlowRole", &request.job_flow_role)]
    {
        if role.as_deref().unwrap_or_default().is_empty() {
            return Err(refused(format!("{member} is required for creating cluster.")));
        }
    }
    if let Some(uri) = &request.log_uri
        && !["s3://", "s3n://", "s3a://"].iter().any(|scheme| uri.starts_with(scheme))
    {
        return Err(refused(format!("The logUri must be an S3 location: {uri}")));
    }
    if !(1..=256).contains(&request.step_concurrency_level.unwrap_or(1)) {
        return Err(refused("stepConcurrencyLevel must be between 1 and 256."));
    }
    check_instances(&request.instances)?;
    check_managed_scaling(request)?;
    check_steps(&request.steps)?;
    if request.bootstrap_actions.len() > BOOTSTRAP_ACTIONS_MAX {
        return Err(refused(format!(
            "The number of bootstrap actions must not exceed {BOOTSTRAP_ACTIONS_MAX}."
        )));
    }
    for action in &request.bootstrap_actions {
        check_length("bootstrapActions.name", &action.name, NAME_LENGTH_MAX)?;
        let path = &action.script_bootstrap_action.path;
        check_length("bootstrapActions.scriptBootstrapAction.path", path, TEXT_LENGTH_MAX)?;
    }
    if request.kerberos_attributes.is_some() && request.security_configuration.is_none() {
        return Err(refused(
            "Kerberos attributes need a security configuration that enables Kerberos.",
        ));
    }
    if request.custom_ami_id.as_ref().is_some_and(|ami| !ami.starts_with("ami-")) {
        return Err(refused("The custom AMI id is invalid."));
    }
    check_tags(&request.tags)?;
    request.auto_termination_policy.as_ref().map_or(Ok(()), check_idle_timeout)
}

pub fn check_steps(steps: &[StepConfig]) -> Result<(), ApiError> {
    if steps.len() > ACTIVE_STEPS_MAX {
        return Err(refused(format!("The number of steps must not exceed {ACTIVE_STEPS_MAX}.")));
    }
    for step in steps {
        check_length("steps.name", &step.name, NAME_LENGTH_MAX)?;
        check_jar(&step.hadoop_jar_step)?;
    }
    Ok(())
}

fn check_jar(jar: &HadoopJarStep) -> Result<(), ApiError> {
    if jar.jar.is_empty() {
        return Err(refused("steps.hadoopJarStep.jar must not be empty."));
    }
    let mut total = 0;
    for text in jar.args.iter().chain([&jar.jar]).chain(&jar.main_class) {
        check_length("steps.hadoopJarStep.args", text, TEXT_LENGTH_MAX)?;
        total += text.chars().count();
        let allowed =
            |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..);
        if !text.chars().all(allowed) {
            return Err(refused(
                "1 validation error detected: Value at 'steps.hadoopJarStep.args' failed to \
                 satisfy constraint: Member must satisfy regular expression pattern: \
                 [\\u0020-\\uD7FF\\uE000-\\uFFFD\\uD800\\uDC00-\\uDBFF\\uDFFF\\r\\n\\t]*",
            ));
        }
    }
    if total > STEP_LENGTH_MAX {
        return Err(refused(format!(
            "The string values passed into HadoopJarStep cannot exceed a total of \
             {STEP_LENGTH_MAX} characters."
        )));
    }
    Ok(())
}

pub fn check_tags(tags: &[Tag]) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        return Err(refused(format!("The number of tags must not exceed {TAGS_MAX}.")));
    }
    for tag in tags {
        if tag.key.is_empty() || tag.key.chars().count() > 128 {
            return Err(refused("A tag's key must have between 1 and 128 characters."));
        }
        check_length("tags.value", &tag.value, 256)?;
    }
    Ok(())
}

pub fn check_idle_timeout(policy: &AutoTerminationPolicy) -> Result<(), ApiError> {
    match policy.idle_timeout {
        Some(seconds) if !IDLE_TIMEOUT_SECS.contains(&seconds) => Err(refused(format!(
            "autoTerminationPolicy.idleTimeout must be between {} and {} seconds.",
            IDLE_TIMEOUT_SECS.start(),
            IDLE_TIMEOUT_SECS.end()
        ))),
        _ => Ok(()),
    }
}

fn check_length(member: &str, value: &str, max: usize) -> Result<(), ApiError> {
    if value.chars().count() <= max {
        return Ok(());
    }
    Err(refused(format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member \
         must have length less than or equal to {max}"
    )))
}

fn is_release_label(label: &str) -> bool {
    label.strip_prefix("emr-").is_some_and(|version| {
        let parts: Vec<&str> = version.split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| part.parse::<u16>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::parse::parse;
    use super::*;

    fn good() -> Value {
        json!({
            "Name": "hourly", "ReleaseLabel": "emr-7.13.0",
            "ServiceRole": "EMR_DefaultRole", "JobFlowRole": "EMR_EC2_DefaultRole",
            "Instances": {"InstanceFleets": [{
                "InstanceFleetType": "MASTER", "TargetOnDemandCapacity": 1,
                "InstanceTypeConfigs": [{"InstanceType": "m5.xlarge"}],
            }]},
        })
    }

    fn read(body: Value) -> Result<(), ApiError> {
        parse::<RunJobFlow>(body).and_then(|request| check_run_job_flow(&request))
    }

    #[test]
    fn a_plain_request_and_members_it_does_not_know_pass() {
        let mut body = good();
        body["NotInTheModel"] = json!(true);
        assert_eq!(read(body), Ok(()));
    }

    #[test]
    fn refusals_carry_the_real_code_and_name_the_member() {
        let fleet = "/Instances/InstanceFleets/0";
        let cases: &[(&str, Value, &str, &str)] = &[
            ("/Name", Value::Null, "ValidationException", "Value null at 'name'"),
            ("/Name", json!(5), "SerializationException", "name"),
            ("/Name", json!("n".repeat(257)), "ValidationException", "'name'"),
            ("/ReleaseLabel", json!("7.13"), "ValidationException", "7.13"),
            ("/ServiceRole", json!(""), "ValidationException", "ServiceRole"),
            ("/Instances", json!({}), "ValidationException", "instanceFleets"),
            (
                "/KerberosAttributes",
                json!({"Realm": "R", "KdcAdminPassword": "x"}),
                "ValidationException",
                "security configuration",
            ),
            (
                "/KerberosAttributes",
                json!({"Realm": "R"}),
                "ValidationException",
                "'kerberosAttributes.kdcAdminPassword'",
            ),
            ("/CustomAmiId", json!("x"), "ValidationException", "AMI"),
            ("/EbsRootVolumeIops", json!("many"), "SerializationException", "ebsRootVolumeIops"),
            ("/Tags", json!(vec![json!({"Key": "k"}); 51]), "ValidationException", "exceed 50"),
            (
                "/BootstrapActions",
                json!(vec![json!({"Name": "b", "ScriptBootstrapAction": {"Path": "x"}}); 17]),
                "ValidationException",
                "exceed 16",
            ),
            (
                "/Steps",
                json!([{"Name": "s", "HadoopJarStep": {"Jar": "x", "Args": ["a".repeat(10_240)]}}]),
                "ValidationException",
                "total of 10240",
            ),
            (
                "/Steps",
                json!([{"Name": "s", "HadoopJarStep": {"Jar": "x", "Args": ["\u{1}"]}}]),
                "ValidationException",
                "regular expression",
            ),
            (
                "/ManagedScalingPolicy",
                json!({"ComputeLimits": {"UnitType": "VCPU",
                    "MinimumCapacityUnits": 1, "MaximumCapacityUnits": 2}}),
                "ValidationException",
                "InstanceFleetUnits",
            ),
            (
                "/ManagedScalingPolicy",
                json!({"ComputeLimits": {"UnitType": "InstanceFleetUnits",
                    "MinimumCapacityUnits": 3, "MaximumCapacityUnits": 2}}),
                "ValidationException",
                "MinimumCapacityUnits",
            ),
            ("/LogUri", json!("/tmp"), "ValidationException", "logUri"),
            ("/StepConcurrencyLevel", json!(257), "ValidationException", "stepConcurrencyLevel"),
            (
                "/AutoTerminationPolicy",
                json!({"IdleTimeout": 59}),
                "ValidationException",
                "idleTimeout",
            ),
            (
                "/ScaleDownBehavior",
                json!("NOW"),
                "ValidationException",
                "TERMINATE_AT_TASK_COMPLETION",
            ),
            ("/Tags", json!([{"Value": "x"}]), "ValidationException", "tag's key"),
            (
                "/Steps",
                json!([{"Name": "s", "HadoopJarStep": {}}]),
                "ValidationException",
                "'steps.1.member.hadoopJarStep.jar'",
            ),
            (
                "/Steps",
                json!([{"Name": "s", "HadoopJarStep": {"Jar": "x", "Args": "a b"}}]),
                "SerializationException",
                "steps.1.member.hadoopJarStep.args",
            ),
            (
                "/Steps",
                json!([{"Name": "s", "HadoopJarStep": {"Jar": "x"}, "ActionOnFailure": "STOP"}]),
                "ValidationException",
                "'STOP' at 'steps.1.member.actionOnFailure'",
            ),
        ];
        for (pointer, value, code, text) in cases {
            let mut body = good();
            set(&mut body, pointer, value.clone());
            check(body, code, text);
        }
        for (member, value, text) in [
            (
                "InstanceFleetType",
                json!("PRIMARY"),
                "instances.instanceFleets.1.member.instanceFleetType",
            ),
            ("TargetOnDemandCapacity", json!(2), "capacity of 1"),
            ("InstanceTypeConfigs", json!([]), "instanceTypeConfigs"),
            (
                "LaunchSpecifications",
                json!({"SpotSpecification": {
                "TimeoutDurationMinutes": 4, "TimeoutAction": "TERMINATE_CLUSTER"}}),
                "timeoutDurationMinutes",
            ),
            (
                "LaunchSpecifications",
                json!({"OnDemandSpecification": {"AllocationStrategy": "cheapest"}}),
                "'cheapest' at 'instances.instanceFleets.1.member.launchSpecifications",
            ),
            (
                "InstanceTypeConfigs",
                json!([{"InstanceType": "a.b", "BidPrice": "1",
                    "BidPriceAsPercentageOfOnDemandPrice": 50.0}]),
                "bidPrice",
            ),
            (
                "InstanceTypeConfigs",
                json!([{"InstanceType": "a.b", "EbsConfiguration": {"EbsBlockDeviceConfigs": [
                    {"VolumeSpecification": {"VolumeType": "gp9", "SizeInGB": 10}}]}}]),
                "gp9",
            ),
            (
                "InstanceTypeConfigs",
                json!([{"InstanceType": "a.b", "EbsConfiguration": {"EbsBlockDeviceConfigs": [
                    {"VolumeSpecification": {"VolumeType": "io1", "SizeInGB": 10}}]}}]),
                "iops",
            ),
        ] {
            let mut body = good();
            set(&mut body, &format!("{fleet}/{member}"), value);
            check(body, "ValidationException", text);
        }
    }

    #[test]
    fn a_missing_member_is_null_in_awss_words() {
        let mut body = good();
        body.as_object_mut().unwrap().remove("Name");
        check(body, "ValidationException", "Value null at 'name'");
    }

    #[test]
    fn the_network_fits_the_instances() {
        for (member, value, text) in [
            ("Ec2SubnetId", json!("subnet-1"), None),
            ("Ec2SubnetIds", json!(["subnet-1", "subnet-2"]), None),
            ("EmrManagedMasterSecurityGroup", json!("sg-1"), Some("emrManagedSlaveSecurityGroup")),
        ] {
            let mut body = good();
            body["Instances"][member] = value;
            match text {
                Some(text) => check(body, "ValidationException", text),
                None => assert_eq!(read(body), Ok(())),
            }
        }
        let mut both = good();
        both["Instances"]["Ec2SubnetId"] = json!("subnet-1");
        both["Instances"]["Ec2SubnetIds"] = json!(["subnet-1"]);
        check(both, "ValidationException", "ec2SubnetId");
        let group = json!({"InstanceRole": "MASTER", "InstanceType": "a.b", "InstanceCount": 1});
        let mut groups = good();
        groups["Instances"] = json!({"InstanceGroups": [group],
            "Ec2SubnetIds": ["subnet-1", "subnet-2"]});
        check(groups.clone(), "ValidationException", "one subnet");
        groups["Instances"] = json!({"InstanceGroups": [group, group]});
        check(groups.clone(), "ValidationException", "exactly one MASTER");
        let task = json!({"InstanceRole": "TASK", "InstanceType": "a.b", "InstanceCount": 1});
        groups["Instances"] = json!({"InstanceGroups": [group, task]});
        check(groups, "ValidationException", "CORE");
    }

    #[test]
    fn fleets_and_groups_exclude_each_other() {
        let mut body = good();
        body["Instances"]["InstanceGroups"] =
            json!([{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}]);
        check(body, "ValidationException", "exactly one of");
    }

    fn check(body: Value, code: &str, text: &str) {
        let error = read(body.clone()).expect_err(&body.to_string());
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(text), "{error} lacks {text}");
    }

    fn set(body: &mut Value, pointer: &str, value: Value) {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[member] = value;
    }
}
