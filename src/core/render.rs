//! Text with placeholders, as steps carry it: `--input {input.raw} --hour
//! {partition}`. Parsed once when the configuration is read; filled in when a
//! run is made. No value comes from an object's key: inputs and outputs are the
//! locations of partitions. Not for locations in S3 (see `template`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::partition::Partition;

/// A text whose placeholders are known to exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Field(Placeholder),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placeholder {
    Deployment,
    Task,
    Partition,
    Run,
    /// The number of the run's attempt, known only when a step is sent.
    Attempt,
    Year,
    Month,
    Day,
    Hour,
    /// The places of an input's partitions, joined by commas; those without
    /// data are left out.
    Input(String),
    Output(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("there is no placeholder {{{0}}}")]
    Unknown(String),
    #[error("a {{ without its }}, or a }} without its {{")]
    Brace,
}

/// The placeholders that need no name of a dataset.
pub const PLAIN_PLACEHOLDERS: [(&str, Placeholder); 9] = [
    ("partition", Placeholder::Partition),
    ("yyyy", Placeholder::Year),
    ("MM", Placeholder::Month),
    ("dd", Placeholder::Day),
    ("HH", Placeholder::Hour),
    ("task", Placeholder::Task),
    ("run", Placeholder::Run),
    ("attempt", Placeholder::Attempt),
    ("deployment", Placeholder::Deployment),
];

impl Text {
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            literal.push_str(&rest[..brace]);
            let tail = &rest[brace..];
            if tail.starts_with("{{") || tail.starts_with("}}") {
                literal.push_str(&tail[..1]);
                rest = &tail[2..];
                continue;
            }
            let end = tail.find('}').filter(|end| *end > 0).ok_or(TextError::Brace)?;
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            pieces.push(Piece::Field(placeholder(&tail[1..end])?));
            rest = &tail[end + 1..];
        }
        literal.push_str(rest);
        pieces.push(Piece::Literal(literal));
        pieces.retain(|piece| *piece != Piece::Literal(String::new()));
        Ok(Self(pieces))
    }

    /// The placeholders in it, for checks.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(placeholder) => Some(placeholder),
            Piece::Literal(_) => None,
        })
    }

    /// The text, if it has no placeholder.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with every placeholder filled in but the attempt's number.
    pub fn fill(&self, values: &Values) -> Rendered {
        self.fill_with(values, |value| value)
    }

    /// The same for a shell's script: each value is one word of it, whatever
    /// is in it. Holds outside of quotes, where `config` sees to it that they
    /// stand unless they need no quoting.
    pub fn fill_script(&self, values: &Values) -> Rendered {
        self.fill_with(values, |value| match is_plain(&value) {
            true => value,
            false => shell_quoted(&value),
        })
    }

    fn fill_with(&self, values: &Values, quote: impl Fn(String) -> String) -> Rendered {
        let mut pieces = vec![String::new()];
        for piece in &self.0 {
            let text = match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Field(Placeholder::Attempt) => {
                    pieces.push(String::new());
                    continue;
                }
                Piece::Field(placeholder) => quote(values.of(placeholder)),
            };
            if let Some(last) = pieces.last_mut() {
                last.push_str(&text);
            }
        }
        Rendered(pieces)
    }
}

/// Means nothing to a shell, quoted or not.
pub fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    !value.is_empty() && value.chars().all(plain)
}

fn shell_quoted(value: &str) -> String {
    let quoted = shlex::Quoter::new().allow_nul(true).quote(value);
    // Only a NUL byte is an error, and that is allowed: EMR refuses it later.
    quoted.unwrap_or(Cow::Borrowed("''")).into_owned()
}

/// A text that is filled in but for the number of the attempt, which belongs
/// between its pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Rendered(Vec<String>);

/// A text alone, as version 0.1 stored it, or its pieces.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Text(String),
    Pieces(Vec<String>),
}

impl Rendered {
    /// The text as the attempt of that number sends it.
    pub fn of_attempt(&self, number: u32) -> String {
        self.0.join(&number.to_string())
    }

    /// The same behind a prefix.
    #[must_use]
    pub fn after(mut self, prefix: &str) -> Self {
        if let Some(first) = self.0.first_mut() {
            first.insert_str(0, prefix);
        }
        self
    }
}

impl From<String> for Rendered {
    fn from(text: String) -> Self {
        Self(vec![text])
    }
}

impl From<Stored> for Rendered {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Text(text) => Self(vec![text]),
            Stored::Pieces(pieces) => Self(pieces),
        }
    }
}

impl From<Rendered> for Stored {
    fn from(Rendered(mut pieces): Rendered) -> Self {
        match pieces.pop() {
            Some(text) if pieces.is_empty() => Stored::Text(text),
            last => Stored::Pieces(pieces.into_iter().chain(last).collect()),
        }
    }
}

fn placeholder(name: &str) -> Result<Placeholder, TextError> {
    if let Some((_, plain)) = PLAIN_PLACEHOLDERS.into_iter().find(|(known, _)| *known == name) {
        return Ok(plain);
    }
    match name.split_once('.') {
        Some(("input", dataset)) => Ok(Placeholder::Input(dataset.to_owned())),
        Some(("output", dataset)) => Ok(Placeholder::Output(dataset.to_owned())),
        _ => Err(TextError::Unknown(name.to_owned())),
    }
}

/// What the placeholders stand for in one task partition of one run.
#[derive(Debug, Clone)]
pub struct Values {
    pub deployment: String,
    pub task: String,
    pub partition: Partition,
    pub run: String,
    /// Dataset → the places of its partitions with data, joined by commas.
    pub inputs: BTreeMap<String, String>,
    /// Dataset → where this partition of it lies.
    pub outputs: BTreeMap<String, String>,
}

impl Values {
    #[cfg(test)]
    pub fn for_test(raw: &str) -> Self {
        Self {
            deployment: "demo".into(),
            task: "etl".into(),
            // A literal that parses.
            partition: "2013-01-01T05".parse().unwrap(),
            run: "R1".into(),
            inputs: BTreeMap::from([("raw".into(), raw.into())]),
            outputs: BTreeMap::new(),
        }
    }

    fn of(&self, placeholder: &Placeholder) -> String {
        let civil = self.partition.civil();
        match placeholder {
            Placeholder::Deployment => self.deployment.clone(),
            Placeholder::Task => self.task.clone(),
            Placeholder::Partition => self.partition.to_string(),
            Placeholder::Run => self.run.clone(),
            // Stays open in `fill_with`.
            Placeholder::Attempt => String::new(),
            Placeholder::Year => format!("{:04}", civil.year()),
            Placeholder::Month => format!("{:02}", civil.month()),
            Placeholder::Day => format!("{:02}", civil.day()),
            Placeholder::Hour => format!("{:02}", civil.hour()),
            Placeholder::Input(dataset) => self.inputs.get(dataset).cloned().unwrap_or_default(),
            Placeholder::Output(dataset) => self.outputs.get(dataset).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(text: &str) -> String {
        let values = Values::for_test("s3://b/raw/05/");
        Text::parse(text).unwrap().fill(&values).of_attempt(3)
    }

    #[test]
    fn fills_placeholders_and_keeps_the_rest() {
        for (text, filled) in [
            ("", ""),
            ("plain é", "plain é"),
            ("{input.raw}x", "s3://b/raw/05/x"),
            ("{partition} {yyyy}{MM}{dd}{HH}", "2013-01-01T05 2013010105"),
            ("{{\"a\": {run}}}", "{\"a\": R1}"),
            ("{deployment}/{task}", "demo/etl"),
            ("{attempt}{attempt} of {{attempt}}", "33 of {attempt}"),
        ] {
            assert_eq!(fill(text), filled);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Text::parse("{hour}").unwrap_err(), TextError::Unknown("hour".into()));
        for text in ["{", "}", "a}b", "{run", "{run}}"] {
            assert_eq!(Text::parse(text).unwrap_err(), TextError::Brace, "{text}");
        }
    }

    #[test]
    fn the_attempt_stays_open_in_what_is_stored() {
        let values = Values::for_test("");
        for (text, stored) in [
            ("{run} {{attempt}}", r#""R1 {attempt}""#),
            ("try {attempt} of {run}", r#"["try "," of R1"]"#),
            ("{attempt}", r#"["",""]"#),
        ] {
            let rendered = Text::parse(text).unwrap().fill(&values);
            assert_eq!(serde_json::to_string(&rendered).unwrap(), stored);
            assert_eq!(serde_json::from_str::<Rendered>(stored).unwrap(), rendered);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}a-z.é]{0,30}") {
            let _ = Text::parse(&text);
        }

        #[test]
        fn escaped_text_stays_as_it_is(text in "\\PC{0,30}") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(fill(&escaped), text);
        }
    }
}
