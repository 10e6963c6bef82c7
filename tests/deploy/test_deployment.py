"""The template deployed by the AWS command line, and the daemon on what it made.

The main file is the stack's own output, the profile too; tasks lie in the stack's
bucket. An object lands in the landing bucket, and its run must be told as succeeded
on the stack's topic. moto takes policies without enforcing them: what they allow is
tests/iam's.
"""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import SLUICEGATE, Stack, aws, client, environment, local, moto, network, run, until
from support import AWS, REGION, REPOSITORY, TEMPLATE, TEMPLATES, template

# Nobody wants to wait here. The machines of the local EMR see the local AWS, not
# moto's tables, so there is no guard.
QUICK = """
[engine]
poll-interval = "1s"
sweep-interval = "1s"
[http]
listen = "off"
"""
TASKS = """
[profiles.small]
guard = false
release-label = "emr-7.13.0"
primary = {{ instance-types = ["m5.xlarge"], on-demand = 1 }}
{profile}
[datasets.orders]
location = "s3://{landing}/orders/{{yyyy}}-{{MM}}-{{dd}}.csv"

[tasks.invoices]
profile = "small"
partition = "day"
inputs = [{{ dataset = "orders" }}]

[[tasks.invoices.steps]]
name = "check"
kind = "command"
args = ["bash", "-c", "test {{input.orders}} = s3://{landing}/orders/2024-05-01.csv"]
"""


class Daemon:
    """`sluicegate run` on a stack, and what it told people."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._file = folder / "sluicegate.toml"
        self._file.write_text(stack.outputs["Configuration"] + QUICK, "utf-8")
        work, landing = stack.outputs["WorkBucketName"], stack.outputs["LandingBucketName"]
        tasks = TASKS.format(profile=stack.outputs["Profile"], landing=landing)
        client("s3").put_object(Bucket=work, Key="config/tasks/invoices.toml", Body=tasks.encode())
        # The machines of the local EMR read the local S3.
        client("s3", local().endpoint).create_bucket(Bucket=work)
        for endpoint in (moto().endpoint, local().endpoint):
            run([SLUICEGATE, "deploy-assets", "--config", self._file], endpoint)
        self._told = client("sqs").create_queue(QueueName=f"told-{stack.deployment}")["QueueUrl"]
        client("sns").subscribe(
            TopicArn=stack.outputs["StatusTopicArn"],
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:us-east-1:123456789012:told-{stack.deployment}",
        )
        self.log = open(folder / "log", "w+b")
        self._process = subprocess.Popen(
            [SLUICEGATE, "run", "--config", self._file, "--log-format", "json"],
            env=environment(moto().endpoint),
            stdout=self.log,
            stderr=self.log,
        )

    def command(self, *words: str) -> str:
        return run([SLUICEGATE, *words, "--config", self._file])

    def told(self, status: str) -> dict:
        """The first notice of this status; what came before it is passed over."""

        def receive():
            if self._process.poll() is not None:
                raise AssertionError(f"the daemon ended: {Path(self.log.name).read_text('utf-8')}")
            found = client("sqs").receive_message(QueueUrl=self._told, MaxNumberOfMessages=1)
            for message in found.get("Messages", []):
                client("sqs").delete_message(
                    QueueUrl=self._told, ReceiptHandle=message["ReceiptHandle"]
                )
                notice = json.loads(message["Body"])
                attributes = notice["MessageAttributes"]
                if attributes["status"]["Value"] == status:
                    return notice
            return None

        return until(f"{status} is told", receive)

    def stop(self) -> int:
        self._process.terminate()
        code = self._process.wait(60)
        self.log.close()
        return code


class Deployment(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="deploy-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_by_data(self, **parameters: str) -> Stack:
        """Deploys, lands an object, and follows it to the mail and the cluster's end."""
        stack = Stack(**parameters)
        daemon = Daemon(stack, self.folder)
        try:
            until("the daemon works", lambda: b"the gate is watched" in Path(daemon.log.name).read_bytes())
            landing = stack.outputs["LandingBucketName"]
            client("s3").put_object(Bucket=landing, Key="orders/2024-05-01.csv", Body=b"1")
            notice = daemon.told("succeeded")
            self.assertIn("invoices 2024-05-01", notice["Subject"])
            self.assertIn("succeeded", daemon.command("why", "invoices", "2024-05-01"))
            self.check_cluster(stack)
        finally:
            code = daemon.stop()
        self.assertEqual(0, code)
        # Nothing was left over, and nothing put aside.
        for queue in ("InboxUrl", "QuarantineUrl", "DeadLettersUrl"):
            attributes = client("sqs").get_queue_attributes(
                QueueUrl=stack.outputs[queue], AttributeNames=["All"]
            )["Attributes"]
            left = [attributes[f"ApproximateNumberOfMessages{kind}"] for kind in ("", "NotVisible")]
            self.assertEqual(["0", "0"], left, queue)
        return stack

    def check_cluster(self, stack: Stack) -> None:
        """It was made with the stack's roles and tags, and is gone."""
        emr = client("emr", local().endpoint)

        def ended():
            clusters = [
                one
                for one in emr.list_clusters()["Clusters"]
                if one["Name"].startswith(f"{stack.deployment}/")
            ]
            return clusters if clusters[0]["Status"]["State"] == "TERMINATED" else None

        (cluster,) = until("the cluster is gone", ended)
        shown = emr.describe_cluster(ClusterId=cluster["Id"])["Cluster"]
        resources = stack.resources()
        self.assertEqual(resources["EmrServiceRole"], shown["ServiceRole"])
        profile = shown["Ec2InstanceAttributes"]["IamInstanceProfile"]
        self.assertEqual(resources["EmrInstanceProfile"], profile)
        tags = {tag["Key"]: tag["Value"] for tag in shown["Tags"]}
        self.assertEqual(stack.deployment, tags["sluicegate:deployment"])
        self.assertEqual("true", tags["for-use-with-amazon-emr-managed-policies"])

    def test_data_runs_its_task_with_notifications_straight_to_the_queue(self):
        self.run_by_data(deployment="straight", AlertEmail="team@example.com")

    def test_data_runs_its_task_with_notifications_through_eventbridge(self):
        self.run_by_data(deployment="bridge", Notifications="eventbridge")

    def test_what_is_switched_on_is_made(self):
        # moto makes no Firehose, and has no Redshift Serverless at all.
        stack = Stack("all", Image="sluicegate:0.1.0", Replicas="1", Stream="firehose")
        made = stack.resources()
        for name in ("Service", "TaskDefinition", "Cluster", "ReaperTimer", "RawStream"):
            self.assertIn(name, made)
        service = client("ecs").describe_services(cluster=made["Cluster"], services=[made["Service"]])
        self.assertEqual(1, service["services"][0]["desiredCount"])

    def test_the_tables_are_those_that_the_daemon_would_make(self):
        stack = Stack("tables")
        own = self.folder / "own.toml"
        config = stack.outputs["Configuration"]
        own.write_text(config.replace("[aws]", '[aws]\ntable-prefix = "own-"'), "utf-8")
        made = run([SLUICEGATE, "tables", "create", "--config", own, "--json"])
        self.assertEqual(3, len(json.loads(made)["created"]), made)
        for table in ("task", "file-unit", "run"):
            shapes = [shape(f"{prefix}-{table}") for prefix in ("own", "tables")]
            self.assertEqual(*shapes)
        theirs = self.folder / "theirs.toml"
        theirs.write_text(config, "utf-8")
        made = run([SLUICEGATE, "tables", "create", "--config", theirs, "--json"])
        self.assertEqual([], json.loads(made)["created"])

    def test_the_reaper_calls_exactly_what_its_role_allows(self):
        # All of it on the local AWS, which logs calls.
        here = local().endpoint
        file = self.folder / "sluicegate.toml"
        topic = client("sns", here).create_topic(Name="reaped")["TopicArn"]
        file.write_text(
            f'deployment = "reaped"\n[aws]\nregion = "{REGION}"\nqueue = "none"\n'
            f'quarantine = "none-2"\ntopic-arn = "{topic}"\n',
            "utf-8",
        )
        run([SLUICEGATE, "tables", "create", "--config", file], here)
        tags = {"sluicegate:deployment": "reaped", "sluicegate:expires-at": "2020-01-01T00:00:00Z"}
        cluster = client("emr", here).run_job_flow(
            Name="reaped/01UNKNOWN/1",
            ReleaseLabel="emr-7.13.0",
            Instances={
                "KeepJobFlowAliveWhenNoSteps": True,
                "InstanceGroups": [
                    {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}
                ],
            },
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            JobFlowRole="i",
            ServiceRole="s",
        )["JobFlowId"]
        log = local().data / "calls.jsonl"
        before = len(log.read_text("utf-8").splitlines())
        said = run([SLUICEGATE, "reap", "--once", "--config", file], here)
        self.assertIn(cluster, said)
        calls = [json.loads(line) for line in log.read_text("utf-8").splitlines()[before:]]
        called = {f"{call['service']}:{call['action']}" for call in calls}
        role = template()["Resources"]["ReaperRole"]["Properties"]
        allowed = set()
        for statement in role["Policies"][0]["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            allowed |= {actions} if isinstance(actions, str) else set(actions)
        # The container that fetches the configuration asks S3.
        self.assertEqual(allowed - {"s3:GetObject"}, called)

    def test_the_guard_claims_in_the_stacks_table(self):
        stack = Stack("guard")
        guard = (REPOSITORY / "deploy/emr/guard.sh").read_text("utf-8")

        def claims(cluster: str) -> subprocess.CompletedProcess:
            info = self.folder / "job-flow.json"
            info.write_text(json.dumps({"jobFlowId": cluster}), "utf-8")
            arguments = [stack.resources()["RunTable"], "claim/01J9/1/1", "cluster", REGION]
            found = environment(moto().endpoint)
            found |= {"PATH": f"{AWS.parent}:{found['PATH']}", "SLUICEGATE_JOB_FLOW_JSON": str(info)}
            command = ["bash", "-c", guard, "guard", *arguments]
            return subprocess.run(command, env=found, capture_output=True, text=True, timeout=60)

        first, second, again = claims("j-1"), claims("j-2"), claims("j-1")
        self.assertEqual("guard: j-1 holds claim/01J9/1/1\n", first.stdout + first.stderr)
        self.assertEqual(1, second.returncode)
        self.assertIn("is held by another than j-2: nothing is run here", second.stderr)
        self.assertEqual(0, again.returncode)

    def test_what_is_missing_is_named_with_the_way_out(self):
        stack = Stack("lacking")
        file = self.folder / "sluicegate.toml"

        def complaint(text: str) -> str:
            file.write_text(text, "utf-8")
            return run([SLUICEGATE, "run", "--http", "off", "--config", file], fails=True)

        config = stack.outputs["Configuration"]
        topic = stack.outputs["StatusTopicArn"]
        said = complaint(config.replace(topic, topic + "x"))
        self.assertIn(f"{topic}x does not exist", said)
        self.assertIn("create it, or correct the configuration", said)
        said = complaint(config.replace("lacking-inbox", "lacking-inbx"))
        self.assertIn("lacking-inbx", said)
        client("dynamodb").update_table(TableName="lacking-run", DeletionProtectionEnabled=False)
        client("dynamodb").delete_table(TableName="lacking-run")
        said = complaint(config)
        self.assertIn("missing tables: lacking-run", said)
        self.assertIn("sluicegate tables create", said)

    def test_a_missing_parameter_is_named(self):
        network()
        said = aws(
            *("cloudformation", "deploy", "--stack-name", "incomplete"),
            *("--template-file", str(TEMPLATE), "--s3-bucket", TEMPLATES),
            *("--capabilities", "CAPABILITY_IAM"),
            *("--parameter-overrides", "Vpc=vpc-1", "Subnets=subnet-1"),
            fails=True,
        )
        self.assertIn("Deployment", said)


def shape(table: str) -> dict:
    """What of a table the daemon depends on."""
    found = client("dynamodb").describe_table(TableName=table)["Table"]

    def by_name(all, key):
        return sorted(all, key=lambda one: one[key])

    indexes = found.get("GlobalSecondaryIndexes", [])
    for index in indexes:
        index["Projection"].get("NonKeyAttributes", []).sort()
    return {
        "key": found["KeySchema"],
        "attributes": by_name(found["AttributeDefinitions"], "AttributeName"),
        "billing": found["BillingModeSummary"]["BillingMode"],
        "indexes": [
            (index["IndexName"], index["KeySchema"], index["Projection"])
            for index in by_name(indexes, "IndexName")
        ],
    }


if __name__ == "__main__":
    unittest.main()
