//! SQS: the inbox that S3 and EMR notify, and the quarantine for messages that
//! nobody can read.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::error::{AwsError, Kind};

/// SQS's longest.
const LONG_POLL_SECS: i32 = 20;
const RECEIVE_MAX: i32 = 10;
const RECEIVE_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a receive waits for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poll {
    /// It answers at once.
    Short,
    /// It answers when there is a message, or after 20 s.
    Long,
}

#[derive(Debug, Clone)]
pub struct Sqs {
    client: aws_sdk_sqs::Client,
    /// The same with the patience that a long poll needs. To give it to each
    /// receive instead would make the SDK put its client together every time.
    patient: aws_sdk_sqs::Client,
    inbox: String,
    quarantine: String,
}

/// How much is in a queue, as SQS estimates it. It does not tell how old: that
/// is CloudWatch's ApproximateAgeOfOldestMessage, and the metric of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Depth {
    pub visible: u64,
    /// Received by somebody and not yet deleted.
    pub in_flight: u64,
    pub delayed: u64,
}

/// A message as received; hidden from others until its visibility ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub receipt: String,
    /// When it was sent to the queue.
    pub sent: Option<Timestamp>,
    pub body: String,
}

impl Sqs {
    /// Finds both queues, given by name or URL.
    pub async fn open(config: &SdkConfig, inbox: &str, quarantine: &str) -> Result<Self, AwsError> {
        let client = aws_sdk_sqs::Client::new(config);
        let inbox = url(&client, inbox).await?;
        let quarantine = url(&client, quarantine).await?;
        let patience = super::timeouts()
            .to_builder()
            .operation_attempt_timeout(RECEIVE_ATTEMPT_TIMEOUT)
            .operation_timeout(RECEIVE_TIMEOUT)
            .build();
        let patient = aws_sdk_sqs::config::Builder::from(config).timeout_config(patience).build();
        let patient = aws_sdk_sqs::Client::from_conf(patient);
        Ok(Self { client, patient, inbox, quarantine })
    }

    /// The URLs of the inbox and of the quarantine.
    pub fn urls(&self) -> (String, String) {
        (self.inbox.clone(), self.quarantine.clone())
    }

    /// Receives up to 10 messages, and hides them for `hidden`.
    pub async fn receive(
        &self,
        hidden: SignedDuration,
        poll: Poll,
    ) -> Result<Vec<Received>, AwsError> {
        let wait_secs = match poll {
            Poll::Short => 0,
            Poll::Long => LONG_POLL_SECS,
        };
        let answer = self
            .patient
            .receive_message()
            .queue_url(&self.inbox)
            .wait_time_seconds(wait_secs)
            .max_number_of_messages(RECEIVE_MAX)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .visibility_timeout(i32::try_from(hidden.as_secs()).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| AwsError::new("SQS", "ReceiveMessage", &error))?;
        let messages = answer.messages.unwrap_or_default().into_iter();
        Ok(messages
            .filter_map(|message| {
                Some(Received {
                    id: message.message_id?,
                    receipt: message.receipt_handle?,
                    sent: message.attributes.as_ref().and_then(sent),
                    body: message.body.unwrap_or_default(),
                })
            })
            .collect())
    }

    /// Deletes messages whose effect is durable. One that cannot be deleted
    /// comes again, and does no harm then.
    pub async fn delete(&self, messages: &[Received]) -> Result<(), AwsError> {
        let entries = messages.iter().enumerate().filter_map(|(number, message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(&message.receipt)
                .build()
                .ok()
        });
        let entries: Vec<_> = entries.collect();
        if entries.is_empty() {
            return Ok(());
        }
        self.client
            .delete_message_batch()
            .queue_url(&self.inbox)
            .set_entries(Some(entries))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("SQS", "DeleteMessageBatch", &error))
    }

    /// Gives messages back: others can receive them at once.
    pub async fn give_back(&self, messages: &[Received]) -> Result<(), AwsError> {
        let entries = messages.iter().enumerate().filter_map(|(number, message)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(&message.receipt)
                .visibility_timeout(0)
                .build()
                .ok()
        });
        let entries: Vec<_> = entries.collect();
        if entries.is_empty() {
            return Ok(());
        }
        self.client
            .change_message_visibility_batch()
            .queue_url(&self.inbox)
            .set_entries(Some(entries))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("SQS", "ChangeMessageVisibilityBatch", &error))
    }

    /// How much is in the inbox and in the quarantine.
    pub async fn depths(&self) -> Result<(Depth, Depth), AwsError> {
        Ok((self.depth(&self.inbox).await?, self.depth(&self.quarantine).await?))
    }

    async fn depth(&self, url: &str) -> Result<Depth, AwsError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed,
            ApproximateNumberOfMessagesNotVisible,
        };
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(ApproximateNumberOfMessages)
            .attribute_names(ApproximateNumberOfMessagesNotVisible)
            .attribute_names(ApproximateNumberOfMessagesDelayed)
            .send()
            .await
            .map_err(|error| AwsError::new("SQS", "GetQueueAttributes", &error))?;
        let count = |name: &QueueAttributeName| {
            let attribute = answer.attributes().and_then(|attributes| attributes.get(name));
            attribute.and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        Ok(Depth {
            visible: count(&ApproximateNumberOfMessages),
            in_flight: count(&ApproximateNumberOfMessagesNotVisible),
            delayed: count(&ApproximateNumberOfMessagesDelayed),
        })
    }

    /// Puts a message into the inbox, as S3 would; returns its id.
    pub async fn send(&self, body: &str) -> Result<String, AwsError> {
        let request = self.client.send_message().queue_url(&self.inbox).message_body(body);
        let answer =
            request.send().await.map_err(|error| AwsError::new("SQS", "SendMessage", &error))?;
        Ok(answer.message_id.unwrap_or_default())
    }

    /// Where messages go that nobody can read.
    pub fn quarantine_url(&self) -> &str {
        &self.quarantine
    }

    /// Keeps a message that nobody can read, with the reason beside it; without
    /// it where the message leaves no room.
    pub async fn quarantine(&self, message: &Received, reason: &str) -> Result<(), AwsError> {
        let attributes = [("reason", reason), ("message-id", message.id.as_str())];
        match self.keep(&message.body, &attributes).await {
            Err(error) if error.kind == Kind::Refused => self.keep(&message.body, &[]).await,
            result => result,
        }
    }

    async fn keep(&self, body: &str, attributes: &[(&str, &str)]) -> Result<(), AwsError> {
        let mut request = self.client.send_message().queue_url(&self.quarantine).message_body(body);
        for (name, value) in attributes {
            let value =
                MessageAttributeValue::builder().data_type("String").string_value(*value).build();
            if let Ok(value) = value {
                request = request.message_attributes(*name, value);
            }
        }
        request
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("SQS", "SendMessage", &error))
    }
}

fn sent(attributes: &HashMap<MessageSystemAttributeName, String>) -> Option<Timestamp> {
    let millis = attributes.get(&MessageSystemAttributeName::SentTimestamp)?.parse().ok()?;
    Timestamp::from_millisecond(millis).ok()
}

async fn url(client: &aws_sdk_sqs::Client, queue: &str) -> Result<String, AwsError> {
    if queue.contains("://") {
        return Ok(queue.to_owned());
    }
    let answer = client
        .get_queue_url()
        .queue_name(queue)
        .send()
        .await
        .map_err(|error| AwsError::new("SQS", "GetQueueUrl", &error))
        .map_err(|error| AwsError {
            message: format!("queue {queue:?}: {}", error.message),
            ..error
        })?;
    Ok(answer.queue_url.unwrap_or_default())
}
