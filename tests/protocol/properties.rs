//! What must hold in every state of the model, and what must be possible in
//! some, so that the rest is not true for want of anything happening.

use stateright::Property;

use crate::model::Sluicegate;
use crate::world::{Cluster, ClusterState, Holder, Work, World};

pub const ONE_EXECUTES: &str = "at most one cluster of an attempt executes";
pub const IN_TURN: &str = "an attempt executes only when the one before it can no more";
pub const NOTHING_AFTER: &str = "nothing executes after the run's end";
pub const WORK_DONE: &str = "a run succeeds only by work that was done";

pub fn all() -> Vec<Property<Sluicegate>> {
    vec![
        Property::always(ONE_EXECUTES, |_, world: &World| {
            (0..world.claims.len())
                .all(|attempt| of(world, attempt).filter(|cluster| executed(cluster)).count() <= 1)
        }),
        // An attempt that could still execute would lead to a state in which it does.
        Property::always(IN_TURN, |_, world: &World| {
            let executes = |cluster: &Cluster| cluster.state == ClusterState::Executing;
            !world.clusters.iter().filter(|cluster| executes(cluster)).any(|earlier| {
                world
                    .clusters
                    .iter()
                    .any(|later| later.attempt > earlier.attempt && executed(later))
            })
        }),
        Property::always(NOTHING_AFTER, |_, world: &World| {
            let executes = |cluster: &Cluster| cluster.state == ClusterState::Executing;
            !(world.run.over && world.clusters.iter().any(executes))
        }),
        Property::always(WORK_DONE, |_, world: &World| {
            let done = |cluster: &Cluster| {
                matches!(cluster.state, ClusterState::Completed | ClusterState::Ended(Work::All))
            };
            world.run.succeeded != Some(true) || world.clusters.iter().any(done)
        }),
        Property::sometimes("a run succeeds", |_, world: &World| ended(world, true)),
        Property::sometimes("a run succeeds with its second attempt", |_, world: &World| {
            ended(world, true) && world.run.attempt == 1
        }),
        Property::sometimes("a run fails", |_, world: &World| ended(world, false)),
    ]
}

/// What only guards make possible.
pub fn with_guards() -> Vec<Property<Sluicegate>> {
    let mut properties = all();
    properties.extend([
        Property::sometimes("a second cluster is created and harmless", |_, world: &World| {
            (0..world.claims.len()).any(|attempt| {
                let harmless = |cluster: &Cluster| cluster.state == ClusterState::Ended(Work::None);
                of(world, attempt).any(executed) && of(world, attempt).any(harmless)
            })
        }),
        Property::sometimes(
            "a cluster comes after its attempt was given up",
            |_, world: &World| {
                let starting = |cluster: &Cluster| cluster.state == ClusterState::Starting;
                world.run.attempt == 1 && of(world, 0).any(starting)
            },
        ),
        Property::sometimes("a refused run claims for nobody", |_, world: &World| {
            world.run.over && world.claims.contains(&Some(Holder::Nobody))
        }),
        Property::sometimes(
            "a run finds another cluster to hold its attempt",
            |_, world: &World| {
                world.replicas.iter().flatten().any(|turn| turn.finds_another(world))
            },
        ),
    ]);
    properties
}

fn of(world: &World, attempt: usize) -> impl Iterator<Item = &Cluster> {
    world.clusters.iter().filter(move |cluster| cluster.attempt == attempt)
}

fn executed(cluster: &Cluster) -> bool {
    cluster.has_executed()
}

fn ended(world: &World, succeeded: bool) -> bool {
    world.run.over && world.run.succeeded == Some(succeeded)
}
