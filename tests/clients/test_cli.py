"""The AWS command line, as a person uses it: buckets, queues, tables, clusters."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from pathlib import Path

from support import ACCOUNT, REGION, Case, aws, client, until


class CommandLine(Case):
    def test_files_go_to_buckets_and_back(self):
        with tempfile.TemporaryDirectory() as folder:
            local, back = Path(folder) / "local", Path(folder) / "back"
            for name in ["a.csv", "sub/b c.csv", "sub/skip.tmp"]:
                (local / name).parent.mkdir(parents=True, exist_ok=True)
                (local / name).write_text(name)
            aws("s3", "mb", "s3://by-hand")
            aws("s3", "sync", str(local), "s3://by-hand/in", "--exclude", "*.tmp")
            listing = aws("s3", "ls", "--recursive", "s3://by-hand").splitlines()
            self.assertEqual([line.split(maxsplit=3)[3] for line in listing], ["in/a.csv", "in/sub/b c.csv"])
            self.assertIn("PRE sub/", aws("s3", "ls", "s3://by-hand/in/"))
            aws("s3", "cp", "-", "s3://by-hand/piped", stdin="through a pipe")
            self.assertEqual(aws("s3", "cp", "s3://by-hand/piped", "-"), "through a pipe")
            link = aws("s3", "presign", "s3://by-hand/piped").strip()
            self.assertEqual(urllib.request.urlopen(link).read(), b"through a pipe")
            aws("s3", "mv", "s3://by-hand/piped", "s3://by-hand/in/moved")
            aws("s3", "sync", "s3://by-hand/in", str(back))
            names = sorted(str(p.relative_to(back)) for p in back.rglob("*") if p.is_file())
            self.assertEqual(names, ["a.csv", "moved", "sub/b c.csv"])
        self.assertIn("BucketNotEmpty", aws("s3", "rb", "s3://by-hand", fails=True))
        aws("s3", "rb", "--force", "s3://by-hand")
        self.assertIn("NoSuchBucket", aws("s3", "ls", "s3://by-hand", fails=True))

    def test_notifications_are_set_up_by_hand(self):
        url = aws("sqs", "create-queue", "--queue-name", "by-hand")["QueueUrl"]
        topic = aws("sns", "create-topic", "--name", "by-hand")["TopicArn"]
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:by-hand"
        aws("sns", "subscribe", "--topic-arn", topic, "--protocol", "sqs",
            "--notification-endpoint", queue)  # fmt: skip
        aws("s3", "mb", "s3://by-hand-told")
        rules = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
        aws("s3api", "put-bucket-notification-configuration", "--bucket", "by-hand-told",
            "--notification-configuration", json.dumps(rules))  # fmt: skip
        self.drain(url)
        aws("s3", "cp", "-", "s3://by-hand-told/new", stdin="x")
        received = aws("sqs", "receive-message", "--queue-url", url, "--wait-time-seconds", "20")
        notice = json.loads(json.loads(received["Messages"][0]["Body"])["Message"])
        self.assertEqual(notice["Records"][0]["s3"]["object"]["key"], "new")
        refusal = aws("sqs", "get-queue-url", "--queue-name", "none", fails=True)
        self.assertIn("AWS.SimpleQueueService.NonExistentQueue", refusal)

    def test_tables_are_made_and_read_by_hand(self):
        aws("dynamodb", "create-table", "--table-name", "by-hand", "--billing-mode",
            "PAY_PER_REQUEST", "--attribute-definitions", "AttributeName=pk,AttributeType=S",
            "--key-schema", "AttributeName=pk,KeyType=HASH")  # fmt: skip
        aws("dynamodb", "wait", "table-exists", "--table-name", "by-hand")
        item = {"pk": {"S": "a"}, "n": {"N": "1"}}
        aws("dynamodb", "put-item", "--table-name", "by-hand", "--item", json.dumps(item))
        self.assertEqual(aws("dynamodb", "scan", "--table-name", "by-hand")["Items"], [item])

    def test_a_cluster_is_run_by_hand(self):
        cluster = aws(
            "emr", "create-cluster", "--name", "by-hand", "--release-label", "emr-7.13.0",
            "--use-default-roles", "--applications", "Name=Spark", "--tags", "team=data",
            "--instance-type", "m5.xlarge", "--instance-count", "2",
            "--steps", "Type=CUSTOM_JAR,Name=first,Jar=command-runner.jar,Args=[true]",
        )["ClusterId"]  # fmt: skip
        emr = client("emr")

        def state():
            return emr.describe_cluster(ClusterId=cluster)["Cluster"]["Status"]["State"]

        until(lambda: state() in ("RUNNING", "WAITING"))
        # The command line polls every half minute: here it finds it done at once.
        aws("emr", "wait", "cluster-running", "--cluster-id", cluster)
        more = "Type=CUSTOM_JAR,Name=more,Jar=command-runner.jar,ActionOnFailure=CONTINUE,Args="
        steps = aws("emr", "add-steps", "--cluster-id", cluster, "--steps",
                    more + "[false]", more + "[sleep,600]", more + "[true]")["StepIds"]  # fmt: skip
        until(lambda: self.step_state(cluster, steps[0]) == "FAILED")
        failed = aws("emr", "wait", "step-complete", "--cluster-id", cluster,
                     "--step-id", steps[0], fails=True)  # fmt: skip
        self.assertIn("terminal failure state", failed)
        cancel = aws("emr", "cancel-steps", "--cluster-id", cluster, "--step-ids", *steps[1:],
                     "--step-cancellation-option", "SEND_INTERRUPT")  # fmt: skip
        self.assertEqual(len(cancel["CancelStepsInfoList"]), 2)
        first = aws("emr", "list-steps", "--cluster-id", cluster)["Steps"][-1]
        self.assertEqual((first["Name"], first["Status"]["State"]), ("first", "COMPLETED"))
        aws("emr", "wait", "step-complete", "--cluster-id", cluster, "--step-id", first["Id"])
        shown = aws("emr", "describe-cluster", "--cluster-id", cluster)["Cluster"]
        self.assertEqual(sum(g["RequestedInstanceCount"] for g in shown["InstanceGroups"]), 2)
        aws("emr", "modify-cluster-attributes", "--cluster-id", cluster, "--termination-protected")
        refusal = aws("emr", "terminate-clusters", "--cluster-ids", cluster, fails=True)
        self.assertIn("termination protected", refusal)
        aws("emr", "modify-cluster-attributes", "--cluster-id", cluster,
            "--no-termination-protected")  # fmt: skip
        aws("emr", "terminate-clusters", "--cluster-ids", cluster)
        until(lambda: state() == "TERMINATED")
        aws("emr", "wait", "cluster-terminated", "--cluster-id", cluster)
        listed = aws("emr", "list-clusters", "--terminated")["Clusters"]
        self.assertIn(cluster, [entry["Id"] for entry in listed])

    def step_state(self, cluster: str, step: str) -> str:
        found = client("emr").describe_step(ClusterId=cluster, StepId=step)
        return found["Step"]["Status"]["State"]

    def test_events_are_put_by_hand(self):
        url, queue = self.queue("by-hand-events")
        aws("events", "put-rule", "--name", "by-hand", "--event-pattern", '{"source": ["hand"]}')
        aws("events", "put-targets", "--rule", "by-hand", "--targets", f"Id=q,Arn={queue}")
        entry = "Source=hand,DetailType=t,Detail='{}'"
        put = aws("events", "put-events", "--entries", entry)
        self.assertEqual(put["FailedEntryCount"], 0)
        self.assertEqual([event["source"] for event in self.drain(url)], ["hand"])

    def test_what_is_not_there_is_said_clearly(self):
        for service, *call in [("sts", "get-caller-identity"), ("kinesis", "list-streams")]:
            refusal = aws(service, *call, fails=True)
            self.assertIn("(UnknownService)", refusal)
            self.assertIn(f"{service} is not served by the local AWS, which has dynamodb", refusal)
