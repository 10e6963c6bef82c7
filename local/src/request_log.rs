//! The body of every request as one JSON line, so that what clients send can be
//! held against the service models and against the rights of a role. Objects are
//! left out. Not for counting: see `call_log`. The bodies are written as they
//! came, secrets included.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    service: &'a str,
    action: &'a str,
    /// `ok`, or the error code the client saw.
    outcome: &'a str,
    /// JSON, or a form for the services of the Query protocol.
    body: &'a str,
}

#[derive(Debug)]
pub struct RequestLog {
    file: Mutex<File>,
}

impl RequestLog {
    /// Writes a new file; an older one is replaced.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self { file: Mutex::new(File::create(path)?) })
    }

    pub fn record(&self, service: &str, action: &str, outcome: &str, body: &[u8]) {
        let body = String::from_utf8_lossy(body);
        let line = Line { service, action, outcome, body: &body };
        let written = serde_json::to_vec(&line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)
        });
        if let Err(error) = written {
            tracing::warn!(%error, "request not logged");
        }
    }
}
