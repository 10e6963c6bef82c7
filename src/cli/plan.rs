//! `plan`: what the configuration would make of an interval or of one
//! partition. Asks nobody: neither AWS nor what is stored.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::output::{self, Output, or_dash};
use super::shown::{self, ShownStep};
use super::{Failure, WholeArgs, find_partition, find_task};
use crate::clock::Clock;
use crate::config::Config;
use crate::core::catalog::{Catalog, Completeness, Need, OnTimeout, Profile, Task};
use crate::core::load::LoadSpec;
use crate::core::partition::Partition;
use crate::core::run::{Run, Step};
use crate::core::schedule::{CatchUp, Schedule};
use crate::core::task::{Element, Receipt, TaskKey, TaskPartition, TaskState};
use crate::core::why::{self, Known, Wait};

const DEFAULT_LENGTH: SignedDuration = SignedDuration::from_hours(24);
const LENGTH_MAX: SignedDuration = SignedDuration::from_hours(24 * 31);
/// Slots of one task in one plan.
const SLOTS_MAX: usize = 1_000;
/// Stands where a run's id will.
const RUN_ID: &str = "RUN-ID";
const FIRST_ATTEMPT: u32 = 1;

/// Show what would happen: slots, partitions, what they wait for, their steps
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate plan --config prod.toml\n  \
    sluicegate plan --from 2013-01-01 --to 2013-01-02 --task hourly-etl --config prod.toml\n  \
    sluicegate plan --at 2013-01-01T06:05:00Z --config prod.toml\n  \
    sluicegate plan --task hourly-etl --partition 2013-01-01T05 --steps --config prod.toml\n  \
    sluicegate plan --tasks tasks --config prod.toml\n\n\
    Computed from the configuration and its task files alone. Times are UTC; without --from, from now on.")]
pub struct PlanArgs {
    /// Start of the interval: a day, an hour, or an instant such as
    /// 2013-01-01T06:05:00Z
    #[arg(long, value_parser = instant)]
    from: Option<Timestamp>,
    /// End of the interval, exclusive; default: 24 hours after its start
    #[arg(long, value_parser = instant)]
    to: Option<Timestamp>,
    /// Only the slots of the minute that begins here
    #[arg(long, value_parser = instant, conflicts_with_all = ["from", "to", "partition"])]
    at: Option<Timestamp>,
    /// Only this task
    #[arg(long)]
    task: Option<String>,
    /// Only this partition of the task, with its steps filled in
    #[arg(long, requires = "task", conflicts_with_all = ["from", "to"])]
    partition: Option<String>,
    /// Show the cluster too, as it would be asked for
    #[arg(long, requires = "partition")]
    steps: bool,
    #[command(flatten)]
    config: WholeArgs,
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let partition = || text.parse().ok().map(|partition: Partition| partition.start());
    text.parse().ok().or_else(partition).ok_or_else(|| {
        "expected a day (2013-01-01), an hour (2013-01-01T05) or an instant (2013-01-01T05:05:00Z)"
            .to_owned()
    })
}

/// One task partition that a plan foresees.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Foreseen {
    task: String,
    partition: Partition,
    /// The schedule's slot; none for a task without a schedule.
    slot: Option<Timestamp>,
    profile: String,
    waits_for: Vec<Wait>,
    /// Not before this, whatever arrives.
    earliest: Option<Timestamp>,
    /// When it waits no longer, as its task's wait-timeout says.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_until: Option<Timestamp>,
}

/// How a profile's ready partitions share clusters.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct BatchRule {
    batch_size: usize,
    max_wait: String,
}

impl BatchRule {
    fn of(profile: &Profile) -> Self {
        Self { batch_size: profile.batch_size, max_wait: shown::duration(profile.max_wait) }
    }
}

#[derive(Debug, Serialize)]
struct Plan {
    from: Timestamp,
    to: Timestamp,
    partitions: Vec<Foreseen>,
    profiles: BTreeMap<String, BatchRule>,
    /// Tasks with more slots than a plan shows.
    truncated: Vec<String>,
}

/// One partition in full.
#[derive(Debug, Serialize)]
struct PartitionPlan {
    #[serde(flatten)]
    foreseen: Foreseen,
    /// Of a task with a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    catch_up: Option<CatchUp>,
    batch: BatchRule,
    steps: Vec<ShownStep>,
    outputs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<LoadPlan>,
    cluster: Option<Value>,
}

/// What happens to its output in the warehouse.
#[derive(Debug, Serialize)]
struct LoadPlan {
    dataset: String,
    warehouse: String,
    table: String,
    mode: &'static str,
}

impl LoadPlan {
    fn of(spec: &LoadSpec) -> Self {
        Self {
            dataset: spec.dataset.clone(),
            warehouse: spec.warehouse.clone(),
            table: spec.table.plain(),
            mode: spec.mode.name(),
        }
    }
}

pub fn plan(args: &PlanArgs) -> Result<Output, Failure> {
    let config = args.config.load()?;
    let task = args.task.as_ref().map(|name| find_task(&config, name)).transpose()?;
    if let (Some(task), Some(partition)) = (task, &args.partition) {
        let key = find_partition(task, partition)?;
        let (plan, steps) = one_partition(&config, task, &key, args.steps)?;
        return Output::new(partition_words(&plan, &steps), &plan);
    }
    let (from, to) = match args.at {
        Some(at) => (at, later(at, SignedDuration::from_mins(1))),
        None => {
            let from = args.from.unwrap_or_else(|| Clock::real().now());
            (from, args.to.unwrap_or_else(|| later(from, DEFAULT_LENGTH)))
        }
    };
    if from >= to {
        return Err(Failure::Use(format!("the interval is empty: {from} is not before {to}")));
    }
    if to.duration_since(from) > LENGTH_MAX {
        return Err(Failure::Use("the interval is longer than 31 days: plan a shorter one".into()));
    }
    let mut tasks: Vec<_> = match task {
        Some(task) => vec![task],
        None => config.catalog.tasks.values().collect(),
    };
    if args.at.is_some() {
        // Of an instant one wants to know what it starts.
        tasks.retain(|task| task.schedule.is_some());
    }
    let plan = foresee(&config.catalog, &tasks, from, to);
    Output::new(words(&plan), &plan)
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Everything with a slot in `[from, to)`, and of tasks without a schedule
/// every partition that overlaps it, in the order of time.
fn foresee(catalog: &Catalog, tasks: &[&Task], from: Timestamp, to: Timestamp) -> Plan {
    let mut partitions = Vec::new();
    let mut truncated = Vec::new();
    // The schedule counts from after an instant up to and with another.
    let second = SignedDuration::from_secs(1);
    let before = |at: Timestamp| at.saturating_sub(second).unwrap_or(at);
    for task in tasks {
        match &task.schedule {
            Some(schedule) => {
                let slots = schedule.due(before(from), before(to), SLOTS_MAX);
                if slots.len() == SLOTS_MAX {
                    truncated.push(task.name.clone());
                }
                partitions.extend(slots.into_iter().map(|slot| {
                    let partition = schedule.partition_of(slot, task.grain);
                    foreseen(catalog, task, partition, Some(slot))
                }));
            }
            None => partitions.extend(
                Partition::overlapping(from, to, task.grain)
                    .map(|partition| foreseen(catalog, task, partition, None)),
            ),
        }
    }
    partitions
        .sort_by_key(|found| (found.slot.unwrap_or(found.partition.start()), found.task.clone()));
    let profiles: BTreeSet<_> = tasks.iter().map(|task| task.profile.as_str()).collect();
    let profiles =
        profiles.into_iter().filter_map(|name| Some((name.to_owned(), rule(catalog, name)?)));
    Plan { from, to, partitions, profiles: profiles.collect(), truncated }
}

fn rule(catalog: &Catalog, profile: &str) -> Option<BatchRule> {
    catalog.profiles.get(profile).map(BatchRule::of)
}

fn foreseen(
    catalog: &Catalog,
    task: &Task,
    partition: Partition,
    slot: Option<Timestamp>,
) -> Foreseen {
    let key = TaskKey::new(&task.name, partition);
    let mut item = TaskPartition::new(key.clone());
    item.due = Some(partition.start());
    if let Some(slot) = slot {
        item.received.insert(Element::Slot, Receipt::Slot(slot));
    }
    let known = Known {
        key: &key,
        item: Some(&item),
        run: None,
        ready: 0,
        mark: None,
        producers: &BTreeMap::new(),
        usual: &BTreeMap::new(),
        paused: None,
        full: None,
        to_come: None,
    };
    // As if asked when the partition begins: everything is still to come.
    let why = why::why(catalog, task, known, partition.start());
    // Without its slot it waits on.
    let waits_until = slot.max(task.wait.map(|wait| wait.deadline(&partition)));
    let waits_until = waits_until.filter(|_| task.wait.is_some());
    // Where some inputs are enough, those may be the ones without a time.
    let all_come = why.waits_for.iter().filter_map(|wait| wait.at).max();
    let all_come = all_come.filter(|_| task.need == Need::All);
    let runs_then = task.wait.filter(|wait| wait.then == OnTimeout::Run).and(waits_until);
    let all_come = all_come.map(|at| runs_then.map_or(at, |then| at.min(then)));
    Foreseen {
        task: task.name.clone(),
        partition,
        slot,
        profile: task.profile.clone(),
        earliest: slot.max(all_come),
        waits_until,
        waits_for: why.waits_for,
    }
}

fn one_partition(
    config: &Config,
    task: &Task,
    key: &TaskKey,
    with_cluster: bool,
) -> Result<(PartitionPlan, Vec<Step>), Failure> {
    let catalog = &config.catalog;
    let slot = why::slot_of(task, &key.partition);
    let foreseen = foreseen(catalog, task, key.partition, slot);
    let no_profile = || Failure::Failed(format!("task {} has no profile", task.name));
    let profile = catalog.profiles.get(&task.profile).ok_or_else(no_profile)?;
    let item = complete(catalog, task, key);
    let (run, _) = Run::new(catalog, profile, &[(task, &item)], RUN_ID, key.partition.end());
    let member = run.members.into_iter().next();
    let (steps, outputs) =
        member.map_or_else(Default::default, |member| (member.steps, member.outputs));
    let plan = PartitionPlan {
        foreseen,
        catch_up: task.schedule.as_ref().map(Schedule::catch_up),
        batch: BatchRule::of(profile),
        steps: steps.iter().map(|step| ShownStep::of(step, FIRST_ATTEMPT)).collect(),
        outputs,
        load: task.load.as_ref().map(LoadPlan::of),
        cluster: with_cluster.then(|| shown::cluster(&run.cluster)).transpose()?,
    };
    Ok((plan, steps))
}

/// The partition as if everything it waits for had come in with data.
fn complete(catalog: &Catalog, task: &Task, key: &TaskKey) -> TaskPartition {
    let mut item = TaskPartition::new(key.clone());
    item.state = TaskState::Ready;
    for element in catalog.elements(task, &key.partition) {
        let receipt = match &element {
            Element::Slot => Receipt::Slot(key.partition.end()),
            Element::Data { dataset, .. } => {
                match catalog.datasets.get(dataset).map(|dataset| &dataset.completeness) {
                    Some(Completeness::Closed { .. }) => Receipt::Closed(1),
                    Some(Completeness::Produced { .. }) => Receipt::Produced(RUN_ID.to_owned()),
                    _ => Receipt::Object(String::new()),
                }
            }
        };
        item.received.insert(element, receipt);
    }
    item
}

fn words(plan: &Plan) -> String {
    let mut text = format!("{} to {}\n\n", output::time(plan.from), output::time(plan.to));
    let rows: Vec<_> = plan
        .partitions
        .iter()
        .map(|found| {
            [
                or_dash(found.slot.map(|slot| slot.strftime("%m-%d %H:%M").to_string())),
                found.task.clone(),
                found.partition.to_string(),
                waits(&found.waits_for),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => text.push_str("nothing: no slot falls into this interval\n"),
        false => text.push_str(&output::table(["SLOT", "TASK", "PARTITION", "WAITS FOR"], rows)),
    }
    text.push('\n');
    for (profile, rule) in &plan.profiles {
        text.push_str(&format!("profile {profile}: {}\n", rule_words(rule)));
    }
    for task in &plan.truncated {
        text.push_str(&format!(
            "{task} has more than {SLOTS_MAX} slots: plan a shorter interval\n"
        ));
    }
    text
}

fn waits(waits_for: &[Wait]) -> String {
    match waits_for {
        [] => "nothing more".to_owned(),
        waits => waits.iter().map(|wait| wait.words.as_str()).collect::<Vec<_>>().join("; "),
    }
}

fn rule_words(rule: &BatchRule) -> String {
    match rule.batch_size {
        1 => "a cluster for each partition".to_owned(),
        size => format!(
            "{size} ready partitions share a cluster, or whoever is ready after {}",
            rule.max_wait
        ),
    }
}

fn partition_words(plan: &PartitionPlan, steps: &[Step]) -> String {
    let found = &plan.foreseen;
    let mut text = String::new();
    let mut line = |label: &str, value: String| text.push_str(&format!("{label:<12}{value}\n"));
    line("partition", format!("{} {}", found.task, found.partition));
    if let Some(slot) = found.slot {
        line("slot", output::time(slot));
    }
    match plan.catch_up {
        Some(CatchUp::NewestFirst) => line("if missed", "made up, the newest first".to_owned()),
        Some(CatchUp::Last) => line("if missed", "made up only as the newest slot".to_owned()),
        Some(CatchUp::None) => line("if missed", "not made up".to_owned()),
        Some(CatchUp::All) | None => {}
    }
    line("waits for", waits(&found.waits_for));
    if let Some(earliest) = found.earliest {
        line("earliest", output::time(earliest));
    }
    if let Some(until) = found.waits_until {
        line("waits until", output::time(until));
    }
    line("profile", format!("{}: {}", found.profile, rule_words(&plan.batch)));
    for (dataset, place) in &plan.outputs {
        line("output", format!("{dataset}: {place}"));
    }
    if let Some(LoadPlan { dataset, warehouse, table, mode }) = &plan.load {
        line("load", format!("{dataset} into {table} in {warehouse} ({mode})"));
    }
    for (number, step) in steps.iter().enumerate() {
        let texts: Vec<_> = step.command.texts(FIRST_ATTEMPT).collect();
        let words = texts.iter().map(String::as_str);
        // Quoted as a shell would want it; a NUL cannot be quoted.
        let command =
            shlex::try_join(words.clone()).unwrap_or_else(|_| words.collect::<Vec<_>>().join(" "));
        text.push_str(&format!("\nstep {}: {}\n  {command}\n", number + 1, step.name));
    }
    if let Some(cluster) = &plan.cluster {
        text.push_str(&format!("\ncluster\n{cluster:#}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn example() -> Config {
        crate::config::load(Path::new("config/example.toml")).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        instant(text).unwrap()
    }

    #[test]
    fn a_day_has_its_slots_and_its_data_driven_partitions() {
        let config = example();
        let tasks: Vec<_> = config.catalog.tasks.values().collect();
        let plan = foresee(&config.catalog, &tasks, at("2013-01-01"), at("2013-01-02"));
        let hourly: Vec<_> =
            plan.partitions.iter().filter(|found| found.task == "hourly-etl").collect();
        assert_eq!(hourly.len(), 24);
        assert_eq!(hourly[0].slot, Some(at("2013-01-01T00:05:00Z")));
        assert_eq!(hourly[0].partition.to_string(), "2012-12-31T23");
        assert_eq!(hourly[0].earliest, Some(at("2013-01-01T00:20:00Z")));
        let daily: Vec<_> =
            plan.partitions.iter().filter(|found| found.task == "daily-report").collect();
        assert_eq!(daily.len(), 1);
        assert_eq!(daily[0].waits_for[0].missing.len(), 24);
        assert_eq!(plan.profiles["etl"], BatchRule { batch_size: 4, max_wait: "5m".into() });
    }

    #[test]
    fn the_end_of_waiting_is_not_the_earliest_start() {
        let config = example();
        let daily = &config.catalog.tasks["daily-report"];
        let partition = "2013-01-01".parse().unwrap();
        let found = foreseen(&config.catalog, daily, partition, None);
        assert_eq!(found.earliest, None);
        assert_eq!(found.waits_until, Some(at("2013-01-02T12:00:00Z")));
    }

    #[test]
    fn nothing_starts_before_its_slot_although_its_time_is_up() {
        let head = "[tasks.hourly-etl]\n";
        let limit = format!("{head}wait-timeout = \"1m\"\non-timeout = \"run\"\n");
        let path = Path::new("config/example.toml");
        let text = std::fs::read_to_string(path).unwrap().replace(head, &limit);
        let catalog = crate::config::parse(&text, path).unwrap().catalog;
        let (partition, slot) = ("2013-01-01T05".parse().unwrap(), at("2013-01-01T06:05:00Z"));
        let found = foreseen(&catalog, &catalog.tasks["hourly-etl"], partition, Some(slot));
        assert_eq!((found.earliest, found.waits_until), (Some(slot), Some(slot)));
    }

    #[test]
    fn the_interval_is_half_open() {
        let config = example();
        let tasks = [&config.catalog.tasks["hourly-etl"]];
        for (from, to, slots) in [
            ("2013-01-01T06:05:00Z", "2013-01-01T06:06:00Z", 1),
            ("2013-01-01T06:04:00Z", "2013-01-01T06:05:00Z", 0),
            ("2013-01-01T06:05:00Z", "2013-01-01T07:05:00Z", 1),
        ] {
            let plan = foresee(&config.catalog, &tasks, at(from), at(to));
            assert_eq!(plan.partitions.len(), slots, "{from} {to}");
        }
    }

    #[test]
    fn one_partition_has_its_steps_filled_in() {
        let config = example();
        let task = &config.catalog.tasks["hourly-etl"];
        let key = find_partition(task, "2013-01-01T05").unwrap();
        let item = complete(&config.catalog, task, &key);
        let profile = &config.catalog.profiles["etl"];
        let (run, _) =
            Run::new(&config.catalog, profile, &[(task, &item)], RUN_ID, key.partition.end());
        let args = run.members[0].steps[0].command.texts(1).collect::<Vec<_>>().join(" ");
        assert!(args.contains("--input s3://example-landing/rawdata/2013/01/01/05/"), "{args}");
    }

    #[test]
    fn one_partition_has_its_load() {
        let config = example();
        let words = |task: &str, partition: &str| {
            let task = &config.catalog.tasks[task];
            let key = find_partition(task, partition).unwrap();
            let (plan, steps) = one_partition(&config, task, &key, false).unwrap();
            partition_words(&plan, &steps)
        };
        let hourly = words("hourly-etl", "2013-01-01T05");
        let load = "load        hourly-logs into mart.page_views in mart (replace-partition)";
        assert!(hourly.contains(load), "{hourly}");
        assert!(!words("daily-report", "2013-01-01").contains("\nload "));
    }
}
