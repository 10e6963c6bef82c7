//! What every bench needs to know: which programs, and how much.

use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct Bench {
    /// The daemon.
    pub daemon: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// Small sizes, to see that everything works.
    pub quick: bool,
}

impl Bench {
    /// How often a throughput is measured.
    pub fn rounds(&self) -> u32 {
        if self.quick { 1 } else { 5 }
    }

    pub fn size(&self, quick: u32, full: u32) -> u32 {
        if self.quick { quick } else { full }
    }
}
