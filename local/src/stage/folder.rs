//! The folder of a world: new for every start, and never somebody else's. What lies in it is the other modules' business.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Says that everything beside it may be removed.
const MARKER: &str = ".sluicegate-demo";

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error(
        "{0} holds something that sluicegate-local did not make: remove it or choose another folder"
    )]
    Foreign(PathBuf),
    #[error("cannot use {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes the folder new and empty; an earlier world's goes.
pub fn renew(path: &Path) -> Result<PathBuf, FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    let path = std::path::absolute(path).map_err(failed)?;
    match fs::read_dir(&path) {
        Ok(mut entries) => {
            if path.join(MARKER).is_file() {
                fs::remove_dir_all(&path).map_err(failed)?;
            } else if entries.next().is_some() {
                return Err(FolderError::Foreign(path));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    fs::create_dir_all(&path).map_err(failed)?;
    fs::write(path.join(MARKER), "Made by sluicegate-local, removed by its next start.\n")
        .map_err(failed)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_demos_folder_is_made_new() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("out/demo");
        let first = renew(&out).unwrap();
        fs::create_dir(first.join("mail")).unwrap();
        fs::write(first.join("mail/0001.eml"), "old").unwrap();
        let second = renew(&out).unwrap();
        assert_eq!(first, second);
        assert!(!second.join("mail").exists());
    }

    #[test]
    fn somebody_elses_folder_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let thesis = place.path().join("thesis.txt");
        fs::write(&thesis, "years of work").unwrap();
        assert!(matches!(renew(place.path()), Err(FolderError::Foreign(_))));
        assert!(matches!(renew(&thesis), Err(FolderError::Io { .. })));
        assert_eq!(fs::read_to_string(thesis).unwrap(), "years of work");
    }

    #[test]
    fn an_empty_folder_will_do() {
        let place = tempfile::tempdir().unwrap();
        assert!(renew(place.path()).unwrap().join(MARKER).is_file());
    }
}
