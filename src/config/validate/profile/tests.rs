//! Profiles and the steps that depend on them, as a person writes them: what
//! passes, and what is said of every mistake.

use std::path::Path;

use jiff::SignedDuration;

use crate::config::{Config, parse};
use crate::core::catalog::AttemptPolicy;
use crate::core::class::FailureClass;

const HEAD: &str = r#"
deployment = "demo"

[aws]
queue = "inbox"
quarantine = "quarantine"
topic-arn = "arn:aws:sns:us-east-1:000000000000:status"

[datasets.raw]
location = "s3://landing/raw/{yyyy}/{MM}/{dd}/{HH}/*"
complete = "closed"
settle = "16m"

[datasets.odd]
location = "s3://landing/it's odd/{yyyy}/{MM}/{dd}/{HH}.csv"
"#;

const TASK: &str = r#"
[tasks.etl]
profile = "x"
partition = "hour"
inputs = [{ dataset = "raw" }, { dataset = "odd" }]
"#;

/// What every profile needs besides its instances.
const PROFILE: &str = r#"
[profiles.x]
release-label = "emr-7.13.0"
service-role = "service"
instance-profile = "ec2"
"#;

const FLEET: &str = "primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\n";
const STEP: &str = "[[tasks.etl.steps]]\nname = \"s\"\nkind = \"command\"\nargs = [\"true\"]\n";

fn read(profile: &str, steps: &str) -> Result<Config, String> {
    let text = format!("{HEAD}{PROFILE}{profile}{TASK}{steps}");
    parse(&text, Path::new("x.toml")).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn each_class_of_failure_has_its_policy() {
    use FailureClass::*;
    let minutes = SignedDuration::from_mins;
    for (text, expected) in [
        ("", [(Bootstrap, 2, 0), (Capacity, 2, 10), (Validation, 1, 0), (External, 1, 0)]),
        (
            "max-attempts = 4\n",
            [(Bootstrap, 2, 0), (Capacity, 4, 10), (SpotLoss, 4, 0), (Internal, 4, 0)],
        ),
        (
            "max-attempts = 1\n[profiles.x.attempts]\nexternal = { max = 3 }\n\
             capacity = { max = 5, delay = \"1h\" }\nspot-loss.delay = \"2m\"\n",
            [(Bootstrap, 1, 0), (External, 3, 0), (Capacity, 5, 60), (SpotLoss, 1, 2)],
        ),
    ] {
        let config = read(&format!("{FLEET}{text}"), STEP).unwrap();
        let limits = &config.catalog.profiles["x"].limits;
        for (class, max, delay) in expected {
            let policy = AttemptPolicy { max, delay: minutes(delay) };
            assert_eq!(limits.policy(class), policy, "{text}: {class:?}");
        }
        assert!(limits.on_demand_last);
    }
    for (text, said) in [
        ("capacity = { max = 0 }", "max of capacity is 0: expected 1 to 10"),
        ("spot-loss = { delay = \"25h\" }", "delay of spot-loss is 25h: expected 0s to 24h"),
        ("spotloss = { max = 2 }", "spotloss"),
        ("user-code = { max = 2 }", "user-code"),
    ] {
        let told = read(&format!("{FLEET}[profiles.x.attempts]\n{text}\n"), STEP).unwrap_err();
        assert!(told.contains(said), "{text}: {told}");
        assert!(told.ends_with("\n1 mistake"), "{text}: {told}");
    }
}

#[test]
fn time_outs_have_their_bounds() {
    let task = |line: &str| TASK.replace("partition", &format!("{line}\npartition"));
    for (profile, line, said) in [
        ("", "attempt-timeout = \"59s\"", "attempt-timeout is 59s: expected 1m to 168h"),
        ("stall-timeout = \"4m\"\n", "", "stall-timeout is 4m: expected 15m to 168h"),
        // EMR looks for spot instances for 20 minutes if nobody says how long.
        (
            "stall-timeout = \"20m\"\ncore = { instance-types = [\"m5.xlarge\"], spot = 1 }\n",
            "",
            "stall-timeout is 20m, but EMR may look for spot instances for 20m",
        ),
        ("stall-timeout = \"30m\"\n", "attempt-timeout = \"2h\"", ""),
    ] {
        let text = format!("{HEAD}{PROFILE}{FLEET}{profile}{}{STEP}", task(line));
        let read = parse(&text, Path::new("x.toml")).map_err(|mistakes| mistakes.to_string());
        match (said, read) {
            ("", Ok(config)) => {
                let timeout = config.catalog.tasks["etl"].attempt_timeout;
                assert_eq!(timeout, Some(SignedDuration::from_hours(2)));
                let stall = config.catalog.profiles["x"].limits.stall_timeout;
                assert_eq!(stall, Some(SignedDuration::from_mins(30)));
            }
            (said, Err(told)) if !said.is_empty() => {
                assert!(told.contains(said), "{told}");
                assert!(told.ends_with("\n1 mistake"), "{told}");
            }
            (_, read) => panic!("{line} {profile}: {:?}", read.map(|_| ())),
        }
    }
}

#[test]
fn profiles_that_are_good() {
    let many = |count| {
        let names: Vec<_> = (0..count).map(|number| format!("\"m{number}.large\"")).collect();
        names.join(", ")
    };
    for profile in [
        FLEET.to_owned(),
        format!(
            "{FLEET}core = {{ instance-types = [{}], spot = 3, spot-strategy = \"diversified\" }}\n",
            many(30)
        ),
        format!("{FLEET}core = {{ instance-types = [{}], on-demand = 3 }}\n", many(5)),
        format!("{FLEET}subnets = [\"subnet-1\", \"subnet-2\"]\n"),
        "groups = { primary = { instance-type = \"m5.xlarge\" } }\nsubnets = [\"subnet-1\"]\n"
            .into(),
        format!("{FLEET}guard = false\nstep-concurrency = 8\n"),
        format!("{FLEET}configurations.hadoop-env.export = {{ JAVA_HOME = \"/jdk\" }}\n"),
        format!(
            "{FLEET}managed-scaling = {{ unit = \"instance-fleet-units\", minimum = 1, maximum = 9 }}\n"
        ),
    ] {
        read(&profile, STEP).unwrap_or_else(|mistakes| panic!("{profile}{mistakes}"));
    }
}

#[test]
fn every_mistake_of_a_profile_is_told() {
    let types = "\"a.b\", ".repeat(6);
    for (profile, said) in [
        ("", "x.toml:17:11: this profile has no instances\n    add primary ="),
        (
            "core = { instance-types = [\"m5.xlarge\"], on-demand = 1 }",
            "this profile has no primary fleet",
        ),
        (
            "primary = { instance-types = [\"m5.xlarge\"], on-demand = 1 }\ngroups.primary = { instance-type = \"m5.xlarge\" }",
            "a cluster has either fleets or groups, and this profile has both",
        ),
        (
            "P\ntask = { instance-types = [\"m5.xlarge\"], spot = 1 }",
            "a task fleet needs a core fleet",
        ),
        (
            &format!("P\ncore = {{ instance-types = [{types}], on-demand = 1 }}"),
            "6 instance types: EMR takes 1 to 5 for such a fleet\n    with spot-strategy",
        ),
        ("P\ncore = { instance-types = [], on-demand = 1 }", "0 instance types"),
        ("P\ncore = { instance-types = [\"m5\"], on-demand = 1 }", "\"m5\" is no instance type"),
        ("P\ncore = { instance-types = [\"m5.xlarge\"] }", "a fleet needs at least 1 instance"),
        (
            "P\ncore = { instance-types = [7], on-demand = 1 }",
            "expected a text or a table, found the number 7",
        ),
        (
            "P\ncore = { instance-types = [{ type = \"m5.xlarge\", wieght = 2 }], on-demand = 1 }",
            "did you mean \"weight\"?",
        ),
        (
            "P\ncore = { instance-types = [{ type = \"m5.xlarge\", weight = 0 }], on-demand = 1 }",
            "weight is 0: expected 1 to 999",
        ),
        (
            "primary = { instance-types = [{ type = \"m5.xlarge\", weight = 2 }], on-demand = 1 }",
            "a primary fleet has weight 1",
        ),
        (
            "P\ncore = { instance-types = [{ type = \"m5.xlarge\", bid-percent = 50, bid-price = \"1\" }], spot = 1 }",
            "bid-price and bid-percent exclude each other",
        ),
        (
            "P\ncore = { instance-types = [{ type = \"m5.xlarge\", bid-price = \"cheap\" }], spot = 1 }",
            "bid-price \"cheap\" is no price",
        ),
        (
            "P\ncore = { instance-types = [{ type = \"m5.xlarge\", bid-percent = 0 }], spot = 1 }",
            "bid-percent is out of range",
        ),
        (
            "P\ncore = { instance-types = [\"m5.xlarge\"], on-demand = 1, spot-timeout = \"10m\" }",
            "this says how spot instances are bought, but spot is 0",
        ),
        (
            "P\ncore = { instance-types = [\"m5.xlarge\"], spot = 1, spot-timeout = \"4m\" }",
            "spot-timeout is 4m: expected 5m to 24h",
        ),
        (
            "P\nlifetime = \"1h\"\ncore = { instance-types = [\"m5.xlarge\"], spot = 1, spot-timeout = \"24h\" }",
            "lifetime is 1h, but EMR may look for spot instances for 24h",
        ),
        (
            "P\ncore = { instance-types = [\"m5.xlarge\"], spot = 1, spot-strategy = \"cheapest\" }",
            "spot-strategy cannot be \"cheapest\"",
        ),
        ("E{ type = \"gp9\", size-gib = 9 }", "\"gp9\" is no volume type"),
        ("E{ type = \"gp3\", size-gib = 0 }", "size-gib is 0"),
        ("E{ type = \"io1\", size-gib = 9 }", "an io1 volume needs iops"),
        ("E{ type = \"gp2\", size-gib = 9, iops = 3000 }", "iops is for gp3 and io1 volumes"),
        ("E{ type = \"gp2\", size-gib = 9, throughput = 125 }", "throughput is for gp3 volumes"),
        ("E{ type = \"gp3\", size-gib = 9, iops = 1 }", "expected 3000 to 16000"),
        ("E{ type = \"gp3\", size-gib = 9, throughput = 1 }", "expected 125 to 1000"),
        ("E{ type = \"gp3\", size-gib = 9, count = 26 }", "an instance takes 1 to 25 volumes"),
        ("G\nsubnets = [\"subnet-1\", \"subnet-2\"]", "groups take one subnet"),
        (
            "groups.primary = { instance-type = \"m5.xlarge\", count = 3 }",
            "a primary group has exactly 1 instance",
        ),
        (
            "groups.primary = { instance-type = \"m5.xlarge\", bid-price = \"0.1\" }",
            "bid-price is for spot instances\n    add market = \"spot\"",
        ),
        ("G\ngroups.task = { instance-type = \"m5.xlarge\" }", "a task group needs a core group"),
        (
            "G\nmanaged-scaling = { unit = \"instance-fleet-units\", minimum = 1, maximum = 2 }",
            "managed scaling of groups has another unit",
        ),
        (
            "P\nmanaged-scaling = { unit = \"vcpu\", minimum = 1, maximum = 2 }",
            "expected unit = \"instance-fleet-units\"",
        ),
        (
            "P\nmanaged-scaling = { unit = \"instance-fleet-units\", minimum = 3, maximum = 2 }",
            "expected 1 ≤ minimum ≤ maximum",
        ),
        (
            "P\nmanaged-scaling = { unit = \"instance-fleet-units\", minimum = 1, maximum = 2, maximum-core = 3 }",
            "may not exceed maximum",
        ),
        ("P\nstep-concurrency = 257", "step-concurrency is 257: expected 1 to 256"),
        ("P\napplications = [\"\"]", "application is empty"),
        ("P\nkey-name = \"\\u0001\"", "key-name holds a control character"),
        ("P\nlog-uri = \"/tmp\"", "log-uri does not start with s3://"),
        ("P\ncustom-ami = \"x\"", "custom-ami does not start with ami-"),
        (
            "P\ncustom-ami = \"ami-1\"\nos-release-label = \"2023.1\"",
            "os-release-label and custom-ami exclude each other",
        ),
        ("P\nroot-volume-gib = 5", "root-volume-gib is 5: expected 10 to 16384"),
        ("P\nroot-volume-iops = 5", "root-volume-iops is 5: expected 3000 to 16000"),
        ("P\nroot-volume-throughput = 5", "root-volume-throughput is 5: expected 125 to 1000"),
        ("P\nsecurity-groups = { primary = \"mine\", core-and-task = \"sg-1\" }", "start with sg-"),
        ("P\nsecurity-groups = { primary = \"sg-1\" }", "primary and core-and-task only together"),
        (
            "P\nbootstrap-actions = [{ name = \"b\", script = \"b.sh\" }]",
            "\"b.sh\" is no place of a script\n    expected s3://BUCKET/KEY",
        ),
        ("P\nbootstrap-actions = [{ name = \"\", script = \"s3://b/b\" }]", "name is empty"),
        (
            "P\nkerberos = { realm = \"R\", kdc-admin-password = { env = \"KDC\" } }",
            "kerberos needs security-configuration",
        ),
        (
            "P\nsecurity-configuration = \"s\"\nkerberos = { realm = \"R\", kdc-admin-password = { env = \"\" } }",
            "a secret names no environment variable",
        ),
        (
            "P\nsecurity-configuration = \"s\"\nkerberos = { realm = \"\", kdc-admin-password = { env = \"K\" } }",
            "realm is empty",
        ),
        (
            "P\nsecurity-configuration = \"s\"\nkerberos = { realm = \"R\", kdc-admin-password = { env = \"K\" }, ad-domain-join-user = \"u\" }",
            "ad-domain-join-user and ad-domain-join-password only together",
        ),
        ("P\ntags = { \"sluicegate:x\" = \"1\" }", "tags that start with sluicegate: are our own"),
        ("P\ntags = { \"aws:x\" = \"1\" }", "tags that start with aws: are AWS's own"),
        (
            &format!("P\ntags = {{ \"k\" = \"{}\" }}", "v".repeat(257)),
            "257 characters: EMR takes 256",
        ),
        (
            &format!("P\ntags = {{ \"{}\" = \"v\" }}", "k".repeat(129)),
            "129 characters: EMR takes 128",
        ),
        (
            "P\nconfigurations.spark-defaults = { x = 1 }",
            "x: expected a text or a table, found the number 1\n    write it in quotes: x = \"1\"",
        ),
    ] {
        let profile = profile
            .replace("P\n", FLEET)
            .replace("G\n", "groups.primary = { instance-type = \"m5.xlarge\" }\n");
        let profile = match profile.strip_prefix('E') {
            Some(ebs) => format!(
                "{FLEET}core = {{ instance-types = [\"m5.xlarge\"], on-demand = 1, ebs = [{ebs}] }}"
            ),
            None => profile,
        };
        let told = read(&format!("{profile}\n"), STEP).expect_err(&profile);
        assert!(told.contains(said), "{profile}: {told}");
    }
}

#[test]
fn limits_of_number_are_told() {
    let tags: String = (0..47).map(|number| format!("\"k{number}\" = \"v\", ")).collect();
    let told = read(&format!("{FLEET}tags = {{ {tags} }}\n"), STEP).unwrap_err();
    assert!(told.contains("EMR takes 50 tags, and 4 are our own: 46 are left"), "{told}");
    let action = "{ name = \"b\", script = \"s3://b/b.sh\" }, ".repeat(17);
    let told = read(&format!("{FLEET}bootstrap-actions = [{action}]\n"), STEP).unwrap_err();
    assert!(
        told.contains("EMR takes 16 bootstrap actions, and 1 is our own: 15 are left"),
        "{told}"
    );
}

#[test]
fn the_release_must_know_auto_termination() {
    let with = |label: &str| {
        let text = format!("{HEAD}{PROFILE}{FLEET}{TASK}{STEP}").replace("emr-7.13.0", label);
        parse(&text, Path::new("x.toml")).map_err(|mistakes| mistakes.to_string())
    };
    for label in ["emr-5.30.0", "emr-5.36.2", "emr-6.1.0", "emr-7.0.0", "emr-10.0.0"] {
        assert!(with(label).is_ok(), "{label}");
    }
    for (label, said) in [
        ("emr-5.29.0", "emr-5.29.0 cannot end an idle cluster"),
        ("emr-6.0.1", "cannot end an idle cluster"),
        ("7.13.0", "is no release label\n    expected emr-MAJOR.MINOR.PATCH"),
        ("emr-7.13", "is no release label"),
        ("emr-7.x.0", "is no release label"),
    ] {
        let told = with(label).unwrap_err();
        assert!(told.contains(said), "{label}: {told}");
    }
}

/// A password in the file is refused without being repeated.
#[test]
fn a_secret_in_the_file_is_not_repeated() {
    for secret in ["\"hunter2\"", "{ password = \"hunter2\" }", "[\"hunter2\"]"] {
        let profile = format!(
            "{FLEET}security-configuration = \"s\"\n\
             kerberos = {{ realm = \"R\", kdc-admin-password = {secret} }}\n"
        );
        let told = read(&profile, STEP).unwrap_err();
        assert!(told.to_lowercase().contains("environment variable"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn steps_side_by_side_need_tasks_of_one_step() {
    let two = format!("{STEP}{}", STEP.replace("\"s\"", "\"second\""));
    assert!(read(FLEET, &two).is_ok());
    let told = read(&format!("{FLEET}step-concurrency = 2\n"), &two).unwrap_err();
    assert!(told.contains("EMR would start steps beside the guard"), "{told}");
    assert!(told.contains("EMR would not wait for the first"), "{told}");
}

#[test]
fn every_mistake_of_a_step_is_told() {
    let command =
        |script: &str| format!("kind = \"command\"\nargs = [\"bash\", \"-c\", '''{script}''']");
    for (step, said) in [
        (command("cp {input.raw} \"x\""), None),
        (command("cp {input.odd} x"), None),
        (command("cp {input.odd} 'x'"), Some("may not stand in a script with quotes")),
        (command("cp {input.odd} x # it"), Some("hand it over as an argument after the script")),
        (
            "kind = \"command\"\nargs = [\"bash\", \"-c\", 'cp \"$1\" x', \"bash\", \"{input.odd}\"]".into(),
            None,
        ),
        ("kind = \"hive\"\nscript = \"s3://c/x.hql\"\nform = \"hive-script\"".into(), None),
        (
            "kind = \"hive\"\nscript = \"s3://c/x.hql\"\nform = \"beeline\"".into(),
            Some("form cannot be \"beeline\""),
        ),
        (
            "kind = \"command\"\nargs = [\"x\"]\nform = \"hive\"".into(),
            Some("form does not belong to a step of this kind"),
        ),
        ("kind = \"command\"\nargs = [\"{attempt}\"]".into(), None),
        ("kind = \"command\"\nargs = [\"{atempt}\"]".into(), Some("there is no placeholder")),
    ] {
        let step = format!("[[tasks.etl.steps]]\nname = \"s\"\n{step}\n");
        match (read(FLEET, &step), said) {
            (Ok(_), None) => {}
            (Err(told), Some(said)) => assert!(told.contains(said), "{step}: {told}"),
            (result, _) => panic!("{step}: {result:?}"),
        }
    }
}
