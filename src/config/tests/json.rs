//! The JSON Schema as editors see it, by a validator that is not ours.

use std::path::Path;

use serde_json::Value;

use super::{GOOD, parse};
use crate::config::json_schema;

/// Whether an editor would accept the text.
fn accepted(text: &str) -> bool {
    let value: toml::Table = toml::from_str(text).unwrap();
    let instance = serde_json::to_value(value).unwrap();
    jsonschema::is_valid(&json_schema(), &instance)
}

#[test]
fn examples_are_valid_and_name_the_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut examples = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#:schema ./sluicegate.schema.json\n"), "{path:?}");
        assert!(accepted(&text), "{path:?}");
        let config = parse(&text, &path).unwrap();
        assert!(config.warnings.is_empty(), "{}", config.warnings);
        examples += 1;
    }
    assert!(examples >= 3);
    assert!(folder.join("sluicegate.schema.json").exists());
}

/// Editors and `check` agree on structure.
#[test]
fn the_schema_refuses_what_check_refuses() {
    assert!(accepted(GOOD));
    for (from, to) in [
        ("when-empty", "when-emtpy"),
        ("deployment = \"demo\"", ""),
        ("settle = \"16m\"", "settle = 16"),
        ("settle = \"16m\"", "settle = \"16 parsecs\""),
        ("partition = \"hour\"", "partition = \"week\""),
        ("attempts = 3", "attempts = -3"),
        ("attempts = 3", "attempts = 4294967296"),
        ("attempts = 3", "attempts = \"3\""),
        ("outputs = [\"etl\"]", "outputs = \"etl\""),
        ("inputs =", "need = \"most\"\ninputs ="),
        ("inputs =", "need = 0\ninputs ="),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        assert!(!accepted(&text), "{to}");
        assert!(parse(&text, Path::new("x.toml")).is_err(), "{to}");
    }
}

#[test]
fn the_schema_accepts_every_common_form_of_a_duration() {
    for duration in ["0s", "16m", "90 s", "1h30m", "1h 30m", "2 hours, 5 minutes", "1.5h", "-23h"] {
        let text = GOOD.replace(
            "{ dataset = \"raw\" }",
            &format!("{{ dataset = \"raw\", from = \"-99h\", to = \"{duration}\" }}"),
        );
        assert!(accepted(&text), "{duration}");
        parse(&text, Path::new("x.toml")).unwrap();
    }
}

/// An editor shows the descriptions, and TOML has no null.
#[test]
fn every_field_of_the_schema_explains_itself() {
    fn visit(path: &str, schema: &Value) {
        assert_ne!(schema["type"], "null", "{path}");
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let description = field["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{path} has no description: {description:?}");
            visit(&path, field);
        }
        for inner in ["items", "additionalProperties"] {
            visit_all(path, schema.get(inner).into_iter());
        }
        for inner in ["anyOf", "oneOf"] {
            visit_all(path, schema[inner].as_array().into_iter().flatten());
        }
    }
    fn visit_all<'a>(path: &str, schemas: impl Iterator<Item = &'a Value>) {
        schemas.filter(|schema| schema.is_object()).for_each(|schema| visit(path, schema));
    }
    visit("", &json_schema());
}
