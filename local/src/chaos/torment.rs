//! What happens to the processes: each daemon is killed, stopped and resumed,
//! asked to end and started again; clusters die. Not for faults of calls, see
//! `line`, nor for what follows from all this.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use fastrand::Rng;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::plan::DEPLOYMENT;
use crate::clock::pause;
use crate::cloud::Cloud;
use crate::emr::model::{Reason, ReasonCode};
use crate::stage::daemon::{Daemon, Program};

/// How long a daemon lives before something happens to it.
const LIFE_MILLIS: Range<u64> = 100..2_600;
/// A daemon is asked to end only when it says that it works.
const WORKING: &str = "the gate is watched";
const STOP_MILLIS: Range<u64> = 200..2_500;
/// Longer than the poll lease, which is three seconds of real time here.
const LONG_STOP_MILLIS: Range<u64> = 3_500..8_000;
/// The daemon promises 25 s.
const END_SECS_MAX: f64 = 27.0;
const BETWEEN_DEATHS_MILLIS: Range<u64> = 2_000..10_000;

/// What has been done to processes.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    pub starts: u32,
    pub kills: u32,
    pub stops: u32,
    /// Stops that were longer than the poll lease.
    pub long_stops: u32,
    pub terminations: u32,
    /// Starts that the faulty line made fail; a supervisor tries again.
    pub refused_starts: u32,
    pub clusters_killed: u32,
    /// What no daemon may do, whatever happens to it.
    #[serde(skip)]
    pub misdeeds: Vec<Misdeed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misdeed {
    pub what: String,
    pub log: PathBuf,
}

/// One of the daemons and its lives.
pub struct Victim<'a> {
    pub name: String,
    pub program: Program,
    /// Folder of the logs, one a life.
    pub logs: PathBuf,
    pub rng: Rng,
    pub tally: &'a Mutex<Tally>,
    lives: u32,
}

impl<'a> Victim<'a> {
    pub fn new(
        name: String,
        program: Program,
        logs: &Path,
        rng: Rng,
        tally: &'a Mutex<Tally>,
    ) -> Self {
        Self { name, program, logs: logs.to_owned(), rng, tally, lives: 0 }
    }

    /// Starts it and lets something happen to it, again and again.
    pub async fn torment(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            let mut daemon = self.start()?;
            let life = self.rng.u64(LIFE_MILLIS);
            if self.lives_for(&mut daemon, life).await {
                self.strike(daemon).await?;
            } else {
                self.died();
            }
        }
        Ok(())
    }

    pub fn start(&mut self) -> anyhow::Result<Daemon> {
        self.lives += 1;
        self.program.log = self.logs.join(format!("{}-{:03}.log", self.name, self.lives));
        self.note(|tally| tally.starts += 1);
        self.program.start()
    }

    pub fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn accuse(&self, what: String) {
        let log = self.program.log.clone();
        self.note(|tally| tally.misdeeds.push(Misdeed { what, log }));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.program.log).unwrap_or_default()
    }

    /// False if it ends by itself before.
    async fn lives_for(&self, daemon: &mut Daemon, millis: u64) -> bool {
        timeout(Duration::from_millis(millis), daemon.died()).await.is_err()
    }

    /// It ended by itself: a start may fail on such a line, a service that
    /// works may not.
    fn died(&self) {
        if self.log().contains(WORKING) {
            self.accuse(format!("{} ended by itself while it worked", self.name));
        } else {
            self.note(|tally| tally.refused_starts += 1);
        }
    }

    async fn strike(&mut self, mut daemon: Daemon) -> anyhow::Result<()> {
        match self.rng.u32(..100) {
            0..20 => {
                let long = self.rng.u32(..5) == 0;
                let millis = self.rng.u64(if long { LONG_STOP_MILLIS } else { STOP_MILLIS });
                daemon.pause()?;
                pause(Duration::from_millis(millis)).await;
                daemon.resume()?;
                self.note(|tally| if long { tally.long_stops += 1 } else { tally.stops += 1 });
                // It goes on where it was, with a world that has changed.
                let life = self.rng.u64(LIFE_MILLIS);
                if !self.lives_for(&mut daemon, life).await {
                    self.died();
                    return Ok(());
                }
                self.kill(daemon).await
            }
            20..32 if self.log().contains(WORKING) => self.end(daemon).await,
            _ => self.kill(daemon).await,
        }
    }

    async fn kill(&self, daemon: Daemon) -> anyhow::Result<()> {
        daemon.kill().await?;
        self.note(|tally| tally.kills += 1);
        Ok(())
    }

    /// Asks it to end, which has to succeed in time.
    pub async fn end(&self, daemon: Daemon) -> anyhow::Result<()> {
        let stopped = daemon.stop().await?;
        self.note(|tally| tally.terminations += 1);
        if stopped.exit_code != Some(0) || stopped.seconds > END_SECS_MAX {
            self.accuse(format!("{} was asked to end: {stopped}", self.name));
        }
        Ok(())
    }
}

/// Every now and then a cluster of the daemons loses its machines.
pub async fn kill_clusters(
    cloud: &Cloud,
    mut rng: Rng,
    tally: &Mutex<Tally>,
) -> anyhow::Result<()> {
    loop {
        pause(Duration::from_millis(rng.u64(BETWEEN_DEATHS_MILLIS))).await;
        let killed = cloud.emr().with(|machine, now| {
            let ours = format!("{DEPLOYMENT}/");
            let living = machine.clusters().filter(|cluster| {
                !cluster.state.is_closing() && cluster.request.name.starts_with(&ours)
            });
            let living: Vec<String> = living.map(|cluster| cluster.id.clone()).collect();
            let Some(id) = rng.choice(living) else { return Ok(false) };
            let reason =
                Reason::new(ReasonCode::InstanceFailure, "the chaos run took its machines");
            machine.fail_cluster(&id, reason, now).map(|()| true)
        });
        if killed.context("a cluster could not be killed")? {
            tally.lock().unwrap_or_else(PoisonError::into_inner).clusters_killed += 1;
        }
    }
}
