//! Writes the notification that S3 would send for an object, for trying out a
//! set-up. Reading notifications is `message`'s work.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// What S3 leaves as it is in the key of a notification; a space becomes `+`.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b' ');

/// The object that a notification is to tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub key: String,
    pub etag: String,
    pub version: Option<String>,
    pub bytes: u64,
}

/// An `ObjectCreated:Put` notification as S3 sends it.
pub fn notification(object: &Object, region: &str, at: Timestamp) -> Value {
    let mut described = json!({
        "key": encode_key(&object.key),
        "size": object.bytes,
        "eTag": object.etag,
        "sequencer": format!("{:016X}", at.as_millisecond()),
    });
    if let Some(version) = &object.version {
        described["versionId"] = json!(version);
    }
    json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        "eventName": "ObjectCreated:Put",
        "userIdentity": { "principalId": "sluicegate-send-event" },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "sluicegate-send-event",
            "bucket": { "name": object.bucket, "arn": format!("arn:aws:s3:::{}", object.bucket) },
            "object": described,
        }
    }] })
}

fn encode_key(key: &str) -> String {
    utf8_percent_encode(key, KEPT).to_string().replace(' ', "+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::message;
    use proptest::prelude::*;

    #[test]
    fn keys_are_encoded_as_s3_does() {
        for (key, encoded) in [
            ("raw/2013/01/01/05/s-1.gz", "raw/2013/01/01/05/s-1.gz"),
            ("a b+c.gz", "a+b%2Bc.gz"),
            ("100%", "100%25"),
            ("café/dt=1", "caf%C3%A9/dt%3D1"),
        ] {
            assert_eq!(encode_key(key), encoded);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(key in "\\PC{1,60}", version in proptest::option::of("[a-z]{1,5}")) {
            let object = Object {
                bucket: "landing".into(), key: key.clone(), etag: "e1".into(),
                version: version.clone(), bytes: 7,
            };
            let body = notification(&object, "us-east-1", Timestamp::UNIX_EPOCH).to_string();
            let content = message::read(&body);
            prop_assert!(content.problems.is_empty(), "{:?}", content.problems);
            prop_assert_eq!(content.arrivals.len(), 1);
            prop_assert_eq!(&content.arrivals[0].key, &key);
            prop_assert_eq!(&content.arrivals[0].version, &version.unwrap_or("e1".into()));
        }
    }
}
