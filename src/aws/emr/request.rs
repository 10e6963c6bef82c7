//! What EMR is asked for: RunJobFlow and the steps of a run, as the SDK takes
//! them. Pure; not for sending.

use aws_sdk_emr::operation::run_job_flow::builders::RunJobFlowFluentBuilder;
use aws_sdk_emr::types::{
    ActionOnFailure, Application, AutoTerminationPolicy, BootstrapActionConfig, Configuration,
    HadoopJarStepConfig, InstanceFleetConfig, InstanceFleetType, InstanceTypeConfig,
    JobFlowInstancesConfig, ScriptBootstrapActionConfig, StepConfig, Tag,
};

use crate::core::catalog::{ClusterSpec, FleetRole};
use crate::core::run::Run;

/// The tag by which our clusters are known.
pub const TAG_DEPLOYMENT: &str = "sluicegate:deployment";

pub type Built<T> = Result<T, aws_sdk_emr::error::BuildError>;

/// The cluster of the run's open attempt, with all its tries as steps.
pub fn run_job_flow(
    request: RunJobFlowFluentBuilder,
    run: &Run,
    deployment: &str,
) -> Built<RunJobFlowFluentBuilder> {
    let spec = &run.cluster;
    let tries: Vec<_> = (0..run.attempt().map_or(0, |attempt| attempt.tries.len())).collect();
    let idle = i64::try_from(spec.idle_timeout.unsigned_abs().as_secs()).unwrap_or(i64::MAX);
    Ok(request
        .name(run.cluster_name(deployment))
        .release_label(&spec.release_label)
        .set_log_uri(spec.log_uri.clone())
        .service_role(&spec.service_role)
        .job_flow_role(&spec.instance_profile)
        .visible_to_all_users(spec.visible_to_all_users)
        .set_applications(Some(applications(spec)))
        .set_configurations(Some(configurations(spec)))
        .set_bootstrap_actions(Some(bootstrap_actions(spec)?))
        .instances(instances(spec)?)
        .set_steps(Some(steps(run, &tries)?))
        .set_tags(Some(tags(run, deployment)))
        .auto_termination_policy(AutoTerminationPolicy::builder().idle_timeout(idle).build()))
}

fn tags(run: &Run, deployment: &str) -> Vec<Tag> {
    let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
    let attempt = run.attempt();
    let number = attempt.map_or(0, |attempt| attempt.number);
    let expires = attempt.map_or(run.created, |attempt| attempt.expires);
    let own = [
        tag(TAG_DEPLOYMENT, deployment.to_owned()),
        tag("sluicegate:run", run.id.clone()),
        tag("sluicegate:attempt", number.to_string()),
        tag("sluicegate:expires-at", expires.to_string()),
    ];
    let theirs = run.cluster.tags.iter().map(|(key, value)| tag(key, value.clone()));
    own.into_iter().chain(theirs).collect()
}

fn applications(spec: &ClusterSpec) -> Vec<Application> {
    spec.applications.iter().map(|name| Application::builder().name(name).build()).collect()
}

fn configurations(spec: &ClusterSpec) -> Vec<Configuration> {
    let configurations = spec.configurations.iter().map(|(classification, properties)| {
        Configuration::builder()
            .classification(classification)
            .set_properties(Some(properties.clone().into_iter().collect()))
            .build()
    });
    configurations.collect()
}

fn bootstrap_actions(spec: &ClusterSpec) -> Built<Vec<BootstrapActionConfig>> {
    let actions = spec.bootstrap_actions.iter().map(|action| {
        let script = ScriptBootstrapActionConfig::builder()
            .path(&action.script)
            .set_args(Some(action.args.clone()))
            .build();
        Ok(BootstrapActionConfig::builder()
            .name(&action.name)
            .script_bootstrap_action(script)
            .build())
    });
    actions.collect()
}

fn instances(spec: &ClusterSpec) -> Built<JobFlowInstancesConfig> {
    let mut builder = JobFlowInstancesConfig::builder()
        // Retries are added while it waits; it ends by our call, by its idle
        // time-out or by its lifetime.
        .keep_job_flow_alive_when_no_steps(true)
        .termination_protected(false);
    if !spec.subnets.is_empty() {
        builder = builder.set_ec2_subnet_ids(Some(spec.subnets.clone()));
    }
    for fleet in &spec.fleets {
        let role = match fleet.role {
            FleetRole::Primary => InstanceFleetType::Master,
            FleetRole::Core => InstanceFleetType::Core,
            FleetRole::Task => InstanceFleetType::Task,
        };
        let types = fleet
            .instance_types
            .iter()
            .map(|name| InstanceTypeConfig::builder().instance_type(name).build())
            .collect();
        let capacity = |count| Some(i32::try_from(count).unwrap_or(i32::MAX));
        let fleet = InstanceFleetConfig::builder()
            .name(role.as_str().to_lowercase())
            .instance_fleet_type(role)
            .set_target_on_demand_capacity(capacity(fleet.on_demand))
            .set_target_spot_capacity(capacity(fleet.spot))
            .set_instance_type_configs(Some(types))
            .build();
        builder = builder.instance_fleets(fleet);
    }
    Ok(builder.build())
}

pub fn steps(run: &Run, tries: &[usize]) -> Built<Vec<StepConfig>> {
    let attempt = run.attempt();
    let tries = tries.iter().filter_map(|index| attempt?.tries.get(*index));
    let steps = tries.filter_map(|step_try| {
        let step = run.members.get(step_try.member)?.steps.get(step_try.step)?;
        Some((&step_try.name, step))
    });
    steps
        .map(|(name, step)| {
            let jar = HadoopJarStepConfig::builder()
                .jar(&step.jar)
                .set_main_class(step.main_class.clone())
                .set_args(Some(step.args.clone()))
                .build();
            Ok(StepConfig::builder()
                .name(name)
                // CONTINUE would start the next step while this one waits for
                // its retry; what this cancels is added again.
                .action_on_failure(ActionOnFailure::CancelAndWait)
                .hadoop_jar_step(jar)
                .build())
        })
        .collect()
}
