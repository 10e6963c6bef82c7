"""SQS, SNS and EventBridge as boto3 uses them, and what S3 tells through them."""

from __future__ import annotations

import email
import email.policy
import json
import re
import urllib.request

from support import ACCOUNT, REGION, Case, client, server

ISO_MILLIS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
ISO_SECONDS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


class Queues(Case):
    def setUp(self):
        self.sqs = client("sqs")

    def test_messages_come_and_go(self):
        url, arn = self.queue("come-and-go", VisibilityTimeout="30")
        self.assertEqual(self.sqs.get_queue_url(QueueName="come-and-go")["QueueUrl"], url)
        attribute = {"DataType": "String", "StringValue": "x"}
        sent = self.sqs.send_message(
            QueueUrl=url, MessageBody="ü\n<&>", MessageAttributes={"kind": attribute}
        )
        message = self.sqs.receive_message(
            QueueUrl=url, WaitTimeSeconds=20,
            MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"],
        )["Messages"][0]  # fmt: skip
        self.assertEqual((message["MessageId"], message["Body"]), (sent["MessageId"], "ü\n<&>"))
        self.assertEqual(message["MessageAttributes"], {"kind": attribute})
        self.assertEqual(message["Attributes"]["ApproximateReceiveCount"], "1")
        receipt = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
        self.assertNotIn("Messages", self.sqs.receive_message(QueueUrl=url))
        self.sqs.change_message_visibility(VisibilityTimeout=0, **receipt)
        self.refused(
            "AWS.SimpleQueueService.MessageNotInflight",
            self.sqs.change_message_visibility, VisibilityTimeout=9, **receipt,
        )  # fmt: skip
        again = self.sqs.receive_message(QueueUrl=url)["Messages"][0]
        self.sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
        counts = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        self.assertEqual(
            (counts["QueueArn"], counts["VisibilityTimeout"], counts["ApproximateNumberOfMessages"],
             counts["ApproximateNumberOfMessagesNotVisible"]), (arn, "30", "0", "0"),
        )  # fmt: skip

    def test_batches_fail_entry_by_entry(self):
        url, _ = self.queue("batches")
        entries = [{"Id": str(n), "MessageBody": f"m{n}"} for n in range(3)]
        entries.append({"Id": "bad", "MessageBody": "nul\0"})
        answer = self.sqs.send_message_batch(QueueUrl=url, Entries=entries)
        self.assertEqual([e["Id"] for e in answer["Successful"]], ["0", "1", "2"])
        failed = answer["Failed"][0]
        self.assertEqual((failed["Id"], failed["Code"]), ("bad", "InvalidMessageContents"))
        messages = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        handles = [
            {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
            for n, message in enumerate(messages)
        ]
        changes = [{**handle, "VisibilityTimeout": 100} for handle in handles]
        changed = self.sqs.change_message_visibility_batch(QueueUrl=url, Entries=changes)
        self.assertEqual(len(changed["Successful"]), 3)
        handles.append({"Id": "bad", "ReceiptHandle": "none"})
        deleted = self.sqs.delete_message_batch(QueueUrl=url, Entries=handles)
        self.assertEqual(len(deleted["Successful"]), 3)
        self.assertEqual(deleted["Failed"][0]["Code"], "ReceiptHandleIsInvalid")

    def test_poison_ends_in_the_dead_letter_queue(self):
        dead_url, dead_arn = self.queue("poison-dead")
        policy = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 1})
        url, arn = self.queue("poison", RedrivePolicy=policy, VisibilityTimeout="0")
        self.sqs.send_message(QueueUrl=url, MessageBody="poison")
        self.assertEqual(len(self.sqs.receive_message(QueueUrl=url)["Messages"]), 1)
        self.assertNotIn("Messages", self.sqs.receive_message(QueueUrl=url))
        dead = self.sqs.receive_message(QueueUrl=dead_url, AttributeNames=["All"])["Messages"][0]
        self.assertEqual(dead["Body"], "poison")
        self.assertEqual(dead["Attributes"]["DeadLetterQueueSourceArn"], arn)
        sources = self.sqs.get_paginator("list_dead_letter_source_queues")
        found = [source for page in sources.paginate(QueueUrl=dead_url) for source in page["queueUrls"]]
        self.assertEqual(found, [url])

    def test_queues_are_listed_tagged_purged_and_deleted(self):
        urls = [self.queue(f"listed-{number}")[0] for number in range(5)]
        pages = self.sqs.get_paginator("list_queues").paginate(
            QueueNamePrefix="listed-", PaginationConfig={"PageSize": 2}
        )
        self.assertEqual([url for page in pages for url in page["QueueUrls"]], urls)
        url = urls[0]
        self.sqs.tag_queue(QueueUrl=url, Tags={"team": "data", "stage": "test"})
        self.sqs.untag_queue(QueueUrl=url, TagKeys=["stage"])
        self.assertEqual(self.sqs.list_queue_tags(QueueUrl=url)["Tags"], {"team": "data"})
        self.sqs.send_message(QueueUrl=url, MessageBody="m")
        self.sqs.purge_queue(QueueUrl=url)
        self.assertNotIn("Messages", self.sqs.receive_message(QueueUrl=url))
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
        self.sqs.delete_queue(QueueUrl=url)
        self.refused(
            "AWS.SimpleQueueService.NonExistentQueue", self.sqs.receive_message, QueueUrl=url
        )

    def test_wrong_requests_are_refused_in_sqss_words(self):
        sqs, old = self.sqs, "AWS.SimpleQueueService."
        url, _ = self.queue("refusals", MaximumMessageSize="262144")
        nowhere = {"QueueUrl": url.replace("refusals", "nowhere")}
        q = {"QueueUrl": url}
        one = {"Id": "1", "MessageBody": "m"}
        for code, call, arguments in [
            (old + "NonExistentQueue", sqs.get_queue_url, {"QueueName": "nowhere"}),
            (old + "NonExistentQueue", sqs.send_message, {**nowhere, "MessageBody": "m"}),
            (old + "NonExistentQueue", sqs.delete_queue, nowhere),
            (old + "NonExistentQueue", sqs.purge_queue, nowhere),
            (old + "NonExistentQueue", sqs.send_message_batch, {**nowhere, "Entries": [one]}),
            ("QueueAlreadyExists", sqs.create_queue,
             {"QueueName": "refusals", "Attributes": {"VisibilityTimeout": "1"}}),
            ("InvalidParameterValue", sqs.create_queue, {"QueueName": "no spaces"}),
            ("InvalidParameterValue", sqs.create_queue, {"QueueName": "n" * 81}),
            ("InvalidAttributeName", sqs.set_queue_attributes, {**q, "Attributes": {"Colour": "1"}}),
            ("InvalidAttributeName", sqs.get_queue_attributes, {**q, "AttributeNames": ["Colour"]}),
            ("InvalidAttributeValue", sqs.set_queue_attributes,
             {**q, "Attributes": {"VisibilityTimeout": "43201"}}),
            ("MissingParameter", sqs.send_message, {**q, "MessageBody": ""}),
            ("MissingParameter", sqs.send_message, q),
            ("MissingParameter", sqs.delete_message, q),
            ("InvalidMessageContents", sqs.send_message, {**q, "MessageBody": "nul\0"}),
            ("InvalidMessageContents", sqs.send_message, {**q, "MessageBody": "\uffff"}),
            ("InvalidParameterValue", sqs.send_message, {**q, "MessageBody": "x" * 262145}),
            ("InvalidParameterValue", sqs.send_message,
             {**q, "MessageBody": "m", "DelaySeconds": 901}),
            ("InvalidParameterValue", sqs.receive_message, {**q, "MaxNumberOfMessages": 11}),
            ("InvalidParameterValue", sqs.receive_message, {**q, "MaxNumberOfMessages": 0}),
            ("InvalidParameterValue", sqs.receive_message, {**q, "MaxNumberOfMessages": -1}),
            ("InvalidParameterValue", sqs.receive_message, {**q, "WaitTimeSeconds": 21}),
            ("InvalidParameterValue", sqs.receive_message, {**q, "VisibilityTimeout": 43201}),
            ("InvalidParameterValue", sqs.change_message_visibility,
             {**q, "ReceiptHandle": "x", "VisibilityTimeout": 43201}),
            ("ReceiptHandleIsInvalid", sqs.delete_message, {**q, "ReceiptHandle": "none"}),
            ("ReceiptHandleIsInvalid", sqs.change_message_visibility,
             {**q, "ReceiptHandle": "none", "VisibilityTimeout": 1}),
            (old + "EmptyBatchRequest", sqs.send_message_batch, {**q, "Entries": []}),
            (old + "EmptyBatchRequest", sqs.delete_message_batch, {**q, "Entries": []}),
            (old + "TooManyEntriesInBatchRequest", sqs.send_message_batch,
             {**q, "Entries": [{"Id": str(n), "MessageBody": "m"} for n in range(11)]}),
            (old + "BatchEntryIdsNotDistinct", sqs.send_message_batch, {**q, "Entries": [one, one]}),
            (old + "InvalidBatchEntryId", sqs.send_message_batch,
             {**q, "Entries": [{"Id": "a b", "MessageBody": "m"}]}),
            (old + "BatchRequestTooLong", sqs.send_message_batch,
             {**q, "Entries": [{"Id": str(n), "MessageBody": "x" * 200_000} for n in range(6)]}),
            (old + "UnsupportedOperation", sqs.create_queue,
             {"QueueName": "q", "Attributes": {"FifoQueue": "true"}}),
            ("SerializationException", sqs.send_message, {**q, "MessageBody": 7}),
        ]:  # fmt: skip
            self.refused(code, call, **arguments)


class Topics(Case):
    def setUp(self):
        self.sns = client("sns")

    def topic(self, name: str) -> str:
        return self.sns.create_topic(Name=name)["TopicArn"]

    def test_subscribers_get_what_they_want(self):
        topic = self.topic("wanted")
        (all_url, all_arn), (raw_url, raw_arn) = self.queue("wanted-all"), self.queue("wanted-raw")
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=all_arn)
        policy = {"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"state": ["failed"]})}
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=raw_arn, Attributes=policy)
        mail = self.sns.subscribe(
            TopicArn=topic, Protocol="email", Endpoint="team@example.com",
            ReturnSubscriptionArn=True,
        )["SubscriptionArn"]  # fmt: skip
        for state in ["succeeded", "failed"]:
            self.sns.publish(
                TopicArn=topic, Subject=f"it {state}", Message=json.dumps({"is": state}),
                MessageAttributes={"state": {"DataType": "String", "StringValue": state}},
            )  # fmt: skip
        entries = [{"Id": str(n), "Message": "{}"} for n in range(2)] + [{"Id": "x", "Message": ""}]
        batch = self.sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
        self.assertEqual((len(batch["Successful"]), batch["Failed"][0]["Id"]), (2, "x"))
        wrapped, raw = self.drain(all_url), self.drain(raw_url)
        self.assertEqual([m.get("Subject") for m in wrapped], ["it succeeded", "it failed", None, None])
        self.assertEqual(raw, [{"is": "failed"}])
        self.assertRegex(wrapped[0]["Timestamp"], f"^{ISO_MILLIS}$")
        # What came as a mail can be unsubscribed by its link.
        files = sorted((server().data / "mail").iterdir())
        texts = [email.message_from_bytes(f.read_bytes(), policy=email.policy.default) for f in files]
        mine = [text for text in texts if text["Subject"] == "it failed"]
        self.assertEqual((len(mine), mine[0]["To"]), (1, "team@example.com"))
        link = re.search(r"http://\S+Unsubscribe\S+", mine[0].get_content()).group(0)
        urllib.request.urlopen(link).read()
        self.refused("NotFound", self.sns.get_subscription_attributes, 404, SubscriptionArn=mail)

    def test_topics_and_subscriptions_are_listed_and_changed(self):
        topic = self.topic("listed")
        self.assertEqual(self.topic("listed"), topic)
        topics = self.sns.get_paginator("list_topics").paginate()
        self.assertIn(topic, [t["TopicArn"] for page in topics for t in page["Topics"]])
        self.sns.set_topic_attributes(
            TopicArn=topic, AttributeName="DisplayName", AttributeValue="News"
        )
        for number in range(101):
            address = f"u{number}@example.com"
            self.sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=address)
        pages = self.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        found = [s for page in pages for s in page["Subscriptions"]]
        self.assertEqual(len({s["Endpoint"] for s in found}), 101)
        attributes = self.sns.get_topic_attributes(TopicArn=topic)["Attributes"]
        self.assertEqual(
            (attributes["DisplayName"], attributes["SubscriptionsConfirmed"]), ("News", "101")
        )
        one = found[0]["SubscriptionArn"]
        self.sns.set_subscription_attributes(
            SubscriptionArn=one, AttributeName="FilterPolicy", AttributeValue='{"a": ["b"]}'
        )
        kept = self.sns.get_subscription_attributes(SubscriptionArn=one)["Attributes"]
        self.assertEqual(json.loads(kept["FilterPolicy"]), {"a": ["b"]})
        self.sns.unsubscribe(SubscriptionArn=one)
        self.sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "team", "Value": "data"}])
        tags = self.sns.list_tags_for_resource(ResourceArn=topic)["Tags"]
        self.assertEqual(tags, [{"Key": "team", "Value": "data"}])
        self.sns.untag_resource(ResourceArn=topic, TagKeys=["team"])
        self.assertEqual(self.sns.list_tags_for_resource(ResourceArn=topic)["Tags"], [])
        self.sns.delete_topic(TopicArn=topic)
        self.refused("NotFound", self.sns.get_topic_attributes, 404, TopicArn=topic)

    def test_wrong_requests_are_refused_in_snss_words(self):
        sns, topic = self.sns, self.topic("refusals")
        t = {"TopicArn": topic}
        nowhere = {"TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:nowhere"}
        entry = {"Id": "1", "Message": "m"}
        attribute = {"DataType": "Colour", "StringValue": "red"}
        for code, status, call, arguments in [
            ("NotFound", 404, sns.publish, {**nowhere, "Message": "m"}),
            ("NotFound", 404, sns.get_topic_attributes, nowhere),
            ("NotFound", 404, sns.list_subscriptions_by_topic, nowhere),
            ("NotFound", 404, sns.subscribe,
             {**nowhere, "Protocol": "email", "Endpoint": "a@example.com"}),
            ("InvalidParameter", 400, sns.publish, {**t, "Message": ""}),
            ("InvalidParameter", 400, sns.publish, {"TopicArn": "no-arn", "Message": "m"}),
            ("InvalidParameter", 400, sns.publish, {"Message": "m"}),
            ("InvalidParameter", 400, sns.publish, {**t, "Message": "x" * (256 * 1024 + 1)}),
            *[("InvalidParameter", 400, sns.publish, {**t, "Message": "m", "Subject": subject})
              for subject in ["x" * 100, "two\nlines", "tab\t", "ü", "", " lead", "\x7f"]],
            ("InvalidParameter", 400, sns.publish,
             {**t, "Message": "no json", "MessageStructure": "json"}),
            ("InvalidParameter", 400, sns.publish,
             {**t, "Message": '{"sqs": "no default"}', "MessageStructure": "json"}),
            ("ParameterValueInvalid", 400, sns.publish,
             {**t, "Message": "m", "MessageAttributes": {"colour": attribute}}),
            ("InvalidParameter", 400, sns.subscribe,
             {**t, "Protocol": "pigeon", "Endpoint": "coop"}),
            ("InvalidParameter", 400, sns.subscribe,
             {**t, "Protocol": "email", "Endpoint": "no address"}),
            ("InvalidParameter", 400, sns.subscribe, {**t, "Protocol": "sqs", "Endpoint": "q"}),
            ("InvalidParameter", 400, sns.create_topic, {"Name": "no spaces"}),
            ("InvalidParameter", 400, sns.set_topic_attributes,
             {**t, "AttributeName": "Colour", "AttributeValue": "red"}),
            ("EmptyBatchRequest", 400, sns.publish_batch,
             {**t, "PublishBatchRequestEntries": []}),
            ("TooManyEntriesInBatchRequest", 400, sns.publish_batch,
             {**t, "PublishBatchRequestEntries": [{**entry, "Id": str(n)} for n in range(11)]}),
            ("BatchEntryIdsNotDistinct", 400, sns.publish_batch,
             {**t, "PublishBatchRequestEntries": [entry, entry]}),
            ("InvalidBatchEntryId", 400, sns.publish_batch,
             {**t, "PublishBatchRequestEntries": [{**entry, "Id": "a b"}]}),
            ("NotFound", 404, sns.get_subscription_attributes, {"SubscriptionArn": topic + ":none"}),
            ("InvalidAction", 400, sns.get_sms_attributes, {}),
        ]:  # fmt: skip
            self.refused(code, call, status, **arguments)
        self.sns.publish(Subject="x" * 99, Message="m", **t)


class Events(Case):
    def test_rules_bring_events_to_queues(self):
        events = client("events")
        url, arn = self.queue("rules")
        pattern = json.dumps({"source": ["demo"], "detail": {"state": ["done"]}})
        rule = events.put_rule(Name="rules-1", EventPattern=pattern, Description="d")["RuleArn"]
        self.assertEqual(rule, f"arn:aws:events:{REGION}:{ACCOUNT}:rule/rules-1")
        events.put_targets(Rule="rules-1", Targets=[{"Id": "q", "Arn": arn}])
        entries = [
            {"Source": "demo", "DetailType": "t", "Detail": json.dumps({"state": state})}
            for state in ["done", "open"]
        ] + [{"Source": "demo", "DetailType": "t", "Detail": "no json"}]
        put = events.put_events(Entries=entries)
        self.assertEqual(put["FailedEntryCount"], 1)
        self.assertEqual(put["Entries"][2]["ErrorCode"], "MalformedDetail")
        self.assertEqual([event["detail"] for event in self.drain(url)], [{"state": "done"}])
        events.disable_rule(Name="rules-1")
        self.assertEqual(events.describe_rule(Name="rules-1")["State"], "DISABLED")
        pages = events.get_paginator("list_rules").paginate(NamePrefix="rules-")
        self.assertEqual([r["Name"] for page in pages for r in page["Rules"]], ["rules-1"])
        pages = events.get_paginator("list_targets_by_rule").paginate(Rule="rules-1")
        self.assertEqual([t["Arn"] for page in pages for t in page["Targets"]], [arn])
        self.refused("ValidationException", events.delete_rule, Name="rules-1")
        events.remove_targets(Rule="rules-1", Ids=["q"])
        events.delete_rule(Name="rules-1")
        missing = "ResourceNotFoundException"
        self.refused(missing, events.describe_rule, Name="rules-1")
        self.refused(missing, events.put_targets, Rule="rules-1", Targets=[{"Id": "q", "Arn": arn}])
        self.refused(missing, events.put_rule, Name="r", EventPattern="{}", EventBusName="other")
        self.refused("InvalidEventPatternException", events.put_rule, Name="r", EventPattern="no")
        self.refused("ValidationException", events.put_rule, Name="r")
        self.refused("ValidationException", events.put_rule, EventPattern="{}")
        self.refused("ValidationException", events.put_events, Entries=[])
        self.refused("UnknownOperationException", events.list_archives)
