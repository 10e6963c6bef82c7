//! The manifest of a load: exactly the files that one run has made, so that no
//! key ever stands in SQL and nothing that appears later is loaded with them.

use serde::Serialize;

use super::Files;

/// What lies under the output's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub bytes: u64,
}

#[derive(Serialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    url: String,
    mandatory: bool,
    meta: Meta,
}

/// COPY of Parquet demands it.
#[derive(Serialize)]
struct Meta {
    content_length: u64,
}

/// The manifest as text, and what it names. Left out are empty objects and
/// those whose name begins with `_` or `.`: `_SUCCESS`, checksums, and what
/// Spark has not finished.
pub fn manifest(bucket: &str, prefix: &str, objects: &[Object]) -> (String, Files) {
    let hidden = |key: &str| {
        let rest = key.strip_prefix(prefix).unwrap_or(key);
        rest.split('/').any(|part| part.starts_with(['_', '.']))
    };
    let entries: Vec<_> = objects
        .iter()
        .filter(|object| object.bytes > 0 && !hidden(&object.key))
        .map(|object| Entry {
            url: format!("s3://{bucket}/{}", object.key),
            mandatory: true,
            meta: Meta { content_length: object.bytes },
        })
        .collect();
    let files = Files {
        count: entries.len() as u64,
        bytes: entries.iter().map(|entry| entry.meta.content_length).sum(),
    };
    // Strings and numbers: JSON can hold each.
    (serde_json::to_string(&Manifest { entries }).unwrap_or_default(), files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_file_that_holds_data() {
        let object = |key: &str, bytes| Object { key: key.into(), bytes };
        let objects = [
            object("out/05/_SUCCESS", 0),
            object("out/05/_temporary/0/part-1.parquet", 7),
            object("out/05/.part-1.parquet.crc", 7),
            object("out/05/empty.parquet", 0),
            object("out/05/part-1.snappy.parquet", 100),
            object("out/05/day=1/x \"q\".parquet", 20),
        ];
        let (text, files) = manifest("b", "out/05/", &objects);
        assert_eq!(files, Files { count: 2, bytes: 120 });
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            parsed,
            serde_json::json!({ "entries": [
                { "url": "s3://b/out/05/part-1.snappy.parquet", "mandatory": true,
                  "meta": { "content_length": 100 } },
                { "url": "s3://b/out/05/day=1/x \"q\".parquet", "mandatory": true,
                  "meta": { "content_length": 20 } },
            ]})
        );
        // What lies in a hidden folder of the bucket is still the output.
        let (_, files) = manifest("b", "_out/", &[object("_out/part-1", 1)]);
        assert_eq!(files.count, 1);
    }
}
