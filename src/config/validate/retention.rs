//! `[retention]`: long enough for whatever may still come.

use jiff::{SignedDuration, Span, SpanRelativeTo};

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{File, LateData, Text};
use crate::core::catalog::Catalog;
use crate::core::listing::Listing;
use crate::core::retention::{Retention, days, needed};

const NEVER: &str = "never";
/// A message waits in the queue for up to 14 days, and what it tells of is not too
/// old by that.
const DAYS_MIN: i64 = 15;
const DAYS_MAX: i64 = 36_500;

impl Check {
    pub(super) fn retention(&mut self, file: &File) -> Retention {
        let raw = &file.retention;
        Retention {
            partitions: self.kept("partitions", &raw.partitions),
            runs: self.kept("runs", &raw.runs),
        }
    }

    fn kept(&mut self, what: &str, text: &Text) -> Option<SignedDuration> {
        if text.get_ref() == NEVER {
            return None;
        }
        let low = SignedDuration::from_hours(24 * DAYS_MIN);
        let high = SignedDuration::from_hours(24 * DAYS_MAX);
        let kept = span(text.get_ref()).filter(|kept| (low..=high).contains(kept));
        if kept.is_none() {
            self.report(
                Mistake::at(
                    text.span(),
                    format!(
                        "{what} is {:?}: expected {DAYS_MIN}d to {DAYS_MAX}d, or \"{NEVER}\"",
                        text.get_ref()
                    ),
                )
                .help(
                    "write for how long to keep what has ended, as in \"90d\"; a message may wait in \
                     the queue for 14 days, and must not come too late by that",
                ),
            );
        }
        Some(kept.unwrap_or(low))
    }

    /// Nothing that a task waits for, or runs again for, may be too old by then.
    pub(super) fn kept_long_enough(
        &mut self,
        file: &File,
        catalog: &Catalog,
        kept: Option<SignedDuration>,
        listing: Option<Listing>,
    ) {
        let Some(kept) = kept else { return };
        if let Some(listing) = listing.filter(|listing| listing.window > kept) {
            let message = format!(
                "list-window is {:#}, but partitions are kept for {} after their end",
                listing.window,
                days(kept)
            );
            let place = file.engine.list_window.span();
            self.report(Mistake::at(place, message).help(LONGER));
        }
        for (name, raw) in &file.tasks {
            let Some(task) = catalog.tasks.get(name.get_ref()) else { continue };
            let (needed, setting) = needed(catalog, task);
            if needed <= kept {
                continue;
            }
            let place = match (setting, &raw.wait_timeout, &raw.late_data) {
                ("wait-timeout", Some(timeout), _) => timeout.span(),
                ("late-data", _, LateData::RunAgain(again)) => again.run_again.span(),
                _ => name.span(),
            };
            let message = format!(
                "by its {setting} something may come for a partition of {:?} for the first time {} \
                 after its end, but partitions are kept for {}",
                name.get_ref(),
                days(needed),
                days(kept)
            );
            self.report(Mistake::at(place, message).help(LONGER));
        }
    }
}

const LONGER: &str = "what is older is not begun any more: lengthen [retention] partitions, or \
    shorten this";

/// Days have 24 hours here.
fn span(text: &str) -> Option<SignedDuration> {
    text.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
}
