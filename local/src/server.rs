//! A loopback HTTP port: reads whole requests for the cloud, or for a line that
//! leads there, and writes whole responses. Not for the open network: nothing is
//! authenticated.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cloud::Cloud;
use crate::wire::{Request, Response};

/// Bodies are held in memory; larger uploads come in parts.
const BODY_BYTES_MAX: usize = 1 << 30;
/// For requests under way when the server is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Before the next attempt when a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// No answer: the connection ends instead.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut")]
pub struct Cut;

/// Serves until `shutdown`, then lets requests under way finish.
pub async fn serve<H, F>(listener: TcpListener, handle: H, shutdown: CancellationToken)
where
    H: Fn(Request) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response, Cut>> + Send + 'static,
{
    let server = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: wait for some to be closed.
                tracing::warn!(%error, "connection not accepted");
                let _ = tokio::time::timeout(ACCEPT_PAUSE, shutdown.cancelled()).await;
                continue;
            }
        };
        // Answers are small and waited for; the kernel is not to hold them back.
        let _ = stream.set_nodelay(true);
        let handle = handle.clone();
        let service = service_fn(move |request| answer(handle.clone(), request));
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still under way were cut off");
    }
}

async fn answer<H, F>(
    handle: H,
    request: hyper::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Cut>
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<Response, Cut>>,
{
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::debug!(%error, "request not read");
            return Ok(status(StatusCode::PAYLOAD_TOO_LARGE).map(Full::new));
        }
    };
    let request = Request { method: head.method, uri: head.uri, headers: head.headers, body };
    Ok(handle(request).await?.map(Full::new))
}

/// What the port of the local AWS answers: the cloud, and what is local.
pub async fn respond(cloud: &Cloud, request: Request) -> Response {
    match request.uri.path() {
        "/_local/health" if request.method == Method::GET => status(StatusCode::OK),
        "/_local/clock" if request.method == Method::GET => clock(cloud),
        path if path.starts_with("/_local/") => status(StatusCode::NOT_FOUND),
        _ => cloud.handle(request).await,
    }
}

fn clock(cloud: &Cloud) -> Response {
    let Ok(json) = serde_json::to_vec(cloud.time().clock()) else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = Response::new(Bytes::from(json));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}
