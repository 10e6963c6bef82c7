//! What the daemon sends: a configuration that uses every field of a profile
//! and every kind of step, as requests on the wire. tests/models holds the same
//! requests against the service models.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};
use sluicegate_local::Options;
use sluicegate_local::emr::model::{Reason, ReasonCode};
use tokio::process::Command;

use crate::world::{BUCKET, Mail, World, daily_file, daily_task, requests_file};

/// Cargo sets it for every test; here it stands for a secret.
const VARIABLE: &str = "CARGO_PKG_DESCRIPTION";
const SECRET: &str = env!("CARGO_PKG_DESCRIPTION");

const PROFILES: &str = r#"
[profiles.fleets]
batch-size = 1
lifetime = "3h"
max-attempts = 2
idle-timeout = "30m"
step-concurrency = 1
guard = false
release-label = "emr-7.13.0"
os-release-label = "2023.7.20250609.0"
applications = ["Spark", "Hive"]
service-role = "service"
instance-profile = "ec2"
log-uri = "s3://landing/logs/"
log-encryption-key = "arn:aws:kms:us-east-1:111122223333:key/k"
visible-to-all-users = false
subnets = ["subnet-1", "subnet-2"]
security-groups = { primary = "sg-1", core-and-task = "sg-2", service-access = "sg-3", additional-primary = ["sg-4"], additional-core-and-task = ["sg-5"] }
key-name = "operators"
root-volume-gib = 32
root-volume-iops = 3500
root-volume-throughput = 250
primary = { instance-types = ["m5.xlarge"], on-demand = 1, on-demand-strategy = "lowest-price" }
managed-scaling = { unit = "instance-fleet-units", minimum = 2, maximum = 20, maximum-on-demand = 4, maximum-core = 8 }
scale-down = "terminate-at-task-completion"
unhealthy-node-replacement = true
security-configuration = "kerberized"
tags = { cost-center = "analytics", "with space" = "" }

[profiles.fleets.core]
instance-types = [
  "m5.xlarge",
  { type = "m5.2xlarge", weight = 2, bid-percent = 60, priority = 1 },
  { type = "m5a.xlarge", bid-price = "0.15", ebs = [{ type = "io1", size-gib = 50, iops = 1000 }] },
]
on-demand = 2
spot = 4
on-demand-strategy = "prioritized"
spot-strategy = "capacity-optimized-prioritized"
spot-timeout = "20m"
spot-timeout-action = "terminate-cluster"
ebs = [{ type = "gp3", size-gib = 100, iops = 3000, throughput = 125, count = 2 }]

[profiles.fleets.task]
instance-types = ["c5.xlarge"]
spot = 2

[profiles.fleets.configurations]
spark-defaults = { "spark.sql.shuffle.partitions" = "64" }
hadoop-env.export = { JAVA_HOME = "/usr/lib/jvm/java-17" }

[[profiles.fleets.bootstrap-actions]]
name = "prepare"
script = "s3://landing/code/prepare.sh"
args = ["one", "two words"]

[profiles.fleets.kerberos]
realm = "EC2.INTERNAL"
kdc-admin-password = { env = "VARIABLE" }
cross-realm-trust-password = { env = "VARIABLE" }
ad-domain-join-user = "joiner"
ad-domain-join-password = { env = "VARIABLE" }

[profiles.groups]
batch-size = 2
step-concurrency = 2
guard = false
release-label = "emr-7.13.0"
service-role = "service"
instance-profile = "ec2"
subnets = ["subnet-1"]
custom-ami = "ami-0123456789abcdef0"
managed-scaling = { unit = "vcpu", minimum = 4, maximum = 64 }

[profiles.groups.groups]
primary = { instance-type = "m5.xlarge" }
core = { instance-type = "m5.xlarge", count = 2, ebs = [{ type = "gp2", size-gib = 64 }] }
task = { instance-type = "m5.xlarge", count = 3, market = "spot", bid-price = "0.10" }
"#;

/// One step of each kind, the first of which fails and is tried again.
const STEPS: &str = r#"
[tasks.kinds]
profile = "fleets"
partition = "day"
inputs = [{ dataset = "a" }]
outputs = ["out"]

[[tasks.kinds.steps]]
name = "shell"
kind = "command"
args = ["bash", "-c", "echo {input.a} of {attempt} >&2; exit 3", "bash", "{output.out}"]
retry = { attempts = 1, delay = "1s" }

[[tasks.kinds.steps]]
name = "spark"
kind = "spark-submit"
options = ["--deploy-mode", "cluster"]
script = "s3://landing/code/etl.py"
args = ["--input", "{input.a}", "--attempt", "{attempt}", "--json", '{{"day": "{partition}"}}']

[[tasks.kinds.steps]]
name = "hive"
kind = "hive"
script = "s3://landing/code/report.hql"
variables = { DAY = "{partition}", OUTPUT = "{output.out}" }

[[tasks.kinds.steps]]
name = "hive-script"
kind = "hive"
form = "hive-script"
script = "s3://landing/code/report.hql"
variables = { DAY = "{partition}" }

[[tasks.kinds.steps]]
name = "old-form"
kind = "command"
args = ["hive-script", "--run-hive-script", "--args", "-f", "s3://landing/code/report.hql", "-d", "DAY={partition}"]

[[tasks.kinds.steps]]
name = "oldest-form"
kind = "jar"
jar = "s3://us-east-1.elasticmapreduce/libs/script-runner/script-runner.jar"
args = ["s3://us-east-1.elasticmapreduce/libs/hive/hive-script", "--run-hive-script", "--args", "-f", "s3://landing/code/report.hql"]

[[tasks.kinds.steps]]
name = "jar"
kind = "jar"
jar = "s3://landing/code/app.jar"
main-class = "com.example.Main"
args = ["{task}", "{run}"]
"#;

fn configuration() -> String {
    let output = format!(
        "[datasets.out]\nlocation = \"s3://{BUCKET}/out/{{yyyy}}/dt={{yyyy}}-{{MM}}-{{dd}}/\"\n"
    );
    let beside =
        [("x", "a"), ("y", "b")].map(|(name, input)| daily_task(name, &[input], "true")).concat();
    let beside = beside.replace("profile = \"p\"", "profile = \"groups\"");
    PROFILES.replace("VARIABLE", VARIABLE)
        + &daily_file("a")
        + &daily_file("b")
        + &output
        + STEPS
        + &beside
}

#[tokio::test]
async fn a_configuration_of_every_field_is_sent_as_emr_takes_it() {
    let file = requests_file(Some("every-field"));
    let options = Options { requests: Some(file.clone()), ..Options::default() };
    let mut world = World::with(&configuration(), options).await;
    // As a process of its own, all of whose log is kept.
    world.kill().await;
    let (config, log) = (world.config_file(), tempfile::NamedTempFile::new().unwrap());
    let written = log.reopen().unwrap();
    let _daemon = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["run", "--local", world.local.endpoint(), "--config"])
        .arg(config.path())
        .env("RUST_LOG", "trace")
        .env("SLUICEGATE_HTTP", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(written.try_clone().unwrap())
        .stderr(written)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    world.put("code/prepare.sh", "true").await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("kinds/2013-01-01/failed").await;
    // The order in a batch is that of becoming ready.
    world.mail("x/2013-01-01/ready").await;
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("x/2013-01-01/succeeded").await;
    world.mail("y/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 2);

    let log = fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("ElasticMapReduce.RunJobFlow"), "the SDK's trace is in the log");
    assert!(!log.contains(SECRET), "a secret was logged");

    let sent = fs::read_to_string(&file).unwrap();
    let bodies = |action: &str| -> Vec<Value> {
        let lines = sent.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_action = lines.filter(|line| line["action"] == action);
        of_action
            .map(|line| serde_json::from_str(line["body"].as_str().unwrap()).unwrap())
            .collect()
    };
    let mut launches = bodies("RunJobFlow");
    launches.sort_by_key(|body| body["Instances"]["InstanceGroups"].is_array());
    let added = bodies("AddJobFlowSteps");
    assert_eq!((launches.len(), added.len()), (2, 1));
    insta::assert_snapshot!("fleets", steady(&launches[0]));
    insta::assert_snapshot!("groups", steady(&launches[1]));
    // The failed step again, and what its failure cancelled.
    let names = |steps: &Value| -> Vec<String> {
        let steps = steps.as_array().unwrap().iter();
        steps.map(|step| step["Name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&added[0]["Steps"])[0], "kinds/2013-01-01/shell/8");
    shows_what_was_asked(&world);
}

/// The request without what differs from run to run.
fn steady(body: &Value) -> String {
    let mut text = serde_json::to_string_pretty(body).unwrap();
    let name = body["Name"].as_str().unwrap();
    let run = name.split('/').nth(1).unwrap();
    text = text.replace(run, "RUN");
    for tag in body["Tags"].as_array().unwrap() {
        if tag["Key"] == "sluicegate:expires-at" {
            text = text.replace(tag["Value"].as_str().unwrap(), "EXPIRES");
        }
    }
    text
}

/// The local EMR gives back what it was asked for, as EMR does.
fn shows_what_was_asked(world: &World) {
    let emr = world.local.cloud().emr();
    let call = |action: &str, body: Value| emr.call(action, body).unwrap();
    let clusters = call("ListClusters", json!({}));
    for cluster in clusters["Clusters"].as_array().unwrap() {
        let of = json!({"ClusterId": cluster["Id"]});
        let shown = &call("DescribeCluster", of.clone())["Cluster"];
        let policy = call("GetManagedScalingPolicy", of.clone());
        let limits = &policy["ManagedScalingPolicy"]["ComputeLimits"];
        if shown["InstanceCollectionType"] == "INSTANCE_FLEET" {
            assert_eq!(shown["KerberosAttributes"]["Realm"], "EC2.INTERNAL");
            assert!(!shown.to_string().contains(SECRET), "{shown}");
            assert_eq!(shown["EbsRootVolumeThroughput"], 250);
            assert_eq!(limits["MaximumCoreCapacityUnits"], 8);
            let fleets = call("ListInstanceFleets", of);
            let core = &fleets["InstanceFleets"][1];
            let devices = &core["InstanceTypeSpecifications"][0]["EbsBlockDevices"];
            assert_eq!(devices.as_array().unwrap().len(), 2);
            let spot = &core["LaunchSpecifications"]["SpotSpecification"];
            assert_eq!(spot["AllocationStrategy"], "capacity-optimized-prioritized");
        } else {
            assert_eq!(shown["StepConcurrencyLevel"], 2);
            assert_eq!(shown["CustomAmiId"], "ami-0123456789abcdef0");
            assert_eq!(limits["UnitType"], "VCPU");
            let groups = call("ListInstanceGroups", of);
            assert_eq!(groups["InstanceGroups"][2]["Market"], "SPOT");
        }
    }
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    let profile = "[profiles.k]\nguard = false\nrelease-label = \"emr-7.13.0\"\nservice-role = \"s\"\n\
        instance-profile = \"i\"\nsecurity-configuration = \"kerberized\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n\
        kerberos = { realm = \"R\", kdc-admin-password = { env = \"SLUICEGATE_NOT_THERE\" } }\n";
    let task = daily_task("t", &["a"], "true").replace("profile = \"p\"", "profile = \"k\"");
    let world = World::new(&(profile.to_owned() + &daily_file("a") + &task)).await;
    world.put("a/2013-01-01.csv", "1").await;
    let mail = world.mail("t/2013-01-01/failed").await;
    let said = "profile k needs the environment variable SLUICEGATE_NOT_THERE";
    assert!(unfolded(&mail).contains(said), "{}", mail.text);
    assert_eq!(world.clusters_ended().await, 0);
}

/// The mail without its soft line breaks.
fn unfolded(mail: &Mail) -> String {
    mail.text.replace("\r\n", "\n").replace("=\n", "")
}

/// A step too long for EMR fails its own partition; the batch goes ahead.
#[tokio::test]
async fn a_step_that_emr_would_refuse_fails_alone() {
    let profile = "[profiles.two]\nbatch-size = 2\nguard = false\nrelease-label = \"emr-7.13.0\"\n\
        service-role = \"s\"\ninstance-profile = \"i\"\n\
        primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
    let long = format!("true {}", "x".repeat(11_000));
    let tasks = daily_task("good", &["a"], "true") + &daily_task("long", &["a"], &long);
    let tasks = tasks.replace("profile = \"p\"", "profile = \"two\"");
    let world = World::new(&(profile.to_owned() + &daily_file("a") + &tasks)).await;
    world.put("a/2013-01-01.csv", "1").await;
    let mail = world.mail("long/2013-01-01/failed").await;
    let said = "step work has 11029 characters of arguments, but EMR takes 10240 a step";
    assert!(unfolded(&mail).contains(said), "{}", mail.text);
    world.mail("good/2013-01-01/succeeded").await;
    assert_eq!(world.clusters_ended().await, 1);
}

/// Two profiles that buy spot instances: by fleets, and by groups.
const SPOT: &str = r#"
[profiles.f]
guard = false
release-label = "emr-7.13.0"
service-role = "s"
instance-profile = "i"
managed-scaling = { unit = "instance-fleet-units", minimum = 2, maximum = 9, maximum-on-demand = 2 }
primary = { instance-types = ["m5.xlarge"], on-demand = 1 }

[profiles.f.core]
instance-types = ["m5.xlarge", { type = "m5.2xlarge", weight = 2, bid-percent = 60 }]
on-demand = 1
spot = 4
spot-strategy = "capacity-optimized"

[profiles.g]
guard = false
release-label = "emr-7.13.0"
service-role = "s"
instance-profile = "i"

[profiles.g.groups]
primary = { instance-type = "m5.xlarge" }
core = { instance-type = "m5.xlarge", count = 2, market = "spot", bid-price = "0.10" }
"#;

/// The first clusters lose their spot instances; the second ones are the last.
#[tokio::test]
async fn the_last_attempt_after_a_loss_of_spot_buys_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("until test -e {}/go; do sleep 0.05; done", folder.path().display());
    let tasks = ["f", "g"].map(|name| {
        let task = daily_task(name, &["a"], &script);
        task.replace("profile = \"p\"", &format!("profile = \"{name}\""))
    });
    let file = requests_file(Some("on-demand-last"));
    let options = Options { requests: Some(file.clone()), ..Options::default() };
    let world = World::with(&(SPOT.to_owned() + &daily_file("a") + &tasks.concat()), options).await;
    world.put("a/2013-01-01.csv", "1").await;
    let running = || {
        let clusters = world.local.cloud().emr().call("ListClusters", json!({})).unwrap();
        let clusters = clusters["Clusters"].as_array().unwrap().clone();
        let ids = clusters.iter().filter(|one| one["Status"]["State"] == "RUNNING");
        let ids: Vec<_> = ids.map(|one| one["Id"].as_str().unwrap().to_owned()).collect();
        (ids.len() == 2).then_some(ids)
    };
    let ids = world.until("two clusters that run", running).await;
    for id in ids {
        world.local.cloud().emr().with(|machine, now| {
            let reason = Reason::new(ReasonCode::InstanceFailure, "Spot instances were taken away");
            machine.fail_cluster(&id, reason, now).unwrap();
        });
    }
    let lost = || Some(world.mails_about("attempt-lost")).filter(|lost| lost.len() == 2);
    let lost = world.until("two lost clusters", lost).await;
    fs::write(folder.path().join("go"), "").unwrap();
    for name in ["f", "g"] {
        world.mail(&format!("{name}/2013-01-01/succeeded")).await;
    }
    let classes: Vec<_> = lost.iter().map(|mail| mail.attributes["class"].as_str()).collect();
    assert_eq!(classes, ["spot-loss", "spot-loss"]);

    let sent = fs::read_to_string(&file).unwrap();
    let lines = sent.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let launches = lines.filter(|line| line["action"] == "RunJobFlow");
    let bodies = launches
        .map(|line| -> Value { serde_json::from_str(line["body"].as_str().unwrap()).unwrap() });
    let (first, second): (Vec<_>, Vec<_>) =
        bodies.partition(|body| body["Name"].as_str().unwrap().ends_with("/1"));
    assert!(first.iter().all(|body| body.to_string().to_lowercase().contains("spot")));
    assert_eq!(second.len(), 2);
    for body in second {
        let instances = &body["Instances"];
        if instances["InstanceGroups"].is_array() {
            let core = &instances["InstanceGroups"][1];
            assert_eq!((&core["Market"], &core["BidPrice"]), (&json!("ON_DEMAND"), &Value::Null));
            continue;
        }
        let core = json!({
            "Name": "core",
            "InstanceFleetType": "CORE",
            "TargetOnDemandCapacity": 5,
            "TargetSpotCapacity": 0,
            "InstanceTypeConfigs": [
                { "InstanceType": "m5.xlarge" },
                { "InstanceType": "m5.2xlarge", "WeightedCapacity": 2 },
            ],
            "LaunchSpecifications": {
                "OnDemandSpecification": { "AllocationStrategy": "lowest-price" },
            },
        });
        assert_eq!(instances["InstanceFleets"][1], core);
        let limits = &body["ManagedScalingPolicy"]["ComputeLimits"];
        assert_eq!(limits["MaximumOnDemandCapacityUnits"], Value::Null);
    }
}
