//! The AWS services that sluicegate uses, in one process: for the demo,
//! everyday development and the tests. Not a general AWS emulator.

pub mod call_log;
pub mod clock;
pub mod cloud;
pub mod dynamodb;
pub mod emr;
pub mod events;
mod ids;
mod mail;
mod pattern;
pub mod python;
pub mod replay;
mod route;
pub mod s3;
mod server;
pub mod sns;
pub mod sqs;
pub mod time;
pub mod wire;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::clock::Clock;
use self::cloud::{Cloud, Parts};
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            data: None,
            clock: Clock::real(),
            in_memory: true,
        }
    }
}

/// A running local AWS on a loopback port.
pub struct LocalAws {
    cloud: Arc<Cloud>,
    endpoint: String,
    data: PathBuf,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
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
        let seed = jiff::Timestamp::now().as_nanosecond();
        let (data, temporary) = match &options.data {
            Some(data) => (std::path::absolute(data)?, None),
            None => {
                let folder = tempfile::tempdir().context("cannot create a data folder")?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        let shutdown = CancellationToken::new();
        let cloud = Arc::new(Cloud::new(Parts {
            data: data.clone(),
            in_memory: options.in_memory,
            time: Time::new(options.clock),
            endpoint: endpoint.clone(),
            // The low bits differ from start to start, which is all it takes.
            seed: seed as u64,
            shutdown: shutdown.clone(),
        })?);
        let server = server::serve(listener, Arc::clone(&cloud), shutdown.clone());
        let server = tokio::spawn(server);
        Ok(Self {
            cloud,
            endpoint,
            data,
            shutdown,
            server,
            _temporary: temporary,
        })
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

    /// Ends long polls, lets other requests finish, closes the port.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the server did not end in order");
        }
    }
}
