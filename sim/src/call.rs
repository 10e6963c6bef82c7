//! One request of a replica, understood: which service, which action, about
//! what, and what the replica is doing by it. Not for what becomes of it.

use std::collections::BTreeMap;

use serde_json::Value;
use sluicegate_local::wire::Request;

use crate::objects;

/// The services that the daemon calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    DynamoDb,
    Emr,
    Redshift,
    S3,
    Sns,
    Sqs,
}

impl Service {
    /// Those that every world calls.
    pub const ALL: [Service; 5] =
        [Service::DynamoDb, Service::Emr, Service::S3, Service::Sns, Service::Sqs];

    /// As AWS names it in signatures.
    pub fn name(self) -> &'static str {
        match self {
            Service::DynamoDb => "dynamodb",
            Service::Emr => "elasticmapreduce",
            Service::Redshift => "redshift-data",
            Service::S3 => "s3",
            Service::Sns => "sns",
            Service::Sqs => "sqs",
        }
    }
}

/// What a replica is doing when it makes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The checks of a start.
    Start,
    Receive,
    /// Writes what has arrived.
    Record,
    /// Writes objects into the journal.
    Journal,
    /// Deletes messages, or gives them back.
    Delete,
    Quarantine,
    /// Moves a calendar's mark.
    Fire,
    /// Changes the state of a task partition.
    Change,
    /// Makes a run and takes its partitions.
    CreateRun,
    /// Stores the will to launch or to add steps.
    Intent,
    /// Stores the id of a cluster that was launched or found.
    Adopt,
    /// Stores what a look has shown.
    Follow,
    /// Stores the end of task partitions.
    EndMembers,
    /// Stores that a run goes on with another cluster.
    NextAttempt,
    /// Stores that a run has ended.
    EndRun,
    /// Takes the claim of an attempt that is given up.
    Claim,
    /// Takes or gives back the poll lease.
    Lease,
    Launch,
    /// Reads the list of clusters.
    Survey,
    Describe,
    ReadSteps,
    AddSteps,
    Terminate,
    /// CancelSteps.
    CancelSteps,
    Publish,
    /// Stores that a notice was published.
    Published,
    /// Adds a published notice to the log of them.
    KeepNotice,
    /// Reads an item.
    Read,
    /// Searches the tables for what is due.
    Find,
    /// Reads the journal.
    Count,
    /// Reads logs.
    Logs,
    /// Reads the task files.
    TaskFiles,
    /// Stores a task file that is in force.
    KeepTaskFile,
    /// Stores how far a load is.
    StoreLoad,
    ListOutput,
    WriteManifest,
    /// Sends the statements of a load.
    SendLoad,
    /// Asks how statements are.
    LookAtStatement,
    CancelStatement,
    /// Sends the question which run has loaded a partition.
    AskLedger,
    ReadLedger,
    /// Lists data in S3.
    List,
    /// Stores what a run takes as inputs.
    Inputs,
    /// Stores since when a task is known.
    FirstSeen,
    /// Stores that a notice repeats another, or that the time of that is over.
    Fold,
    /// Stores how far a backfill is.
    StoreBackfill,
    /// Begins a partition for a backfill.
    BeginForBackfill,
    Other,
}

impl Phase {
    /// Those that every world may have.
    pub const ALL: [Phase; 35] = [
        Phase::Start,
        Phase::Receive,
        Phase::Record,
        Phase::Journal,
        Phase::Delete,
        Phase::Quarantine,
        Phase::Fire,
        Phase::Change,
        Phase::CreateRun,
        Phase::Intent,
        Phase::Adopt,
        Phase::Follow,
        Phase::EndMembers,
        Phase::NextAttempt,
        Phase::EndRun,
        Phase::Claim,
        Phase::Lease,
        Phase::Launch,
        Phase::Survey,
        Phase::Describe,
        Phase::ReadSteps,
        Phase::AddSteps,
        Phase::Terminate,
        Phase::CancelSteps,
        Phase::Publish,
        Phase::Published,
        Phase::KeepNotice,
        Phase::Read,
        Phase::Find,
        Phase::Count,
        Phase::Logs,
        Phase::List,
        Phase::Inputs,
        Phase::FirstSeen,
        Phase::Fold,
    ];
    /// Those of worlds whose tasks load their output.
    pub const OF_LOADS: [Phase; 8] = [
        Phase::StoreLoad,
        Phase::ListOutput,
        Phase::WriteManifest,
        Phase::SendLoad,
        Phase::LookAtStatement,
        Phase::CancelStatement,
        Phase::AskLedger,
        Phase::ReadLedger,
    ];
    /// Those of worlds in which somebody orders a backfill.
    pub const OF_BACKFILLS: [Phase; 2] = [Phase::StoreBackfill, Phase::BeginForBackfill];

    /// Those of any world.
    pub fn everywhere() -> impl Iterator<Item = Phase> {
        let of_files = [Phase::TaskFiles, Phase::KeepTaskFile];
        Self::ALL.into_iter().chain(of_files).chain(Self::OF_BACKFILLS).chain(Self::OF_LOADS)
    }

    pub fn name(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::Receive => "receive",
            Phase::Record => "record",
            Phase::Journal => "journal",
            Phase::Delete => "delete",
            Phase::Quarantine => "quarantine",
            Phase::Fire => "fire",
            Phase::Change => "change",
            Phase::CreateRun => "create run",
            Phase::Intent => "intent",
            Phase::Adopt => "adopt",
            Phase::Follow => "follow",
            Phase::EndMembers => "end members",
            Phase::NextAttempt => "next attempt",
            Phase::EndRun => "end run",
            Phase::Claim => "claim",
            Phase::Lease => "lease",
            Phase::Launch => "launch",
            Phase::Survey => "survey",
            Phase::Describe => "describe",
            Phase::ReadSteps => "read steps",
            Phase::AddSteps => "add steps",
            Phase::Terminate => "terminate",
            Phase::CancelSteps => "cancel steps",
            Phase::Publish => "publish",
            Phase::Published => "published",
            Phase::KeepNotice => "keep notice",
            Phase::Read => "read",
            Phase::Find => "find",
            Phase::Count => "count",
            Phase::Logs => "logs",
            Phase::TaskFiles => "task files",
            Phase::KeepTaskFile => "keep task file",
            Phase::StoreLoad => "store load",
            Phase::ListOutput => "list output",
            Phase::WriteManifest => "write manifest",
            Phase::SendLoad => "send load",
            Phase::LookAtStatement => "look at statement",
            Phase::CancelStatement => "cancel statement",
            Phase::AskLedger => "ask ledger",
            Phase::ReadLedger => "read ledger",
            Phase::List => "list",
            Phase::Inputs => "inputs",
            Phase::FirstSeen => "first seen",
            Phase::Fold => "fold",
            Phase::StoreBackfill => "store backfill",
            Phase::BeginForBackfill => "begin for backfill",
            Phase::Other => "other",
        }
    }

    /// Whether a call of this phase changes something outside.
    pub fn has_effect(self) -> bool {
        !matches!(
            self,
            Phase::Start
                | Phase::Receive
                | Phase::Survey
                | Phase::Describe
                | Phase::ReadSteps
                | Phase::Read
                | Phase::Find
                | Phase::Count
                | Phase::Logs
                | Phase::TaskFiles
                | Phase::ListOutput
                | Phase::LookAtStatement
                | Phase::ReadLedger
                | Phase::List
                | Phase::Other
        )
    }
}

/// A request of a replica.
#[derive(Debug, Clone)]
pub struct Call {
    pub service: Service,
    pub action: String,
    pub phase: Phase,
    /// The body, where it is JSON; a form's fields, where it is a form.
    pub body: Value,
    /// What it is about, in a few words that are the same in every run of a
    /// seed.
    pub about: String,
}

impl Call {
    /// None for a request that is not AWS's.
    pub fn read(request: &Request) -> Option<Self> {
        let scope = request.headers.get("authorization")?.to_str().ok()?;
        let name = scope.split('/').nth(3)?;
        let mut services = Service::ALL.into_iter().chain([Service::Redshift]);
        let service = services.find(|service| service.name() == name)?;
        let (action, body) = match service {
            Service::S3 => (request.method.to_string(), Value::Null),
            Service::Sns => {
                let form = form(&request.body);
                (form["Action"].as_str().unwrap_or_default().to_owned(), form)
            }
            Service::DynamoDb | Service::Emr | Service::Redshift | Service::Sqs => {
                let target = request.headers.get("x-amz-target")?.to_str().ok()?;
                let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
                (target.rsplit('.').next()?.to_owned(), body)
            }
        };
        let (phase, about) = match service {
            Service::S3 => {
                let place = objects::place(&request.uri);
                (s3_phase(&action, &place), place)
            }
            _ => (phase(service, &action, &body), about(service, &action, &body)),
        };
        Some(Self { service, action, phase, body, about })
    }

    /// The writes of a DynamoDB call: each with its table and its key or item.
    pub fn writes(&self) -> Vec<Write<'_>> {
        if self.service != Service::DynamoDb {
            return Vec::new();
        }
        match self.action.as_str() {
            "PutItem" | "UpdateItem" | "DeleteItem" => Write::of(&self.body).into_iter().collect(),
            "TransactWriteItems" => {
                let actions = self.body["TransactItems"].as_array();
                let actions = actions.into_iter().flatten().filter_map(Value::as_object);
                actions.flat_map(|action| action.values()).filter_map(Write::of).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The event id of a notice that is published.
    pub fn event(&self) -> Option<&str> {
        (self.action == "Publish").then(|| attribute(&self.body, "event")).flatten()
    }

    /// The partition of a notice that repeats another.
    pub fn repeated(&self) -> Option<&str> {
        attribute(&self.body, "folded").and_then(|_| attribute(&self.body, "partition"))
    }
}

/// One write to one item.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    pub table: &'a str,
    /// Its key, or the whole of a new item.
    pub item: &'a Value,
}

impl<'a> Write<'a> {
    fn of(body: &'a Value) -> Option<Self> {
        let item = body.get("Key").or_else(|| body.get("Item"))?;
        Some(Self { table: body["TableName"].as_str()?, item })
    }

    /// The item's name in its table.
    pub fn name(&self) -> String {
        let part = |name: &str| self.item[name]["S"].as_str();
        match (part("id"), part("unit"), part("row")) {
            (Some(id), _, _) => id.to_owned(),
            (_, Some(unit), Some(row)) => format!("{unit} {row}"),
            _ => {
                let (task, partition) = (part("task"), part("partition"));
                format!("{} {}", task.unwrap_or("?"), partition.unwrap_or("?"))
            }
        }
    }
}

/// The value of a string attribute of a message that is published.
fn attribute<'a>(form: &'a Value, name: &str) -> Option<&'a str> {
    let fields = form.as_object()?;
    let named = |(field, value): (&'a String, &'a Value)| {
        (value.as_str() == Some(name)).then(|| field.strip_suffix(".Name")).flatten()
    };
    let entry = fields.iter().find_map(named)?;
    fields.get(&format!("{entry}.Value.StringValue"))?.as_str()
}

fn form(body: &[u8]) -> Value {
    let fields: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
    serde_json::json!(fields)
}

fn phase(service: Service, action: &str, body: &Value) -> Phase {
    match (service, action) {
        (_, "DescribeTable" | "GetQueueUrl" | "GetTopicAttributes") => Phase::Start,
        (Service::Sqs, "ReceiveMessage") => Phase::Receive,
        (Service::Sqs, "SendMessage") => Phase::Quarantine,
        (Service::Sqs, _) => Phase::Delete,
        (Service::Sns, "Publish") => Phase::Publish,
        // The SDK gives every batch a token: the name tells them apart.
        (Service::Redshift, "BatchExecuteStatement") => {
            let name = body["StatementName"].as_str().unwrap_or_default();
            if name.ends_with(" ledger") { Phase::AskLedger } else { Phase::SendLoad }
        }
        (Service::Redshift, "DescribeStatement") => Phase::LookAtStatement,
        (Service::Redshift, "CancelStatement") => Phase::CancelStatement,
        (Service::Redshift, "GetStatementResult") => Phase::ReadLedger,
        (Service::Emr, "RunJobFlow") => Phase::Launch,
        (Service::Emr, "ListClusters") => Phase::Survey,
        (Service::Emr, "DescribeCluster") => Phase::Describe,
        (Service::Emr, "ListSteps") => Phase::ReadSteps,
        (Service::Emr, "AddJobFlowSteps") => Phase::AddSteps,
        (Service::Emr, "TerminateJobFlows") => Phase::Terminate,
        (Service::Emr, "CancelSteps") => Phase::CancelSteps,
        (Service::DynamoDb, "GetItem") => Phase::Read,
        (Service::DynamoDb, "Query") if table(body).ends_with("file-unit") => Phase::Count,
        (Service::DynamoDb, "Query") if body["ConsistentRead"] == true => Phase::TaskFiles,
        (Service::DynamoDb, "Query") => Phase::Find,
        (Service::DynamoDb, "PutItem") if table(body).ends_with("file-unit") => {
            let unit = body["Item"]["unit"]["S"].as_str().unwrap_or_default();
            if unit.starts_with('~') { Phase::Inputs } else { Phase::Journal }
        }
        (Service::DynamoDb, "PutItem") if body["Item"]["partition"]["S"] == "~first-seen" => {
            Phase::FirstSeen
        }
        (Service::DynamoDb, "PutItem") if body["Item"]["task"]["S"] == "~lease" => Phase::Lease,
        (Service::DynamoDb, "PutItem") if body["Item"]["task"]["S"] == "~files" => {
            Phase::KeepTaskFile
        }
        (Service::DynamoDb, "PutItem")
            if body["Item"]["task"]["S"].as_str().is_some_and(|it| it.starts_with("~notice/")) =>
        {
            Phase::KeepNotice
        }
        (Service::DynamoDb, "PutItem") if body["Item"]["task"]["S"] == "~backfill" => {
            Phase::StoreBackfill
        }
        (Service::DynamoDb, "PutItem") => commit(&body["Item"], 0),
        (Service::DynamoDb, "UpdateItem") if body["Key"].get("id").is_some() => Phase::Claim,
        (Service::DynamoDb, "UpdateItem") if body["Key"]["task"]["S"] == "~fold" => Phase::Fold,
        (Service::DynamoDb, "UpdateItem") => update(body),
        (Service::DynamoDb, "TransactWriteItems") => transaction(body),
        _ => Phase::Other,
    }
}

/// What a request is for, by the key or the prefix that it names.
fn s3_phase(method: &str, place: &str) -> Phase {
    match method {
        "PUT" => Phase::WriteManifest,
        _ if place.starts_with(objects::LOGS) => Phase::Logs,
        _ if place.starts_with(objects::TASK_FILES) => Phase::TaskFiles,
        _ if place.starts_with(objects::OUTPUTS) => Phase::ListOutput,
        _ => Phase::List,
    }
}

fn table(body: &Value) -> &str {
    body["TableName"].as_str().unwrap_or_default()
}

fn transaction(body: &Value) -> Phase {
    let actions = body["TransactItems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let put = actions.iter().find_map(|action| action.get("Put"));
    match put.map(|put| &put["Item"]) {
        Some(item) if item.get("id").is_some() => commit(item, actions.len() - 1),
        Some(_) => Phase::Fire,
        None if actions.iter().any(|action| action.get("ConditionCheck").is_some()) => {
            Phase::BeginForBackfill
        }
        None => Phase::Other,
    }
}

/// What a write of a run stores, by its document.
fn commit(item: &Value, changes: usize) -> Phase {
    let text = item["document"]["S"].as_str().unwrap_or_default();
    let document: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let attempts = document["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(attempt) = attempts.last() else { return Phase::EndRun };
    let launching = attempt["cluster"].is_null();
    let intended = attempt["launch"]["send_at"].is_null();
    let adding = &attempt["adding"];
    match document["state"].as_str() {
        _ if item["version"]["N"] == "1" => Phase::CreateRun,
        Some("succeeded" | "failed") => Phase::EndRun,
        _ if changes > 0 => Phase::EndMembers,
        _ if launching && intended => Phase::Intent,
        _ if launching && attempts.len() > 1 => Phase::NextAttempt,
        _ if adding.is_object() && adding["send_at"].is_null() => Phase::Intent,
        _ if attempt["cluster_state"] == "starting" => Phase::Adopt,
        _ => Phase::Follow,
    }
}

/// What an update of a task partition is for, by what it sets.
fn update(body: &Value) -> Phase {
    let names = body["ExpressionAttributeNames"].as_object();
    let sets = |wanted: &str| {
        let mut names = names.into_iter().flat_map(|names| names.values());
        names.any(|name| name.as_str().is_some_and(|name| name.starts_with(wanted)))
    };
    match body["ReturnValues"] == "ALL_NEW" {
        true if sets("out:") => Phase::Change,
        true => Phase::Record,
        false if sets("outputs-pending") || sets("out:") => Phase::Published,
        false if sets("load") => Phase::StoreLoad,
        false if sets("due") => Phase::Record,
        false => Phase::Other,
    }
}

fn about(service: Service, action: &str, body: &Value) -> String {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    match (service, action) {
        (Service::Sns, _) => attribute(body, "event").unwrap_or_default().to_owned(),
        (Service::Emr, "RunJobFlow") => text("Name").to_owned(),
        (Service::Emr, "AddJobFlowSteps") => {
            let steps = body["Steps"].as_array().map_or(0, Vec::len);
            format!("{}, {steps} steps", text("JobFlowId"))
        }
        (Service::Emr, "TerminateJobFlows") => body["JobFlowIds"].to_string(),
        (Service::Emr, _) => text("ClusterId").to_owned(),
        (Service::Redshift, _) => format!("{}{}", text("StatementName"), text("Id")),
        (Service::Sqs, _) => {
            let entries = body["Entries"].as_array().map(Vec::len);
            entries.map_or_else(String::new, |count| format!("{count} messages"))
        }
        (Service::DynamoDb, "Query") => {
            format!("{} {}", table(body), text("IndexName")).trim_end().to_owned()
        }
        (Service::DynamoDb, "TransactWriteItems") => {
            let actions = body["TransactItems"].as_array();
            let actions = actions.into_iter().flatten().filter_map(Value::as_object);
            let writes = actions.flat_map(|action| action.values()).filter_map(Write::of);
            writes.map(|write| write.name()).collect::<Vec<_>>().join(", ")
        }
        (Service::DynamoDb, _) => match Write::of(body) {
            Some(write) => write.name(),
            None => table(body).to_owned(),
        },
        (Service::S3, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

    fn read(service: &str, target: &str, body: &str) -> Call {
        let scope = format!("AWS4-HMAC-SHA256 Credential=a/20130101/r/{service}/aws4_request");
        let headers = [("authorization", scope), ("x-amz-target", format!("X.{target}"))];
        let headers = headers.map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap())
        });
        let headers = HeaderMap::from_iter(headers);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let uri = Uri::from_static("/");
        Call::read(&Request { method: Method::POST, uri, headers, body }).unwrap()
    }

    fn put_run(version: &str, document: Value) -> String {
        serde_json::json!({ "TableName": "sim-run", "Item": {
            "id": { "S": "r" }, "version": { "N": version },
            "document": { "S": document.to_string() },
        }})
        .to_string()
    }

    #[test]
    fn knows_what_a_replica_is_doing() {
        let attempt = |cluster: Value, send_at: Value| {
            serde_json::json!({ "state": "launching", "attempts": [
                { "cluster": cluster, "launch": { "send_at": send_at }, "cluster_state": "starting" },
            ]})
        };
        let launch = attempt(Value::Null, Value::Null);
        for (service, target, body, phase, about) in [
            ("dynamodb", "PutItem", put_run("1", launch.clone()), Phase::CreateRun, "r"),
            ("dynamodb", "PutItem", put_run("2", launch), Phase::Intent, "r"),
            (
                "dynamodb",
                "PutItem",
                put_run("3", attempt("j-1".into(), Value::Null)),
                Phase::Adopt,
                "r",
            ),
            (
                "dynamodb",
                "UpdateItem",
                r#"{"TableName":"sim-run","Key":{"id":{"S":"claim/r/1/1"}}}"#.to_owned(),
                Phase::Claim,
                "claim/r/1/1",
            ),
            (
                "dynamodb",
                "UpdateItem",
                r#"{"TableName":"sim-task","Key":{"task":{"S":"t"},"partition":{"S":"p"}},
                    "ReturnValues":"ALL_NEW"}"#
                    .to_owned(),
                Phase::Record,
                "t p",
            ),
            ("dynamodb", "PutItem", "{}".to_owned(), Phase::EndRun, ""),
            (
                "sns",
                "",
                "Action=Publish&MessageAttributes.entry.2.Name=event\
                 &MessageAttributes.entry.2.Value.StringValue=t%2Fp%2Fready"
                    .to_owned(),
                Phase::Publish,
                "t/p/ready",
            ),
            (
                "elasticmapreduce",
                "RunJobFlow",
                r#"{"Name":"sim/r/1"}"#.to_owned(),
                Phase::Launch,
                "sim/r/1",
            ),
        ] {
            let call = read(service, target, &body);
            assert_eq!((call.phase, call.about.as_str()), (phase, about), "{service} {target}");
        }
    }

    #[test]
    fn a_transaction_writes_each_of_its_items() {
        let body = r#"{"TransactItems":[
            {"Update":{"TableName":"sim-task","Key":{"task":{"S":"t"},"partition":{"S":"p"}}}},
            {"Put":{"TableName":"sim-run","Item":{"id":{"S":"r"}}}}]}"#;
        let call = read("dynamodb", "TransactWriteItems", body);
        let names: Vec<_> =
            call.writes().iter().map(|write| (write.table.to_owned(), write.name())).collect();
        let expected = [("sim-task", "t p"), ("sim-run", "r")];
        assert_eq!(names, expected.map(|(table, name)| (table.to_owned(), name.to_owned())));
    }
}
