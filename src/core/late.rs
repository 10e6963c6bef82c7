//! Late data: what comes for a task partition whose inputs were already taken.
//! Says whether something is late, how much of it there is, when people hear of it
//! and when it makes its partition run again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::asked::Asked;
use super::catalog::{Catalog, LateData, Need, Task};
use super::notice::{Fact, Kind, Notice, Severity, instant};
use super::operate::{self, Again};
use super::run::Run;
use super::task::{Element, Receipt, TaskChange, TaskKey, TaskPartition, TaskState};

/// People hear of a task partition's late data at most so often.
const ALERT_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// A notice's status, and so where it stands in the outbox.
pub const STATUS: &str = "late-data";
/// Datasets that one notice names.
const NAMED_MAX: usize = 10;

/// What came late for a task partition, and what people know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Dataset → how many objects of it.
    pub objects: BTreeMap<String, u64>,
    /// How many of them people were told of, and when.
    pub told: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    /// How many of them a later round has among its inputs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub taken: u64,
    /// How many rounds began because of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rounds: u32,
}

/// A count that need not be stored; serde hands out references.
fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

/// Another round because of late data, if it is time for that. `run` is the
/// partition's last. None as well where inputs are missing that may yet come.
pub fn again(
    catalog: &Catalog,
    task: &Task,
    item: &TaskPartition,
    run: Option<&Run>,
    now: Timestamp,
) -> Option<TaskChange> {
    let late = item.late.as_ref()?;
    late.again_at(task, item, now).filter(|at| *at <= now)?;
    let reason = format!("{} came after its inputs were taken", objects(late.untaken()));
    let asked = Asked::new("the task's late-data", Some(&reason), now);
    let again = Again { force: true, ..Again::default() };
    let mut change = operate::retry(catalog, task, item, run, &again, &asked).ok()?;
    if change.to != TaskState::Ready {
        return None;
    }
    change.due = now;
    change.late = Some(Late { rounds: late.rounds.saturating_add(1), ..late.clone().taken() });
    change.notice = change.notice.saying(format!("{} is ready again: {reason}", item.key));
    Some(change)
}

fn objects(count: u64) -> String {
    match count {
        1 => "1 object".to_owned(),
        more => format!("{more} objects"),
    }
}

/// How many objects a receipt has that come after another one; 0 when it says
/// nothing new, as the same one told twice.
pub fn news(before: Option<&Receipt>, receipt: &Receipt) -> u64 {
    match (before, receipt) {
        (Some(Receipt::Closed(before)), Receipt::Closed(objects)) => {
            objects.saturating_sub(*before)
        }
        (None, Receipt::Closed(objects)) => *objects,
        (Some(before), receipt) if before == receipt => 0,
        // That some have come is told once, until their number is known.
        (Some(_), Receipt::Partial(_) | Receipt::Begun(_)) => 0,
        (_, _) => 1,
    }
}

/// Whether a receipt only says that a period goes on that is not over yet: no news,
/// but should it be waited for again, then from there.
pub fn goes_on(before: Option<&Receipt>, receipt: &Receipt) -> bool {
    match (before, receipt) {
        (Some(Receipt::Partial(before)), Receipt::Partial(last)) => before < last,
        _ => false,
    }
}

/// Whether a task runs without an input, if need be, so that it is no surprise
/// when it comes later.
pub fn may_come_later(task: &Task, item: &TaskPartition, element: &Element) -> bool {
    let Element::Data { dataset, .. } = element else { return false };
    let input = task.inputs.iter().find(|input| input.dataset == *dataset);
    let optional = task.need != Need::All || input.is_some_and(|input| input.need != Need::All);
    optional && !item.has(element)
}

impl Late {
    /// What came before, and these receipts with as many objects each.
    #[must_use]
    pub fn with(mut self, receipts: &[(Element, Receipt, u64)]) -> Self {
        for (element, _, objects) in receipts.iter().filter(|(.., objects)| *objects > 0) {
            if let Element::Data { dataset, .. } = element {
                *self.objects.entry(dataset.clone()).or_default() += objects;
            }
        }
        self
    }

    fn total(&self) -> u64 {
        self.objects.values().sum()
    }

    /// How many of them no round has had among its inputs.
    pub fn untaken(&self) -> u64 {
        self.total().saturating_sub(self.taken)
    }

    /// The same when a round begins, which takes all that is there: that something is
    /// missing is not told any more.
    #[must_use]
    pub fn taken(mut self) -> Self {
        (self.taken, self.told) = (self.total(), self.total());
        self
    }

    /// When the partition runs again, if the task says so: after a time since its end
    /// that doubles with every such round, and not after the cut-off.
    pub fn again_at(&self, task: &Task, item: &TaskPartition, now: Timestamp) -> Option<Timestamp> {
        let LateData::RunAgain { until, back_off } = task.late_data else { return None };
        let has_run = matches!(item.state, TaskState::Succeeded | TaskState::Skipped);
        // Those who read its outputs hear of this round before another begins.
        if !has_run || self.untaken() == 0 || item.outputs_pending {
            return None;
        }
        let pause = back_off.saturating_mul(2i32.saturating_pow(self.rounds.min(30)));
        let at = item.since?.saturating_add(pause).ok()?;
        (at.max(now) <= cut_off(item, until)).then_some(at)
    }

    /// What is done about it, for people.
    fn next(&self, task: &Task, item: &TaskPartition, now: Timestamp) -> String {
        let LateData::RunAgain { until, .. } = task.late_data else {
            let TaskKey { task, partition } = &item.key;
            return format!(
                "nothing is run again by itself, and what was run may be without this data: \
                 sluicegate retry {task} {partition} --force runs it with all that is there; \
                 late-data = \"ignore\" keeps the task's late data from being told"
            );
        };
        let until = instant(cut_off(item, until));
        match self.again_at(task, item, now) {
            Some(at) if at > now => {
                format!("it runs again at {}, with all that is there then", instant(at))
            }
            Some(_) => "it runs again at once".to_owned(),
            None if matches!(item.state, TaskState::Running | TaskState::Loading) => {
                format!("it runs again some time after its end, if that is before {until}")
            }
            None => format!(
                "it does not run again: late-data allows that until {until}, of what has \
                 succeeded or was skipped"
            ),
        }
    }

    /// When people are to hear of what they do not know yet.
    pub fn due(&self) -> Option<Timestamp> {
        let next = |at: Timestamp| at.saturating_add(ALERT_EVERY).unwrap_or(Timestamp::MAX);
        (self.total() > self.told).then(|| self.told_at.map_or(Timestamp::MIN, next))
    }

    /// The notice that is due now. None is while an earlier one waits for SNS.
    pub fn tell(&mut self, item: &TaskPartition, task: &Task, now: Timestamp) -> Option<Notice> {
        let waits = item.notices.iter().any(|notice| notice.status == STATUS);
        if waits || self.due().is_none_or(|due| due > now) {
            return None;
        }
        self.told = self.total();
        self.told_at = Some(now);
        Some(self.notice(item, task, now))
    }

    fn notice(&self, item: &TaskPartition, task: &Task, now: Timestamp) -> Notice {
        let key = &item.key;
        let objects = objects(self.total());
        let named = self.objects.iter().take(NAMED_MAX);
        let named: Vec<_> =
            named.map(|(dataset, objects)| format!("{objects} of {dataset}")).collect();
        let id = format!("{}/{}/{STATUS}/{}", key.task, key.partition, self.total());
        let headline = format!("{} has late data", key.partition);
        let mut notice = Notice::new(Kind::Task, id, now, Severity::Lateness, STATUS, headline)
            .named(key.task.as_str())
            .detailed(&named.join(", "))
            .saying(format!("{key}: {objects} came after its inputs were taken"))
            .with([
                Fact::new("late", named.join(", ")),
                Fact::new("state", item.state.name()),
                Fact::new("next", self.next(task, item, now)),
            ]);
        notice.task = Some(key.task.clone());
        notice.partition = Some(key.partition.to_string());
        notice.run.clone_from(&item.run);
        notice.profile = Some(task.profile.clone());
        notice
    }
}

/// After this nothing runs again.
fn cut_off(item: &TaskPartition, until: SignedDuration) -> Timestamp {
    item.key.partition.end().saturating_add(until).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing::{input, task};
    use crate::core::catalog::{Completeness, Dataset};
    use crate::core::partition::Grain;
    use crate::core::template::Template;

    fn at(text: &str) -> Timestamp {
        format!("2013-01-01T{text}:00Z").parse().unwrap()
    }

    #[test]
    fn the_same_again_is_not_late() {
        for (before, receipt, objects) in [
            (None, "object:e1", 1),
            (Some("object:e1"), "object:e1", 0),
            (Some("object:e1"), "object:e2", 1),
            (Some("closed:3"), "closed:3", 0),
            (Some("closed:3"), "closed:5", 2),
            // Counted by who knows less.
            (Some("closed:3"), "closed:2", 0),
            (None, "closed:4", 4),
            (None, "begun:2013-01-01T05:00:00Z", 1),
            (Some("begun:2013-01-01T05:00:00Z"), "begun:2013-01-01T06:00:00Z", 0),
            (Some("closed:3"), "partial:2013-01-01T06:00:00Z", 0),
            (Some("begun:2013-01-01T05:00:00Z"), "closed:2", 1),
            (Some("run:R1"), "run:R1", 0),
            (Some("run:R1"), "run:R2", 1),
            (Some("skipped"), "run:R2", 1),
        ] {
            let before = before.map(|text| text.parse().unwrap());
            let found = news(before.as_ref(), &receipt.parse().unwrap());
            assert_eq!(found, objects, "{before:?} {receipt}");
        }
    }

    #[test]
    fn what_a_task_can_do_without_is_no_surprise_later() {
        let element: Element = "raw@2013-01-01T05".parse().unwrap();
        let mut item = TaskPartition::new(TaskKey::new("etl", "2013-01-01T05".parse().unwrap()));
        let mut needs_all = task("etl", Grain::Hour, vec![input("raw", 0, 1)]);
        let mut any = needs_all.clone();
        any.inputs[0].need = Need::AtLeast(1);
        assert!(!may_come_later(&needs_all, &item, &element));
        assert!(may_come_later(&any, &item, &element));
        needs_all.need = Need::AtLeast(1);
        assert!(may_come_later(&needs_all, &item, &element));
        // It ran with it, and now there is more.
        item.received.insert(element.clone(), Receipt::Closed(2));
        assert!(!may_come_later(&any, &item, &element));
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_once_an_hour() {
        let mut item = TaskPartition::new(TaskKey::new("etl", "2013-01-01T05".parse().unwrap()));
        item.state = TaskState::Succeeded;
        item.run = Some("R1".into());
        let receipts = |objects| {
            let element: Element = "raw@2013-01-01T05".parse().unwrap();
            vec![(element, Receipt::Closed(objects), objects)]
        };
        let task = task("etl", Grain::Hour, vec![]);
        let mut late = Late::default().with(&receipts(1));
        let first = late.tell(&item, &task, at("07:00")).unwrap();
        assert_eq!(first.id, "etl/2013-01-01T05/late-data/1");
        assert_eq!((late.due(), late.tell(&item, &task, at("09:00"))), (None, None));
        late = late.with(&receipts(4)).with(&receipts(2));
        assert_eq!(late.due(), Some(at("08:00")));
        assert_eq!(late.tell(&item, &task, at("07:59")), None);
        item.notices.push(first);
        assert_eq!(late.tell(&item, &task, at("08:00")), None, "the first one waits for SNS");
        item.notices.clear();
        let second = late.tell(&item, &task, at("08:00")).unwrap().message("prod");
        assert_eq!(second.subject, "[prod] etl 2013-01-01T05 has late data: 7 of raw");
        assert!(
            second.body.starts_with("etl 2013-01-01T05: 7 objects came after"),
            "{}",
            second.body
        );
        assert_eq!(second.attributes["run"], "R1");
        let stored = serde_json::to_string(&late).unwrap();
        assert_eq!(serde_json::from_str::<Late>(&stored).unwrap(), late);
    }

    /// An hourly task on `raw`, which has succeeded at 07:00 with one object of it; two
    /// came later.
    fn run_again() -> (Catalog, TaskPartition) {
        let location = Template::parse("s3://b/raw/{yyyy}/{MM}/{dd}/{HH}/*").unwrap();
        let completeness = Completeness::Closed { settle: SignedDuration::from_mins(10) };
        let raw = Dataset { name: "raw".into(), location, completeness, list: true };
        let hours = SignedDuration::from_hours;
        let mut etl = task("etl", Grain::Hour, vec![input("raw", 0, 1)]);
        etl.late_data = LateData::RunAgain { until: hours(10), back_off: hours(1) };
        let catalog = Catalog::new("test".into(), vec![raw], vec![], vec![etl]);
        let mut item = TaskPartition::new(TaskKey::new("etl", "2013-01-01T05".parse().unwrap()));
        (item.state, item.since) = (TaskState::Succeeded, Some(at("07:00")));
        let element: Element = "raw@2013-01-01T05".parse().unwrap();
        item.received.insert(element.clone(), Receipt::Closed(3));
        item.late = Some(Late::default().with(&[(element, Receipt::Closed(3), 2)]));
        (catalog, item)
    }

    #[test]
    fn late_data_runs_a_partition_again_after_a_time_that_doubles_until_the_cut_off() {
        let (catalog, mut item) = run_again();
        let task = &catalog.tasks["etl"];
        let element: Element = "raw@2013-01-01T05".parse().unwrap();
        let mut began = Vec::new();
        // It looks every minute, each round takes ten, and every hour there is more.
        let mut now = at("07:00");
        while now < at("23:00") {
            if let Some(change) = again(&catalog, task, &item, None, now) {
                assert_eq!((change.from, change.to), (item.state, TaskState::Ready));
                assert_eq!(change.round.number, item.round.number + 1);
                began.push(now.strftime("%H:%M").to_string());
                item.round = change.round;
                item.late = change.late;
                assert_eq!(item.late.as_ref().map(Late::untaken), Some(0));
                now += SignedDuration::from_mins(10);
                item.since = Some(now);
                let one = [(element.clone(), Receipt::Closed(9), 1)];
                item.late = item.late.take().map(|late| late.with(&one));
            }
            now += SignedDuration::from_mins(1);
        }
        // Ten hours after the hour's end, at 16:00, its next round would be too late.
        assert_eq!(began, ["08:00", "10:10", "14:20"]);
    }

    #[test]
    fn only_what_has_run_and_has_all_its_inputs_runs_again() {
        use TaskState::{Cancelled, Failed, Ready, Running, Skipped, Succeeded, Waiting};
        let (catalog, item) = run_again();
        let task = &catalog.tasks["etl"];
        let runs = |item: &TaskPartition, now| again(&catalog, task, item, None, at(now)).is_some();
        for state in [Waiting, Ready, Running, Failed, Cancelled] {
            assert!(!runs(&TaskPartition { state, ..item.clone() }, "09:00"), "{state:?}");
        }
        for state in [Succeeded, Skipped] {
            let item = TaskPartition { state, ..item.clone() };
            let times = [("07:59", false), ("08:00", true), ("16:00", true), ("16:01", false)];
            for (now, expected) in times {
                assert_eq!(runs(&item, now), expected, "{state:?} {now}");
            }
        }
        let mut lacking = item.clone();
        lacking.received.clear();
        assert!(!runs(&lacking, "09:00"));
        // A person's retry has taken them.
        let taken = item.late.clone().map(Late::taken);
        assert!(!runs(&TaskPartition { late: taken, ..item.clone() }, "09:00"));
        let mut told = task.clone();
        told.late_data = LateData::Alert;
        assert_eq!(again(&catalog, &told, &item, None, at("09:00")), None);
    }

    #[test]
    fn nothing_runs_again_before_its_readers_heard_of_the_last_round() {
        let (catalog, mut item) = run_again();
        let task = &catalog.tasks["etl"];
        item.outputs_pending = true;
        assert_eq!(again(&catalog, task, &item, None, at("09:00")), None);
        item.outputs_pending = false;
        assert!(again(&catalog, task, &item, None, at("09:00")).is_some());
    }

    #[test]
    fn people_hear_when_it_runs_again() {
        let (catalog, item) = run_again();
        let task = &catalog.tasks["etl"];
        for (state, now, said) in [
            (TaskState::Succeeded, "07:30", "it runs again at 2013-01-01 08:00:00 UTC, with all"),
            (TaskState::Skipped, "09:00", "it runs again at once"),
            (
                TaskState::Running,
                "07:30",
                "some time after its end, if that is before 2013-01-01 16",
            ),
            (TaskState::Failed, "07:30", "it does not run again: late-data allows that until"),
            (TaskState::Succeeded, "16:30", "it does not run again"),
        ] {
            let item = TaskPartition { state, ..item.clone() };
            let body = item.late.clone().unwrap().tell(&item, task, at(now)).unwrap();
            let body = body.message("prod").body;
            assert!(body.contains(said), "{state:?} {now}: {body}");
        }
        let change = again(&catalog, task, &item, None, at("08:00")).unwrap();
        let body = change.notice.message("prod").body;
        let said = "etl 2013-01-01T05 is ready again: 2 objects came after its inputs were taken";
        assert!(body.starts_with(said), "{body}");
        let stored = serde_json::to_string(&change.late).unwrap();
        assert_eq!(serde_json::from_str::<Option<Late>>(&stored).unwrap(), change.late);
    }
}
