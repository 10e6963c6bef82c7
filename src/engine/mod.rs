//! Acts: takes one thing at a time that needs a look, reads its state, lets
//! `core` decide, commits, then does what was decided. A wake-up carries no
//! input, so a lost or doubled one changes nothing, and a restart is just the
//! first sweep.

mod agenda;
mod arrivals;
mod backfills;
mod batches;
mod clusters;
mod folds;
mod gc;
mod governor;
mod inputs;
mod late;
mod lateness;
mod lease;
mod listing;
mod loads;
mod logs;
mod outbox;
mod pauses;
mod reaper;
mod retention;
mod runs;
mod schedules;
mod survey;
mod tasks;
mod untold;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::aws::emr::Emr;
use crate::aws::error::with_causes;
use crate::aws::redshift::Redshift;
use crate::aws::s3::S3;
use crate::aws::sns::Sns;
use crate::aws::store::{DueKey, Store, StoreError};
use crate::clock::Clock;
use crate::core::catalog::{Catalog, Task};
use crate::core::listing::Listing;
use crate::core::notice::{self, Fact, Notice, Severity};
use crate::core::pace::Pace;
use crate::core::pause::Scope;
use crate::core::quota::{Governor, Quotas};
use crate::core::survey::Survey;
use crate::core::task::{TaskKey, TaskPartition, URGENT};
use crate::health::Health;
use crate::metrics::{AgendaGlance, Metrics};

use self::agenda::Agenda;
use self::clusters::Watch;

pub use arrivals::{NotRecorded, Recorded};
pub use clusters::ClusterEvent;
pub use gc::{Collected, Gc, GcError};
pub use reaper::{ReapError, Reaped, ReaperLook};
pub use why::why;

/// Turns that run side by side.
const TURNS_MAX: usize = 32;
/// How many task partitions are remembered as already stored.
const KNOWN_MAX: usize = 100_000;
/// How many things that people were told of once are remembered, by their hashes; then
/// each is told once more.
const TOLD_MAX: usize = 100_000;
/// How many places of unexpected objects are reported.
const UNKNOWN_MAX: usize = 1_000;

/// What a turn can be about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Sweep,
    Schedule(String),
    /// The waiting partitions of a task, once after the start and when what is
    /// declared of it has changed.
    Revisit(String),
    /// The ready partitions of a cluster profile.
    Batches(String),
    Run(String),
    /// The logs that a run waits for.
    Logs(String),
    /// The list of clusters, for the runs that ask.
    Survey,
    /// Clusters that nobody needs.
    Reaper,
    /// Objects in S3 that nobody told of.
    Listing,
    Task(TaskKey),
    /// The notices of a pause.
    Pause(Scope),
    Backfill(String),
    /// A window of folded notices.
    Fold(String),
}

/// What a log line says of a key.
impl Key {
    fn task(&self) -> Option<String> {
        match self {
            Key::Schedule(task) | Key::Revisit(task) => Some(task.clone()),
            Key::Task(key) => Some(key.task.clone()),
            Key::Sweep
            | Key::Survey
            | Key::Reaper
            | Key::Pause(_)
            | Key::Backfill(_)
            | Key::Fold(_)
            | Key::Listing
            | Key::Batches(_)
            | Key::Run(_)
            | Key::Logs(_) => None,
        }
    }

    fn partition(&self) -> Option<String> {
        match self {
            Key::Task(key) => Some(key.partition.to_string()),
            _ => None,
        }
    }

    fn run(&self) -> Option<String> {
        match self {
            Key::Run(id) | Key::Logs(id) => Some(id.clone()),
            _ => None,
        }
    }
}

/// Everything a turn needs.
pub struct Engine {
    /// Replaced when task files change; a turn works with one of them.
    catalog: watch::Sender<Arc<Catalog>>,
    store: Store,
    emr: Emr,
    sns: Sns,
    s3: S3,
    redshift: Redshift,
    clock: Clock,
    sweep_interval: SignedDuration,
    listing: Option<Listing>,
    agenda: Agenda,
    governor: Mutex<Governor>,
    pace: Mutex<Pace>,
    fold_window: SignedDuration,
    log_readers: Semaphore,
    memory: Mutex<Memory>,
    metrics: Arc<Metrics>,
    health: Health,
    /// Who this process is to other replicas.
    replica: String,
    started: Timestamp,
}

/// What an engine is made of.
pub struct Parts {
    pub catalog: Catalog,
    pub store: Store,
    pub emr: Emr,
    pub sns: Sns,
    pub s3: S3,
    pub redshift: Redshift,
    pub clock: Clock,
    /// How often the tables are searched for work that no event announced.
    pub sweep_interval: SignedDuration,
    /// How often S3 is listed for objects that nobody told of; None is never.
    pub listing: Option<Listing>,
    pub quotas: Quotas,
    /// How many notices may be published in a second.
    pub notices_per_second: u32,
    /// For how long repeats of a notice are folded.
    pub fold_window: SignedDuration,
    pub metrics: Arc<Metrics>,
}

/// How far it is that people are told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// SNS is being asked.
    Now,
    Already,
}

/// What is kept in memory to save work; all of it can be lost.
#[derive(Default)]
struct Memory {
    /// Ready partitions by profile, oldest first.
    ready: BTreeMap<String, BTreeMap<(Timestamp, TaskKey), TaskPartition>>,
    /// Tasks whose waiting partitions are yet to be decided about again.
    revisits: BTreeSet<String>,
    /// Task partitions that are stored and decided about.
    known: BTreeSet<TaskKey>,
    /// Places of objects that no dataset expects, already reported.
    unknown: BTreeSet<String>,
    /// What people were told of, and is met again and again: hashes of it.
    told: BTreeMap<u64, Told>,
    /// SNS has just failed: nothing is published before this.
    publish_from: Option<Timestamp>,
    /// Clusters in use, and some that nobody is known to use.
    clusters: BTreeMap<String, Watch>,
    survey: Survey,
    /// Looks that nothing called for are made by this replica.
    holds_lease: bool,
    /// Ends of logs that their runs have yet to take.
    logs: logs::LogsRead,
    listings: listing::Listings,
    /// What this replica knows of the ledgers of loads.
    ledgers: BTreeMap<String, loads::Ledger>,
    /// By ledger, the loads that this replica has begun, and when it last saw each.
    loads: BTreeMap<String, BTreeMap<TaskKey, Timestamp>>,
}

impl Engine {
    pub fn new(parts: Parts) -> Self {
        let Parts {
            catalog,
            store,
            emr,
            sns,
            s3,
            redshift,
            clock,
            sweep_interval,
            listing,
            quotas,
            notices_per_second,
            fold_window,
            metrics,
        } = parts;
        Self {
            catalog: watch::Sender::new(Arc::new(catalog)),
            store,
            emr,
            sns,
            s3,
            redshift,
            sweep_interval,
            listing,
            agenda: Agenda::default(),
            log_readers: Semaphore::new(logs::READERS_MAX),
            pace: Mutex::new(Pace::new(notices_per_second)),
            fold_window,
            governor: Mutex::new(Governor::new(&quotas, clock.factor())),
            memory: Mutex::default(),
            metrics,
            health: Health::new(clock.now()),
            replica: new_id(clock.now()),
            started: clock.now(),
            clock,
        }
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// Tells when the catalog is replaced.
    pub fn catalogs(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    /// Goes on with other tasks and datasets. Runs keep what they started with.
    pub fn replace_catalog(&self, catalog: Catalog) {
        let catalog = Arc::new(catalog);
        let before = self.catalog.send_replace(Arc::clone(&catalog));
        let changed: Vec<_> = catalog.changed_tasks(&before).collect();
        let mut memory = self.memory();
        memory.known.retain(|key| changed.iter().all(|task| task.name != key.task));
        // Who is ready comes back by the sweep, to the profile it has now.
        memory.ready.clear();
        drop(memory);
        self.look_at(changed);
    }

    /// Looks at everything of these tasks that nothing else would say needs a
    /// look. To revisit a task reads its whole history.
    fn look_at<'a>(&self, tasks: impl IntoIterator<Item = &'a Task>) {
        let now = self.clock.now();
        self.agenda.wake(Key::Sweep, now);
        self.agenda.wake(Key::Listing, now);
        let tasks: Vec<_> = tasks.into_iter().collect();
        self.memory().revisits.extend(tasks.iter().map(|task| task.name.clone()));
        self.revisit_next();
        for task in tasks {
            if task.has_calendar() {
                self.agenda.wake(Key::Schedule(task.name.clone()), now);
            }
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether the loops come round, and the queue and the tables answer.
    pub fn works(&self) -> bool {
        self.health.hanging(self.agenda_glance(), &self.clock).is_empty()
            && self.health.not_ready(&self.clock).is_empty()
    }

    /// How much there is to look at, and how late the first of it is.
    pub fn agenda_glance(&self) -> AgendaGlance {
        self.agenda.glance(self.clock.now())
    }

    /// Takes turns until told to stop, then lets those under way finish. Ends
    /// by itself only when a turn has panicked.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        self.look_at(self.catalog().tasks.values());
        self.wake_reaper();
        let mut turns = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(turn) = turns.join_next() => {
                    if let Err(error) = turn {
                        tracing::error!(%error, "a turn ended in a way that is a mistake of ours");
                        break;
                    }
                }
                key = self.agenda.next(&self.clock), if turns.len() < TURNS_MAX => {
                    let engine = Arc::clone(&self);
                    turns.spawn(async move { engine.turn(key).await });
                }
            }
        }
        while turns.join_next().await.is_some() {}
        self.release_lease().await;
    }

    /// Looks at a schedule: its tick has come, or may have.
    pub fn tick(&self, task: &str) {
        self.agenda.wake(Key::Schedule(task.to_owned()), self.clock.now());
    }

    async fn turn(&self, key: Key) {
        let result = match &key {
            Key::Sweep => self.sweep().await,
            Key::Schedule(task) => self.turn_schedule(task).await,
            Key::Revisit(task) => self.turn_revisit(task).await,
            Key::Batches(profile) => self.turn_batches(profile).await,
            Key::Run(id) => self.turn_run(id).await,
            Key::Survey => Ok(self.turn_survey().await),
            Key::Reaper => Ok(self.turn_reaper().await),
            Key::Listing => self.turn_listing().await,
            Key::Logs(run) => self.turn_logs(run).await,
            Key::Task(task) => self.turn_task(task).await,
            Key::Pause(scope) => self.turn_pause(scope).await,
            Key::Backfill(id) => self.turn_backfill(id).await,
            Key::Fold(slot) => self.turn_fold(slot).await,
        };
        let now = self.clock.now();
        self.health.turned(now);
        let (task, partition, run) = (key.task(), key.partition(), key.run());
        match result {
            Ok(next) => self.agenda.done(key, next),
            // Somebody was faster: what is stored decides.
            Err(StoreError::Conflict(what)) => {
                tracing::debug!(task, partition, run, %what, "changed by another writer, reading again");
                self.agenda.failed(key, now);
            }
            Err(error @ (StoreError::Unreadable { .. } | StoreError::Unwritable { .. })) => {
                tracing::warn!(task, partition, run, reason = with_causes(&error), "left alone");
                self.tell_unreadable(&error).await;
                // It may be mended, and not all that met it is found by the sweep.
                self.agenda.done(key, Some(after(now, self.sweep_interval)));
            }
            Err(error) => {
                tracing::warn!(task, partition, run, ?key, %error, "will be tried again");
                self.agenda.failed(key, now);
            }
        }
    }

    /// An item is left alone: says so once, for it is met again and again. True when
    /// people were told; other errors are not for them.
    async fn tell_unreadable(&self, error: &StoreError) -> bool {
        let (StoreError::Newer { table, key }
        | StoreError::Unreadable { table, key, .. }
        | StoreError::Unwritable { table, key, .. }) = error
        else {
            return false;
        };
        let reason = with_causes(error);
        let notice = unreadable(key, &reason, self.clock.now());
        self.announce_once(&format!("item {key} in table {table}"), &notice).await
    }

    /// Announces what is met again and again once in the life of this process, and
    /// logs it then; `what` is the same each time. True when people were told.
    pub async fn announce_once(&self, what: &str, notice: &Notice) -> bool {
        let hash = hash_of(what);
        {
            let mut memory = self.memory();
            match memory.told.get(&hash) {
                Some(Told::Already) => return true,
                // Whether it works is not known yet.
                Some(Told::Now) => return false,
                None => {}
            }
            if memory.told.len() >= TOLD_MAX {
                memory.told.retain(|_, told| *told == Told::Now);
            }
            memory.told.insert(hash, Told::Now);
        }
        tracing::error!(what, reason = notice.detail, "{}", notice.headline);
        let accepted = self.announce(notice).await;
        let mut memory = self.memory();
        match accepted {
            true => memory.told.insert(hash, Told::Already),
            false => memory.told.remove(&hash),
        };
        accepted
    }

    /// Finds what no event announced: after a start, after a crash, and what
    /// other replicas left.
    async fn sweep(&self) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock.now();
        let next = after(now, self.sweep_interval);
        let due = self.store.due(next).await;
        let seen = due.as_ref().map(|_| ()).map_err(ToString::to_string);
        self.health.tables(seen, self.clock.now());
        let due = due?;
        self.renew_lease(now).await;
        for (key, due) in due {
            let key = match key {
                DueKey::Run(id) => Key::Run(id),
                DueKey::Task(task) if self.is_gathered(&task, due) => continue,
                DueKey::Task(task) => Key::Task(task),
                DueKey::Pause(scope) => Key::Pause(scope),
                DueKey::Backfill(id) => Key::Backfill(id),
                DueKey::Fold(slot) => Key::Fold(slot),
            };
            match due == URGENT {
                true => self.agenda.wake(key, now),
                false => self.agenda.wake_if_new(key, due),
            }
        }
        Ok(Some(next))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nobody panics while holding it; were it so, what it holds is only
        // a help.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> String {
        new_id(self.clock.now())
    }
}

fn new_id(now: Timestamp) -> String {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Ulid::from_parts(millis, fastrand::u128(..)).to_string()
}

/// That an item is left alone; `key` names it in its table.
fn unreadable(key: &str, reason: &str, now: Timestamp) -> Notice {
    let headline = "an item in the tables cannot be read and is left alone";
    let id = format!("item/{}", key.replace(' ', "/"));
    let sentence =
        "An item in the tables cannot be read; it is left as it is, and nothing else waits for it";
    Notice::new(notice::Kind::Service, id, now, Severity::Failure, "item-unreadable", headline)
        .detailed(reason)
        .saying(sentence)
        .with([
            Fact::new("reason", reason),
            Fact::new(
                "next",
                "if a newer version of sluicegate wrote it, run that version; if it is damaged, \
                 restore it from the table's point-in-time recovery",
            ),
        ])
}

fn hash_of(what: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn after(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::task::Unreadable;

    #[test]
    fn an_item_that_cannot_be_read_is_told_with_its_name_and_the_remedy() {
        let key = "etl 2013-01-01T05".to_owned();
        let source = Unreadable::new("task state", "parked");
        let error = StoreError::Unreadable { table: "prod-task".into(), key: key.clone(), source };
        let now = "2013-01-01T06:20:00Z".parse().unwrap();
        let notice = unreadable(&key, &with_causes(&error), now);
        insta::assert_snapshot!("item-unreadable", notice.message("prod").as_text());
    }
}
