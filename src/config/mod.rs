//! The TOML file: `document` reads it, `schema` is what may be written,
//! `structure` compares the two, `validate` turns the file into the catalog and
//! settings. Every mistake is reported, with its place.

mod document;
mod files;
mod mistake;
mod reload;
mod schema;
mod source;
mod structure;
mod validate;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::SignedDuration;
use serde_json::Value;

use self::mistake::Mistake;
use self::source::Sources;
use crate::core::catalog::Catalog;
use crate::core::listing::Listing;
use crate::core::quota::Quotas;
use crate::core::retention::Retention;
use crate::core::secret::SecretRef;

pub use files::{
    FILE_BYTES_MAX, FILES_MAX, Found, Place, TaskFiles, Texts, decode, is_task_file, read_folder,
};
pub use mistake::{Finding, Findings, counted, suggestion};
pub use reload::{Reloaded, reload};
pub use schema::json_schema;
pub use source::Source;

/// A longer file is refused: it is something else given by accident.
const BYTES_MAX: u64 = 1024 * 1024;

/// A configuration that has passed every check.
#[derive(Debug)]
pub struct Config {
    pub catalog: Catalog,
    pub settings: Settings,
    /// What is allowed but likely not meant.
    pub warnings: Findings,
    /// The main file, for when task files change.
    pub main: Source,
}

/// How the service itself runs, apart from what it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// None leaves the region to the environment.
    pub region: Option<String>,
    /// Name or URL of the queue that S3 notifies.
    pub queue: String,
    /// Name or URL of the queue for messages that nobody can read.
    pub quarantine: String,
    pub topic_arn: String,
    pub table_prefix: String,
    /// How often the tables are searched for work that no event announced.
    pub sweep_interval: SignedDuration,
    /// How often S3 is listed for objects that nobody told of; None is never.
    pub listing: Option<Listing>,
    pub http: Http,
    /// How long a received message stays hidden from other receivers.
    pub visibility_timeout: SignedDuration,
    /// How many receive from the queue side by side.
    pub receivers: u32,
    /// What the account may ask of EMR, in real time.
    pub quotas: Quotas,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// How many notices may go to the topic in a second.
    pub notices_per_second: u32,
    /// For how long repeats of a notice are folded.
    pub fold_window: SignedDuration,
    pub task_files: Option<TaskFiles>,
    /// Where the scripts lie that clusters need.
    pub assets: Option<Assets>,
}

/// A place in S3 for the scripts that clusters need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    pub bucket: String,
    /// Ends in /.
    pub prefix: String,
}

impl Assets {
    /// The bootstrap action that ends a cluster whose lifetime is over.
    pub const DEADLINE: &str = "deadline.sh";

    pub fn uri(&self, name: &str) -> String {
        format!("s3://{}/{}{name}", self.bucket, self.prefix)
    }
}

/// Health and metrics over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub listen: Listen,
    /// The environment variable with what opens the metrics; None opens them to all.
    pub token: Option<SecretRef>,
}

/// Where the service listens for HTTP: `off`, or an address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    Off,
    At(SocketAddr),
}

impl Listen {
    /// Whether other machines reach it.
    pub fn is_public(self) -> bool {
        match self {
            Listen::Off => false,
            // IPv4 also comes written as IPv6.
            Listen::At(address) => !address.ip().to_canonical().is_loopback(),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text {
            "off" => Ok(Listen::Off),
            text => text.parse().map(Listen::At).map_err(|_| ListenError(text.to_owned())),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address to listen at: expected an IP address and a port such as 127.0.0.1:8080, or off"
)]
pub struct ListenError(String);

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] ReadError),
    #[error("{0}")]
    Invalid(Findings),
}

/// Why there is no text to check.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is longer than 1 MiB, the most that a configuration may have")]
    TooLong,
    #[error("line {line} is not UTF-8 (byte {byte} of the file): save the file as UTF-8")]
    NotUtf8 { line: usize, byte: usize },
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = read(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
    parse(&text, path).map_err(ConfigError::Invalid)
}

/// Like `load`, with the task files of a local folder as they are now: every
/// mistake of all files.
pub fn load_with_task_files(path: &Path) -> Result<Config, ConfigError> {
    let text = read(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
    let main = Source::new(path, text);
    match task_folder(&main) {
        Some(folder) => with_folder(&main, &folder),
        None => assemble(&main, &[]).map_err(ConfigError::Invalid),
    }
}

/// The same with the task files of another folder than the main file names.
pub fn load_with_folder(path: &Path, folder: &Path) -> Result<Config, ConfigError> {
    let text = read(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
    with_folder(&Source::new(path, text), folder)
}

fn with_folder(main: &Source, folder: &Path) -> Result<Config, ConfigError> {
    // The main file must stand by itself.
    let alone = assemble(main, &[]);
    let (mut sources, mut unreadable) = (Vec::new(), Vec::new());
    match read_folder(folder) {
        Ok(found) => {
            for (name, text) in found {
                let file = folder.join(name);
                match text {
                    Ok(text) => sources.push(Source::new(file, text)),
                    Err(reason) => unreadable.push(Findings::of_file(&file, reason)),
                }
            }
        }
        Err(error) if alone.is_ok() => {
            return Err(ConfigError::Read(folder.to_owned(), ReadError::Io(error)));
        }
        Err(error) => {
            let reason = format!("the task files cannot be read: {error}");
            unreadable.push(Findings::of_file(folder, reason));
        }
    }
    let together = assemble(main, &sources);
    match (alone, together) {
        (Ok(_), Ok(config)) if unreadable.is_empty() => Ok(config),
        (alone, together) => {
            let mut mistakes = Findings::default();
            let found = alone.err().into_iter().chain(together.err()).chain(unreadable);
            found.for_each(|found| mistakes.add(found));
            Err(ConfigError::Invalid(mistakes))
        }
    }
}

/// The folder of the task files, as seen from the main file; also where other
/// parts of that file have mistakes.
fn task_folder(main: &Source) -> Option<PathBuf> {
    let document = document::parse(&main.text).ok()?;
    let path = document.get_ref().get("task-files")?.get_ref().as_table()?.get("path")?;
    let path = path.get_ref().as_str().filter(|path| !path.is_empty())?;
    (!path.starts_with(files::S3)).then(|| beside(main, path))
}

/// A path as seen from the main file.
fn beside(main: &Source, path: impl AsRef<Path>) -> PathBuf {
    main.path.parent().unwrap_or(Path::new("")).join(path)
}

fn read(path: &Path) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    // One more than allowed, so that endless files end too.
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(ReadError::TooLong);
    }
    String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        let newlines = error.as_bytes()[..byte].iter().filter(|byte| **byte == b'\n').count();
        ReadError::NotUtf8 { line: newlines + 1, byte: byte + 1 }
    })
}

/// What may be written; task files are checked against it again and again.
static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// Checks a configuration text; `path` is for messages.
pub fn parse(text: &str, path: &Path) -> Result<Config, Findings> {
    assemble(&Source::new(path, text), &[])
}

/// Checks the main file and task files as one configuration.
pub fn assemble(main: &Source, files: &[Source]) -> Result<Config, Findings> {
    let sources = Sources::new(main, files);
    let mistakes = |mistakes| Findings::mistakes(&sources, mistakes);
    let Documents { mut document, mut found, hidden } = read_all(&sources).map_err(mistakes)?;
    found.extend(structure::check(&document, &SCHEMA));
    let set_aside = if found.is_empty() {
        Default::default()
    } else {
        match structure::set_aside(&mut document, &SCHEMA, hidden) {
            Some(names) => names,
            None => return Err(mistakes(found)),
        }
    };
    let checked = document::read(document)
        .map_err(|mistake| vec![mistake])
        .and_then(|file| validate::validate(&file));
    match checked {
        Ok((catalog, mut settings, warnings)) if found.is_empty() => {
            if let Some(TaskFiles { place: Place::Folder(folder), .. }) = &mut settings.task_files {
                // A folder is meant as seen from the main file.
                *folder = beside(main, &folder);
            }
            let warnings = Findings::warnings(&sources, warnings);
            Ok(Config { catalog, settings, warnings, main: main.clone() })
        }
        Ok(_) => Err(mistakes(found)),
        Err(more) => {
            // Who names a table that was not judged is not to blame.
            let blamed = |mistake: &Mistake| {
                mistake.unknown_name().is_none_or(|name| !set_aside.contains(name))
            };
            found.extend(more.into_iter().filter(blamed));
            Err(mistakes(found))
        }
    }
}

/// All files that can be read as one document.
struct Documents<'a> {
    document: document::Document<'a>,
    found: Vec<Mistake>,
    /// The words of files that are no TOML: all that they may declare.
    hidden: BTreeSet<String>,
}

/// Fails when the main file is no TOML: all else depends on it.
fn read_all<'a>(sources: &Sources<'a>) -> Result<Documents<'a>, Vec<Mistake>> {
    let (mut main, mut found, mut hidden) = (None, Vec::new(), BTreeSet::new());
    for (start, source) in sources.iter() {
        match (document::parse(&source.text), &mut main) {
            (Ok(document), None) if start == 0 => main = Some(document),
            (Ok(file), Some(main)) => found.extend(document::merge(main, file, start, sources)),
            // The main file is broken: that is said already.
            (Ok(_), None) => {}
            (Err(mistake), _) => {
                found.push(mistake.moved(start));
                hidden.extend(document::words(&source.text).map(str::to_owned));
            }
        }
    }
    match main {
        Some(document) => Ok(Documents { document, found, hidden }),
        None => Err(found),
    }
}

#[cfg(test)]
mod tests;
