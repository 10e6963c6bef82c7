//! PostgreSQL in Redshift's place: started with the first statement, one
//! database for each name, one connection for each request. Not for the API.

mod programs;
mod server;
mod session;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls};

pub use self::programs::{NoPrograms, Programs};
use self::server::{SUPERUSER, Server};
use self::session::PostgresSession;
use super::warehouse::{Session, SqlError, Warehouse};
use crate::s3::S3;

/// Whom statements run as: no administrator, so that they stay in the database.
const USER: &str = "awsuser";

/// Functions of Redshift that PostgreSQL has not, and the user. In the template
/// of all databases, so that each new one has them.
const PREPARE: &str = r"
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'awsuser') THEN
        CREATE ROLE awsuser LOGIN;
    END IF;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.getdate() RETURNS timestamp LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.date_trunc('second', pg_catalog.statement_timestamp())::timestamp $$;
CREATE OR REPLACE FUNCTION pg_catalog.len(text) RETURNS integer LANGUAGE sql IMMUTABLE
    AS $$ SELECT pg_catalog.length($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.nvl(anycompatible, anycompatible) RETURNS anycompatible
    LANGUAGE sql IMMUTABLE AS $$ SELECT coalesce($1, $2) $$;
";

/// The warehouse over PostgreSQL.
pub struct Postgres {
    programs: Programs,
    folder: PathBuf,
    s3: Arc<S3>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    server: Server,
    databases: BTreeSet<String>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Its files will lie in `folder`; COPY reads from `s3`.
    pub fn new(programs: Programs, folder: PathBuf, s3: Arc<S3>) -> Self {
        Self { programs, folder, s3, running: Mutex::new(None) }
    }

    /// The folder of the socket, with the server started and the database made.
    async fn socket(&self, database: &str) -> Result<PathBuf, SqlError> {
        let mut slot = self.running.lock().await;
        if let Some(old) = slot.take_if(|running| !running.server.is_running()) {
            tracing::warn!("PostgreSQL has ended by itself and is started again");
            old.server.stop().await;
        }
        let running = match &mut *slot {
            Some(running) => running,
            none => none.insert(self.start().await?),
        };
        let socket = running.server.socket().to_owned();
        if !running.databases.contains(database) {
            create_database(&socket, database).await?;
            running.databases.insert(database.to_owned());
        }
        Ok(socket)
    }

    async fn start(&self) -> Result<Running, SqlError> {
        let server = Server::start(&self.programs, &self.folder).await.map_err(|error| {
            SqlError::failed(format!("the local Redshift has no PostgreSQL: {error}"))
        })?;
        let socket = server.socket();
        let (client, connection) = connect(socket, SUPERUSER, "template1").await?;
        client.batch_execute(PREPARE).await.map_err(|error| session::failed(&error))?;
        // Nobody may be in the template when a database is made from it.
        drop(client);
        connection.await.map_err(|error| SqlError::failed(error.to_string()))?;
        self.write_prompt(socket);
        Ok(Running { server, databases: BTreeSet::new() })
    }

    /// A command that opens a prompt, for a person.
    fn write_prompt(&self, socket: &Path) {
        let psql = self.programs.program("psql");
        let script = format!(
            "#!/bin/sh\n# A prompt on the local Redshift: the name of the database comes first.\n\
             database=\"${{1:-dev}}\"\n[ $# -eq 0 ] || shift\n\
             exec '{}' -h '{}' -U {USER} -d \"$database\" \"$@\"\n",
            psql.display(),
            socket.display()
        );
        let path = self.folder.join("psql");
        let written = std::fs::write(&path, script).and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        });
        match written {
            Ok(()) => tracing::info!("the tables of Redshift: {} DATABASE", path.display()),
            Err(error) => tracing::warn!(%error, "{} not written", path.display()),
        }
    }
}

#[async_trait]
impl Warehouse for Postgres {
    async fn connect(&self, database: &str) -> Result<Box<dyn Session>, SqlError> {
        let socket = self.socket(database).await?;
        let (client, _) = connect(&socket, USER, database).await?;
        Ok(Box::new(PostgresSession::new(client, Arc::clone(&self.s3))))
    }

    async fn close(&self) {
        if let Some(running) = self.running.lock().await.take() {
            running.server.stop().await;
        }
    }
}

/// Makes a database of this name if there is none.
async fn create_database(socket: &Path, name: &str) -> Result<(), SqlError> {
    let (client, _) = connect(socket, SUPERUSER, "postgres").await?;
    let known = client
        .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name])
        .await
        .map_err(|error| session::failed(&error))?;
    if known.is_some() {
        return Ok(());
    }
    let quoted = name.replace('"', "\"\"");
    let create = format!("CREATE DATABASE \"{quoted}\" OWNER {USER}");
    client.batch_execute(&create).await.map_err(|error| session::failed(&error))
}

/// The task ends with the client.
type Connection = tokio::task::JoinHandle<()>;

async fn connect(
    socket: &Path,
    user: &str,
    database: &str,
) -> Result<(Client, Connection), SqlError> {
    let mut config = Config::new();
    config.host_path(socket).user(user).dbname(database).application_name("sluicegate-local");
    let connected = config.connect(NoTls).await.map_err(|error| session::failed(&error));
    let (client, connection) = connected?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to PostgreSQL ended");
        }
    });
    Ok((client, task))
}
