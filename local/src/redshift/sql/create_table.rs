//! CREATE TABLE without what only Redshift knows: distribution, sort keys,
//! encodings, and keys, which Redshift accepts but does not enforce.

use std::collections::BTreeSet;

use super::text_of;
use super::token::{Kind, Token};

/// What a `VARCHAR` without a length holds on Redshift.
const VARCHAR_DEFAULT: &str = "(256)";
/// What `VARCHAR(MAX)` holds.
const VARCHAR_MAX: &str = "65535";

/// The statement for PostgreSQL; nothing if it does not create a table.
pub fn translate(tokens: &[Token<'_>]) -> Option<String> {
    let start = after_name(tokens)?;
    let mut sql = text_of(tokens.get(..start)?);
    let mut at = skip_blank(tokens, start);
    if tokens.get(at).is_some_and(|token| token.is_symbol("(")) {
        let end = closing(tokens, at);
        let inner = tokens.get(at + 1..end).unwrap_or_default();
        sql.push_str(&format!(" ({})", columns(inner)));
        at = end + 1;
    }
    let attributes = tokens.get(at..).unwrap_or_default();
    sql.push_str(&text_of(&without_table_attributes(attributes)));
    Some(sql)
}

/// Where the name of the new table ends.
fn after_name(tokens: &[Token<'_>]) -> Option<usize> {
    let mut at = skip_blank(tokens, 0) + 1;
    let mut next = |wanted: &[&str]| {
        let place = skip_blank(tokens, at);
        let found = tokens.get(place).is_some_and(|t| wanted.iter().any(|word| t.is_word(word)));
        if found {
            at = place + 1;
        }
        found
    };
    next(&["local", "global"]);
    next(&["temp", "temporary"]);
    if !next(&["table"]) {
        return None;
    }
    // IF NOT EXISTS
    while next(&["if", "not", "exists"]) {}
    let name = skip_blank(tokens, at);
    let rest = tokens.get(name..)?;
    let is_name = |t: &Token<'_>| matches!(t.kind, Kind::Word | Kind::Quoted) || t.is_symbol(".");
    let length = rest.iter().position(|token| !is_name(token)).unwrap_or(rest.len());
    Some(name + length)
}

/// Columns and constraints, without keys and attributes.
fn columns(tokens: &[Token<'_>]) -> String {
    let items: Vec<&[Token<'_>]> = split(tokens);
    let keys: BTreeSet<String> = items.iter().flat_map(|item| primary_key(item)).collect();
    let kept = items.iter().filter(|item| !is_key(item));
    kept.map(|item| column(item, &keys)).collect::<Vec<_>>().join(",")
}

/// Cuts at the commas that are in no parenthesis.
fn split<'s, 'a>(tokens: &'s [Token<'a>]) -> Vec<&'s [Token<'a>]> {
    let mut depth = 0_i32;
    tokens
        .split(|token| {
            depth += i32::from(token.is_symbol("(")) - i32::from(token.is_symbol(")"));
            depth == 0 && token.is_symbol(",")
        })
        .collect()
}

/// Whether an item is a constraint that Redshift does not enforce.
fn is_key(item: &[Token<'_>]) -> bool {
    let mut words = words(item);
    let first = words.next();
    // CONSTRAINT and its name
    let first = if first.is_some_and(|t| t.is_word("constraint")) { words.nth(1) } else { first };
    let Some(first) = first else { return false };
    match words.next() {
        Some(second) if first.is_word("primary") || first.is_word("foreign") => {
            second.is_word("key")
        }
        Some(second) => first.is_word("unique") && second.is_symbol("("),
        None => false,
    }
}

/// The columns of a PRIMARY KEY of the table: they are not null on Redshift.
fn primary_key(item: &[Token<'_>]) -> Vec<String> {
    if !is_key(item) {
        return Vec::new();
    }
    let mut rest = words(item).skip_while(|token| !token.is_word("primary")).skip(2);
    let names = rest.by_ref().filter(|t| matches!(t.kind, Kind::Word | Kind::Quoted));
    names.map(|token| name(token)).collect()
}

/// Names differ by their letters only, quoted or not, as on Redshift.
fn name(token: &Token<'_>) -> String {
    token.text.trim_matches('"').to_lowercase()
}

fn column(item: &[Token<'_>], keys: &BTreeSet<String>) -> String {
    let mut kept = without_column_attributes(item);
    give_length(&mut kept);
    let is_in_key = words(item).next().is_some_and(|first| keys.contains(&name(first)));
    let mut sql = text_of(&kept);
    if is_in_key {
        sql.push_str(" NOT NULL");
    }
    sql
}

fn without_column_attributes<'a>(item: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept: Vec<Token<'a>> = Vec::new();
    let mut at = 0;
    // The first word is the column's name, whatever it is.
    let named = skip_blank(item, 0);
    while let Some(token) = item.get(at) {
        let second = skip_blank(item, at + 1);
        let is_followed_by = |word| item.get(second).is_some_and(|t: &Token<'_>| t.is_word(word));
        at = if at <= named {
            kept.push(*token);
            at + 1
        } else if ["distkey", "sortkey", "unique"].iter().any(|word| token.is_word(word)) {
            at + 1
        } else if token.is_word("encode") {
            second + 1
        } else if token.is_word("primary") && is_followed_by("key") {
            kept.extend([word("NOT"), space(), word("NULL")]);
            second + 1
        } else if token.is_word("references") {
            after_reference(item, second)
        } else {
            kept.push(*token);
            at + 1
        };
    }
    kept
}

/// REFERENCES table [(columns)]
fn after_reference(item: &[Token<'_>], table: usize) -> usize {
    let mut at = table;
    while item.get(at).is_some_and(|t| {
        matches!(t.kind, Kind::Word | Kind::Quoted) && at == table
            || t.is_symbol(".")
            || at > table && item.get(at - 1).is_some_and(|before| before.is_symbol("."))
    }) {
        at += 1;
    }
    let open = skip_blank(item, at);
    if item.get(open).is_some_and(|t| t.is_symbol("(")) { closing(item, open) + 1 } else { at }
}

/// A `VARCHAR` without a length has one on Redshift, and one may be `MAX`.
fn give_length(column: &mut Vec<Token<'_>>) {
    let kind = skip_blank(column, skip_blank(column, 0) + 1);
    let Some(token) = column.get(kind) else { return };
    if !["varchar", "nvarchar", "text"].iter().any(|name| token.is_word(name)) {
        return;
    }
    let open = skip_blank(column, kind + 1);
    let has_length = column.get(open).is_some_and(|t| t.is_symbol("("));
    if let Some(token) = column.get_mut(kind) {
        *token = word("varchar");
    }
    if !has_length {
        column.insert(kind + 1, word(VARCHAR_DEFAULT));
    }
    if let Some(length) = column.iter_mut().find(|t| has_length && t.is_word("max")) {
        *length = word(VARCHAR_MAX);
    }
}

/// What follows the columns: a query after AS, or nothing that PostgreSQL knows.
fn without_table_attributes<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if token.is_word("as") {
            kept.extend_from_slice(tokens.get(at..).unwrap_or_default());
            break;
        }
        let next = skip_blank(tokens, at + 1);
        let is = |words: &[&str]| words.iter().any(|word| token.is_word(word));
        at = if is(&["diststyle", "backup", "encode"]) {
            next + 1
        } else if is(&["compound", "interleaved"]) {
            at + 1
        } else if is(&["distkey", "sortkey"]) {
            let has_columns = tokens.get(next).is_some_and(|t| t.is_symbol("("));
            if has_columns { closing(tokens, next) + 1 } else { next + 1 }
        } else {
            kept.push(*token);
            at + 1
        };
    }
    kept
}

fn words<'s, 'a>(tokens: &'s [Token<'a>]) -> impl Iterator<Item = &'s Token<'a>> {
    tokens.iter().filter(|token| !token.is_blank())
}

fn word(text: &'static str) -> Token<'static> {
    Token { kind: Kind::Word, text }
}

fn space() -> Token<'static> {
    Token { kind: Kind::Space, text: " " }
}

/// The first place from `at` that is not blank.
fn skip_blank(tokens: &[Token<'_>], at: usize) -> usize {
    let rest = tokens.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|token| token.is_blank()).count()
}

/// The parenthesis that closes the one at `open`, or the end.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_i32;
    let rest = tokens.get(open..).unwrap_or_default();
    let length = rest.iter().position(|token| {
        depth += i32::from(token.is_symbol("(")) - i32::from(token.is_symbol(")"));
        depth == 0
    });
    length.map_or(tokens.len(), |length| open + length)
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    /// In one form of white space.
    fn translated(sql: &str) -> Option<String> {
        let text = translate(&tokens(sql))?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_only_redshift_knows_is_dropped() {
        for (sql, expected) in [
            (
                "create table if not exists s.t (a bigint encode az64 not null, b varchar(20) \
                 distkey sortkey) diststyle key compound sortkey (a, b) backup no;",
                "create table if not exists s.t (a bigint not null, b varchar(20) ) ;",
            ),
            (
                "create table t (id int primary key, o int references other (id, x) not null, \
                 u int unique, check_ int)",
                "create table t (id int NOT NULL, o int not null, u int , check_ int)",
            ),
            (
                "create table t (a int, \"B\" int, constraint k primary key (a, \"B\"), \
                 unique (a), foreign key (a) references o (a))",
                "create table t (a int NOT NULL, \"B\" int NOT NULL)",
            ),
            (
                "create temp table t (a varchar, b text, c varchar(max), d char(3))",
                "create temp table t (a varchar(256), b varchar(256), c varchar(65535), d char(3))",
            ),
            (
                "create table t diststyle all sortkey (a) as select 1 as a, 'sortkey (x)'",
                "create table t as select 1 as a, 'sortkey (x)'",
            ),
            (
                "create table t (unique_id int, distkey int default 5 encode raw, d numeric(10,2) \
                 default (1 + (2))) distkey(unique_id) sortkey auto encode auto",
                "create table t (unique_id int, distkey int default 5 , d numeric(10,2) default \
                 (1 + (2)))",
            ),
            (
                r"create table t (a varchar(9) default 'x\'y')",
                r"create table t (a varchar(9) default E'x\'y')",
            ),
            (
                "create table t (like o including defaults)",
                "create table t (like o including defaults)",
            ),
            ("create table t (a int", "create table t (a int)"),
        ] {
            assert_eq!(translated(sql).as_deref(), Some(expected), "{sql}");
        }
    }

    #[test]
    fn other_statements_are_none_of_its_business() {
        for sql in ["create view v as select 1", "create schema s", "create", ""] {
            assert_eq!(translated(sql), None, "{sql}");
        }
    }
}
