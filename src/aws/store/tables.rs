//! The tables and their indexes: made once, checked at every start.

use std::time::Duration;

use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::run::{GLANCE, build_error};
use super::{Store, StoreError, item};
use crate::aws::error::{AwsError, Kind};

pub const DUE_INDEX: &str = "due";
pub const RECENT_INDEX: &str = "recent";

/// DynamoDB makes an index of a large table for longer: then it is tried again.
const USABLE_WITHIN: Duration = Duration::from_secs(300);

/// A table's name, keys and indexes.
pub(super) struct Shape<'a> {
    name: &'a str,
    partition_key: &'static str,
    sort_key: Option<&'static str>,
    indexes: &'static [Index],
}

/// A table as somebody needs to know it who names its items.
#[derive(Debug, Clone)]
pub struct KeyedTable {
    pub name: String,
    pub keys: Vec<&'static str>,
    /// The key of its indexes.
    pub shard: &'static str,
}

impl Shape<'_> {
    pub(super) fn keyed(&self) -> KeyedTable {
        let keys = [self.partition_key].into_iter().chain(self.sort_key).collect();
        KeyedTable { name: self.name.to_owned(), keys, shard: item::SHARD }
    }
}

/// An index by shard; its sort key makes it sparse or sorted.
struct Index {
    name: &'static str,
    sort_key: &'static str,
    sort_type: ScalarAttributeType,
    /// Attributes beside the keys.
    include: &'static [&'static str],
}

/// Only items that somebody has to look at have `due`.
const DUE: Index =
    Index { name: DUE_INDEX, sort_key: item::DUE, sort_type: ScalarAttributeType::N, include: &[] };

/// Run ids rise with time, so this is all runs by age.
const RECENT: Index = Index {
    name: RECENT_INDEX,
    sort_key: item::RUN_ID,
    sort_type: ScalarAttributeType::S,
    include: &GLANCE,
};

impl Store {
    pub(super) fn shapes(&self) -> [Shape<'_>; 3] {
        [
            Shape {
                name: &self.task_table,
                partition_key: item::TASK,
                sort_key: Some(item::PARTITION),
                indexes: &[DUE],
            },
            Shape {
                name: &self.unit_table,
                partition_key: item::UNIT,
                sort_key: Some(item::ROW),
                indexes: &[],
            },
            Shape {
                name: &self.run_table,
                partition_key: item::RUN_ID,
                sort_key: None,
                indexes: &[DUE, RECENT],
            },
        ]
    }

    /// Creates what is missing of the tables and of their indexes, and has DynamoDB
    /// delete what has expired; returns what was made.
    pub async fn create_tables(&self) -> Result<Vec<String>, StoreError> {
        let mut made = self.create_missing().await?;
        for table in self.tables_without_expiry().await? {
            self.enable_expiry(&table).await?;
            if !made.contains(&table) {
                made.push(expiry_words(&table));
            }
        }
        Ok(made)
    }

    async fn create_missing(&self) -> Result<Vec<String>, StoreError> {
        let mut made = Vec::new();
        for shape in self.shapes() {
            let Some(found) = self.describe(shape.name).await? else {
                self.create(&shape).await?;
                made.push(shape.name.to_owned());
                continue;
            };
            // DynamoDB adds one index at a time.
            for index in missing_indexes(&shape, &found) {
                self.add_index(&shape, index).await?;
                made.push(index_words(&shape, index));
            }
        }
        Ok(made)
    }

    /// The tables in which DynamoDB deletes nothing that has expired.
    pub async fn tables_without_expiry(&self) -> Result<Vec<String>, StoreError> {
        let mut without = Vec::new();
        for shape in self.shapes() {
            let answer = self
                .client
                .describe_time_to_live()
                .table_name(shape.name)
                .send()
                .await
                .map_err(|error| AwsError::new("DynamoDB", "DescribeTimeToLive", &error))?;
            let on = answer.time_to_live_description.is_some_and(|found| {
                found.attribute_name() == Some(item::EXPIRES)
                    && matches!(
                        found.time_to_live_status,
                        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
                    )
            });
            if !on {
                without.push(shape.name.to_owned());
            }
        }
        Ok(without)
    }

    /// A table has to be usable first: a new one is after some seconds, one with a
    /// new index after some minutes.
    async fn enable_expiry(&self, table: &str) -> Result<(), StoreError> {
        let usable = self.client.wait_until_table_exists().table_name(table);
        usable.wait(USABLE_WITHIN).await.map_err(|error| AwsError {
            service: "DynamoDB",
            action: "DescribeTable",
            kind: Kind::Deferred,
            message: format!("table {table} is not usable yet: try again later ({error})"),
        })?;
        let expiry = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(item::EXPIRES)
            .build()
            .map_err(build_error)?;
        self.client
            .update_time_to_live()
            .table_name(table)
            .time_to_live_specification(expiry)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "UpdateTimeToLive", &error).into())
    }

    /// The tables and indexes that are missing or not yet usable.
    pub async fn missing_tables(&self) -> Result<Vec<String>, StoreError> {
        let mut missing = Vec::new();
        for shape in self.shapes() {
            let found = self.describe(shape.name).await?;
            let usable = |table: &TableDescription| {
                matches!(table.table_status, Some(TableStatus::Active | TableStatus::Updating))
            };
            match found.filter(usable) {
                None => missing.push(shape.name.to_owned()),
                Some(found) => missing.extend(
                    missing_indexes(&shape, &found).map(|index| index_words(&shape, index)),
                ),
            }
        }
        Ok(missing)
    }

    async fn describe(&self, table: &str) -> Result<Option<TableDescription>, StoreError> {
        let answer = self.client.describe_table().table_name(table).send().await;
        match answer.map_err(|error| AwsError::new("DynamoDB", "DescribeTable", &error)) {
            Ok(answer) => Ok(answer.table),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self, shape: &Shape<'_>) -> Result<(), StoreError> {
        let mut keys = vec![key(shape.partition_key, KeyType::Hash).map_err(build_error)?];
        if let Some(sort_key) = shape.sort_key {
            keys.push(key(sort_key, KeyType::Range).map_err(build_error)?);
        }
        let indexes: Result<Vec<_>, _> = shape.indexes.iter().map(index).collect();
        let indexes = indexes.map_err(build_error)?;
        self.client
            .create_table()
            .table_name(shape.name)
            .billing_mode(BillingMode::PayPerRequest)
            .set_key_schema(Some(keys))
            .set_attribute_definitions(Some(attributes(shape).map_err(build_error)?))
            .set_global_secondary_indexes((!indexes.is_empty()).then_some(indexes))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "CreateTable", &error).into())
    }

    async fn add_index(&self, shape: &Shape<'_>, added: &Index) -> Result<(), StoreError> {
        let GlobalSecondaryIndex { index_name, key_schema, projection, .. } =
            index(added).map_err(build_error)?;
        let create = CreateGlobalSecondaryIndexAction::builder()
            .index_name(index_name)
            .set_key_schema(Some(key_schema))
            .set_projection(projection)
            .build()
            .map_err(build_error)?;
        self.client
            .update_table()
            .table_name(shape.name)
            .set_attribute_definitions(Some(attributes(shape).map_err(build_error)?))
            .global_secondary_index_updates(
                GlobalSecondaryIndexUpdate::builder().create(create).build(),
            )
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "UpdateTable", &error).into())
    }
}

fn missing_indexes<'a>(
    shape: &'a Shape<'_>,
    found: &'a TableDescription,
) -> impl Iterator<Item = &'static Index> + use<'a> {
    shape.indexes.iter().filter(|index| {
        let there = found.global_secondary_indexes().iter();
        !there.filter_map(|there| there.index_name()).any(|name| name == index.name)
    })
}

fn expiry_words(table: &str) -> String {
    format!("expiry of {table}")
}

fn index_words(shape: &Shape<'_>, index: &Index) -> String {
    format!("index {} of {}", index.name, shape.name)
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, BuildError> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build()
}

fn index(index: &Index) -> Result<GlobalSecondaryIndex, BuildError> {
    let projection = match index.include {
        [] => Projection::builder().projection_type(ProjectionType::KeysOnly),
        names => Projection::builder()
            .projection_type(ProjectionType::Include)
            .set_non_key_attributes(Some(names.iter().map(ToString::to_string).collect())),
    };
    GlobalSecondaryIndex::builder()
        .index_name(index.name)
        .key_schema(key(item::SHARD, KeyType::Hash)?)
        .key_schema(key(index.sort_key, KeyType::Range)?)
        .projection(projection.build())
        .build()
}

/// Every attribute that is a key of the table or of one of its indexes.
fn attributes(shape: &Shape<'_>) -> Result<Vec<AttributeDefinition>, BuildError> {
    let text = ScalarAttributeType::S;
    let mut found = vec![(shape.partition_key, text.clone())];
    found.extend(shape.sort_key.map(|name| (name, text.clone())));
    if !shape.indexes.is_empty() {
        found.push((item::SHARD, text));
    }
    for index in shape.indexes {
        if !found.iter().any(|(name, _)| *name == index.sort_key) {
            found.push((index.sort_key, index.sort_type.clone()));
        }
    }
    let definitions = found.into_iter().map(|(name, kind)| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
    });
    definitions.collect()
}
