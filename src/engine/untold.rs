//! Objects that something is wrong with, in memory until people are told: of all
//! together, once an hour. Which those are: see `listing` and `retention`.

use jiff::{SignedDuration, Timestamp};

use super::listing::Listings;
use super::{Engine, after};
use crate::core::listing::Found;
use crate::core::notice::Notice;

const TELL_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// What people have yet to hear of.
#[derive(Default)]
pub(super) struct Untold {
    pub found: Found,
    told: Option<Timestamp>,
}

impl Engine {
    /// Tells people of objects, once an hour for all together; returns when there is
    /// something left to tell.
    pub(super) async fn tell(
        &self,
        untold: impl Fn(&mut Listings) -> &mut Untold,
        notice: impl Fn(&Found, String, Timestamp) -> Notice,
    ) -> Option<Timestamp> {
        let now = self.clock.now();
        let (found, told) = {
            let mut memory = self.memory();
            let untold = untold(&mut memory.listings);
            (untold.found.clone(), untold.told)
        };
        let due = told.map_or(now, |told| after(told, TELL_EVERY));
        if found.is_empty() {
            return None;
        }
        if due > now {
            return Some(due);
        }
        let notice = notice(&found, format!("listing/{}", self.new_id()), now);
        if !self.announce(&notice).await {
            return Some(after(self.clock.now(), super::outbox::RETRY_AFTER));
        }
        let mut memory = self.memory();
        let untold = untold(&mut memory.listings);
        untold.told = Some(now);
        if untold.found == found {
            untold.found = Found::default();
            return None;
        }
        // More was found while SNS was asked; some is told twice.
        Some(after(now, TELL_EVERY))
    }
}
