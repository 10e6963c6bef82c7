//! The warehouse of a world: tables in memory behind the local Redshift Data
//! API, with locks that are waited for and with mishaps of its own. It knows
//! just the SQL that the daemon writes. Not for the API's statements and tokens:
//! those are the local AWS's.

mod sql;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use sluicegate_local::redshift::warehouse::{Outcome, Session, SqlError, Warehouse};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::time::pass;
use crate::world::World;

use self::transaction::{Isolation, Tables, Transaction, conflict};

pub use self::sql::{Statement, Value, parse};

/// Shared by the world, which asks it, and the Data API, which uses it.
#[derive(Clone)]
pub struct FakeWarehouse(Arc<Inner>);

struct Inner {
    /// Set once, before anything is asked.
    world: OnceLock<Weak<World>>,
    state: Mutex<State>,
    /// A lock was given back.
    freed: Notify,
}

struct State {
    tables: Tables,
    /// Table → the session that has locked it.
    locks: BTreeMap<String, u64>,
    sessions: u64,
    /// Those that have not ended.
    open: u64,
    rng: Rng,
    isolation: Isolation,
    /// The rows that loads have written into the ledger, oldest first.
    loads: Vec<Vec<Value>>,
}

/// What goes wrong in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    /// Redshift finds that it cannot be serialized with another.
    Conflict,
    /// The statement of this number fails.
    Fails(usize),
    /// Somebody cancels it at this statement.
    Aborted(usize),
    /// It is committed, and said to have failed.
    Unconfirmed,
}

/// Chances of a transaction, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    pub conflict: u32,
    pub fails: u32,
    pub aborted: u32,
    pub unconfirmed: u32,
    pub slow: u32,
}

/// A slow statement takes up to this time.
const SLOW_SECS_MAX: u64 = 1000;
/// Mishaps come at one of the first statements.
const EARLY: usize = 7;

impl fmt::Debug for FakeWarehouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeWarehouse")
    }
}

impl FakeWarehouse {
    pub fn new(seed: u64) -> Self {
        let state = State {
            tables: Tables::new(),
            locks: BTreeMap::new(),
            sessions: 0,
            open: 0,
            rng: Rng::with_seed(seed ^ 0x10ad_ab1e),
            isolation: match seed / 10 % 2 {
                0 => Isolation::Snapshot,
                _ => Isolation::Serializable,
            },
            loads: Vec::new(),
        };
        let (world, freed) = (OnceLock::new(), Notify::new());
        Self(Arc::new(Inner { world, state: Mutex::new(state), freed }))
    }

    /// The world that it tells of what happens.
    pub fn belongs_to(&self, world: &Arc<World>) {
        // A second time would be for the same world.
        let _ = self.0.world.set(Arc::downgrade(world));
    }

    /// The rows of a table; none of one that is not there.
    pub fn rows(&self, table: &str) -> Vec<Vec<Value>> {
        self.0.state().tables.get(table).map(|table| table.rows.clone()).unwrap_or_default()
    }

    /// Whether a transaction is under way.
    pub fn is_busy(&self) -> bool {
        self.0.state().open > 0
    }

    /// The rows that loads have committed to the ledger, oldest first, those
    /// that were replaced later too.
    pub fn loads(&self) -> Vec<Vec<Value>> {
        self.0.state().loads.clone()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends its world anyhow.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self) -> Option<Arc<World>> {
        self.world.get().and_then(Weak::upgrade)
    }

    fn tell(&self, event: &'static str, words: &str) {
        if let Some(world) = self.world() {
            world.note(&format!("warehouse: {event}{words}"));
            world.happened(event);
        }
    }
}

#[async_trait]
impl Warehouse for FakeWarehouse {
    async fn connect(&self, _database: &str) -> Result<Box<dyn Session>, SqlError> {
        let inner = &self.0;
        pass(Duration::from_millis(20)).await;
        let rates = inner.world().and_then(|world| {
            if world.warehouse_is_paused() {
                return None;
            }
            Some(world.warehouse_rates())
        });
        let Some(rates) = rates else {
            inner.tell("warehouse paused", "");
            return Err(SqlError::failed("the cluster is paused"));
        };
        let mut state = inner.state();
        state.sessions += 1;
        state.open += 1;
        let number = state.sessions;
        let mishap = Mishap::choose(&mut state.rng, rates);
        let slow = (state.rng.u32(0..1000) < rates.slow)
            .then(|| (state.rng.usize(..EARLY), state.rng.u64(60..SLOW_SECS_MAX)));
        let transaction = Transaction::new(state.isolation);
        drop(state);
        let slow = slow.map(|(at, secs)| (at, Duration::from_secs(secs)));
        let inner = Arc::clone(inner);
        Ok(Box::new(FakeSession { inner, number, mishap, slow, executed: 0, transaction }))
    }

    async fn close(&self) {}
}

impl Mishap {
    fn choose(rng: &mut Rng, rates: Rates) -> Option<Self> {
        let at = rng.usize(..EARLY);
        let Rates { conflict, fails, aborted, unconfirmed, .. } = rates;
        let mut left = rng.u32(0..1000);
        for (rate, mishap) in [
            (conflict, Self::Conflict),
            (fails, Self::Fails(at)),
            (aborted, Self::Aborted(at)),
            (unconfirmed, Self::Unconfirmed),
        ] {
            if left < rate {
                return Some(mishap);
            }
            left -= rate;
        }
        None
    }
}

/// One transaction: the daemon sends nothing else.
struct FakeSession {
    inner: Arc<Inner>,
    number: u64,
    mishap: Option<Mishap>,
    /// Which statement takes how long.
    slow: Option<(usize, Duration)>,
    executed: usize,
    transaction: Transaction,
}

#[async_trait]
impl Session for FakeSession {
    async fn begin(&mut self) -> Result<(), SqlError> {
        Ok(())
    }

    async fn execute(&mut self, sql: &str, stop: &CancellationToken) -> Result<Outcome, SqlError> {
        let number = self.executed;
        self.executed += 1;
        let Some(statement) = parse(sql) else {
            if let Some(world) = self.inner.world() {
                world.violated("scenario", &format!("the warehouse does not understand {sql}"));
            }
            return Err(SqlError::failed("syntax error"));
        };
        let span = match self.slow {
            Some((at, span)) if at == number => {
                self.inner.tell("statement slow", &format!(", {} s", span.as_secs()));
                span
            }
            _ => Duration::from_millis(30),
        };
        or_stop(pass(span), stop).await?;
        match self.mishap {
            Some(Mishap::Fails(at)) if at == number => {
                self.inner.tell("statement fails", "");
                return Err(SqlError::failed("disk full"));
            }
            Some(Mishap::Aborted(at)) if at == number => {
                self.inner.tell("statement aborted", "");
                return Err(SqlError::Cancelled);
            }
            _ => {}
        }
        if let Statement::Lock { table } = &statement {
            let table = table.clone();
            or_stop(self.lock(&table), stop).await?;
        }
        let world = self.inner.world();
        let read = |key: &str| world.as_ref().and_then(|world| world.object(key));
        let result = self.transaction.carry_out(statement, &self.inner.state().tables, read);
        if let Err(error) = &result {
            let by_ledger = *error == SqlError::failed("division by zero");
            let event = if by_ledger { "ledger refuses" } else { "statement refused" };
            self.inner.tell(event, &format!(": {error}"));
        }
        result
    }

    async fn commit(&mut self) -> Result<(), SqlError> {
        pass(Duration::from_millis(30)).await;
        if self.mishap == Some(Mishap::Conflict) {
            self.release();
            self.inner.tell("lock conflict", "");
            return Err(conflict());
        }
        let transaction = self.end();
        let committed = {
            let mut state = self.inner.state();
            let State { tables, loads, .. } = &mut *state;
            transaction.commit(tables).inspect(|rows| loads.extend(rows.iter().cloned()))
        };
        self.release();
        let rows = match committed {
            Ok(rows) => rows,
            Err(error) => {
                self.inner.tell("lock conflict", ", by what was committed meanwhile");
                return Err(error);
            }
        };
        for row in &rows {
            let words: Vec<_> = row.iter().skip(1).take(3).map(ToString::to_string).collect();
            self.inner.tell("loaded", &format!(" {}", words.join(" ")));
        }
        if self.mishap == Some(Mishap::Unconfirmed) {
            self.inner.tell("commit unconfirmed", "");
            return Err(SqlError::failed("the connection to the leader node was lost"));
        }
        Ok(())
    }

    async fn rollback(&mut self) {
        self.end();
        self.release();
    }
}

impl FakeSession {
    /// Waits until it has the table for itself.
    async fn lock(&self, table: &str) {
        loop {
            let freed = self.inner.freed.notified();
            let holder = {
                let mut state = self.inner.state();
                *state.locks.entry(table.to_owned()).or_insert(self.number)
            };
            if holder == self.number {
                return;
            }
            freed.await;
        }
    }

    /// What it has done so far; nothing of it is committed.
    fn end(&mut self) -> Transaction {
        let anew = self.transaction.anew();
        std::mem::replace(&mut self.transaction, anew)
    }

    fn release(&self) {
        self.inner.state().locks.retain(|_, holder| *holder != self.number);
        self.inner.freed.notify_waiters();
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.inner.state().open -= 1;
        self.release();
    }
}

/// Goes on with what it waits for, unless it is told to stop.
async fn or_stop(wait: impl Future<Output = ()>, stop: &CancellationToken) -> Result<(), SqlError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(SqlError::Cancelled),
        () = wait => Ok(()),
    }
}
