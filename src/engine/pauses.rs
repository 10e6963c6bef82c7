//! A turn of one pause: publishes its notices. That it holds what is ready is
//! seen to where batches are made (see `batches`).

use jiff::Timestamp;

use super::Engine;
use super::outbox::Published;
use crate::aws::store::StoreError;
use crate::core::pause::Scope;

impl Engine {
    pub(super) async fn turn_pause(&self, scope: &Scope) -> Result<Option<Timestamp>, StoreError> {
        let Some(mut pause) = self.store.pause(scope).await? else { return Ok(None) };
        let owner = format!("pause {scope}");
        let Published { count, again } = self.publish(&owner, &pause.notices).await;
        if count > 0 {
            pause.notices.drain(..count);
            self.store.commit_document(&mut pause).await?;
        }
        self.metrics.pending(&owner, &pause.notices);
        Ok(again)
    }
}
