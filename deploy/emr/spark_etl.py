"""The hourly ETL job: one hour of raw flight logs from gzip JSON lines to Parquet.

Reads the folder that Firehose wrote for one hour, adds `processed_hour` and
`delay_class`, and overwrites exactly the given output folder, so that it can run
again at any time. Runs as it is on EMR (Spark 3.5). It does not decide whether
the hour is complete; whoever starts it does.

Duplicates: Firehose delivers at least once, and a repeated delivery repeats a
record exactly. Rows equal in every column are therefore kept once, within the
hour; a repetition in another hour's folder is not seen here.

Bad lines: a line is bad if it is not one JSON object with the columns below and
their types, or lacks one of the REQUIRED ones. Such lines go, with the name of
their object, to a separate folder, and are counted. Blank lines hold no record.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from urllib.parse import urlsplit

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

FLIGHT = T.StructType(
    [
        T.StructField("year", T.IntegerType()),
        T.StructField("month", T.IntegerType()),
        T.StructField("day", T.IntegerType()),
        T.StructField("dep_time", T.IntegerType()),
        T.StructField("sched_dep_time", T.IntegerType()),
        T.StructField("dep_delay", T.IntegerType()),
        T.StructField("arr_time", T.IntegerType()),
        T.StructField("sched_arr_time", T.IntegerType()),
        T.StructField("arr_delay", T.IntegerType()),
        T.StructField("carrier", T.StringType()),
        T.StructField("flight", T.IntegerType()),
        T.StructField("tailnum", T.StringType()),
        T.StructField("origin", T.StringType()),
        T.StructField("dest", T.StringType()),
        T.StructField("air_time", T.IntegerType()),
        T.StructField("distance", T.IntegerType()),
        T.StructField("hour", T.IntegerType()),
        T.StructField("minute", T.IntegerType()),
        T.StructField("time_hour", T.TimestampType()),
    ]
)
REQUIRED = ["carrier", "flight", "origin", "dest", "time_hour", "minute"]
CORRUPT = "_corrupt_record"
# Spark would read `{…}{…}`, which Firehose writes when the producer sends no line
# breaks, as its first object alone. A flat record has no other braces.
ONE_OBJECT = r"^\s*\{[^{}]*\}\s*$"
HOUR_FORMAT = "%Y-%m-%dT%H"


def parse_folder(text: str) -> str:
    """Accept a folder's URI and return it with exactly one slash at its end."""
    parts = urlsplit(text)
    if not parts.scheme or not parts.path.strip("/"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a folder such as s3://bucket/rawdata/2013/01/01/10/"
        )
    return text.rstrip("/") + "/"


def parse_hour(text: str) -> dt.datetime:
    """Accept an hour such as 2013-01-01T10, in UTC."""
    try:
        return dt.datetime.strptime(text, HOUR_FORMAT).replace(tzinfo=dt.timezone.utc)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an hour such as 2013-01-01T10"
        ) from None


def default_bad_folder(output: str) -> str:
    """Place bad lines under `_bad/` at the top of the output's bucket.

    There, neither a COPY of the output's prefix nor a dataset template of the
    output meets them.
    """
    parts = urlsplit(output)
    return f"{parts.scheme}://{parts.netloc}/_bad{parts.path}"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="spark_etl.py",
        description="Turn one hour of raw flight logs into Parquet.",
    )
    parser.add_argument("--input", required=True, type=parse_folder)
    parser.add_argument("--output", required=True, type=parse_folder)
    parser.add_argument(
        "--hour",
        required=True,
        type=parse_hour,
        help="the UTC hour the input stands for, such as 2013-01-01T10",
    )
    parser.add_argument(
        "--bad",
        type=parse_folder,
        help="folder for bad lines; by default _bad/ in the output's bucket",
    )
    options = parser.parse_args(arguments)
    options.bad = options.bad or default_bad_folder(options.output)
    if options.input == options.output:
        parser.error("--output must differ from --input")
    return options


def folder_path(spark: SparkSession, folder: str):
    """Return Hadoop's file system of a folder, and its path there."""
    path = spark._jvm.org.apache.hadoop.fs.Path(folder)
    return path.getFileSystem(spark._jsc.hadoopConfiguration()), path


def read_lines(spark: SparkSession, folder: str) -> DataFrame:
    """Read the folder's lines and parse each; an absent folder has none."""
    file_system, path = folder_path(spark, folder)
    if file_system.exists(path):
        lines = spark.read.text(folder).select(
            "value", F.input_file_name().alias("object")
        )
    else:
        lines = spark.createDataFrame([], "value string, object string")
    schema = T.StructType([*FLIGHT, T.StructField(CORRUPT, T.StringType())])
    parsed = F.from_json("value", schema, {"columnNameOfCorruptRecord": CORRUPT})
    return lines.where(F.trim("value") != "").select(
        "value", "object", parsed.alias("parsed")
    )


def is_bad() -> Column:
    """Tell whether a line of `read_lines` fails to be one whole record."""
    bad = F.col("parsed").isNull() | F.col(f"parsed.{CORRUPT}").isNotNull()
    for column in REQUIRED:
        bad |= F.col(f"parsed.{column}").isNull()
    return bad | ~F.col("value").rlike(ONE_OBJECT)


def delay_class() -> Column:
    """Sort a flight by the statistics bureau's rule: late means 15 minutes or more."""
    return (
        F.when(F.col("dep_time").isNull(), "cancelled")
        .when(F.col("dep_delay") < 15, "on_time")
        .when(F.col("dep_delay") < 60, "delayed")
        .when(F.col("dep_delay") >= 60, "severely_delayed")
    )


def keep_bad_lines(spark: SparkSession, bad: DataFrame, count: int, folder: str):
    """Write the bad lines, or remove those of an earlier run if there are none."""
    if count:
        bad.select("object", F.col("value").alias("line")).write.mode("overwrite").json(
            folder, compression="gzip"
        )
    else:
        file_system, path = folder_path(spark, folder)
        file_system.delete(path, True)


def run(spark: SparkSession, options: argparse.Namespace) -> dict[str, int]:
    """Do the job and return the counts of lines and rows."""
    lines = read_lines(spark, options.input).withColumn("bad", is_bad()).cache()
    known = F.array(*[F.lit(field.name) for field in FLIGHT])
    unknown = F.size(F.array_except(F.json_object_keys("value"), known)) > 0
    counts = lines.agg(
        F.count("*").alias("lines"),
        F.count_if("bad").alias("bad"),
        F.count_if(~F.col("bad") & unknown).alias("with_unknown_columns"),
    ).first()

    # The bad lines go first: the output's _SUCCESS then says that they are kept.
    keep_bad_lines(spark, lines.where("bad"), counts["bad"], options.bad)

    hour = F.lit(options.hour.strftime("%Y-%m-%d %H:00:00")).cast("timestamp")
    (
        lines.where("not bad")
        .select(*[F.col(f"parsed.{field.name}") for field in FLIGHT])
        .dropDuplicates()
        .withColumn("processed_hour", hour)
        .withColumn("delay_class", delay_class())
        .write.mode("overwrite")
        .parquet(options.output)
    )
    # Counted in what is really there, which a recomputed stage cannot falsify.
    rows = spark.read.parquet(options.output).count()
    good = counts["lines"] - counts["bad"]
    return {**counts.asDict(), "duplicates": good - rows, "rows": rows}


def main() -> None:
    """Run as a Spark application; any failure ends it with a non-zero exit code."""
    options = parse_arguments()
    spark = (
        SparkSession.builder.appName(f"spark_etl {options.hour:{HOUR_FORMAT}}")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    counts = run(spark, options)
    print(json.dumps({"hour": options.hour.strftime(HOUR_FORMAT), **counts}))
    if counts["bad"]:
        print(f"bad lines kept in {options.bad}", file=sys.stderr)
    spark.stop()


if __name__ == "__main__":
    main()
