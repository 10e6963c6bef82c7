//! Reads the task files again and again, from a folder or an S3 prefix, and
//! puts what has changed in force. What has mistakes stays as it was last good,
//! also over a restart, and people are told. Not for the main configuration,
//! which is read once.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::aws::AwsError;
use crate::aws::error;
use crate::aws::s3::S3;
use crate::aws::store::{Store, StoreError};
use crate::config::{
    self, FILE_BYTES_MAX, FILES_MAX, Findings, Found, Place, Reloaded, Source, Texts, decode,
    is_task_file, read_folder, reload,
};
use crate::core::notice::{Fact, Kind, Notice, Severity};
use crate::engine::Engine;

/// Problems in an alert; the log has them all.
const PROBLEMS_MAX: usize = 10;

pub struct TaskFiles {
    place: Place,
    interval: SignedDuration,
    main: Source,
    store: Store,
    s3: S3,
    state: State,
}

/// What the last look showed.
#[derive(Default)]
struct State {
    in_force: Texts,
    found: Found,
    problems: Problems,
    /// The problems that people know of.
    told: Problems,
}

/// What is wrong with the task files.
#[derive(Debug, Clone, Default)]
enum Problems {
    #[default]
    None,
    Mistakes(Vec<String>),
    /// They cannot be read; S3's words may differ each time.
    Unreadable {
        cause: Cause,
        text: String,
    },
}

impl Problems {
    fn new(mistakes: Vec<String>) -> Self {
        if mistakes.is_empty() { Self::None } else { Self::Mistakes(mistakes) }
    }

    fn texts(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::Mistakes(texts) => texts,
            Self::Unreadable { text, .. } => std::slice::from_ref(text),
        }
    }

    /// Whether somebody who knows the one knows the other.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unreadable { cause, .. }, Self::Unreadable { cause: known, .. }) => {
                cause == known
            }
            (one, other) => one.texts() == other.texts(),
        }
    }
}

impl From<TaskFilesError> for Problems {
    fn from(error: TaskFilesError) -> Self {
        let text = error.to_string();
        match error {
            TaskFilesError::Read { cause, .. } => Self::Unreadable { cause, text },
            TaskFilesError::Store(_) | TaskFilesError::Main(_) => Self::Mistakes(vec![text]),
        }
    }
}

/// Why task files cannot be read, as far as people have to act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No answer, or one that may be another the next time.
    Unreachable,
    /// S3 says no, or there is no such place.
    Refused,
    Folder(ErrorKind),
    NoFiles,
    TooManyFiles,
}

impl From<error::Kind> for Cause {
    fn from(kind: error::Kind) -> Self {
        match kind {
            error::Kind::Deferred | error::Kind::Unknown => Self::Unreachable,
            error::Kind::Refused | error::Kind::NotFound => Self::Refused,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TaskFilesError {
    #[error("the task files in {place} cannot be read: {reason}")]
    Read { place: String, cause: Cause, reason: String },
    #[error("the task files in force cannot be read from the table")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Main(Findings),
}

impl TaskFiles {
    pub fn new(settings: config::TaskFiles, main: Source, store: Store, s3: S3) -> Self {
        let config::TaskFiles { place, interval } = settings;
        Self { place, interval, main, store, s3, state: State::default() }
    }

    /// The first look: fails only when there is nothing to go on with.
    pub async fn start(&mut self, engine: &Engine) -> Result<(), TaskFilesError> {
        let kept = self.store.task_files().await?;
        self.state.in_force = kept.texts;
        let found = match self.read().await {
            Ok(found) => found,
            // Without all of them, what arrives for the others would be lost.
            Err(error) if !kept.complete => return Err(error),
            Err(error) => {
                tracing::error!(%error, "goes on with the task files of the last time");
                let texts = self.state.in_force.iter();
                texts.map(|(name, text)| (name.clone(), Ok(text.clone()))).collect()
            }
        };
        let reloaded = reload(&self.main, &self.place, &self.state.in_force, &found);
        let reloaded = reloaded.map_err(TaskFilesError::Main)?;
        self.take(reloaded, found, engine).await?;
        if !kept.complete {
            self.store.task_files_are_complete().await?;
        }
        self.tell(engine).await;
        Ok(())
    }

    /// Looks until told to stop.
    pub async fn run(mut self, engine: Arc<Engine>, shutdown: CancellationToken) {
        let clock = engine.clock();
        loop {
            let next = clock.now().saturating_add(self.interval).unwrap_or(Timestamp::MAX);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = clock.sleep_until(next) => {}
            }
            self.look(&engine).await;
        }
    }

    async fn look(&mut self, engine: &Engine) {
        match self.read().await {
            Ok(found) if found == self.state.found => {}
            Ok(found) => match reload(&self.main, &self.place, &self.state.in_force, &found) {
                Ok(reloaded) => {
                    if let Err(error) = self.take(reloaded, found, engine).await {
                        tracing::warn!(%error, "task files not kept, will be tried again");
                    }
                }
                Err(findings) => {
                    let mistakes = findings.list().iter().map(ToString::to_string);
                    self.state.problems = Problems::new(mistakes.collect());
                }
            },
            Err(error) => {
                self.state.problems = error.into();
                // When it can be read again its own problems count again.
                self.state.found = Found::new();
            }
        }
        self.tell(engine).await;
    }

    async fn take(
        &mut self,
        reloaded: Reloaded,
        found: Found,
        engine: &Engine,
    ) -> Result<(), StoreError> {
        let Reloaded { config, in_force, problems } = reloaded;
        // Kept before it is in force: a restart must not fall behind.
        self.keep(&in_force).await?;
        let tasks = config.catalog.tasks.len();
        tracing::info!(files = in_force.len(), tasks, problems = problems.len(), "task files");
        engine.replace_catalog(config.catalog);
        self.state.in_force = in_force;
        self.state.problems = Problems::new(problems);
        self.state.found = found;
        Ok(())
    }

    /// Tells people once what is wrong, and once that it is mended.
    async fn tell(&mut self, engine: &Engine) {
        let State { problems, told, .. } = &self.state;
        if problems.is_same(told) {
            return;
        }
        for problem in problems.texts() {
            tracing::error!(problem, "task files");
        }
        let notice = notice(&self.place, problems.texts(), engine.clock().now());
        if engine.announce(&notice).await {
            self.state.told.clone_from(&self.state.problems);
        }
    }

    async fn keep(&self, in_force: &Texts) -> Result<(), StoreError> {
        for (name, text) in in_force {
            if self.state.in_force.get(name) != Some(text) {
                self.store.keep_task_file(name, Some(text)).await?;
            }
        }
        for name in self.state.in_force.keys().filter(|name| !in_force.contains_key(*name)) {
            self.store.keep_task_file(name, None).await?;
        }
        Ok(())
    }

    async fn read(&self) -> Result<Found, TaskFilesError> {
        let found = match &self.place {
            Place::Folder(folder) => {
                let error = |error: io::Error| {
                    self.read_error(Cause::Folder(error.kind()), error.to_string())
                };
                read_folder(folder).map_err(error)?
            }
            Place::Prefix { bucket, prefix } => self.read_prefix(bucket, prefix).await?,
        };
        match found.len() {
            // A share that is not mounted, a copy under way: taking all tasks
            // out of force would lose what arrives meanwhile.
            0 if !self.state.in_force.is_empty() => Err(self.read_error(
                Cause::NoFiles,
                "no file is there any more; to take the last task out, leave an empty file"
                    .to_owned(),
            )),
            0..=FILES_MAX => Ok(found),
            _ => {
                let reason = format!("there are more than {FILES_MAX} files");
                Err(self.read_error(Cause::TooManyFiles, reason))
            }
        }
    }

    async fn read_prefix(&self, bucket: &str, prefix: &str) -> Result<Found, TaskFilesError> {
        let error = |error: AwsError| self.read_error(error.kind.into(), error.to_string());
        let mut found = Found::new();
        for object in self.s3.list(bucket, prefix, FILES_MAX + 1).await.map_err(error)? {
            let Some(name) = object.key.strip_prefix(prefix).filter(|name| is_task_file(name))
            else {
                continue;
            };
            // One byte more than allowed shows that it is too long.
            let bytes = self.s3.tail(bucket, &object.key, FILE_BYTES_MAX + 1).await;
            // None has been removed since it was listed.
            if let Some(bytes) = bytes.map_err(error)? {
                found.insert(name.to_owned(), decode(bytes));
            }
        }
        Ok(found)
    }

    fn read_error(&self, cause: Cause, reason: String) -> TaskFilesError {
        TaskFilesError::Read { place: self.place.to_string(), cause, reason }
    }
}

fn notice(place: &Place, problems: &[String], now: Timestamp) -> Notice {
    let place = Fact::new("place", place.to_string());
    let Some(first) = problems.first() else {
        let headline = "the task files are good again";
        return told("task-files-mended", Severity::Info, headline, now)
            .saying("The task files are good again, and in force as they stand")
            .with([place]);
    };
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    told("task-files-broken", Severity::Failure, "a task file has mistakes", now)
        .detailed(first.lines().next().unwrap_or_default())
        .saying("A task file has mistakes: what was last good stays in force")
        .with([place])
        .with(problems.iter().take(PROBLEMS_MAX).map(|problem| Fact::new("mistake", problem)))
        .with((more > 0).then(|| Fact::new("more", format!("{more} more"))))
        .with([Fact::new("next", "correct the file: it is read again by itself")])
}

fn told(status: &str, severity: Severity, headline: &str, now: Timestamp) -> Notice {
    let id = format!("task-files/{status}/{}", now.as_second());
    Notice::new(Kind::Service, id, now, severity, status, headline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_with_their_place_and_that_they_are_mended() {
        let place = Place::Prefix { bucket: "config".into(), prefix: "tasks/".into() };
        let problems = ["etl.toml:3:11: there is no profile \"etl\"\n    did you mean \"spark\"?"];
        let now = "2013-01-01T06:10:00Z".parse().unwrap();
        for (name, problems) in
            [("task-files-broken", &problems.map(str::to_owned)[..]), ("task-files-mended", &[])]
        {
            insta::assert_snapshot!(name, notice(&place, problems, now).message("prod").as_text());
        }
    }

    #[test]
    fn only_a_problem_of_another_kind_is_news() {
        let unreadable = |kind: error::Kind, message: &str| {
            let error =
                AwsError { service: "S3", action: "ListObjectsV2", kind, message: message.into() };
            let (place, reason) = ("s3://config/tasks/".to_owned(), error.to_string());
            Problems::from(TaskFilesError::Read { place, cause: error.kind.into(), reason })
        };
        let mistakes =
            |texts: &[&str]| Problems::new(texts.iter().map(|text| (*text).to_owned()).collect());
        use error::Kind::{Deferred, Refused, Unknown};
        let outage = unreadable(Unknown, "InternalError: We encountered an error, request 4D9F");
        for (other, same) in [
            (unreadable(Unknown, "InternalError: We encountered an error, request 8A01"), true),
            (unreadable(Deferred, "SlowDown: Please reduce your request rate."), true),
            (unreadable(Refused, "AccessDenied: Access Denied"), false),
            (mistakes(&["etl.toml:3:11: there is no profile \"etl\""]), false),
            (mistakes(&[]), false),
        ] {
            assert_eq!(outage.is_same(&other), same, "{other:?}");
            assert_eq!(other.is_same(&outage), same, "{other:?}");
        }
        assert!(mistakes(&["a"]).is_same(&mistakes(&["a"])));
        assert!(!mistakes(&["a"]).is_same(&mistakes(&["a", "b"])));
        assert!(mistakes(&[]).is_same(&Problems::None));
    }
}
