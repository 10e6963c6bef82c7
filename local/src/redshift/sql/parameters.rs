//! Puts the values of named parameters (`:name`) into a statement, as quoted
//! literals that nothing can break out of. Not for Redshift's dialect.

use std::collections::{BTreeMap, BTreeSet};

use super::token::{Kind, Token, tokens};

/// The names of the parameters that a statement uses.
pub fn names(sql: &str) -> BTreeSet<&str> {
    let tokens = tokens(sql);
    let places = (0..tokens.len()).filter_map(|at| name_at(&tokens, at));
    places.collect()
}

/// Replaces each parameter that has a value; other text stays as it is.
pub fn bind(sql: &str, values: &BTreeMap<String, String>) -> String {
    if values.is_empty() {
        return sql.to_owned();
    }
    let tokens = tokens(sql);
    let mut bound = String::with_capacity(sql.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match name_at(&tokens, at).and_then(|name| values.get(name)) {
            Some(value) => {
                bound.push_str(&literal(value));
                at += 2;
            }
            None => {
                bound.push_str(token.text);
                at += 1;
            }
        }
    }
    bound
}

/// A string literal as Redshift reads it: quotes and backslashes are doubled.
pub fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

fn name_at<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    let (colon, name) = (tokens.get(at)?, tokens.get(at + 1)?);
    let is_name = name.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (colon.is_symbol(":") && name.kind == Kind::Word && is_name).then_some(name.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values() {
        let values: BTreeMap<String, String> = [("id", r"1'; drop table t; -- \"), ("n", "2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (sql, expected) in [
            ("select :id", r"select '1''; drop table t; -- \\'"),
            ("select :n::int + :n", "select '2'::int + '2'"),
            ("select ':n', \":n\" -- :n", "select ':n', \":n\" -- :n"),
            ("select a::n, :other", "select a::n, :other"),
        ] {
            assert_eq!(bind(sql, &values), expected);
        }
        assert_eq!(names("select :a, ':b', :a, x::c"), BTreeSet::from(["a"]));
    }
}
