//! The Redshift Data API over a real database: statements are accepted at once
//! and run by themselves. `machine` decides, without clock or I/O; `warehouse`
//! is the database as a trait; `postgres` is the one that serves. Not for what
//! Redshift is besides this API.

mod load;
mod machine;
pub mod postgres;
mod request;
mod sql;
mod view;
pub mod warehouse;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::machine::{Accepted, Machine, Refusal, Status};
use self::request::{ById, GetResult, List, Submission};
use self::warehouse::{SqlError, Warehouse};
use crate::emr::parse::{parse, refused};
use crate::ids::Ids;
use crate::time::Time;
use crate::wire::ApiError;

/// Statements that run at the same time; others wait, as in Redshift's queues.
const SLOTS: usize = 50;
/// A page of a result.
const PAGE_ROWS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;
const LIST_MAX: u32 = 100;

/// What every call says where there is no database.
const NO_WAREHOUSE: &str = "the local Redshift needs PostgreSQL and found none: start \
     sluicegate-local with --python DIR, which installs it, or with --postgres DIR, the folder of \
     its programs initdb and postgres";

/// What is behind the API.
#[derive(Debug, Clone)]
pub enum Database {
    /// Every call is refused, and says why.
    Absent,
    /// PostgreSQL, started with the first statement.
    Postgres(postgres::Programs),
    /// One of the caller's own.
    Given(Arc<dyn Warehouse>),
}

/// The Data API. Its tasks run on the runtime that calls it.
pub struct RedshiftData {
    state: Arc<State>,
    tasks: TaskTracker,
}

struct State {
    machine: Mutex<Machine>,
    warehouse: Option<Arc<dyn Warehouse>>,
    slots: Semaphore,
    /// What stops the statements that run.
    stops: Mutex<BTreeMap<String, CancellationToken>>,
    time: Time,
    ids: Arc<Ids>,
    shutdown: CancellationToken,
}

impl RedshiftData {
    /// Without a warehouse every call is refused, and says why. Statements end
    /// once `shutdown` is cancelled.
    pub fn new(
        warehouse: Option<Arc<dyn Warehouse>>,
        time: Time,
        ids: Arc<Ids>,
        shutdown: CancellationToken,
    ) -> Self {
        let state = State {
            machine: Mutex::default(),
            warehouse,
            slots: Semaphore::new(SLOTS),
            stops: Mutex::default(),
            time,
            ids,
            shutdown,
        };
        Self { state: Arc::new(state), tasks: TaskTracker::new() }
    }

    /// One call of the API.
    pub fn call(&self, action: &str, body: Value) -> Result<Value, ApiError> {
        let state = &self.state;
        match action {
            "ExecuteStatement" => self.submit(Submission::read(body, false)?),
            "BatchExecuteStatement" => self.submit(Submission::read(body, true)?),
            "DescribeStatement" => state.describe(&parse::<ById>(body)?.id),
            "GetStatementResult" => state.result(&parse(body)?),
            "CancelStatement" => state.cancel(&parse::<ById>(body)?.id),
            "ListStatements" => state.list(&parse(body)?),
            other => Err(ApiError::bad_request(
                "UnknownOperationException",
                format!("the local AWS has no action {other} of the Redshift Data API"),
            )),
        }
    }

    fn submit(&self, request: Submission) -> Result<Value, ApiError> {
        let state = &self.state;
        let Some(warehouse) = &state.warehouse else {
            return Err(refused(NO_WAREHOUSE));
        };
        let (answer, accepted) = {
            let mut machine = state.machine();
            let accepted = machine.submit(request, state.ids.uuid(), state.time.dev());
            let accepted = accepted.map_err(refuse)?;
            let (Accepted::New(id) | Accepted::Known(id)) = &accepted;
            let (statement, _) = machine.find(id).map_err(refuse)?;
            (view::accepted(statement), accepted)
        };
        if let Accepted::New(id) = accepted {
            let stop = state.shutdown.child_token();
            state.stops().insert(id.clone(), stop.clone());
            let (state, warehouse) = (Arc::clone(state), Arc::clone(warehouse));
            self.tasks.spawn(async move { state.run(&*warehouse, &id, &stop).await });
        }
        Ok(answer)
    }

    /// Waits for the statements, which `shutdown` stops, and ends the database.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(warehouse) = &self.state.warehouse {
            warehouse.close().await;
        }
    }
}

impl State {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> MutexGuard<'_, BTreeMap<String, CancellationToken>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one request to its end.
    async fn run(&self, warehouse: &dyn Warehouse, id: &str, stop: &CancellationToken) {
        let mut at = None;
        let ended = self.transact(warehouse, id, stop, &mut at).await;
        let now = self.time.dev();
        match ended {
            Ok(()) => self.machine().finished(id, now),
            Err(error) => self.machine().ended(id, at, error, now),
        }
        self.stops().remove(id);
    }

    /// Tells in `at` which part it is about.
    async fn transact(
        &self,
        warehouse: &dyn Warehouse,
        id: &str,
        stop: &CancellationToken,
        at: &mut Option<usize>,
    ) -> Result<(), SqlError> {
        let Some(request) = self.machine().find(id).ok().map(|(found, _)| found.request.clone())
        else {
            return Err(SqlError::Cancelled);
        };
        let connect = async {
            // Fails only when closed, which it never is.
            let slot = self.slots.acquire().await.ok();
            self.machine().picked(id, self.time.dev());
            let database = request.database.as_deref().unwrap_or_default();
            warehouse.connect(database).await.map(|session| (slot, session))
        };
        let (_slot, mut session) = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(SqlError::Cancelled),
            connected = connect => connected?,
        };
        if request.is_batch() {
            session.begin().await?;
        }
        let values = request.values();
        for (index, statement) in request.statements().iter().enumerate() {
            *at = Some(index);
            self.machine().started(id, index, self.time.dev());
            let outcome = session.execute(&sql::bind(statement, &values), stop).await;
            match outcome {
                Ok(outcome) => self.machine().succeeded(id, index, outcome, self.time.dev()),
                Err(error) => {
                    session.rollback().await;
                    return Err(error);
                }
            }
        }
        *at = None;
        if request.is_batch() { session.commit().await } else { Ok(()) }
    }

    fn describe(&self, id: &str) -> Result<Value, ApiError> {
        let machine = self.current()?;
        let (statement, part) = machine.find(id).map_err(refuse)?;
        let part = part.and_then(|index| Some((index, statement.parts.get(index)?)));
        Ok(match part {
            Some((index, part)) => view::described_part(statement, index, part),
            None => view::described(statement),
        })
    }

    fn result(&self, request: &GetResult) -> Result<Value, ApiError> {
        let machine = self.current()?;
        let id = &request.id;
        let (statement, part) = machine.find(id).map_err(refuse)?;
        let index = match part {
            Some(index) => Some(index),
            None if statement.request.is_batch() => None,
            None => Some(0),
        };
        let table = index
            .and_then(|index| statement.parts.get(index))
            .and_then(|part| part.result.as_ref())
            .filter(|_| statement.status == Status::Finished);
        let Some(table) = table else {
            return Err(not_found(
                "Query does not have result. Please check query status with DescribeStatement.",
            ));
        };
        let from = match request.next_token.as_deref().map(str::parse::<usize>) {
            None => 0,
            Some(Ok(from)) if from < table.rows.len() => from,
            Some(_) => return Err(refused("Invalid NextToken.")),
        };
        Ok(view::page(table, from, PAGE_ROWS, PAGE_BYTES))
    }

    fn cancel(&self, id: &str) -> Result<Value, ApiError> {
        let machine = self.current()?;
        let (statement, part) = machine.find(id).map_err(refuse)?;
        if part.is_some() {
            return Err(refused(format!(
                "A statement of a batch cannot be cancelled by itself: cancel {}",
                statement.id
            )));
        }
        machine.check_running(id).map_err(refuse)?;
        if let Some(stop) = self.stops().get(id) {
            stop.cancel();
        }
        Ok(json!({ "Status": true }))
    }

    fn list(&self, request: &List) -> Result<Value, ApiError> {
        let machine = self.current()?;
        let wanted = request.status.as_deref().unwrap_or("FINISHED");
        const STATES: [&str; 7] =
            ["SUBMITTED", "PICKED", "STARTED", "FINISHED", "ABORTED", "FAILED", "ALL"];
        if !STATES.contains(&wanted) {
            return Err(refused(format!(
                "1 validation error detected: Value '{wanted}' at 'status' failed to satisfy \
                 constraint: Member must satisfy enum value set: [{}]",
                STATES.join(", ")
            )));
        }
        let limit = match request.max_results.unwrap_or(LIST_MAX) {
            0 => LIST_MAX,
            limit if limit <= LIST_MAX => limit,
            limit => {
                return Err(refused(format!(
                    "1 validation error detected: Value '{limit}' at 'maxResults' failed to \
                     satisfy constraint: Member must have value less than or equal to 100"
                )));
            }
        };
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let name = request.statement_name.as_deref().unwrap_or_default();
        let mut found = machine.newest_first().filter(|statement| {
            let of = &statement.request;
            (wanted == "ALL" || wanted == statement.status.name())
                && of.statement_name.as_deref().unwrap_or_default().starts_with(name)
                && is(&request.database, &of.database)
                && is(&request.cluster_identifier, &of.cluster_identifier)
                && is(&request.workgroup_name, &of.workgroup_name)
        });
        if let Some(token) = &request.next_token {
            // The token is the id of the last one shown.
            if !found.by_ref().any(|statement| statement.id == *token) {
                return Err(refused("Invalid NextToken."));
            }
        }
        let mut found = found.peekable();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let page: Vec<_> = found.by_ref().take(limit).collect();
        let next = found.peek().and(page.last()).map(|last| last.id.clone());
        let statements: Vec<Value> = page.into_iter().map(view::listed).collect();
        let mut answer = json!({ "Statements": statements });
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }

    /// The statements without those that are too old; refused without a database.
    fn current(&self) -> Result<MutexGuard<'_, Machine>, ApiError> {
        if self.warehouse.is_none() {
            return Err(refused(NO_WAREHOUSE));
        }
        let mut machine = self.machine();
        machine.forget_old(self.time.dev());
        Ok(machine)
    }
}

/// In AWS's words.
fn refuse(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Unknown => not_found("Query does not exist."),
        Refusal::TokenOfAnother => {
            refused("The client token was used before, for a request with other parameters.")
        }
        Refusal::TooManyActive => ApiError::bad_request(
            "ActiveStatementsExceededException",
            format!("Active statements exceeded the allowed quota ({}).", machine::ACTIVE_MAX),
        ),
        Refusal::HasEnded(status) => {
            refused(format!("Could not cancel a query that is already in {} state.", status.name()))
        }
    }
}

fn not_found(message: &str) -> ApiError {
    ApiError::bad_request("ResourceNotFoundException", message)
}

#[cfg(test)]
mod tests;
