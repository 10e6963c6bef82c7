//! Reads the mails that the local SNS has written, as their reader would.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mail_parser::{HeaderName, MessageParser};

/// What of a mail matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub at: Timestamp,
    /// The notice it carries.
    pub event: String,
    pub severity: String,
    pub status: String,
    pub task: Option<String>,
    pub partition: Option<String>,
    pub run: Option<String>,
}

/// A folder of mails, read as they come.
#[derive(Debug)]
pub struct Mailbox {
    folder: PathBuf,
    /// In order of their numbers.
    mails: BTreeMap<String, Mail>,
}

impl Mailbox {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, mails: BTreeMap::new() }
    }

    /// All mails read so far.
    pub fn mails(&self) -> impl ExactSizeIterator<Item = &Mail> {
        self.mails.values()
    }

    /// Reads what has come since the last time.
    pub fn read_new(&mut self) -> io::Result<Vec<Mail>> {
        let mut new = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".eml") && !self.mails.contains_key(&name) {
                // One that is still being written is read the next time.
                new.extend(read(&path)?.map(|mail| (name, mail)));
            }
        }
        let mails = new.values().cloned().collect();
        self.mails.append(&mut new);
        Ok(mails)
    }
}

fn read(path: &Path) -> io::Result<Option<Mail>> {
    let content = fs::read(path)?;
    Ok(parse(&content))
}

fn parse(content: &[u8]) -> Option<Mail> {
    let parser = MessageParser::new().header_date(HeaderName::Date).default_header_text();
    let message = parser.parse(content)?;
    let attribute = |name: &str| {
        let header = HeaderName::Other(format!("X-Attribute-{name}").into());
        message.header(header)?.as_text().map(|text| text.trim().to_owned())
    };
    Some(Mail {
        subject: message.subject()?.to_owned(),
        at: Timestamp::from_second(message.date()?.to_timestamp()).ok()?,
        event: attribute("event")?,
        severity: attribute("severity")?,
        status: attribute("status")?,
        task: attribute("task"),
        partition: attribute("partition"),
        run: attribute("run"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Mail as Outgoing, Mailbox as Outbox};
    use crate::sqs::queue::{MessageAttribute, MessageAttributes};

    fn attributes(pairs: &[(&str, &str)]) -> MessageAttributes {
        let text = |value: &str| MessageAttribute {
            data_type: "String".to_owned(),
            string_value: Some(value.to_owned()),
            binary_value: None,
        };
        pairs.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
    }

    #[test]
    fn reads_what_sns_writes_and_nothing_twice() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        let time: Timestamp = "2013-01-01T11:16:00Z".parse().unwrap();
        // Longer than a line of a mail may be, so that it is folded.
        let event = format!("run/{}/1/step-failed/weather-check/2013-01-01/x/2", "0".repeat(60));
        let attributes = attributes(&[
            ("event", &event),
            ("severity", "warning"),
            ("status", "step-failed"),
            ("run", "01J"),
        ]);
        let put = |subject: &str| {
            let mail = Outgoing {
                to: "operator@example.com",
                subject,
                text: "body",
                attributes: &attributes,
                message_id: "id",
                unsubscribe_url: "http://localhost/",
                time,
            };
            outbox.put(&mail).unwrap();
        };
        let mut mailbox = Mailbox::new(folder.path().to_owned());
        let subject = format!("[demo] run of {} retries a failed step", "weather-check ".repeat(5));
        put(&subject);
        fs::write(folder.path().join("0002-half.eml"), "Subject: not yet").unwrap();
        let mail = Mail {
            subject,
            at: time,
            event,
            severity: "warning".to_owned(),
            status: "step-failed".to_owned(),
            task: None,
            partition: None,
            run: Some("01J".to_owned()),
        };
        assert_eq!(mailbox.read_new().unwrap(), [mail]);
        assert_eq!(mailbox.read_new().unwrap(), []);
        put("another");
        assert_eq!(mailbox.read_new().unwrap().len(), 1);
        assert_eq!(mailbox.mails().len(), 2);
    }
}
