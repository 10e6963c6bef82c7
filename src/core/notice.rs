//! A notice: one status change in words, ready to be published. It is stored
//! with the change it tells of; `engine::outbox` publishes it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a reader may filter by: a failure needs somebody, the rest is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    Failure,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Failure => "failure",
        }
    }
}

/// One line of the body: `reason: exit code 3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub label: String,
    pub text: String,
}

impl Fact {
    pub fn new(label: &str, text: impl Into<String>) -> Self {
        Self { label: label.to_owned(), text: text.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same for every delivery of the same change.
    pub id: String,
    pub at: Timestamp,
    pub severity: Severity,
    /// The state that was entered, or what happened: `ready`, `step-retried`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    pub headline: String,
    pub facts: Vec<Fact>,
}

/// What SNS gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Under 100 printable ASCII characters, as SNS demands.
    pub subject: String,
    pub body: String,
    /// For filter policies of subscriptions.
    pub attributes: BTreeMap<&'static str, String>,
}

/// SNS refuses subjects of 100 characters and more.
const SUBJECT_CHARS_MAX: usize = 99;
/// Facts come from step logs and partners' keys: bounded well below SNS's
/// 256 KiB.
const FACT_CHARS_MAX: usize = 4_000;

impl Notice {
    pub fn message(&self, deployment: &str) -> Message {
        let subject = subject(&format!("[{deployment}] {}", self.headline));
        let mut body = format!("{}.\n\n", self.headline);
        let mut line = |label: &str, text: &str| {
            body.push_str(&format!("{:<12}{}\n", format!("{label}:"), clipped(text)));
        };
        line("when", &self.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        for (label, text) in
            [("task", &self.task), ("partition", &self.partition), ("run", &self.run)]
        {
            if let Some(text) = text {
                line(label, text);
            }
        }
        for fact in &self.facts {
            line(&fact.label, &fact.text);
        }
        line("deployment", deployment);
        line("event", &self.id);
        Message { subject, body, attributes: self.attributes(deployment) }
    }

    fn attributes(&self, deployment: &str) -> BTreeMap<&'static str, String> {
        let mut attributes = BTreeMap::from([
            ("deployment", deployment.to_owned()),
            ("event", self.id.clone()),
            ("severity", self.severity.name().to_owned()),
            ("status", self.status.clone()),
        ]);
        for (name, value) in
            [("task", &self.task), ("partition", &self.partition), ("run", &self.run)]
        {
            if let Some(value) = value {
                attributes.insert(name, value.clone());
            }
        }
        attributes
    }
}

/// Makes a text fit for a subject: one line of printable ASCII.
fn subject(text: &str) -> String {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().map(printable).take(SUBJECT_CHARS_MAX).collect()
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(FACT_CHARS_MAX) {
        Some((end, _)) => format!("{} […]", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(headline: &str) -> Notice {
        Notice {
            id: "etl/2013-01-01T05/failed".into(),
            at: "2013-01-01T06:10:00Z".parse().unwrap(),
            severity: Severity::Failure,
            status: "failed".into(),
            task: Some("etl".into()),
            partition: Some("2013-01-01T05".into()),
            run: None,
            headline: headline.into(),
            facts: vec![Fact::new("reason", "exit code 3")],
        }
    }

    #[test]
    fn reads_as_a_mail() {
        let message = notice("etl 2013-01-01T05 FAILED").message("prod");
        assert_eq!(message.subject, "[prod] etl 2013-01-01T05 FAILED");
        assert_eq!(
            message.body,
            "etl 2013-01-01T05 FAILED.\n\n\
             when:       2013-01-01 06:10:00 UTC\n\
             task:       etl\n\
             partition:  2013-01-01T05\n\
             reason:     exit code 3\n\
             deployment: prod\n\
             event:      etl/2013-01-01T05/failed\n"
        );
        assert_eq!(message.attributes["severity"], "failure");
    }

    #[test]
    fn a_subject_is_short_and_plain() {
        let message = notice(&"ä\n".repeat(80)).message("prod");
        assert_eq!(message.subject.len(), SUBJECT_CHARS_MAX);
        assert!(message.subject.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
    }

    #[test]
    fn a_fact_is_bounded() {
        let mut long = notice("x");
        long.facts = vec![Fact::new("log", "é".repeat(1_000_000))];
        assert!(long.message("prod").body.len() < 10_000);
    }
}
