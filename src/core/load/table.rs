//! Names and types of the warehouse as the configuration may write them. What
//! is not on these lists never gets as far as SQL.

use std::fmt;
use std::str::FromStr;

/// Redshift's bound on a name.
const NAME_CHARS_MAX: usize = 127;
/// Redshift's bounds on lengths and digits of types.
const CHAR_MAX: u32 = 4_096;
const VARCHAR_MAX: u32 = 65_535;
const DIGITS_MAX: u32 = 38;

const PLAIN: [&str; 9] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "date",
    "timestamp",
    "timestamptz",
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("{0:?} is no name in the warehouse")]
    Name(String),
    #[error("{0:?} is no type of a column")]
    Type(String),
}

/// A column's name, or a part of a table's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let rest = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !first || !rest || text.len() > NAME_CHARS_MAX {
            return Err(TableError::Name(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// As SQL wants it. It contains no quotes, so none has to be doubled.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// A table: `schema.name`, or `name` in the schema `public`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    pub schema: Name,
    pub name: Name,
}

impl Table {
    /// As people write it.
    pub fn plain(&self) -> String {
        format!("{}.{}", self.schema.as_str(), self.name.as_str())
    }
}

impl FromStr for Table {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let (schema, name) = text.split_once('.').unwrap_or(("public", text));
        let wrong = |_| TableError::Name(text.to_owned());
        Ok(Self { schema: schema.parse().map_err(wrong)?, name: name.parse().map_err(wrong)? })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A type that COPY of Parquet fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type(String);

impl FromStr for Type {
    type Err = TableError;

    fn from_str(text: &str) -> Result<Self, TableError> {
        let wrong = || TableError::Type(text.to_owned());
        if PLAIN.contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        let (name, sizes) =
            text.strip_suffix(')').and_then(|rest| rest.split_once('(')).ok_or_else(wrong)?;
        let sizes: Option<Vec<u32>> = sizes.split(',').map(|size| number(size.trim())).collect();
        match (name, sizes.as_deref()) {
            ("char", Some([1..=CHAR_MAX])) | ("varchar", Some([1..=VARCHAR_MAX])) => {}
            ("decimal", Some([digits @ 1..=DIGITS_MAX, scale])) if scale <= digits => {}
            _ => return Err(wrong()),
        }
        Ok(Self(text.to_owned()))
    }
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u32> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text in SQL. Redshift reads a backslash as an escape, and so does its
/// QUOTE_LITERAL: quotes and backslashes are doubled.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_types_are_those_of_a_list() {
        for (text, sql) in [
            ("flights", "\"public\".\"flights\""),
            ("mart.flights_2013", "\"mart\".\"flights_2013\""),
            ("_x", "\"public\".\"_x\""),
        ] {
            assert_eq!(text.parse::<Table>().unwrap().to_string(), sql);
        }
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        for text in ["", ".", "a.", ".a", "a.b.c", "A", "1a", "a-b", "a\"b", "a b", "ä", &long] {
            assert_eq!(text.parse::<Table>(), Err(TableError::Name(text.to_owned())));
        }
        for text in ["integer", "double precision", "char(1)", "varchar(65535)", "decimal(18, 2)"] {
            assert_eq!(text.parse::<Type>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "int",
            "INTEGER",
            "varchar",
            "varchar()",
            "varchar(0)",
            "varchar(+5)",
            "varchar(65536)",
            "varchar(1)) --",
            "char(4097)",
            "decimal(2,3)",
            "decimal(39,1)",
            "decimal(3)",
            "super",
        ] {
            assert_eq!(text.parse::<Type>(), Err(TableError::Type(text.to_owned())));
        }
    }

    proptest! {
        /// Read as Redshift reads it, a literal is the text again and ends there.
        #[test]
        fn a_literal_cannot_be_left(text in "[a'\\\\\"; \n-]{0,20}") {
            let literal = literal(&text);
            let inner = literal.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
            let mut read = String::new();
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\'' => prop_assert_eq!(chars.next(), Some('\''), "the literal ends early"),
                    '\\' => prop_assert_eq!(chars.next(), Some('\\'), "an escape of its own"),
                    _ => {}
                }
                read.push(c);
            }
            prop_assert_eq!(read, text);
        }
    }
}
