//! The logs of steps that failed for good. EMR writes them to S3 minutes after
//! the failure has been told, so their end follows as a notice of its own: the
//! run keeps what is still wanted, and says what to read and when to give up.
//! Reads nothing itself.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Run, StepTry};
use crate::core::task::TaskKey;

/// How long after its cluster's end a log may still come: EMR writes logs every
/// five minutes, and the last ones when the cluster ends.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_mins(20);
/// A log that was written so shortly before the step's end, as EMR tells it,
/// still holds that end: two services' clocks differ a little.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(5);
/// What EMR writes of each step, the most telling first.
const FILES: [&str; 4] = ["stderr.gz", "stdout.gz", "controller.gz", "syslog.gz"];
/// How much of a log's end is told.
const LINES_MAX: usize = 20;
const CHARS_MAX: usize = 2_000;
/// A longer line leaves no room for others.
const LINE_CHARS_MAX: usize = 400;

/// The log of a failed step that nobody has been told of yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogWanted {
    pub key: TaskKey,
    pub step: String,
    /// The try's name: unique in the run.
    pub try_name: String,
    /// Where EMR writes it: `s3://…/j-1/steps/s-1/`.
    pub folder: String,
    /// When the step ended; what was written before may lack its end.
    pub ended: Option<Timestamp>,
    /// Set when the cluster has ended.
    pub give_up: Option<Timestamp>,
}

/// One log file in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// `stderr.gz`.
    pub name: String,
    pub written: Timestamp,
}

/// What became of a log that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSeen {
    /// The end of a log file.
    Tail { file: String, text: String },
    /// It is there, and too large to be read.
    TooLarge { file: String },
    /// It has not come, or nothing stands in it.
    Nothing,
}

impl LogWanted {
    /// Whether this is the last time that it is looked for.
    pub fn is_last_look(&self, now: Timestamp) -> bool {
        self.give_up.is_some_and(|give_up| give_up <= now)
    }

    /// Which of the files to read, best first. As long as a better one may
    /// still come, a worse one is not read.
    pub fn readable<'a>(&self, files: &'a [LogFile], now: Timestamp) -> Vec<&'a LogFile> {
        let last_look = self.is_last_look(now);
        let found = FILES.iter().map(|name| files.iter().find(|file| file.name == *name));
        if last_look {
            return found.flatten().collect();
        }
        let final_ones = found.map_while(|file| file.filter(|file| self.is_final(file)));
        final_ones.collect()
    }

    fn is_final(&self, file: &LogFile) -> bool {
        let written = file.written.saturating_add(SKEW_MAX).unwrap_or(Timestamp::MAX);
        self.ended.is_none_or(|ended| written >= ended)
    }
}

impl Run {
    /// Wants the log of a step that failed for good, if the cluster has a
    /// place for logs.
    pub(super) fn want_log(&mut self, failed: &StepTry) {
        let Some(folder) = self.step_log_folder(failed) else { return };
        let Some(member) = self.members.get(failed.member) else { return };
        if member.round.backfill.is_some() {
            return;
        }
        let Some(step) = member.steps.get(failed.step) else { return };
        self.logs.push(LogWanted {
            key: member.key.clone(),
            step: step.name.clone(),
            try_name: failed.name.clone(),
            folder,
            ended: failed.ended,
            give_up: None,
        });
    }

    /// The cluster has ended: what does not come soon never will.
    pub(super) fn limit_logs(&mut self, now: Timestamp) {
        let give_up = now.saturating_add(GIVE_UP_AFTER).unwrap_or(Timestamp::MAX);
        for log in &mut self.logs {
            log.give_up.get_or_insert(give_up);
        }
    }

    /// Takes in what became of a log, by the name of its try: it is told, and
    /// wanted no longer. Changes nothing when it was told before. False when
    /// too many notices wait for SNS: then it is to be taken in later.
    #[must_use]
    pub fn take_log(&mut self, try_name: &str, seen: &LogSeen, now: Timestamp) -> bool {
        let Some(index) = self.logs.iter().position(|log| log.try_name == try_name) else {
            return true;
        };
        if !self.has_room_for_log() {
            return false;
        }
        let log = self.logs.remove(index);
        self.tell_log(&log, seen, now);
        self.bound_notices();
        true
    }

    /// Where EMR writes the logs of a try of the open attempt.
    pub(super) fn step_log_folder(&self, step_try: &StepTry) -> Option<String> {
        let cluster = self.log_folder(self.attempts.last()?)?;
        Some(format!("{cluster}steps/{}/", step_try.id.as_deref()?))
    }
}

/// The last lines of a log, long ones cut, within bounds.
pub(super) fn last_lines(text: &str) -> String {
    let mut lines = Vec::new();
    let mut left = CHARS_MAX;
    for line in text.trim_end().lines().rev().take(LINES_MAX) {
        let mut line = line.trim_end().to_owned();
        if let Some((end, _)) = line.char_indices().nth(LINE_CHARS_MAX) {
            line.truncate(end);
            line.push_str(" […]");
        }
        let chars = line.chars().count() + 1;
        if chars > left {
            break;
        }
        left -= chars;
        lines.push(line);
    }
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(1_357_000_000 + secs).unwrap()
    }

    /// The files that are read of those that are there (name, age), for a step
    /// that ended at 100.
    fn readable(files: &[(&str, i64)], give_up: Option<i64>, now: i64) -> Vec<String> {
        let wanted = LogWanted {
            key: TaskKey::new("etl", "2013-01-01T05".parse().unwrap()),
            step: "transform".into(),
            try_name: "etl/2013-01-01T05/transform/1".into(),
            folder: "s3://logs/j-1/steps/s-1/".into(),
            ended: Some(at(100)),
            give_up: give_up.map(at),
        };
        let files: Vec<_> = files
            .iter()
            .map(|(name, written)| LogFile { name: format!("{name}.gz"), written: at(*written) })
            .collect();
        let readable = wanted.readable(&files, at(now));
        readable.into_iter().map(|file| file.name.replace(".gz", "")).collect()
    }

    #[test]
    fn a_log_is_read_when_it_holds_the_steps_end_and_no_better_one_may_come() {
        let nothing = [""; 0];
        assert_eq!(readable(&[], None, 200), nothing);
        // Written while the step still ran: what failed is not in it.
        assert_eq!(readable(&[("stderr", 50)], None, 200), nothing);
        assert_eq!(readable(&[("stderr", 96)], None, 200), ["stderr"]);
        assert_eq!(readable(&[("controller", 150), ("stdout", 150)], None, 200), nothing);
        let all = [("controller", 150), ("stderr", 150), ("stdout", 50)];
        assert_eq!(readable(&all, None, 200), ["stderr"]);
        // In the end anything is better than nothing.
        assert_eq!(readable(&all, Some(200), 199), ["stderr"]);
        assert_eq!(readable(&all, Some(200), 200), ["stderr", "stdout", "controller"]);
        assert_eq!(readable(&[("stderr", 50)], Some(200), 200), ["stderr"]);
    }

    #[test]
    fn the_end_of_a_log_is_bounded_by_lines_and_letters() {
        assert_eq!(last_lines(" a\nb  \n\n\n"), " a\nb");
        let many: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let last = last_lines(&many);
        assert_eq!((last.lines().count(), last.lines().last()), (20, Some("line 99")));
        let wide = format!("first\n{}\nlast", "é".repeat(100_000));
        assert_eq!(last_lines(&wide).chars().count(), 5 + 1 + 404 + 1 + 4);
        assert!(last_lines(&format!("{}\n", "y".repeat(300)).repeat(50)).chars().count() <= 2_000);
    }
}
