//! What a run takes as the inputs of its task partitions: which objects, in
//! which versions. Stored before the run is. Not for what is received.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use super::Engine;
use crate::aws::store::{Input, StoreError};
use crate::core::catalog::{Catalog, Completeness};
use crate::core::task::{Element, Receipt, TaskPartition};

/// Task partitions, and inputs of one, that are read side by side.
const SIDE_BY_SIDE_MAX: usize = 8;

impl Engine {
    /// Stores what a run is about to take as the inputs of these partitions.
    pub(super) async fn store_inputs(
        &self,
        catalog: &Catalog,
        run: &str,
        items: Vec<TaskPartition>,
    ) -> Result<(), StoreError> {
        futures::stream::iter(items)
            .map(|item| async move {
                let inputs = self.inputs_of(catalog, &item).await?;
                match inputs.is_empty() {
                    true => Ok(()),
                    false => {
                        let now = self.clock.now();
                        self.store.write_inputs(run, &item.key, &inputs, now).await
                    }
                }
            })
            .buffer_unordered(SIDE_BY_SIDE_MAX)
            .try_collect()
            .await
    }

    async fn inputs_of(
        &self,
        catalog: &Catalog,
        item: &TaskPartition,
    ) -> Result<Vec<Input>, StoreError> {
        let mut received = item.received.clone();
        received.retain(|_, receipt| !receipt.is_empty());
        futures::stream::iter(received)
            .map(|(element, receipt)| self.input_of(catalog, element, receipt))
            .buffered(SIDE_BY_SIDE_MAX)
            .try_filter_map(|input| async move { Ok(input) })
            .try_collect()
            .await
    }

    /// None for a slot, and for a dataset that is no longer declared.
    async fn input_of(
        &self,
        catalog: &Catalog,
        element: Element,
        receipt: Receipt,
    ) -> Result<Option<Input>, StoreError> {
        let Element::Data { dataset, partition } = &element else { return Ok(None) };
        let Some(dataset) = catalog.datasets.get(dataset) else { return Ok(None) };
        let mut place = dataset.location.uri_of(partition);
        if let Completeness::Marker { name } = &dataset.completeness {
            place.push_str(name);
        }
        let rows = match &dataset.completeness {
            Completeness::Marker { .. } if dataset.list => {
                self.journal_beside_marker(catalog, dataset, partition).await?
            }
            _ if dataset.is_journalled() => {
                self.store.read_journal(&dataset.name, partition, None).await?.rows
            }
            _ => BTreeSet::new(),
        };
        Ok(Some(Input { element, receipt, place, rows }))
    }
}
