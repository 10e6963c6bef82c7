//! SNS: publishes notices to the deployment's one topic.

use aws_config::SdkConfig;
use aws_sdk_sns::types::MessageAttributeValue;

use super::error::AwsError;
use crate::core::notice::Message;

#[derive(Debug, Clone)]
pub struct Sns {
    client: aws_sdk_sns::Client,
    topic_arn: String,
}

impl Sns {
    pub fn new(config: &SdkConfig, topic_arn: &str) -> Self {
        Self { client: aws_sdk_sns::Client::new(config), topic_arn: topic_arn.to_owned() }
    }

    /// Asks for the topic, so that a wrong ARN is found at the start.
    pub async fn check(&self) -> Result<(), AwsError> {
        self.client
            .get_topic_attributes()
            .topic_arn(&self.topic_arn)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| AwsError::new("SNS", "GetTopicAttributes", &error))
    }

    /// Publishes; returns when SNS has given it a message id. Repeating it
    /// after a lost answer sends the notice twice, with the same event id.
    pub async fn publish(&self, message: &Message) -> Result<(), AwsError> {
        let mut request = self
            .client
            .publish()
            .topic_arn(&self.topic_arn)
            .subject(&message.subject)
            .message(&message.body);
        for (name, value) in &message.attributes {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .map_err(|error| AwsError::new("SNS", "Publish", &construction(error)))?;
            request = request.message_attributes(*name, value);
        }
        request.send().await.map(|_| ()).map_err(|error| AwsError::new("SNS", "Publish", &error))
    }
}

fn construction(
    error: aws_sdk_sns::error::BuildError,
) -> aws_sdk_sns::error::SdkError<aws_sdk_sns::operation::publish::PublishError> {
    aws_sdk_sns::error::SdkError::construction_failure(error)
}
