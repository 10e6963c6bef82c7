//! The floor of throughput: one conditional update for each message, and
//! nothing else. It decides nothing and would lose work at a crash.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::tables::create_table;
use crate::workload::{Load, Shape};

const TABLE: &str = "bare-task";

#[derive(Clone)]
pub struct Bare {
    client: Client,
    load: Load,
}

impl Bare {
    pub async fn open(client: Client, load: Load) -> anyhow::Result<Self> {
        create_table(&client, TABLE, "task", None).await?;
        Ok(Self { client, load })
    }

    pub async fn take(&self, instance: &str, element: &str, version: &str) -> anyhow::Result<()> {
        let update = self
            .client
            .update_item()
            .table_name(TABLE)
            .key("task", AttributeValue::S(instance.to_owned()));
        let update = match self.load.shape {
            // A list of 500 objects would grow beyond one write unit.
            Shape::Hours => update
                .update_expression("ADD #count :one")
                .condition_expression("attribute_not_exists(#closed)")
                .expression_attribute_names("#count", "count")
                .expression_attribute_names("#closed", "closed")
                .expression_attribute_values(":one", AttributeValue::N("1".to_owned())),
            Shape::Arrivals | Shape::Tasks => update
                .update_expression("SET #in = :version")
                .condition_expression("attribute_not_exists(#in) OR #in <> :version")
                .expression_attribute_names("#in", element)
                .expression_attribute_values(":version", AttributeValue::S(version.to_owned())),
        };
        match update.send().await {
            Ok(_) => Ok(()),
            // A duplicate: its effect is there.
            Err(SdkError::ServiceError(error))
                if error.err().is_conditional_check_failed_exception() =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
