//! Warehouses, and what tasks load into them. Nothing that is not checked here
//! gets into SQL.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{self, File, Placed, Text};
use crate::core::catalog::Catalog;
use crate::core::load::table::{Name, TableError};
use crate::core::load::{Column, LoadSpec, Mode, ModeName, Place, Warehouse};
use crate::core::notice::clipped;

const NAME_HELP: &str = "use small letters, digits and _, up to 127, not a digit first; a table may \
    have its schema before it: \"mart.flights\"";
const TYPE_HELP: &str = "write boolean, smallint, integer, bigint, real, double precision, date, \
    timestamp, timestamptz, char(n), varchar(n) or decimal(p, s)";
/// Redshift's bound on a table's columns.
const COLUMNS_MAX: usize = 1_600;
/// All statements of a load go in one request of 100 KB; a column stands in it four times.
const COLUMNS_CHARS_MAX: usize = 18_000;
/// A column of the key stands in it five times more.
const KEY_COLUMNS_MAX: usize = 8;
const KEY_CHARS_MAX: usize = 300;

/// AWS's bound on an ARN.
const ARN_CHARS_MAX: usize = 2_048;
/// What is left of a key in S3 by task, partition, run and attempt.
const MANIFESTS_BYTES_MAX: usize = 800;
/// The Data API takes no longer ARN of a workgroup.
const WORKGROUP_CHARS_MAX: usize = 128;
const QUOTED_CHARS_MAX: usize = 100;

impl Check {
    pub(super) fn warehouse(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Warehouse,
    ) -> Option<Warehouse> {
        self.name("warehouse", name);
        let place = self.place(name, raw);
        let is_arn = |text: &&Text| {
            let text = text.get_ref();
            text.starts_with("arn:") && text.len() <= ARN_CHARS_MAX
        };
        for text in [&raw.secret, &raw.role].into_iter().flatten().filter(|text| !is_arn(text)) {
            let message = format!("{:?} is no ARN", clipped(text.get_ref(), QUOTED_CHARS_MAX));
            self.report(
                Mistake::at(text.span(), message)
                    .help("write the whole ARN, arn:aws:…; a password never stands in this file"),
            );
        }
        self.names_of_redshift(raw);
        let ledger = self.warehouse_word(&raw.ledger);
        let manifests = self.s3_prefix(&raw.manifests);
        if manifests.as_ref().is_some_and(|(_, prefix)| prefix.len() > MANIFESTS_BYTES_MAX) {
            let message = format!("a prefix of more than {MANIFESTS_BYTES_MAX} bytes");
            self.report(
                Mistake::at(raw.manifests.span(), message)
                    .help("a key in S3 has at most 1,024 bytes, and the manifest's name follows"),
            );
        }
        let (second, hours) = (SignedDuration::from_secs(1), SignedDuration::from_hours);
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.get_ref().clone());
        Some(Warehouse {
            name: name.get_ref().clone(),
            database: raw.database.get_ref().clone(),
            secret: text(&raw.secret),
            role: text(&raw.role),
            attempts: self.count("attempts", &raw.attempts, 1..=20),
            retry_delay: self.within("retry-delay", &raw.retry_delay, second..=hours(24)),
            timeout: self.within("timeout", &raw.timeout, second * 10..=hours(24)),
            place: place?,
            ledger: ledger?,
            manifests: manifests?,
        })
    }

    /// Redshift refuses others, but only when the first cluster has done its work.
    fn names_of_redshift(&mut self, raw: &schema::Warehouse) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let letter = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase());
        // The Data API takes an ARN too.
        let is_workgroup = |text: &str| match text.starts_with("arn:") {
            true => text.contains(":workgroup/") && text.len() <= WORKGROUP_CHARS_MAX,
            false => (3..=63).contains(&text.len()) && text.chars().all(plain),
        };
        let is_cluster = |text: &str| text.len() <= 63 && letter(text) && text.chars().all(plain);
        let is_database = |text: &str| (1..=127).contains(&text.len());
        let mut named = |text: Option<&Text>, what, is_one: &dyn Fn(&str) -> bool, help| {
            if let Some(text) = text.filter(|text| !is_one(text.get_ref())) {
                let shown = clipped(text.get_ref(), QUOTED_CHARS_MAX);
                let message = format!("{shown:?} cannot be the name of a {what}");
                self.report(Mistake::at(text.span(), message).help(help));
            }
        };
        let of_workgroups = "3 to 63 lower-case letters, digits and -, or its ARN";
        let of_clusters = "up to 63 lower-case letters, digits and -, a letter first";
        named(raw.workgroup.as_ref(), "workgroup", &is_workgroup, of_workgroups);
        named(raw.cluster.as_ref(), "cluster", &is_cluster, of_clusters);
        named(Some(&raw.database), "database", &is_database, "1 to 127 letters");
    }

    fn place(&mut self, name: &Placed<String>, raw: &schema::Warehouse) -> Option<Place> {
        match (&raw.workgroup, &raw.cluster) {
            (Some(workgroup), None) => {
                if let Some(user) = &raw.user {
                    self.report(
                        Mistake::at(user.span(), "user belongs to cluster")
                            .help("Redshift Serverless takes the task role: leave user out"),
                    );
                }
                Some(Place::Workgroup(workgroup.get_ref().clone()))
            }
            (None, Some(cluster)) => {
                if let (Some(user), Some(_)) = (&raw.user, &raw.secret) {
                    self.report(Mistake::at(user.span(), "user and secret exclude each other"));
                }
                if raw.user.is_none() && raw.secret.is_none() {
                    self.report(
                        Mistake::at(cluster.span(), "nothing says who logs in to this cluster")
                            .help("add user = \"…\", or secret = \"arn:aws:secretsmanager:…\""),
                    );
                }
                let user = raw.user.as_ref().map(|user| user.get_ref().clone());
                Some(Place::Cluster { cluster: cluster.get_ref().clone(), user })
            }
            (workgroup, _) => {
                let span = workgroup.as_ref().map_or(name.span(), Text::span);
                self.report(
                    Mistake::at(span, "a warehouse is a workgroup or a cluster: name one of them")
                        .help("workgroup = \"…\" for Redshift Serverless, or cluster = \"…\""),
                );
                None
            }
        }
    }

    pub(super) fn load(
        &mut self,
        raw: &schema::Load,
        task: &Placed<String>,
        raw_task: &schema::Task,
        file: &File,
    ) -> Option<LoadSpec> {
        let warehouse = raw.warehouse.get_ref();
        if !file.warehouses.contains_key(warehouse.as_str()) {
            let known = file.warehouses.keys().map(|name| name.get_ref().as_str());
            self.report(Mistake::unknown(raw.warehouse.span(), "warehouse", warehouse, known));
        }
        let dataset = self.loaded_dataset(raw, task, raw_task, file);
        let table = self.warehouse_word(&raw.table);
        let columns = self.columns(&raw.columns, raw.partition_column.is_some());
        let partition_column = self.partition_column(raw);
        let mode = self.load_mode(raw, partition_column.as_ref(), &columns);
        Some(LoadSpec {
            warehouse: warehouse.clone(),
            dataset: dataset?,
            table: table?,
            mode: mode?,
            columns,
            partition_column,
        })
    }

    fn load_mode(
        &mut self,
        raw: &schema::Load,
        partition_column: Option<&Name>,
        columns: &[Column],
    ) -> Option<Mode> {
        let key = raw.unique_key.as_ref().map(|key| (key, self.unique_key(key, columns)));
        let mode = *raw.mode.get_ref();
        match (mode, partition_column, key) {
            (ModeName::Upsert, _, Some((_, key))) => return key.map(Mode::Upsert),
            (ModeName::Upsert, _, None) => self.report(
                Mistake::at(raw.mode.span(), "nothing says which row replaces which")
                    .help("add unique-key = [\"…\"]: columns of the files"),
            ),
            (_, _, Some((key, _))) => self.report(
                Mistake::at(key.span(), "unique-key belongs to mode = \"upsert\"")
                    .help("write mode = \"upsert\", or leave unique-key out"),
            ),
            (ModeName::Append, _, None) => return Some(Mode::Append),
            (ModeName::ReplaceTable, _, None) => return Some(Mode::ReplaceTable),
            (ModeName::ReplacePartition, Some(name), None) => {
                return Some(Mode::ReplacePartition(name.clone()));
            }
            (ModeName::ReplacePartition, None, None) => self.report(
                Mistake::at(raw.mode.span(), "nothing says which rows belong to a partition")
                    .help("add partition-column = \"…\": a column that sluicegate fills"),
            ),
        }
        None
    }

    fn unique_key(&mut self, raw: &Placed<Vec<Text>>, columns: &[Column]) -> Option<Vec<Name>> {
        let names = columns.iter().map(|column| column.name.as_str());
        let mut key: Vec<Name> = Vec::new();
        for text in raw.get_ref() {
            match columns.iter().find(|column| column.name.as_str() == text.get_ref()) {
                Some(column) if key.contains(&column.name) => {
                    self.report(Mistake::at(text.span(), "the same column twice"));
                }
                Some(column) => key.push(column.name.clone()),
                None => {
                    let name = text.get_ref();
                    self.report(Mistake::unknown(text.span(), "column", name, names.clone()));
                }
            }
        }
        let count = raw.get_ref().len();
        let chars: usize = raw.get_ref().iter().map(|text| text.get_ref().len()).sum();
        if count == 0 || count > KEY_COLUMNS_MAX || chars > KEY_CHARS_MAX {
            let message = format!(
                "{count} columns with {chars} characters in their names: expected 1 to \
                 {KEY_COLUMNS_MAX} columns with at most {KEY_CHARS_MAX}"
            );
            self.report(
                Mistake::at(raw.span(), message)
                    .help("name the columns of the files that make a row the only one of its kind"),
            );
        }
        (key.len() == count).then_some(key)
    }

    /// Loads that change one another's rows have to wait for one another.
    pub(super) fn ledgers(&mut self, file: &File, catalog: &Catalog) {
        let mut first = BTreeMap::new();
        for (name, raw) in &file.tasks {
            let load = catalog.tasks.get(name.get_ref()).and_then(|task| task.load.as_ref());
            let (Some(load), Some(raw)) = (load, &raw.load) else { continue };
            let Some(warehouse) = catalog.warehouses.get(&load.warehouse) else { continue };
            if load.mode == Mode::Append {
                continue;
            }
            let place = (warehouse.place.name(), &warehouse.database, &load.table);
            let (other, ledger) =
                *first.entry(place).or_insert((name.get_ref(), &warehouse.ledger));
            if *ledger != warehouse.ledger {
                let message = format!("the load of {other} goes by another ledger to this table");
                self.report(Mistake::at(raw.table.span(), message).help(
                    "name one ledger in both warehouses: loads of one table go one after the other",
                ));
            }
        }
    }

    /// An output with many files, or one; where the task has one, it is that.
    fn loaded_dataset(
        &mut self,
        raw: &schema::Load,
        task: &Placed<String>,
        raw_task: &schema::Task,
        file: &File,
    ) -> Option<String> {
        let outputs = raw_task.outputs.iter().map(|output| output.get_ref().as_str());
        let dataset = match (&raw.dataset, raw_task.outputs.as_slice()) {
            (Some(dataset), _) => dataset,
            (None, [only]) => only,
            (None, _) => {
                self.report(
                    Mistake::at(task.span(), "nothing says which output is loaded")
                        .help("add dataset = \"…\" to load, and the dataset to outputs"),
                );
                return None;
            }
        };
        let name = dataset.get_ref();
        if !outputs.clone().any(|output| output == name) {
            self.report(Mistake::unknown(dataset.span(), "output of this task", name, outputs));
            return None;
        }
        let location = file.datasets.get(name.as_str())?.location.get_ref();
        if !location.ends_with(['/', '*']) {
            let message = format!("{name:?} is one object, and a load takes all files of a folder");
            self.report(
                Mistake::at(dataset.span(), message).help("let the dataset's location end in /"),
            );
        }
        Some(name.clone())
    }

    /// Those of the files; the table may have another, for the partition.
    fn columns(&mut self, raw: &Placed<Vec<schema::Column>>, has_another: bool) -> Vec<Column> {
        let mut seen = BTreeSet::new();
        let mut columns = Vec::new();
        for column in raw.get_ref() {
            if !seen.insert(column.name.get_ref()) {
                self.report(Mistake::at(column.name.span(), "two columns of one name"));
            }
            let (name, kind) = (self.warehouse_word(&column.name), self.kind(&column.kind));
            columns.extend(name.zip(kind).map(|(name, kind)| Column { name, kind }));
        }
        let chars: usize = raw
            .get_ref()
            .iter()
            .map(|column| column.name.get_ref().len() + column.kind.get_ref().len())
            .sum();
        let count = raw.get_ref().len();
        let most = COLUMNS_MAX - usize::from(has_another);
        if count == 0 || count > most || chars > COLUMNS_CHARS_MAX {
            self.report(
                Mistake::at(raw.span(), format!("{count} columns with {chars} characters in names and types: expected 1 to {most} columns with at most {COLUMNS_CHARS_MAX}"))
                    .help("list the columns of the Parquet files in their order: { name = \"…\", type = \"…\" }"),
            );
        }
        columns
    }

    fn partition_column(&mut self, raw: &schema::Load) -> Option<Name> {
        let text = raw.partition_column.as_ref()?;
        if raw.columns.get_ref().iter().any(|column| column.name.get_ref() == text.get_ref()) {
            self.report(
                Mistake::at(
                    text.span(),
                    format!("{:?} is a column of the files too", text.get_ref()),
                )
                .help("sluicegate fills this column itself: give it a name of its own"),
            );
        }
        self.warehouse_word(text)
    }

    fn kind(&mut self, text: &Text) -> Option<crate::core::load::table::Type> {
        let parsed = text.get_ref().parse();
        parsed
            .map_err(|error: TableError| {
                self.report(Mistake::at(text.span(), error.to_string()).help(TYPE_HELP));
            })
            .ok()
    }

    /// A table or a column.
    fn warehouse_word<T: std::str::FromStr<Err = TableError>>(&mut self, text: &Text) -> Option<T> {
        let parsed = text.get_ref().parse();
        parsed
            .map_err(|error: TableError| {
                self.report(Mistake::at(text.span(), error.to_string()).help(NAME_HELP));
            })
            .ok()
    }
}
