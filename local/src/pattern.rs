//! The matching language that SNS filter policies and EventBridge patterns
//! share: exact values, prefix, suffix, anything-but, exists, numeric.
//! Patterns are checked when they are set, so that matching cannot fail.

use std::collections::BTreeMap;

use serde_json::Value;

/// A pattern over an object: every field must match.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    Fields(BTreeMap<String, Pattern>),
    Values(Alternatives),
}

impl Pattern {
    pub fn parse(value: &Value) -> Result<Self, PatternError> {
        let Value::Object(object) = value else {
            return Alternatives::parse(value).map(Self::Values);
        };
        let fields: Result<_, _> = object
            .iter()
            .map(|(name, value)| {
                // Such names are operators, and we know none of them.
                if name.starts_with('$') {
                    return Err(PatternError(name.clone()));
                }
                Ok((name.clone(), Self::parse(value)?))
            })
            .collect();
        fields.map(Self::Fields)
    }

    /// Whether a value matches; none means it is absent.
    pub fn matches(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Fields(fields) => fields
                .iter()
                .all(|(name, pattern)| pattern.matches(value.and_then(|value| value.get(name)))),
            Self::Values(alternatives) => {
                let values = value.map(|value| match value {
                    Value::Array(list) => list.as_slice(),
                    single => std::slice::from_ref(single),
                });
                alternatives.match_values(values)
            }
        }
    }
}

/// One alternative in a list of values.
#[derive(Debug, Clone, PartialEq)]
enum Matcher {
    Equals(Value),
    EqualsIgnoreCase(String),
    Prefix(String),
    Suffix(String),
    AnythingBut(Vec<Matcher>),
    Exists(bool),
    Numeric(Vec<(Comparison, f64)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The alternatives for one field: it matches if any does.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternatives(Vec<Matcher>);

/// What the language does not know, or a wrong operand.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unsupported or malformed pattern {0}")]
pub struct PatternError(String);

impl Alternatives {
    pub fn parse(list: &Value) -> Result<Self, PatternError> {
        let list = list.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| PatternError("that is no list of values".to_owned()))?;
        let matchers: Result<_, _> = list.iter().map(Matcher::parse).collect();
        matchers.map(Self)
    }

    /// Whether a field with these values matches; none means it is absent.
    pub fn match_values(&self, values: Option<&[Value]>) -> bool {
        self.0.iter().any(|matcher| match (matcher, values) {
            (Matcher::Exists(exists), values) => *exists == values.is_some(),
            (_, None) => false,
            (matcher, Some(values)) => values.iter().any(|value| matcher.matches(value)),
        })
    }
}

impl Matcher {
    fn parse(value: &Value) -> Result<Self, PatternError> {
        let malformed = || PatternError(value.to_string());
        let Value::Object(object) = value else {
            return if value.is_array() {
                Err(malformed())
            } else {
                Ok(Self::Equals(value.clone()))
            };
        };
        let mut entries = object.iter();
        let (Some((operator, operand)), None) = (entries.next(), entries.next()) else {
            return Err(malformed());
        };
        let text = || operand.as_str().map(str::to_owned).ok_or_else(malformed);
        match operator.as_str() {
            "prefix" => text().map(Self::Prefix),
            "suffix" => text().map(Self::Suffix),
            "equals-ignore-case" => text().map(Self::EqualsIgnoreCase),
            "exists" => operand.as_bool().map(Self::Exists).ok_or_else(malformed),
            "anything-but" => {
                let single = std::slice::from_ref(operand);
                let list = operand.as_array().map_or(single, Vec::as_slice);
                let matchers: Result<_, _> = list.iter().map(Self::parse).collect();
                matchers.map(Self::AnythingBut)
            }
            "numeric" => operand
                .as_array()
                .and_then(|parts| numeric(parts))
                .map(Self::Numeric)
                .ok_or_else(malformed),
            _ => Err(malformed()),
        }
    }

    fn matches(&self, value: &Value) -> bool {
        let text = |test: &dyn Fn(&str) -> bool| value.as_str().is_some_and(test);
        match self {
            Self::Equals(expected) => match (expected.as_f64(), value.as_f64()) {
                (Some(expected), Some(actual)) => expected == actual,
                _ => expected == value,
            },
            Self::EqualsIgnoreCase(expected) => text(&|v| v.eq_ignore_ascii_case(expected)),
            Self::Prefix(prefix) => text(&|v| v.starts_with(prefix)),
            Self::Suffix(suffix) => text(&|v| v.ends_with(suffix)),
            Self::AnythingBut(matchers) => !matchers.iter().any(|m| m.matches(value)),
            Self::Exists(exists) => *exists,
            Self::Numeric(bounds) => value
                .as_f64()
                .is_some_and(|number| bounds.iter().all(|(c, bound)| c.holds(number, *bound))),
        }
    }
}

impl Comparison {
    fn holds(self, number: f64, bound: f64) -> bool {
        match self {
            Self::Equal => number == bound,
            Self::Less => number < bound,
            Self::LessOrEqual => number <= bound,
            Self::Greater => number > bound,
            Self::GreaterOrEqual => number >= bound,
        }
    }
}

/// `[">=", 0, "<", 10]`
fn numeric(parts: &[Value]) -> Option<Vec<(Comparison, f64)>> {
    if parts.is_empty() || !parts.len().is_multiple_of(2) {
        return None;
    }
    let bound = |pair: &[Value]| {
        let comparison = match pair[0].as_str()? {
            "=" => Comparison::Equal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        Some((comparison, pair[1].as_f64()?))
    };
    parts.chunks_exact(2).map(bound).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn matches_as_documented() {
        for (pattern, value, expected) in [
            (json!(["a", "b"]), json!("b"), true),
            (json!(["a"]), json!("A"), false),
            (json!([{"equals-ignore-case": "a"}]), json!("A"), true),
            (json!([1]), json!(1.0), true),
            (json!([{"prefix": "TERM"}]), json!("TERMINATED"), true),
            (json!([{"prefix": "TERM"}]), json!("RUNNING"), false),
            (json!([{"suffix": ".gz"}]), json!("a.gz"), true),
            (json!([{"anything-but": "a"}]), json!("b"), true),
            (json!([{"anything-but": ["a", "b"]}]), json!("b"), false),
            (json!([{"anything-but": {"prefix": "a"}}]), json!("ab"), false),
            (json!([{"numeric": [">=", 0, "<", 10]}]), json!(0), true),
            (json!([{"numeric": [">=", 0, "<", 10]}]), json!(10), false),
            (json!([{"numeric": ["=", 1]}]), json!("1"), false),
            (json!([{"exists": true}]), json!("x"), true),
            (json!([{"exists": false}]), json!("x"), false),
        ] {
            let alternatives = Alternatives::parse(&pattern).unwrap();
            let matched = alternatives.match_values(Some(std::slice::from_ref(&value)));
            assert_eq!(matched, expected, "{pattern} on {value}");
        }
    }

    #[test]
    fn absence_matches_only_exists_false() {
        for (pattern, expected) in [
            (json!([{"exists": false}]), true),
            (json!([{"exists": true}]), false),
            (json!([{"anything-but": "a"}]), false),
        ] {
            let alternatives = Alternatives::parse(&pattern).unwrap();
            assert_eq!(alternatives.match_values(None), expected, "{pattern}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for pattern in [
            json!("a"),
            json!([]),
            json!([["a"]]),
            json!([{"cidr": "10.0.0.0/8"}]),
            json!([{"prefix": 1}]),
            json!([{"numeric": [">"]}]),
            json!([{"prefix": "a", "suffix": "b"}]),
        ] {
            assert!(Alternatives::parse(&pattern).is_err(), "{pattern}");
        }
    }
}
