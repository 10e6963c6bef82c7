//! EventBridge's default bus: rules that match events and hand them to SQS
//! queues. No schedules, no input transformers, no other targets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::ids::Ids;
use crate::pattern::Pattern;
use crate::sqs::Sqs;
use crate::time::Time;
use crate::wire::{ACCOUNT, ApiError, parse_body};

type Answer = Result<Value, ApiError>;

#[derive(Debug)]
struct Rule {
    region: String,
    description: Option<String>,
    /// As given, and as understood.
    pattern_text: String,
    pattern: Pattern,
    enabled: bool,
    /// Queue ARNs by target id.
    targets: BTreeMap<String, String>,
}

impl Rule {
    fn arn(&self, name: &str) -> String {
        format!("arn:aws:events:{}:{ACCOUNT}:rule/{name}", self.region)
    }

    fn to_json(&self, name: &str) -> Value {
        let mut rule = json!({
            "Name": name,
            "Arn": self.arn(name),
            "EventPattern": self.pattern_text,
            "State": if self.enabled { "ENABLED" } else { "DISABLED" },
            "EventBusName": "default",
        });
        if let Some(description) = &self.description {
            rule["Description"] = description.as_str().into();
        }
        rule
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRule {
    name: String,
    event_pattern: Option<String>,
    state: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneRule {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRules {
    #[serde(default)]
    name_prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutTargets {
    rule: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Target {
    id: String,
    arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleTargets {
    rule: String,
    #[serde(default)]
    ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<PutEventsEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEventsEntry {
    #[serde(default)]
    source: String,
    #[serde(default)]
    detail_type: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    resources: Vec<String>,
}

/// The rules of the account's default bus.
#[derive(Debug)]
pub struct Events {
    rules: Mutex<BTreeMap<String, Rule>>,
    sqs: Arc<Sqs>,
    time: Time,
    ids: Arc<Ids>,
}

impl Events {
    pub fn new(sqs: Arc<Sqs>, time: Time, ids: Arc<Ids>) -> Self {
        Self { rules: Mutex::default(), sqs, time, ids }
    }

    /// One call of the API; `region` is the one the client signed for.
    pub fn call(&self, action: &str, body: Value, region: &str) -> Answer {
        let bus = body["EventBusName"].as_str().unwrap_or("default").to_owned();
        if bus != "default" && !bus.ends_with(":event-bus/default") {
            return Err(ApiError::bad_request(
                "ResourceNotFoundException",
                format!("Event bus {bus} does not exist."),
            ));
        }
        match action {
            "PutRule" => self.put_rule(parse(body)?, region),
            "DescribeRule" => self.describe_rule(&parse(body)?),
            "ListRules" => Ok(self.list_rules(&parse(body)?)),
            "DeleteRule" => self.delete_rule(&parse(body)?),
            "EnableRule" => self.set_enabled(&parse(body)?, true),
            "DisableRule" => self.set_enabled(&parse(body)?, false),
            "PutTargets" => self.put_targets(parse(body)?),
            "RemoveTargets" => self.remove_targets(&parse(body)?),
            "ListTargetsByRule" => self.list_targets(&parse(body)?),
            "PutEvents" => self.put_events(parse(body)?),
            _ => Err(ApiError::bad_request(
                "UnknownOperationException",
                format!("the local EventBridge does not know {action}"),
            )),
        }
    }

    /// Puts an event of a service on the bus and returns its id.
    pub fn put_event(
        &self,
        source: &str,
        detail_type: &str,
        resources: &[String],
        detail: Value,
    ) -> String {
        let event = json!({
            "version": "0",
            "id": self.ids.uuid(),
            "detail-type": detail_type,
            "source": source,
            "account": ACCOUNT,
            "time": whole_seconds(self.time.dev()),
            "region": "",
            "resources": resources,
            "detail": detail,
        });
        for (queue, event) in self.matching(&event) {
            if let Err(error) = self.sqs.deliver(&queue, event.to_string(), BTreeMap::new()) {
                tracing::warn!(queue, %error, "event not delivered");
            }
        }
        event["id"].as_str().unwrap_or_default().to_owned()
    }

    /// Each queue that is to get the event, and the event in its rule's region.
    fn matching(&self, event: &Value) -> Vec<(String, Value)> {
        let rules = self.lock();
        let mut found = Vec::new();
        for rule in rules.values().filter(|rule| rule.enabled) {
            let mut event = event.clone();
            event["region"] = rule.region.as_str().into();
            if rule.pattern.matches(Some(&event)) {
                let queues = rule.targets.values();
                found.extend(queues.map(|queue| (queue.clone(), event.clone())));
            }
        }
        found
    }

    fn put_rule(&self, request: PutRule, region: &str) -> Answer {
        let Some(pattern_text) = request.event_pattern else {
            return Err(validation("the local EventBridge has rules with an EventPattern only"));
        };
        let invalid = |reason: String| {
            let message = format!("Event pattern is not valid. Reason: {reason}");
            ApiError::bad_request("InvalidEventPatternException", message)
        };
        let value: Value =
            serde_json::from_str(&pattern_text).map_err(|error| invalid(error.to_string()))?;
        if !value.is_object() {
            return Err(invalid("it is no object".to_owned()));
        }
        let pattern = Pattern::parse(&value).map_err(|error| invalid(error.to_string()))?;
        let enabled = match request.state.as_deref() {
            None | Some("ENABLED") => true,
            Some("DISABLED") => false,
            Some(other) => return Err(validation(format!("{other} is no state of a rule"))),
        };
        let mut rules = self.lock();
        let targets = rules.remove(&request.name).map_or_else(BTreeMap::new, |old| old.targets);
        let rule = Rule {
            region: region.to_owned(),
            description: request.description,
            pattern_text,
            pattern,
            enabled,
            targets,
        };
        let arn = rule.arn(&request.name);
        rules.insert(request.name, rule);
        Ok(json!({ "RuleArn": arn }))
    }

    fn describe_rule(&self, request: &OneRule) -> Answer {
        let rules = self.lock();
        let rule = rules.get(&request.name).ok_or_else(|| no_rule(&request.name))?;
        Ok(rule.to_json(&request.name))
    }

    fn list_rules(&self, request: &ListRules) -> Value {
        let rules: Vec<Value> = self
            .lock()
            .iter()
            .filter(|(name, _)| name.starts_with(&request.name_prefix))
            .map(|(name, rule)| rule.to_json(name))
            .collect();
        json!({ "Rules": rules })
    }

    fn delete_rule(&self, request: &OneRule) -> Answer {
        let mut rules = self.lock();
        if rules.get(&request.name).is_some_and(|rule| !rule.targets.is_empty()) {
            return Err(validation("Rule can't be deleted since it has targets."));
        }
        rules.remove(&request.name);
        Ok(json!({}))
    }

    fn set_enabled(&self, request: &OneRule, enabled: bool) -> Answer {
        let mut rules = self.lock();
        let rule = rules.get_mut(&request.name).ok_or_else(|| no_rule(&request.name))?;
        rule.enabled = enabled;
        Ok(json!({}))
    }

    fn put_targets(&self, request: PutTargets) -> Answer {
        let mut rules = self.lock();
        let rule = rules.get_mut(&request.rule).ok_or_else(|| no_rule(&request.rule))?;
        let mut failed = Vec::new();
        for target in request.targets {
            if crate::sqs::queue_name(&target.arn).is_some() {
                rule.targets.insert(target.id, target.arn);
            } else {
                failed.push(json!({
                    "TargetId": target.id,
                    "ErrorCode": "ValidationException",
                    "ErrorMessage": "the local EventBridge delivers to SQS queues only",
                }));
            }
        }
        Ok(json!({ "FailedEntryCount": failed.len(), "FailedEntries": failed }))
    }

    fn remove_targets(&self, request: &RuleTargets) -> Answer {
        let mut rules = self.lock();
        let rule = rules.get_mut(&request.rule).ok_or_else(|| no_rule(&request.rule))?;
        rule.targets.retain(|id, _| !request.ids.contains(id));
        Ok(json!({ "FailedEntryCount": 0, "FailedEntries": [] }))
    }

    fn list_targets(&self, request: &RuleTargets) -> Answer {
        let rules = self.lock();
        let rule = rules.get(&request.rule).ok_or_else(|| no_rule(&request.rule))?;
        let targets = rule.targets.iter();
        let targets: Vec<Value> = targets.map(|(id, arn)| json!({"Id": id, "Arn": arn})).collect();
        Ok(json!({ "Targets": targets }))
    }

    fn put_events(&self, request: PutEvents) -> Answer {
        if !(1..=10).contains(&request.entries.len()) {
            return Err(validation("PutEvents takes 1 to 10 entries"));
        }
        let (mut entries, mut failures) = (Vec::new(), 0);
        for entry in request.entries {
            let detail = serde_json::from_str::<Map<String, Value>>(&entry.detail);
            let complete = !entry.source.is_empty() && !entry.detail_type.is_empty();
            let refusal = match detail {
                Ok(detail) if complete && !entry.source.starts_with("aws.") => {
                    let detail = Value::Object(detail);
                    let PutEventsEntry { source, detail_type, resources, .. } = entry;
                    let id = self.put_event(&source, &detail_type, &resources, detail);
                    entries.push(json!({ "EventId": id }));
                    continue;
                }
                Ok(_) if complete => {
                    ("NotAuthorizedForSourceException", "Not authorized for the source.")
                }
                Ok(_) => ("InvalidArgument", "Source and DetailType are required."),
                Err(_) => ("MalformedDetail", "Detail is malformed."),
            };
            failures += 1;
            entries.push(json!({ "ErrorCode": refusal.0, "ErrorMessage": refusal.1 }));
        }
        Ok(json!({ "FailedEntryCount": failures, "Entries": entries }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse<T: DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    parse_body(body).map_err(|error| match error.code {
        "MissingParameter" => validation(error.message),
        _ => error,
    })
}

fn whole_seconds(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn no_rule(name: &str) -> ApiError {
    ApiError::bad_request(
        "ResourceNotFoundException",
        format!("Rule {name} does not exist on EventBus default."),
    )
}

fn validation(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("ValidationException", message)
}
