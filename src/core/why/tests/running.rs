//! What is said of a partition that a run has, and while its output is loaded.

use super::*;
use crate::core::load::{Load, LoadSpec, Mode, Place, Stage, Trouble, Warehouse};
use crate::core::run::GUARD_PREFIX;

#[test]
fn a_running_partition_says_what_its_cluster_does() {
    let key = "etl 2013-01-01T05 is running in run R1";
    let launch = || vec![("2013-01-01T06:20:00Z", Observation::Nothing)];
    let launched = || vec![("2013-01-01T06:21:00Z", Observation::Launched(Ok("j-1".into())))];
    let look = |state, steps: &[(&str, StepState)]| {
        seen(state, steps).map(|observed| ("2013-01-01T06:41:00Z", observed)).to_vec()
    };
    let (first, second) = ("etl/2013-01-01T05/extract/1", "etl/2013-01-01T05/load/2");
    let throttled = Observation::Launched(Err(CallFailure::Deferred("rate".into())));
    let postponed = Act::Launch.postponed(at("2013-01-01T06:50:00Z"));
    for (observed, words) in [
        (vec![vec![]], "its cluster is about to be asked for"),
        (vec![launch()], "its cluster is being created since 06:20 UTC"),
        (
            vec![launch(), vec![("2013-01-01T06:41:59Z", throttled)]],
            "EMR has refused to create its cluster for now, the next try is at 06:42 UTC",
        ),
        (
            vec![launch(), vec![("2013-01-01T06:20:00Z", postponed)]],
            "EMR's quota has no room for its cluster before 06:50 UTC",
        ),
        (vec![launch(), launched()], "cluster j-1 is starting since 06:20 UTC"),
        (
            vec![launch(), launched(), look(ClusterState::Bootstrapping, &[])],
            "cluster j-1 is bootstrapping since 06:20 UTC",
        ),
        (
            vec![
                launch(),
                launched(),
                look(
                    ClusterState::Running,
                    &[(first, StepState::Running), (second, StepState::Pending)],
                ),
            ],
            "step extract runs on cluster j-1 since 06:30 UTC",
        ),
        (
            vec![
                launch(),
                launched(),
                look(
                    ClusterState::Running,
                    &[(first, StepState::Completed), (second, StepState::Pending)],
                ),
            ],
            "step load is queued on cluster j-1",
        ),
        (
            vec![
                launch(),
                launched(),
                look(
                    ClusterState::Waiting,
                    &[(first, StepState::Failed), (second, StepState::Cancelled)],
                ),
            ],
            "step extract failed on cluster j-1 and is tried again at 06:45 UTC",
        ),
        (
            vec![launch(), launched(), look(ClusterState::Terminating, &[])],
            "cluster j-1 is terminating before its work was done",
        ),
    ] {
        let case = Case::new("etl", "2013-01-01T05").running(observed);
        case.says("2013-01-01T06:41:00Z", &format!("{key}: {words}."));
    }
    let lost = Case::new("etl", "2013-01-01T05").running(vec![
        launch(),
        launched(),
        look(ClusterState::Terminated, &[]),
    ]);
    lost.says(
        "2013-01-01T06:41:00Z",
        &format!("{key}, attempt 2 of 2 after internal: its cluster is about to be asked for."),
    );
    let mut waits = Case::new("etl", "2013-01-01T05");
    let policy = AttemptPolicy { max: 3, delay: SignedDuration::from_mins(10) };
    let profile = waits.catalog.profiles.get_mut("p").unwrap();
    profile.limits.policies.insert(FailureClass::Internal, policy);
    let waits = waits.running(vec![launch(), launched(), look(ClusterState::Terminated, &[])]);
    let until = waits.run.as_ref().unwrap().attempt().unwrap().launch.send_at.unwrap();
    let minute = until.strftime("%H:%M UTC");
    waits.says(
        "2013-01-01T06:41:00Z",
        &format!(
            "{key}, attempt 2 of 3 after internal: its next cluster is asked for at {minute}."
        ),
    );
    let why = waits.why("2013-01-01T06:41:00Z");
    assert_eq!((why.class, why.until), (Some(FailureClass::Internal), Some(until)));
    let mut failed = lost;
    let item = failed.item();
    (item.state, item.reason) = (TaskState::Failed, Some("no machines".into()));
    let member = &mut failed.run.as_mut().unwrap().members[0];
    let class = Some(FailureClass::Capacity);
    member.outcome = Some(Outcome::Failed { reason: "no machines".into(), class });
    failed.says(
        "2013-01-01T06:41:00Z",
        "etl 2013-01-01T05 FAILED in run R1: no machines (class capacity).",
    );
    // In another round it has not failed yet.
    failed.item().round = Round { number: 2, ..Round::default() };
    assert_eq!(failed.why("2013-01-01T06:41:00Z").class, None);
    let mut gone = Case::new("etl", "2013-01-01T05").running(vec![]);
    gone.run = None;
    gone.says("2013-01-01T06:41:00Z", &format!("{key}, which cannot be found."));
}

/// With guards: why nothing of it runs although there is a cluster.
#[test]
fn a_refused_guard_and_a_full_quota_are_told() {
    let key = "etl 2013-01-01T05 is running in run R1";
    let (first, second) = ("etl/2013-01-01T05/extract/1", "etl/2013-01-01T05/load/2");
    let guard = |number| format!("{}{number}", GUARD_PREFIX);
    let (guard_1, guard_2) = (guard(1), guard(2));
    let launch = [
        ("2013-01-01T06:20:00Z", Observation::Nothing),
        ("2013-01-01T06:21:00Z", Observation::Launched(Ok("j-1".into()))),
    ];
    let look = |at, state, steps: &[(&str, StepState)]| {
        seen(state, steps).map(|observed| (at, observed)).to_vec()
    };
    let failed_guard = [
        (guard_1.as_str(), StepState::Failed),
        (first, StepState::Cancelled),
        (second, StepState::Cancelled),
    ];
    let again = Act::AddSteps { cluster: "j-1".into(), tries: vec![] };
    // The first step fails, and five minutes later it is added again.
    let retried = |then: Vec<(&'static str, Observation)>| {
        let steps = [
            (guard_1.as_str(), StepState::Completed),
            (first, StepState::Failed),
            (second, StepState::Cancelled),
        ];
        let failed = look("2013-01-01T06:41:00Z", ClusterState::Waiting, &steps);
        let due = look("2013-01-01T06:45:00Z", ClusterState::Waiting, &steps);
        [launch.to_vec(), failed, due, then].concat()
    };
    let third = "etl/2013-01-01T05/extract/3";
    for (observed, words) in [
        (
            [&launch[..], &look("2013-01-01T06:41:00Z", ClusterState::Terminating, &failed_guard)]
                .concat(),
            "cluster j-1 is terminating before its work was done, as its guard has refused it",
        ),
        (
            [
                &launch[..],
                &look("2013-01-01T06:41:00Z", ClusterState::TerminatedWithErrors, &failed_guard),
                &[(
                    "2013-01-01T06:41:00Z",
                    Observation::Claimed { key: "claim/R1/1/1".into(), holder: "j-2".into() },
                )],
            ]
            .concat(),
            "cluster j-2 is starting since 06:20 UTC; cluster j-1 was refused by its guard",
        ),
        (
            retried(vec![("2013-01-01T06:45:00Z", again.postponed(at("2013-01-01T06:52:00Z")))]),
            "EMR's quota has no room for its next steps on cluster j-1 before 06:52 UTC",
        ),
        (
            retried(vec![(
                "2013-01-01T06:45:59Z",
                Observation::Added(Err(CallFailure::Deferred("rate".into()))),
            )]),
            "EMR has refused its next steps on cluster j-1 for now, the next try is at 06:46 UTC",
        ),
        (
            retried(look(
                "2013-01-01T06:46:00Z",
                ClusterState::Waiting,
                &[
                    (guard_1.as_str(), StepState::Completed),
                    (first, StepState::Failed),
                    (second, StepState::Cancelled),
                    (guard_2.as_str(), StepState::Failed),
                    (third, StepState::Cancelled),
                ],
            )),
            "the guard of its last steps has refused them on cluster j-1: they are added again as \
             soon as it is certain that no other copy of them runs",
        ),
    ] {
        let mut case = Case::new("etl", "2013-01-01T05");
        case.catalog.profiles.get_mut("p").unwrap().cluster.guard = true;
        let case = case.running(vec![observed]);
        case.says("2013-01-01T06:45:30Z", &format!("{key}: {words}."));
    }
}

/// Every stage of a load, and what its warehouse last said.
#[test]
fn a_loading_partition_says_how_far_its_load_is() {
    let key = "etl 2013-01-01T05 is loading";
    let now = "2013-01-01T07:00:00Z";
    let mut hour = Case::new("etl", "2013-01-01T05");
    hour.item().state = TaskState::Loading;
    hour.says(now, &format!("{key}, but nothing is stored of its load."));
    hour.item().load = Some(Load::new("R1", at("2013-01-01T06:50:00Z")));
    hour.says(now, &format!("{key}, but its task declares no load any more: declare it again."));
    hour.catalog = hour.catalog.with_warehouses(vec![Warehouse {
        name: "dwh".into(),
        place: Place::Workgroup("w".into()),
        database: "d".into(),
        secret: None,
        role: None,
        ledger: "public.ledger".parse().unwrap(),
        manifests: ("b".into(), "m/".into()),
        attempts: 3,
        retry_delay: SignedDuration::from_mins(1),
        timeout: SignedDuration::from_hours(1),
    }]);
    hour.catalog.tasks.get_mut("etl").unwrap().load = Some(LoadSpec {
        warehouse: "dwh".into(),
        dataset: "hourly".into(),
        table: "public.flights".parse().unwrap(),
        mode: Mode::Append,
        columns: vec![],
        partition_column: None,
    });
    let key = format!("{key} into public.flights of warehouse dwh: attempt 2 of 3");
    let early = at("2013-01-01T06:55:00Z");
    let later = at("2013-01-01T07:01:00Z");
    let execute = Stage::Execute { statement: "s-1".into(), since: early, cancelled: false };
    for (stage, words) in [
        (
            Stage::Prepare { from: early },
            "begins, or waits until others with its ledger have ended",
        ),
        (Stage::Prepare { from: later }, "comes at 07:01 UTC, after: no such table"),
        (Stage::Send { since: early }, "is about to be sent"),
        (execute, "runs since 06:55 UTC as s-1"),
        (Stage::Settle, "has ended, and the ledger is asked"),
    ] {
        let load = hour.item().load.as_mut().unwrap();
        (load.attempt, load.stage) = (2, stage);
        load.failure = Some("no such table.".into());
        hour.says(now, &format!("{key} {words}."));
    }
    hour.item().load.as_mut().unwrap().trouble =
        Some(Trouble { since: early, words: "AccessDenied.".into(), told: false, refused: None });
    hour.says(
        now,
        &format!(
            "{key} has ended, and the ledger is asked; its calls fail since 06:55 UTC: AccessDenied."
        ),
    );
}

#[test]
fn a_running_partition_says_what_becomes_of_it_if_it_takes_too_long() {
    let key = "etl 2013-01-01T05 is running in run R1";
    let bounded = |state, steps: &[(&str, StepState)]| {
        let mut case = Case::new("etl", "2013-01-01T05");
        let half_an_hour = Some(SignedDuration::from_mins(30));
        case.catalog.profiles.get_mut("p").unwrap().limits.stall_timeout = half_an_hour;
        case.catalog.tasks.get_mut("etl").unwrap().attempt_timeout = half_an_hour;
        let start = [
            ("2013-01-01T06:20:00Z", Observation::Nothing),
            ("2013-01-01T06:21:00Z", Observation::Launched(Ok("j-1".into()))),
        ];
        let look = seen(state, steps).map(|observed| ("2013-01-01T06:41:00Z", observed));
        case.running(vec![start.to_vec(), look.to_vec()])
    };
    let starting = bounded(ClusterState::Bootstrapping, &[]);
    starting.says(
        "2013-01-01T06:41:00Z",
        &format!(
            "{key}: cluster j-1 is bootstrapping since 06:20 UTC, and is given up at 06:50 UTC \
             (stall-timeout)."
        ),
    );
    assert_eq!(starting.why("2013-01-01T06:41:00Z").until, Some(at("2013-01-01T06:50:00Z")));
    let step = ("etl/2013-01-01T05/extract/1", StepState::Running);
    let running = bounded(ClusterState::Running, &[step]);
    let words = format!("{key}: step extract runs on cluster j-1 since 06:30 UTC, and is");
    running.says(
        "2013-01-01T06:41:00Z",
        &format!("{words} cancelled at 07:00 UTC after its attempt-timeout."),
    );
    assert_eq!(running.why("2013-01-01T06:41:00Z").until, Some(at("2013-01-01T07:00:00Z")));
    running.says(
        "2013-01-01T07:00:10Z",
        &format!("{words} being cancelled after its attempt-timeout."),
    );
    let mut given_up = starting;
    let hints = Hints { state_fresh: true, steps_fresh: true, ..Hints::default() };
    let run = given_up.run.as_mut().unwrap();
    let _ = run.decide(Observation::Steps(vec![]), &hints, at("2013-01-01T06:51:00Z"));
    given_up.says(
        "2013-01-01T06:51:00Z",
        &format!("{key}: cluster j-1 was given up, as nothing ran on it, and is being terminated."),
    );
}
