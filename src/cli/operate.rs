//! `retry`, `cancel` and `skip`: what a person decides about a task partition or
//! a run. Each is made only if things still are as they were read; the service
//! publishes the notice that is stored with it.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::asked::AskedArgs;
use super::output::Output;
use super::{AwsArgs, Failure, Session, find_partition, find_task, runs, unless_changed};
use crate::aws::store::StoreError;
use crate::core::asked::Asked;
use crate::core::catalog::Task;
use crate::core::load::Mode;
use crate::core::operate::{self, Again, Cancel};
use crate::core::partition::Partition;
use crate::core::retention;
use crate::core::run::Run;
use crate::core::task::{TaskChange, TaskKey, TaskPartition, TaskState};

/// Whoever has taken the rows away by hand may load again; nobody else can.
const APPENDED: &str = "warning: its rows are in the table already, and mode append loads no \
    partition twice: its load will fail\n    unless its rows and its row in the ledger are \
    deleted; replace-partition loads again";

/// Run a task's partition again that has failed or was cancelled or skipped
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate retry hourly-etl 2013-01-01T05 --reason 'disk was full' --config prod.toml\n  \
    sluicegate retry daily-report 2013-01-01 --force --by alice --config prod.toml\n  \
    sluicegate retry daily-report 2013-01-01 --ignore-inputs --config prod.toml --json\n  \
    sluicegate retry hourly-etl 2013-01-01T05 --load --config prod.toml\n\n\
    It becomes ready and runs with the next batch; what still lacks inputs that may come waits \
    for them. All its steps run again, on a new cluster; with --load none does, and what lies \
    in its output is loaded. Refused while it waits, is ready or runs. Inputs are not taken \
    for there before the partition has ended.")]
pub struct RetryArgs {
    task: String,
    /// An hour such as 2013-01-01T05 or a day such as 2013-01-01, UTC
    partition: String,
    /// Also if it has succeeded, is older than is kept, or has no slot in the task's schedule
    #[arg(long)]
    force: bool,
    /// Take inputs that have not come for there, and run with what is; also of one that waits
    #[arg(long)]
    ignore_inputs: bool,
    /// Only the load into the warehouse, of one that has failed in it
    #[arg(long, conflicts_with_all = ["force", "ignore_inputs"])]
    load: bool,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    aws: AwsArgs,
}

/// End a task's partition, or a whole run, that waits, is ready or runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate cancel hourly-etl 2013-01-01T05 --reason 'wrong data' --config prod.toml\n  \
    sluicegate cancel 01J9ZC2V --by alice --config prod.toml\n  \
    sluicegate cancel daily-report 2013-01-01 --config prod.toml --json\n\n\
    What runs is told to its run, which cancels the steps, or terminates the cluster when \
    nothing else runs on it. Tasks that read the outputs go on waiting.")]
pub struct CancelArgs {
    /// A task, or a run's id (or its beginning)
    #[arg(value_name = "TASK | RUN")]
    what: String,
    /// Of the task: an hour such as 2013-01-01T05 or a day such as 2013-01-01, UTC
    partition: Option<String>,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Take a task's partition for done, with nothing there
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate skip hourly-etl 2013-01-01T05 --reason 'no data that day' --config prod.toml\n  \
    sluicegate skip daily-report 2013-01-01 --by alice --config prod.toml --json\n\n\
    Nothing is run. Tasks that read its outputs take them for complete and empty, as when an \
    hour without data is skipped. Refused while it runs (cancel it first), and before it has \
    ended.")]
pub struct SkipArgs {
    task: String,
    /// An hour such as 2013-01-01T05 or a day such as 2013-01-01, UTC
    partition: String,
    /// Also if the task's schedule has no slot for it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    aws: AwsArgs,
}

/// What was done, as JSON tells it.
#[derive(Serialize)]
struct Done {
    task: String,
    partition: String,
    before: TaskState,
    state: TaskState,
    asked: Asked,
}

pub async fn retry(args: &RetryArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let task = find_task(&session.config, &args.task)?;
    let key = find_partition(task, &args.partition)?;
    let asked = args.asked.asked(session.now())?;
    if args.load {
        return load_again(&session, task, &key, &asked).await;
    }
    let mut again = Again { force: args.force, ..Again::default() };
    unless_changed(async || {
        let item = stored(&session, &key, args.force).await?;
        let catalog = &session.config.catalog;
        if item.version == 0 && key.partition.start() > session.now() {
            operate::refuse_ahead(task, &key, session.now())?;
        }
        if !args.force {
            operate::refuse_without_slot(task, &item)?;
        }
        if args.ignore_inputs {
            again.receipts = operate::granted(catalog, task, &item, &asked.by);
        }
        if !again.receipts.is_empty() {
            operate::refuse_ahead(task, &key, session.now())?;
        }
        if item.state == TaskState::Waiting && args.ignore_inputs {
            return take_as_given(&session, &item, &again, &asked).await;
        }
        let run = last_run(&session, &item).await?;
        let change =
            operate::retry(catalog, task, &item, run.as_ref(), &again, &asked).map_err(refused)?;
        commit(&session, &change, &item).await?;
        if item.state == TaskState::Succeeded && appends(task) {
            eprintln!("{APPENDED}");
        }
        told(&change, &asked)
    })
    .await
}

/// Of one that waits: what it lacks is taken for there, and it goes on waiting until the
/// service looks.
async fn take_as_given(
    session: &Session,
    item: &TaskPartition,
    again: &Again,
    asked: &Asked,
) -> Result<Output, Failure> {
    let key = &item.key;
    let has = match again.receipts.as_slice() {
        [] => "has what it waits for already",
        receipts => {
            session.store.give(key, &item.given_with(receipts), asked, session.now()).await?;
            "takes what it waits for as there"
        }
    };
    let text = format!("{key} {has}; it waits until the service makes it ready");
    Output::new(text, &done(key, item.state, item.state, asked))
}

fn appends(task: &Task) -> bool {
    task.load.as_ref().is_some_and(|load| load.mode == Mode::Append)
}

async fn load_again(
    session: &Session,
    task: &Task,
    key: &TaskKey,
    asked: &Asked,
) -> Result<Output, Failure> {
    unless_changed(async || {
        let item = stored(session, key, false).await?;
        if item.version == 0 {
            operate::refuse_ahead(task, key, session.now())?;
        }
        let change = operate::load_again(task, &item, asked).map_err(refused)?;
        commit(session, &change, &item).await?;
        told(&change, asked)
    })
    .await
}

pub async fn skip(args: &SkipArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let task = find_task(&session.config, &args.task)?;
    let key = find_partition(task, &args.partition)?;
    let asked = args.asked.asked(session.now())?;
    operate::refuse_ahead(task, &key, session.now())?;
    unless_changed(async || {
        let item = existing(&session, &key, |item| match args.force {
            true => Ok(()),
            false => Ok(operate::refuse_without_slot(task, item)?),
        })
        .await?;
        let change = operate::skip(task, &item, &asked).map_err(refused)?;
        commit(&session, &change, &item).await?;
        told(&change, &asked)
    })
    .await
}

pub async fn cancel(args: &CancelArgs) -> Result<Output, Failure> {
    let Some(partition) = &args.partition else {
        let beginning = match runs::id_beginning(&args.what) {
            Ok(beginning) => beginning,
            Err(no_id) => return Err(task_alone(args).await.unwrap_or(no_id)),
        };
        let session = args.aws.open().await?;
        let asked = args.asked.asked(session.now())?;
        let run = runs::find(&session, beginning).await?;
        return tell_run(&session, &run.id, |_| true, &asked).await;
    };
    let session = args.aws.open().await?;
    let task = find_task(&session.config, &args.what)?;
    let key = find_partition(task, partition)?;
    let asked = args.asked.asked(session.now())?;
    cancel_partition(&session, task, &key, &asked).await
}

/// That a task's name alone says too little, if it is one.
async fn task_alone(args: &CancelArgs) -> Option<Failure> {
    let session = args.aws.open().await.ok()?;
    let task = session.config.catalog.tasks.get(&args.what)?;
    let (name, example) = (&task.name, Partition::containing(session.now(), task.grain).before());
    Some(Failure::Use(format!(
        "{name} is a task, and only one of its partitions can be cancelled: name it\n    such as: \
         sluicegate cancel {name} {example}; to hold back the whole task: sluicegate pause {name}"
    )))
}

async fn cancel_partition(
    session: &Session,
    task: &Task,
    key: &TaskKey,
    asked: &Asked,
) -> Result<Output, Failure> {
    unless_changed(async || {
        // What is stored has begun to wait, whatever the schedule says now.
        let item = existing(session, key, |item| {
            let reason = match () {
                () if item.version > 0 => return Ok(()),
                () if key.partition.start() > session.now() => "has not begun",
                () if operate::lacks_slot(task, item) => "has no slot in its task's schedule",
                () => return Ok(()),
            };
            let nothing = "and does not wait: there is nothing to cancel";
            Err(Failure::Use(format!("{key} {reason} {nothing}")))
        })
        .await?;
        let change = match operate::cancel(Some(task), &item, asked).map_err(refused)? {
            Cancel::Now(change) => change,
            Cancel::InRun(run) => return tell_run(session, &run, |of| of == key, asked).await,
        };
        commit(session, &change, &item).await?;
        told(&change, asked)
    })
    .await
}

/// Stores the wish in the run, which acts on it when the service looks next.
async fn tell_run(
    session: &Session,
    id: &str,
    wanted: impl Fn(&TaskKey) -> bool,
    asked: &Asked,
) -> Result<Output, Failure> {
    unless_changed(async || {
        let Some(mut run) = session.store.run(id).await? else {
            return Err(Failure::Failed(format!("there is no run {id}, nothing was changed")));
        };
        let keys = run.ask_cancel(&wanted, asked);
        if keys.is_empty() {
            return Err(Failure::Failed(nothing_open(&run, &wanted)));
        }
        session.store.commit_run(&mut run, &[]).await?;
        let names: Vec<_> = keys.iter().map(TaskKey::to_string).collect();
        let text = format!(
            "run {id} was told to cancel {}; it ends when nothing of it runs any more",
            names.join(", ")
        );
        Output::new(text, &json!({ "run": id, "cancel": keys, "asked": asked }))
    })
    .await
}

fn nothing_open(run: &Run, wanted: impl Fn(&TaskKey) -> bool) -> String {
    let asked = run.members.iter().filter(|member| wanted(&member.key) && member.outcome.is_none());
    match asked.filter_map(|member| member.cancel.as_ref()).next() {
        Some(asked) => {
            format!("run {} is being cancelled already, since {}, {asked}", run.id, asked.when())
        }
        None => format!(
            "nothing of that is open in run {}, which is {}: nothing was changed",
            run.id,
            run.state.name()
        ),
    }
}

/// The partition; of one that is too old only who insists gets another round.
async fn stored(session: &Session, key: &TaskKey, insists: bool) -> Result<TaskPartition, Failure> {
    let item = session.store.task(key).await?;
    if !insists {
        refuse_forgotten(session, key, item.as_ref()).await?;
    }
    Ok(item.unwrap_or_else(|| TaskPartition::new(key.clone())))
}

/// The partition, if nothing speaks against it; one of which nothing has arrived is
/// stored first.
async fn existing(
    session: &Session,
    key: &TaskKey,
    refuse: impl Fn(&TaskPartition) -> Result<(), Failure>,
) -> Result<TaskPartition, Failure> {
    let stored = session.store.task(key).await?;
    refuse_forgotten(session, key, stored.as_ref()).await?;
    let is_stored = stored.is_some();
    let item = stored.unwrap_or_else(|| TaskPartition::new(key.clone()));
    refuse(&item)?;
    match is_stored {
        true => Ok(item),
        false => Ok(session.store.receive(key, &[], None, false, session.now()).await?),
    }
}

/// Whether it has run may not be known any more.
async fn refuse_forgotten(
    session: &Session,
    key: &TaskKey,
    item: Option<&TaskPartition>,
) -> Result<(), Failure> {
    match session.store.is_forgotten(key, item, session.now()).await? {
        true => Err(refused(retention::refused(key, session.store.retention().partitions))),
        false => Ok(()),
    }
}

async fn last_run(session: &Session, item: &TaskPartition) -> Result<Option<Run>, Failure> {
    match &item.run {
        Some(id) => Ok(session.store.run(id).await?),
        None => Ok(None),
    }
}

/// Makes the change. One whose answer was lost is known by its instant.
async fn commit(
    session: &Session,
    change: &TaskChange,
    item: &TaskPartition,
) -> Result<(), StoreError> {
    let result = session.store.change_task(change, item.version).await;
    let Err(StoreError::Conflict(_)) = &result else { return result.map(|_| ()) };
    let now = session.store.task(&change.key).await?;
    let millis = |at: Timestamp| at.as_millisecond();
    let ours = now.is_some_and(|now| {
        now.state == change.to
            && now.round == change.round
            && now.since.map(millis) == Some(millis(change.at))
    });
    if ours { Ok(()) } else { result.map(|_| ()) }
}

fn refused(refused: operate::Refused) -> Failure {
    Failure::Failed(refused.to_string())
}

fn done(key: &TaskKey, before: TaskState, state: TaskState, asked: &Asked) -> Done {
    let (task, partition) = (key.task.clone(), key.partition.to_string());
    Done { task, partition, before, state, asked: asked.clone() }
}

fn told(change: &TaskChange, asked: &Asked) -> Result<Output, Failure> {
    let TaskChange { key, from, to, .. } = change;
    let text = format!("{key} is {} now; it was {}", to.name(), from.name());
    Output::new(text, &done(key, *from, *to, asked))
}
