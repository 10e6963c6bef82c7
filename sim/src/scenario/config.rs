//! The configuration of a world: a few tasks of the kinds that there are, as a
//! TOML file that the real configuration reads. Not for what arrives.

use std::fmt::Write;

use fastrand::Rng;

use super::loads::Load;
use super::{BUCKET, DEPLOYMENT, Fixed, SCARCE, WORK};
use crate::objects::LOGS;
use crate::oracle::Quota;

#[derive(Debug, Clone)]
pub struct Task {
    pub name: String,
    pub profile: String,
    /// Names of datasets.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Due at minute 2 of every hour, for the hour before.
    pub scheduled: bool,
    pub steps: Vec<Step>,
    /// A step that runs longer is cancelled.
    pub attempt_timeout_minutes: Option<u32>,
    pub load: Option<Load>,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub name: String,
    pub retries: u32,
}

#[derive(Debug, Clone)]
pub struct Dataset {
    pub name: String,
    pub kind: DatasetKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetKind {
    Object,
    Marker,
    Closed,
    Count(u32),
    Quiet,
    /// Made by a task.
    Output,
    /// Made by a task, as files in a folder.
    Folder,
}

impl DatasetKind {
    pub fn has_many_objects(self) -> bool {
        !matches!(self, DatasetKind::Object | DatasetKind::Output | DatasetKind::Folder)
    }

    /// Whether its objects go into the journal.
    pub fn is_journalled(self) -> bool {
        matches!(self, DatasetKind::Closed | DatasetKind::Count(_) | DatasetKind::Quiet)
    }
}

#[derive(Debug, Clone)]
pub struct Profile {
    pub name: String,
    pub batch_size: u32,
    pub max_attempts: u32,
    pub lifetime_minutes: u32,
    pub step_concurrency: u32,
}

/// Longer than the work of any world takes.
pub const LONG_LIFETIME: u32 = 150;

impl Task {
    /// One of a single step that only its schedule begins.
    pub fn scheduled(name: &str, profile: &Profile) -> Self {
        Self {
            name: name.to_owned(),
            profile: profile.name.clone(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            scheduled: true,
            steps: vec![Step { name: "s0".to_owned(), retries: 1 }],
            attempt_timeout_minutes: None,
            load: None,
        }
    }
}

/// One to three tasks on one or two profiles. Where steps may hang, only the
/// lifetime of their cluster ends them.
pub fn choose(rng: &mut Rng, steps_hang: bool) -> (Vec<Task>, Vec<Dataset>, Vec<Profile>) {
    let profiles: Vec<Profile> = (0..rng.usize(1..3))
        .map(|number| Profile {
            name: format!("p{number}"),
            batch_size: rng.u32(1..4),
            max_attempts: rng.u32(1..5).min(3),
            lifetime_minutes: if steps_hang || rng.u8(0..6) == 0 { 36 } else { LONG_LIFETIME },
            step_concurrency: 1,
        })
        .collect();
    let (mut tasks, mut datasets) = (Vec::new(), Vec::new());
    let count = [1, 1, 1, 2, 3][rng.usize(..5)];
    for number in 0..count {
        let name = format!("t{number}");
        let mut inputs = Vec::new();
        let scheduled = rng.u8(0..4) == 0;
        let count = if scheduled { rng.usize(0..2) } else { rng.usize(1..3) };
        for input in 0..count {
            let kind = match rng.u8(0..6) {
                0 | 1 => DatasetKind::Object,
                2 => DatasetKind::Marker,
                3 => DatasetKind::Closed,
                4 => DatasetKind::Count(rng.u32(2..4)),
                _ => DatasetKind::Quiet,
            };
            let dataset = Dataset { name: format!("d{number}-{input}"), kind };
            inputs.push(dataset.name.clone());
            datasets.push(dataset);
        }
        // A chain: it reads what the task before it makes.
        let before: Option<&mut Task> = tasks.last_mut();
        if let Some(before) = before.filter(|_| !scheduled && rng.u8(0..3) == 0) {
            let output = format!("o{number}");
            before.outputs.push(output.clone());
            inputs = vec![output.clone()];
            datasets.retain(|dataset: &Dataset| !dataset.name.starts_with(&format!("d{number}-")));
            datasets.push(Dataset { name: output, kind: DatasetKind::Output });
        }
        let steps = (0..rng.usize(1..3))
            .map(|step| Step { name: format!("s{step}"), retries: rng.u32(0..3) })
            .collect();
        let profile = profiles[rng.usize(..profiles.len())].name.clone();
        let bounded = steps_hang && rng.u8(0..4) > 0;
        let attempt_timeout_minutes = bounded.then(|| rng.u32(2..8));
        tasks.push(Task {
            name,
            profile,
            inputs,
            outputs: Vec::new(),
            scheduled,
            steps,
            attempt_timeout_minutes,
            load: None,
        });
    }
    (tasks, datasets, profiles)
}

/// The same profiles with other settings; runs that exist keep what they have.
pub fn changed(profiles: &[Profile], rng: &mut Rng) -> Vec<Profile> {
    let mut changed = profiles.to_vec();
    for profile in &mut changed {
        profile.batch_size = rng.u32(1..4);
        profile.max_attempts = rng.u32(1..4);
    }
    changed
}

/// What one of the two fixed worlds is about.
pub fn fixed(world: Fixed) -> (Vec<Task>, Vec<Dataset>, Vec<Profile>) {
    let step = |name: &str, retries| Step { name: name.to_owned(), retries };
    let profile = Profile {
        name: "p0".to_owned(),
        batch_size: if world == Fixed::Chain { 2 } else { 1 },
        max_attempts: 2,
        lifetime_minutes: LONG_LIFETIME,
        step_concurrency: 1,
    };
    let dataset = |name: &str, kind| Dataset { name: name.to_owned(), kind };
    let task = |name: &str, input: &str, output: Option<&str>, steps| Task {
        name: name.to_owned(),
        profile: "p0".to_owned(),
        inputs: vec![input.to_owned()],
        outputs: output.map(str::to_owned).into_iter().collect(),
        scheduled: false,
        attempt_timeout_minutes: None,
        steps,
        load: None,
    };
    if world == Fixed::Single {
        let tasks = vec![task("t0", "d0-0", None, vec![step("s0", 1)])];
        return (tasks, vec![dataset("d0-0", DatasetKind::Object)], vec![profile]);
    }
    let tasks = vec![
        task("t0", "d0-0", Some("o1"), vec![step("s0", 1), step("s1", 0)]),
        task("t1", "o1", None, vec![step("s0", 0)]),
        task("t2", "d2-0", None, vec![step("s0", 0)]),
    ];
    let datasets = vec![
        dataset("d0-0", DatasetKind::Object),
        dataset("o1", DatasetKind::Output),
        dataset("d2-0", DatasetKind::Count(2)),
    ];
    (tasks, datasets, vec![profile])
}

/// The file. What is written here is what an operator would write.
pub fn text(tasks: &[Task], datasets: &[Dataset], profiles: &[Profile], rng: &mut Rng) -> String {
    let mut text = format!(
        r#"deployment = "{DEPLOYMENT}"
[aws]
region = "us-east-1"
queue = "inbox"
quarantine = "quarantine"
topic-arn = "arn:aws:sns:us-east-1:000000000000:status"
assets = "s3://{WORK}/assets/"
[engine]
poll-interval = "2m"
sweep-interval = "5m"
list-interval = "20m"
list-window = "3h"
fold-window = "4m"
receivers = 1
[http]
listen = "off"
"#
    );
    // Writing to a String cannot fail.
    for profile in profiles {
        let Profile { name, batch_size, max_attempts, lifetime_minutes, step_concurrency } =
            profile;
        let _ = write!(
            text,
            r#"[profiles.{name}]
batch-size = {batch_size}
max-wait = "{}m"
max-attempts = {max_attempts}
attempts.external.max = {max_attempts}
lifetime = "{lifetime_minutes}m"
idle-timeout = "30m"
step-concurrency = {step_concurrency}
release-label = "emr-7.13.0"
service-role = "service"
instance-profile = "ec2"
log-uri = "s3://{WORK}/{LOGS}"
primary = {{ instance-types = ["m5.xlarge"], on-demand = 1 }}
"#,
            rng.u32(1..4)
        );
        if name != "p0" {
            text.push_str(SCALED);
        }
    }
    for dataset in datasets {
        dataset_text(&mut text, dataset);
    }
    for task in tasks {
        task_text(&mut text, task);
    }
    text
}

/// What the second profile has more.
const SCALED: &str = r#"core = { instance-types = ["m5.xlarge"], on-demand = 1 }
managed-scaling = { unit = "instance-fleet-units", minimum = 1, maximum = 4 }
"#;

/// The same with nothing on the clusters that would help: no guard, no deadline,
/// and EMR ends an idle one only after days.
pub fn bare(text: &str) -> String {
    let assets = format!("assets = \"s3://{WORK}/assets/\"\n");
    let idle = "idle-timeout = \"30m\"";
    text.replace(&assets, "").replace(idle, "idle-timeout = \"168h\"\nguard = false")
}

/// The same with quotas that a few runs use up.
pub fn scarce(text: &str) -> String {
    let Quota { burst, per_second } = SCARCE;
    let quota = format!("{{ burst = {burst}, per-second = {per_second} }}");
    let quotas =
        format!("[quotas]\nrun-job-flow = {quota}\nadd-job-flow-steps = {quota}\n[http]\n");
    text.replace("[http]\n", &quotas)
}

/// What a file gets with one more dataset and its reader.
pub fn addition(dataset: &Dataset, task: &Task) -> String {
    let mut text = String::new();
    dataset_text(&mut text, dataset);
    task_text(&mut text, task);
    text
}

fn dataset_text(text: &mut String, Dataset { name, kind }: &Dataset) {
    let rest = match kind {
        DatasetKind::Folder => "/",
        kind if kind.has_many_objects() => "/*",
        _ => "",
    };
    let _ = writeln!(
        text,
        "[datasets.{name}]\nlocation = \"s3://{BUCKET}/{name}/{{yyyy}}/{{MM}}/{{dd}}/{{HH}}{rest}\""
    );
    let complete = match kind {
        DatasetKind::Object | DatasetKind::Output | DatasetKind::Folder => String::new(),
        DatasetKind::Marker => "complete = \"marker\"\n".to_owned(),
        DatasetKind::Closed => "complete = \"closed\"\nsettle = \"3m\"\n".to_owned(),
        DatasetKind::Count(count) => format!("complete = \"count\"\nobjects = {count}\n"),
        DatasetKind::Quiet => "complete = \"quiet\"\nquiet = \"2m\"\n".to_owned(),
    };
    text.push_str(&complete);
}

pub fn task_text(text: &mut String, task: &Task) {
    let Task { name, profile, inputs, outputs, scheduled, steps, .. } = task;
    let _ = writeln!(text, "[tasks.{name}]\nprofile = \"{profile}\"\npartition = \"hour\"");
    if *scheduled {
        text.push_str("schedule = { cron = \"2 * * * *\", partition = \"previous\" }\n");
        text.push_str("start-by = \"2m\"\nend-by = \"12m\"\n");
    }
    // What takes so long is told of, and nothing else follows.
    if steps.len() > 1 {
        text.push_str("duration-max = \"15m\"\n");
    }
    let named: Vec<_> = inputs.iter().map(|name| format!("{{ dataset = \"{name}\" }}")).collect();
    let _ = writeln!(text, "inputs = [{}]", named.join(", "));
    let _ = writeln!(text, "outputs = {outputs:?}");
    if let Some(minutes) = task.attempt_timeout_minutes {
        let _ = writeln!(text, "attempt-timeout = \"{minutes}m\"");
    }
    for Step { name: step, retries } in steps {
        let _ = writeln!(
            text,
            "[[tasks.{name}.steps]]\nname = \"{step}\"\nkind = \"command\"\n\
             args = [\"true\", \"{{partition}}\"]\n\
             retry = {{ attempts = {retries}, delay = \"30s\", backoff-rate = 2.0 }}"
        );
    }
}
