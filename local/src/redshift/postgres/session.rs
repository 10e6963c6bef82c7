//! One connection to PostgreSQL that behaves as Redshift does: TRUNCATE commits,
//! COPY reads S3, and a statement can be stopped. Not for starting a server.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::sync::CancellationToken;

use crate::redshift::load::{Load, Target};
use crate::redshift::sql::{self, Copy, Statement};
use crate::redshift::warehouse::{Column, Field, Outcome, Session, SqlError, Table};
use crate::s3::S3;

/// As on Redshift, of what a query found.
const RESULT_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Until a statement that goes on is told again to stop: it may just have been
/// between two queries.
const STOP_AGAIN: Duration = Duration::from_millis(100);

/// The columns of a table in their order, by its name as it was written.
const COLUMNS: &str = "
    SELECT quote_ident(a.attname), a.attname::text, t.typname::text, a.atttypmod
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// As Redshift's SNAPSHOT isolation: what a transaction sees is fixed by its first
/// statement other than LOCK.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";

/// A session of one request.
pub struct PostgresSession {
    client: Client,
    s3: Arc<S3>,
    in_transaction: bool,
}

impl PostgresSession {
    pub fn new(client: Client, s3: Arc<S3>) -> Self {
        Self { client, s3, in_transaction: false }
    }

    async fn run(&self, statement: Statement) -> Result<Outcome, SqlError> {
        match statement {
            Statement::Plain(sql) => self.plain(&sql).await,
            Statement::Truncate(sql) => {
                let outcome = self.plain(&sql).await?;
                if self.in_transaction {
                    self.command("COMMIT").await?;
                    self.command(BEGIN).await?;
                }
                Ok(outcome)
            }
            Statement::Copy(copy) => self.copy(copy).await,
        }
    }

    async fn command(&self, sql: &str) -> Result<(), SqlError> {
        self.client.batch_execute(sql).await.map_err(|error| failed(&error))
    }

    async fn plain(&self, sql: &str) -> Result<Outcome, SqlError> {
        // Only this tells the columns' types, and that it is one statement.
        let prepared = self.client.prepare(sql).await.map_err(|error| failed(&error))?;
        let types: Vec<&Type> = prepared.columns().iter().map(|column| column.type_()).collect();
        let mut table = (!types.is_empty()).then(|| Table {
            columns: prepared
                .columns()
                .iter()
                .map(|c| Column { name: c.name().to_owned(), type_name: type_name(c.type_()) })
                .collect(),
            ..Table::default()
        });
        let stream = self.client.simple_query_raw(sql).await.map_err(|error| failed(&error))?;
        let mut stream = pin!(stream);
        let mut rows = 0;
        while let Some(message) = stream.try_next().await.map_err(|error| failed(&error))? {
            match (message, &mut table) {
                (SimpleQueryMessage::Row(row), Some(table)) => {
                    add(table, &row, &types)?;
                    if table.bytes > RESULT_BYTES_MAX {
                        return Err(SqlError::failed("The query result exceeds 100 MB"));
                    }
                }
                (SimpleQueryMessage::CommandComplete(count), _) => rows = count,
                _ => {}
            }
        }
        Ok(Outcome { rows, table })
    }

    async fn copy(&self, copy: Copy) -> Result<Outcome, SqlError> {
        let targets = self.targets(&copy).await?;
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        let into = format!("COPY {} ({}) FROM STDIN", copy.table, names.join(", "));
        let sink = self.client.copy_in(&into).await.map_err(|error| failed(&error))?;
        // Dropped before it is finished, it takes all back.
        let mut sink = pin!(sink);
        let mut load = Load::start(Arc::clone(&self.s3), copy, targets);
        while let Some(chunk) = load.next().await? {
            sink.send(chunk).await.map_err(|error| failed(&error))?;
        }
        let rows = sink.finish().await.map_err(|error| failed(&error))?;
        Ok(Outcome { rows, table: None })
    }

    /// The columns that are loaded, in the order of the files' columns.
    async fn targets(&self, copy: &Copy) -> Result<Vec<Target>, SqlError> {
        let found = self.client.query(COLUMNS, &[&copy.table]).await;
        let found = found.map_err(|error| failed(&error))?;
        if found.is_empty() {
            return Err(SqlError::failed(format!(
                "Cannot COPY into nonexistent table {}",
                copy.table
            )));
        }
        let all: Vec<(String, Target)> = found
            .iter()
            .map(|row| {
                let target =
                    Target { name: row.get(0), type_name: row.get(2), modifier: row.get(3) };
                (row.get(1), target)
            })
            .collect();
        if copy.columns.is_empty() {
            return Ok(all.into_iter().map(|(_, target)| target).collect());
        }
        let wanted = copy.columns.iter().map(|written| {
            let name = match written.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => written.to_lowercase(),
            };
            let target = all.iter().find(|(known, _)| *known == name);
            target.map(|(_, target)| target.clone()).ok_or_else(|| {
                let table = &copy.table;
                SqlError::failed(format!("column {written} of relation {table} does not exist"))
            })
        });
        wanted.collect()
    }
}

#[async_trait]
impl Session for PostgresSession {
    async fn begin(&mut self) -> Result<(), SqlError> {
        self.command(BEGIN).await?;
        self.in_transaction = true;
        Ok(())
    }

    async fn execute(&mut self, sql: &str, stop: &CancellationToken) -> Result<Outcome, SqlError> {
        if stop.is_cancelled() {
            return Err(SqlError::Cancelled);
        }
        let mut work = pin!(self.run(sql::translate(sql)?));
        tokio::select! {
            biased;
            ended = &mut work => return ended,
            () = stop.cancelled() => {}
        }
        let canceller = self.client.cancel_token();
        loop {
            if let Err(error) = canceller.cancel_query(NoTls).await {
                tracing::warn!(%error, "statement not told to stop");
            }
            if let Ok(ended) = tokio::time::timeout(STOP_AGAIN, &mut work).await {
                return ended.map_err(|_| SqlError::Cancelled);
            }
        }
    }

    async fn commit(&mut self) -> Result<(), SqlError> {
        self.in_transaction = false;
        self.command("COMMIT").await
    }

    async fn rollback(&mut self) {
        if !std::mem::take(&mut self.in_transaction) {
            return;
        }
        if let Err(error) = self.command("ROLLBACK").await {
            tracing::debug!(%error, "transaction ended with its connection");
        }
    }
}

/// What PostgreSQL says, as a client of Redshift reads it.
pub fn failed(error: &tokio_postgres::Error) -> SqlError {
    let Some(error) = error.as_db_error() else {
        return SqlError::failed(format!("connection to the database lost: {error}"));
    };
    if *error.code() == SqlState::QUERY_CANCELED {
        return SqlError::failed("Query cancelled on user's request");
    }
    let mut text = error.message().to_owned();
    for (name, more) in [("Detail", error.detail()), ("Hint", error.hint())] {
        if let Some(more) = more {
            text.push_str(&format!("\n  {name}: {more}"));
        }
    }
    SqlError::failed(text)
}

/// Strings are VARCHAR on Redshift.
fn type_name(found: &Type) -> String {
    if [Type::TEXT, Type::UNKNOWN, Type::NAME].contains(found) {
        return "varchar".to_owned();
    }
    found.name().to_owned()
}

fn add(table: &mut Table, row: &SimpleQueryRow, types: &[&Type]) -> Result<(), SqlError> {
    let mut fields = Vec::with_capacity(types.len());
    for (index, found) in types.iter().enumerate() {
        let text = row.try_get(index).map_err(|error| failed(&error))?;
        table.bytes += text.map_or(0, |text| text.len() as u64);
        fields.push(text.map_or(Field::Null, |text| field(text, found)));
    }
    table.rows.push(fields);
    Ok(())
}

/// A value by its type; what is no number or truth value is a string.
fn field(text: &str, found: &Type) -> Field {
    let typed = match *found {
        Type::BOOL => Some(Field::Boolean(text == "t")),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => text.parse().ok().map(Field::Long),
        Type::FLOAT4 | Type::FLOAT8 => text.parse().ok().map(Field::Double),
        _ => None,
    };
    typed.unwrap_or_else(|| Field::String(text.to_owned()))
}
