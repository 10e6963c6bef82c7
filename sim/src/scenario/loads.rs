//! Worlds whose tasks load their output into the warehouse, in all modes, with
//! what goes wrong there. Not for what must come of it: that is `oracle::loads`.

use std::fmt::Write;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::config::{self, Dataset, DatasetKind, Profile, Step, Task};
use super::{Bounds, LATE_MINUTES, MINUTES, Scenario, WORK, arrivals, busy_until};
use crate::warehouse::Rates;

/// The table that says what is loaded; its name is the daemon's own choice.
pub const LEDGER: &str = "public.sluicegate_loads";
/// So many attempts are never used up by mishaps of some minutes.
const MANY_ATTEMPTS: u32 = 20;

/// What a task does with its output.
#[derive(Debug, Clone)]
pub struct Load {
    pub dataset: String,
    pub table: String,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Append,
    ReplacePartition,
    Upsert,
    ReplaceTable,
}

/// What is special in a world of loads.
#[derive(Debug, Clone)]
pub struct Loads {
    pub rates: Rates,
    /// When nobody can connect to the warehouse.
    pub paused: Option<(Timestamp, Timestamp)>,
    pub attempts: u32,
    /// After so many crashes of a load the daemon is gone for many hours.
    pub absences: u32,
    /// Statements take so long that they are cancelled, and that meets a fault often.
    pub slow: bool,
}

impl Loads {
    /// Whether mishaps can use up all attempts.
    pub fn may_fail(&self) -> bool {
        self.attempts < MANY_ATTEMPTS
    }

    fn choose(rng: &mut Rng, origin: Timestamp, replicas: usize) -> Self {
        let mut rates = Rates::default();
        for _ in 0..rng.usize(0..4) {
            match rng.u8(0..5) {
                0 => rates.conflict = rng.u32(50..250),
                1 => rates.fails = rng.u32(50..200),
                2 => rates.aborted = rng.u32(50..200),
                3 => rates.unconfirmed = rng.u32(50..250),
                _ => rates.slow = rng.u32(100..400),
            }
        }
        let paused = (rng.u8(0..6) == 0).then(|| {
            let from = origin + SignedDuration::from_mins(rng.i64(5..15));
            (from, from + SignedDuration::from_mins(rng.i64(3..20)))
        });
        let attempts = if rng.u8(0..5) == 0 { 2 } else { MANY_ATTEMPTS };
        let absences = u32::from(replicas == 1 && rng.bool());
        Self { rates, paused, attempts, absences, slow: false }
    }
}

/// Makes a world one of loads: everything that it is about is chosen anew.
pub fn adapt(scenario: &mut Scenario, origin: Timestamp, bounds: Bounds) {
    let mut rng = Rng::with_seed(scenario.seed ^ 0x10ad_10ad);
    let rng = &mut rng;
    let mut loads = Loads::choose(rng, origin, scenario.replicas);
    loads.slow = scenario.seed % 40 == 6;
    if loads.slow {
        loads.rates.slow = 500;
    }
    let (tasks, datasets, profiles) = choose(rng);
    let next = config::changed(&profiles, rng);
    let mut texts = [&profiles, &next].map(|profiles| {
        let text = config::text(&tasks, &datasets, profiles, rng) + &text(&tasks, &loads);
        if scenario.scarce { config::scarce(&text) } else { text }
    });
    // The next configuration sends other statements.
    texts[1] = texts[1].replace("role/copy", "role/other");
    let [text, next_text] = texts;
    let ends = origin + SignedDuration::from_mins(MINUTES);
    // Loads come at the end of work.
    let late = origin + SignedDuration::from_mins(LATE_MINUTES);
    let messages = arrivals::messages(rng, scenario.seed, &datasets, origin, ends);
    scenario.busy_until = busy_until(origin, &messages, &scenario.events);
    scenario.clusters.step_hangs = 0;
    (scenario.text, scenario.next_text) = (text, next_text);
    (scenario.tasks, scenario.datasets, scenario.profiles) = (tasks, datasets, profiles);
    (scenario.messages, scenario.ends, scenario.bounds) = (messages, late, bounds);
    // What was lost was of other datasets.
    scenario.untold.clear();
    (scenario.bare, scenario.all_die) = (false, false);
    scenario.loads = Some(loads);
}

/// One to three tasks that load, each into a table of its own, and now and then
/// one that reads what was loaded.
fn choose(rng: &mut Rng) -> (Vec<Task>, Vec<Dataset>, Vec<Profile>) {
    let profile = Profile {
        name: "p0".to_owned(),
        batch_size: rng.u32(2..5),
        max_attempts: rng.u32(2..4),
        lifetime_minutes: config::LONG_LIFETIME,
        step_concurrency: 1,
    };
    let (mut tasks, mut datasets) = (Vec::new(), Vec::new());
    for number in 0..rng.usize(1..4) {
        let (input, output) = (format!("d{number}-0"), format!("o{number}"));
        let counted = DatasetKind::Count(rng.u32(2..4));
        let kind = if rng.bool() { DatasetKind::Object } else { counted };
        datasets.push(Dataset { name: input.clone(), kind });
        datasets.push(Dataset { name: output.clone(), kind: DatasetKind::Folder });
        let modes = [Mode::Append, Mode::ReplacePartition, Mode::Upsert, Mode::ReplaceTable];
        let mode = modes[rng.usize(..modes.len())];
        let load = Load { dataset: output.clone(), table: format!("mart.t{number}"), mode };
        let steps = (0..rng.usize(1..3))
            .map(|step| Step { name: format!("s{step}"), retries: rng.u32(0..3) })
            .collect();
        tasks.push(task(&format!("t{number}"), input, vec![output], steps, Some(load)));
    }
    if rng.u8(0..3) == 0 {
        let steps = vec![Step { name: "s0".to_owned(), retries: 1 }];
        tasks.push(task("reader", "o0".to_owned(), Vec::new(), steps, None));
    }
    (tasks, datasets, vec![profile])
}

fn task(
    name: &str,
    input: String,
    outputs: Vec<String>,
    steps: Vec<Step>,
    load: Option<Load>,
) -> Task {
    let (name, profile) = (name.to_owned(), "p0".to_owned());
    let (scheduled, attempt_timeout_minutes) = (false, None);
    let inputs = vec![input];
    Task { name, profile, inputs, outputs, scheduled, steps, attempt_timeout_minutes, load }
}

/// The part of the configuration file that is about loads.
fn text(tasks: &[Task], loads: &Loads) -> String {
    let mut text = format!(
        r#"[warehouses.mart]
workgroup = "mart"
database = "dev"
role = "arn:aws:iam::000000000000:role/copy"
manifests = "s3://{WORK}/manifests/"
attempts = {}
timeout = "10m"
"#,
        loads.attempts
    );
    for (task, load) in tasks.iter().filter_map(|task| Some((&task.name, task.load.as_ref()?))) {
        let mode = match load.mode {
            Mode::Append => "append",
            Mode::ReplacePartition => "replace-partition",
            Mode::Upsert => "upsert",
            Mode::ReplaceTable => "replace-table",
        };
        let key = if load.mode == Mode::Upsert { "unique-key = [\"id\"]" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"[tasks.{task}.load]
warehouse = "mart"
table = "{}"
mode = "{mode}"
{key}
partition-column = "hour_of"
columns = [{{ name = "id", type = "varchar(64)" }}, {{ name = "amount", type = "integer" }}]
"#,
            load.table
        );
    }
    text
}
