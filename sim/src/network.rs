//! The network between the replicas and the cloud: every request of every
//! replica passes `exchange`, which carries out the fate that `faults` has
//! chosen. Not for choosing fates, nor for judging effects.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use sluicegate_local::wire::{Request, Response};

use crate::call::{Call, Phase, Service};
use crate::faults::Fault;
use crate::replica::Life;
use crate::time::pass;
use crate::world::World;

/// How old a signature may be that AWS accepts.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
/// What an error says that says no more.
const SIMULATED: &str = "simulated";

/// The HTTP client of one process; without one, of the operator, whom no fault
/// meets.
pub fn client(world: &Arc<World>, life: Option<&Arc<Life>>) -> SharedHttpClient {
    let (world, life) = (Arc::clone(world), life.cloned());
    let connector = SharedHttpConnector::new(Connector { world, life });
    http_client_fn(move |_, _| connector.clone())
}

struct Connector {
    world: Arc<World>,
    life: Option<Arc<Life>>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (world, life) = (Arc::clone(&self.world), self.life.clone());
        HttpConnectorFuture::new(async move {
            let request = plain(request).await?;
            let response = match life {
                Some(life) => exchange(&world, &life, request).await?,
                None => world.cloud.handle(request).await,
            };
            sdk_response(response)
        })
    }
}

/// One request of a replica and its answer, if it gets one.
async fn exchange(
    world: &Arc<World>,
    life: &Arc<Life>,
    request: Request,
) -> Result<Response, ConnectorError> {
    let call = Call::read(&request).ok_or_else(|| failure("a request that is not AWS's"))?;
    world.decided(life, &call);
    life.machine.pass_gate().await;
    if life.is_dead() {
        return never().await;
    }
    let fault = world.sends(life, &call);
    if fault == Some(Fault::CrashBefore) {
        life.kill();
        return never().await;
    }
    if matches!(fault, Some(Fault::Delayed | Fault::CrashInFlight)) {
        arrive_later(world, life, call, request, fault);
        return never().await;
    }
    pass(world.latency()).await;
    let response = match fault {
        Some(Fault::Throttled) => Ok(not_now(&call)),
        Some(Fault::FailedBefore) => Ok(refusal(call.service, 500, "InternalFailure")),
        Some(Fault::Refused) => Ok(refusal(call.service, 400, "ValidationException")),
        Some(Fault::Denied) => Ok(refusal(call.service, 400, "AccessDeniedException")),
        Some(Fault::Expired) => Ok(refusal(call.service, 400, "ExpiredTokenException")),
        Some(Fault::Unreachable) => Err(failure("connection refused")),
        Some(Fault::RequestLost) => return never().await,
        Some(Fault::ClusterLost) => {
            world.lose_cluster(&call);
            return never().await;
        }
        Some(Fault::Stale) => Ok(world.stale(&call).unwrap_or_else(empty_query)),
        _ => {
            let response = world.apply(&life.to_string(), &call, request).await;
            match fault {
                Some(Fault::FailedAfter) => Ok(refusal(call.service, 500, "InternalFailure")),
                Some(Fault::ResponseLost) => return never().await,
                Some(Fault::CrashApplied) => {
                    life.kill();
                    return never().await;
                }
                // The HTTP client notices that an object is cut off.
                Some(Fault::Truncated) if call.service == Service::S3 => {
                    Err(failure("connection closed before message completed"))
                }
                Some(Fault::Truncated) => Ok(truncated(response)),
                Some(Fault::Stopped) => {
                    stand_still(world, life);
                    Ok(response)
                }
                Some(Fault::Ended) => {
                    life.end();
                    Ok(response)
                }
                _ => Ok(response),
            }
        }
    };
    pass(world.latency()).await;
    life.machine.pass_gate().await;
    if life.is_dead() {
        return never().await;
    }
    if fault == Some(Fault::CrashAfter) {
        // Behind whatever the replica does at once with the answer.
        let life = Arc::clone(life);
        tokio::spawn(async move { life.kill() });
    }
    response
}

/// The request goes on without its sender.
fn arrive_later(
    world: &Arc<World>,
    life: &Arc<Life>,
    call: Call,
    request: Request,
    fault: Option<Fault>,
) {
    let delay = match fault {
        Some(Fault::Delayed) => world.delay(&call),
        _ => world.latency(),
    };
    let (late, who) = (Arc::clone(world), format!("{life}, late"));
    late.leaves_late();
    tokio::spawn(async move {
        pass(delay).await;
        // AWS refuses what was signed so long ago. The ledger is put to the test
        // with it, but nothing can protect a load that was given up.
        let outdated = delay > SIGNED_FOR && call.phase == Phase::SendLoad;
        if !(outdated && late.oracle().is_given_up(&call.about)) {
            late.apply(&who, &call, request).await;
        }
        late.has_arrived();
    });
    if fault == Some(Fault::CrashInFlight) {
        life.kill();
    }
}

/// SIGSTOP, and SIGCONT a good while later.
fn stand_still(world: &Arc<World>, life: &Arc<Life>) {
    life.machine.stop();
    let (span, machine) = (world.standstill(), Arc::clone(&life.machine));
    tokio::spawn(async move {
        pass(span).await;
        machine.resume();
    });
}

/// No answer ever comes: the caller's time-out or its death ends it.
async fn never<T>() -> T {
    std::future::pending().await
}

fn failure(words: &str) -> ConnectorError {
    ConnectorError::io(words.to_owned().into())
}

/// How a call is refused for now. A transaction that meets another one is told so; the
/// request decides which of the two it is.
fn not_now(call: &Call) -> Response {
    let (code, message) = match call.action.as_str() {
        "BatchExecuteStatement" => ("ActiveStatementsExceededException", SIMULATED),
        "TransactWriteItems" if call.body.to_string().len().is_multiple_of(2) => {
            ("TransactionCanceledException", "cancelled for [None, TransactionConflict]")
        }
        _ => ("ThrottlingException", SIMULATED),
    };
    refusal_saying(call.service, 400, code, message)
}

/// An error as the service would put it.
fn refusal(service: Service, status: u16, code: &str) -> Response {
    refusal_saying(service, status, code, SIMULATED)
}

fn refusal_saying(service: Service, status: u16, code: &str, message: &str) -> Response {
    let body = match service {
        Service::S3 => {
            format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")
        }
        Service::Sns => format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>\
             <Message>{message}</Message></Error></ErrorResponse>"
        ),
        Service::DynamoDb | Service::Emr | Service::Redshift | Service::Sqs => {
            json!({ "__type": code, "message": message }).to_string()
        }
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

fn empty_query() -> Response {
    Response::new(Bytes::from(json!({ "Count": 0, "ScannedCount": 0, "Items": [] }).to_string()))
}

fn truncated(mut response: Response) -> Response {
    let body = response.body();
    *response.body_mut() = body.slice(..body.len() / 2);
    response
}

/// Without the SDK's types. The body is read as a connection would read it: the
/// SDK watches that it is.
async fn plain(mut request: HttpRequest) -> Result<Request, ConnectorError> {
    let other = |error: http::Error| ConnectorError::other(error.into(), None);
    let body = ByteStream::new(std::mem::replace(request.body_mut(), SdkBody::taken()));
    let body = body.collect().await.map_err(|error| ConnectorError::io(error.into()))?;
    let mut builder = http::Request::builder().method(request.method()).uri(request.uri());
    for (name, value) in request.headers() {
        builder = builder.header(name, value);
    }
    let (head, ()) = builder.body(()).map_err(other)?.into_parts();
    let body = body.into_bytes();
    Ok(Request { method: head.method, uri: head.uri, headers: head.headers, body })
}

fn sdk_response(response: Response) -> Result<HttpResponse, ConnectorError> {
    let (head, body) = response.into_parts();
    let status = head.status.as_u16().try_into();
    let status = status.map_err(|_| failure("an answer without a status"))?;
    let mut answer = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &head.headers {
        if let Ok(value) = value.to_str() {
            answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(answer)
}
