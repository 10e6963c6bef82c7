//! Redshift's SQL in PostgreSQL's terms: what differs is found token by token,
//! everything else goes through as it is. The differences that stay are listed
//! in the README of the local AWS.

mod copy;
mod create_table;
mod parameters;
mod token;

pub use self::copy::Copy;
pub use self::parameters::{bind, names};

use self::token::{Kind, Token, tokens};
use super::warehouse::SqlError;

/// A statement, ready for PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Runs as it is.
    Plain(String),
    /// Commits the transaction that it is in, as Redshift does.
    Truncate(String),
    /// Loads objects of S3.
    Copy(Copy),
}

/// Words that would end the transaction a batch is.
const TRANSACTION: [&str; 6] = ["abort", "begin", "commit", "end", "rollback", "start"];

/// Reads one statement.
pub fn translate(sql: &str) -> Result<Statement, SqlError> {
    let tokens = tokens(sql);
    let first = tokens.iter().find(|token| !token.is_blank());
    let starts = |word| first.is_some_and(|token| token.is_word(word));
    if TRANSACTION.iter().any(|word| starts(word)) {
        return Err(SqlError::failed(
            "the Data API makes the transactions itself: leave BEGIN, COMMIT and ROLLBACK out",
        ));
    }
    // CREATE TABLE, but also CREATE TEMP TABLE and its like.
    if starts("create")
        && let Some(table) = create_table::translate(&tokens)
    {
        return Ok(Statement::Plain(table));
    }
    if starts("copy") {
        return copy::parse(&tokens).map(Statement::Copy);
    }
    let text = text_of(&tokens);
    Ok(if starts("truncate") { Statement::Truncate(text) } else { Statement::Plain(text) })
}

/// The text of tokens in PostgreSQL's terms.
fn text_of(tokens: &[Token<'_>]) -> String {
    let mut text = String::new();
    for token in tokens {
        if token.kind == Kind::Text && token.text.contains('\\') {
            text.push('E');
        }
        text.push_str(token.text);
    }
    text
}

/// What a string literal of Redshift says.
fn value_of(token: &Token<'_>) -> Option<String> {
    let inner = token.text.strip_prefix('\'')?.strip_suffix('\'')?;
    if token.kind != Kind::Text {
        return None;
    }
    let mut value = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        match c {
            // A quote inside is doubled or escaped.
            '\\' | '\'' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::parameters::literal;
    use super::*;

    fn plain(sql: &str) -> String {
        match translate(sql) {
            Ok(Statement::Plain(text)) => text,
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn a_backslash_escapes_as_on_redshift() {
        for (sql, expected) in [
            (r"select 'a\\b', 'c'", r"select E'a\\b', 'c'"),
            (r"select 'it\'s'", r"select E'it\'s'"),
            (r"select E'\n', $$a\b$$ -- '\'", r"select E'\n', $$a\b$$ -- '\'"),
            ("select 'plain'", "select 'plain'"),
        ] {
            assert_eq!(plain(sql), expected);
        }
    }

    #[test]
    fn statements_are_told_apart() {
        let truncated = translate(" /* all */ TRUNCATE TABLE t");
        assert!(matches!(truncated, Ok(Statement::Truncate(_))));
        for sql in ["BEGIN", "commit;", "-- x\nRollback", "START TRANSACTION", "end"] {
            let refused = translate(sql).unwrap_err().to_string();
            assert!(refused.contains("Data API makes the transactions"), "{sql}: {refused}");
        }
        assert_eq!(plain("select 'begin'"), "select 'begin'");
        assert_eq!(plain("create schema a"), "create schema a");
        assert_eq!(plain(""), "");
    }

    #[test]
    fn no_cut_of_a_statement_makes_it_panic() {
        for whole in [
            "create temp table if not exists \"ü\".t (a varchar(max) primary key, b int encode \
             raw references o (x), primary key (a, \"b\")) distkey(a) compound sortkey (a) as \
             select ':x', $$y$$",
            "copy s.t (a, \"b\") from 's3://b/k' iam_role default format as parquet manifest \
             acceptinvchars as '?' statupdate off;",
            "/* ü */ truncate t; -- 'end",
        ] {
            let cuts: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
            for (index, from) in cuts.iter().enumerate() {
                for to in cuts.iter().skip(index).step_by(3) {
                    let _ = translate(&whole[*from..*to]);
                    let without = format!("{}{}", &whole[..*from], &whole[*to..]);
                    let _ = translate(&without);
                }
            }
        }
    }

    #[test]
    fn a_literal_says_what_was_meant() {
        for value in ["plain", r"a\b", "it's", r"\'", r"end\", "ünï"] {
            let quoted = literal(value);
            assert_eq!(value_of(&tokens(&quoted)[0]).as_deref(), Some(value), "{quoted}");
        }
    }
}
