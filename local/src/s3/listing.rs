//! A bucket's listing in the shapes of both versions of the operation. Not for
//! cutting pages, nor for finding keys.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::conversion::{encoded, timestamp};
use super::list::{Query, page};
use super::store::Store;

/// S3's page size.
pub const PAGE: i32 = 1000;

/// What both versions of the listing ask for.
pub struct Listing<'a> {
    pub bucket: &'a str,
    pub prefix: &'a str,
    pub delimiter: Option<&'a str>,
    pub after: Option<&'a str>,
    pub limit: Option<i32>,
    pub encoding: Option<&'a EncodingType>,
}

/// What both versions of the listing answer.
pub struct Listed {
    pub contents: Vec<Object>,
    pub common_prefixes: Vec<CommonPrefix>,
    pub entries: i32,
    pub next: Option<String>,
}

/// One page of a bucket's listing.
pub fn listing(store: &Store, listing: &Listing<'_>) -> S3Result<Listed> {
    let stamps = store.stamps(listing.bucket, listing.prefix)?;
    let limit = listing.limit.unwrap_or(PAGE);
    if limit < 0 {
        return Err(s3_error!(
            InvalidArgument,
            "Argument maxKeys must be an integer between 0 and 2147483647"
        ));
    }
    let query = Query {
        prefix: listing.prefix,
        delimiter: listing.delimiter,
        after: listing.after,
        limit: usize::try_from(limit.min(PAGE)).unwrap_or_default(),
    };
    let page = page(stamps.keys().map(String::as_str), &query);
    let encode = |text: &str| encoded(text, listing.encoding);
    let mut contents = Vec::new();
    for key in &page.keys {
        // Files may go while we list: Spark renames and removes them.
        let Ok(object) = store.head(listing.bucket, key) else {
            continue;
        };
        contents.push(Object {
            key: Some(encode(key)),
            size: Some(object.stamp.size as i64),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(timestamp(object.last_modified)),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Default::default()
        });
    }
    let prefixes = page.common_prefixes.iter();
    Ok(Listed {
        contents,
        common_prefixes: prefixes
            .map(|prefix| CommonPrefix { prefix: Some(encode(prefix)) })
            .collect(),
        // At most a page, which is 1000.
        entries: page.entries() as i32,
        next: page.next.map(str::to_owned),
    })
}
