"""What the tests of the template share: the template, moto, and the programs.

Holds no test. moto stands for AWS, but its EMR never finishes a step: EMR is the
local AWS's. Both are started at first use and stopped when the process ends.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from cfnlint.decode import cfn_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATE = REPOSITORY / "deploy/cloudformation/sluicegate.yaml"
SLUICEGATE = Path(os.environ.get("SLUICEGATE", REPOSITORY / "target/debug/sluicegate"))
LOCAL = Path(os.environ.get("SLUICEGATE_LOCAL", REPOSITORY / "target/debug/sluicegate-local"))
AWS = REPOSITORY / ".venv/bin/aws"
REGION = "us-east-1"
# Longer than anything here takes, so that only a fault ends in it.
PATIENCE_SECS = 60


def complaints(tool: str, *arguments, text: str | None = None) -> str:
    """What a checker of this environment finds; nothing where all is well."""
    command = [Path(sys.executable).parent / tool, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    return done.stdout + done.stderr or f"{tool} ended with {done.returncode}"


@functools.cache
def template() -> dict:
    return cfn_yaml.load(str(TEMPLATE))


def until(what: str, condition):
    """The first true value of a condition; fails when it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"it did not come true: {what}")


class Server:
    """A program that serves on a port of its own, which its output names."""

    def __init__(self, command: list, address: str, data: Path | None = None) -> None:
        self.data = data
        self.log = tempfile.NamedTemporaryFile(prefix="deploy-", suffix=".log")
        self._process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        atexit.register(self.stop)
        found = until(f"{command[0]} listens", lambda: self._find(address))
        # By this name moto finds templates that were uploaded to it.
        self.endpoint = f"http://localhost:{found}"

    def _find(self, address: str) -> str | None:
        text = Path(self.log.name).read_text("utf-8", "replace")
        if self._process.poll() is not None:
            raise AssertionError(f"it ended: {text}")
        found = re.search(address, text)
        return found and found[1]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_SECS)


@functools.cache
def moto() -> Server:
    program = Path(sys.executable).parent / "moto_server"
    return Server([program, "-H", "localhost", "-p", "0"], r"Running on http://[^:]+:(\d+)")


@functools.cache
def local() -> Server:
    folder = tempfile.TemporaryDirectory(prefix="deploy-local-")
    atexit.register(folder.cleanup)
    data = Path(folder.name) / "aws"
    command = [LOCAL, "serve", "--port", "0", "--data", data]
    return Server(command, r"local AWS at http://[^:]+:(\d+)", data)


def environment(endpoint: str) -> dict[str, str]:
    """For programs: everything at one endpoint, EMR at the local AWS."""
    own = ("AWS_", "SLUICEGATE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {
        **kept,
        "SLUICEGATE_ALLOW_ENDPOINTS": "1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ENDPOINT_URL_EMR": local().endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
    }


@functools.cache
def client(service: str, endpoint: str | None = None):
    return boto3.client(
        service,
        endpoint_url=endpoint or moto().endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def run(command: list, endpoint: str | None = None, fails: bool = False) -> str:
    """What a program says; its complaint where it should fail."""
    done = subprocess.run(
        [str(word) for word in command],
        env=environment(endpoint or moto().endpoint),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECS,
    )
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr if fails else done.stdout


def aws(*arguments: str, fails: bool = False) -> str:
    """One call of the AWS command line, at moto."""
    return run([AWS, "--endpoint-url", moto().endpoint, *arguments], fails=fails)


TEMPLATES = "templates"


@functools.cache
def network() -> dict[str, str]:
    """The parameters without a default, from moto's default VPC."""
    aws("s3", "mb", f"s3://{TEMPLATES}")
    ec2 = client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
    return {"Vpc": vpc, "Subnets": ",".join(subnets[:3])}


class Stack:
    """The template, deployed as deploy/README.md says."""

    def __init__(self, deployment: str, **parameters: str) -> None:
        self.deployment = deployment
        self.parameters = {"Deployment": deployment, **network(), **parameters}
        self.name = f"sluicegate-{deployment}"
        aws(
            *("cloudformation", "deploy", "--stack-name", self.name),
            *("--template-file", str(TEMPLATE), "--s3-bucket", TEMPLATES),
            *("--capabilities", "CAPABILITY_IAM", "--parameter-overrides"),
            *(f"{name}={value}" for name, value in self.parameters.items()),
        )
        self._make_up_for_moto()
        self.outputs = self._outputs()

    def resources(self) -> dict[str, str]:
        """What moto has made of the template, by logical id."""
        found = client("cloudformation").describe_stack_resources(StackName=self.name)
        found = [one for one in found["StackResources"] if "PhysicalResourceId" in one]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}

    def _outputs(self) -> dict[str, str]:
        described = client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        return {one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]}

    def _make_up_for_moto(self) -> None:
        """What moto's CloudFormation leaves out: outputs of a stack that a change set
        has made, until its next update, notifications of buckets, expiry of tables."""
        cloudformation = client("cloudformation")
        body = cloudformation.get_template(StackName=self.name)["TemplateBody"]
        cloudformation.update_stack(
            StackName=self.name,
            TemplateBody=body if isinstance(body, str) else json.dumps(body),
            Parameters=[
                {"ParameterKey": name, "UsePreviousValue": True} for name in self.parameters
            ],
            Capabilities=["CAPABILITY_IAM"],
        )
        by_event_bridge, straight = template()["Resources"]["LandingBucket"]["Properties"][
            "NotificationConfiguration"
        ]["Fn::If"][1:]
        resources = self.resources()
        queue = client("sqs").get_queue_attributes(
            QueueUrl=resources["Inbox"], AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]
        if self.parameters.get("Notifications") == "eventbridge":
            assert by_event_bridge["EventBridgeConfiguration"]["EventBridgeEnabled"] is True
            configuration = {"EventBridgeConfiguration": {}}
        else:
            configuration = {
                "QueueConfigurations": [
                    {"QueueArn": queue, "Events": [one["Event"]]}
                    for one in straight["QueueConfigurations"]
                ]
            }
        client("s3").put_bucket_notification_configuration(
            Bucket=resources["LandingBucket"], NotificationConfiguration=configuration
        )
        for name, resource in template()["Resources"].items():
            if resource["Type"] == "AWS::DynamoDB::Table":
                client("dynamodb").update_time_to_live(
                    TableName=resources[name],
                    TimeToLiveSpecification=resource["Properties"]["TimeToLiveSpecification"],
                )
