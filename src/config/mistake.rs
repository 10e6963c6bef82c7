//! What is said about a configuration: mistakes, which refuse it, and
//! warnings, which do not. Each has its place and words that say what to do.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::source::Sources;

/// So many known names are compared with an unknown one. More would make
/// checking a huge file slow for the sake of its suggestions.
const COMPARED_MAX: usize = 200;
/// Nothing is near to a longer one: comparing takes the product of both lengths.
const COMPARED_BYTES_MAX: usize = 256;
/// So many known names are listed where none is near.
const LISTED_MAX: usize = 20;

/// Something wrong, or likely to be, at a place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Bytes of the file.
    span: Range<usize>,
    message: String,
    help: Option<String>,
    /// The name that nothing has, if that is the mistake.
    unknown_name: Option<String>,
}

impl Mistake {
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None, unknown_name: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// An unknown name: suggests the nearest known one, or lists them all.
    pub fn unknown<'a>(
        span: Range<usize>,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<_> = known.collect();
        let help = if known.is_empty() {
            format!("no {what} is declared")
        } else {
            suggestion(name, &known, "declared are")
        };
        let mut mistake = Self::at(span, format!("there is no {what} {name:?}")).help(help);
        mistake.unknown_name = Some(name.to_owned());
        mistake
    }

    /// Moved to a file whose first byte is at `start`.
    #[must_use]
    pub fn moved(mut self, start: usize) -> Self {
        self.span = self.span.start + start..self.span.end + start;
        self
    }

    pub fn unknown_name(&self) -> Option<&str> {
        self.unknown_name.as_deref()
    }
}

/// The known name that a person most likely meant. It begins or ends alike.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if let Some(same) = known.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        return Some(same);
    }
    if name.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let name = name.to_lowercase();
    let (first, last) = (name.chars().next()?, name.chars().next_back()?);
    let alike = known.iter().filter(|known| known.starts_with(first) || known.ends_with(last));
    let likeness = alike.take(COMPARED_MAX).map(|known| (likeness(&name, known), *known));
    let best = likeness.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}

/// Up to 1, which is one slip of the finger.
fn likeness(name: &str, known: &str) -> f64 {
    match strsim::osa_distance(name, known) {
        1 if name.len() > 2 => 1.0,
        _ => strsim::jaro(name, known),
    }
}

/// `did you mean …?`, or the known names after `introduction`.
pub fn suggestion(name: &str, known: &[&str], introduction: &str) -> String {
    if let Some(nearest) = nearest(name, known) {
        return format!("did you mean {nearest:?}?");
    }
    let listed = &known[..known.len().min(LISTED_MAX)];
    let more = if listed.len() < known.len() { ", …" } else { "" };
    format!("{introduction}: {}{more}", listed.join(", "))
}

/// What was found in a configuration, in the order of its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    kind: Kind,
    found: Vec<Finding>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Mistake,
    Warning,
}

/// One mistake or warning as people and editors read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub file: PathBuf,
    /// From 1; none where the whole file is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Findings {
    pub fn mistakes(sources: &Sources<'_>, mistakes: Vec<Mistake>) -> Self {
        Self { kind: Kind::Mistake, found: placed(sources, mistakes) }
    }

    pub fn warnings(sources: &Sources<'_>, warnings: Vec<Mistake>) -> Self {
        Self { kind: Kind::Warning, found: placed(sources, warnings) }
    }

    /// A file that is a mistake as a whole.
    pub fn of_file(file: &Path, message: String) -> Self {
        let file = file.to_owned();
        let finding = Finding { file, line: None, column: None, message, help: None };
        Self { kind: Kind::Mistake, found: vec![finding] }
    }

    /// Adds what is not yet among them.
    pub fn add(&mut self, more: Findings) {
        let known: BTreeSet<_> = self.found.iter().cloned().collect();
        self.found.extend(more.found.into_iter().filter(|finding| !known.contains(finding)));
    }

    /// The files in which something was found.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        self.found.iter().map(|finding| finding.file.clone()).collect()
    }

    pub fn list(&self) -> &[Finding] {
        &self.found
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// `3 mistakes`, `1 warning`.
    pub fn count(&self) -> String {
        counted(self.found.len(), if self.kind == Kind::Mistake { "mistake" } else { "warning" })
    }
}

/// `1 task`, `2 tasks`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Sorts by place and turns places into files, lines and columns, in one pass
/// over the texts.
fn placed(sources: &Sources<'_>, mut mistakes: Vec<Mistake>) -> Vec<Finding> {
    mistakes.sort_by_key(|mistake| mistake.span.start);
    let (mut file, mut offset, mut line, mut column) = (None, 0, 1, 1);
    let placed = mistakes.into_iter().map(|mistake| {
        let (start, source) = sources.file_at(mistake.span.start);
        if file != Some(start) {
            (file, offset, line, column) = (Some(start), 0, 1, 1);
        }
        let between = source.text.get(offset..mistake.span.start - start).unwrap_or_default();
        if let Some(newline) = between.rfind('\n') {
            line += between.matches('\n').count();
            column = 1 + between[newline + 1..].chars().count();
        } else {
            column += between.chars().count();
        }
        offset += between.len();
        Finding {
            file: source.path.clone(),
            line: Some(line),
            column: Some(column),
            message: mistake.message,
            help: mistake.help,
        }
    });
    placed.collect()
}

/// `file:line:column: what`, and its help below it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        for position in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{position}")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n    {help}"),
            None => Ok(()),
        }
    }
}

/// Each behind what it is, and their count at the end.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            Kind::Mistake => "error",
            Kind::Warning => "warning",
        };
        for finding in &self.found {
            writeln!(f, "{word}: {finding}")?;
        }
        f.write_str(&self.count())
    }
}
