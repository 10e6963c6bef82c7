"""EMR as boto3 uses it: a cluster's life with its waiters, steps, pages, refusals."""

from __future__ import annotations

import datetime

from support import ACCOUNT, REGION, Case, client, until

SOON = {"Delay": 1, "MaxAttempts": 60}


def step(name: str, *arguments: str, on_failure: str = "CONTINUE") -> dict:
    jar = {"Jar": "command-runner.jar", "Args": list(arguments)}
    return {"Name": name, "ActionOnFailure": on_failure, "HadoopJarStep": jar}


def fleet(kind: str, *types: str, on_demand: int = 1) -> dict:
    return {
        "Name": kind.lower(),
        "InstanceFleetType": kind,
        "TargetOnDemandCapacity": on_demand,
        "InstanceTypeConfigs": [{"InstanceType": instance_type} for instance_type in types],
    }


def request(name: str, *steps: dict, keep: bool = True, **more) -> dict:
    fleets = [fleet("MASTER", "m5.xlarge"), fleet("CORE", "m5.xlarge", "m5a.xlarge", on_demand=2)]
    return {
        "Name": name,
        "ReleaseLabel": "emr-7.13.0",
        "ServiceRole": "service",
        "JobFlowRole": "ec2",
        "Applications": [{"Name": "Spark"}],
        "Tags": [{"Key": "team", "Value": "data"}],
        "Instances": {"InstanceFleets": fleets, "KeepJobFlowAliveWhenNoSteps": keep},
        "Steps": list(steps),
        **more,
    }


class Clusters(Case):
    def setUp(self):
        self.emr = client("emr")

    def start(self, *arguments, **more) -> str:
        return self.emr.run_job_flow(**request(*arguments, **more))["JobFlowId"]

    def state(self, cluster: str) -> str:
        return self.emr.describe_cluster(ClusterId=cluster)["Cluster"]["Status"]["State"]

    def wait(self, waiter: str, **arguments):
        self.emr.get_waiter(waiter).wait(WaiterConfig=SOON, **arguments)

    def test_a_cluster_runs_its_steps_and_goes(self):
        before = datetime.datetime.now(datetime.timezone.utc)
        # EMR's instants have milliseconds.
        before = before.replace(microsecond=before.microsecond // 1000 * 1000)
        steps = [step("good", "true"), step("bad", "bash", "-c", "exit 3"), step("last", "true")]
        cluster = self.start("whole-life", *steps, keep=False)
        self.wait("cluster_running", ClusterId=cluster)
        listed = self.emr.list_steps(ClusterId=cluster)["Steps"]
        names = [entry["Name"] for entry in listed]
        self.assertEqual(names, ["last", "bad", "good"], "newest first")
        self.wait("step_complete", ClusterId=cluster, StepId=listed[2]["Id"])
        self.wait("cluster_terminated", ClusterId=cluster)
        found = self.emr.describe_cluster(ClusterId=cluster)["Cluster"]
        self.assertEqual(found["Status"]["StateChangeReason"]["Code"], "ALL_STEPS_COMPLETED")
        line = found["Status"]["Timeline"]
        times = [before, *(line[f"{name}DateTime"] for name in ["Creation", "Ready", "End"])]
        self.assertEqual(times, sorted(times))
        self.assertEqual(found["ClusterArn"],
                         f"arn:aws:elasticmapreduce:us-east-1:{ACCOUNT}:cluster/{cluster}")  # fmt: skip
        self.assertEqual(found["Tags"], [{"Key": "team", "Value": "data"}])
        self.assertTrue(found["AutoTerminate"])
        bad = self.emr.describe_step(ClusterId=cluster, StepId=listed[1]["Id"])["Step"]
        self.assertEqual(bad["Status"]["State"], "FAILED")
        self.assertIn("FailureDetails", bad["Status"])
        failed = self.emr.list_steps(ClusterId=cluster, StepStates=["FAILED"])["Steps"]
        self.assertEqual([entry["Name"] for entry in failed], ["bad"])
        chosen = [listed[0]["Id"], listed[2]["Id"]]
        chosen = self.emr.list_steps(ClusterId=cluster, StepIds=chosen)["Steps"]
        self.assertEqual({entry["Name"] for entry in chosen}, {"good", "last"})

    def test_a_cluster_is_used_and_changed_while_it_lives(self):
        cluster = self.start("changes")
        self.wait("cluster_running", ClusterId=cluster)
        until(lambda: self.state(cluster) == "WAITING")
        long = [step("sleeps", "sleep", "600"), step("waits", "true")]
        ids = self.emr.add_job_flow_steps(JobFlowId=cluster, Steps=long)["StepIds"]
        infos = self.emr.cancel_steps(
            ClusterId=cluster, StepIds=ids, StepCancellationOption="TERMINATE_PROCESS"
        )["CancelStepsInfoList"]
        self.assertEqual({info["Status"] for info in infos}, {"SUBMITTED"})
        until(lambda: self.state(cluster) == "WAITING")
        states = [s["Status"]["State"] for s in self.emr.list_steps(ClusterId=cluster)["Steps"]]
        self.assertEqual(states, ["CANCELLED", "CANCELLED"])
        instances = self.emr.get_paginator("list_instances").paginate(
            ClusterId=cluster, InstanceStates=["RUNNING"]
        )
        self.assertEqual(sum(len(page["Instances"]) for page in instances), 3)
        fleets = self.emr.list_instance_fleets(ClusterId=cluster)["InstanceFleets"]
        self.assertEqual({f["InstanceFleetType"] for f in fleets}, {"MASTER", "CORE"})
        self.emr.add_tags(ResourceId=cluster, Tags=[{"Key": "stage", "Value": "test"}])
        self.emr.remove_tags(ResourceId=cluster, TagKeys=["team"])
        tags = self.emr.describe_cluster(ClusterId=cluster)["Cluster"]["Tags"]
        self.assertEqual(tags, [{"Key": "stage", "Value": "test"}])
        policy = {"IdleTimeout": 3600}
        self.emr.put_auto_termination_policy(ClusterId=cluster, AutoTerminationPolicy=policy)
        kept = self.emr.get_auto_termination_policy(ClusterId=cluster)["AutoTerminationPolicy"]
        self.assertEqual(kept, policy)
        self.emr.remove_auto_termination_policy(ClusterId=cluster)
        self.assertNotIn(
            "AutoTerminationPolicy", self.emr.get_auto_termination_policy(ClusterId=cluster)
        )
        level = self.emr.modify_cluster(ClusterId=cluster, StepConcurrencyLevel=4)
        self.assertEqual(level["StepConcurrencyLevel"], 4)
        self.emr.set_termination_protection(JobFlowIds=[cluster], TerminationProtected=True)
        self.refused(
            "ValidationException", self.emr.terminate_job_flows, JobFlowIds=[cluster]
        )
        self.emr.set_termination_protection(JobFlowIds=[cluster], TerminationProtected=False)
        self.emr.terminate_job_flows(JobFlowIds=[cluster])
        self.wait("cluster_terminated", ClusterId=cluster)
        self.refused("ValidationException", self.emr.add_job_flow_steps, JobFlowId=cluster, Steps=long)

    def test_groups_are_listed_too(self):
        groups = [
            {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1},
            {"InstanceRole": "CORE", "InstanceType": "m5.xlarge", "InstanceCount": 2,
             "Market": "SPOT"},
        ]  # fmt: skip
        cluster = self.start("groups", Instances={"InstanceGroups": groups}, keep=False)
        pages = self.emr.get_paginator("list_instance_groups").paginate(ClusterId=cluster)
        found = [(g["InstanceGroupType"], g["Market"]) for p in pages for g in p["InstanceGroups"]]
        self.assertEqual(sorted(found), [("CORE", "SPOT"), ("MASTER", "ON_DEMAND")])
        actions = self.emr.list_bootstrap_actions(ClusterId=cluster)["BootstrapActions"]
        self.assertEqual(actions, [])

    def test_lists_have_pages_and_filters(self):
        begin = datetime.datetime.now(datetime.timezone.utc)
        steps = [step(f"s{number}", "true") for number in range(60)]
        clusters = [self.start("many-steps", *steps)]
        clusters += [self.start("paged") for _ in range(51)]
        pages = self.emr.get_paginator("list_clusters").paginate(CreatedAfter=begin)
        shown = [entry["Id"] for page in pages for entry in page["Clusters"]]
        self.assertEqual([c for c in shown if c in clusters], clusters[::-1], "newest first")
        pages = self.emr.get_paginator("list_steps").paginate(ClusterId=clusters[0])
        sizes = [len(page["Steps"]) for page in pages]
        self.assertEqual(sizes, [50, 10])
        for start in range(0, len(clusters), 10):
            self.emr.terminate_job_flows(JobFlowIds=clusters[start : start + 10])
        live = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
        listed = self.emr.list_clusters(CreatedAfter=begin, ClusterStates=live)["Clusters"]
        self.assertEqual([c["Id"] for c in listed if c["Id"] in clusters], [])

    def test_wrong_requests_are_refused_in_emrs_words(self):
        emr = self.emr
        cluster = self.start("refusals")
        here, none = {"ClusterId": cluster}, {"ClusterId": "j-NONE"}
        bad_action = step("s", "true", on_failure="EXPLODE")
        invalid, validation = "InvalidRequestException", "ValidationException"
        for code, message, call, arguments in [
            (invalid, "Cluster id 'j-NONE' is not valid.", emr.describe_cluster, none),
            (invalid, "Cluster id 'j-NONE' is not valid.", emr.list_steps, none),
            (invalid, "Cluster id 'j-NONE' is not valid.", emr.list_instances, none),
            (invalid, "Cluster id 'j-NONE' is not valid.", emr.modify_cluster,
             {**none, "StepConcurrencyLevel": 2}),
            (invalid, "Step id 's-NONE' is not valid.", emr.describe_step,
             {**here, "StepId": "s-NONE"}),
            (invalid, "Step id 's-NONE' is not valid.", emr.list_steps,
             {**here, "StepIds": ["s-NONE"]}),
            (validation, "Specified job flow ID does not exist.", emr.terminate_job_flows,
             {"JobFlowIds": ["j-NONE"]}),
            (validation, "Specified job flow ID does not exist.", emr.add_job_flow_steps,
             {"JobFlowId": "j-NONE", "Steps": [step("s", "true")]}),
            (validation, "must have between 1 and 10", emr.terminate_job_flows, {"JobFlowIds": []}),
            (validation, "enum value set", emr.add_job_flow_steps,
             {"JobFlowId": cluster, "Steps": [bad_action]}),
            (validation, "enum value set", emr.list_clusters, {"ClusterStates": ["SLEEPING"]}),
            (validation, "must not be null", emr.run_job_flow, {"Instances": {}}),
            (validation, "release label", emr.run_job_flow,
             request("x", ReleaseLabel="emr-seven")),
            (validation, "ServiceRole", emr.run_job_flow, request("x", ServiceRole="")),
            (validation, "between 60 and 604800", emr.put_auto_termination_policy,
             {**here, "AutoTerminationPolicy": {"IdleTimeout": 59}}),
            (validation, "between 1 and 256", emr.modify_cluster,
             {**here, "StepConcurrencyLevel": 257}),
            (invalid, "Marker", emr.list_clusters, {"Marker": "nonsense"}),
            ("SerializationException", "", emr.describe_cluster, {"ClusterId": 7}),
            ("UnknownOperationException", "", emr.list_studios, {}),
        ]:  # fmt: skip
            answer = self.refused(code, call, **arguments)
            self.assertIn(message, answer["Error"]["Message"])
        emr.terminate_job_flows(JobFlowIds=[cluster])
