//! Task files of a local folder, and what may be one wherever it lies. Those in
//! S3 are read by `sources::task_files`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::SignedDuration;

/// Texts by the name of their file.
pub type Texts = BTreeMap<String, String>;

/// A file as found: its text, or why there is none.
pub type Found = BTreeMap<String, Result<String, String>>;

/// More is a folder given by mistake.
pub const FILES_MAX: usize = 1_000;
/// Kept in an item of DynamoDB, which takes 400 KB.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Begins a place in S3.
pub(super) const S3: &str = "s3://";

/// Where task files lie, and how often they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFiles {
    pub place: Place,
    pub interval: SignedDuration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Folder(PathBuf),
    Prefix { bucket: String, prefix: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Folder(folder) => write!(f, "{}", folder.display()),
            Place::Prefix { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Place {
    /// The name of a file there, for messages.
    pub fn file(&self, name: &str) -> PathBuf {
        match self {
            Place::Folder(folder) => folder.join(name),
            Place::Prefix { .. } => PathBuf::from(format!("{self}{name}")),
        }
    }
}

/// The task files of a folder, by name; those in folders below it are not.
pub fn read_folder(folder: &Path) -> std::io::Result<Found> {
    let mut found = Found::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_task_file(&name) {
            continue;
        }
        let text = match read_file(&entry.path()) {
            // Removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => Err(error.to_string()),
            Ok(bytes) => decode(bytes),
        };
        found.insert(name, text);
    }
    Ok(found)
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than allowed, so that endless files end too.
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Editors leave hidden and half-written files beside the real ones.
pub fn is_task_file(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with('.') && !name.contains('/')
}

/// A file's text, or why it cannot be one.
pub fn decode(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {} KiB: divide it", FILE_BYTES_MAX / 1024));
    }
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to() + 1;
        format!("byte {byte} is not UTF-8: save the file as UTF-8")
    })
}
