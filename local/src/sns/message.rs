//! What is published: its attributes, the rules SNS has for it, and the forms
//! in which subscribers get it. Not for who gets it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::query::Params;
use crate::sqs::queue::{MessageAttribute, MessageAttributes};
use crate::wire::ApiError;

/// SNS's limit for a message with its attributes.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// A subject is shorter than this.
const SUBJECT_LENGTH: usize = 100;

/// One message on its way to a topic's subscribers.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub topic_arn: String,
    pub subject: Option<String>,
    pub body: Body,
    pub attributes: MessageAttributes,
    /// By the development clock.
    pub time: Timestamp,
}

/// One text for all, or one for each protocol.
#[derive(Debug, Clone)]
pub enum Body {
    Same(String),
    ByProtocol { default: String, others: BTreeMap<String, String> },
}

impl Body {
    pub fn text(&self, protocol: &str) -> &str {
        match self {
            Self::Same(text) => text,
            Self::ByProtocol { default, others } => others.get(protocol).unwrap_or(default),
        }
    }

    fn parse(text: &str, structure: Option<&str>) -> Result<Self, ApiError> {
        match structure {
            None => Ok(Self::Same(text.to_owned())),
            Some("json") => {
                let others: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| {
                    invalid("Message Structure - JSON message body failed to parse")
                })?;
                let texts = others.into_iter();
                let mut others: BTreeMap<String, String> = texts
                    .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
                    .collect();
                let default = others.remove("default").ok_or_else(|| {
                    invalid("Message Structure - No default entry in JSON message body")
                })?;
                Ok(Self::ByProtocol { default, others })
            }
            Some(_) => Err(invalid("MessageStructure")),
        }
    }
}

impl Message {
    /// Reads and checks what Publish, or one entry of PublishBatch, says.
    pub fn parse(
        params: &Params,
        topic_arn: &str,
        id: String,
        time: Timestamp,
    ) -> Result<Self, ApiError> {
        let text = params.require("Message")?;
        if text.is_empty() {
            return Err(invalid("Empty message"));
        }
        let subject = params.get("Subject").map(str::to_owned);
        if let Some(subject) = &subject {
            check_subject(subject)?;
        }
        let attributes = attributes(params)?;
        let size = |attribute: &MessageAttribute| {
            let value = attribute.string_value.as_ref().or(attribute.binary_value.as_ref());
            attribute.data_type.len() + value.map_or(0, String::len)
        };
        let extra: usize = attributes.iter().map(|(name, a)| name.len() + size(a)).sum();
        if text.len() + extra > MESSAGE_BYTES_MAX {
            return Err(invalid("Message too long"));
        }
        let body = Body::parse(text, params.get("MessageStructure"))?;
        Ok(Self { id, topic_arn: topic_arn.to_owned(), subject, body, attributes, time })
    }

    /// The attributes as a filter policy sees them.
    pub fn filterable(&self) -> Value {
        let mut values = Map::new();
        for (name, attribute) in &self.attributes {
            let Some(text) = &attribute.string_value else {
                continue;
            };
            let value = match attribute.data_type.as_str() {
                "Number" | "String.Array" => serde_json::from_str(text).ok(),
                _ => None,
            };
            values.insert(name.clone(), value.unwrap_or_else(|| text.as_str().into()));
        }
        Value::Object(values)
    }

    /// The document that subscribers get unless they want it raw.
    pub fn envelope(&self, protocol: &str, unsubscribe_url: &str) -> Value {
        let mut envelope = json!({
            "Type": "Notification",
            "MessageId": self.id,
            "TopicArn": self.topic_arn,
            "Message": self.body.text(protocol),
            "Timestamp": self.time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            "SignatureVersion": "1",
            "Signature": "EXAMPLE",
            "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService.pem",
            "UnsubscribeURL": unsubscribe_url,
        });
        if let Some(subject) = &self.subject {
            envelope["Subject"] = subject.as_str().into();
        }
        if !self.attributes.is_empty() {
            let attributes = self.attributes.iter();
            let attributes: Map<String, Value> = attributes
                .map(|(name, a)| {
                    let value = a.string_value.as_ref().or(a.binary_value.as_ref());
                    (name.clone(), json!({ "Type": a.data_type, "Value": value }))
                })
                .collect();
            envelope["MessageAttributes"] = attributes.into();
        }
        envelope
    }
}

/// ASCII, under 100 characters, no control characters, and not blank at first.
fn check_subject(subject: &str) -> Result<(), ApiError> {
    let printable = subject.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    let starts_well = subject.starts_with(|c: char| c.is_ascii_graphic());
    if printable && starts_well && subject.len() < SUBJECT_LENGTH {
        Ok(())
    } else {
        Err(invalid("Subject"))
    }
}

fn attributes(params: &Params) -> Result<MessageAttributes, ApiError> {
    let mut attributes = MessageAttributes::new();
    for entry in params.list("MessageAttributes.entry") {
        let name = entry.require("Name")?;
        let data_type = entry.require("Value.DataType")?.to_owned();
        let string_value = entry.get("Value.StringValue").map(str::to_owned);
        let binary_value = entry.get("Value.BinaryValue").map(str::to_owned);
        let valid = match data_type.split('.').next() {
            Some("String") => string_value.as_ref().is_some_and(|text| !text.is_empty()),
            Some("Number") => {
                let number = string_value.as_ref().map(|text| text.parse::<f64>());
                number.is_some_and(|number| number.is_ok())
            }
            Some("Binary") => {
                let bytes = binary_value.as_ref().map(|text| BASE64_STANDARD.decode(text));
                bytes.is_some_and(|bytes| bytes.is_ok())
            }
            _ => false,
        };
        if !valid {
            let message = format!("The message attribute '{name}' has an invalid type or value.");
            return Err(ApiError::bad_request("ParameterValueInvalid", message));
        }
        let attribute = MessageAttribute { data_type, string_value, binary_value };
        attributes.insert(name.to_owned(), attribute);
    }
    Ok(attributes)
}

pub fn invalid(what: &str) -> ApiError {
    ApiError::bad_request("InvalidParameter", format!("Invalid parameter: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_follow_the_rule() {
        let (longest, too_long) = ("x".repeat(99), "x".repeat(100));
        for (subject, valid) in [
            ("task flights FAILED (2013-01-01T05)", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            (" leading blank", false),
            ("two\nlines", false),
            ("Fläche", false),
            ("tab\there", false),
        ] {
            assert_eq!(check_subject(subject).is_ok(), valid, "{subject:?}");
        }
    }

    #[test]
    fn attributes_are_seen_by_their_type() {
        let params = Params::parse(
            b"Message=m\
              &MessageAttributes.entry.1.Name=n&MessageAttributes.entry.1.Value.DataType=Number&MessageAttributes.entry.1.Value.StringValue=3\
              &MessageAttributes.entry.2.Name=l&MessageAttributes.entry.2.Value.DataType=String.Array&MessageAttributes.entry.2.Value.StringValue=[\"a\",\"b\"]\
              &MessageAttributes.entry.3.Name=s&MessageAttributes.entry.3.Value.DataType=String&MessageAttributes.entry.3.Value.StringValue=3",
        );
        let message = Message::parse(&params, "t", "id".to_owned(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(message.filterable(), json!({"n": 3, "l": ["a", "b"], "s": "3"}));
    }

    #[test]
    fn too_much_is_refused() {
        for (length, valid) in [(MESSAGE_BYTES_MAX, true), (MESSAGE_BYTES_MAX + 1, false)] {
            let params = Params::parse(format!("Message={}", "x".repeat(length)).as_bytes());
            let message = Message::parse(&params, "t", "id".to_owned(), Timestamp::UNIX_EPOCH);
            assert_eq!(message.is_ok(), valid, "{length}");
        }
    }
}
