//! Reads what a COPY names out of the local S3: a manifest or the keys of a
//! prefix, then one Parquet file after the other as rows for PostgreSQL. Not for
//! the table that they go to.

mod cell;
mod files;
mod rows;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use self::cell::Target;
use super::sql::Copy;
use super::warehouse::SqlError;
use crate::s3::S3;

/// Chunks of rows that may wait for the database.
const AHEAD: usize = 4;

/// The rows of all files, read ahead in a thread of their own.
pub struct Load {
    chunks: mpsc::Receiver<Bytes>,
    reader: JoinHandle<Result<(), SqlError>>,
}

impl Load {
    pub fn start(s3: Arc<S3>, copy: Copy, targets: Vec<Target>) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        let read = move || send(&s3, &copy, &targets, &sender);
        Self { chunks, reader: tokio::task::spawn_blocking(read) }
    }

    /// The next rows in PostgreSQL's text format; nothing once all were read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SqlError> {
        if let Some(chunk) = self.chunks.recv().await {
            return Ok(Some(chunk));
        }
        // Only this tells the end of the last file from a reader that gave up.
        match (&mut self.reader).await {
            Ok(read) => read.map(|()| None),
            Err(error) => Err(scan_error(15001, &format!("a file could not be read: {error}"))),
        }
    }
}

fn send(
    s3: &S3,
    copy: &Copy,
    targets: &[Target],
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), SqlError> {
    for file in files::find(s3, copy)? {
        let Some(content) = file.read(s3)? else { continue };
        let mut rows = rows::Rows::open(content, &file.url(), copy, targets)?;
        while let Some(chunk) = rows.next_chunk()? {
            if sender.blocking_send(chunk).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// An error of the layer that reads files for Redshift, in its words.
fn scan_error(code: u32, context: &str) -> SqlError {
    SqlError::failed(format!(
        "Spectrum Scan Error\n  Detail: \n  -----------------------------------------------\n  \
         error:  Spectrum Scan Error\n  code:      {code}\n  context:   {context}\n  \
         -----------------------------------------------"
    ))
}
