//! Keys as file names: which keys S3 takes, which of them can be plain files,
//! and which files are objects. Not for reading or writing anything.

use std::path::{Path, PathBuf};

/// The longest name of one file or folder.
const NAME_BYTES_MAX: usize = 255;
/// S3's own limit.
const KEY_BYTES_MAX: usize = 1024;

/// Why S3 refuses a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("your key is too long")]
    TooLong,
    #[error("could not parse the specified URI: the key has more \"..\" than parts before them")]
    ClimbsOut,
}

/// Refuses the few keys that S3 refuses.
pub fn check(key: &str) -> Result<(), KeyError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    let mut depth = 0_i32;
    for part in key.split('/') {
        match part {
            ".." => depth -= 1,
            "" | "." => {}
            _ => depth += 1,
        }
        if depth < 0 {
            return Err(KeyError::ClimbsOut);
        }
    }
    Ok(())
}

/// The path below the bucket's folder at which a key's object is a plain file.
/// None for keys that no file can have, and for those that would be taken for
/// Hadoop's leavings.
pub fn plain_path(key: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    let mut parts = key.split('/').peekable();
    while let Some(part) = parts.next() {
        let no_name = part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if no_name || part.len() > NAME_BYTES_MAX || is_hidden(part, parts.peek().is_some()) {
            return None;
        }
        path.push(part);
    }
    Some(path)
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

/// The folder below which all plain files with this prefix lie.
pub fn folder_of_prefix(prefix: &str) -> PathBuf {
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    // A prefix that no plain file can have leads to the bucket, where nothing
    // matches.
    plain_path(folder).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_s3_refuses() {
        let (longest, too_long) = ("x/".repeat(512), "x/".repeat(512) + "x");
        for (key, expected) in [
            ("a/../b", Ok(())),
            ("a/b/../../c", Ok(())),
            ("a//b/./c/", Ok(())),
            ("/a", Ok(())),
            ("..a", Ok(())),
            ("../a", Err(KeyError::ClimbsOut)),
            ("a/../../b", Err(KeyError::ClimbsOut)),
            ("/../a", Err(KeyError::ClimbsOut)),
            (&longest[..], Ok(())),
            (&too_long[..], Err(KeyError::TooLong)),
        ] {
            assert_eq!(check(key), expected, "{key:?}");
        }
    }

    #[test]
    fn a_plain_path_never_leaves_the_bucket() {
        let long = "x".repeat(256);
        for key in [
            "",
            "a/",
            "/a",
            "a//b",
            "a/./b",
            "a/../b",
            "..",
            "../a",
            "a\0b",
            &long,
            "_temporary/x",
            "a/_temporary/0/x",
            "a/.b.crc",
        ] {
            assert_eq!(plain_path(key), None, "{key:?}");
        }
        for key in ["a", "a/b=1/c d.gz", "a%2F..%2Fb", "x/.crc/y", "~/$HOME", "ü+?#&", "_temporary"]
        {
            assert_eq!(plain_path(key), Some(PathBuf::from(key)), "{key:?}");
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
