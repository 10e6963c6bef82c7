//! A bucket's notification configuration between S3's shapes and ours. Queues,
//! topics and EventBridge; functions are refused.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::notify::{Notifications, Rule};

/// Event types of which a rule may speak.
const KNOWN: [&str; 2] = ["s3:ObjectCreated:", "s3:ObjectRemoved:"];

/// Reads and checks a configuration.
pub fn parse(configuration: NotificationConfiguration) -> S3Result<Notifications> {
    let functions = configuration.lambda_function_configurations.unwrap_or_default();
    if !functions.is_empty() {
        return Err(s3_error!(NotImplemented, "the local S3 notifies no functions"));
    }
    let mut rules = Vec::new();
    for queue in configuration.queue_configurations.unwrap_or_default() {
        let number = rules.len();
        rules.push(rule(number, queue.id, queue.queue_arn, queue.events, queue.filter)?);
    }
    for topic in configuration.topic_configurations.unwrap_or_default() {
        let number = rules.len();
        rules.push(rule(number, topic.id, topic.topic_arn, topic.events, topic.filter)?);
    }
    for (index, rule) in rules.iter().enumerate() {
        if rules[..index].iter().any(|other| other.overlaps(rule)) {
            return Err(s3_error!(
                InvalidArgument,
                "Configurations overlap. Configurations on the same bucket cannot share a common event type."
            ));
        }
    }
    let event_bridge = configuration.event_bridge_configuration.is_some();
    Ok(Notifications { rules, event_bridge })
}

/// The configuration as a client reads it back.
pub fn show(notifications: Notifications) -> GetBucketNotificationConfigurationOutput {
    let bridge = notifications.event_bridge.then(EventBridgeConfiguration::default);
    let (queues, topics): (Vec<Rule>, Vec<Rule>) = notifications
        .rules
        .into_iter()
        .partition(|rule| crate::sqs::queue_name(&rule.target_arn).is_some());
    let queues = queues.into_iter().map(|rule| QueueConfiguration {
        filter: filter(&rule),
        events: rule.events.into_iter().map(Event::from).collect(),
        id: Some(rule.id),
        queue_arn: rule.target_arn,
    });
    let topics = topics.into_iter().map(|rule| TopicConfiguration {
        filter: filter(&rule),
        events: rule.events.into_iter().map(Event::from).collect(),
        id: Some(rule.id),
        topic_arn: rule.target_arn,
    });
    GetBucketNotificationConfigurationOutput {
        event_bridge_configuration: bridge,
        queue_configurations: Some(queues.collect()),
        topic_configurations: Some(topics.collect()),
        ..Default::default()
    }
}

fn rule(
    number: usize,
    id: Option<String>,
    target_arn: String,
    events: Vec<Event>,
    filter: Option<NotificationConfigurationFilter>,
) -> S3Result<Rule> {
    let events: Vec<String> = events.iter().map(|event| event.as_ref().to_owned()).collect();
    let known = |event: &String| KNOWN.iter().any(|kind| event.starts_with(kind));
    if events.is_empty() || !events.iter().all(known) {
        return Err(s3_error!(
            InvalidArgument,
            "The event is not supported for notifications: {}",
            events.join(", ")
        ));
    }
    let (mut prefix, mut suffix) = (String::new(), String::new());
    let parts = filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules);
    for part in parts.unwrap_or_default() {
        let name = part.name.as_ref().map(|name| name.as_str().to_ascii_lowercase());
        match name.as_deref() {
            Some("prefix") => prefix = part.value.unwrap_or_default(),
            Some("suffix") => suffix = part.value.unwrap_or_default(),
            _ => {
                return Err(s3_error!(
                    InvalidArgument,
                    "filter rule name must be either prefix or suffix"
                ));
            }
        }
    }
    let id = id.unwrap_or_else(|| format!("rule-{number}"));
    Ok(Rule { id, target_arn, events, prefix, suffix })
}

fn filter(rule: &Rule) -> Option<NotificationConfigurationFilter> {
    let parts = [(FilterRuleName::PREFIX, &rule.prefix), (FilterRuleName::SUFFIX, &rule.suffix)];
    let rules: Vec<FilterRule> = parts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| FilterRule {
            name: Some(FilterRuleName::from_static(name)),
            value: Some(value.clone()),
        })
        .collect();
    let key = S3KeyFilter { filter_rules: Some(rules.clone()) };
    (!rules.is_empty()).then_some(NotificationConfigurationFilter { key: Some(key) })
}
