//! The load of one task partition's output into the warehouse, after its steps:
//! what is to be done next, given what has been seen. Whether a partition is
//! loaded is decided by the ledger in the warehouse alone (see `sql`), so every
//! act here may be repeated, and nothing follows from an answer that is lost.
//! Not for talking to the warehouse: that is the engine's.

pub mod manifest;
pub mod sql;
pub mod table;
pub mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::table::{Name, Table, Type};
use super::class::FailureClass;
use super::notice::clipped;
use super::run::CallFailure;
use super::task::TaskKey;
use crate::planted::{Bug, planted};

/// The warehouse's words are stored with the partition.
const FAILURE_CHARS_MAX: usize = 1_000;
/// The Data API knows a client token for eight hours; one is spared for clocks
/// that differ.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(7);
/// While nothing can be said or asked.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(30);
const AGAIN_AFTER_MAX: SignedDuration = SignedDuration::from_mins(5);
/// A statement that runs is looked at after a while that grows with its age.
const LOOK_AFTER_MIN: SignedDuration = SignedDuration::from_secs(1);
const LOOK_AFTER_MAX: SignedDuration = SignedDuration::from_secs(30);

/// How the failure begins of statements that were not taken.
const REFUSED: &str = "the warehouse refuses its statements";

/// Calls that fail for so long are told of.
const TELL_AFTER: SignedDuration = SignedDuration::from_mins(10);

const CORRECT_IT: &str = "correct the table, the files or the permissions: the output is still in \
    S3, and nothing of it is in the table; then sluicegate retry --load loads it";
const USE_ANOTHER_MODE: &str = "what is appended cannot be taken back: leave it, or use mode \
    replace-partition";
const RUN_AGAIN: &str = "run its steps again: sluicegate retry, without --load";
const MAY_BE_LOADED: &str = "let the service read its ledger, then sluicegate retry --load: \
    what is loaded already is not loaded twice";

/// A warehouse, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warehouse {
    pub name: String,
    pub place: Place,
    pub database: String,
    /// The ARN of the secret with the user's name and password; left out, the
    /// Data API takes temporary credentials of the task role.
    pub secret: Option<String>,
    /// The role that COPY reads S3 with; left out, the warehouse's default.
    pub role: Option<String>,
    pub ledger: Table,
    /// Where manifests are written: bucket, and a prefix that ends in `/`.
    pub manifests: (String, String),
    pub attempts: u32,
    pub retry_delay: SignedDuration,
    /// One load is cancelled after this time.
    pub timeout: SignedDuration,
}

impl Warehouse {
    /// Whether a statement failed because somebody has dropped the ledger.
    pub fn misses_its_ledger(&self, words: &str) -> bool {
        words.contains(self.ledger.name.as_str()) && words.contains("does not exist")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Redshift Serverless.
    Workgroup(String),
    Cluster {
        cluster: String,
        user: Option<String>,
    },
}

impl Place {
    /// Whoever logs in there.
    pub fn name(&self) -> String {
        match self {
            Place::Workgroup(workgroup) => format!("workgroup {workgroup}"),
            Place::Cluster { cluster, .. } => format!("cluster {cluster}"),
        }
    }
}

/// What a task loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSpec {
    pub warehouse: String,
    /// The output whose files are loaded.
    pub dataset: String,
    pub table: Table,
    pub mode: Mode,
    /// The columns of the files, in their order: COPY goes by position.
    pub columns: Vec<Column>,
    /// A column of the table that is not in the files: it gets the partition's
    /// start.
    pub partition_column: Option<Name>,
}

/// What happens to the rows that the table holds already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Append,
    /// Those whose column of this name holds the partition's start go.
    ReplacePartition(Name),
    /// Those with the same values in these columns as a row of the files go.
    Upsert(Vec<Name>),
    /// All go.
    ReplaceTable,
}

impl Mode {
    /// As the configuration has it.
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Append => "append",
            Mode::ReplacePartition(_) => "replace-partition",
            Mode::Upsert(_) => "upsert",
            Mode::ReplaceTable => "replace-table",
        }
    }
}

/// As it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModeName {
    #[default]
    Append,
    ReplacePartition,
    Upsert,
    ReplaceTable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: Name,
    pub kind: Type,
}

/// What a load is about, as it is declared now.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub deployment: &'a str,
    pub key: &'a TaskKey,
    pub warehouse: &'a Warehouse,
    pub spec: &'a LoadSpec,
}

/// How far the load of a task partition is; stored with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Load {
    pub run: String,
    pub began: Timestamp,
    /// 1 is the first. Goes on over further requests: each attempt has a token of its own.
    pub attempt: u32,
    /// How many came before it was last asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub before: u32,
    pub stage: Stage,
    /// Dataset → where the run has put the partition, whatever is declared now. Not known of
    /// what an older version began.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// What the manifest named last, once one was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// What the warehouse said to the last attempt that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Of that, or of the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// It has failed, and would fail in the same way without its steps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_steps: bool,
    /// Its calls get no answer that decides anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// Calls that fail, and are made again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trouble {
    pub since: Timestamp,
    /// Of the first that failed.
    pub words: String,
    /// It has lasted so long that people are told.
    pub told: bool,
    /// Since when every answer is a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Files {
    pub count: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The files are to be listed and the manifest written, from this instant.
    Prepare { from: Timestamp },
    /// The statements may have been sent since this instant, under the attempt's
    /// token.
    Send { since: Timestamp },
    /// The warehouse works on them, or has ended.
    Execute { statement: String, since: Timestamp, cancelled: bool },
    /// What has become of them only the ledger knows.
    Settle,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Act {
    /// Lists the files and writes the manifest that names them.
    Prepare,
    /// Sends the statements; the same token gives the same statement again.
    Send {
        token: String,
    },
    Look {
        statement: String,
    },
    Cancel {
        statement: String,
    },
    /// Reads which run has loaded the partition.
    AskLedger,
    Rest(Timestamp),
    /// Nothing more: to be committed as the partition's end.
    End(End),
}

/// How a load has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Loaded,
    /// `advice` is what a person can do.
    Failed {
        reason: String,
        class: FailureClass,
        advice: &'static str,
    },
}

/// What has been seen since the last decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Nothing yet: the turn begins.
    Nothing,
    Prepared(Result<Files, CallFailure>),
    Sent(Result<String, CallFailure>),
    Looked(Result<Seen, CallFailure>),
    Cancelled(Result<(), CallFailure>),
    /// The run that has loaded the partition, if any has.
    Ledger(Result<Option<String>, CallFailure>),
}

impl Observation {
    /// What kept it from being seen or done.
    pub fn failure(&self) -> Option<&CallFailure> {
        match self {
            Observation::Prepared(Err(failure))
            | Observation::Sent(Err(failure))
            | Observation::Looked(Err(failure))
            | Observation::Cancelled(Err(failure))
            | Observation::Ledger(Err(failure)) => Some(failure),
            _ => None,
        }
    }
}

/// How a statement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Working,
    /// With the number of rows that were inserted, if it is told.
    Finished {
        rows: Option<u64>,
    },
    Failed(String),
    /// It has been cancelled.
    Aborted,
    /// The Data API has forgotten it.
    Gone,
}

impl Load {
    pub fn new(run: &str, now: Timestamp) -> Self {
        Self {
            run: run.to_owned(),
            began: now,
            attempt: 1,
            before: 0,
            stage: Stage::Prepare { from: now },
            outputs: BTreeMap::new(),
            files: None,
            failure: None,
            class: None,
            rows: None,
            needs_steps: false,
            trouble: None,
        }
    }

    /// The same load once more, after it has failed. It begins at once, whatever the clock
    /// of whoever asks says.
    pub fn again(&self, now: Timestamp) -> Self {
        Self {
            attempt: self.attempt + 1,
            before: self.attempt,
            stage: Stage::Prepare { from: Timestamp::UNIX_EPOCH },
            outputs: self.outputs.clone(),
            files: self.files,
            ..Self::new(&self.run, now)
        }
    }

    /// Which attempt it is since it was last asked for.
    pub fn number(&self) -> u32 {
        self.attempt.saturating_sub(self.before)
    }

    /// The attempt's name for the Data API, which takes up to 64 characters.
    fn token(&self, about: &About<'_>) -> String {
        let id = format!("{}\n{}\n{}\n{}", about.deployment, about.key, self.run, self.attempt);
        Sha256::digest(id)[..24].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether its statements may be under way.
    pub fn is_begun(&self) -> bool {
        !matches!(self.stage, Stage::Prepare { .. })
    }

    /// Takes in what was seen, and says what is to be done. What has changed is
    /// to be stored before that.
    pub fn decide(&mut self, about: &About<'_>, observation: Observation, now: Timestamp) -> Act {
        self.is_declared();
        self.note_trouble(&observation, now);
        match observation {
            Observation::Nothing => self.go_on(about, now),
            Observation::Prepared(Ok(files)) => {
                // To replace rows by nothing is right only where nothing was made.
                let reason = match self.files {
                    Some(had) if had.count > 0 => {
                        Some(format!("its output has no files any more, and had {}", had.count))
                    }
                    None if self.attempt > 1 => Some("its output has no files now".to_owned()),
                    _ => None,
                };
                if let Some(reason) = reason.filter(|_| files.count == 0) {
                    return self.fail(&reason, FailureClass::Validation, RUN_AGAIN);
                }
                self.files = Some(files);
                self.stage = Stage::Send { since: now };
                self.go_on(about, now)
            }
            Observation::Prepared(Err(CallFailure::Refused(words))) => self.fail(
                &format!("its files cannot be listed, or the manifest not be written: {words}"),
                FailureClass::Validation,
                CORRECT_IT,
            ),
            Observation::Prepared(Err(failure)) => later(failure, now),
            Observation::Sent(Ok(statement)) => {
                self.stage = Stage::Execute { statement, since: now, cancelled: false };
                self.go_on(about, now)
            }
            // A call before this one may have been heard, and its answer lost.
            Observation::Sent(Err(CallFailure::Refused(words))) => {
                let words = format!("{REFUSED}: {words}");
                self.settle(Some((FailureClass::Validation, &words)))
            }
            Observation::Sent(Err(failure)) => {
                if planted(Bug::TokenPerCall) {
                    self.attempt += 1;
                }
                later(failure, now)
            }
            Observation::Looked(seen) => self.looked(seen, about, now),
            // What is refused to be cancelled has ended: the next look shows how.
            Observation::Cancelled(Ok(()) | Err(CallFailure::Refused(_))) => {
                if let Stage::Execute { cancelled, .. } = &mut self.stage {
                    *cancelled = true;
                }
                Act::Rest(after(now, LOOK_AFTER_MIN))
            }
            Observation::Cancelled(Err(_)) => Act::Rest(after(now, AGAIN_AFTER)),
            Observation::Ledger(Ok(Some(run))) if run == self.run => Act::End(End::Loaded),
            Observation::Ledger(Ok(other)) => self.not_loaded(other, about, now),
            Observation::Ledger(Err(CallFailure::Postponed(until))) => Act::Rest(until),
            // It may be loaded, and the right to ask may come back.
            Observation::Ledger(Err(CallFailure::Refused(words)))
                if self.is_refused_for(about.warehouse.timeout, now) =>
            {
                self.fail(
                    &format!("the ledger cannot be read, so it may be loaded or not: {words}"),
                    FailureClass::Validation,
                    MAY_BE_LOADED,
                )
            }
            // Another load may hold the ledger for long.
            Observation::Ledger(Err(_)) => {
                let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
                let pause = now.duration_since(since) / 4;
                Act::Rest(after(now, pause.clamp(AGAIN_AFTER, AGAIN_AFTER_MAX)))
            }
        }
    }

    fn is_refused_for(&self, timeout: SignedDuration, now: Timestamp) -> bool {
        let refused = self.trouble.as_ref().and_then(|trouble| trouble.refused);
        refused.is_some_and(|refused| now.duration_since(refused) >= timeout)
    }

    fn note_trouble(&mut self, observation: &Observation, now: Timestamp) {
        let is_question = matches!(observation, Observation::Ledger(_));
        let (words, is_refused) = match observation.failure() {
            None if *observation == Observation::Nothing => return,
            Some(CallFailure::Postponed(_)) => return,
            Some(CallFailure::Refused(words)) if is_question => (words, true),
            Some(CallFailure::Deferred(words) | CallFailure::Unknown(words)) => (words, false),
            // An answer; of other calls a refusal is one too.
            None | Some(CallFailure::Refused(_)) => {
                self.trouble = None;
                return;
            }
        };
        let words = clipped(words, FAILURE_CHARS_MAX);
        let new = || Trouble { since: now, words, told: false, refused: None };
        let trouble = self.trouble.get_or_insert_with(new);
        trouble.refused = is_refused.then(|| trouble.refused.unwrap_or(now));
        trouble.told |= now.duration_since(trouble.since) >= TELL_AFTER;
    }

    fn go_on(&mut self, about: &About<'_>, now: Timestamp) -> Act {
        match &self.stage {
            Stage::Prepare { from } if now < *from => Act::Rest(*from),
            Stage::Prepare { .. } => Act::Prepare,
            Stage::Send { since } if now.duration_since(*since) >= TOKEN_LIFE => self.settle(None),
            Stage::Send { .. } => Act::Send { token: self.token(about) },
            Stage::Execute { statement, since, cancelled } => {
                let late = now.duration_since(*since) >= about.warehouse.timeout;
                let statement = statement.clone();
                match late && !*cancelled {
                    true => Act::Cancel { statement },
                    false => Act::Look { statement },
                }
            }
            Stage::Settle => Act::AskLedger,
        }
    }

    fn looked(
        &mut self,
        seen: Result<Seen, CallFailure>,
        about: &About<'_>,
        now: Timestamp,
    ) -> Act {
        let Stage::Execute { since, cancelled, .. } = self.stage else {
            return self.go_on(about, now);
        };
        let failure = match seen {
            Ok(Seen::Working) => {
                return Act::Rest(look_again(since, now));
            }
            Ok(Seen::Finished { rows }) => {
                self.rows = rows;
                None
            }
            // It was there; it is created again.
            Ok(Seen::Failed(words)) if about.warehouse.misses_its_ledger(&words) => {
                Some((FailureClass::Internal, words))
            }
            Ok(Seen::Failed(words)) | Err(CallFailure::Refused(words)) => {
                Some((FailureClass::of_statement(&words), words))
            }
            Ok(Seen::Aborted) if cancelled => {
                let timeout = about.warehouse.timeout;
                let words = format!("it took longer than its timeout, {timeout:#}");
                Some((FailureClass::TimeOut, words))
            }
            Ok(Seen::Aborted) => {
                Some((FailureClass::External, "somebody cancelled its statements".to_owned()))
            }
            Ok(Seen::Gone) => Some((
                FailureClass::Internal,
                "the Data API has forgotten its statements".to_owned(),
            )),
            Err(_) => return Act::Rest(after(now, AGAIN_AFTER)),
        };
        if planted(Bug::FirstFailureCounts)
            && let Some((class, words)) = &failure
        {
            return self.fail(&format!("the load failed: {words}"), *class, CORRECT_IT);
        }
        self.settle(failure.as_ref().map(|(class, words)| (*class, words.as_str())))
    }

    /// A statement says how it ended, the ledger what is loaded.
    fn settle(&mut self, failure: Option<(FailureClass, &str)>) -> Act {
        self.failure = failure.map(|(_, words)| clipped(words, FAILURE_CHARS_MAX));
        self.class = failure.map(|(class, _)| class);
        self.stage = Stage::Settle;
        Act::AskLedger
    }

    fn fail(&mut self, reason: &str, class: FailureClass, advice: &'static str) -> Act {
        self.class = Some(class);
        self.needs_steps = advice == RUN_AGAIN;
        Act::End(End::Failed { reason: clipped(reason, FAILURE_CHARS_MAX), class, advice })
    }

    /// What the warehouse finds wrong it finds wrong again. But a refusal of the statements
    /// may be one of the token, whose first answer was lost: another token tells.
    fn is_in_vain(&self) -> bool {
        let is_refused = self.failure.as_ref().is_some_and(|words| words.starts_with(REFUSED));
        self.class == Some(FailureClass::Validation) && (self.number() > 1 || !is_refused)
    }

    /// The ledger shows no load by this run.
    fn not_loaded(&mut self, other: Option<String>, about: &About<'_>, now: Timestamp) -> Act {
        let words = self.failure.as_deref().unwrap_or("no answer says why");
        if let Some(other) = other.filter(|_| about.spec.mode == Mode::Append) {
            let reason = format!("run {other} has loaded this partition already");
            return self.fail(&reason, FailureClass::External, USE_ANOTHER_MODE);
        }
        if self.number() >= about.warehouse.attempts || self.is_in_vain() {
            let times = match self.number() {
                1 => String::new(),
                more => format!(" {more} times"),
            };
            let class = self.class.unwrap_or(FailureClass::Internal);
            return self.fail(&format!("the load failed{times}: {words}"), class, CORRECT_IT);
        }
        let delay = about.warehouse.retry_delay * i32::try_from(self.number()).unwrap_or(i32::MAX);
        self.attempt += 1;
        self.stage = Stage::Prepare { from: after(now, delay) };
        self.go_on(about, now)
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// When to look again at a statement that has run since then.
pub fn look_again(since: Timestamp, now: Timestamp) -> Timestamp {
    let pause = now.duration_since(since) / 4;
    after(now, pause.clamp(LOOK_AFTER_MIN, LOOK_AFTER_MAX))
}

/// A call that may work later is made again.
fn later(failure: CallFailure, now: Timestamp) -> Act {
    match failure {
        CallFailure::Postponed(until) => Act::Rest(until),
        _ => Act::Rest(after(now, AGAIN_AFTER)),
    }
}

fn after(instant: Timestamp, duration: SignedDuration) -> Timestamp {
    instant.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub mod testing {
    use super::*;

    pub fn warehouse() -> Warehouse {
        Warehouse {
            name: "mart".into(),
            place: Place::Workgroup("mart".into()),
            database: "dev".into(),
            secret: None,
            role: Some("arn:aws:iam::123456789012:role/copy".into()),
            ledger: "sluicegate_loads".parse().unwrap(),
            manifests: ("b".into(), "m/".into()),
            attempts: 3,
            retry_delay: SignedDuration::from_secs(60),
            timeout: SignedDuration::from_hours(1),
        }
    }

    pub fn spec(mode: Mode) -> LoadSpec {
        let column = |name: &str, kind: &str| Column {
            name: name.parse().unwrap(),
            kind: kind.parse().unwrap(),
        };
        let partition_column = match &mode {
            Mode::ReplacePartition(name) => Some(name.clone()),
            Mode::Append | Mode::Upsert(_) | Mode::ReplaceTable => None,
        };
        LoadSpec {
            warehouse: "mart".into(),
            dataset: "hourly".into(),
            table: "mart.flights".parse().unwrap(),
            mode,
            columns: vec![column("carrier", "varchar(2)"), column("delay", "integer")],
            partition_column,
        }
    }
}
