"""The template by itself: cfn-lint, its parameters, its scripts.

What its policies allow is tests/iam's; whether it can be deployed, test_deployment's.
"""

import json
import re
import tempfile
import unittest
from pathlib import Path

from support import REPOSITORY, SLUICEGATE, TEMPLATE, complaints, run, template

# Of each parameter with a pattern: what is right, and what is wrong.
VALUES = {
    "Deployment": (["prod", "team-a2", "x-1"], ["", "x1", "Prod", "prod-", "1prod", "p" * 21, "a_b"]),
    "AlertEmail": (["", "team@example.com"], ["team", "team@example", "a b@example.com"]),
    "Image": (
        ["", "1.dkr.ecr.us-east-1.amazonaws.com/sluicegate:0.1.0", f"ghcr.io/x/y@sha256:{'a' * 64}"],
        ["sluicegate", "sluicegate:", "x@sha256:12", "a b:1"],
    ),
    "ReapSchedule": (["", "rate(30 minutes)", "cron(0/30 * * * ? *)"], ["30m", "rate()", "*/5 * * * *"]),
    "TaskPolicyArn": (["", "arn:aws:iam::111122223333:policy/more"], ["more", "arn:aws:iam::1:role/x"]),
    "JobPolicyArn": (["", "arn:aws:iam::aws:policy/x", "arn:aws:iam::111122223333:policy/a/b"], ["more"]),
    "KdcPasswordSecretArn": (
        [
            "",
            "arn:aws:secretsmanager:us-east-1:111122223333:secret:kdc-AbCdEf",
            "arn:aws:ssm:us-east-1:111122223333:parameter/kdc",
        ],
        ["kdc", "arn:aws:s3:us-east-1:111122223333:parameter/kdc"],
    ),
}
# What operators find explained.
OPERATIONS = (REPOSITORY / "docs/operations.md").read_text("utf-8")
HEADINGS = set(re.findall(r"^### `([a-z-]+)`", OPERATIONS, re.M))


class Template(unittest.TestCase):
    def test_cfn_lint_finds_nothing(self):
        self.assertEqual("", complaints("cfn-lint", "-c", "I", "-t", TEMPLATE))

    def test_parameters_take_what_is_right_and_say_what_is_expected(self):
        parameters = template()["Parameters"]
        with_pattern = {name for name, one in parameters.items() if "AllowedPattern" in one}
        # AWS's own patterns need no words.
        self.assertEqual(set(VALUES), with_pattern)
        for name, (right, wrong) in VALUES.items():
            pattern = parameters[name]["AllowedPattern"]
            self.assertTrue(parameters[name].get("ConstraintDescription"), name)
            for value in right:
                self.assertTrue(re.fullmatch(pattern, value), f"{name}: {value!r}")
            for value in wrong:
                self.assertFalse(re.fullmatch(pattern, value), f"{name}: {value!r}")

    def test_every_parameter_is_explained_and_shown_in_a_group(self):
        parameters = template()["Parameters"]
        groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        shown = [name for group in groups for name in group["Parameters"]]
        self.assertEqual(sorted(parameters), sorted(shown))
        for name, parameter in parameters.items():
            self.assertTrue(parameter["Description"].endswith("."), name)

    def test_mailboxes_get_what_the_filter_of_deploy_sns_lets_through(self):
        filtered = template()["Resources"]["StatusMail"]["Properties"]["FilterPolicy"]
        file = json.loads((REPOSITORY / "deploy/sns/email-filter.json").read_text("utf-8"))
        self.assertEqual(file, filtered)

    def test_the_guides_configuration_has_no_mistakes(self):
        guide = (REPOSITORY / "deploy/README.md").read_text("utf-8")
        found = re.search(r"^cat > (tasks/\w+\.toml) <<END\n(.*?)^END$", guide, re.M | re.S)
        profile = (
            'service-role = "service"\ninstance-profile = "machines"\n'
            'log-uri = "s3://work/logs/"\nsubnets = ["subnet-1"]'
        )
        text = found[2].replace("$(output Profile)", profile)
        text = re.sub(r"\$\(output (\w+)BucketName\)", lambda bucket: bucket[1].lower(), text)
        with tempfile.TemporaryDirectory() as folder:
            main, tasks = Path(folder) / "sluicegate.toml", Path(folder) / found[1]
            tasks.parent.mkdir()
            tasks.write_text(text, "utf-8")
            main.write_text(
                'deployment = "prod"\n[aws]\nqueue = "prod-inbox"\nquarantine = "prod-quarantine"\n'
                'topic-arn = "arn:aws:sns:us-east-1:111122223333:prod-status"\n'
                'assets = "s3://work/assets/"\n[task-files]\npath = "s3://work/config/tasks/"\n',
                "utf-8",
            )
            said = run([SLUICEGATE, "check", "--config", main, "--tasks", tasks.parent])
        self.assertIn("no mistakes, 1 task, 2 datasets, 1 profile", said)

    def test_every_alarm_is_explained_to_operators(self):
        for name, resource in template()["Resources"].items():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                description = resource["Properties"]["AlarmDescription"]
                topic = re.search(r"docs/operations\.md, ([a-z-]+)\.$", description)
                self.assertTrue(topic and topic[1] in HEADINGS, f"{name}: {description}")

    def test_every_notice_that_needs_somebody_is_explained_to_operators(self):
        # Those that snapshots show; the service has them reviewed as people read them.
        snapshots = [*REPOSITORY.glob("src/**/*.snap"), *REPOSITORY.glob("tests/daemon/**/*.snap")]
        found = set()
        for file in snapshots:
            pairs = dict(re.findall(r"^(status|severity)=(.+)$", file.read_text("utf-8"), re.M))
            if pairs.get("severity") in ("failure", "lateness", "warning"):
                found.add(pairs["status"])
        self.assertIn("failed", found)
        self.assertEqual(set(), found - HEADINGS)

    def test_the_guides_name_what_the_template_has(self):
        guide = (REPOSITORY / "deploy/README.md").read_text("utf-8")
        named = re.findall(r"`([A-Z][a-z]\w+)(?:=[^`]*)?`", guide + OPERATIONS)
        parameters = {*named, *re.findall(r"^ .*?\b([A-Z][a-z]\w+)=", guide, re.M)}
        # Of AWS.
        theirs = {"FailedInvocations", "Key", "OutputKey", "InboxPolicy", *template()["Outputs"]}
        self.assertIn("Replicas", parameters)
        self.assertEqual(set(), parameters - set(template()["Parameters"]) - theirs)
        outputs = set(re.findall(r"\boutput ([A-Z]\w+)", guide))
        self.assertIn("Configuration", outputs)
        self.assertEqual(set(), outputs - set(template()["Outputs"]))

    def test_shellcheck_finds_nothing_in_the_scripts_of_a_host(self):
        data = template()["Resources"]["HostTemplate"]["Properties"]["LaunchTemplateData"]
        script = data["UserData"]["Fn::Base64"]["Fn::Sub"]
        script = re.sub(r"\$\{(!?)([^}]+)\}", lambda found: f"${{{found[2]}}}" if found[1] else "x", script)
        inner = re.search(r"<<'START'\n(.*?)\nSTART\n", script, re.S)[1]
        for text in (script, inner):
            self.assertTrue(text.startswith("#!/bin/bash\n"))
            self.assertEqual("", complaints("shellcheck", "-", text=text))


if __name__ == "__main__":
    unittest.main()
