//! What the notices of a load say. Decides nothing.

use jiff::Timestamp;

use super::{About, End, Load};
use crate::core::notice::Fact;
use crate::core::task::{TaskChange, TaskState};

impl Load {
    /// The end of the partition, as it is announced. `output` is where its
    /// files lie.
    pub fn ended(&self, about: &About<'_>, end: &End, output: &str, now: Timestamp) -> TaskChange {
        let About { key, warehouse, spec, .. } = about;
        let mut facts = vec![
            Fact::new("table", format!("{} in {}", spec.table.plain(), warehouse.name)),
            Fact::new("output", format!("{output} ({})", spec.dataset)),
        ];
        facts.extend(self.files.map(|files| {
            let (count, bytes) = (files.count, files.bytes);
            Fact::new("files", format!("{count}, {bytes} bytes"))
        }));
        facts.extend(self.rows.map(|rows| Fact::new("rows", rows.to_string())));
        facts.push(Fact::new("attempt", format!("{} of {}", self.attempt, warehouse.attempts)));
        let to = match end {
            End::Loaded => TaskState::Succeeded,
            End::Failed { .. } => TaskState::Failed,
        };
        let change = TaskChange::new(key, TaskState::Loading, to, now, facts)
            .in_run(&self.run)
            .since(Some(self.began));
        match end {
            End::Loaded => change,
            End::Failed { reason, advice } => change.because(reason).then(advice),
        }
    }
}
