//! EMR: creates, finds, follows and ends clusters. Calls that create something
//! carry no client token, so the SDK must never repeat them by itself. What a
//! request says is built in `request`.

mod instances;
mod request;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_emr::operation::list_clusters::ListClustersOutput;
use aws_sdk_emr::primitives::DateTime;
use aws_sdk_emr::types::{ClusterStatus, StepCancellationOption, StepSummary};
use jiff::Timestamp;

use self::request::{GuardPlace, TAG_DEPLOYMENT, TAG_EXPIRES};
use super::error::{AwsError, Kind};
use crate::core::run::{CallFailure, ClusterSeen, ClusterState, Run, StepSeen, StepState};
use crate::core::survey::{Listed, Page};
use crate::planted::{Bug, planted};

#[derive(Debug, Clone)]
pub struct Emr {
    client: aws_sdk_emr::Client,
    deployment: String,
    guard: GuardPlace,
}

/// What a cluster's tags say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Neither ended nor about to.
    pub alive: bool,
    pub deployment: Option<String>,
    pub expires: Option<Timestamp>,
}

impl Emr {
    /// `run_table` is where guards write their claims.
    pub fn new(config: &SdkConfig, deployment: &str, run_table: &str) -> Self {
        let region = config.region().map(ToString::to_string).unwrap_or_default();
        let guard = GuardPlace { table: run_table.to_owned(), region };
        // Every call counts against a small quota, so none is repeated behind
        // the governor's back; the next turn is the retry.
        let config = aws_sdk_emr::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .build();
        let client = aws_sdk_emr::Client::from_conf(config);
        Self { client, deployment: deployment.to_owned(), guard }
    }

    /// Creates the cluster of a run's open attempt, its steps included. Never
    /// repeated by the SDK; bounded by `within`.
    pub async fn launch(&self, run: &Run, within: Duration) -> Result<String, CallFailure> {
        let environment = |name: &str| std::env::var(name).ok();
        let request = self.client.run_job_flow();
        let answer =
            request::run_job_flow(request, run, &self.deployment, &self.guard, environment)
                .map_err(|error| CallFailure::Refused(error.to_string()))?
                .customize()
                .config_override(once(within))
                .send()
                .await
                .map_err(|error| AwsError::new("EMR", "RunJobFlow", &error))?;
        let id = answer.job_flow_id.filter(|id| !id.is_empty());
        id.ok_or_else(|| CallFailure::Unknown("RunJobFlow gave no id".to_owned()))
    }

    /// One page of the clusters created since, newest first.
    pub async fn list_clusters(
        &self,
        since: Timestamp,
        marker: Option<String>,
    ) -> Result<Page, AwsError> {
        let answer = self
            .client
            .list_clusters()
            .created_after(DateTime::from_secs(since.as_second()))
            .set_marker(marker)
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "ListClusters", &error))?;
        Ok(page(answer))
    }

    /// One page of the clusters that cost money and take work.
    pub async fn list_live_clusters(&self, marker: Option<String>) -> Result<Page, AwsError> {
        use aws_sdk_emr::types::ClusterState::{Bootstrapping, Running, Starting, Waiting};
        let answer = self
            .client
            .list_clusters()
            .set_cluster_states(Some(vec![Starting, Bootstrapping, Running, Waiting]))
            .set_marker(marker)
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "ListClusters", &error))?;
        Ok(page(answer))
    }

    /// Whose a cluster is by its tags, and until when.
    pub async fn inspect(&self, cluster: &str) -> Result<Inspected, AwsError> {
        let answer = self
            .client
            .describe_cluster()
            .cluster_id(cluster)
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "DescribeCluster", &error))?;
        let found = answer.cluster;
        let status = found.as_ref().and_then(|cluster| cluster.status.clone());
        let tags = found.and_then(|cluster| cluster.tags).unwrap_or_default();
        let tag = |key: &str| {
            let tag = tags.iter().find(|tag| tag.key.as_deref() == Some(key))?;
            tag.value.clone()
        };
        Ok(Inspected {
            alive: status.and_then(cluster_seen).is_some_and(|seen| !seen.state.is_ending()),
            deployment: tag(TAG_DEPLOYMENT),
            expires: tag(TAG_EXPIRES).and_then(|at| at.parse().ok()),
        })
    }

    pub async fn describe(&self, cluster: &str) -> Result<ClusterSeen, AwsError> {
        let answer = self
            .client
            .describe_cluster()
            .cluster_id(cluster)
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "DescribeCluster", &error))?;
        let status = answer.cluster.and_then(|cluster| cluster.status);
        // A state that this version does not know says nothing: look again.
        status.and_then(cluster_seen).ok_or_else(|| AwsError {
            service: "EMR",
            action: "DescribeCluster",
            kind: Kind::Unknown,
            message: format!("{cluster} is in a state unknown to this version"),
        })
    }

    /// One page of a cluster's steps, and where the next begins.
    pub async fn list_steps(
        &self,
        cluster: &str,
        marker: Option<String>,
    ) -> Result<(Vec<StepSeen>, Option<String>), AwsError> {
        let answer = self
            .client
            .list_steps()
            .cluster_id(cluster)
            .set_marker(marker)
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "ListSteps", &error))?;
        let steps = answer.steps.unwrap_or_default().into_iter().filter_map(step_seen);
        Ok((steps.collect(), answer.marker))
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
            .set_steps(Some(request::steps(run, tries, &self.guard)))
            .customize()
            .config_override(once(within))
            .send()
            .await
            .map_err(|error| AwsError::new("EMR", "AddJobFlowSteps", &error))?;
        let ids = answer.step_ids.unwrap_or_default();
        let guards = usize::from(run.cluster.guard);
        let (given, asked) = (ids.len(), tries.len() + guards);
        if given != asked {
            let what = format!("AddJobFlowSteps gave {given} ids for {asked} steps");
            return Err(CallFailure::Unknown(what));
        }
        Ok(ids.into_iter().skip(guards).collect())
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

    /// Asks EMR to cancel steps, running ones too; what has become of them only
    /// a look says.
    pub async fn cancel_steps(&self, cluster: &str, steps: &[String]) -> Result<(), CallFailure> {
        self.client
            .cancel_steps()
            .cluster_id(cluster)
            .set_step_ids(Some(steps.to_vec()))
            .step_cancellation_option(StepCancellationOption::TerminateProcess)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("EMR", "CancelSteps", &error).into())
    }
}

fn page(answer: ListClustersOutput) -> Page {
    let clusters = answer.clusters.unwrap_or_default().into_iter().filter_map(|cluster| {
        let (id, name) = (cluster.id?, cluster.name.unwrap_or_default());
        Some(Listed { id, name, seen: cluster.status.and_then(cluster_seen) })
    });
    Page {
        clusters: clusters.collect(),
        marker: answer.marker.filter(|_| !planted(Bug::FirstClusterPageOnly)),
    }
}

/// For calls without a client token: one attempt, no longer than `within`.
fn once(within: Duration) -> aws_sdk_emr::config::Builder {
    let retries = match planted(Bug::CreationRetried) {
        true => super::retries(),
        false => RetryConfig::disabled(),
    };
    let bounded = TimeoutConfig::builder()
        .operation_attempt_timeout(within)
        .operation_timeout(within)
        .build();
    aws_sdk_emr::config::Builder::new().retry_config(retries).timeout_config(bounded)
}

fn cluster_seen(status: ClusterStatus) -> Option<ClusterSeen> {
    let state = cluster_state(status.state?.as_str())?;
    let ended = status.timeline.and_then(|timeline| instant(timeline.end_date_time));
    let reason = status.state_change_reason.map(|reason| {
        let code = reason.code.map(|code| code.as_str().to_owned());
        [code, reason.message].into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    Some(ClusterSeen { state, reason: reason.unwrap_or_default(), ended })
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

fn instant(at: Option<DateTime>) -> Option<Timestamp> {
    Timestamp::from_second(at?.secs()).ok()
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
    let timeline = status.timeline;
    let created = instant(timeline.as_ref().and_then(|timeline| timeline.creation_date_time));
    let started = instant(timeline.as_ref().and_then(|timeline| timeline.start_date_time));
    let ended = instant(timeline.as_ref().and_then(|timeline| timeline.end_date_time));
    let name = step.name.unwrap_or_default();
    Some(StepSeen { id: step.id?, name, state, created, started, ended, failure })
}
