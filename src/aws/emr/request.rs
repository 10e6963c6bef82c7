//! What EMR is asked for: RunJobFlow and the steps of a run, as the SDK takes
//! them. Pure; not for sending, nor for checking: `config::validate` does that.

use std::collections::BTreeMap;

use aws_sdk_emr::operation::run_job_flow::builders::RunJobFlowFluentBuilder;
use aws_sdk_emr::types::{
    ActionOnFailure, Application, AutoTerminationPolicy, BootstrapActionConfig, ComputeLimits,
    ComputeLimitsUnitType, Configuration, HadoopJarStepConfig, KerberosAttributes,
    ManagedScalingPolicy, ScaleDownBehavior, ScriptBootstrapActionConfig, StepConfig, Tag,
};

use super::instances::{count, instances};
use crate::core::cluster::{
    ClusterSpec, Kerberos, ManagedScaling, ScaleDown, ScalingUnit, Setting, Settings,
};
use crate::core::run::{GUARD_PREFIX, Run};
use crate::core::secret::SecretRef;
use crate::planted::{Bug, planted};

/// The tag by which our clusters are known.
pub const TAG_DEPLOYMENT: &str = "sluicegate:deployment";
/// When a cluster is to be gone, whoever made it.
pub const TAG_EXPIRES: &str = "sluicegate:expires-at";

/// Why a request cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(
        "profile {profile} needs the environment variable {variable}, which the daemon does not \
         have: set it and start the daemon again"
    )]
    Secret { profile: String, variable: String },
}

/// The first step of every submission.
const GUARD: &str = include_str!("../../../deploy/emr/guard.sh");
/// The bootstrap action that ends a cluster whose lifetime is over.
const DEADLINE_NAME: &str = "sluicegate deadline";

/// Where guards write their claims.
#[derive(Debug, Clone)]
pub struct GuardPlace {
    pub table: String,
    pub region: String,
}

/// The cluster of the run's open attempt, with all its tries as steps.
/// `environment` gives the secrets that the run only names.
pub fn run_job_flow(
    request: RunJobFlowFluentBuilder,
    run: &Run,
    deployment: &str,
    guard: &GuardPlace,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<RunJobFlowFluentBuilder, RequestError> {
    let spec = &*run.cluster_asked();
    let image = &spec.image;
    let tries: Vec<_> = (0..run.attempt().map_or(0, |attempt| attempt.tries.len())).collect();
    let idle = i64::try_from(spec.idle_timeout.unsigned_abs().as_secs()).unwrap_or(i64::MAX);
    let secret = |secret: &SecretRef| {
        let value = environment(&secret.env).filter(|value| !value.is_empty());
        value.ok_or_else(|| RequestError::Secret {
            profile: run.profile.clone(),
            variable: secret.env.clone(),
        })
    };
    let kerberos = spec.kerberos.as_ref().map(|spec| kerberos(spec, secret)).transpose()?;
    Ok(request
        .name(run.cluster_name(deployment))
        .release_label(&spec.release_label)
        .set_os_release_label(image.os_release_label.clone())
        .set_custom_ami_id(image.custom_ami.clone())
        .set_ebs_root_volume_size(image.root_volume_gib.map(count))
        .set_ebs_root_volume_iops(image.root_volume_iops.map(count))
        .set_ebs_root_volume_throughput(image.root_volume_throughput.map(count))
        .set_log_uri(spec.log_uri.clone())
        .set_log_encryption_kms_key_id(spec.log_encryption_key.clone())
        .service_role(&spec.service_role)
        .job_flow_role(&spec.instance_profile)
        .visible_to_all_users(spec.visible_to_all_users)
        .set_applications(Some(applications(spec)))
        .set_configurations(Some(configurations(&spec.configurations)))
        .set_bootstrap_actions(Some(bootstrap_actions(run)))
        .instances(instances(spec))
        .set_managed_scaling_policy(spec.managed_scaling.map(managed_scaling))
        .set_scale_down_behavior(spec.scale_down.map(scale_down))
        .set_security_configuration(spec.security_configuration.clone())
        .set_kerberos_attributes(kerberos)
        .set_steps(Some(steps(run, &tries, guard)))
        .step_concurrency_level(count(spec.step_concurrency))
        .set_tags(Some(tags(run, deployment)))
        .auto_termination_policy(AutoTerminationPolicy::builder().idle_timeout(idle).build()))
}

/// Tries of the run's open attempt, in their order, behind the guard of their
/// submission.
pub fn steps(run: &Run, tries: &[usize], place: &GuardPlace) -> Vec<StepConfig> {
    let Some(attempt) = run.attempt() else { return Vec::new() };
    let guard = run.cluster.guard.then(|| guard(run, attempt.guards.len().max(1), place));
    let guard = guard.filter(|_| !planted(Bug::NoGuardAtLaunch) || attempt.guards.len() > 1);
    let guard = guard.filter(|_| !planted(Bug::NoGuardWithSteps) || attempt.guards.len() <= 1);
    let action = match run.cluster.step_concurrency {
        // CONTINUE would start the next step while this one waits for its
        // retry; what this cancels is added again.
        0 | 1 if !planted(Bug::StepsContinue) => ActionOnFailure::CancelAndWait,
        // EMR takes nothing else here, and every task has one step: no step
        // waits for another.
        _ => ActionOnFailure::Continue,
    };
    let tries = tries.iter().filter_map(|index| attempt.tries.get(*index));
    let steps = tries.filter_map(|step_try| {
        let step = run.members.get(step_try.member)?.steps.get(step_try.step)?;
        Some((&step_try.name, &step.command))
    });
    let steps = steps.map(|(name, command)| {
        let args = command.args.iter().map(|arg| arg.of_attempt(attempt.number)).collect();
        let jar = HadoopJarStepConfig::builder()
            .jar(command.jar.of_attempt(attempt.number))
            .set_main_class(command.main_class.clone())
            .set_args(Some(args))
            .build();
        StepConfig::builder()
            .name(name)
            .action_on_failure(action.clone())
            .hadoop_jar_step(jar)
            .build()
    });
    guard.into_iter().chain(steps).collect()
}

/// The guard of the nth submission. The first claims the attempt for its
/// cluster, a later one its steps for itself: the same submission may be there
/// twice.
fn guard(run: &Run, submission: usize, place: &GuardPlace) -> StepConfig {
    let (holder, action) = match submission {
        1 if planted(Bug::FirstGuardContinues) => ("cluster", ActionOnFailure::Continue),
        1 => ("cluster", ActionOnFailure::TerminateCluster),
        _ => ("step", ActionOnFailure::CancelAndWait),
    };
    let claim = run.claim(submission);
    let args = ["bash", "-c", GUARD, "guard", &place.table, &claim, holder, &place.region];
    let args = args.map(str::to_owned).to_vec();
    let jar = HadoopJarStepConfig::builder().jar("command-runner.jar").set_args(Some(args)).build();
    StepConfig::builder()
        .name(format!("{GUARD_PREFIX}{submission}"))
        .action_on_failure(action)
        .hadoop_jar_step(jar)
        .build()
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
        tag(TAG_EXPIRES, expires.to_string()),
    ];
    let theirs = run.cluster.tags.iter().map(|(key, value)| tag(key, value.clone()));
    own.into_iter().chain(theirs).collect()
}

fn applications(spec: &ClusterSpec) -> Vec<Application> {
    spec.applications.iter().map(|name| Application::builder().name(name).build()).collect()
}

fn configurations(settings: &BTreeMap<String, Settings>) -> Vec<Configuration> {
    settings.iter().map(|(name, settings)| configuration(name, settings)).collect()
}

fn configuration(classification: &str, settings: &Settings) -> Configuration {
    settings
        .iter()
        .fold(
            Configuration::builder().classification(classification),
            |builder, (name, setting)| match setting {
                Setting::Property(value) => builder.properties(name, value),
                Setting::Nested(settings) => builder.configurations(configuration(name, settings)),
            },
        )
        .build()
}

/// The deadline goes first: the others may hang.
fn bootstrap_actions(run: &Run) -> Vec<BootstrapActionConfig> {
    let action = |name: &str, script: &str, args: Vec<String>| {
        let script =
            ScriptBootstrapActionConfig::builder().path(script).set_args(Some(args)).build();
        BootstrapActionConfig::builder().name(name).script_bootstrap_action(script).build()
    };
    let deadline = run.cluster.deadline.iter().zip(run.attempt());
    let deadline = deadline.filter(|_| !planted(Bug::DeadlineNotPassed));
    let deadline = deadline.map(|(script, attempt)| {
        action(DEADLINE_NAME, script, vec![attempt.expires.as_second().to_string()])
    });
    let actions = run.cluster.bootstrap_actions.iter();
    let actions = actions.map(|own| action(&own.name, &own.script, own.args.clone()));
    deadline.chain(actions).collect()
}

fn managed_scaling(scaling: ManagedScaling) -> ManagedScalingPolicy {
    let unit = match scaling.unit {
        ScalingUnit::InstanceFleetUnits => ComputeLimitsUnitType::InstanceFleetUnits,
        ScalingUnit::Instances => ComputeLimitsUnitType::Instances,
        ScalingUnit::Vcpu => ComputeLimitsUnitType::Vcpu,
    };
    let limits = ComputeLimits::builder()
        .unit_type(unit)
        .minimum_capacity_units(count(scaling.minimum))
        .maximum_capacity_units(count(scaling.maximum))
        .set_maximum_on_demand_capacity_units(scaling.maximum_on_demand.map(count))
        .set_maximum_core_capacity_units(scaling.maximum_core.map(count))
        .build();
    ManagedScalingPolicy::builder().compute_limits(limits).build()
}

fn scale_down(behaviour: ScaleDown) -> ScaleDownBehavior {
    match behaviour {
        ScaleDown::TerminateAtInstanceHour => ScaleDownBehavior::TerminateAtInstanceHour,
        ScaleDown::TerminateAtTaskCompletion => ScaleDownBehavior::TerminateAtTaskCompletion,
    }
}

fn kerberos(
    spec: &Kerberos,
    secret: impl Fn(&SecretRef) -> Result<String, RequestError>,
) -> Result<KerberosAttributes, RequestError> {
    let optional = |reference: &Option<SecretRef>| reference.as_ref().map(&secret).transpose();
    Ok(KerberosAttributes::builder()
        .realm(&spec.realm)
        .kdc_admin_password(secret(&spec.kdc_admin_password)?)
        .set_cross_realm_trust_principal_password(optional(&spec.cross_realm_trust_password)?)
        .set_ad_domain_join_user(spec.ad_domain_join_user.clone())
        .set_ad_domain_join_password(optional(&spec.ad_domain_join_password)?)
        .build())
}
