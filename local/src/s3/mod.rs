//! S3 on plain files: the protocol is the library's, buckets, notifications
//! and uploads are ours. Versions, policies and encryption are not here.

mod buckets;
mod checksums;
mod chunked;
mod configuration;
mod conversion;
mod keys;
mod list;
mod listing;
mod notify;
mod service;
mod store;
mod uploads;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, StatusCode, Uri};
use http_body_util::BodyExt;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

use self::buckets::Buckets;
use crate::ids::Ids;
use crate::time::Time;
use crate::wire::{Answer, Request, Response};

pub use self::buckets::{Listeners, Snapshot};
pub use self::store::StoreError;

const METHODS: [Method; 6] =
    [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT];

/// The region that a request was signed for; where buckets are created.
#[derive(Debug, Clone)]
struct SignedRegion(String);

/// Receives the name of the operation from inside the library.
#[derive(Debug, Clone, Default)]
struct Operation(Arc<OnceLock<String>>);

/// The buckets of the account and their protocol.
pub struct S3 {
    buckets: Arc<Buckets>,
    service: S3Service,
}

impl S3 {
    /// Buckets lie as folders in `s3` below the data folder.
    pub fn open(
        data: &Path,
        listeners: Listeners,
        time: Time,
        ids: Arc<Ids>,
    ) -> std::io::Result<Self> {
        let buckets = Arc::new(Buckets::open(data, listeners, time, ids)?);
        let mut service = S3ServiceBuilder::new(service::Protocol::new(Arc::clone(&buckets)));
        // Nobody is authenticated, but only with this in place does the
        // library ask for access, which is where the operation gets its name.
        service.set_auth(SimpleAuth::new());
        service.set_access(service::Everybody);
        Ok(Self { buckets, service: service.build() })
    }

    /// The folder in which the buckets' folders lie.
    pub fn root(&self) -> &Path {
        self.buckets.store().root()
    }

    /// What the buckets hold now, to be compared after a process has run.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.buckets.snapshot()
    }

    /// Notifies of every file that was written or removed since `before`
    /// without going through S3, and tells how many there were.
    pub fn announce_changes(&self, before: &Snapshot) -> Result<usize, StoreError> {
        self.buckets.announce_changes(before)
    }

    /// Notifies of one file that was written without going through S3; false
    /// if its present content was notified before.
    pub fn announce(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        self.buckets.announce(bucket, key)
    }

    /// The content of an object, for another service.
    pub fn read(&self, bucket: &str, key: &str) -> Result<Vec<u8>, StoreError> {
        Ok(self.buckets.store().read(bucket, key)?.1)
    }

    pub fn has(&self, bucket: &str, key: &str) -> bool {
        self.buckets.store().head(bucket, key).is_ok()
    }

    /// The keys that begin with `prefix`, in S3's order.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.buckets.store().stamps(bucket, prefix)?.into_keys().collect())
    }

    pub async fn handle(&self, request: Request, region: &str) -> Answer {
        let operation = Operation::default();
        let wants_body = request.method != Method::HEAD;
        let known = METHODS.contains(&request.method);
        let mut response = match self.prepare(request, region, &operation) {
            Ok(_) if !known => xml_error(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
            ),
            Ok(request) => self.run(request).await,
            Err(error) => xml_error(StatusCode::BAD_REQUEST, "InvalidRequest", &error.to_string()),
        };
        let action = operation.0.get().cloned().unwrap_or_default();
        let outcome = outcome(&response);
        if !wants_body {
            *response.body_mut() = Bytes::new();
        }
        Answer { response, action, outcome }
    }

    /// Takes off what belongs to the transport: signature and framing.
    fn prepare(
        &self,
        request: Request,
        region: &str,
        operation: &Operation,
    ) -> Result<s3s::HttpRequest, PrepareError> {
        let Request { method, uri, mut headers, mut body } = request;
        if chunked::is_chunked(&headers) {
            body = chunked::decode(&mut headers, &body)?;
        }
        headers.remove(AUTHORIZATION);
        headers.remove("x-amz-content-sha256");
        let mut prepared = s3s::HttpRequest::new(s3s::Body::from(body));
        *prepared.method_mut() = method;
        *prepared.uri_mut() = without_signature(uri)?;
        *prepared.headers_mut() = headers;
        prepared.extensions_mut().insert(SignedRegion(region.to_owned()));
        prepared.extensions_mut().insert(operation.clone());
        Ok(prepared)
    }

    async fn run(&self, request: s3s::HttpRequest) -> Response {
        let internal =
            |message: &str| xml_error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message);
        let response = match self.service.call(request).await {
            Ok(response) => response,
            Err(error) => return internal(&format!("{error:?}")),
        };
        let (head, body) = response.into_parts();
        match body.collect().await {
            Ok(body) => Response::from_parts(head, body.to_bytes()),
            Err(error) => internal(&error.to_string()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error(transparent)]
    Body(#[from] chunked::Malformed),
    #[error("malformed address")]
    Uri(#[from] http::uri::InvalidUri),
}

/// The query of a presigned address without its signature, old or new.
fn without_signature(uri: Uri) -> Result<Uri, PrepareError> {
    let Some(query) = uri.query() else {
        return Ok(uri);
    };
    let of_signature = |name: &str| {
        name.starts_with("X-Amz-") || ["AWSAccessKeyId", "Expires", "Signature"].contains(&name)
    };
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| !of_signature(pair.split('=').next().unwrap_or_default()))
        .collect();
    Ok(format!("{}?{}", uri.path(), rest.join("&")).parse()?)
}

fn xml_error(status: StatusCode, code: &str, message: &str) -> Response {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
}

/// The error code in a refusal, or its status where there is no body.
fn outcome(response: &Response) -> String {
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return "ok".to_owned();
    }
    let body = String::from_utf8_lossy(response.body());
    let code = body
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code.to_owned());
    code.unwrap_or_else(|| status.as_u16().to_string())
}
