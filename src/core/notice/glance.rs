//! A notice as a list shows it: what people got, in so few words that many of them stand
//! in one item of DynamoDB. Not for publishing: that needs the whole notice.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Kind, Notice, Severity, clipped};
use crate::core::class::FailureClass;

/// Names come from the configuration and are short; an id may hold more.
const ID_CHARS_MAX: usize = 200;
const WORDS_CHARS_MAX: usize = 300;

/// A notice that SNS has accepted, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeGlance {
    /// When SNS accepted it.
    pub published: Timestamp,
    /// When the change was that it tells of.
    pub at: Timestamp,
    /// The id that its message bears.
    pub event: String,
    pub severity: Severity,
    pub kind: Kind,
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The subject's words, without the deployment.
    pub words: String,
    /// It repeated another, so mailboxes did not get it.
    #[serde(default)]
    pub folded: bool,
}

impl NoticeGlance {
    pub fn of(notice: &Notice, published: Timestamp) -> Self {
        let Notice { name, headline, detail, .. } = notice;
        let mut words = [name.as_str(), headline].join(" ").trim_start().to_owned();
        if !detail.is_empty() {
            words = format!("{words}: {detail}");
        }
        Self {
            published,
            at: notice.at,
            event: clipped(&notice.id, ID_CHARS_MAX),
            severity: notice.severity,
            kind: notice.kind,
            status: notice.status.clone(),
            task: notice.task.clone(),
            partition: notice.partition.clone(),
            run: notice.run.clone(),
            profile: notice.profile.clone(),
            class: notice.class,
            words: clipped(&words, WORDS_CHARS_MAX),
            folded: notice.folded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fold::as_repeat;
    use crate::core::notice::Fact;

    #[test]
    fn the_longest_takes_one_write_unit_and_reads_as_it_was_written() {
        let at = Timestamp::UNIX_EPOCH;
        let long = "é".repeat(5_000);
        let notice = Notice::new(Kind::Task, long.clone(), at, Severity::Failure, "failed", &long)
            .named("etl")
            .detailed(&long)
            .quoting(&long)
            .with([Fact::new("reason", long.as_str())]);
        let glance = NoticeGlance::of(&as_repeat(&notice), at);
        assert!(glance.folded);
        let text = serde_json::to_string(&glance).unwrap();
        // Beside it stand the key, which holds the id again, and two numbers.
        assert!(text.chars().count() < 900, "{} characters", text.chars().count());
        assert_eq!(serde_json::from_str::<NoticeGlance>(&text).unwrap(), glance);
    }

    #[test]
    fn the_words_are_the_subject_s_without_the_deployment() {
        for (name, headline, detail, words) in [
            ("etl", "2013-01-01T05 FAILED", "exit code 3", "etl 2013-01-01T05 FAILED: exit code 3"),
            ("etl", "2013-01-01T05 is ready", "", "etl 2013-01-01T05 is ready"),
            ("", "task files are broken", "", "task files are broken"),
        ] {
            let at = Timestamp::UNIX_EPOCH;
            let notice = Notice::new(Kind::Task, "e".into(), at, Severity::Info, "x", headline)
                .named(name)
                .detailed(detail);
            assert_eq!(NoticeGlance::of(&notice, at).words, words);
            assert_eq!(notice.message("d").subject, format!("[d] {words}"));
        }
    }
}
