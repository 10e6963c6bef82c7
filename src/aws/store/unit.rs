//! The journal of partitions with many objects, in the file-unit table: one
//! row for each receive and partition, with the identities and the names of its
//! objects, so that an hour of 500 objects costs 50 writes and duplicates do
//! not count. A row never changes, so whoever names rows names objects.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::item::Item;
use super::{Store, StoreError, item};
use crate::aws::error::AwsError;
use crate::core::arrival::{Arrival, Objects, Source};
use crate::core::catalog::Completeness;
use crate::core::partition::Partition;
use crate::core::task::Element;
use crate::planted::{Bug, planted};

const OBJECTS: &str = "objects";
const NAMES: &str = "names";
/// Enough of a hash that two objects of a partition never share it.
const ID_BYTES: usize = 16;
/// DynamoDB takes 400 KB; a longer row is several.
const ROW_BYTES_MAX: usize = 100_000;
/// What an object takes in a row beside its key and version.
const OBJECT_BYTES: usize = 64;

/// Who an object is: bucket, key and version (or ETag), hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId([u8; ID_BYTES]);

impl ObjectId {
    pub fn new(bucket: &str, key: &str, version: &str) -> Self {
        // Buckets and versions hold no newline, so the parts cannot run
        // into each other.
        Self(digest(format!("{bucket}\n{version}\n{key}").as_bytes()))
    }
}

/// The name of a row of the journal: a hash of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId([u8; ID_BYTES]);

impl RowId {
    pub(super) fn text(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut id = [0; ID_BYTES];
        if text.len() != 2 * ID_BYTES || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }

    /// Names written one after the other.
    pub(super) fn all_of(text: &str) -> Option<BTreeSet<Self>> {
        let names = text.as_bytes().chunks(2 * ID_BYTES);
        names.map(|name| Self::parse(std::str::from_utf8(name).ok()?)).collect()
    }
}

fn digest(bytes: &[u8]) -> [u8; ID_BYTES] {
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&Sha256::digest(bytes)[..ID_BYTES]);
    id
}

/// The names of a row's objects as they are stored.
#[derive(Debug, Serialize, Deserialize)]
struct Names {
    bucket: String,
    /// What all keys begin with.
    prefix: String,
    /// The rest of the key, version, size.
    objects: Vec<(String, String, Option<u64>)>,
    /// They were found by a listing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    listed: bool,
}

/// What the journal holds of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    pub objects: Objects,
    pub rows: BTreeSet<RowId>,
    /// Objects of rows that an older version wrote, without names.
    unnamed: BTreeSet<ObjectId>,
}

impl Journal {
    /// Whether an object that a listing shows is known: by its key, or by what an
    /// older version wrote of it.
    pub fn knows(&self, bucket: &str, key: &str, etag: &str) -> bool {
        self.objects.has_key(bucket, key)
            || [etag, ""]
                .iter()
                .any(|version| self.unnamed.contains(&ObjectId::new(bucket, key, version)))
    }

    /// How many objects there are, as a rule counts them.
    pub fn count(&self, rule: &Completeness) -> u64 {
        let named = match rule {
            // An object written again is still one of those expected.
            Completeness::Count { .. } => self.objects.keys(),
            _ => self.objects.versions(),
        };
        named + self.unnamed_only()
    }

    /// Objects without a name that no other row names.
    fn unnamed_only(&self) -> u64 {
        if self.unnamed.is_empty() {
            return 0;
        }
        let named: BTreeSet<_> = self
            .objects
            .told()
            .into_iter()
            .flat_map(|(bucket, key, version)| {
                [ObjectId::new(bucket, key, version), ObjectId::new(bucket, key, "")]
            })
            .collect();
        self.unnamed.difference(&named).count() as u64
    }

    fn take(&mut self, row: &Item) {
        self.rows.extend(item::read_text(row, item::ROW).ok().and_then(RowId::parse));
        let names = item::read_text(row, NAMES).ok();
        match names.and_then(|text| serde_json::from_str::<Names>(text).ok()) {
            Some(Names { bucket, prefix, objects, listed }) => {
                let source = if listed { Source::Listing } else { Source::Notification };
                for (rest, version, bytes) in objects {
                    let (bucket, key) = (bucket.clone(), format!("{prefix}{rest}"));
                    self.objects.add(Arrival { bucket, key, version, bytes, source });
                }
            }
            None => {
                let ids = row.get(OBJECTS).and_then(|value| value.as_b().ok());
                let ids = ids.map_or(&[][..], |blob| blob.as_ref());
                let ids = ids.chunks_exact(ID_BYTES).filter_map(|id| id.try_into().ok());
                self.unnamed.extend(ids.map(ObjectId));
            }
        }
    }
}

/// Objects of one bucket, by who they are.
pub type Identified = BTreeMap<ObjectId, Arrival>;

/// One row as it is written.
struct Row<'a>(Vec<(&'a ObjectId, &'a Arrival)>);

impl Row<'_> {
    fn ids(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(id, _)| id.0).collect()
    }

    /// By all that it holds, so that no other row takes its place.
    fn id(&self) -> RowId {
        RowId(digest(&[self.ids(), self.names_text().into_bytes()].concat()))
    }

    fn names_text(&self) -> String {
        // Strings and numbers: JSON can hold each.
        serde_json::to_string(&self.names()).unwrap_or_default()
    }

    fn names(&self) -> Names {
        let mut keys = self.0.iter().map(|(_, object)| object.key.as_str());
        let first = keys.next().unwrap_or_default();
        let prefix = keys.fold(first, common_start);
        let rest = |object: &Arrival| object.key.get(prefix.len()..).unwrap_or_default().to_owned();
        Names {
            bucket: self.0.first().map_or_else(String::new, |(_, object)| object.bucket.clone()),
            prefix: prefix.to_owned(),
            listed: self.0.iter().any(|(_, object)| object.source == Source::Listing),
            objects: self
                .0
                .iter()
                .map(|(_, object)| (rest(object), object.version.clone(), object.bytes))
                .collect(),
        }
    }
}

fn common_start<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b);
    &one[..same.map(|(letter, _)| letter.len_utf8()).sum()]
}

/// Cuts objects into rows, always in the same way.
fn rows(objects: &Identified) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    let mut bytes = 0;
    for (id, object) in objects {
        let more = object.key.len() + object.version.len() + OBJECT_BYTES;
        bytes += more;
        match rows.last_mut().filter(|_| bytes <= ROW_BYTES_MAX) {
            Some(row) => row.0.push((id, object)),
            None => {
                bytes = more;
                rows.push(Row(vec![(id, object)]));
            }
        }
    }
    rows
}

impl Store {
    /// Writes objects of one source, most often as one row; the same objects
    /// give the same rows again. They may be deleted when they expire. Returns their
    /// names.
    pub async fn journal(
        &self,
        dataset: &str,
        partition: &Partition,
        objects: &Identified,
        expires: Option<Timestamp>,
    ) -> Result<BTreeSet<RowId>, StoreError> {
        let mut written = BTreeSet::new();
        for row in rows(objects) {
            let (ids, names) = (row.ids(), row.names_text());
            let name = row.id().text();
            let name = if planted(Bug::JournalOverwritten) { "row".to_owned() } else { name };
            self.client
                .put_item()
                .table_name(&self.unit_table)
                .set_item(item::expiring(expires))
                .item(item::UNIT, item::text(Element::data(dataset, *partition).to_string()))
                .item(item::ROW, item::text(name))
                .item(item::FORMAT, item::number(item::THIS_FORMAT))
                .item(OBJECTS, AttributeValue::B(Blob::new(ids)))
                .item(NAMES, item::text(names))
                .send()
                .await
                .map_err(|error| AwsError::new("DynamoDB", "PutItem", &error))?;
            written.insert(row.id());
        }
        Ok(written)
    }

    /// What the journal holds of a partition; with `only`, what these rows of it
    /// hold.
    pub async fn read_journal(
        &self,
        dataset: &str,
        partition: &Partition,
        only: Option<&BTreeSet<RowId>>,
    ) -> Result<Journal, StoreError> {
        let mut journal = Journal::default();
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
            let wanted = |row: &&Item| {
                let id = item::read_text(row, item::ROW).ok().and_then(RowId::parse);
                only.is_none_or(|only| id.is_some_and(|id| only.contains(&id)))
            };
            page.items.unwrap_or_default().iter().filter(wanted).for_each(|row| journal.take(row));
        }
        Ok(journal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, version: &str, source: Source) -> Arrival {
        let (bucket, version) = ("landing".into(), version.into());
        Arrival { bucket, key: key.into(), version, bytes: Some(1024), source }
    }

    fn identified(objects: &[Arrival]) -> Identified {
        let id = |object: &Arrival| ObjectId::new(&object.bucket, &object.key, &object.version);
        objects.iter().map(|object| (id(object), object.clone())).collect()
    }

    /// The item of a row as it is read back.
    fn stored(row: &Row<'_>, named: bool) -> Item {
        let mut item = Item::new();
        item.insert(item::ROW.into(), item::text(row.id().text()));
        item.insert(OBJECTS.into(), AttributeValue::B(Blob::new(row.ids())));
        if named {
            item.insert(NAMES.into(), item::text(row.names_text()));
        }
        item
    }

    fn read<'a>(items: impl IntoIterator<Item = &'a Item>) -> Journal {
        let mut journal = Journal::default();
        items.into_iter().for_each(|item| journal.take(item));
        journal
    }

    const CLOSED: Completeness = Completeness::Closed { settle: jiff::SignedDuration::ZERO };

    #[test]
    fn what_is_written_reads_back() {
        let keys = ["raw/05/s-1", "raw/05/s-2", "raw/05/caf\u{e9}", "raw/05/caf\u{ea}"];
        let objects: Vec<_> =
            keys.iter().map(|key| object(key, "e1", Source::Notification)).collect();
        let written = identified(&objects);
        let journal = read(&[stored(&rows(&written)[0], true)]);
        assert_eq!((journal.count(&CLOSED), journal.rows.len()), (4, 1));
        for key in keys {
            assert!(journal.knows("landing", key, "another"), "{key}");
        }
        assert!(!journal.knows("landing", "raw/05/s-3", "e1"));
        let mut back: Vec<_> = journal.objects.iter().collect();
        back.sort();
        let mut objects = objects;
        objects.sort();
        assert_eq!(back, objects);
        let row = journal.rows.first().unwrap();
        assert_eq!(RowId::parse(&row.text()), Some(*row));
        assert_eq!(RowId::all_of(&row.text().repeat(2)), Some(journal.rows.clone()));
    }

    /// The write unit of a receive of ten objects stays one.
    #[test]
    fn a_row_of_ten_objects_has_a_kilobyte() {
        let keys: Vec<_> =
            (0..10).map(|number| format!("rawdata/2013/01/01/05/part-{number:05}.gz")).collect();
        let etag = "d41d8cd98f00b204e9800998ecf8427e";
        let objects: Vec<_> =
            keys.iter().map(|key| object(key, etag, Source::Notification)).collect();
        let written = identified(&objects);
        let row = &rows(&written)[0];
        let names = row.names_text();
        let keys_of_the_item = "raw-logs@2013-01-01T05".len() + 2 * ID_BYTES;
        let attributes = "unitrowformatobjectsnames".len() + 2;
        let bytes = row.ids().len() + names.len() + keys_of_the_item + attributes;
        assert!(bytes <= 1024, "{bytes} bytes: {names}");
    }

    /// A count takes both versions of an object for the same.
    #[test]
    fn a_row_never_takes_the_place_of_another() {
        let row = |version, source| {
            let (id, object) = (ObjectId::new("landing", "a", ""), object("a", version, source));
            let identified = Identified::from([(id, object)]);
            rows(&identified)[0].id()
        };
        let ids = [
            row("e1", Source::Notification),
            row("e2", Source::Notification),
            row("e1", Source::Listing),
            row("e1", Source::Notification),
        ];
        assert_eq!(BTreeSet::from(ids).len(), 3);
        assert_eq!(ids[0], ids[3]);
    }

    #[test]
    fn rows_of_an_older_version_count_and_are_known() {
        let (a, b) =
            (object("a", "e1", Source::Notification), object("b", "e1", Source::Notification));
        let old = identified(std::slice::from_ref(&a));
        let both = identified(&[a, b]);
        let old_row = stored(&rows(&old)[0], false);
        let journal = read([&old_row]);
        assert_eq!(journal.count(&CLOSED), 1);
        assert!(journal.knows("landing", "a", "e1") && !journal.knows("landing", "b", "e1"));
        // The same object came again to a newer version.
        let journal = read([&old_row, &stored(&rows(&both)[0], true)]);
        assert_eq!(journal.count(&CLOSED), 2);
    }

    #[test]
    fn many_objects_are_cut_into_rows_that_dynamodb_takes() {
        let keys: Vec<_> =
            (0..1_000).map(|number| format!("{}{number}", "k".repeat(900))).collect();
        let objects: Vec<_> = keys.iter().map(|key| object(key, "e", Source::Listing)).collect();
        let written = identified(&objects);
        let rows = rows(&written);
        assert!(rows.len() >= 9, "{}", rows.len());
        let items: Vec<_> = rows.iter().map(|row| stored(row, true)).collect();
        assert_eq!(read(&items).count(&CLOSED), 1_000);
    }
}
