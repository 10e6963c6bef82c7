//! The statements of a load: one transaction that loads a partition, or finds
//! that it is loaded and undoes itself. Not for sending them.
//!
//! Redshift enforces no uniqueness, so every load first locks the ledger, and a
//! batch of statements cannot branch, so a loaded partition makes one of them
//! raise. A lost answer, a repeated request and a second replica are therefore
//! all harmless, whatever becomes of the client token.
//!
//! The lock comes before all else: a transaction sees what was committed when its
//! first SELECT, change or CREATE TABLE began, so after anything but LOCK it would
//! not see what the load did that it waited for. Hence the ledger is created by a
//! request of its own. Source: Amazon Redshift Database Developer Guide, "Isolation
//! levels in Amazon Redshift".

use jiff::Timestamp;

use super::table::{Name, Table, literal};
use super::{LoadSpec, Mode, Warehouse};
use crate::core::task::TaskKey;
use crate::planted::{Bug, planted};

/// The table that COPY fills. It lives as long as the transaction.
const STAGE: &str = "\"sluicegate_stage\"";
/// A batch cannot branch: this raises when there is a row.
const RAISE_IF_ANY: &str = "SELECT 1 / CASE WHEN COUNT(*) = 0 THEN 1 ELSE 0 END FROM";
/// What it means when that is raised for the keys of the files.
const WRONG_KEYS: &str = "the files hold invalid keys: several rows have the same values in the \
    columns of unique-key, or a row lacks one";
const LEDGER_COLUMNS: &str = "deployment varchar(64), task varchar(64), part varchar(16), \
    run varchar(64), target varchar(256), files bigint, manifest varchar(2048), \
    loaded_at timestamp";

/// What one load is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub deployment: &'a str,
    pub key: &'a TaskKey,
    pub run: &'a str,
    /// How many files the manifest names, and where it lies.
    pub files: u64,
    pub manifest: &'a str,
    pub now: Timestamp,
}

impl Subject<'_> {
    fn ledger_row(&self) -> String {
        format!(
            "deployment = {} AND task = {} AND part = {}",
            literal(self.deployment),
            literal(&self.key.task),
            literal(&self.key.partition.to_string())
        )
    }
}

/// The statements of one transaction, in order.
pub fn statements(warehouse: &Warehouse, spec: &LoadSpec, subject: &Subject<'_>) -> Vec<String> {
    let (ledger, table) = (&warehouse.ledger, &spec.table);
    let row = subject.ledger_row();
    // What was appended cannot be taken back, so no run may append again.
    let refused = match &spec.mode {
        Mode::Append => row.clone(),
        Mode::ReplacePartition(_) | Mode::Upsert(_) | Mode::ReplaceTable => {
            format!("{row} AND run = {}", literal(subject.run))
        }
    };
    let staged: Vec<_> =
        spec.columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
    let mut stored = staged.clone();
    stored.extend(spec.partition_column.as_ref().map(|name| format!("{name} timestamp")));
    let mut statements = vec![
        format!("LOCK TABLE {ledger}"),
        format!("{RAISE_IF_ANY} {ledger} WHERE {refused}"),
        format!("CREATE TABLE IF NOT EXISTS {table} ({})", stored.join(", ")),
    ];
    let partition = timestamp(subject.key.partition.start());
    match &spec.mode {
        // Which rows an upsert takes away only the files say.
        Mode::Append | Mode::Upsert(_) => {}
        Mode::ReplacePartition(name) => {
            statements.push(format!("DELETE FROM {table} WHERE {name} = {partition}"));
        }
        // DELETE, because TRUNCATE commits on Redshift.
        Mode::ReplaceTable => statements.push(format!("DELETE FROM {table}")),
    }
    if planted(Bug::LedgerLockedLate) {
        statements.splice(0..0, create_ledger(warehouse));
    }
    if planted(Bug::LedgerNotChecked) {
        statements.retain(|statement| !statement.starts_with("SELECT"));
    }
    if subject.files > 0 {
        statements.push(format!("CREATE TEMP TABLE {STAGE} ({})", staged.join(", ")));
        statements.push(copy(warehouse, subject.manifest));
        if let Mode::Upsert(key) = &spec.mode {
            statements.extend([one_row_a_key(key), delete_by_key(table, key)]);
        }
        statements.push(insert(table, spec, &partition));
        statements.push(format!("DROP TABLE {STAGE}"));
    }
    statements.push(format!("DELETE FROM {ledger} WHERE {row}"));
    statements.push(format!(
        "INSERT INTO {ledger} VALUES ({}, {}, {}, {}, {}, {}, {}, {})",
        literal(subject.deployment),
        literal(&subject.key.task),
        literal(&subject.key.partition.to_string()),
        literal(subject.run),
        literal(&table.plain()),
        subject.files,
        literal(subject.manifest),
        timestamp(subject.now)
    ));
    statements
}

fn copy(warehouse: &Warehouse, manifest: &str) -> String {
    let role = match &warehouse.role {
        Some(role) => literal(role),
        None => "default".to_owned(),
    };
    format!("COPY {STAGE} FROM {} IAM_ROLE {role} FORMAT AS PARQUET MANIFEST", literal(manifest))
}

/// Raises when the files hold more than one row of a key, or one that lacks a part of
/// it: such rows would be in the table twice.
fn one_row_a_key(key: &[Name]) -> String {
    let columns: Vec<_> = key.iter().map(Name::to_string).collect();
    let lacks: Vec<_> = key.iter().map(|column| format!("{column} IS NULL")).collect();
    let (columns, lacks) = (columns.join(", "), lacks.join(" OR "));
    format!(
        "{RAISE_IF_ANY} (SELECT {columns} FROM {STAGE} GROUP BY {columns} HAVING COUNT(*) > 1 OR \
         {lacks}) AS \"wrong\""
    )
}

fn delete_by_key(table: &Table, key: &[Name]) -> String {
    let name = &table.name;
    let same: Vec<_> =
        key.iter().map(|column| format!("{name}.{column} = {STAGE}.{column}")).collect();
    format!("DELETE FROM {table} USING {STAGE} WHERE {}", same.join(" AND "))
}

fn insert(table: &Table, spec: &LoadSpec, partition: &str) -> String {
    let names: Vec<_> = spec.columns.iter().map(|column| column.name.to_string()).collect();
    let names = names.join(", ");
    match &spec.partition_column {
        Some(name) => format!(
            "INSERT INTO {table} ({names}, {name}) SELECT {names}, {partition} FROM {STAGE}"
        ),
        None => format!("INSERT INTO {table} ({names}) SELECT {names} FROM {STAGE}"),
    }
}

/// Which of the statements puts rows into the table, so that they can be
/// counted.
pub fn is_insert(statement: &str) -> bool {
    statement.starts_with("INSERT INTO") && statement.ends_with(&format!("FROM {STAGE}"))
}

/// What a statement's failure means, where its own words do not say it.
pub fn meaning(statement: &str, words: &str) -> Option<&'static str> {
    let is_key_check = statement.strip_prefix(RAISE_IF_ANY).is_some_and(|of| of.starts_with(" ("));
    (is_key_check && words.to_lowercase().contains("by zero")).then_some(WRONG_KEYS)
}

/// Creates the ledger unless it is there.
pub fn create_ledger(warehouse: &Warehouse) -> Vec<String> {
    vec![format!("CREATE TABLE IF NOT EXISTS {} ({LEDGER_COLUMNS})", warehouse.ledger)]
}

/// Asks the ledger which run has loaded a partition; the last statement gives
/// no row, or one of one text. A load that is under way holds its lock: the answer
/// waits for its end.
pub fn question(warehouse: &Warehouse, deployment: &str, key: &TaskKey) -> Vec<String> {
    let subject =
        Subject { deployment, key, run: "", files: 0, manifest: "", now: Timestamp::UNIX_EPOCH };
    let ledger = &warehouse.ledger;
    vec![
        format!("LOCK TABLE {ledger}"),
        format!("SELECT run FROM {ledger} WHERE {}", subject.ledger_row()),
    ]
}

fn timestamp(at: Timestamp) -> String {
    format!("TIMESTAMP '{}'", at.strftime("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::load::testing::{spec, warehouse};

    fn all(spec: &LoadSpec, files: u64) -> String {
        let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
        let now = "2013-01-01T06:30:00Z".parse().unwrap();
        let subject = Subject {
            deployment: "prod",
            key: &key,
            run: "R1",
            files,
            manifest: "s3://b/m'/R1.json",
            now,
        };
        statements(&warehouse(), spec, &subject).join(";\n")
    }

    #[test]
    fn each_mode_is_one_transaction_of_plain_statements() {
        insta::assert_snapshot!("append", all(&spec(Mode::Append), 2));
        let by = "part_of".parse().unwrap();
        insta::assert_snapshot!("replace-partition", all(&spec(Mode::ReplacePartition(by)), 2));
        insta::assert_snapshot!("replace-table", all(&spec(Mode::ReplaceTable), 2));
        let key = vec!["carrier".parse().unwrap(), "delay".parse().unwrap()];
        insta::assert_snapshot!("upsert", all(&spec(Mode::Upsert(key)), 2));
    }

    #[test]
    fn of_all_statements_only_the_check_of_the_keys_has_a_meaning_of_its_own() {
        let text = all(&spec(Mode::Upsert(vec!["carrier".parse().unwrap()])), 2);
        let raised = "ERROR: Division by zero";
        let with_meaning: Vec<_> =
            text.split(";\n").filter(|statement| meaning(statement, raised).is_some()).collect();
        assert_eq!(meaning(with_meaning[0], "ERROR: Disk Full"), None);
        assert_eq!(with_meaning.len(), 1, "{text}");
        assert!(with_meaning[0].contains("GROUP BY"), "{text}");
        // Without files there is nothing to check, and nothing goes.
        let none = all(&spec(Mode::Upsert(vec!["carrier".parse().unwrap()])), 0);
        assert!(!none.contains("stage") && !none.contains("DELETE FROM \"mart\""), "{none}");
    }

    #[test]
    fn a_partition_without_files_replaces_what_was_there() {
        let text = all(&spec(Mode::ReplaceTable), 0);
        assert!(
            text.contains("DELETE FROM \"mart\".\"flights\"") && !text.contains("COPY"),
            "{text}"
        );
    }

    #[test]
    fn the_ledger_is_locked_before_all_else() {
        let text = all(&spec(Mode::Append), 1);
        let place = |what: &str| text.find(what).unwrap();
        assert!(text.starts_with("LOCK TABLE"), "{text}");
        let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
        assert!(question(&warehouse(), "prod", &key)[0].starts_with("LOCK TABLE"));
        assert!(place("SELECT 1 /") < place("COPY"));
        assert!(place("COPY") < place("INSERT INTO \"public\".\"sluicegate_loads\""));
    }

    #[test]
    fn the_statement_that_gives_rows_is_known() {
        let key = TaskKey::new("etl", "2013-01-01T05".parse().unwrap());
        let subject = Subject {
            deployment: "prod",
            key: &key,
            run: "R1",
            files: 1,
            manifest: "s3://b/m",
            now: Timestamp::UNIX_EPOCH,
        };
        let all = statements(&warehouse(), &spec(Mode::Append), &subject);
        assert_eq!(all.iter().filter(|statement| is_insert(statement)).count(), 1);
    }
}
