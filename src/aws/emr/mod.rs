//! EMR: creates, finds, follows and ends clusters. Calls that create something
//! carry no client token, so the SDK must never repeat them by itself. What a
//! request says is built in `request`.

mod instances;
mod request;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_emr::primitives::DateTime;
use aws_sdk_emr::types::StepSummary;
use jiff::Timestamp;

use super::error::{AwsError, Kind};
use crate::core::run::{CallFailure, ClusterSeen, ClusterState, Run, StepSeen, StepState};

#[derive(Debug, Clone)]
pub struct Emr {
    client: aws_sdk_emr::Client,
    deployment: String,
}

impl Emr {
    pub fn new(config: &SdkConfig, deployment: &str) -> Self {
        Self { client: aws_sdk_emr::Client::new(config), deployment: deployment.to_owned() }
    }

    /// Creates the cluster of a run's open attempt, its steps included. Never
    /// repeated by the SDK; bounded by `within`.
    pub async fn launch(&self, run: &Run, within: Duration) -> Result<String, CallFailure> {
        let environment = |name: &str| std::env::var(name).ok();
        let request = self.client.run_job_flow();
        let answer = request::run_job_flow(request, run, &self.deployment, environment)
            .map_err(|error| CallFailure::Refused(error.to_string()))?
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
            .set_steps(Some(request::steps(run, tries)))
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
