"""The daily report's join: a window of hourly flights with weather, planes and airlines.

Reads the Parquet of several hours, as `spark_etl.py` writes it, and the partners'
CSV files, and writes one row per flight to exactly the output folder, which it
overwrites. Every join is a left join on a key that it has first found unique, so
no flight is lost or multiplied; the rows written are counted, and the job fails if
their number is not that of the flights.
Runs as it is on EMR (Spark 3.5). Each input may be several, separated by commas.
"""

from __future__ import annotations

import argparse
import json
import sys
from urllib.parse import urlsplit

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

WEATHER = (
    "origin string, year int, month int, day int, hour int, temp double, dewp double, "
    "humid double, wind_dir double, wind_speed double, wind_gust double, "
    "precip double, pressure double, visib double, time_hour timestamp"
)
PLANES = (
    "tailnum string, year int, type string, manufacturer string, model string, "
    "engines int, seats int, speed int, engine string"
)
AIRLINES = "carrier string, name string"


class ReportError(Exception):
    """The inputs do not allow a right report; the text says why."""


def parse_uris(text: str) -> list[str]:
    """Accept one or more URIs, separated by commas."""
    uris = [uri.strip() for uri in text.split(",")]
    for uri in uris:
        if not urlsplit(uri).scheme or not urlsplit(uri).path.strip("/"):
            raise argparse.ArgumentTypeError(
                f"{uri!r} is not a location such as s3://bucket/etl/2013/01/01/10/"
            )
    return uris


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="daily_report.py",
        description="Join hourly flights with weather, planes and airlines.",
    )
    for name in ("flights", "weather", "planes", "airlines"):
        parser.add_argument(f"--{name}", required=True, type=parse_uris)
    parser.add_argument("--output", required=True, type=parse_uris)
    options = parser.parse_args(arguments)
    if len(options.output) != 1:
        parser.error("--output takes one folder")
    options.output = options.output[0]
    if options.output.rstrip("/") in {uri.rstrip("/") for uri in options.flights}:
        parser.error("--output must differ from every input")
    return options


def exists(spark: SparkSession, uri: str) -> bool:
    """Ask Hadoop's file system whether something is there."""
    path = spark._jvm.org.apache.hadoop.fs.Path(uri)
    return path.getFileSystem(spark._jsc.hadoopConfiguration()).exists(path)


def read_flights(spark: SparkSession, uris: list[str]) -> DataFrame:
    """Read the hours' Parquet; an hour that is not there is an error."""
    missing = [uri for uri in uris if not exists(spark, uri)]
    if missing:
        raise ReportError(f"not there: {', '.join(missing)}")
    return spark.read.parquet(*uris)


def read_csv(spark: SparkSession, uris: list[str], schema: str) -> DataFrame:
    """Read CSV strictly: the header and every value must fit the schema."""
    return spark.read.csv(
        uris,
        schema=schema,
        header=True,
        enforceSchema=False,
        nullValue="NA",
        mode="FAILFAST",
    )


def unique(table: DataFrame, name: str, key: list[str]) -> DataFrame:
    """Return the table once per key; equal rows are one, contradicting rows an error."""
    table = table.dropDuplicates()
    twice = table.groupBy(*key).count().where("count > 1").first()
    if twice:
        values = ", ".join(f"{column} {twice[column]}" for column in key)
        raise ReportError(f"{name} has contradicting rows for {values}")
    return table


def join(
    flights: DataFrame, weather: DataFrame, planes: DataFrame, airlines: DataFrame
) -> DataFrame:
    """Join every flight with what is known about its hour, aircraft and airline."""
    weather = weather.drop("year", "month", "day", "hour")
    planes = planes.withColumnsRenamed({"year": "plane_year", "type": "plane_type"})
    airlines = airlines.withColumnRenamed("name", "airline")
    weather = unique(weather, "weather", ["origin", "time_hour"])
    planes = unique(planes, "planes", ["tailnum"])
    airlines = unique(airlines, "airlines", ["carrier"])
    joined = (
        flights.join(weather, ["origin", "time_hour"], "left")
        .join(planes, ["tailnum"], "left")
        .join(airlines, ["carrier"], "left")
    )
    # A join moves its keys to the front; the flights' own order comes back here.
    added = [column for column in joined.columns if column not in flights.columns]
    return joined.select(*flights.columns, *added)


def run(spark: SparkSession, options: argparse.Namespace) -> dict[str, int]:
    """Do the job and return how many flights went in, came out and found a partner."""
    flights = read_flights(spark, options.flights)
    joined = join(
        flights,
        read_csv(spark, options.weather, WEATHER),
        read_csv(spark, options.planes, PLANES),
        read_csv(spark, options.airlines, AIRLINES),
    )
    expected = flights.count()
    joined.write.mode("overwrite").parquet(options.output)
    counts = (
        spark.read.parquet(options.output)
        .agg(
            F.count("*").alias("rows"),
            F.count("visib").alias("with_weather"),
            F.count("engine").alias("with_plane"),
            F.count("airline").alias("with_airline"),
        )
        .first()
    )
    if counts["rows"] != expected:
        raise ReportError(f"{expected} flights went in, {counts['rows']} came out")
    return {"flights": expected, **counts.asDict()}


def main() -> int:
    """Run as a Spark application; any failure ends it with a non-zero exit code."""
    options = parse_arguments()
    spark = (
        SparkSession.builder.appName("daily_report")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    try:
        print(json.dumps(run(spark, options)))
    except ReportError as error:
        print(f"daily_report.py: {error}", file=sys.stderr)
        return 1
    finally:
        spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
