//! What a run took as the inputs of a task partition, in the file-unit table:
//! written before the run is, so that every run has it. Of many-object datasets
//! it names the journal's rows, which never change, so that a month of hours
//! takes kilobytes. Not for what is received (see `task`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::unit::RowId;
use super::{Store, StoreError, item};
use crate::aws::error::AwsError;
use crate::core::task::{Element, Receipt, TaskKey, Unreadable};

/// No dataset's name has a `~`.
pub(super) const UNIT_PREFIX: &str = "~inputs/";
const INPUTS: &str = "inputs";
/// DynamoDB takes 400 KB for an item; more goes into the next one.
const ITEM_BYTES_MAX: usize = 200_000;
const ROWS_MAX: usize = 4_000;

/// One input partition as a run took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub element: Element,
    pub receipt: Receipt,
    /// `s3://…`: the object, or the prefix of many.
    pub place: String,
    /// The journal's rows that were there.
    pub rows: BTreeSet<RowId>,
}

/// The same as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    element: String,
    receipt: String,
    place: String,
    /// Names of rows, one after the other.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    rows: String,
}

impl Stored {
    /// Of an input with many rows, several.
    fn all_of(input: &Input) -> Vec<Self> {
        let rows: Vec<_> = input.rows.iter().map(|row| row.text()).collect();
        let one = |rows: &[String]| Stored {
            element: input.element.to_string(),
            receipt: input.receipt.to_string(),
            place: input.place.clone(),
            rows: rows.concat(),
        };
        match rows.is_empty() {
            true => vec![one(&[])],
            false => rows.chunks(ROWS_MAX).map(one).collect(),
        }
    }

    fn read(self) -> Result<Input, Unreadable> {
        let rows = RowId::all_of(&self.rows).ok_or_else(|| Unreadable::new("rows", &self.rows))?;
        let (element, receipt) = (self.element.parse()?, self.receipt.parse()?);
        Ok(Input { element, receipt, place: self.place, rows })
    }
}

/// The texts of the items that hold the inputs.
fn texts(inputs: &[Input]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for stored in inputs.iter().flat_map(Stored::all_of) {
        // Strings: JSON can hold each.
        let stored = serde_json::to_string(&stored).unwrap_or_default();
        match texts.last_mut().filter(|text| text.len() + stored.len() < ITEM_BYTES_MAX) {
            Some(text) => {
                text.push('\n');
                text.push_str(&stored);
            }
            None => texts.push(stored),
        }
    }
    texts
}

fn read(texts: &[&str]) -> Result<Vec<Input>, Unreadable> {
    let mut inputs: BTreeMap<Element, Input> = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let stored: Stored =
            serde_json::from_str(line).map_err(|_| Unreadable::new(INPUTS, line))?;
        let input = stored.read()?;
        match inputs.get_mut(&input.element) {
            Some(known) => known.rows.extend(input.rows),
            None => drop(inputs.insert(input.element.clone(), input)),
        }
    }
    Ok(inputs.into_values().collect())
}

fn unit(key: &TaskKey) -> String {
    format!("{UNIT_PREFIX}{}@{}", key.task, key.partition)
}

impl Store {
    /// Stores what a run takes as a task partition's inputs, `now`; harmless when
    /// repeated, and when the run comes to nothing.
    pub async fn write_inputs(
        &self,
        run: &str,
        key: &TaskKey,
        inputs: &[Input],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let expires = self.retention.beside_expires(now.max(key.partition.end()));
        for (number, text) in texts(inputs).into_iter().enumerate() {
            self.client
                .put_item()
                .table_name(&self.unit_table)
                .set_item(item::expiring(expires))
                .item(item::UNIT, item::text(unit(key)))
                .item(item::ROW, item::text(format!("{run}/{number:04}")))
                .item(item::FORMAT, item::number(item::THIS_FORMAT))
                .item(INPUTS, item::text(text))
                .send()
                .await
                .map_err(|error| AwsError::new("DynamoDB", "PutItem", &error))?;
        }
        Ok(())
    }

    /// What a run took as a task partition's inputs; empty when nothing is stored
    /// of it, as for runs of older versions.
    pub async fn read_inputs(&self, run: &str, key: &TaskKey) -> Result<Vec<Input>, StoreError> {
        let mut items = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.unit_table)
            .consistent_read(true)
            .key_condition_expression("#unit = :unit AND begins_with(#row, :run)")
            .expression_attribute_names("#unit", item::UNIT)
            .expression_attribute_names("#row", item::ROW)
            .expression_attribute_values(":unit", item::text(unit(key)))
            .expression_attribute_values(":run", item::text(format!("{run}/")))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::new("DynamoDB", "Query", &error))?;
            items.extend(page.items.unwrap_or_default());
        }
        let texts: Result<Vec<_>, _> = items
            .iter()
            .map(|found| item::check_format(found).and_then(|()| item::read_text(found, INPUTS)))
            .collect();
        texts.and_then(|texts| read(&texts)).map_err(|source| StoreError::Unreadable {
            table: self.unit_table.clone(),
            key: format!("{} {run}", unit(key)),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_of_hours_is_cut_into_items_and_reads_back() {
        let row = |number: u32| RowId::parse(&format!("{number:032x}")).unwrap();
        let inputs: Vec<_> = (0..744u32)
            .map(|hour| Input {
                element: format!("raw@2013-01-{:02}T{:02}", 1 + hour / 24, hour % 24)
                    .parse()
                    .unwrap(),
                receipt: Receipt::Closed(500),
                place: format!("s3://landing/raw/2013/01/{:02}/{:02}/", 1 + hour / 24, hour % 24),
                // One hour has more rows than an item can name.
                rows: (0..if hour == 7 { 15_000 } else { 50 })
                    .map(|number| row(hour << 16 | number))
                    .collect(),
            })
            .collect();
        let texts = texts(&inputs);
        assert!(texts.len() > 5 && texts.iter().all(|text| text.len() <= ITEM_BYTES_MAX));
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        assert_eq!(read(&texts).unwrap(), inputs);
        assert!(read(&["{\"element\": \"raw\"}"]).is_err());
    }
}
