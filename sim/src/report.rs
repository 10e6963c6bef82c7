//! What a run of worlds has shown, in words: how many, how fast, what was
//! reached, what was violated. Not for playing worlds.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::call::Phase;
use crate::faults::Fault;
use crate::marks::Marks;
use crate::world::Outcome;

/// Lines of a trace that are shown with a violation.
const LINES_MAX: usize = 60;
/// Violations that are shown with their trace; of the others only the words.
const SHOWN_MAX: usize = 3;

/// Many worlds together.
#[derive(Debug, Default)]
pub struct Summary {
    pub worlds: u64,
    pub marks: Marks,
    pub violations: Vec<String>,
    virtual_hours: f64,
}

impl Summary {
    /// Takes a world in; `replay` is the command that plays it again.
    pub fn take(&mut self, outcome: &Outcome, replay: &str) {
        self.worlds += 1;
        self.marks.merge(&outcome.marks);
        self.virtual_hours += outcome.lasted.as_secs_f64() / 3600.0;
        if let Some(words) = failure(outcome, replay, self.violations.len() < SHOWN_MAX) {
            self.violations.push(words);
        }
    }

    /// Faults that no call has met although calls of the phase were made.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for phase in Phase::everywhere() {
            for fault in Fault::ALL.into_iter().filter(|fault| fault.applies(phase)) {
                if self.marks.count(fault, phase) == 0 {
                    missed.push(format!("{} in {}", fault.name(), phase.name()));
                }
            }
        }
        let never = EVENTS.into_iter().filter(|event| self.marks.event(event) == 0);
        missed.extend(never.map(str::to_owned));
        missed
    }

    /// How often each fault met each phase, and each other thing happened.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // A word a line, or the table would be too wide.
        let faults = Fault::ALL.into_iter().map(|fault| fault.name().replace(' ', "\n"));
        let header = ["phase".to_owned(), "calls".to_owned()];
        table.set_header(header.into_iter().chain(faults));
        for phase in Phase::everywhere() {
            let calls = self.marks.calls_of(phase);
            let counts = Fault::ALL.into_iter().map(|fault| match fault.applies(phase) {
                true => self.marks.count(fault, phase).to_string(),
                false => "-".to_owned(),
            });
            let row = [phase.name().to_owned(), calls.to_string()];
            table.add_row(row.into_iter().chain(counts));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.to_string();
        let events: Vec<_> =
            self.marks.events().map(|(event, count)| format!("{event} {count}")).collect();
        // Writing to a String cannot fail.
        let _ = write!(text, "\nand: {}", events.join(", "));
        text
    }

    /// What worlds of loads have shown, a line for each kind of fault.
    pub fn loads(&self) -> String {
        let count = |event: &str| self.marks.event(event);
        let mut text = format!(
            "{} partitions loaded, {} of them met a crash while they were\n",
            count("loaded"),
            count("load met a crash")
        );
        for fault in Fault::ALL {
            let met: u64 =
                Phase::OF_LOADS.into_iter().map(|phase| self.marks.count(fault, phase)).sum();
            if met > 0 {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{met:>8} calls: {}", fault.name());
            }
        }
        for event in EVENTS.into_iter().filter(|event| EVENTS_OF_LOADS.contains(event)) {
            let _ = writeln!(text, "{:>8} times: {event}", count(event));
        }
        text
    }

    /// One line of figures.
    pub fn figures(&self, took: Duration) -> String {
        let (worlds, secs) = (self.worlds, took.as_secs_f64());
        format!(
            "{worlds} worlds in {secs:.1} s ({:.1} a second), {} calls, {:.0} virtual hours, {} violations",
            worlds as f64 / secs.max(0.001),
            self.marks.calls(),
            self.virtual_hours,
            self.violations.len(),
        )
    }

    pub fn json(&self, took: Duration) -> Value {
        let mut faults = serde_json::Map::new();
        for phase in Phase::everywhere() {
            for fault in Fault::ALL.into_iter().filter(|fault| fault.applies(phase)) {
                let name = format!("{} / {}", fault.name(), phase.name());
                faults.insert(name, self.marks.count(fault, phase).into());
            }
        }
        json!({
            "worlds": self.worlds,
            "seconds": took.as_secs_f64(),
            "worlds-a-second": self.worlds as f64 / took.as_secs_f64().max(0.001),
            "calls": self.marks.calls(),
            "virtual-hours": self.virtual_hours,
            "violations": self.violations,
            "never-reached": self.missed(),
            "faults": faults,
            "events": self.marks.events().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }
}

/// What a scenario makes happen beside the faults of requests.
const EVENTS: [&str; 43] = [
    "SIGKILL",
    "SIGTERM",
    "SIGSTOP",
    "object",
    "notification never sent",
    "several",
    "through SNS",
    "malformed",
    "half",
    "test event",
    "delete event",
    "foreign",
    "newer",
    "guard fails",
    "claimant lost",
    "step hangs",
    "list lags",
    "step cancelled",
    "step fails",
    "bootstrap fails",
    "instances lost",
    "cluster terminated",
    "clock jumps",
    "deployed",
    "all die",
    "backlog",
    "slot in a night of other clocks",
    "backfill ordered",
    "backfill cancelled",
    "task file changed",
    "task file broken",
    "task file removed",
    "changed task runs",
    "away for hours",
    "load met a crash",
    "loaded",
    "ledger refuses",
    "lock conflict",
    "commit unconfirmed",
    "statement fails",
    "statement aborted",
    "statement slow",
    "warehouse paused",
];

/// What happens to loads beside faults of their calls.
const EVENTS_OF_LOADS: [&str; 8] = [
    "away for hours",
    "ledger refuses",
    "lock conflict",
    "commit unconfirmed",
    "statement fails",
    "statement aborted",
    "statement slow",
    "warehouse paused",
];

/// A violation in words, with the end of its trace.
pub fn failure(outcome: &Outcome, replay: &str, with_trace: bool) -> Option<String> {
    let violation = outcome.violation.as_ref()?;
    let mut text = format!("{} violated: {}\n", violation.invariant, violation.words);
    if with_trace {
        let lines = outcome.trace.lines();
        let end = lines.iter().position(|line| line.contains(" VIOLATED "));
        let end = end.map_or(lines.len(), |index| index + 1);
        for line in &lines[end.saturating_sub(LINES_MAX)..end] {
            let _ = writeln!(text, "    {line}");
        }
    }
    let _ = write!(text, "  play it again with: {replay}");
    Some(text)
}
