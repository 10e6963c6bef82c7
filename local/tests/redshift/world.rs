//! A local AWS with PostgreSQL behind it, and calls of the Data API. Holds no
//! test.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sluicegate_local::python::Environment;
use sluicegate_local::redshift::postgres::Programs;
use sluicegate_local::wire::Request;
use sluicegate_local::{LocalAws, Options, clock};

/// Longer than anything here takes, so that only a fault ends in it.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

pub struct World {
    aws: LocalAws,
}

/// PostgreSQL of the repository's Python environment, else this machine's.
pub async fn postgres() -> Programs {
    let find = || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv");
        let environment = Environment::ensure(&folder).unwrap();
        Programs::find(Some(&environment))
    };
    let found = tokio::task::spawn_blocking(find).await.unwrap();
    found.expect("PostgreSQL in .venv or on this machine")
}

impl World {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn start_in(folder: &Path) -> Self {
        Self::with(Options { data: Some(folder.to_owned()), ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let postgres = Some(postgres().await);
        Self::of(LocalAws::start(Options { postgres, ..options }).await.unwrap())
    }

    pub fn of(aws: LocalAws) -> Self {
        Self { aws }
    }

    pub fn aws(&self) -> &LocalAws {
        &self.aws
    }

    pub async fn end(self) {
        self.aws.shutdown().await;
    }

    /// Status and body of an answer.
    pub async fn call(&self, action: &str, body: Value) -> (u16, Value) {
        let target = format!("RedshiftData.{action}").parse().unwrap();
        let request = Request {
            method: "POST".parse().unwrap(),
            uri: "/".parse().unwrap(),
            headers: [("x-amz-target".parse().unwrap(), target)].into_iter().collect(),
            body: Bytes::from(body.to_string()),
        };
        let response = self.aws.cloud().handle(request).await;
        let body = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), body)
    }

    pub async fn ok(&self, action: &str, body: Value) -> Value {
        let (status, answer) = self.call(action, body).await;
        assert_eq!(status, 200, "{action}: {answer}");
        answer
    }

    pub async fn execute(&self, sql: &str) -> String {
        let body = json!({ "Sql": sql, "Database": "dev", "WorkgroupName": "main" });
        id(&self.ok("ExecuteStatement", body).await)
    }

    pub async fn batch(&self, sqls: &[&str]) -> String {
        let body = json!({ "Sqls": sqls, "Database": "dev", "WorkgroupName": "main" });
        id(&self.ok("BatchExecuteStatement", body).await)
    }

    /// A batch that must end well.
    pub async fn batch_done(&self, sqls: &[&str]) {
        self.finished(&self.batch(sqls).await).await;
    }

    /// The description once it fulfils a condition.
    pub async fn until(&self, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let described = self.ok("DescribeStatement", json!({ "Id": id })).await;
                if condition(&described) {
                    return described;
                }
                clock::pause(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("it comes true")
    }

    pub async fn ended(&self, id: &str) -> Value {
        let is_end =
            |d: &Value| ["FINISHED", "FAILED", "ABORTED"].contains(&d["Status"].as_str().unwrap());
        self.until(id, is_end).await
    }

    pub async fn finished(&self, id: &str) -> Value {
        let described = self.ended(id).await;
        assert_eq!(described["Status"], "FINISHED", "{described:#}");
        described
    }

    /// The rows that a query finds.
    pub async fn query(&self, sql: &str) -> Value {
        let id = self.execute(sql).await;
        self.finished(&id).await;
        records(&self.ok("GetStatementResult", json!({ "Id": id })).await)
    }

    /// The error of a statement that must fail.
    pub async fn error(&self, sql: &str) -> String {
        let described = self.ended(&self.execute(sql).await).await;
        assert_eq!(described["Status"], "FAILED", "{sql}");
        described["Error"].as_str().unwrap().to_owned()
    }
}

fn id(answer: &Value) -> String {
    answer["Id"].as_str().unwrap().to_owned()
}

/// The rows of a result without the names of their types.
pub fn records(result: &Value) -> Value {
    let value = |field: &Value| {
        let field = field.as_object().unwrap();
        if field.contains_key("isNull") {
            Value::Null
        } else {
            field.values().next().unwrap().clone()
        }
    };
    let row = |row: &Value| row.as_array().unwrap().iter().map(value).collect::<Value>();
    result["Records"].as_array().unwrap().iter().map(row).collect()
}
