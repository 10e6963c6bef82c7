//! Cuts Redshift's SQL into tokens that, put together again, are the same text:
//! what is quoted or a comment is never taken for something else. Not a parser.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Space,
    Comment,
    /// A keyword, a plain identifier or a number.
    Word,
    /// `"…"`.
    Quoted,
    /// `'…'`, in which a backslash escapes on Redshift.
    Text,
    /// What stands for itself: `$$…$$`, and a string with a letter before it.
    Verbatim,
    Symbol,
}

/// One token and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
}

impl Token<'_> {
    pub fn is_blank(&self) -> bool {
        matches!(self.kind, Kind::Space | Kind::Comment)
    }

    /// Whether this is the keyword, in whatever letters.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }
}

/// Cuts a statement. What is not closed reaches to the end.
pub fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut found: Vec<Token<'_>> = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let adjoins = found.last().is_some_and(|token| token.kind == Kind::Word);
        let (kind, length) = cut(rest, first, adjoins);
        // `cut` counts whole characters, so the split cannot fail.
        let (text, tail) = rest.split_at(length);
        found.push(Token { kind, text });
        rest = tail;
    }
    found
}

/// Kind and length in bytes of the token at the start of `rest`. `adjoins` says
/// that a word ends just before it.
fn cut(rest: &str, first: char, adjoins: bool) -> (Kind, usize) {
    let run = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    match first {
        _ if first.is_whitespace() => (Kind::Space, run(char::is_whitespace)),
        _ if rest.starts_with("--") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
        _ if rest.starts_with("/*") => (Kind::Comment, comment(rest)),
        '"' => (Kind::Quoted, quoted(rest, '"', false)),
        // The letter may say that the backslash escapes, as in E'…'.
        '\'' if adjoins => (Kind::Verbatim, quoted(rest, '\'', true)),
        '\'' => (Kind::Text, quoted(rest, '\'', true)),
        '$' if let Some(length) = dollars(rest) => (Kind::Verbatim, length),
        _ if is_word(first) => (Kind::Word, run(is_word)),
        _ if rest.starts_with("::") => (Kind::Symbol, 2),
        _ => (Kind::Symbol, first.len_utf8()),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Comments nest.
fn comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Up to the closing quote; a doubled one belongs to the text.
fn quoted(rest: &str, quote: char, backslash: bool) -> usize {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && backslash {
            characters.next();
        } else if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return at + c.len_utf8();
        }
    }
    rest.len()
}

/// The length of `$tag$ … $tag$`, if one starts here.
fn dollars(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('$')?;
    let end = inner.find('$')?;
    let tag = inner.get(..end)?;
    let starts_well = tag.chars().next().is_none_or(|c| c.is_alphabetic() || c == '_');
    if !starts_well || !tag.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let delimiter = rest.get(..end + 2)?;
    let body = rest.get(delimiter.len()..)?;
    Some(body.find(delimiter).map_or(rest.len(), |at| at + 2 * delimiter.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(sql: &str) -> Vec<(Kind, &str)> {
        tokens(sql).iter().filter(|t| t.kind != Kind::Space).map(|t| (t.kind, t.text)).collect()
    }

    #[test]
    fn quotes_and_comments_hide_what_is_in_them() {
        use Kind::{Comment, Quoted, Symbol, Text, Verbatim, Word};
        for (sql, expected) in [
            ("a 'x''y' b", vec![(Word, "a"), (Text, "'x''y'"), (Word, "b")]),
            (r"'a\'b' c", vec![(Text, r"'a\'b'"), (Word, "c")]),
            (r"'a\\' c", vec![(Text, r"'a\\'"), (Word, "c")]),
            (r"E'\n' 1", vec![(Word, "E"), (Verbatim, r"'\n'"), (Word, "1")]),
            (r#""a""'b" c"#, vec![(Quoted, r#""a""'b""#), (Word, "c")]),
            ("-- 'x\ny", vec![(Comment, "-- 'x"), (Word, "y")]),
            ("/* a /* ' */ b */c", vec![(Comment, "/* a /* ' */ b */"), (Word, "c")]),
            ("$f$ ' $f$ x", vec![(Verbatim, "$f$ ' $f$"), (Word, "x")]),
            ("a::b:c", vec![(Word, "a"), (Symbol, "::"), (Word, "b"), (Symbol, ":"), (Word, "c")]),
            ("'open", vec![(Text, "'open")]),
            ("/* open", vec![(Comment, "/* open")]),
            ("$1 $", vec![(Word, "$1"), (Word, "$")]),
        ] {
            assert_eq!(kinds(sql), expected, "{sql}");
        }
    }

    #[test]
    fn together_they_are_the_statement() {
        for sql in ["", "sélect 'ü\\", "a\u{3000}\"ö", "'\\ü'", "$é$ x $é$y", "/* ü", "--\n", "'''"]
        {
            let text: String = tokens(sql).iter().map(|token| token.text).collect();
            assert_eq!(text, sql);
        }
    }
}
