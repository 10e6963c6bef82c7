//! Keys as file names: which keys can lie on disk, and which files are
//! objects. Not for reading or writing anything.

use std::path::{Path, PathBuf};

/// The longest name of one file or folder.
const NAME_BYTES_MAX: usize = 255;
/// S3's own limit.
const KEY_BYTES_MAX: usize = 1024;

/// Why a key cannot be an object here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("your key is too long")]
    TooLong,
    #[error(
        "the local S3 keeps objects as plain files: no part of a key between slashes can be longer than 255 bytes"
    )]
    NameTooLong,
    #[error(
        "the local S3 keeps objects as plain files: a key cannot have empty parts, \".\" or \"..\" between slashes, nor contain NUL"
    )]
    NotAPath,
}

/// The path of a key below its bucket's folder. A key that ends in a slash is
/// a folder's marker.
pub fn relative_path(key: &str) -> Result<PathBuf, KeyError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    let parts = key.strip_suffix('/').unwrap_or(key).split('/');
    let mut path = PathBuf::new();
    for part in parts {
        if part.is_empty() || part == "." || part == ".." || part.contains('\0') {
            return Err(KeyError::NotAPath);
        }
        if part.len() > NAME_BYTES_MAX {
            return Err(KeyError::NameTooLong);
        }
        path.push(part);
    }
    Ok(path)
}

/// The key of a file below its bucket's folder, if its name is UTF-8.
pub fn key_of(relative: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

/// Hadoop's checksum files and unfinished output, which on S3 do not exist.
pub fn is_hidden(name: &str, is_folder: bool) -> bool {
    if is_folder { name == "_temporary" } else { name.starts_with('.') && name.ends_with(".crc") }
}

/// The folder below which all keys with this prefix lie.
pub fn folder_of_prefix(prefix: &str) -> PathBuf {
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    // A prefix that no key can have leads to the bucket, where nothing matches.
    relative_path(folder).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_keys_that_no_file_can_have() {
        let long = "x".repeat(256);
        let longer = "x/".repeat(513);
        for (key, expected) in [
            ("a/b=1/c d.gz", Ok("a/b=1/c d.gz")),
            ("a/", Ok("a")),
            ("../a", Err(KeyError::NotAPath)),
            ("a/../../b", Err(KeyError::NotAPath)),
            ("a//b", Err(KeyError::NotAPath)),
            ("/a", Err(KeyError::NotAPath)),
            ("a/./b", Err(KeyError::NotAPath)),
            ("a\0b", Err(KeyError::NotAPath)),
            ("", Err(KeyError::NotAPath)),
            (&long[..], Err(KeyError::NameTooLong)),
            (&longer[..], Err(KeyError::TooLong)),
        ] {
            let path = relative_path(key);
            let path = path.as_ref().map(|path| path.to_str().unwrap());
            assert_eq!(path.map_err(|e| *e), expected, "{key:?}");
        }
    }

    #[test]
    fn finds_the_folder_of_a_prefix() {
        for (prefix, folder) in [
            ("", ""),
            ("raw", ""),
            ("raw/2013/0", "raw/2013"),
            ("raw/2013/", "raw/2013"),
            ("../up/", ""),
        ] {
            assert_eq!(folder_of_prefix(prefix), PathBuf::from(folder), "{prefix:?}");
        }
    }
}
