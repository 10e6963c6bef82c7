//! Tasks that read what other tasks write, over windows of partitions.

use crate::world::{BUCKET, World, daily_file};

#[tokio::test]
async fn a_day_waits_for_all_of_its_hours_and_skipped_ones_count_as_empty() {
    let tasks = daily_file("prices")
        + &format!(
            r#"
[datasets.raw]
location = "s3://{BUCKET}/raw/{{yyyy}}-{{MM}}-{{dd}}-{{HH}}.gz"

[datasets.hours]
location = "s3://{BUCKET}/hours/{{yyyy}}/{{MM}}/{{dd}}/{{HH}}/"

[tasks.hourly]
profile = "p"
partition = "hour"
inputs = [{{ dataset = "raw" }}]
outputs = ["hours"]
[[tasks.hourly.steps]]
name = "work"
kind = "command"
args = ["true"]

[tasks.report]
profile = "p"
partition = "day"
inputs = [{{ dataset = "hours", from = "-2h", to = "1h" }}, {{ dataset = "prices" }}]
[[tasks.report.steps]]
name = "work"
kind = "command"
args = ["bash", "-c", "echo {{input.hours}} >&2; exit 1"]
"#
        );
    let world = World::new(&tasks).await;
    world.put("prices/2013-01-02.csv", "1").await;
    // The window of 2013-01-02: 22 and 23 of the day before, and 00.
    world.put("raw/2013-01-01-22.gz", "1").await;
    world.put("raw/2013-01-01-23.gz", "1").await;
    world.mail("hourly/2013-01-01T23/succeeded").await;
    assert_eq!(world.mails_about("report/").len(), 0);
    world.put("raw/2013-01-02-00.gz", "1").await;
    let mail = world.mail("report/2013-01-02/failed").await;
    assert!(mail.subject.starts_with("[test] report 2013-01-02 FAILED: "), "{}", mail.subject);
    assert_eq!(world.mails_about("report/2013-01-01").len(), 0);
}
