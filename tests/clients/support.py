"""One local AWS for all tests of this folder, and clients for it.

Holds no test. The server is the built binary, started at first use and stopped
when the process ends.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
from pathlib import Path

import awscli.clidriver
import boto3
import botocore.config
import botocore.exceptions

REPOSITORY = Path(__file__).resolve().parents[2]
BINARY = Path(
    os.environ.get("SLUICEGATE_LOCAL", REPOSITORY / "target/debug/sluicegate-local")
)
ACCOUNT = "000000000000"
REGION = "eu-west-1"
# Longer than anything here takes, so that only a fault ends in it.
PATIENCE_SECS = 60


def postgres() -> list[str]:
    """The option that names PostgreSQL's programs, where this environment has them."""
    found = importlib.util.find_spec("pgserver")
    if found is None:
        return []
    return ["--postgres", str(Path(found.origin).parent / "pginstall/bin")]


class Server:
    """A served local AWS with its data in a folder of its own."""

    def __init__(self, data: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="clients-")
        self.data = data or Path(self._folder.name) / "aws"
        command = [BINARY, "serve", "--port", "0", "--data", self.data, *postgres()]
        with open(Path(self._folder.name) / "log", "wb") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = self._process.stdout.readline()
        if not line.startswith("local AWS at "):
            raise RuntimeError(f"{BINARY} did not start: {line!r}; is it built?")
        self.endpoint = line.split()[3].rstrip(",")

    def kill(self) -> None:
        """Ends it without a warning."""
        self._process.kill()
        self._process.communicate(timeout=PATIENCE_SECS)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE_SECS)
        self._folder.cleanup()


@functools.cache
def server() -> Server:
    started = Server()
    atexit.register(started.stop)
    return started


def environment() -> dict[str, str]:
    """What a shell needs to use the server; nothing of the user's own AWS."""
    # The command line's program notes there where its own data lie.
    of_program = "AWS_DATA_PATH"
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == of_program or not name.startswith("AWS_")
    }
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
    }


@functools.cache
def client(service: str, region: str = REGION):
    # One attempt: a refusal is what a test wants to see, and at once.
    config = botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    return boto3.client(
        service,
        endpoint_url=server().endpoint,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=config,
    )


def aws(*arguments: str, stdin: str | None = None, fails: bool = False):
    """One call of the AWS command line: its JSON, else its text.

    Its program is called in this process, for starting one takes most of a second
    and there are many calls; the README's test starts it as a person does.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    given = io.TextIOWrapper(io.BytesIO((stdin or "").encode()), "utf-8")
    with (
        unittest.mock.patch.dict(os.environ, environment(), clear=True),
        unittest.mock.patch.multiple(sys, stdin=given, stdout=out, stderr=err),
    ):
        driver = awscli.clidriver.create_clidriver()
        code = driver.main(["--endpoint-url", server().endpoint, *arguments])
    out, err = (stream.buffer.getvalue().decode() for stream in (out, err))
    if (code != 0) != fails:
        raise AssertionError(f"aws {' '.join(arguments)}: {code}\n{err}")
    text = err if fails else out
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def until(condition):
    """The first true value of a condition; fails when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come true")


class Case(unittest.TestCase):
    """What the tests have in common."""

    maxDiff = None

    def refused(self, code: str, call, /, status: int = 400, **arguments):
        """The call must be refused in just this way; tells the answer."""
        wanted = f"{code} of {call.__name__}({str(arguments)[:200]})"
        with self.assertRaises(botocore.exceptions.ClientError, msg=wanted) as caught:
            call(**arguments)
        answer = caught.exception.response
        found = (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"])
        self.assertEqual(found, (code, status), f"{wanted}: {answer['Error'].get('Message')}")
        return answer

    def queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """A new queue: URL and ARN."""
        url = client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def drain(self, url: str) -> list[dict]:
        """Takes all messages out of a queue; their bodies as JSON."""
        bodies, sqs = [], client("sqs")
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies
