//! `backfill`: orders one, lists, shows and cancels them, and waits for one. The
//! service carries it out; this process may end at any time.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::json;
use ulid::Ulid;

use super::asked::AskedArgs;
use super::output::{self, Output, ago, or_dash, time};
use super::{AwsArgs, Failure, Session, find_task, limit, unless_changed};
use crate::core::asked::Asked;
use crate::core::backfill::{Backfill, How, Order, PARALLEL_MAX, PARTITIONS_MAX, Step, Window};
use crate::core::catalog::Task;
use crate::core::operate;
use crate::core::partition::{Grain, Partition, PartitionError};
use crate::core::task::{TaskKey, TaskPartition};

/// How often a waiting command looks, in real time.
const LOOK_SECS: f64 = 0.5;

/// Run a window of a task's partitions, so many at a time
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
        sluicegate backfill hourly-etl --from 2013-01-01 --to 2013-01-31 --dry-run --config prod.toml\n  \
        sluicegate backfill hourly-etl --from 2013-01-01T00 --to 2013-01-01T05 --max-parallel 2 \\\n    \
        --order desc --wait --config prod.toml\n  \
        sluicegate backfill list --config prod.toml\n  \
        sluicegate backfill show 01J9ZC2V --config prod.toml --json\n  \
        sluicegate backfill cancel 01J9ZC2V --by alice --config prod.toml\n\n\
        Runs what has not run, has failed or was cancelled; what has succeeded or was skipped is \
        left alone, and so is what lacks inputs. A slot that the schedule has and never gave is \
        given. Left out is what the schedule has no slot for, and what has not ended yet. Refused \
        while another backfill has partitions of the window. The service carries it out, whatever \
        becomes of this command, and sends one summary at its end instead of mails of its \
        partitions."
)]
pub struct BackfillArgs {
    #[arg(required = true)]
    task: Option<String>,
    /// The first hour or day, UTC: 2013-01-01T05, 2013-01-01
    #[arg(long, required = true)]
    from: Option<String>,
    /// The last hour or day, which belongs to it; what has not ended is left out
    #[arg(long, required = true)]
    to: Option<String>,
    /// How many partitions are ready or running at once; default: the batch-size of
    /// the task's profile
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(PARALLEL_MAX)))]
    max_parallel: Option<u32>,
    /// Which partitions come first: the oldest (asc) or the newest (desc)
    #[arg(long, value_enum, default_value = "asc")]
    order: OrderArg,
    /// Also what has succeeded or was skipped, is older than is kept, or has no slot in the
    /// task's schedule
    #[arg(long)]
    force: bool,
    /// Take inputs that have not come for there
    #[arg(long)]
    ignore_inputs: bool,
    /// Begin nothing; show what would be run
    #[arg(long)]
    dry_run: bool,
    /// Wait for its end; exit code 1 if a partition failed
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    aws: AwsArgs,
    #[command(subcommand)]
    command: Option<BackfillCommand>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OrderArg {
    Asc,
    Desc,
}

#[derive(Debug, Subcommand)]
enum BackfillCommand {
    List(ListArgs),
    Show(ShowArgs),
    Cancel(CancelArgs),
}

/// List backfills, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate backfill list --config prod.toml\n  \
    sluicegate backfill list --config prod.toml --json | jq -r '.backfills[0].id'")]
struct ListArgs {
    /// At most so many
    #[arg(long, default_value = "20", value_parser = limit, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Show how far a backfill is
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate backfill show 01J9ZC2V --config prod.toml\n  \
    sluicegate backfill show 01J9ZC2V --wait --config prod.toml")]
struct ShowArgs {
    /// Its id, or so much of its beginning that no other has it
    id: String,
    /// Wait for its end; exit code 1 if a partition failed
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Begin nothing more of a backfill
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate backfill cancel 01J9ZC2V --config prod.toml\n  \
    sluicegate backfill cancel 01J9ZC2V --by alice --reason 'wrong window' --config prod.toml\n\n\
    What is ready is cancelled, what runs goes on to its end; then the summary is sent.")]
struct CancelArgs {
    /// Its id, or so much of its beginning that no other has it
    id: String,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    aws: AwsArgs,
}

/// A backfill as JSON tells it.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    state: &'static str,
    #[serde(flatten)]
    window: &'a Window,
    partitions: u32,
    done: u32,
    open: Vec<Partition>,
    counts: &'a BTreeMap<How, u32>,
    failed: &'a [Partition],
    asked: &'a Asked,
    cancelled: Option<&'a Asked>,
    ended: Option<Timestamp>,
    /// Known only to the command that orders it.
    left_out: Option<LeftOut>,
}

/// What of the window that was asked for is not run, whatever its state.
#[derive(Debug, Clone, Copy, Serialize)]
struct LeftOut {
    /// At the end of the window, which is cut before them.
    not_ended: u32,
    /// The task's schedule has none for them; an order that insists runs these.
    no_slot: u32,
}

impl LeftOut {
    /// One line for each reason.
    fn words(self) -> String {
        let line = |count: u32, one: &str, more: &str| match count {
            0 => String::new(),
            1 => format!("    1 partition {one}: left out\n"),
            count => format!("    {count} partitions {more}: left out\n"),
        };
        let slot = "no slot in the task's schedule";
        line(self.not_ended, "has not ended", "have not ended")
            + &line(self.no_slot, &format!("has {slot}"), &format!("have {slot}"))
    }
}

impl<'a> Shown<'a> {
    fn of(backfill: &'a Backfill) -> Self {
        Self::ordered(backfill, None)
    }

    fn ordered(backfill: &'a Backfill, left_out: Option<LeftOut>) -> Self {
        Self {
            left_out,
            id: &backfill.id,
            state: backfill.state(),
            window: &backfill.window,
            partitions: backfill.window.partitions(),
            done: backfill.done(),
            open: backfill.open.iter().copied().collect(),
            counts: &backfill.counts,
            failed: &backfill.failed,
            asked: &backfill.asked,
            cancelled: backfill.cancelled.as_ref(),
            ended: backfill.ended,
        }
    }
}

pub async fn backfill(args: &BackfillArgs) -> Result<Output, Failure> {
    match &args.command {
        Some(BackfillCommand::List(args)) => list(args).await,
        Some(BackfillCommand::Show(args)) => show(args).await,
        Some(BackfillCommand::Cancel(args)) => cancel(args).await,
        None => order(args).await,
    }
}

async fn order(args: &BackfillArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let task = find_task(&session.config, args.task.as_deref().unwrap_or_default())?;
    let (window, left_out) = window(args, &session, task)?;
    let asked = match args.dry_run {
        true => args.asked.asked_by_anybody(session.now()),
        false => args.asked.asked(session.now())?,
    };
    let millis = u64::try_from(asked.at.as_millisecond()).unwrap_or(0);
    let id = Ulid::from_parts(millis, fastrand::u128(..)).to_string();
    let mut backfill = Backfill::new(&id, window, asked);
    if args.dry_run {
        refuse_overlap(&session, &backfill.window).await?;
        return foresee(&session, task, &backfill, left_out).await;
    }
    unless_changed(async || {
        // Read before the others: one that is ordered meanwhile changes it.
        let last = session.store.last_order(&task.name).await?;
        refuse_overlap(&session, &backfill.window).await?;
        Ok(session.store.order(&mut backfill, last).await?)
    })
    .await?;
    if args.wait {
        return wait(&session, backfill, Some(left_out)).await;
    }
    let text = format!(
        "backfill {id} has begun: {}, {} at a time\n{}    how far it is: sluicegate backfill show {id}",
        backfill.what(),
        backfill.window.max_parallel,
        left_out.words()
    );
    Output::new(text, &Shown::ordered(&backfill, Some(left_out)))
}

/// Two at once would run the same partitions, one after the other, or leave each
/// other's alone.
async fn refuse_overlap(session: &Session, window: &Window) -> Result<(), Failure> {
    let backfills = session.store.backfills().await?;
    let is_in_the_way =
        |other: &&Backfill| other.ended.is_none() && other.window.intersects(window);
    let Some(other) = backfills.iter().find(is_in_the_way) else { return Ok(()) };
    let id = &other.id;
    let remedy = match other.cancelled {
        Some(_) => {
            format!("it is being cancelled: wait for its end: sluicegate backfill show {id} --wait")
        }
        None => format!(
            "wait for its end: sluicegate backfill show {id} --wait; or end it: sluicegate \
             backfill cancel {id}"
        ),
    };
    Err(Failure::Use(format!(
        "backfill {id} is at work on the same partitions: {}; nothing was ordered\n    {remedy}",
        other.what()
    )))
}

/// What is asked for, as far as it may be run.
fn window(
    args: &BackfillArgs,
    session: &Session,
    task: &Task,
) -> Result<(Window, LeftOut), Failure> {
    let first = bound(task, args.from.as_deref().unwrap_or_default(), false)?;
    let asked = bound(task, args.to.as_deref().unwrap_or_default(), true)?;
    if asked < first {
        return Err(Failure::Use(format!("the window is empty: {first} is after {asked}")));
    }
    let last = operate::newest_over(task, asked, session.now());
    if last < first {
        let first = TaskKey::new(&task.name, first);
        operate::refuse_ahead(task, &first, session.now())?;
    }
    let profile = session.config.catalog.profiles.get(&task.profile);
    let batch = profile.map_or(1, |profile| u32::try_from(profile.batch_size).unwrap_or(1));
    let asked_for = Window {
        task: task.name.clone(),
        first,
        last: asked,
        max_parallel: args.max_parallel.unwrap_or(batch.clamp(1, PARALLEL_MAX)),
        order: match args.order {
            OrderArg::Asc => Order::Asc,
            OrderArg::Desc => Order::Desc,
        },
        force: args.force,
        ignore_inputs: args.ignore_inputs,
    };
    let window = Window { last, ..asked_for.clone() };
    let partitions = window.partitions();
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        return Err(Failure::Use(format!(
            "the window has more than {PARTITIONS_MAX} partitions: divide it"
        )));
    }
    let no_slot = if args.force { 0 } else { without_slot(task, &window)? };
    let not_ended = asked_for.partitions().saturating_sub(partitions);
    Ok((window, LeftOut { not_ended, no_slot }))
}

/// How many of a window's partitions the schedule has no slot for; refused if that is all.
fn without_slot(task: &Task, window: &Window) -> Result<u32, Failure> {
    let all = Partition::overlapping(window.first.start(), window.last.end(), task.grain);
    let items = all.map(|partition| TaskPartition::new(TaskKey::new(&task.name, partition)));
    let without = items.filter(|item| operate::lacks_slot(task, item)).count();
    let without = u32::try_from(without).unwrap_or(u32::MAX);
    if without == window.partitions() {
        let first = TaskPartition::new(TaskKey::new(&task.name, window.first));
        operate::refuse_without_slot(task, &first)?;
    }
    Ok(without)
}

/// The first or last partition of the task that a bound names: a day stands for
/// all its hours.
fn bound(task: &Task, text: &str, is_last: bool) -> Result<Partition, Failure> {
    let named: Partition =
        text.parse().map_err(|error: PartitionError| Failure::Use(error.to_string()))?;
    if (named.grain(), task.grain) == (Grain::Hour, Grain::Day) {
        let day = Partition::containing(named.start(), Grain::Day);
        return Err(Failure::Use(format!(
            "{} is a daily task, and {named} is an hour: expected a day such as {day}",
            task.name
        )));
    }
    let before_end = named.end().saturating_sub(SignedDuration::from_secs(1));
    let at = if is_last { before_end.unwrap_or(named.start()) } else { named.start() };
    Ok(Partition::containing(at, task.grain))
}

/// What it would do, as things stand.
async fn foresee(
    session: &Session,
    task: &Task,
    backfill: &Backfill,
    left_out: LeftOut,
) -> Result<Output, Failure> {
    let window = &backfill.window;
    let (stored, unreadable) = session.store.window(window).await?;
    let (mut run, mut left) = (Vec::new(), BTreeMap::<How, u32>::new());
    let all = Partition::overlapping(window.first.start(), window.last.end(), task.grain);
    for partition in all {
        let unstored = TaskPartition::new(TaskKey::new(&task.name, partition));
        let found = stored.get(&partition);
        let key = &unstored.key;
        if backfill.leaves_too_old(found)
            && session.store.is_forgotten(key, found, session.now()).await?
        {
            *left.entry(How::TooOld).or_default() += 1;
            continue;
        }
        let item = found.unwrap_or(&unstored);
        match backfill.step(&session.config.catalog, task, item, None, session.now()) {
            Step::Over(how) => *left.entry(how).or_default() += 1,
            _ => run.push(partition),
        }
    }
    if window.order == Order::Desc {
        run.reverse();
    }
    let ends = match (run.first(), run.last()) {
        (Some(first), Some(last)) => format!(", from {first} to {last}"),
        _ => String::new(),
    };
    let mut text = format!(
        "{}\n{:>7} would be run, {} at a time{ends}\n",
        backfill.what(),
        run.len(),
        window.max_parallel
    );
    for (how, count) in &left {
        text.push_str(&format!("{count:>7} {}\n", how.words()));
    }
    if left_out.not_ended > 0 {
        text.push_str(&format!("{:>7} left out: not ended yet\n", left_out.not_ended));
    }
    if unreadable > 0 {
        text.push_str(&format!("{unreadable:>7} cannot be read, and are left alone\n"));
    }
    let value = json!({ "window": window, "partitions": window.partitions(), "run": run,
        "left": left, "left_out": left_out, "unreadable": unreadable });
    Output::new(text, &value)
}

async fn list(args: &ListArgs) -> Result<Output, Failure> {
    let session = args.aws.connect().await?;
    let mut backfills = session.store.backfills().await?;
    backfills.reverse();
    let truncated = backfills.len() > args.limit;
    backfills.truncate(args.limit);
    let now = session.now();
    let rows: Vec<_> = backfills
        .iter()
        .map(|backfill| {
            [
                backfill.id.clone(),
                backfill.window.task.clone(),
                backfill.state().to_owned(),
                format!("{}/{}", backfill.done(), backfill.window.partitions()),
                backfill.count(How::Succeeded).to_string(),
                backfill.count(How::Failed).to_string(),
                ago(backfill.asked.at, now),
            ]
        })
        .collect();
    let text = match rows.is_empty() {
        true => "no backfills".to_owned(),
        false => {
            output::table(["BACKFILL", "TASK", "STATE", "OVER", "OK", "FAILED", "ASKED"], rows)
        }
    };
    let shown: Vec<_> = backfills.iter().map(Shown::of).collect();
    Output::new(text, &json!({ "backfills": shown, "truncated": truncated }))
}

async fn show(args: &ShowArgs) -> Result<Output, Failure> {
    let session = args.aws.connect().await?;
    let backfill = find(&session, &args.id).await?;
    match args.wait {
        true => wait(&session, backfill, None).await,
        false => shown(&session, &backfill, None),
    }
}

async fn cancel(args: &CancelArgs) -> Result<Output, Failure> {
    let session = args.aws.connect().await?;
    let asked = args.asked.asked(session.now())?;
    unless_changed(async || {
        let mut backfill = find(&session, &args.id).await?;
        if !backfill.ask_cancel(asked.clone()) {
            let (id, state) = (&backfill.id, backfill.state());
            return Err(Failure::Failed(format!(
                "backfill {id} cannot be cancelled: it is {state} already"
            )));
        }
        session.store.commit_document(&mut backfill).await?;
        let text = format!(
            "backfill {} begins nothing more; what runs of it goes on to its end",
            backfill.id
        );
        Output::new(text, &Shown::of(&backfill))
    })
    .await
}

/// The only backfill whose id begins so.
async fn find(session: &Session, id: &str) -> Result<Backfill, Failure> {
    let beginning = id.to_uppercase();
    let mut found = session.store.backfills().await?;
    found.retain(|backfill| backfill.id.starts_with(&beginning));
    match found.len() {
        0 => Err(Failure::Failed(format!(
            "there is no backfill {beginning}\n    list them with: sluicegate backfill list --config FILE"
        ))),
        1 => Ok(found.remove(0)),
        _ => Err(Failure::Use(format!(
            "several backfills begin with {beginning}: give more of the id"
        ))),
    }
}

fn shown(
    session: &Session,
    backfill: &Backfill,
    left_out: Option<LeftOut>,
) -> Result<Output, Failure> {
    let now = session.now();
    let window = &backfill.window;
    let mut text = String::new();
    let mut line = |label: &str, value: String| text.push_str(&output::labelled(label, &value));
    line("backfill", backfill.id.clone());
    line("of", backfill.what());
    line("state", backfill.state().to_owned());
    line(
        "asked",
        format!(
            "{} ({}), {}",
            time(backfill.asked.at),
            ago(backfill.asked.at, now),
            backfill.asked
        ),
    );
    if let Some(asked) = &backfill.cancelled {
        line("cancelled", format!("{} ({}), {asked}", time(asked.at), ago(asked.at, now)));
    }
    if let Some(ended) = backfill.ended {
        line("ended", format!("{} ({})", time(ended), ago(ended, now)));
    }
    line("at once", window.max_parallel.to_string());
    line("done", format!("{} of {}", backfill.done(), window.partitions()));
    for how in How::ALL {
        if backfill.count(how) > 0 {
            text.push_str(&format!("{:>18} {}\n", backfill.count(how), how.words()));
        }
    }
    let mut line = |label: &str, value: String| text.push_str(&output::labelled(label, &value));
    let named = |partitions: &mut dyn Iterator<Item = &Partition>| {
        partitions.map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    line(
        "under way",
        or_dash(Some(named(&mut backfill.open.iter())).filter(|names| !names.is_empty())),
    );
    if !backfill.failed.is_empty() {
        line("failed", named(&mut backfill.failed.iter()));
    }
    text.push_str(&left_out.map_or_else(String::new, LeftOut::words));
    Output::new(text, &Shown::ordered(backfill, left_out))
}

/// Follows it to its end, with a progress bar on a terminal. What ends this
/// command does not end the backfill.
async fn wait(
    session: &Session,
    backfill: Backfill,
    left_out: Option<LeftOut>,
) -> Result<Output, Failure> {
    let mut backfill = backfill;
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(u64::from(backfill.window.partitions()));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {elapsed}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while backfill.ended.is_none() {
        bar.set_position(u64::from(backfill.done()));
        let (open, failed) = (backfill.open.len(), backfill.count(How::Failed));
        bar.set_message(format!("{open} under way, {failed} failed"));
        let look = SignedDuration::from_secs_f64(LOOK_SECS * session.clock.factor());
        let next = session.now().saturating_add(look).unwrap_or(Timestamp::MAX);
        session.clock.sleep_until(next).await;
        let id = &backfill.id;
        let read = session.store.backfill(id).await?;
        let gone = || Failure::Failed(format!("backfill {id} is not in the tables any more"));
        backfill = read.ok_or_else(gone)?;
    }
    bar.finish_and_clear();
    let shown = shown(session, &backfill, left_out)?;
    match backfill.count(How::Failed) {
        0 => Ok(shown),
        failed => Err(Failure::Unsuccessful {
            answer: Box::new(shown),
            words: format!("{failed} of the partitions of backfill {} failed", backfill.id),
        }),
    }
}
