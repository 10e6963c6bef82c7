//! What the demo promises to show, and whether it did: pure judgement of the
//! evidence that was gathered. Gathers nothing itself.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde::Serialize;

use super::verify::Verified;
use crate::stage::config::Config;
use crate::stage::daemon::Stopped;
use crate::stage::mailbox::Mail;
use crate::stage::observe::{Call, Cluster, Partition, Run};
use crate::usage::Memory;

/// Task, partition and the state it must end in.
pub const EXPECTED: [(&str, &str, &str); 9] = [
    ("hourly-etl", "2013-01-01T09", "skipped"),
    ("hourly-etl", "2013-01-01T10", "succeeded"),
    ("hourly-etl", "2013-01-01T11", "succeeded"),
    ("hourly-etl", "2013-01-01T12", "succeeded"),
    ("daily-report", "2013-01-01", "succeeded"),
    ("weather-summary", "2013-01-01", "succeeded"),
    ("weather-check", "2013-01-01", "succeeded"),
    ("planes-summary", "2013-01-01", "succeeded"),
    ("airlines-upload", "2013-01-01", "failed"),
];
const DAY: &str = "2013-01-01";
/// Flights of three hours, weather, planes, airlines.
const REPORT_DATASETS: usize = 4;

/// Everything that the demo has left behind.
#[derive(Debug, Default)]
pub struct Evidence {
    pub partitions: Vec<Partition>,
    pub runs: Vec<Run>,
    pub clusters: Vec<Cluster>,
    pub mails: Vec<Mail>,
    /// Since the daemon's start.
    pub calls: Vec<Call>,
    /// Messages left in inbox, dead-letter queue and quarantine.
    pub queues: Vec<(String, u64)>,
    pub objects_delivered: usize,
    pub verified: Verified,
    pub memory: Option<Memory>,
    /// None while it goes on running.
    pub stopped: Option<Stopped>,
}

/// One expectation and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

impl Check {
    fn new(name: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok, detail: detail.into() }
    }
}

impl Evidence {
    fn partition(&self, task: &str, partition: &str) -> Option<&Partition> {
        self.partitions.iter().find(|item| item.task == task && item.partition == partition)
    }

    fn run_of(&self, task: &str) -> Option<&Run> {
        let id = self.partition(task, DAY)?.run.as_ref()?;
        self.runs.iter().find(|run| run.id == *id)
    }

    fn succeeded_calls(&self, service: &str, action: &str) -> usize {
        let of_kind =
            |call: &&Call| call.service == service && call.action == action && call.outcome == "ok";
        self.calls.iter().filter(of_kind).count()
    }

    /// How many notices SNS has accepted.
    pub fn notices(&self) -> usize {
        self.succeeded_calls("sns", "Publish")
    }
}

/// The expected task partitions that are not in a final state yet.
pub fn unfinished(partitions: &[Partition]) -> Vec<String> {
    let is_open = |(task, partition): (&str, &str)| {
        let mut found = partitions.iter().filter(|p| p.task == task && p.partition == partition);
        !found.any(Partition::is_final)
    };
    let keys = EXPECTED.into_iter().map(|(task, partition, _)| (task, partition));
    keys.filter(|key| is_open(*key))
        .map(|(task, partition)| format!("{task} {partition}"))
        .collect()
}

/// Judges everything.
pub fn check(evidence: &Evidence, config: &Config) -> Vec<Check> {
    let mut checks: Vec<Check> = EXPECTED
        .into_iter()
        .map(|(task, partition, state)| {
            let found = evidence.partition(task, partition);
            let found = found.map_or("nothing is known of it", |found| found.state.as_str());
            Check::new(format!("{task} {partition} {state}"), found == state, found)
        })
        .collect();
    checks.extend([
        report_waited(evidence),
        filled_by_size(evidence, config),
        swept_by_timer(evidence, config),
        retried(evidence),
        failure_announced(evidence),
        clusters_gone(evidence),
        queues_empty(evidence),
        one_mail_a_notice(evidence),
    ]);
    checks.push(Check::new(
        "outputs equal an independent computation over the source",
        evidence.verified.equal,
        evidence.verified.problems.join("; "),
    ));
    checks.extend(evidence.stopped.map(|stopped| {
        Check::new("the daemon stops when told to", stopped.is_clean(), stopped.to_string())
    }));
    checks
}

fn report_waited(evidence: &Evidence) -> Check {
    let datasets = evidence.partition("daily-report", DAY).map(|report| &report.datasets);
    let names: Vec<&str> = datasets.into_iter().flatten().map(String::as_str).collect();
    let detail = names.join(", ");
    Check::new("daily-report has waited for four datasets", names.len() == REPORT_DATASETS, detail)
}

fn filled_by_size(evidence: &Evidence, config: &Config) -> Check {
    let size = config.profile_of("weather-check").map_or(0, |profile| profile.batch_size);
    let run = evidence.run_of("weather-check");
    let tasks: BTreeSet<&str> = run
        .into_iter()
        .flat_map(|run| &run.members)
        .map(|member| member.key.task.as_str())
        .collect();
    let ok = tasks == BTreeSet::from(["weather-check", "weather-summary"]) && tasks.len() == size;
    let name = "weather-summary and weather-check share a file, and a batch filled by size";
    Check::new(name, ok, format!("batch of {}", Vec::from_iter(tasks).join(", ")))
}

fn swept_by_timer(evidence: &Evidence, config: &Config) -> Check {
    let name = "planes-summary was alone in its batch, swept by the timer";
    let max_wait = config.profile_of("planes-summary").map(|profile| profile.max_wait);
    let ready = evidence.partition("planes-summary", DAY).and_then(|item| item.ready_at);
    let (Some(run), Some(ready), Some(max_wait)) =
        (evidence.run_of("planes-summary"), ready, max_wait)
    else {
        return Check::new(name, false, "it had no run");
    };
    let waited = run.created.duration_since(ready);
    let ok = run.members.len() == 1 && waited >= max_wait && max_wait > SignedDuration::ZERO;
    let members = run.members.len();
    let minutes = waited.as_secs_f64() / 60.0;
    Check::new(name, ok, format!("batch of {members} after {minutes:.1} min"))
}

fn retried(evidence: &Evidence) -> Check {
    let name = "weather-check's step failed once and succeeded on retry";
    let run = evidence.partition("weather-check", DAY).and_then(|item| item.run.as_deref());
    let notices = evidence
        .mails
        .iter()
        .filter(|mail| mail.status == "step-failed" && run.is_some() && mail.run.as_deref() == run);
    let notices = notices.count();
    let states: Vec<&str> = evidence
        .clusters
        .iter()
        .flat_map(|cluster| &cluster.steps)
        .filter(|step| step.name.starts_with("weather-check/"))
        .map(|step| step.state.as_str())
        .collect();
    let ok = notices == 1 && states == ["FAILED", "COMPLETED"];
    let detail = format!("steps {}; mails about it: {notices}", states.join(", "));
    Check::new(name, ok, detail)
}

fn failure_announced(evidence: &Evidence) -> Check {
    let is_it = |mail: &&Mail| {
        mail.task.as_deref() == Some("airlines-upload")
            && mail.status == "failed"
            && mail.severity == "failure"
    };
    let mails: Vec<&str> =
        evidence.mails.iter().filter(is_it).map(|mail| mail.subject.as_str()).collect();
    let name = "airlines-upload's failure was announced by one mail";
    Check::new(name, mails.len() == 1, mails.join("; "))
}

fn clusters_gone(evidence: &Evidence) -> Check {
    let created = evidence.succeeded_calls("elasticmapreduce", "RunJobFlow");
    let ended = evidence.clusters.iter().filter(|cluster| cluster.has_ended()).count();
    let ok = created > 0 && created == evidence.runs.len() && created == ended;
    let ok = ok && evidence.clusters.len() == ended;
    let runs = evidence.runs.len();
    let detail = format!("{runs} runs, {created} created, {ended} terminated");
    Check::new("one cluster a run, all of them terminated", ok, detail)
}

fn queues_empty(evidence: &Evidence) -> Check {
    let left: Vec<String> =
        evidence.queues.iter().map(|(name, depth)| format!("{name} {depth}")).collect();
    let ok = !left.is_empty() && evidence.queues.iter().all(|(_, depth)| *depth == 0);
    Check::new("inbox, dead letters and quarantine are empty", ok, left.join(", "))
}

fn one_mail_a_notice(evidence: &Evidence) -> Check {
    let mails = evidence.mails.len();
    let events: BTreeSet<&str> = evidence.mails.iter().map(|mail| mail.event.as_str()).collect();
    let notices = evidence.notices();
    let ok = notices > 0 && mails == notices && mails == events.len();
    let detail = format!("{notices} published, {mails} mails about {} events", events.len());
    Check::new("one mail for each notice", ok, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::demo::observe::Step;

    const CONFIG: &str = include_str!("../../../config/local.toml");

    fn at(time: &str) -> jiff::Timestamp {
        format!("2013-01-01T{time}:00Z").parse().unwrap()
    }

    fn run(id: &str, tasks: &[&str]) -> Run {
        let member = |task: &&str| json!({"key": {"task": task, "partition": DAY}});
        let members: Vec<_> = tasks.iter().map(member).collect();
        serde_json::from_value(json!({
            "id": id, "state": "succeeded", "created": at("10:30"), "members": members,
            "notices": [],
        }))
        .unwrap()
    }

    fn cluster(steps: &[(&str, &str)]) -> Cluster {
        let step = |(name, state): &(&str, &str)| Step {
            id: (*name).to_owned(),
            name: (*name).to_owned(),
            state: (*state).to_owned(),
            started: None,
            changed: at("11:00"),
            message: None,
        };
        Cluster {
            name: String::new(),
            id: "j-1".to_owned(),
            state: "TERMINATED".to_owned(),
            created: at("10:00"),
            ended: Some(at("11:00")),
            steps: steps.iter().map(step).collect(),
        }
    }

    fn mail(event: &str, severity: &str, status: &str) -> Mail {
        Mail {
            subject: event.to_owned(),
            at: at("11:00"),
            event: event.to_owned(),
            severity: severity.to_owned(),
            status: status.to_owned(),
            task: (severity == "failure").then(|| "airlines-upload".to_owned()),
            partition: None,
            run: (severity == "warning").then(|| "weather".to_owned()),
        }
    }

    fn call(service: &str, action: &str) -> Call {
        Call { service: service.to_owned(), action: action.to_owned(), outcome: "ok".to_owned() }
    }

    /// What a demo leaves behind in which all is well.
    fn good() -> Evidence {
        let partition = |(task, partition, state): (&str, &str, &str)| Partition {
            task: task.to_owned(),
            partition: partition.to_owned(),
            state: state.to_owned(),
            run: Some(if task.starts_with("weather") { "weather" } else { task }.to_owned()),
            ready_at: Some(at("10:20")),
            datasets: ["a", "b", "c", "d"].map(str::to_owned).into(),
            ..Partition::default()
        };
        Evidence {
            partitions: EXPECTED.into_iter().map(partition).collect(),
            runs: vec![
                run("weather", &["weather-summary", "weather-check"]),
                run("planes-summary", &["planes-summary"]),
            ],
            clusters: vec![
                cluster(&[("weather-check/d/x/2", "FAILED"), ("weather-check/d/x/3", "COMPLETED")]),
                cluster(&[("planes-summary/d/x/1", "COMPLETED")]),
            ],
            mails: vec![mail("1", "warning", "step-failed"), mail("2", "failure", "failed")],
            calls: vec![
                call("elasticmapreduce", "RunJobFlow"),
                call("elasticmapreduce", "RunJobFlow"),
                call("sns", "Publish"),
                call("sns", "Publish"),
            ],
            queues: vec![("inbox".to_owned(), 0), ("quarantine".to_owned(), 0)],
            verified: Verified { equal: true, ..Verified::default() },
            stopped: Some(Stopped { exit_code: Some(0), seconds: 0.5 }),
            ..Evidence::default()
        }
    }

    fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
        let mut evidence = good();
        change(&mut evidence);
        let checks = check(&evidence, &Config::parse(CONFIG).unwrap()).into_iter();
        checks.filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn all_is_well_when_all_is_as_expected() {
        assert_eq!(broken(|_| {}), [""; 0]);
        assert_eq!(unfinished(&good().partitions), [""; 0]);
    }

    #[test]
    fn whatever_is_wrong_is_noticed() {
        type Change = fn(&mut Evidence);
        let cases: [(Change, &str); 15] = [
            (|e| e.partitions[0].state = "failed".to_owned(), "hourly-etl 2013-01-01T09 skipped"),
            (|e| drop(e.partitions.remove(3)), "hourly-etl 2013-01-01T12 succeeded"),
            (|e| drop(e.partitions[4].datasets.pop_first()), "four datasets"),
            (|e| drop(e.runs[0].members.pop()), "filled by size"),
            (|e| e.runs[1].created = at("10:29"), "swept by the timer"),
            (|e| e.runs[1] = run("planes-summary", &["planes-summary", "x"]), "swept by the timer"),
            (|e| drop(e.clusters[0].steps.pop()), "succeeded on retry"),
            (|e| e.mails[0].run = None, "succeeded on retry"),
            (|e| e.mails[1].severity = "info".to_owned(), "announced by one mail"),
            (|e| e.clusters[1].state = "WAITING".to_owned(), "all of them terminated"),
            (|e| e.calls.push(call("elasticmapreduce", "RunJobFlow")), "all of them terminated"),
            (|e| e.queues[1].1 = 1, "are empty"),
            (|e| e.mails[0].event = "2".to_owned(), "one mail for each notice"),
            (|e| e.verified.equal = false, "independent computation"),
            (|e| e.stopped = Some(Stopped { exit_code: None, seconds: 20.0 }), "stops when told"),
        ];
        for (change, expected) in cases {
            let names = broken(change);
            assert_eq!(names.len(), 1, "{expected}: {names:?}");
            assert!(names[0].contains(expected), "{expected}: {names:?}");
        }
    }

    #[test]
    fn what_has_no_final_state_is_missing() {
        let mut partitions = good().partitions;
        partitions[1].state = "running".to_owned();
        partitions.pop();
        let missing = ["hourly-etl 2013-01-01T10", "airlines-upload 2013-01-01"];
        assert_eq!(unfinished(&partitions), missing);
    }
}
