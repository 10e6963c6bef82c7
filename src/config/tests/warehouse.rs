//! Warehouses and what tasks load into them.

use std::path::Path;

use super::{GOOD, mistakes};
use crate::config::parse;
use crate::core::load::sql::{Subject, statements};
use crate::core::load::{Mode, Place};
use crate::core::task::TaskKey;

const WAREHOUSE: &str = r#"
[tasks.etl.load]
warehouse = "mart"
table = "mart.flights"
mode = "replace-partition"
partition-column = "hour_of"
columns = [
  { name = "carrier", type = "varchar(2)" },
  { name = "delay", type = "double precision" },
]

[warehouses.mart]
workgroup = "mart"
database = "dev"
role = "arn:aws:iam::123456789012:role/copy"
manifests = "s3://landing/manifests/"
"#;

fn loading() -> String {
    format!("{GOOD}{WAREHOUSE}")
}

#[test]
fn a_load_is_what_is_written() {
    let catalog = parse(&loading(), Path::new("x.toml")).unwrap().catalog;
    let load = catalog.tasks["etl"].load.as_ref().unwrap();
    assert_eq!((load.dataset.as_str(), load.table.plain().as_str()), ("etl", "mart.flights"));
    assert_eq!(load.mode, Mode::ReplacePartition("hour_of".parse().unwrap()));
    assert_eq!(load.columns.len(), 2);
    let warehouse = &catalog.warehouses["mart"];
    assert_eq!(warehouse.place, Place::Workgroup("mart".into()));
    assert_eq!(warehouse.ledger.plain(), "public.sluicegate_loads");
    assert_eq!(warehouse.manifests, ("landing".to_owned(), "manifests/".to_owned()));
    let cluster = loading().replace("workgroup = \"mart\"", "cluster = \"c1\"\nuser = \"loader\"");
    let catalog = parse(&cluster, Path::new("x.toml")).unwrap().catalog;
    let place = Place::Cluster { cluster: "c1".into(), user: Some("loader".into()) };
    assert_eq!(catalog.warehouses["mart"].place, place);
}

#[test]
fn what_runs_again_for_late_data_replaces_its_partition() {
    let again = loading().replace("when-empty", "late-data = { run-again = \"48h\" }\nwhen-empty");
    assert!(parse(&again, Path::new("x.toml")).is_ok());
    let column = "\npartition-column = \"hour_of\"";
    for mode in ["", "mode = \"append\"", "mode = \"replace-table\""] {
        let text = again.replace("mode = \"replace-partition\"", mode).replace(column, "");
        let said = mistakes(&text);
        assert!(said.contains("but its load replaces no partition"), "{mode}: {said}");
        assert!(said.contains("write mode = \"replace-partition\" in the load"), "{mode}: {said}");
    }
}

#[test]
fn loads_of_one_table_go_by_one_ledger() {
    let second = WAREHOUSE.replace("tasks.etl", "tasks.other").replace("mart]", "other]");
    let second = second.replace("warehouse = \"mart\"", "warehouse = \"other\"");
    let task = GOOD.split_once("[tasks.etl]").unwrap().1;
    let task = task.split("\n[").next().unwrap();
    let steps = "[[tasks.other.steps]]\nname = \"x\"\nkind = \"command\"\nargs = [\"true\"]\n";
    let output = "[datasets.made]\nlocation = \"s3://landing/made/{yyyy}/{MM}/{dd}/{HH}/\"\n";
    let task = task.replace("outputs = [\"etl\"]", "outputs = [\"made\"]");
    let both = format!("{}\n[tasks.other]{task}\n{steps}{output}{second}", loading());
    parse(&both, Path::new("x.toml")).unwrap();
    let other = both.replace("[warehouses.other]", "[warehouses.other]\nledger = \"own\"");
    let said = mistakes(&other);
    assert!(said.contains("goes by another ledger to this table"), "{said}");
    let apart = other.replacen("table = \"mart.flights\"", "table = \"mart.others\"", 1);
    parse(&apart, Path::new("x.toml")).unwrap();
    // Whoever logs in: it is the same table.
    let cluster = other
        .replacen("workgroup = \"mart\"", "cluster = \"c\"\nuser = \"a\"", 1)
        .replace("workgroup = \"mart\"", "cluster = \"c\"\nuser = \"b\"");
    assert!(mistakes(&cluster).contains("goes by another ledger"), "{}", mistakes(&cluster));
    let append = "mode = \"append\"";
    let one = other.replacen("mode = \"replace-partition\"", append, 1);
    parse(&one, Path::new("x.toml")).unwrap();
    parse(&other.replace("mode = \"replace-partition\"", append), Path::new("x.toml")).unwrap();
}

#[test]
fn each_mistake_of_a_load_is_said_with_a_way_out() {
    for (from, to, said) in [
        (
            "warehouse = \"mart\"",
            "warehouse = \"mat\"",
            "no warehouse \"mat\"\n    did you mean \"mart\"?",
        ),
        ("table = \"mart.flights\"", "table = \"mart.Flights\"", "use small letters, digits and _"),
        (
            "table = \"mart.flights\"",
            "table = \"x; drop\"",
            "\"x; drop\" is no name in the warehouse",
        ),
        ("\"carrier\", type", "\"carrier\\\"\", type", "is no name in the warehouse"),
        ("name = \"delay\"", "name = \"carrier\"", "two columns of one name"),
        (
            "\"varchar(2)\"",
            "\"text\"",
            "\"text\" is no type of a column\n    write boolean, smallint",
        ),
        ("partition-column = \"hour_of\"\n", "", "nothing says which rows belong to a partition"),
        ("\"hour_of\"", "\"delay\"", "\"delay\" is a column of the files too"),
        (
            "mode = \"replace-partition\"",
            "mode = \"merge\"",
            "expected append, replace-partition, upsert or replace-table",
        ),
        (
            "mode = \"replace-partition\"",
            "mode = \"upsert\"",
            "add unique-key = [\"…\"]: columns of",
        ),
        (
            "mode = \"replace-partition\"",
            "mode = \"replace-partition\"\nunique-key = [\"delay\"]",
            "unique-key belongs to mode = \"upsert\"",
        ),
        (
            "mode = \"replace-partition\"",
            "mode = \"upsert\"\nunique-key = [\"carrie\"]",
            "no column \"carrie\"\n    did you mean \"carrier\"?",
        ),
        (
            "mode = \"replace-partition\"",
            "mode = \"upsert\"\nunique-key = [\"delay\", \"delay\"]",
            "the same column twice",
        ),
        (
            "mode = \"replace-partition\"",
            "mode = \"upsert\"\nunique-key = []",
            "0 columns with 0 characters in their names: expected 1 to 8",
        ),
        ("table = ", "dataset = \"raw\"\ntable = ", "there is no output of this task \"raw\""),
        ("workgroup = \"mart\"", "", "a warehouse is a workgroup or a cluster"),
        ("workgroup = \"mart\"", "workgroup = \"a\"\ncluster = \"b\"", "name one of them"),
        ("workgroup = \"mart\"", "cluster = \"c1\"", "nothing says who logs in to this cluster"),
        ("\"arn:aws:iam::123456789012:role/copy\"", "\"copy\"", "\"copy\" is no ARN"),
        ("s3://landing/manifests/", "s3://landing/manifests", "is no prefix in S3"),
        (
            "etl/{yyyy}/{MM}/{dd}/{HH}/\"",
            "etl/{yyyy}/{MM}/{dd}/{HH}.parquet\"",
            "a load takes all files of a folder",
        ),
        ("outputs = [\"etl\"]", "outputs = []", "nothing says which output is loaded"),
    ] {
        let text = loading().replacen(from, to, 1);
        assert_ne!(text, loading(), "{from}");
        let told = mistakes(&text);
        assert!(told.contains(said), "{to}: {told}");
    }
    let none = loading().replace("  { name = \"carrier\", type = \"varchar(2)\" },\n", "");
    let none = none.replace("  { name = \"delay\", type = \"double precision\" },\n", "");
    assert!(
        mistakes(&none)
            .contains("0 columns with 0 characters in names and types: expected 1 to 1599")
    );
}

/// As many columns, with as long names, as the Data API's request has room for.
fn widest(columns: usize) -> String {
    let column = |number: usize| {
        let name = if number < 400 { "c" } else { "" };
        format!("{{ name = \"{name}c{number:06}\", type = \"date\" }},\n")
    };
    let (start, rest) = WAREHOUSE.split_once("columns = [\n").unwrap();
    let (_, end) = rest.split_once("]\n").unwrap();
    let all: String = (0..columns).map(column).collect();
    format!("{GOOD}{start}columns = [\n{all}]\n{end}")
}

/// All statements of a load go in one request of at most 100 KB.
#[test]
fn the_largest_load_that_is_allowed_has_room_in_one_request() {
    let long = "n".repeat(127);
    // A column of the key stands there more often, so these have the long names.
    let wide = widest(1_560);
    let name = |number: usize| format!("{}{number}", "k".repeat(36));
    let keyed = (0..8).fold(wide, |text, number| {
        text.replacen(&format!("\"cc{number:06}\""), &format!("{:?}", name(number)), 1)
    });
    let key: Vec<_> = (0..8).map(name).collect();
    let upsert = format!("mode = \"upsert\"\nunique-key = {key:?}");
    let upsert = keyed.replace("mode = \"replace-partition\"", &upsert);
    for text in [widest(1_599), upsert] {
        let bytes = bytes_of_load(&text, &long);
        assert!((90_000..100_000).contains(&bytes), "{bytes}");
    }
}

/// Where all other names are long too.
fn bytes_of_load(text: &str, long: &str) -> usize {
    let text = text
        .replace("hour_of", long)
        .replace("mart.flights", &format!("{long}.{long}"))
        .replace("[warehouses.mart]", &format!("[warehouses.mart]\nledger = \"{long}.{long}\""))
        .replace("role/copy", &format!("role/{}", "r".repeat(2_000)));
    let catalog = parse(&text, Path::new("x.toml")).unwrap().catalog;
    let (warehouse, load) = (&catalog.warehouses["mart"], catalog.tasks["etl"].load.as_ref());
    let key = TaskKey::new(&"t".repeat(64), "2013-01-01T05".parse().unwrap());
    let subject = Subject {
        deployment: &"d".repeat(64),
        key: &key,
        run: "01HZ5T3W8M2V9N4K7Q6R1C0XDB",
        files: 10_000,
        manifest: &format!("s3://{}/{}", "b".repeat(63), "'".repeat(1_024)),
        now: "2013-01-01T06:20:00Z".parse().unwrap(),
    };
    statements(warehouse, load.unwrap(), &subject).iter().map(String::len).sum()
}

#[test]
fn more_columns_than_one_request_has_room_for_are_refused() {
    let said = mistakes(&widest(1_600));
    assert!(said.contains("1600 columns with 18000 characters in names and types"), "{said}");
    assert!(said.contains("expected 1 to 1599 columns with at most 18000"), "{said}");
    let alone = widest(1_601).replace("mode = \"replace-partition\"", "");
    let said = mistakes(&alone.replace("partition-column = \"hour_of\"\n", ""));
    assert!(said.contains("1601 columns"), "{said}");
    assert!(said.contains("expected 1 to 1600 columns with at most 18000"), "{said}");
    // Fewer, with longer names.
    let long = widest(1_599).replacen("cc000000", &"c".repeat(20), 1);
    assert!(mistakes(&long).contains("1599 columns with 18001 characters"), "{}", mistakes(&long));
    for (from, to, said) in [
        ("role/copy", "r".repeat(2_048), "is no ARN"),
        ("manifests/", format!("{}/", "m".repeat(800)), "a prefix of more than 800 bytes"),
    ] {
        let told = mistakes(&loading().replace(from, &to));
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn the_newest_first_into_a_table_that_keeps_the_last_is_warned_of() {
    let text = loading().replace("* * *\" }", "* * *\", catch-up = \"newest-first\" }");
    let warned = |mode: &str, column: &str| {
        let text =
            text.replace("mode = \"replace-partition\"\npartition-column = \"hour_of\"", mode);
        let text = text.replace("partition-column = \"hour_of\"", column);
        parse(&text, Path::new("x.toml")).unwrap().warnings.to_string()
    };
    let said = "with catch-up = \"newest-first\" the oldest ";
    let mine = "mode = \"replace-partition\"\npartition-column = \"hour_of\"";
    assert!(!warned(mine, "partition-column = \"hour_of\"").contains(said));
    for (mode, name) in [
        ("mode = \"replace-table\"", "replace-table"),
        ("mode = \"upsert\"\nunique-key = [\"carrier\"]", "upsert"),
    ] {
        let warnings = warned(mode, "");
        assert!(warnings.contains(&format!("{said}{name} is the last")), "{warnings}");
    }
}

#[test]
fn names_that_redshift_would_refuse_are_mistakes() {
    let text = loading();
    for (from, to, said) in [
        ("workgroup = \"mart\"", "workgroup = \"w\"", "\"w\" cannot be the name of a workgroup"),
        ("workgroup = \"mart\"", "workgroup = \"My Team\"", "cannot be the name of a workgroup"),
        (
            "workgroup = \"mart\"",
            "cluster = \"Bad_1\"\nuser = \"u\"",
            "cannot be the name of a cluster",
        ),
        ("database = \"dev\"", "database = \"\"", "\"\" cannot be the name of a database"),
    ] {
        let said_of_it = mistakes(&text.replace(from, to));
        assert!(said_of_it.contains(said), "{to}: {said_of_it}");
        assert!(said_of_it.ends_with("1 mistake"), "{said_of_it}");
    }
    // The Data API takes an ARN too.
    let arn = "arn:aws:redshift-serverless:us-east-1:111122223333:workgroup/0f1e2d3c";
    let named = text.replace("workgroup = \"mart\"", &format!("workgroup = \"{arn}\""));
    assert!(parse(&named, Path::new("x.toml")).is_ok());
}
