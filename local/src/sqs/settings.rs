//! The attributes of a queue: parsed once from SQS's strings, checked against
//! the ranges that SQS documents. Not for counters, which the queue knows.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::ApiError;

/// What a queue is told on creation or by SetQueueAttributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub visibility_secs: u32,
    pub wait_secs: u32,
    pub delay_secs: u32,
    pub retention_secs: u32,
    pub message_bytes_max: usize,
    pub redrive: Option<Redrive>,
    /// Policies and encryption: kept and returned, without effect here.
    pub inert: BTreeMap<String, String>,
}

/// Where messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    pub target: String,
    pub receives_max: u32,
    /// The policy as it was given.
    pub text: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            visibility_secs: 30,
            wait_secs: 0,
            delay_secs: 0,
            retention_secs: 345_600,
            message_bytes_max: 1_048_576,
            redrive: None,
            inert: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Applies attributes; nothing changes unless all are valid.
    pub fn apply(&mut self, attributes: &BTreeMap<String, String>) -> Result<(), ApiError> {
        let mut new = self.clone();
        for (name, value) in attributes {
            new.set(name, value)?;
        }
        *self = new;
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "VisibilityTimeout" => self.visibility_secs = within(name, value, 0, 43_200)?,
            "ReceiveMessageWaitTimeSeconds" => self.wait_secs = within(name, value, 0, 20)?,
            "DelaySeconds" => self.delay_secs = within(name, value, 0, 900)?,
            "MessageRetentionPeriod" => self.retention_secs = within(name, value, 60, 1_209_600)?,
            "MaximumMessageSize" => {
                self.message_bytes_max = within(name, value, 1_024, 1_048_576)? as usize;
            }
            "RedrivePolicy" if value.is_empty() => self.redrive = None,
            "RedrivePolicy" => self.redrive = Some(Redrive::parse(value)?),
            "Policy"
            | "RedriveAllowPolicy"
            | "KmsMasterKeyId"
            | "KmsDataKeyReusePeriodSeconds"
            | "SqsManagedSseEnabled" => {
                self.inert.insert(name.to_owned(), value.to_owned());
            }
            "FifoQueue"
            | "ContentBasedDeduplication"
            | "DeduplicationScope"
            | "FifoThroughputLimit" => {
                return Err(ApiError::bad_request(
                    "UnsupportedOperation",
                    "the local SQS has standard queues only",
                ));
            }
            _ => return Err(unknown_attribute(name)),
        }
        Ok(())
    }

    /// The attributes under SQS's names.
    pub fn to_attributes(&self) -> BTreeMap<String, String> {
        let mut all = self.inert.clone();
        for (name, value) in [
            ("VisibilityTimeout", u64::from(self.visibility_secs)),
            ("ReceiveMessageWaitTimeSeconds", u64::from(self.wait_secs)),
            ("DelaySeconds", u64::from(self.delay_secs)),
            ("MessageRetentionPeriod", u64::from(self.retention_secs)),
            ("MaximumMessageSize", self.message_bytes_max as u64),
        ] {
            all.insert(name.to_owned(), value.to_string());
        }
        if let Some(redrive) = &self.redrive {
            all.insert("RedrivePolicy".to_owned(), redrive.text.clone());
        }
        all
    }
}

impl Redrive {
    fn parse(text: &str) -> Result<Self, ApiError> {
        // The service accepts the count as a number and as a string.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Count {
            Number(u32),
            Text(String),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            dead_letter_target_arn: String,
            max_receive_count: Count,
        }
        let raw: Raw =
            serde_json::from_str(text).map_err(|_| invalid_value("RedrivePolicy", text))?;
        let receives_max = match raw.max_receive_count {
            Count::Number(count) => Some(count),
            Count::Text(text) => text.parse().ok(),
        };
        match (receives_max, queue_name(&raw.dead_letter_target_arn)) {
            (Some(receives_max @ 1..=1_000), Some(target)) => {
                Ok(Self { target: target.to_owned(), receives_max, text: text.to_owned() })
            }
            _ => Err(invalid_value("RedrivePolicy", text)),
        }
    }
}

/// The name in a queue's ARN.
pub fn queue_name(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let is_sqs = parts.next() == Some("arn") && parts.nth(1) == Some("sqs");
    let name = parts.nth(2)?;
    (is_sqs && !name.is_empty()).then_some(name)
}

fn within(name: &str, value: &str, min: u32, max: u32) -> Result<u32, ApiError> {
    value
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| invalid_value(name, value))
}

fn invalid_value(name: &str, value: &str) -> ApiError {
    ApiError::bad_request(
        "InvalidAttributeValue",
        format!(
            "Invalid value for the parameter {name}. Reason: {value:?} is out of range or malformed."
        ),
    )
}

pub fn unknown_attribute(name: &str) -> ApiError {
    ApiError::bad_request("InvalidAttributeName", format!("Unknown Attribute {name}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(name: &str, value: &str) -> Result<Settings, &'static str> {
        let mut settings = Settings::default();
        let attributes = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        settings.apply(&attributes).map(|()| settings).map_err(|e| e.code)
    }

    #[test]
    fn refuses_what_sqs_refuses() {
        let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:dead","maxReceiveCount":"0"}"#;
        for (name, value, code) in [
            ("VisibilityTimeout", "43201", "InvalidAttributeValue"),
            ("VisibilityTimeout", "-1", "InvalidAttributeValue"),
            ("ReceiveMessageWaitTimeSeconds", "21", "InvalidAttributeValue"),
            ("MaximumMessageSize", "1023", "InvalidAttributeValue"),
            ("RedrivePolicy", policy, "InvalidAttributeValue"),
            ("RedrivePolicy", "no json", "InvalidAttributeValue"),
            ("FifoQueue", "true", "UnsupportedOperation"),
            ("Colour", "blue", "InvalidAttributeName"),
        ] {
            assert_eq!(apply(name, value), Err(code), "{name}={value}");
        }
    }

    #[test]
    fn gives_back_what_it_took() {
        for count in ["3", "\"3\""] {
            let policy = format!(
                r#"{{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:000000000000:dead","maxReceiveCount":{count}}}"#
            );
            let settings = apply("RedrivePolicy", &policy).unwrap();
            let redrive = settings.redrive.as_ref().unwrap();
            assert_eq!((redrive.target.as_str(), redrive.receives_max), ("dead", 3));
            assert_eq!(settings.to_attributes()["RedrivePolicy"], policy);
        }
    }
}
