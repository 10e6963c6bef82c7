//! Which requests meet which fate, and when services are out: all of it from
//! the seed, or for the systematic runs from a script. Not for carrying a fate
//! out: that is `network`.

use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::call::{Call, Phase, Service};
use crate::scenario::{self, DatasetKind, Scenario};

/// What can happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Refused for its rate.
    Throttled,
    /// Answered with 500, without effect.
    FailedBefore,
    /// Had its effect, answered with 500.
    FailedAfter,
    /// Never arrives, never answered.
    RequestLost,
    /// Had its effect, never answered.
    ResponseLost,
    /// Not answered; arrives later, even after its sender has died.
    Delayed,
    /// Had its effect; the answer is cut off.
    Truncated,
    /// Refused for good, as for a mistake in the request.
    Refused,
    /// Refused for lack of permission.
    Denied,
    /// Never arrives: its cluster is ended at that very moment, as by a person.
    ClusterLost,
    /// Refused because credentials have expired.
    Expired,
    /// The service cannot be reached.
    Unreachable,
    /// A read that shows what was a while ago.
    Stale,
    /// The machine stops when the answer comes, and goes on a good while later.
    Stopped,
    /// SIGTERM while the request is under way; it is answered.
    Ended,
    /// The replica dies before the request leaves.
    CrashBefore,
    /// The replica dies while the request is on its way; it arrives.
    CrashInFlight,
    /// The replica dies after the effect, before the response.
    CrashApplied,
    /// The replica dies as soon as it has the response.
    CrashAfter,
}

impl Fault {
    pub const ALL: [Fault; 19] = [
        Fault::Throttled,
        Fault::FailedBefore,
        Fault::FailedAfter,
        Fault::RequestLost,
        Fault::ResponseLost,
        Fault::Delayed,
        Fault::Truncated,
        Fault::Refused,
        Fault::Denied,
        Fault::ClusterLost,
        Fault::Expired,
        Fault::Unreachable,
        Fault::Stale,
        Fault::Stopped,
        Fault::Ended,
        Fault::CrashBefore,
        Fault::CrashInFlight,
        Fault::CrashApplied,
        Fault::CrashAfter,
    ];
    pub const CRASHES: [Fault; 4] =
        [Fault::CrashBefore, Fault::CrashInFlight, Fault::CrashApplied, Fault::CrashAfter];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Throttled => "throttled",
            Fault::FailedBefore => "500 before",
            Fault::FailedAfter => "500 after",
            Fault::RequestLost => "request lost",
            Fault::ResponseLost => "response lost",
            Fault::Delayed => "delayed",
            Fault::Truncated => "truncated",
            Fault::Refused => "refused",
            Fault::Denied => "denied",
            Fault::ClusterLost => "cluster lost",
            Fault::Expired => "expired",
            Fault::Unreachable => "unreachable",
            Fault::Stale => "stale",
            Fault::Stopped => "stopped",
            Fault::Ended => "told to end",
            Fault::CrashBefore => "crash before",
            Fault::CrashInFlight => "crash in flight",
            Fault::CrashApplied => "crash applied",
            Fault::CrashAfter => "crash after",
        }
    }

    pub fn is_crash(self) -> bool {
        Self::CRASHES.contains(&self)
    }

    /// Whether a task partition may fail because of it: how often it happens is
    /// up to the scenario.
    fn is_a_cause(self) -> bool {
        matches!(self, Fault::Refused | Fault::ClusterLost)
    }

    /// Whether it takes the whole replica out of service for a while.
    fn is_costly(self) -> bool {
        self.is_crash() || matches!(self, Fault::Stopped | Fault::Ended)
    }

    /// Whether it can happen to a call of this phase.
    pub fn applies(self, phase: Phase) -> bool {
        match self {
            Fault::Stale => matches!(phase, Phase::Find),
            Fault::Refused => matches!(phase, Phase::Launch | Phase::AddSteps),
            Fault::ClusterLost => phase == Phase::AddSteps,
            // What has no effect has none later either; a refused start only
            // starts again.
            Fault::Delayed | Fault::CrashInFlight => phase.has_effect(),
            // For another write it is a mistake of the operator that people mend; a
            // cluster whose tag was taken away ends by its deadline.
            Fault::Denied => matches!(
                phase,
                Phase::Describe
                    | Phase::ReadSteps
                    | Phase::Survey
                    | Phase::Logs
                    | Phase::List
                    | Phase::Terminate
            ),
            _ => true,
        }
    }
}

/// A time in which a service cannot be used.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// None means all of them.
    pub service: Option<Service>,
    pub from: Timestamp,
    pub until: Timestamp,
    pub fault: Fault,
}

/// A crash that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crash {
    /// At which effect, counted from 1.
    pub effect: u64,
    /// How, in the order of `Fault::CRASHES`.
    pub position: u8,
}

impl Crash {
    /// Every way to crash at an effect.
    pub fn all_at(effect: u64) -> impl Iterator<Item = Self> {
        (0..4).map(move |position| Self { effect, position })
    }

    fn fault(self) -> Fault {
        Fault::CRASHES[usize::from(self.position) % Fault::CRASHES.len()]
    }
}

/// How far the network may go beyond what the protocol without its guard
/// bears: a request or a list that is late without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// Requests that create something arrive, and lists show it, within the
    /// configured times.
    Kept,
    /// Up to 25 minutes late.
    Broken,
}

/// The fates of one world's requests.
#[derive(Debug)]
pub struct Faults {
    rng: Rng,
    /// In a thousand calls.
    rates: Vec<(Fault, u32)>,
    /// A call that goes wrong again and again.
    unlucky: Vec<Unlucky>,
    outages: Vec<Outage>,
    script: Vec<Crash>,
    /// Crashes and stops that are still to come at most.
    costly_left: u32,
    bounds: Bounds,
    /// Effects asked for so far.
    effects: u64,
    over: bool,
    /// How often a crash of a load is still followed by many hours without the
    /// replica; and whether the crash that has just been is.
    absences: u32,
    absent: bool,
    /// What is new is often not listed for long.
    slow_lists: bool,
}

const COSTLY_MAX: u32 = 7;
/// So many of them are for the phase that meets one far more often.
const COSTLY_KEPT: u32 = 2;

/// What the events of summaries have in their names.
const SUMMARY: &str = "/and-more/";

/// One phase that meets one fault far more often than the others: what takes
/// two rare things at once would otherwise hardly ever happen.
#[derive(Debug, Clone, Copy)]
struct Unlucky {
    phase: Phase,
    fault: Fault,
    /// In a thousand calls.
    rate: u32,
    /// The next call meets it for sure: of some phases there is but one.
    next: bool,
    /// Only calls whose subject has this in it.
    about: &'static str,
}

impl Unlucky {
    /// Seeds that end so have a scenario that makes these phases likely.
    fn choose(rng: &mut Rng, scenario: &Scenario) -> Option<Self> {
        let seed = scenario.seed;
        // There are few that fold, and of the others few have a second attempt.
        let surely = scenario::folds(seed) || seed % 20 == 14 || scenario::has_claimants(seed);
        if let Some(chosen) = Self::fitting(scenario).filter(|_| surely || rng.bool()) {
            return Some(chosen);
        }
        if scenario.reload.is_some() && rng.u8(0..3) == 0 {
            // No other world has this phase.
            return Self::by_turns(rng, seed, &[Phase::KeepTaskFile], |_| true);
        }
        if scenario.backfill.is_some() && rng.bool() {
            return Self::by_turns(rng, seed, &Phase::OF_BACKFILLS, |_| true);
        }
        let phases = match (seed % 10, rng.u8(0..4)) {
            (1 | 2, _) => &[Phase::AddSteps, Phase::Logs][..],
            (3, 0 | 1) => &[Phase::Publish][..],
            (3 | 4, _) => &[Phase::Claim, Phase::NextAttempt][..],
            (5, 0) => &[Phase::Terminate][..],
            (5, _) => &[Phase::CancelSteps][..],
            (_, 0) => return None,
            (_, 1) => &[
                Phase::Fire,
                Phase::Quarantine,
                Phase::Terminate,
                Phase::Launch,
                Phase::Fold,
                Phase::List,
                Phase::Record,
                Phase::Publish,
            ][..],
            _ => &Phase::ALL[..],
        };
        Self::by_turns(rng, seed, phases, |fault| !fault.is_a_cause())
    }

    /// What fits a rare thing that this world has.
    fn fitting(scenario: &Scenario) -> Option<Self> {
        let has = |kind: fn(DatasetKind) -> bool| {
            scenario.datasets.iter().any(|dataset| kind(dataset.kind))
        };
        let unlucky =
            |phase, fault, rate| Some(Self { phase, fault, rate, next: false, about: "" });
        if scenario::folds(scenario.seed) {
            // The summary of what was folded does not get through, the SDK's repeats
            // included.
            let (phase, fault) = (Phase::Publish, Fault::FailedBefore);
            return Some(Self { phase, fault, rate: 900, next: false, about: SUMMARY });
        }
        if scenario::has_claimants(scenario.seed) {
            // No list shows what was launched for a while: another cluster follows.
            let (phase, fault) = (Phase::Launch, Fault::ResponseLost);
            return Some(Self { phase, fault, rate: 400, next: true, about: "" });
        }
        if scenario.backfill.as_ref().is_some_and(|ordered| ordered.cancel.is_some()) {
            // What it was to begin is begun long after.
            return unlucky(Phase::StoreBackfill, Fault::Stopped, 400);
        }
        if has(|kind| kind == DatasetKind::Closed) && !scenario.untold.is_empty() {
            // An hour that nobody told of cannot be listed when it closes.
            return unlucky(Phase::List, Fault::FailedBefore, 850);
        }
        if scenario.seed % 10 == 6 && scenario.profiles.iter().all(|p| p.max_attempts == 1) {
            // A launch that does not count as an attempt.
            return unlucky(Phase::Launch, Fault::Throttled, 700);
        }
        if scenario.seed % 20 == 8 && scenario.may_stop() {
            // What was to be sent by now has not been sent yet.
            return unlucky(Phase::Intent, Fault::Stopped, 400);
        }
        if scenario.seed % 20 == 14 && scenario.profiles.iter().any(|p| p.max_attempts > 1) {
            // What was launched is looked for, and the list has earlier attempts first.
            return unlucky(Phase::Adopt, Fault::Expired, 500);
        }
        let waits = scenario.tasks.iter().any(|task| task.inputs.len() > 1);
        if waits && has(|kind| matches!(kind, DatasetKind::Count(_))) {
            // What has begun is stored after it is complete.
            return unlucky(Phase::Record, Fault::Delayed, 300);
        }
        None
    }

    /// Where tasks load: any fault of one phase, and crashes in another.
    fn of_loads(rng: &mut Rng, seed: u64, slow: bool) -> Vec<Self> {
        let phases = Phase::OF_LOADS;
        let phase = match slow {
            true => &[Phase::CancelStatement][..],
            false => &phases[..],
        };
        let any = Self::by_turns(rng, seed, phase, |_| true);
        // Statements that come after their token was forgotten are what the ledger
        // is for.
        let (late, rate) = (!slow && rng.u8(0..4) == 0, rng.u32(150..600));
        let (send, fault) = (Phase::SendLoad, Fault::Delayed);
        let late = late.then_some(Self { phase: send, fault, rate, next: false, about: "" });
        let effects: Vec<_> = phases.into_iter().filter(|phase| phase.has_effect()).collect();
        let phase = effects[rng.usize(..effects.len())];
        let fault = Fault::CRASHES[rng.usize(..Fault::CRASHES.len())];
        let crash = Self { phase, fault, rate: rng.u32(200..700), next: false, about: "" };
        // Where it takes its time, what meets the cancellation matters.
        any.into_iter().chain(late).chain((!slow).then_some(crash)).collect()
    }

    /// Each fault of each phase has its turn: by chance alone some would hardly have one.
    fn by_turns(
        rng: &mut Rng,
        seed: u64,
        phases: &[Phase],
        may: impl Fn(Fault) -> bool,
    ) -> Option<Self> {
        let met = |phase: &Phase| {
            let phase = *phase;
            let met = move |fault: &Fault| fault.applies(phase);
            Fault::ALL.into_iter().filter(met).map(move |fault| (phase, fault))
        };
        let all: Vec<_> = phases.iter().flat_map(met).filter(|(_, fault)| may(*fault)).collect();
        // Seeds that end alike are of one kind. Each pass begins one further on, because
        // of some kinds every few seeds one is not.
        let passes = seed / 10 / all.len().max(1) as u64;
        let turn = usize::try_from(seed / 10 + seed % 10 * 61 + passes).unwrap_or(0);
        let (phase, fault) = *all.get(turn % all.len().max(1))?;
        // Where what is asked most fails too often, little else is seen.
        let often = [Phase::Start, Phase::Receive, Phase::Read, Phase::Find].contains(&phase);
        let rate = if often { rng.u32(50..200) } else { rng.u32(150..600) };
        Some(Self { phase, fault, rate, next: !often, about: "" })
    }
}

impl Faults {
    /// Some kinds of faults, some outages, all from the seed.
    pub fn of_scenario(scenario: &Scenario, from: Timestamp) -> Self {
        let mut rng = Rng::with_seed(scenario.seed ^ 0x5eed_fa17);
        let clusters = &scenario.clusters;
        let mut rates =
            vec![(Fault::Refused, clusters.refused), (Fault::ClusterLost, clusters.lost)];
        let seconds = scenario.ends.duration_since(from).as_secs();
        for _ in 0..rng.usize(0..7) {
            let fault = Fault::ALL[rng.usize(..Fault::ALL.len())];
            let rate = match fault {
                fault if fault.is_costly() => rng.u32(2..40),
                Fault::RequestLost | Fault::ResponseLost | Fault::Delayed => rng.u32(5..60),
                _ => rng.u32(5..150),
            };
            let known = rates.iter().any(|(known, _)| *known == fault);
            if !known && !fault.is_a_cause() {
                rates.push((fault, rate));
            }
        }
        let mut outages = Vec::new();
        for _ in 0..rng.usize(0..3) {
            let service = match rng.usize(0..7) {
                number @ 0..5 => Some(Service::ALL[number]),
                _ => None,
            };
            let start = from + SignedDuration::from_secs(rng.i64(0..seconds));
            // A receiver that is refused asks again and again: long ones are few.
            let most = if rng.u8(0..5) == 0 { 900 } else { 180 };
            let length = SignedDuration::from_secs(rng.i64(20..most));
            let mut kinds =
                vec![Fault::Unreachable, Fault::FailedBefore, Fault::Expired, Fault::RequestLost];
            if service == Some(Service::Sns) {
                // As when the topic's key is taken away.
                kinds.push(Fault::Denied);
            }
            let fault = kinds[rng.usize(..kinds.len())];
            outages.push(Outage { service, from: start, until: start + length, fault });
        }
        let may_stop = scenario.may_stop();
        rates.retain(|(fault, rate)| *rate > 0 && (may_stop || *fault != Fault::Stopped));
        let mut unlucky: Vec<_> = match &scenario.loads {
            None => Unlucky::choose(&mut rng, scenario).into_iter().collect(),
            Some(loads) => Unlucky::of_loads(&mut rng, scenario.seed, loads.slow),
        };
        unlucky.retain(|unlucky| may_stop || unlucky.fault != Fault::Stopped);
        let absences = scenario.loads.as_ref().map_or(0, |loads| loads.absences);
        let bounds = scenario.bounds;
        Self {
            rates,
            unlucky,
            outages,
            costly_left: COSTLY_MAX,
            absences,
            slow_lists: scenario::has_claimants(scenario.seed),
            ..Self::none(rng, bounds)
        }
    }

    /// Exactly these crashes and nothing else.
    pub fn scripted(seed: u64, script: Vec<Crash>) -> Self {
        let rng = Rng::with_seed(seed ^ 0x5eed_fa17);
        Self { script, ..Self::none(rng, Bounds::Kept) }
    }

    fn none(rng: Rng, bounds: Bounds) -> Self {
        Self {
            rng,
            rates: Vec::new(),
            unlucky: Vec::new(),
            outages: Vec::new(),
            script: Vec::new(),
            costly_left: 0,
            bounds,
            effects: 0,
            over: false,
            absences: 0,
            absent: false,
            slow_lists: false,
        }
    }

    /// From now on everything works.
    pub fn end(&mut self) {
        self.over = true;
    }

    pub fn are_over(&self) -> bool {
        self.over
    }

    /// How many calls with an effect there have been.
    pub fn effects(&self) -> u64 {
        self.effects
    }

    /// The fate of a call that is about to be made.
    pub fn decide(&mut self, call: &Call, now: Timestamp) -> Option<Fault> {
        let fault = self.choose(call, now);
        if fault.is_some_and(Fault::is_crash)
            && self.absences > 0
            && Phase::OF_LOADS.contains(&call.phase)
        {
            self.absences -= 1;
            self.absent = true;
        }
        fault
    }

    fn choose(&mut self, call: &Call, now: Timestamp) -> Option<Fault> {
        if call.phase.has_effect() {
            self.effects += 1;
            if let Some(crash) = self.script.iter().find(|crash| crash.effect == self.effects) {
                return Some(crash.fault());
            }
        }
        if self.over {
            return None;
        }
        let hit = |outage: &&Outage| {
            outage.from <= now
                && now < outage.until
                && outage.service.is_none_or(|service| service == call.service)
        };
        if let Some(outage) = self.outages.iter().find(hit) {
            return Some(outage.fault);
        }
        let is_hit = |unlucky: &&mut Unlucky| {
            unlucky.phase == call.phase && call.about.contains(unlucky.about)
        };
        let unlucky = self.unlucky.iter_mut().filter(is_hit);
        let unlucky = unlucky.map(|unlucky| {
            let rate = if std::mem::take(&mut unlucky.next) { 1000 } else { unlucky.rate };
            (unlucky.fault, rate, 0)
        });
        let rates = self.rates.iter().map(|(fault, rate)| (*fault, *rate, COSTLY_KEPT));
        for (fault, rate, kept) in unlucky.chain(rates) {
            if fault.applies(call.phase) && self.rng.u32(0..1000) < rate {
                if !fault.is_costly() {
                    return Some(fault);
                }
                if self.costly_left > kept {
                    self.costly_left -= 1;
                    return Some(fault);
                }
            }
        }
        None
    }

    /// For how long a machine stands still.
    pub fn standstill(&mut self) -> Duration {
        Duration::from_secs(if self.over { 1 } else { self.rng.u64(20..2400) })
    }

    /// How long a request or a response is on its way.
    pub fn latency(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(1..30))
    }

    /// How late a delayed request arrives.
    pub fn delay(&mut self, call: &Call) -> Duration {
        let creates = matches!(call.phase, Phase::Launch | Phase::AddSteps);
        let secs = match self.bounds {
            Bounds::Kept if creates => self.rng.u64(1..25),
            // After the Data API has forgotten its token.
            Bounds::Broken if call.phase == Phase::SendLoad && self.rng.bool() => {
                self.rng.u64(29_000..33_000)
            }
            _ if self.rng.bool() => self.rng.u64(1..120),
            _ => self.rng.u64(600..1500),
        };
        Duration::from_secs(secs)
    }

    /// For how long a list does not show something new.
    pub fn list_lag(&mut self) -> SignedDuration {
        let secs = match self.bounds {
            _ if self.over || self.rates.is_empty() => 0,
            Bounds::Kept => self.rng.i64(0..30),
            Bounds::Broken if self.slow_lists || self.rng.u8(0..4) == 0 => self.rng.i64(60..1200),
            Bounds::Broken => self.rng.i64(0..60),
        };
        SignedDuration::from_secs(secs)
    }

    /// Whether the call of a guard is lost before, or its answer after.
    pub fn guard_fate(&mut self) -> (bool, bool) {
        if self.over || self.rates.is_empty() {
            return (false, false);
        }
        (self.rng.u8(0..8) == 0, self.rng.u8(0..8) == 0)
    }

    /// For how long a replica that crashed stays down.
    pub fn downtime(&mut self) -> Duration {
        if std::mem::take(&mut self.absent) {
            return Duration::from_secs(self.rng.u64(7 * 3600..30 * 3600));
        }
        let secs = if self.rng.u8(0..8) == 0 { self.rng.u64(60..900) } else { self.rng.u64(1..30) };
        Duration::from_secs(if self.over { 5 } else { secs })
    }
}
