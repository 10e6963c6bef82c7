//! COPY of real Parquet files out of the local S3 into real PostgreSQL.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray,
    FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use sluicegate_local::wire::Request;

use crate::world::{World, records};

const PARQUET: &str = "iam_role 'arn:aws:iam::000000000000:role/load' format as parquet";

/// The values of one column; a missing one is null.
enum Column {
    Bool(Vec<Option<bool>>),
    I32(Vec<Option<i32>>),
    I64(Vec<Option<i64>>),
    I96(Vec<Option<Int96>>),
    Float(Vec<Option<f32>>),
    Double(Vec<Option<f64>>),
    Bytes(Vec<Option<&'static [u8]>>),
    Fixed(Vec<Option<Vec<u8>>>),
}

fn write<T: DataType>(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, Vec<u8>>,
    values: Vec<Option<T::T>>,
) {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<T>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
}

/// A Parquet file of one row group.
fn file(schema: &str, columns: Vec<Column>, compression: Compression) -> Vec<u8> {
    let schema = parse_message_type(&format!("message spark_schema {{ {schema} }}")).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties));
    let mut writer = writer.unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let bytes = |value: &[u8]| ByteArray::from(value.to_vec());
        match column {
            Column::Bool(v) => write::<BoolType>(&mut group, v),
            Column::I32(v) => write::<Int32Type>(&mut group, v),
            Column::I64(v) => write::<Int64Type>(&mut group, v),
            Column::I96(v) => write::<Int96Type>(&mut group, v),
            Column::Float(v) => write::<FloatType>(&mut group, v),
            Column::Double(v) => write::<DoubleType>(&mut group, v),
            Column::Bytes(v) => {
                write::<ByteArrayType>(&mut group, v.into_iter().map(|v| v.map(bytes)).collect());
            }
            Column::Fixed(v) => {
                let fixed = |v: Vec<u8>| FixedLenByteArray::from(v);
                write::<FixedLenByteArrayType>(
                    &mut group,
                    v.into_iter().map(|v| v.map(fixed)).collect(),
                );
            }
        }
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Ids and names, as small as a file can be.
fn people(people: &[(i64, &'static str)]) -> Vec<u8> {
    let ids = people.iter().map(|(id, _)| Some(*id)).collect();
    let names = people.iter().map(|(_, name)| Some(name.as_bytes())).collect();
    let columns = vec![Column::I64(ids), Column::Bytes(names)];
    file("OPTIONAL INT64 id; OPTIONAL BYTE_ARRAY who (UTF8);", columns, Compression::SNAPPY)
}

async fn put(world: &World, key: &str, content: &[u8]) {
    for (path, body) in [("/lake".to_owned(), &[][..]), (format!("/lake/{key}"), content)] {
        let headers = [("content-length".parse().unwrap(), body.len().into())];
        let request = Request {
            method: "PUT".parse().unwrap(),
            uri: path.parse().unwrap(),
            headers: headers.into_iter().collect(),
            body: Bytes::copy_from_slice(body),
        };
        let status = world.aws().cloud().handle(request).await.status().as_u16();
        // The bucket may be there.
        assert!([200, 409].contains(&status), "{path}: {status}");
    }
}

/// An entry of a manifest that promises a file's true length.
fn entry(key: &str, content: &[u8]) -> Value {
    json!({
        "url": format!("s3://lake/{key}"), "mandatory": true,
        "meta": { "content_length": content.len() },
    })
}

async fn put_manifest(world: &World, entries: Value) {
    put(world, "m.json", json!({ "entries": entries }).to_string().as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_arrives_as_it_was() {
    let world = World::start().await;
    let mut instant = Int96::new();
    // Julian day 2456294 is 2013-01-01; 5 hours and a microsecond of it.
    let nanoseconds: u64 = 5 * 3_600_000_000_000 + 1_000;
    instant.set_data(nanoseconds as u32, (nanoseconds >> 32) as u32, 2_456_294);
    let schema = "OPTIONAL BOOLEAN b; OPTIONAL INT32 s (INT_16); OPTIONAL INT32 i; \
                  OPTIONAL INT64 l; OPTIONAL FLOAT f; OPTIONAL DOUBLE d; \
                  OPTIONAL INT32 p (DECIMAL(9,2)); OPTIONAL INT64 q (DECIMAL(18,4)); \
                  OPTIONAL FIXED_LEN_BYTE_ARRAY (16) r (DECIMAL(38,10)); \
                  OPTIONAL INT32 day (DATE); OPTIONAL INT96 a; \
                  OPTIONAL INT64 m (TIMESTAMP_MILLIS); OPTIONAL INT64 u (TIMESTAMP_MICROS); \
                  OPTIONAL BYTE_ARRAY t (UTF8);";
    let wide = 12_345_678_901_234_567_890_i128.to_be_bytes().to_vec();
    let columns = vec![
        Column::Bool(vec![Some(true), None]),
        Column::I32(vec![Some(-7), None]),
        Column::I32(vec![Some(i32::MAX), None]),
        Column::I64(vec![Some(i64::MIN), None]),
        Column::Float(vec![Some(0.1), None]),
        Column::Double(vec![Some(f64::INFINITY), None]),
        Column::I32(vec![Some(-5), None]),
        Column::I64(vec![Some(12_345_678), None]),
        Column::Fixed(vec![Some(wide), None]),
        Column::I32(vec![Some(15_706), None]),
        Column::I96(vec![Some(instant), None]),
        Column::I64(vec![Some(1_357_016_400_123), None]),
        Column::I64(vec![Some(-1), None]),
        Column::Bytes(vec![Some("tab\t line\n back\\slash \\N ünï".as_bytes()), None]),
    ];
    let zstd = Compression::ZSTD(ZstdLevel::default());
    put(&world, "types/part-0.parquet", &file(schema, columns, zstd)).await;
    world
        .batch_done(&[
            "create table t (b boolean, s smallint, i integer, l bigint, f real, d double \
             precision, p decimal(9,2), q decimal(18,4), r decimal(38,10), day date, a timestamp, \
             m timestamp, u timestamptz, t varchar(99))",
            &format!("copy t from 's3://lake/types/' {PARQUET}"),
        ])
        .await;
    let rows = world.query("select * from t order by b").await;
    assert_eq!(
        rows,
        json!([
            [
                true,
                -7,
                i32::MAX,
                i64::MIN,
                0.1,
                "Infinity",
                "-0.05",
                "1234.5678",
                "1234567890.1234567890",
                "2013-01-01",
                "2013-01-01 05:00:00.000001",
                "2013-01-01 05:00:00.123",
                "1969-12-31 23:59:59.999999+00",
                "tab\t line\n back\\slash \\N ünï",
            ],
            vec![Value::Null; 14],
        ])
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_says_which_files_are_read() {
    let world = World::start().await;
    let (one, two) = (people(&[(1, "ann"), (2, "bob")]), people(&[(3, "cyd")]));
    put(&world, "in/1.parquet", &one).await;
    put(&world, "in/2.parquet", &two).await;
    put(&world, "in/not-named.parquet", &people(&[(9, "zoe")])).await;
    let optional = json!({ "url": "s3://lake/gone", "meta": { "content_length": 1 } });
    let entries = json!([entry("in/2.parquet", &two), optional, entry("in/1.parquet", &one)]);
    put_manifest(&world, entries).await;
    let copy = format!("copy people from 's3://lake/m.json' {PARQUET} manifest statupdate off");
    world.batch_done(&["create table people (id bigint, who varchar(3))"]).await;
    let loaded = world.finished(&world.execute(&copy).await).await;
    assert_eq!(loaded["ResultRows"], 3);
    let rows = world.query("select id, who from people order by id").await;
    assert_eq!(rows, json!([[1, "ann"], [2, "bob"], [3, "cyd"]]));
    // By position, into the columns that are named.
    world.batch_done(&["create table sparse (x int default 7, who varchar(9), id bigint)"]).await;
    world
        .batch_done(&[&format!("copy sparse (id, \"who\") from 's3://lake/in/1' {PARQUET}")])
        .await;
    let rows = world.query("select x, who, id from sparse order by id").await;
    assert_eq!(rows, json!([[7, "ann", 1], [7, "bob", 2]]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_wrong_is_refused_in_redshifts_words() {
    let world = World::start().await;
    world.batch_done(&["create table people (id bigint, who varchar(3))"]).await;
    let content = people(&[(1, "ann")]);
    put(&world, "in/1.parquet", &content).await;
    let good = entry("in/1.parquet", &content);
    let with = |change: Value| {
        let mut entry = good.clone();
        for (name, value) in change.as_object().unwrap() {
            entry[name] = value.clone();
        }
        entry
    };
    let length = |length: usize| with(json!({ "meta": { "content_length": length } }));
    let copy = format!("copy people from 's3://lake/m.json' {PARQUET} manifest");
    for (entries, part) in [
        (
            json!([good, with(json!({ "url": "s3://lake/gone" }))]),
            "The specified key does not exist",
        ),
        (json!([with(json!({ "url": "s3://none/gone" }))]), "The specified bucket does not exist"),
        (json!([with(json!({ "meta": null }))]), "File entry does not have 'meta' key."),
        (json!([with(json!({ "meta": {} }))]), "'content_length' key"),
        (json!([length(content.len() + 1)]), "416 Message: InvalidRange"),
        (json!([length(content.len() - 1)]), "invalid version number"),
        (json!([with(json!({ "url": "lake/in" }))]), "no s3://bucket/key"),
        (json!("none"), "not in correct json format"),
        (json!([]), "do not exist"),
    ] {
        put_manifest(&world, entries.clone()).await;
        let error = world.error(&copy).await;
        assert!(error.contains(part), "{entries}: {error}");
    }
    for (from, part) in [
        ("s3://lake/none.json", "Problem reading manifest file"),
        ("s3://lake/in/", "requires full path of an S3 object"),
    ] {
        let error = world.error(&copy.replace("s3://lake/m.json", from)).await;
        assert!(error.contains(part), "{from}: {error}");
    }
    assert_eq!(world.query("select count(*) from people").await, json!([[0]]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let world = World::start().await;
    let good = people(&[(1, "ann")]);
    put(&world, "good/1.parquet", &good).await;
    put(&world, "bad/1.parquet", &good).await;
    let invalid = file(
        "OPTIONAL INT64 id; OPTIONAL BYTE_ARRAY who (UTF8);",
        vec![Column::I64(vec![Some(1)]), Column::Bytes(vec![Some(b"a\xff")])],
        Compression::GZIP(Default::default()),
    );
    put(&world, "invalid/1.parquet", &invalid).await;
    put(&world, "bad/2.parquet", b"PAR1 no parquet PAR1").await;
    put(&world, "bad/_SUCCESS", b"").await;
    for (columns, from, part) in [
        ("id bigint", "good/", "Table columns: 1, Data columns: 2, File name: https://"),
        ("id bigint, who varchar(3), x int", "good/", "Table columns: 3, Data columns: 2"),
        ("id integer, who varchar(3)", "good/", "Column type: INT, Parquet schema:"),
        ("id varchar(9), who varchar(3)", "good/", "Column type: VARCHAR(9), Parquet schema:"),
        (
            "id bigint, who varchar(2)",
            "good/",
            "longer than the length defined in the table. Table: 2, Data: 3",
        ),
        ("id bigint, who varchar(3)", "bad/", "is not a valid Parquet file"),
        ("id bigint, who varchar(3)", "invalid/", "unsupported UTF8 codepoints"),
        ("id bigint, who varchar(3)", "none/", "The specified S3 prefix 'none/' does not exist"),
    ] {
        let create = format!("create table t ({columns})");
        let copy = format!("copy t from 's3://lake/{from}' {PARQUET}");
        let id = world.batch(&["drop table if exists t", &create, &copy]).await;
        let described = world.ended(&id).await;
        assert_eq!(described["Status"], "FAILED", "{columns} {from}");
        let error = described["Error"].as_str().unwrap();
        assert!(error.contains(part), "{columns} {from}: {error}");
        // The table itself was made in the same transaction.
        assert!(world.error("select * from t").await.contains("does not exist"));
    }
    let missing = world.error(&format!("copy nowhere from 's3://lake/good/' {PARQUET}")).await;
    assert!(missing.contains("Cannot COPY into nonexistent table nowhere"), "{missing}");
    world
        .batch_done(&[
            "create table t (id bigint, who varchar(3), x int)",
            &format!("copy t from 's3://lake/invalid/' {PARQUET} acceptinvchars fillrecord"),
        ])
        .await;
    assert_eq!(world.query("select * from t").await, json!([[1, "a?", null]]));
    world.end().await;
}

/// What a load stage does: lock, refuse, stage, swap, note.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_swapped_in_one_transaction_exactly_once() {
    let world = World::start().await;
    put(&world, "in/1.parquet", &people(&[(1, "new"), (2, "new")])).await;
    world
        .batch_done(&[
            "create table people (id bigint, who varchar(3))",
            "create table ledger (what varchar(99), unique (what))",
            "insert into people values (1, 'old'), (7, 'old')",
        ])
        .await;
    let copy = format!("copy stage from 's3://lake/in/' {PARQUET}");
    let load = [
        "lock ledger",
        "select 1 / (case when exists (select 1 from ledger where what = 'p') then 0 else 1 end)",
        "create temp table stage (like people)",
        &copy,
        "delete from people using stage where people.id = stage.id",
        "insert into people select * from stage",
        "insert into ledger values ('p')",
    ];
    world.batch_done(&load).await;
    let expected = json!([[1, "new"], [2, "new"], [7, "old"]]);
    let rows = "select id, who from people order by id";
    assert_eq!(world.query(rows).await, expected);
    let again = world.ended(&world.batch(&load).await).await;
    assert_eq!(again["Error"], "Query #2 failed with ERROR: division by zero");
    assert_eq!(world.query(rows).await, expected);
    world.end().await;
}

/// A file that was damaged is loaded whole or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn no_damage_leads_to_a_part_of_a_file() {
    let world = World::start().await;
    world.batch_done(&["create table t (id bigint, who varchar(9))"]).await;
    let good = people(&[(1, "ann"), (2, "bob"), (3, "cyd")]);
    let copy = format!("copy t from 's3://lake/damaged' {PARQUET}");
    for at in (0..good.len()).step_by(7) {
        let mut damaged = good.clone();
        damaged[at] ^= 0x55;
        put(&world, "damaged", &damaged).await;
        let described = world.ended(&world.execute(&copy).await).await;
        let id = world.batch(&["select count(*) from t", "delete from t"]).await;
        world.finished(&id).await;
        let count = world.ok("GetStatementResult", json!({ "Id": format!("{id}:1") })).await;
        let expected = if described["Status"] == "FINISHED" { 3 } else { 0 };
        assert_eq!(records(&count), json!([[expected]]), "{at}: {described}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_are_loaded_in_chunks_and_can_be_cancelled() {
    let world = World::start().await;
    let ids: Vec<Option<i64>> = (0..50_000).map(|id| (id % 3 > 0).then_some(id)).collect();
    let content = file("OPTIONAL INT64 id;", vec![Column::I64(ids)], Compression::SNAPPY);
    for part in 0..4 {
        put(&world, &format!("many/part-{part}.parquet"), &content).await;
    }
    world.batch_done(&["create table t (id bigint)"]).await;
    let copy = format!("copy t from 's3://lake/many/' {PARQUET}");
    world.batch_done(&[&copy]).await;
    let rows = world.query("select count(*), count(id), sum(id) from t").await;
    let sum: i64 = (0..50_000).filter(|id| id % 3 > 0).sum();
    assert_eq!(rows, json!([[200_000, 4 * 33_333, (4 * sum).to_string()]]));
    // A COPY that waits for a lock is stopped like any other statement.
    let holder = world.batch(&["lock t", "select pg_sleep(600)"]).await;
    world.until(&holder, |d| d["SubStatements"][1]["Status"] == "STARTED").await;
    let waiting = world.execute(&copy).await;
    world.until(&waiting, |d| d["Status"] == "STARTED").await;
    world.ok("CancelStatement", json!({ "Id": waiting })).await;
    assert_eq!(world.ended(&waiting).await["Status"], "ABORTED");
    world.ok("CancelStatement", json!({ "Id": holder })).await;
    world.ended(&holder).await;
    assert_eq!(world.query("select count(*) from t").await, json!([[200_000]]));
    world.end().await;
}
