//! What is measured, under which name: every metric of the service stands
//! here. Labels come from the configuration and from fixed words only, so that
//! nobody outside can make them grow. Not for logs, and not for what is true
//! of the whole deployment: each replica shows what it knows itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::core::notice::{Notice, Severity};
use crate::core::quota::Call;
use crate::core::run::{Run, RunState};
use crate::core::task::{TaskKey, TaskState};

/// Open task partitions, runs and outboxes that are remembered; above it the
/// gauges stand still.
const OPEN_MAX: usize = 100_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DatasetLabels {
    dataset: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    profile: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeverityLabels {
    severity: &'static str,
}

/// A call that EMR has a quota for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuotaLabels {
    action: &'static str,
}

/// What became of messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    outcome: &'static str,
}

/// A call to AWS as it went over the wire; each retry is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    pub service: &'static str,
    pub action: String,
    pub outcome: &'static str,
}

pub type Calls = Family<CallLabels, Counter>;

/// Everything measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    arrivals: Family<DatasetLabels, Counter>,
    unmatched: Counter,
    messages: Family<MessageLabels, Counter>,
    inbox_lag: Histogram,
    partitions: Family<TaskLabels, Gauge>,
    changes: Family<TaskLabels, Counter>,
    runs: Family<RunLabels, Gauge>,
    runs_ended: Family<RunLabels, Counter>,
    run_seconds: Histogram,
    outbox: Gauge,
    outbox_age: Gauge<f64, std::sync::atomic::AtomicU64>,
    published: Family<SeverityLabels, Counter>,
    agenda: Gauge,
    agenda_lag: Gauge<f64, std::sync::atomic::AtomicU64>,
    calls: Calls,
    quota_waits: Family<QuotaLabels, Counter>,
    lease: Gauge,
    list_calls: Counter,
    found_by_list: Family<DatasetLabels, Counter>,
    open: Mutex<Open>,
}

/// What this process knows to be open; the gauges are its counts.
#[derive(Debug, Default)]
struct Open {
    partitions: BTreeMap<TaskKey, TaskState>,
    runs: BTreeMap<String, RunState>,
    /// Whoever has notices to publish: since when, and how many.
    outbox: BTreeMap<String, (Timestamp, usize)>,
}

/// What the engine has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgendaGlance {
    pub length: usize,
    /// How long the first key has been due.
    pub lag: SignedDuration,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sluicegate");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        // From a quarter of a second to a day and a half.
        let seconds = || Histogram::new(exponential_buckets(0.25, 3.0, 12));
        let metrics = Self {
            registry: Registry::default(),
            arrivals: Family::default(),
            unmatched: Counter::default(),
            messages: Family::default(),
            inbox_lag: seconds(),
            partitions: Family::default(),
            changes: Family::default(),
            runs: Family::default(),
            runs_ended: Family::default(),
            run_seconds: seconds(),
            outbox: Gauge::default(),
            outbox_age: Gauge::default(),
            published: Family::default(),
            agenda: Gauge::default(),
            agenda_lag: Gauge::default(),
            calls: Calls::default(),
            quota_waits: Family::default(),
            lease: Gauge::default(),
            list_calls: Counter::default(),
            found_by_list: Family::default(),
            open: Mutex::default(),
        };
        metrics.name_all(registry)
    }
}

impl Metrics {
    fn name_all(mut self, mut registry: Registry) -> Self {
        let r = &mut registry;
        r.register("arrivals", "Objects that belong to a dataset", self.arrivals.clone());
        r.register("arrivals_unmatched", "Objects of no dataset", self.unmatched.clone());
        r.register(
            "messages",
            "Messages of the inbox, by what became of them",
            self.messages.clone(),
        );
        r.register(
            "inbox_lag_seconds",
            "From a message's sending to the inbox to its effect being stored",
            self.inbox_lag.clone(),
        );
        r.register(
            "partitions",
            "Open task partitions known to this process",
            self.partitions.clone(),
        );
        r.register(
            "partition_changes",
            "Task partitions that entered a state",
            self.changes.clone(),
        );
        r.register("runs", "Open runs known to this process", self.runs.clone());
        r.register("runs_ended", "Runs that ended", self.runs_ended.clone());
        r.register("run_seconds", "From a run's creation to its end", self.run_seconds.clone());
        r.register("outbox_notices", "Notices not yet published", self.outbox.clone());
        r.register(
            "outbox_age_seconds",
            "Age of the oldest notice not yet published",
            self.outbox_age.clone(),
        );
        r.register("notices_published", "Notices that SNS accepted", self.published.clone());
        r.register("agenda_length", "Things the engine has to look at", self.agenda.clone());
        r.register(
            "agenda_lag_seconds",
            "How long the first of them has been due",
            self.agenda_lag.clone(),
        );
        r.register("aws_calls", "Requests to AWS, retries included", self.calls.clone());
        r.register(
            "emr_quota_waits",
            "Calls to EMR put off because the quota had no room",
            self.quota_waits.clone(),
        );
        r.register(
            "lease_held",
            "1 while this replica polls EMR for all of them, else 0",
            self.lease.clone(),
        );
        r.register(
            "list_calls",
            "Requests for lists of S3, for objects that nobody told of",
            self.list_calls.clone(),
        );
        r.register(
            "found_by_list",
            "Objects found in S3 that no notification told of",
            self.found_by_list.clone(),
        );
        self.registry = registry;
        self
    }

    /// The counter that `aws::watched` counts into.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    pub fn quota_waited(&self, call: Call) {
        self.quota_waits.get_or_create(&QuotaLabels { action: call.name() }).inc();
    }

    /// One request for a list of S3 is made.
    pub fn listed(&self) {
        self.list_calls.inc();
    }

    pub fn found_by_list(&self, dataset: &str, objects: u64) {
        let labels = DatasetLabels { dataset: dataset.to_owned() };
        self.found_by_list.get_or_create(&labels).inc_by(objects);
    }

    /// Whether this replica holds the poll lease.
    pub fn lease_is(&self, held: bool) {
        self.lease.set(held.into());
    }

    pub fn arrived(&self, dataset: &str) {
        self.arrivals.get_or_create(&DatasetLabels { dataset: dataset.to_owned() }).inc();
    }

    pub fn arrived_unmatched(&self) {
        self.unmatched.inc();
    }

    pub fn messages_received(&self, count: usize) {
        self.messages_were("received", count);
    }

    pub fn messages_deleted(&self, count: usize) {
        self.messages_were("deleted", count);
    }

    pub fn message_quarantined(&self) {
        self.messages_were("quarantined", 1);
    }

    fn messages_were(&self, outcome: &'static str, count: usize) {
        self.messages.get_or_create(&MessageLabels { outcome }).inc_by(count as u64);
    }

    /// How long after its sending a message had its effect.
    pub fn lagged(&self, lag: SignedDuration) {
        self.inbox_lag.observe(lag.as_secs_f64().max(0.0));
    }

    /// A task partition was read or written, and stood so.
    pub fn partition_is(&self, key: &TaskKey, state: TaskState) {
        let mut open = self.open();
        let before = match state.is_final() {
            true => open.partitions.remove(key),
            false if open.partitions.len() < OPEN_MAX || open.partitions.contains_key(key) => {
                let before = open.partitions.insert(key.clone(), state);
                self.partitions.get_or_create(&task_labels(key, state)).inc();
                before
            }
            false => None,
        };
        if let Some(before) = before {
            self.partitions.get_or_create(&task_labels(key, before)).dec();
        }
    }

    /// A task partition entered a state by this process's doing.
    pub fn partition_became(&self, key: &TaskKey, state: TaskState) {
        self.changes.get_or_create(&task_labels(key, state)).inc();
        self.partition_is(key, state);
    }

    /// A run was read or written, and stood so.
    pub fn run_is(&self, run: &Run) {
        let mut open = self.open();
        let before = match run.state.is_final() {
            true => open.runs.remove(&run.id),
            false if open.runs.len() < OPEN_MAX || open.runs.contains_key(&run.id) => {
                self.runs.get_or_create(&run_labels(run, run.state)).inc();
                open.runs.insert(run.id.clone(), run.state)
            }
            false => None,
        };
        if let Some(before) = before {
            self.runs.get_or_create(&run_labels(run, before)).dec();
        }
    }

    /// A run ended by this process's doing.
    pub fn run_ended(&self, run: &Run) {
        self.runs_ended.get_or_create(&run_labels(run, run.state)).inc();
        if let Some(ended) = run.ended {
            self.run_seconds.observe(ended.duration_since(run.created).as_secs_f64());
        }
    }

    pub fn published(&self, severity: Severity) {
        self.published.get_or_create(&SeverityLabels { severity: severity.name() }).inc();
    }

    /// What an owner (a run, a task partition) still has to publish.
    pub fn pending(&self, owner: &str, notices: &[Notice]) {
        let oldest = notices.iter().map(|notice| notice.at).min();
        let mut open = self.open();
        match oldest {
            None => {
                open.outbox.remove(owner);
            }
            Some(oldest) if open.outbox.len() < OPEN_MAX => {
                open.outbox.insert(owner.to_owned(), (oldest, notices.len()));
            }
            Some(_) => {}
        }
    }

    /// How old the oldest notice is that this replica knows of and that is not
    /// published; zero when there is none.
    pub fn outbox_age(&self, now: Timestamp) -> SignedDuration {
        let oldest = self.open().outbox.values().map(|(oldest, _)| *oldest).min();
        oldest.map_or(SignedDuration::ZERO, |oldest| {
            now.duration_since(oldest).max(SignedDuration::ZERO)
        })
    }

    /// Everything in Prometheus' text form.
    pub fn text(&self, agenda: AgendaGlance, now: Timestamp) -> Result<String, std::fmt::Error> {
        self.agenda.set(i64::try_from(agenda.length).unwrap_or(i64::MAX));
        self.agenda_lag.set(agenda.lag.as_secs_f64());
        let count: usize = self.open().outbox.values().map(|(_, count)| count).sum();
        self.outbox.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.outbox_age.set(self.outbox_age(now).as_secs_f64());
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nobody panics while holding it; were it so, it is only a count.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn task_labels(key: &TaskKey, state: TaskState) -> TaskLabels {
    TaskLabels { task: key.task.clone(), state: state.name() }
}

fn run_labels(run: &Run, state: RunState) -> RunLabels {
    RunLabels { profile: run.profile.clone(), state: state.name() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::notice::Kind;

    fn text(metrics: &Metrics) -> String {
        let agenda = AgendaGlance { length: 2, lag: SignedDuration::from_secs(3) };
        metrics.text(agenda, Timestamp::from_second(100).unwrap()).unwrap()
    }

    #[track_caller]
    fn has(metrics: &Metrics, line: &str) {
        let text = text(metrics);
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }

    #[test]
    fn a_partition_counts_in_the_state_it_was_last_seen_in() {
        let metrics = Metrics::default();
        let key = TaskKey::new("etl", "2013-01-01".parse().unwrap());
        let gauge = |state: &str, count: u64| {
            has(
                &metrics,
                &format!("sluicegate_partitions{{task=\"etl\",state=\"{state}\"}} {count}"),
            );
        };
        metrics.partition_is(&key, TaskState::Waiting);
        metrics.partition_is(&key, TaskState::Waiting);
        gauge("waiting", 1);
        metrics.partition_became(&key, TaskState::Ready);
        gauge("waiting", 0);
        gauge("ready", 1);
        metrics.partition_became(&key, TaskState::Running);
        metrics.partition_became(&key, TaskState::Succeeded);
        gauge("running", 0);
        has(&metrics, "sluicegate_partition_changes_total{task=\"etl\",state=\"succeeded\"} 1");
    }

    #[test]
    fn the_outbox_is_as_old_as_its_oldest_notice() {
        let metrics = Metrics::default();
        let notice = |secs| {
            let at = Timestamp::from_second(secs).unwrap();
            Notice::new(Kind::Task, "x".into(), at, Severity::Info, "ready", "")
        };
        metrics.pending("a", &[notice(40), notice(90)]);
        metrics.pending("b", &[notice(60)]);
        has(&metrics, "sluicegate_outbox_notices 3");
        has(&metrics, "sluicegate_outbox_age_seconds 60.0");
        metrics.pending("a", &[]);
        has(&metrics, "sluicegate_outbox_age_seconds 40.0");
        let age = |at| metrics.outbox_age(Timestamp::from_second(at).unwrap()).as_secs();
        assert_eq!((age(100), age(59)), (40, 0), "a clock that was set back makes nothing younger");
        metrics.pending("b", &[]);
        assert_eq!(age(100), 0);
        has(&metrics, "sluicegate_agenda_lag_seconds 3.0");
    }
}
