//! One transaction on tables in memory. It sees what was committed when its first
//! statement other than LOCK began; what it writes is its own until it commits.
//! Whether it may commit is a matter of its isolation. Not for locks, time and
//! mishaps: those are the session's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sluicegate_local::redshift::warehouse::{self, Field, Outcome, SqlError};

use super::sql::{Condition, Source, Statement, Value};
use crate::objects;

/// A table with its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// Rises with every commit that touched it.
    version: u64,
}

/// Tables by their names, `schema.name`.
pub type Tables = BTreeMap<String, Table>;

/// The two that Redshift has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Nobody may have changed meanwhile what it has touched.
    Serializable,
    /// Nobody may have deleted meanwhile what it deletes.
    Snapshot,
}

#[derive(Debug)]
pub struct Transaction {
    isolation: Isolation,
    /// What was committed when it began to look.
    seen: Option<Tables>,
    /// Its own copies, each beside what it saw; none of what it has created.
    touched: BTreeMap<String, (Option<Table>, Table)>,
    temporary: Tables,
    /// Rows that were inserted by their values: those of the ledger.
    inserted: Vec<Vec<Value>>,
}

pub fn conflict() -> SqlError {
    SqlError::failed("1023\nDETAIL: Serializable isolation violation on table")
}

impl Transaction {
    pub fn new(isolation: Isolation) -> Self {
        let (touched, temporary, inserted) = (BTreeMap::new(), Tables::new(), Vec::new());
        Self { isolation, seen: None, touched, temporary, inserted }
    }

    /// Another one like it.
    pub fn anew(&self) -> Self {
        Self::new(self.isolation)
    }

    /// One statement; `read` gives the objects of the bucket.
    pub fn carry_out(
        &mut self,
        statement: Statement,
        committed: &Tables,
        read: impl Fn(&str) -> Option<Bytes>,
    ) -> Result<Outcome, SqlError> {
        if self.seen.is_none() && !matches!(statement, Statement::Lock { .. }) {
            self.seen = Some(committed.clone());
        }
        match statement {
            Statement::Create { table, columns, temporary: true } => {
                let new = Table { columns, ..Table::default() };
                match self.temporary.insert(table.clone(), new) {
                    None => Ok(Outcome::default()),
                    Some(_) => Err(SqlError::failed(format!("relation {table} already exists"))),
                }
            }
            Statement::Create { table, columns, temporary: false } => {
                if self.touched.contains_key(&table) || committed.contains_key(&table) {
                    return Ok(Outcome::default());
                }
                self.touched.insert(table, (None, Table { columns, ..Table::default() }));
                Ok(Outcome::default())
            }
            Statement::Lock { .. } => Ok(Outcome::default()),
            Statement::RaiseIfAny { table, condition } => {
                let found = self.matching(&table, committed, &condition)?;
                match found.is_empty() {
                    true => Ok(one_column("?column?", vec![Field::Long(1)])),
                    false => Err(SqlError::failed("division by zero")),
                }
            }
            Statement::RaiseIfNotOne { table, key } => {
                let table = self.temporary.get(&table).ok_or_else(|| missing(&table))?;
                let mut keys = BTreeSet::new();
                for row in &table.rows {
                    if !keys.insert(values(table, row, &key)?) {
                        return Err(SqlError::failed("division by zero"));
                    }
                }
                Ok(one_column("?column?", vec![Field::Long(1)]))
            }
            Statement::DeleteUsing { table, other, key } => {
                let other = self.temporary.get(&other).ok_or_else(|| missing(&other))?;
                let keys: Result<BTreeSet<_>, _> =
                    other.rows.iter().map(|row| values(other, row, &key)).collect();
                let keys = keys?;
                let table = self.table(&table, committed)?;
                let mut kept = Vec::new();
                for row in &table.rows {
                    if !keys.contains(&values(table, row, &key)?) {
                        kept.push(row.clone());
                    }
                }
                let gone = table.rows.len() - kept.len();
                table.rows = kept;
                Ok(changed(gone))
            }
            Statement::Select { column, table, condition } => {
                let found = self.matching(&table, committed, &condition)?;
                let at = place(self.table(&table, committed)?, &column)?;
                let fields = found.iter().map(|row| Field::String(row[at].to_string()));
                Ok(one_column(&column, fields.collect()))
            }
            Statement::Delete { table, condition } => {
                let table = self.table(&table, committed)?;
                let places = places(table, &condition)?;
                let before = table.rows.len();
                table.rows.retain(|row| !places.iter().all(|(at, value)| row[*at] == **value));
                Ok(changed(before - table.rows.len()))
            }
            Statement::Copy { table, manifest } => {
                let rows = files(&manifest, read)?;
                let count = rows.len();
                let stage = self.temporary.get_mut(&table);
                let stage = stage.ok_or_else(|| missing(&table))?;
                if rows.iter().any(|row| row.len() != stage.columns.len()) {
                    return Err(SqlError::failed("Spectrum Scan Error: other columns"));
                }
                stage.rows.extend(rows);
                Ok(changed(count))
            }
            Statement::InsertSelect { table, columns, sources, from } => {
                let stage = self.temporary.get(&from).cloned().ok_or_else(|| missing(&from))?;
                let table = self.table(&table, committed)?;
                for row in &stage.rows {
                    let mut new = Vec::with_capacity(table.columns.len());
                    for column in &table.columns {
                        let index = columns.iter().position(|name| name == column);
                        let source = index.and_then(|index| sources.get(index));
                        new.push(match source {
                            Some(Source::Column(name)) => row[place(&stage, name)?].clone(),
                            Some(Source::Value(value)) => value.clone(),
                            None => return Err(SqlError::failed(format!("no value for {column}"))),
                        });
                    }
                    table.rows.push(new);
                }
                Ok(changed(stage.rows.len()))
            }
            Statement::InsertValues { table, values } => {
                let table = self.table(&table, committed)?;
                if values.len() != table.columns.len() {
                    return Err(SqlError::failed("INSERT has another number of columns"));
                }
                table.rows.push(values.clone());
                self.inserted.push(values);
                Ok(changed(1))
            }
            Statement::Drop { table } => match self.temporary.remove(&table) {
                Some(_) => Ok(Outcome::default()),
                None => Err(missing(&table)),
            },
        }
    }

    /// All or nothing; says which rows were inserted by their values.
    pub fn commit(self, committed: &mut Tables) -> Result<Vec<Vec<Value>>, SqlError> {
        let mut after = Tables::new();
        for (name, (base, own)) in self.touched {
            let now = committed.get(&name);
            let version = |table: Option<&Table>| table.map(|table| table.version);
            let (rows, known) = if version(now) == version(base.as_ref()) {
                (own.rows, base.map_or(0, |base| base.version))
            } else if let (Isolation::Snapshot, Some(base), Some(now)) =
                (self.isolation, &base, now)
            {
                (merged(base, &own, now)?, now.version)
            } else {
                return Err(conflict());
            };
            if now.is_none_or(|now| now.rows != rows) {
                after.insert(name, Table { rows, version: known + 1, ..own });
            }
        }
        committed.extend(after);
        Ok(self.inserted)
    }

    /// Its own copy of a table.
    fn table(&mut self, name: &str, committed: &Tables) -> Result<&mut Table, SqlError> {
        if !self.touched.contains_key(name) {
            let table = committed.get(name).ok_or_else(|| missing(name))?;
            let seen = self.seen.as_ref().and_then(|seen| seen.get(name));
            // What was created since is there, and shows nothing.
            let new = || Table { columns: table.columns.clone(), ..Table::default() };
            let base = seen.cloned().unwrap_or_else(new);
            self.touched.insert(name.to_owned(), (Some(base.clone()), base));
        }
        let own = self.touched.get_mut(name).ok_or_else(|| missing(name))?;
        Ok(&mut own.1)
    }

    fn matching(
        &mut self,
        name: &str,
        committed: &Tables,
        condition: &Condition,
    ) -> Result<Vec<Vec<Value>>, SqlError> {
        let table = self.table(name, committed)?;
        let places = places(table, condition)?;
        let rows = table.rows.iter();
        let found = rows.filter(|row| places.iter().all(|(at, value)| row[*at] == **value));
        Ok(found.cloned().collect())
    }
}

/// The rows that are there now, changed as a transaction has changed those that it
/// saw.
fn merged(base: &Table, own: &Table, now: &Table) -> Result<Vec<Vec<Value>>, SqlError> {
    let without = |rows: &[Vec<Value>], others: &[Vec<Value>]| {
        let mut rows = rows.to_vec();
        let missed = others.iter().filter(|other| {
            let at = rows.iter().position(|row| row == *other);
            at.map(|at| rows.remove(at)).is_none()
        });
        let missed = missed.count();
        (rows, missed)
    };
    let (deleted, _) = without(&base.rows, &own.rows);
    let (added, _) = without(&own.rows, &base.rows);
    match without(&now.rows, &deleted) {
        (mut rows, 0) => {
            rows.extend(added);
            Ok(rows)
        }
        _ => Err(conflict()),
    }
}

fn places<'a>(
    table: &Table,
    condition: &'a Condition,
) -> Result<Vec<(usize, &'a Value)>, SqlError> {
    condition.iter().map(|(column, value)| Ok((place(table, column)?, value))).collect()
}

/// What a row has in these columns. No row of a world lacks a value.
fn values(table: &Table, row: &[Value], columns: &[String]) -> Result<Vec<Value>, SqlError> {
    columns.iter().map(|column| Ok(row[place(table, column)?].clone())).collect()
}

fn place(table: &Table, column: &str) -> Result<usize, SqlError> {
    let at = table.columns.iter().position(|name| name == column);
    at.ok_or_else(|| SqlError::failed(format!("column {column:?} does not exist")))
}

fn missing(table: &str) -> SqlError {
    SqlError::failed(format!("relation {table:?} does not exist"))
}

fn changed(rows: usize) -> Outcome {
    Outcome { rows: rows as u64, table: None }
}

fn one_column(name: &str, fields: Vec<Field>) -> Outcome {
    let column = warehouse::Column { name: name.to_owned(), type_name: "varchar".to_owned() };
    let rows: Vec<_> = fields.into_iter().map(|field| vec![field]).collect();
    let table = warehouse::Table { columns: vec![column], bytes: 8 * rows.len() as u64, rows };
    Outcome { rows: table.rows.len() as u64, table: Some(table) }
}

/// The rows of the files that a manifest names. A file of a world is a JSON
/// array of rows; COPY reads Parquet.
fn files(
    manifest: &str,
    read: impl Fn(&str) -> Option<Bytes>,
) -> Result<Vec<Vec<Value>>, SqlError> {
    let object = |uri: &str| {
        let body = objects::key_of(uri).and_then(&read);
        body.ok_or_else(|| SqlError::failed(format!("The specified S3 key {uri} does not exist")))
    };
    let json = |body: &Bytes| {
        let parsed = serde_json::from_slice::<serde_json::Value>(body);
        parsed.map_err(|error| SqlError::failed(format!("Invalid file: {error}")))
    };
    let mut rows = Vec::new();
    for entry in json(&object(manifest)?)?["entries"].as_array().into_iter().flatten() {
        let uri = entry["url"].as_str().unwrap_or_default();
        let body = object(uri)?;
        if entry["meta"]["content_length"] != body.len() {
            return Err(SqlError::failed(format!("{uri} has another length than its manifest")));
        }
        for row in json(&body)?.as_array().into_iter().flatten() {
            rows.push(row.as_array().into_iter().flatten().map(value).collect());
        }
    }
    Ok(rows)
}

fn value(json: &serde_json::Value) -> Value {
    match json.as_i64() {
        Some(number) => Value::Number(number),
        None => Value::Text(json.as_str().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sql::parse;
    use super::*;

    fn begin(sqls: &[&str], committed: &Tables) -> Result<Transaction, SqlError> {
        begin_in(Isolation::Serializable, sqls, committed)
    }

    /// Runs statements as one transaction, up to its commit.
    fn begin_in(
        isolation: Isolation,
        sqls: &[&str],
        committed: &Tables,
    ) -> Result<Transaction, SqlError> {
        let read = |key: &str| match key {
            "m.json" => Some(Bytes::from_static(
                br#"{"entries":[{"url":"s3://landing/f","meta":{"content_length":19}}]}"#,
            )),
            "f" => Some(Bytes::from_static(br#"[["one",1],["b",2]]"#)),
            _ => None,
        };
        let mut transaction = Transaction::new(isolation);
        for sql in sqls {
            transaction.carry_out(parse(sql).unwrap(), committed, read)?;
        }
        Ok(transaction)
    }

    const LEDGER: &str =
        r#"CREATE TABLE IF NOT EXISTS "public"."l" (part varchar(16), run varchar(64))"#;
    const CHECK: &str =
        r#"SELECT 1 / CASE WHEN COUNT(*) = 0 THEN 1 ELSE 0 END FROM "public"."l" WHERE part = 'p'"#;
    const LOAD: [&str; 7] = [
        LEDGER,
        CHECK,
        r#"CREATE TABLE IF NOT EXISTS "public"."t" ("id" varchar(64), "n" integer, "at" timestamp)"#,
        r#"CREATE TEMP TABLE "s" ("id" varchar(64), "n" integer)"#,
        r#"COPY "s" FROM 's3://landing/m.json' IAM_ROLE default FORMAT AS PARQUET MANIFEST"#,
        r#"INSERT INTO "public"."t" ("id", "n", "at") SELECT "id", "n", TIMESTAMP 'x' FROM "s""#,
        r#"INSERT INTO "public"."l" VALUES ('p', 'R')"#,
    ];

    #[test]
    fn a_load_is_committed_whole_and_not_a_second_time() {
        let mut tables = Tables::new();
        let rows = begin(&LOAD, &tables).unwrap().commit(&mut tables).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(tables["public.t"].rows.len(), 2);
        assert_eq!(tables["public.t"].rows[0][2], Value::Time("x".to_owned()));
        let error = begin(&LOAD, &tables).unwrap_err();
        assert_eq!(error, SqlError::failed("division by zero"));
        // What is not committed is not there.
        begin(&[r#"DELETE FROM "public"."t""#], &tables).unwrap();
        assert_eq!(tables["public.t"].rows.len(), 2);
    }

    #[test]
    fn of_two_loads_side_by_side_only_one_is_committed() {
        let mut tables = Tables::new();
        begin(&[LEDGER], &tables).unwrap().commit(&mut tables).unwrap();
        let one = begin(&LOAD, &tables).unwrap();
        let other = begin(&LOAD, &tables).unwrap();
        one.commit(&mut tables).unwrap();
        assert_eq!(other.commit(&mut tables), Err(conflict()));
        assert_eq!(tables["public.t"].rows.len(), 2);
    }

    /// Under snapshot isolation two that only add are no conflict: only the lock
    /// keeps them apart, and only if nothing was looked at before.
    #[test]
    fn what_is_seen_is_fixed_by_the_first_look_and_not_by_a_lock() {
        let snapshot =
            |sqls: &[&str], tables: &Tables| begin_in(Isolation::Snapshot, sqls, tables).unwrap();
        let mut tables = Tables::new();
        snapshot(&[LEDGER, LOAD[2]], &tables).commit(&mut tables).unwrap();
        let lock = r#"LOCK TABLE "public"."l""#;
        let (mut looked, mut waited) = (snapshot(&[LEDGER], &tables), snapshot(&[lock], &tables));
        snapshot(&LOAD, &tables).commit(&mut tables).unwrap();
        let read = |_: &str| None;
        let check = || parse(CHECK).unwrap();
        assert!(looked.carry_out(check(), &tables, read).is_ok(), "it sees what was");
        let refused = waited.carry_out(check(), &tables, read);
        assert_eq!(refused.unwrap_err(), SqlError::failed("division by zero"));
        let add = r#"INSERT INTO "public"."l" VALUES ('p', 'S')"#;
        looked.carry_out(parse(add).unwrap(), &tables, read).unwrap();
        looked.commit(&mut tables).unwrap();
        assert_eq!(tables["public.l"].rows.len(), 2);
    }

    /// Two that delete the same are a conflict.
    #[test]
    fn what_another_has_deleted_cannot_be_deleted() {
        let mut tables = Tables::new();
        begin(&LOAD, &tables).unwrap().commit(&mut tables).unwrap();
        let delete = r#"DELETE FROM "public"."t""#;
        let both = [(); 2].map(|()| begin_in(Isolation::Snapshot, &[delete], &tables).unwrap());
        let [one, other] = both.map(|transaction| transaction.commit(&mut tables));
        assert_eq!((one, other), (Ok(Vec::new()), Err(conflict())));
        assert_eq!(tables["public.t"].rows.len(), 0);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let tables = Tables::new();
        for sql in [
            r#"DELETE FROM "public"."t""#,
            r#"DROP TABLE "s""#,
            r#"COPY "s" FROM 's3://landing/m.json' IAM_ROLE default FORMAT AS PARQUET MANIFEST"#,
            r#"COPY "s" FROM 's3://landing/x' IAM_ROLE default FORMAT AS PARQUET MANIFEST"#,
        ] {
            let error = begin(&[sql], &tables).unwrap_err();
            assert!(error.to_string().contains("does not exist"), "{sql}: {error}");
        }
    }
}
