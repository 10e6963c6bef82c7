//! Plays worlds: one by its seed, or many on several threads. Not for what a
//! world is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sluicegate_local::request_log::RequestLog;

use crate::faults::{Bounds, Crash, Faults};
use crate::scenario::{Fixed, Kind, Scenario};
use crate::time;
use crate::world::{self, Outcome};

/// How far the network goes; see `Bounds`.
pub const BOUNDS: Bounds = Bounds::Broken;

/// Plays the world of a seed.
pub fn play_seed(seed: u64, data: &Path) -> anyhow::Result<Outcome> {
    play_kind(seed, Kind::of_seed(seed), data)
}

/// Plays the world of a seed as one of this kind.
pub fn play_kind(seed: u64, kind: Kind, data: &Path) -> anyhow::Result<Outcome> {
    play_logged(seed, kind, data, None)
}

/// The same, and writes what the replicas ask of the cloud.
pub fn play_logged(
    seed: u64,
    kind: Kind,
    data: &Path,
    requests: Option<Arc<RequestLog>>,
) -> anyhow::Result<Outcome> {
    let origin = kind.origin(seed);
    let scenario = Scenario::of_seed(seed, kind, origin, BOUNDS);
    let faults = Faults::of_scenario(&scenario, origin);
    world::play(origin, scenario, faults, data, requests)
}

/// Plays a fixed world with these crashes.
pub fn play_fixed(world: Fixed, crashes: &[Crash], data: &Path) -> anyhow::Result<Outcome> {
    let origin = time::origin();
    let scenario = Scenario::fixed(world, origin);
    world::play(origin, scenario, Faults::scripted(1, crashes.to_vec()), data, None)
}

/// Plays many worlds on several threads and hands each outcome over as it
/// comes.
pub fn play_many<J: Sync>(
    jobs: &[J],
    threads: usize,
    play: impl Fn(&J, &Path) -> anyhow::Result<Outcome> + Sync,
    take: impl Fn(&J, Outcome) + Sync,
) -> anyhow::Result<()> {
    let next = AtomicU64::new(0);
    let work = || -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        loop {
            let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed))?;
            let Some(job) = jobs.get(index) else { return Ok(()) };
            take(job, play(job, folder.path())?);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(result) => result?,
                Err(_) => anyhow::bail!("a world panicked; its message is above"),
            }
        }
        Ok(())
    })
}
