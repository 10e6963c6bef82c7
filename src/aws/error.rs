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

const DEFERRED: [&str; 11] = [
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ActiveStatementsExceededException",
    "ActiveSessionsExceededException",
];

/// The signature was not accepted: credentials have expired, or a clock is off.
const UNSIGNED: [&str; 9] = [
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

/// A permission is lacking, that to use a key among them.
const DENIED: [&str; 7] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "KMSAccessDenied",
    "KMSAccessDeniedException",
    "KmsAccessDenied",
];

/// Why DynamoDB may cancel a transaction that would pass the next time.
const CANCELLED_FOR_RATE: [&str; 2] = ["ThrottlingError", "ProvisionedThroughputExceeded"];

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
                (kind(code, text, answer.raw().status().as_u16()), format!("{code}: {text}"))
            }
            SdkError::ConstructionFailure(_) => (Kind::Refused, with_causes(error)),
            other => (Kind::Unknown, with_causes(other)),
        };
        Self { service, action, kind, message }
    }
}

impl AwsError {
    /// Whether it was refused for who asked and not for the rate: asking at the
    /// quota's pace would not help.
    pub fn is_about_the_signature(&self) -> bool {
        let code = self.message.split(':').next().unwrap_or_default();
        UNSIGNED.contains(&code)
    }

    /// Whether whoever asks may not: a right is lacking.
    pub fn is_denied(&self) -> bool {
        let code = self.message.split(':').next().unwrap_or_default();
        DENIED.contains(&code)
    }

    /// Whether EMR knows no cluster of the id that was asked for.
    pub fn names_no_cluster(&self) -> bool {
        self.kind == Kind::Refused
            && self.message.contains("Cluster id")
            && self.message.contains("is not valid")
    }

    /// Whether what the request says is at fault, and not permissions or the
    /// moment: the same request would be refused again, another one may pass.
    pub fn is_about_the_request(&self) -> bool {
        let about = |code| self.message.starts_with(code);
        self.kind == Kind::Refused && ["ValidationException", "InvalidParameter"].iter().any(about)
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

fn kind(code: &str, text: &str, status: u16) -> Kind {
    let for_its_rate = || CANCELLED_FOR_RATE.iter().any(|reason| text.contains(reason));
    match code {
        "TransactionCanceledException" if for_its_rate() => Kind::Deferred,
        code if DEFERRED.contains(&code) || UNSIGNED.contains(&code) => Kind::Deferred,
        code if NOT_FOUND.contains(&code) => Kind::NotFound,
        _ if status == 429 => Kind::Deferred,
        // EMR's models declare some of its inner errors as the client's, with 400.
        _ if status == 408 || code.starts_with("Internal") => Kind::Unknown,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_whether_the_call_had_its_effect() {
        let cancelled = "TransactionCanceledException";
        for (code, text, status, expected) in [
            ("ValidationException", "no such release", 400, Kind::Refused),
            ("ThrottlingException", "Rate exceeded", 400, Kind::Deferred),
            ("InternalServerException", "", 400, Kind::Unknown),
            ("InternalFailure", "", 500, Kind::Unknown),
            ("RequestTimeout", "", 408, Kind::Unknown),
            ("SlowDown", "", 429, Kind::Deferred),
            // As many loads as Redshift takes are under way; each waits for the ledger.
            ("ActiveStatementsExceededException", "", 400, Kind::Deferred),
            // A batch that is throttled is not too large.
            (cancelled, "for specific reasons [None, ThrottlingError]", 400, Kind::Deferred),
            (cancelled, "[ProvisionedThroughputExceeded]", 400, Kind::Deferred),
            (cancelled, "[ValidationError, None]", 400, Kind::Refused),
            (cancelled, "[ConditionalCheckFailed]", 400, Kind::Refused),
        ] {
            assert_eq!(kind(code, text, status), expected, "{code} {text} {status}");
        }
    }

    #[test]
    fn expired_credentials_are_no_matter_of_rates() {
        for (message, expected) in [
            ("ExpiredTokenException: The security token included in the request is expired", true),
            ("ThrottlingException: Rate exceeded", false),
        ] {
            let message = message.to_owned();
            let error = AwsError { service: "EMR", action: "x", kind: Kind::Deferred, message };
            assert_eq!(error.is_about_the_signature(), expected);
        }
    }
}
