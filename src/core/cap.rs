//! Caps: how many partitions of a task, and how many clusters of a profile or of
//! the whole deployment, are at work at once. A cap's item names the runs that
//! use it, and a run is committed together with it, so that no two replicas take
//! the last place. The end of a run writes nothing here: who finds no room looks
//! at the runs named. Not for a backfill's cap (see `backfill`) or for EMR's
//! quotas (see `quota`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Profile};
use super::run::Run;

/// What is capped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capped {
    /// Clusters.
    Deployment,
    /// Clusters of a profile.
    Profile(String),
    /// Partitions of a task.
    Task(String),
}

/// As it stands in the tables: `deployment`, `profile/p`, `task/t`.
impl fmt::Display for Capped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capped::Deployment => f.write_str("deployment"),
            Capped::Profile(name) => write!(f, "profile/{name}"),
            Capped::Task(name) => write!(f, "task/{name}"),
        }
    }
}

impl Capped {
    /// How much of the cap a run uses.
    fn used_by(&self, run: &Run) -> u32 {
        let open = run.members.iter().filter(|member| member.outcome.is_none());
        let used = match self {
            Capped::Task(task) => open.filter(|member| member.key.task == *task).count(),
            Capped::Profile(_) | Capped::Deployment => usize::from(!run.state.is_final()),
        };
        u32::try_from(used).unwrap_or(u32::MAX)
    }
}

/// A cap as the tables hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cap {
    pub of: Capped,
    /// Rises by one with every write; kept beside the rest in the table.
    #[serde(skip)]
    pub version: u64,
    /// How much each run uses, or used when it was last looked at.
    pub used: BTreeMap<String, u32>,
}

impl Cap {
    /// One that nothing uses yet.
    pub fn new(of: Capped) -> Self {
        Self { of, version: 0, used: BTreeMap::new() }
    }

    pub fn count(&self) -> u32 {
        self.used.values().fold(0, |sum, used| sum.saturating_add(*used))
    }

    /// Takes in how a run is that uses it; None is gone.
    pub fn look(&mut self, id: &str, run: Option<&Run>) {
        match run.map_or(0, |run| self.of.used_by(run)) {
            0 => self.used.remove(id),
            used => self.used.insert(id.to_owned(), used),
        };
    }

    /// A new run uses it; false if it uses nothing of it.
    pub fn take(&mut self, run: &Run) -> bool {
        self.look(&run.id, Some(run));
        self.used.contains_key(&run.id)
    }
}

/// No room is left under a cap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Full {
    pub of: Capped,
    pub count: u32,
    pub max: u32,
}

/// `2 partitions of task etl run, and 2 may at once`.
impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, count, max } = self;
        match of {
            Capped::Task(task) => write!(f, "{count} of task {task} run, and {max} may at once"),
            Capped::Profile(profile) => {
                write!(
                    f,
                    "{count} clusters of profile {profile} are at work, and {max} may be at once"
                )
            }
            Capped::Deployment => {
                write!(f, "{count} clusters are at work, and {max} may be at once")
            }
        }
    }
}

impl Catalog {
    /// The caps that clusters of a profile are under.
    pub fn caps_of_clusters(&self, profile: &Profile) -> Vec<(Capped, u32)> {
        let own = profile.max_clusters.map(|max| (Capped::Profile(profile.name.clone()), max));
        let all = self.max_clusters.map(|max| (Capped::Deployment, max));
        all.into_iter().chain(own).collect()
    }

    /// Whether the end of a run may make room for others.
    pub fn has_caps(&self) -> bool {
        self.max_clusters.is_some()
            || self.profiles.values().any(|profile| profile.max_clusters.is_some())
            || self.tasks.values().any(|task| task.max_active.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::Task;
    use crate::core::catalog::testing::{self, profile};
    use crate::core::partition::Grain;
    use crate::core::run::{Outcome, RunState};
    use crate::core::task::{TaskKey, TaskPartition};

    /// A run of two partitions of `etl`.
    fn run() -> Run {
        let catalog = Catalog::new("test".into(), vec![], vec![], vec![task()]);
        let hours = ["2013-01-01T05", "2013-01-01T06"];
        let items =
            hours.map(|hour| TaskPartition::new(TaskKey::new("etl", hour.parse().unwrap())));
        let batch: Vec<_> = items.iter().map(|item| (&catalog.tasks["etl"], item)).collect();
        Run::new(&catalog, &profile("p"), &batch, "R", jiff::Timestamp::UNIX_EPOCH).0
    }

    fn task() -> Task {
        Task { max_active: Some(2), ..testing::task("etl", Grain::Hour, vec![]) }
    }

    #[test]
    fn a_cap_counts_what_runs_use_until_they_are_looked_at() {
        let mut run = run();
        let [mut task, mut profile] =
            [Capped::Task("etl".into()), Capped::Profile("p".into())].map(Cap::new);
        let mut other = Cap::new(Capped::Task("other".into()));
        assert!(task.take(&run) && profile.take(&run) && !other.take(&run));
        assert_eq!((task.count(), profile.count(), other.count()), (2, 1, 0));
        run.members[0].outcome = Some(Outcome::Succeeded);
        assert_eq!(task.count(), 2, "nobody has looked");
        task.look("R", Some(&run));
        assert_eq!(task.count(), 1);
        run.state = RunState::Succeeded;
        profile.look("R", Some(&run));
        task.look("R", None);
        assert_eq!((task.count(), profile.count()), (0, 0));
    }
}
