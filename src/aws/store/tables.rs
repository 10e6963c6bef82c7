//! The tables: made once, checked at every start.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableStatus,
};

use super::{Store, StoreError, item};
use crate::aws::error::{AwsError, Kind};

pub const DUE_INDEX: &str = "due";

/// A table's name and keys, and whether it has the due index.
struct Shape<'a> {
    name: &'a str,
    partition_key: &'static str,
    sort_key: Option<&'static str>,
    due_index: bool,
}

impl Store {
    fn shapes(&self) -> [Shape<'_>; 3] {
        [
            Shape {
                name: &self.task_table,
                partition_key: item::TASK,
                sort_key: Some(item::PARTITION),
                due_index: true,
            },
            Shape {
                name: &self.unit_table,
                partition_key: item::UNIT,
                sort_key: Some(item::ROW),
                due_index: false,
            },
            Shape {
                name: &self.run_table,
                partition_key: item::RUN_ID,
                sort_key: None,
                due_index: true,
            },
        ]
    }

    /// Creates what is missing of the tables; returns the names of those made.
    pub async fn create_tables(&self) -> Result<Vec<String>, StoreError> {
        let mut made = Vec::new();
        for shape in self.shapes() {
            if self.status(shape.name).await?.is_some() {
                continue;
            }
            self.create(&shape)
                .await
                .map_err(|error| AwsError::new("DynamoDB", "CreateTable", &error))?;
            made.push(shape.name.to_owned());
        }
        Ok(made)
    }

    /// The names of tables that are missing or not yet usable.
    pub async fn missing_tables(&self) -> Result<Vec<String>, StoreError> {
        let mut missing = Vec::new();
        for shape in self.shapes() {
            let status = self.status(shape.name).await?;
            if !matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
                missing.push(shape.name.to_owned());
            }
        }
        Ok(missing)
    }

    async fn status(&self, table: &str) -> Result<Option<TableStatus>, StoreError> {
        let answer = self.client.describe_table().table_name(table).send().await;
        match answer.map_err(|error| AwsError::new("DynamoDB", "DescribeTable", &error)) {
            Ok(answer) => Ok(answer.table.and_then(|table| table.table_status)),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(
        &self,
        shape: &Shape<'_>,
    ) -> Result<
        (),
        aws_sdk_dynamodb::error::SdkError<
            aws_sdk_dynamodb::operation::create_table::CreateTableError,
            aws_sdk_dynamodb::config::http::HttpResponse,
        >,
    > {
        use aws_sdk_dynamodb::error::SdkError;
        let failure =
            |error: aws_sdk_dynamodb::error::BuildError| SdkError::construction_failure(error);
        let key = |name: &str, kind| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build()
        };
        let attribute = |name: &str, kind| {
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
        };
        let mut request = self
            .client
            .create_table()
            .table_name(shape.name)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key(shape.partition_key, KeyType::Hash).map_err(failure)?)
            .attribute_definitions(
                attribute(shape.partition_key, ScalarAttributeType::S).map_err(failure)?,
            );
        if let Some(sort_key) = shape.sort_key {
            request = request
                .key_schema(key(sort_key, KeyType::Range).map_err(failure)?)
                .attribute_definitions(
                    attribute(sort_key, ScalarAttributeType::S).map_err(failure)?,
                );
        }
        if shape.due_index {
            let index = GlobalSecondaryIndex::builder()
                .index_name(DUE_INDEX)
                .key_schema(key(item::SHARD, KeyType::Hash).map_err(failure)?)
                .key_schema(key(item::DUE, KeyType::Range).map_err(failure)?)
                .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
                .build();
            request = request
                .global_secondary_indexes(index.map_err(failure)?)
                .attribute_definitions(
                    attribute(item::SHARD, ScalarAttributeType::S).map_err(failure)?,
                )
                .attribute_definitions(
                    attribute(item::DUE, ScalarAttributeType::N).map_err(failure)?,
                );
        }
        request.send().await.map(|_| ())
    }
}
