//! Tasks that wait for each other: found before they wait forever.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{File, Input, Need};

impl Check {
    /// A cycle in which every task needs the one before it for the same time is
    /// a mistake: none of them ever runs. If a window lies wholly in the past,
    /// the cycle only lacks a beginning.
    pub(super) fn cycles(&mut self, file: &File, producers: &BTreeMap<String, String>) {
        let past = |input: &Input| {
            input.to.as_ref().is_some_and(|to| *to.get_ref() <= SignedDuration::ZERO)
        };
        let at = |name: &str| {
            file.tasks.get_key_value(name).map(|(name, _)| name.span()).unwrap_or_default()
        };
        let deadlocks = Waits::of(file, producers, |input| !past(input)).cycles();
        for cycle in &deadlocks {
            self.report(
                Mistake::at(
                    at(cycle[0]),
                    format!("these tasks wait for each other: {}", ring(cycle)),
                )
                .help("each reads what the next one makes: take one of these inputs away"),
            );
        }
        if !deadlocks.is_empty() {
            return;
        }
        for cycle in Waits::of(file, producers, |_| true).cycles() {
            self.warn(
                Mistake::at(
                    at(cycle[0]),
                    format!("each partition waits for an earlier one: {}", ring(&cycle)),
                )
                .help("nothing makes the very first one ready: it has to be released by hand"),
            );
        }
    }
}

fn ring(cycle: &[&str]) -> String {
    let names: Vec<_> = cycle.iter().chain(cycle.first()).copied().collect();
    names.join(" → ")
}

/// Which task waits for which, and the other way round.
struct Waits<'a> {
    waits: BTreeMap<&'a str, BTreeSet<&'a str>>,
    waiters: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Waits<'a> {
    fn of(
        file: &'a File,
        producers: &'a BTreeMap<String, String>,
        counts: impl Fn(&Input) -> bool,
    ) -> Self {
        let mut found = Self { waits: BTreeMap::new(), waiters: BTreeMap::new() };
        for (name, task) in &file.tasks {
            let name = name.get_ref().as_str();
            let waits = found.waits.entry(name).or_default();
            // With fewer than all it can run without those that wait for it.
            let all = *task.need.get_ref() == Need::All;
            for input in task.inputs.iter().filter(|input| all && counts(input)) {
                if let Some(producer) = producers.get(input.dataset.get_ref()) {
                    waits.insert(producer.as_str());
                    found.waiters.entry(producer.as_str()).or_default().insert(name);
                }
            }
        }
        found
    }

    /// Takes away every task that can run; those that are left wait for a
    /// cycle. Each is named once.
    fn cycles(mut self) -> Vec<Vec<&'a str>> {
        let free: Vec<_> = self.waits.iter().filter(|(_, waits)| waits.is_empty()).collect();
        let free: Vec<_> = free.into_iter().map(|(name, _)| *name).collect();
        for name in free {
            self.remove(name);
        }
        let mut cycles = Vec::new();
        while let Some(start) = self.waits.keys().next().copied() {
            let mut way = vec![start];
            let mut seen = BTreeMap::from([(start, 0)]);
            let cycle = loop {
                let last = way[way.len() - 1];
                // Every task that is left waits for one that is left.
                let Some(next) = self.waits.get(last).and_then(|waits| waits.first()).copied()
                else {
                    break Vec::new();
                };
                if let Some(first) = seen.insert(next, way.len()) {
                    break way.split_off(first);
                }
                way.push(next);
            };
            for name in &cycle {
                self.remove(name);
            }
            if cycle.is_empty() {
                self.remove(start);
            } else {
                cycles.push(cycle);
            }
        }
        cycles
    }

    /// Takes a task away, and all that then wait for nothing more.
    fn remove(&mut self, name: &'a str) {
        let mut free = vec![name];
        while let Some(name) = free.pop() {
            self.waits.remove(name);
            for waiter in self.waiters.remove(name).unwrap_or_default() {
                let Some(waits) = self.waits.get_mut(waiter) else { continue };
                waits.remove(name);
                if waits.is_empty() {
                    free.push(waiter);
                }
            }
        }
    }
}
