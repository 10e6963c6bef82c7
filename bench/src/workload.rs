//! What arrives, and the daemon's configuration for it: many tasks of distinct
//! files (W1), many objects of an hour (W2).

use std::fmt::Write;

use jiff::civil::{Date, date};
use jiff::{Timestamp, ToSpan};
use sluicegate::sources::simulate::{Object, notification};

use crate::stand::{BUCKET, REGION};

/// The quotas of EMR that the benches allow themselves: the local EMR has none.
pub const QUOTA_BURST: u32 = 10_000;
pub const QUOTA_PER_SECOND: u32 = 10_000;

/// The files of a task's partition in W1.
pub const FILES: [&str; 3] = ["a", "b", "c"];
/// A file that no bench sends.
const MISSING: &str = "missing";
/// Objects of an hour in W2.
pub const HOUR_OBJECTS: u32 = 500;

const HEAD: &str = r#"
deployment = "bench"

[aws]
region = "us-east-1"
queue = "inbox"
quarantine = "quarantine"
topic-arn = "arn:aws:sns:us-east-1:000000000000:status"
"#;

/// The beginning of a configuration with EMR's own quotas.
pub fn emr_quotas(poll_interval: &str) -> String {
    // The local SNS takes as many notices as come.
    format!("{HEAD}\n[engine]\nnotices-per-second = 30000\npoll-interval = \"{poll_interval}\"\n")
}

/// What other configurations of the benches begin with.
pub fn head(poll_interval: &str) -> String {
    let mut head = format!("{}\n[quotas]\n", emr_quotas(poll_interval));
    for call in [
        "run-job-flow",
        "add-job-flow-steps",
        "describe-cluster",
        "describe-step",
        "list-steps",
        "list-clusters",
        "terminate-job-flows",
        "cancel-steps",
        "account",
    ] {
        let _ = writeln!(
            head,
            "{call} = {{ burst = {QUOTA_BURST}, per-second = {QUOTA_PER_SECOND}.0 }}"
        );
    }
    head
}

pub fn profile(name: &str, batch_size: u32) -> String {
    format!(
        "\n[profiles.{name}]\nbatch-size = {batch_size}\nmax-wait = \"24h\"\n\
         release-label = \"emr-7.13.0\"\nservice-role = \"service\"\ninstance-profile = \"ec2\"\n\
         guard = false\nprimary = {{ instance-types = [\"m5.xlarge\"], on-demand = 1 }}\n"
    )
}

/// A daily task that waits for files of its own, with one step that does nothing.
pub fn daily_task(name: &str, profile: &str, files: &[&str]) -> String {
    let mut text = String::new();
    for file in files {
        let _ = write!(
            text,
            "\n[datasets.{name}-{file}]\n\
             location = \"s3://{BUCKET}/{name}/{file}/{{yyyy}}-{{MM}}-{{dd}}.csv\"\n"
        );
    }
    let inputs: Vec<_> =
        files.iter().map(|file| format!("{{ dataset = \"{name}-{file}\" }}")).collect();
    let _ = write!(
        text,
        "\n[tasks.{name}]\nprofile = \"{profile}\"\npartition = \"day\"\ninputs = [{}]\n\
         [[tasks.{name}.steps]]\nname = \"work\"\nkind = \"command\"\nargs = [\"true\"]\n",
        inputs.join(", ")
    );
    text
}

pub fn task_name(number: u32) -> String {
    format!("task-{number:03}")
}

/// The day number `number` of a bench.
pub fn day(number: u32) -> Date {
    date(2000, 1, 1).saturating_add(i64::from(number).days())
}

/// The notification for a file of a daily task.
pub fn file_event(task: &str, file: &str, day: Date, now: Timestamp) -> String {
    event(format!("{task}/{file}/{day}.csv"), now)
}

fn event(key: String, now: Timestamp) -> String {
    let object = Object {
        bucket: BUCKET.to_owned(),
        etag: format!("{:032x}", key.len()),
        key,
        version: None,
        bytes: 1024,
    };
    notification(&object, REGION, now).to_string()
}

/// The two shapes of arrivals that throughput is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Many tasks of three distinct files each; a fourth never comes, so that
    /// nothing follows from arrivals.
    Arrivals,
    /// The same without the fourth: each task partition becomes ready.
    Tasks,
    /// 500 objects an hour that belong to one hourly dependency.
    Hours,
}

/// How much of a shape.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub shape: Shape,
    /// Daily tasks; of no meaning for hours.
    pub tasks: u32,
    /// Days or hours in a round.
    pub periods: u32,
}

impl Load {
    /// The daemon's configuration. Batches never fill, so that no cluster
    /// is started.
    pub fn config(&self) -> String {
        let mut text = head("30s");
        match self.shape {
            Shape::Hours => {
                let _ = write!(
                    text,
                    "{}\n[datasets.logs]\n\
                     location = \"s3://{BUCKET}/logs/{{yyyy}}/{{MM}}/{{dd}}/{{HH}}/*\"\n\
                     complete = \"closed\"\nsettle = \"20m\"\n\
                     [tasks.hourly]\nprofile = \"p\"\npartition = \"hour\"\n\
                     inputs = [{{ dataset = \"logs\" }}]\n\
                     [[tasks.hourly.steps]]\nname = \"work\"\nkind = \"command\"\nargs = [\"true\"]\n",
                    profile("p", 50)
                );
            }
            Shape::Arrivals | Shape::Tasks => {
                let mut files = FILES.to_vec();
                if self.shape == Shape::Arrivals {
                    files.push(MISSING);
                }
                for number in 0..self.tasks {
                    let name = task_name(number);
                    text.push_str(&profile(&name, 50));
                    text.push_str(&daily_task(&name, &name, &files));
                }
            }
        }
        text
    }

    /// Task partitions of a round.
    pub fn partitions(&self) -> u32 {
        match self.shape {
            Shape::Hours => self.periods,
            Shape::Arrivals | Shape::Tasks => self.tasks * self.periods,
        }
    }

    /// Names of a round's task partitions: the task, and the day or hour.
    pub fn instances(&self, round: u32) -> Vec<(String, String)> {
        let periods = (0..self.periods).map(|period| round * self.periods + period);
        match self.shape {
            Shape::Hours => {
                periods.map(|period| ("logs".to_owned(), hour(period).to_owned())).collect()
            }
            Shape::Arrivals | Shape::Tasks => {
                let of = |period| {
                    (0..self.tasks).map(move |task| (task_name(task), day(period).to_string()))
                };
                periods.flat_map(of).collect()
            }
        }
    }

    /// A round's events, spread: all first files, then all second ones, then all
    /// third ones; hours side by side.
    pub fn events(&self, round: u32, now: Timestamp) -> Vec<String> {
        let instances = self.instances(round);
        let all = |name: &dyn Fn(&(String, String)) -> String| {
            instances.iter().map(|instance| event(name(instance), now)).collect::<Vec<_>>()
        };
        match self.shape {
            Shape::Hours => {
                // An hour's objects come in that hour.
                let parts = |(task, hour): &(String, String)| {
                    let keys =
                        (0..HOUR_OBJECTS).map(|part| format!("{task}/{hour}/part-{part:04}.gz"));
                    keys.map(|key| event(key, now)).collect::<Vec<_>>()
                };
                instances.iter().flat_map(parts).collect()
            }
            Shape::Arrivals | Shape::Tasks => FILES
                .iter()
                .flat_map(|file| all(&|(task, day)| format!("{task}/{file}/{day}.csv")))
                .collect(),
        }
    }
}

/// An hour far ahead, so that its period does not close meanwhile: the
/// folder of its objects.
fn hour(number: u32) -> String {
    let start = date(2090, 1, 1).at(0, 0, 0, 0).saturating_add(i64::from(number).hours());
    start.strftime("%Y/%m/%d/%H").to_string()
}

/// Which task partition a key belongs to, and as what: the other designs' own
/// small catalog.
pub fn belongs(key: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = key.split('/').collect();
    match parts.as_slice() {
        ["logs", yyyy, mm, dd, hh, _] => {
            Some((format!("logs/{yyyy}/{mm}/{dd}/{hh}"), "objects".to_owned()))
        }
        [task, file, day] => {
            Some((format!("{task}/{}", day.strip_suffix(".csv")?), (*file).to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate::sources::message;

    #[test]
    fn every_event_belongs_to_one_of_the_rounds_task_partitions() {
        for (shape, events) in [(Shape::Tasks, 4 * 2 * 3), (Shape::Hours, 2 * 500)] {
            let load = Load { shape, tasks: 4, periods: 2 };
            let instances: Vec<String> = load
                .instances(1)
                .into_iter()
                .map(|(task, period)| format!("{task}/{period}"))
                .collect();
            let bodies = load.events(1, Timestamp::UNIX_EPOCH);
            assert_eq!(bodies.len(), events);
            for body in bodies {
                let content = message::read(&body);
                let (instance, _) = belongs(&content.arrivals[0].key).unwrap();
                assert!(instances.contains(&instance), "{instance}");
            }
        }
    }
}
