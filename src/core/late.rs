//! Late data: what comes for a task partition whose inputs were already taken.
//! Says whether something is late, how much of it there is and when people hear
//! of it. Not for running anything again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::catalog::{Need, Task};
use super::notice::{Fact, Kind, Notice, Severity};
use super::task::{Element, Receipt, TaskPartition};

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

    /// When people are to hear of what they do not know yet.
    pub fn due(&self) -> Option<Timestamp> {
        let next = |at: Timestamp| at.saturating_add(ALERT_EVERY).unwrap_or(Timestamp::MAX);
        (self.total() > self.told).then(|| self.told_at.map_or(Timestamp::MIN, next))
    }

    /// The notice that is due now. None is while an earlier one waits for SNS.
    pub fn tell(&mut self, item: &TaskPartition, profile: &str, now: Timestamp) -> Option<Notice> {
        let waits = item.notices.iter().any(|notice| notice.status == STATUS);
        if waits || self.due().is_none_or(|due| due > now) {
            return None;
        }
        self.told = self.total();
        self.told_at = Some(now);
        Some(self.notice(item, profile, now))
    }

    fn notice(&self, item: &TaskPartition, profile: &str, now: Timestamp) -> Notice {
        let key = &item.key;
        let objects = match self.total() {
            1 => "1 object".to_owned(),
            more => format!("{more} objects"),
        };
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
                Fact::new(
                    "next",
                    "nothing is run again by itself, and what was run may be without this data; \
                     late-data = \"ignore\" keeps the task's late data from being told",
                ),
            ]);
        notice.task = Some(key.task.clone());
        notice.partition = Some(key.partition.to_string());
        notice.run.clone_from(&item.run);
        notice.profile = Some(profile.to_owned());
        notice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing::{input, task};
    use crate::core::partition::Grain;
    use crate::core::task::{TaskKey, TaskState};

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
        let mut late = Late::default().with(&receipts(1));
        let first = late.tell(&item, "p", at("07:00")).unwrap();
        assert_eq!(first.id, "etl/2013-01-01T05/late-data/1");
        assert_eq!((late.due(), late.tell(&item, "p", at("09:00"))), (None, None));
        late = late.with(&receipts(4)).with(&receipts(2));
        assert_eq!(late.due(), Some(at("08:00")));
        assert_eq!(late.tell(&item, "p", at("07:59")), None);
        item.notices.push(first);
        assert_eq!(late.tell(&item, "p", at("08:00")), None, "the first one waits for SNS");
        item.notices.clear();
        let second = late.tell(&item, "p", at("08:00")).unwrap().message("prod");
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
}
