//! The Redshift Data API over real PostgreSQL: statements, batches, tokens and
//! Redshift's dialect as a client sees them. COPY is in `copy`.

mod copy;
mod world;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sluicegate_local::{LocalAws, Options};

use self::world::{World, records};

#[tokio::test(flavor = "multi_thread")]
async fn statements_run_and_their_results_are_typed() {
    let world = World::start().await;
    let id = world
        .execute(
            "select true as yes, 7::smallint as little, 9223372036854775807 as big, 0.5::float8 \
             as half, 1.10::decimal(9,2) as price, 'it''s' as text, null::int as nothing, date \
             '2013-01-01' as day, timestamp '2013-01-01 05:00:00' as at",
        )
        .await;
    let described = world.finished(&id).await;
    assert_eq!(described["HasResultSet"], true);
    assert_eq!(described["ResultRows"], 1);
    assert_eq!(described["Database"], "dev");
    assert_eq!(described["WorkgroupName"], "main");
    assert!(described["Duration"].as_i64().unwrap() >= 0);
    let result = world.ok("GetStatementResult", json!({ "Id": id })).await;
    let types = result["ColumnMetadata"].as_array().unwrap();
    let types: Vec<&str> = types.iter().map(|c| c["typeName"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        ["bool", "int2", "int8", "float8", "numeric", "varchar", "int4", "date", "timestamp"]
    );
    assert_eq!(
        result["Records"][0],
        json!([
            { "booleanValue": true },
            { "longValue": 7 },
            { "longValue": i64::MAX },
            { "doubleValue": 0.5 },
            { "stringValue": "1.10" },
            { "stringValue": "it's" },
            { "isNull": true },
            { "stringValue": "2013-01-01" },
            { "stringValue": "2013-01-01 05:00:00" },
        ])
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_says_why_and_changes_nothing() {
    let world = World::start().await;
    for (sql, part) in [
        ("select * from nowhere", "ERROR: relation \"nowhere\" does not exist"),
        ("selec 1", "syntax error at or near \"selec\""),
        ("select 1; select 2", "cannot insert multiple commands"),
        ("commit", "the Data API makes the transactions itself"),
        ("copy t from program 'id'", "expected a source after FROM"),
        ("select pg_read_file('/etc/passwd')", "permission denied"),
        ("create role other", "permission denied"),
    ] {
        let described = world.ended(&world.execute(sql).await).await;
        assert_eq!(described["Status"], "FAILED", "{sql}");
        let error = described["Error"].as_str().unwrap();
        assert!(error.contains(part), "{sql}: {error}");
        let (status, refusal) =
            world.call("GetStatementResult", json!({ "Id": described["Id"] })).await;
        assert_eq!(status, 400, "{sql}");
        assert_eq!(refusal["__type"], "ResourceNotFoundException");
        assert_eq!(refusal["ResourceId"], described["Id"]);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_transaction() {
    let world = World::start().await;
    world.batch_done(&["create table t (a int)", "insert into t values (1), (2)"]).await;
    let id = world.batch(&["insert into t values (3)", "select 1/0", "delete from t"]).await;
    let described = world.ended(&id).await;
    assert_eq!(described["Status"], "FAILED");
    assert_eq!(described["Error"], "Query #2 failed with ERROR: division by zero");
    let subs = described["SubStatements"].as_array().unwrap();
    let states: Vec<&str> = subs.iter().map(|sub| sub["Status"].as_str().unwrap()).collect();
    assert_eq!(states, ["FINISHED", "FAILED", "ABORTED"]);
    assert_eq!(subs[1]["Id"], format!("{id}:2"));
    assert_eq!(world.query("select count(*) from t").await, json!([[2]]));
    // Each statement of a batch has its own result.
    let id = world.batch(&["select a from t order by a", "update t set a = 5"]).await;
    let described = world.finished(&id).await;
    assert_eq!(described["SubStatements"][1]["ResultRows"], 2);
    let first = json!({ "Id": format!("{id}:1") });
    assert_eq!(records(&world.ok("GetStatementResult", first).await), json!([[1], [2]]));
    let (status, _) = world.call("GetStatementResult", json!({ "Id": id })).await;
    assert_eq!(status, 400);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_commits_what_came_before_it() {
    let world = World::start().await;
    world.batch_done(&["create table t (a int)", "create table u (a int)"]).await;
    world.batch_done(&["insert into t values (1)"]).await;
    let id = world
        .batch(&[
            "insert into u values (1)",
            "truncate t",
            "insert into u values (2)",
            "select 1/0",
        ])
        .await;
    assert_eq!(world.ended(&id).await["Status"], "FAILED");
    assert_eq!(world.query("select count(*) from t").await, json!([[0]]));
    assert_eq!(world.query("select a from u").await, json!([[1]]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_keeps_a_second_transaction_waiting_until_it_is_cancelled() {
    let world = World::start().await;
    world.batch_done(&["create table ledger (a int)"]).await;
    let first = world
        .batch(&["lock ledger", "insert into ledger values (1)", "select pg_sleep(600)"])
        .await;
    world.until(&first, |d| d["SubStatements"][2]["Status"] == "STARTED").await;
    let second = world.batch(&["lock table ledger", "insert into ledger values (2)"]).await;
    world.until(&second, |d| d["SubStatements"][0]["Status"] == "STARTED").await;
    assert_eq!(world.ok("CancelStatement", json!({ "Id": first })).await["Status"], true);
    let cancelled = world.ended(&first).await;
    assert_eq!(cancelled["Status"], "ABORTED");
    assert_eq!(cancelled["Error"], Value::Null);
    world.finished(&second).await;
    assert_eq!(world.query("select a from ledger").await, json!([[2]]));
    let (status, refusal) = world.call("CancelStatement", json!({ "Id": second })).await;
    assert_eq!((status, refusal["__type"].as_str()), (400, Some("ValidationException")));
    // What waits for a lock can be cancelled too.
    let holder = world.batch(&["lock ledger", "select pg_sleep(600)"]).await;
    world.until(&holder, |d| d["SubStatements"][1]["Status"] == "STARTED").await;
    let waiting = world.execute("insert into ledger values (3)").await;
    world.until(&waiting, |d| d["Status"] == "STARTED").await;
    world.ok("CancelStatement", json!({ "Id": waiting })).await;
    assert_eq!(world.ended(&waiting).await["Status"], "ABORTED");
    world.end().await;
}

/// Then it sees what was there before.
#[tokio::test(flavor = "multi_thread")]
async fn who_waited_for_a_lock_sees_what_was_committed_unless_it_looked_before() {
    let world = World::start().await;
    world.batch_done(&["create table ledger (a int)", "create table other (a int)"]).await;
    let insert = "insert into ledger select 1 where not exists (select 1 from ledger)";
    let gate = world.batch(&["select pg_advisory_xact_lock(1)", "select pg_sleep(600)"]).await;
    world.until(&gate, |d| d["SubStatements"][1]["Status"] == "STARTED").await;
    let first = world.batch(&["lock ledger", insert, "select pg_advisory_xact_lock(1)"]).await;
    world.until(&first, |d| d["SubStatements"][2]["Status"] == "STARTED").await;
    let early = world.batch(&["select count(*) from other", "lock ledger", insert]).await;
    let late = world.batch(&["lock ledger", insert]).await;
    world.until(&early, |d| d["SubStatements"][1]["Status"] == "STARTED").await;
    world.until(&late, |d| d["SubStatements"][0]["Status"] == "STARTED").await;
    world.ok("CancelStatement", json!({ "Id": gate })).await;
    world.finished(&first).await;
    // What it sees is as old as its first statement: it adds a second row.
    assert_eq!(world.finished(&early).await["SubStatements"][2]["ResultRows"], 1);
    assert_eq!(world.finished(&late).await["SubStatements"][1]["ResultRows"], 0);
    assert_eq!(world.query("select count(*) from ledger").await, json!([[2]]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_runs_its_statement_once() {
    let world = World::start().await;
    world.batch_done(&["create table t (a int)"]).await;
    let insert = json!({
        "Sql": "insert into t values (1)", "Database": "dev", "WorkgroupName": "main",
        "ClientToken": "once",
    });
    let first = world.ok("ExecuteStatement", insert.clone()).await;
    let again = world.ok("ExecuteStatement", insert.clone()).await;
    assert_eq!(first, again);
    world.finished(first["Id"].as_str().unwrap()).await;
    assert_eq!(world.ok("ExecuteStatement", insert.clone()).await, first);
    assert_eq!(world.query("select count(*) from t").await, json!([[1]]));
    let mut other = insert;
    other["Sql"] = json!("insert into t values (2)");
    let (status, refusal) = world.call("ExecuteStatement", other).await;
    assert_eq!((status, refusal["__type"].as_str()), (400, Some("ValidationException")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redshifts_dialect_is_understood() {
    let world = World::start().await;
    world
        .batch_done(&[
            "create table sales (id bigint primary key encode az64, who varchar(3) distkey, \
             unique (who)) diststyle key compound sortkey (id)",
            r"insert into sales values (1, 'a\\b'), (1, 'a\'c'), (2, 'a\\b')",
        ])
        .await;
    let rows = world.query("select id, who from sales order by who, id").await;
    assert_eq!(rows, json!([[1, "a'c"], [1, r"a\b"], [2, r"a\b"]]));
    let lengths = world.query("select len('ab'), nvl(null, 3), getdate() is null").await;
    assert_eq!(lengths, json!([[2, 3, false]]));
    let id = world.execute("insert into sales values (3, 'four')").await;
    let error = world.ended(&id).await["Error"].to_string();
    assert!(error.contains("value too long for type character varying(3)"), "{error}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_values() {
    let world = World::start().await;
    let value = r"'); drop table t; -- \";
    let body = json!({
        "Sql": "select :text as a, :n::int + 1 as b, ':text' as c", "Database": "dev",
        "WorkgroupName": "main",
        "Parameters": [{ "name": "text", "value": value }, { "name": "n", "value": "41" }],
    });
    let id = world.ok("ExecuteStatement", body).await["Id"].as_str().unwrap().to_owned();
    world.finished(&id).await;
    let result = world.ok("GetStatementResult", json!({ "Id": id })).await;
    assert_eq!(records(&result), json!([[value, 42, ":text"]]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_lists_come_in_pages() {
    let world = World::start().await;
    let id = world.execute("select * from generate_series(1, 2500)").await;
    world.finished(&id).await;
    let (mut token, mut seen) = (Value::Null, Vec::new());
    loop {
        let body = json!({ "Id": id, "NextToken": token });
        let page = world.ok("GetStatementResult", body).await;
        assert_eq!(page["TotalNumRows"], 2500);
        seen.extend(page["Records"].as_array().unwrap().iter().cloned());
        token = page["NextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(seen.len(), 2500);
    assert_eq!(seen[2499], json!([{ "longValue": 2500 }]));
    for name in ["load-1", "load-2", "other"] {
        let body = json!({
            "Sql": "select 1", "Database": "dev", "WorkgroupName": "main", "StatementName": name,
        });
        let id = world.ok("ExecuteStatement", body).await["Id"].clone();
        world.finished(id.as_str().unwrap()).await;
    }
    let body = json!({ "StatementName": "load-", "MaxResults": 1 });
    let first = world.ok("ListStatements", body.clone()).await;
    assert_eq!(first["Statements"][0]["StatementName"], "load-2");
    let mut body = body;
    body["NextToken"] = first["NextToken"].clone();
    let second = world.ok("ListStatements", body).await;
    assert_eq!(second["Statements"][0]["StatementName"], "load-1");
    assert_eq!(second["NextToken"], Value::Null);
    let failed = world.ok("ListStatements", json!({ "Status": "FAILED" })).await;
    assert_eq!(failed["Statements"], json!([]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_in(folder.path()).await;
    world.batch_done(&["create table kept (a int)", "insert into kept values (7)"]).await;
    world.end().await;
    let world = World::start_in(folder.path()).await;
    assert_eq!(world.query("select a from kept").await, json!([[7]]));
    assert!(folder.path().join("redshift/psql").is_file());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_started_again_when_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_in(folder.path()).await;
    world.batch_done(&["create table kept (a int)", "insert into kept values (7)"]).await;
    let running = world.execute("select pg_sleep(600)").await;
    world.until(&running, |described| described["Status"] == "STARTED").await;
    let pid = std::fs::read_to_string(folder.path().join("redshift/data/postmaster.pid")).unwrap();
    let pid = Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let lost = world.ended(&running).await;
    assert_eq!(lost["Status"], "FAILED");
    assert!(lost["Error"].as_str().unwrap().starts_with("ERROR: "), "{lost}");
    // What comes while it is being noticed may fail too.
    let mut described = world.ended(&world.execute("select a from kept").await).await;
    while described["Status"] == "FAILED" {
        described = world.ended(&world.execute("select a from kept").await).await;
    }
    assert_eq!(world.query("select a from kept").await, json!([[7]]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_every_call_says_what_to_install() {
    let aws = LocalAws::start(Options::default()).await.unwrap();
    let world = World::of(aws);
    let id = json!({ "Id": "00000000-0000-4000-a000-000000000000" });
    let submit = json!({ "Sql": "select 1", "Database": "dev", "WorkgroupName": "main" });
    for (action, body) in [
        ("ExecuteStatement", submit),
        ("DescribeStatement", id.clone()),
        ("GetStatementResult", id.clone()),
        ("CancelStatement", id),
        ("ListStatements", json!({})),
    ] {
        let (status, refusal) = world.call(action, body).await;
        assert_eq!(status, 400, "{action}");
        assert_eq!(refusal["__type"], "ValidationException", "{action}");
        let message = refusal["message"].as_str().unwrap();
        assert!(
            message.contains("--python DIR") && message.contains("--postgres DIR"),
            "{message}"
        );
    }
    world.end().await;
}
