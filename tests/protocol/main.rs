//! The protocol that creates clusters and opens attempts, explored in full: what
//! the code does keeps its promises whatever is late, lost or doubled, and each
//! simpler protocol is shown to break them. Not a test of the code: that is
//! `core::run` and the daemon's tests. `cargo test --test protocol --
//! --nocapture` prints how many states there are, and the counterexamples.

mod model;
mod properties;
mod protocol;
mod reach;
mod world;

use stateright::{Checker, HasDiscoveries, Model};

use model::Sluicegate;
use protocol::Protocol;

/// What the code does, where no bound holds: a call may arrive, and a list may
/// lag, for ever. Two replicas have many states: one launch less.
fn sluicegate(replicas: usize) -> Sluicegate {
    let protocol = Protocol::GuardAndSettle;
    Sluicegate {
        protocol,
        replicas,
        repeats: if replicas == 1 { 2 } else { 1 },
        bounds_hold: false,
    }
}

/// Explores all states; every property holds in them, and what has to be
/// possible is.
fn holds(model: Sluicegate) {
    let checker = model.clone().checker().threads(2).spawn_bfs().join();
    println!(
        "{model:?}: {} states, {} transitions, up to {} steps",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
    );
    assert!(checker.is_done());
    checker.assert_properties();
}

/// Shows by a counterexample that a protocol breaks a promise.
fn breaks(model: Sluicegate, promise: &'static str) {
    let stop = HasDiscoveries::AnyOf([promise].into());
    let checker = model.clone().checker().finish_when(stop).spawn_bfs().join();
    let path = checker.assert_any_discovery(promise);
    let actions = path.into_actions();
    println!("{model:?} breaks {promise:?} in {} steps: {actions:#?}", actions.len());
    assert!(!actions.is_empty());
}

#[test]
fn one_replica_keeps_every_promise() {
    holds(sluicegate(1));
}

#[test]
fn two_replicas_keep_every_promise() {
    holds(sluicegate(2));
}

#[test]
#[ignore = "three million states take minutes"]
fn two_replicas_keep_every_promise_with_one_more_launch() {
    holds(Sluicegate { repeats: 2, ..sluicegate(2) });
}

#[test]
fn from_every_state_a_run_can_end() {
    for replicas in [1, 2] {
        assert_eq!(reach::stuck(&sluicegate(replicas)), None);
    }
}

#[test]
fn a_send_deadline_is_enough_while_its_bounds_hold() {
    for replicas in [1, 2] {
        let protocol = Protocol::SendDeadline;
        holds(Sluicegate { protocol, bounds_hold: true, ..sluicegate(replicas) });
    }
}

#[test]
fn creating_again_breaks_even_while_bounds_hold() {
    let protocol = Protocol::CreateAgain;
    breaks(Sluicegate { protocol, bounds_hold: true, ..sluicegate(1) }, properties::ONE_EXECUTES);
}

#[test]
fn a_look_at_the_list_first_breaks_even_while_bounds_hold() {
    let protocol = Protocol::LookUpFirst;
    breaks(Sluicegate { protocol, bounds_hold: true, ..sluicegate(1) }, properties::ONE_EXECUTES);
}

#[test]
fn a_send_deadline_breaks_with_its_bounds() {
    let protocol = Protocol::SendDeadline;
    for promise in [properties::ONE_EXECUTES, properties::IN_TURN, properties::NOTHING_AFTER] {
        breaks(Sluicegate { protocol, ..sluicegate(1) }, promise);
    }
}

#[test]
fn a_lease_saves_nothing() {
    breaks(Sluicegate { protocol: Protocol::Lease, ..sluicegate(2) }, properties::ONE_EXECUTES);
}

#[test]
fn a_guard_breaks_without_a_claim_before_giving_up() {
    let model = Sluicegate { protocol: Protocol::Guard, ..sluicegate(1) };
    breaks(model.clone(), properties::IN_TURN);
    breaks(model, properties::NOTHING_AFTER);
}
