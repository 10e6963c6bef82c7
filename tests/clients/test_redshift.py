"""The Redshift Data API by boto3 and the AWS command line, over real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import boto3
import duckdb
from support import Case, Server, aws, client, until

WORKGROUP = {"WorkgroupName": "main", "Database": "dev"}
CLUSTER = {"ClusterIdentifier": "dw-1", "DbUser": "loader", "Database": "dev"}


class Redshift(Case):
    def ended(self, id: str, redshift=None) -> dict:
        redshift = redshift or client("redshift-data")

        def described():
            found = redshift.describe_statement(Id=id)
            return found["Status"] in ("FINISHED", "FAILED", "ABORTED") and found

        return until(described)

    def run_sql(self, *sqls: str, **request) -> dict:
        redshift = client("redshift-data")
        if len(sqls) == 1:
            answer = redshift.execute_statement(Sql=sqls[0], **(request or WORKGROUP))
        else:
            answer = redshift.batch_execute_statement(Sqls=list(sqls), **(request or WORKGROUP))
        return self.ended(answer["Id"])

    def finished(self, *sqls: str, **request) -> dict:
        described = self.run_sql(*sqls, **request)
        self.assertEqual(described["Status"], "FINISHED", described.get("Error"))
        return described

    def rows(self, sql: str) -> list[list]:
        described = self.finished(sql)
        pages = client("redshift-data").get_paginator("get_statement_result")
        found = []
        for page in pages.paginate(Id=described["Id"]):
            for record in page["Records"]:
                found.append([None if f.get("isNull") else next(iter(f.values())) for f in record])
        return found

    def test_a_cluster_and_a_workgroup_lead_to_the_tables(self):
        self.finished("create table sums (a int)", **CLUSTER)
        described = self.finished("insert into sums values (1), (2)", **CLUSTER)
        self.assertEqual(described["ResultRows"], 2)
        self.assertEqual(described["ClusterIdentifier"], "dw-1")
        self.assertEqual(described["DbUser"], "loader")
        self.assertEqual(described["CreatedAt"].utcoffset().total_seconds(), 0)
        self.assertEqual(self.rows("select sum(a), null from sums"), [[3, None]])

    def test_wrong_requests_are_refused_as_aws_does(self):
        redshift = client("redshift-data")
        execute, batch = redshift.execute_statement, redshift.batch_execute_statement
        absent = "00000000-0000-4000-a000-000000000000"
        for request in [
            dict(Sql="select 1", Database="dev"),
            dict(Sql="select 1", **WORKGROUP, ClusterIdentifier="dw-1"),
            dict(Sql="select 1", WorkgroupName="main"),
            dict(**WORKGROUP),
            dict(Sql="x" * 102_401, **WORKGROUP),
            dict(Sql="select 1", ClientToken="t" * 65, **WORKGROUP),
            dict(Sql="select 1", Parameters=[{"name": "a", "value": "1"}], **WORKGROUP),
        ]:
            self.refused("ValidationException", execute, **request)
        self.refused("ValidationException", batch, Sqls=[], **WORKGROUP)
        self.refused("ValidationException", batch, Sqls=["select 1"] * 41, **WORKGROUP)
        for call in [
            redshift.describe_statement, redshift.get_statement_result, redshift.cancel_statement,
        ]:  # fmt: skip
            answer = self.refused("ResourceNotFoundException", call, Id=absent)
            self.assertEqual(answer["ResourceId"], absent)
        self.refused("ValidationException", redshift.list_statements, Status="LOST")
        self.refused("UnknownOperationException", redshift.list_databases, **WORKGROUP)
        done = self.finished("select 1")
        refusal = self.refused("ValidationException", redshift.cancel_statement, Id=done["Id"])
        self.assertIn("already in FINISHED state", refusal["Error"]["Message"])

    def test_what_duckdb_wrote_is_copied_whole(self):
        client("s3").create_bucket(Bucket="warehouse-in")
        with tempfile.TemporaryDirectory() as folder:
            for codec in ["snappy", "zstd", "gzip", "uncompressed"]:
                file = Path(folder) / f"{codec}.parquet"
                duckdb.sql(
                    "select i::bigint as id, 'name ' || i as name, (i / 3)::decimal(12, 3) as price,"
                    " date '2013-01-01' + i::int as day, timestamp '2013-01-01 05:00:00.5' as at,"
                    " if(i % 2 = 0, null, i::double) as half from range(3000) t(i)"
                ).write_parquet(str(file), compression=codec)
                client("s3").upload_file(str(file), "warehouse-in", f"flights/{file.name}")
            expected = duckdb.sql(
                f"select count(*), sum(id), sum(price)::varchar, max(day)::varchar, count(half),"
                f" min(name) from '{folder}/*.parquet'"
            ).fetchone()
        listed = client("s3").list_objects_v2(Bucket="warehouse-in", Prefix="flights/")["Contents"]
        entries = [
            {"url": f"s3://warehouse-in/{found['Key']}", "mandatory": True,
             "meta": {"content_length": found["Size"]}}
            for found in listed
        ]  # fmt: skip
        manifest = json.dumps({"entries": entries}).encode()
        client("s3").put_object(Bucket="warehouse-in", Key="m.json", Body=manifest)
        self.finished(
            "create table copied (id bigint sortkey, name varchar(20), price decimal(12, 3),"
            " day date, at timestamp, half double precision) diststyle even",
            "copy copied from 's3://warehouse-in/m.json' iam_role default"
            " format as parquet manifest",
        )
        found = self.rows(
            "select count(*), sum(id)::bigint, sum(price), max(day), count(half), min(name)"
            " from copied"
        )
        self.assertEqual(found, [list(expected)])
        self.assertEqual(self.rows("select distinct at from copied"), [["2013-01-01 05:00:00.5"]])

    def test_the_command_line_runs_and_follows_a_statement(self):
        where = ("--workgroup-name", "main", "--database", "by_hand")
        answer = aws("redshift-data", "execute-statement", *where, "--sql",
                     "select :what as what", "--parameters", "name=what,value=it",
                     "--statement-name", "by-hand")  # fmt: skip
        id = answer["Id"]
        self.ended(id)
        described = aws("redshift-data", "describe-statement", "--id", id)
        self.assertTrue(described["HasResultSet"], described)
        result = aws("redshift-data", "get-statement-result", "--id", id)
        self.assertEqual(result["Records"], [[{"stringValue": "it"}]])
        listed = aws("redshift-data", "list-statements", "--statement-name", "by-")
        self.assertEqual([found["Id"] for found in listed["Statements"]], [id])
        batch = aws("redshift-data", "batch-execute-statement", *where, "--sqls",
                    "create table t (a int)", "select pg_sleep(600)")  # fmt: skip
        until(lambda: client("redshift-data").describe_statement(Id=batch["Id"])
              ["SubStatements"][1]["Status"] == "STARTED")  # fmt: skip
        aws("redshift-data", "cancel-statement", "--id", batch["Id"])
        self.assertEqual(self.ended(batch["Id"])["Status"], "ABORTED")

    def test_postgres_ends_with_a_killed_owner_and_starts_again(self):
        first = Server()
        self.addCleanup(first.stop)
        redshift = self.of(first)
        created = redshift.batch_execute_statement(
            Sqls=["create table kept (a int)", "insert into kept values (7)"], **WORKGROUP
        )
        self.ended(created["Id"], redshift)
        prompt = first.data / "redshift/psql"
        query = [prompt, "dev", "-Atc", "select a from kept"]
        asked = subprocess.run(query, capture_output=True, text=True)
        self.assertEqual((asked.stdout, asked.stderr), ("7\n", ""))
        pid = int((first.data / "redshift/data/postmaster.pid").read_text().split()[0])
        socket = Path((first.data / "redshift/data/postmaster.pid").read_text().splitlines()[4])
        self.assertLess(len(str(socket)), 60)
        self.assertEqual(socket.stat().st_mode & 0o077, 0)
        first.kill()
        until(lambda: not is_alive(pid) and not socket.exists())
        second = Server(first.data)
        self.addCleanup(second.stop)
        redshift = self.of(second)
        id = redshift.execute_statement(Sql="select a from kept", **WORKGROUP)["Id"]
        self.assertEqual(self.ended(id, redshift)["Status"], "FINISHED")
        result = redshift.get_statement_result(Id=id)
        self.assertEqual(result["Records"], [[{"longValue": 7}]])

    def of(self, server: Server):
        return boto3.client(
            "redshift-data", endpoint_url=server.endpoint, region_name="us-east-1",
            aws_access_key_id="local", aws_secret_access_key="local",
        )  # fmt: skip


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
