//! The life of clusters through the API, on virtual time: what each kind of
//! failure, cancellation and time-out leads to. Not for real processes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::emr::api;
use crate::emr::machine::{Machine, Settings};
use crate::emr::model::{Effect, Exit, Job, Now, Reason, ReasonCode};
use crate::emr::view::Place;
use crate::wire::ApiError;

/// A machine with hands on its clock.
struct World {
    machine: Machine,
    now: Timestamp,
    /// What it asked for, other than announcements.
    asked: Vec<Effect>,
    /// `state` of every announcement.
    announced: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            starting: SignedDuration::from_secs(10),
            bootstrapping: SignedDuration::from_secs(5),
            terminating: SignedDuration::from_secs(3),
            plain_terminated_on_step_failure: false,
            page: 50,
            seed: 7,
        };
        change(&mut settings);
        Self {
            machine: Machine::new(settings),
            now: "2013-01-01T05:00:00Z".parse().unwrap(),
            asked: Vec::new(),
            announced: Vec::new(),
        }
    }

    fn instant(&self) -> Now {
        Now { real: self.now, dev: self.now }
    }

    fn call(&mut self, action: &str, body: Value) -> Result<Value, ApiError> {
        let place = Place { region: "us-east-1".to_owned(), account: "000000000000".to_owned() };
        let now = self.instant();
        let answer = api::call(&mut self.machine, &place, action, body, now);
        self.collect();
        answer
    }

    fn pass(&mut self, secs: i64) {
        self.now += SignedDuration::from_secs(secs);
        let now = self.instant();
        self.machine.tick(now);
        self.collect();
    }

    fn exit(&mut self, cluster: &str, job: &Job, code: i32) {
        let now = self.instant();
        let exit = Exit::with_code(code);
        self.machine.process_exited(cluster, job, exit, now).unwrap();
        self.collect();
    }

    fn collect(&mut self) {
        for effect in self.machine.take_effects() {
            match effect {
                Effect::Announce { detail, .. } => {
                    self.announced.push(detail["state"].as_str().unwrap().to_owned());
                }
                other => self.asked.push(other),
            }
        }
    }

    /// Starts a cluster, with members of the request replaced, and lets it
    /// come to its steps.
    fn run(&mut self, change: Value, steps: &[&str]) -> (String, Vec<Job>) {
        let id = self.request(change, steps);
        self.pass(10);
        self.pass(5);
        let steps = self.machine.cluster(&id).unwrap().steps.iter();
        let steps = steps.map(|step| Job::Step(step.id.clone())).collect();
        (id, steps)
    }

    fn request(&mut self, change: Value, actions: &[&str]) -> String {
        let mut body = request();
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, member) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap()[member] = value.clone();
        }
        body["Steps"] = actions.iter().map(|action| step(action)).collect();
        let answer = self.call("RunJobFlow", body).unwrap();
        answer["JobFlowId"].as_str().unwrap().to_owned()
    }

    fn describe(&mut self, id: &str) -> Value {
        self.call("DescribeCluster", json!({"ClusterId": id})).unwrap()["Cluster"].take()
    }

    /// State, reason code and message.
    fn status(&mut self, id: &str) -> String {
        let status = self.describe(id)["Status"].take();
        let part = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let reason = &status["StateChangeReason"];
        [&status["State"], &reason["Code"], &reason["Message"]].map(part).join(" ")
    }

    /// States of the steps, oldest first.
    fn steps(&mut self, id: &str) -> String {
        let answer = self.call("ListSteps", json!({"ClusterId": id})).unwrap();
        let states = answer["Steps"].as_array().unwrap().iter().rev();
        let states = states.map(|step| step["Status"]["State"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>().join(" ")
    }

    fn asked_to_run(&self, job: &Job) -> bool {
        let is_it = |effect: &Effect| matches!(effect, Effect::Run { job: j, .. } if j == job);
        self.asked.iter().any(is_it)
    }

    fn asked_to_kill(&self, wanted: &Job) -> Option<bool> {
        self.asked.iter().find_map(|effect| match effect {
            Effect::Kill { job, force, .. } if job == wanted => Some(*force),
            _ => None,
        })
    }
}

fn request() -> Value {
    json!({
        "Name": "hourly", "ReleaseLabel": "emr-7.13.0", "LogUri": "s3://logs/emr/",
        "ServiceRole": "EMR_DefaultRole", "JobFlowRole": "EMR_EC2_DefaultRole",
        "Tags": [{"Key": "run", "Value": "1"}],
        "Instances": {"KeepJobFlowAliveWhenNoSteps": false, "InstanceFleets": [
            {"InstanceFleetType": "MASTER", "TargetOnDemandCapacity": 1,
             "InstanceTypeConfigs": [{"InstanceType": "m5.xlarge"}]},
            {"InstanceFleetType": "CORE", "TargetSpotCapacity": 4,
             "InstanceTypeConfigs": [{"InstanceType": "m5.xlarge", "WeightedCapacity": 2}]},
        ]},
    })
}

fn step(action_on_failure: &str) -> Value {
    json!({
        "Name": "etl", "ActionOnFailure": action_on_failure,
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]},
    })
}

const KEEP_ALIVE: &str = "/Instances/KeepJobFlowAliveWhenNoSteps";

#[test]
fn a_transient_cluster_goes_through_its_stages_and_ends() {
    let mut world = World::new();
    let id = world.request(json!({}), &["CONTINUE", "CONTINUE"]);
    let stamps = |world: &mut World| {
        let timeline = world.describe(&id)["Status"]["Timeline"].take();
        (timeline["ReadyDateTime"].as_f64(), timeline["EndDateTime"].as_f64())
    };
    assert_eq!(world.status(&id), "STARTING - -");
    world.pass(9);
    assert_eq!(world.status(&id), "STARTING - -");
    world.pass(1);
    assert_eq!(world.status(&id), "BOOTSTRAPPING - -");
    assert_eq!(stamps(&mut world), (None, None));
    world.pass(5);
    assert_eq!(world.status(&id), "RUNNING - -");
    assert_eq!(world.steps(&id), "RUNNING PENDING");
    let steps: Vec<Job> = world
        .machine
        .cluster(&id)
        .unwrap()
        .steps
        .iter()
        .map(|step| Job::Step(step.id.clone()))
        .collect();
    world.exit(&id, &steps[0], 0);
    assert_eq!(world.steps(&id), "COMPLETED RUNNING");
    world.pass(60);
    world.exit(&id, &steps[1], 0);
    assert_eq!(world.status(&id), "TERMINATING ALL_STEPS_COMPLETED Steps completed");
    world.pass(3);
    assert_eq!(world.status(&id), "TERMINATED ALL_STEPS_COMPLETED Steps completed");
    let start = 1_357_016_400.0;
    assert_eq!(stamps(&mut world), (Some(start + 15.0), Some(start + 78.0)));
    assert!(matches!(world.asked.last(), Some(Effect::Release { .. })));
    assert!(world.machine.is_at_rest());
    assert_eq!(
        world.announced.join(" "),
        "STARTING PENDING PENDING BOOTSTRAPPING RUNNING RUNNING COMPLETED RUNNING COMPLETED \
         TERMINATING TERMINATED"
    );
}

#[test]
fn a_failed_step_acts_as_its_request_says() {
    let failed = "TERMINATING STEP_FAILURE Shut down as step failed";
    let errors = "TERMINATING ALL_STEPS_COMPLETED Steps completed with errors";
    for (action, keep_alive, protected, status, steps) in [
        ("TERMINATE_CLUSTER", false, false, failed, "FAILED CANCELLED"),
        ("TERMINATE_JOB_FLOW", true, false, failed, "FAILED CANCELLED"),
        ("TERMINATE_CLUSTER", true, true, "WAITING - -", "FAILED CANCELLED"),
        ("TERMINATE_CLUSTER", false, true, failed, "FAILED CANCELLED"),
        ("CANCEL_AND_WAIT", true, false, "WAITING - -", "FAILED CANCELLED"),
        ("CANCEL_AND_WAIT", false, false, errors, "FAILED CANCELLED"),
        ("CONTINUE", true, false, "RUNNING - -", "FAILED RUNNING"),
    ] {
        let mut world = World::new();
        let change = json!({
            KEEP_ALIVE: keep_alive, "/Instances/TerminationProtected": protected,
        });
        let (id, jobs) = world.run(change, &[action, "CONTINUE"]);
        world.exit(&id, &jobs[0], 1);
        assert_eq!(world.status(&id), status, "{action} {keep_alive} {protected}");
        assert_eq!(world.steps(&id), steps, "{action} {keep_alive} {protected}");
    }
}

#[test]
fn a_cluster_ended_by_a_failed_step_ends_with_errors_or_plainly_if_told_so() {
    for (plain, end) in [
        (false, "TERMINATED_WITH_ERRORS STEP_FAILURE Shut down as step failed"),
        (true, "TERMINATED - -"),
    ] {
        let mut world = World::with(|settings| settings.plain_terminated_on_step_failure = plain);
        let (id, jobs) = world.run(json!({}), &["TERMINATE_CLUSTER"]);
        world.exit(&id, &jobs[0], 3);
        world.pass(3);
        assert_eq!(world.status(&id), end);
    }
}

#[test]
fn failure_details_name_the_log() {
    let mut world = World::new();
    let (id, jobs) = world.run(json!({}), &["CONTINUE"]);
    let now = world.instant();
    let exit = Exit { code: 1, message: Some("ValueError: bad hour".to_owned()) };
    world.machine.process_exited(&id, &jobs[0], exit, now).unwrap();
    let Job::Step(step) = &jobs[0] else { unreachable!("steps were asked for") };
    let answer = world.call("DescribeStep", json!({"ClusterId": id, "StepId": step})).unwrap();
    let status = &answer["Step"]["Status"];
    assert_eq!(
        status["FailureDetails"],
        json!({
            "Reason": "Unknown Error.",
            "Message": "ValueError: bad hour",
            "LogFile": format!("s3://logs/emr/{id}/steps/{step}/stderr.gz"),
        })
    );
    assert_eq!(status["StateChangeReason"], json!({}));
}

#[test]
fn bootstrap_actions_run_in_order_and_a_failed_one_ends_the_cluster() {
    let action = json!({"Name": "b", "ScriptBootstrapAction": {"Path": "s3://code/b.sh"}});
    for (code, status) in [
        (0, "RUNNING - -"),
        (
            1,
            "TERMINATED_WITH_ERRORS BOOTSTRAP_FAILURE On the master instance, bootstrap action 2 \
             returned a non-zero return code",
        ),
    ] {
        let mut world = World::new();
        let id = world.request(json!({"/BootstrapActions": [action, action]}), &["CONTINUE"]);
        world.pass(10);
        assert!(world.asked_to_run(&Job::BootstrapAction(0)));
        assert!(!world.asked_to_run(&Job::BootstrapAction(1)));
        world.pass(60);
        assert_eq!(world.status(&id), "BOOTSTRAPPING - -");
        world.exit(&id, &Job::BootstrapAction(0), 0);
        world.exit(&id, &Job::BootstrapAction(1), code);
        world.pass(3);
        assert_eq!(world.status(&id), status);
    }
}

#[test]
fn cancelling_spares_what_has_ended_and_waits_for_what_runs() {
    let mut world = World::new();
    let change = json!({KEEP_ALIVE: true});
    let (id, jobs) = world.run(change, &["TERMINATE_CLUSTER"; 3]);
    world.exit(&id, &jobs[0], 0);
    let ids: Vec<&String> = jobs
        .iter()
        .filter_map(|job| match job {
            Job::Step(id) => Some(id),
            Job::BootstrapAction(_) => None,
        })
        .collect();
    let answer = world.call("CancelSteps", json!({"ClusterId": id, "StepIds": ids})).unwrap();
    let infos = answer["CancelStepsInfoList"].as_array().unwrap();
    let statuses: Vec<&str> = infos.iter().map(|info| info["Status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["FAILED", "SUBMITTED", "SUBMITTED"]);
    assert_eq!(world.steps(&id), "COMPLETED CANCEL_PENDING CANCELLED");
    assert_eq!(world.asked_to_kill(&jobs[1]), Some(false));
    world.exit(&id, &jobs[1], 143);
    assert_eq!(world.steps(&id), "COMPLETED CANCELLED CANCELLED");
    assert_eq!(world.status(&id), "WAITING - -");

    let unknown = world.call("CancelSteps", json!({"ClusterId": id, "StepIds": ["s-NONE"]}));
    assert_eq!(unknown.unwrap_err().code, "InvalidRequestException");
}

#[test]
fn terminating_kills_what_runs_and_waits_for_its_end() {
    let mut world = World::new();
    let (id, jobs) = world.run(json!({}), &["CONTINUE", "CONTINUE"]);
    world.call("TerminateJobFlows", json!({"JobFlowIds": [id]})).unwrap();
    let status = "USER_REQUEST Terminated by user request";
    assert_eq!(world.steps(&id), "RUNNING CANCELLED");
    assert_eq!(world.asked_to_kill(&jobs[0]), Some(true));
    world.pass(60);
    assert_eq!(world.status(&id), format!("TERMINATING {status}"));
    world.exit(&id, &jobs[0], 137);
    assert_eq!(world.status(&id), format!("TERMINATED {status}"));
    assert_eq!(world.steps(&id), "INTERRUPTED CANCELLED");

    world.call("TerminateJobFlows", json!({"JobFlowIds": [id]})).unwrap();
    assert_eq!(world.status(&id), format!("TERMINATED {status}"));
    let late = world.call("AddJobFlowSteps", json!({"JobFlowId": id, "Steps": [step("CONTINUE")]}));
    assert!(late.unwrap_err().message.contains("may not be modified"));
}

#[test]
fn termination_protection_holds_until_it_is_lifted() {
    let mut world = World::new();
    let change = json!({KEEP_ALIVE: true, "/Instances/TerminationProtected": true});
    let (id, _) = world.run(change, &[]);
    let terminate = json!({"JobFlowIds": [id]});
    let refusal = world.call("TerminateJobFlows", terminate.clone()).unwrap_err();
    assert_eq!(refusal.code, "ValidationException");
    assert_eq!(world.status(&id), "WAITING - -");
    let lift = json!({"JobFlowIds": [id], "TerminationProtected": false});
    world.call("SetTerminationProtection", lift).unwrap();
    world.call("TerminateJobFlows", terminate).unwrap();
    assert_eq!(world.status(&id), "TERMINATING USER_REQUEST Terminated by user request");
}

#[test]
fn an_idle_cluster_ends_by_its_policy_and_work_resets_the_wait() {
    let mut world = World::new();
    let change = json!({KEEP_ALIVE: true, "/AutoTerminationPolicy": {"IdleTimeout": 60}});
    let (id, _) = world.run(change, &[]);
    world.pass(59);
    let add = json!({"JobFlowId": id, "Steps": [step("CONTINUE")]});
    world.call("AddJobFlowSteps", add).unwrap();
    assert_eq!(world.status(&id), "RUNNING - -");
    let job = Job::Step(world.machine.cluster(&id).unwrap().steps[0].id.clone());
    world.pass(600);
    world.exit(&id, &job, 0);
    world.pass(59);
    assert_eq!(world.status(&id), "WAITING - -");
    world.pass(1);
    assert!(world.status(&id).starts_with("TERMINATING"));
}

#[test]
fn policies_can_be_read_changed_and_removed() {
    let mut world = World::new();
    let (id, _) = world.run(json!({KEEP_ALIVE: true}), &[]);
    let of = json!({"ClusterId": id});
    let policy = json!({"ClusterId": id, "AutoTerminationPolicy": {"IdleTimeout": 90}});
    world.call("PutAutoTerminationPolicy", policy.clone()).unwrap();
    let answer = world.call("GetAutoTerminationPolicy", of.clone()).unwrap();
    assert_eq!(answer, json!({"AutoTerminationPolicy": {"IdleTimeout": 90}}));
    world.call("RemoveAutoTerminationPolicy", of.clone()).unwrap();
    assert_eq!(world.call("GetAutoTerminationPolicy", of).unwrap(), json!({}));
    let bad = json!({"ClusterId": id, "AutoTerminationPolicy": {"IdleTimeout": 59}});
    assert_eq!(
        world.call("PutAutoTerminationPolicy", bad).unwrap_err().code,
        "ValidationException"
    );

    let keep = json!({"JobFlowIds": [id], "KeepJobFlowAliveWhenNoSteps": false});
    world.call("SetKeepJobFlowAliveWhenNoSteps", keep).unwrap();
    assert!(world.status(&id).starts_with("TERMINATING ALL_STEPS_COMPLETED"));
}

#[test]
fn concurrent_steps_run_side_by_side_and_must_continue_on_failure() {
    let mut world = World::new();
    let change = json!({"/StepConcurrencyLevel": 2});
    let (id, jobs) = world.run(change, &["CONTINUE"; 3]);
    assert_eq!(world.steps(&id), "RUNNING RUNNING PENDING");
    world.exit(&id, &jobs[1], 1);
    assert_eq!(world.steps(&id), "RUNNING FAILED RUNNING");
    let add = json!({"JobFlowId": id, "Steps": [step("TERMINATE_CLUSTER")]});
    let refusal = world.call("AddJobFlowSteps", add).unwrap_err();
    assert!(refusal.message.contains("stepConcurrencyLevel"), "{refusal}");
}

#[test]
fn no_more_than_256_steps_are_active() {
    let mut world = World::new();
    let (id, jobs) = world.run(json!({KEEP_ALIVE: true}), &["CONTINUE"; 256]);
    let add = json!({"JobFlowId": id, "Steps": [step("CONTINUE")]});
    let refusal = world.call("AddJobFlowSteps", add.clone()).unwrap_err();
    assert!(refusal.message.starts_with("Maximum number of active steps"));
    world.exit(&id, &jobs[0], 0);
    world.call("AddJobFlowSteps", add).unwrap();
}

#[test]
fn a_shutdown_from_within_ends_even_a_protected_cluster_with_errors() {
    let mut world = World::new();
    let change = json!({KEEP_ALIVE: true, "/Instances/TerminationProtected": true});
    let (id, _) = world.run(change, &[]);
    let now = world.instant();
    let soon = Some(now.dev + SignedDuration::from_mins(5));
    world.machine.schedule_shutdown(&id, soon, now).unwrap();
    world.machine.schedule_shutdown(&id, None, now).unwrap();
    world.pass(600);
    assert_eq!(world.status(&id), "WAITING - -");
    let now = world.instant();
    world.machine.schedule_shutdown(&id, Some(now.dev), now).unwrap();
    world.pass(3);
    assert!(world.status(&id).starts_with("TERMINATED_WITH_ERRORS INSTANCE_FAILURE"));
}

#[test]
fn a_simulator_can_take_a_cluster_away() {
    let mut world = World::new();
    let id = world.request(json!({}), &["CONTINUE"]);
    let now = world.instant();
    let reason = Reason::new(ReasonCode::InstanceFleetTimeout, "no capacity");
    world.machine.fail_cluster(&id, reason, now).unwrap();
    world.pass(3);
    assert_eq!(world.status(&id), "TERMINATED_WITH_ERRORS INSTANCE_FLEET_TIMEOUT no capacity");
    assert_eq!(world.steps(&id), "CANCELLED");
}

#[test]
fn lists_come_newest_first_in_pages_and_by_filter() {
    let mut world = World::new();
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..120 {
        ids.push(world.request(json!({}), &[]));
        world.now += SignedDuration::from_secs(1);
    }
    let listed = |world: &mut World, query: &Value| {
        let (mut found, mut query) = (Vec::new(), query.clone());
        loop {
            let answer = world.call("ListClusters", query.clone()).unwrap();
            let page = answer["Clusters"].as_array().unwrap();
            assert!(page.len() <= 50);
            assert!(page.iter().all(|summary| summary.get("Tags").is_none()));
            found.extend(page.iter().map(|s| s["Id"].as_str().unwrap().to_owned()));
            match answer.get("Marker") {
                Some(marker) => query["Marker"] = marker.clone(),
                None => return found,
            }
        }
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(listed(&mut world, &json!({})), newest_first);
    let start = 1_357_016_400.0;
    let between = json!({"CreatedAfter": start + 10.0, "CreatedBefore": start + 70.5});
    assert_eq!(listed(&mut world, &between), newest_first[49..110]);
    world.call("TerminateJobFlows", json!({"JobFlowIds": [ids[3]]})).unwrap();
    let ending = json!({"ClusterStates": ["TERMINATING", "TERMINATED"]});
    assert_eq!(listed(&mut world, &ending), [ids[3].clone()]);
    let bad = world.call("ListClusters", json!({"Marker": "x"})).unwrap_err();
    assert_eq!(bad.code, "InvalidRequestException");
}

#[test]
fn steps_are_listed_by_id_and_state() {
    let mut world = World::new();
    let (id, jobs) = world.run(json!({}), &["CONTINUE"; 60]);
    let Job::Step(third) = &jobs[2] else { unreachable!("steps were asked for") };
    let by_id = world.call("ListSteps", json!({"ClusterId": id, "StepIds": [third]})).unwrap();
    assert_eq!(by_id["Steps"].as_array().unwrap().len(), 1);
    assert_eq!(by_id["Steps"][0]["Id"], json!(third));
    let page = world.call("ListSteps", json!({"ClusterId": id})).unwrap();
    let rest = json!({"ClusterId": id, "Marker": page["Marker"]});
    let rest = world.call("ListSteps", rest).unwrap();
    assert_eq!(rest["Steps"].as_array().unwrap().len(), 10);
    assert_eq!(rest["Steps"][9]["Status"]["State"], "RUNNING");
    let running = json!({"ClusterId": id, "StepStates": ["RUNNING"]});
    let running = world.call("ListSteps", running).unwrap();
    assert_eq!(running["Steps"].as_array().unwrap().len(), 1);
    for (query, code) in [
        (json!({"ClusterId": id, "StepIds": vec![third; 11]}), "ValidationException"),
        (json!({"ClusterId": id, "StepIds": ["s-NONE"]}), "InvalidRequestException"),
        (json!({"ClusterId": "j-NONE"}), "InvalidRequestException"),
        (json!({"ClusterId": id, "StepStates": ["DONE"]}), "ValidationException"),
    ] {
        assert_eq!(world.call("ListSteps", query).unwrap_err().code, code);
    }
}

#[test]
fn describing_shows_the_request_again_and_tags_change() {
    let mut world = World::new();
    let (id, _) = world.run(json!({KEEP_ALIVE: true}), &[]);
    let add = json!({"ResourceId": id, "Tags": [{"Key": "cost", "Value": "5"}]});
    world.call("AddTags", add).unwrap();
    world.call("RemoveTags", json!({"ResourceId": id, "TagKeys": ["run"]})).unwrap();
    let cluster = world.describe(&id);
    for (member, value) in [
        ("Name", json!("hourly")),
        ("ReleaseLabel", json!("emr-7.13.0")),
        ("AutoTerminate", json!(false)),
        ("TerminationProtected", json!(false)),
        ("InstanceCollectionType", json!("INSTANCE_FLEET")),
        ("LogUri", json!("s3://logs/emr/")),
        ("Tags", json!([{"Key": "cost", "Value": "5"}])),
        (
            "ClusterArn",
            json!(format!("arn:aws:elasticmapreduce:us-east-1:000000000000:cluster/{id}")),
        ),
    ] {
        assert_eq!(cluster[member], value, "{member}");
    }
    let of = json!({"ClusterId": id});
    let fleets = world.call("ListInstanceFleets", of.clone()).unwrap();
    assert_eq!(fleets["InstanceFleets"][1]["ProvisionedSpotCapacity"], 4);
    let core = json!({"ClusterId": id, "InstanceFleetType": "CORE"});
    let core = world.call("ListInstances", core).unwrap();
    assert_eq!(core["Instances"].as_array().unwrap().len(), 2);
    assert_eq!(core["Instances"][0]["InstanceFleetId"], fleets["InstanceFleets"][1]["Id"]);
    assert_eq!(world.call("ListInstanceGroups", of).unwrap()["InstanceGroups"], json!([]));
}

#[test]
fn ids_look_like_emrs_and_repeat_for_a_seed() {
    let (mut one, mut two) = (World::new(), World::new());
    let id = one.request(json!({}), &["CONTINUE"]);
    assert_eq!(id, two.request(json!({}), &["CONTINUE"]));
    assert_ne!(id, one.request(json!({}), &["CONTINUE"]));
    let (prefix, rest) = id.split_at(2);
    assert_eq!((prefix, rest.len()), ("j-", 13));
    assert!(rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
}

#[test]
fn an_exit_nobody_waits_for_is_refused() {
    let mut world = World::new();
    let (id, jobs) = world.run(json!({}), &["CONTINUE"]);
    world.exit(&id, &jobs[0], 0);
    let now = world.instant();
    assert!(world.machine.process_exited(&id, &jobs[0], Exit::with_code(0), now).is_err());
}
