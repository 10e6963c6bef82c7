//! The last good text of each task file, in the task table: a restart with a
//! broken file goes on with what was in force.

use std::collections::BTreeMap;

use super::{Store, StoreError, item};
use crate::aws::error::AwsError;

/// Where task files stand among the tasks, whose names have no `~`.
const FILES: &str = "~files";
const TEXT: &str = "text";
/// Says that all files that were first in force are kept.
const ALL: &str = "~all";

/// The task files of the last time.
#[derive(Debug, Default)]
pub struct Kept {
    /// By name.
    pub texts: BTreeMap<String, String>,
    /// Not while the first of them are being kept: then some may be missing.
    pub complete: bool,
}

impl Store {
    /// All task files in force.
    pub async fn task_files(&self) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        let mut pages = self
            .client
            .query()
            .table_name(&self.task_table)
            .consistent_read(true)
            .key_condition_expression("#task = :files")
            .expression_attribute_names("#task", item::TASK)
            .expression_attribute_values(":files", item::text(FILES))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            for item in page.items.unwrap_or_default() {
                let name = item::read_optional_text(&item, item::PARTITION);
                kept.complete |= name.as_deref() == Some(ALL);
                // A file that has been removed has no text.
                kept.texts.extend(name.zip(item::read_optional_text(&item, TEXT)));
            }
        }
        Ok(kept)
    }

    /// All task files that are in force are kept now.
    pub async fn task_files_are_complete(&self) -> Result<(), StoreError> {
        self.keep_task_file(ALL, None).await
    }

    /// Keeps a file's text; without a text it has been removed.
    pub async fn keep_task_file(&self, name: &str, text: Option<&str>) -> Result<(), StoreError> {
        let mut request = self
            .client
            .put_item()
            .table_name(&self.task_table)
            .item(item::TASK, item::text(FILES))
            .item(item::PARTITION, item::text(name))
            .item(item::FORMAT, item::number(item::THIS_FORMAT));
        if let Some(text) = text {
            request = request.item(TEXT, item::text(text));
        }
        request
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("DynamoDB", "PutItem", &error).into())
    }
}
