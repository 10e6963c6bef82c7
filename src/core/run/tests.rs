//! Runs against a cluster that exists only in this file: it obeys EMR's rules
//! for steps and loses answers as told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::core::catalog::testing::profile;
use crate::core::catalog::{Dataset, Need, StepSpec, StepWork, WhenEmpty};
use crate::core::partition::Grain;
use crate::core::quota::Call;
use crate::core::render::Text;
use crate::core::task::TaskState;

mod attempts;
mod cancel;
mod looks;
mod notices;
mod overdue;
mod submissions;

/// How a call that creates something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It has no effect, and nobody says so.
    RequestLost,
    /// It takes effect long after everybody has given it up.
    Late,
    Throttled,
    Refused,
}

/// What a look of a kind that may lag shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Shown,
    /// The list does not have it yet.
    Hidden,
    /// The state before the last change.
    Stale,
    Failed,
}

struct FakeCluster {
    name: String,
    state: ClusterState,
    /// The state before.
    past: ClusterState,
    steps: Vec<StepSeen>,
    /// It has executed steps of tasks.
    executes: bool,
}

/// A call that takes effect later.
enum Delayed {
    Launch { name: String, steps: Vec<String> },
    Add { cluster: usize, steps: Vec<String> },
}

impl FakeCluster {
    fn enter(&mut self, state: ClusterState) {
        if self.state != state {
            self.past = std::mem::replace(&mut self.state, state);
        }
    }
}

/// One account's EMR.
struct FakeEmr {
    clusters: Vec<FakeCluster>,
    /// What becomes of the next calls that create something; then they work.
    fates: Vec<Fate>,
    /// Step name without its serial → whether each execution succeeds; then
    /// they do.
    outcomes: BTreeMap<String, Vec<bool>>,
    /// What it says of each failure.
    words: String,
    /// How often it still refuses to end a cluster.
    unterminable: usize,
    /// What it says of each cluster's end.
    end_words: String,
    /// A failure cancels nothing: steps side by side.
    continues: bool,
    /// Clusters that die before their first step.
    dying: usize,
    executed: Vec<String>,
    /// What surveys and other looks show next; then everything.
    sights: Vec<Sight>,
    /// Which of the next events arrive; None: there are no events at all.
    arriving: Option<Vec<bool>>,
    events: Vec<Event>,
    /// Which of the next calls our own quota puts off.
    postponed: Vec<bool>,
    /// Calls by name.
    counts: BTreeMap<&'static str, usize>,
    /// Claim → who holds it.
    claims: BTreeMap<String, String>,
    delayed: Vec<Delayed>,
    /// The list may hide a cluster for longer than anybody waits.
    lags_without_bound: bool,
    /// Steps, without their serial, that run until they are cancelled.
    hanging: BTreeSet<String>,
    /// What was cancelled once hangs no more.
    hangs_once: bool,
    /// So many of the first clusters never leave STARTING.
    stuck: usize,
    /// So many of the first clusters run no step.
    idle: usize,
}

impl Default for FakeEmr {
    fn default() -> Self {
        Self {
            clusters: vec![],
            fates: vec![],
            outcomes: BTreeMap::new(),
            words: "exit code 3".into(),
            unterminable: 0,
            end_words: String::new(),
            continues: false,
            dying: 0,
            executed: vec![],
            sights: vec![],
            arriving: None,
            events: vec![],
            postponed: vec![],
            counts: BTreeMap::new(),
            claims: BTreeMap::new(),
            delayed: vec![],
            lags_without_bound: false,
            hanging: BTreeSet::new(),
            hangs_once: false,
            stuck: 0,
            idle: 0,
        }
    }
}

impl FakeEmr {
    fn fate(&mut self) -> Fate {
        if self.fates.is_empty() { Fate::Works } else { self.fates.remove(0) }
    }

    fn sight(&mut self) -> Sight {
        if self.sights.is_empty() { Sight::Shown } else { self.sights.remove(0) }
    }

    fn tell(&mut self, event: Event) {
        let Some(arriving) = &mut self.arriving else { return };
        if arriving.is_empty() || arriving.remove(0) {
            self.events.push(event);
        }
    }

    /// Time passes: a cluster starts, steps are executed.
    fn go_on(&mut self, number: usize, now: Timestamp) {
        if self.clusters[number].state == ClusterState::Starting && number < self.stuck {
            return;
        }
        if self.clusters[number].state == ClusterState::Starting {
            let (state, event) = match self.dying {
                0 => (ClusterState::Running, Event::Running),
                _ => (ClusterState::TerminatedWithErrors, Event::Ended),
            };
            self.dying = self.dying.saturating_sub(1);
            self.clusters[number].enter(state);
            self.tell(event);
        }
        self.advance(number, now);
    }

    /// Time passes for all clusters, and what was held up arrives.
    fn go_on_all(&mut self, now: Timestamp) {
        for delayed in std::mem::take(&mut self.delayed) {
            self.apply(delayed, now);
        }
        for number in 0..self.clusters.len() {
            self.go_on(number, now);
        }
    }

    fn apply(&mut self, call: Delayed, now: Timestamp) -> Vec<String> {
        match call {
            Delayed::Launch { name, steps } => {
                let id = self.clusters.len();
                let (state, executes) = (ClusterState::Starting, false);
                let cluster = FakeCluster { name, state, past: state, steps: vec![], executes };
                self.clusters.push(cluster);
                self.submit(id, steps, now);
                vec![format!("j-{id}")]
            }
            Delayed::Add { cluster, .. } if self.clusters[cluster].state.is_ending() => vec![],
            Delayed::Add { cluster, steps } => self.submit(cluster, steps, now),
        }
    }

    /// Applies a call with its fate.
    fn call(&mut self, call: Delayed, now: Timestamp) -> Result<Vec<String>, CallFailure> {
        let lost = || CallFailure::Unknown("no answer".into());
        match self.fate() {
            Fate::Works => Ok(self.apply(call, now)),
            Fate::AnswerLost => {
                self.apply(call, now);
                Err(lost())
            }
            Fate::RequestLost => Err(lost()),
            Fate::Late => {
                self.delayed.push(call);
                Err(lost())
            }
            Fate::Throttled => Err(CallFailure::Deferred("rate".into())),
            Fate::Refused => Err(CallFailure::Refused("no such release".into())),
        }
    }

    fn submit(&mut self, cluster: usize, names: Vec<String>, now: Timestamp) -> Vec<String> {
        let first = self.clusters[cluster].steps.len();
        for (number, name) in names.into_iter().enumerate() {
            let id = format!("s-{cluster}-{}", first + number);
            self.clusters[cluster].steps.push(StepSeen {
                id,
                name,
                state: StepState::Pending,
                created: Some(now),
                started: None,
                ended: None,
                failure: None,
            });
        }
        self.advance(cluster, now);
        let steps = &self.clusters[cluster].steps;
        steps[first..].iter().map(|step| step.id.clone()).collect()
    }

    /// Executes pending steps in order; a failure cancels what is pending.
    fn advance(&mut self, cluster: usize, now: Timestamp) {
        let state = self.clusters[cluster].state;
        if !matches!(state, ClusterState::Running | ClusterState::Waiting) {
            return;
        }
        if cluster < self.idle {
            return;
        }
        let mut cancelled = false;
        let (mut refused, mut executes) = (false, false);
        let mut events = Vec::new();
        let name = self.clusters[cluster].name.clone();
        for step in &mut self.clusters[cluster].steps {
            if step.state == StepState::Running {
                break;
            }
            if step.state != StepState::Pending {
                continue;
            }
            let plain = step.name.rsplit_once('/').map_or("", |(plain, _)| plain).to_owned();
            if self.hanging.contains(&plain) && !cancelled {
                step.state = StepState::Running;
                step.started = Some(now);
                self.executed.push(step.name.clone());
                executes = true;
                break;
            }
            step.ended = Some(now);
            if let Some(submission) = step.name.strip_prefix(GUARD_PREFIX).filter(|_| !cancelled) {
                let run = name.strip_prefix("test/").unwrap();
                let first = submission == "1";
                let me = if first { format!("j-{cluster}") } else { step.id.clone() };
                let claim = format!("claim/{run}/{submission}");
                let holder = self.claims.entry(claim).or_insert_with(|| me.clone());
                let passes = *holder == me;
                step.state = if passes { StepState::Completed } else { StepState::Failed };
                cancelled |= !passes;
                refused |= !passes && first;
                continue;
            }
            let outcomes = self.outcomes.entry(plain).or_default();
            if cancelled {
                step.state = StepState::Cancelled;
            } else {
                executes = true;
                self.executed.push(step.name.clone());
                let failed = !outcomes.is_empty() && !outcomes.remove(0);
                step.state = if failed { StepState::Failed } else { StepState::Completed };
                step.failure = failed.then(|| self.words.clone());
                cancelled = failed && !self.continues;
            }
            events.push(match step.state {
                StepState::Completed => Event::StepCompleted(step.name.clone()),
                _ => Event::StepStopped(step.name.clone()),
            });
        }
        events.into_iter().for_each(|event| self.tell(event));
        self.clusters[cluster].executes |= executes;
        let running = |step: &StepSeen| step.state == StepState::Running;
        let busy = self.clusters[cluster].steps.iter().any(running);
        self.clusters[cluster].enter(match refused {
            true => ClusterState::TerminatedWithErrors,
            false if busy => ClusterState::Running,
            false => ClusterState::Waiting,
        });
    }

    /// Cancels what has not ended of a cluster's steps.
    fn cancel(&mut self, cluster: usize, cancelled: impl Fn(&StepSeen) -> bool, now: Timestamp) {
        for step in &mut self.clusters[cluster].steps {
            if !step.state.has_ended() && cancelled(step) {
                step.state = StepState::Cancelled;
                step.ended = Some(now);
            }
        }
    }

    fn observe(&mut self, run: &Run, act: Act, now: Timestamp) -> Observation {
        let name = run.cluster_name("test");
        let attempt = run.attempt().unwrap();
        let names = |tries: &mut dyn Iterator<Item = &StepTry>| {
            let submission = attempt.guards.len();
            let guard = run.cluster.guard.then(|| format!("{GUARD_PREFIX}{submission}"));
            guard.into_iter().chain(tries.map(|step_try| step_try.name.clone())).collect::<Vec<_>>()
        };
        let reason = self.end_words.clone();
        let seen = |state| ClusterSeen { state, reason: reason.clone(), ended: None };
        let shared = matches!(act, Act::LookUp | Act::Survey).then_some("ListClusters");
        if let Some(name) = act.call().map(Call::name).or(shared) {
            *self.counts.entry(name).or_default() += 1;
        }
        match act {
            Act::Rest(_) => Observation::Nothing,
            Act::Launch => {
                assert!(now < attempt.launch.send_by);
                let steps = names(&mut attempt.tries.iter());
                let launched = self.call(Delayed::Launch { name, steps }, now);
                Observation::Launched(launched.map(|ids| ids[0].clone()))
            }
            Act::Claim { key, holder } => {
                let holder = self.claims.entry(key.clone()).or_insert(holder).clone();
                Observation::Claimed { key, holder }
            }
            Act::LookUp => {
                let settled = attempt.launch.send_by + run.limits.list_lag;
                let lagging = self.lags_without_bound || now < settled;
                let hidden = self.sight() != Sight::Shown && lagging;
                let found = self.clusters.iter().position(|cluster| cluster.name == name);
                let cluster = found.filter(|_| !hidden).map(|number| format!("j-{number}"));
                Observation::LookedUp { cluster, began: now }
            }
            Act::Survey => {
                let number = number(attempt.cluster.as_deref().unwrap());
                self.go_on(number, now);
                let cluster = (self.clusters[number].state, self.clusters[number].past);
                match self.sight() {
                    Sight::Shown => Observation::Surveyed(Some(seen(cluster.0))),
                    Sight::Stale => Observation::Surveyed(Some(seen(cluster.1))),
                    Sight::Hidden => Observation::Surveyed(None),
                    Sight::Failed => Observation::NotSeen,
                }
            }
            Act::Describe { cluster } => {
                let number = number(&cluster);
                self.go_on(number, now);
                match self.sight() {
                    Sight::Failed => Observation::NotSeen,
                    _ => Observation::Described(seen(self.clusters[number].state)),
                }
            }
            Act::ReadSteps { cluster, .. } => {
                let number = number(&cluster);
                self.go_on(number, now);
                match self.sight() {
                    Sight::Failed => Observation::NotSeen,
                    _ => Observation::Steps(self.clusters[number].steps.clone()),
                }
            }
            Act::AddSteps { cluster, tries } => {
                let steps = names(&mut tries.iter().map(|index| &attempt.tries[*index]));
                let number = number(&cluster);
                let added = self.call(Delayed::Add { cluster: number, steps }, now);
                let own = usize::from(run.cluster.guard);
                Observation::Added(added.map(|ids| ids.into_iter().skip(own).collect()))
            }
            Act::Terminate { .. } if self.unterminable > 0 => {
                self.unterminable -= 1;
                Observation::Terminated(Err(CallFailure::Refused("it is protected".into())))
            }
            Act::CancelSteps { cluster, steps } => {
                let number = number(&cluster);
                match self.fate() {
                    Fate::Works | Fate::AnswerLost => {
                        self.cancel(number, |step| steps.contains(&step.id), now);
                        if self.hangs_once {
                            self.hanging.clear();
                        }
                        self.advance(number, now);
                        Observation::StepsCancelled(Ok(()))
                    }
                    _ => Observation::StepsCancelled(Err(CallFailure::Unknown("no answer".into()))),
                }
            }
            Act::Terminate { cluster } => {
                self.cancel(number(&cluster), |_| true, now);
                self.clusters[number(&cluster)].enter(ClusterState::Terminated);
                self.tell(Event::Ended);
                Observation::Terminated(Ok(()))
            }
        }
    }

    fn alive(&self) -> usize {
        self.clusters.iter().filter(|cluster| !cluster.state.has_ended()).count()
    }
}

fn number(cluster: &str) -> usize {
    cluster.strip_prefix("j-").unwrap().parse().unwrap()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_357_000_000 + secs).unwrap()
}

/// A run of tasks `t0`, `t1`, … with steps `s0`, `s1`, … of two retries each.
fn run(tasks: usize, steps: usize) -> Run {
    let retry = Retry { attempts: 2, delay: SignedDuration::from_secs(1), backoff_rate: 2.0 };
    let steps: Vec<_> = (0..steps)
        .map(|number| StepSpec {
            name: format!("s{number}"),
            work: StepWork::Command { args: vec![Text::parse("true").unwrap()] },
            retry,
        })
        .collect();
    let tasks: Vec<_> = (0..tasks)
        .map(|number| Task {
            name: format!("t{number}"),
            profile: "p".into(),
            grain: Grain::Hour,
            schedule: None,
            inputs: vec![],
            need: Need::All,
            wait: None,
            time_limits: Default::default(),
            outputs: vec![],
            when_empty: WhenEmpty::Run,
            late_data: Default::default(),
            attempt_timeout: None,
            steps: steps.clone(),
            load: None,
            max_active: None,
        })
        .collect();
    let catalog = Catalog::new("test".into(), Vec::<Dataset>::new(), vec![], tasks);
    let partition = "2013-01-01T05".parse().unwrap();
    let items: Vec<_> = catalog
        .tasks
        .keys()
        .map(|name| TaskPartition::new(TaskKey::new(name, partition)))
        .collect();
    let batch: Vec<_> = items.iter().map(|item| (&catalog.tasks[&item.key.task], item)).collect();
    let (run, changes) = Run::new(&catalog, &profile("p"), &batch, "R", at(0));
    assert_eq!(changes.len(), items.len());
    run
}

/// Follows a run to its end as the engine does; returns the final changes.
/// `crash` tells whether all memory is lost after the nth act (the run is read
/// back from its stored form before anything else).
fn follow(run: &mut Run, emr: &mut FakeEmr, crash: impl Fn(usize) -> bool) -> Vec<TaskChange> {
    follow_word(run, emr, crash, |_, _, _| {}, |_, _| {})
}

/// The same, with a person's `word` before the nth decision, and with what is
/// said of each change when it is made.
fn follow_word(
    run: &mut Run,
    emr: &mut FakeEmr,
    crash: impl Fn(usize) -> bool,
    mut word: impl FnMut(usize, &mut Run, Timestamp),
    mut check: impl FnMut(&TaskChange, &FakeEmr),
) -> Vec<TaskChange> {
    let mut now = at(0);
    let mut ended = Vec::new();
    let mut acts = 0;
    let mut hints = Hints::default();
    let mut observation = Observation::Nothing;
    for turn in 0..2_000 {
        hints.learn(&observation, now);
        // It changes the run between two turns: the next reads it anew.
        if observation == Observation::Nothing {
            word(turn, run, now);
        }
        let mut decision = run.decide(observation, &hints, now);
        decision.changes.iter().for_each(|change| check(change, emr));
        ended.append(&mut decision.changes);
        if decision.act.call().is_some() && !emr.postponed.is_empty() && emr.postponed.remove(0) {
            let postponed = decision.act.postponed(now + SignedDuration::from_secs(2));
            hints.learn(&postponed, now);
            decision = run.decide(postponed, &hints, now);
            ended.append(&mut decision.changes);
        }
        match decision.act {
            Act::Rest(None) => return ended,
            Act::Rest(Some(until)) => {
                let came = hints.events.clone();
                hints = hints.after_turn(run, &came);
                emr.go_on_all(now);
                let soon = now + SignedDuration::from_millis(10);
                now = if emr.events.is_empty() { until.max(soon) } else { soon };
                emr.events.drain(..).for_each(|event| hints.hear(event));
                observation = Observation::Nothing;
            }
            act => {
                acts += 1;
                observation = emr.observe(run, act, now);
                now += SignedDuration::from_millis(10);
                if crash(acts) {
                    let stored = serde_json::to_string(run).unwrap();
                    *run = serde_json::from_str(&stored).unwrap();
                    hints = Hints::default();
                    observation = Observation::Nothing;
                }
            }
        }
    }
    panic!("the run does not end: {run:#?}");
}

fn states(changes: &[TaskChange]) -> Vec<(String, TaskState)> {
    changes.iter().map(|change| (change.key.task.clone(), change.to)).collect()
}

#[test]
fn a_good_run_makes_one_cluster_and_ends_it() {
    let (mut run, mut emr) = (run(2, 2), FakeEmr::default());
    let changes = follow(&mut run, &mut emr, |_| false);
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!(
        states(&changes),
        [("t0".into(), TaskState::Succeeded), ("t1".into(), TaskState::Succeeded)]
    );
    assert_eq!(emr.executed.len(), 4);
    assert_eq!((emr.clusters.len(), emr.alive()), (1, 0));
}

#[test]
fn a_failed_step_is_retried_and_what_it_cancelled_is_done_too() {
    let (mut run, mut emr) = (run(2, 2), FakeEmr::default());
    emr.outcomes.insert("t0/2013-01-01T05/s0".into(), vec![false, false, true]);
    let changes = follow(&mut run, &mut emr, |_| false);
    assert_eq!(run.state, RunState::Succeeded);
    assert_eq!(changes.len(), 2);
    let count = |prefix: &str| emr.executed.iter().filter(|name| name.contains(prefix)).count();
    assert_eq!(
        (count("t0/2013-01-01T05/s0"), count("t0/2013-01-01T05/s1"), count("t1")),
        (3, 1, 2)
    );
    let retries = run.notices.iter().filter(|notice| notice.status == "step-failed").count();
    assert_eq!(retries, 2);
}

#[test]
fn a_step_that_fails_for_good_fails_its_partition_and_no_other() {
    let (mut run, mut emr) = (run(3, 1), FakeEmr::default());
    emr.outcomes.insert("t1/2013-01-01T05/s0".into(), vec![false; 9]);
    let changes = follow(&mut run, &mut emr, |_| false);
    assert_eq!(run.state, RunState::Failed);
    let failed = changes.iter().find(|change| change.key.task == "t1").unwrap();
    assert_eq!(failed.to, TaskState::Failed);
    assert_eq!(failed.reason.as_deref(), Some("step s0 failed 3 times: exit code 3"));
    assert_eq!(changes.iter().filter(|change| change.to == TaskState::Succeeded).count(), 2);
    assert_eq!(emr.alive(), 0);
}

#[test]
fn a_lost_cluster_is_replaced_until_the_attempts_are_used_up() {
    for (dying, state, clusters) in [(1, RunState::Succeeded, 2), (2, RunState::Failed, 2)] {
        let (mut run, mut emr) = (run(1, 1), FakeEmr { dying, ..FakeEmr::default() });
        follow(&mut run, &mut emr, |_| false);
        assert_eq!((run.state, emr.clusters.len(), emr.alive()), (state, clusters, 0));
    }
}

#[test]
fn a_lost_answer_is_adopted_not_repeated() {
    let (mut run, mut emr) = (run(1, 1), FakeEmr::default());
    emr.fates = vec![Fate::AnswerLost];
    follow(&mut run, &mut emr, |_| false);
    assert_eq!((run.state, emr.clusters.len()), (RunState::Succeeded, 1));
}

#[test]
fn throttling_burns_no_attempt_and_a_refusal_ends_the_run() {
    let (mut run_throttled, mut emr) = (run(1, 1), FakeEmr::default());
    emr.fates = vec![Fate::Throttled; 5];
    follow(&mut run_throttled, &mut emr, |_| false);
    assert_eq!((run_throttled.state, run_throttled.attempts.len()), (RunState::Succeeded, 1));

    let (mut run_refused, mut emr) = (run(1, 1), FakeEmr::default());
    emr.fates = vec![Fate::Refused];
    let changes = follow(&mut run_refused, &mut emr, |_| false);
    assert_eq!(run_refused.state, RunState::Failed);
    let reason = changes[0].reason.as_deref().unwrap();
    assert_eq!(reason, "the cluster cannot be created: no such release");
}

#[test]
fn a_hung_cluster_ends_at_its_lifetime() {
    let (mut run, mut emr) = (run(1, 1), FakeEmr::default());
    let mut now = at(0);
    // Never leaves STARTING.
    let mut observation = Observation::Nothing;
    let starting =
        ClusterSeen { state: ClusterState::Starting, reason: String::new(), ended: None };
    let mut terminated = false;
    while now < at(3 * 3600) && !terminated {
        let decision = run.decide(observation, &Hints::default(), now);
        observation = match decision.act {
            Act::Rest(until) => {
                now = until.unwrap();
                Observation::Nothing
            }
            Act::Survey => Observation::Surveyed(Some(starting.clone())),
            Act::Describe { .. } => Observation::Described(starting.clone()),
            Act::ReadSteps { .. } => Observation::Steps(vec![]),
            Act::Terminate { .. } => {
                terminated = true;
                assert!(now >= at(2 * 3600));
                assert!(decision.changes[0].reason.as_deref().unwrap().contains("lifetime"));
                Observation::Terminated(Ok(()))
            }
            act => emr.observe(&run, act, now),
        };
    }
    assert!(terminated);
}

#[test]
fn notices_have_ids_of_their_own() {
    let (mut run, mut emr) = (run(2, 2), FakeEmr { dying: 1, ..FakeEmr::default() });
    emr.outcomes.insert("t0/2013-01-01T05/s0".into(), vec![false, false, true]);
    emr.outcomes.insert("t1/2013-01-01T05/s1".into(), vec![false, true]);
    follow(&mut run, &mut emr, |_| false);
    let mut ids: Vec<_> = run.notices.iter().map(|notice| &notice.id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![Just(Sight::Shown), Just(Sight::Hidden), Just(Sight::Stale), Just(Sight::Failed),]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Works),
        Just(Fate::AnswerLost),
        Just(Fate::RequestLost),
        Just(Fate::Throttled),
    ]
}

proptest! {
    /// Whatever is lost, lags or has to wait, with events or without, and
    /// wherever it crashes: every run ends, every partition ends exactly once,
    /// no cluster is left, and no step of a cluster succeeds twice.
    #[test]
    fn every_run_ends_cleanly(
        tasks in 1usize..4,
        steps in 1usize..3,
        fates in proptest::collection::vec(fate(), 0..8),
        failures in proptest::collection::vec((0usize..4, 0usize..3), 0..6),
        dying in 0usize..3,
        crashes in proptest::collection::vec(1usize..20, 0..4),
        side_by_side: bool,
        sights in proptest::collection::vec(sight(), 0..10),
        arriving in proptest::option::of(proptest::collection::vec(any::<bool>(), 0..12)),
        postponed in proptest::collection::vec(any::<bool>(), 0..10),
    ) {
        // Only tasks of one step may share a cluster with others' steps.
        let continues = side_by_side && steps == 1;
        let mut run = run(tasks, steps);
        run.cluster.log_uri = Some("s3://logs/".into());
        let mut emr = FakeEmr {
            fates, dying, continues, sights, arriving, postponed, ..FakeEmr::default()
        };
        for (task, step) in failures {
            let name = format!("t{task}/2013-01-01T05/s{step}");
            emr.outcomes.entry(name).or_default().push(false);
        }
        let changes = follow(&mut run, &mut emr, |act| crashes.contains(&act));
        prop_assert!(run.state.is_final());
        prop_assert_eq!(changes.len(), tasks);
        prop_assert!(changes.iter().all(|change| change.to.is_final()));
        emr.go_on_all(at(0));
        prop_assert_eq!(emr.alive(), 0);
        prop_assert_eq!(emr.clusters.len(), run.attempts.len());
        prop_assert!(run.logs.iter().all(|log| log.give_up.is_some()), "waited for without end");
        for cluster in &emr.clusters {
            let mut completed: Vec<_> = cluster
                .steps
                .iter()
                .filter(|step| step.state == StepState::Completed)
                .filter_map(|step| step.name.rsplit_once('/'))
                .map(|(plain, _)| plain)
                .collect();
            let all = completed.len();
            completed.sort_unstable();
            completed.dedup();
            prop_assert_eq!(completed.len(), all);
        }
    }

    /// With guards, the same without any bound: calls take effect after they
    /// were given up, lists never show what they should. Of the clusters of an
    /// attempt one at most executes its steps, each submission once, and none is
    /// left.
    #[test]
    fn guards_need_no_bounds(
        tasks in 1usize..4,
        steps in 1usize..3,
        fates in proptest::collection::vec(prop_oneof![fate(), Just(Fate::Late)], 0..10),
        failures in proptest::collection::vec((0usize..4, 0usize..3), 0..6),
        dying in 0usize..3,
        crashes in proptest::collection::vec(1usize..20, 0..4),
        sights in proptest::collection::vec(sight(), 0..12),
        arriving in proptest::option::of(proptest::collection::vec(any::<bool>(), 0..12)),
    ) {
        let mut run = run(tasks, steps);
        run.cluster.guard = true;
        let mut emr = FakeEmr {
            fates, dying, sights, arriving, lags_without_bound: true, ..FakeEmr::default()
        };
        for (task, step) in failures {
            let name = format!("t{task}/2013-01-01T05/s{step}");
            emr.outcomes.entry(name).or_default().push(false);
        }
        let changes = follow(&mut run, &mut emr, |act| crashes.contains(&act));
        prop_assert!(run.state.is_final());
        prop_assert_eq!(changes.len(), tasks);
        for _ in 0..3 {
            emr.go_on_all(at(0));
        }
        prop_assert_eq!(emr.alive(), 0);
        let mut executing: Vec<_> =
            emr.clusters.iter().filter(|cluster| cluster.executes).map(|cluster| &cluster.name).collect();
        let all = executing.len();
        executing.sort_unstable();
        executing.dedup();
        prop_assert_eq!(executing.len(), all, "two clusters of one attempt executed steps");
        for cluster in &emr.clusters {
            let ran = |step: &&StepSeen| {
                matches!(step.state, StepState::Completed | StepState::Failed)
                    && !step.name.starts_with(GUARD_PREFIX)
            };
            let mut names: Vec<_> = cluster.steps.iter().filter(ran).map(|step| &step.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), all, "a submission was executed twice");
        }
    }
}
