//! SNS in its Query protocol: topics, subscriptions of queues and e-mail
//! addresses, publishing. No other protocols, no signatures; an e-mail
//! subscription is confirmed at once, for there is nobody to click.

mod message;
mod query;
mod topics;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::message::{Body, MESSAGE_BYTES_MAX, Message, invalid};
use self::query::{Params, Xml};
use self::topics::{Protocol, Subscription, Topic, Topics};
use crate::ids::Ids;
use crate::mail::{Mail, Mailbox};
use crate::sqs::Sqs;
use crate::sqs::queue::MessageAttributes;
use crate::time::Time;
use crate::wire::{ACCOUNT, Answer, ApiError, check_batch};

type Answered = Result<Xml, ApiError>;

/// Topics or subscriptions on one page of a listing.
const PAGE: usize = 100;

/// The topics of the account, with their deliveries.
#[derive(Debug)]
pub struct Sns {
    topics: Mutex<Topics>,
    mailbox: Mailbox,
    sqs: Arc<Sqs>,
    time: Time,
    ids: Arc<Ids>,
    endpoint: String,
}

impl Sns {
    /// Mails are written to `mail` below the data folder.
    pub fn open(
        data: &Path,
        sqs: Arc<Sqs>,
        time: Time,
        ids: Arc<Ids>,
        endpoint: String,
    ) -> std::io::Result<Self> {
        let mailbox = Mailbox::open(&data.join("mail"))?;
        Ok(Self { topics: Mutex::default(), mailbox, sqs, time, ids, endpoint })
    }

    /// One call of the API, its parameters form-encoded; `region` is the one
    /// the client signed for.
    pub fn call(&self, form: &[u8], region: &str) -> Answer {
        let params = Params::parse(form);
        let action = params.get("Action").unwrap_or_default();
        let result = self.dispatch(action, &params, region);
        let outcome = result.as_ref().map_or_else(|error| error.code, |_| "ok").to_owned();
        let response = query::answer(action, result, &self.ids.uuid());
        Answer { response, action: action.to_owned(), outcome }
    }

    pub fn exists(&self, topic_arn: &str) -> bool {
        self.lock().topics.contains_key(topic_arn)
    }

    /// Publishes for another service.
    pub fn announce(
        &self,
        topic_arn: &str,
        subject: Option<&str>,
        text: &str,
    ) -> Result<(), ApiError> {
        self.lock().check_topic(topic_arn)?;
        self.deliver(&Message {
            id: self.ids.uuid(),
            topic_arn: topic_arn.to_owned(),
            subject: subject.map(str::to_owned),
            body: Body::Same(text.to_owned()),
            attributes: MessageAttributes::new(),
            time: self.time.dev(),
        });
        Ok(())
    }

    fn dispatch(&self, action: &str, params: &Params, region: &str) -> Answered {
        match action {
            "CreateTopic" => self.create_topic(params, region),
            "DeleteTopic" => self.delete_topic(params),
            "ListTopics" => Ok(self.list_topics(params)),
            "GetTopicAttributes" => self.get_topic_attributes(params),
            "SetTopicAttributes" => self.set_topic_attributes(params),
            "ListTagsForResource" => self.list_tags(params),
            "TagResource" => self.tag(params),
            "UntagResource" => self.untag(params),
            "Subscribe" => self.subscribe(params),
            "Unsubscribe" => self.unsubscribe(params),
            "ListSubscriptions" => self.list_subscriptions(params, None),
            "ListSubscriptionsByTopic" => {
                let topic_arn = params.require("TopicArn")?;
                self.lock().check_topic(topic_arn)?;
                self.list_subscriptions(params, Some(topic_arn))
            }
            "GetSubscriptionAttributes" => self.get_subscription_attributes(params),
            "SetSubscriptionAttributes" => self.set_subscription_attributes(params),
            "Publish" => self.publish(params),
            "PublishBatch" => self.publish_batch(params),
            "" => Err(ApiError::bad_request(
                "MissingAction",
                "The request must contain the parameter Action.",
            )),
            _ => Err(ApiError::bad_request(
                "InvalidAction",
                format!("the local SNS does not know {action}"),
            )),
        }
    }

    fn create_topic(&self, params: &Params, region: &str) -> Answered {
        let name = params.require("Name")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 256 || !name.chars().all(allowed) {
            return Err(invalid("Topic Name"));
        }
        let arn = format!("arn:aws:sns:{region}:{ACCOUNT}:{name}");
        let mut topic = Topic::new(tags(params)?);
        for (name, value) in params.map("Attributes") {
            topic.set(&name, &value)?;
        }
        self.lock().topics.entry(arn.clone()).or_insert(topic);
        Ok(Xml::default().text("TopicArn", &arn))
    }

    fn delete_topic(&self, params: &Params) -> Answered {
        self.lock().remove_topic(params.require("TopicArn")?);
        Ok(Xml::default())
    }

    fn list_topics(&self, params: &Params) -> Xml {
        let after = params.get("NextToken").unwrap_or_default();
        let topics = self.lock();
        let mut rest = topics.topics.keys().filter(|arn| arn.as_str() > after);
        let page: Vec<&String> = rest.by_ref().take(PAGE).collect();
        let members: Vec<Xml> =
            page.iter().map(|arn| Xml::default().text("TopicArn", arn)).collect();
        let xml = Xml::default().node("Topics", &Xml::default().members(&members));
        match (rest.next(), page.last()) {
            (Some(_), Some(last)) => xml.text("NextToken", last),
            _ => xml,
        }
    }

    fn list_tags(&self, params: &Params) -> Answered {
        let mut topics = self.lock();
        let tags = &topics.topic_mut(params.require("ResourceArn")?)?.tags;
        let members: Vec<Xml> = tags
            .iter()
            .map(|(key, value)| Xml::default().text("Key", key).text("Value", value))
            .collect();
        Ok(Xml::default().node("Tags", &Xml::default().members(&members)))
    }

    fn tag(&self, params: &Params) -> Answered {
        let mut topics = self.lock();
        topics.topic_mut(params.require("ResourceArn")?)?.tags.extend(tags(params)?);
        Ok(Xml::default())
    }

    fn untag(&self, params: &Params) -> Answered {
        let keys = params.list("TagKeys.member");
        let mut topics = self.lock();
        let topic = topics.topic_mut(params.require("ResourceArn")?)?;
        topic.tags.retain(|key, _| !keys.iter().any(|entry| entry.get("") == Some(key)));
        Ok(Xml::default())
    }

    fn get_topic_attributes(&self, params: &Params) -> Answered {
        let arn = params.require("TopicArn")?;
        let mut topics = self.lock();
        let mut attributes = topics.topic_mut(arn)?.attributes();
        let confirmed = topics.of_topic(arn).count().to_string();
        for (name, value) in [
            ("TopicArn", arn),
            ("Owner", ACCOUNT),
            ("SubscriptionsConfirmed", &confirmed),
            ("SubscriptionsPending", "0"),
            ("SubscriptionsDeleted", "0"),
        ] {
            attributes.insert(name.to_owned(), value.to_owned());
        }
        Ok(Xml::default().node("Attributes", &Xml::default().entries(&attributes)))
    }

    fn set_topic_attributes(&self, params: &Params) -> Answered {
        let name = params.require("AttributeName")?;
        let value = params.get("AttributeValue").unwrap_or_default();
        let mut topics = self.lock();
        let topic = topics.topic_mut(params.require("TopicArn")?)?;
        topic.set(name, value)?;
        Ok(Xml::default())
    }

    fn subscribe(&self, params: &Params) -> Answered {
        let topic_arn = params.require("TopicArn")?;
        let protocol = Protocol::parse(params.require("Protocol")?)?;
        let endpoint = params.require("Endpoint")?;
        let valid = match protocol {
            Protocol::Email => endpoint.split_once('@').is_some_and(|(user, host)| {
                !user.is_empty() && !host.is_empty() && !endpoint.contains(char::is_whitespace)
            }),
            Protocol::Sqs => crate::sqs::queue_name(endpoint).is_some(),
        };
        if !valid {
            return Err(invalid("Endpoint"));
        }
        let arn = format!("{topic_arn}:{}", self.ids.uuid());
        let mut subscription = Subscription::new(arn, topic_arn, protocol, endpoint);
        for (name, value) in params.map("Attributes") {
            subscription.set(&name, &value)?;
        }
        let arn = self.lock().subscribe(subscription)?;
        Ok(Xml::default().text("SubscriptionArn", &arn))
    }

    fn unsubscribe(&self, params: &Params) -> Answered {
        let arn = params.require("SubscriptionArn")?;
        self.lock().subscriptions.remove(arn);
        Ok(Xml::default())
    }

    fn list_subscriptions(&self, params: &Params, topic_arn: Option<&str>) -> Answered {
        let after = params.get("NextToken").unwrap_or_default();
        let topics = self.lock();
        let mut rest = topics
            .subscriptions
            .values()
            .filter(|s| topic_arn.is_none_or(|arn| s.topic_arn == arn))
            .filter(|s| s.arn.as_str() > after);
        let page: Vec<&Subscription> = rest.by_ref().take(PAGE).collect();
        let members: Vec<Xml> = page
            .iter()
            .map(|s| {
                Xml::default()
                    .text("SubscriptionArn", &s.arn)
                    .text("Owner", ACCOUNT)
                    .text("Protocol", s.protocol.name())
                    .text("Endpoint", &s.endpoint)
                    .text("TopicArn", &s.topic_arn)
            })
            .collect();
        let xml = Xml::default().node("Subscriptions", &Xml::default().members(&members));
        Ok(match (rest.next(), page.last()) {
            (Some(_), Some(last)) => xml.text("NextToken", &last.arn),
            _ => xml,
        })
    }

    fn get_subscription_attributes(&self, params: &Params) -> Answered {
        let mut topics = self.lock();
        let subscription = topics.subscription_mut(params.require("SubscriptionArn")?)?;
        let attributes = Xml::default().entries(&subscription.attributes(ACCOUNT));
        Ok(Xml::default().node("Attributes", &attributes))
    }

    fn set_subscription_attributes(&self, params: &Params) -> Answered {
        let mut topics = self.lock();
        let subscription = topics.subscription_mut(params.require("SubscriptionArn")?)?;
        let value = params.get("AttributeValue").unwrap_or_default();
        subscription.set(params.require("AttributeName")?, value)?;
        Ok(Xml::default())
    }

    fn publish(&self, params: &Params) -> Answered {
        let topic_arn = params.get("TopicArn").or_else(|| params.get("TargetArn"));
        let topic_arn = topic_arn.ok_or_else(|| invalid("TopicArn or TargetArn"))?;
        self.lock().check_topic(topic_arn)?;
        let message = Message::parse(params, topic_arn, self.ids.uuid(), self.time.dev())?;
        self.deliver(&message);
        Ok(Xml::default().text("MessageId", &message.id))
    }

    fn publish_batch(&self, params: &Params) -> Answered {
        let topic_arn = params.require("TopicArn")?;
        self.lock().check_topic(topic_arn)?;
        let entries = params.list("PublishBatchRequestEntries.member");
        check_batch(entries.iter().map(|entry| entry.get("Id").unwrap_or_default()))?;
        let size: usize = entries.iter().filter_map(|e| e.get("Message")).map(str::len).sum();
        if size > MESSAGE_BYTES_MAX {
            return Err(ApiError::bad_request("BatchRequestTooLong", "The batch is too long."));
        }
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = entry.require("Id")?;
            match Message::parse(&entry, topic_arn, self.ids.uuid(), self.time.dev()) {
                Ok(message) => {
                    self.deliver(&message);
                    done.push(Xml::default().text("Id", id).text("MessageId", &message.id));
                }
                Err(error) => failed.push(
                    Xml::default()
                        .text("Id", id)
                        .text("Code", error.code)
                        .text("Message", &error.message)
                        .text("SenderFault", "true"),
                ),
            }
        }
        Ok(Xml::default()
            .node("Successful", &Xml::default().members(&done))
            .node("Failed", &Xml::default().members(&failed)))
    }

    /// Who cannot be reached does not get the message, as on AWS.
    fn deliver(&self, message: &Message) {
        let recipients = self.lock().recipients(message);
        for subscription in recipients {
            let unsubscribe_url = format!(
                "{}/?Action=Unsubscribe&SubscriptionArn={}",
                self.endpoint, subscription.arn
            );
            let protocol = subscription.protocol.name();
            let delivered = match subscription.protocol {
                Protocol::Email => self.mail(message, &subscription, &unsubscribe_url),
                Protocol::Sqs if subscription.raw => {
                    let body = message.body.text(protocol).to_owned();
                    let attributes = message.attributes.clone();
                    self.sqs.deliver(&subscription.endpoint, body, attributes).map(drop)
                }
                Protocol::Sqs => {
                    let body = message.envelope(protocol, &unsubscribe_url).to_string();
                    let attributes = MessageAttributes::new();
                    self.sqs.deliver(&subscription.endpoint, body, attributes).map(drop)
                }
            };
            if let Err(error) = delivered {
                let endpoint = subscription.endpoint;
                tracing::warn!(endpoint, %error, "SNS message not delivered");
            }
        }
    }

    fn mail(
        &self,
        message: &Message,
        subscription: &Subscription,
        unsubscribe_url: &str,
    ) -> Result<(), ApiError> {
        let subject = message.subject.as_deref().unwrap_or("AWS Notification Message");
        let mail = Mail {
            to: &subscription.endpoint,
            subject,
            text: message.body.text("email"),
            attributes: &message.attributes,
            message_id: &message.id,
            unsubscribe_url,
            time: message.time,
        };
        match self.mailbox.put(&mail) {
            Ok(file) => {
                let to = subscription.endpoint.as_str();
                tracing::info!(to, subject, file = %file.display(), "mail");
                Ok(())
            }
            Err(error) => Err(ApiError::bad_request("InternalError", error.to_string())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A refusal in the Query protocol, where there is no action to answer.
pub fn refusal(error: ApiError) -> Answer {
    let outcome = error.code.to_owned();
    let response = query::answer("", Err(error), "");
    Answer { response, action: String::new(), outcome }
}

fn tags(params: &Params) -> Result<BTreeMap<String, String>, ApiError> {
    let tags = params.list("Tags.member");
    let pair = |tag: &Params| {
        Ok((tag.require("Key")?.to_owned(), tag.get("Value").unwrap_or_default().to_owned()))
    };
    tags.iter().map(pair).collect()
}
