//! Text with placeholders, as steps carry it: `--input {input.raw} --hour
//! {partition}`. Parsed once when the configuration is read; filled in when a
//! run is made. Not for locations in S3 (see `template`).

use std::collections::BTreeMap;

use super::catalog::{Catalog, Task};
use super::partition::Partition;
use super::task::{Element, TaskPartition};

/// A text whose placeholders are known to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    #[error(
        "there is no placeholder {{{0}}}: known are {{partition}}, {{yyyy}}, {{MM}}, {{dd}}, {{HH}}, \
         {{task}}, {{run}}, {{deployment}}, {{input.NAME}} and {{output.NAME}}; write {{{{ and }}}} for braces"
    )]
    Unknown(String),
    #[error("a {{ without its }}, or a }} without its {{; write {{{{ and }}}} for braces")]
    Brace,
}

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

    /// The text with every placeholder filled in.
    pub fn fill(&self, values: &Values) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Field(placeholder) => values.of(placeholder),
            })
            .collect()
    }
}

fn placeholder(name: &str) -> Result<Placeholder, TextError> {
    Ok(match name {
        "deployment" => Placeholder::Deployment,
        "task" => Placeholder::Task,
        "partition" => Placeholder::Partition,
        "run" => Placeholder::Run,
        "yyyy" => Placeholder::Year,
        "MM" => Placeholder::Month,
        "dd" => Placeholder::Day,
        "HH" => Placeholder::Hour,
        other => match other.split_once('.') {
            Some(("input", dataset)) => Placeholder::Input(dataset.to_owned()),
            Some(("output", dataset)) => Placeholder::Output(dataset.to_owned()),
            _ => return Err(TextError::Unknown(name.to_owned())),
        },
    })
}

/// What the placeholders stand for in one task partition of one run.
#[derive(Debug, Clone)]
pub struct Values {
    deployment: String,
    task: String,
    partition: Partition,
    run: String,
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

impl Values {
    pub fn new(catalog: &Catalog, task: &Task, item: &TaskPartition, run: &str) -> Self {
        let partition = item.key.partition;
        let inputs = task.inputs.iter().filter_map(|input| {
            let location = &catalog.datasets.get(&input.dataset)?.location;
            let with_data = catalog
                .window(input, &partition)
                .filter(|read| item.has_data(&Element::data(&input.dataset, *read)));
            let uris: Vec<_> = with_data.map(|read| location.uri_of(&read)).collect();
            Some((input.dataset.clone(), uris.join(",")))
        });
        Self {
            deployment: catalog.deployment.clone(),
            task: task.name.clone(),
            partition,
            run: run.to_owned(),
            inputs: inputs.collect(),
            outputs: outputs(catalog, task, &partition),
        }
    }

    fn of(&self, placeholder: &Placeholder) -> String {
        let civil = self.partition.civil();
        match placeholder {
            Placeholder::Deployment => self.deployment.clone(),
            Placeholder::Task => self.task.clone(),
            Placeholder::Partition => self.partition.to_string(),
            Placeholder::Run => self.run.clone(),
            Placeholder::Year => format!("{:04}", civil.year()),
            Placeholder::Month => format!("{:02}", civil.month()),
            Placeholder::Day => format!("{:02}", civil.day()),
            Placeholder::Hour => format!("{:02}", civil.hour()),
            Placeholder::Input(dataset) => self.inputs.get(dataset).cloned().unwrap_or_default(),
            Placeholder::Output(dataset) => self.outputs.get(dataset).cloned().unwrap_or_default(),
        }
    }
}

/// Where a task partition's outputs lie: dataset → `s3://…`.
pub fn outputs(catalog: &Catalog, task: &Task, partition: &Partition) -> BTreeMap<String, String> {
    task.outputs
        .iter()
        .filter_map(|name| {
            Some((name.clone(), catalog.datasets.get(name)?.location.uri_of(partition)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(text: &str) -> String {
        let values = Values {
            deployment: "demo".into(),
            task: "etl".into(),
            partition: "2013-01-01T05".parse().unwrap(),
            run: "R1".into(),
            inputs: BTreeMap::from([("raw".into(), "s3://b/raw/05/".into())]),
            outputs: BTreeMap::new(),
        };
        Text::parse(text).unwrap().fill(&values)
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
