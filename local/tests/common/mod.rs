//! What the tests share: a cloud without a socket, requests by hand, and the
//! configuration of an SDK client. Holds no test.

// Each test file uses its own part of this.
#![allow(dead_code, unused_imports, unused_macros, reason = "compiled once for each test file")]

use std::path::Path;

use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use sluicegate_local::clock::Clock;
use sluicegate_local::cloud::{Cloud, Parts};
use sluicegate_local::emr;
use sluicegate_local::redshift;
use sluicegate_local::time::Time;
use sluicegate_local::wire::{Request, Response};
use tokio_util::sync::CancellationToken;

/// What the development clock shows when a test's cloud starts.
pub const START: &str = "2013-01-01T05:00:00Z";

/// A cloud in memory, on a development clock that starts at `START`.
pub fn cloud(data: &Path) -> Cloud {
    let clock = Clock::starting_at(START.parse().unwrap(), 1.0);
    cloud_with(data, Time::new(clock))
}

pub fn cloud_with(data: &Path, time: Time) -> Cloud {
    Cloud::new(Parts {
        data: data.to_owned(),
        in_memory: true,
        requests: None,
        time,
        endpoint: "http://127.0.0.1:1".to_owned(),
        seed: 7,
        emr: emr::Options::default(),
        redshift: redshift::Database::Absent,
        shutdown: CancellationToken::new(),
    })
    .unwrap()
}

/// An unsigned request.
pub fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
    let headers = headers.iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    });
    Request {
        method: method.parse().unwrap(),
        uri: uri.parse().unwrap(),
        headers: headers.collect(),
        body: Bytes::copy_from_slice(body),
    }
}

pub async fn call(cloud: &Cloud, method: &str, uri: &str, body: &[u8]) -> Response {
    let length = body.len().to_string();
    cloud.handle(request(method, uri, &[("content-length", &length)], body)).await
}

/// One call of SQS's JSON protocol that must succeed.
pub async fn sqs(cloud: &Cloud, action: &str, body: Value) -> Value {
    let target = format!("AmazonSQS.{action}");
    let headers = [("x-amz-target", target.as_str())];
    let request = request("POST", "/", &headers, body.to_string().as_bytes());
    let response = cloud.handle(request).await;
    let answer = text(&response);
    assert_eq!(response.status(), 200, "{action}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// Creates a queue and tells its URL and ARN.
pub async fn queue(cloud: &Cloud, name: &str) -> (String, String) {
    let answer = sqs(cloud, "CreateQueue", json!({ "QueueName": name })).await;
    let url = answer["QueueUrl"].as_str().unwrap().to_owned();
    (url, format!("arn:aws:sqs:us-east-1:000000000000:{name}"))
}

/// Takes all messages out of a queue, as JSON.
pub async fn drain(cloud: &Cloud, url: &str) -> Vec<Value> {
    let mut bodies = Vec::new();
    loop {
        let body = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 });
        let answer = sqs(cloud, "ReceiveMessage", body).await;
        let Some(messages) = answer["Messages"].as_array() else {
            return bodies;
        };
        for message in messages {
            bodies.push(serde_json::from_str(message["Body"].as_str().unwrap()).unwrap());
            let receipt = &message["ReceiptHandle"];
            sqs(cloud, "DeleteMessage", json!({ "QueueUrl": url, "ReceiptHandle": receipt })).await;
        }
    }
}

pub fn text(response: &Response) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The error code in an XML answer.
pub fn code(response: &Response) -> String {
    let text = text(response);
    let rest = text.split_once("<Code>").map_or("", |(_, rest)| rest);
    rest.split("</Code>").next().unwrap_or_default().to_owned()
}

/// Fills in what every SDK client needs to reach a local AWS.
macro_rules! client {
    ($sdk:ident, $endpoint:expr) => {{
        let config = $sdk::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .region($sdk::config::Region::new("eu-west-1"))
            .credentials_provider($sdk::config::Credentials::new("a", "b", None, None, "test"))
            .http_client(crate::common::http_client())
            .endpoint_url($endpoint)
            .build();
        $sdk::Client::from_conf(config)
    }};
}
pub(crate) use client;

pub fn http_client() -> impl aws_sdk_sqs::config::HttpClient + 'static {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https()
}
