//! The local EMR: clusters that exist as a folder, steps that run as real
//! processes, with the API, the states and the logs of the real one.
//!
//! `machine` and `life` decide, without clock or I/O, so that a simulator can
//! drive them too; `api` puts the wire before them; `driver` runs for real
//! what they ask for. Not for what a step computes.

pub mod api;
mod command;
pub mod driver;
pub mod events;
mod folder;
mod instance_rules;
mod life;
mod logs;
pub mod machine;
pub mod model;
pub(crate) mod parse;
mod process;
mod query;
pub mod request;
mod rules;
mod spark;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;
use tokio::sync::Notify;

use self::machine::{Machine, Settings};
use self::model::Now;
use self::view::Place;
use crate::python::Environment;
use crate::time::Time;
use crate::wire::{ACCOUNT, ApiError};

pub use self::process::Host;

/// How the local EMR behaves. Durations are real time.
#[derive(Debug, Clone)]
pub struct Options {
    /// From the request to the start of bootstrapping.
    pub starting: Duration,
    /// The least that bootstrapping takes.
    pub bootstrapping: Duration,
    /// From the decision to terminate to the end.
    pub terminating: Duration,
    /// How long after a job its logs reach the log URI; minutes on EMR.
    pub log_delay: Duration,
    /// A failed step that ends its cluster leaves a plain TERMINATED with an
    /// empty reason, as EMR has been seen to do.
    pub plain_terminated_on_step_failure: bool,
    /// Entries of a list in one answer; EMR gives 50.
    pub page: usize,
    /// How many calls of an action are refused for their rate before it works.
    pub throttles: BTreeMap<String, u32>,
    /// Needed by steps that use Spark, Hive or the AWS command line.
    pub environment: Option<Environment>,
    /// What every ARN names.
    pub region: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            starting: Duration::from_secs(1),
            bootstrapping: Duration::ZERO,
            terminating: Duration::from_secs(1),
            log_delay: Duration::ZERO,
            plain_terminated_on_step_failure: false,
            page: 50,
            throttles: BTreeMap::new(),
            environment: None,
            region: "us-east-1".to_owned(),
        }
    }
}

/// The state of all clusters behind the API. Does nothing by itself: either
/// `driver::run` drives it, or a simulator does, through `with`.
#[derive(Debug)]
pub struct Emr {
    machine: Mutex<Machine>,
    throttles: Mutex<BTreeMap<String, u32>>,
    place: Place,
    time: Time,
    changes: Notify,
}

impl Emr {
    /// Identifiers follow from `seed`.
    pub fn new(options: &Options, time: Time, seed: u64) -> Self {
        let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let settings = Settings {
            starting: signed(options.starting),
            bootstrapping: signed(options.bootstrapping),
            terminating: signed(options.terminating),
            plain_terminated_on_step_failure: options.plain_terminated_on_step_failure,
            page: options.page,
            seed,
        };
        Self {
            machine: Mutex::new(Machine::new(settings)),
            throttles: Mutex::new(options.throttles.clone()),
            place: Place { region: options.region.clone(), account: ACCOUNT.to_owned() },
            time,
            changes: Notify::new(),
        }
    }

    /// One call of the API.
    pub fn call(&self, action: &str, body: Value) -> Result<Value, ApiError> {
        if self.is_throttled(action) {
            return Err(ApiError::bad_request("ThrottlingException", "Rate exceeded"));
        }
        let answer = self.with(|machine, now| {
            machine.tick(now);
            api::call(machine, &self.place, action, body, now)
        });
        self.changes.notify_one();
        answer
    }

    fn is_throttled(&self, action: &str) -> bool {
        let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = throttles.get_mut(action).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
    }

    /// Uses the state machine at the present instant.
    pub fn with<T>(&self, apply: impl FnOnce(&mut Machine, Now) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Now { real: self.time.real(), dev: self.time.dev() };
        apply(&mut machine, now)
    }

    /// Until a call may have changed something.
    async fn changed(&self) {
        self.changes.notified().await;
    }
}
