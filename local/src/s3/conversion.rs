//! Between our types and those of the S3 library: errors, conditions, bodies,
//! encodings. Not for any operation.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::Timestamp;
use s3s::dto::{CopySource, ETagCondition, EncodingType, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::keys::KeyError;
use super::store::{Object, StoreError};
use super::uploads::UploadError;

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            StoreError::NoSuchKey => S3ErrorCode::NoSuchKey,
            StoreError::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            StoreError::BucketExists => S3ErrorCode::BucketAlreadyOwnedByYou,
            StoreError::Key(KeyError::TooLong) => S3ErrorCode::KeyTooLongError,
            StoreError::Key(KeyError::ClimbsOut) => S3ErrorCode::InvalidURI,
            StoreError::Io(source) => {
                tracing::error!(error = %source, "object store failed");
                S3ErrorCode::InternalError
            }
        };
        S3Error::with_message(code, error.to_string())
    }
}

impl From<UploadError> for S3Error {
    fn from(error: UploadError) -> Self {
        let code = match &error {
            UploadError::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            UploadError::InvalidPart => S3ErrorCode::InvalidPart,
            UploadError::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            UploadError::TooSmall(_) => S3ErrorCode::EntityTooSmall,
            UploadError::Io(source) => {
                tracing::error!(error = %source, "upload failed");
                S3ErrorCode::InternalError
            }
        };
        S3Error::with_message(code, error.to_string())
    }
}

/// Whether an object is the one, or one of those, that a client means.
pub fn is_met(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

/// Refuses to show an object that a client does not want.
pub fn check_read(
    object: &Object,
    if_match: &Option<ETagCondition>,
    if_none_match: &Option<ETagCondition>,
) -> S3Result<()> {
    if if_match.as_ref().is_some_and(|condition| !is_met(condition, object)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if if_none_match.as_ref().is_some_and(|condition| is_met(condition, object)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// Bucket and key of what is to be copied.
pub fn source(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket { bucket, key, .. } => Ok((bucket, key)),
        _ => Err(s3_error!(NotImplemented, "the local S3 copies from buckets only")),
    }
}

/// A part's number, of which S3 allows 10,000.
pub fn part_number(number: i32) -> S3Result<u16> {
    let valid = (1..=10_000).contains(&number);
    let number = u16::try_from(number).ok().filter(|_| valid);
    number.ok_or_else(|| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

/// A whole body.
pub async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let mut whole = BytesMut::new();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            whole.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody))?);
        }
    }
    Ok(whole.freeze())
}

/// A key in a listing, in the encoding that the client wants.
pub fn encoded(text: &str, encoding: Option<&EncodingType>) -> String {
    if encoding.is_some() {
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        encoded.replace("%2F", "/")
    } else {
        text.to_owned()
    }
}

/// Opaque to clients, and free of characters that XML cannot hold.
pub fn to_token(key: impl AsRef<str>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(key.as_ref())
}

/// Undoes `to_token`.
pub fn from_token(token: &str) -> S3Result<String> {
    BASE64_URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// Instants before 1970 cannot be shown in S3's formats here.
pub fn timestamp(instant: Timestamp) -> s3s::dto::Timestamp {
    std::time::SystemTime::from(instant).into()
}
