//! The text of the file as a TOML document with places, and from there as the
//! schema's types. Not for what may stand in it (see `structure`).

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::mistake::Mistake;
use super::schema::File;
use super::source::Sources;

/// The sections whose tables are named by the user.
pub const SECTIONS: [&str; 3] = ["profiles", "datasets", "tasks"];

pub type Document<'a> = Spanned<DeTable<'a>>;

/// No key needs more, and keys stand in the words of every mistake below them.
const KEY_CHARS_MAX: usize = 256;

/// Reads TOML; only the first mistake of syntax is said, because those after
/// it mostly follow from it.
pub fn parse(text: &str) -> Result<Document<'_>, Mistake> {
    let document = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        if error.message() == "duplicate key" {
            return duplicate(text, span);
        }
        let mistake = Mistake::at(span, format!("this is not TOML: {}", error.message()));
        match help(error.message()) {
            Some(help) => mistake.help(help),
            None => mistake,
        }
    })?;
    match long_key(document.get_ref()) {
        None => Ok(document),
        Some(place) => Err(Mistake::at(place, "this name is too long")
            .help(format!("use at most {KEY_CHARS_MAX} characters"))),
    }
}

/// Where a key stands that is too long.
fn long_key(table: &DeTable<'_>) -> Option<Range<usize>> {
    let long = |key: &str| key.len() > KEY_CHARS_MAX && key.chars().count() > KEY_CHARS_MAX;
    table.iter().find_map(|(key, value)| match long(key.get_ref()) {
        true => Some(key.span()),
        false => long_key_in(value.get_ref()),
    })
}

fn long_key_in(value: &DeValue<'_>) -> Option<Range<usize>> {
    match value {
        DeValue::Table(table) => long_key(table),
        DeValue::Array(items) => items.iter().find_map(|item| long_key_in(item.get_ref())),
        _ => None,
    }
}

/// The words of a text that may be names, for one that is no TOML.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.split(move |c| !in_name(c)).filter(|word| !word.is_empty())
}

/// Puts the sections of a task file, whose text starts at the place `start`,
/// into the main document.
pub fn merge<'i>(
    main: &mut Document<'i>,
    file: Document<'i>,
    start: usize,
    sources: &Sources<'_>,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let root = main.get_mut();
    for (section, content) in moved_table(file.into_inner(), start) {
        let name = section.get_ref().as_ref();
        if !SECTIONS.contains(&name) {
            let message = format!("{name} does not belong into a task file");
            mistakes.push(Mistake::at(section.span(), message).help(format!(
                "task files hold {}; write all else in the main file",
                SECTIONS.join(", ")
            )));
            continue;
        }
        let what = name.to_owned();
        let place = content.span();
        let content = content.into_inner();
        let known = root
            .entry(section)
            .or_insert_with(|| Spanned::new(place.clone(), DeValue::Table(DeTable::new())));
        let (DeValue::Table(known), DeValue::Table(tables)) = (known.get_mut(), content) else {
            let message = format!("{what} is no table");
            mistakes.push(Mistake::at(place, message).help(format!("write [{what}.NAME]")));
            continue;
        };
        for (name, table) in tables {
            if let Some((first, _)) = known.get_key_value(name.get_ref().as_ref()) {
                let message = format!("two {what} are called {:?}", name.get_ref());
                mistakes.push(Mistake::at(name.span(), message).help(format!(
                    "the first is in {}: rename one",
                    sources.line_of(first.span().start)
                )));
            } else {
                known.insert(name, table);
            }
        }
    }
    mistakes
}

/// The same table with places that count from `start`.
fn moved_table(table: DeTable<'_>, start: usize) -> DeTable<'_> {
    table.into_iter().map(|(key, value)| (moved(key, start), moved_value(value, start))).collect()
}

fn moved<T>(value: Spanned<T>, start: usize) -> Spanned<T> {
    let span = value.span();
    Spanned::new(span.start + start..span.end + start, value.into_inner())
}

fn moved_value(value: Spanned<DeValue<'_>>, start: usize) -> Spanned<DeValue<'_>> {
    let span = value.span();
    let content = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved_table(table, start)),
        DeValue::Array(mut items) => {
            for item in items.iter_mut() {
                let empty = Spanned::new(0..0, DeValue::Boolean(false));
                *item = moved_value(std::mem::replace(item, empty), start);
            }
            DeValue::Array(items)
        }
        other => other,
    };
    Spanned::new(span.start + start..span.end + start, content)
}

/// The document as the schema's types; it has passed `structure`, so that an
/// error means a rule that JSON Schema cannot say.
pub fn read(document: Document<'_>) -> Result<File, Mistake> {
    File::deserialize(Deserializer::from(document)).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        Mistake::at(error.span().unwrap_or_default(), message)
    })
}

/// Plain words for what the parser says most often.
fn help(message: &str) -> Option<&'static str> {
    Some(match message {
        message
            if message.starts_with("string values must be quoted")
                || message.starts_with("invalid float") =>
        {
            "write texts in quotes: name = \"value\""
        }
        message if message.contains("cannot recurse further") => {
            "arrays and tables stand in each other too deeply"
        }
        message if message.contains("unclosed table") => "a table's header ends in ]: [aws]",
        message if message.contains("unclosed array") => "close the array with ]",
        message if message.contains("missing comma between array") => {
            "put a comma between, or close the array with ] before this"
        }
        message if message.contains("unclosed inline table") => "close the table with }",
        message if message.contains("invalid basic string") => {
            "a text in double quotes ends on its line"
        }
        _ => return None,
    })
}

/// Two of one name, whether keys or tables, with the place of the first.
fn duplicate(text: &str, second: Range<usize>) -> Mistake {
    let key = text.get(second.clone()).unwrap_or_default();
    let Some((first, section)) = first_of(text, &second) else {
        return Mistake::at(second, format!("{key} stands twice in one table"))
            .help("rename one, or put the two together");
    };
    let message = match section {
        Some(section) => format!("two {section} are called {key}"),
        None => format!("{key} stands twice in one table"),
    };
    let line = 1 + text[..first].matches('\n').count();
    Mistake::at(second, message)
        .help(format!("the first is in line {line}: rename one, or put the two together"))
}

/// Where the key that stands again at `second` stood first, and the section
/// (tasks …) if it names one of its tables. The parser does not say it; but
/// with another key in place of the second, the document has both, beside each
/// other.
fn first_of(text: &str, second: &Range<usize>) -> Option<(usize, Option<&'static str>)> {
    let name = key_name(text.get(second.clone())?)?;
    // Longer than any row of dashes: it stands nowhere in the text.
    let dashes = text.split(|c| c != '-').map(str::len).max().unwrap_or(0);
    let other = format!("another{}", "-".repeat(dashes + 1));
    let line_end = text[second.end..].find('\n').map_or(text.len(), |end| second.end + end);
    let changed = format!("{}{other}{}", &text[..second.start], &text[second.end..line_end]);
    // Cut off after the line, it may end within an array: recover from that.
    let (document, _) = DeTable::parse_recoverable(&changed);
    let root = document.get_ref();
    let first = sibling(root, &other, &name)?;
    let section = SECTIONS.into_iter().find(|section| {
        let tables = root.get(*section).and_then(|tables| tables.get_ref().as_table());
        tables.is_some_and(|tables| tables.contains_key(other.as_str()))
    });
    Some((first, section))
}

/// The name that a key stands for, without its quotes.
fn key_name(key: &str) -> Option<String> {
    let line = format!("{key} = 0");
    let table = DeTable::parse(&line).ok()?;
    table.get_ref().keys().next().map(|key| key.get_ref().to_string())
}

/// Where `name` stands in the table that also has `other`.
fn sibling(table: &DeTable<'_>, other: &str, name: &str) -> Option<usize> {
    if table.contains_key(other) {
        return table.get_key_value(name).map(|(key, _)| key.span().start);
    }
    table.values().find_map(|value| in_value(value.get_ref(), other, name))
}

fn in_value(value: &DeValue<'_>, other: &str, name: &str) -> Option<usize> {
    match value {
        DeValue::Table(table) => sibling(table, other, name),
        DeValue::Array(items) => {
            items.iter().find_map(|item| in_value(item.get_ref(), other, name))
        }
        _ => None,
    }
}
