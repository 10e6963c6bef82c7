//! The actions of SQS: request and response shapes, validation, batches.
//! What a queue does with them is the state machine's business.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Sqs;
use super::digest::attributes_md5;
use super::queue::{Delivery, MessageAttributes, Outgoing, Queue};
use super::settings::{Settings, unknown_attribute};
use crate::ids::md5_hex;
use crate::wire::{ACCOUNT, ApiError, check_batch, parse_body};

type Answer = Result<Value, ApiError>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateQueue {
    queue_name: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default, rename = "tags")]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueUrl {
    queue_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListQueues {
    #[serde(default)]
    queue_name_prefix: String,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListDeadLetterSourceQueues {
    queue_url: String,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagQueue {
    queue_url: String,
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UntagQueue {
    queue_url: String,
    tag_keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneQueue {
    queue_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueAttributes {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SetQueueAttributes {
    queue_url: String,
    attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage {
    queue_url: String,
    #[serde(flatten)]
    message: MessageBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageBody {
    message_body: String,
    delay_seconds: Option<i64>,
    #[serde(default)]
    message_attributes: MessageAttributes,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReceiveMessage {
    queue_url: String,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
    /// The older name of the same.
    #[serde(default)]
    attribute_names: Vec<String>,
    #[serde(default)]
    message_attribute_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteMessage {
    queue_url: String,
    receipt_handle: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeMessageVisibility {
    queue_url: String,
    receipt_handle: String,
    visibility_timeout: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    queue_url: String,
    entries: Vec<BatchEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchEntry {
    id: String,
    /// The members of the single call.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Sqs {
    /// Every action but ReceiveMessage, which may wait.
    pub(super) fn call_at_once(&self, action: &str, body: Value, region: &str) -> Answer {
        match action {
            "CreateQueue" => self.create_queue(parse_body(body)?, region),
            "GetQueueUrl" => self.get_queue_url(&parse_body(body)?),
            "ListQueues" => self.list_queues(parse_body(body)?),
            "ListDeadLetterSourceQueues" => self.list_sources(parse_body(body)?),
            "DeleteQueue" => self.delete_queue(&parse_body(body)?),
            "PurgeQueue" => self.purge_queue(&parse_body(body)?),
            "GetQueueAttributes" => self.get_queue_attributes(&parse_body(body)?),
            "SetQueueAttributes" => self.set_queue_attributes(&parse_body(body)?),
            "ListQueueTags" => self.list_queue_tags(&parse_body(body)?),
            "TagQueue" => self.tag_queue(parse_body(body)?),
            "UntagQueue" => self.untag_queue(&parse_body(body)?),
            "SendMessage" => self.send_message(parse_body(body)?),
            "DeleteMessage" => self.delete_message(&parse_body(body)?),
            "ChangeMessageVisibility" => self.change_visibility(&parse_body(body)?),
            "SendMessageBatch" => self.batch("SendMessage", parse_body(body)?, region),
            "DeleteMessageBatch" => self.batch("DeleteMessage", parse_body(body)?, region),
            "ChangeMessageVisibilityBatch" => {
                self.batch("ChangeMessageVisibility", parse_body(body)?, region)
            }
            _ => Err(ApiError::bad_request(
                "UnsupportedOperation",
                format!("the local SQS does not know {action}"),
            )),
        }
    }

    fn create_queue(&self, request: CreateQueue, region: &str) -> Answer {
        let name = &request.queue_name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 80 || !name.chars().all(allowed) {
            return Err(invalid_parameter(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            ));
        }
        let mut settings = Settings::default();
        settings.apply(&request.attributes)?;
        let arn = format!("arn:aws:sqs:{region}:{ACCOUNT}:{name}");
        let mut queue = Queue::new(arn, settings, self.time.real());
        queue.tags = request.tags;
        self.lock().create(name, queue)?;
        Ok(json!({ "QueueUrl": self.url(name) }))
    }

    fn get_queue_url(&self, request: &GetQueueUrl) -> Answer {
        self.lock().get(&request.queue_name)?;
        Ok(json!({ "QueueUrl": self.url(&request.queue_name) }))
    }

    fn list_queues(&self, request: ListQueues) -> Answer {
        let queues = self.lock();
        let names = queues.names().filter(|name| name.starts_with(&request.queue_name_prefix));
        self.page("QueueUrls", names, request.max_results, request.next_token)
    }

    fn list_sources(&self, request: ListDeadLetterSourceQueues) -> Answer {
        let queues = self.lock();
        let target = name_in_url(&request.queue_url);
        queues.get(target)?;
        let names = queues.sources(target);
        self.page("queueUrls", names, request.max_results, request.next_token)
    }

    /// Without a limit all at once, as SQS does it; the token is the last name.
    fn page<'a>(
        &self,
        member: &str,
        names: impl Iterator<Item = &'a str>,
        limit: Option<i64>,
        token: Option<String>,
    ) -> Answer {
        let limit = limit.map(|limit| within("MaxResults", limit, 1, 1_000)).transpose()?;
        let after = token.unwrap_or_default();
        let mut rest = names.filter(|name| *name > after.as_str());
        let page: Vec<&str> = rest.by_ref().take(limit.unwrap_or(1_000) as usize).collect();
        let urls: Vec<String> = page.iter().map(|name| self.url(name)).collect();
        let mut answer = json!({ member: urls });
        if let (Some(_), Some(_), Some(last)) = (limit, rest.next(), page.last()) {
            answer["NextToken"] = json!(last);
        }
        Ok(answer)
    }

    fn delete_queue(&self, request: &OneQueue) -> Answer {
        self.lock().remove(name_in_url(&request.queue_url))?;
        // Polls on the queue are to learn that it is gone.
        self.arrived.notify_waiters();
        Ok(json!({}))
    }

    fn purge_queue(&self, request: &OneQueue) -> Answer {
        let mut queues = self.lock();
        queues.get_mut(name_in_url(&request.queue_url))?.purge();
        Ok(json!({}))
    }

    fn get_queue_attributes(&self, request: &GetQueueAttributes) -> Answer {
        let now = self.time.real();
        let mut queues = self.lock();
        let queue = queues.get_mut(name_in_url(&request.queue_url))?;
        queue.advance(now);
        let mut all = queue.settings.to_attributes();
        let depth = queue.depth();
        for (name, value) in [
            ("QueueArn", queue.arn.clone()),
            ("CreatedTimestamp", queue.created.as_second().to_string()),
            ("ApproximateNumberOfMessages", depth.visible.to_string()),
            ("ApproximateNumberOfMessagesNotVisible", depth.in_flight.to_string()),
            ("ApproximateNumberOfMessagesDelayed", depth.delayed.to_string()),
        ] {
            all.insert(name.to_owned(), value);
        }
        let names = &request.attribute_names;
        let optional = ["All", "RedrivePolicy", "Policy", "KmsMasterKeyId"];
        if let Some(unknown) =
            names.iter().find(|name| !all.contains_key(*name) && !optional.contains(&name.as_str()))
        {
            return Err(unknown_attribute(unknown));
        }
        if !names.iter().any(|name| name == "All") {
            all.retain(|name, _| names.contains(name));
        }
        Ok(json!({ "Attributes": all }))
    }

    fn set_queue_attributes(&self, request: &SetQueueAttributes) -> Answer {
        let mut queues = self.lock();
        let queue = queues.get_mut(name_in_url(&request.queue_url))?;
        queue.settings.apply(&request.attributes)?;
        Ok(json!({}))
    }

    fn list_queue_tags(&self, request: &OneQueue) -> Answer {
        let queues = self.lock();
        let queue = queues.get(name_in_url(&request.queue_url))?;
        Ok(json!({ "Tags": queue.tags }))
    }

    fn tag_queue(&self, request: TagQueue) -> Answer {
        let mut queues = self.lock();
        queues.get_mut(name_in_url(&request.queue_url))?.tags.extend(request.tags);
        Ok(json!({}))
    }

    fn untag_queue(&self, request: &UntagQueue) -> Answer {
        let mut queues = self.lock();
        let queue = queues.get_mut(name_in_url(&request.queue_url))?;
        queue.tags.retain(|key, _| !request.tag_keys.contains(key));
        Ok(json!({}))
    }

    fn send_message(&self, request: SendMessage) -> Answer {
        let MessageBody {
            message_body: body,
            delay_seconds: delay_secs,
            message_attributes: attributes,
        } = request.message;
        let delay_secs = delay_secs.map(|secs| within("DelaySeconds", secs, 0, 900)).transpose()?;
        let id = self.ids.uuid();
        let mut answer = Map::new();
        answer.insert("MessageId".to_owned(), id.as_str().into());
        answer.insert("MD5OfMessageBody".to_owned(), md5_hex(body.as_bytes()).into());
        if let Some(md5) = attributes_md5(&attributes) {
            answer.insert("MD5OfMessageAttributes".to_owned(), md5.into());
        }
        let message = Outgoing { id, body, attributes, delay_secs };
        self.send(name_in_url(&request.queue_url), message)?;
        Ok(Value::Object(answer))
    }

    pub(super) async fn receive_message(&self, request: ReceiveMessage) -> Answer {
        let max =
            within("MaxNumberOfMessages", request.max_number_of_messages.unwrap_or(1), 1, 10)?;
        let wait = request.wait_time_seconds;
        let wait = wait.map(|secs| within("WaitTimeSeconds", secs, 0, 20)).transpose()?;
        let visibility = request.visibility_timeout.map(visibility_secs).transpose()?;
        let name = name_in_url(&request.queue_url);
        let configured = self.lock().get(name)?.settings.wait_secs;
        let wait_secs = wait.unwrap_or(configured);
        let deadline = self
            .time
            .real()
            .checked_add(SignedDuration::from_secs(i64::from(wait_secs)))
            .unwrap_or(Timestamp::MAX);
        let deliveries = self.receive(name, max as usize, visibility, deadline).await?;
        let messages: Vec<Value> =
            deliveries.iter().map(|delivery| message_json(delivery, &request)).collect();
        // SQS leaves the member out when there is nothing.
        Ok(if messages.is_empty() { json!({}) } else { json!({ "Messages": messages }) })
    }

    fn delete_message(&self, request: &DeleteMessage) -> Answer {
        let mut queues = self.lock();
        queues.get_mut(name_in_url(&request.queue_url))?.delete(&request.receipt_handle)?;
        Ok(json!({}))
    }

    fn change_visibility(&self, request: &ChangeMessageVisibility) -> Answer {
        let now = self.time.real();
        self.lock().get_mut(name_in_url(&request.queue_url))?.change_visibility(
            &request.receipt_handle,
            visibility_secs(request.visibility_timeout)?,
            now,
        )?;
        // With visibility 0 the message can be received at once.
        self.arrived.notify_waiters();
        Ok(json!({}))
    }

    /// Runs the single action for each entry; entries fail on their own.
    fn batch(&self, action: &str, request: Batch, region: &str) -> Answer {
        let name = name_in_url(&request.queue_url);
        let size_max = self.lock().get(name)?.settings.message_bytes_max;
        check_batch(request.entries.iter().map(|entry| entry.id.as_str()))?;
        let body = |entry: &BatchEntry| entry.rest.get("MessageBody")?.as_str().map(str::len);
        if request.entries.iter().filter_map(body).sum::<usize>() > size_max {
            return Err(ApiError::bad_request("BatchRequestTooLong", "The batch is too long."));
        }
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for entry in request.entries {
            let mut body = entry.rest;
            body.insert("QueueUrl".to_owned(), request.queue_url.as_str().into());
            match self.call_at_once(action, Value::Object(body), region) {
                Ok(mut answer) => {
                    answer["Id"] = entry.id.into();
                    done.push(answer);
                }
                Err(error) => failed.push(json!({
                    "Id": entry.id,
                    "Code": error.code,
                    "Message": error.message,
                    "SenderFault": true,
                })),
            }
        }
        Ok(json!({ "Successful": done, "Failed": failed }))
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{ACCOUNT}/{name}", self.endpoint)
    }
}

fn message_json(delivery: &Delivery, request: &ReceiveMessage) -> Value {
    let mut message = json!({
        "MessageId": delivery.id,
        "ReceiptHandle": delivery.receipt,
        "MD5OfBody": delivery.body_md5(),
        "Body": delivery.body,
    });
    let mut system = BTreeMap::from([
        ("SenderId", ACCOUNT.to_owned()),
        ("SentTimestamp", delivery.sent.as_millisecond().to_string()),
        ("ApproximateReceiveCount", delivery.receives.to_string()),
        ("ApproximateFirstReceiveTimestamp", delivery.first_received.as_millisecond().to_string()),
    ]);
    if let Some(source) = &delivery.source {
        system.insert("DeadLetterQueueSourceArn", source.clone());
    }
    let wanted = || {
        let names = &request.message_system_attribute_names;
        names.iter().chain(&request.attribute_names)
    };
    system.retain(|name, _| wanted().any(|w| w == "All" || w == name));
    if !system.is_empty() {
        message["Attributes"] = json!(system);
    }
    let mut attributes = delivery.attributes.clone();
    attributes.retain(|name, _| {
        let wanted = &request.message_attribute_names;
        wanted.iter().any(|pattern| selects(pattern, name))
    });
    if let Some(md5) = attributes_md5(&attributes) {
        message["MD5OfMessageAttributes"] = md5.into();
        message["MessageAttributes"] = json!(attributes);
    }
    message
}

/// `All`, `.*`, a name, or a prefix followed by `.*`.
fn selects(pattern: &str, name: &str) -> bool {
    pattern == "All"
        || pattern == name
        || pattern.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
}

/// The last part of a queue's URL; clients may also give the bare name.
fn name_in_url(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn visibility_secs(secs: i64) -> Result<u32, ApiError> {
    within("VisibilityTimeout", secs, 0, 43_200)
}

fn within(name: &str, value: i64, min: u32, max: u32) -> Result<u32, ApiError> {
    let fitting = u32::try_from(value).ok().filter(|value| (min..=max).contains(value));
    fitting.ok_or_else(|| {
        invalid_parameter(&format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be between {min} and {max}, if provided."
        ))
    })
}

fn invalid_parameter(message: &str) -> ApiError {
    ApiError::bad_request("InvalidParameterValue", message)
}
