//! What the notices of a load say. Decides nothing.

use jiff::Timestamp;

use super::{About, End, Load, Stage, TELL_AFTER, Trouble};
use crate::core::notice::{Fact, Kind, Notice, Severity, instant};
use crate::core::task::{TaskChange, TaskKey, TaskState};

/// What the notices of a load that goes on have as their status.
pub const FAILED: &str = "load-failed";
pub const STUCK: &str = "load-stuck";

/// Why nothing goes on with it.
const UNDECLARED: &str = "its load is not declared any more";

impl Load {
    /// Nothing can be done while the task does not declare it. That is usually a
    /// mistake in a configuration, and people are told if it lasts.
    pub fn not_declared(&mut self, key: &TaskKey, now: Timestamp) -> Option<Notice> {
        let known = self.trouble.take().filter(|trouble| trouble.words == UNDECLARED);
        let new =
            || Trouble { since: now, words: UNDECLARED.to_owned(), told: false, refused: None };
        let trouble = self.trouble.insert(known.unwrap_or_else(new));
        let told_before = trouble.told;
        trouble.told |= now.duration_since(trouble.since) >= TELL_AFTER;
        if !trouble.told || told_before {
            return None;
        }
        let since = trouble.since;
        let next = format!("declare the load of {} again, with its warehouse", key.task);
        let id = since.as_second().to_string();
        let notice = self.notice(key, STUCK, &id, "cannot go on loading", now);
        Some(notice.detailed(UNDECLARED).saying(format!("The load of {key} waits")).with([
            Fact::new("reason", UNDECLARED),
            Fact::since("since", since, now),
            Fact::new("next", next),
        ]))
    }

    /// It is declared again.
    pub(super) fn is_declared(&mut self) {
        self.trouble.take_if(|trouble| trouble.words == UNDECLARED);
    }

    /// What people are told of the way from `before` to this; one thing at most.
    pub fn news(&self, before: &Load, about: &About<'_>, now: Timestamp) -> Option<Notice> {
        let told = |load: &Load| load.trouble.as_ref().is_some_and(|trouble| trouble.told);
        if self.attempt > before.attempt {
            Some(self.retried(before, about, now))
        } else if told(self) && !told(before) {
            Some(self.stuck(about, now))
        } else {
            None
        }
    }

    fn retried(&self, failed: &Load, about: &About<'_>, now: Timestamp) -> Notice {
        let warehouse = about.warehouse;
        let why = self.failure.as_deref().unwrap_or("no answer says why");
        let next = match &self.stage {
            Stage::Prepare { from } => format!("attempt {} at {}", self.number(), instant(*from)),
            _ => format!("attempt {} at once", self.number()),
        };
        self.notice(about.key, FAILED, &failed.attempt.to_string(), "retries its load", now)
            .of_class(self.class)
            .detailed(why)
            .saying(format!("The load of {} has failed and is tried again", about.key))
            .with([
                Fact::new("reason", why),
                Fact::new("attempt", format!("{} of {}", failed.number(), warehouse.attempts)),
                Fact::new("next", next),
                table(about),
            ])
    }

    fn stuck(&self, about: &About<'_>, now: Timestamp) -> Notice {
        let (since, words) = match &self.trouble {
            Some(trouble) => (trouble.since, trouble.words.as_str()),
            None => (now, "no answer"),
        };
        self.notice(about.key, STUCK, &since.as_second().to_string(), "cannot go on loading", now)
            .detailed(words)
            .saying(format!(
                "The load of {} is refused or gets no answer, and is tried again and again",
                about.key
            ))
            .with([
                Fact::new("reason", words),
                Fact::since("since", since, now),
                Fact::new(
                    "next",
                    "look whether the warehouse runs and can be reached, and whether the service \
                     may use it",
                ),
                table(about),
            ])
    }

    fn notice(&self, key: &TaskKey, status: &str, id: &str, what: &str, now: Timestamp) -> Notice {
        let (task, partition) = (&key.task, key.partition);
        let id = format!("{task}/{partition}/{status}/{}/{id}", self.run);
        let headline = format!("{partition} {what}");
        // Where it is stuck nobody but a person can help.
        let severity = if status == STUCK { Severity::Failure } else { Severity::Warning };
        let mut notice =
            Notice::new(Kind::Task, id, now, severity, status, headline).named(task.as_str());
        notice.task = Some(task.clone());
        notice.partition = Some(partition.to_string());
        notice.run = Some(self.run.clone());
        notice
    }

    /// The end of the partition, as it is announced. `output` is where its
    /// files lie.
    pub fn ended(&self, about: &About<'_>, end: &End, output: &str, now: Timestamp) -> TaskChange {
        let About { key, warehouse, spec, .. } = about;
        let mut facts =
            vec![table(about), Fact::new("output", format!("{output} ({})", spec.dataset))];
        facts.extend(self.files.map(|files| {
            let (count, bytes) = (files.count, files.bytes);
            Fact::new("files", format!("{count}, {bytes} bytes"))
        }));
        facts.extend(self.rows.map(|rows| Fact::new("rows", rows.to_string())));
        facts.push(Fact::new("attempt", format!("{} of {}", self.number(), warehouse.attempts)));
        let to = match end {
            End::Loaded => TaskState::Succeeded,
            End::Failed { .. } => TaskState::Failed,
        };
        let change = TaskChange::new(key, TaskState::Loading, to, now, facts)
            .in_run(&self.run)
            .since(Some(self.began));
        match end {
            End::Loaded => change,
            End::Failed { reason, class, advice } => {
                change.because(reason).of_class(Some(*class)).then(advice)
            }
        }
    }
}

fn table(about: &About<'_>) -> Fact {
    let About { warehouse, spec, .. } = about;
    Fact::new("table", format!("{} in {}", spec.table.plain(), warehouse.name))
}
