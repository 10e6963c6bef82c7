//! Says in lines what happens while it happens: what lands in S3, mails,
//! clusters and their steps. Remembers what it has said, and prints nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::replay::Delivery;
use crate::stage::mailbox::Mail;
use crate::stage::observe::{Cluster, Step};
use crate::stage::screen::{Line, Tone};

/// Objects of one folder that land within this time are one line.
const FOLD: SignedDuration = SignedDuration::from_mins(25);

/// Objects of one folder, of which nothing is said yet.
#[derive(Debug)]
struct Landed {
    folder: String,
    at: Timestamp,
    objects: usize,
    bytes: usize,
}

/// What has been said so far, and what is to be said next.
#[derive(Debug, Default)]
pub struct Watch {
    landed: Option<Landed>,
    cluster_states: BTreeMap<String, String>,
    step_states: BTreeMap<String, String>,
    lines: Vec<Line>,
}

impl Watch {
    /// What there is to say, in order of time. Objects wait for more of their
    /// kind as long as nothing else happens.
    pub fn take_lines(&mut self, now: Timestamp) -> Vec<Line> {
        let waited = |landed: &Landed| now.duration_since(landed.at) >= FOLD;
        if !self.lines.is_empty() || self.landed.as_ref().is_some_and(waited) {
            self.end_fold();
        }
        self.lines.sort_by_key(|line| line.at);
        std::mem::take(&mut self.lines)
    }

    /// An object has been put.
    pub fn delivered(&mut self, delivery: &Delivery) {
        let folder = delivery.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        if self.landed.as_ref().is_some_and(|landed| landed.folder != folder) {
            self.end_fold();
        }
        let folder = folder.to_owned();
        let new = Landed { folder, at: delivery.at, objects: 0, bytes: 0 };
        let landed = self.landed.get_or_insert(new);
        landed.objects += 1;
        landed.bytes += delivery.body.len();
    }

    fn end_fold(&mut self) {
        let Some(Landed { folder, at, objects, bytes }) = self.landed.take() else { return };
        let (plural, late) = (if objects == 1 { "" } else { "s" }, minutes_late(&folder, at));
        let late = late.map(|minutes| format!(", {minutes} minutes after the hour's end"));
        let late = late.unwrap_or_default();
        let text = format!("{folder}/  {objects} object{plural}, {bytes} bytes{late}");
        self.say(at, "landed", text, Tone::Plain);
    }

    /// Says the subjects that somebody cares for: clusters and steps are on
    /// the screen anyway.
    pub fn mails(&mut self, mails: &[Mail]) {
        let of_a_run = |mail: &Mail| mail.task.is_none() && mail.severity == "info";
        for mail in mails.iter().filter(|mail| !of_a_run(mail)) {
            let tone = match (mail.severity.as_str(), mail.status.as_str()) {
                ("failure", _) => Tone::Bad,
                ("warning", _) => Tone::Warning,
                (_, "succeeded") => Tone::Good,
                _ => Tone::Plain,
            };
            self.say(mail.at, "mail", mail.subject.clone(), tone);
        }
    }

    /// Says which clusters and steps have changed their state.
    pub fn clusters(&mut self, clusters: &[Cluster]) {
        for cluster in clusters {
            for step in &cluster.steps {
                self.step(step);
            }
            let before = self.cluster_states.insert(cluster.id.clone(), cluster.state.clone());
            let work = partitions_of(cluster);
            if before.is_none() {
                let text = format!("{} starts, for {work}", cluster.id);
                self.say(cluster.created, "cluster", text, Tone::Plain);
            }
            if let Some(ended) = cluster.ended
                && before.as_ref() != Some(&cluster.state)
            {
                let text = format!("{} terminated, after {work}", cluster.id);
                self.say(ended, "cluster", text, Tone::Plain);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let before = self.step_states.insert(step.id.clone(), step.state.clone());
        if before.as_ref() == Some(&step.state) {
            return;
        }
        let (what, tone) = match step.state.as_str() {
            "RUNNING" => ("runs", Tone::Plain),
            "COMPLETED" => ("completed", Tone::Good),
            "FAILED" => ("failed", Tone::Warning),
            "CANCELLED" => ("was cancelled by the failure before it", Tone::Plain),
            _ => return,
        };
        let why = step.message.as_ref().map(|message| format!(": {message}"));
        let text = format!("{} {what}{}", step.name, why.unwrap_or_default());
        self.say(step.changed, "step", text, tone);
    }

    fn say(&mut self, at: Timestamp, what: &'static str, text: String, tone: Tone) {
        self.lines.push(Line { at, what, text, tone });
    }
}

/// How long after the end of its hour something landed in `folder`; None if
/// it did so within the hour, or the folder is not one of an hour.
fn minutes_late(folder: &str, at: Timestamp) -> Option<i64> {
    let hour = DateTime::strptime("rawdata/%Y/%m/%d/%H", folder).ok()?;
    let start = hour.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let late = at.duration_since(start).as_mins() - 60;
    (late > 0).then_some(late)
}

/// Steps by which a cluster claims its run.
const GUARDS: &str = "sluicegate/guard/";

/// The task partitions that a cluster works on, from the names of its steps:
/// `task/partition/step/number`.
fn partitions_of(cluster: &Cluster) -> String {
    let partition = |name: &str| {
        let mut parts = name.split('/');
        Some(format!("{} {}", parts.next()?, parts.next()?))
    };
    let work = cluster.steps.iter().filter(|step| !step.name.starts_with(GUARDS));
    let names: BTreeSet<String> = work.filter_map(|step| partition(&step.name)).collect();
    Vec::from_iter(names).join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2013-01-01T{time}:00Z").parse().unwrap()
    }

    fn texts(watch: &mut Watch, now: &str) -> Vec<String> {
        let lines = watch.take_lines(at(now)).into_iter();
        lines.map(|line| format!("{} {}", line.at.strftime("%H:%M"), line.text)).collect()
    }

    fn delivery(time: &str, key: &str) -> Delivery {
        Delivery {
            at: at(time),
            bucket: "b".to_owned(),
            key: key.to_owned(),
            body: bytes::Bytes::from_static(b"12345"),
        }
    }

    fn cluster(state: &str, ended: Option<&str>, steps: &[(&str, &str, &str)]) -> Cluster {
        let step = |(name, state, changed): &(&str, &str, &str)| Step {
            id: (*name).to_owned(),
            name: (*name).to_owned(),
            state: (*state).to_owned(),
            started: None,
            changed: at(changed),
            message: (*state == "FAILED").then(|| "exit code 3".to_owned()),
        };
        Cluster {
            id: "j-1".to_owned(),
            name: "demo/R/1".to_owned(),
            state: state.to_owned(),
            created: at("11:16"),
            ended: ended.map(at),
            steps: steps.iter().map(step).collect(),
        }
    }

    #[test]
    fn objects_are_folded_by_folder_until_something_else_happens() {
        let mut watch = Watch::default();
        watch.delivered(&delivery("10:20", "partners/planes/x.gz"));
        watch.delivered(&delivery("10:30", "rawdata/2013/01/01/10/a.gz"));
        watch.delivered(&delivery("10:40", "rawdata/2013/01/01/10/b.gz"));
        assert_eq!(texts(&mut watch, "10:41")[0], "10:20 partners/planes/  1 object, 5 bytes");
        watch.delivered(&delivery("11:09", "rawdata/2013/01/01/10/c.gz"));
        assert_eq!(texts(&mut watch, "11:10"), [""; 0]);
        assert_eq!(
            texts(&mut watch, "11:40"),
            ["11:09 rawdata/2013/01/01/10/  1 object, 5 bytes, 9 minutes after the hour's end"]
        );
    }

    #[test]
    fn every_change_of_a_cluster_and_its_steps_is_said_once_in_order_of_time() {
        let mut watch = Watch::default();
        let (first, second) = ("b/2013-01-01/x/1", "a/2013-01-01/x/2");
        let steps = [(first, "RUNNING", "11:18"), (second, "PENDING", "11:16")];
        watch.clusters(&[cluster("RUNNING", None, &steps)]);
        assert_eq!(
            texts(&mut watch, "11:18"),
            ["11:16 j-1 starts, for a 2013-01-01 and b 2013-01-01", "11:18 b/2013-01-01/x/1 runs"]
        );
        let steps = [(first, "FAILED", "11:20"), (second, "CANCELLED", "11:19")];
        let ended = cluster("TERMINATED", Some("11:21"), &steps);
        watch.clusters(std::slice::from_ref(&ended));
        watch.clusters(&[ended]);
        assert_eq!(
            texts(&mut watch, "11:22"),
            [
                "11:19 a/2013-01-01/x/2 was cancelled by the failure before it",
                "11:20 b/2013-01-01/x/1 failed: exit code 3",
                "11:21 j-1 terminated, after a 2013-01-01 and b 2013-01-01",
            ]
        );
    }
}
