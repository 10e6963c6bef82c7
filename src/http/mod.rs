//! What the service answers over HTTP: whether it lives, whether it can do its
//! work, what it measures. Loopback by default, read-only, without secrets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// Connections side by side; for one more the oldest is given up, so that
/// slow clients keep nobody else from an answer.
const CONNECTIONS_MAX: usize = 64;
/// One connection carries one request, and this is all the time it has.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that is not slow has sent its request by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// A request's head, in bytes.
const HEAD_MAX: usize = 16 * 1024;

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen at {address}: {source}\n    free the address, or choose another by [http] \
     listen or --http; off switches health and metrics off"
)]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Takes the address, so that a taken one is told at the start.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Answers until told to stop.
pub async fn serve(listener: TcpListener, engine: Arc<Engine>, shutdown: CancellationToken) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "health and metrics are served");
    }
    let service = TowerToHyperService::new(router(engine));
    let mut connections = JoinSet::new();
    let mut oldest_first = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {
                oldest_first.retain(|connection: &AbortHandle| !connection.is_finished());
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if oldest_first.len() >= CONNECTIONS_MAX
                        && let Some(oldest) = oldest_first.pop_front()
                    {
                        oldest.abort();
                    }
                    oldest_first.push_back(connections.spawn(connection(stream, service.clone())));
                }
                // A connection that was given up before it was taken, or no
                // file descriptors left: others may still come.
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    let _ = tokio::time::timeout(Duration::from_millis(100), shutdown.cancelled()).await;
                }
            },
        }
    }
    // Each has a bound; the shutdown's deadline is longer.
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, service: TowerToHyperService<Router>) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    // Whoever is too slow or speaks no HTTP is no concern of ours.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
}

fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(engine)
}

/// 200 while the loops come round; a supervisor restarts the process otherwise.
async fn healthz(State(engine): State<Arc<Engine>>) -> Response {
    let hanging = engine.health().hanging(engine.agenda_glance(), engine.clock());
    match hanging.as_slice() {
        [] => (StatusCode::OK, "ok\n").into_response(),
        loops => {
            let text = format!("hangs: {}\n", loops.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// 200 while the queue and the tables answer.
async fn readyz(State(engine): State<Arc<Engine>>) -> Response {
    let problems = engine.health().not_ready(engine.clock());
    match problems.as_slice() {
        [] => (StatusCode::OK, "ok\n").into_response(),
        problems => {
            let text = format!("not ready\n{}\n", problems.join("\n"));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn metrics(State(engine): State<Arc<Engine>>) -> Response {
    let clock = engine.clock();
    match engine.metrics().text(engine.agenda_glance(), clock.now()) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
