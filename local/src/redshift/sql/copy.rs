//! Reads Redshift's COPY of Parquet files, and says in Redshift's words what it
//! does not take. Not for reading the files.

use super::token::{Kind, Token};
use super::{text_of, value_of};
use crate::redshift::warehouse::SqlError;

/// A COPY that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The table as it was written, perhaps with its schema.
    pub table: String,
    /// The names in the column list as they were written; without one, empty.
    pub columns: Vec<String>,
    pub bucket: String,
    /// The start of the keys, or the key of a manifest.
    pub key: String,
    pub has_manifest: bool,
    /// Null for columns at the end that a file does not have.
    pub fills_record: bool,
    /// What takes the place of characters that are none.
    pub replacement: Option<char>,
}

struct Cursor<'s, 'a> {
    rest: std::iter::Peekable<std::slice::Iter<'s, Token<'a>>>,
}

/// Reads the statement from its first token on.
pub fn parse(tokens: &[Token<'_>]) -> Result<Copy, SqlError> {
    let words: Vec<Token<'_>> = tokens.iter().filter(|t| !t.is_blank()).copied().collect();
    let mut cursor = Cursor { rest: words.iter().peekable() };
    cursor.rest.next();
    let table = cursor.table();
    let columns = cursor.column_list()?;
    if !cursor.takes("from") {
        return Err(cursor.unexpected());
    }
    let source = cursor.rest.next().and_then(value_of);
    let source = source.ok_or_else(|| {
        SqlError::failed(
            "syntax error in COPY: expected a source after FROM, such as 's3://bucket/key'",
        )
    })?;
    let place = source.strip_prefix("s3://").and_then(|place| place.split_once('/'));
    let Some((bucket, key)) = place.filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
    else {
        return Err(SqlError::failed(format!(
            "the local AWS copies only from S3, and {source} is no s3://bucket/key"
        )));
    };
    let mut copy = Copy {
        table,
        columns,
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        has_manifest: false,
        fills_record: false,
        replacement: None,
    };
    cursor.options(&mut copy)?;
    Ok(copy)
}

impl<'a> Cursor<'_, 'a> {
    fn takes(&mut self, word: &str) -> bool {
        self.rest.next_if(|token| token.is_word(word)).is_some()
    }

    fn table(&mut self) -> String {
        let is_name = |t: &Token<'_>| matches!(t.kind, Kind::Word | Kind::Quoted);
        let mut name = String::new();
        while let Some(part) = self.rest.next_if(|token| is_name(token)) {
            name.push_str(part.text);
            if self.rest.next_if(|token| token.is_symbol(".")).is_none() {
                break;
            }
            name.push('.');
        }
        name
    }

    fn column_list(&mut self) -> Result<Vec<String>, SqlError> {
        let mut columns = Vec::new();
        if self.rest.next_if(|token| token.is_symbol("(")).is_none() {
            return Ok(columns);
        }
        loop {
            match self.rest.next() {
                Some(token) if matches!(token.kind, Kind::Word | Kind::Quoted) => {
                    columns.push(token.text.to_owned());
                }
                _ => return Err(SqlError::failed("syntax error in the column list of COPY")),
            }
            match self.rest.next() {
                Some(token) if token.is_symbol(",") => {}
                Some(token) if token.is_symbol(")") => return Ok(columns),
                _ => return Err(SqlError::failed("syntax error in the column list of COPY")),
            }
        }
    }

    fn options(&mut self, copy: &mut Copy) -> Result<(), SqlError> {
        let (mut is_authorized, mut is_parquet) = (false, false);
        while let Some(token) = self.rest.next_if(|token| !token.is_symbol(";")) {
            let option = token.text.to_ascii_uppercase();
            match option.as_str() {
                "IAM_ROLE" => {
                    is_authorized = self.takes("default") || self.text().is_some();
                }
                "CREDENTIALS" => {
                    self.takes("as");
                    is_authorized = self.text().is_some();
                }
                "FORMAT" => {
                    self.takes("as");
                    is_parquet = self.takes("parquet");
                    if !is_parquet {
                        return Err(only_parquet());
                    }
                }
                "PARQUET" => is_parquet = true,
                "MANIFEST" => copy.has_manifest = true,
                "FILLRECORD" => copy.fills_record = true,
                "ACCEPTINVCHARS" => {
                    self.takes("as");
                    let given = self.text().and_then(|text| text.chars().next());
                    copy.replacement = Some(given.unwrap_or('?'));
                }
                "STATUPDATE" => {
                    let _ = ["on", "off", "true", "false"].iter().any(|word| self.takes(word));
                }
                _ if token.kind == Kind::Word => {
                    return Err(SqlError::failed(format!(
                        "{option} argument is not supported for PARQUET based COPY"
                    )));
                }
                _ => {
                    return Err(SqlError::failed(format!(
                        "syntax error at or near {}",
                        quote(token)
                    )));
                }
            }
        }
        if self.rest.by_ref().any(|token| !token.is_symbol(";")) {
            return Err(SqlError::failed(
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        match (is_parquet, is_authorized) {
            (false, _) => Err(only_parquet()),
            (true, false) => Err(SqlError::failed(
                "No authorization credentials provided: COPY needs IAM_ROLE 'arn' or IAM_ROLE default",
            )),
            (true, true) => Ok(()),
        }
    }

    /// The string that comes next, if one does.
    fn text(&mut self) -> Option<String> {
        self.rest.next_if(|token| token.kind == Kind::Text).and_then(value_of)
    }

    fn unexpected(&mut self) -> SqlError {
        match self.rest.next() {
            Some(token) => SqlError::failed(format!("syntax error at or near {}", quote(token))),
            None => SqlError::failed("syntax error at end of input"),
        }
    }
}

fn only_parquet() -> SqlError {
    SqlError::failed("the local AWS copies only FORMAT AS PARQUET")
}

fn quote(token: &Token<'_>) -> String {
    format!("\"{}\"", text_of(&[*token]))
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    #[test]
    fn a_copy_is_understood_in_all_its_spellings() {
        let copy = parse(&tokens(
            "copy \"S\".t (a, \"B c\") from 's3://b/k\\'ey/m.json' iam_role default \
             format as parquet manifest statupdate off acceptinvchars as '^' fillrecord;",
        ));
        let expected = Copy {
            table: "\"S\".t".to_owned(),
            columns: vec!["a".to_owned(), "\"B c\"".to_owned()],
            bucket: "b".to_owned(),
            key: "k'ey/m.json".to_owned(),
            has_manifest: true,
            fills_record: true,
            replacement: Some('^'),
        };
        assert_eq!(copy.unwrap(), expected);
        for sql in [
            "COPY t FROM 's3://b/p/' IAM_ROLE 'arn:x' PARQUET",
            "COPY t FROM 's3://b/p/' CREDENTIALS AS 'aws_iam_role=x' FORMAT PARQUET STATUPDATE",
            "COPY t /* x */ FROM 's3://b/p/' -- y\n IAM_ROLE default FORMAT PARQUET STATUPDATE TRUE",
        ] {
            let copy = parse(&tokens(sql)).unwrap();
            assert_eq!((copy.bucket.as_str(), copy.key.as_str()), ("b", "p/"), "{sql}");
            assert!(!copy.has_manifest && copy.columns.is_empty(), "{sql}");
        }
    }

    #[test]
    fn what_it_does_not_take_is_named() {
        let parquet = "iam_role default format as parquet";
        for (sql, part) in [
            (
                format!("copy t from 's3://b/k' {parquet} region 'eu-west-1'"),
                "REGION argument is not supported",
            ),
            (format!("copy t from 's3://b/k' {parquet} maxerror 3"), "MAXERROR argument"),
            ("copy t from 's3://b/k' iam_role default csv".to_owned(), "CSV argument"),
            (
                "copy t from 's3://b/k' iam_role default format as json 'auto'".to_owned(),
                "only FORMAT AS PARQUET",
            ),
            ("copy t from 's3://b/k' iam_role default".to_owned(), "only FORMAT AS PARQUET"),
            ("copy t from 's3://b/k' format parquet".to_owned(), "No authorization credentials"),
            (format!("copy t from 'emr://c/k' {parquet}"), "is no s3://bucket/key"),
            (format!("copy t from 's3://b' {parquet}"), "is no s3://bucket/key"),
            (format!("copy t (a b) from 's3://b/k' {parquet}"), "column list"),
            (format!("copy t to 's3://b/k' {parquet}"), "near \"to\""),
            ("copy t".to_owned(), "end of input"),
            (format!("copy t from 's3://b/k' {parquet}; select 1"), "multiple commands"),
            ("copy t from stdin".to_owned(), "expected a source"),
        ] {
            let error = parse(&tokens(&sql)).unwrap_err().to_string();
            assert!(error.contains(part), "{sql}: {error}");
        }
    }
}
