//! A turn of one pause: publishes its notices. That it holds what is ready is
//! seen to where batches are made (see `batches`).

use jiff::Timestamp;

use super::{Engine, outbox};
use crate::aws::store::StoreError;
use crate::core::pause::Scope;

impl Engine {
    pub(super) async fn turn_pause(&self, scope: &Scope) -> Result<Option<Timestamp>, StoreError> {
        let Some(mut pause) = self.store.pause(scope).await? else { return Ok(None) };
        let published = self.publish(&pause.notices).await;
        if published > 0 {
            pause.notices.drain(..published);
            self.store.commit_document(&mut pause).await?;
        }
        self.metrics.pending(&format!("pause {scope}"), &pause.notices);
        match pause.notices.is_empty() {
            true => Ok(None),
            false => Ok(Some(super::after(self.clock.now(), outbox::RETRY_AFTER))),
        }
    }
}
