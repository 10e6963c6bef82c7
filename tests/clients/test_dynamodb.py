"""DynamoDB as boto3 uses it: tables, an index added later, conditions with the old
item, transactions, pages, refusals."""

from __future__ import annotations

import datetime

import boto3.dynamodb.conditions
from support import ACCOUNT, REGION, Case, client, until


def s(text: str) -> dict:
    return {"S": text}


def n(number: int) -> dict:
    return {"N": str(number)}


class Tables(Case):
    def setUp(self):
        self.db = client("dynamodb")

    def table(self, name: str, *sort: str) -> str:
        """A table with hash key `pk` and perhaps a sort key, ready for use."""
        keys = [("pk", "HASH"), *((key, "RANGE") for key in sort)]
        self.db.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": k, "AttributeType": "S"} for k, _ in keys],
            KeySchema=[{"AttributeName": k, "KeyType": kind} for k, kind in keys],
            BillingMode="PAY_PER_REQUEST",
        )
        self.db.get_waiter("table_exists").wait(
            TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        return name

    def test_tables_come_change_and_go(self):
        name = self.table("come-and-go")
        description = self.db.describe_table(TableName=name)["Table"]
        self.assertEqual(description["TableStatus"], "ACTIVE")
        self.assertTrue(description["TableArn"].endswith(f"{ACCOUNT}:table/{name}"))
        now = datetime.datetime.now(datetime.timezone.utc)
        self.assertLess(abs(now - description["CreationDateTime"]).total_seconds(), 60)
        pages = self.db.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 1})
        self.assertIn(name, [table for page in pages for table in page["TableNames"]])
        ttl = {"Enabled": True, "AttributeName": "expires"}
        self.db.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
        kept = self.db.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        self.assertEqual((kept["AttributeName"], kept["TimeToLiveStatus"]), ("expires", "ENABLED"))
        self.db.delete_table(TableName=name)
        self.db.get_waiter("table_not_exists").wait(TableName=name)

    def test_an_index_can_be_added_later(self):
        name = self.table("indexed")
        for number in range(3):
            item = {"pk": s(f"i{number}"), "due": s(f"2013-01-0{number + 1}"), "shard": s("a")}
            self.db.put_item(TableName=name, Item=item)
        self.db.put_item(TableName=name, Item={"pk": s("not due")})
        attributes = [{"AttributeName": a, "AttributeType": "S"} for a in ["shard", "due"]]
        schema = [
            {"AttributeName": "shard", "KeyType": "HASH"},
            {"AttributeName": "due", "KeyType": "RANGE"},
        ]
        index = {
            "IndexName": "due", "KeySchema": schema, "Projection": {"ProjectionType": "KEYS_ONLY"}
        }  # fmt: skip
        self.db.update_table(
            TableName=name,
            AttributeDefinitions=attributes,
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )

        def active():
            indexes = self.db.describe_table(TableName=name)["Table"]["GlobalSecondaryIndexes"]
            return indexes[0]["IndexStatus"] == "ACTIVE"

        until(active)
        pages = self.db.get_paginator("query").paginate(
            TableName=name, IndexName="due",
            KeyConditionExpression="#shard = :a and due <= :now",
            ExpressionAttributeNames={"#shard": "shard"},
            ExpressionAttributeValues={":a": s("a"), ":now": s("2013-01-02")},
            PaginationConfig={"PageSize": 1},
        )  # fmt: skip
        found = [item["pk"]["S"] for page in pages for item in page["Items"]]
        self.assertEqual(found, ["i0", "i1"])

    def test_a_lost_condition_shows_the_item_that_won(self):
        name = self.table("conditions")
        key = {"pk": s("a")}
        self.db.put_item(TableName=name, Item={**key, "version": n(1)})
        stale = {
            "ConditionExpression": "version = :seen",
            "ExpressionAttributeValues": {":seen": n(7)},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        failed = "ConditionalCheckFailedException"
        put = {"TableName": name, "Item": {**key, "version": n(8)}, **stale}
        self.assertEqual(self.refused(failed, self.db.put_item, **put)["Item"]["version"], n(1))
        delete = {"TableName": name, "Key": key, **stale}
        self.assertEqual(self.refused(failed, self.db.delete_item, **delete)["Item"]["version"], n(1))
        update = {
            "TableName": name, "Key": key, **stale, "UpdateExpression": "set version = version + :one",
            "ExpressionAttributeValues": {":seen": n(7), ":one": n(1)},
        }  # fmt: skip
        self.refused(failed, self.db.update_item, **update)
        update["ExpressionAttributeValues"][":seen"] = n(1)
        new = self.db.update_item(**update, ReturnValues="ALL_NEW")["Attributes"]
        self.assertEqual(new, {**key, "version": n(2)})
        got = self.db.get_item(TableName=name, Key=key, ConsistentRead=True)["Item"]
        self.assertEqual(got, new)
        self.assertNotIn("Item", self.db.get_item(TableName=name, Key={"pk": s("none")}))

    def test_transactions_are_all_or_nothing(self):
        name = self.table("transactions")
        self.db.put_item(TableName=name, Item={"pk": s("taken")})
        fresh = "attribute_not_exists(pk)"
        puts = [
            {"Put": {
                "TableName": name, "Item": {"pk": s(key)}, "ConditionExpression": fresh,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }} for key in ["free", "taken"]
        ]  # fmt: skip
        answer = self.refused(
            "TransactionCanceledException", self.db.transact_write_items, TransactItems=puts
        )
        reasons = answer["CancellationReasons"]
        self.assertEqual([reason["Code"] for reason in reasons], ["None", "ConditionalCheckFailed"])
        self.assertEqual(reasons[1]["Item"], {"pk": s("taken")})
        self.assertNotIn("Item", self.db.get_item(TableName=name, Key={"pk": s("free")}))
        self.db.transact_write_items(TransactItems=puts[:1])
        gets = [{"Get": {"TableName": name, "Key": {"pk": s(key)}}} for key in ["free", "taken"]]
        got = self.db.transact_get_items(TransactItems=gets)["Responses"]
        self.assertEqual([entry["Item"]["pk"]["S"] for entry in got], ["free", "taken"])

    def test_the_resource_interface_works(self):
        name = self.table("resource", "sk")
        table = boto3.resource(
            "dynamodb", endpoint_url=self.db.meta.endpoint_url, region_name=REGION,
            aws_access_key_id="local", aws_secret_access_key="local",
        ).Table(name)  # fmt: skip
        with table.batch_writer() as batch:
            for number in range(60):
                batch.put_item({"pk": "p", "sk": f"{number:02}", "n": number, "set": {"a", "b"}})
        key = boto3.dynamodb.conditions.Key
        found = table.query(KeyConditionExpression=key("pk").eq("p") & key("sk").begins_with("1"))
        self.assertEqual([int(item["n"]) for item in found["Items"]], list(range(10, 20)))
        pages = self.db.get_paginator("scan").paginate(
            TableName=name, PaginationConfig={"PageSize": 25}
        )
        self.assertEqual([len(page["Items"]) for page in pages], [25, 25, 10])

    def test_wrong_requests_are_refused_in_dynamodbs_words(self):
        db, name = self.db, self.table("refusals")
        key = {"pk": s("a")}
        t = {"TableName": name}
        none = {"TableName": "none-such"}
        expression = {"UpdateExpression": "set", "Key": key}
        big = {"pk": s("big"), "text": s("x" * 410_000)}
        transaction = [{"Put": {**t, "Item": {"pk": s(str(i))}}} for i in range(101)]
        for code, call, arguments in [
            ("ResourceNotFoundException", db.describe_table, none),
            ("ResourceNotFoundException", db.delete_table, none),
            ("ResourceNotFoundException", db.get_item, {**none, "Key": key}),
            ("ResourceNotFoundException", db.put_item, {**none, "Item": key}),
            ("ResourceNotFoundException", db.update_time_to_live,
             {**none, "TimeToLiveSpecification": {"Enabled": True, "AttributeName": "e"}}),
            ("ResourceInUseException", db.create_table,
             {**t, "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
              "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
              "BillingMode": "PAY_PER_REQUEST"}),
            ("ValidationException", db.create_table,
             {"TableName": "x", "AttributeDefinitions": [], "KeySchema": []}),
            ("ValidationException", db.get_item, {**t, "Key": {"wrong": s("a")}}),
            ("ValidationException", db.get_item, {**t, "Key": {"pk": n(1)}}),
            ("ValidationException", db.get_item, t),
            ("ValidationException", db.put_item, {**t, "Item": {"other": s("a")}}),
            ("ValidationException", db.put_item, {**t, "Item": {"pk": s("")}}),
            ("ValidationException", db.put_item, {**t, "Item": big}),
            ("ValidationException", db.put_item, {**t, "Item": {"pk": {"N": "1"}}}),
            ("ValidationException", db.update_item, {**t, **expression}),
            ("ValidationException", db.query, {**t, "KeyConditionExpression": "other = :a",
             "ExpressionAttributeValues": {":a": s("a")}}),
            ("ValidationException", db.query, {**t, "IndexName": "none",
             "KeyConditionExpression": "pk = :a", "ExpressionAttributeValues": {":a": s("a")}}),
            ("ValidationException", db.transact_write_items, {"TransactItems": []}),
            ("ValidationException", db.transact_write_items, {"TransactItems": transaction}),
            ("ValidationException", db.get_item,
             {**t, "Key": key, "ReturnConsumedCapacity": "SOME"}),
            ("UnknownOperationException", db.list_backups, {}),
        ]:  # fmt: skip
            self.refused(code, call, **arguments)
