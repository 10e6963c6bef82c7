//! What can go wrong in a call to AWS, reduced to what a caller decides by.

use std::error::Error;
use std::fmt::Debug;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use crate::core::run::CallFailure;

#[derive(Debug, Clone, thiserror::Error)]
#[error("{service} {action}: {message}")]
pub struct AwsError {
    pub service: &'static str,
    pub action: &'static str,
    pub kind: Kind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Refused for now: certainly without effect.
    Deferred,
    /// Refused for good: certainly without effect.
    Refused,
    /// What was named does not exist.
    NotFound,
    /// It may have had its effect.
    Unknown,
}

const DEFERRED: [&str; 18] = [
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
    "IncompleteSignature",
];

const NOT_FOUND: [&str; 5] = [
    "ResourceNotFoundException",
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "NotFound",
    "NotFoundException",
];

impl AwsError {
    pub fn new<E>(
        service: &'static str,
        action: &'static str,
        error: &SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (kind, message) = match error {
            SdkError::ServiceError(answer) => {
                let code = answer.err().code().unwrap_or("no error code");
                let text = answer.err().message().unwrap_or("no message");
                (kind(code, answer.raw().status().as_u16()), format!("{code}: {text}"))
            }
            SdkError::ConstructionFailure(_) => (Kind::Refused, with_causes(error)),
            other => (Kind::Unknown, with_causes(other)),
        };
        Self { service, action, kind, message }
    }
}

/// An error and what caused it, in words. A cause that is already said is left out.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

fn kind(code: &str, status: u16) -> Kind {
    match code {
        code if DEFERRED.contains(&code) => Kind::Deferred,
        code if NOT_FOUND.contains(&code) => Kind::NotFound,
        _ if status == 429 => Kind::Deferred,
        _ if status == 408 => Kind::Unknown,
        _ if (400..500).contains(&status) => Kind::Refused,
        _ => Kind::Unknown,
    }
}

impl From<AwsError> for CallFailure {
    fn from(error: AwsError) -> Self {
        match error.kind {
            Kind::Deferred => CallFailure::Deferred(error.message),
            Kind::Refused | Kind::NotFound => CallFailure::Refused(error.message),
            Kind::Unknown => CallFailure::Unknown(error.message),
        }
    }
}
