//! Reads the body of a queue message: which objects arrived, which cluster
//! changed. Recognises notifications straight from S3, through SNS and through
//! EventBridge, however they are wrapped. Knows nothing of datasets.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use crate::core::arrival::{Arrival, Source};
use crate::core::notice::clipped;
use crate::core::run::Event;
use crate::engine::ClusterEvent;

/// Envelopes in envelopes: S3 in SNS in EventBridge is three.
const DEPTH_MAX: usize = 5;
/// S3's own bounds.
const BUCKET_BYTES_MAX: usize = 255;
const KEY_BYTES_MAX: usize = 1024;
const VERSION_BYTES_MAX: usize = 1024;
/// Reasons go into a message attribute and a log line, and quote what came.
const REASONS_MAX: usize = 5;
const REASON_CHARS_MAX: usize = 500;

/// What a message says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub arrivals: Vec<Arrival>,
    /// What EMR says about clusters and their steps.
    pub clusters: Vec<ClusterEvent>,
    /// What in it could not be understood; everything else still counts.
    pub problems: Vec<String>,
}

impl Content {
    /// The problems in one line, bounded.
    pub fn reason(&self) -> String {
        let more = self.problems.len().saturating_sub(REASONS_MAX);
        let told = self.problems.iter().take(REASONS_MAX);
        let mut reason =
            told.map(|problem| clipped(problem, REASON_CHARS_MAX)).collect::<Vec<_>>().join("; ");
        if more > 0 {
            reason.push_str(&format!("; and {more} more"));
        }
        reason
    }
}

/// Reads a message body. Never fails: what cannot be read is a problem in the
/// result.
pub fn read(body: &str) -> Content {
    let mut content = Content::default();
    match serde_json::from_str(body) {
        Ok(value) => take_envelope(value, DEPTH_MAX, &mut content),
        Err(error) => content.problems.push(format!("the body is not JSON: {error}")),
    }
    content
}

fn take_envelope(value: Value, depth: usize, content: &mut Content) {
    if depth == 0 {
        content.problems.push("too many envelopes inside each other".to_owned());
        return;
    }
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if text("Event") == Some("s3:TestEvent") {
        return;
    }
    if let Some(Value::Array(records)) = value.get("Records") {
        for (number, record) in records.iter().enumerate() {
            if let Some((what, inner)) = wrapped_record(record) {
                take_inner(what, inner, depth, content);
            } else if let Err(problem) = take_record(record, content) {
                content.problems.push(format!("record {number}: {problem}"));
            }
        }
        return;
    }
    if text("Type") == Some("Notification")
        && let Some(inner) = text("Message")
    {
        take_inner("SNS message", inner, depth, content);
        return;
    }
    match (text("source"), value.get("detail")) {
        (Some("aws.s3"), Some(detail)) => {
            let kind = text("detail-type").unwrap_or_default();
            if let Err(problem) = take_bridged_object(kind, detail, content) {
                content.problems.push(problem);
            }
        }
        (Some("aws.emr"), Some(detail)) => {
            let kind = text("detail-type").unwrap_or_default();
            content.clusters.extend(cluster_event(kind, detail));
        }
        _ => content.problems.push(
            "no notification that is known here: expected S3, SNS with S3 inside, or EventBridge \
             from aws.s3 or aws.emr"
                .to_owned(),
        ),
    }
}

/// A record that holds another message, as Lambda gets them from SNS and SQS
/// and as some forwarders send them on.
fn wrapped_record(record: &Value) -> Option<(&'static str, &str)> {
    let sns = record.pointer("/Sns/Message").and_then(Value::as_str);
    let sqs = record.get("body").and_then(Value::as_str);
    sns.map(|inner| ("SNS message", inner)).or(sqs.map(|inner| ("SQS message", inner)))
}

fn take_inner(what: &str, inner: &str, depth: usize, content: &mut Content) {
    match serde_json::from_str(inner) {
        Ok(inner) => take_envelope(inner, depth - 1, content),
        Err(error) => content.problems.push(format!("the {what} is not JSON: {error}")),
    }
}

/// What an EMR event says about a cluster. Instances and scaling: the
/// cluster's own events say what follows.
fn cluster_event(kind: &str, detail: &Value) -> Option<ClusterEvent> {
    let text = |name: &str| detail.get(name).and_then(Value::as_str);
    let name = || text("name").unwrap_or_default().to_owned();
    let event = match (kind, text("state").unwrap_or_default()) {
        ("EMR Step Status Change", "PENDING" | "CANCEL_PENDING") => Event::Passing,
        ("EMR Step Status Change", "RUNNING") => Event::StepRunning(name()),
        ("EMR Step Status Change", "COMPLETED") => Event::StepCompleted(name()),
        ("EMR Step Status Change", _) => Event::StepStopped(name()),
        ("EMR Cluster State Change", "RUNNING") => Event::Running,
        ("EMR Cluster State Change", "STARTING" | "BOOTSTRAPPING" | "WAITING" | "TERMINATING") => {
            Event::Passing
        }
        // A state that this version does not know: better one look too many.
        ("EMR Cluster State Change", _) => Event::Ended,
        _ => return None,
    };
    Some(ClusterEvent { cluster: text("clusterId")?.to_owned(), event })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_version: String,
    event_source: String,
    event_name: String,
    s3: RecordS3,
}

#[derive(Deserialize)]
struct RecordS3 {
    bucket: Bucket,
    object: RecordObject,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordObject {
    key: String,
    e_tag: Option<String>,
    version_id: Option<String>,
    sequencer: Option<String>,
    #[serde(default)]
    size: Value,
}

/// One record of S3's own notification.
fn take_record(record: &Value, content: &mut Content) -> Result<(), String> {
    let record = Record::deserialize(record).map_err(|error| error.to_string())?;
    if record.event_source != "aws:s3" {
        return Err(format!("it comes from {:?}, not from aws:s3", record.event_source));
    }
    if record.event_version.split('.').next() != Some("2") {
        return Err(format!("event version {:?}: expected 2.x", record.event_version));
    }
    if !record.event_name.starts_with("ObjectCreated:") {
        return Ok(());
    }
    let object = record.s3.object;
    let key = decode_key(&object.key)?;
    let version = [object.version_id, object.e_tag, object.sequencer];
    push(content, record.s3.bucket.name, key, version, &object.size)
}

#[derive(Deserialize)]
struct BridgedDetail {
    bucket: Bucket,
    object: BridgedObject,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct BridgedObject {
    key: String,
    etag: Option<String>,
    version_id: Option<String>,
    sequencer: Option<String>,
    #[serde(default)]
    size: Value,
}

/// S3's event through EventBridge; there the key appears as it is.
fn take_bridged_object(kind: &str, detail: &Value, content: &mut Content) -> Result<(), String> {
    if kind != "Object Created" {
        return Ok(());
    }
    let detail = BridgedDetail::deserialize(detail).map_err(|error| error.to_string())?;
    let object = detail.object;
    let version = [object.version_id, object.etag, object.sequencer];
    push(content, detail.bucket.name, object.key, version, &object.size)
}

/// The first of `versions` that says something is the object's identity beside
/// its bucket and key. A bucket whose versioning is suspended gives every object
/// the version "null", so there the ETag tells.
fn push(
    content: &mut Content,
    bucket: String,
    key: String,
    versions: [Option<String>; 3],
    size: &Value,
) -> Result<(), String> {
    let says = |version: &String| !version.is_empty() && version != "null";
    let Some(version) = versions.into_iter().flatten().find(says) else {
        return Err(format!("object {key:?} has neither version id nor ETag nor sequencer"));
    };
    for (what, text, bytes_max) in [
        ("bucket", &bucket, BUCKET_BYTES_MAX),
        ("key", &key, KEY_BYTES_MAX),
        ("version", &version, VERSION_BYTES_MAX),
    ] {
        if text.is_empty() || text.len() > bytes_max {
            let bytes = text.len();
            return Err(format!("its {what} has {bytes} bytes: S3 knows 1 to {bytes_max}"));
        }
    }
    // Nothing depends on it: whatever else it is, the object counts.
    let bytes = size.as_u64();
    content.arrivals.push(Arrival { bucket, key, version, bytes, source: Source::Notification });
    Ok(())
}

/// S3 form-encodes keys: `+` is a space, then percent-decoding, exactly once.
fn decode_key(encoded: &str) -> Result<String, String> {
    let spaced: Cow<'_, str> = match encoded.contains('+') {
        true => encoded.replace('+', " ").into(),
        false => encoded.into(),
    };
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| format!("key {encoded:?} is not UTF-8 when decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn record(key: &str) -> Value {
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
            "eventTime": "2013-01-01T05:00:00.000Z", "eventName": "ObjectCreated:Put",
            "s3": { "s3SchemaVersion": "1.0", "bucket": { "name": "b" },
                    "object": { "key": key, "size": 1, "eTag": "e1", "sequencer": "00A" } }
        })
    }

    fn arrival(key: &str, version: &str) -> Arrival {
        let (bucket, key, version) = ("b".into(), key.into(), version.into());
        Arrival { bucket, key, version, bytes: Some(1), source: Source::Notification }
    }

    fn keys(body: &Value) -> Vec<String> {
        let content = read(&body.to_string());
        assert_eq!(content.problems, Vec::<String>::new());
        content.arrivals.into_iter().map(|arrival| arrival.key).collect()
    }

    #[test]
    fn reads_every_envelope() {
        let direct = json!({ "Records": [record("a/1.gz"), record("a/2.gz")] });
        let in_sns = json!({ "Type": "Notification", "Message": direct.to_string() });
        let bridged = json!({
            "version": "0", "source": "aws.s3", "detail-type": "Object Created",
            "detail": { "bucket": { "name": "b" }, "object": { "key": "a b+c%20", "etag": "e" } }
        });
        let bridged_in_sns = json!({ "Type": "Notification", "Message": bridged.to_string() });
        assert_eq!(keys(&direct), ["a/1.gz", "a/2.gz"]);
        assert_eq!(keys(&in_sns), ["a/1.gz", "a/2.gz"]);
        assert_eq!(keys(&bridged), ["a b+c%20"]);
        assert_eq!(keys(&bridged_in_sns), ["a b+c%20"]);
        assert_eq!(keys(&json!({ "Service": "Amazon S3", "Event": "s3:TestEvent" })), [""; 0]);
    }

    #[test]
    fn reads_the_samples_that_aws_documents() {
        let flower = |bucket: &str, version: &str, key: &str, bytes| Arrival {
            bucket: bucket.into(),
            key: key.into(),
            version: version.into(),
            bytes: Some(bytes),
            source: Source::Notification,
        };
        let direct = flower(
            "amzn-s3-demo-bucket",
            "096fKKXTRTtl3on89fVO.nfljtsv6qko",
            "red flower & leaf.jpg",
            1024,
        );
        let bridged = flower(
            "amzn-s3-demo-bucket1",
            "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "red flower & leaf.jpg",
            5,
        );
        let event = |event| ClusterEvent { cluster: "j-123456789ABCD".into(), event };
        for (sample, arrivals, clusters) in [
            (include_str!("samples/s3-direct.json"), vec![direct.clone()], vec![]),
            (include_str!("samples/s3-sns.json"), vec![direct], vec![]),
            (include_str!("samples/s3-eventbridge.json"), vec![bridged], vec![]),
            (include_str!("samples/s3-test-event.json"), vec![], vec![]),
            (
                include_str!("samples/emr-step.json"),
                vec![],
                vec![event(Event::StepStopped("CustomJAR".into()))],
            ),
            (include_str!("samples/emr-cluster.json"), vec![], vec![event(Event::Ended)]),
        ] {
            assert_eq!(read(sample), Content { arrivals, clusters, problems: vec![] });
        }
    }

    #[test]
    fn unwraps_what_forwarders_send_on() {
        let direct = json!({ "Records": [record("a/1.gz")] }).to_string();
        let as_sns =
            json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": direct } }] });
        let as_sqs = json!({ "Records": [
            { "eventSource": "aws:sqs", "body": as_sns.to_string() },
            { "eventSource": "aws:sqs", "body": "half" },
        ] });
        assert_eq!(keys(&as_sns), ["a/1.gz"]);
        let content = read(&as_sqs.to_string());
        assert_eq!(content.arrivals, [arrival("a/1.gz", "e1")]);
        assert!(
            content.reason().starts_with("the SQS message is not JSON"),
            "{}",
            content.reason()
        );
    }

    #[test]
    fn an_identity_is_a_version_an_etag_or_a_sequencer() {
        for (version, etag, sequencer, expected) in [
            (json!("v1"), json!("e1"), json!("00A"), Some("v1")),
            (json!("null"), json!("e1"), json!("00A"), Some("e1")),
            (json!(null), json!(""), json!("00A"), Some("00A")),
            (json!(null), json!(null), json!(null), None),
            (json!("v".repeat(1025)), json!("e1"), json!("00A"), None),
        ] {
            let mut record = record("k");
            let object = &mut record["s3"]["object"];
            object["versionId"] = version;
            object["eTag"] = etag;
            object["sequencer"] = sequencer;
            let content = read(&json!({ "Records": [record] }).to_string());
            let found = content.arrivals.first().map(|arrival| arrival.version.as_str());
            assert_eq!(found, expected);
            assert_eq!(content.problems.len(), usize::from(expected.is_none()));
        }
    }

    #[test]
    fn a_thousand_records_are_a_thousand_arrivals() {
        let records: Vec<_> = (0..1000).map(|number| record(&format!("k/{number}"))).collect();
        assert_eq!(keys(&json!({ "Records": records })).len(), 1000);
    }

    #[test]
    fn decodes_keys_exactly_once() {
        for (encoded, key) in [
            ("a+b.gz", "a b.gz"),
            ("a%2Bb.gz", "a+b.gz"),
            ("a%252Bb", "a%2Bb"),
            ("caf%C3%A9/%E2%82%AC", "café/€"),
            ("nul%00", "nul\0"),
            ("what%3F%23.gz", "what?#.gz"),
            ("100%25", "100%"),
            ("a%2fb", "a/b"),
        ] {
            assert_eq!(keys(&json!({ "Records": [record(encoded)] })), [key]);
        }
    }

    #[test]
    fn a_bad_record_spoils_no_other() {
        let mut old = record("old");
        old["eventVersion"] = json!("1.0");
        let body = json!({ "Records": [record("good"), record("%FF"), old, { "s3": {} }, 7] });
        let content = read(&body.to_string());
        assert_eq!(content.arrivals, [arrival("good", "e1")]);
        assert_eq!(content.problems.len(), 4);
        assert!(content.reason().starts_with("record 1: key \"%FF\" is not UTF-8"));
    }

    #[test]
    fn emr_events_say_what_a_run_waits_for() {
        let step = "EMR Step Status Change";
        let cluster = "EMR Cluster State Change";
        for (kind, state, event) in [
            (step, "COMPLETED", Some(Event::StepCompleted("t/x/1".into()))),
            (step, "FAILED", Some(Event::StepStopped("t/x/1".into()))),
            (step, "A_NEW_STATE", Some(Event::StepStopped("t/x/1".into()))),
            (step, "RUNNING", Some(Event::StepRunning("t/x/1".into()))),
            (step, "PENDING", Some(Event::Passing)),
            (cluster, "RUNNING", Some(Event::Running)),
            (cluster, "WAITING", Some(Event::Passing)),
            (cluster, "TERMINATED_WITH_ERRORS", Some(Event::Ended)),
            (cluster, "A_NEW_STATE", Some(Event::Ended)),
            ("EMR Instance Fleet State Change", "RUNNING", None),
        ] {
            let body = json!({
                "source": "aws.emr", "detail-type": kind,
                "detail": { "clusterId": "j-1", "name": "t/x/1", "state": state }
            });
            let content = read(&body.to_string());
            let found = content.clusters.into_iter().map(|found| found.event).next();
            assert_eq!(found, event, "{kind} {state}");
            assert_eq!(content.problems.len(), 0);
        }
    }

    #[test]
    fn what_is_not_known_is_a_problem() {
        for body in
            ["", "{", "[]", "{}", "null", "{\"Records\": 3}", "{\"Type\": \"Notification\"}"]
        {
            assert!(!read(body).problems.is_empty(), "{body}");
        }
        let mut nested = json!({ "Records": [record("k")] });
        for _ in 0..10 {
            nested = json!({ "Type": "Notification", "Message": nested.to_string() });
        }
        assert_eq!(read(&nested.to_string()).reason(), "too many envelopes inside each other");
    }

    /// Something in the place of a field.
    fn any_value() -> impl Strategy<Value = Value> {
        let simple = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
        ];
        simple.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[A-Za-z]{0,9}", inner, 0..4)
                    .prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    /// Puts a value in the place of the `at`th of all, in the order of a walk.
    fn put(value: &mut Value, at: &mut usize, with: &Value) {
        if *at == 0 {
            *value = with.clone();
        }
        *at = at.wrapping_sub(1);
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| put(item, at, with)),
            Value::Object(fields) => fields.values_mut().for_each(|field| put(field, at, with)),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in "\\PC{0,200}") {
            let _ = read(&body);
        }

        /// Any value in any place of what AWS documents, wrapped or not: it says
        /// the same as before, or less, or tells what is wrong.
        #[test]
        fn no_change_of_a_good_body_panics(
            sample in 0usize..6, at in 0usize..60, with in any_value(), envelopes in 0usize..7,
        ) {
            let samples = [
                include_str!("samples/s3-direct.json"),
                include_str!("samples/s3-sns.json"),
                include_str!("samples/s3-eventbridge.json"),
                include_str!("samples/s3-test-event.json"),
                include_str!("samples/emr-step.json"),
                include_str!("samples/emr-cluster.json"),
            ];
            let mut body: Value = serde_json::from_str(samples[sample]).unwrap();
            put(&mut body, &mut at.clone(), &with);
            for _ in 0..envelopes {
                body = json!({ "Type": "Notification", "Message": body.to_string() });
            }
            let content = read(&body.to_string());
            let said = content.arrivals.len() + content.clusters.len() + content.problems.len();
            // In the place of a list, each value is a record of its own.
            let records = with.as_array().map_or(1, |values| values.len().max(1));
            prop_assert!(said <= records);
            prop_assert!(content.reason().chars().count() <= REASON_CHARS_MAX);
        }

        #[test]
        fn no_encoded_key_panics(encoded in "(%[0-9A-Fa-f]{0,2}|\\+|\\PC){0,40}") {
            let content = read(&json!({ "Records": [record(&encoded)] }).to_string());
            prop_assert_eq!(content.arrivals.len() + content.problems.len(), 1);
        }

        #[test]
        fn any_key_survives_its_encoding(key in "\\PC{1,60}") {
            let encoded = percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC);
            prop_assert_eq!(keys(&json!({ "Records": [record(&encoded.to_string())] })), [key]);
        }
    }
}
