//! A network that fails on order: a second port to a world's local AWS, at which
//! chosen calls are refused, held up or lose their answers. Not for what AWS
//! itself does: that is the local AWS behind it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use sluicegate_local::cloud::Cloud;
use sluicegate_local::wire::Request;
use tokio::sync::watch;

/// What happens to a call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// AWS has an inner error; the call has no effect.
    Unavailable,
    /// AWS does not want it; the call has no effect.
    Refused,
    /// Permission is lacking; the call has no effect.
    Denied,
    /// AWS has an inner error, which it calls the client's; the call has its effect.
    Muddled,
    /// The call has no effect, and its answer has nothing in it.
    Hollow,
    /// It never arrives, and nobody says so.
    RequestLost,
    /// It has its effect, and the connection breaks before the answer.
    AnswerLost,
    /// It arrives only when the faults are lifted.
    RequestHeld,
    /// It has its effect, but nothing comes back before the faults are lifted.
    AnswerHeld,
}

/// The port that the daemon uses. Without orders all calls pass.
pub struct Network {
    pub endpoint: String,
    line: Arc<Line>,
}

struct Line {
    cloud: Arc<Cloud>,
    /// By action: the fault, and for how many calls more.
    orders: Mutex<BTreeMap<String, (Fault, usize)>>,
    /// By action: calls that met a fault.
    met: Mutex<BTreeMap<String, usize>>,
    lifted: watch::Sender<bool>,
}

impl Network {
    pub async fn to(cloud: &Arc<Cloud>) -> Self {
        let line = Arc::new(Line {
            cloud: Arc::clone(cloud),
            orders: Mutex::default(),
            met: Mutex::default(),
            lifted: watch::Sender::new(false),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&line));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, line }
    }

    /// The next so many calls of an action meet the fault.
    pub fn order(&self, action: &str, fault: Fault, times: usize) {
        self.line.lifted.send_replace(false);
        self.line.orders.lock().unwrap().insert(action.to_owned(), (fault, times));
    }

    /// All calls pass again, those that are held up too.
    pub fn lift(&self) {
        self.line.orders.lock().unwrap().clear();
        self.line.lifted.send_replace(true);
    }

    /// How many calls of an action have met a fault.
    pub fn met(&self, action: &str) -> usize {
        self.line.met.lock().unwrap().get(action).copied().unwrap_or(0)
    }
}

impl Line {
    fn fault(&self, action: &str) -> Option<Fault> {
        let mut orders = self.orders.lock().unwrap();
        let (fault, left) = orders.get_mut(action).filter(|(_, left)| *left > 0)?;
        *left -= 1;
        *self.met.lock().unwrap().entry(action.to_owned()).or_default() += 1;
        Some(*fault)
    }

    /// Until the faults are lifted.
    async fn is_lifted(&self) {
        let lifted = self.lifted.subscribe().wait_for(|lifted| *lifted).await.is_ok();
        assert!(lifted, "the line outlives its calls");
    }

    async fn pass(&self, request: Request) -> Response {
        if request.uri.path() == "/_local/clock" && request.method == Method::GET {
            let clock = serde_json::to_vec(self.cloud.time().clock()).unwrap();
            return Response::new(clock.into());
        }
        self.cloud.handle(request).await.map(Body::from)
    }

    async fn meet(self: &Arc<Self>, fault: Fault, request: Request) -> Response {
        match fault {
            Fault::Unavailable => error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
            Fault::Refused if request.headers.contains_key("x-amz-target") => {
                error(StatusCode::BAD_REQUEST, "ValidationException")
            }
            Fault::Refused => {
                let error =
                    "<Error><Code>InvalidParameter</Code><Message>of a test</Message></Error>";
                let mut response =
                    Response::new(format!("<ErrorResponse>{error}</ErrorResponse>").into());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                response
            }
            Fault::Denied if request.headers.contains_key("x-amz-target") => {
                error(StatusCode::BAD_REQUEST, "AccessDeniedException")
            }
            Fault::Denied => {
                let error = |code| {
                    format!("<Error><Code>{code}</Code><Message>of a test</Message></Error>")
                };
                let error = match request.uri.query() {
                    Some(_) => error("AccessDenied"),
                    // SNS has a word of its own.
                    None => {
                        format!("<ErrorResponse>{}</ErrorResponse>", error("AuthorizationError"))
                    }
                };
                let mut response = Response::new(error.into());
                *response.status_mut() = StatusCode::FORBIDDEN;
                response
            }
            Fault::Muddled => {
                self.pass(request).await;
                error(StatusCode::BAD_REQUEST, "InternalServerException")
            }
            Fault::Hollow => Response::new("{}".into()),
            Fault::RequestLost => broken(),
            Fault::AnswerLost => {
                self.pass(request).await;
                broken()
            }
            Fault::RequestHeld => {
                let line = Arc::clone(self);
                // It is on its way, whether its sender still waits or not.
                let arrives = tokio::spawn(async move {
                    line.is_lifted().await;
                    line.pass(request).await
                });
                arrives.await.unwrap_or_else(|_| broken())
            }
            Fault::AnswerHeld => {
                let response = self.pass(request).await;
                self.is_lifted().await;
                response
            }
        }
    }
}

async fn answer(State(line): State<Arc<Line>>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else { return broken() };
    let (method, uri, headers) = (head.method, head.uri, head.headers);
    let request = Request { method, uri, headers, body };
    match line.fault(&action(&request)) {
        Some(fault) => line.meet(fault, request).await,
        None => line.pass(request).await,
    }
}

/// The action of a JSON protocol, of SNS's forms, or of S3 where it lists. Two writes
/// of items have names of their own.
fn action(request: &Request) -> String {
    let target = request.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let json = target.and_then(|target| target.rsplit('.').next());
    let body = std::str::from_utf8(&request.body).ok();
    let json = match json {
        Some("PutItem") if body.is_some_and(|body| body.contains("~notice/")) => Some("KeepNotice"),
        Some("PutItem") if body.is_some_and(|body| body.contains("\"test-run\"")) => Some("PutRun"),
        json => json,
    };
    let form =
        body.and_then(|body| body.split('&').find_map(|field| field.strip_prefix("Action=")));
    let query = request.uri.query().unwrap_or_default();
    let list = query.contains("list-type=2").then_some("ListObjectsV2");
    json.or(form).or(list).unwrap_or_default().to_owned()
}

fn error(status: StatusCode, code: &str) -> Response {
    let body = format!(r#"{{"__type": "{code}", "message": "ordered by a test"}}"#);
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

/// An answer that breaks off before its body, with its connection.
fn broken() -> Response {
    let cut = futures::stream::once(async { Err::<Bytes, _>(io::Error::other("cut")) });
    Response::new(Body::from_stream(cut))
}
