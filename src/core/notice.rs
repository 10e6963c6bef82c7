//! A notice: one status change in words, ready to be published. It is stored
//! with the change it tells of; `engine::outbox` publishes it. What each kind
//! says stands where its change is made, not here.

mod glance;

use std::collections::BTreeMap;

use jiff::{SignedDuration, SignedDurationRound, Timestamp, Unit};
use serde::{Deserialize, Serialize};

use super::class::FailureClass;

pub use glance::NoticeGlance;

/// What a reader may filter by: a failure or a lateness needs somebody, a
/// recovery ends that need, the rest is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    /// Something that should have happened by now has not, or came too late.
    Lateness,
    /// What people were told of before is as it should be again.
    Recovery,
    Failure,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Lateness => "lateness",
            Severity::Recovery => "recovery",
            Severity::Failure => "failure",
        }
    }
}

/// What a notice is about; a reader may filter by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A task partition's state.
    Task,
    Run,
    /// A step's failure that is retried, or the log of one that is not.
    Step,
    /// A backfill as a whole.
    Backfill,
    /// A message of the inbox.
    Message,
    /// The service itself, such as its configuration.
    #[default]
    Service,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Task => "task",
            Kind::Run => "run",
            Kind::Step => "step",
            Kind::Backfill => "backfill",
            Kind::Message => "message",
            Kind::Service => "service",
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
        Self { label: label.to_owned(), text: clipped(&text.into(), FACT_CHARS_MAX) }
    }

    /// Since when something has been so, and how long that is.
    pub fn since(label: &str, since: Timestamp, now: Timestamp) -> Self {
        Self::new(label, format!("{} ({})", instant(since), span(since, now)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same for every delivery of the same change.
    pub id: String,
    pub at: Timestamp,
    pub severity: Severity,
    #[serde(default)]
    pub kind: Kind,
    /// The state that was entered, or what happened: `ready`, `step-failed`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Of the failure that it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The first words of the subject, shortened where room is scarce: `etl`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the subject keeps whole: `2013-01-01T05 FAILED`.
    pub headline: String,
    /// What the subject adds as far as there is room: `exit code 3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The body's first line; without it the subject's words stand there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sentence: String,
    pub facts: Vec<Fact>,
    /// Somebody else's text below the facts, such as the end of a log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub quote: String,
    /// It tells how something went that a person has asked for: the answer to that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answer: bool,
    /// It repeats one that was told shortly before; a summary follows. Decided
    /// when it is published, so never stored.
    #[serde(skip)]
    pub folded: bool,
}

/// What SNS gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Under 100 printable ASCII characters, as SNS demands.
    pub subject: String,
    pub body: String,
    /// For filter policies of subscriptions. At most 10, or a queue with raw
    /// delivery would not get the message.
    pub attributes: BTreeMap<&'static str, String>,
}

#[cfg(test)]
impl Message {
    /// All of it, for the snapshots of what people read.
    pub fn as_text(&self) -> String {
        let attributes = self.attributes.iter().map(|(name, value)| format!("{name}={value}"));
        let attributes = attributes.collect::<Vec<_>>().join("\n");
        format!("{}\n\n{}\n-- \n{attributes}", self.subject, self.body)
    }
}

/// SNS refuses subjects of 100 characters and more.
const SUBJECT_CHARS_MAX: usize = 99;
/// What names are shortened to when a subject is too long.
const SUBJECT_DEPLOYMENT_CHARS: usize = 16;
const SUBJECT_NAME_CHARS: usize = 36;
/// A shorter rest of a detail says nothing: names are shortened before.
const SUBJECT_DETAIL_CHARS_MIN: usize = 20;
/// Facts come from step logs and partners' keys, and are stored with their
/// change: bounded well below SNS's 256 KiB and DynamoDB's 400 KB.
const FACT_CHARS_MAX: usize = 2_000;
const LABEL_CHARS_MAX: usize = 24;
/// No fact is added to a body that is longer already.
const BODY_BYTES_MAX: usize = 64 * 1024;
const QUOTE_CHARS_MAX: usize = 8_000;

impl Notice {
    /// A notice that says nothing yet but `headline`.
    pub fn new(
        kind: Kind,
        id: String,
        at: Timestamp,
        severity: Severity,
        status: &str,
        headline: impl Into<String>,
    ) -> Self {
        Self {
            id,
            at,
            severity,
            kind,
            status: status.to_owned(),
            task: None,
            partition: None,
            run: None,
            profile: None,
            class: None,
            name: String::new(),
            headline: headline.into(),
            detail: String::new(),
            sentence: String::new(),
            facts: Vec::new(),
            quote: String::new(),
            answer: false,
            folded: false,
        }
    }

    /// The subject's first words, which may be shortened.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What the subject adds as far as there is room.
    #[must_use]
    pub fn detailed(mut self, detail: &str) -> Self {
        let words = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        self.detail = clipped(&words, SUBJECT_CHARS_MAX);
        self
    }

    /// The class of the failure that it tells of.
    #[must_use]
    pub fn of_class(mut self, class: Option<FailureClass>) -> Self {
        self.class = class;
        self
    }

    /// The body's first line.
    #[must_use]
    pub fn saying(mut self, sentence: impl Into<String>) -> Self {
        self.sentence = clipped(&sentence.into(), FACT_CHARS_MAX);
        self
    }

    /// Somebody else's text, to stand below the facts.
    #[must_use]
    pub fn quoting(mut self, text: &str) -> Self {
        self.quote = clipped(text, QUOTE_CHARS_MAX);
        self
    }

    #[must_use]
    pub fn with(mut self, facts: impl IntoIterator<Item = Fact>) -> Self {
        self.facts.extend(facts);
        self
    }

    pub fn message(&self, deployment: &str) -> Message {
        Message {
            subject: self.subject(deployment),
            body: self.body(deployment),
            attributes: self.attributes(deployment),
        }
    }

    /// `[deployment] name headline: detail`. When that is too long, the detail
    /// is cut first, then the names; the headline stays.
    fn subject(&self, deployment: &str) -> String {
        let start = |deployment: &str, name: &str| {
            let words = [&format!("[{deployment}]"), name, &self.headline];
            let words = words.iter().filter(|word| !word.is_empty()).copied();
            words.collect::<Vec<_>>().join(" ")
        };
        let detail = self.detail.chars().count();
        let mut subject = start(deployment, &self.name);
        let room = SUBJECT_CHARS_MAX.saturating_sub(subject.chars().count() + 2);
        if subject.chars().count() > SUBJECT_CHARS_MAX
            || room < detail.min(SUBJECT_DETAIL_CHARS_MIN)
        {
            subject = start(
                &shortened(deployment, SUBJECT_DEPLOYMENT_CHARS),
                &shortened(&self.name, SUBJECT_NAME_CHARS),
            );
        }
        if detail > 0 {
            subject = format!("{subject}: {}", self.detail);
        }
        let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
        cut(&subject.chars().map(printable).collect::<String>(), SUBJECT_CHARS_MAX)
    }

    fn body(&self, deployment: &str) -> String {
        let sentence = match self.sentence.as_str() {
            "" => [self.name.as_str(), &self.headline].join(" "),
            sentence => sentence.to_owned(),
        };
        let mut facts = vec![Fact::new("when", instant(self.at))];
        for (label, text) in [
            ("task", &self.task),
            ("partition", &self.partition),
            ("run", &self.run),
            ("profile", &self.profile),
        ] {
            facts.extend(text.as_ref().map(|text| Fact::new(label, text)));
        }
        facts.extend(self.class.map(|class| Fact::new("class", class.name())));
        facts.extend_from_slice(&self.facts);
        let column = facts.iter().map(|fact| fact.label.chars().count()).max().unwrap_or(0);
        let column = column.clamp("deployment".len(), LABEL_CHARS_MAX) + 2;
        let line = |fact: &Fact| {
            let label = single_line(&clipped(&fact.label, LABEL_CHARS_MAX));
            let text = indented(&clipped(&fact.text, FACT_CHARS_MAX), column);
            format!("{:<column$}{}\n", format!("{label}:"), text.trim_start())
        };
        let mut body = format!("{}.\n\n", single_line(sentence.trim().trim_end_matches('.')));
        for (number, fact) in facts.iter().enumerate() {
            if body.len() > BODY_BYTES_MAX {
                let left = facts.len() - number;
                body.push_str(&line(&Fact::new("more", format!("{left} lines are left out"))));
                break;
            }
            body.push_str(&line(fact));
        }
        body.push_str(&line(&Fact::new("deployment", deployment)));
        body.push_str(&line(&Fact::new("event", self.id.as_str())));
        if !self.quote.trim().is_empty() {
            let quote = clipped(&self.quote, QUOTE_CHARS_MAX);
            body.push_str(&format!("\n{}\n", indented(&quote, QUOTE_INDENT)));
        }
        body
    }

    fn attributes(&self, deployment: &str) -> BTreeMap<&'static str, String> {
        let always = [
            ("deployment", deployment),
            ("event", &self.id),
            ("kind", self.kind.name()),
            ("severity", self.severity.name()),
            ("status", &self.status),
        ];
        // Ten are the most that SNS delivers to a queue with raw delivery: a repeat
        // goes without its run.
        let last = match self.folded {
            true => ("folded", &Some("true".to_owned())),
            false => ("run", &self.run),
        };
        let sometimes = [
            ("task", &self.task),
            ("partition", &self.partition),
            ("profile", &self.profile),
            last,
        ];
        let sometimes =
            sometimes.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        // SNS takes no empty values.
        let class = self.class.map(|class| ("class", class.name()));
        let all =
            always.into_iter().chain(sometimes).chain(class).filter(|(_, value)| !value.is_empty());
        all.map(|(name, value)| (name, single_line(value))).collect()
    }
}

/// Deeper than any line of ours, so that a quoted line cannot pass for a fact.
const QUOTE_INDENT: usize = 4;

/// `2013-01-01 06:10:00 UTC`.
pub fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long it is from one instant to another: `1h 16m 49s`. Clocks may be set
/// back; then it is nothing.
pub fn span(from: Timestamp, to: Timestamp) -> String {
    let span = to.duration_since(from).max(SignedDuration::ZERO);
    let seconds = span.round(SignedDurationRound::new().smallest(Unit::Second)).unwrap_or(span);
    format!("{seconds:#}")
}

/// Shortens a name in its middle: its ends tell more.
fn shortened(name: &str, chars: usize) -> String {
    let count = name.chars().count();
    if count <= chars {
        return name.to_owned();
    }
    let kept = chars.saturating_sub(2);
    let start: String = name.chars().take(kept - kept / 2).collect();
    let end: String = name.chars().skip(count - kept / 2).collect();
    format!("{start}..{end}")
}

/// Cuts an ASCII text at its end, and shows that.
fn cut(text: &str, chars: usize) -> String {
    match text.len() > chars {
        true => format!("{}...", text.get(..chars.saturating_sub(3)).unwrap_or_default()),
        false => text.to_owned(),
    }
}

/// Bounds a text. What is clipped once stays as it is.
pub fn clipped(text: &str, chars: usize) -> String {
    const MARK: &str = " […]";
    if text.chars().nth(chars).is_none() {
        return text.to_owned();
    }
    let kept = text.chars().take(chars.saturating_sub(MARK.chars().count()));
    kept.chain(MARK.chars()).collect()
}

/// A letter that neither SNS refuses nor a mail program obeys: the others
/// become `�`.
fn harmless(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        c if is_obeyed(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Whether a mail program or a terminal obeys a letter instead of showing it:
/// control characters, foreign line ends, marks of the writing direction.
pub fn is_obeyed(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    ) || c.is_control()
}

fn single_line(text: &str) -> String {
    text.chars().map(|c| harmless(if c == '\n' { ' ' } else { c })).collect()
}

/// Every line of a text, harmless and moved to the right.
fn indented(text: &str, column: usize) -> String {
    let lines = text.trim_end().lines();
    let lines = lines.map(|line| format!("{:column$}{}", "", single_line(line.trim_end())));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notice(name: &str, headline: &str, detail: &str) -> Notice {
        let at = "2013-01-01T06:10:00Z".parse().unwrap();
        let id = "etl/2013-01-01T05/failed".to_owned();
        let notice = Notice::new(Kind::Task, id, at, Severity::Failure, "failed", headline);
        notice.named(name).detailed(detail)
    }

    fn subject(deployment: &str, name: &str, headline: &str, detail: &str) -> String {
        notice(name, headline, detail).message(deployment).subject
    }

    #[test]
    fn a_subject_says_what_matters_first() {
        let long = "a-task-with-a-name-that-is-as-long-as-the-configuration-allows-it";
        for (deployment, name, headline, detail, expected) in [
            (
                "prod",
                "etl",
                "2013-01-01T05 FAILED",
                "exit code 3",
                "[prod] etl 2013-01-01T05 FAILED: exit code 3",
            ),
            ("prod", "", "a message came", "", "[prod] a message came"),
            (
                "prod",
                "etl",
                "2013-01-01T05 FAILED",
                &"the reason is long ".repeat(6),
                "[prod] etl 2013-01-01T05 FAILED: the reason is long the reason is long the reason is long the re...",
            ),
            (
                "a-deployment-of-many-words",
                long,
                "2013-01-01T05 FAILED",
                "step transform failed: exit code 3",
                "[a-deplo..y-words] a-task-with-a-nam..uration-allows-it 2013-01-01T05 FAILED: step transform fai...",
            ),
            ("prod", "etl", "FAILED", "caf\u{e9}\n  \u{1b}[31m", "[prod] etl FAILED: caf? ?[31m"),
        ] {
            assert_eq!(subject(deployment, name, headline, detail), expected);
        }
    }

    #[test]
    fn foreign_text_cannot_pass_for_ours() {
        let fact = Fact::new("reason", "first\nnext: nothing\r\n\tthird\u{2028}x\u{202e}y\u{85}z");
        let notice = notice("etl", "FAILED", "").with([fact]);
        let body = notice.quoting("quoted\nnext: nothing\n\u{1b}[0m\n\n").message("prod").body;
        assert_eq!(
            body,
            "etl FAILED.\n\n\
             when:       2013-01-01 06:10:00 UTC\n\
             reason:     first\n            next: nothing\n             third\u{fffd}x\u{fffd}y\u{fffd}z\n\
             deployment: prod\n\
             event:      etl/2013-01-01T05/failed\n\n    quoted\n    next: nothing\n    \u{fffd}[0m\n"
        );
    }

    #[test]
    fn a_span_reads_easily_and_is_never_negative() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let start = at("2013-01-01T05:00:00Z");
        for (end, expected) in [
            ("2013-01-01T06:16:49.4Z", "1h 16m 49s"),
            ("2013-01-01T05:00:00.2Z", "0s"),
            ("2013-01-01T04:00:00Z", "0s"),
        ] {
            assert_eq!(span(start, at(end)), expected);
        }
    }

    /// What an older version has stored.
    #[test]
    fn notices_without_the_newer_fields_are_read() {
        let old = r#"{"id": "a", "at": "2013-01-01T06:10:00Z", "severity": "info",
            "status": "ready", "headline": "etl 2013-01-01 is ready", "facts": []}"#;
        let notice: Notice = serde_json::from_str(old).unwrap();
        assert_eq!(notice.message("prod").subject, "[prod] etl 2013-01-01 is ready");
    }

    fn foreign_text() -> impl Strategy<Value = String> {
        prop_oneof![
            ".{0,200}",
            "\\PC{0,50}",
            any::<String>(),
            "[\\x00-\\x1f\u{80}-\u{9f}é𝄞]{0,3000}"
        ]
    }

    /// The characters that XML 1.0, and so SNS on its way to a queue, knows.
    fn is_deliverable(c: char) -> bool {
        matches!(c, '\n' | ' '..='\u{7e}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever partners and logs say, SNS accepts the message.
        #[test]
        fn sns_accepts_every_message(
            deployment in "[A-Za-z0-9_-]{1,64}",
            name in foreign_text(),
            headline in foreign_text(),
            detail in foreign_text(),
            facts in proptest::collection::vec((foreign_text(), foreign_text()), 0..20),
            quote in foreign_text(),
            task in proptest::option::of(foreign_text()),
        ) {
            let mut notice = notice(&name, &headline, &detail).quoting(&quote).saying(headline);
            notice.facts = facts.into_iter().map(|(label, text)| Fact { label, text }).collect();
            notice.task = task;
            (notice.partition, notice.run) = (Some("2013-01-01".into()), Some("R".into()));
            notice.class = Some(FailureClass::SpotLoss);
            notice.profile = Some("p".into());
            notice.folded = true;
            let Message { subject, body, attributes } = notice.message(&deployment);
            prop_assert!(subject.len() < 100, "{}", subject);
            prop_assert!(subject.chars().all(|c| c == ' ' || c.is_ascii_graphic()));
            prop_assert!(subject.starts_with('['));
            prop_assert!(body.chars().all(is_deliverable), "{:?}", body);
            let bytes = body.len() + attributes.values().map(String::len).sum::<usize>();
            prop_assert!(bytes < 256 * 1024 && attributes.len() <= 10);
            prop_assert!(attributes.values().all(|value| !value.is_empty()));
            prop_assert!(attributes.values().flat_map(|value| value.chars()).all(is_deliverable));
        }
    }
}
