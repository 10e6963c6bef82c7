//! Folded repeats: asks before a notice goes out whether it repeats another, and
//! tells the summary when the time of that is over. Why so: see `core::fold`.

use jiff::Timestamp;

use super::{Engine, Key};
use crate::aws::store::{Folding, StoreError};
use crate::core::fold::Likeness;
use crate::core::notice::Notice;
use crate::planted::{Bug, planted};

impl Engine {
    /// Whether a notice repeats one that was told shortly before. Then it is stored
    /// that a summary has to name it.
    pub(super) async fn is_folded(&self, notice: &Notice) -> Result<bool, StoreError> {
        let Some(likeness) = Likeness::of(notice).filter(|_| !self.fold_window.is_zero()) else {
            return Ok(false);
        };
        let now = self.clock.now();
        let until = super::after(now, self.fold_window);
        let slot = Key::Fold(likeness.slot.clone());
        if planted(Bug::NotNamedInWindow) && self.store.folded(&likeness.slot).await?.is_some() {
            return Ok(true);
        }
        match self.store.fold(&likeness, notice, now, until).await? {
            Folding::In(fold) => {
                let look = if fold.is_over(now) { now } else { fold.until };
                self.agenda.wake(slot, look);
                Ok(fold.repeats(notice))
            }
            // It is told at once, and begins a window when it comes again later.
            Folding::Not(fold) => {
                if fold.is_over(now) {
                    self.agenda.wake(slot, now);
                }
                Ok(false)
            }
        }
    }

    /// Tells the summary of a window that is over, and makes room for the next.
    pub(super) async fn turn_fold(&self, slot: &str) -> Result<Option<Timestamp>, StoreError> {
        let Some(fold) = self.store.folded(slot).await? else { return Ok(None) };
        let now = self.clock.now();
        if !fold.is_over(now) {
            return Ok(Some(fold.until));
        }
        if let Some(summary) = fold.summary(self.fold_window, now) {
            let owner = format!("fold {slot}");
            let published = self.publish(&owner, std::slice::from_ref(&summary)).await;
            let again = published.again.filter(|_| !planted(Bug::SummaryNotAwaited));
            if let Some(again) = again {
                return Ok(Some(again));
            }
        }
        self.store.end_fold(&fold).await?;
        Ok(None)
    }
}
