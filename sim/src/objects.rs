//! The logs that EMR writes into S3, in memory, with the two calls by which the
//! daemon reads them. Not the local S3: that keeps objects in files, which
//! worlds by the thousand would fill a disk with.

use std::collections::BTreeMap;
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

impl Objects {
    /// EMR writes the log of a step; it can be read from `written` on.
    pub fn write_log(&mut self, cluster: &str, step: &str, written: Timestamp) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let text = format!("the log of {step}\nTraceback: it failed\n");
        // Writing to memory does not fail.
        let body = packed.write_all(text.as_bytes()).and_then(|()| packed.finish());
        let object = Object { written, body: body.unwrap_or_default().into() };
        self.objects.insert(format!("logs/{cluster}/steps/{step}/stderr.gz"), object);
    }

    /// ListObjectsV2 and GetObject.
    pub fn answer(&self, request: &Request, now: Timestamp) -> Response {
        let there = |object: &&Object| object.written <= now;
        let path = request.uri.path();
        if path.trim_end_matches('/') == BUCKET_PATH {
            let query = request.uri.query().unwrap_or_default();
            let mut fields = form_urlencoded::parse(query.as_bytes());
            let prefix = fields.find(|(name, _)| name == "prefix").map(|(_, value)| value);
            return self.list(&prefix.unwrap_or_default(), now);
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
