//! How fast notices go out: at most so many in any second, because SNS sends no
//! more to a mailbox and drops the rest. Whoever has to wait keeps a place, so
//! that all go in the order in which they came. Not for publishing.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// Who does not come back for so long loses the place.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// Gives out permits to publish one notice each. Times are those of the clock
/// that it is asked with.
#[derive(Debug)]
pub struct Pace {
    per_second: usize,
    /// The permits of the last second, the oldest first.
    given: VecDeque<Timestamp>,
    /// Who waits, in order, and when each was told to come back.
    waiting: Vec<(String, Timestamp)>,
}

impl Pace {
    /// At least one a second.
    pub fn new(per_second: u32) -> Self {
        let per_second = usize::try_from(per_second.max(1)).unwrap_or(usize::MAX);
        Self { per_second, given: VecDeque::new(), waiting: Vec::new() }
    }

    /// Takes a permit for `who`, or says when to come back for it.
    pub fn take(&mut self, who: &str, now: Timestamp) -> Result<(), Timestamp> {
        self.pass_to(now);
        let place = self.waiting.iter().position(|(waiting, _)| waiting == who);
        let at = self.time_of(place.unwrap_or(self.waiting.len()), now);
        match (at <= now, place) {
            (true, place) => {
                self.given.push_back(now);
                if let Some(place) = place {
                    self.waiting.remove(place);
                }
                return Ok(());
            }
            (false, Some(place)) => self.waiting[place].1 = at,
            (false, None) => self.waiting.push((who.to_owned(), at)),
        }
        Err(at)
    }

    /// The same ahead of all who wait, for what cannot come back later.
    pub fn take_first(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.pass_to(now);
        let at = self.time_of(0, now);
        if at > now {
            return Err(at);
        }
        self.given.push_back(now);
        Ok(())
    }

    /// `who` has nothing to publish any more: another replica may have done it.
    pub fn leave(&mut self, who: &str) {
        self.waiting.retain(|(waiting, _)| waiting != who);
    }

    /// When whoever has so many before him may go.
    fn time_of(&self, ahead: usize, now: Timestamp) -> Timestamp {
        let free = self.per_second.saturating_sub(self.given.len());
        let Some(behind) = ahead.checked_sub(free) else { return now };
        // Every permit comes back a second after it was given; those that are
        // free now are given now, after the others.
        let (rounds, slot) = (behind / self.per_second, behind % self.per_second);
        let given = self.given.get(slot).copied().unwrap_or(now);
        let rounds = i64::try_from(rounds).unwrap_or(i64::MAX).saturating_add(1);
        given.saturating_add(SignedDuration::from_secs(rounds)).unwrap_or(Timestamp::MAX)
    }

    /// Forgets what is over. A clock that was set back must stop nobody for longer
    /// than a second.
    fn pass_to(&mut self, now: Timestamp) {
        for given in &mut self.given {
            *given = (*given).min(now);
        }
        while self.given.front().is_some_and(|given| now.duration_since(*given) >= SECOND) {
            self.given.pop_front();
        }
        self.waiting.retain(|(_, at)| now.duration_since(*at) <= PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_357_000_000_000 + millis).unwrap()
    }

    #[test]
    fn gives_so_many_a_second_and_then_one_place_after_another() {
        let mut pace = Pace::new(2);
        let mut take = |who: &str, millis| pace.take(who, at(millis));
        assert_eq!((take("a", 0), take("b", 300)), (Ok(()), Ok(())));
        assert_eq!(take("c", 400), Err(at(1_000)));
        assert_eq!(take("d", 400), Err(at(1_300)));
        assert_eq!(take("e", 400), Err(at(2_000)));
        // Asking again keeps the place; a newcomer does not get ahead.
        assert_eq!(take("f", 1_000), Err(at(2_300)));
        assert_eq!(take("d", 1_000), Err(at(1_300)));
        assert_eq!(take("c", 1_000), Ok(()));
        assert_eq!(take("d", 1_300), Ok(()));
    }

    #[test]
    fn a_thousand_notices_go_in_order_and_never_more_than_ten_in_a_second() {
        let mut pace = Pace::new(10);
        let mut agenda: BTreeSet<_> = (0..1_000).map(|who| (at(0), who)).collect();
        let (mut asked, mut gone) = (0, Vec::new());
        while let Some((now, who)) = agenda.pop_first() {
            asked += 1;
            match pace.take(&who.to_string(), now) {
                Ok(()) => gone.push((now, who)),
                Err(until) => assert!(until > now && agenda.insert((until, who))),
            }
        }
        assert!(gone.iter().map(|(_, who)| *who).eq(0..1_000));
        let eleven = gone.windows(11).map(|some| some[10].0.duration_since(some[0].0));
        assert!(eleven.min() >= Some(SECOND));
        assert_eq!(gone[999].0, at(99_000));
        assert_eq!(asked, 1_990, "each asks once and comes back once");
    }

    #[test]
    fn whoever_has_gone_and_a_clock_set_back_hold_up_nobody() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.take("a", at(0)), Ok(()));
        assert_eq!(pace.take("gone", at(0)), Err(at(1_000)));
        assert_eq!(pace.take("b", at(11_001)), Ok(()));
        assert_eq!(pace.take("c", at(2_000)), Err(at(3_000)));
        assert_eq!(pace.take("d", at(2_000)), Err(at(4_000)));
        pace.leave("c");
        assert_eq!(pace.take("d", at(3_000)), Ok(()));
    }

    #[test]
    fn what_cannot_come_back_goes_first() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.take("a", at(0)), Ok(()));
        assert_eq!(pace.take("b", at(0)), Err(at(1_000)));
        assert_eq!(pace.take_first(at(500)), Err(at(1_000)));
        assert_eq!(pace.take_first(at(1_000)), Ok(()));
        assert_eq!(pace.take("b", at(1_000)), Err(at(2_000)));
    }
}
