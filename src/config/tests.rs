//! The configuration as a person writes it, and what is said of its mistakes.

mod bounds;
mod files;
mod json;
mod meaning;
mod retention;
mod structure;
mod warehouse;
mod warnings;

use std::path::Path;

use super::parse;

const GOOD: &str = r#"
deployment = "demo"

[aws]
queue = "inbox"
quarantine = "quarantine"
topic-arn = "arn:aws:sns:us-east-1:000000000000:status"

[profiles.small]
release-label = "emr-7.13.0"
service-role = "service"
instance-profile = "ec2"
primary = { instance-types = ["m5.xlarge"], on-demand = 1 }

[datasets.raw]
location = "s3://landing/raw/{yyyy}/{MM}/{dd}/{HH}/*"
complete = "closed"
settle = "16m"

[datasets.etl]
location = "s3://landing/etl/{yyyy}/{MM}/{dd}/{HH}/"

[tasks.etl]
profile = "small"
partition = "hour"
schedule = { cron = "5 * * * *" }
when-empty = "skip"
inputs = [{ dataset = "raw" }]
outputs = ["etl"]

[[tasks.etl.steps]]
name = "transform"
kind = "spark-submit"
script = "s3://code/etl.py"
args = ["--input", "{input.raw}", "--output", "{output.etl}"]
retry = { attempts = 3, delay = "1s", backoff-rate = 2.0 }
"#;

fn mistakes(text: &str) -> String {
    parse(text, Path::new("x.toml")).unwrap_err().to_string()
}

#[test]
fn a_good_file_has_no_mistakes() {
    let config = parse(GOOD, Path::new("x.toml")).unwrap();
    assert_eq!(config.catalog.tasks.len(), 1);
    assert_eq!(config.settings.table_prefix, "demo-");
}

#[test]
fn the_logs_of_clusters_and_their_script_are_known() {
    let text =
        GOOD.replace("[profiles.small]", "[profiles.small]\nlog-uri = \"s3://landing/logs/\"");
    let text = text.replace("[aws]", "[aws]\nassets = \"s3://landing/assets/\"");
    let catalog = parse(&text, Path::new("x.toml")).unwrap().catalog;
    for (bucket, key, known) in [
        ("landing", "logs/j-1/x.gz", true),
        ("landing", "logs2/x", false),
        ("landing", "assets/deadline.sh", true),
        ("landing", "assets/job.py", false),
        ("other", "logs/x", false),
    ] {
        assert_eq!(catalog.is_our_own(bucket, key), known, "{bucket}/{key}");
    }
}

#[test]
fn one_mistake_is_said_with_its_place_and_a_way_out() {
    for (from, to, said) in [
        ("{ dataset = \"raw\" }", "{ dataset = \"rav\" }", "did you mean \"raw\"?"),
        (
            "profile = \"small\"",
            "profile = \"large\"",
            "x.toml:24:11: there is no profile \"large\"\n    declared are: small",
        ),
        ("profile = \"small\"", "profile = \"smal\"", "did you mean \"small\"?"),
        ("{HH}/*", "{hh}/*", "x.toml:16:12: there is no field {hh}"),
        ("settle = \"16m\"", "", "x.toml:15:11: complete = \"closed\" needs settle"),
        ("\"5 * * * *\"", "\"65 * * * *\"", "is no cron expression\n    write five fields: minute"),
        ("{input.raw}", "{input.row}", "there is no input \"row\"\n    did you mean \"raw\"?"),
        (
            "{input.raw}",
            "{hour}",
            "there is no placeholder {hour}\n    known here are {partition}, {yyyy}, {MM}, {dd}, {HH}, {task}, \
             {run}, {attempt}, {deployment}, {input.raw}, {output.etl}; write {{ and }} for braces",
        ),
        (
            "{input.raw}",
            "{partiton}",
            "{partiton}\n    did you mean {partition}? Or write {{ and }}",
        ),
        ("{input.raw}", "{hh}", "there is no placeholder {hh}\n    did you mean {HH}?"),
        ("{input.raw}", "{inputs.raw}", "{inputs.raw}\n    did you mean {input.raw}?"),
        ("{input.raw}", "{input.raw", "without its {\n    write {{ and }} for braces"),
        ("script = \"s3://code/etl.py\"", "", "needs script"),
        ("attempts = 3", "attempts = 300", "attempts is 300: expected 0 to 20"),
        ("delay = \"1s\"", "delay = \"20m\"", "the last retry comes after"),
        ("on-demand = 1", "on-demand = 2", "exactly 1 instance"),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from}");
        let told = mistakes(&text);
        assert!(told.contains(said), "{to}: {told}");
    }
}

#[test]
fn all_mistakes_are_said_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("{HH}/*", "{hh}/*")
        .replace("{ dataset = \"raw\" }", "{ dataset = \"rav\" }")
        .replace("attempts = 3", "attempts = 300");
    let told = mistakes(&text);
    let places: Vec<_> = told.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(places.len(), 3, "{told}");
    for (place, line) in places.iter().zip([16, 28, 36]) {
        assert!(place.starts_with(&format!("error: x.toml:{line}:")), "{told}");
    }
    assert!(told.ends_with("\n3 mistakes"), "{told}");
}

#[test]
fn health_and_metrics_stay_on_the_machine_unless_told_otherwise() {
    let http = |text: &str| parse(text, Path::new("x.toml")).map(|config| config.settings.http);
    let local = http(GOOD).unwrap();
    assert_eq!((local.listen, local.token), ("127.0.0.1:8080".parse().unwrap(), None));
    let token = "token = { env = \"METRICS_TOKEN\" }\n";
    for (text, is_public) in [
        ("off", false),
        ("127.8.0.1:9000", false),
        ("[::1]:9000", false),
        ("[::ffff:127.0.0.1]:9000", false),
        ("0.0.0.0:9000", true),
        ("[::]:9000", true),
        ("10.1.2.3:9000", true),
    ] {
        let listen = format!("{GOOD}\n[http]\nlisten = \"{text}\"\n");
        match http(&listen) {
            Ok(http) => assert_eq!((http.listen, is_public), (text.parse().unwrap(), false)),
            Err(_) => {
                let said = mistakes(&listen);
                assert!(is_public && said.contains(&format!("others reach {text}")), "{said}");
                assert!(said.starts_with("error: x.toml:39:10: "), "{said}");
            }
        }
        let with_token = http(&format!("{listen}{token}")).unwrap();
        assert_eq!(with_token.token.unwrap().env, "METRICS_TOKEN");
    }
    for (token, said) in [
        ("{ env = \"NO-NAME\" }", "a secret names no environment variable"),
        ("\"hunter2-hunter2-hunter2\"", "a secret never stands in the file"),
    ] {
        let told = mistakes(&format!("{GOOD}\n[http]\ntoken = {token}\n"));
        assert!(told.contains(said) && !told.contains("hunter2"), "{told}");
    }
    for text in ["", "8080", "localhost", "127.0.0.1:99999"] {
        let said = mistakes(&format!("{GOOD}\n[http]\nlisten = \"{text}\"\n"));
        assert!(said.contains("expected an IP address and a port"), "{said}");
    }
}

#[test]
fn quotas_have_defaults_and_bounds() {
    use crate::core::quota::{Call, Quota};
    let with = |quotas: &str| format!("{GOOD}\n[quotas]\n{quotas}\n");
    let text = with("run-job-flow = { burst = 3, per-second = 2 }");
    let quotas = parse(&text, Path::new("x.toml")).unwrap().settings.quotas;
    assert_eq!(quotas.calls[&Call::RunJobFlow], Quota { burst: 3, per_second: 2.0 });
    assert_eq!(quotas.calls[&Call::DescribeCluster], Quota { burst: 10, per_second: 1.0 });
    assert_eq!(quotas.account, Quota { burst: 25, per_second: 5.0 });
    for (quota, said) in [
        ("account = { burst = 0, per-second = 1 }", "burst of account is 0: expected 1 to 10000"),
        ("list-steps = { burst = 1, per-second = 0.0 }", "per-second of list-steps is 0: expected"),
        ("list-steps = { burst = 1, per-second = nan }", "per-second of list-steps is NaN"),
        ("list-steps = { burst = 1 }", "[quotas.list-steps] needs per-second"),
        ("list-step = { burst = 1, per-second = 1 }", "did you mean \"list-steps\"?"),
    ] {
        let told = mistakes(&with(quota));
        assert!(told.contains(said), "{quota}: {told}");
        assert!(told.starts_with("error: x.toml:39:"), "{told}");
    }
}
