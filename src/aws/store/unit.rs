//! The journal of partitions with many objects, in the file-unit table: one
//! small row for each receive and partition, with the identities of its
//! objects, so that an hour of 500 objects costs 50 writes and duplicates do
//! not count.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use sha2::{Digest, Sha256};

use super::{Store, StoreError, item};
use crate::aws::error::AwsError;
use crate::core::partition::Partition;
use crate::core::task::Element;
use crate::planted::{Bug, planted};

const OBJECTS: &str = "objects";
/// Enough of a hash that two objects of a partition never share it.
const ID_BYTES: usize = 16;

/// Who an object is: bucket, key and version (or ETag), hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId([u8; ID_BYTES]);

impl ObjectId {
    pub fn new(bucket: &str, key: &str, version: &str) -> Self {
        let mut hash = Sha256::new();
        // Buckets and versions hold no newline, so the parts cannot run
        // into each other.
        hash.update(format!("{bucket}\n{version}\n{key}"));
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash.finalize()[..ID_BYTES]);
        Self(id)
    }
}

impl Store {
    /// Writes one row; the same objects give the same row again.
    pub async fn journal(
        &self,
        dataset: &str,
        partition: &Partition,
        objects: &BTreeSet<ObjectId>,
    ) -> Result<(), StoreError> {
        let ids: Vec<u8> = objects.iter().flat_map(|object| object.0).collect();
        let row: String =
            Sha256::digest(&ids)[..ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        let row = if planted(Bug::JournalOverwritten) { "row".to_owned() } else { row };
        self.client
            .put_item()
            .table_name(&self.unit_table)
            .item(item::UNIT, item::text(Element::data(dataset, *partition).to_string()))
            .item(item::ROW, item::text(row))
            .item(item::FORMAT, item::number(item::THIS_FORMAT))
            .item(OBJECTS, AttributeValue::B(Blob::new(ids)))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "PutItem", &error).into())
    }

    /// How many distinct objects a partition has got so far.
    pub async fn count_objects(
        &self,
        dataset: &str,
        partition: &Partition,
    ) -> Result<u64, StoreError> {
        let mut objects = BTreeSet::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.unit_table)
            .consistent_read(true)
            .key_condition_expression("#unit = :unit")
            .expression_attribute_names("#unit", item::UNIT)
            .expression_attribute_values(
                ":unit",
                item::text(Element::data(dataset, *partition).to_string()),
            )
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            for row in page.items.unwrap_or_default() {
                let ids = row.get(OBJECTS).and_then(|value| value.as_b().ok());
                let ids = ids.map_or(&[][..], |blob| blob.as_ref());
                objects.extend(ids.chunks_exact(ID_BYTES).map(<[u8]>::to_vec));
            }
        }
        Ok(objects.len() as u64)
    }
}
