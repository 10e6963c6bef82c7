//! What a bucket tells of its objects, and to whom: S3's notification records
//! and EventBridge details, word for word. Delivery is up to the caller.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::wire::ACCOUNT;

/// A bucket's notification configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notifications {
    pub rules: Vec<Rule>,
    pub event_bridge: bool,
}

/// Which events of which keys go to one queue or topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: String,
    pub target_arn: String,
    /// As configured: `s3:ObjectCreated:*`
    pub events: Vec<String>,
    pub prefix: String,
    pub suffix: String,
}

impl Rule {
    pub fn matches(&self, event: &str, key: &str) -> bool {
        key.starts_with(&self.prefix)
            && key.ends_with(&self.suffix)
            && self.events.iter().any(|pattern| covers(pattern, event))
    }

    /// S3 refuses two rules of which one event could choose both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let either = |a: &str, b: &str, test: fn(&str, &str) -> bool| test(a, b) || test(b, a);
        either(&self.prefix, &other.prefix, |a, b| a.starts_with(b))
            && either(&self.suffix, &other.suffix, |a, b| a.ends_with(b))
            && self.events.iter().any(|mine| {
                let mut theirs = other.events.iter();
                theirs.any(|theirs| either(strip(mine), strip(theirs), covers_stripped))
            })
    }
}

fn strip(pattern: &str) -> &str {
    pattern.strip_prefix("s3:").unwrap_or(pattern)
}

fn covers(pattern: &str, event: &str) -> bool {
    covers_stripped(strip(pattern), event)
}

fn covers_stripped(pattern: &str, event: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(kind) => event.starts_with(kind),
        None => pattern == event,
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Put,
    Copy,
    CompleteMultipartUpload,
    Delete,
}

impl Change {
    /// As in notification records.
    pub fn event_name(self) -> &'static str {
        match self {
            Self::Put => "ObjectCreated:Put",
            Self::Copy => "ObjectCreated:Copy",
            Self::CompleteMultipartUpload => "ObjectCreated:CompleteMultipartUpload",
            Self::Delete => "ObjectRemoved:Delete",
        }
    }

    /// As EventBridge names the kind of event.
    pub fn detail_type(self) -> &'static str {
        match self {
            Self::Delete => "Object Deleted",
            _ => "Object Created",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Put => "PutObject",
            Self::Copy => "CopyObject",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::Delete => "DeleteObject",
        }
    }
}

/// What an event tells of an object that is there.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    pub size: u64,
    pub etag: &'a str,
}

/// One thing that happened to one object.
#[derive(Debug)]
pub struct Event<'a> {
    pub change: Change,
    pub bucket: &'a str,
    pub region: &'a str,
    pub key: &'a str,
    /// Absent when it was removed.
    pub content: Option<Content<'a>>,
    pub time: Timestamp,
    /// Increasing for one key.
    pub sequencer: u64,
    pub request_id: String,
}

impl Event<'_> {
    /// The message that S3 sends to a queue or topic.
    pub fn message(&self, rule_id: &str) -> Value {
        let mut object = json!({
            "key": form_encoded(self.key),
            "sequencer": self.sequencer(),
        });
        if let Some(content) = self.content {
            object["size"] = content.size.into();
            object["eTag"] = content.etag.into();
        }
        json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": self.region,
            "eventTime": millis(self.time),
            "eventName": self.change.event_name(),
            "userIdentity": { "principalId": format!("AWS:{ACCOUNT}") },
            "requestParameters": { "sourceIPAddress": "127.0.0.1" },
            "responseElements": {
                "x-amz-request-id": self.request_id,
                "x-amz-id-2": self.request_id,
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": rule_id,
                "bucket": {
                    "name": self.bucket,
                    "ownerIdentity": { "principalId": ACCOUNT },
                    "arn": bucket_arn(self.bucket),
                },
                "object": object,
            },
        }] })
    }

    /// The detail of the event on EventBridge, where the key is as it is.
    pub fn detail(&self) -> Value {
        let mut object = json!({ "key": self.key, "sequencer": self.sequencer() });
        if let Some(content) = self.content {
            object["size"] = content.size.into();
            object["etag"] = content.etag.into();
        }
        let mut detail = json!({
            "version": "0",
            "bucket": { "name": self.bucket },
            "object": object,
            "request-id": self.request_id,
            "requester": ACCOUNT,
            "source-ip-address": "127.0.0.1",
            "reason": self.change.reason(),
        });
        if self.change == Change::Delete {
            detail["deletion-type"] = "Permanently Deleted".into();
        }
        detail
    }

    fn sequencer(&self) -> String {
        format!("{:018X}", self.sequencer)
    }
}

/// What S3 sends once when a rule is configured.
pub fn test_event(bucket: &str, time: Timestamp, request_id: &str) -> Value {
    json!({
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": millis(time),
        "Bucket": bucket,
        "RequestId": request_id,
        "HostId": request_id,
    })
}

pub fn bucket_arn(bucket: &str) -> String {
    format!("arn:aws:s3:::{bucket}")
}

fn millis(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// As in an HTML form: a space is `+`; only slashes stay.
fn form_encoded(key: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
    encoded.replace("%2F", "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(events: &str, prefix: &str, suffix: &str) -> Rule {
        Rule {
            id: "r".to_owned(),
            target_arn: "arn:aws:sqs:us-east-1:000000000000:q".to_owned(),
            events: vec![events.to_owned()],
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
        }
    }

    #[test]
    fn rules_choose_by_event_prefix_and_suffix() {
        for (events, prefix, suffix, expected) in [
            ("s3:ObjectCreated:*", "", "", true),
            ("s3:ObjectCreated:Put", "raw/", ".gz", true),
            ("s3:ObjectCreated:Copy", "", "", false),
            ("s3:ObjectRemoved:*", "", "", false),
            ("s3:ObjectCreated:*", "out/", "", false),
            ("s3:ObjectCreated:*", "", ".csv", false),
        ] {
            let matches = rule(events, prefix, suffix).matches("ObjectCreated:Put", "raw/a.gz");
            assert_eq!(matches, expected, "{events} {prefix} {suffix}");
        }
    }

    #[test]
    fn overlapping_rules_are_recognised() {
        let one = rule("s3:ObjectCreated:*", "raw/", ".gz");
        for (events, prefix, suffix, expected) in [
            ("s3:ObjectCreated:Put", "raw/2013/", "", true),
            ("s3:ObjectCreated:Put", "out/", "", false),
            ("s3:ObjectCreated:Put", "raw/", ".csv", false),
            ("s3:ObjectRemoved:*", "raw/", ".gz", false),
        ] {
            let other = rule(events, prefix, suffix);
            assert_eq!(one.overlaps(&other), expected, "{events} {prefix} {suffix}");
            assert_eq!(other.overlaps(&one), expected, "{events} {prefix} {suffix}");
        }
    }

    #[test]
    fn keys_are_form_encoded() {
        for (key, encoded) in
            [("raw/2013/01/a.gz", "raw/2013/01/a.gz"), ("a b+c=d%/ü", "a+b%2Bc%3Dd%25/%C3%BC")]
        {
            assert_eq!(form_encoded(key), encoded);
        }
    }
}
