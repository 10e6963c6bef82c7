//! What every service speaks: one HTTP request in, one response out, and AWS's
//! error shape. Not for anything that belongs to one service.

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
