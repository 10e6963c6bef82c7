//! The local EMR with real processes: what steps see, how they end, what they
//! leave behind. No Spark here: these tests need no Python environment.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sluicegate_local::clock::Clock;
use sluicegate_local::wire::Request;
use sluicegate_local::{LocalAws, Options, emr};

const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    aws: LocalAws,
    _data: tempfile::TempDir,
}

impl World {
    async fn new(change: impl FnOnce(&mut Options)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut options = Options {
            data: Some(data.path().to_owned()),
            emr: emr::Options {
                starting: Duration::ZERO,
                terminating: Duration::ZERO,
                ..emr::Options::default()
            },
            ..Options::default()
        };
        change(&mut options);
        let world = Self { aws: LocalAws::start(options).await.unwrap(), _data: data };
        for bucket in ["logs", "code"] {
            fs::create_dir_all(world.bucket(bucket)).unwrap();
        }
        world
    }

    fn bucket(&self, name: &str) -> PathBuf {
        self.aws.cloud().s3().root().join(name)
    }

    fn call(&self, action: &str, body: Value) -> Value {
        self.aws.cloud().emr().call(action, body).unwrap()
    }

    /// Starts a cluster that stays, and returns its id with its steps'.
    fn run(&self, steps: &[Value], bootstrap_actions: &[&str]) -> (String, Vec<String>) {
        let actions = bootstrap_actions.iter().map(
            |path| json!({"Name": "b", "ScriptBootstrapAction": {"Path": path, "Args": ["one"]}}),
        );
        let answer = self.call(
            "RunJobFlow",
            json!({
                "Name": "test", "ReleaseLabel": "emr-7.13.0", "LogUri": "s3://logs/emr/",
                "ServiceRole": "EMR_DefaultRole", "JobFlowRole": "EMR_EC2_DefaultRole",
                "BootstrapActions": actions.collect::<Vec<_>>(),
                "Steps": steps,
                "Instances": {
                    "KeepJobFlowAliveWhenNoSteps": true,
                    "MasterInstanceType": "m5.xlarge", "InstanceCount": 1,
                },
            }),
        );
        let id = answer["JobFlowId"].as_str().unwrap().to_owned();
        let steps = self.call("ListSteps", json!({"ClusterId": id}));
        let steps = steps["Steps"].as_array().unwrap().iter().rev();
        let steps = steps.map(|step| step["Id"].as_str().unwrap().to_owned());
        (id, steps.collect())
    }

    fn step(&self, cluster: &str, step: &str) -> Value {
        let of = json!({"ClusterId": cluster, "StepId": step});
        self.call("DescribeStep", of)["Step"]["Status"].take()
    }

    fn cluster(&self, id: &str) -> Value {
        self.call("DescribeCluster", json!({"ClusterId": id}))["Cluster"]["Status"].take()
    }

    async fn step_is(&self, cluster: &str, step: &str, state: &str) {
        let what = format!("step {state}");
        eventually(&what, || (self.step(cluster, step)["State"] == state).then_some(())).await;
    }

    async fn cluster_is(&self, id: &str, state: &str) {
        let what = format!("cluster {state}");
        eventually(&what, || (self.cluster(id)["State"] == state).then_some(())).await;
    }

    async fn log(&self, cluster: &str, step: &str, name: &str) -> String {
        let path = format!("emr/{cluster}/steps/{step}/{name}.gz");
        let path = self.bucket("logs").join(path);
        eventually(&path.display().to_string(), || unzip(&path)).await
    }
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let found = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(DEADLINE, found).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

fn unzip(path: &Path) -> Option<String> {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path).ok()?).read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_running(pid: &str) -> bool {
    // A zombie has ended, but still has an entry.
    let stat = format!("/proc/{}/stat", pid.trim());
    fs::read_to_string(stat).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn all_end(pids: &[String]) {
    let ended = || (!pids.iter().any(|pid| is_running(pid))).then_some(());
    eventually("the end of all processes", ended).await;
}

fn bash(script: &str) -> Value {
    command(&["bash", "-c", script], "CONTINUE")
}

fn command(args: &[&str], action_on_failure: &str) -> Value {
    json!({
        "Name": "step", "ActionOnFailure": action_on_failure,
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": args},
    })
}

#[tokio::test]
async fn a_step_sees_its_cluster_and_nothing_of_the_person() {
    let world = World::new(|_| {}).await;
    let script = "cat $SLUICEGATE_JOB_FLOW_JSON; echo; echo $AWS_ENDPOINT_URL; env | cut -d= -f1; \
                  echo oops >&2; touch left-here";
    let (id, steps) = world.run(&[bash(script)], &[]);
    world.step_is(&id, &steps[0], "COMPLETED").await;
    let stdout = world.log(&id, &steps[0], "stdout").await;
    let mut lines = stdout.lines();
    let job_flow: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(job_flow, json!({ "jobFlowId": id }));
    assert_eq!(lines.next(), Some(world.aws.endpoint()));
    // Cargo sets this one for the test itself.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!lines.any(|name| name.starts_with("CARGO")));
    assert_eq!(world.log(&id, &steps[0], "stderr").await, "oops\n");
    assert!(world.log(&id, &steps[0], "controller").await.contains("startExec 'bash -c"));
    let work = world.aws.data().join(format!("emr/{id}/steps/{}/work/left-here", steps[0]));
    assert!(work.exists());
    world.cluster_is(&id, "WAITING").await;
}

#[tokio::test]
async fn a_failing_step_tells_why_and_ends_its_cluster() {
    let world = World::new(|_| {}).await;
    let steps = [
        command(&["bash", "-c", "echo 'ValueError: bad hour' >&2; exit 3"], "TERMINATE_CLUSTER"),
        bash("touch never"),
    ];
    let (id, steps) = world.run(&steps, &[]);
    world.cluster_is(&id, "TERMINATED_WITH_ERRORS").await;
    let status = world.step(&id, &steps[0]);
    assert_eq!(status["State"], "FAILED");
    assert_eq!(status["FailureDetails"]["Message"], "ValueError: bad hour");
    let log = format!("s3://logs/emr/{id}/steps/{}/stderr.gz", steps[0]);
    assert_eq!(status["FailureDetails"]["LogFile"], log);
    assert_eq!(world.step(&id, &steps[1])["State"], "CANCELLED");
    assert_eq!(world.log(&id, &steps[0], "stderr").await, "ValueError: bad hour\n");
}

#[tokio::test]
async fn steps_that_cannot_start_fail_clearly() {
    let world = World::new(|_| {}).await;
    let jar = json!({"Name": "jar", "ActionOnFailure": "CONTINUE",
        "HadoopJarStep": {"Jar": "s3://code/none.jar"}});
    let steps = [
        command(&["no-such-command"], "CONTINUE"),
        command(&["spark-submit", "s3://code/etl.py"], "CONTINUE"),
        jar,
    ];
    let (id, steps) = world.run(&steps, &[]);
    for (step, text) in steps.iter().zip([
        "cannot run no-such-command",
        "started without its Python environment",
        "no such object: s3://code/none.jar",
    ]) {
        world.step_is(&id, step, "FAILED").await;
        let message = world.step(&id, step)["FailureDetails"]["Message"].take();
        assert!(message.as_str().unwrap().contains(text), "{message}");
        assert!(world.log(&id, step, "stderr").await.contains(text));
    }
}

/// Starts a step with a child of its own and returns their process ids.
async fn long_step(world: &World, script: &str) -> (String, String, Vec<String>) {
    let (id, steps) = world.run(&[bash(script)], &[]);
    let pids = world.aws.data().join(format!("emr/{id}/steps/{}/work/pids", steps[0]));
    let pids = eventually("the step's processes", || {
        let text = fs::read_to_string(&pids).ok()?;
        let pids: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        (pids.len() == 2).then_some(pids)
    })
    .await;
    assert!(pids.iter().all(|pid| is_running(pid)));
    (id, steps.into_iter().next().unwrap(), pids)
}

#[tokio::test]
async fn a_cancelled_step_is_asked_first_and_its_children_end_too() {
    let world = World::new(|_| {}).await;
    let script = "trap 'echo asked; exit 1' TERM; sleep 600 & echo $$ $! > pids; wait";
    let (id, step, pids) = long_step(&world, script).await;
    let answer = world.call("CancelSteps", json!({"ClusterId": id, "StepIds": [step]}));
    assert_eq!(answer["CancelStepsInfoList"][0]["Status"], "SUBMITTED");
    world.step_is(&id, &step, "CANCELLED").await;
    assert_eq!(world.log(&id, &step, "stdout").await, "asked\n");
    all_end(&pids).await;
    world.cluster_is(&id, "WAITING").await;
}

#[tokio::test]
async fn terminating_a_cluster_kills_even_a_stubborn_step() {
    let world = World::new(|_| {}).await;
    let script = "trap '' TERM; sleep 600 & echo $$ $! > pids; wait; sleep 600";
    let (id, step, pids) = long_step(&world, script).await;
    world.call("TerminateJobFlows", json!({"JobFlowIds": [id]}));
    world.cluster_is(&id, "TERMINATED").await;
    assert_eq!(world.step(&id, &step)["State"], "INTERRUPTED");
    all_end(&pids).await;
}

#[tokio::test]
async fn shutting_down_the_local_aws_kills_what_runs() {
    let world = World::new(|_| {}).await;
    let (_, _, pids) = long_step(&world, "sleep 600 & echo $$ $! > pids; wait").await;
    world.aws.shutdown().await;
    all_end(&pids).await;
}

#[tokio::test]
async fn what_a_bootstrap_action_leaves_running_lives_as_long_as_the_cluster() {
    let world = World::new(|_| {}).await;
    let script = "cd $SLUICEGATE_CLUSTER_DIR; echo $1 > argument\n\
                  nohup sleep 600 >/dev/null 2>&1 & echo $! > nohup\n\
                  setsid sh -c 'echo $$ > escaped; exec sleep 600' &\n\
                  until [ -s escaped ]; do sleep 0.01; done\n";
    fs::write(world.bucket("code").join("bootstrap.sh"), script).unwrap();
    let (id, steps) = world.run(&[bash("true")], &["s3://code/bootstrap.sh"]);
    world.step_is(&id, &steps[0], "COMPLETED").await;
    let folder = world.aws.data().join(format!("emr/{id}"));
    assert_eq!(fs::read_to_string(folder.join("argument")).unwrap(), "one\n");
    let pids = ["nohup", "escaped"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
    assert!(pids.iter().all(|pid| is_running(pid)));
    world.call("TerminateJobFlows", json!({"JobFlowIds": [id]}));
    world.cluster_is(&id, "TERMINATED").await;
    all_end(&pids).await;
}

#[tokio::test]
async fn a_failing_bootstrap_action_ends_the_cluster_and_leaves_its_logs() {
    let world = World::new(|_| {}).await;
    fs::write(world.bucket("code").join("bad.sh"), "echo no disk >&2; exit 1").unwrap();
    let (id, _) = world.run(&[bash("true")], &["s3://code/bad.sh"]);
    world.cluster_is(&id, "TERMINATED_WITH_ERRORS").await;
    assert_eq!(world.cluster(&id)["StateChangeReason"]["Code"], "BOOTSTRAP_FAILURE");
    let instances = world.call("ListInstances", json!({"ClusterId": id}));
    let node = instances["Instances"][0]["Ec2InstanceId"].as_str().unwrap();
    let log = format!("emr/{id}/node/{node}/bootstrap-actions/1/stderr.gz");
    let log = world.bucket("logs").join(log);
    assert_eq!(eventually("its log", || unzip(&log)).await, "no disk\n");
}

#[tokio::test]
async fn shutdown_ends_the_cluster_and_not_the_machine() {
    for order in ["sudo shutdown -h now", "poweroff", "sudo -n reboot"] {
        let world = World::new(|_| {}).await;
        let (id, steps) = world.run(&[bash(&format!("{order}; sleep 600"))], &[]);
        world.cluster_is(&id, "TERMINATED_WITH_ERRORS").await;
        assert_eq!(world.cluster(&id)["StateChangeReason"]["Code"], "INSTANCE_FAILURE");
        assert_eq!(world.step(&id, &steps[0])["State"], "INTERRUPTED");
    }
}

#[tokio::test]
async fn date_sleep_and_shutdown_follow_the_development_clock() {
    let start = "2013-01-01T05:00:00Z".parse().unwrap();
    let world = World::new(|options| options.clock = Clock::starting_at(start, 600.0)).await;
    let (id, steps) = world.run(&[bash("date -u +%Y; sleep 10m; shutdown +10; sleep 600m")], &[]);
    // 10 and then 10 minutes of the development clock are 2 real seconds.
    world.cluster_is(&id, "TERMINATED_WITH_ERRORS").await;
    assert!(world.log(&id, &steps[0], "stdout").await.starts_with("2013\n"));
}

#[tokio::test]
async fn output_is_notified_before_its_step_completes() {
    let world = World::new(|_| {}).await;
    let cloud = world.aws.cloud();
    let (region, queue) = ("us-east-1", "arn:aws:sqs:us-east-1:000000000000:events");
    let created = cloud.sqs().call("CreateQueue", json!({"QueueName": "events"}), region).await;
    let url = created.unwrap()["QueueUrl"].take();
    let rule = json!({"Name": "all", "EventPattern": json!({"source": ["aws.s3", "aws.emr"]}).to_string()});
    cloud.events().call("PutRule", rule, region).unwrap();
    let target = json!({"Rule": "all", "Targets": [{"Id": "1", "Arn": queue}]});
    cloud.events().call("PutTargets", target, region).unwrap();
    let configuration =
        "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>";
    let enabled = cloud
        .handle(Request {
            method: http::Method::PUT,
            uri: "/code?notification".parse().unwrap(),
            headers: http::HeaderMap::new(),
            body: configuration.into(),
        })
        .await;
    assert_eq!(enabled.status(), 200);

    let out = world.bucket("code").join("out");
    let (id, steps) = world.run(&[bash(&format!("echo 1 > '{}'", out.display()))], &[]);
    world.step_is(&id, &steps[0], "COMPLETED").await;
    let mut seen = Vec::new();
    while !seen.contains(&format!("step COMPLETED {}", steps[0])) {
        let receive = json!({"QueueUrl": url, "MaxNumberOfMessages": 1, "WaitTimeSeconds": 10});
        let mut answer = cloud.sqs().call("ReceiveMessage", receive, region).await.unwrap();
        let message = answer["Messages"][0].take();
        let event: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
        let detail = &event["detail"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        seen.push(match event["detail-type"].as_str().unwrap() {
            "EMR Step Status Change" => {
                format!("step {} {}", text(&detail["state"]), text(&detail["stepId"]))
            }
            "Object Created" => format!("object {}", text(&detail["object"]["key"])),
            _ => continue,
        });
    }
    let step = |state: &str| format!("step {state} {}", steps[0]);
    let object = "object out".to_owned();
    assert_eq!(seen, [step("PENDING"), step("RUNNING"), object, step("COMPLETED")]);
}

#[tokio::test]
async fn logs_can_come_late() {
    let world = World::new(|options| options.emr.log_delay = Duration::from_secs(3600)).await;
    let (id, steps) = world.run(&[bash("echo hello")], &[]);
    world.step_is(&id, &steps[0], "COMPLETED").await;
    let log = format!("emr/{id}/steps/{}/stdout.gz", steps[0]);
    let log = world.bucket("logs").join(log);
    assert!(!log.exists());
    // What is on its way when everything ends still arrives.
    world.aws.shutdown().await;
    assert_eq!(unzip(&log).as_deref(), Some("hello\n"));
}
