//! What happened in a world, a line each, readable by a person and the same
//! for the same seed: nothing in it hangs on the order of a map or on the
//! machine. Not for judging it.

use std::fmt::Write;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The lines of one world, oldest first.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Vec<String>,
    hash: Sha256,
}

impl Trace {
    pub fn add(&mut self, at: Timestamp, text: &str) {
        let mut line = at.strftime("%dT%H:%M:%S.%3f ").to_string();
        // Writing to a String cannot fail.
        let _ = write!(line, "{text}");
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.lines.push(line);
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Names all that happened: worlds with the same hash went the same way.
    pub fn hash(&self) -> String {
        let digest = self.hash.clone().finalize();
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
