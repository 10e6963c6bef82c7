//! What a world is about, from its seed: a configuration, the objects that
//! arrive for it and how S3 tells of them, what happens on the clusters, and
//! what happens to the replicas' machines. Not for faults of single requests
//! (`faults`), nor for what must come of it (`oracle`).

mod arrivals;
mod backfills;
mod backlog;
mod clocks;
mod config;
mod kind;
mod loads;
mod reload;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use sluicegate::core::partition::{Grain, Partition};

use crate::faults::Bounds;
use crate::oracle::Quota;

pub use arrivals::folder_of;
pub use arrivals::{Message, Object};
pub use backfills::Ordered;
pub use clocks::Night;
pub use config::{Dataset, DatasetKind, Profile, Step, Task};
pub use kind::Kind;
pub use loads::{LEDGER, Load, Loads, Mode};
pub use reload::{FileChange, Reload, VERSIONS};

/// The deployment that every world belongs to.
pub const DEPLOYMENT: &str = "sim";
/// Where data lands.
pub const BUCKET: &str = "landing";
/// Where all else lies: logs, manifests, task files.
pub const WORK: &str = "work";

/// Everything that is fixed before a world begins.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    /// The configuration file.
    pub text: String,
    /// The one that a deployment brings while the world goes on.
    pub next_text: String,
    /// All replicas are gone for ever when the last message has come.
    pub all_die: bool,
    pub tasks: Vec<Task>,
    pub datasets: Vec<Dataset>,
    pub profiles: Vec<Profile>,
    /// What comes to the queue, and when.
    pub messages: Vec<(Timestamp, Message)>,
    /// Objects that are written, and nobody tells of.
    pub untold: Vec<(Timestamp, Object)>,
    /// What happens to machines, and when.
    pub events: Vec<(Timestamp, MachineEvent)>,
    pub replicas: usize,
    /// EMR tells of its clusters through the queue.
    pub emr_events: bool,
    pub clusters: ClusterRates,
    /// Until then something is sure to come: a message, an event, a slot.
    pub busy_until: Timestamp,
    /// When faults end, at the latest.
    pub ends: Timestamp,
    pub bounds: Bounds,
    /// Nothing on the clusters helps: no guard, no deadline.
    pub bare: bool,
    /// A newer version has been here, and has left items behind.
    pub newer: bool,
    /// Entries of EMR's lists in one answer.
    pub page: usize,
    /// EMR's quotas are `SCARCE`, not what it grants everybody.
    pub scarce: bool,
    /// What is special where tasks load their output.
    pub loads: Option<Loads>,
    /// What is special where tasks stand in files of their own.
    pub reload: Option<Reload>,
    /// What is special where clocks are changed by law.
    pub night: Option<&'static Night>,
    /// What somebody orders.
    pub backfill: Option<Ordered>,
}

/// The small worlds in which crashes are played systematically.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fixed {
    /// Two partitions of a task in one batch, a step that is tried again, a task that
    /// follows and one that counts its objects.
    Chain,
    /// One partition of one task, whose step is tried again: small enough for every
    /// two crashes.
    Single,
}

impl Fixed {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Single => "single",
        }
    }
}

/// Quotas that worlds as small as these can use up.
pub const SCARCE: Quota = Quota { burst: 1, per_second: 0.02 };

/// Something that happens to the machine of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineEvent {
    Stop(usize),
    Resume(usize),
    Kill(usize),
    /// SIGTERM, and a new process a while after.
    End(usize),
    Run(usize),
    /// SIGTERM, and a new process with the next configuration.
    Deploy(usize),
    /// The clock is off by so many seconds.
    Clock(usize, i64),
}

/// What happens on clusters; chances are in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClusterRates {
    pub step_fails: u32,
    pub step_hangs: u32,
    pub step_cancelled: u32,
    pub bootstrap_fails: u32,
    pub instances_lost: u32,
    pub terminated: u32,
    pub refused: u32,
    pub guard_fails: u32,
    /// Its machines are lost as soon as its guard has the claim.
    pub claimant_lost: u32,
    /// It is ended while steps are on their way to it.
    pub lost: u32,
    /// The first step of the first task fails once on its cluster, whatever the
    /// chances.
    pub first_fails: bool,
    /// From the request to the start of bootstrapping.
    pub starting_secs: u64,
    pub step_secs_max: u64,
}

impl ClusterRates {
    /// Whether nothing but the network can make a task partition fail.
    pub fn are_kind(&self) -> bool {
        let Self { step_fails, step_hangs, step_cancelled, bootstrap_fails, .. } = *self;
        let Self { instances_lost, terminated, refused, lost, .. } = *self;
        let Self { guard_fails, claimant_lost, .. } = *self;
        let steps = [step_fails, step_hangs, step_cancelled, guard_fails];
        let clusters = [bootstrap_fails, instances_lost, terminated, refused, lost, claimant_lost];
        steps.iter().chain(&clusters).all(|rate| *rate == 0)
    }
}

/// How far a clock is off at most.
pub const CLOCK_OFF_MAX: SignedDuration = SignedDuration::from_mins(10);

/// From the origin to the last arrival.
const MINUTES: i64 = 10;
/// So many are those of faults in worlds about what comes at the end of work.
const LATE_MINUTES: i64 = 24;
/// And so many where machines stand still for half an hour, leases lapse and the
/// lifetimes of clusters end, all while faults go on.
const LONG_MINUTES: i64 = 45;
/// Until the slot and the ends of periods that a world has have come.
const CALENDAR_MINUTES: i64 = 6;

impl Scenario {
    /// The world of a seed, of its own kind or of a chosen one.
    pub fn of_seed(seed: u64, kind: Kind, origin: Timestamp, bounds: Bounds) -> Self {
        let mut scenario = Self::plain(seed, origin, bounds);
        match kind {
            Kind::Plain => {}
            Kind::Reload => reload::adapt(&mut scenario, origin),
            Kind::Loads => loads::adapt(&mut scenario, origin, bounds),
            Kind::Backlog => backlog::adapt(&mut scenario, origin),
            Kind::Night => clocks::adapt(&mut scenario),
            Kind::Backfill => backfills::adapt(&mut scenario, origin),
        }
        scenario
    }

    fn plain(seed: u64, origin: Timestamp, bounds: Bounds) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let replicas = if rng.u8(0..5) == 0 { 2 } else { 1 };
        let mut clusters = cluster_rates(rng, seed);
        let bare = is_bare(seed);
        let claimants = has_claimants(seed);
        let all_die = rng.u8(0..12) == 0 && !bare && !claimants;
        if all_die || bare && rng.bool() {
            // Only what hangs is still there when its deadline comes.
            clusters.step_hangs = rng.u32(0..300);
        }
        let (tasks, datasets, mut profiles) = config::choose(rng, clusters.step_hangs > 0);
        if seed % 10 == 3 {
            // Where bootstrapping fails, several partitions fail at once: that is folded.
            profiles.iter_mut().for_each(|profile| profile.batch_size = 3);
        }
        if folds(seed) {
            (profiles[0].batch_size, profiles[0].max_attempts) = (3, 1);
            clusters.bootstrap_fails = 950;
        }
        if claimants {
            // Many runs, each with a cluster of its own.
            profiles.iter_mut().for_each(|profile| profile.batch_size = 1);
        }
        let mut text = config::text(&tasks, &datasets, &profiles, rng);
        let mut next_text = config::text(&tasks, &datasets, &config::changed(&profiles, rng), rng);
        // Without a guard the protocol needs its bounds.
        let bounds = if bare { Bounds::Kept } else { bounds };
        if bare {
            text = config::bare(&text);
            next_text = config::bare(&next_text);
        }
        let scarce = seed % 4 == 3;
        if scarce {
            text = config::scarce(&text);
            next_text = config::scarce(&next_text);
        }
        let minutes = if all_die { rng.i64(5..MINUTES) } else { MINUTES };
        let ends = origin + SignedDuration::from_mins(minutes);
        let mut messages = arrivals::messages(rng, seed, &datasets, origin, ends);
        let newer = seed % 8 < 3;
        if newer {
            messages.extend(arrivals::for_newer(rng, &tasks, &datasets, origin));
            messages.sort_by_key(|(at, _)| *at);
        }
        let untold = arrivals::untold(seed, &mut messages);
        let is_late = (matches!(seed % 20, 5 | 7 | 15) || claimants) && !all_die;
        let late = if seed % 40 == 5 { LONG_MINUTES } else { LATE_MINUTES };
        let ends = if is_late { origin + SignedDuration::from_mins(late) } else { ends };
        let events = machine_events(rng, replicas, &messages, (origin, ends), bounds);
        let busy_until = busy_until(origin, &messages, &events);
        let last = untold.last().map_or(busy_until, |(at, _)| *at);
        let busy_until = busy_until.max(last);
        Self {
            seed,
            busy_until,
            text,
            next_text,
            all_die,
            tasks,
            datasets,
            profiles,
            messages,
            untold,
            events,
            replicas,
            emr_events: rng.u8(0..3) > 0 || claimants,
            clusters,
            ends,
            bounds,
            bare,
            newer,
            page: [50, 2, 1][usize::try_from(seed % 3).unwrap_or(0)],
            scarce,
            loads: None,
            reload: None,
            night: None,
            backfill: None,
        }
    }

    /// A small world of the systematic runs: one replica, nothing by chance.
    pub fn fixed(world: Fixed, origin: Timestamp) -> Self {
        let (tasks, datasets, profiles) = config::fixed(world);
        let mut rng = Rng::with_seed(1);
        let text = config::text(&tasks, &datasets, &profiles, &mut rng);
        let ends = origin + SignedDuration::from_mins(MINUTES);
        let hours = if world == Fixed::Chain { 2 } else { 1 };
        let messages = arrivals::plain(&datasets, hours, origin);
        Self {
            seed: 1,
            busy_until: busy_until(origin, &messages, &[]),
            next_text: text.clone(),
            text,
            all_die: false,
            tasks,
            datasets,
            profiles,
            messages,
            untold: Vec::new(),
            events: Vec::new(),
            replicas: 1,
            emr_events: true,
            clusters: ClusterRates {
                first_fails: true,
                starting_secs: 60,
                step_secs_max: 120,
                ..ClusterRates::default()
            },
            ends,
            bounds: Bounds::Kept,
            bare: false,
            newer: false,
            page: 50,
            scarce: false,
            loads: None,
            reload: None,
            night: None,
            backfill: None,
        }
    }

    /// Messages about something that a newer version has written: this one leaves
    /// them where they are.
    pub fn left_alone(&self) -> u64 {
        self.messages.iter().filter(|(_, message)| message.what == "newer").count() as u64
    }

    /// Whether machines may stand still: what a process sends that decided long
    /// ago breaks the bounds, unless it is the only one.
    pub fn may_stop(&self) -> bool {
        self.bounds == Bounds::Broken || self.replicas == 1
    }

    /// Whether a cluster's lifetime may end before its work.
    pub fn has_short_lifetime(&self) -> bool {
        self.profiles.iter().any(|profile| profile.lifetime_minutes < config::LONG_LIFETIME)
    }

    pub fn clocks_jump(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, MachineEvent::Clock(..)))
    }

    pub fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name)
    }

    pub fn dataset(&self, name: &str) -> Option<&Dataset> {
        self.datasets.iter().find(|dataset| dataset.name == name)
    }

    /// Whether a task, first seen then, may have missed something while its file
    /// was away.
    pub fn may_miss(&self, task: &str, seen: Option<Timestamp>, now: Timestamp) -> bool {
        self.reload.as_ref().is_some_and(|reload| reload.may_miss(task, seen, now))
    }

    /// The tasks that wait for a dataset.
    pub fn readers(&self, dataset: &str) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.inputs.iter().any(|input| input == dataset))
    }
}

/// The hours whose objects arrive, oldest first.
pub fn hours(origin: Timestamp) -> Vec<Partition> {
    let from = origin - SignedDuration::from_mins(80);
    Partition::overlapping(from, origin, Grain::Hour).collect()
}

fn busy_until(
    origin: Timestamp,
    messages: &[(Timestamp, Message)],
    events: &[(Timestamp, MachineEvent)],
) -> Timestamp {
    let calendar = origin + SignedDuration::from_mins(CALENDAR_MINUTES);
    let messages = messages.last().map(|(at, _)| *at);
    let events = events.last().map(|(at, _)| *at);
    calendar.max(messages.unwrap_or(calendar)).max(events.unwrap_or(calendar))
}

/// Some worlds of a backlog are about what fails together, and is folded.
pub fn folds(seed: u64) -> bool {
    seed % 100 == 50
}

/// Some worlds are about which of two clusters of an attempt has its claim.
pub fn has_claimants(seed: u64) -> bool {
    seed % 20 == 17 && !is_bare(seed)
}

fn is_bare(seed: u64) -> bool {
    seed % 6 == 5
}

/// Some worlds are about what follows a failure (see `faults::Unlucky`).
fn cluster_rates(rng: &mut Rng, seed: u64) -> ClusterRates {
    let mut rates = ClusterRates {
        starting_secs: rng.u64(20..90),
        step_secs_max: rng.u64(20..150),
        ..ClusterRates::default()
    };
    match seed % 10 {
        1 | 2 => {
            rates.step_fails = rng.u32(300..700);
            if is_bare(seed) {
                rates.lost = rng.u32(200..600);
            }
        }
        3 | 4 => rates.bootstrap_fails = rng.u32(300..700),
        5 => rates.step_hangs = rng.u32(200..500),
        7 if has_claimants(seed) => {
            rates.claimant_lost = 800;
            return rates;
        }
        _ if rng.bool() => return rates,
        _ => {}
    }
    for _ in 0..rng.usize(1..4) {
        match rng.u8(0..11) {
            0 | 7 => rates.step_fails = rates.step_fails.max(rng.u32(50..500)),
            1 => rates.step_hangs = rng.u32(20..150),
            2 => rates.step_cancelled = rng.u32(20..150),
            3 | 8 => rates.bootstrap_fails = rates.bootstrap_fails.max(rng.u32(100..600)),
            4 => rates.instances_lost = rng.u32(50..300),
            5 => rates.terminated = rng.u32(50..300),
            6 => rates.guard_fails = rng.u32(50..300),
            9 => rates.lost = rates.lost.max(rng.u32(100..500)),
            _ => rates.refused = rng.u32(50..300),
        }
    }
    rates
}

fn machine_events(
    rng: &mut Rng,
    replicas: usize,
    messages: &[(Timestamp, Message)],
    (origin, ends): (Timestamp, Timestamp),
    bounds: Bounds,
) -> Vec<(Timestamp, MachineEvent)> {
    let mut events = Vec::new();
    let seconds = ends.duration_since(origin).as_secs();
    for _ in 0..rng.usize(0..3) {
        let machine = rng.usize(..replicas);
        // At any time, or while it works on a message.
        let any = SignedDuration::from_secs(rng.i64(10..seconds / 2));
        let at = match rng.choice(messages) {
            Some((at, _)) if rng.bool() => *at + SignedDuration::from_millis(rng.i64(0..400)),
            _ => origin + any,
        };
        // Whoever is still down at the end is called back by the world.
        let later = |secs: i64| ends.min(at + SignedDuration::from_secs(secs));
        match rng.u8(0..6) {
            0 => events.push((at, MachineEvent::Deploy(machine))),
            1 => {
                events.push((at, MachineEvent::End(machine)));
                events.push((later(rng.i64(30..600)), MachineEvent::Run(machine)));
            }
            // A process that sends what it decided long ago breaks the bounds.
            2 if bounds == Bounds::Broken || replicas == 1 => {
                events.push((at, MachineEvent::Stop(machine)));
                events.push((later(rng.i64(20..2400)), MachineEvent::Resume(machine)));
            }
            3 if bounds == Bounds::Broken => {
                events.push((at, MachineEvent::Clock(machine, rng.i64(-600..600))));
            }
            _ => events.push((at, MachineEvent::Kill(machine))),
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events
}
