//! The AWS services that sluicegate uses, in one process: for the demo,
//! everyday development and the tests. Not a general AWS emulator.

pub mod call_log;
pub mod chaos;
pub mod clock;
pub mod cloud;
pub mod demo;
pub mod dynamodb;
pub mod emr;
pub mod events;
mod ids;
mod mail;
pub mod pattern;
pub mod python;
pub mod redshift;
pub mod replay;
pub mod request_log;
mod route;
pub mod s3;
mod server;
pub mod sns;
pub mod sqs;
pub mod stage;
pub mod time;
pub mod usage;
pub mod wire;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::clock::Clock;
use self::cloud::{Cloud, Parts};
use self::emr::driver::Surroundings;
use self::redshift::Database;
use self::redshift::postgres::Programs;
use self::time::Time;

/// How to start the local AWS. The default suits a test: any free port, real
/// time, tables in memory.
#[derive(Debug, Clone)]
pub struct Options {
    /// 0 takes any free port.
    pub port: u16,
    /// Created if absent; none takes a folder that ends with the process.
    pub data: Option<PathBuf>,
    /// What the services show as the time of events and objects.
    pub clock: Clock,
    /// Keeps the tables in memory; objects are always files.
    pub in_memory: bool,
    /// Writes the body of every request into this file, secrets included.
    pub requests: Option<PathBuf>,
    pub emr: emr::Options,
    /// PostgreSQL for Redshift, started with the first statement; without it
    /// every call of Redshift's API is refused.
    pub postgres: Option<Programs>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            data: None,
            clock: Clock::real(),
            in_memory: true,
            requests: None,
            emr: emr::Options::default(),
            postgres: None,
        }
    }
}

/// A running local AWS on a loopback port. Ends when dropped, in order when
/// shut down.
pub struct LocalAws {
    cloud: Arc<Cloud>,
    endpoint: String,
    data: PathBuf,
    tasks: TaskTracker,
    shutdown: DropGuard,
    /// Removed when dropped.
    _temporary: Option<TempDir>,
}

impl LocalAws {
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, options.port);
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on 127.0.0.1:{}", options.port))?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (data, temporary) = match &options.data {
            Some(data) => (std::path::absolute(data)?, None),
            None => {
                let folder = tempfile::tempdir().context("cannot create a data folder")?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        let shutdown = CancellationToken::new();
        let time = Time::new(options.clock);
        let cloud = Arc::new(Cloud::new(Parts {
            data: data.clone(),
            requests: options.requests,
            in_memory: options.in_memory,
            endpoint: endpoint.clone(),
            // The low bits differ from start to start, which is all it takes.
            seed: time.real().as_nanosecond() as u64,
            time,
            emr: options.emr.clone(),
            redshift: options.postgres.map_or(Database::Absent, Database::Postgres),
            shutdown: shutdown.clone(),
        })?);
        let surroundings = Arc::new(Surroundings {
            host: emr::Host {
                clusters: data.join("emr"),
                buckets: cloud.s3().root().to_owned(),
                endpoint: endpoint.clone(),
                region: options.emr.region,
                clock: options.clock,
                environment: options.emr.environment,
            },
            s3: Arc::clone(cloud.s3()),
            events: Arc::clone(cloud.events()),
            log_delay: options.emr.log_delay,
        });
        let tasks = TaskTracker::new();
        let emr = Arc::clone(cloud.emr());
        tasks.spawn(emr::driver::run(emr, surroundings, shutdown.clone()));
        let served = Arc::clone(&cloud);
        let handle = move |request| {
            let cloud = Arc::clone(&served);
            async move { Ok(server::respond(&cloud, request).await) }
        };
        tasks.spawn(server::serve(listener, handle, shutdown.clone()));
        tasks.close();
        let shutdown = shutdown.drop_guard();
        Ok(Self { cloud, endpoint, data, tasks, shutdown, _temporary: temporary })
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn cloud(&self) -> &Arc<Cloud> {
        &self.cloud
    }

    /// The folder in which buckets, mails and logs lie.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Ends long polls, clusters and statements, lets other requests finish,
    /// closes the port.
    pub async fn shutdown(self) {
        drop(self.shutdown);
        self.tasks.wait().await;
        self.cloud.redshift().close().await;
    }
}
