//! A mistake in the configuration and its place in the file, in words that
//! say what to do.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Bytes of the file.
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

impl Mistake {
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
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
        let mut known: Vec<_> = known.collect();
        known.sort_by(|a, b| strsim::jaro(name, b).total_cmp(&strsim::jaro(name, a)));
        let help = match known.first() {
            Some(nearest) if strsim::jaro(name, nearest) > 0.7 => {
                format!("did you mean {nearest:?}?")
            }
            Some(_) => format!("declared are: {}", known.join(", ")),
            None => format!("no {what} is declared"),
        };
        Self::at(span, format!("there is no {what} {name:?}")).help(help)
    }
}

/// All mistakes of one file, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    path: PathBuf,
    /// Line and column from 1, then the mistake.
    found: Vec<(usize, usize, Mistake)>,
}

impl Mistakes {
    pub fn new(path: &Path, text: &str, mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by_key(|mistake| mistake.span.start);
        let found = mistakes
            .into_iter()
            .map(|mistake| {
                let (line, column) = place(text, mistake.span.start);
                (line, column, mistake)
            })
            .collect();
        Self { path: path.to_owned(), found }
    }

    pub fn len(&self) -> usize {
        self.found.len()
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (line, column, mistake)) in self.found.iter().enumerate() {
            let newline = if number == 0 { "" } else { "\n" };
            let path = self.path.display();
            write!(f, "{newline}{path}:{line}:{column}: {}", mistake.message)?;
            if let Some(help) = &mistake.help {
                write!(f, "\n    {help}")?;
            }
        }
        Ok(())
    }
}
