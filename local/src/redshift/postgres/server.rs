//! One PostgreSQL server as a process: its files, its socket, its start and its
//! end, which comes with the end of this program however that ends. Not for SQL.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::programs::Programs;
use crate::clock::pause;

/// The database's own administrator; only this module uses it.
pub const SUPERUSER: &str = "postgres";

/// For the first answer after the start.
const START: Duration = Duration::from_secs(30);
const START_PAUSE: Duration = Duration::from_millis(20);
/// For the end in order.
const STOP: Duration = Duration::from_secs(10);

/// `nobody` on Linux: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// Runs PostgreSQL until the owner closes the pipe, which its death does too,
/// then removes the socket's folder.
const WATCH: &str = r#"
exec 3<&0
folder=$1; shift
"$@" </dev/null 3<&- &
server=$!
( while read -r _; do :; done; kill -INT "$server" 2>/dev/null ) <&3 >/dev/null 2>&1 &
watcher=$!
wait "$server"
code=$?
kill "$watcher" 2>/dev/null
rm -rf "$folder"
exit "$code"
"#;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot run {program}: {source}{}", hint(.program))]
    Run { program: String, source: io::Error },
    #[error("{program} failed: {output}")]
    Failed { program: &'static str, output: String },
    #[error(
        "the tables in {folder} are of another version of PostgreSQL: use that one, with --postgres \
         DIR, or remove the folder and begin anew\n{output}"
    )]
    Version { folder: PathBuf, output: String },
    #[error("PostgreSQL did not answer within {} s; its log is {log}", START.as_secs())]
    Silent { log: PathBuf },
}

fn hint(program: &str) -> &'static str {
    if program == "setpriv" {
        "; PostgreSQL refuses to run as root, and only util-linux's setpriv can make it another \
         user: install util-linux, or run the local AWS as another user"
    } else {
        ""
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    watch: Child,
    socket: TempDir,
}

impl Server {
    /// Starts it on the files in `folder`, which are made if there are none.
    pub async fn start(programs: &Programs, folder: &Path) -> Result<Self, ServerError> {
        fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
        let data = folder.join("data");
        if !data.join("PG_VERSION").exists() {
            create(programs, &data).await?;
        }
        give_away(&data)?;
        let log = folder.join("log");
        let until = tokio::time::Instant::now() + START;
        loop {
            let mut server = Self::spawn(programs, &data, &log)?;
            let ended = server.wait_for_socket(until, &log).await?;
            if !ended {
                return Ok(server);
            }
            let said = fs::read_to_string(&log).unwrap_or_default();
            // One whose owner was killed may just be ending.
            if said.contains("incompatible with server") {
                let output = last_lines(&said);
                return Err(ServerError::Version { folder: folder.to_owned(), output });
            }
            if !said.contains("postmaster.pid") || tokio::time::Instant::now() > until {
                let output = last_lines(&said);
                return Err(ServerError::Failed { program: "postgres", output });
            }
            pause(START_PAUSE).await;
        }
    }

    fn spawn(programs: &Programs, data: &Path, log: &Path) -> Result<Self, ServerError> {
        let private = Permissions::from_mode(0o700);
        let place = socket_place();
        let socket =
            tempfile::Builder::new().prefix("sluicegate-").permissions(private).tempdir_in(&place);
        let socket = socket.map_err(|source| io_error(&place, source))?;
        give_away(socket.path())?;
        let output = File::create(log).map_err(|source| io_error(log, source))?;
        let mut server = as_somebody(programs.program("postgres"));
        server.extend(["-D".into(), data.into()]);
        let mut directories = OsString::from("unix_socket_directories=");
        directories.push(socket.path());
        for setting in [
            "listen_addresses=".into(),
            directories,
            "unix_socket_permissions=0700".into(),
            // A power failure may cost the tables of a laptop.
            "fsync=off".into(),
            "timezone=UTC".into(),
        ] {
            server.extend(["-c".into(), setting]);
        }
        let watch = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(socket.path())
            .args(server)
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(|source| ServerError::Run { program: "sh".to_owned(), source })?;
        Ok(Self { watch, socket })
    }

    /// Whether it ended instead.
    async fn wait_for_socket(
        &mut self,
        until: tokio::time::Instant,
        log: &Path,
    ) -> Result<bool, ServerError> {
        while tokio::time::Instant::now() < until {
            if !self.is_running() {
                return Ok(true);
            }
            let said = fs::read_to_string(log).unwrap_or_default();
            if said.contains("ready to accept connections") {
                return Ok(false);
            }
            pause(START_PAUSE).await;
        }
        Err(ServerError::Silent { log: log.to_owned() })
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.watch.try_wait(), Ok(None))
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Ends it in order.
    pub async fn stop(mut self) {
        drop(self.watch.stdin.take());
        if tokio::time::timeout(STOP, self.watch.wait()).await.is_err() {
            tracing::warn!("PostgreSQL has not ended within {} s", STOP.as_secs());
        }
    }
}

/// Makes the files of a new server, all or nothing.
async fn create(programs: &Programs, data: &Path) -> Result<(), ServerError> {
    let new = data.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).map_err(|source| io_error(&new, source))?;
    }
    fs::create_dir(&new).map_err(|source| io_error(&new, source))?;
    let private = Permissions::from_mode(0o700);
    fs::set_permissions(&new, private).map_err(|source| io_error(&new, source))?;
    give_away(&new)?;
    let initdb = as_somebody(programs.program("initdb"));
    let mut words = initdb.iter();
    let Some(program) = words.next() else { return Ok(()) };
    let output = Command::new(program)
        .args(words)
        .args(["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8"])
        .args(["--locale", "C", "--no-sync", "--pgdata"])
        .arg(&new)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| run_error(program, source))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let output = last_lines(&String::from_utf8_lossy(&said));
        return Err(ServerError::Failed { program: "initdb", output });
    }
    fs::rename(&new, data).map_err(|source| io_error(data, source))
}

/// Where the socket's folder is made: among temporary files, but a socket's path
/// is at most some hundred bytes long.
fn socket_place() -> PathBuf {
    const LENGTH_MAX: usize = 70;
    let place = std::env::temp_dir();
    if place.as_os_str().len() <= LENGTH_MAX { place } else { PathBuf::from("/tmp") }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The words that run a program. For root as `nobody`, who may yet enter every
/// folder, as the data of root may lie in one that is closed to others.
fn as_somebody(program: PathBuf) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    if is_root() {
        words.extend(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(OsString::from),
        );
        words.extend(
            ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"].map(OsString::from),
        );
    }
    words.push(program.into());
    words
}

/// Gives a folder to whom PostgreSQL runs as.
fn give_away(folder: &Path) -> Result<(), ServerError> {
    if !is_root() {
        return Ok(());
    }
    chown(folder, Some(NOBODY), Some(NOBODY)).map_err(|source| io_error(folder, source))
}

fn last_lines(said: &str) -> String {
    const LINES: usize = 8;
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn io_error(path: &Path, source: io::Error) -> ServerError {
    ServerError::Io { path: path.to_owned(), source }
}

fn run_error(program: &std::ffi::OsStr, source: io::Error) -> ServerError {
    ServerError::Run { program: program.to_string_lossy().into_owned(), source }
}
