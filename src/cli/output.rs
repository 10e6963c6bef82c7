//! How answers are shown: for people as lines and tables that fit the screen,
//! for programs as JSON. Not for errors and logs, which go to standard error.

use std::io::{IsTerminal, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::Failure;
use crate::core::notice::is_obeyed;

/// Where nobody says how wide the screen is.
pub const WIDTH: u16 = 80;
/// A run's id has 26 characters; what is longer is no id.
const ID_MAX: usize = 32;
/// Columns of names and words are made no narrower than this, and than this if there is
/// no other way.
const NAME_LEAST: [usize; 2] = [20, 10];
/// Between columns.
const GAP: u16 = 2;
/// Where the text beside a label begins.
const LABEL_WIDTH: usize = 12;

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

/// A label and its text, which is wrapped beside it.
pub fn labelled(label: &str, text: &str) -> String {
    let width = usize::from(WIDTH) - LABEL_WIDTH;
    let mut lines = wrapped(&plain(text), width);
    lines.resize(lines.len().max(1), String::new());
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    let lines = labels.zip(lines).map(|(label, line)| format!("{label:<LABEL_WIDTH$}{line}"));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Free text in lines that fit, all but the first indented.
pub fn paragraph(text: &str) -> String {
    let lines = wrapped(&plain(text), usize::from(WIDTH) - 4);
    lines.join("\n    ") + "\n"
}

/// A table without lines, as wide as the screen at most. Where it would be wider, the
/// widest column is wrapped, as far as needed: between words where it has some, and never
/// an id, for one in two pieces is of no use to anybody.
pub fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let screen = table.width().filter(|_| std::io::stdout().is_terminal()).unwrap_or(WIDTH);
    // What is left over at the right edge is cut off below.
    table.set_width(screen.saturating_add(GAP));
    table.set_header(header);
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| plain(&cell))).collect();
    let columns: [Column; N] = std::array::from_fn(|column| {
        Column::of(header[column], rows.iter().map(|row| row[column].as_str()))
    });
    let widths = fitted(&columns, usize::from(screen));
    for row in rows {
        table.add_row(row);
    }
    for (shown, width) in table.column_iter_mut().zip(widths) {
        shown.set_padding((0, GAP));
        let width = u16::try_from(width).unwrap_or(u16::MAX).saturating_add(GAP);
        shown.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
    }
    // The columns are padded to the right edge.
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How wide a column is, and may be made.
struct Column {
    /// Nothing of it is wrapped then.
    width: usize,
    /// It is made no narrower than this; and than this if there is no other way.
    least: [usize; 2],
}

impl Column {
    fn of<'a>(header: &str, cells: impl Iterator<Item = &'a str> + Clone) -> Self {
        let chars = |text: &str| text.chars().count();
        let longest = |text: &str| text.split(' ').map(chars).max().unwrap_or(0);
        let widest = cells.clone().map(chars).max().unwrap_or(0);
        let has_words = cells.clone().any(|cell| cell.contains(' '));
        // Numbers, instants and ids, such as of runs (01J9Z…) and steps (s-2AXX…).
        let is_id = |cell: &str| !cell.chars().skip(1).any(char::is_lowercase);
        let head = longest(header);
        let least = if has_words {
            let word = cells.clone().map(longest).max().unwrap_or(0);
            [word.min(NAME_LEAST[0]), word.min(NAME_LEAST[1])]
        } else if widest <= ID_MAX && cells.clone().all(is_id) {
            [widest; 2]
        } else {
            NAME_LEAST.map(|least| widest.min(least))
        };
        Self { width: widest.max(chars(header)), least: least.map(|it| it.max(head)) }
    }
}

/// The widths with which columns fit, gaps between them included.
fn fitted<const N: usize>(columns: &[Column; N], screen: usize) -> [usize; N] {
    let mut widths = columns.each_ref().map(|column| column.width);
    let gaps = usize::from(GAP) * N.saturating_sub(1);
    for last_resort in [0, 1] {
        while widths.iter().sum::<usize>() + gaps > screen {
            let wider =
                |(width, column): &(&mut usize, &Column)| **width > column.least[last_resort];
            let widest =
                widths.iter_mut().zip(columns).filter(wider).max_by_key(|(width, _)| **width);
            let Some((width, _)) = widest else { break };
            *width -= 1;
        }
    }
    widths
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
    fn a_wide_table_breaks_names_and_words_and_no_ids() {
        let (id, name) = ("01J9ZC2V5T3W8M2V9N4K7Q6R1C", "a-name-that-somebody-has-chosen-longer");
        let row = [id, name, "cancelling", "9999/10000", "10000", "3 min ago"].map(str::to_owned);
        let header = ["BACKFILL", "TASK", "STATE", "DONE", "FAILED", "ASKED"];
        let text = table(header, vec![row.clone()]);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        for whole in [id, "cancelling", "9999/10000"] {
            assert!(text.contains(whole), "{text}");
        }
        let [id, name, ..] = row;
        for words in ["word ".repeat(40), "s3://bucket/with/a/very/long/key ".repeat(4)] {
            let rows = vec![[name.clone(), id.clone(), words]];
            let text = table(["TASK", "RUN", "REASON"], rows);
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
            assert!(text.contains(&id), "{text}");
        }
        let row = ["etl", "2013-01-01T05", "waiting"].map(str::to_owned);
        let text = table(["TASK", "NEWEST", "STATE"], vec![row]);
        assert_eq!(text, "TASK  NEWEST         STATE\netl   2013-01-01T05  waiting\n");
    }

    #[test]
    fn a_label_stands_before_wrapped_text() {
        assert_eq!(labelled("state", "running"), "state       running\n");
        assert_eq!(labelled("open", ""), "open\n");
        let text = labelled("failed", &"2013-01-01T05 ".repeat(50));
        assert!(text.lines().all(|line| line.len() <= usize::from(WIDTH)), "{text}");
        assert_eq!(text.matches("2013-01-01T05").count(), 50);
        assert!(text.lines().skip(1).all(|line| line.starts_with("            2013")), "{text}");
    }

    #[test]
    fn a_table_fits_eighty_columns_and_plays_no_tricks() {
        let long = "word ".repeat(40);
        let text = table(["A", "B"], vec![[long, "x\u{1b}[31m\ny".to_owned()]]);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
