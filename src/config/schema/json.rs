//! The JSON Schema of the configuration, made from the schema's types: editors
//! use it to complete and explain, `structure` to find mistakes.

use jiff::SignedDuration;
use jiff::fmt::friendly::{Designator, SpanPrinter};
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use super::File;

/// The format of texts such as "16m". Validators pass by formats that they do
/// not know, so a pattern says the same to editors, a little more loosely.
pub const DURATION: &str = "friendly-duration";
/// The keyword that says why a value must be written as it must.
pub const WHY: &str = "x-why";

const DURATION_PATTERN: &str = r"^\s*[-+]?(P|(\s*[0-9.]+\s*[hmsunµ][a-z]*,?)+(\s+ago)?\s*$)";

/// The schema as JSON. TOML has no null and no references, so neither has it.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
    });
    let generator = settings
        .with_transform(RecursiveTransform(without_null))
        .with_transform(RecursiveTransform(flowing_description))
        .with_transform(RecursiveTransform(readable_duration))
        .with_transform(RecursiveTransform(bounded_integer))
        .into_generator();
    let mut schema = generator.into_root_schema_for::<File>();
    schema.insert("$id".to_owned(), json!("urn:sluicegate:configuration"));
    schema.to_value()
}

/// An optional field is left out, never null.
fn without_null(schema: &mut Schema) {
    let null = json!("null");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    for keyword in ["type", "enum"] {
        let Some(Value::Array(list)) = schema.get_mut(keyword) else { continue };
        list.retain(|item| *item != null && !item.is_null());
        if let ("type", [only]) = (keyword, list.as_slice()) {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(branches)) = schema.get_mut("anyOf") else { return };
    branches.retain(|branch| branch["type"] != null);
    if let [Value::Object(only)] = branches.as_mut_slice() {
        let only = std::mem::take(only);
        schema.remove("anyOf");
        for (keyword, value) in only {
            // What the field says of itself comes before what its type says.
            if schema.get(&keyword).is_none() {
                schema.insert(keyword, value);
            }
        }
    }
}

/// The lines of a comment are those of our source, not of the reader's window.
fn flowing_description(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text =
            text.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}

/// Durations are written as `16m`, not in the form of ISO 8601 that the
/// format's name stands for.
fn readable_duration(schema: &mut Schema) {
    if schema.get("format").is_none_or(|format| format != "duration") {
        return;
    }
    schema.insert("format".to_owned(), json!(DURATION));
    schema.insert("pattern".to_owned(), json!(DURATION_PATTERN));
    schema.insert("examples".to_owned(), json!(["90s", "16m", "1h 30m"]));
    let default = schema.get("default").and_then(Value::as_str);
    if let Some(default) = default.and_then(|text| text.parse::<SignedDuration>().ok()) {
        let printer = SpanPrinter::new().designator(Designator::Compact);
        schema.insert("default".to_owned(), json!(printer.duration_to_string(&default)));
    }
}

/// schemars bounds the small integer types only.
fn bounded_integer(schema: &mut Schema) {
    if schema.get("format").is_some_and(|format| format == "uint32") {
        schema.insert("maximum".to_owned(), json!(u32::MAX));
    }
}
