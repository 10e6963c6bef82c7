//! `[aws]`: whether queues, topic and region can be what they are said to be.
//! Whether they exist is seen at the start of the service.

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{Aws, Text};

/// What a queue's place and a topic's ARN say of the region.
struct Seen<'a> {
    what: &'static str,
    region: &'a str,
    text: &'a Text,
}

impl Check {
    pub(super) fn aws(&mut self, aws: &Aws) {
        let queue = self.queue("queue", &aws.queue);
        let quarantine = self.queue("quarantine", &aws.quarantine);
        if aws.queue.get_ref() == aws.quarantine.get_ref() {
            self.report(Mistake::at(
                aws.quarantine.span(),
                "quarantine must be another queue than the one that is read",
            ));
        }
        let topic = self.topic(&aws.topic_arn);
        if let Some(prefix) = &aws.table_prefix {
            self.name("table prefix", prefix);
        }
        let Some(region) = &aws.region else { return };
        if !is_region(region.get_ref()) {
            self.report(
                Mistake::at(region.span(), format!("{:?} is no region", region.get_ref()))
                    .help("write it as AWS does: us-east-1, eu-central-1, us-gov-west-1"),
            );
            return;
        }
        for Seen { what, region: theirs, text } in [queue, quarantine, topic].into_iter().flatten()
        {
            if theirs != region.get_ref() {
                self.report(
                    Mistake::at(
                        text.span(),
                        format!("{what} is in {theirs}, but region is {}", region.get_ref()),
                    )
                    .help("queues, topic and clusters of one installation are in one region"),
                );
            }
        }
    }

    fn queue<'a>(&mut self, what: &'static str, text: &'a Text) -> Option<Seen<'a>> {
        let url = text.get_ref();
        let (name, region) = match url.split_once("://") {
            Some(("https" | "http", rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                let region = host.strip_prefix("sqs.").and_then(|host| {
                    host.strip_suffix(".amazonaws.com")
                        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))
                });
                (path.rsplit('/').next().unwrap_or_default(), region)
            }
            _ => (url.as_str(), None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.ends_with(".fifo") {
            self.report(
                Mistake::at(text.span(), format!("{what} is a FIFO queue"))
                    .help("S3 notifies standard queues only, and quarantine needs no order: name a standard queue"),
            );
        } else if name.is_empty() || name.len() > 80 || !name.chars().all(plain) {
            self.report(
                Mistake::at(text.span(), format!("{what} is {url:?}, which names no queue")).help(
                    "write the queue's name (letters, digits, - and _, at most 80) or its URL, \
                     https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
                ),
            );
        }
        region.map(|region| Seen { what, region, text })
    }

    fn topic<'a>(&mut self, text: &'a Text) -> Option<Seen<'a>> {
        const FORM: &str =
            "expected arn:aws:sns:REGION:ACCOUNT:NAME, as `aws sns list-topics` shows it";
        let arn = text.get_ref();
        let parts: Vec<_> = arn.split(':').collect();
        let ["arn", partition, service, region, account, name] = parts.as_slice() else {
            let what = if parts.len() > 6 && parts[2] == "sns" {
                "topic-arn is a subscription's, not a topic's"
            } else {
                "topic-arn is no ARN of a topic"
            };
            self.report(Mistake::at(text.span(), what).help(FORM));
            return None;
        };
        let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let wrong = if !partition.starts_with("aws") {
            format!("topic-arn has the partition {partition:?}: expected aws, aws-cn or aws-us-gov")
        } else if *service != "sns" {
            format!("topic-arn is an ARN of {service:?}, not of sns")
        } else if !is_region(region) {
            format!("topic-arn has {region:?} for its region")
        } else if !digits {
            format!("topic-arn has {account:?} for its account: expected 12 digits")
        } else if name.ends_with(".fifo") {
            "topic-arn is a FIFO topic, which sends no e-mail".to_owned()
        } else if name.is_empty() || name.len() > 256 || !name.chars().all(plain) {
            format!("topic-arn has {name:?} for the topic's name")
        } else {
            return Some(Seen { what: "topic-arn", region, text });
        };
        self.report(Mistake::at(text.span(), wrong).help(FORM));
        None
    }
}

/// Whether it has the form of a region's name; new ones are added every year.
fn is_region(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words
            .iter()
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        && number.len() == 1
        && number.bytes().all(|byte| byte.is_ascii_digit())
}
