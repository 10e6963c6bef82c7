//! The faulty line between the daemons and the cloud: a port of its own at which
//! calls are refused, fail before or after their effect, are lost, held up or
//! meet an outage. It also sees every message that is deleted, and whether its
//! records are in the tables by then. Not for what AWS itself does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use fastrand::Rng;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::plan::{Plan, Record, TABLE_PREFIX};
use crate::clock::pause;
use crate::cloud::Cloud;
use crate::route::{Service, route, target_action};
use crate::server::{self, Cut};
use crate::sns;
use crate::wire::{ApiError, Request, Response};

/// Of a thousand calls so many meet a fault; more of those that create or end
/// something on EMR, since they are few.
const FAULTS_IN_1000: u32 = 70;
const FAULTS_IN_1000_OF_EFFECTS: u32 = 300;
const EFFECTS: [&str; 3] = ["RunJobFlow", "AddJobFlowSteps", "TerminateJobFlows"];
/// How long a request is held up. With the longest that a process is stopped it
/// stays below send-within and list-lag together, which are 15 s of real time.
const HELD_MILLIS: Range<u64> = 0..3_000;
/// How long at most a guarded cluster's creation is held up: until a second one of
/// that name has gone ahead, so that the guard has to tell them apart.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(60);
const OVERTAKEN_LOOK: Duration = Duration::from_millis(200);
const OUTAGE_MILLIS: Range<u64> = 1_000..4_000;
const BETWEEN_OUTAGES_MILLIS: Range<u64> = 3_000..9_000;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Refused for its rate.
    Throttled,
    /// An inner error without effect.
    ErrorBefore,
    /// An inner error although the call had its effect.
    ErrorAfter,
    /// It never arrives.
    RequestLost,
    /// It has its effect, and the connection breaks before the answer.
    AnswerLost,
    /// It arrives after others that were sent later.
    Held,
    /// The same, and its sender is told at once that the connection broke.
    HeldUnseen,
    /// The whole service is down for some seconds.
    Outage,
}

impl Fault {
    const SINGLE: [Self; 7] = [
        Self::Throttled,
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::RequestLost,
        Self::AnswerLost,
        Self::Held,
        Self::HeldUnseen,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::ErrorBefore => "500 before the effect",
            Self::ErrorAfter => "500 after the effect",
            Self::RequestLost => "request lost",
            Self::AnswerLost => "answer lost",
            Self::Held => "request held up",
            Self::HeldUnseen => "request held up unseen",
            Self::Outage => "outage of the service",
        }
    }
}

/// Calls that met a fault, by service.
pub type Met = BTreeMap<Fault, BTreeMap<&'static str, u64>>;

#[derive(Debug)]
struct State {
    rng: Rng,
    faulty: bool,
    down: BTreeSet<&'static str>,
    met: Met,
    calls: u64,
    /// Requests that are held up.
    on_their_way: usize,
    /// Names of the clusters that were created.
    created: BTreeSet<String>,
    /// By receipt handle: the objects that a received message tells of.
    received: BTreeMap<String, Vec<String>>,
    deleted: u64,
    /// Objects whose message was deleted before they were recorded.
    deleted_early: Vec<String>,
}

/// The port and what it has seen.
pub struct Line {
    cloud: Arc<Cloud>,
    plan: Arc<Plan>,
    state: Mutex<State>,
}

/// What the line has seen, to be judged.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub met: Met,
    pub calls: u64,
    pub deleted: u64,
    pub deleted_early: Vec<String>,
}

impl Line {
    /// Opens the port; returns its address too. It is faulty until [`Self::mend`].
    pub async fn open(
        cloud: &Arc<Cloud>,
        plan: &Arc<Plan>,
        rng: Rng,
        shutdown: CancellationToken,
    ) -> anyhow::Result<(Arc<Self>, String)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("cannot open the port of the faulty line")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let state = State {
            rng,
            faulty: true,
            down: BTreeSet::new(),
            met: Met::new(),
            calls: 0,
            on_their_way: 0,
            created: BTreeSet::new(),
            received: BTreeMap::new(),
            deleted: 0,
            deleted_early: Vec::new(),
        };
        let (cloud, plan) = (Arc::clone(cloud), Arc::clone(plan));
        let line = Arc::new(Self { cloud, plan, state: Mutex::new(state) });
        let served = Arc::clone(&line);
        let handle = move |request| {
            let line = Arc::clone(&served);
            async move { line.carry(request).await }
        };
        tokio::spawn(server::serve(listener, handle, shutdown));
        Ok((line, endpoint))
    }

    /// Takes one service after the other down for some seconds.
    pub async fn break_services(&self) {
        loop {
            let (service, wait, down) = {
                let rng = &mut self.state().rng;
                let services = [Service::DynamoDb, Service::Emr, Service::Sns, Service::Sqs];
                let service = services[rng.usize(..services.len())].name();
                (service, rng.u64(BETWEEN_OUTAGES_MILLIS), rng.u64(OUTAGE_MILLIS))
            };
            pause(Duration::from_millis(wait)).await;
            self.state().down.insert(service);
            pause(Duration::from_millis(down)).await;
            self.state().down.remove(service);
        }
    }

    /// From now on all calls pass; what is held up still comes.
    pub fn mend(&self) {
        let mut state = self.state();
        state.faulty = false;
        state.down.clear();
    }

    /// Requests that are held up and still come.
    pub fn on_their_way(&self) -> usize {
        self.state().on_their_way
    }

    pub fn seen(&self) -> Seen {
        let state = self.state();
        Seen {
            met: state.met.clone(),
            calls: state.calls,
            deleted: state.deleted,
            deleted_early: state.deleted_early.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(self: Arc<Self>, request: Request) -> Result<Response, Cut> {
        let (service, action) = call_of(&request);
        match self.fault(service, &action) {
            None => Ok(self.pass(&action, request).await),
            Some(Fault::Throttled) => Ok(throttled(service)),
            Some(Fault::ErrorBefore | Fault::Outage) => Ok(inner_error(service)),
            Some(Fault::ErrorAfter) => {
                self.pass(&action, request).await;
                Ok(inner_error(service))
            }
            Some(Fault::RequestLost) => Err(Cut),
            Some(Fault::AnswerLost) => {
                self.pass(&action, request).await;
                Err(Cut)
            }
            Some(Fault::Held) => self.held(action, request).await.map_err(|_| Cut),
            Some(Fault::HeldUnseen) => {
                self.held(action, request);
                Err(Cut)
            }
        }
    }

    /// On its way, whether its sender still waits or not.
    fn held(
        self: &Arc<Self>,
        action: String,
        request: Request,
    ) -> tokio::task::JoinHandle<Response> {
        let line = Arc::clone(self);
        let overtaking = guarded_cluster(&action, &request.body);
        let millis = {
            let mut state = line.state();
            state.on_their_way += 1;
            state.rng.u64(HELD_MILLIS)
        };
        tokio::spawn(async move {
            match overtaking {
                Some(name) => line.until_overtaken(&name).await,
                None => pause(Duration::from_millis(millis)).await,
            }
            let response = line.pass(&action, request).await;
            line.state().on_their_way -= 1;
            response
        })
    }

    async fn until_overtaken(&self, name: &str) {
        let overtaken = async {
            while !self.state().created.contains(name) {
                pause(OVERTAKEN_LOOK).await;
            }
        };
        // None may come: its run has ended, or another fault met it.
        let _ = timeout(OVERTAKEN_WITHIN, overtaken).await;
    }

    fn fault(&self, service: &'static str, action: &str) -> Option<Fault> {
        let mut state = self.state();
        // Not of AWS: what the local port says of itself.
        if !state.faulty || action.is_empty() {
            return None;
        }
        state.calls += 1;
        let of_1000 =
            if EFFECTS.contains(&action) { FAULTS_IN_1000_OF_EFFECTS } else { FAULTS_IN_1000 };
        let fault = if state.down.contains(service) {
            Fault::Outage
        } else if state.rng.u32(..1000) < of_1000 {
            Fault::SINGLE[state.rng.usize(..Fault::SINGLE.len())]
        } else {
            return None;
        };
        *state.met.entry(fault).or_default().entry(service).or_default() += 1;
        Some(fault)
    }

    async fn pass(&self, action: &str, request: Request) -> Response {
        match action {
            "DeleteMessage" | "DeleteMessageBatch" => {
                self.check_deleted(&request.body);
                server::respond(&self.cloud, request).await
            }
            "RunJobFlow" => {
                let name = guarded_cluster(action, &request.body);
                let response = server::respond(&self.cloud, request).await;
                self.state().created.extend(name);
                response
            }
            "ReceiveMessage" => {
                let response = server::respond(&self.cloud, request).await;
                self.remember(response.body());
                response
            }
            _ => server::respond(&self.cloud, request).await,
        }
    }

    /// Which objects the messages of an answer tell of.
    fn remember(&self, answer: &Bytes) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let mut state = self.state();
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let Some(receipt) = message["ReceiptHandle"].as_str() else { continue };
            let body = message["Body"].as_str().unwrap_or_default();
            state.received.insert(receipt.to_owned(), objects_of(body));
        }
    }

    /// What a deleted message told of must be in the tables already.
    fn check_deleted(&self, body: &Bytes) {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let entries = request["Entries"].as_array().into_iter().flatten();
        for entry in entries.chain([&request]) {
            let Some(receipt) = entry["ReceiptHandle"].as_str() else { continue };
            let objects = self.state().received.get(receipt).cloned().unwrap_or_default();
            let early = objects.into_iter().filter(|object| !self.is_recorded(object));
            let early: Vec<_> = early.collect();
            let mut state = self.state();
            state.deleted += 1;
            state.deleted_early.extend(early);
        }
    }

    fn is_recorded(&self, object: &str) -> bool {
        let records = self.plan.records.get(object).into_iter().flatten();
        records.into_iter().all(|record| has_record(&self.cloud, record))
    }
}

fn has_record(cloud: &Cloud, record: &Record) -> bool {
    let (task, partition) = &record.key;
    let request = json!({
        "TableName": format!("{TABLE_PREFIX}task"),
        "ConsistentRead": true,
        "Key": { "task": { "S": task }, "partition": { "S": partition } },
    });
    let answer = cloud.dynamodb().call("GetItem", &Bytes::from(request.to_string()));
    let answer: Value = serde_json::from_slice(answer.response.body()).unwrap_or_default();
    answer["Item"].get(&record.attribute).is_some()
}

/// The name of the cluster that a request creates, if its first step is a guard.
fn guarded_cluster(action: &str, body: &Bytes) -> Option<String> {
    if action != "RunJobFlow" {
        return None;
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    let first = body.pointer("/Steps/0/Name")?.as_str()?;
    first.starts_with("sluicegate/guard/").then(|| body["Name"].as_str().map(str::to_owned))?
}

/// The keys of an S3 notification; none of any other message. The plan's keys
/// need no decoding.
fn objects_of(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let records = body["Records"].as_array().into_iter().flatten();
    let key = |record: &Value| record.pointer("/s3/object/key")?.as_str().map(str::to_owned);
    records.filter_map(key).collect()
}

/// The service and the action of a call; of the local port itself, none.
fn call_of(request: &Request) -> (&'static str, String) {
    let service = route(request).map_or("unknown", |route| route.service.name());
    let form = || {
        let fields = form_urlencoded::parse(&request.body);
        fields.into_iter().find(|(name, _)| name == "Action").map(|(_, value)| value.into_owned())
    };
    let action = match target_action(request) {
        "" => form().unwrap_or_default(),
        action => action.to_owned(),
    };
    (service, action)
}

fn throttled(service: &str) -> Response {
    let code = match service {
        "dynamodb" => "ProvisionedThroughputExceededException",
        "sns" => "Throttling",
        "sqs" => "RequestThrottled",
        _ => "ThrottlingException",
    };
    refusal(service, StatusCode::BAD_REQUEST, code)
}

fn inner_error(service: &str) -> Response {
    refusal(service, StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")
}

fn refusal(service: &str, status: StatusCode, code: &'static str) -> Response {
    let message = "injected by the chaos run".to_owned();
    if service == Service::Sns.name() {
        return sns::refusal(ApiError { status, code, message }).response;
    }
    let body = json!({ "__type": code, "message": message }).to_string();
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_notification_are_its_keys() {
        let body =
            r#"{"Records":[{"s3":{"object":{"key":"file/a"}}},{"s3":{"object":{"key":"b"}}}]}"#;
        assert_eq!(objects_of(body), ["file/a", "b"]);
        assert_eq!(objects_of("this is no notification"), [""; 0]);
    }

    #[test]
    fn calls_of_both_protocols_are_known_by_their_names() {
        let request = |header: (&'static str, &'static str), body: &'static str| Request {
            method: http::Method::POST,
            uri: "/".parse().unwrap(),
            headers: http::HeaderMap::from_iter([(
                http::HeaderName::from_static(header.0),
                http::HeaderValue::from_static(header.1),
            )]),
            body: Bytes::from_static(body.as_bytes()),
        };
        let json = request(("x-amz-target", "ElasticMapReduce.RunJobFlow"), "{}");
        assert_eq!(call_of(&json), ("elasticmapreduce", "RunJobFlow".to_owned()));
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let form = request(kind, "Version=2010-03-31&Action=Publish");
        assert_eq!(call_of(&form), ("sns", "Publish".to_owned()));
    }
}
