//! DynamoDB by direct calls into the embedded engine: names of actions to its
//! methods, its errors to the wire. Not a second implementation of anything.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dynoxide::storage_backend::Clock;
use dynoxide::{Database, DynoxideError};
use http::{StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::time::Time;
use crate::wire::{Answer, Response};

struct DevelopmentClock(Time);

impl Clock for DevelopmentClock {
    fn now_unix_secs(&self) -> u64 {
        u64::try_from(self.0.dev().as_second()).unwrap_or(0)
    }

    fn now_unix_secs_f64(&self) -> f64 {
        self.0.dev().as_millisecond() as f64 / 1000.0
    }
}

/// The tables of the account.
pub struct DynamoDb {
    database: Database,
}

impl DynamoDb {
    /// Expiry of items, in `Database::sweep_ttl`, goes by the development
    /// clock.
    pub fn in_memory(time: Time) -> Result<Self, DynoxideError> {
        let clock = Arc::new(DevelopmentClock(time));
        Database::memory_with_clock(clock).map(|database| Self { database })
    }

    /// Keeps the tables in the file at `path`. Expired items stay: on a
    /// development clock of another year real time would expire all of them.
    pub fn open(path: &Path) -> Result<Self, DynoxideError> {
        let database = Database::new(&path.to_string_lossy())?;
        // What the engine calls its state after bulk loading is SQLite without a
        // flush to disk at each write, which is several times as fast. A killed
        // process loses nothing; only a machine that crashes may.
        database.disable_bulk_loading()?;
        Ok(Self { database })
    }

    /// The engine itself, for a simulator that sweeps or inspects tables.
    pub fn database(&self) -> &Database {
        &self.database
    }

    pub fn call(&self, action: &str, body: &Bytes) -> Answer {
        let (status, body, outcome) = match self.dispatch(action, body) {
            Ok(json) => (StatusCode::OK, json, "ok".to_owned()),
            Err(Failure { status, code, json }) => (status, json, code),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/x-amz-json-1.0"),
        );
        Answer { response, action: action.to_owned(), outcome }
    }

    fn dispatch(&self, action: &str, body: &Bytes) -> Result<Vec<u8>, Failure> {
        let db = &self.database;
        match action {
            "CreateTable" => run(body, |request| db.create_table(request)),
            "DeleteTable" => run(body, |request| db.delete_table(request)),
            "DescribeTable" => run(body, |request| db.describe_table(request)),
            "ListTables" => run(body, |request| db.list_tables(request)),
            "UpdateTable" => run(body, |request| db.update_table(request)),
            "PutItem" => run(body, |request| db.put_item(request)),
            "GetItem" => run(body, |request| db.get_item(request)),
            "DeleteItem" => run(body, |request| db.delete_item(request)),
            "UpdateItem" => run(body, |request| db.update_item(request)),
            "Query" => run(body, |request| db.query(request)),
            "Scan" => run(body, |request| db.scan(request)),
            "BatchGetItem" => run(body, |request| db.batch_get_item(request)),
            "BatchWriteItem" => run(body, |request| db.batch_write_item(request)),
            "TransactWriteItems" => run(body, |request| db.transact_write_items(request)),
            "TransactGetItems" => run(body, |request| db.transact_get_items(request)),
            "UpdateTimeToLive" => run(body, |request| db.update_time_to_live(request)),
            "DescribeTimeToLive" => run(body, |request| db.describe_time_to_live(request)),
            "ExecuteStatement" => run(body, |request| db.execute_statement(request)),
            "TagResource" => run(body, |request| db.tag_resource(request)),
            "UntagResource" => run(body, |request| db.untag_resource(request)),
            "ListTagsOfResource" => run(body, |request| db.list_tags_of_resource(request)),
            _ => Err(Failure::coral("UnknownOperationException", action)),
        }
    }
}

/// An error as it goes on the wire.
struct Failure {
    status: StatusCode,
    code: String,
    json: Vec<u8>,
}

impl Failure {
    fn coral(code: &str, message: &str) -> Self {
        let json = serde_json::json!({
            "__type": format!("com.amazon.coral.service#{code}"),
            "message": message,
        });
        Self {
            status: StatusCode::BAD_REQUEST,
            code: code.to_owned(),
            json: json.to_string().into_bytes(),
        }
    }
}

impl From<DynoxideError> for Failure {
    fn from(error: DynoxideError) -> Self {
        let status = StatusCode::from_u16(error.status_code());
        let code = error.error_type();
        Self {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: code.rsplit('#').next().unwrap_or(code).to_owned(),
            json: error.to_json().into_bytes(),
        }
    }
}

fn run<Q: DeserializeOwned, A: Serialize>(
    body: &Bytes,
    call: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<Vec<u8>, Failure> {
    let request = serde_json::from_slice(body).map_err(unreadable)?;
    let answer = call(request)?;
    serde_json::to_vec(&answer)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()).into())
}

/// DynamoDB calls a wrong JSON type a serialisation error and anything missing
/// or unknown a validation error. The engine marks its own messages.
fn unreadable(error: serde_json::Error) -> Failure {
    let text = error.to_string();
    for marker in ["VALIDATION:", "VALIDATION_REQUEST:"] {
        if let Some(message) = text.strip_prefix(marker) {
            let message = message.split(" at line ").next().unwrap_or(message);
            return DynoxideError::ValidationException(message.to_owned()).into();
        }
    }
    let invalid = ["missing field", "unknown variant", "AttributeValue"];
    if invalid.iter().any(|part| text.contains(part)) {
        return DynoxideError::ValidationException(text).into();
    }
    let message = text.strip_prefix("SERIALIZATION:").unwrap_or(&text);
    DynoxideError::SerializationException(message.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(db: &DynamoDb, action: &str, body: serde_json::Value) -> (u16, String) {
        let answer = db.call(action, &Bytes::from(body.to_string()));
        (answer.response.status().as_u16(), answer.outcome)
    }

    #[test]
    fn answers_with_dynamodbs_own_codes() {
        let db = DynamoDb::in_memory(Time::new(crate::clock::Clock::real())).unwrap();
        let table = serde_json::json!({
            "TableName": "runs",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        });
        assert_eq!(call(&db, "CreateTable", table), (200, "ok".to_owned()));
        let put = serde_json::json!({
            "TableName": "runs",
            "Item": {"pk": {"S": "a"}},
            "ConditionExpression": "attribute_not_exists(pk)",
        });
        assert_eq!(call(&db, "PutItem", put.clone()).0, 200);
        for (action, body, code) in [
            ("PutItem", put, "ConditionalCheckFailedException"),
            (
                "GetItem",
                serde_json::json!({"TableName": "none", "Key": {"pk": {"S": "a"}}}),
                "ResourceNotFoundException",
            ),
            ("PutItem", serde_json::json!({"TableName": 1, "Item": {}}), "SerializationException"),
            ("Fly", serde_json::json!({}), "UnknownOperationException"),
        ] {
            assert_eq!(call(&db, action, body), (400, code.to_owned()), "{action}");
        }
    }
}
