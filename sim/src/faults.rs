//! Which requests meet which fate, and when services are out: all of it from
//! the seed, or for the systematic runs from a script. Not for carrying a fate
//! out: that is `network`.

use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use crate::call::{Call, Phase, Service};
use crate::scenario::Scenario;

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
    /// Refused because credentials have expired.
    Expired,
    /// The service cannot be reached.
    Unreachable,
    /// A read that shows what was a while ago.
    Stale,
    /// The machine stops when the answer comes, and goes on a good while later.
    Stopped,
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
    pub const ALL: [Fault; 17] = [
        Fault::Throttled,
        Fault::FailedBefore,
        Fault::FailedAfter,
        Fault::RequestLost,
        Fault::ResponseLost,
        Fault::Delayed,
        Fault::Truncated,
        Fault::Refused,
        Fault::Denied,
        Fault::Expired,
        Fault::Unreachable,
        Fault::Stale,
        Fault::Stopped,
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
            Fault::Expired => "expired",
            Fault::Unreachable => "unreachable",
            Fault::Stale => "stale",
            Fault::Stopped => "stopped",
            Fault::CrashBefore => "crash before",
            Fault::CrashInFlight => "crash in flight",
            Fault::CrashApplied => "crash applied",
            Fault::CrashAfter => "crash after",
        }
    }

    pub fn is_crash(self) -> bool {
        Self::CRASHES.contains(&self)
    }

    /// Whether it takes the whole replica out of service for a while.
    fn is_costly(self) -> bool {
        self.is_crash() || self == Fault::Stopped
    }

    /// Whether it can happen to a call of this phase.
    pub fn applies(self, phase: Phase) -> bool {
        match self {
            Fault::Stale => matches!(phase, Phase::Find),
            Fault::Refused => matches!(phase, Phase::Launch | Phase::AddSteps),
            // What has no effect has none later either; a refused start only
            // starts again.
            Fault::Delayed | Fault::CrashInFlight => phase.has_effect(),
            // For a write it is a mistake of the operator that people mend.
            Fault::Denied => {
                let reads = [Phase::Describe, Phase::ReadSteps, Phase::Survey, Phase::Logs];
                reads.contains(&phase) || phase == Phase::List
            }
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
    /// Forty minutes late.
    Broken,
}

/// The fates of one world's requests.
#[derive(Debug)]
pub struct Faults {
    rng: Rng,
    /// In a thousand calls.
    rates: Vec<(Fault, u32)>,
    /// A call that goes wrong again and again.
    unlucky: Option<Unlucky>,
    outages: Vec<Outage>,
    script: Vec<Crash>,
    /// Crashes and stops that are still to come at most.
    costly_left: u32,
    bounds: Bounds,
    /// Effects asked for so far.
    effects: u64,
    over: bool,
}

const COSTLY_MAX: u32 = 12;

/// One phase that meets one fault far more often than the others: what takes
/// two rare things at once would otherwise hardly ever happen.
#[derive(Debug, Clone, Copy)]
struct Unlucky {
    phase: Phase,
    fault: Fault,
    /// In a thousand calls.
    rate: u32,
}

impl Unlucky {
    /// Seeds that end so have a scenario that makes these phases likely.
    fn choose(rng: &mut Rng, seed: u64) -> Option<Self> {
        let effects: Vec<_> = Phase::ALL.into_iter().filter(|phase| phase.has_effect()).collect();
        let phases = match (seed % 10, rng.u8(0..4)) {
            (1 | 2, _) => &[Phase::AddSteps, Phase::AddSteps, Phase::Logs][..],
            (3 | 4, _) => &[Phase::Claim, Phase::NextAttempt][..],
            (_, 0) => return None,
            (_, 1) => &[Phase::Fire, Phase::Quarantine, Phase::Terminate, Phase::Launch][..],
            (_, 2) => &Phase::ALL[..],
            _ => &effects[..],
        };
        let phase = phases[rng.usize(..phases.len())];
        let met = |fault: &Fault| fault.applies(phase) && *fault != Fault::Refused;
        let faults: Vec<_> = Fault::ALL.into_iter().filter(met).collect();
        let fault = faults[rng.usize(..faults.len())];
        Some(Self { phase, fault, rate: rng.u32(100..600) })
    }
}

impl Faults {
    /// Some kinds of faults, some outages, all from the seed.
    pub fn of_scenario(scenario: &Scenario, from: Timestamp) -> Self {
        let mut rng = Rng::with_seed(scenario.seed ^ 0x5eed_fa17);
        // That something is refused for good is up to the scenario: it is a
        // cause for a task partition to fail.
        let mut rates = vec![(Fault::Refused, scenario.clusters.refused)];
        let seconds = scenario.ends.duration_since(from).as_secs();
        for _ in 0..rng.usize(0..7) {
            let fault = Fault::ALL[rng.usize(..Fault::ALL.len())];
            let rate = match fault {
                fault if fault.is_costly() => rng.u32(2..40),
                Fault::RequestLost | Fault::ResponseLost | Fault::Delayed => rng.u32(5..60),
                _ => rng.u32(5..150),
            };
            let known = rates.iter().any(|(known, _)| *known == fault);
            if !known && fault != Fault::Refused {
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
            let most = if rng.u8(0..5) == 0 { 1500 } else { 240 };
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
        let unlucky = Unlucky::choose(&mut rng, scenario.seed);
        let unlucky = unlucky.filter(|unlucky| may_stop || unlucky.fault != Fault::Stopped);
        let (script, costly_left, bounds) = (Vec::new(), COSTLY_MAX, scenario.bounds);
        Self { rng, rates, unlucky, outages, script, costly_left, bounds, effects: 0, over: false }
    }

    /// Exactly these crashes and nothing else.
    pub fn scripted(seed: u64, script: Vec<Crash>) -> Self {
        let rng = Rng::with_seed(seed ^ 0x5eed_fa17);
        let (rates, outages, bounds) = (Vec::new(), Vec::new(), Bounds::Kept);
        let (unlucky, costly_left) = (None, 0);
        Self { rng, rates, unlucky, outages, script, costly_left, bounds, effects: 0, over: false }
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
        let unlucky = self.unlucky.filter(|unlucky| unlucky.phase == call.phase);
        let unlucky = unlucky.map(|unlucky| (unlucky.fault, unlucky.rate));
        let rates = unlucky.into_iter().chain(self.rates.iter().copied());
        for (fault, rate) in rates {
            if fault.applies(call.phase) && self.rng.u32(0..1000) < rate {
                if !fault.is_costly() {
                    return Some(fault);
                }
                if self.costly_left > 0 {
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
            _ if self.rng.bool() => self.rng.u64(1..120),
            _ => self.rng.u64(600..2400),
        };
        Duration::from_secs(secs)
    }

    /// For how long a list does not show something new.
    pub fn list_lag(&mut self) -> SignedDuration {
        let secs = match self.bounds {
            _ if self.over || self.rates.is_empty() => 0,
            Bounds::Kept => self.rng.i64(0..30),
            Bounds::Broken if self.rng.u8(0..4) == 0 => self.rng.i64(60..1200),
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
        let secs = if self.rng.u8(0..8) == 0 { self.rng.u64(60..900) } else { self.rng.u64(1..30) };
        Duration::from_secs(if self.over { 5 } else { secs })
    }
}
