//! Tells people that a task partition is late, and that it has recovered, each
//! once: the notice and that it was told are one write. When and what: see
//! `core::lateness`.

use jiff::Timestamp;

use super::Engine;
use super::why::why;
use crate::aws::error::with_causes;
use crate::aws::store::StoreError;
use crate::core::catalog::{Catalog, Task};
use crate::core::lateness::{News, look, notices};
use crate::core::task::TaskPartition;
use crate::planted::{Bug, planted};

impl Engine {
    /// Tells what the partition's clock says now; returns when to look again.
    pub(super) async fn tell_lateness(
        &self,
        catalog: &Catalog,
        item: &mut TaskPartition,
    ) -> Result<Option<Timestamp>, StoreError> {
        let Some(task) = catalog.tasks.get(&item.key.task) else { return Ok(None) };
        let now = self.clock.now();
        let looked = look(task, item, now);
        let Some(news) = looked.news else { return Ok(looked.next) };
        let words = self.why_now(catalog, task, item, now).await?;
        let notices = notices(task, item, &news, &words, now);
        match &news {
            News::Late(_) if planted(Bug::LatenessNotMarked) => {}
            News::Late(late) => item.told.extend(late.iter().cloned()),
            News::Over => (item.failed, item.told) = (None, Vec::new()),
        }
        self.store.tell_lateness(item, &notices, now).await?;
        let (task, partition, run) = (&item.key.task, item.key.partition, &item.run);
        for notice in &notices {
            tracing::info!(task, %partition, run, status = notice.status, words, "lateness");
        }
        item.version += 1;
        item.due = Some(now);
        item.notices.extend(notices);
        Ok(looked.next)
    }

    /// What `sluicegate why` says. What cannot be read must not keep people from
    /// being told.
    async fn why_now(
        &self,
        catalog: &Catalog,
        task: &Task,
        item: &TaskPartition,
        now: Timestamp,
    ) -> Result<String, StoreError> {
        match why(&self.store, catalog, task, &item.key, Some(item), now).await {
            Ok(why) => Ok(why.sentence),
            Err(error @ (StoreError::Unreadable { .. } | StoreError::Newer { .. })) => {
                let state = item.state.name();
                Ok(format!(
                    "{} is {state}; more cannot be read: {}.",
                    item.key,
                    with_causes(&error)
                ))
            }
            Err(error) => Err(error),
        }
    }
}
