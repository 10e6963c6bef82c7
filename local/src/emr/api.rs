//! The actions of the EMR API on the state machine: request in, answer or
//! refusal out. Synchronous, like the machine, so that a simulator can call
//! it in process. Not for HTTP, nor for carrying out effects.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::machine::{Machine, Refusal, idle_timeout};
use super::model::{Cluster, Now, StepState};
use super::parse::{parse, refused};
use super::query::{
    AddJobFlowSteps, AddTags, CancelSteps, DescribeStep, InstanceState, ListClusters,
    ListInstances, ListSteps, ModifyCluster, OfCluster, OfJobFlows, PutAutoTerminationPolicy,
    RemoveTags, SetKeepJobFlowAlive, SetTerminationProtection, SetVisibleToAllUsers,
    StepCancellation,
};
use super::request::RunJobFlow;
use super::rules::{check_idle_timeout, check_run_job_flow, check_steps, check_tags};
use super::view::{self, Place};
use crate::wire::ApiError;

/// Job flows in one call that changes them.
const JOB_FLOWS_MAX: usize = 10;
/// Step ids in one ListSteps.
const STEP_IDS_MAX: usize = 10;
const STEP_CONCURRENCY: std::ops::RangeInclusive<i32> = 1..=256;

/// Answers one call; the effects are left in the machine.
pub fn call(
    machine: &mut Machine,
    place: &Place,
    action: &str,
    body: Value,
    now: Now,
) -> Result<Value, ApiError> {
    match action {
        "RunJobFlow" => run_job_flow(machine, place, parse(body)?, now),
        "AddJobFlowSteps" => add_job_flow_steps(machine, place, parse(body)?, now),
        "CancelSteps" => cancel_steps(machine, parse(body)?, now),
        "TerminateJobFlows" => terminate_job_flows(machine, &parse(body)?, now),
        "DescribeCluster" => describe_cluster(machine, place, &parse(body)?),
        "ListClusters" => list_clusters(machine, place, &parse(body)?),
        "DescribeStep" => describe_step(machine, &parse(body)?),
        "ListSteps" => list_steps(machine, &parse(body)?),
        "ListInstances" => list_instances(machine, &parse(body)?),
        "ListInstanceFleets" => list_parts(machine, parse(body)?, "InstanceFleets", view::fleets),
        "ListInstanceGroups" => list_parts(machine, parse(body)?, "InstanceGroups", view::groups),
        "ListBootstrapActions" => {
            list_parts(machine, parse(body)?, "BootstrapActions", view::bootstrap_actions)
        }
        "AddTags" => add_tags(machine, parse(body)?, now),
        "RemoveTags" => remove_tags(machine, &parse(body)?, now),
        "SetTerminationProtection" => {
            let request: SetTerminationProtection = parse(body)?;
            update_job_flows(machine, &request.job_flow_ids, now, |cluster| {
                cluster.termination_protected = request.termination_protected;
            })
        }
        "SetVisibleToAllUsers" => {
            let request: SetVisibleToAllUsers = parse(body)?;
            update_job_flows(machine, &request.job_flow_ids, now, |cluster| {
                cluster.visible_to_all_users = request.visible_to_all_users;
            })
        }
        "SetKeepJobFlowAliveWhenNoSteps" => {
            let request: SetKeepJobFlowAlive = parse(body)?;
            update_job_flows(machine, &request.job_flow_ids, now, |cluster| {
                cluster.keep_alive = request.keep_job_flow_alive_when_no_steps;
            })
        }
        "ModifyCluster" => modify_cluster(machine, &parse(body)?, now),
        "PutAutoTerminationPolicy" => put_auto_termination_policy(machine, &parse(body)?, now),
        "GetAutoTerminationPolicy" => {
            let request: OfCluster = parse(body)?;
            let idle = find(machine, &request.cluster_id)?.idle_timeout;
            Ok(idle.map_or(
                json!({}),
                |idle| json!({"AutoTerminationPolicy": {"IdleTimeout": idle.as_secs()}}),
            ))
        }
        "GetManagedScalingPolicy" => {
            let request: OfCluster = parse(body)?;
            let policy = &find(machine, &request.cluster_id)?.request.managed_scaling_policy;
            Ok(view::compact(json!({"ManagedScalingPolicy": policy})))
        }
        "RemoveAutoTerminationPolicy" => {
            let request: OfCluster = parse(body)?;
            update_cluster(machine, &request.cluster_id, now, |cluster| {
                cluster.idle_timeout = None;
            })
        }
        unknown => Err(ApiError::bad_request(
            "UnknownOperationException",
            format!("the local EMR has no action {unknown}"),
        )),
    }
}

fn run_job_flow(
    machine: &mut Machine,
    place: &Place,
    request: RunJobFlow,
    now: Now,
) -> Result<Value, ApiError> {
    check_run_job_flow(&request)?;
    let id = machine.run_job_flow(request, now).map_err(of_job_flow)?;
    let arn = view::arn(find(machine, &id)?, place);
    Ok(json!({"JobFlowId": id, "ClusterArn": arn}))
}

fn add_job_flow_steps(
    machine: &mut Machine,
    place: &Place,
    request: AddJobFlowSteps,
    now: Now,
) -> Result<Value, ApiError> {
    check_steps(&request.steps)?;
    let id = request.job_flow_id;
    let steps = machine.add_steps(&id, request.steps, now).map_err(of_job_flow)?;
    let arn = view::arn(find(machine, &id)?, place);
    Ok(json!({"StepIds": steps, "ClusterArn": arn}))
}

fn cancel_steps(machine: &mut Machine, request: CancelSteps, now: Now) -> Result<Value, ApiError> {
    let id = &request.cluster_id;
    let force = request.step_cancellation_option == Some(StepCancellation::TerminateProcess);
    let infos = machine
        .cancel_steps(id, &request.step_ids, force, now)
        .map_err(|refusal| of_cluster(refusal, id))?
        .into_iter()
        .map(|cancellation| match cancellation.refused {
            None => json!({"StepId": cancellation.step, "Status": "SUBMITTED"}),
            Some(state) => json!({
                "StepId": cancellation.step,
                "Status": "FAILED",
                "Reason": format!("The step is already in state {}.", name(state)),
            }),
        })
        .collect::<Vec<_>>();
    Ok(json!({"CancelStepsInfoList": infos}))
}

fn terminate_job_flows(
    machine: &mut Machine,
    request: &OfJobFlows,
    now: Now,
) -> Result<Value, ApiError> {
    check_job_flows(&request.job_flow_ids)?;
    machine.terminate(&request.job_flow_ids, now).map_err(of_job_flow)?;
    Ok(Value::Null)
}

fn describe_cluster(
    machine: &Machine,
    place: &Place,
    request: &OfCluster,
) -> Result<Value, ApiError> {
    let cluster = find(machine, &request.cluster_id)?;
    Ok(json!({"Cluster": view::cluster(cluster, place)}))
}

fn list_clusters(
    machine: &Machine,
    place: &Place,
    request: &ListClusters,
) -> Result<Value, ApiError> {
    let within = |created: Timestamp| {
        request.created_after.is_none_or(|after| created >= after)
            && request.created_before.is_none_or(|before| created <= before)
    };
    let wanted = |cluster: &&Cluster| {
        let states = &request.cluster_states;
        within(cluster.created) && (states.is_empty() || states.contains(&cluster.state))
    };
    let found = machine.clusters().filter(wanted);
    let entries = found.map(|cluster| (cluster.number, view::cluster_summary(cluster, place)));
    page("Clusters", entries.collect(), request.marker.as_deref(), machine.page())
}

fn describe_step(machine: &Machine, request: &DescribeStep) -> Result<Value, ApiError> {
    let step = find(machine, &request.cluster_id)?
        .step(&request.step_id)
        .ok_or_else(|| no_such_step(&request.step_id))?;
    Ok(json!({"Step": view::step(step)}))
}

fn list_steps(machine: &Machine, request: &ListSteps) -> Result<Value, ApiError> {
    let cluster = find(machine, &request.cluster_id)?;
    let ids = &request.step_ids;
    if ids.len() > STEP_IDS_MAX {
        return Err(refused(format!("At most {STEP_IDS_MAX} stepIds may be given.")));
    }
    if let Some(unknown) = ids.iter().find(|id| cluster.step(id).is_none()) {
        return Err(no_such_step(unknown));
    }
    let states = &request.step_states;
    let steps = (0u64..).zip(&cluster.steps);
    let wanted = steps.filter(|(_, step)| {
        (ids.is_empty() || ids.contains(&step.id))
            && (states.is_empty() || states.contains(&step.state))
    });
    let entries = wanted.map(|(number, step)| (number, view::step(step)));
    page("Steps", entries.collect(), request.marker.as_deref(), machine.page())
}

fn list_instances(machine: &Machine, request: &ListInstances) -> Result<Value, ApiError> {
    let part = request.instance_fleet_id.as_ref().or(request.instance_group_id.as_ref());
    let mut roles = request.instance_group_types.clone();
    roles.extend(request.instance_fleet_type);
    let states: Vec<&str> = request.instance_states.iter().copied().map(state_name).collect();
    let instances = view::instances(find(machine, &request.cluster_id)?);
    let wanted = instances.into_iter().filter(|instance| {
        part.is_none_or(|part| *part == instance.part)
            && (roles.is_empty() || roles.contains(&instance.role))
            && (states.is_empty() || states.contains(&instance.state))
    });
    let answers = wanted.map(|instance| instance.answer).collect();
    page("Instances", in_order(answers), request.marker.as_deref(), machine.page())
}

fn list_parts(
    machine: &Machine,
    request: OfCluster,
    name: &str,
    parts: fn(&Cluster) -> Vec<Value>,
) -> Result<Value, ApiError> {
    let parts = parts(find(machine, &request.cluster_id)?);
    page(name, in_order(parts), request.marker.as_deref(), machine.page())
}

fn add_tags(machine: &mut Machine, request: AddTags, now: Now) -> Result<Value, ApiError> {
    check_tags(&request.tags)?;
    update_cluster(machine, &request.resource_id, now, |cluster| {
        let tags = request.tags.into_iter();
        cluster.tags.extend(tags.map(|tag| (tag.key, tag.value)));
    })
}

fn remove_tags(machine: &mut Machine, request: &RemoveTags, now: Now) -> Result<Value, ApiError> {
    update_cluster(machine, &request.resource_id, now, |cluster| {
        cluster.tags.retain(|key, _| !request.tag_keys.contains(key));
    })
}

fn modify_cluster(
    machine: &mut Machine,
    request: &ModifyCluster,
    now: Now,
) -> Result<Value, ApiError> {
    let level = request.step_concurrency_level;
    if level.is_some_and(|level| !STEP_CONCURRENCY.contains(&level)) {
        return Err(refused("stepConcurrencyLevel must be between 1 and 256."));
    }
    update_cluster(machine, &request.cluster_id, now, |cluster| {
        let level = level.or(cluster.request.step_concurrency_level);
        cluster.request.step_concurrency_level = level;
    })?;
    let level = find(machine, &request.cluster_id)?.step_concurrency();
    Ok(json!({"StepConcurrencyLevel": level}))
}

fn put_auto_termination_policy(
    machine: &mut Machine,
    request: &PutAutoTerminationPolicy,
    now: Now,
) -> Result<Value, ApiError> {
    let policy = request.auto_termination_policy.as_ref();
    policy.map_or(Ok(()), check_idle_timeout)?;
    update_cluster(machine, &request.cluster_id, now, |cluster| {
        cluster.idle_timeout = idle_timeout(policy);
    })
}

fn update_cluster(
    machine: &mut Machine,
    id: &str,
    now: Now,
    apply: impl FnOnce(&mut Cluster),
) -> Result<Value, ApiError> {
    let updated = machine.update(id, now, apply);
    updated.map_err(|refusal| of_cluster(refusal, id))?;
    Ok(json!({}))
}

fn update_job_flows(
    machine: &mut Machine,
    ids: &[String],
    now: Now,
    apply: impl Fn(&mut Cluster),
) -> Result<Value, ApiError> {
    check_job_flows(ids)?;
    for id in ids {
        machine.open_cluster(id).map_err(of_job_flow)?;
    }
    for id in ids {
        machine.update(id, now, &apply).map_err(of_job_flow)?;
    }
    Ok(Value::Null)
}

fn check_job_flows(ids: &[String]) -> Result<(), ApiError> {
    if (1..=JOB_FLOWS_MAX).contains(&ids.len()) {
        return Ok(());
    }
    Err(refused(format!("jobFlowIds must have between 1 and {JOB_FLOWS_MAX} entries.")))
}

fn find<'a>(machine: &'a Machine, id: &str) -> Result<&'a Cluster, ApiError> {
    let found = machine.cluster(id);
    found.ok_or_else(|| of_cluster(Refusal::NoSuchCluster, id))
}

/// Newest first, a page at a time; the marker is the last number shown, so
/// that clusters created meanwhile shift nothing.
fn page(
    name: &str,
    mut entries: Vec<(u64, Value)>,
    marker: Option<&str>,
    size: usize,
) -> Result<Value, ApiError> {
    entries.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    if let Some(marker) = marker {
        let last: u64 = marker.parse().map_err(|_| {
            ApiError::bad_request("InvalidRequestException", "Marker is not valid.")
        })?;
        entries.retain(|(number, _)| *number < last);
    }
    let more = entries.len() > size;
    entries.truncate(size);
    let marker = entries.last().map(|(number, _)| number.to_string());
    let shown: Vec<Value> = entries.into_iter().map(|(_, entry)| entry).collect();
    let mut answer = json!({ name: shown });
    if let (true, Some(marker)) = (more, marker) {
        answer["Marker"] = json!(marker);
    }
    Ok(answer)
}

/// Numbers entries so that paging, newest first, keeps their order.
fn in_order(entries: Vec<Value>) -> Vec<(u64, Value)> {
    (0u64..).zip(entries.into_iter().rev()).collect()
}

/// How the actions that speak of clusters word a refusal.
fn of_cluster(refusal: Refusal, id: &str) -> ApiError {
    match refusal {
        Refusal::NoSuchCluster => ApiError::bad_request(
            "InvalidRequestException",
            format!("Cluster id '{id}' is not valid."),
        ),
        Refusal::NoSuchStep(step) => no_such_step(&step),
        other => of_job_flow(other),
    }
}

/// How the older actions, which speak of job flows, word it.
fn of_job_flow(refusal: Refusal) -> ApiError {
    let message = match refusal {
        Refusal::NoSuchCluster => "Specified job flow ID does not exist.".to_owned(),
        Refusal::Closing => "A job flow that is shutting down, terminated, or finished may not be \
                             modified."
            .to_owned(),
        Refusal::Protected => "Could not shut down one or more job flows since they are \
                               termination protected."
            .to_owned(),
        Refusal::TooManySteps => "Maximum number of active steps(State = 'Running', 'Pending' or \
                                  'Cancel_Pending') for cluster exceeded."
            .to_owned(),
        Refusal::MustContinue => "ActionOnFailure must be CONTINUE when the cluster's \
                                  stepConcurrencyLevel is greater than 1."
            .to_owned(),
        Refusal::NoSuchStep(_) | Refusal::NotRunning => refusal.to_string(),
    };
    refused(message)
}

fn no_such_step(id: &str) -> ApiError {
    ApiError::bad_request("InvalidRequestException", format!("Step id '{id}' is not valid."))
}

fn name(state: StepState) -> String {
    json!(state).as_str().unwrap_or_default().to_owned()
}

fn state_name(state: InstanceState) -> &'static str {
    match state {
        InstanceState::AwaitingFulfillment => "AWAITING_FULFILLMENT",
        InstanceState::Provisioning => "PROVISIONING",
        InstanceState::Bootstrapping => "BOOTSTRAPPING",
        InstanceState::Running => "RUNNING",
        InstanceState::Terminated => "TERMINATED",
    }
}
