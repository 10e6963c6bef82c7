//! Finds PostgreSQL's programs: in a folder that is given, in the Python
//! environment, on the machine. Not for running them.

use std::path::{Path, PathBuf};

use crate::python::Environment;

/// Where Debian and Ubuntu put each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder of `initdb`, `postgres` and `psql`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs(PathBuf);

/// A folder that was given has no PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} has no programs initdb and postgres: give the folder that `pg_config --bindir` prints, or \
     leave it out to use the PostgreSQL of the Python environment"
)]
pub struct NoPrograms(PathBuf);

impl Programs {
    /// Those in a folder, or in `bin` below it.
    pub fn at(folder: &Path) -> Result<Self, NoPrograms> {
        let candidates = [folder.to_owned(), folder.join("bin")];
        candidates
            .iter()
            .find_map(|folder| Self::complete(folder))
            .ok_or_else(|| NoPrograms(folder.to_owned()))
    }

    /// Those of the Python environment, else the machine's own.
    pub fn find(environment: Option<&Environment>) -> Option<Self> {
        let of_environment = environment.and_then(|e| Self::complete(&e.postgres_bin()?));
        of_environment.or_else(Self::of_machine)
    }

    fn of_machine() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let in_path = std::env::split_paths(&path).find_map(|folder| Self::complete(&folder));
        in_path.or_else(|| {
            let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
            let mut versions: Vec<(u32, PathBuf)> = versions
                .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
                .collect();
            versions.sort();
            versions.iter().rev().find_map(|(_, folder)| Self::complete(&folder.join("bin")))
        })
    }

    fn complete(folder: &Path) -> Option<Self> {
        let has = |name| folder.join(name).is_file();
        (folder.is_absolute() && has("initdb") && has("postgres")).then(|| Self(folder.to_owned()))
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_them_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = Programs::at(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains("pg_config --bindir"), "{refusal}");
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        for name in ["initdb", "postgres"] {
            std::fs::write(folder.path().join("bin").join(name), "").unwrap();
        }
        let found = Programs::at(folder.path()).unwrap();
        assert_eq!(found.program("psql"), folder.path().join("bin/psql"));
    }
}
