//! The log of published notices, in the task table: one item for those that one turn
//! has published, under its day, for people who want to see what was told. It is written after SNS has
//! accepted a notice and decides nothing; the outbox is an attribute of what a
//! notice tells of, not this.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::document::DOCUMENT;
use super::item::{self, Item};
use super::{Store, StoreError};
use crate::aws::error::AwsError;
use crate::core::notice::NoticeGlance;
use crate::core::partition::{Grain, Partition};
use crate::core::task::Unreadable;

/// Where the log's days stand among the tasks, whose names have no `~`.
pub(super) const PLACE: &str = "~notice/";
/// How long a published notice is kept.
pub const NOTICES_KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Those of one item: none has a kilobyte, and DynamoDB takes 400.
pub const NOTICES_OF_ITEM: usize = 100;
/// A replica's clock may be ahead of the reader's.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// Notices that a list looks through.
const SEARCHED_MAX: usize = 10_000;

/// Some notices in the order in which they were published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Notices {
    pub notices: Vec<NoticeGlance>,
    /// There are older ones that were asked for.
    pub truncated: bool,
    /// Items that this version cannot read.
    pub unreadable: usize,
}

impl Store {
    /// Keeps what people were told, in the order in which it was, at most
    /// `NOTICES_OF_ITEM`. The same when it is repeated.
    pub async fn keep_published(&self, glances: &[NoticeGlance]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (glances.first(), glances.last()) else { return Ok(()) };
        // By the last: whoever follows has not gone past the moment of this write.
        let expires = last.published.saturating_add(NOTICES_KEPT).unwrap_or(Timestamp::MAX);
        // Strings, instants and enums: JSON can hold each.
        let text = serde_json::to_string(glances).unwrap_or_default();
        self.client
            .put_item()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(place(last.published)))
            .item(item::PARTITION, item::text(name(last.published, &first.event)))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(DOCUMENT, item::text(text))
            .item(item::EXPIRES, item::expiry(expires))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "PutItem", &error).into())
    }

    /// The last notices that were published since an instant, of one task or of
    /// all, at most `limit`.
    pub async fn published(
        &self,
        since: Timestamp,
        task: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Notices, StoreError> {
        let since = since.max(now.saturating_sub(NOTICES_KEPT).unwrap_or(since));
        let until = now.saturating_add(AHEAD_MAX).unwrap_or(now);
        let mut found = Notices::default();
        let mut searched = 0;
        let days: Vec<_> = Partition::overlapping(since, until, Grain::Day).collect();
        'days: for day in days.iter().rev() {
            let mut pages = self
                .client
                .query()
                .table_name(&self.task_table)
                .consistent_read(true)
                .key_condition_expression("#task = :place AND #partition >= :since")
                .expression_attribute_names("#task", item::TASK)
                .expression_attribute_names("#partition", item::PARTITION)
                .expression_attribute_values(":place", item::text(place(day.start())))
                .expression_attribute_values(":since", item::text(name(since, "")))
                .scan_index_forward(false)
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
                for row in page.items.unwrap_or_default() {
                    searched += 1;
                    if searched > SEARCHED_MAX || !found.take(&row, task, limit) {
                        found.truncated = true;
                        break 'days;
                    }
                }
            }
        }
        // Of two turns at the same moment each has an item of its own.
        found.notices.sort_by_key(|glance| glance.published);
        Ok(found)
    }
}

impl Notices {
    /// Takes what is asked for of a row, the last first; false when there is no room
    /// for it.
    fn take(&mut self, row: &Item, task: Option<&str>, limit: usize) -> bool {
        let Ok(glances) = read(row) else {
            self.unreadable += 1;
            return true;
        };
        for glance in glances.into_iter().rev() {
            match task.is_none() || glance.task.as_deref() == task {
                true if self.notices.len() >= limit => return false,
                true => self.notices.push(glance),
                false => {}
            }
        }
        true
    }
}

/// `~notice/2013-01-01`: a day's notices stand together.
fn place(at: Timestamp) -> String {
    format!("{PLACE}{}", Partition::containing(at, Grain::Day))
}

/// Sorts by time; two of the same moment keep apart.
fn name(at: Timestamp, event: &str) -> String {
    format!("{}/{event}", at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
}

fn read(row: &Item) -> Result<Vec<NoticeGlance>, Unreadable> {
    item::check_format(row)?;
    let text = item::read_text(row, DOCUMENT)?;
    serde_json::from_str(text).map_err(|_| Unreadable::new("notice", text))
}
