//! Topics and subscriptions, and who gets a message: filters, raw delivery.
//! A state machine without I/O; delivery is up to the caller.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::Value;

use super::message::{Message, invalid};
use crate::pattern::Pattern;
use crate::wire::ApiError;

/// One topic.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// Display name, policies and the like: kept and returned.
    attributes: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

/// What a topic can be told; all of it is without effect here.
const TOPIC_ATTRIBUTES: [&str; 8] = [
    "ArchivePolicy",
    "DataProtectionPolicy",
    "DeliveryPolicy",
    "DisplayName",
    "KmsMasterKeyId",
    "Policy",
    "SignatureVersion",
    "TracingConfig",
];

impl Topic {
    pub fn new(tags: BTreeMap<String, String>) -> Self {
        Self { tags, ..Self::default() }
    }

    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let of_delivery = name.ends_with("FeedbackRoleArn") || name.ends_with("FeedbackSampleRate");
        if !TOPIC_ATTRIBUTES.contains(&name) && !of_delivery {
            return Err(invalid("AttributeName"));
        }
        self.attributes.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    pub fn attributes(&self) -> BTreeMap<String, String> {
        self.attributes.clone()
    }
}

/// How a subscriber is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Email,
    Sqs,
}

impl Protocol {
    pub fn parse(name: &str) -> Result<Self, ApiError> {
        match name {
            "email" => Ok(Self::Email),
            "sqs" => Ok(Self::Sqs),
            other => {
                let message = format!("Does not support this protocol string: {other}");
                Err(invalid(&message))
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sqs => "sqs",
        }
    }
}

/// One subscription of one endpoint to one topic.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub arn: String,
    pub topic_arn: String,
    pub protocol: Protocol,
    /// A queue's ARN or an e-mail address.
    pub endpoint: String,
    pub raw: bool,
    filter: Option<Filter>,
    /// What else was set: kept and returned.
    inert: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Filter {
    text: String,
    pattern: Pattern,
    on_body: bool,
}

impl Subscription {
    pub fn new(arn: String, topic_arn: &str, protocol: Protocol, endpoint: &str) -> Self {
        Self {
            arn,
            topic_arn: topic_arn.to_owned(),
            protocol,
            endpoint: endpoint.to_owned(),
            raw: false,
            filter: None,
            inert: BTreeMap::new(),
        }
    }

    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "RawMessageDelivery" => match (value, self.protocol) {
                ("true", Protocol::Sqs) => self.raw = true,
                ("false", _) => self.raw = false,
                _ => return Err(invalid("Attributes Reason: RawMessageDelivery")),
            },
            "FilterPolicy" if matches!(value, "" | "{}") => self.filter = None,
            "FilterPolicy" => {
                let on_body =
                    self.inert.get("FilterPolicyScope").is_some_and(|s| s == "MessageBody");
                self.filter = Some(Filter::parse(value, on_body)?);
            }
            "FilterPolicyScope" => {
                let on_body = match value {
                    "MessageBody" => true,
                    "MessageAttributes" => false,
                    _ => return Err(invalid("Attributes Reason: FilterPolicyScope")),
                };
                if let Some(filter) = &mut self.filter {
                    filter.on_body = on_body;
                }
                self.inert.insert(name.to_owned(), value.to_owned());
            }
            "DeliveryPolicy" | "RedrivePolicy" | "SubscriptionRoleArn" => {
                self.inert.insert(name.to_owned(), value.to_owned());
            }
            _ => return Err(invalid("AttributeName")),
        }
        Ok(())
    }

    pub fn attributes(&self, owner: &str) -> BTreeMap<String, String> {
        let mut all = self.inert.clone();
        if let Some(filter) = &self.filter {
            all.insert("FilterPolicy".to_owned(), filter.text.clone());
            let scope = if filter.on_body { "MessageBody" } else { "MessageAttributes" };
            all.insert("FilterPolicyScope".to_owned(), scope.to_owned());
        }
        for (name, value) in [
            ("SubscriptionArn", self.arn.as_str()),
            ("TopicArn", &self.topic_arn),
            ("Protocol", self.protocol.name()),
            ("Endpoint", &self.endpoint),
            ("Owner", owner),
            ("RawMessageDelivery", if self.raw { "true" } else { "false" }),
            ("PendingConfirmation", "false"),
            ("ConfirmationWasAuthenticated", "true"),
        ] {
            all.insert(name.to_owned(), value.to_owned());
        }
        all
    }

    fn wants(&self, message: &Message, attributes: &Value) -> bool {
        let Some(filter) = &self.filter else {
            return true;
        };
        if filter.on_body {
            let body = serde_json::from_str(message.body.text(self.protocol.name()));
            body.is_ok_and(|body: Value| body.is_object() && filter.pattern.matches(Some(&body)))
        } else {
            filter.pattern.matches(Some(attributes))
        }
    }
}

impl Filter {
    fn parse(text: &str, on_body: bool) -> Result<Self, ApiError> {
        let refuse = |reason: String| invalid(&format!("FilterPolicy: {reason}"));
        let value: Value =
            serde_json::from_str(text).map_err(|_| refuse("failed to parse JSON.".to_owned()))?;
        if !value.is_object() {
            return Err(refuse("Filter policy must be an object.".to_owned()));
        }
        let pattern = Pattern::parse(&value).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { text: text.to_owned(), pattern, on_body })
    }
}

/// All topics and subscriptions of the account, by ARN.
#[derive(Debug, Default)]
pub struct Topics {
    pub topics: BTreeMap<String, Topic>,
    pub subscriptions: BTreeMap<String, Subscription>,
}

impl Topics {
    pub fn topic_mut(&mut self, arn: &str) -> Result<&mut Topic, ApiError> {
        self.topics.get_mut(arn).ok_or_else(|| no_topic(arn))
    }

    pub fn check_topic(&self, arn: &str) -> Result<(), ApiError> {
        let known = self.topics.contains_key(arn);
        known.then_some(()).ok_or_else(|| no_topic(arn))
    }

    pub fn subscription_mut(&mut self, arn: &str) -> Result<&mut Subscription, ApiError> {
        let found = self.subscriptions.get_mut(arn);
        found.ok_or_else(|| not_found("Subscription does not exist"))
    }

    pub fn of_topic<'a>(&'a self, arn: &'a str) -> impl Iterator<Item = &'a Subscription> {
        self.subscriptions.values().filter(move |s| s.topic_arn == arn)
    }

    /// An endpoint is subscribed once; again gives the same subscription.
    pub fn subscribe(&mut self, new: Subscription) -> Result<String, ApiError> {
        self.check_topic(&new.topic_arn)?;
        let same = self
            .of_topic(&new.topic_arn)
            .find(|known| known.protocol == new.protocol && known.endpoint == new.endpoint);
        if let Some(known) = same {
            let new = Subscription { arn: known.arn.clone(), ..new.clone() };
            if known.attributes("") == new.attributes("") {
                return Ok(new.arn);
            }
            return Err(invalid(
                "Attributes Reason: Subscription already exists with different attributes",
            ));
        }
        let arn = new.arn.clone();
        self.subscriptions.insert(arn.clone(), new);
        Ok(arn)
    }

    pub fn remove_topic(&mut self, arn: &str) {
        self.topics.remove(arn);
        self.subscriptions.retain(|_, subscription| subscription.topic_arn != arn);
    }

    /// Who is to get a message.
    pub fn recipients(&self, message: &Message) -> Vec<Subscription> {
        let attributes = message.filterable();
        self.of_topic(&message.topic_arn)
            .filter(|subscription| subscription.wants(message, &attributes))
            .cloned()
            .collect()
    }
}

fn no_topic(arn: &str) -> ApiError {
    match arn.split(':').count() {
        6.. => not_found("Topic does not exist"),
        parts => {
            invalid(&format!("TopicArn Reason: An ARN must have at least 6 elements, not {parts}"))
        }
    }
}

fn not_found(message: &str) -> ApiError {
    ApiError { status: StatusCode::NOT_FOUND, code: "NotFound", message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::query::Params;
    use super::*;

    const TOPIC: &str = "arn:aws:sns:us-east-1:000000000000:t";

    fn subscription(endpoint: &str, settings: &[(&str, &str)]) -> Subscription {
        let mut subscription =
            Subscription::new(format!("{TOPIC}:{endpoint}"), TOPIC, Protocol::Sqs, endpoint);
        for (name, value) in settings {
            subscription.set(name, value).unwrap();
        }
        subscription
    }

    #[test]
    fn filters_choose_the_recipients() {
        let mut topics = Topics::default();
        topics.topics.insert(TOPIC.to_owned(), Topic::default());
        let body = ("FilterPolicyScope", "MessageBody");
        for (endpoint, settings) in [
            ("all", vec![]),
            ("failed", vec![("FilterPolicy", r#"{"state":["FAILED",{"prefix":"LATE"}]}"#)]),
            ("done", vec![("FilterPolicy", r#"{"state":["COMPLETED"]}"#)]),
            ("body", vec![body, ("FilterPolicy", r#"{"task":{"name":["flights"]}}"#)]),
            ("other-body", vec![("FilterPolicy", r#"{"task":{"name":["planes"]}}"#), body]),
        ] {
            topics.subscribe(subscription(endpoint, &settings)).unwrap();
        }
        let params = Params::parse(
            b"Message={\"task\":{\"name\":\"flights\"}}&MessageAttributes.entry.1.Name=state\
              &MessageAttributes.entry.1.Value.DataType=String&MessageAttributes.entry.1.Value.StringValue=FAILED",
        );
        let message =
            Message::parse(&params, TOPIC, "id".to_owned(), Timestamp::UNIX_EPOCH).unwrap();
        let recipients = topics.recipients(&message);
        let endpoints: Vec<&str> = recipients.iter().map(|s| s.endpoint.as_str()).collect();
        assert_eq!(endpoints, ["all", "body", "failed"]);
    }

    #[test]
    fn an_endpoint_is_subscribed_once() {
        let mut topics = Topics::default();
        topics.topics.insert(TOPIC.to_owned(), Topic::default());
        let first = topics.subscribe(subscription("q", &[])).unwrap();
        let again = Subscription { arn: format!("{TOPIC}:new"), ..subscription("q", &[]) };
        assert_eq!(topics.subscribe(again), Ok(first));
        let other = subscription("q", &[("RawMessageDelivery", "true")]);
        assert_eq!(topics.subscribe(other).map_err(|e| e.code), Err("InvalidParameter"));
        topics.remove_topic(TOPIC);
        assert!(topics.subscriptions.is_empty());
        assert_eq!(topics.subscribe(subscription("q", &[])).map_err(|e| e.code), Err("NotFound"));
    }
}
