//! What a run of many worlds has reached: how often each fault met each phase,
//! and how often each other thing happened. A fault that never happens where it
//! could proves nothing. Not for judging worlds.

use std::collections::BTreeMap;

use crate::call::Phase;
use crate::faults::Fault;

/// Counts, of one world or of many.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    faults: BTreeMap<(Fault, Phase), u64>,
    phases: BTreeMap<Phase, u64>,
    events: BTreeMap<&'static str, u64>,
}

impl Marks {
    pub fn called(&mut self, phase: Phase) {
        *self.phases.entry(phase).or_default() += 1;
    }

    pub fn faulted(&mut self, fault: Fault, phase: Phase) {
        *self.faults.entry((fault, phase)).or_default() += 1;
    }

    pub fn happened(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Marks) {
        for (key, count) in &other.faults {
            *self.faults.entry(*key).or_default() += count;
        }
        for (key, count) in &other.phases {
            *self.phases.entry(*key).or_default() += count;
        }
        for (key, count) in &other.events {
            *self.events.entry(key).or_default() += count;
        }
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.phases.values().sum()
    }

    pub fn count(&self, fault: Fault, phase: Phase) -> u64 {
        self.faults.get(&(fault, phase)).copied().unwrap_or(0)
    }

    pub fn calls_of(&self, phase: Phase) -> u64 {
        self.phases.get(&phase).copied().unwrap_or(0)
    }

    pub fn event(&self, event: &str) -> u64 {
        self.events.get(event).copied().unwrap_or(0)
    }

    pub fn events(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.events.iter().map(|(event, count)| (*event, *count))
    }
}
