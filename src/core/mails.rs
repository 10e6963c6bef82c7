//! What people read: a snapshot of every kind of mail that the core makes, each
//! made by the code that makes it in service. Not for the rules of subjects and
//! bodies (see `notice`), nor for the mails of the inbox (see `sources::inbox`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::asked::Asked;
use super::catalog::testing::{profile, task};
use super::catalog::{
    Catalog, Completeness, Dataset, Input, Need, OnTimeout, Profile, Retry, StepSpec, StepWork,
    Task, WaitLimit, WhenEmpty,
};
use super::fold::Likeness;
use super::late::Late;
use super::lateness::{TimeLimits, look, notices};
use super::notice::Notice;
use super::partition::Grain;
use super::readiness::{Readiness, readiness};
use super::render::Text;
use super::run::{
    CallFailure, ClusterSeen, ClusterState, Hints, LogSeen, Observation, Run, StepSeen, StepState,
};
use super::task::{Element, Receipt, TaskChange, TaskKey, TaskPartition, TaskState};
use super::template::Template;
use super::why::{Known, why};

const RUN: &str = "01HZ5T3W8M2V9N4K7Q6R1C0XDB";
const CLUSTER: &str = "j-2AXXXXXXGAPLF";

/// Minutes after the hour 05 has closed.
fn at(minutes: i64) -> Timestamp {
    let closed: Timestamp = "2013-01-01T06:20:00Z".parse().unwrap();
    closed + SignedDuration::from_mins(minutes)
}

fn catalog(when_empty: WhenEmpty) -> Catalog {
    let dataset = |name: &str, location: &str, completeness| Dataset {
        name: name.into(),
        location: Template::parse(location).unwrap(),
        completeness,
        list: true,
    };
    let closed = Completeness::Closed { settle: SignedDuration::from_mins(20) };
    let produced = Completeness::Produced { task: "etl".into() };
    let datasets = vec![
        dataset("raw-logs", "s3://landing/rawdata/{yyyy}/{MM}/{dd}/{HH}/*", closed),
        dataset("hourly-logs", "s3://results/etl/{yyyy}/{MM}/{dd}/{HH}/", produced),
    ];
    let work = || StepWork::Command { args: vec![Text::parse("true").unwrap()] };
    let retry = Retry { attempts: 1, delay: SignedDuration::from_secs(30), backoff_rate: 2.0 };
    let step = |name: &str| StepSpec { name: name.into(), work: work(), retry };
    let task = Task {
        name: "etl".into(),
        profile: "spark".into(),
        grain: Grain::Hour,
        schedule: None,
        inputs: vec![Input {
            dataset: "raw-logs".into(),
            from: SignedDuration::ZERO,
            to: SignedDuration::from_hours(1),
            need: Need::All,
        }],
        outputs: vec!["hourly-logs".into()],
        need: Need::All,
        wait: None,
        time_limits: Default::default(),
        when_empty,
        late_data: Default::default(),
        attempt_timeout: None,
        steps: vec![step("transform")],
        load: None,
        max_active: None,
    };
    Catalog::new("prod".into(), datasets, vec![spark()], vec![task])
}

fn spark() -> Profile {
    let mut spark = profile("spark");
    spark.cluster.log_uri = Some("s3://logs/emr/".into());
    spark
}

/// The hour's partition once its inputs are counted.
fn item(hour: &str, objects: u64) -> TaskPartition {
    let partition = format!("2013-01-01T{hour}").parse().unwrap();
    let mut item = TaskPartition::new(TaskKey::new("etl", partition));
    let element = format!("raw-logs@2013-01-01T{hour}").parse().unwrap();
    item.received.insert(element, format!("closed:{objects}").parse().unwrap());
    item.since = Some(at(-77));
    item.ready_at = Some(at(0));
    item
}

/// What the hour 05 is told with when it stops waiting.
fn decided(task: &Task, item: &TaskPartition) -> String {
    match readiness(&catalog(task.when_empty), task, item, at(0)) {
        Readiness::Change(change) => change.notice.message("prod").as_text(),
        other => panic!("expected a change, not {other:?}"),
    }
}

/// A run of the hours 05 and 06, and what has been told of it so far.
struct Story {
    run: Run,
    changes: Vec<TaskChange>,
}

impl Story {
    fn of(hours: &[&str]) -> Self {
        Self::with(catalog(WhenEmpty::Run), hours)
    }

    fn with(catalog: Catalog, hours: &[&str]) -> Self {
        let items: Vec<_> = hours.iter().map(|hour| item(hour, 26)).collect();
        let batch: Vec<_> = items.iter().map(|item| (&catalog.tasks["etl"], item)).collect();
        let (run, changes) = Run::new(&catalog, &spark(), &batch, RUN, at(5));
        Self { run, changes }
    }

    fn see(&mut self, minutes: i64, observation: Observation) {
        let decision = self.run.decide(observation, &Hints::default(), at(minutes));
        self.changes.extend(decision.changes);
    }

    fn launch(&mut self, minutes: i64) {
        self.see(minutes, Observation::Nothing);
        self.see(minutes, Observation::Launched(Ok(CLUSTER.into())));
    }

    /// A look at the cluster, at whose steps this is how they stand; the first
    /// of them may have failed.
    fn look(&mut self, minutes: i64, state: ClusterState, steps: &[StepState]) {
        let tries = &self.run.attempt().unwrap().tries;
        let steps = tries.iter().zip(steps).enumerate().map(|(number, (step_try, state))| {
            let failed = *state == StepState::Failed;
            StepSeen {
                id: format!("s-{}EXAMPLE", number + 1),
                name: step_try.name.clone(),
                state: *state,
                created: None,
                started: None,
                ended: step_try.ended.or(state.has_ended().then(|| at(minutes))),
                failure: failed.then(|| "ValueError: bad hour\n  in line 7".into()),
            }
        });
        let reason = match state {
            ClusterState::TerminatedWithErrors => "INSTANCE_FAILURE: the primary was lost",
            _ => "",
        };
        let steps = Observation::Steps(steps.collect());
        let seen = ClusterSeen { state, reason: reason.into(), ended: None };
        self.see(minutes, Observation::Described(seen));
        self.see(minutes, steps);
    }

    /// All notices, by kind and status.
    fn notices(&self) -> BTreeMap<String, &Notice> {
        let of_tasks = self.changes.iter().map(|change| &change.notice);
        let all = self.run.notices.iter().chain(of_tasks);
        all.map(|notice| (format!("{}-{}", notice.kind.name(), notice.status), notice)).collect()
    }
}

/// Compares the named mails with their snapshots.
fn check(story: &Story, prefix: &str, names: &[&str]) {
    let notices = story.notices();
    for name in names {
        let notice = notices.get(*name);
        let notice = notice.unwrap_or_else(|| panic!("no {name} among {:?}", notices.keys()));
        insta::assert_snapshot!(format!("{prefix}{name}"), notice.message("prod").as_text());
    }
}

#[test]
fn partitions_that_wait() {
    for (name, objects, when_empty) in [
        ("task-ready", 26, WhenEmpty::Run),
        ("task-skipped", 0, WhenEmpty::Skip),
        ("task-failed-without-data", 0, WhenEmpty::Fail),
    ] {
        let task = &catalog(when_empty).tasks["etl"];
        insta::assert_snapshot!(name, decided(task, &item("05", objects)));
    }
}

#[test]
fn partitions_that_have_waited_long_enough() {
    let mut task = catalog(WhenEmpty::Run).tasks["etl"].clone();
    let more = Input { dataset: "hourly-logs".into(), ..task.inputs[0].clone() };
    task.inputs.push(more);
    let timeout = SignedDuration::from_mins(15);
    for (name, then) in
        [("task-failed-out-of-time", OnTimeout::Fail), ("task-ready-out-of-time", OnTimeout::Run)]
    {
        task.wait = Some(WaitLimit { timeout, then });
        insta::assert_snapshot!(name, decided(&task, &item("05", 26)));
    }
}

#[test]
fn a_partition_whose_input_a_person_takes_for_there() {
    let task = &catalog(WhenEmpty::Run).tasks["etl"];
    let mut item = TaskPartition { received: BTreeMap::new(), ..item("05", 0) };
    let element: Element = "raw-logs@2013-01-01T05".parse().unwrap();
    item.given.insert(element, Receipt::Granted("alice".into()));
    item.received.clone_from(&item.given);
    item.asked = Some(Asked::new("alice", Some("the source is switched off"), at(-5)));
    insta::assert_snapshot!("task-ready-with-inputs-ignored", decided(task, &item));
}

/// What its clock says of a partition, with the answer of `why`; the hour 05 ended
/// at 06:00 and is to be started by 07:00 and ended by 08:00.
fn by_the_clock(item: &TaskPartition, run: Option<&Run>, minutes: i64) -> Vec<(String, String)> {
    let mut catalog = catalog(WhenEmpty::Run);
    let task = catalog.tasks.get_mut("etl").unwrap();
    let hours = |hours| Some(SignedDuration::from_hours(hours));
    task.time_limits = TimeLimits { start_by: hours(1), end_by: hours(2), duration_max: hours(1) };
    let (task, now) = (&catalog.tasks["etl"], at(minutes));
    let known = Known {
        key: &item.key,
        item: Some(item),
        run,
        ready: 1,
        mark: Some(at(-20)),
        producers: &BTreeMap::new(),
        usual: &BTreeMap::new(),
        paused: None,
        full: None,
        to_come: None,
    };
    let news = look(task, item, now).news.expect("nothing is told");
    let words = why(&catalog, task, known, now).sentence;
    let notices = notices(task, item, &news, &words, now);
    notices.iter().map(|it| (it.status.clone(), it.message("prod").as_text())).collect()
}

#[test]
fn partitions_that_are_late_and_recover() {
    let mut item = item("05", 26);
    (item.state, item.expected) = (TaskState::Waiting, Some(at(-20)));
    item.received.clear();
    (item.unlisted, item.due) = (Some("AccessDenied: s3:ListBucket".into()), Some(at(41)));
    let [(status, start)] = &by_the_clock(&item, None, 40)[..] else {
        panic!("expected one notice")
    };
    insta::assert_snapshot!(format!("task-{status}"), start);
    item.state = TaskState::Running;
    (item.began, item.since) = (Some(at(50)), Some(at(50)));
    item.run = Some(RUN.into());
    let mut story = Story::of(&["05"]);
    story.launch(50);
    story.look(54, ClusterState::Running, &[StepState::Running]);
    let run = Some(&story.run);
    let [(end, ends), (long, takes)] = &by_the_clock(&item, run, 111)[..] else {
        panic!("expected two notices")
    };
    insta::assert_snapshot!(format!("task-{end}"), ends);
    insta::assert_snapshot!(format!("task-{long}"), takes);
    item.state = TaskState::Succeeded;
    (item.since, item.failed) = (Some(at(130)), Some(at(115)));
    item.told = serde_json::from_value(serde_json::json!([
        { "limit": "end-by", "round": 0, "since": at(100) }
    ]))
    .unwrap();
    let [(status, recovered)] = &by_the_clock(&item, run, 130)[..] else {
        panic!("expected one notice")
    };
    insta::assert_snapshot!(format!("task-{status}"), recovered);
}

#[test]
fn data_that_comes_late() {
    let mut item = item("05", 26);
    (item.state, item.run) = (TaskState::Succeeded, Some(RUN.into()));
    let element: Element = "raw-logs@2013-01-01T05".parse().unwrap();
    let mut late = Late::default().with(&[(element, Receipt::Closed(28), 2)]);
    let mut task = task("etl", Grain::Hour, Vec::new());
    task.profile = "spark".into();
    let notice = late.tell(&item, &task, at(70)).unwrap();
    insta::assert_snapshot!("task-late-data", notice.message("prod").as_text());
}

#[test]
fn a_run_that_succeeds() {
    use StepState::{Completed, Running};
    let mut story = Story::of(&["05"]);
    story.launch(5);
    story.look(9, ClusterState::Running, &[Running]);
    story.look(21, ClusterState::Waiting, &[Completed]);
    story.look(23, ClusterState::Terminated, &[Completed]);
    check(
        &story,
        "",
        &[
            "run-launching",
            "task-running",
            "run-starting",
            "run-running",
            "task-succeeded",
            "run-terminating",
            "run-run-succeeded",
        ],
    );
}

#[test]
fn a_partition_whose_output_is_loaded() {
    use super::load::{Mode, testing};
    let mut catalog = catalog(WhenEmpty::Run);
    catalog.tasks.get_mut("etl").unwrap().load = Some(testing::spec(Mode::Append));
    let mut story = Story::with(catalog, &["05"]);
    story.launch(5);
    story.look(21, ClusterState::Waiting, &[StepState::Completed]);
    check(&story, "", &["task-loading"]);
}

#[test]
fn a_run_of_which_one_partition_fails() {
    use StepState::{Cancelled, Completed, Failed};
    let mut story = Story::of(&["05", "06"]);
    story.launch(5);
    story.look(9, ClusterState::Running, &[Failed, Cancelled]);
    // The hour 06 goes on while the retry of 05 waits for its delay.
    story.look(10, ClusterState::Waiting, &[Failed, Cancelled, Completed]);
    story.look(12, ClusterState::Waiting, &[Failed, Cancelled, Completed, Failed]);
    let logs = [LogSeen::TooLarge { file: "stderr.gz".into() }, LogSeen::Tail {
        file: "stderr.gz".into(),
        text: "INFO it starts\n\tat a.b(C.java:7)\nreason: none\n\u{1b}[31mValueError: bad hour\n\n"
            .into(),
    }];
    let wanted = story.run.logs[0].clone();
    assert_eq!(wanted.folder, format!("s3://logs/emr/{CLUSTER}/steps/s-4EXAMPLE/"));
    for (prefix, log) in ["too-large-", ""].into_iter().zip(logs) {
        let mut told = Story { run: story.run.clone(), changes: vec![] };
        assert!(told.run.take_log(&wanted.try_name, &log, at(17)));
        check(&told, prefix, &["step-step-log"]);
        let notices = told.run.notices.len();
        assert!(told.run.take_log(&wanted.try_name, &log, at(18)));
        assert_eq!((told.run.notices.len(), told.run.logs.len()), (notices, 0), "told once");
        // Of a later round it is what a person waits for, and is never folded.
        for (round, answer) in [(0, false), (1, true)] {
            let mut told = story.run.clone();
            told.members[0].round.number = round;
            assert!(told.take_log(&wanted.try_name, &log, at(17)));
            let notice = told.notices.last().unwrap();
            assert_eq!((notice.answer, Likeness::of(notice).is_none()), (answer, answer));
        }
    }
    story.look(16, ClusterState::Terminated, &[]);
    assert!(story.run.state.is_final() && !story.run.is_settled(), "its log is still to come");
    let wanted = &story.run.logs[0];
    assert!(!wanted.is_last_look(at(35)) && wanted.is_last_look(at(36)));
    check(&story, "", &["step-step-failed", "task-failed", "run-run-failed"]);
}

#[test]
fn a_step_without_a_place_for_logs_wants_none() {
    let mut story = Story::of(&["05"]);
    story.run.cluster.log_uri = None;
    story.launch(5);
    story.look(9, ClusterState::Running, &[StepState::Failed]);
    story.look(10, ClusterState::Waiting, &[StepState::Failed]);
    story.look(12, ClusterState::Waiting, &[StepState::Failed, StepState::Failed]);
    assert_eq!(story.run.logs, []);
    check(&story, "without-logs-", &["task-failed"]);
}

#[test]
fn a_run_that_loses_its_clusters() {
    let mut story = Story::of(&["05"]);
    story.launch(5);
    story.look(9, ClusterState::TerminatedWithErrors, &[StepState::Cancelled]);
    check(&story, "", &["run-attempt-lost"]);
    story.launch(10);
    story.look(14, ClusterState::TerminatedWithErrors, &[StepState::Cancelled]);
    check(&story, "lost-", &["task-failed"]);
}

#[test]
fn a_run_that_is_cancelled() {
    let mut story = Story::of(&["05"]);
    story.launch(5);
    story.look(9, ClusterState::Running, &[StepState::Running]);
    story.run.ask_cancel(|_| true, &Asked::new("alice", Some("wrong data"), at(10)));
    story.look(11, ClusterState::Terminating, &[StepState::Running]);
    story.look(13, ClusterState::Terminated, &[StepState::Cancelled]);
    check(&story, "", &["run-cancel-asked", "task-cancelled", "run-run-cancelled"]);
}

#[test]
fn a_run_that_cannot_be_seen() {
    let mut story = Story::of(&["05"]);
    story.launch(5);
    story.see(130, Observation::NotSeen);
    check(&story, "", &["run-not-seen"]);
    story.look(131, ClusterState::Terminating, &[StepState::Running]);
    check(&story, "lifetime-", &["task-failed"]);
}

#[test]
fn a_run_whose_cluster_emr_has_forgotten() {
    let mut story = Story::of(&["05"]);
    story.launch(5);
    story.see(130, Observation::Absent);
    check(&story, "forgotten-", &["task-failed", "run-run-failed"]);
}

#[test]
fn a_run_that_emr_refuses() {
    let mut story = Story::of(&["05"]);
    story.see(5, Observation::Nothing);
    let refused = CallFailure::Refused("ValidationException: no such release label".into());
    story.see(5, Observation::Launched(Err(refused)));
    check(&story, "refused-", &["task-failed", "run-run-failed"]);
}

#[test]
fn a_partition_that_emr_would_not_take() {
    let mut catalog = catalog(WhenEmpty::Run);
    let args = vec![Text::parse(&"x".repeat(20_000)).unwrap()];
    let task = catalog.tasks.get_mut("etl").unwrap();
    task.steps[0].work = StepWork::Command { args };
    let story = Story::with(catalog, &["05"]);
    check(&story, "not-begun-", &["task-failed", "run-run-failed"]);
}
