//! EMR: creates, finds, follows and ends clusters. Calls that create something
//! carry no client token, so the SDK must never repeat them by itself.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_emr::primitives::DateTime;
use aws_sdk_emr::types::{
    ActionOnFailure, Application, AutoTerminationPolicy, BootstrapActionConfig, Configuration,
    HadoopJarStepConfig, InstanceFleetConfig, InstanceFleetType, InstanceTypeConfig,
    JobFlowInstancesConfig, ScriptBootstrapActionConfig, StepConfig, StepSummary, Tag,
};
use jiff::Timestamp;

use super::error::{AwsError, Kind};
use crate::core::catalog::{ClusterSpec, FleetRole};
use crate::core::run::{CallFailure, ClusterSeen, ClusterState, Run, StepSeen, StepState};

#[derive(Debug, Clone)]
pub struct Emr {
    client: aws_sdk_emr::Client,
    deployment: String,
}

/// The tag by which our clusters are known.
pub const TAG_DEPLOYMENT: &str = "sluicegate:deployment";

impl Emr {
    pub fn new(config: &SdkConfig, deployment: &str) -> Self {
        Self { client: aws_sdk_emr::Client::new(config), deployment: deployment.to_owned() }
    }

    /// Creates the cluster of a run's open attempt, its steps included. Never
    /// repeated by the SDK; bounded by `within`.
    pub async fn launch(&self, run: &Run, within: Duration) -> Result<String, CallFailure> {
        let spec = &run.cluster;
        let Some(attempt) = run.attempt() else {
            return Err(CallFailure::Refused("the run has no attempt".to_owned()));
        };
        let tries: Vec<_> = (0..attempt.tries.len()).collect();
        let idle = i64::try_from(spec.idle_timeout.unsigned_abs().as_secs()).unwrap_or(i64::MAX);
        let answer = self
            .client
            .run_job_flow()
            .name(run.cluster_name(&self.deployment))
            .release_label(&spec.release_label)
            .set_log_uri(spec.log_uri.clone())
            .service_role(&spec.service_role)
            .job_flow_role(&spec.instance_profile)
            .visible_to_all_users(spec.visible_to_all_users)
            .set_applications(Some(applications(spec)))
            .set_configurations(Some(configurations(spec)))
            .set_bootstrap_actions(Some(bootstrap_actions(spec).map_err(refused)?))
            .instances(instances(spec).map_err(refused)?)
            .set_steps(Some(steps(run, &tries).map_err(refused)?))
            .set_tags(Some(self.tags(run)))
            .auto_termination_policy(AutoTerminationPolicy::builder().idle_timeout(idle).build())
            .customize()
            .config_override(once(within))
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "RunJobFlow", &error))?;
        answer.job_flow_id.ok_or_else(|| CallFailure::Unknown("RunJobFlow gave no id".to_owned()))
    }

    /// The cluster that bears the open attempt's name. Lists only clusters
    /// created since the run was, with a margin for clocks that differ.
    pub async fn find(&self, run: &Run) -> Result<Option<String>, AwsError> {
        let name = run.cluster_name(&self.deployment);
        let since = DateTime::from_secs(run.created.as_second() - 3600);
        let mut pages = self.client.list_clusters().created_after(since).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("EMR", "ListClusters", &error))?;
            let found = page
                .clusters
                .unwrap_or_default()
                .into_iter()
                .find(|cluster| cluster.name.as_deref() == Some(name.as_str()));
            if let Some(id) = found.and_then(|cluster| cluster.id) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The cluster's state, then, if asked for, its steps: steps read after the
    /// cluster was seen ended are final.
    pub async fn look(&self, cluster: &str, with_steps: bool) -> Result<ClusterSeen, AwsError> {
        let answer = self
            .client
            .describe_cluster()
            .cluster_id(cluster)
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "DescribeCluster", &error))?;
        let status = answer.cluster.and_then(|cluster| cluster.status);
        let state = status.as_ref().and_then(|status| status.state.as_ref());
        let state = state.and_then(|state| cluster_state(state.as_str()));
        // A state that this version does not know says nothing: look again.
        let state = state.ok_or_else(|| AwsError {
            service: "EMR",
            action: "DescribeCluster",
            kind: Kind::Unknown,
            message: format!("{cluster} is in a state unknown to this version"),
        })?;
        let reason = status.and_then(|status| status.state_change_reason).map(|reason| {
            let code = reason.code.map(|code| code.as_str().to_owned());
            [code, reason.message].into_iter().flatten().collect::<Vec<_>>().join(": ")
        });
        let steps = if with_steps { self.list_steps(cluster).await? } else { Vec::new() };
        Ok(ClusterSeen { state, reason: reason.unwrap_or_default(), steps })
    }

    async fn list_steps(&self, cluster: &str) -> Result<Vec<StepSeen>, AwsError> {
        let mut steps = Vec::new();
        let mut pages = self.client.list_steps().cluster_id(cluster).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("EMR", "ListSteps", &error))?;
            steps.extend(page.steps.unwrap_or_default().into_iter().filter_map(step_seen));
        }
        Ok(steps)
    }

    /// Adds tries of the run's open attempt. Never repeated by the SDK.
    pub async fn add_steps(
        &self,
        run: &Run,
        cluster: &str,
        tries: &[usize],
        within: Duration,
    ) -> Result<Vec<String>, CallFailure> {
        let answer = self
            .client
            .add_job_flow_steps()
            .job_flow_id(cluster)
            .set_steps(Some(steps(run, tries).map_err(refused)?))
            .customize()
            .config_override(once(within))
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "AddJobFlowSteps", &error))?;
        Ok(answer.step_ids.unwrap_or_default())
    }

    /// Asks EMR to end a cluster; it has ended only when a look says so.
    pub async fn terminate(&self, cluster: &str) -> Result<(), CallFailure> {
        self.client
            .terminate_job_flows()
            .job_flow_ids(cluster)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("EMR", "TerminateJobFlows", &error).into())
    }

    fn tags(&self, run: &Run) -> Vec<Tag> {
        let tag = |key: &str, value: String| Tag::builder().key(key).value(value).build();
        let attempt = run.attempt();
        let number = attempt.map_or(0, |attempt| attempt.number);
        let expires = attempt.map_or(run.created, |attempt| attempt.expires);
        let own = [
            tag(TAG_DEPLOYMENT, self.deployment.clone()),
            tag("sluicegate:run", run.id.clone()),
            tag("sluicegate:attempt", number.to_string()),
            tag("sluicegate:expires-at", expires.to_string()),
        ];
        let theirs = run.cluster.tags.iter().map(|(key, value)| tag(key, value.clone()));
        own.into_iter().chain(theirs).collect()
    }
}

fn refused(error: aws_sdk_emr::error::BuildError) -> CallFailure {
    CallFailure::Refused(error.to_string())
}

/// For calls without a client token: one attempt, no longer than `within`.
fn once(within: Duration) -> aws_sdk_emr::config::Builder {
    let bounded = TimeoutConfig::builder()
        .operation_attempt_timeout(within)
        .operation_timeout(within)
        .build();
    aws_sdk_emr::config::Builder::new()
        .retry_config(RetryConfig::disabled())
        .timeout_config(bounded)
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

type Built<T> = Result<T, aws_sdk_emr::error::BuildError>;

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

fn steps(run: &Run, tries: &[usize]) -> Built<Vec<StepConfig>> {
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

fn cluster_state(name: &str) -> Option<ClusterState> {
    Some(match name {
        "STARTING" => ClusterState::Starting,
        "BOOTSTRAPPING" => ClusterState::Bootstrapping,
        "RUNNING" => ClusterState::Running,
        "WAITING" => ClusterState::Waiting,
        "TERMINATING" => ClusterState::Terminating,
        "TERMINATED" => ClusterState::Terminated,
        "TERMINATED_WITH_ERRORS" => ClusterState::TerminatedWithErrors,
        _ => return None,
    })
}

fn step_seen(step: StepSummary) -> Option<StepSeen> {
    let status = step.status?;
    let state = match status.state?.as_str() {
        "PENDING" => StepState::Pending,
        "CANCEL_PENDING" | "RUNNING" => StepState::Running,
        "COMPLETED" => StepState::Completed,
        "FAILED" => StepState::Failed,
        "CANCELLED" | "INTERRUPTED" => StepState::Cancelled,
        // A state that this version does not know is no end.
        _ => StepState::Running,
    };
    let failure = status.failure_details.and_then(|details| {
        // EMR's reason where it has none; its message says more then.
        let reason =
            details.reason.filter(|reason| reason.trim_end_matches('.') != "Unknown Error");
        let words: Vec<_> = [reason, details.message].into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(": "))
    });
    let ended = status
        .timeline
        .and_then(|timeline| timeline.end_date_time)
        .and_then(|at| Timestamp::from_second(at.secs()).ok());
    Some(StepSeen { id: step.id?, name: step.name.unwrap_or_default(), state, ended, failure })
}
