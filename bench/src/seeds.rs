//! The design that sluicegate set out from, a few Lambda functions over three
//! tables, written straight in Rust. Instances of tasks and their file units are
//! created ahead; each object looks up its file unit, updates its task, and is
//! checked for completeness; a complete task goes into a batch, which is read
//! to see whether it is full. It publishes nothing and guards against nothing.

use std::collections::HashMap;

use anyhow::Context;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, ReturnValue, WriteRequest};
use futures::{StreamExt, TryStreamExt};

use crate::tables::create_table;
use crate::workload::{FILES, HOUR_OBJECTS, Load, Shape};

const TASK: &str = "seeds-task";
const FILE_UNIT: &str = "seeds-file-unit";
const BATCH: &str = "seeds-batch";
/// Instances that are created side by side.
const CREATED_MAX: usize = 20;

type Item = HashMap<String, AttributeValue>;

#[derive(Clone)]
pub struct Seeds {
    client: Client,
    load: Load,
}

impl Seeds {
    pub async fn open(client: Client, load: Load) -> anyhow::Result<Self> {
        create_table(&client, TASK, "task", None).await?;
        create_table(&client, FILE_UNIT, "file", Some("task")).await?;
        create_table(&client, BATCH, "batch", Some("task")).await?;
        Ok(Self { client, load })
    }

    /// Objects that complete an instance. A fourth file never comes.
    fn expected(&self) -> u32 {
        match self.load.shape {
            Shape::Arrivals => FILES.len() as u32 + 1,
            Shape::Tasks => FILES.len() as u32,
            Shape::Hours => HOUR_OBJECTS,
        }
    }

    fn elements(&self) -> &'static [&'static str] {
        match self.load.shape {
            Shape::Hours => &["objects"],
            Shape::Arrivals | Shape::Tasks => &FILES,
        }
    }

    /// Each instance with its file units, one call each.
    pub async fn create_ahead(&self, round: u32) -> anyhow::Result<()> {
        futures::stream::iter(self.load.instances(round))
            .map(|(task, period)| self.create(format!("{task}/{period}")))
            .buffer_unordered(CREATED_MAX)
            .try_collect()
            .await
    }

    async fn create(&self, instance: String) -> anyhow::Result<()> {
        let expected = AttributeValue::N(self.expected().to_string());
        let task = [("task", text(&instance)), ("state", text("waiting")), ("expected", expected)];
        let units = self.elements().iter().map(|element| {
            put([("file", text(format!("{instance}/{element}"))), ("task", text(&instance))])
        });
        let answer = self
            .client
            .batch_write_item()
            .request_items(TASK, vec![put(task)?])
            .request_items(FILE_UNIT, units.collect::<anyhow::Result<Vec<_>>>()?)
            .send()
            .await?;
        anyhow::ensure!(
            answer.unprocessed_items().is_none_or(HashMap::is_empty),
            "some items were not written"
        );
        Ok(())
    }

    pub async fn take(&self, instance: &str, element: &str) -> anyhow::Result<()> {
        let units = self
            .client
            .query()
            .table_name(FILE_UNIT)
            .key_condition_expression("#file = :file")
            .expression_attribute_names("#file", "file")
            .expression_attribute_values(":file", text(format!("{instance}/{element}")))
            .send()
            .await?;
        for unit in units.items() {
            let task = unit.get("task").and_then(|task| task.as_s().ok()).context("no task")?;
            if self.update(task, element).await? {
                self.batch(task).await?;
            }
        }
        Ok(())
    }

    /// Counts the object in; true when that was the last one.
    async fn update(&self, task: &str, element: &str) -> anyhow::Result<bool> {
        let answer = self
            .client
            .update_item()
            .table_name(TASK)
            .key("task", text(task))
            .update_expression("SET #last = :last ADD #count :one")
            .expression_attribute_names("#last", "last")
            .expression_attribute_names("#count", "count")
            .expression_attribute_values(":last", text(element))
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .return_values(ReturnValue::AllNew)
            .send()
            .await?;
        let item = answer.attributes.unwrap_or_default();
        Ok(item.get("count").is_some_and(|count| Some(count) == item.get("expected")))
    }

    /// Puts a complete task into the batch of its period, and reads the batch.
    async fn batch(&self, task: &str) -> anyhow::Result<()> {
        let period = task.split_once('/').map_or(task, |(_, period)| period);
        self.client
            .put_item()
            .table_name(BATCH)
            .item("batch", text(period))
            .item("task", text(task))
            .item("state", text("ready"))
            .send()
            .await?;
        self.client
            .query()
            .table_name(BATCH)
            .key_condition_expression("#batch = :batch")
            .expression_attribute_names("#batch", "batch")
            .expression_attribute_values(":batch", text(period))
            .limit(50)
            .send()
            .await?;
        Ok(())
    }
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn put<const N: usize>(item: [(&str, AttributeValue); N]) -> anyhow::Result<WriteRequest> {
    let item: Item = item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let put = PutRequest::builder().set_item(Some(item)).build()?;
    Ok(WriteRequest::builder().put_request(put).build())
}
