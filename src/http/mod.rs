//! What the service answers over HTTP: whether it lives, whether it can do its
//! work, what it measures. Loopback by default, read-only, without secrets; where
//! others reach it, the metrics are for who has the token.

mod token;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::token::{Token, TokenError};
use crate::config::Listen;
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
pub enum ListenError {
    #[error(
        "cannot listen at {address}: {source}\n    free the address, or choose another by [http] \
         listen or --http; off switches health and metrics off"
    )]
    Taken { address: SocketAddr, source: std::io::Error },
    #[error(
        "others reach {0}, and no token is named: expected an address of loopback, such as \
         127.0.0.1:8080\n    choose one by [http] listen or --http, or let token of [http] name the \
         environment variable that holds a token: token = {{ env = \"NAME\" }}"
    )]
    Public(SocketAddr),
}

/// An address that is taken, and what opens the metrics there.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    token: Option<Token>,
}

impl Listener {
    /// Where it listens; tells the port if any free one was asked for.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Takes the address, so that a taken one is told at the start. One that others
/// reach needs a token.
pub async fn bind(address: SocketAddr, token: Option<Token>) -> Result<Listener, ListenError> {
    if token.is_none() && Listen::At(address).is_public() {
        return Err(ListenError::Public(address));
    }
    let tcp = TcpListener::bind(address).await;
    let tcp = tcp.map_err(|source| ListenError::Taken { address, source })?;
    Ok(Listener { tcp, token })
}

/// Answers until told to stop.
pub async fn serve(listener: Listener, engine: Arc<Engine>, shutdown: CancellationToken) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "health and metrics are served");
    }
    let Listener { tcp: listener, token } = listener;
    let service = TowerToHyperService::new(router(Served { engine, token }));
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

/// What is told of, and to whom all of it.
struct Served {
    engine: Arc<Engine>,
    token: Option<Token>,
}

impl Served {
    /// Whether all may be told: there is a token in the headers, or none is needed.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION);
        self.token.as_ref().is_none_or(|token| token.is_in(given))
    }
}

fn router(served: Served) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(served))
}

/// 200 while the loops come round; a supervisor restarts the process otherwise.
async fn healthz(State(served): State<Arc<Served>>) -> Response {
    let engine = &served.engine;
    let hanging = engine.health().hanging(engine.agenda_glance(), engine.clock());
    match hanging.as_slice() {
        [] => (StatusCode::OK, "ok\n").into_response(),
        loops => {
            let text = format!("hangs: {}\n", loops.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// 200 while the queue and the tables answer. The reasons, which name what is AWS's, are for
/// who has the token.
async fn readyz(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    let engine = &served.engine;
    let problems = engine.health().not_ready(engine.clock());
    match problems.as_slice() {
        [] => (StatusCode::OK, "ok\n").into_response(),
        _ if !served.knows(&headers) => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
        problems => {
            let text = format!("not ready\n{}\n", problems.join("\n"));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn metrics(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    if !served.knows(&headers) {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        let text = "the metrics need a token: Authorization: Bearer TOKEN\n";
        return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
    }
    let engine = &served.engine;
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
