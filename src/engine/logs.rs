//! The end of a failed step's log, read from S3 when EMR has written it there.
//! Turns of their own, so that a slow or closed bucket delays no run: what was
//! read waits in memory until its run's turn takes it. The run remembers what
//! is wanted (see `core::run::logs`), so that a restart just reads again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Engine, Key};
use crate::aws::error::{AwsError, Kind};
use crate::aws::s3::{LogEnd, split_uri};
use crate::aws::store::StoreError;
use crate::core::run::{LogFile, LogSeen, LogWanted, Run};

/// How often a log is looked for.
const LOOK_INTERVAL: SignedDuration = SignedDuration::from_mins(1);
/// When others are reading already.
const BUSY_RETRY: SignedDuration = SignedDuration::from_secs(5);
/// Turns that read at the same time; the rest of the turns are for work.
pub(super) const READERS_MAX: usize = 4;
/// One look at one log, all calls included.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// EMR writes four files of a step, and parts of long ones.
const FILES_MAX: usize = 50;

/// What has been read for runs: run → try → log.
pub(super) type LogsRead = BTreeMap<String, BTreeMap<String, LogSeen>>;

impl Engine {
    /// Looks once for each log that a run wants.
    pub(super) async fn turn_logs(&self, id: &str) -> Result<Option<Timestamp>, StoreError> {
        let Ok(_reader) = self.log_readers.try_acquire() else {
            return Ok(Some(super::after(self.clock.now(), BUSY_RETRY)));
        };
        let Some(run) = self.store.run(id).await? else { return Ok(None) };
        let mut still_wanted = false;
        for log in &run.logs {
            if self.is_read(id, &log.try_name) {
                continue;
            }
            match self.look_for_log(&run, log).await {
                Some(seen) => {
                    let mut memory = self.memory();
                    let logs = memory.logs.entry(id.to_owned()).or_default();
                    logs.insert(log.try_name.clone(), seen);
                    drop(memory);
                    self.agenda.wake(Key::Run(id.to_owned()), self.clock.now());
                }
                None => still_wanted = true,
            }
        }
        Ok(still_wanted.then(|| super::after(self.clock.now(), LOOK_INTERVAL)))
    }

    fn is_read(&self, run: &str, try_name: &str) -> bool {
        let memory = self.memory();
        memory.logs.get(run).is_some_and(|logs| logs.contains_key(try_name))
    }

    /// One look; None if it is to be looked for again.
    async fn look_for_log(&self, run: &Run, log: &LogWanted) -> Option<LogSeen> {
        let now = self.clock.now();
        let read = tokio::time::timeout(LOOK_TIMEOUT, self.read_log(log, now)).await;
        let read = read.unwrap_or_else(|_| Err(failure("no answer in time")));
        let reason = match read {
            Ok(LogSeen::Nothing) => "it is not there, or empty".to_owned(),
            Ok(seen) => return Some(seen),
            Err(error) => error.to_string(),
        };
        let (run, folder) = (&run.id, &log.folder);
        if log.is_last_look(now) {
            tracing::warn!(%run, step = log.try_name, %folder, reason, "no log of the failed step to be had");
            return Some(LogSeen::Nothing);
        }
        tracing::debug!(%run, step = log.try_name, %folder, reason, "no log of the failed step yet");
        None
    }

    async fn read_log(&self, log: &LogWanted, now: Timestamp) -> Result<LogSeen, AwsError> {
        let (bucket, prefix) = split_uri(&log.folder).ok_or_else(|| failure("no place in S3"))?;
        let listed = self.s3.list(bucket, prefix, FILES_MAX).await?;
        let files: Vec<_> = listed
            .into_iter()
            .filter_map(|object| {
                let name = object.key.strip_prefix(prefix)?.to_owned();
                Some(LogFile { name, written: object.modified })
            })
            .collect();
        for file in log.readable(&files, now) {
            let name = file.name.clone();
            match self.s3.log_end(bucket, &format!("{prefix}{name}")).await? {
                LogEnd::Text(text) if text.trim().is_empty() => {}
                LogEnd::Text(text) => return Ok(LogSeen::Tail { file: name, text }),
                LogEnd::TooLarge => return Ok(LogSeen::TooLarge { file: name }),
                LogEnd::Missing => {}
            }
        }
        Ok(LogSeen::Nothing)
    }

    /// Gives a run what has been read for it, to be told. What it cannot take
    /// yet waits here.
    pub(super) async fn take_logs(&self, run: &mut Run) -> Result<(), StoreError> {
        let Some(mut logs) = self.memory().logs.remove(&run.id) else { return Ok(()) };
        let wanted = run.logs.len();
        logs.retain(|try_name, seen| !run.take_log(try_name, seen, self.clock.now()));
        if !logs.is_empty() {
            self.memory().logs.entry(run.id.clone()).or_default().extend(logs);
        }
        match run.logs.len() == wanted {
            // Told before.
            true => Ok(()),
            false => self.store.commit_run(run, &[]).await,
        }
    }

    /// Whether something has been read for the run that it has not taken.
    pub(super) fn has_logs(&self, run: &Run) -> bool {
        self.memory().logs.contains_key(&run.id)
    }

    /// Has the run's logs looked for, if it wants any.
    pub(super) fn look_for_logs(&self, run: &Run) {
        if !run.logs.is_empty() {
            self.agenda.wake_if_new(Key::Logs(run.id.clone()), self.clock.now());
        }
    }
}

fn failure(message: &str) -> AwsError {
    let message = message.to_owned();
    AwsError { service: "S3", action: "GetObject", kind: Kind::Unknown, message }
}
