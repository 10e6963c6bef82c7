//! Folded repeats: when many partitions of a task fail in the same way, or are
//! late, or recover, within a short time, a mailbox gets the first notice at once
//! and one summary of the others. Not for what the notices say.
//!
//! Every notice still goes to the topic: a repeat only bears the attribute
//! `folded`, which the e-mail subscription's filter leaves out. So nothing has to
//! be withheld, whoever wants everything gets it, and "every failure is announced"
//! stays a matter of the outbox alone. Before a repeat goes out its partition is
//! stored with the first one's window, in one write that does no harm when it is
//! made again; the summary at the window's end is made from that, by whichever
//! process comes to it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::notice::{Fact, Kind, Notice, Severity, clipped, instant};

/// Repeats of one window; what comes then begins the next.
pub const REPEATS_MAX: usize = 1_000;
/// So many kinds of failures of a task are folded side by side.
const SLOTS: u32 = 8;
const WORDS_CHARS_MAX: usize = 200;
/// The end of a log: see `core::run::words`.
const LOG: &str = "step-log";

/// What makes notices repeats of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likeness {
    /// The name of the window's item: one task has only so many.
    pub slot: String,
    /// The same in all of them: the failure without what differs from partition
    /// to partition.
    pub words: String,
    pub partition: String,
}

impl Likeness {
    /// None for what is never folded: news, notices of more than one partition,
    /// and what follows a person's retry, for whom it is the answer.
    pub fn of(notice: &Notice) -> Option<Self> {
        let (task, partition) = (notice.task.as_ref()?, notice.partition.as_ref()?);
        let is_alert =
            matches!(notice.severity, Severity::Failure | Severity::Lateness | Severity::Recovery);
        let first_round = notice.id.ends_with(&format!("/{}", notice.status));
        let words = match notice.kind {
            Kind::Task if is_alert && first_round => match notice.severity {
                Severity::Failure => &notice.detail,
                _ => "",
            },
            // The line in which it usually says what went wrong.
            Kind::Step if notice.status == LOG && !notice.answer => {
                notice.quote.lines().last().unwrap_or_default()
            }
            _ => return None,
        };
        let words = alike(words);
        let slot = words.bytes().map(u32::from).sum::<u32>() % SLOTS;
        let slot = format!("{task}/{}/{slot}", notice.status);
        Some(Self { slot, words, partition: partition.clone() })
    }
}

/// A text without what has digits: dates, ids, addresses, counts.
fn alike(text: &str) -> String {
    let has_digit = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    let words = text.split_whitespace().map(|word| if has_digit(word) { "#" } else { word });
    clipped(&words.collect::<Vec<_>>().join(" "), WORDS_CHARS_MAX)
}

/// A window in which repeats are folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    pub slot: String,
    pub words: String,
    /// What was told at once, as [`outline`] leaves it.
    pub first: Notice,
    /// The partitions of all of them, that of the first included.
    pub partitions: BTreeSet<String>,
    pub until: Timestamp,
    pub version: u64,
}

/// What a window keeps of its first notice.
pub fn outline(notice: &Notice) -> Notice {
    let mut first = notice.clone();
    (first.facts, first.quote) = (Vec::new(), String::new());
    first
}

/// A notice as it goes out when it repeats another.
pub fn as_repeat(notice: &Notice) -> Notice {
    let words = "the same was told shortly before; a summary follows";
    let mut notice = notice.clone().with([Fact::new("folded", words)]);
    notice.folded = true;
    notice
}

impl Fold {
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now || self.partitions.len() > REPEATS_MAX
    }

    /// Whether the window has this notice for a repeat of its first.
    pub fn repeats(&self, notice: &Notice) -> bool {
        self.first.id != notice.id
    }

    /// What is told when the window is over; None when nothing was folded. Of
    /// logs it is not told: the failures' summary names their partitions.
    pub fn summary(&self, window: SignedDuration, now: Timestamp) -> Option<Notice> {
        let first = &self.first;
        let own = first.partition.as_deref().unwrap_or_default();
        let others: Vec<_> =
            self.partitions.iter().map(String::as_str).filter(|it| *it != own).collect();
        let (Some(from), Some(to)) = (others.first(), others.last()) else { return None };
        if first.kind == Kind::Step {
            return None;
        }
        let task = first.task.as_deref().unwrap_or_default();
        let count = match others.len() {
            1 => "1 more partition".to_owned(),
            more => format!("{more} more partitions"),
        };
        let what = match first.severity {
            Severity::Failure => "FAILED the same way".to_owned(),
            Severity::Recovery => "RECOVERED too".to_owned(),
            _ => format!("are LATE too ({})", first.status),
        };
        let id = format!("{}/and-more/{}", first.id, others.len());
        let headline = format!("and {count} {what}");
        let mut notice = Notice::new(Kind::Task, id, now, first.severity, &first.status, headline)
            .named(format!("{task}:"))
            .detailed(&first.detail)
            .saying(format!("{count} of {task} {what}, within {window:#} of {own}"))
            .with([Fact::new("first", *from), Fact::new("last", *to)])
            .with([Fact::new("told at once", format!("{own}, at {}", instant(first.at)))])
            .with((!first.detail.is_empty()).then(|| Fact::new("words", first.detail.as_str())))
            .with([Fact::new(
                "next",
                format!(
                    "each has a notice of its own with the attribute folded = \"true\", which the \
                     e-mail filter leaves out; all partitions: sluicegate status --task {task}"
                ),
            )]);
        notice.task = Some(task.to_owned());
        notice.profile.clone_from(&first.profile);
        Some(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2013-01-01T{text}:00Z").parse().unwrap()
    }

    fn notice(id: &str, kind: Kind, severity: Severity, status: &str, detail: &str) -> Notice {
        let mut notice = Notice::new(kind, id.into(), at("07:00"), severity, status, "");
        (notice.task, notice.partition) = (Some("etl".into()), Some("2013-01-01T05".into()));
        notice.detailed(detail)
    }

    fn failed(detail: &str) -> Notice {
        notice("etl/2013-01-01T05/failed", Kind::Task, Severity::Failure, "failed", detail)
    }

    #[test]
    fn failures_are_alike_but_for_what_has_digits() {
        let like = |detail: &str| Likeness::of(&failed(detail)).unwrap();
        let first = like("cluster j-2AX ended: missing weather 2013-01-01");
        assert_eq!(first, like("cluster j-9Z ended: missing weather 2013-02-02"));
        assert_eq!(first.words, "cluster # ended: missing weather #");
        assert!(first.slot.starts_with("etl/failed/"), "{}", first.slot);
        assert_ne!(first.words, like("exit code 3").words);
    }

    #[test]
    fn only_the_alerts_of_a_first_round_are_folded() {
        use Kind::{Run, Step, Task};
        use Severity::{Failure, Info, Lateness, Recovery, Warning};
        for (id, kind, severity, status, folds) in [
            ("etl/2013-01-01T05/failed", Task, Failure, "failed", true),
            ("etl/2013-01-01T05/start-late", Task, Lateness, "start-late", true),
            ("etl/2013-01-01T05/recovered", Task, Recovery, "recovered", true),
            ("run/R/1/step-log/etl/2013-01-01T05/x/1", Step, Failure, "step-log", true),
            // A person has asked for it again.
            ("etl/2013-01-01T05/failed/2", Task, Failure, "failed", false),
            ("etl/2013-01-01T05/late-data/2", Task, Lateness, "late-data", false),
            ("etl/2013-01-01T05/ready", Task, Info, "ready", false),
            ("run/R/1/step-failed/x", Step, Warning, "step-failed", false),
            ("run/R/1/not-seen", Run, Failure, "not-seen", false),
        ] {
            let found = Likeness::of(&notice(id, kind, severity, status, ""));
            assert_eq!(found.is_some(), folds, "{id}");
        }
        let mut log = notice("run/R/1/step-log/x/1", Step, Failure, "step-log", "");
        assert!(Likeness::of(&log).is_some());
        log.answer = true;
        assert_eq!(Likeness::of(&log), None, "a person waits for it");
        let mut of_all = failed("");
        of_all.partition = None;
        assert_eq!(Likeness::of(&of_all), None);
    }

    #[test]
    fn a_summary_is_told_of_repeats_and_of_nothing_else() {
        let window = SignedDuration::from_mins(15);
        let mut fold = Fold {
            slot: "etl/failed/0".into(),
            words: "exit code #".into(),
            first: outline(&failed("exit code 3").quoting("log")),
            partitions: BTreeSet::from(["2013-01-01T05".to_owned()]),
            until: at("07:15"),
            version: 1,
        };
        assert_eq!(fold.summary(window, at("07:15")), None);
        assert!(fold.is_over(at("07:15")) && !fold.is_over(at("07:14")));
        assert!(!fold.repeats(&failed("exit code 3")));
        for hour in 6..23 {
            fold.partitions.insert(format!("2013-01-01T{hour:02}"));
        }
        let summary = fold.summary(window, at("07:15")).unwrap();
        assert_eq!(summary.id, "etl/2013-01-01T05/failed/and-more/17");
        assert_eq!(Likeness::of(&summary), None, "a summary is never folded");
        insta::assert_snapshot!("task-failed-and-more", summary.message("prod").as_text());
        let mut repeat = as_repeat(&failed("exit code 3")).named("etl");
        repeat.headline = "2013-01-01T05 FAILED".into();
        let repeat = repeat.message("prod");
        insta::assert_snapshot!("task-failed-folded", repeat.as_text());
        fold.partitions.extend((0..REPEATS_MAX).map(|number| number.to_string()));
        assert!(fold.is_over(at("07:01")), "it has room for no more");
        fold.first.kind = Kind::Step;
        assert_eq!(fold.summary(window, at("07:15")), None);
    }
}
