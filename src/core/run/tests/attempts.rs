//! What follows when a cluster is lost: by the class of the failure another one,
//! at once or later, on demand or not, or none.

use super::*;
use crate::core::catalog::AttemptPolicy;
use crate::core::class::FailureClass;
use crate::core::cluster::{Fleet, InstanceRole};

const SPOT_LOST: &str = "INSTANCE_FAILURE: All slaves in the job flow were terminated due to Spot";
const BOOTSTRAP: &str = "BOOTSTRAP_FAILURE: On the master instance (i-1), bootstrap action 1 returned \
    a non-zero return code";

/// A run with these policies whose first `dying` clusters end for this reason.
fn lost(
    reason: &str,
    dying: usize,
    policies: &[(FailureClass, u32, i64)],
) -> (Run, FakeEmr, Vec<TaskChange>) {
    let mut run = run(1, 1);
    let policies = policies.iter().map(|(class, max, minutes)| {
        let delay = SignedDuration::from_mins(*minutes);
        (*class, AttemptPolicy { max: *max, delay })
    });
    run.limits.policies = policies.collect();
    run.cluster.fleets = vec![fleet(1)];
    let mut emr = FakeEmr { dying, end_words: reason.into(), ..FakeEmr::default() };
    let changes = follow(&mut run, &mut emr, |_| false);
    (run, emr, changes)
}

fn fleet(spot: u32) -> Fleet {
    Fleet {
        role: InstanceRole::Core,
        on_demand: 1,
        spot,
        instance_types: vec![],
        on_demand_strategy: None,
        spot_launch: None,
    }
}

#[test]
fn how_often_a_cluster_is_replaced_depends_on_why_it_was_lost() {
    use FailureClass::*;
    let policies = [(Bootstrap, 1, 0), (SpotLoss, 4, 0), (External, 1, 0), (Capacity, 3, 10)];
    for (reason, dying, clusters, class, state) in [
        (BOOTSTRAP, 1, 1, Bootstrap, RunState::Failed),
        (SPOT_LOST, 3, 4, SpotLoss, RunState::Succeeded),
        (SPOT_LOST, 4, 4, SpotLoss, RunState::Failed),
        ("USER_REQUEST: Terminated by user request", 1, 1, External, RunState::Failed),
        ("INSTANCE_FLEET_TIMEOUT: no capacity", 2, 3, Capacity, RunState::Succeeded),
        // Without a policy of its own: as `max-attempts` says.
        ("INTERNAL_ERROR: An internal error occurred", 1, 2, Internal, RunState::Succeeded),
        ("INTERNAL_ERROR: An internal error occurred", 2, 2, Internal, RunState::Failed),
        ("", 1, 2, Internal, RunState::Succeeded),
    ] {
        let (run, emr, changes) = lost(reason, dying, &policies);
        assert_eq!((run.state, emr.clusters.len(), emr.alive()), (state, clusters, 0), "{reason}");
        let classes: Vec<_> = run.attempts.iter().filter_map(|attempt| attempt.class).collect();
        assert_eq!(classes, vec![class; dying], "{reason}");
        let told = run.notices.iter().filter(|notice| notice.status == "attempt-lost");
        assert!(told.clone().all(|notice| notice.class == Some(class)), "{reason}");
        assert_eq!(told.count(), clusters - 1, "{reason}");
        if state == RunState::Failed {
            assert_eq!(changes[0].notice.class, Some(class), "{reason}");
            let message = changes[0].notice.message("prod");
            assert_eq!(message.attributes["class"], class.name());
        }
    }
}

#[test]
fn after_a_lack_of_machines_the_next_attempt_waits() {
    let reason = "VALIDATION_ERROR: InsufficientInstanceCapacity";
    for (class, minutes) in [(FailureClass::Capacity, 10), (FailureClass::SpotLoss, 0)] {
        let (run, emr, _) = lost(reason, 1, &[(class, 2, minutes)]);
        assert_eq!((run.state, emr.clusters.len()), (RunState::Succeeded, 2));
        let ended = run.attempts[0].ended_at.unwrap();
        let waited = run.attempts[1].opened.duration_since(ended);
        let delay = SignedDuration::from_mins(minutes);
        assert!(waited >= delay && waited < delay + SignedDuration::from_secs(5), "{waited}");
    }
}

/// The delay outlasts the process, and a person need not wait for it.
#[test]
fn a_delayed_attempt_is_cancelled_without_a_cluster() {
    let mut run = run(1, 1);
    let policy = AttemptPolicy { max: 3, delay: SignedDuration::from_mins(10) };
    run.limits.policies = BTreeMap::from([(FailureClass::Capacity, policy)]);
    let reason = "INSTANCE_FLEET_TIMEOUT: no capacity";
    let mut emr = FakeEmr { dying: 1, end_words: reason.into(), ..FakeEmr::default() };
    let word = |_: usize, run: &mut Run, now: Timestamp| {
        let stored = serde_json::to_string(run).unwrap();
        *run = serde_json::from_str(&stored).unwrap();
        if run.is_delayed() && now < run.attempts[1].launch.send_at.unwrap() {
            run.ask_cancel(|_| true, &Asked::new("alice", None, now));
        }
    };
    let changes = follow_word(&mut run, &mut emr, |_| false, word, |_, _| {});
    assert_eq!((run.state, emr.clusters.len()), (RunState::Cancelled, 1));
    assert_eq!(changes[0].to, TaskState::Cancelled);
}

#[test]
fn a_refusal_for_want_of_machines_is_asked_again_where_nothing_was_made() {
    let refused = || CallFailure::Refused("ValidationException: VcpuLimitExceeded".into());
    for (uncertain, guard, state) in [
        (false, false, RunState::Launching),
        // An earlier call may yet have its effect.
        (true, false, RunState::Failed),
        (true, true, RunState::Launching),
    ] {
        let mut run = run(1, 1);
        run.cluster.guard = guard;
        let hints = Hints::default();
        assert_eq!(run.decide(Observation::Nothing, &hints, at(0)).act, Act::Launch);
        run.attempts[0].launch.uncertain = uncertain;
        let mut decision = run.decide(Observation::Launched(Err(refused())), &hints, at(1));
        if let Act::Claim { key, holder } = decision.act {
            decision = run.decide(Observation::Claimed { key, holder }, &hints, at(1));
        }
        assert_eq!(run.state, state, "{:?}", decision.act);
        assert_eq!(run.attempts[0].class, Some(FailureClass::Capacity));
    }
}

#[test]
fn the_last_attempt_after_spot_buys_on_demand() {
    let spot = [(FailureClass::SpotLoss, 3, 0)];
    let bought = |run: &Run| run.attempts.iter().map(|one| one.on_demand).collect::<Vec<_>>();
    let (run, ..) = lost(SPOT_LOST, 2, &spot);
    assert_eq!(bought(&run), [false, false, true]);
    let asked = run.cluster_asked();
    assert_eq!((asked.fleets[0].on_demand, asked.fleets[0].spot), (2, 0));
    // Not after another class of failure.
    let (run, ..) = lost(BOOTSTRAP, 1, &spot);
    assert_eq!(bought(&run), [false, false]);
    // Nor where nothing is spot, or it is not wanted.
    let mut plain = super::run(1, 1);
    plain.cluster.fleets = vec![fleet(0)];
    let mut unwanted = super::run(1, 1);
    unwanted.cluster.fleets = vec![fleet(1)];
    unwanted.limits.on_demand_last = false;
    for mut run in [plain, unwanted] {
        let mut emr = FakeEmr { dying: 1, end_words: SPOT_LOST.into(), ..FakeEmr::default() };
        follow(&mut run, &mut emr, |_| false);
        assert_eq!(bought(&run), [false, false]);
    }
}

/// Whoever looks only after the lifetime goes by what EMR says of the end.
#[test]
fn an_end_counts_from_when_it_was_and_not_from_when_it_was_seen() {
    let lifetime = 2 * 3600;
    for (ended, seen, class) in [
        (None, lifetime + 3600, FailureClass::TimeOut),
        (Some(lifetime), lifetime + 3600, FailureClass::TimeOut),
        // Two clocks.
        (Some(lifetime - 30), lifetime + 3600, FailureClass::TimeOut),
        (Some(1800), lifetime + 3600, FailureClass::External),
        (Some(1800), 1900, FailureClass::External),
        (None, 1900, FailureClass::External),
    ] {
        let mut run = run(1, 1);
        let hints = Hints::default();
        let _ = run.decide(Observation::Nothing, &hints, at(0));
        let _ = run.decide(Observation::Launched(Ok("j-0".into())), &hints, at(0));
        assert_eq!(run.attempts[0].expires, at(lifetime));
        if ended.is_none() && seen > lifetime {
            let _ = run.decide(Observation::NotSeen, &hints, at(lifetime));
        }
        let terminated = ClusterSeen {
            state: ClusterState::Terminated,
            reason: "USER_REQUEST: Terminated by user request".into(),
            ended: ended.map(at),
        };
        let _ = run.decide(Observation::Described(terminated), &hints, at(seen));
        let _ = run.decide(Observation::Steps(vec![]), &hints, at(seen));
        assert_eq!(run.attempts[0].class, Some(class), "{ended:?} {seen}");
    }
}
