"""Every request that the daemon sent in its tests, against the service models.

`cargo test --test daemon` writes them into target/requests, one file a test.
"""

import copy
import json
import pathlib
import unittest

from model import Models

REQUESTS = pathlib.Path(__file__).parents[2] / "target" / "requests"
MODELS = Models()

# What the daemon needs of AWS; without one of these the tests have not run.
EXPECTED = {
    ("dynamodb", "CreateTable"),
    ("dynamodb", "GetItem"),
    ("dynamodb", "PutItem"),
    ("dynamodb", "Query"),
    ("dynamodb", "TransactWriteItems"),
    ("dynamodb", "UpdateItem"),
    ("elasticmapreduce", "AddJobFlowSteps"),
    ("elasticmapreduce", "DescribeCluster"),
    ("elasticmapreduce", "ListSteps"),
    ("elasticmapreduce", "RunJobFlow"),
    ("elasticmapreduce", "TerminateJobFlows"),
    ("sns", "Publish"),
    ("sqs", "DeleteMessageBatch"),
    ("sqs", "ReceiveMessage"),
}


def sent():
    """Each captured request once, with the test it comes from."""
    seen = set()
    for file in sorted(REQUESTS.glob("*.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            request = json.loads(line)
            key = (request["service"], request["action"], request["body"])
            if key not in seen:
                seen.add(key)
                yield (file.stem, *key)


class Requests(unittest.TestCase):
    def test_every_request_is_as_its_model_demands(self):
        actions = set()
        for test, service, action, body in sent():
            actions.add((service, action))
            problems = MODELS.problems(service, action, body)
            self.assertEqual([], problems, f"{test}: {action} {body[:2000]}")
        self.assertEqual(set(), EXPECTED - actions, "run `cargo test --test daemon` first")

    def test_a_full_profile_uses_every_member_that_a_profile_can_set(self):
        launches = [json.loads(body) for test, _, action, body in sent()
                    if test == "every-field" and action == "RunJobFlow"]
        self.assertEqual(2, len(launches))
        used = {member for launch in launches for member in launch}
        # Older forms, and what belongs to clusters that live longer.
        left_out = {
            "AdditionalInfo", "AmiVersion", "AutoScalingRole", "ExtendedSupport",
            "MonitoringConfiguration", "NewSupportedProducts", "PlacementGroupConfigs",
            "RepoUpgradeOnBoot", "StepExecutionRoleArn", "SupportedProducts",
        }
        model = MODELS._model("elasticmapreduce").operation_model("RunJobFlow").input_shape
        self.assertEqual(set(model.members) - left_out, used)


class Planted(unittest.TestCase):
    """The check itself: a mistake in a good request is found."""

    def setUp(self):
        launches = (json.loads(body) for test, _, action, body in sent()
                    if test == "every-field" and action == "RunJobFlow")
        self.good = next(body for body in launches if "InstanceFleets" in body["Instances"])

    def test_mistakes_are_found(self):
        core = ("Instances", "InstanceFleets", 1)
        for path, value, said in [
            (("Nmae",), "x", "Nmae"),
            (("Name",), 5, "Invalid type for parameter Name"),
            (("Name",), "x" * 257, "257 is above 256"),
            (("Name",), "\u0001", "does not match"),
            (("ReleaseLabel",), None, "Invalid type"),
            (("ScaleDownBehavior",), "NOW", "'NOW' is none of"),
            ((*core, "InstanceFleetType"), "PRIMARY", "'PRIMARY' is none of"),
            ((*core, "TargetSpotCapacity"), "4", "TargetSpotCapacity"),
            ((*core, "TargetSpotCapacity"), -1, "valid min value: 0"),
            ((*core, "LaunchSpecifications", "SpotSpecification", "AllocationStrategy"),
             "cheapest", "'cheapest' is none of"),
            ((*core, "LaunchSpecifications", "SpotSpecification"),
             {"TimeoutDurationMinutes": 5}, "TimeoutAction"),
            (("Steps", 0, "HadoopJarStep", "Args"), "a b", "Args"),
            (("Steps", 0, "ActionOnFailure"), "STOP", "'STOP' is none of"),
        ]:
            with self.subTest(path=path, value=value):
                body = copy.deepcopy(self.good)
                place = body
                for step in path[:-1]:
                    place = place[step]
                place[path[-1]] = value
                problems = MODELS.problems("elasticmapreduce", "RunJobFlow", json.dumps(body))
                self.assertIn(said, "\n".join(problems))
        missing = {name: value for name, value in self.good.items() if name != "Instances"}
        problems = MODELS.problems("elasticmapreduce", "RunJobFlow", json.dumps(missing))
        self.assertIn("Instances", "\n".join(problems))
        self.assertEqual(["elasticmapreduce has no action Run"], MODELS.problems("elasticmapreduce", "Run", "{}"))

    def test_forms_are_read_as_they_are_meant(self):
        head = "Action=Publish&Version=2010-03-31&"
        good = head + ("Message=m&TopicArn=t&MessageAttributes.entry.1.Name=n"
                       "&MessageAttributes.entry.1.Value.DataType=String"
                       "&MessageAttributes.entry.1.Value.StringValue=v")
        self.assertEqual([], MODELS.problems("sns", "Publish", good))
        for form, said in [
            (good.replace("Message=m&", ""), "Message"),
            (good.replace("DataType", "Type"), "Type"),
            (good.replace("TopicArn", "Topic"), "Topic"),
        ]:
            self.assertIn(said, "\n".join(MODELS.problems("sns", "Publish", form)))


if __name__ == "__main__":
    unittest.main()
