//! How answers are shown: for people as lines and tables that fit the screen,
//! for programs as JSON. Not for errors and logs, which go to standard error.

use std::io::{IsTerminal, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::Failure;
use crate::core::notice::is_obeyed;

/// Where nobody says how wide the screen is.
pub const WIDTH: u16 = 80;
/// The longest word that is kept whole; a run's id has 26 characters.
const WHOLE_MAX: usize = 40;

/// An answer in both forms.
#[derive(Debug)]
pub struct Output {
    text: String,
    json: Value,
}

impl Output {
    pub fn new(text: impl Into<String>, value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { text: text.into(), json: to_json(value)? })
    }

    /// Writes it to standard output. A reader that has seen enough (`| head`)
    /// is no failure.
    pub fn show(&self, as_json: bool) -> std::io::Result<()> {
        let text = if as_json { format!("{:#}", self.json) } else { self.text.clone() };
        write(&text)
    }
}

/// A value as JSON; what is absent is left out.
pub fn to_json(value: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value)
        .map(without_nulls)
        .map_err(|error| Failure::Failed(format!("cannot be written as JSON: {error}")))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

pub fn write(text: &str) -> std::io::Result<()> {
    offer(text).map(|_| ())
}

/// The same for one of many pieces: false when nobody reads any more.
pub fn offer(text: &str) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    let result = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// Words in lines of at most so many letters. A longer word keeps a line for itself.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A table without lines, as wide as the screen at most. Only columns with
/// spaces in them are wrapped: an id in two pieces is of no use to anybody.
pub fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.set_width(WIDTH);
    }
    table.set_header(header);
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| plain(&cell))).collect();
    let whole: [bool; N] = std::array::from_fn(|column| {
        let words = |cell: &str| !cell.contains(' ') && cell.chars().count() <= WHOLE_MAX;
        rows.iter().all(|row| words(&row[column]))
    });
    for row in rows {
        table.add_row(row);
    }
    for (column, whole) in table.column_iter_mut().zip(whole) {
        column.set_padding((0, 2));
        if whole {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    // The columns are padded to the right edge.
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Text from outside (keys, reasons) on one line and without letters that
/// could play tricks on a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

/// `2013-01-01 06:05:00 UTC`.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `3 min ago`, `in 2 h`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let span = now.duration_since(at);
    match span.is_negative() {
        true => format!("in {}", length(-span)),
        false => format!("{} ago", length(span)),
    }
}

/// A length in its largest unit, or two below two days: `45 s`, `3 min`,
/// `2 h 5 min`, `3 d`.
pub fn length(span: SignedDuration) -> String {
    let (minutes, hours) = (span.as_mins(), span.as_hours());
    match span.as_secs() {
        secs if secs < 60 => format!("{secs} s"),
        _ if hours < 1 => format!("{minutes} min"),
        _ if hours >= 48 => format!("{} d", hours / 24),
        _ if minutes % 60 == 0 => format!("{hours} h"),
        _ => format!("{hours} h {} min", minutes % 60),
    }
}

/// What is not known or does not apply.
pub fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_as_people_say_them() {
        for (secs, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (7_500, "2 h 5 min"),
            (172_800, "2 d"),
        ] {
            assert_eq!(length(SignedDuration::from_secs(secs)), words);
        }
        let at = |secs| Timestamp::from_second(secs).unwrap();
        assert_eq!(ago(at(0), at(180)), "3 min ago");
        assert_eq!(ago(at(180), at(0)), "in 3 min");
    }

    #[test]
    fn words_are_wrapped_and_none_is_lost() {
        for (text, lines) in [
            ("", &[][..]),
            ("one", &["one"]),
            ("one two three", &["one two", "three"]),
            ("a longer-than-that b", &["a", "longer-than-that", "b"]),
        ] {
            assert_eq!(wrapped(text, 7), lines, "{text}");
        }
    }

    #[test]
    fn what_is_absent_is_left_out_of_json() {
        let value = serde_json::json!({ "a": null, "b": [{ "c": null, "d": 0 }], "e": {} });
        let output = Output::new("", &value).unwrap();
        assert_eq!(output.json, serde_json::json!({ "b": [{ "d": 0 }], "e": {} }));
    }

    #[test]
    fn text_from_outside_turns_no_direction_and_ends_no_line() {
        for c in (0..0x20).chain(0x7f..0xa0).chain(0x202a..0x202f).chain(0x2066..0x206a) {
            let c = char::from_u32(c).unwrap();
            assert_eq!(plain(&format!("a{c}b")), "a b", "{:?}", c);
        }
        for c in ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'] {
            assert_eq!(plain(&format!("a{c}b")), "a b", "{c:?}");
        }
        for text in ["s3://b/é/日本.csv", "שלום", "a\u{200d}b"] {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn a_table_fits_eighty_columns_and_plays_no_tricks() {
        let long = "word ".repeat(40);
        let text = table(["A", "B"], vec![[long, "x\u{1b}[31m\ny".to_owned()]]);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
