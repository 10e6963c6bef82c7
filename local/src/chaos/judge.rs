//! The invariants of a chaos run, each as one function over the evidence: what
//! sluicegate promises, seen from outside. Not for gathering or showing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::evidence::Evidence;
use super::plan::{DEPLOYMENT, Key, Plan, TASKS};
use crate::stage::observe::{Cluster, Step};

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub invariant: &'static str,
    /// What is wrong.
    pub what: String,
    /// Where to look in the folder of the run.
    pub look: String,
}

type Invariant = fn(&Plan, &Evidence, &mut Vec<Violation>);

const INVARIANTS: [Invariant; 10] = [
    converged,
    nothing_lost,
    nothing_twice,
    one_worker,
    next_attempt_after_the_last,
    nothing_alive,
    only_our_own,
    everything_announced,
    recorded_before_deleted,
    processes_behave,
];

/// Every broken promise; none if all is well.
pub fn judge(plan: &Plan, evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for invariant in INVARIANTS {
        invariant(plan, evidence, &mut violations);
    }
    violations
}

impl Violation {
    fn new(invariant: &'static str, what: String, look: impl Into<String>) -> Self {
        Self { invariant, what, look: look.into() }
    }
}

/// Once the faults stop, all comes to rest.
fn converged(_: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    let open = evidence.open.iter().cloned();
    violations.extend(open.map(|what| Violation::new("converged", what, "the daemons' last logs")));
}

/// Every task partition has the state that its data call for, and every message
/// has been taken or put aside.
fn nothing_lost(plan: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    for (key, expected) in &plan.expected {
        let found = evidence.partitions.get(key).map(|partition| partition.state.as_str());
        if found != Some(*expected) {
            let what = format!("{} is {}, not {expected}", name(key), found.unwrap_or("unknown"));
            violations.push(Violation::new("nothing-lost", what, "the tables, dynamodb.sqlite"));
        }
    }
    if evidence.inbox > 0 {
        let what = format!("{} messages are left in the inbox", evidence.inbox);
        violations.push(Violation::new("nothing-lost", what, "calls.jsonl"));
    }
    if evidence.quarantine < plan.unreadable as u64 {
        let what = format!(
            "{} of {} unreadable messages are in quarantine",
            evidence.quarantine, plan.unreadable
        );
        violations.push(Violation::new("nothing-lost", what, "calls.jsonl"));
    }
}

/// Every submission of a step begins at most once, completes at most once in an
/// attempt, and every task partition is executed to success exactly once. What
/// steps wrote agrees with what EMR says.
fn nothing_twice(plan: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    const NAME: &str = "nothing-twice";
    let mut successes: BTreeMap<Key, u32> = BTreeMap::new();
    for (attempt, clusters) in evidence.by_attempt(DEPLOYMENT) {
        let mut begun: BTreeMap<&str, u32> = BTreeMap::new();
        let mut completed: BTreeMap<(Key, &str), u32> = BTreeMap::new();
        for step in clusters.iter().flat_map(|cluster| &cluster.steps) {
            let Some((key, name)) = user_step(step) else { continue };
            *begun.entry(&step.name).or_default() += u32::from(step.started.is_some());
            if step.state == "COMPLETED" {
                *completed.entry((key.clone(), name)).or_default() += 1;
                let is_last = TASKS.contains(&(key.0.as_str(), name));
                *successes.entry(key).or_default() += u32::from(is_last);
            }
        }
        let begun = begun.into_iter().filter(|(_, times)| *times > 1);
        let begun = begun.map(|(step, times)| format!("{step} began {times} times"));
        let completed = completed.into_iter().filter(|(_, times)| *times > 1);
        let completed = completed
            .map(|((key, step), times)| format!("{} {step} completed {times} times", name(&key)));
        let look = format!("the clusters named {DEPLOYMENT}/{attempt}");
        violations.extend(begun.chain(completed).map(|what| Violation::new(NAME, what, &look)));
    }
    for (key, expected) in &plan.expected {
        let times = successes.get(key).copied().unwrap_or(0);
        if times != u32::from(*expected == "succeeded") {
            let what = format!("{} was executed to success {times} times", name(key));
            violations.push(Violation::new(NAME, what, format!("steps/{}.{}.*", key.0, key.1)));
        }
    }
    written_as_executed(evidence, violations);
}

fn written_as_executed(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let mut written: BTreeMap<(&str, bool), u32> = BTreeMap::new();
    for execution in &evidence.executions {
        *written.entry((&execution.id, execution.ended)).or_default() += 1;
    }
    let steps = evidence.clusters.iter().flat_map(|cluster| &cluster.steps);
    for step in steps.filter(|step| user_step(step).is_some()) {
        let times = |ended| written.get(&(step.id.as_str(), ended)).copied().unwrap_or(0);
        let (begun, ended) = (times(false), times(true));
        let completed = step.state == "COMPLETED";
        let agrees = begun <= u32::from(step.started.is_some())
            && ended <= begun
            && (!completed || (begun, ended) == (1, 1));
        if !agrees {
            let what = format!(
                "step {} ({}) is {}, but wrote {begun} beginnings and {ended} ends",
                step.id, step.name, step.state
            );
            violations.push(Violation::new("nothing-twice", what, "steps/"));
        }
    }
}

/// Of several clusters for one attempt one at most executes steps of ours.
fn one_worker(_: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    for (attempt, clusters) in evidence.by_attempt(DEPLOYMENT) {
        let workers: Vec<_> = clusters.iter().filter(|cluster| began(cluster).is_some()).collect();
        if workers.len() > 1 {
            let ids: Vec<_> = workers.iter().map(|cluster| cluster.id.as_str()).collect();
            let what = format!("attempt {attempt} was executed by {}", ids.join(" and "));
            violations.push(Violation::new("one-worker", what, format!("emr/{}", ids[0])));
        }
    }
}

/// No cluster of a run's next attempt works before the last one's has ended.
fn next_attempt_after_the_last(_: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    let attempts = evidence.by_attempt(DEPLOYMENT);
    for (attempt, clusters) in &attempts {
        let Some((run, number)) = attempt.split_once('/') else { continue };
        let Some(earlier) = number.parse().ok().and_then(|number: u32| number.checked_sub(1))
        else {
            continue;
        };
        let earlier = attempts.get(&format!("{run}/{earlier}")).into_iter().flatten();
        let earlier: Vec<_> = earlier.filter(|cluster| began(cluster).is_some()).collect();
        for cluster in clusters {
            let Some(begun) = began(cluster) else { continue };
            for last in &earlier {
                if last.ended.is_none_or(|ended| begun < ended) {
                    let what = format!(
                        "{} of attempt {attempt} worked before {} of the attempt before had ended",
                        cluster.id, last.id
                    );
                    let look = format!("emr/{} and emr/{}", cluster.id, last.id);
                    violations.push(Violation::new("next-attempt", what, look));
                }
            }
        }
    }
}

/// At rest no cluster is alive, and each belongs to an attempt of a run.
fn nothing_alive(_: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    let runs: BTreeMap<_, _> = evidence.runs.iter().map(|run| (run.id.as_str(), run)).collect();
    for (attempt, clusters) in evidence.by_attempt(DEPLOYMENT) {
        let known = attempt.split_once('/').is_some_and(|(run, number)| {
            let attempts = runs.get(run).map_or(0, |run| run.attempts.len());
            number.parse().is_ok_and(|number: usize| (1..=attempts).contains(&number))
        });
        for cluster in clusters {
            let look = format!("emr/{}, request RunJobFlow in requests.jsonl", cluster.id);
            if !cluster.has_ended() {
                let what = format!("{} ({attempt}) is {}", cluster.id, cluster.state);
                violations.push(Violation::new("nothing-alive", what, look));
            } else if !known {
                let what = format!("no run knows of {} ({attempt})", cluster.id);
                violations.push(Violation::new("nothing-alive", what, look));
            }
        }
    }
}

/// Clusters of somebody else are as they were.
fn only_our_own(_: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    let foreign: BTreeSet<_> = evidence.foreign.iter().collect();
    for call in &evidence.requests {
        for cluster in call.clusters.iter().filter(|cluster| foreign.contains(cluster)) {
            let what = format!("{} was called for {cluster}, which is not ours", call.action);
            violations.push(Violation::new("only-our-own", what, "requests.jsonl"));
        }
    }
    for id in &evidence.foreign {
        let cluster = evidence.clusters.iter().find(|cluster| cluster.id == *id);
        if !cluster.is_some_and(|cluster| matches!(cluster.state.as_str(), "WAITING" | "RUNNING")) {
            let what = format!("{id}, which is not ours, does not wait any more");
            violations.push(Violation::new("only-our-own", what, "requests.jsonl"));
        }
    }
}

/// Every state that was entered is told at least once, in its order; a failure
/// as a failure; and each task partition has one end.
fn everything_announced(plan: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    let mut first: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (number, mail) in evidence.mails.iter().enumerate() {
        first.entry(&mail.event).or_insert((number, &mail.severity));
    }
    let mut violate = |what| violations.push(Violation::new("everything-announced", what, "mail/"));
    for (key, expected) in &plan.expected {
        let event = |state: &str| format!("{}/{}/{state}", key.0, key.1);
        let states = ["ready", "running", expected];
        let told: Vec<_> = states.iter().map(|state| first.get(event(state).as_str())).collect();
        for (state, _) in states.iter().zip(&told).filter(|(_, told)| told.is_none()) {
            violate(format!("no mail says that {} is {state}", name(key)));
        }
        if !told.iter().flatten().map(|told| told.0).is_sorted() {
            violate(format!("the mails about {} are not in the order of its states", name(key)));
        }
        if *expected == "failed" && told[2].is_some_and(|told| told.1 != "failure") {
            violate(format!("the mail about the failure of {} is none of a failure", name(key)));
        }
        let other = ["succeeded", "failed", "skipped"].into_iter().filter(|end| end != expected);
        for end in other.filter(|end| first.contains_key(event(end).as_str())) {
            violate(format!("a mail says that {} is {end}", name(key)));
        }
    }
    for run in evidence.runs.iter().filter(|run| run.is_final()) {
        let prefix = format!("run/{}/", run.id);
        let event = format!("/run-{}", run.state);
        let mut events = first.keys();
        if !events.any(|mail| mail.starts_with(&prefix) && mail.ends_with(&event)) {
            violate(format!("no mail says that run {} has {}", run.id, run.state));
        }
    }
}

/// A message is deleted only when what it tells of is in the tables.
fn recorded_before_deleted(_: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    let early = evidence.seen.deleted_early.iter();
    violations.extend(early.map(|object| {
        let what = format!("the message of {object} was deleted before it was recorded");
        Violation::new("recorded-before-deleted", what, "calls.jsonl")
    }));
}

/// No daemon ends by itself once it works, none panics, and each ends in time
/// when it is asked to.
fn processes_behave(_: &Plan, evidence: &Evidence, violations: &mut Vec<Violation>) {
    for misdeed in &evidence.tally.misdeeds {
        let look = misdeed.log.display().to_string();
        violations.push(Violation::new("processes-behave", misdeed.what.clone(), look));
    }
    for log in &evidence.panics {
        violations.push(Violation::new("processes-behave", "a daemon panicked".to_owned(), log));
    }
}

/// When a cluster's first step of ours began; the guards are not among them.
fn began(cluster: &Cluster) -> Option<jiff::Timestamp> {
    let steps = cluster.steps.iter().filter(|step| user_step(step).is_some());
    steps.filter_map(|step| step.started).min()
}

/// Of a step of ours (`task/partition/step/number`) the task partition and the
/// name; None for a guard.
fn user_step(step: &Step) -> Option<(Key, &str)> {
    let mut parts = step.name.split('/');
    let (task, partition, name) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    Some(((task.to_owned(), partition.to_owned()), name))
}

fn name(key: &Key) -> String {
    format!("{} {}", key.0, key.1)
}

#[cfg(test)]
mod tests;
