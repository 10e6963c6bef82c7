//! I14: a run keeps what it started with, whatever becomes of the task files;
//! a change is in force only after it was made. Not for what a task misses
//! while its file is away: that is `end`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::clusters::{name_of, owner};
use super::{Found, violation};
use crate::call::{Call, Phase};
use crate::scenario::{Reload, VERSIONS};
use crate::world::World;

/// What runs began with.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Run → when it was first stored.
    begun: BTreeMap<String, Timestamp>,
    /// (run, task partition) → the version of its steps.
    versions: BTreeMap<(String, String), String>,
}

impl Reloads {
    pub fn run_written(&mut self, run: &str, now: Timestamp) {
        self.begun.entry(run.to_owned()).or_insert(now);
    }

    /// A call that creates steps has taken effect.
    pub fn submitted(&mut self, world: &World, call: &Call) -> Found {
        let Some(reload) = &world.scenario.reload else { return Vec::new() };
        let name = match call.phase {
            Phase::Launch => call.about.clone(),
            _ => name_of(world, call.body["JobFlowId"].as_str().unwrap_or_default()),
        };
        let Some((run, _)) = owner(&name) else { return Vec::new() };
        let steps = call.body["Steps"].as_array().into_iter().flatten();
        let found: Vec<_> = steps.flat_map(|step| self.step(reload, run, step)).collect();
        if self.versions.values().any(|version| version == VERSIONS[1]) {
            world.happened("changed task runs");
        }
        found
    }

    fn step(&mut self, reload: &Reload, run: &str, step: &Value) -> Found {
        // `TASK/PARTITION/STEP/SERIAL`; a guard has another form.
        let name = step["Name"].as_str().unwrap_or_default();
        let parts: Vec<_> = name.split('/').collect();
        let [task, partition, _, _] = parts[..] else { return Vec::new() };
        let mut args = step["HadoopJarStep"]["Args"].as_array().into_iter().flatten();
        let version = args.find_map(|arg| arg.as_str().filter(|arg| VERSIONS.contains(arg)));
        let Some(version) = version else {
            return violation("I14", format!("{name} of run {run} has no version"));
        };
        let key = (run.to_owned(), format!("{task} {partition}"));
        let known = self.versions.entry(key).or_insert_with(|| version.to_owned());
        if known != version {
            let words = format!("run {run} began {name} as {known} and goes on as {version}");
            return violation("I14", words);
        }
        let since = reload.changed(task).filter(|_| version == VERSIONS[1]);
        let begun = self.begun.get(run);
        if let (Some(since), Some(begun)) = (since, begun)
            && *begun < since
        {
            return violation("I14", format!("run {run} of {begun} has {name} of {since}"));
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::faults::Bounds;
    use crate::scenario::{Kind, Scenario};

    #[test]
    fn a_run_has_the_steps_that_it_began_with() {
        let origin = Timestamp::UNIX_EPOCH;
        let reload = |seed| Scenario::of_seed(seed, Kind::Reload, origin, Bounds::Broken).reload;
        let changed = |seed| reload(seed).filter(|reload| reload.changed("t0").is_some());
        let reload = (0..50).find_map(changed).unwrap();
        let since = reload.changed("t0").unwrap();
        let step = |version: &str| {
            let args = json!(["true", "2013-01-01T03", version]);
            json!({ "Name": "t0/2013-01-01T03/s0/1", "HadoopJarStep": { "Args": args } })
        };
        let mut reloads = Reloads::default();
        reloads.run_written("old", origin);
        reloads.run_written("new", since);
        for (run, version, violations) in [
            ("old", "v1", 0),
            ("old", "v1", 0),
            ("old", "v2", 1),
            ("new", "v2", 0),
            ("new", "v1", 1),
            ("new", "v3", 1),
        ] {
            assert_eq!(
                reloads.step(&reload, run, &step(version)).len(),
                violations,
                "{run} {version}"
            );
        }
        // It began before there was such a version.
        reloads.run_written("early", origin);
        assert_eq!(reloads.step(&reload, "early", &step("v2")).len(), 1);
    }
}
