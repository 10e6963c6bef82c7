"""What S3 tells of its objects, held against the samples of AWS's documentation:
to a queue, through a topic, and through EventBridge."""

from __future__ import annotations

import json

from support import ACCOUNT, REGION, Case, client
from test_messages import ISO_MILLIS, ISO_SECONDS, UUID

# A record of the user guide's "Event message structure"; values that differ from
# account to account or from call to call are patterns.
RECORD = {
    "eventVersion": r"2\.1",
    "eventSource": "aws:s3",
    "awsRegion": REGION,
    "eventTime": ISO_MILLIS,
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": r"\w+(:\w+)?"},
    "requestParameters": {"sourceIPAddress": r"127\.0\.0\.1"},
    "responseElements": {"x-amz-request-id": r"[0-9A-Z]{16}", "x-amz-id-2": r"\S+"},
    "s3": {
        "s3SchemaVersion": r"1\.0",
        "configurationId": "rule-q",
        "bucket": {
            "name": "told-of",
            "ownerIdentity": {"principalId": r"\w+"},
            "arn": "arn:aws:s3:::told-of",
        },
        "object": {
            "key": r"raw/red\+flower%2B%C3%BC\.jpg",
            "size": 5,
            "eTag": "5d41402abc4b2a76b9719d911017c592",
            "sequencer": r"[0-9A-F]{18}",
        },
    },
}
# "EventBridge event message structure", Object created.
EVENT = {
    "version": "0",
    "id": UUID,
    "detail-type": "Object Created",
    "source": r"aws\.s3",
    "account": ACCOUNT,
    "time": ISO_SECONDS,
    "region": REGION,
    "resources": ["arn:aws:s3:::told-of"],
    "detail": {
        "version": "0",
        "bucket": {"name": "told-of"},
        "object": {
            "key": r"raw/red flower\+ü\.jpg",
            "size": 5,
            "etag": "5d41402abc4b2a76b9719d911017c592",
            "sequencer": r"[0-9A-F]{18}",
        },
        "request-id": r"[0-9A-Z]{16}",
        "requester": r"\d{12}",
        "source-ip-address": r"127\.0\.0\.1",
        "reason": "PutObject",
    },
}
# What a topic wraps around a message.
ENVELOPE = {
    "Type": "Notification",
    "MessageId": UUID,
    "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:told",
    "Subject": "Amazon S3 Notification",
    "Message": r"\{[^\n]*\}",
    "Timestamp": ISO_MILLIS,
    "SignatureVersion": "1",
    "Signature": r"\S+",
    "SigningCertURL": r"https://sns\.\S+\.pem",
    "UnsubscribeURL": r"http\S+",
}
TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": ISO_MILLIS,
    "Bucket": "told-of",
    "RequestId": r"\w+",
    "HostId": r"\S+",
}


class S3Events(Case):
    def assert_like(self, found, sample, place="it"):
        """The same members everywhere, and values that match."""
        if isinstance(sample, dict):
            self.assertEqual(set(found), set(sample), place)
            for name, value in sample.items():
                self.assert_like(found[name], value, f"{place}.{name}")
        elif isinstance(sample, list):
            self.assertEqual(len(found), len(sample), place)
            for number, (one, other) in enumerate(zip(found, sample)):
                self.assert_like(one, other, f"{place}[{number}]")
        elif isinstance(sample, str):
            self.assertRegex(found, f"^(?:{sample})$", place)
        else:
            self.assertEqual(found, sample, place)

    def test_they_are_those_of_the_documentation(self):
        s3, sns, events = client("s3"), client("sns"), client("events")
        direct, wrapped, bridged = (self.queue(f"told-{n}") for n in ["q", "t", "e"])
        topic = sns.create_topic(Name="told")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=wrapped[1])
        pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": ["told-of"]}}}
        events.put_rule(Name="told", EventPattern=json.dumps(pattern))
        events.put_targets(Rule="told", Targets=[{"Id": "1", "Arn": bridged[1]}])
        s3.create_bucket(
            Bucket="told-of", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        rules = [{"Name": "prefix", "Value": "raw/"}]
        wanted = {
            "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:Delete"],
            "Filter": {"Key": {"FilterRules": rules}},
        }
        told_apart = [{"Name": "prefix", "Value": "raw/red"}]
        configuration = {
            "QueueConfigurations": [{"Id": "rule-q", "QueueArn": direct[1], **wanted}],
            "EventBridgeConfiguration": {},
        }
        s3.put_bucket_notification_configuration(
            Bucket="told-of", NotificationConfiguration=configuration
        )
        self.assert_like(self.drain(direct[0]), [TEST_EVENT])
        kept = s3.get_bucket_notification_configuration(Bucket="told-of")
        rule = kept["QueueConfigurations"][0]
        self.assertEqual((rule["Id"], rule["QueueArn"]), ("rule-q", direct[1]))
        self.assertEqual(rule["Filter"]["Key"]["FilterRules"][0]["Value"], "raw/")
        self.assertIn("EventBridgeConfiguration", kept)

        both = {"Topic": topic, "Queue": direct[1]}
        self.overlap_is_refused(configuration, wanted, told_apart, both["Topic"])
        key = "raw/red flower+ü.jpg"
        s3.put_object(Bucket="told-of", Key=key, Body=b"hello")
        s3.put_object(Bucket="told-of", Key="other", Body=b"")
        s3.delete_object(Bucket="told-of", Key=key)
        put, deleted = (message["Records"] for message in self.drain(direct[0]))
        self.assert_like(put, [RECORD])
        gone = {"key": RECORD["s3"]["object"]["key"], "sequencer": r"[0-9A-F]{18}"}
        gone_record = {
            **RECORD,
            "eventName": "ObjectRemoved:Delete",
            "s3": {**RECORD["s3"], "object": gone},
        }
        self.assert_like(deleted, [gone_record])
        sequencers = [r[0]["s3"]["object"]["sequencer"] for r in (put, deleted)]
        self.assertLess(*sequencers)
        created, other, removed = self.drain(bridged[0])
        self.assert_like(created, EVENT)
        self.assertEqual(other["detail"]["object"]["key"], "other")
        self.assertEqual(
            (removed["detail-type"], removed["detail"]["reason"], removed["detail"]["deletion-type"]),
            ("Object Deleted", "DeleteObject", "Permanently Deleted"),
        )

        through_topic = {"TopicConfigurations": [{"Id": "rule-q", "TopicArn": topic, **wanted}]}
        s3.put_bucket_notification_configuration(
            Bucket="told-of", NotificationConfiguration=through_topic
        )
        s3.put_object(Bucket="told-of", Key=key, Body=b"hello")
        test, notice = self.drain(wrapped[0])
        self.assert_like(json.loads(test["Message"]), TEST_EVENT)
        self.assert_like(notice, ENVELOPE)
        self.assert_like(json.loads(notice["Message"]), {"Records": [RECORD]})

    def overlap_is_refused(self, configuration, wanted, narrower, topic):
        overlapping = {
            "Id": "t", "TopicArn": topic, **wanted, "Filter": {"Key": {"FilterRules": narrower}}
        }  # fmt: skip
        unknown = {"Id": "q", "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:none", **wanted}
        put = client("s3").put_bucket_notification_configuration
        for wrong in [
            {**configuration, "TopicConfigurations": [overlapping]},
            {"QueueConfigurations": [unknown]},
            {"QueueConfigurations": [{**unknown, "Events": ["s3:Nonsense:*"]}]},
        ]:
            self.refused(
                "InvalidArgument", put, Bucket="told-of", NotificationConfiguration=wrong
            )
