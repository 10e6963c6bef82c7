//! What a backfill's notices say: that it has begun, and one summary at its end
//! for all of its partitions. Decides nothing.

use jiff::Timestamp;

use super::{Backfill, How, Order};
use crate::core::asked::Asked;
use crate::core::notice::{Fact, Kind, Notice, Severity};

/// A mail that names more is not read.
const NAMES_MAX: usize = 10;

impl How {
    pub const ALL: [How; 10] = [
        How::Succeeded,
        How::Failed,
        How::Cancelled,
        How::Skipped,
        How::DoneBefore,
        How::UnderWay,
        How::LacksInputs,
        How::TooOld,
        How::NoSlot,
        How::NotBegun,
    ];

    /// After a number: `12 have failed`.
    pub fn words(self) -> &'static str {
        match self {
            How::Succeeded => "succeeded",
            How::Failed => "FAILED",
            How::Cancelled => "were cancelled",
            How::Skipped => "were skipped",
            How::DoneBefore => "left alone: succeeded or skipped before",
            How::UnderWay => "left alone: under way already",
            How::LacksInputs => "left alone: inputs have not come",
            How::TooOld => "left alone: too old to know whether they have run (--force)",
            How::NoSlot => "left out: no slot in the task's schedule (--force)",
            How::NotBegun => "not begun: the backfill was cancelled",
        }
    }
}

impl Backfill {
    /// `744 partitions of etl, 2013-01-01T00 to 2013-01-31T23`.
    pub fn what(&self) -> String {
        let window = &self.window;
        let (count, task) = (window.partitions(), &window.task);
        let noun = if count == 1 { "partition" } else { "partitions" };
        format!("{count} {noun} of {task}, {} to {}", window.first, window.last)
    }

    fn notice(&self, at: Timestamp, severity: Severity, status: &str, headline: &str) -> Notice {
        let id = format!("backfill/{}/{status}", self.id);
        let mut notice = Notice::new(Kind::Backfill, id, at, severity, status, headline)
            .named(format!("backfill of {}", self.window.task));
        notice.task = Some(self.window.task.clone());
        notice
    }

    fn id_fact(&self) -> Fact {
        Fact::new("backfill", self.id.as_str())
    }

    pub(super) fn tell_begun(&mut self) {
        let order = match self.window.order {
            Order::Asc => "the oldest first",
            Order::Desc => "the newest first",
        };
        let notice = self
            .notice(self.asked.at, Severity::Info, "backfill-begun", "has begun")
            .detailed(&self.what())
            .saying(format!("A backfill has begun: {}", self.what()))
            .with(self.asked.facts())
            .with([
                self.id_fact(),
                Fact::new("at once", format!("{}, {order}", self.window.max_parallel)),
                Fact::new(
                    "next",
                    format!(
                        "one summary at its end, no mails of its partitions before; how far it \
                         is: sluicegate backfill show {}",
                        self.id
                    ),
                ),
            ]);
        self.notices.push(notice);
    }

    pub(super) fn tell_cancelled(&mut self, asked: &Asked) {
        let headline = format!("is cancelled by {}", asked.by);
        let notice = self
            .notice(asked.at, Severity::Info, "backfill-cancelled", &headline)
            .saying("A backfill begins nothing more; what runs of it goes on to its end")
            .with(asked.facts())
            .with([self.id_fact()]);
        self.notices.push(notice);
    }

    pub(super) fn tell_ended(&mut self, now: Timestamp) {
        let failed = self.count(How::Failed);
        let (severity, headline) = match failed {
            0 if [How::Succeeded, How::Cancelled].iter().all(|how| self.count(*how) == 0) => {
                (Severity::Info, "has ended, nothing was run".to_owned())
            }
            0 => (Severity::Info, "has ended".to_owned()),
            failed => (Severity::Failure, format!("ended, {failed} FAILED")),
        };
        let counts = How::ALL.into_iter().filter_map(|how| {
            let count = self.count(how);
            (count > 0).then(|| format!("{count} {}", how.words()))
        });
        let named: Vec<_> = self.failed.iter().take(NAMES_MAX).map(ToString::to_string).collect();
        let more = (failed as usize).saturating_sub(named.len());
        let mut names = named.join(", ");
        if more > 0 {
            names.push_str(&format!(" and {more} more"));
        }
        let (first, task) = (self.failed.first(), &self.window.task);
        let next = first.map(|first| {
            let (from, to) = (self.window.first, self.window.last);
            format!(
                "why one failed: sluicegate why {task} {first}; to run again what has not \
                 succeeded, steps and all: sluicegate backfill {task} --from {from} --to {to}"
            )
        });
        let mut notice = self
            .notice(now, severity, "backfill-ended", &headline)
            .detailed(&self.what())
            .saying(format!("A backfill has ended: {}", self.what()))
            .with([Fact::new("result", counts.collect::<Vec<_>>().join("\n"))])
            .with(first.map(|_| Fact::new("failed", names)))
            .with(next.map(|next| Fact::new("next", next)))
            .with(self.cancelled.as_ref().map(|by| Fact::new("cancelled", by.to_string())))
            .with([self.id_fact(), Fact::since("running since", self.asked.at, now)]);
        notice.facts.extend(self.asked.facts());
        self.notices.push(notice);
    }
}
