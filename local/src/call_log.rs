//! Every call of a client as one JSON line, and counted, so that what the
//! daemon asks of AWS can be compared with what it should ask. Not for what
//! services do among themselves.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

/// How often each `(service, action)` was called.
pub type Counts = BTreeMap<(String, String), u64>;

/// One finished call.
#[derive(Debug, Serialize)]
pub struct Call<'a> {
    /// By the development clock.
    pub time: Timestamp,
    pub service: &'a str,
    pub action: &'a str,
    /// `ok`, or the error code the client saw.
    pub outcome: &'a str,
    pub millis: u64,
}

#[derive(Debug)]
struct Inner {
    counts: Counts,
    file: Option<File>,
}

/// Counts calls in memory and, given a file, appends them there.
#[derive(Debug)]
pub struct CallLog {
    inner: Mutex<Inner>,
}

impl CallLog {
    pub fn in_memory() -> Self {
        Self::with(None)
    }

    /// Appends to the file at `path`, which is created if need be.
    pub fn append_to(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::with(Some(file)))
    }

    fn with(file: Option<File>) -> Self {
        let counts = Counts::new();
        Self { inner: Mutex::new(Inner { counts, file }) }
    }

    pub fn record(&self, call: &Call<'_>) {
        let mut inner = self.lock();
        let key = (call.service.to_owned(), call.action.to_owned());
        *inner.counts.entry(key).or_default() += 1;
        let Some(file) = &mut inner.file else { return };
        let written = serde_json::to_vec(call).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            file.write_all(&bytes)
        });
        if let Err(error) = written {
            tracing::warn!(%error, "call not logged");
        }
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_one_line_a_call_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls.jsonl");
        let log = CallLog::append_to(&path).unwrap();
        for outcome in ["ok", "QueueDoesNotExist"] {
            log.record(&Call {
                time: "2013-01-01T05:00:00Z".parse().unwrap(),
                service: "sqs",
                action: "SendMessage",
                outcome,
                millis: 3,
            });
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(
            text.lines().next().unwrap(),
            r#"{"time":"2013-01-01T05:00:00Z","service":"sqs","action":"SendMessage","outcome":"ok","millis":3}"#
        );
        let key = ("sqs".to_owned(), "SendMessage".to_owned());
        assert_eq!(log.counts()[&key], 2);
    }
}
