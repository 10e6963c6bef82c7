//! Lateness and recovery: which limits of time a task partition has passed, when
//! to look again, and the notices of it. Goes by the clock alone, whatever its
//! run does, and changes no state. Not for late data (see `late`), nor for a wait
//! that ends (see `readiness`).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::catalog::Task;
use super::notice::{Fact, Kind, Notice, Severity, instant};
use super::task::{TaskPartition, TaskState};

/// The status of the notice that ends what people were told before.
pub const RECOVERED: &str = "recovered";

/// When people are told that a task's partition is late. The first two count
/// from the instant by which the calendar expects it: its slot, or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeLimits {
    pub start_by: Option<SignedDuration>,
    pub end_by: Option<SignedDuration>,
    /// From the moment that a run has it to its end.
    pub duration_max: Option<SignedDuration>,
}

impl TimeLimits {
    /// Whether every partition is expected, also one that nothing has come for.
    pub fn expect_partitions(&self) -> bool {
        self.start_by.is_some() || self.end_by.is_some()
    }
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    StartBy,
    EndBy,
    DurationMax,
}

impl Limit {
    const ALL: [Limit; 3] = [Limit::StartBy, Limit::EndBy, Limit::DurationMax];

    /// The setting's name.
    fn name(self) -> &'static str {
        match self {
            Limit::StartBy => "start-by",
            Limit::EndBy => "end-by",
            Limit::DurationMax => "duration-max",
        }
    }

    /// The status of its notice, and so where it stands in the outbox.
    fn status(self) -> &'static str {
        match self {
            Limit::StartBy => "start-late",
            Limit::EndBy => "end-late",
            Limit::DurationMax => "too-long",
        }
    }

    /// For a subject, and as the end of a sentence.
    fn phrases(self) -> (&'static str, &'static str) {
        match self {
            Limit::StartBy => ("starts LATE", "should have started by now and has not"),
            Limit::EndBy => ("ends LATE", "should have ended by now and has not"),
            Limit::DurationMax => ("takes TOO LONG", "is at work for longer than it should be"),
        }
    }

    fn of(self, limits: &TimeLimits) -> Option<SignedDuration> {
        match self {
            Limit::StartBy => limits.start_by,
            Limit::EndBy => limits.end_by,
            Limit::DurationMax => limits.duration_max,
        }
    }

    /// The instant that it counts from, while it counts. What a person has run
    /// again is watched by who asked: of that only the duration is measured.
    fn counts_from(self, item: &TaskPartition) -> Option<Timestamp> {
        let first = item.round.number == 0;
        match self {
            Limit::StartBy => item.expected.filter(|_| first && item.state.takes_inputs()),
            Limit::EndBy => item.expected.filter(|_| first && !item.state.is_final()),
            Limit::DurationMax => {
                let at_work = matches!(item.state, TaskState::Running | TaskState::Loading);
                item.began.filter(|_| at_work)
            }
        }
    }
}

/// People were told that a limit has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub limit: Limit,
    pub round: u32,
    /// When it passed.
    pub since: Timestamp,
}

/// What is to be told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// These limits have passed.
    Late(Vec<Told>),
    /// What people were told of is over.
    Over,
}

/// What a partition's clock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub news: Option<News>,
    /// When the next limit passes.
    pub next: Option<Timestamp>,
}

/// Looks at the clock of one partition. A backfill tells of its partitions in its
/// summary, so none of them is late.
pub fn look(task: &Task, item: &TaskPartition, now: Timestamp) -> Look {
    if is_mended(item) {
        return Look { news: Some(News::Over), next: None };
    }
    let (mut late, mut next) = (Vec::new(), None);
    let limits = Limit::ALL.into_iter().filter(|_| item.round.backfill.is_none());
    for limit in limits.filter(|limit| !is_told(*limit, item)) {
        let counted = limit.of(&task.time_limits).zip(limit.counts_from(item));
        let Some((duration, from)) = counted else { continue };
        let since = from.saturating_add(duration).unwrap_or(Timestamp::MAX);
        match since <= now {
            true => late.push(Told { limit, round: item.round.number, since }),
            false => next = next.into_iter().chain([since]).min(),
        }
    }
    Look { news: (!late.is_empty()).then_some(News::Late(late)), next }
}

fn is_told(limit: Limit, item: &TaskPartition) -> bool {
    item.told.iter().any(|told| told.limit == limit && told.round == item.round.number)
}

/// It has ended well, and people still take it for late or failed.
fn is_mended(item: &TaskPartition) -> bool {
    matches!(item.state, TaskState::Succeeded | TaskState::Skipped)
        && (item.failed.is_some() || !item.told.is_empty())
}

/// The notices of these news; `why` is the answer of `sluicegate why`, so that
/// people read the same words in both places.
pub fn notices(
    task: &Task,
    item: &TaskPartition,
    news: &News,
    why: &str,
    now: Timestamp,
) -> Vec<Notice> {
    match news {
        News::Late(late) => {
            late.iter().map(|told| late_notice(task, item, told, why, now)).collect()
        }
        News::Over if item.round.backfill.is_some() => Vec::new(),
        News::Over => vec![recovered(task, item, why, now)],
    }
}

fn late_notice(
    task: &Task,
    item: &TaskPartition,
    told: &Told,
    why: &str,
    now: Timestamp,
) -> Notice {
    let (short, long) = told.limit.phrases();
    let limit = told.limit.of(&task.time_limits).unwrap_or_default();
    let from = match (told.limit, &task.schedule) {
        (Limit::DurationMax, _) => "its start",
        (_, Some(_)) => "its slot",
        (_, None) => "its end",
    };
    let words = format!("{} of {limit:#} after {from}", told.limit.name());
    let key = &item.key;
    notice(task, item, told.limit.status(), Severity::Lateness, short, now)
        .detailed(because(item, why))
        .saying(format!("{key} {long}"))
        .with([
            Fact::new("why", why),
            Fact::new("limit", format!("{words}, at {}", instant(told.since))),
            Fact::since("late since", told.since, now),
            Fact::new(
                "next",
                format!(
                    "nothing is ended or begun by this; a notice tells when it has ended. How it \
                     is now: sluicegate why {} {}",
                    key.task, key.partition
                ),
            ),
        ])
}

fn recovered(task: &Task, item: &TaskPartition, why: &str, now: Timestamp) -> Notice {
    let how = match item.state {
        TaskState::Skipped => "was skipped",
        _ => "succeeded",
    };
    let was = match (item.failed.is_some(), item.told.is_empty()) {
        (true, true) => "had failed",
        (true, false) => "was late and had failed",
        (false, _) => "was late",
    };
    let late = item.told.iter().map(|told| {
        let label = format!("{} since", told.limit.status().replace('-', " "));
        Fact::since(&label, told.since, now)
    });
    notice(task, item, RECOVERED, Severity::Recovery, "RECOVERED", now)
        .detailed(&format!("it {how} and {was}"))
        .saying(format!("{} {how} after all: it {was}", item.key))
        .with([Fact::new("why", why)])
        .with(item.failed.map(|since| Fact::since("failed since", since, now)))
        .with(late)
}

/// The words of `why` without the partition's name, which the subject has.
fn because<'a>(item: &TaskPartition, why: &'a str) -> &'a str {
    let name = item.key.to_string();
    why.strip_prefix(&name).unwrap_or(why).trim().trim_end_matches('.')
}

/// A notice of the partition in its round; its status is told once in a round.
fn notice(
    task: &Task,
    item: &TaskPartition,
    status: &str,
    severity: Severity,
    short: &str,
    now: Timestamp,
) -> Notice {
    let key = &item.key;
    let event = item.round.event_of(status);
    let id = format!("{}/{}/{event}", key.task, key.partition);
    let headline = format!("{} {short}", key.partition);
    let mut notice =
        Notice::new(Kind::Task, id, now, severity, status, headline).named(key.task.as_str());
    notice.task = Some(key.task.clone());
    notice.partition = Some(key.partition.to_string());
    notice.run.clone_from(&item.run);
    notice.profile = Some(task.profile.clone());
    notice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing::task;
    use crate::core::partition::Grain;
    use crate::core::task::{Round, TaskKey};

    fn at(text: &str) -> Timestamp {
        format!("2013-01-01T{text}:00Z").parse().unwrap()
    }

    /// To be started an hour after its end and ended two hours after; at work for
    /// half an hour at most.
    fn limited() -> Task {
        let mut hourly = task("etl", Grain::Hour, vec![]);
        let minutes = |minutes| Some(SignedDuration::from_mins(minutes));
        hourly.time_limits =
            TimeLimits { start_by: minutes(60), end_by: minutes(120), duration_max: minutes(30) };
        hourly
    }

    fn item(state: TaskState) -> TaskPartition {
        let mut item = TaskPartition::new(TaskKey::new("etl", "2013-01-01T05".parse().unwrap()));
        item.state = state;
        item.expected = Some(at("06:00"));
        item
    }

    /// The statuses that are told, and when the next look is.
    fn said(item: &TaskPartition, now: &str) -> (Vec<String>, Option<Timestamp>) {
        let Look { news, next } = look(&limited(), item, at(now));
        let notices =
            news.map_or_else(Vec::new, |news| notices(&limited(), item, &news, "w", at(now)));
        (notices.into_iter().map(|notice| notice.status).collect(), next)
    }

    #[test]
    fn each_limit_is_told_when_it_passes_while_it_counts() {
        use TaskState::{Failed, Loading, Ready, Running, Waiting};
        for (state, began, now, told, next) in [
            (Waiting, None, "06:59", vec![], Some("07:00")),
            (Waiting, None, "07:00", vec!["start-late"], Some("08:00")),
            (Ready, None, "07:30", vec!["start-late"], Some("08:00")),
            // Both have passed while nobody looked.
            (Ready, None, "09:00", vec!["start-late", "end-late"], None),
            // It has started, late as it was.
            (Running, Some("07:10"), "07:15", vec![], Some("07:40")),
            (Running, Some("07:10"), "07:40", vec!["too-long"], Some("08:00")),
            (Loading, Some("07:55"), "08:00", vec!["end-late"], Some("08:25")),
            (Failed, Some("07:10"), "12:00", vec![], None),
        ] {
            let mut item = item(state);
            item.began = began.map(at);
            let expected = (told.iter().map(ToString::to_string).collect(), next.map(at));
            assert_eq!(said(&item, now), expected, "{state:?} at {now}");
        }
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut item = item(TaskState::Ready);
        let Some(News::Late(late)) = look(&limited(), &item, at("07:00")).news else {
            panic!("expected it to be late");
        };
        let stored = serde_json::to_string(&late).unwrap();
        item.told = serde_json::from_str(&stored).unwrap();
        assert_eq!(said(&item, "07:30"), (vec![], Some(at("08:00"))));
    }

    #[test]
    fn one_that_the_calendar_does_not_expect_is_never_late() {
        let mut old = item(TaskState::Waiting);
        old.expected = None;
        assert_eq!(said(&old, "23:00"), (vec![], None));
    }

    #[test]
    fn what_runs_again_is_measured_by_its_duration_alone_and_a_backfill_not_at_all() {
        let mut again = item(TaskState::Running);
        again.round = Round { number: 1, backfill: None };
        again.began = Some(at("10:00"));
        again.told = vec![Told { limit: Limit::DurationMax, round: 0, since: at("07:00") }];
        assert_eq!(said(&again, "10:30"), (vec!["too-long".to_owned()], None));
        let news = look(&limited(), &again, at("10:30")).news.unwrap();
        let notice = &notices(&limited(), &again, &news, "w", at("10:30"))[0];
        assert_eq!(notice.id, "etl/2013-01-01T05/too-long/2");
        again.round.backfill = Some("B".into());
        assert_eq!(said(&again, "10:30"), (vec![], None));
    }

    #[test]
    fn a_good_end_is_told_when_a_bad_one_was() {
        use TaskState::{Cancelled, Skipped, Succeeded};
        let late = vec![Told { limit: Limit::EndBy, round: 0, since: at("08:00") }];
        for (state, failed, told, expected) in [
            (Succeeded, None, vec![], None),
            (Succeeded, Some("07:20"), vec![], Some("it succeeded and had failed")),
            (Succeeded, None, late.clone(), Some("it succeeded and was late")),
            (
                Skipped,
                Some("08:10"),
                late.clone(),
                Some("it was skipped and was late and had failed"),
            ),
            // Nobody has it as it should be.
            (Cancelled, Some("07:20"), late, None),
        ] {
            let mut item = item(state);
            (item.failed, item.told) = (failed.map(at), told);
            let news = look(&limited(), &item, at("09:00")).news;
            let notices = news
                .map_or_else(Vec::new, |news| notices(&limited(), &item, &news, "w", at("09:00")));
            let details = notices.first().map(|notice| notice.detail.as_str());
            assert_eq!(details, expected, "{state:?}");
        }
    }

    #[test]
    fn a_backfill_ends_it_without_a_notice_of_its_own() {
        let mut item = item(TaskState::Succeeded);
        item.failed = Some(at("07:20"));
        item.round = Round { number: 1, backfill: Some("B".into()) };
        let news = look(&limited(), &item, at("09:00")).news.unwrap();
        assert_eq!(news, News::Over);
        assert_eq!(notices(&limited(), &item, &news, "w", at("09:00")), []);
    }
}
