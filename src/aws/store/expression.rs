//! An update of an item, made of parts: which attributes it sets and removes,
//! with placeholders for their names and values. Every write raises the version.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::item::{self, Item};
use super::task::SINCE;
use crate::core::notice::Notice;
use crate::core::task::{Element, Receipt, TaskKey, TaskPartition, TaskState};
use crate::planted::{Bug, planted};

/// An update expression that grows by its parts.
#[derive(Default)]
pub struct Expression {
    adds: Vec<String>,
    sets: Vec<String>,
    removes: Vec<String>,
    pub names: HashMap<String, String>,
    pub values: Item,
}

impl Expression {
    /// Every write raises the version by one.
    pub fn new() -> Self {
        let mut expression = Self::default();
        expression.names.insert("#version".into(), item::VERSION.into());
        expression.values.insert(":one".into(), item::number(1));
        expression
    }

    /// A write that may be the first to a task partition.
    pub fn first(now: Timestamp) -> Self {
        let mut expression = Self::new();
        expression.set_once(SINCE, item::instant(now));
        expression.set_once(item::SHARD, item::text(item::ONE_SHARD));
        expression.set_once(item::STATE, item::text(TaskState::Waiting.name()));
        expression.set_once(item::FORMAT, item::number(item::THIS_FORMAT));
        expression
    }

    /// What has come in, and when to look at it if nothing else says so.
    pub fn receive(&mut self, receipts: &[(Element, Receipt)], due: Option<Timestamp>) {
        for (element, receipt) in receipts {
            let attribute = format!("{}{element}", item::RECEIVED_PREFIX);
            let value = item::text(receipt.to_string());
            match receipt {
                Receipt::Begun(_) if !planted(Bug::BegunOverwrites) => {
                    self.set_once(&attribute, value)
                }
                _ => self.set(&attribute, value),
            }
        }
        if let Some(due) = due {
            self.set_once(item::DUE, item::instant(due));
        }
    }

    pub fn name(&mut self, attribute: &str) -> String {
        let name = format!("#n{}", self.names.len());
        self.names.insert(name.clone(), attribute.to_owned());
        name
    }

    pub fn value(&mut self, value: AttributeValue) -> String {
        let name = format!(":v{}", self.values.len());
        self.values.insert(name.clone(), value);
        name
    }

    pub fn set(&mut self, attribute: &str, value: AttributeValue) {
        let (name, value) = (self.name(attribute), self.value(value));
        self.sets.push(format!("{name} = {value}"));
    }

    pub fn set_once(&mut self, attribute: &str, value: AttributeValue) {
        let (name, value) = (self.name(attribute), self.value(value));
        self.sets.push(format!("{name} = if_not_exists({name}, {value})"));
    }

    /// Adds to a set of texts what it does not have yet.
    pub fn add_to_set(&mut self, attribute: &str, text: &str) {
        let value = AttributeValue::Ss(vec![text.to_owned()]);
        let (name, value) = (self.name(attribute), self.value(value));
        self.adds.push(format!("{name} {value}"));
    }

    pub fn remove(&mut self, attribute: &str) {
        let name = self.name(attribute);
        self.removes.push(name);
    }

    /// The condition that no newer version has written the item.
    pub fn not_newer(&mut self) -> String {
        let format = self.name(item::FORMAT);
        let any = planted(Bug::NewerOverwritten);
        let ours = self.value(item::number(if any { u64::MAX } else { item::THIS_FORMAT }));
        format!("attribute_not_exists({format}) OR {format} <= {ours}")
    }

    /// The condition that what comes in may still take part: the states of
    /// [`TaskState::takes_inputs`], and none yet.
    pub fn takes_inputs(&mut self) -> String {
        let state = self.name(item::STATE);
        let open = TaskState::ALL.into_iter().filter(|state| state.takes_inputs());
        let open: Vec<_> = open.map(|state| self.value(item::text(state.name()))).collect();
        format!("attribute_not_exists({state}) OR {state} IN ({})", open.join(", "))
    }

    /// The condition that a partition waits, or that nothing is stored of it.
    pub fn waits(&mut self) -> String {
        let state = self.name(item::STATE);
        let waiting = self.value(item::text(TaskState::Waiting.name()));
        let not_newer = self.not_newer();
        format!("(attribute_not_exists({state}) OR {state} = {waiting}) AND ({not_newer})")
    }

    /// Keeps a notice until it is published.
    pub fn keep_notice(&mut self, key: &TaskKey, notice: &Notice) {
        self.set(&notice_attribute(key, notice), item::notice(notice));
    }

    pub fn remove_notices(&mut self, key: &TaskKey, notices: &[Notice]) {
        for notice in notices {
            self.remove(&notice_attribute(key, notice));
        }
    }

    pub fn text(&self) -> String {
        let mut text = "ADD #version :one".to_owned();
        for add in &self.adds {
            text.push_str(&format!(", {add}"));
        }
        for (verb, parts) in [("SET", &self.sets), ("REMOVE", &self.removes)] {
            if !parts.is_empty() {
                text.push_str(&format!(" {verb} {}", parts.join(", ")));
            }
        }
        text
    }
}

/// Each notice of a partition has an attribute of its own.
pub fn notice_attribute(key: &TaskKey, notice: &Notice) -> String {
    format!("{}{}", item::NOTICE_PREFIX, TaskPartition::event(key, notice))
}
