//! S3: reads and writes small objects (task files, logs of steps, scripts) and lists
//! prefixes. The data itself is never read: that is the cluster's work.

use std::io::{self, Write};
use std::ops::ControlFlow;

use aws_config::SdkConfig;
use aws_sdk_s3::types::{EncodingType, Object};
use flate2::write::MultiGzDecoder;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::error::{AwsError, Kind};
use crate::core::listing::Listed;

/// How much of a compressed log is read, as it lies in S3 and unpacked: a few
/// bytes can unpack to gigabytes.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
const UNPACKED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How much of its end is kept.
const TAIL_BYTES: usize = 64 * 1024;

/// Objects that S3 shows in one answer at most.
const PAGE_MAX: i32 = 1000;

#[derive(Debug, Clone)]
pub struct S3 {
    client: aws_sdk_s3::Client,
}

/// What one request for a list gives, and where the next one goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Listed>,
    pub next: Option<String>,
}

/// What was found at the end of a compressed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEnd {
    Text(String),
    TooLarge,
    Missing,
}

/// An object as HeadObject shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub etag: String,
    /// None where the bucket keeps no versions.
    pub version: Option<String>,
    pub bytes: u64,
}

impl S3 {
    pub fn new(config: &SdkConfig) -> Self {
        // A local AWS has no host names for buckets.
        let builder = aws_sdk_s3::config::Builder::from(config);
        let builder = builder.force_path_style(config.endpoint_url().is_some());
        Self { client: aws_sdk_s3::Client::from_conf(builder.build()) }
    }

    /// All objects under a prefix, in the order of their keys, at most `limit`.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Listed>, AwsError> {
        let mut listed = Vec::new();
        let mut page = self.page(bucket, prefix, limit, None).await?;
        loop {
            listed.append(&mut page.objects);
            match page.next {
                Some(next) if listed.len() < limit => {
                    page = self.page(bucket, prefix, limit, Some(next)).await?;
                }
                _ => break,
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    /// One page of such a list: what one request gives.
    pub async fn page(
        &self,
        bucket: &str,
        prefix: &str,
        limit: usize,
        from: Option<String>,
    ) -> Result<Page, AwsError> {
        let limit = i32::try_from(limit).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let answer = self
            .client
            .list_objects_v2()
            .bucket(bucket)
            .prefix(prefix)
            .max_keys(limit)
            // A key may hold letters that XML has no place for.
            .encoding_type(EncodingType::Url)
            .set_continuation_token(from)
            .send()
            .await
            .map_err(|error| AwsError::new("S3", "ListObjectsV2", &error))?;
        let encoded = answer.encoding_type == Some(EncodingType::Url);
        let (found, next) = (answer.contents.unwrap_or_default(), answer.next_continuation_token);
        let goes_on = answer.is_truncated.unwrap_or(false);
        let whole = is_whole(answer.key_count, found.len(), goes_on, next.is_some());
        let objects: Option<Vec<_>> =
            found.into_iter().map(|object| Listed::of(object, encoded)).collect();
        match objects.filter(|_| whole) {
            Some(objects) => Ok(Page { objects, next }),
            None => Err(AwsError {
                service: "S3",
                action: "ListObjectsV2",
                kind: Kind::Unknown,
                message: format!("the list of s3://{bucket}/{prefix} came only in part"),
            }),
        }
    }

    /// What S3 knows of an object; None if there is no such object.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Option<Head>, AwsError> {
        match self.client.head_object().bucket(bucket).key(key).send().await {
            Ok(answer) => Ok(Some(Head {
                etag: answer.e_tag.unwrap_or_default().trim_matches('"').to_owned(),
                version: answer.version_id,
                bytes: u64::try_from(answer.content_length.unwrap_or(0)).unwrap_or(0),
            })),
            Err(error) => match AwsError::new("S3", "HeadObject", &error) {
                error if error.kind == Kind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Deletes an object; done as well when there is none.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), AwsError> {
        let request = self.client.delete_object().bucket(bucket).key(key);
        let answer = request.send().await;
        answer.map(|_| ()).map_err(|error| AwsError::new("S3", "DeleteObject", &error))
    }

    /// Writes an object.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        content: impl Into<Vec<u8>>,
    ) -> Result<(), AwsError> {
        let body = content.into().into();
        let request = self.client.put_object().bucket(bucket).key(key).body(body);
        request.send().await.map_err(|error| AwsError::new("S3", "PutObject", &error))?;
        Ok(())
    }

    /// The last `bytes_max` bytes of an object; None if there is no such object.
    pub async fn tail(
        &self,
        bucket: &str,
        key: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, AwsError> {
        let request = self.client.get_object().bucket(bucket).key(key);
        let answer = match request.range(format!("bytes=-{bytes_max}")).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = AwsError::new("S3", "GetObject", &error);
                return match error.message.starts_with("NoSuchKey") {
                    true => Ok(None),
                    // An empty object has no range.
                    false if error.message.starts_with("InvalidRange") => Ok(Some(Vec::new())),
                    false => Err(error),
                };
            }
        };
        let body = answer.body.collect().await.map_err(|error| AwsError {
            service: "S3",
            action: "GetObject",
            kind: Kind::Unknown,
            message: error.to_string(),
        })?;
        Ok(Some(body.to_vec()))
    }

    /// The end of a gzipped log. It is unpacked while it is read, so that only
    /// its end is ever in memory; what is damaged counts up to the damage.
    pub async fn log_end(&self, bucket: &str, key: &str) -> Result<LogEnd, AwsError> {
        let answer = match self.client.get_object().bucket(bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = AwsError::new("S3", "GetObject", &error);
                return match error.message.starts_with("NoSuchKey") {
                    true => Ok(LogEnd::Missing),
                    false => Err(error),
                };
            }
        };
        let bytes = answer.content_length.and_then(|bytes| u64::try_from(bytes).ok());
        if bytes.is_none_or(|bytes| bytes > LOG_BYTES_MAX) {
            return Ok(LogEnd::TooLarge);
        }
        let mut body = answer.body;
        let mut log = GzipTail::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| AwsError {
                service: "S3",
                action: "GetObject",
                kind: Kind::Unknown,
                message: error.to_string(),
            })?;
            if log.take(&chunk).is_break() {
                break;
            }
        }
        Ok(log.finish())
    }
}

/// Unpacks a gzip stream and keeps its end.
struct GzipTail(MultiGzDecoder<LastBytes>);

impl GzipTail {
    fn new() -> Self {
        Self(MultiGzDecoder::new(LastBytes::default()))
    }

    /// Unpacks some more; breaks off at damage or at the bound.
    fn take(&mut self, chunk: &[u8]) -> ControlFlow<()> {
        match self.0.write_all(chunk) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn finish(mut self) -> LogEnd {
        // What a damaged end still holds; the damage itself is no news.
        let _ = self.0.try_finish();
        let last = self.0.get_ref();
        match last.total > UNPACKED_BYTES_MAX {
            true => LogEnd::TooLarge,
            false => LogEnd::Text(String::from_utf8_lossy(last.end()).into_owned()),
        }
    }
}

/// Takes any number of bytes up to a bound, and remembers the last.
#[derive(Default)]
struct LastBytes {
    /// Up to twice what is kept, so that moving it costs little.
    bytes: Vec<u8>,
    total: u64,
}

impl LastBytes {
    fn end(&self) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(TAIL_BYTES)..]
    }
}

impl Write for LastBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.total += bytes.len() as u64;
        if self.total > UNPACKED_BYTES_MAX {
            return Err(io::Error::other("unpacks to too much"));
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listed {
    /// None for one that was cut off.
    fn of(object: Object, encoded: bool) -> Option<Self> {
        let (key, etag) = (object.key?, object.e_tag?);
        Some(Self {
            key: if encoded { decoded(&key) } else { key },
            etag: etag.trim_matches('"').to_owned(),
            bytes: u64::try_from(object.size?).unwrap_or(0),
            modified: Timestamp::from_second(object.last_modified?.secs()).unwrap_or_default(),
        })
    }
}

/// Whether an answer shows all that it says it does: the SDK takes one that was cut
/// off for a shorter one.
fn is_whole(told: Option<i32>, shown: usize, goes_on: bool, has_next: bool) -> bool {
    told.is_some_and(|told| usize::try_from(told) == Ok(shown)) && goes_on == has_next
}

/// A key as a list encodes it: `+` is a space, then percent-decoding.
fn decoded(key: &str) -> String {
    let spaced = key.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// `s3://bucket/key` (also `s3n`, `s3a`) taken apart.
pub fn split_uri(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    if !matches!(scheme, "s3" | "s3n" | "s3a") {
        return None;
    }
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (!bucket.is_empty()).then_some((bucket, key))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        bytes.for_each(|bytes| encoder.write_all(&bytes).unwrap());
        encoder.finish().unwrap()
    }

    fn tail(packed: &[u8]) -> LogEnd {
        let mut log = GzipTail::new();
        for chunk in packed.chunks(7_777) {
            if log.take(chunk).is_break() {
                break;
            }
        }
        log.finish()
    }

    fn text(packed: &[u8]) -> String {
        match tail(packed) {
            LogEnd::Text(text) => text,
            other => panic!("expected text, got {other:?}"),
        }
    }

    #[test]
    fn a_list_that_was_cut_off_is_not_taken_for_a_shorter_one() {
        for (told, shown, goes_on, has_next, whole) in [
            (Some(2), 2, false, false, true),
            (Some(1000), 1000, true, true, true),
            (Some(0), 0, false, false, true),
            (Some(2), 1, false, false, false),
            (None, 0, false, false, false),
            // Cut between the last object and where to go on.
            (Some(1000), 1000, true, false, false),
        ] {
            assert_eq!(is_whole(told, shown, goes_on, has_next), whole, "{told:?} {shown}");
        }
    }

    #[test]
    fn a_key_is_decoded_as_it_was_encoded() {
        for (encoded, key) in [("a+b%2Bc", "a b+c"), ("caf%C3%A9/x%3D1", "caf\u{e9}/x=1")] {
            assert_eq!(decoded(encoded), key);
        }
    }

    #[test]
    fn the_end_of_a_log_is_kept() {
        let lines = || (0..100_000).map(|number| format!("line {number}\n").into_bytes());
        let packed = gzip(lines());
        let end = text(&packed);
        assert_eq!(end.len(), TAIL_BYTES);
        assert!(end.ends_with("line 99998\nline 99999\n"));
        // EMR may append a member for each upload.
        let twice = [packed, gzip([b"more\n".to_vec()].into_iter())].concat();
        assert!(text(&twice).ends_with("line 99999\nmore\n"));
        assert_eq!(text(&gzip(std::iter::empty())), "");
    }

    #[test]
    fn a_damaged_log_is_read_up_to_the_damage() {
        let packed = gzip((0..100_000).map(|number| format!("line {number}\n").into_bytes()));
        assert!(text(&packed[..packed.len() / 2]).contains("\nline "));
        assert_eq!(text(b"this is no gzip"), "");
        assert_eq!(text(b""), "");
    }

    #[test]
    fn a_log_that_unpacks_to_too_much_is_not_read_to_its_end() {
        let megabyte = vec![0; 1024 * 1024];
        let packed =
            gzip((0..=UNPACKED_BYTES_MAX / megabyte.len() as u64).map(|_| megabyte.clone()));
        assert!((packed.len() as u64) < LOG_BYTES_MAX);
        assert_eq!(tail(&packed), LogEnd::TooLarge);
    }
}
