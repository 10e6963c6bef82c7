//! Plain lines on standard output, coloured on a terminal only. Not for logs.

use std::io::{self, Write};

use console::{Style, style};
use jiff::Timestamp;

/// How a line reads: most are news, some are good, some need somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => Style::new().green(),
            Self::Warning => Style::new().yellow(),
            Self::Bad => Style::new().red().bold(),
        }
    }
}

/// One line. Nobody may be reading any more, which is no reason to stop.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

pub fn heading(text: &str) {
    line("");
    line(style(text).bold());
}

/// Something that happened, at an instant of the development clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    pub what: &'static str,
    pub text: String,
    pub tone: Tone,
}

pub fn event(Line { at, what, text, tone }: &Line) {
    let time = at.strftime("%d %b %H:%M").to_string();
    line(format_args!("{}  {what:<8} {}", style(time).dim(), tone.style().apply_to(text)));
}

/// A line of the summary.
pub fn entry(label: &str, text: &str) {
    line(format_args!("  {label:<12} {text}"));
}

/// The outcome of one expectation.
pub fn verdict(ok: bool, text: &str, detail: &str) {
    let (mark, tone) = if ok { ("ok    ", Tone::Good) } else { ("NOT ok", Tone::Bad) };
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    line(format_args!("  {} {text}{}", tone.style().apply_to(mark), style(detail).dim()));
}
