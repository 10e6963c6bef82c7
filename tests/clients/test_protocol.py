"""Requests that no client would send: raw HTTP, answered with AWS's codes."""

from __future__ import annotations

import http.client
import json
import re

from support import Case, server

JSON = "application/x-amz-json-1.0"
FORM = "application/x-www-form-urlencoded"


class Raw(Case):
    def ask(self, method: str, path: str, headers: dict, body: str | bytes = b""):
        """Status, error code and headers of the answer."""
        connection = http.client.HTTPConnection(server().endpoint.removeprefix("http://"))
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if text.startswith("{"):
            code = json.loads(text).get("__type", "").rsplit("#", 1)[-1]
        else:
            code = "".join(re.findall("<Code>(.*?)</Code>", text))
        return answer.status, code, answer.headers

    def test_broken_requests_are_refused(self):
        def target(name):
            return {"x-amz-target": name, "content-type": JSON}

        foreign = "AWS4-HMAC-SHA256 Credential=A/20130101/us-east-1/kinesis/aws4_request"
        form = {"content-type": FORM}
        sqs, emr, events = "AmazonSQS", "ElasticMapReduce", "AWSEvents"
        redshift = "RedshiftData"
        db = "DynamoDB_20120810"
        self.ask("PUT", "/raw-bucket", {})
        for method, path, headers, body, status, code in [
            # Nobody is authenticated, so what is not signed is served.
            ("POST", "/", target(f"{sqs}.ListQueues"), "{}", 200, ""),
            ("POST", "/", target(f"{sqs}.ListQueues"), "", 200, ""),
            ("POST", "/", {"authorization": foreign}, "{}", 400, "UnknownService"),
            ("POST", "/", target("Kinesis_20131202.ListStreams"), "{}", 400, "UnknownService"),
            ("POST", "/", target(f"{sqs}.Fly"), "{}", 400, "UnsupportedOperation"),
            ("POST", "/", target(f"{emr}.Fly"), "{}", 400, "UnknownOperationException"),
            ("POST", "/", target(f"{events}.Fly"), "{}", 400, "UnknownOperationException"),
            ("POST", "/", target(f"{redshift}.Fly"), "{}", 400, "UnknownOperationException"),
            ("POST", "/", target(f"{redshift}.ListStatements"), "{", 400, "SerializationException"),
            ("POST", "/", target(f"{redshift}.ExecuteStatement"), '{"Sql": 7}', 400, "SerializationException"),
            ("POST", "/", target(f"{redshift}.DescribeStatement"), "{}", 400, "ValidationException"),
            ("POST", "/", target(f"{db}.Fly"), "{}", 400, "UnknownOperationException"),
            ("POST", "/", target(f"{sqs}.SendMessage"), "{", 400, "SerializationException"),
            ("POST", "/", target(f"{sqs}.SendMessage"), "[]", 400, "SerializationException"),
            ("POST", "/", target(f"{emr}.ListClusters"), "no", 400, "SerializationException"),
            ("POST", "/", target(f"{events}.PutRule"), "no", 400, "SerializationException"),
            ("POST", "/", target(f"{db}.GetItem"), "{", 400, "SerializationException"),
            ("POST", "/", target(f"{db}.GetItem"), '{"TableName": 7}', 400, "SerializationException"),
            ("POST", "/", form, "Action=Fly", 400, "InvalidAction"),
            ("POST", "/", form, "", 400, "MissingAction"),
            ("POST", "/", form, "Action=Publish&Message=m&TopicArn=%ff", 400, "InvalidParameter"),
            ("GET", "/raw-bucket?list-type=2", {}, "", 200, ""),
            ("GET", "/nowhere/key", {}, "", 404, "NoSuchBucket"),
            ("PUT", "/raw-bucket/../up", {}, "x", 400, "InvalidURI"),
            ("PUT", "/raw-bucket/%2e%2e%2fup", {}, "x", 400, "InvalidURI"),
            ("PUT", "/raw-bucket/a/..%2f../b/../../up", {}, "x", 400, "InvalidURI"),
            ("PUT", "/raw-bucket//etc/passwd", {}, "x", 200, ""),
            ("PUT", "/raw-bucket/bytes-%ff", {}, "x", 400, "InvalidURI"),
            ("PUT", "/raw-bucket?notification", {}, "<no xml", 400, "MalformedXML"),
            ("POST", "/raw-bucket?delete", {}, "<Delete>", 400, "MalformedXML"),
            ("POST", "/raw-bucket/k?uploadId=none", {}, "<CompleteMultipartUpload/>", 404, "NoSuchUpload"),
            ("PATCH", "/raw-bucket/k", {}, "", 405, "MethodNotAllowed"),
        ]:  # fmt: skip
            with self.subTest(method=method, path=path, headers=headers, body=body):
                self.assertEqual(self.ask(method, path, headers, body)[:2], (status, code))
        outside = [path.name for path in (server().data / "s3").iterdir()]
        self.assertNotIn("up", outside)

    def test_refusals_of_sqs_bear_the_old_code_too(self):
        target = {"x-amz-target": "AmazonSQS.GetQueueUrl", "content-type": JSON}
        status, code, headers = self.ask("POST", "/", target, '{"QueueName": "none"}')
        self.assertEqual((status, code), (400, "QueueDoesNotExist"))
        old = "AWS.SimpleQueueService.NonExistentQueue;Sender"
        self.assertEqual(headers["x-amzn-query-error"], old)
