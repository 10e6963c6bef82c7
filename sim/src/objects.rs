//! What lies in S3, in memory: the logs that EMR writes, what steps have made,
//! manifests and task files, with the three calls by which the daemon lists,
//! reads and writes them. Not the local S3: that keeps objects in files, which
//! worlds by the thousand would fill a disk with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use sluicegate_local::wire::{Request, Response};

/// Where clusters write their logs.
pub const LOG_URI: &str = "s3://landing/logs/";
pub const LOGS: &str = "logs/";
pub const TASK_FILES: &str = "tasks/";
const BUCKET_PATH: &str = "/landing";

/// Objects by their keys.
#[derive(Debug, Default)]
pub struct Objects {
    objects: BTreeMap<String, Object>,
}

#[derive(Debug)]
struct Object {
    written: Timestamp,
    body: Bytes,
}

/// The key of a request or, for a list, the prefix.
pub fn place(uri: &Uri) -> String {
    let path = uri.path();
    if path.trim_end_matches('/') == BUCKET_PATH {
        let query = uri.query().unwrap_or_default();
        let mut fields = form_urlencoded::parse(query.as_bytes());
        let prefix = fields.find(|(name, _)| name == "prefix").map(|(_, value)| value);
        return prefix.unwrap_or_default().into_owned();
    }
    path.strip_prefix(BUCKET_PATH).map_or("", |key| key.trim_start_matches('/')).to_owned()
}

impl Objects {
    /// EMR writes the log of a step; it can be read from `written` on.
    pub fn write_log(&mut self, cluster: &str, step: &str, written: Timestamp) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let text = format!("the log of {step}\nTraceback: it failed\n");
        // Writing to memory does not fail.
        let body = packed.write_all(text.as_bytes()).and_then(|()| packed.finish());
        let object = Object { written, body: body.unwrap_or_default().into() };
        self.objects.insert(format!("{LOGS}{cluster}/steps/{step}/stderr.gz"), object);
    }

    pub fn put(&mut self, key: &str, body: impl Into<Bytes>, now: Timestamp) {
        self.objects.insert(key.to_owned(), Object { written: now, body: body.into() });
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
        if request.uri.path().trim_end_matches('/') == BUCKET_PATH {
            return self.list(&place, now);
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

    fn list(&self, prefix: &str, now: Timestamp) -> Response {
        let mut body = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        let found = self.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        for (key, Object { written, body: content }) in found {
            if *written > now {
                continue;
            }
            let (written, size) = (written.strftime("%Y-%m-%dT%H:%M:%S.000Z"), content.len());
            // Writing to a String cannot fail.
            let _ = write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>{written}</LastModified>\
                 <ETag>0</ETag><Size>{size}</Size></Contents>"
            );
        }
        body.push_str("</ListBucketResult>");
        Response::new(Bytes::from(body))
    }
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
    fn a_log_shows_when_it_has_been_written() {
        let mut objects = Objects::default();
        objects.write_log("j-1", "s-1", at(100));
        let mut get = |uri: &str, now| {
            let (status, text) = call(&mut objects, Method::GET, uri, now);
            (status, text.contains("stderr.gz"))
        };
        let list = "/landing?list-type=2&prefix=logs%2Fj-1%2Fsteps%2Fs-1%2F";
        assert_eq!(get(list, 99), (200, false));
        assert_eq!(get(list, 100), (200, true));
        assert_eq!(get("/landing/logs/j-1/steps/s-1/stderr.gz", 99).0, 404);
        assert_eq!(get("/landing/logs/j-1/steps/s-1/stderr.gz", 100).0, 200);
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
