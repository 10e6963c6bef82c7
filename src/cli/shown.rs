//! What JSON answers say of runs, steps and clusters: in the words of the
//! configuration, with `_` for `-`, and without what only the engine needs. Not
//! how they are stored (see `core::run`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Failure;
use super::output::to_json;
use crate::core::catalog::Retry;
use crate::core::class::FailureClass;
use crate::core::cluster::{ClusterSpec, Fleet};
use crate::core::partition::Partition;
use crate::core::run::{Attempt, ClusterState, Member, Outcome, Run, RunState, Step, StepState};

/// Their keys are the user's.
const NAMED_BY_USER: [&str; 2] = ["configurations", "tags"];

/// A run as `run show` tells it.
#[derive(Debug, Serialize)]
pub struct ShownRun {
    id: String,
    state: RunState,
    profile: String,
    created: Timestamp,
    ended: Option<Timestamp>,
    max_attempts: u32,
    members: Vec<ShownMember>,
    attempts: Vec<ShownAttempt>,
    /// What each attempt asks for.
    asked_for: Value,
    /// Changes that SNS has not yet accepted.
    unpublished: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownMember {
    task: String,
    partition: Partition,
    /// `open`, `being cancelled`, `succeeded`, `failed` or `cancelled`.
    outcome: &'static str,
    reason: Option<String>,
    /// Of its failure.
    class: Option<FailureClass>,
    steps: Vec<ShownStep>,
    outputs: BTreeMap<String, String>,
}

/// A step with its placeholders filled in.
#[derive(Debug, Serialize)]
pub struct ShownStep {
    name: String,
    jar: String,
    main_class: Option<String>,
    args: Vec<String>,
    retry: ShownRetry,
}

#[derive(Debug, Serialize)]
struct ShownRetry {
    attempts: u32,
    delay: String,
    backoff_rate: f64,
}

#[derive(Debug, Serialize)]
struct ShownAttempt {
    number: u32,
    opened: Timestamp,
    expires: Timestamp,
    cluster: Option<String>,
    cluster_state: Option<ClusterState>,
    /// EMR's words for why it ended.
    end_reason: Option<String>,
    /// Why it was lost.
    class: Option<FailureClass>,
    /// It buys on demand what the profile buys as spot.
    on_demand: bool,
    logs: Option<String>,
    tries: Vec<ShownTry>,
}

#[derive(Debug, Serialize)]
struct ShownTry {
    name: String,
    task: Option<String>,
    partition: Option<Partition>,
    step: Option<String>,
    emr_step: Option<String>,
    state: StepState,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    failure: Option<String>,
    class: Option<FailureClass>,
}

impl ShownRun {
    pub fn of(run: &Run) -> Result<Self, Failure> {
        let attempt = run.attempt().map_or(1, |attempt| attempt.number);
        Ok(Self {
            id: run.id.clone(),
            state: run.state,
            profile: run.profile.clone(),
            created: run.created,
            ended: run.ended,
            max_attempts: run.most_attempts(),
            members: run.members.iter().map(|member| shown_member(member, attempt)).collect(),
            attempts: run.attempts.iter().map(|attempt| shown_attempt(run, attempt)).collect(),
            asked_for: cluster(&run.cluster)?,
            unpublished: run.notices.iter().map(|notice| notice.headline.clone()).collect(),
        })
    }
}

impl ShownStep {
    /// As the attempt of that number sends it.
    pub fn of(step: &Step, attempt: u32) -> Self {
        let Step { name, command, retry: Retry { attempts, delay, backoff_rate } } = step;
        Self {
            name: name.clone(),
            jar: command.jar.of_attempt(attempt),
            main_class: command.main_class.clone(),
            args: command.args.iter().map(|arg| arg.of_attempt(attempt)).collect(),
            retry: ShownRetry {
                attempts: *attempts,
                delay: duration(*delay),
                backoff_rate: *backoff_rate,
            },
        }
    }
}

/// As the configuration writes it: `1h 30m`.
pub fn duration(length: SignedDuration) -> String {
    format!("{length:#}")
}

/// Where EMR writes a cluster's logs; those of a step are under `steps/ID/`.
pub fn log_place(run: &Run, attempt: &Attempt) -> Option<String> {
    let (log_uri, cluster) = (run.cluster.log_uri.as_ref()?, attempt.cluster.as_ref()?);
    Some(format!("{}/{cluster}/", log_uri.trim_end_matches('/')))
}

/// What became of a member, in a word, and why.
pub fn outcome(member: &Member) -> (&'static str, Option<&str>) {
    match &member.outcome {
        None if member.cancel.is_some() => ("being cancelled", None),
        None => ("open", None),
        Some(Outcome::Succeeded) => ("succeeded", None),
        Some(Outcome::Failed { reason, .. }) => ("failed", Some(reason.as_str())),
        Some(Outcome::Cancelled { reason }) => ("cancelled", Some(reason.as_str())),
    }
}

/// Of a member's failure.
pub fn class(member: &Member) -> Option<FailureClass> {
    match &member.outcome {
        Some(Outcome::Failed { class, .. }) => *class,
        _ => None,
    }
}

fn shown_member(member: &Member, attempt: u32) -> ShownMember {
    let (outcome, reason) = outcome(member);
    ShownMember {
        task: member.key.task.clone(),
        partition: member.key.partition,
        outcome,
        reason: reason.map(str::to_owned),
        class: class(member),
        steps: member.steps.iter().map(|step| ShownStep::of(step, attempt)).collect(),
        outputs: member.outputs.clone(),
    }
}

fn shown_attempt(run: &Run, attempt: &Attempt) -> ShownAttempt {
    let tries = attempt.tries.iter().map(|step_try| {
        let member = run.members.get(step_try.member);
        let step = member.and_then(|member| member.steps.get(step_try.step));
        ShownTry {
            name: step_try.name.clone(),
            task: member.map(|member| member.key.task.clone()),
            partition: member.map(|member| member.key.partition),
            step: step.map(|step| step.name.clone()),
            emr_step: step_try.id.clone(),
            state: step_try.state,
            started: step_try.started,
            ended: step_try.ended,
            failure: step_try.failure.clone(),
            class: step_try.class(),
        }
    });
    ShownAttempt {
        number: attempt.number,
        opened: attempt.opened,
        expires: attempt.expires,
        cluster: attempt.cluster.clone(),
        cluster_state: attempt.cluster_state,
        end_reason: Some(attempt.end_reason.clone()).filter(|reason| !reason.is_empty()),
        class: attempt.class,
        on_demand: attempt.on_demand,
        logs: log_place(run, attempt),
        tries: tries.collect(),
    }
}

/// A cluster as its profile declares it.
pub fn cluster(spec: &ClusterSpec) -> Result<Value, Failure> {
    let mut fields = fields(spec)?;
    for part in ["fleets", "groups", "image"] {
        fields.remove(part);
    }
    fields.insert("idle_timeout".into(), duration(spec.idle_timeout).into());
    fields.extend(self::fields(&spec.image)?);
    for fleet in &spec.fleets {
        fields.insert(role(&fleet.role)?, fleet_fields(fleet)?.into());
    }
    let mut groups = Map::new();
    for group in &spec.groups {
        let mut fields = self::fields(group)?;
        fields.remove("role");
        groups.insert(role(&group.role)?, fields.into());
    }
    fields.insert("groups".into(), groups.into());
    Ok(in_words(fields.into()))
}

fn fleet_fields(fleet: &Fleet) -> Result<Map<String, Value>, Failure> {
    let mut fields = fields(fleet)?;
    fields.remove("role");
    fields.remove("spot_launch");
    if let Some(launch) = &fleet.spot_launch {
        fields.insert("spot_strategy".into(), to_json(&launch.strategy)?);
        fields.insert("spot_timeout".into(), duration(launch.timeout).into());
        fields.insert("spot_timeout_action".into(), to_json(&launch.timeout_action)?);
    }
    Ok(fields)
}

fn role(role: &impl Serialize) -> Result<String, Failure> {
    Ok(to_json(role)?.as_str().unwrap_or_default().to_owned())
}

fn fields(value: &impl Serialize) -> Result<Map<String, Value>, Failure> {
    match to_json(value)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

/// Without what is empty, and with one spelling of keys.
fn in_words(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let words = fields.into_iter().map(|(key, value)| match key {
                key if NAMED_BY_USER.contains(&key.as_str()) => (key, value),
                key => (key.replace('-', "_"), in_words(value)),
            });
            Value::Object(words.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(items) => items.into_iter().map(in_words).collect(),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_told_as_it_was_declared() {
        let config = crate::config::load(Path::new("config/example.toml")).unwrap();
        let told = cluster(&config.catalog.profiles["etl"].cluster).unwrap();
        let volumes = json!([{ "type": "gp3", "size_gib": 100, "count": 1 }]);
        let core = json!({
            "instance_types": [
                { "type": "m5.xlarge", "ebs": volumes },
                { "type": "m5a.xlarge", "ebs": volumes },
                { "type": "m5.2xlarge", "weight": 2, "ebs": volumes },
            ],
            "on_demand": 2,
            "spot": 4,
            "spot_strategy": "price-capacity-optimized",
            "spot_timeout": "10m",
            "spot_timeout_action": "switch-to-on-demand",
        });
        let expected = json!({
            "release_label": "emr-7.13.0",
            "applications": ["Spark", "Hive"],
            "service_role": "sluicegate-emr-service",
            "instance_profile": "sluicegate-emr-ec2",
            "log_uri": "s3://example-logs/emr/",
            "visible_to_all_users": true,
            "subnets": ["subnet-0123456789abcdef0"],
            "primary": { "instance_types": [{ "type": "m5.xlarge" }], "on_demand": 1, "spot": 0 },
            "core": core,
            "configurations": { "spark-defaults": { "spark.sql.shuffle.partitions": "64" } },
            "tags": { "cost-center": "analytics" },
            "idle_timeout": "30m",
            "step_concurrency": 1,
            "guard": true,
            "deadline": "s3://example-code/sluicegate/deadline.sh",
        });
        assert_eq!(told, expected);
    }
}
