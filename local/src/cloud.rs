//! All services behind one function from request to response, without a
//! socket: the HTTP port and a simulator's connector both call it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::call_log::{Call, CallLog, Counts};
use crate::dynamodb::DynamoDb;
use crate::emr::{self, Emr};
use crate::events::Events;
use crate::ids::Ids;
use crate::redshift::postgres::Postgres;
use crate::redshift::warehouse::Warehouse;
use crate::redshift::{self, RedshiftData};
use crate::request_log::RequestLog;
use crate::route::{Route, Service, route, target_action};
use crate::s3::{Listeners, S3};
use crate::sns::{self, Sns};
use crate::sqs::Sqs;
use crate::time::Time;
use crate::wire::{Answer, ApiError, Request, Response};

/// What a cloud is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where objects, mails and the call log lie.
    pub data: PathBuf,
    /// Where the bodies of requests are written, if anywhere.
    pub requests: Option<PathBuf>,
    /// Tables and the call log in memory instead of files.
    pub in_memory: bool,
    pub time: Time,
    /// How clients reach it, as it appears in queue URLs.
    pub endpoint: String,
    /// Identifiers follow from it.
    pub seed: u64,
    pub emr: emr::Options,
    /// What is behind Redshift's API.
    pub redshift: redshift::Database,
    /// Ends long polls.
    pub shutdown: CancellationToken,
}

/// The account with its services.
pub struct Cloud {
    dynamodb: DynamoDb,
    emr: Arc<Emr>,
    events: Arc<Events>,
    redshift: RedshiftData,
    s3: Arc<S3>,
    sns: Arc<Sns>,
    sqs: Arc<Sqs>,
    calls: CallLog,
    requests: Option<RequestLog>,
    time: Time,
}

impl Cloud {
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts { data, time, endpoint, shutdown, .. } = parts;
        std::fs::create_dir_all(&data)
            .with_context(|| format!("cannot create the data folder {}", data.display()))?;
        let requests = parts.requests.as_deref().map(RequestLog::create).transpose();
        let requests = requests.context("cannot write the requests")?;
        let ids = Arc::new(Ids::new(parts.seed));
        let (dynamodb, calls) = if parts.in_memory {
            (DynamoDb::in_memory(time.clone()), CallLog::in_memory())
        } else {
            let log = data.join("calls.jsonl");
            let log = CallLog::append_to(&log)
                .with_context(|| format!("cannot write the call log {}", log.display()))?;
            (DynamoDb::open(&data.join("dynamodb.sqlite")), log)
        };
        let sqs = Sqs::new(time.clone(), Arc::clone(&ids), endpoint.clone(), shutdown.clone());
        let sqs = Arc::new(sqs);
        let sns = Sns::open(&data, Arc::clone(&sqs), time.clone(), Arc::clone(&ids), endpoint);
        let sns = Arc::new(sns.context("cannot open the mail folder")?);
        let events = Arc::new(Events::new(Arc::clone(&sqs), time.clone(), Arc::clone(&ids)));
        let listeners =
            Listeners { events: Arc::clone(&events), sns: Arc::clone(&sns), sqs: Arc::clone(&sqs) };
        let s3 = S3::open(&data, listeners, time.clone(), Arc::clone(&ids))
            .with_context(|| format!("cannot open the buckets in {}", data.display()))?;
        let s3 = Arc::new(s3);
        let warehouse: Option<Arc<dyn Warehouse>> = match parts.redshift {
            redshift::Database::Absent => None,
            redshift::Database::Given(warehouse) => Some(warehouse),
            redshift::Database::Postgres(programs) => {
                let folder = data.join("redshift");
                Some(Arc::new(Postgres::new(programs, folder, Arc::clone(&s3))))
            }
        };
        Ok(Self {
            dynamodb: dynamodb.context("cannot open the DynamoDB tables")?,
            emr: Arc::new(Emr::new(&parts.emr, time.clone(), parts.seed)),
            events,
            redshift: RedshiftData::new(warehouse, time.clone(), ids, shutdown),
            s3,
            sns,
            sqs,
            calls,
            requests,
            time,
        })
    }

    /// Answers one request. Never fails: errors are responses.
    pub async fn handle(&self, request: Request) -> Response {
        let started = self.time.real();
        let time = self.time.dev();
        let body = request.body.clone();
        let (service, answer) = match route(&request) {
            Ok(route) => (route.service.name(), self.dispatch(&route, request).await),
            Err(service) => ("unknown", unknown_service(&service, &request)),
        };
        if let Some(log) = self.requests.as_ref().filter(|_| service != Service::S3.name()) {
            log.record(service, &answer.action, &answer.outcome, &body);
        }
        let millis = self.time.real().duration_since(started).as_millis();
        self.calls.record(&Call {
            time,
            service,
            action: &answer.action,
            outcome: &answer.outcome,
            millis: u64::try_from(millis).unwrap_or(0),
        });
        answer.response
    }

    async fn dispatch(&self, route: &Route, request: Request) -> Answer {
        let action = target_action(&request);
        let region = &route.region;
        match route.service {
            Service::DynamoDb => self.dynamodb.call(action, &request.body),
            Service::Sqs => {
                let result = match json_body(&request) {
                    Ok(body) => self.sqs.call(action, body, region).await,
                    Err(error) => Err(error),
                };
                sqs_answer(action, result)
            }
            Service::Events => {
                let body = json_body(&request);
                let result = body.and_then(|body| self.events.call(action, body, region));
                json_answer(action, result, JSON_1_1)
            }
            Service::RedshiftData => {
                let body = json_body(&request);
                redshift_answer(action, body, |body| self.redshift.call(action, body))
            }
            Service::S3 => self.s3.handle(request, region).await,
            // A link has its parameters in the address.
            Service::Sns if request.body.is_empty() => {
                self.sns.call(request.uri.query().unwrap_or_default().as_bytes(), region)
            }
            Service::Sns => self.sns.call(&request.body, region),
            Service::Emr => {
                let body = json_body(&request);
                json_answer(action, body.and_then(|body| self.emr.call(action, body)), JSON_1_1)
            }
        }
    }

    /// How often each action was called.
    pub fn calls(&self) -> Counts {
        self.calls.counts()
    }

    pub fn time(&self) -> &Time {
        &self.time
    }

    pub fn emr(&self) -> &Arc<Emr> {
        &self.emr
    }

    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub fn redshift(&self) -> &RedshiftData {
        &self.redshift
    }

    pub fn s3(&self) -> &Arc<S3> {
        &self.s3
    }

    pub fn sns(&self) -> &Arc<Sns> {
        &self.sns
    }

    pub fn sqs(&self) -> &Arc<Sqs> {
        &self.sqs
    }

    pub fn dynamodb(&self) -> &DynamoDb {
        &self.dynamodb
    }
}

const JSON_1_0: &str = "application/x-amz-json-1.0";
const JSON_1_1: &str = "application/x-amz-json-1.1";

fn json_body(request: &Request) -> Result<Value, ApiError> {
    if request.body.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(&request.body)
        .map_err(|error| ApiError::bad_request("SerializationException", error.to_string()))
}

fn json_answer(
    action: &str,
    result: Result<Value, ApiError>,
    content_type: &'static str,
) -> Answer {
    let (status, body, outcome) = match result {
        Ok(body) => (StatusCode::OK, body, "ok"),
        Err(error) => {
            let body = serde_json::json!({ "__type": error.code, "message": error.message });
            (error.status, body, error.code)
        }
    };
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Answer { response, action: action.to_owned(), outcome: outcome.to_owned() }
}

/// Its model says which statement was not found.
fn redshift_answer(
    action: &str,
    body: Result<Value, ApiError>,
    call: impl FnOnce(Value) -> Result<Value, ApiError>,
) -> Answer {
    let id = body.as_ref().ok().and_then(|body| body.get("Id")).cloned();
    let mut answer = json_answer(action, body.and_then(call), JSON_1_1);
    if answer.outcome == "ResourceNotFoundException"
        && let Ok(mut refusal) = serde_json::from_slice::<Value>(answer.response.body())
        && let Some(id) = id
    {
        refusal["ResourceId"] = id;
        *answer.response.body_mut() = Bytes::from(refusal.to_string());
    }
    answer
}

/// In the protocol that the client most likely reads.
fn unknown_service(service: &str, request: &Request) -> Answer {
    let served = Service::ALL.map(Service::name).join(", ");
    let message = format!("{service} is not served by the local AWS, which has {served}");
    let error = ApiError::bad_request("UnknownService", message);
    let action = target_action(request).to_owned();
    if action.is_empty() { sns::refusal(error) } else { json_answer(&action, Err(error), JSON_1_0) }
}

/// Clients that know SQS from its Query protocol read the old code in a header.
fn sqs_answer(action: &str, result: Result<Value, ApiError>) -> Answer {
    let old_code = result.as_ref().err().map(|error| match error.code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
        "QueueNameExists" => "QueueAlreadyExists",
        "EmptyBatchRequest" => "AWS.SimpleQueueService.EmptyBatchRequest",
        "TooManyEntriesInBatchRequest" => "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        "BatchEntryIdsNotDistinct" => "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        "BatchRequestTooLong" => "AWS.SimpleQueueService.BatchRequestTooLong",
        "InvalidBatchEntryId" => "AWS.SimpleQueueService.InvalidBatchEntryId",
        "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight",
        "UnsupportedOperation" => "AWS.SimpleQueueService.UnsupportedOperation",
        same => same,
    });
    let mut answer = json_answer(action, result, JSON_1_0);
    if let Some(value) = old_code.and_then(|code| format!("{code};Sender").parse().ok()) {
        answer.response.headers_mut().insert("x-amzn-query-error", value);
    }
    answer
}
