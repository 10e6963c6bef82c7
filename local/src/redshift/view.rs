//! Answers of the Data API, as its model has them. Not for any decision.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::machine::{Part, Status, Submitted};
use super::warehouse::{Field, Table};
use crate::emr::view::compact;

/// The answer to ExecuteStatement and BatchExecuteStatement.
pub fn accepted(statement: &Submitted) -> Value {
    let request = &statement.request;
    compact(json!({
        "Id": statement.id,
        "CreatedAt": seconds(statement.created),
        "ClusterIdentifier": request.cluster_identifier,
        "WorkgroupName": request.workgroup_name,
        "Database": request.database,
        "DbUser": request.db_user,
        "SecretArn": request.secret_arn,
    }))
}

/// The answer to DescribeStatement for a whole request.
pub fn described(statement: &Submitted) -> Value {
    let request = &statement.request;
    let size = statement.parts.iter().map(size).sum::<u64>();
    let rows = statement.parts.iter().map(|part| part.rows).sum::<u64>();
    let is_batch = request.is_batch();
    let parts = statement.parts.iter().enumerate();
    let subs: Vec<Value> = parts.map(|(index, part)| sub(statement, index, part)).collect();
    let has_result = statement.parts.iter().any(|part| part.result.is_some());
    compact(json!({
        "Id": statement.id,
        "ClusterIdentifier": request.cluster_identifier,
        "WorkgroupName": request.workgroup_name,
        "Database": request.database,
        "DbUser": request.db_user,
        "SecretArn": request.secret_arn,
        "Status": statement.status.name(),
        "Error": statement.error,
        "CreatedAt": seconds(statement.created),
        "UpdatedAt": seconds(statement.updated),
        "Duration": nanoseconds(statement.duration()),
        "QueryString": request.sql,
        "QueryParameters": request.parameters,
        "HasResultSet": statement.status == Status::Finished && has_result,
        "ResultRows": if is_batch { None } else { Some(rows) },
        "ResultSize": size,
        "ResultFormat": "JSON",
        "RedshiftQueryId": statement.parts.first().map(|part| part.query),
        "SubStatements": is_batch.then_some(subs),
    }))
}

/// The answer to DescribeStatement for one statement of a batch.
pub fn described_part(statement: &Submitted, index: usize, part: &Part) -> Value {
    let request = &statement.request;
    let mut answer = sub(statement, index, part);
    for (name, value) in [
        ("ClusterIdentifier", &request.cluster_identifier),
        ("WorkgroupName", &request.workgroup_name),
        ("Database", &request.database),
        ("DbUser", &request.db_user),
        ("SecretArn", &request.secret_arn),
    ] {
        if let Some(value) = value {
            answer[name] = json!(value);
        }
    }
    answer
}

fn sub(statement: &Submitted, index: usize, part: &Part) -> Value {
    compact(json!({
        "Id": format!("{}:{}", statement.id, index + 1),
        "Status": part.status.name(),
        "Error": part.error,
        "CreatedAt": seconds(part.created),
        "UpdatedAt": seconds(part.updated),
        "Duration": nanoseconds(part.duration()),
        "QueryString": statement.request.statements().get(index),
        "HasResultSet": part.result.is_some(),
        "ResultRows": part.rows,
        "ResultSize": size(part),
        "RedshiftQueryId": part.query,
    }))
}

/// One of the answer to ListStatements.
pub fn listed(statement: &Submitted) -> Value {
    let request = &statement.request;
    compact(json!({
        "Id": statement.id,
        "QueryString": request.sql,
        "QueryStrings": request.sqls,
        "QueryParameters": request.parameters,
        "SecretArn": request.secret_arn,
        "StatementName": request.statement_name,
        "Status": statement.status.name(),
        "CreatedAt": seconds(statement.created),
        "UpdatedAt": seconds(statement.updated),
        "IsBatchStatement": request.is_batch(),
        "ResultFormat": "JSON",
    }))
}

/// A page of a result: the rows from `from` on, and where the next page begins.
pub fn page(table: &Table, from: usize, rows_max: usize, bytes_max: usize) -> Value {
    let mut records = Vec::new();
    let mut bytes = 0;
    for row in table.rows.iter().skip(from).take(rows_max) {
        bytes += row.iter().map(length).sum::<usize>();
        // At least one row, or there would be no end.
        if bytes > bytes_max && !records.is_empty() {
            break;
        }
        records.push(row.iter().map(field).collect::<Vec<_>>());
    }
    let next = from + records.len();
    let columns: Vec<Value> = table
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "label": column.name,
                "typeName": column.type_name,
                "nullable": 1,
                "isCaseSensitive": matches!(column.type_name.as_str(), "varchar" | "bpchar"),
                "isCurrency": false,
                "isSigned": column.type_name.starts_with("int")
                    || column.type_name.starts_with("float")
                    || column.type_name == "numeric",
            })
        })
        .collect();
    compact(json!({
        "Records": records,
        "ColumnMetadata": columns,
        "TotalNumRows": table.rows.len(),
        "NextToken": (next < table.rows.len()).then(|| next.to_string()),
    }))
}

fn field(field: &Field) -> Value {
    match field {
        Field::Null => json!({ "isNull": true }),
        Field::Boolean(value) => json!({ "booleanValue": value }),
        Field::Long(value) => json!({ "longValue": value }),
        Field::Double(value) if value.is_finite() => json!({ "doubleValue": value }),
        // As AWS's JSON writes what is no number.
        Field::Double(value) if value.is_nan() => json!({ "doubleValue": "NaN" }),
        Field::Double(value) if *value > 0.0 => json!({ "doubleValue": "Infinity" }),
        Field::Double(_) => json!({ "doubleValue": "-Infinity" }),
        Field::String(value) => json!({ "stringValue": value }),
    }
}

fn length(field: &Field) -> usize {
    match field {
        Field::String(value) => value.len(),
        _ => 8,
    }
}

fn size(part: &Part) -> u64 {
    part.result.as_ref().map_or(0, |table| table.bytes)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn nanoseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
