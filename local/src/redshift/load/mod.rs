//! Reads what a COPY names out of the local S3: a manifest or the keys of a
//! prefix, then one Parquet file after the other as rows for PostgreSQL. Not for
//! the table that they go to.

mod cell;
mod files;
mod rows;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::cell::Target;
use super::sql::Copy;
use super::warehouse::SqlError;
use crate::s3::S3;

/// Chunks of rows that may wait for the database.
const AHEAD: usize = 4;

/// The rows of all files, in chunks of PostgreSQL's text format. After an error
/// nothing follows.
pub fn rows(
    s3: Arc<S3>,
    copy: Copy,
    targets: Vec<Target>,
) -> mpsc::Receiver<Result<Bytes, SqlError>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send(&s3, &copy, &targets, &sender) {
            // Fails only if nobody waits any more.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn send(
    s3: &S3,
    copy: &Copy,
    targets: &[Target],
    sender: &mpsc::Sender<Result<Bytes, SqlError>>,
) -> Result<(), SqlError> {
    for file in files::find(s3, copy)? {
        let Some(content) = file.read(s3)? else { continue };
        let mut rows = rows::Rows::open(content, &file.url(), copy, targets)?;
        while let Some(chunk) = rows.next_chunk()? {
            if sender.blocking_send(Ok(chunk)).is_err() {
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
