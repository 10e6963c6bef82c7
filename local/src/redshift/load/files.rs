//! Which objects a COPY reads: those of a prefix, or those of a manifest, whose
//! promises are checked. Not for what is in them.

use bytes::Bytes;
use serde::Deserialize;

use super::scan_error;
use crate::redshift::sql::Copy;
use crate::redshift::warehouse::SqlError;
use crate::s3::{S3, StoreError};

/// One object to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    bucket: String,
    key: String,
    is_mandatory: bool,
    /// As the manifest says.
    length: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    url: String,
    #[serde(default)]
    mandatory: bool,
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    content_length: Option<u64>,
}

impl File {
    /// As Redshift's messages name it.
    pub fn url(&self) -> String {
        format!("https://s3.us-east-1.amazonaws.com/{}/{}", self.bucket, self.key)
    }

    /// Its content; nothing if it is absent and may be.
    pub fn read(&self, s3: &S3) -> Result<Option<Bytes>, SqlError> {
        let content = match s3.read(&self.bucket, &self.key) {
            Ok(content) => content,
            Err(StoreError::NoSuchKey | StoreError::NoSuchBucket) if !self.is_mandatory => {
                return Ok(None);
            }
            Err(error) => return Err(s3_error(&error, &self.url())),
        };
        let actual = content.len() as u64;
        match self.length {
            // Redshift asks for the end of the file where the manifest says it is.
            Some(promised) if promised > actual => Err(scan_error(
                15001,
                &format!(
                    "HTTP response error code: 416 Message: InvalidRange The requested range is \
                     not satisfiable: the manifest says content_length {promised}, the file has \
                     {actual} bytes. File name: {}",
                    self.url()
                ),
            )),
            Some(promised) if promised < actual => Err(scan_error(
                15001,
                &format!(
                    "File '{}' has an invalid version number: the manifest says content_length \
                     {promised}, the file has {actual} bytes",
                    self.url()
                ),
            )),
            _ => Ok(Some(Bytes::from(content))),
        }
    }
}

/// The files of a COPY, in their order.
pub fn find(s3: &S3, copy: &Copy) -> Result<Vec<File>, SqlError> {
    if copy.has_manifest { of_manifest(s3, copy) } else { of_prefix(s3, copy) }
}

fn of_prefix(s3: &S3, copy: &Copy) -> Result<Vec<File>, SqlError> {
    let keys = s3
        .keys(&copy.bucket, &copy.key)
        .map_err(|error| s3_error(&error, &format!("s3://{}/{}", copy.bucket, copy.key)))?;
    let files: Vec<File> = keys
        .into_iter()
        .filter(|key| !is_ignored(key))
        .map(|key| File { bucket: copy.bucket.clone(), key, is_mandatory: true, length: None })
        .collect();
    if files.is_empty() {
        return Err(SqlError::failed(format!(
            "The specified S3 prefix '{}' does not exist",
            copy.key
        )));
    }
    Ok(files)
}

/// What Spark leaves beside its files, and folders.
fn is_ignored(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    name.is_empty() || name.starts_with(['_', '.', '#']) || name.ends_with('~')
}

fn of_manifest(s3: &S3, copy: &Copy) -> Result<Vec<File>, SqlError> {
    if copy.key.ends_with('/') {
        return Err(SqlError::failed(
            "COPY with MANIFEST parameter requires full path of an S3 object.",
        ));
    }
    let url = format!("s3://{}/{}", copy.bucket, copy.key);
    let content = s3.read(&copy.bucket, &copy.key).map_err(|error| {
        SqlError::failed(format!("Problem reading manifest file - {}", in_words(&error, &url)))
    })?;
    let manifest: Manifest = serde_json::from_slice(&content).map_err(|error| {
        SqlError::failed(format!("Manifest file is not in correct json format: {url}: {error}"))
    })?;
    let mut files = Vec::with_capacity(manifest.entries.len());
    for entry in manifest.entries {
        let place = entry.url.strip_prefix("s3://").and_then(|place| place.split_once('/'));
        let Some((bucket, key)) = place else {
            return Err(SqlError::failed(format!(
                "Manifest file has an entry whose url is no s3://bucket/key: {}",
                entry.url
            )));
        };
        let Some(meta) = entry.meta else {
            return Err(no_key(&entry.url, "File entry does not have 'meta' key."));
        };
        let Some(length) = meta.content_length else {
            return Err(no_key(&entry.url, "File entry does not have 'content_length' key."));
        };
        files.push(File {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            is_mandatory: entry.mandatory,
            length: Some(length),
        });
    }
    let exists = |file: &File| file.is_mandatory || s3.has(&file.bucket, &file.key);
    if !files.iter().any(exists) {
        return Err(SqlError::failed(format!(
            "The files that the manifest {url} names do not exist"
        )));
    }
    Ok(files)
}

/// What Redshift says of a manifest that is not made for Parquet.
fn no_key(url: &str, what: &str) -> SqlError {
    SqlError::failed(format!(
        "{what}\n  Detail: \n  -----------------------------------------------\n  error:  {what}\n  \
         code:      15003\n  context:   {url}\n  -----------------------------------------------"
    ))
}

fn s3_error(error: &StoreError, url: &str) -> SqlError {
    SqlError::failed(in_words(error, url))
}

fn in_words(error: &StoreError, url: &str) -> String {
    match error {
        StoreError::NoSuchKey => format!(
            "S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey: {url}"
        ),
        StoreError::NoSuchBucket => format!(
            "S3ServiceException:The specified bucket does not exist,Status 404,Error NoSuchBucket: \
             {url}"
        ),
        other => format!("S3ServiceException:{other}: {url}"),
    }
}
