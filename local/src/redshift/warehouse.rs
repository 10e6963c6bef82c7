//! What the Data API needs of a database, as a trait: PostgreSQL fulfils it, and
//! a simulator can put a database of its own in its place. Not a database.

use std::fmt::Debug;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Why a statement did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// In the words that a person reads after `ERROR: `.
    #[error("{0}")]
    Failed(String),
    /// It was told to stop.
    #[error("query was cancelled")]
    Cancelled,
}

impl SqlError {
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// A column of a result, as the Data API describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// In Redshift's short names: `int4`, `varchar`.
    pub type_name: String,
}

/// One value of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    Null,
    Boolean(bool),
    Long(i64),
    Double(f64),
    String(String),
}

/// What a query found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Field>>,
    /// The size of the values.
    pub bytes: u64,
}

/// What one statement did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Rows that were found or changed.
    pub rows: u64,
    /// What it found, if it is one that finds.
    pub table: Option<Table>,
}

/// A place with databases.
#[async_trait]
pub trait Warehouse: Debug + Send + Sync {
    /// A session of its own in the database of this name.
    async fn connect(&self, database: &str) -> Result<Box<dyn Session>, SqlError>;

    /// Ends it in order.
    async fn close(&self);
}

/// One session: statements one after the other, each for itself until `begin`.
#[async_trait]
pub trait Session: Send {
    /// From here on all statements are one transaction.
    async fn begin(&mut self) -> Result<(), SqlError>;

    /// Runs one statement of Redshift's SQL; stops it when told to.
    async fn execute(&mut self, sql: &str, stop: &CancellationToken) -> Result<Outcome, SqlError>;

    async fn commit(&mut self) -> Result<(), SqlError>;

    async fn rollback(&mut self);
}
