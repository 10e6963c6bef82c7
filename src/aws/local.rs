//! The one thing about a local AWS that is not AWS: its development clock.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::clock::Clock;

/// A clock is three fields.
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks a local AWS for its clock; None if it does not answer with one.
pub async fn clock(endpoint: &str) -> Option<Clock> {
    let uri = format!("{}/_local/clock", endpoint.trim_end_matches('/')).parse().ok()?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = tokio::time::timeout(super::CONNECT_TIMEOUT, client.get(uri)).await.ok()?.ok()?;
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}
