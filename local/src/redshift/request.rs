//! What clients of the Data API may say, and what AWS refuses of it before
//! anything runs. Not for what becomes of a statement.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sql;
use crate::emr::parse::{parse, refused};
use crate::wire::ApiError;

/// A statement's greatest length in bytes: 100 KB.
const SQL_BYTES_MAX: usize = 100 * 1024;
const BATCH_MAX: usize = 40;
const TOKEN_MAX: usize = 64;
const STATEMENT_NAME_MAX: usize = 2048;

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub value: String,
}

/// ExecuteStatement and BatchExecuteStatement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Submission {
    pub sql: Option<String>,
    pub sqls: Option<Vec<String>>,
    pub cluster_identifier: Option<String>,
    pub workgroup_name: Option<String>,
    pub secret_arn: Option<String>,
    pub db_user: Option<String>,
    pub database: Option<String>,
    pub statement_name: Option<String>,
    pub parameters: Option<Vec<Parameter>>,
    pub client_token: Option<String>,
    pub with_event: Option<bool>,
    pub result_format: Option<String>,
    pub session_keep_alive_seconds: Option<u32>,
    pub session_id: Option<String>,
}

/// DescribeStatement and CancelStatement.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ById {
    pub id: String,
}

/// GetStatementResult.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetResult {
    pub id: String,
    pub next_token: Option<String>,
}

/// ListStatements.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct List {
    pub next_token: Option<String>,
    pub max_results: Option<u32>,
    pub statement_name: Option<String>,
    pub status: Option<String>,
    pub database: Option<String>,
    pub cluster_identifier: Option<String>,
    pub workgroup_name: Option<String>,
}

impl Submission {
    /// Reads and checks one; `is_batch` tells which of the two calls it is.
    pub fn read(body: Value, is_batch: bool) -> Result<Self, ApiError> {
        let mut submission: Self = parse(body)?;
        if is_batch {
            submission.sql = None;
        } else {
            submission.sqls = None;
        }
        submission.check_target()?;
        submission.check_lengths(is_batch)?;
        submission.check_served()?;
        submission.check_parameters()?;
        Ok(submission)
    }

    /// The statements, one for ExecuteStatement.
    pub fn statements(&self) -> &[String] {
        self.sqls.as_deref().unwrap_or(self.sql.as_slice())
    }

    pub fn is_batch(&self) -> bool {
        self.sqls.is_some()
    }

    pub fn values(&self) -> BTreeMap<String, String> {
        let parameters = self.parameters.iter().flatten();
        parameters.map(|p| (p.name.clone(), p.value.clone())).collect()
    }

    fn check_target(&self) -> Result<(), ApiError> {
        match (&self.cluster_identifier, &self.workgroup_name) {
            (None, None) => {
                return Err(refused(
                    "Either ClusterIdentifier or WorkgroupName must be specified.",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(refused(
                    "ClusterIdentifier and WorkgroupName cannot be specified together.",
                ));
            }
            (Some(cluster), None) if !is_name(cluster, 1, 63) => {
                return Err(refused(format!(
                    "1 validation error detected: Value '{cluster}' at 'clusterIdentifier' failed \
                     to satisfy constraint: Member must satisfy regular expression pattern: \
                     [a-z][a-z0-9]*(-[a-z0-9]+)*"
                )));
            }
            (None, Some(workgroup))
                if !is_name(workgroup, 3, 64) && !workgroup.starts_with("arn:") =>
            {
                return Err(refused(format!(
                    "1 validation error detected: Value '{workgroup}' at 'workgroupName' failed \
                     to satisfy constraint: Member must satisfy regular expression pattern: \
                     [a-z0-9-]{{3,63}}"
                )));
            }
            _ => {}
        }
        if self.db_user.is_some() && self.secret_arn.is_some() {
            return Err(refused("DbUser and SecretArn cannot be specified together."));
        }
        if self.db_user.is_some() && self.workgroup_name.is_some() {
            return Err(refused("DbUser cannot be specified with WorkgroupName."));
        }
        match self.database.as_deref() {
            None | Some("") => Err(refused("Database must be specified.")),
            Some(name) if name.len() > 127 || name.contains('\0') => {
                Err(refused("Database is not a name of at most 127 bytes."))
            }
            Some(_) => Ok(()),
        }
    }

    fn check_lengths(&self, is_batch: bool) -> Result<(), ApiError> {
        let missing = |member: &str| {
            refused(format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy \
                 constraint: Member must not be null"
            ))
        };
        let count = self.statements().len();
        if count == 0 && !(is_batch && self.sqls.is_some()) {
            return Err(missing(if is_batch { "sqls" } else { "sql" }));
        }
        within("sqls", count, BATCH_MAX)?;
        for sql in self.statements() {
            within(if is_batch { "sqls" } else { "sql" }, sql.len(), SQL_BYTES_MAX)?;
        }
        if let Some(token) = &self.client_token {
            within("clientToken", token.chars().count(), TOKEN_MAX)?;
        }
        match &self.statement_name {
            Some(name) if !name.is_empty() => {
                within("statementName", name.chars().count(), STATEMENT_NAME_MAX)
            }
            _ => Ok(()),
        }
    }

    /// What AWS has and the local AWS has not is refused, rather than ignored.
    fn check_served(&self) -> Result<(), ApiError> {
        let absent = |what: &str| Err(refused(format!("The local AWS has no {what}.")));
        if self.session_id.is_some() || self.session_keep_alive_seconds.is_some() {
            return absent("sessions of the Data API (SessionId, SessionKeepAliveSeconds)");
        }
        if self.with_event == Some(true) {
            return absent("events of the Data API (WithEvent)");
        }
        match self.result_format.as_deref() {
            None | Some("JSON") => Ok(()),
            Some(other) => absent(&format!("results in the format {other}, only JSON")),
        }
    }

    fn check_parameters(&self) -> Result<(), ApiError> {
        let Some(parameters) = &self.parameters else { return Ok(()) };
        if parameters.is_empty() {
            return Err(too_short("parameters"));
        }
        let used: BTreeSet<&str> =
            self.statements().iter().flat_map(|statement| sql::names(statement)).collect();
        let given: BTreeSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        if given.len() < parameters.len() {
            return Err(refused("Parameters list contains duplicate parameter names."));
        }
        if parameters.iter().any(|parameter| parameter.value.is_empty()) {
            return Err(too_short("parameters.member.value"));
        }
        let list = |names: Vec<&str>| names.join(", ");
        let unused: Vec<&str> = given.difference(&used).copied().collect();
        if !unused.is_empty() {
            return Err(refused(format!(
                "Parameters list contains unused parameters. Unused parameters: [{}]",
                list(unused)
            )));
        }
        let absent: Vec<&str> = used.difference(&given).copied().collect();
        if absent.is_empty() {
            return Ok(());
        }
        Err(refused(format!("Cannot find parameter: {}", list(absent))))
    }
}

/// The form of a cluster's or workgroup's name.
fn is_name(name: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn within(member: &str, length: usize, most: usize) -> Result<(), ApiError> {
    if length == 0 {
        return Err(too_short(member));
    }
    if length <= most {
        return Ok(());
    }
    Err(refused(format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member \
         must have length less than or equal to {most}"
    )))
}

fn too_short(member: &str) -> ApiError {
    refused(format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member \
         must have length greater than or equal to 1"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_aws_refuses_is_refused() {
        let good = json!({ "Database": "dev", "WorkgroupName": "main", "Sql": "select 1" });
        assert!(Submission::read(good.clone(), false).is_ok());
        let (long_sql, long_token) = ("x".repeat(SQL_BYTES_MAX + 1), "t".repeat(65));
        let too_many: Vec<&str> = std::iter::repeat_n("select 1", 41).collect();
        for (change, part) in [
            (json!({ "WorkgroupName": null }), "Either ClusterIdentifier or WorkgroupName"),
            (json!({ "ClusterIdentifier": "c" }), "cannot be specified together"),
            (json!({ "WorkgroupName": "No Name" }), "'workgroupName'"),
            (json!({ "WorkgroupName": null, "ClusterIdentifier": "UP" }), "'clusterIdentifier'"),
            (json!({ "DbUser": "u" }), "DbUser"),
            (json!({ "Database": null }), "Database must be"),
            (json!({ "Sql": null }), "Value null at 'sql'"),
            (json!({ "Sql": "" }), "greater than or equal to 1"),
            (json!({ "Sql": long_sql }), "less than or equal to 102400"),
            (json!({ "ClientToken": long_token }), "'clientToken'"),
            (json!({ "ClientToken": "" }), "'clientToken'"),
            (json!({ "Sqls": too_many }), "'sqls'"),
            (json!({ "Sqls": [] }), "'sqls'"),
            (json!({ "SessionKeepAliveSeconds": 60 }), "no sessions"),
            (json!({ "WithEvent": true }), "no events"),
            (json!({ "ResultFormat": "CSV" }), "only JSON"),
            (json!({ "Parameters": [] }), "'parameters'"),
            (json!({ "Parameters": [{ "name": "a", "value": "1" }] }), "Unused parameters: [a]"),
            (json!({ "Sql": "select :a", "Parameters": [{ "name": "a", "value": "" }] }), "value"),
            (
                json!({ "Sql": "select :a, :b", "Parameters": [{ "name": "a", "value": "1" }] }),
                "Cannot find parameter: b",
            ),
        ] {
            let mut body = good.clone();
            let is_batch = change.get("Sqls").is_some();
            for (name, value) in change.as_object().unwrap() {
                body[name] = value.clone();
            }
            let refusal = Submission::read(body, is_batch).unwrap_err();
            assert_eq!(refusal.code, "ValidationException", "{change}");
            assert!(refusal.message.contains(part), "{change}: {}", refusal.message);
        }
    }
}
