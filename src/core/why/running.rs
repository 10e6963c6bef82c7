//! What the run of a task partition is doing for it, and how far its load is.

use jiff::Timestamp;

use super::{Cause, Why, clock};
use crate::core::catalog::{Catalog, Task};
use crate::core::load::{Stage, Trouble};
use crate::core::run::{Attempt, ClusterState, Run, RunState, StepState, StepTry};
use crate::core::task::TaskPartition;

pub(super) fn running(
    item: &TaskPartition,
    run: Option<&Run>,
    now: Timestamp,
    why: &mut Why,
) -> String {
    let id = item.run.as_deref().unwrap_or("?");
    why.cause = Some(Cause::Run);
    let Some(run) = run else {
        return format!("is running in run {id}, which cannot be found");
    };
    let start = format!("is running in run {id}");
    let Some(attempt) = run.attempt() else { return start };
    why.cluster.clone_from(&attempt.cluster);
    let start = match run.attempts.len() {
        1 => start,
        number => {
            why.class = run.attempts.iter().rev().find_map(|attempt| attempt.class);
            let after =
                why.class.map_or_else(String::new, |class| format!(" after {}", class.name()));
            format!("{start}, attempt {number} of {}{after}", run.most_attempts())
        }
    };
    let index = run.members.iter().position(|member| member.key == item.key);
    let doing = match (run.state, &attempt.cluster) {
        (_, None) => launching(run, attempt, now, why),
        (RunState::Terminating, Some(cluster)) if run.is_given_up() => {
            why.cause = Some(Cause::ClusterEnding);
            format!("cluster {cluster} was given up, as nothing ran on it, and is being terminated")
        }
        (RunState::Terminating, Some(cluster)) => {
            why.cause = Some(Cause::ClusterEnding);
            format!("all its work has ended and cluster {cluster} is being terminated")
        }
        (_, Some(cluster)) => on_cluster(run, index, attempt, cluster, now, why),
    };
    let doing = match attempt.refused.last() {
        Some(refused) => format!("{doing}; cluster {refused} was refused by its guard"),
        None => doing,
    };
    let member = index.and_then(|index| run.members.get(index));
    if let Some(asked) = member.and_then(|member| member.cancel.as_ref()) {
        why.cause = Some(Cause::Cancelling);
        let since = clock(asked.at, now);
        return format!("{start} and is being cancelled since {since} {asked}: {doing}");
    }
    format!("{start}: {doing}")
}

fn launching(run: &Run, attempt: &Attempt, now: Timestamp, why: &mut Why) -> String {
    let Some(at) = attempt.launch.send_at else {
        why.cause = Some(Cause::Cluster);
        return format!("its cluster is being created since {}", clock(attempt.opened, now));
    };
    if at <= now {
        why.cause = Some(Cause::Cluster);
        return "its cluster is about to be asked for".to_owned();
    }
    why.until = Some(at);
    let at = clock(at, now);
    let (cause, words) = match attempt.launch.throttled {
        _ if run.is_delayed() => (Cause::Retry, format!("its next cluster is asked for at {at}")),
        0 => (Cause::Quota, format!("EMR's quota has no room for its cluster before {at}")),
        _ => {
            let words = "EMR has refused to create its cluster for now, the next try is at";
            (Cause::Quota, format!("{words} {at}"))
        }
    };
    why.cause = Some(cause);
    words
}

fn on_cluster(
    run: &Run,
    index: Option<usize>,
    attempt: &Attempt,
    cluster: &str,
    now: Timestamp,
    why: &mut Why,
) -> String {
    match attempt.cluster_state {
        None | Some(ClusterState::Starting | ClusterState::Bootstrapping) => {
            return starting(run, attempt, cluster, now, why);
        }
        Some(state) if state.is_ending() => {
            let refused = attempt.is_refused();
            why.cause = Some(if refused { Cause::Guard } else { Cause::ClusterEnding });
            let by = if refused { ", as its guard has refused it" } else { "" };
            return format!("cluster {cluster} is {} before its work was done{by}", state.name());
        }
        _ if attempt.is_refused() => {
            why.cause = Some(Cause::Guard);
            return format!(
                "the guard of its last steps has refused them on cluster {cluster}: they are added \
                 again as soon as it is certain that no other copy of them runs"
            );
        }
        _ => {}
    }
    let Some(index) = index else { return format!("cluster {cluster} works") };
    if let Some(at) = run.retry_at(index).filter(|at| *at > now) {
        (why.cause, why.until) = (Some(Cause::Retry), Some(at));
        let failed = attempt
            .tries
            .iter()
            .rfind(|step_try| step_try.member == index && step_try.state == StepState::Failed);
        let step = failed.map_or("a step", |failed| step_name(run, failed));
        let at = clock(at, now);
        return format!("step {step} failed on cluster {cluster} and is tried again at {at}");
    }
    let open = |step_try: &&StepTry| !step_try.state.has_ended();
    let own = attempt.tries.iter().filter(|step_try| step_try.member == index).find(open);
    let is_submitted = |own: &StepTry| own.state == StepState::Submitted;
    if own.is_none_or(is_submitted)
        && let Some(words) = adding(attempt, cluster, now, why)
    {
        return words;
    }
    why.cause = Some(Cause::Queue);
    let running = attempt.tries.iter().find(|step_try| step_try.state == StepState::Running);
    match (own, running) {
        (Some(own), _) if own.state == StepState::Running => works(run, own, cluster, now, why),
        (Some(own), Some(other)) => {
            let whose = run.members.get(other.member);
            let whose = whose.map_or_else(String::new, |member| format!(" of {}", member.key));
            format!(
                "step {} waits on cluster {cluster} for step {}{whose}",
                step_name(run, own),
                step_name(run, other)
            )
        }
        (Some(own), None) => {
            format!("step {} is queued on cluster {cluster}", step_name(run, own))
        }
        (None, _) => format!("its next step is about to be added to cluster {cluster}"),
    }
}

fn starting(run: &Run, attempt: &Attempt, cluster: &str, now: Timestamp, why: &mut Why) -> String {
    why.cause = Some(Cause::Cluster);
    let doing = attempt.cluster_state.unwrap_or(ClusterState::Starting).name();
    let words = format!("cluster {cluster} is {doing} since {}", clock(attempt.opened, now));
    match run.given_up_at() {
        Some(at) => {
            why.until = Some(at);
            format!("{words}, and is given up at {} (stall-timeout)", clock(at, now))
        }
        None => words,
    }
}

/// Its own step runs.
fn works(run: &Run, own: &StepTry, cluster: &str, now: Timestamp, why: &mut Why) -> String {
    why.cause = Some(Cause::Step);
    let since = own.started.map_or_else(String::new, |at| format!(" since {}", clock(at, now)));
    let words = format!("step {} runs on cluster {cluster}{since}", step_name(run, own));
    match run.cancelled_at(own) {
        Some(at) if at > now => {
            why.until = Some(at);
            let at = clock(at, now);
            format!("{words}, and is cancelled at {at} after its attempt-timeout")
        }
        Some(_) => format!("{words}, and is being cancelled after its attempt-timeout"),
        None => words,
    }
}

/// Steps that are added later, as EMR's quota or EMR itself wants it.
fn adding(attempt: &Attempt, cluster: &str, now: Timestamp, why: &mut Why) -> Option<String> {
    let adding = attempt.adding.as_ref()?;
    let send_at = adding.send_at.filter(|at| *at > now)?;
    (why.cause, why.until) = (Some(Cause::Quota), Some(send_at));
    let at = clock(send_at, now);
    Some(match adding.throttled {
        0 => format!("EMR's quota has no room for its next steps on cluster {cluster} before {at}"),
        _ => format!(
            "EMR has refused its next steps on cluster {cluster} for now, the next try is at {at}"
        ),
    })
}

pub(super) fn loading(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    now: Timestamp,
    why: &mut Why,
) -> String {
    why.cause = Some(Cause::Load);
    let Some(load) = &item.load else {
        return "is loading, but nothing is stored of its load".to_owned();
    };
    let Some(spec) = &task.load else {
        return "is loading, but its task declares no load any more: declare it again".to_owned();
    };
    let (table, place) = (spec.table.plain(), &spec.warehouse);
    let into = format!("is loading into {table} of warehouse {place}");
    let attempts = catalog.warehouses.get(place).map_or(0, |warehouse| warehouse.attempts);
    let number = format!("attempt {} of {attempts}", load.number());
    let words = match &load.stage {
        Stage::Prepare { from } if *from > now => {
            (why.cause, why.until) = (Some(Cause::Retry), Some(*from));
            let failure = load.failure.as_deref().unwrap_or("no answer says why");
            let failure = failure.trim_end_matches('.');
            format!("{into}: {number} comes at {}, after: {failure}", clock(*from, now))
        }
        Stage::Prepare { .. } => {
            format!("{into}: {number} begins, or waits until others with its ledger have ended")
        }
        Stage::Send { .. } => format!("{into}: {number} is about to be sent"),
        Stage::Execute { statement, since, .. } => {
            format!("{into}: {number} runs since {} as {statement}", clock(*since, now))
        }
        Stage::Settle => format!("{into}: {number} has ended, and the ledger is asked"),
    };
    match &load.trouble {
        Some(Trouble { since, words: failure, .. }) => {
            let failure = failure.trim_end_matches('.');
            format!("{words}; its calls fail since {}: {failure}", clock(*since, now))
        }
        None => words,
    }
}

fn step_name<'a>(run: &'a Run, step_try: &'a StepTry) -> &'a str {
    let step = run.members.get(step_try.member).and_then(|member| member.steps.get(step_try.step));
    step.map_or(step_try.name.as_str(), |step| step.name.as_str())
}
