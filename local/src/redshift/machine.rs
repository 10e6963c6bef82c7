//! The statements of the Data API: their tokens, states, batches and results,
//! by a clock that is given. Does nothing itself; not for SQL.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::request::Submission;
use super::warehouse::{Outcome, SqlError, Table};

/// How long a client token stands for its first request.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(8);
/// How long a statement and its result are kept.
const STATEMENT_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// How many statements of a warehouse may be under way.
pub const ACTIVE_MAX: usize = 500;

/// Where a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Submitted,
    Picked,
    Started,
    Finished,
    Failed,
    Aborted,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::Picked => "PICKED",
            Self::Started => "STARTED",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Aborted => "ABORTED",
        }
    }

    pub fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Aborted)
    }
}

/// One statement of SQL: the only one of its request, or one of a batch.
#[derive(Debug, Clone)]
pub struct Part {
    pub status: Status,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub updated: Timestamp,
    pub error: Option<String>,
    pub rows: u64,
    pub result: Option<Table>,
    /// 0 until it runs.
    pub query: u64,
}

/// What one request submitted.
#[derive(Debug, Clone)]
pub struct Submitted {
    pub id: String,
    pub request: Submission,
    pub status: Status,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub error: Option<String>,
    pub parts: Vec<Part>,
}

impl Submitted {
    /// From its start to its last change.
    pub fn duration(&self) -> SignedDuration {
        let started = self.parts.iter().filter_map(|part| part.started).min();
        started.map_or(SignedDuration::ZERO, |started| self.updated.duration_since(started))
    }
}

impl Part {
    fn new(now: Timestamp) -> Self {
        Self {
            status: Status::Submitted,
            created: now,
            started: None,
            updated: now,
            error: None,
            rows: 0,
            result: None,
            query: 0,
        }
    }

    pub fn duration(&self) -> SignedDuration {
        self.started.map_or(SignedDuration::ZERO, |started| self.updated.duration_since(started))
    }

    fn change(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.updated = now;
    }
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It is to be run.
    New(String),
    /// The token stands for this one.
    Known(String),
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    TokenOfAnother,
    TooManyActive,
    Unknown,
    HasEnded(Status),
}

/// All statements of the account.
#[derive(Debug, Default)]
pub struct Machine {
    /// By the order in which they came.
    statements: BTreeMap<u64, Submitted>,
    by_id: BTreeMap<String, u64>,
    /// Tokens with the request that they stand for, and until when.
    tokens: BTreeMap<String, (u64, Timestamp)>,
    last: u64,
    last_query: u64,
}

impl Machine {
    /// Accepts a request. `id` is taken if it is a new one.
    pub fn submit(
        &mut self,
        request: Submission,
        id: String,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        self.forget_old(now);
        if let Some((number, _)) = request.client_token.as_ref().and_then(|t| self.tokens.get(t)) {
            let known = self.statements.get(number).ok_or(Refusal::Unknown)?;
            let is_same = known.request == request;
            return is_same
                .then(|| Accepted::Known(known.id.clone()))
                .ok_or(Refusal::TokenOfAnother);
        }
        let of_warehouse = |s: &&Submitted| {
            s.request.cluster_identifier == request.cluster_identifier
                && s.request.workgroup_name == request.workgroup_name
        };
        let active = self.statements.values().filter(|s| !s.status.has_ended());
        if active.filter(of_warehouse).count() >= ACTIVE_MAX {
            return Err(Refusal::TooManyActive);
        }
        self.last += 1;
        if let (Some(token), Ok(until)) = (&request.client_token, now.checked_add(TOKEN_LIFE)) {
            self.tokens.insert(token.clone(), (self.last, until));
        }
        let parts = request.statements().iter().map(|_| Part::new(now)).collect();
        let submitted = Submitted {
            id: id.clone(),
            request,
            status: Status::Submitted,
            created: now,
            updated: now,
            error: None,
            parts,
        };
        self.statements.insert(self.last, submitted);
        self.by_id.insert(id.clone(), self.last);
        Ok(Accepted::New(id))
    }

    /// The statement of an id, with the number of the part that it names.
    pub fn find(&self, id: &str) -> Result<(&Submitted, Option<usize>), Refusal> {
        let (id, part) = match id.split_once(':') {
            Some((id, part)) => (id, Some(part)),
            None => (id, None),
        };
        let number = self.by_id.get(id).ok_or(Refusal::Unknown)?;
        let found = self.statements.get(number).ok_or(Refusal::Unknown)?;
        let Some(part) = part else { return Ok((found, None)) };
        let index = part.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let index = index.filter(|index| found.request.is_batch() && *index < found.parts.len());
        index.map(|index| (found, Some(index))).ok_or(Refusal::Unknown)
    }

    /// All statements, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Submitted> {
        self.statements.values().rev()
    }

    /// Whether a statement can still be stopped.
    pub fn check_running(&self, id: &str) -> Result<(), Refusal> {
        let (found, _) = self.find(id)?;
        if found.status.has_ended() { Err(Refusal::HasEnded(found.status)) } else { Ok(()) }
    }

    /// It waits for a connection.
    pub fn picked(&mut self, id: &str, now: Timestamp) {
        self.change(id, |statement| {
            statement.status = Status::Picked;
            statement.updated = now;
        });
    }

    /// A part runs.
    pub fn started(&mut self, id: &str, index: usize, now: Timestamp) {
        self.last_query += 1;
        let query = self.last_query;
        self.change(id, |statement| {
            statement.status = Status::Started;
            statement.updated = now;
            if let Some(part) = statement.parts.get_mut(index) {
                part.change(Status::Started, now);
                part.started = Some(now);
                part.query = query;
            }
        });
    }

    /// A part did what it should.
    pub fn succeeded(&mut self, id: &str, index: usize, outcome: Outcome, now: Timestamp) {
        self.change(id, |statement| {
            statement.updated = now;
            if let Some(part) = statement.parts.get_mut(index) {
                part.change(Status::Finished, now);
                part.rows = outcome.rows;
                part.result = outcome.table;
            }
        });
    }

    /// All is done and committed.
    pub fn finished(&mut self, id: &str, now: Timestamp) {
        self.change(id, |statement| {
            statement.status = Status::Finished;
            statement.updated = now;
        });
    }

    /// It ended without effect: by the part at `index`, or by itself.
    pub fn ended(&mut self, id: &str, index: Option<usize>, error: SqlError, now: Timestamp) {
        self.change(id, |statement| {
            let (status, text) = match error {
                SqlError::Failed(text) => (Status::Failed, Some(format!("ERROR: {text}"))),
                SqlError::Cancelled => (Status::Aborted, None),
            };
            statement.status = status;
            statement.updated = now;
            statement.error = match (&text, index) {
                (Some(text), Some(index)) if statement.request.is_batch() => {
                    Some(format!("Query #{} failed with {text}", index + 1))
                }
                _ => text.clone(),
            };
            for (at, part) in statement.parts.iter_mut().enumerate() {
                if Some(at) == index {
                    part.change(status, now);
                    part.error = text.clone();
                } else if !part.status.has_ended() {
                    part.change(Status::Aborted, now);
                }
            }
        });
    }

    fn change(&mut self, id: &str, apply: impl FnOnce(&mut Submitted)) {
        let number = self.by_id.get(id);
        if let Some(statement) = number.and_then(|number| self.statements.get_mut(number)) {
            apply(statement);
        }
    }

    /// Also for calls that only read: what is too old is not found.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.tokens.retain(|_, (_, until)| *until > now);
        let is_old =
            |s: &Submitted| s.status.has_ended() && now.duration_since(s.updated) >= STATEMENT_LIFE;
        self.statements.retain(|_, statement| !is_old(statement));
        self.by_id.retain(|_, number| self.statements.contains_key(number));
    }
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
