//! What every service speaks: one HTTP request in, one response out, and AWS's
//! error shape. Not for anything that belongs to one service.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

/// A whole request, body read.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

pub type Response = http::Response<Bytes>;

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
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: message.into(),
        }
    }
}
