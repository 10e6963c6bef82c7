//! What is in S3, in memory: the data that arrives and the logs that EMR writes,
//! with the two calls by which the daemon reads them. Not the local S3: that keeps
//! objects in files, which worlds by the thousand would fill a disk with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use jiff::Timestamp;
use sluicegate_local::wire::{Request, Response};

/// Where clusters write their logs.
pub const LOG_URI: &str = "s3://landing/logs/";
const BUCKET_PATH: &str = "/landing";
/// S3's own.
const PAGE: usize = 1000;

/// Objects by their keys.
#[derive(Debug, Default)]
pub struct Objects {
    objects: BTreeMap<String, Object>,
    /// Keys and ETags of all data that was ever written.
    data: BTreeSet<(String, String)>,
}

#[derive(Debug)]
struct Object {
    written: Timestamp,
    etag: String,
    body: Bytes,
}

impl Objects {
    /// Somebody writes data; what was written before is not written again.
    pub fn write_data(&mut self, key: &str, etag: &str, written: Timestamp) {
        if self.data.insert((key.to_owned(), etag.to_owned())) {
            let (etag, body) = (etag.to_owned(), Bytes::from_static(b"7 bytes"));
            self.objects.insert(key.to_owned(), Object { written, etag, body });
        }
    }

    /// EMR writes the log of a step; it can be read from `written` on.
    pub fn write_log(&mut self, cluster: &str, step: &str, written: Timestamp) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let text = format!("the log of {step}\nTraceback: it failed\n");
        // Writing to memory does not fail.
        let body = packed.write_all(text.as_bytes()).and_then(|()| packed.finish());
        let body = body.unwrap_or_default().into();
        let object = Object { written, etag: "0".to_owned(), body };
        self.objects.insert(format!("logs/{cluster}/steps/{step}/stderr.gz"), object);
    }

    /// ListObjectsV2 and GetObject.
    pub fn answer(&self, request: &Request, now: Timestamp) -> Response {
        let there = |object: &&Object| object.written <= now;
        let path = request.uri.path();
        if path.trim_end_matches('/') == BUCKET_PATH {
            let query = request.uri.query().unwrap_or_default();
            let field = |wanted: &str| {
                let mut fields = form_urlencoded::parse(query.as_bytes());
                fields.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
            };
            let limit = field("max-keys").and_then(|limit| limit.parse().ok());
            let after = field("continuation-token").map(|token| unhex(&token)).unwrap_or_default();
            return self.list(&field("prefix").unwrap_or_default(), &after, limit, now);
        }
        let key = path.strip_prefix(BUCKET_PATH).map_or("", |key| key.trim_start_matches('/'));
        match self.objects.get(key).filter(there) {
            Some(object) => {
                let mut response = Response::new(object.body.clone());
                let length = object.body.len().into();
                response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
                response
            }
            None => {
                let body = "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>";
                let mut response = Response::new(Bytes::from_static(body.as_bytes()));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    /// A page of keys, encoded as the daemon asks for it; it goes on after the last
    /// one.
    fn list(&self, prefix: &str, after: &str, limit: Option<usize>, now: Timestamp) -> Response {
        let there = |(key, object): &(&String, &Object)| {
            key.starts_with(prefix) && key.as_str() > after && object.written <= now
        };
        let mut found: Vec<_> = self.objects.iter().filter(there).collect();
        let limit = limit.unwrap_or(PAGE).min(PAGE);
        let is_truncated = found.len() > limit;
        found.truncate(limit);
        let count = found.len();
        let mut body = format!(
            "<ListBucketResult><EncodingType>url</EncodingType><KeyCount>{count}</KeyCount>\
             <IsTruncated>{is_truncated}</IsTruncated>"
        );
        for (key, Object { written, etag, body: content }) in &found {
            let key: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
            let (written, size) = (written.strftime("%Y-%m-%dT%H:%M:%S.000Z"), content.len());
            // Writing to a String cannot fail.
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>{written}</LastModified>\
                 <ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size></Contents>"
            );
        }
        if let Some((last, _)) = found.last().filter(|_| is_truncated) {
            // Opaque to the daemon, which gives it back as it is.
            let last: String = last.bytes().map(|byte| format!("{byte:02x}")).collect();
            let _ = write!(body, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        body.push_str("</ListBucketResult>");
        Response::new(Bytes::from(body))
    }
}

/// The key that a token stands for.
fn unhex(token: &str) -> String {
    let digits = token.as_bytes().chunks_exact(2);
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.map(byte).collect();
    String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_listed_page_by_page() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let mut objects = Objects::default();
        for (key, etag, written) in
            [("d/a b", "e1", 10), ("d/a b", "e2", 20), ("d/caf\u{e9}", "e3", 30), ("e", "e4", 5)]
        {
            objects.write_data(key, etag, at(written));
        }
        // S3 tells of an old version again: nothing is written.
        objects.write_data("d/a b", "e1", at(40));
        let list = |more: &str| {
            let request = Request {
                method: http::Method::GET,
                uri: format!("/landing?list-type=2&prefix=d%2F&max-keys=1{more}").parse().unwrap(),
                headers: http::HeaderMap::new(),
                body: Bytes::new(),
            };
            let body = objects.answer(&request, at(100)).into_body();
            String::from_utf8(body.to_vec()).unwrap()
        };
        let first = list("");
        assert!(
            first.contains("<Key>d%2Fa+b</Key>") && first.contains("&quot;e2&quot;"),
            "{first}"
        );
        let (_, token) = first.split_once("<NextContinuationToken>").unwrap();
        let (token, _) = token.split_once('<').unwrap();
        let second = list(&format!("&continuation-token={token}"));
        assert!(second.contains("<Key>d%2Fcaf%C3%A9</Key>"), "{second}");
        assert!(second.contains("<IsTruncated>false</IsTruncated>"), "{second}");
    }

    #[test]
    fn a_log_shows_when_it_has_been_written() {
        let mut objects = Objects::default();
        let at = |secs| Timestamp::from_second(secs).unwrap();
        objects.write_log("j-1", "s-1", at(100));
        let get = |uri: &str, now| {
            let request = Request {
                method: http::Method::GET,
                uri: uri.parse().unwrap(),
                headers: http::HeaderMap::new(),
                body: Bytes::new(),
            };
            let response = objects.answer(&request, at(now));
            let listed = String::from_utf8_lossy(response.body()).contains("stderr.gz");
            (response.status().as_u16(), listed)
        };
        let list = "/landing?list-type=2&prefix=logs%2Fj-1%2Fsteps%2Fs-1%2F";
        assert_eq!(get(list, 99), (200, false));
        assert_eq!(get(list, 100), (200, true));
        assert_eq!(get("/landing/logs/j-1/steps/s-1/stderr.gz", 99).0, 404);
        assert_eq!(get("/landing/logs/j-1/steps/s-1/stderr.gz", 100).0, 200);
    }
}
