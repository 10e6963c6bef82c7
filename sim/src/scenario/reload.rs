//! Worlds whose tasks stand in task files, which change while runs are open: a
//! task gets other arguments, a file is broken and mended, one is taken away and
//! comes back. Not for what must come of it: that is `oracle::reloads` and, for
//! what a task misses while it is away, `oracle::end`.

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::config::{Task, task_text};
use super::{DEPLOYMENT, Scenario, WORK};
use crate::objects::TASK_FILES;

/// Until a change is in force, if nothing goes wrong.
const TAKEN_UP: SignedDuration = SignedDuration::from_mins(2);
/// What tells the steps of a file's versions apart.
pub const VERSIONS: [&str; 2] = ["v1", "v2"];

/// Something that happens to a task file.
#[derive(Debug, Clone)]
pub struct FileChange {
    pub at: Timestamp,
    /// The key of the file.
    pub key: String,
    /// None takes it away.
    pub text: Option<String>,
    pub what: &'static str,
}

/// What is special in a world of task files.
#[derive(Debug, Clone)]
pub struct Reload {
    /// In their order; the first are there from the beginning.
    pub files: Vec<FileChange>,
    /// Task → from when its second version may be in force.
    changed: Vec<(String, Timestamp)>,
    /// Task → when its file was taken away.
    removed: Vec<(String, Timestamp)>,
    /// Task → when its file was broken.
    broken: Vec<(String, Timestamp)>,
}

impl Reload {
    /// From when a task may have its second version.
    pub fn changed(&self, task: &str) -> Option<Timestamp> {
        self.changed.iter().find(|(name, _)| name == task).map(|(_, at)| *at)
    }

    /// Whether a task may have missed something: what arrives while it is not
    /// declared is not kept for it. One whose file was broken before anybody had
    /// seen it, which was at `seen`, had no last good state.
    pub fn may_miss(&self, task: &str, seen: Option<Timestamp>, now: Timestamp) -> bool {
        let of = |(name, at): &&(String, Timestamp)| name == task && *at <= now;
        let unseen = |(_, at): &(String, Timestamp)| seen.is_none_or(|seen| *at <= seen);
        self.removed.iter().any(|change| of(&change)) || self.broken.iter().filter(of).any(unseen)
    }
}

/// Moves the tasks of a world into files, and lets some of these change.
pub fn adapt(scenario: &mut Scenario, origin: Timestamp) {
    let mut rng = Rng::with_seed(scenario.seed ^ 0x4e10_ad00);
    for text in [&mut scenario.text, &mut scenario.next_text] {
        if let Some(tasks) = text.find("[tasks.") {
            text.truncate(tasks);
        }
        let first = format!("deployment = \"{DEPLOYMENT}\"\n");
        let place = format!(
            "{first}task-files = {{ path = \"s3://{WORK}/{TASK_FILES}\", interval = \"1m\" }}\n"
        );
        *text = text.replacen(&first, &place, 1);
    }
    let mut reload =
        Reload { files: Vec::new(), changed: Vec::new(), removed: Vec::new(), broken: Vec::new() };
    let many = scenario.tasks.len() > 1;
    for (number, task) in scenario.tasks.iter().enumerate() {
        reload.put(task, origin, 0, "task file");
        let at = origin + SignedDuration::from_secs(rng.i64(120..1200));
        let later = at + SignedDuration::from_secs(rng.i64(90..900));
        match rng.u8(0..4) {
            0 => reload.put(task, at, 1, "task file changed"),
            1 => {
                reload.add(task, at, Some("[[[".to_owned()), "task file broken");
                reload.broken.push((task.name.clone(), at));
                reload.put(task, later, 1, "task file mended");
            }
            // Without any file the last ones would stay in force.
            2 if many && number > 0 => {
                reload.add(task, at, None, "task file removed");
                reload.removed.push((task.name.clone(), at));
                reload.put(task, later, 1, "task file back");
            }
            _ => {}
        }
    }
    reload.files.sort_by_key(|change| change.at);
    let last = reload.files.last().map_or(origin, |change| change.at);
    scenario.busy_until = scenario.busy_until.max(last + TAKEN_UP);
    scenario.reload = Some(reload);
}

impl Reload {
    /// Writes a version of a task's file.
    fn put(&mut self, task: &Task, at: Timestamp, version: usize, what: &'static str) {
        let mut text = String::new();
        task_text(&mut text, task);
        let version = VERSIONS[version];
        let text = text.replace("\"{partition}\"]", &format!("\"{{partition}}\", \"{version}\"]"));
        if version != VERSIONS[0] {
            self.changed.push((task.name.clone(), at));
        }
        self.add(task, at, Some(text), what);
    }

    fn add(&mut self, task: &Task, at: Timestamp, text: Option<String>, what: &'static str) {
        let key = format!("{TASK_FILES}{}.toml", task.name);
        self.files.push(FileChange { at, key, text, what });
    }
}
