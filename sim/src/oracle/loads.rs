//! I7: a partition whose run succeeded is in its table exactly once, with the
//! rows of that run, and one that failed is not in it; ledger and table agree.
//! I8: an attempt has one token. Not for the steps that made the rows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use sluicegate::core::partition::Partition;

use super::items::text;
use super::{Found, Oracle, Violation, violation};
use crate::call::{Call, Phase};
use crate::scenario::{LEDGER, Load, Mode, Task, folder_of};
use crate::tables;
use crate::warehouse::{Statement, Value, parse};
use crate::world::World;

type Row = Vec<Value>;

/// What was sent to the warehouse.
#[derive(Debug, Default)]
pub struct Loads {
    /// Task partition → the tokens of its loads.
    tokens: BTreeMap<String, BTreeSet<String>>,
    /// Task partitions that the ledger was asked about since their last token.
    asked: BTreeSet<String>,
}

impl Loads {
    /// I8: a replica sends the statements of a load, or asks the ledger. Another
    /// attempt begins only when the ledger shows that the last one did nothing.
    pub fn decided(&mut self, call: &Call) -> Found {
        match call.phase {
            Phase::AskLedger => {
                self.asked.extend(asked_about(call));
                Vec::new()
            }
            Phase::SendLoad => {
                // `DEPLOYMENT TASK PARTITION RUN`.
                let name: Vec<_> = call.about.split(' ').collect();
                let [_, task, partition, _] = name[..] else {
                    return violation("I8", format!("a load is called {:?}", call.about));
                };
                let key = format!("{task} {partition}");
                let token = call.body["ClientToken"].as_str().unwrap_or_default();
                let tokens = self.tokens.entry(key.clone()).or_default();
                let first = tokens.is_empty();
                if tokens.insert(token.to_owned()) && !self.asked.remove(&key) && !first {
                    return violation(
                        "I8",
                        format!("{key} is loaded by another attempt, the ledger was not asked"),
                    );
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

/// The task partition that a question is about.
fn asked_about(call: &Call) -> Option<String> {
    let sql = call.body["Sqls"].as_array()?.last()?.as_str()?;
    let Some(Statement::Select { condition, .. }) = parse(sql) else { return None };
    let value = |name: &str| {
        let mut found = condition.iter().filter(|(column, _)| column == name);
        found.next().map(|(_, value)| value.to_string())
    };
    Some(format!("{} {}", value("task")?, value("part")?))
}

/// A write to a task partition: its end says what is in the table.
pub fn task(world: &World, name: &str, old: Option<&Json>, new: &Json) -> Found {
    let Some((task, partition)) = split(world, name) else { return Vec::new() };
    let Some(load) = &task.load else { return Vec::new() };
    let state = |item: &Json| text(item, "state").unwrap_or_default();
    let (was, is) = (old.map(state).unwrap_or_default(), state(new));
    let run = text(new, "run").unwrap_or_default();
    match (was.as_str(), is.as_str()) {
        ("running", "succeeded") => {
            violation("I7", format!("{name} is said to have succeeded and was not loaded"))
        }
        ("loading", "succeeded") => loaded(world, task, load, &partition, &run),
        ("loading", "failed") => {
            let reason = text(new, "reason").unwrap_or_default();
            let may_fail = world.scenario.loads.as_ref().is_some_and(|loads| loads.may_fail());
            if !may_fail {
                return violation("I7", format!("{name} failed without any cause: {reason}"));
            }
            let there = rows_of(world, load, name).len();
            let in_ledger =
                ledger(world, &task.name, &partition).iter().any(|row| has(row, 3, &run));
            if there > 0 || in_ledger {
                return violation(
                    "I7",
                    format!("{name} is said to have failed ({reason}), and is in {}", load.table),
                );
            }
            Vec::new()
        }
        _ => Vec::new(),
    }
}

/// A partition is in the ledger by its run, and its rows are in the table.
fn loaded(world: &World, task: &Task, load: &Load, partition: &Partition, run: &str) -> Found {
    let name = format!("{} {partition}", task.name);
    let mut found = Vec::new();
    let mut violated = |words: String| found.push(Violation { invariant: "I7", words });
    let ledger = ledger(world, &task.name, partition);
    match &ledger[..] {
        [row] if has(row, 3, run) => {}
        rows => violated(format!("{name} was loaded by {run}, the ledger has {rows:?}")),
    }
    // Another partition may have replaced the whole table since.
    if load.mode != Mode::ReplaceTable {
        let (there, made) = (rows_of(world, load, &name), made(world, load, partition));
        if there != made {
            violated(format!("{name}: {} has {there:?}, its run made {made:?}", load.table));
        }
    }
    found
}

impl Oracle {
    /// Every table holds what it should and nothing else.
    pub fn tables_at_the_end(&mut self, world: &World) {
        let loads = world.warehouse.loads();
        let mut found = Vec::new();
        let mut violated = |words: String| found.push(Violation { invariant: "I7", words });
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        for row in &loads {
            *times.entry(format!("{} {}", row[1], row[2])).or_default() += 1;
        }
        for (name, times) in times.iter().filter(|(_, times)| **times > 1) {
            violated(format!("{name} was loaded {times} times"));
        }
        let mut in_ledger = 0;
        for task in &world.scenario.tasks {
            let Some(load) = &task.load else { continue };
            let mut expected = Vec::new();
            let last = loads.iter().rfind(|row| has(row, 1, &task.name));
            for (name, run) in self.succeeded(&task.name) {
                let Some((_, partition)) = split(world, &name) else { continue };
                in_ledger += 1;
                if !ledger(world, &task.name, &partition).iter().any(|row| has(row, 3, &run)) {
                    violated(format!("{name} succeeded by {run}, which the ledger has not"));
                }
                let counts = load.mode != Mode::ReplaceTable
                    || last.is_some_and(|row| has(row, 2, &partition.to_string()));
                if counts {
                    expected.extend(made(world, load, &partition));
                }
            }
            expected.sort();
            let mut there = world.warehouse.rows(&load.table);
            there.sort();
            if there != expected {
                violated(format!("{} has {there:?} and should have {expected:?}", load.table));
            }
        }
        let rows = world.warehouse.rows(LEDGER).len();
        if rows != in_ledger {
            violated(format!("the ledger has {rows} rows for {in_ledger} loads that succeeded"));
        }
        for Violation { invariant, words } in found {
            self.violated(invariant, words);
        }
    }

    /// The partitions of a task that succeeded, each with its run.
    fn succeeded(&self, task: &str) -> Vec<(String, String)> {
        let of = |(name, item): (&str, &Json)| {
            let is_own = name.split(' ').next() == Some(task);
            let succeeded = text(item, "state").as_deref() == Some("succeeded");
            let run = text(item, "run").unwrap_or_default();
            (is_own && succeeded).then(|| (name.to_owned(), run))
        };
        self.table(tables::TASK).filter_map(of).collect()
    }

    /// Whether the partition that a load is named after has failed.
    pub fn is_given_up(&self, load: &str) -> bool {
        let failed = self.tasks_in(&BTreeSet::from(["failed"]));
        failed.iter().any(|name| load.contains(&format!(" {name} ")))
    }

    /// The task partitions whose load is under way.
    pub fn loading(&self) -> BTreeSet<String> {
        self.tasks_in(&BTreeSet::from(["loading"]))
    }
}

fn split<'a>(world: &'a World, name: &str) -> Option<(&'a Task, Partition)> {
    let (task, partition) = name.rsplit_once(' ')?;
    Some((world.scenario.task(task)?, partition.parse().ok()?))
}

/// Whether a row of the ledger has this text in this column.
fn has(row: &Row, column: usize, text: &str) -> bool {
    row.get(column).is_some_and(|value| value.to_string() == text)
}

/// The rows of the ledger about a partition.
fn ledger(world: &World, task: &str, partition: &Partition) -> Vec<Row> {
    let partition = partition.to_string();
    let mut rows = world.warehouse.rows(LEDGER);
    rows.retain(|row| has(row, 1, task) && has(row, 2, &partition));
    rows
}

/// The rows of a task partition in its table. Each bears its name.
fn rows_of(world: &World, load: &Load, name: &str) -> Vec<Row> {
    let start = format!("{name} ");
    let mut rows = world.warehouse.rows(&load.table);
    rows.retain(|row| row.first().is_some_and(|id| id.to_string().starts_with(&start)));
    rows.sort();
    rows
}

/// The rows that a partition's steps have made, as its table should have them.
fn made(world: &World, load: &Load, partition: &Partition) -> Vec<Row> {
    let start = partition.start().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let folder = format!("{}/", folder_of(&load.dataset, *partition));
    let mut rows = Vec::new();
    for body in world.objects_under(&folder) {
        let Ok(Json::Array(lines)) = serde_json::from_slice(&body) else { continue };
        rows.extend(lines.iter().map(|line| {
            let id = line[0].as_str().unwrap_or_default().to_owned();
            let amount = line[1].as_i64().unwrap_or_default();
            vec![Value::Text(id), Value::Number(amount), Value::Time(start.clone())]
        }));
    }
    rows.sort();
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::Service;

    fn send(token: &str) -> Call {
        Call {
            service: Service::Redshift,
            action: "BatchExecuteStatement".to_owned(),
            phase: Phase::SendLoad,
            body: json!({ "ClientToken": token }),
            about: "sim t0 2013-01-01T03 R".to_owned(),
        }
    }

    fn ask(part: &str) -> Call {
        let sql = format!(
            "SELECT run FROM \"public\".\"l\" WHERE deployment = 'sim' AND task = 't0' AND part = '{part}'"
        );
        let body = json!({ "Sqls": ["LOCK TABLE \"public\".\"l\"", sql] });
        Call { phase: Phase::AskLedger, body, about: "sim ledger".to_owned(), ..send("") }
    }

    #[test]
    fn another_attempt_follows_a_question_to_the_ledger() {
        let mut loads = Loads::default();
        for (call, violations) in [
            (send("one"), 0),
            // The same again, as after a lost answer.
            (send("one"), 0),
            (ask("2013-01-01T03"), 0),
            (send("two"), 0),
            // Of a replica that is behind.
            (send("one"), 0),
            // About another partition.
            (ask("2013-01-01T04"), 0),
            (send("three"), 1),
        ] {
            assert_eq!(loads.decided(&call).len(), violations, "{call:?}");
        }
    }
}
