//! The EventBridge events of EMR, in the shape and wording of the real ones.
//! Not for sending them.

use jiff::Timestamp;
use serde_json::json;

use super::model::{Cluster, ClusterState, Effect, Reason, Step, StepState};

/// The source of every event here.
pub const SOURCE: &str = "aws.emr";

/// A cluster is now in its state.
pub fn cluster_changed(cluster: &Cluster, now: Timestamp) -> Effect {
    let subject = format!("Amazon EMR cluster {} ({})", cluster.id, cluster.request.name);
    let at = minute(now);
    let code = cluster.reason.code.map(|code| json!(code));
    let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or_default();
    let (severity, message) = match cluster.state {
        ClusterState::Starting => {
            ("INFO", format!("{subject} was requested at {at} and is being created."))
        }
        ClusterState::Bootstrapping => ("INFO", format!("{subject} began bootstrapping at {at}.")),
        ClusterState::Running => ("INFO", format!("{subject} began running steps at {at}.")),
        ClusterState::Waiting => ("INFO", format!("{subject} is waiting for steps since {at}.")),
        ClusterState::Terminating => ("INFO", format!("{subject} began terminating at {at}.")),
        ClusterState::Terminated => {
            ("INFO", format!("{subject} has terminated at {at} with a reason of {code}."))
        }
        ClusterState::TerminatedWithErrors => (
            "CRITICAL",
            format!("{subject} has terminated with errors at {at} with a reason of {code}."),
        ),
    };
    Effect::Announce {
        detail_type: "EMR Cluster State Change",
        detail: json!({
            "severity": severity,
            "stateChangeReason": reason_text(&cluster.reason),
            "name": cluster.request.name,
            "clusterId": cluster.id,
            "state": cluster.state,
            "message": message,
        }),
    }
}

/// A step is now in its state.
pub fn step_changed(cluster: &Cluster, step: &Step, now: Timestamp) -> Effect {
    let subject = format!("Step {} ({})", step.id, step.name);
    let place = format!("Amazon EMR cluster {} ({})", cluster.id, cluster.request.name);
    let at = minute(now);
    let (severity, message) = match step.state {
        StepState::Pending => {
            ("INFO", format!("{subject} was added to {place} at {at} and is pending execution."))
        }
        StepState::Running => ("INFO", format!("{subject} in {place} started running at {at}.")),
        StepState::CancelPending => {
            ("WARN", format!("{subject} in {place} is pending cancellation since {at}."))
        }
        StepState::Completed => {
            ("INFO", format!("{subject} in {place} completed execution at {at}."))
        }
        StepState::Cancelled => ("WARN", format!("{subject} in {place} was cancelled at {at}.")),
        StepState::Failed => ("ERROR", format!("{subject} in {place} failed at {at}.")),
        StepState::Interrupted => {
            ("ERROR", format!("{subject} in {place} was interrupted at {at}."))
        }
    };
    Effect::Announce {
        detail_type: "EMR Step Status Change",
        detail: json!({
            "severity": severity,
            "actionOnFailure": step.action_on_failure,
            "stepId": step.id,
            "name": step.name,
            "clusterId": cluster.id,
            "state": step.state,
            "message": message,
        }),
    }
}

/// EMR puts the reason into a string of JSON, not into an object.
fn reason_text(reason: &Reason) -> String {
    match reason.code {
        Some(code) => json!({"code": code, "message": reason.message}).to_string(),
        None => json!({"code": ""}).to_string(),
    }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
