//! What a run has room for: how large it may begin, how many tries it may make,
//! which words of EMR and which notices it keeps while SNS does not take them;
//! so that it can always be stored and its cluster ended. Not for what notices say: that is `words`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Run;
use crate::core::notice::{Fact, Notice, Severity, clipped};

/// DynamoDB takes 400 KB for an item; what stands beside the document needs
/// little of it.
const DOCUMENT_BYTES_MAX: usize = 390_000;
/// What all notices may take, and what is theirs however large the rest is: a
/// new run leaves that much room.
const NOTICES_BYTES_MAX: usize = 100_000;
const NOTICES_BYTES_MIN: usize = 32_000;
/// One notice takes no more, so that the important ones always have room.
const NOTICE_BYTES_MAX: usize = 8_000;
/// Each text of a notice that is too long is clipped to the first of these
/// that makes it fit.
const CLIPS: [usize; 6] = [1_500, 1_000, 500, 250, 100, 40];
/// The notice that stands for those left out takes no more.
const LEFT_OUT_BYTES: usize = 1_500;
/// What a try may grow to, with EMR's words for its failure.
const TRY_BYTES: usize = 1_000;
/// What a member's end may add: the reason of a failure, and the log wanted.
const END_BYTES: usize = 1_500;
/// A new run leaves room for its tries and notices.
const NEW_BYTES_MAX: usize = 340_000;
/// EMR's words are stored with what they are about, and there are many tries:
/// clipped to the first of these that makes them fit.
const WORDS_CHARS: [usize; 3] = [500, 250, 100];
const WORDS_BYTES_MAX: usize = 650;
const LEFT_OUT: &str = "left-out";

/// What may be left out when there is no room, the first of it first. A
/// failure and the run's end are never left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A retry of a step that was retried again since.
    OldRetry,
    Retry,
    News,
    Warning,
}

impl Run {
    /// Keeps a notice until SNS has accepted it.
    pub(super) fn tell(&mut self, notice: Notice) {
        if notice.severity == Severity::Failure || !self.is_of_backfills() {
            self.notices.push(fitting(notice));
        }
    }

    /// Whether summaries of backfills tell how it goes.
    fn is_of_backfills(&self) -> bool {
        let mut members = self.members.iter();
        !self.members.is_empty() && members.all(|member| member.round.backfill.is_some())
    }

    /// SNS has accepted the first so many notices.
    pub fn published(&mut self, count: usize) {
        self.notices.drain(..count.min(self.notices.len()));
        if !self.notices.iter().any(|notice| notice.status == LEFT_OUT) {
            self.left_out = 0;
        }
    }

    /// Whether there is room for the end of a log; otherwise it waits, since
    /// it can be read again.
    pub(super) fn has_room_for_log(&self) -> bool {
        let bytes = stored_bytes(&self.notices);
        bytes < NOTICES_BYTES_MIN / 2 || bytes < self.room_for_notices() / 2
    }

    /// Leaves out what there is no room for, and says how much that is.
    pub(super) fn bound_notices(&mut self) {
        let mut bytes = stored_bytes(&self.notices);
        if bytes <= NOTICES_BYTES_MIN {
            return;
        }
        // The one that stands for those left out needs room, too.
        let room = self.room_for_notices().saturating_sub(LEFT_OUT_BYTES);
        let mut left_out = BTreeSet::new();
        for index in least_first(&self.notices) {
            if bytes <= room {
                break;
            }
            bytes = bytes.saturating_sub(stored_bytes(&self.notices[index]));
            left_out.insert(index);
        }
        self.leave_out(&left_out);
    }

    fn room_for_notices(&self) -> usize {
        let rest = stored_bytes(self).saturating_sub(stored_bytes(&self.notices));
        DOCUMENT_BYTES_MAX.saturating_sub(rest).clamp(NOTICES_BYTES_MIN, NOTICES_BYTES_MAX)
    }

    /// For how many more tries of steps the document has room; at least one, or
    /// the run could never end.
    pub(super) fn room_for_tries(&self) -> usize {
        let rest = stored_bytes(self).saturating_sub(stored_bytes(&self.notices));
        let kept = NOTICES_BYTES_MIN + self.bytes_of_ends();
        let room = DOCUMENT_BYTES_MAX.saturating_sub(kept + rest);
        (room / TRY_BYTES).max(1)
    }

    /// Whether a new run leaves room for all that is yet to come. One that could
    /// not be written any more could not end its cluster.
    pub fn is_small_enough(&self) -> bool {
        stored_bytes(self) + self.bytes_of_ends() <= NEW_BYTES_MAX
    }

    fn bytes_of_ends(&self) -> usize {
        END_BYTES * self.members.iter().filter(|member| member.outcome.is_none()).count()
    }

    /// These notices go. One stands for all that ever went, where the first
    /// of them was.
    fn leave_out(&mut self, indexes: &BTreeSet<usize>) {
        let Some(last) = indexes.last().and_then(|index| self.notices.get(*index)) else { return };
        // Its id differs whenever it stands for more.
        let last = last.id.strip_prefix(&format!("run/{}/", self.id)).unwrap_or_default();
        let event = format!("{LEFT_OUT}/{last}");
        let gone = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
        self.left_out = self.left_out.saturating_add(gone);
        let (mut kept, mut place) = (Vec::new(), None);
        for (index, notice) in std::mem::take(&mut self.notices).into_iter().enumerate() {
            if indexes.contains(&index) || notice.status == LEFT_OUT {
                place.get_or_insert((kept.len(), notice.at));
            } else {
                kept.push(notice);
            }
        }
        self.notices = kept;
        if let Some((place, since)) = place {
            let notice = self.left_out_notice(&event, since);
            self.notices.insert(place, notice);
        }
    }
}

/// What may be left out: what matters least first, then the oldest.
fn least_first(notices: &[Notice]) -> Vec<usize> {
    let mut retried = BTreeSet::new();
    let mut ranks = BTreeSet::new();
    for (index, notice) in notices.iter().enumerate().rev() {
        let rank = match (notice.status.as_str(), notice.severity) {
            (LEFT_OUT | "run-succeeded" | "run-failed" | "run-cancelled", _)
            | (_, Severity::Failure) => continue,
            // `run/R/1/step-failed/etl/2013-01-01/x/7`, of which 7 is the try.
            ("step-failed", _) => {
                let step = notice.id.rsplit_once('/').map_or("", |(step, _)| step);
                if retried.insert(step) { Rank::Retry } else { Rank::OldRetry }
            }
            (_, Severity::Info) => Rank::News,
            (_, Severity::Warning | Severity::Lateness | Severity::Recovery) => Rank::Warning,
        };
        ranks.insert((rank, index));
    }
    ranks.into_iter().map(|(_, index)| index).collect()
}

/// EMR's words, as short as there is room for them.
pub(super) fn words_kept(words: &str) -> String {
    let mut kept = words.to_owned();
    for chars in WORDS_CHARS {
        kept = clipped(words, chars);
        if stored_bytes(&kept) <= WORDS_BYTES_MAX {
            break;
        }
    }
    kept
}

/// The notice with its texts clipped, if it would take too much.
fn fitting(mut notice: Notice) -> Notice {
    for chars in CLIPS {
        if stored_bytes(&notice) <= NOTICE_BYTES_MAX {
            break;
        }
        for Fact { text, .. } in &mut notice.facts {
            *text = clipped(text, chars);
        }
        notice.sentence = clipped(&notice.sentence, chars);
        notice.quote = clipped(&notice.quote, chars);
    }
    notice
}

/// As much as it takes of the document.
pub(super) fn stored_bytes(value: &impl Serialize) -> usize {
    // Strings, numbers and instants: JSON can hold each.
    serde_json::to_vec(value).map_or(0, |bytes| bytes.len())
}
