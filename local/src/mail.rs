//! The e-mails that SNS would send, as files that any mail program opens.
//! Nothing is sent anywhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use mail_builder::MessageBuilder;
use mail_builder::headers::date::Date;
use mail_builder::headers::text::Text;

use crate::sqs::queue::MessageAttributes;

/// What stands under every mail of SNS.
const FOOTER: &str = "If you wish to stop receiving notifications from this topic, please click or visit the link below to unsubscribe:";
const CONTACT: &str = "Please do not reply directly to this email. If you have any questions or comments regarding this email, please contact us at https://aws.amazon.com/support";
/// The longest part of a subject in a file's name.
const SLUG_LENGTH_MAX: usize = 60;

/// One mail to one address.
#[derive(Debug)]
pub struct Mail<'a> {
    pub to: &'a str,
    pub subject: &'a str,
    pub text: &'a str,
    pub attributes: &'a MessageAttributes,
    pub message_id: &'a str,
    pub unsubscribe_url: &'a str,
    /// By the development clock.
    pub time: Timestamp,
}

/// A folder of numbered mails.
#[derive(Debug)]
pub struct Mailbox {
    folder: PathBuf,
    last: Mutex<u32>,
}

impl Mailbox {
    /// Goes on counting where the folder's mails end.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut last = 0;
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.split('-').next());
            if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
                last = number.max(last);
            }
        }
        Ok(Self { folder: folder.to_owned(), last: Mutex::new(last) })
    }

    /// Writes the mail to the next file.
    pub fn put(&self, mail: &Mail<'_>) -> io::Result<PathBuf> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        let file = self.folder.join(format!("{:04}-{}.eml", *last, slug(mail.subject)));
        // Whoever looks into the folder sees whole mails.
        let draft = file.with_extension("draft");
        fs::write(&draft, render(mail)?)?;
        fs::rename(&draft, &file)?;
        Ok(file)
    }
}

fn render(mail: &Mail<'_>) -> io::Result<Vec<u8>> {
    let text = format!("{}\n\n--\n{FOOTER}\n{}\n\n{CONTACT}\n", mail.text, mail.unsubscribe_url);
    let mut builder = MessageBuilder::new()
        .from(("AWS Notifications", "no-reply@sns.amazonaws.com"))
        .to(mail.to)
        .subject(mail.subject)
        .date(Date::new(mail.time.as_second()))
        .message_id(format!("{}@sns.amazonaws.com", mail.message_id))
        .text_body(text);
    for (name, attribute) in mail.attributes {
        if let Some(value) = &attribute.string_value {
            let header = format!("X-Attribute-{}", header_name(name));
            builder = builder.header(header, Text::new(value.as_str()));
        }
    }
    builder.write_to_vec()
}

fn header_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(allowed).collect()
}

/// Words of the subject, joined by hyphens.
fn slug(subject: &str) -> String {
    let mut slug = String::new();
    for word in subject.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
        if slug.len() + word.len() > SLUG_LENGTH_MAX {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(&word.to_ascii_lowercase());
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqs::queue::MessageAttribute;

    #[test]
    fn writes_numbered_mails_that_carry_the_attributes() {
        let dir = tempfile::tempdir().unwrap();
        let attribute = MessageAttribute {
            data_type: "String".to_owned(),
            string_value: Some("FAILED".to_owned()),
            binary_value: None,
        };
        let mail = Mail {
            to: "ops@example.com",
            subject: "[demo] flights 2013-01-01T05: FAILED",
            text: "The step exited with 3.",
            attributes: &MessageAttributes::from([("task_state".to_owned(), attribute)]),
            message_id: "m-1",
            unsubscribe_url: "http://127.0.0.1:1/",
            time: "2013-01-01T06:00:00Z".parse().unwrap(),
        };
        Mailbox::open(dir.path()).unwrap().put(&mail).unwrap();
        let file = Mailbox::open(dir.path()).unwrap().put(&mail).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(name, "0002-demo-flights-2013-01-01t05-failed.eml");
        let text = fs::read_to_string(&file).unwrap();
        for part in [
            "To: <ops@example.com>",
            "Subject: [demo] flights 2013-01-01T05: FAILED",
            "Date: Tue, 1 Jan 2013 06:00:00 +0000",
            "X-Attribute-task-state: FAILED",
            "The step exited with 3.",
            "to unsubscribe:",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}
