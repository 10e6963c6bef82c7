//! What lies in S3, in memory: the data that arrive, the logs that EMR writes,
//! what steps have made, manifests and task files, with the three calls by which
//! the daemon lists, reads and writes them. Not the local S3: that keeps objects
//! in files, which worlds by the thousand would fill a disk with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use sluicegate_local::wire::{Request, Response};

use crate::scenario::{BUCKET, WORK};

/// Where clusters write their logs.
pub const LOGS: &str = "logs/";
pub const TASK_FILES: &str = "config/tasks/";
/// What the prefixes of all outputs begin with.
pub const OUTPUTS: &str = "o";
/// No key is in both.
const BUCKETS: [&str; 2] = [BUCKET, WORK];
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

/// The key of a request or, for a list, the prefix.
pub fn place(uri: &Uri) -> String {
    let path = uri.path().trim_start_matches('/');
    if is_bucket(path) {
        return field(uri, "prefix").unwrap_or_default();
    }
    key_in(path).unwrap_or_default().to_owned()
}

/// The key of `s3://bucket/key`.
pub fn key_of(uri: &str) -> Option<&str> {
    key_in(uri.strip_prefix("s3://")?)
}

fn is_bucket(path: &str) -> bool {
    BUCKETS.contains(&path.trim_end_matches('/'))
}

fn key_in(path: &str) -> Option<&str> {
    let (bucket, key) = path.split_once('/')?;
    BUCKETS.contains(&bucket).then_some(key)
}

/// What the query says of a name.
fn field(uri: &Uri, wanted: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    fields.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

impl Objects {
    /// Somebody writes data; what was written before is not written again: then
    /// false.
    pub fn write_data(&mut self, key: &str, etag: &str, written: Timestamp) -> bool {
        let new = self.data.insert((key.to_owned(), etag.to_owned()));
        if new {
            let (etag, body) = (etag.to_owned(), Bytes::from_static(b"7 bytes"));
            self.objects.insert(key.to_owned(), Object { written, etag, body });
        }
        new
    }

    /// EMR writes the log of a step; it can be read from `written` on.
    pub fn write_log(&mut self, cluster: &str, step: &str, written: Timestamp) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let text = format!("the log of {step}\nTraceback: it failed\n");
        // Writing to memory does not fail.
        let body = packed.write_all(text.as_bytes()).and_then(|()| packed.finish());
        let body = body.unwrap_or_default();
        self.put(&format!("{LOGS}{cluster}/steps/{step}/stderr.gz"), body, written);
    }

    pub fn put(&mut self, key: &str, body: impl Into<Bytes>, now: Timestamp) {
        let (etag, body) = ("0".to_owned(), body.into());
        self.objects.insert(key.to_owned(), Object { written: now, etag, body });
    }

    pub fn remove(&mut self, key: &str) {
        self.objects.remove(key);
    }

    /// As Spark overwrites a folder: what was there goes.
    pub fn remove_all(&mut self, prefix: &str) {
        self.objects.retain(|key, _| !key.starts_with(prefix));
    }

    pub fn get(&self, key: &str) -> Option<&Bytes> {
        self.objects.get(key).map(|object| &object.body)
    }

    /// Keys and bodies of what lies under a prefix.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Bytes)> {
        let found = self.objects.iter().filter(move |(key, _)| key.starts_with(prefix));
        found.map(|(key, object)| (key.as_str(), &object.body))
    }

    /// ListObjectsV2, GetObject and PutObject.
    pub fn answer(&mut self, request: &Request, now: Timestamp) -> Response {
        let place = place(&request.uri);
        if request.method == Method::PUT {
            self.put(&place, request.body.clone(), now);
            return Response::new(Bytes::new());
        }
        if is_bucket(request.uri.path().trim_start_matches('/')) {
            let limit = field(&request.uri, "max-keys").and_then(|limit| limit.parse().ok());
            let after = field(&request.uri, "continuation-token");
            let after = after.map(|token| unhex(&token)).unwrap_or_default();
            return self.list(&place, &after, limit, now);
        }
        match self.objects.get(&place).filter(|object| object.written <= now) {
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

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn call(objects: &mut Objects, method: Method, uri: &str, now: i64) -> (u16, String) {
        let request = Request {
            method,
            uri: uri.parse().unwrap(),
            headers: http::HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
        };
        let response = objects.answer(&request, at(now));
        let text = String::from_utf8_lossy(response.body()).into_owned();
        (response.status().as_u16(), text)
    }

    #[test]
    fn data_is_listed_page_by_page() {
        let mut objects = Objects::default();
        for (key, etag, written) in
            [("d/a b", "e1", 10), ("d/a b", "e2", 20), ("d/caf\u{e9}", "e3", 30), ("e", "e4", 5)]
        {
            objects.write_data(key, etag, at(written));
        }
        // S3 tells of an old version again: nothing is written.
        objects.write_data("d/a b", "e1", at(40));
        let mut list = |more: &str| {
            let uri = format!("/landing?list-type=2&prefix=d%2F&max-keys=1{more}");
            call(&mut objects, Method::GET, &uri, 100).1
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
        objects.write_log("j-1", "s-1", at(100));
        let mut get = |uri: &str, now| {
            let (status, text) = call(&mut objects, Method::GET, uri, now);
            (status, text.contains("stderr.gz"))
        };
        let list = "/work?list-type=2&prefix=logs%2Fj-1%2Fsteps%2Fs-1%2F";
        assert_eq!(get(list, 99), (200, false));
        assert_eq!(get(list, 100), (200, true));
        assert_eq!(get("/work/logs/j-1/steps/s-1/stderr.gz", 99).0, 404);
        assert_eq!(get("/work/logs/j-1/steps/s-1/stderr.gz", 100).0, 200);
    }

    #[test]
    fn what_is_put_can_be_read_and_what_is_overwritten_is_gone() {
        let mut objects = Objects::default();
        let uri = "/landing/out/05/part-0?x-id=PutObject";
        assert_eq!(call(&mut objects, Method::PUT, uri, 5).0, 200);
        assert_eq!(call(&mut objects, Method::GET, uri, 6), (200, "{}".to_owned()));
        assert_eq!(
            objects.under("out/05/").map(|(key, _)| key).collect::<Vec<_>>(),
            ["out/05/part-0"]
        );
        objects.remove_all("out/05/");
        assert_eq!(objects.get("out/05/part-0"), None);
    }
}
