//! What services share: one HTTP request in, one response out, AWS's error
//! shape and the rules for batches. Not for anything of one service alone.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The account that every ARN names.
pub const ACCOUNT: &str = "000000000000";

/// A whole request, body read.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub type Response = http::Response<Bytes>;

/// A response, with what the call log says of it.
#[derive(Debug)]
pub struct Answer {
    pub response: Response,
    pub action: String,
    /// `ok`, or the error code.
    pub outcome: String,
}

/// A refusal in AWS's words: the service's error code, as its model names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl ApiError {
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }
}

/// Reads a request of a JSON protocol into its shape.
pub fn parse_body<T: DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_json::from_value(body).map_err(|error| {
        let message = error.to_string();
        let code = if message.contains("missing field") {
            "MissingParameter"
        } else {
            "SerializationException"
        };
        ApiError::bad_request(code, message)
    })
}

/// The rules for the entries of a batch, the same in SQS and SNS.
pub fn check_batch<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> Result<(), ApiError> {
    let refuse = |code, message: &str| Err(ApiError::bad_request(code, message));
    let count = ids.len();
    if count == 0 {
        return refuse("EmptyBatchRequest", "There should be at least one entry.");
    }
    if count > 10 {
        let message = "Maximum number of entries per request are 10.";
        return refuse("TooManyEntriesInBatchRequest", message);
    }
    let ids: BTreeSet<&str> = ids.collect();
    if ids.len() < count {
        return refuse("BatchEntryIdsNotDistinct", "Ids must be distinct.");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if ids.iter().any(|id| id.is_empty() || id.len() > 80 || !id.chars().all(allowed)) {
        return refuse("InvalidBatchEntryId", "An id is malformed.");
    }
    Ok(())
}

/// Whether XML 1.0 can hold a character; SQS and XML requests take no others.
pub fn is_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
