//! One sentence for every state, as a person reads it.

mod causes;
mod running;

use jiff::SignedDuration;

use super::*;
use crate::core::catalog::LateData;
use crate::core::catalog::testing::profile;
use crate::core::catalog::{
    AttemptPolicy, Dataset, Input, Need, OnTimeout, Profile, StepSpec, StepWork, WaitLimit,
    WhenEmpty,
};
use crate::core::late::Late;
use crate::core::load::testing::spec;
use crate::core::load::{Load, Mode};
use crate::core::partition::Grain;
use crate::core::render::Text;
use crate::core::run::{
    Act, CallFailure, ClusterSeen, ClusterState, Hints, Observation, Outcome, StepSeen, StepState,
};
use crate::core::schedule::{CatchUp, Schedule, SlotPartition};
use crate::core::task::{Receipt, Round};
use crate::core::template::Template;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn dataset(name: &str, location: &str, completeness: Completeness) -> Dataset {
    let location = Template::parse(location).unwrap();
    Dataset { name: name.into(), location, completeness, list: true }
}

fn input(dataset: &str, from: i64, to: i64) -> Input {
    let hours = SignedDuration::from_hours;
    Input { dataset: dataset.into(), from: hours(from), to: hours(to), need: Need::All }
}

/// `etl` is hourly at minute 5; `report` is daily, of 24 hours and a file.
fn catalog() -> Catalog {
    let closed = Completeness::Closed { settle: SignedDuration::from_mins(16) };
    let datasets = vec![
        dataset("raw", "s3://b/raw/{yyyy}/{MM}/{dd}/{HH}/*", closed),
        dataset("weather", "s3://b/w/{yyyy}{MM}{dd}", Completeness::Object),
        dataset(
            "hourly",
            "s3://b/etl/{yyyy}/{MM}/{dd}/{HH}/",
            Completeness::Produced { task: "etl".into() },
        ),
    ];
    let retry = crate::core::catalog::Retry {
        attempts: 2,
        delay: SignedDuration::from_mins(5),
        backoff_rate: 1.0,
    };
    let step = |name: &str| StepSpec {
        name: name.into(),
        work: StepWork::Command { args: vec![Text::parse("true").unwrap()] },
        retry,
    };
    let task = |name: &str, grain, inputs, outputs: &[&str]| Task {
        name: name.into(),
        profile: "p".into(),
        grain,
        schedule: None,
        inputs,
        need: Need::All,
        wait: None,
        time_limits: Default::default(),
        outputs: outputs.iter().map(ToString::to_string).collect(),
        when_empty: WhenEmpty::Skip,
        late_data: Default::default(),
        attempt_timeout: None,
        steps: vec![step("extract"), step("load")],
        load: None,
        max_active: None,
    };
    let mut etl = task("etl", Grain::Hour, vec![input("raw", 0, 1)], &["hourly"]);
    etl.schedule = Some(Schedule::parse("5 * * * *", "UTC", SlotPartition::Previous).unwrap());
    let report =
        task("report", Grain::Day, vec![input("hourly", 0, 24), input("weather", 0, 24)], &[]);
    let p = Profile { batch_size: 4, max_wait: SignedDuration::from_mins(10), ..profile("p") };
    Catalog::new("x".into(), datasets, vec![p], vec![etl, report])
}

struct Case {
    catalog: Catalog,
    key: TaskKey,
    item: Option<TaskPartition>,
    run: Option<Run>,
    ready: usize,
    mark: Option<Timestamp>,
    producers: BTreeMap<TaskKey, TaskState>,
    usual: BTreeMap<String, Usual>,
    paused: Option<(Scope, Asked)>,
    full: Option<Full>,
    to_come: Option<Backfill>,
}

impl Case {
    fn new(task: &str, partition: &str) -> Self {
        Self {
            catalog: catalog(),
            key: TaskKey::new(task, partition.parse().unwrap()),
            item: None,
            run: None,
            ready: 0,
            mark: None,
            producers: BTreeMap::new(),
            usual: BTreeMap::new(),
            paused: None,
            full: None,
            to_come: None,
        }
    }

    fn item(&mut self) -> &mut TaskPartition {
        self.item.get_or_insert_with(|| TaskPartition::new(self.key.clone()))
    }

    fn received(mut self, element: &str, receipt: &str) -> Self {
        self.item().received.insert(element.parse().unwrap(), receipt.parse().unwrap());
        self
    }

    fn why(&self, now: &str) -> Why {
        let known = Known {
            key: &self.key,
            item: self.item.as_ref(),
            run: self.run.as_ref(),
            ready: self.ready,
            mark: self.mark,
            producers: &self.producers,
            usual: &self.usual,
            full: self.full.as_ref(),
            to_come: self.to_come.as_ref(),
            paused: self.paused.as_ref().map(|(scope, asked)| (scope, asked)),
        };
        why(&self.catalog, &self.catalog.tasks[&self.key.task], known, at(now))
    }

    #[track_caller]
    fn says(&self, now: &str, sentence: &str) {
        assert_eq!(self.why(now).sentence, sentence);
    }

    /// Running on a cluster of its own, with `observe` seen one after another.
    fn running(mut self, observe: Vec<Vec<(&str, Observation)>>) -> Self {
        self.item().state = TaskState::Running;
        self.item().run = Some("R1".into());
        let ready =
            TaskPartition { state: TaskState::Ready, ..TaskPartition::new(self.key.clone()) };
        let task = &self.catalog.tasks[&self.key.task];
        let start = at("2013-01-01T06:20:00Z");
        let profile = &self.catalog.profiles["p"];
        let (mut run, _) = Run::new(&self.catalog, profile, &[(task, &ready)], "R1", start);
        for (now, observation) in observe.into_iter().flatten() {
            let _ = run.decide(observation, &Hints::default(), at(now));
        }
        self.run = Some(run);
        self
    }
}

/// What a look shows: the cluster, then its steps.
fn seen(state: ClusterState, steps: &[(&str, StepState)]) -> [Observation; 2] {
    let steps = steps.iter().enumerate().map(|(number, (name, state))| StepSeen {
        id: format!("s-{number}"),
        name: (*name).to_owned(),
        state: *state,
        created: None,
        started: Some(at("2013-01-01T06:30:00Z")),
        ended: state.has_ended().then(|| at("2013-01-01T06:40:00Z")),
        failure: None,
    });
    let cluster = ClusterSeen { state, reason: String::new(), ended: None };
    [Observation::Described(cluster), Observation::Steps(steps.collect())]
}

#[test]
fn a_partition_that_nothing_has_reached_says_what_it_needs() {
    let hour = Case::new("etl", "2013-01-01T05");
    hour.says(
        "2013-01-01T05:30:00Z",
        "etl 2013-01-01T05 waits for its slot at 06:05 UTC and \
         raw 2013-01-01T05, which closes at 06:16 UTC.",
    );
    let why = hour.why("2012-12-31T23:00:00Z");
    assert!(!why.stored);
    assert_eq!(why.until, Some(at("2013-01-01T06:16:00Z")));
    assert!(why.sentence.contains("its slot at 2013-01-01 06:05 UTC"), "{}", why.sentence);
    Case::new("report", "2013-01-01").says(
        "2013-01-01T00:00:00Z",
        "report 2013-01-01 has received nothing yet and waits for all 24 partitions of hourly \
         (00, 01, … 23), which etl produces and weather 2013-01-01.",
    );
}

#[test]
fn a_waiting_window_names_what_is_missing() {
    let mut day = Case::new("report", "2013-01-01").received("weather@2013-01-01", "object:e");
    for hour in (0..24).filter(|hour| !(5..8).contains(hour)) {
        day = day.received(&format!("hourly@2013-01-01T{hour:02}"), "run:R0");
    }
    day.says(
        "2013-01-02T03:00:00Z",
        "report 2013-01-01 waits for 3 of 24 partitions of hourly (05, 06, 07), which etl produces.",
    );
    let why = day.why("2013-01-02T03:00:00Z");
    assert_eq!(why.waits_for.len(), 1);
    assert_eq!((why.waits_for[0].missing.len(), why.waits_for[0].total), (3, 24));
    let task = &day.catalog.tasks["report"];
    let lacking = producers(&day.catalog, task, day.item.as_ref().unwrap());
    assert_eq!(lacking.len(), 3);
    day.producers.insert(lacking[1].clone(), TaskState::Failed);
    day.producers.insert(lacking[2].clone(), TaskState::Running);
    day.says(
        "2013-01-02T03:00:00Z",
        "report 2013-01-01 waits for 3 of 24 partitions of hourly (05, 06, 07), which etl \
         produces and FAILED for 2013-01-01T06.",
    );
}

/// Where only data brings it further: by when that is usually there.
#[test]
fn what_is_missing_is_told_with_when_it_usually_comes() {
    let timing = |day: &str, ready: &str| Timing {
        partition: day.parse().unwrap(),
        ready: Some(at(ready)),
        succeeded: Some(at(ready) + SignedDuration::from_mins(30)),
    };
    let timings = [
        timing("2012-12-31", "2013-01-01T01:10:00Z"),
        timing("2012-12-30", "2012-12-31T01:00:00Z"),
        timing("2012-12-29", "2012-12-30T09:00:00Z"),
    ];
    let mut day = Case::new("report", "2013-01-01");
    for hour in 0..23 {
        day = day.received(&format!("hourly@2013-01-01T{hour:02}"), "run:R0");
    }
    let missing = "report 2013-01-01 waits for 1 of 24 partitions of hourly (2013-01-01T23), which \
                   etl produces";
    let now = "2013-01-02T00:30:00Z";
    day.says(now, &format!("{missing} and weather 2013-01-01."));
    let usual = Usual::of(&day.catalog.tasks["report"], &timings);
    day.usual.insert("report".into(), usual);
    let everything = "; usually everything is there by 01:10 UTC (median of its last 3 partitions)";
    day.says(now, &format!("{missing} and weather 2013-01-01{everything}."));
    let usually = day.why(now).usually.unwrap();
    assert_eq!((usually.at, usually.partitions), (at("2013-01-02T01:10:00Z"), 3));
    // It follows whether what is missing is late already.
    day.says(
        "2013-01-03T00:30:00Z",
        &format!(
            "{missing} and weather 2013-01-01{}.",
            everything.replace("01:10", "2013-01-02 01:10")
        ),
    );

    // What a task produces is usually there when that is done.
    let mut day = day.received("weather@2013-01-01", "object:e");
    day.says(now, &format!("{missing}{everything}."));
    day.usual.insert("etl".into(), usual);
    day.says(now, &format!("{missing}, usually by 01:40 UTC."));
    let wait = day.why(now).waits_for.remove(0);
    assert_eq!(wait.usually.unwrap().at, at("2013-01-02T01:40:00Z"));
    let lacking = TaskKey::new("etl", "2013-01-01T23".parse().unwrap());
    day.producers.insert(lacking, TaskState::Failed);
    let said = day.why(now).sentence;
    assert!(said.contains("and FAILED for it") && !said.contains("usually by"), "{said}");

    // Time alone brings this one: nothing is usual about it.
    let mut hour = Case::new("etl", "2013-01-01T05");
    hour.usual.insert("etl".into(), usual);
    assert!(!hour.why("2013-01-01T05:30:00Z").sentence.contains("usually"));
}

#[test]
fn a_slot_that_is_late_or_never_comes_is_told() {
    let mut hour = Case::new("etl", "2013-01-01T05").received("raw@2013-01-01T05", "closed:3");
    let passed = "etl 2013-01-01T05 waits for its slot at 06:05 UTC (before its schedule was first \
                  seen, or last changed: it does not come by itself).";
    hour.says("2013-01-01T08:00:00Z", passed);
    hour.mark = Some(at("2013-01-01T06:00:00Z"));
    hour.says(
        "2013-01-01T06:06:00Z",
        "etl 2013-01-01T05 waits for its slot at 06:05 UTC, which has passed and is not yet \
         taken up (is the service running?).",
    );
    hour.mark = Some(at("2013-01-01T07:00:00Z"));
    hour.says("2013-01-01T08:00:00Z", passed);
    let etl = hour.catalog.tasks.get_mut("etl").unwrap();
    etl.schedule = Some(Schedule::parse("5 0 * * *", "UTC", SlotPartition::Previous).unwrap());
    hour.says(
        "2013-01-01T08:00:00Z",
        "etl 2013-01-01T05 waits for a slot that never comes: its schedule has none for this \
         partition.",
    );
}

#[test]
fn a_period_that_is_over_says_who_closes_it() {
    let key = "etl 2013-01-01T05 waits for raw 2013-01-01T05, which is over and";
    let mut hour = Case::new("etl", "2013-01-01T05").received("slot", "slot:2013-01-01T06:05:00Z");
    for (now, due, words) in [
        ("2013-01-01T06:17:00Z", Some("2013-01-01T06:16:00Z"), "about to be closed"),
        ("2013-01-01T06:17:00Z", Some("2013-01-01T07:16:00Z"), "is looked at again at 07:16 UTC"),
        (
            "2013-01-01T09:17:00Z",
            Some("2013-01-01T06:16:00Z"),
            "due to be closed since 06:16 UTC (is the service running?)",
        ),
        (
            "2013-01-01T09:17:00Z",
            None,
            "is looked at again when something comes or the service starts",
        ),
    ] {
        hour.item().due = due.map(at);
        hour.says(now, &format!("{key} {words}."));
    }
    let all = hour.received("raw@2013-01-01T05", "closed:3");
    all.says(
        "2013-01-01T06:17:00Z",
        "etl 2013-01-01T05 has everything it needs and is about to become ready.",
    );
}

/// Told as the service would decide when it comes back.
#[test]
fn a_slot_that_is_not_made_up_is_not_told_as_what_is_about_to_come() {
    for (catch_up, hour, comes) in [
        (CatchUp::All, "2013-01-01T05", true),
        (CatchUp::Last, "2013-01-01T05", false),
        (CatchUp::Last, "2013-01-01T06", true),
        (CatchUp::None, "2013-01-01T06", false),
    ] {
        let mut case = Case::new("etl", hour).received(&format!("raw@{hour}"), "closed:3");
        let etl = case.catalog.tasks.get_mut("etl").unwrap();
        etl.schedule = etl.schedule.take().map(|schedule| schedule.catching_up(catch_up));
        case.mark = Some(at("2013-01-01T05:05:00Z"));
        let why = case.why("2013-01-01T07:30:00Z");
        let not_made_up = format!(
            "(missed, and not made up as catch-up = {:?} says, or before its schedule was first \
             seen: it does not come by itself)",
            catch_up.name()
        );
        let expected = match comes {
            true => "which has passed and is not yet taken up (is the service running?)",
            false => not_made_up.as_str(),
        };
        assert!(why.sentence.contains(expected), "{}", why.sentence);
    }
}

/// Where every slot is made up, only one before the calendar's begin does not come.
#[test]
fn a_slot_before_the_calendar_is_not_told_as_passed_over() {
    for catch_up in [CatchUp::All, CatchUp::NewestFirst] {
        let hour = "2013-01-01T03";
        let mut case = Case::new("etl", hour).received(&format!("raw@{hour}"), "closed:3");
        let etl = case.catalog.tasks.get_mut("etl").unwrap();
        etl.schedule = etl.schedule.take().map(|schedule| schedule.catching_up(catch_up));
        case.mark = Some(at("2013-01-01T05:05:00Z"));
        let why = case.why("2013-01-01T07:30:00Z");
        let said =
            "(before its schedule was first seen, or last changed: it does not come by itself)";
        assert!(why.sentence.contains(said), "{}", why.sentence);
    }
}

/// Its slot was lost, or it is older than the task: nothing is about to happen.
#[test]
fn a_period_that_nobody_looks_at_is_not_about_to_be_closed() {
    let mut hour = Case::new("etl", "2012-01-01T05");
    hour.mark = Some(at("2013-01-01T06:05:00Z"));
    hour.says(
        "2013-01-01T06:17:00Z",
        "etl 2012-01-01T05 waits for its slot at 2012-01-01 06:05 UTC \
         (before its schedule was first seen, or last changed: it does not come by itself) and raw \
         2012-01-01T05, which is over and is closed when the slot has come.",
    );
    assert_eq!(hour.why("2013-01-01T06:17:00Z").until, None);

    let etl = hour.catalog.tasks.get_mut("etl").unwrap();
    etl.schedule = None;
    let start = "etl 2012-01-01T05 waits for raw 2012-01-01T05, which \
                 is over and";
    hour.says("2013-01-01T06:17:00Z", &format!("{start} is closed when something has come."));

    // Its calendar ends its waiting, but only of partitions after the mark.
    let timeout = SignedDuration::from_hours(2);
    let wait = Some(WaitLimit { timeout, then: OnTimeout::Fail });
    hour.catalog.tasks.get_mut("etl").unwrap().wait = wait;
    hour.says("2013-01-01T06:17:00Z", &format!("{start} is closed when something has come."));
    hour.mark = Some(at("2012-01-01T04:00:00Z"));
    hour.says(
        "2012-01-01T09:00:00Z",
        "etl 2012-01-01T05 waits for raw 2012-01-01T05, which is over \
         and due to be closed since 06:00 UTC (is the service running?); its time is up since \
         08:00 UTC: it fails at the next look.",
    );
}

#[test]
fn a_ready_partition_waits_for_its_batch() {
    let mut hour = Case::new("etl", "2013-01-01T05");
    hour.item().state = TaskState::Ready;
    hour.item().ready_at = Some(at("2013-01-01T06:16:00Z"));
    hour.ready = 3;
    hour.says(
        "2013-01-01T06:20:00Z",
        "etl 2013-01-01T05 is ready since 06:16 UTC and waits for 1 more ready partition of \
         profile p to fill a batch of 4, or until 06:26 UTC at the latest.",
    );
    assert_eq!(hour.why("2013-01-01T06:20:00Z").until, Some(at("2013-01-01T06:26:00Z")));
    let due = "etl 2013-01-01T05 is ready since 06:16 UTC and its batch of profile p is due: a run \
               is about to be made, unless the service is not running.";
    hour.says("2013-01-01T06:30:00Z", due);
    hour.ready = 4;
    hour.says("2013-01-01T06:20:00Z", due);
}

#[test]
fn a_cap_is_said_while_it_holds_back_what_is_ready() {
    use crate::core::cap::Capped;
    let mut hour = Case::new("etl", "2013-01-01T05");
    hour.item().state = TaskState::Ready;
    hour.item().ready_at = Some(at("2013-01-01T06:16:00Z"));
    for (of, words) in [
        (Capped::Task("etl".into()), "2 of task etl run, and 2 may at once"),
        (Capped::Profile("p".into()), "2 clusters of profile p are at work, and 2 may be at once"),
        (Capped::Deployment, "2 clusters are at work, and 2 may be at once"),
    ] {
        hour.full = Some(Full { of, count: 2, max: 2 });
        let start = "etl 2013-01-01T05 is ready since 06:16 UTC and held back";
        hour.says("2013-01-01T06:20:00Z", &format!("{start}: {words}."));
    }
}

#[test]
fn a_backfill_is_said_by_its_name() {
    let window = crate::core::backfill::Window {
        task: "etl".into(),
        first: "2013-01-01T00".parse().unwrap(),
        last: "2013-01-01T23".parse().unwrap(),
        max_parallel: 2,
        order: Default::default(),
        force: false,
        ignore_inputs: false,
    };
    let asked = Asked::new("alice", None, at("2013-01-05T06:00:00Z"));
    let mut backfill = Backfill::new("B", window, asked);
    backfill.begin();
    let mut hour = Case::new("etl", "2013-01-01T05");
    assert!(!backfill.is_to_come(&TaskKey::new("etl", "2013-01-01T01".parse().unwrap())));
    assert!(backfill.is_to_come(&hour.key));
    hour.to_come = Some(backfill);
    let said = hour.why("2013-01-05T06:20:00Z");
    let cap =
        "; backfill B has yet to come to it: 2 of it are ready or running, and 2 may be at once.";
    assert!(said.sentence.ends_with(cap), "{}", said.sentence);
    hour.to_come = None;
    hour.item().state = TaskState::Ready;
    hour.item().round.backfill = Some("B".into());
    let said = hour.why("2013-01-05T06:20:00Z");
    assert!(said.sentence.ends_with("; it belongs to backfill B."), "{}", said.sentence);
    assert_eq!(said.backfill.as_deref(), Some("B"));
}

#[test]
fn a_member_that_is_being_cancelled_says_who_wants_it() {
    let launch = vec![("2013-01-01T06:20:00Z", Observation::Nothing)];
    let mut hour = Case::new("etl", "2013-01-01T05").running(vec![launch]);
    let asked = Asked::new("alice", Some("wrong data"), at("2013-01-01T06:25:00Z"));
    hour.run.as_mut().unwrap().ask_cancel(|_| true, &asked);
    let said = hour.why("2013-01-01T06:30:00Z").sentence;
    assert!(
        said.contains(" and is being cancelled since 06:25 UTC by alice (wrong data): its cluster"),
        "{said}"
    );
}

#[test]
fn a_pause_is_said_with_who_made_it() {
    let asked = Asked::new("alice", Some("new release"), at("2013-01-01T06:00:00Z"));
    let mut hour = Case::new("etl", "2013-01-01T05");
    hour.paused = Some((Scope::Task("etl".into()), asked.clone()));
    hour.item().state = TaskState::Ready;
    hour.item().ready_at = Some(at("2013-01-01T06:16:00Z"));
    hour.says(
        "2013-01-01T06:20:00Z",
        "etl 2013-01-01T05 is ready since 06:16 UTC and held back: task etl is paused since \
         06:00 UTC by alice (new release).",
    );
    let mut day = Case::new("report", "2013-01-01");
    day.paused = Some((Scope::All, Asked { reason: None, ..asked.clone() }));
    let said = day.why("2013-01-02T06:20:00Z");
    assert!(
        said.sentence.ends_with("; every task is paused since 2013-01-01 06:00 UTC by alice."),
        "{}",
        said.sentence
    );
    assert_eq!(said.paused.unwrap().by, "alice");
    // What runs goes on, and says so.
    hour.item().state = TaskState::Running;
    assert!(!hour.why("2013-01-01T06:20:00Z").sentence.contains("paused"));
}

#[test]
fn what_runs_again_for_late_data_says_when() {
    let mut hour = Case::new("etl", "2013-01-01T05");
    let hours = SignedDuration::from_hours;
    let again = LateData::RunAgain { until: hours(10), back_off: hours(1) };
    hour.catalog.tasks.get_mut("etl").unwrap().late_data = again;
    let element: Element = "raw@2013-01-01T05".parse().unwrap();
    let late = Late::default().with(&[(element, Receipt::Closed(3), 2)]);
    let item = hour.item();
    (item.state, item.since) = (TaskState::Skipped, Some(at("2013-01-01T06:29:00Z")));
    (item.reason, item.late) = (Some("no data".into()), Some(late));
    let skipped = "etl 2013-01-01T05 was skipped at 06:29 UTC: no data";
    let runs = format!("{skipped}; 2 objects came late, and it runs again at 07:29 UTC.");
    hour.says("2013-01-01T07:00:00Z", &runs);
    assert_eq!(hour.why("2013-01-01T07:00:00Z").until, Some(at("2013-01-01T07:29:00Z")));
    hour.says("2013-01-01T16:01:00Z", &format!("{skipped}."));
}

#[test]
fn a_load_that_failed_is_told_with_the_way_to_load_it_alone() {
    let mut hour = Case::new("etl", "2013-01-01T05");
    hour.catalog.tasks.get_mut("etl").unwrap().load = Some(spec(Mode::Append));
    let item = hour.item();
    (item.state, item.since) = (TaskState::Failed, Some(at("2013-01-01T06:29:00Z")));
    item.reason = Some("the load failed: no such column".to_owned());
    item.load = Some(Load::new("R1", at("2013-01-01T06:20:00Z")));
    hour.says(
        "2013-01-01T08:00:00Z",
        "etl 2013-01-01T05 FAILED at 06:29 UTC: the load failed: no such column; its load alone \
         once more: sluicegate retry etl 2013-01-01T05 --load.",
    );
}

#[test]
fn an_ended_partition_says_when_and_why() {
    let mut hour = Case::new("etl", "2013-01-01T05");
    hour.item().since = Some(at("2013-01-01T06:29:00Z"));
    hour.item().run = Some("R1".into());
    for (state, reason, words) in [
        (
            TaskState::Succeeded,
            None,
            "succeeded at 06:29 UTC in run R1; its output is at s3://b/etl/2013/01/01/05/.",
        ),
        (
            TaskState::Failed,
            Some("step load failed: exit code 3."),
            "FAILED at 06:29 UTC in run R1: step load failed: exit code 3.",
        ),
        (
            TaskState::Skipped,
            Some("input raw has no data for 2013-01-01T05"),
            "was skipped at 06:29 UTC: input raw has no data for 2013-01-01T05.",
        ),
        (
            TaskState::Cancelled,
            Some("by alice (wrong data)"),
            "was cancelled at 06:29 UTC in run R1 by alice (wrong data).",
        ),
    ] {
        hour.item().state = state;
        hour.item().reason = reason.map(str::to_owned);
        hour.says("2013-01-01T08:00:00Z", &format!("etl 2013-01-01T05 {words}"));
    }
    hour.item().state = TaskState::Succeeded;
    assert_eq!(hour.why("2013-01-01T08:00:00Z").outputs["hourly"], "s3://b/etl/2013/01/01/05/");
}

/// The report with one input of the given rule, and what that input received.
fn ruled(completeness: Completeness, need: Need, received: &[(&str, &str)]) -> Case {
    let mut case = Case::new("report", "2013-01-01");
    let location = Template::parse("s3://b/p/{yyyy}/{MM}/{dd}/{HH}/*").unwrap();
    let dataset = Dataset { name: "partner".into(), location, completeness, list: true };
    case.catalog.datasets.insert("partner".into(), dataset);
    let mut partner = input("partner", 0, 2);
    partner.need = need;
    case.catalog.tasks.get_mut("report").unwrap().inputs = vec![partner];
    received.iter().fold(case, |case, (element, receipt)| case.received(element, receipt))
}

#[test]
fn every_rule_of_completeness_has_its_words() {
    let marker = Completeness::Marker { name: "_SUCCESS".into() };
    let count = Completeness::Count { objects: 24 };
    let quiet = Completeness::Quiet { quiet: SignedDuration::from_mins(30) };
    let first = ("partner@2013-01-01T00", "object:e");
    let part = ("partner@2013-01-01T01", "partial:2013-01-01T02:00:00Z");
    let begun = ("partner@2013-01-01T01", "begun:2013-01-01T02:00:00Z");
    for (completeness, received, words) in [
        (marker, &[first][..], "whose marker _SUCCESS has not come"),
        (count.clone(), &[first], "which is complete with 24 objects"),
        (
            count,
            &[first, begun],
            "which is complete with 24 objects (the first one came at 02:00 UTC)",
        ),
        (quiet.clone(), &[first], "of which no object has come"),
        (quiet, &[first, part], "which is complete at 02:30 UTC if nothing new comes"),
    ] {
        ruled(completeness, Need::All, received).says(
            "2013-01-01T02:10:00Z",
            &format!(
                "report 2013-01-01 waits for 1 of 2 partitions of partner (2013-01-01T01), {words}."
            ),
        );
    }
}

#[test]
fn a_period_that_cannot_be_listed_says_why() {
    let mut hour = Case::new("etl", "2013-01-01T05").received("slot", "slot:2013-01-01T06:05:00Z");
    hour.item().unlisted = Some("listing s3://b/raw/ failed with AccessDenied: no".into());
    hour.item().due = Some(at("2013-01-01T06:31:00Z"));
    hour.says(
        "2013-01-01T06:30:00Z",
        "etl 2013-01-01T05 waits for raw 2013-01-01T05, which is over and is not closed before its \
         objects can be listed (listing s3://b/raw/ failed with AccessDenied: no); it is tried \
         again at 06:31 UTC.",
    );
}

#[test]
fn what_is_enough_and_until_when_is_said() {
    let mut case = ruled(Completeness::Object, Need::AtLeast(1), &[]);
    let task = case.catalog.tasks.get_mut("report").unwrap();
    task.wait = Some(WaitLimit { timeout: SignedDuration::from_hours(6), then: OnTimeout::Run });
    case.mark = Some(at("2013-01-01T00:00:00Z"));
    case.says(
        "2013-01-02T02:10:00Z",
        "report 2013-01-01 has received nothing yet and waits for 1 more of 2 partitions of \
         partner (any of 00, 01); at 06:00 UTC it runs with what is there.",
    );
    assert_eq!(case.why("2013-01-02T02:10:00Z").until, Some(at("2013-01-02T06:00:00Z")));
}
