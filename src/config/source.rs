//! The files that make one configuration: the main file and task files. Their
//! texts stand behind each other as far as places are concerned, so that a place
//! is one number; here it becomes a file, a line and a column again.

use std::path::{Path, PathBuf};

/// A file of the configuration and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    pub fn new(path: impl AsRef<Path>, text: impl Into<String>) -> Self {
        Self { path: path.as_ref().to_owned(), text: text.into() }
    }
}

/// All files of one configuration, the main file first.
#[derive(Debug)]
pub struct Sources<'a> {
    /// Each with the place of its first byte.
    files: Vec<(usize, &'a Source)>,
    /// The places of all line ends.
    line_ends: Vec<usize>,
}

impl<'a> Sources<'a> {
    pub fn new(main: &'a Source, others: &'a [Source]) -> Self {
        let mut start = 0;
        let files = std::iter::once(main).chain(others).map(|source| {
            let file = (start, source);
            // One more than its bytes: the end of a file is a place too.
            start += source.text.len() + 1;
            file
        });
        let files: Vec<_> = files.collect();
        let ends = files.iter().flat_map(|(start, source)| {
            source.text.match_indices('\n').map(move |(end, _)| start + end)
        });
        Self { line_ends: ends.collect(), files }
    }

    /// Each file with the place of its first byte.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a Source)> {
        self.files.iter().copied()
    }

    /// The file of a place, and the place of its first byte.
    pub fn file_at(&self, place: usize) -> (usize, &'a Source) {
        let after = self.files.partition_point(|(start, _)| *start <= place);
        self.files[after.saturating_sub(1)]
    }

    /// `tasks/a.toml:3`: the file and line of a place.
    pub fn line_of(&self, place: usize) -> String {
        let (start, source) = self.file_at(place);
        let ends_before = |place| self.line_ends.partition_point(|end| *end < place);
        format!("{}:{}", source.path.display(), 1 + ends_before(place) - ends_before(start))
    }
}
