//! Compares a document with the configuration's JSON Schema and says every
//! mistake of structure: unknown and missing fields, wrong types, values that
//! are not among the allowed ones. Knows the keywords that our schema uses, not
//! all of JSON Schema; what it lets pass, serde still refuses. Not for what
//! values mean (see `validate`).

use std::collections::BTreeSet;
use std::ops::Range;
use std::str::FromStr;

use jiff::SignedDuration;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::document::{Document, SECTIONS};
use super::mistake::{Mistake, nearest, suggestion};
use super::schema::{DURATION, WHY};

/// Longer texts are cut when they are quoted in a message.
const QUOTED_CHARS_MAX: usize = 40;

/// Every mistake of structure in the document.
pub fn check(document: &Document<'_>, schema: &Value) -> Vec<Mistake> {
    let mut walk = Walk::default();
    walk.table(schema, document.get_ref(), document.span());
    walk.mistakes
}

/// Takes the profiles, datasets and tasks that have mistakes of structure out
/// of the document, so that the others can be validated, and returns their
/// names and those that are `hidden` in files that cannot be read. Datasets that
/// such a table or file mentions go with it: without its task, an output would be
/// judged as something else. None if other parts have mistakes, because then
/// everything depends on them.
pub fn set_aside(
    document: &mut Document<'_>,
    schema: &Value,
    hidden: BTreeSet<String>,
) -> Option<BTreeSet<String>> {
    let (mut names, mut mentions) = (hidden.clone(), hidden);
    for section in SECTIONS {
        let entry = &schema["properties"][section]["additionalProperties"];
        let Some(tables) = section_mut(document, section) else { continue };
        let sound = |name: &str, table| {
            let mut walk = Walk::default();
            walk.value(entry, name, table);
            walk.mistakes.is_empty()
        };
        let unsound: Vec<_> = tables
            .iter()
            .filter(|(name, table)| !sound(name.get_ref(), table))
            .map(|(name, _)| name.get_ref().to_string())
            .collect();
        for name in unsound {
            if let Some(table) = tables.remove(name.as_str()) {
                mentioned(table.get_ref(), &mut mentions);
            }
            names.insert(name);
        }
    }
    if let Some(datasets) = section_mut(document, "datasets") {
        names.extend(mentions.into_iter().filter(|name| datasets.remove(name.as_str()).is_some()));
    }
    check(document, schema).is_empty().then_some(names)
}

fn section_mut<'a, 'i>(
    document: &'a mut Document<'i>,
    section: &str,
) -> Option<&'a mut DeTable<'i>> {
    match document.get_mut().get_mut(section)?.get_mut() {
        DeValue::Table(tables) => Some(tables),
        _ => None,
    }
}

/// Collects all texts in a value.
fn mentioned(value: &DeValue<'_>, names: &mut BTreeSet<String>) {
    match value {
        DeValue::String(text) => {
            names.insert(text.to_string());
        }
        DeValue::Array(items) => items.iter().for_each(|item| mentioned(item.get_ref(), names)),
        DeValue::Table(table) => table.values().for_each(|item| mentioned(item.get_ref(), names)),
        _ => {}
    }
}

#[derive(Default)]
struct Walk {
    mistakes: Vec<Mistake>,
    /// The keys that lead to where the walk is.
    path: Vec<String>,
}

impl Walk {
    /// `name` is the field that has the value, or whose item it is.
    fn value(&mut self, whole: &Value, name: &str, value: &Spanned<DeValue<'_>>) {
        let Some(schema) = branch(whole, value.get_ref()) else {
            self.wrong_type(whole, name, value);
            return;
        };
        match value.get_ref() {
            DeValue::Table(table) => {
                self.path.push(name.to_owned());
                self.table(schema, table, value.span());
                self.path.pop();
            }
            DeValue::Array(items) => {
                for item in items.iter() {
                    self.value(&schema["items"], name, item);
                }
            }
            DeValue::String(text) => {
                let allowed = allowed(schema);
                if !allowed.is_empty() && !allowed.contains(&text.as_ref()) {
                    let near =
                        nearest(text, &allowed).map(|near| format!("did you mean {near:?}? "));
                    let help = format!("{}expected {}", near.unwrap_or_default(), expected(whole));
                    let message = format!("{name} cannot be {}", quoted(text));
                    self.mistakes.push(Mistake::at(value.span(), message).help(help));
                }
                if schema["format"] == DURATION && text.parse::<SignedDuration>().is_err() {
                    let message = format!("{name} is {}, which is no duration", quoted(text));
                    self.mistakes.push(Mistake::at(value.span(), message).help(
                        "write a number and a unit, h, m or s: \"16m\", \"1h 30m\", \"48h\"",
                    ));
                }
            }
            DeValue::Integer(number) => self.integer(schema, name, number, value.span()),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
        }
    }

    fn table(&mut self, schema: &Value, table: &DeTable<'_>, place: Range<usize>) {
        let fields = schema["properties"].as_object();
        let others = &schema["additionalProperties"];
        let mut meant = BTreeSet::new();
        for (key, value) in table.iter() {
            let name = key.get_ref().as_ref();
            match fields.and_then(|fields| fields.get(name)) {
                Some(field) => self.value(field, name, value),
                None if *others != Value::Bool(false) => self.value(others, name, value),
                None => {
                    let known: Vec<_> =
                        fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                    meant.extend(nearest(name, &known));
                    let message = format!("unknown field {name:?} in {}", self.place_name());
                    let help = suggestion(name, &known, "known here are");
                    self.mistakes.push(Mistake::at(key.span(), message).help(help));
                }
            }
        }
        for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            // A field that is only misspelt is not missing as well.
            if table.contains_key(field) || meant.contains(field) {
                continue;
            }
            let message = format!("{} needs {field}", self.place_name());
            let mistake = Mistake::at(place.clone(), message);
            let description = schema["properties"][field]["description"].as_str();
            self.mistakes.push(match description {
                Some(description) => mistake.help(format!("{field}: {description}")),
                None => mistake,
            });
        }
    }

    fn place_name(&self) -> String {
        if self.path.is_empty() {
            return "the file".to_owned();
        }
        format!("[{}]", self.path.join("."))
    }

    fn wrong_type(&mut self, schema: &Value, name: &str, value: &Spanned<DeValue<'_>>) {
        let why = schema[WHY].as_str();
        // What stands in a secret's place may be the secret: it is not repeated.
        let found =
            if why.is_some() { kind(value.get_ref()).to_owned() } else { found(value.get_ref()) };
        let message = format!("{name}: expected {}, found {found}", expected(schema));
        let mistake = Mistake::at(value.span(), message);
        let keys: Vec<_> = self.path.iter().map(String::as_str).chain([name]).collect();
        let header = keys.join(".");
        let help =
            why.map(str::to_owned).or_else(|| way_out(schema, name, &header, value.get_ref()));
        self.mistakes.push(match help {
            Some(help) => mistake.help(help),
            None => mistake,
        });
    }

    fn integer(&mut self, schema: &Value, name: &str, number: &DeInteger<'_>, place: Range<usize>) {
        let bound = |bound: &str| schema[bound].as_i64().map(i128::from);
        let low = bound("minimum").unwrap_or(i64::MIN.into());
        let high = bound("maximum").unwrap_or(i64::MAX.into());
        let value = i128::from_str_radix(number.as_str(), number.radix());
        if !value.is_ok_and(|value| (low..=high).contains(&value)) {
            let message =
                format!("{name} is {number}: expected a whole number from {low} to {high}");
            self.mistakes.push(Mistake::at(place, message));
        }
    }
}

/// The part of a schema that speaks of values of this type; None if none does.
fn branch<'a>(schema: &'a Value, value: &DeValue<'_>) -> Option<&'a Value> {
    let Some(branches) = branches(schema) else {
        return fits(schema, value).then_some(schema);
    };
    let mut fitting = branches.iter().filter_map(|schema| branch(schema, value));
    let first = fitting.next();
    // Which of several is meant only serde can say: Null allows everything.
    if fitting.next().is_some() { Some(&Value::Null) } else { first }
}

/// The alternatives of a schema. Those that are single values are no branches:
/// see `allowed`.
fn branches(schema: &Value) -> Option<&Vec<Value>> {
    if !allowed(schema).is_empty() {
        return None;
    }
    schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()
}

fn fits(schema: &Value, value: &DeValue<'_>) -> bool {
    match type_of(schema) {
        "object" => value.is_table(),
        "array" => value.is_array(),
        "string" => value.is_str(),
        "integer" => value.is_integer(),
        "number" => value.is_integer() || value.is_float(),
        "boolean" => value.is_bool(),
        _ => true,
    }
}

fn type_of(schema: &Value) -> &str {
    match schema["type"].as_str() {
        Some(kind) => kind,
        None if !allowed(schema).is_empty() => "string",
        None => "",
    }
}

/// The texts that are allowed, if not all are.
fn allowed(schema: &Value) -> Vec<&str> {
    let alternatives = schema["oneOf"].as_array().into_iter().flatten();
    let described =
        alternatives.flat_map(|one| one["const"].as_str().into_iter().chain(texts(&one["enum"])));
    texts(&schema["enum"]).chain(described).collect()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What the value should look like, where that can be told from what it is.
fn way_out(schema: &Value, name: &str, header: &str, value: &DeValue<'_>) -> Option<String> {
    if let Some(branches) = branches(schema) {
        return branches.iter().find_map(|schema| way_out(schema, name, header, value));
    }
    let items = &schema["items"];
    match (type_of(schema), value) {
        ("string", _) if schema["format"] == DURATION => {
            Some("write a number and a unit in quotes: \"16m\", \"1h 30m\", \"48h\"".to_owned())
        }
        ("string", DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => {
            Some(format!("write it in quotes: {name} = \"{}\"", plain(value)?))
        }
        ("integer", DeValue::String(text)) => without_quotes::<i64>(name, text),
        ("number", DeValue::String(text)) => without_quotes::<f64>(name, text),
        ("boolean", DeValue::String(text)) => without_quotes::<bool>(name, text),
        ("array", DeValue::String(text)) if type_of(items) == "string" => {
            Some(format!("write it in brackets: {name} = [{}]", quoted(text)))
        }
        ("array", DeValue::Table(_)) if type_of(items) == "object" => Some(format!(
            "write each in brackets: {name} = [{{ … }}], or [[{header}]] as the header"
        )),
        ("object", DeValue::Array(items)) if items.iter().all(|item| item.get_ref().is_table()) => {
            Some(match schema["properties"].is_object() {
                true => format!("write one table: {name} = {{ … }}, or [{header}] as the header"),
                false => format!("give each a name: [{}.NAME] as the header", header),
            })
        }
        ("object", _) => Some(example(schema)),
        _ => None,
    }
}

fn without_quotes<T: FromStr>(name: &str, text: &str) -> Option<String> {
    text.parse::<T>().is_ok().then(|| format!("write it without quotes: {name} = {text}"))
}

/// A table as it is written, with the fields that it needs.
fn example(schema: &Value) -> String {
    let required = texts(&schema["required"]);
    let fields: Vec<_> = required.map(|field| format!("{field} = …")).collect();
    format!("write {{ {} }}", if fields.is_empty() { "…".to_owned() } else { fields.join(", ") })
}

fn expected(schema: &Value) -> String {
    if let Some(branches) = branches(schema) {
        return branches.iter().map(expected).collect::<Vec<_>>().join(" or ");
    }
    let allowed = allowed(schema);
    if let Some((last, others)) = allowed.split_last() {
        let others = others.join(", ");
        return if others.is_empty() { (*last).to_owned() } else { format!("{others} or {last}") };
    }
    match type_of(schema) {
        "string" if schema["format"] == DURATION => "a duration",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "an array",
        "object" => "a table",
        _ => "another value",
    }
    .to_owned()
}

/// The value in words, short.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(_) | DeValue::Float(_) => {
            format!("the number {}", plain(value).unwrap_or_default())
        }
        DeValue::Boolean(value) => value.to_string(),
        _ => kind(value).to_owned(),
    }
}

/// What a simple value is without quotes.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// In quotes, and not too long.
fn quoted(text: &str) -> String {
    let mut start: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}
