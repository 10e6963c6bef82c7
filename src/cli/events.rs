//! `events tail`: what people were told of late, from the log of published
//! notices. Not for the service's own log, nor for what is not yet published.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use super::output::{self, Output, plain, to_json, wrapped};
use super::{AwsArgs, Failure, Session, find_task, limit};
use crate::aws::store::{NOTICES_KEPT, Notices};
use crate::core::notice::NoticeGlance;

/// Real seconds between two looks.
const LOOK_SECS: f64 = 2.0;
/// In real seconds: a notice is stored a moment after the time that it bears, and
/// the clocks of replicas differ.
const OVERLAP_SECS: f64 = 30.0;
/// `failed` and the like; longer ones push their words to the right.
const STATUS_CHARS: usize = 15;
const TIME_CHARS: usize = 14;

/// Show what people were told
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  sluicegate events tail --follow --config prod.toml")]
pub enum EventsCommand {
    Tail(TailArgs),
}

/// Show the latest status changes as people were told of them, the newest last
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate events tail --config prod.toml\n  \
    sluicegate events tail --follow --task daily-report --config prod.toml\n  \
    sluicegate events tail --since 1h --limit 200 --config prod.toml --json\n  \
    sluicegate events tail --follow --config prod.toml --json | jq -r .words\n\n\
    An event is listed once SNS has accepted its notice, in that order; the time is that of the \
    change. Mailboxes get what the filter of the e-mail subscription lets pass. Events are kept \
    for 14 days. With --follow, --json writes one event a line; end it with Ctrl-C.")]
pub struct TailArgs {
    /// Go on with what comes
    #[arg(long, short)]
    follow: bool,
    /// Only events of this task and its partitions
    #[arg(long)]
    task: Option<String>,
    /// Only what was told since so long ago, such as 30m or 12h
    #[arg(long, default_value = "24h", value_parser = length, value_name = "LENGTH")]
    since: SignedDuration,
    /// At most so many of what was told already
    #[arg(long, default_value = "50", value_parser = limit, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    aws: AwsArgs,
}

fn length(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(length) if length.is_positive() && length <= NOTICES_KEPT => Ok(length),
        Ok(length) if length.is_positive() => {
            Err(format!("events are kept for {} h", NOTICES_KEPT.as_hours()))
        }
        _ => Err("expected a length such as 30m or 12h".to_owned()),
    }
}

/// The answer; None when it was written piece by piece.
pub async fn tail(args: &TailArgs, as_json: bool) -> Result<Option<Output>, Failure> {
    let session = args.aws.open().await?;
    if let Some(task) = &args.task {
        find_task(&session.config, task)?;
    }
    let now = session.now();
    let since = now.saturating_sub(args.since).unwrap_or(Timestamp::MIN);
    let found = session.store.published(since, args.task.as_deref(), args.limit, now).await?;
    if args.follow {
        return follow(args, &session, found, as_json).await.map(|()| None);
    }
    let mut text = match found.notices.as_slice() {
        [] => "no events".to_owned(),
        notices => header() + &notices.iter().map(line).collect::<String>(),
    };
    if found.truncated {
        text.push_str("\nthere are older ones; raise --limit to see them\n");
    }
    if found.unreadable > 0 {
        text.push_str(&format!(
            "\n{} cannot be read: written by a newer version, or damaged\n",
            found.unreadable
        ));
    }
    Output::new(text, &found).map(Some)
}

/// Writes what is there and then what comes, until nobody reads it any more.
async fn follow(
    args: &TailArgs,
    session: &Session,
    first: Notices,
    as_json: bool,
) -> Result<(), Failure> {
    let mut found = first;
    let mut shown = BTreeSet::new();
    let real = |secs: f64| SignedDuration::from_secs_f64(secs * session.clock.factor());
    if !as_json && !offer(&header())? {
        return Ok(());
    }
    loop {
        for notice in &found.notices {
            let key = (notice.published, notice.event.clone());
            let words = if as_json { to_json(notice)?.to_string() } else { line(notice) };
            if shown.insert(key) && !offer(&words)? {
                return Ok(());
            }
        }
        let from = session.now().saturating_sub(real(OVERLAP_SECS)).unwrap_or(Timestamp::MIN);
        // Keys have milliseconds: what is asked for again must still be known.
        let from = Timestamp::from_second(from.as_second()).unwrap_or(from);
        shown.retain(|(published, _)| *published >= from);
        let next = session.now().saturating_add(real(LOOK_SECS)).unwrap_or(Timestamp::MAX);
        session.clock.sleep_until(next).await;
        let (task, now) = (args.task.as_deref(), session.now());
        found = session.store.published(from, task, usize::MAX, now).await?;
    }
}

fn offer(text: &str) -> Result<bool, Failure> {
    output::offer(text).map_err(|error| Failure::Failed(format!("cannot write: {error}")))
}

fn header() -> String {
    format!("{:<TIME_CHARS$}  {:<STATUS_CHARS$}  EVENT\n", "TIME (UTC)", "STATUS")
}

/// `01-01 06:32:00  failed  etl 2013-01-01T05 FAILED: exit code 3`, wrapped.
fn line(notice: &NoticeGlance) -> String {
    let start = format!(
        "{}  {:<STATUS_CHARS$}  ",
        notice.at.strftime("%m-%d %H:%M:%S"),
        plain(&notice.status)
    );
    let mut words = plain(&notice.words);
    if let (None, Some(run)) = (&notice.partition, &notice.run) {
        words.push_str(&format!(" ({run})"));
    }
    let column = TIME_CHARS + STATUS_CHARS + 4;
    let width = usize::from(output::WIDTH) - column;
    let lines = wrapped(&words, width);
    format!("{start}{}\n", lines.join(&format!("\n{:column$}", "")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::notice::{Kind, Notice, Severity};

    fn glance(status: &str, headline: &str) -> NoticeGlance {
        let at = "2013-01-01T06:32:00Z".parse().unwrap();
        let notice = Notice::new(Kind::Run, "e".into(), at, Severity::Info, status, headline);
        NoticeGlance::of(&notice, at)
    }

    #[test]
    fn a_line_fits_eighty_columns_and_names_its_run() {
        let mut notice = glance("run-succeeded", "run of etl 2013-01-01T05 succeeded\u{1b}[31m");
        notice.run = Some("01HZ5T3W8M2V9N4K7Q6R1C0XDB".into());
        assert_eq!(
            line(&notice),
            "01-01 06:32:00  run-succeeded    run of etl 2013-01-01T05 succeeded [31m\n                 \
             \x20               (01HZ5T3W8M2V9N4K7Q6R1C0XDB)\n"
        );
        let long = line(&glance("failed", &"word ".repeat(50)));
        assert!(long.lines().all(|line| line.chars().count() <= usize::from(output::WIDTH)));
    }

    #[test]
    fn how_far_back_is_told_from_nonsense() {
        assert_eq!(length("90m"), Ok(SignedDuration::from_mins(90)));
        for (text, said) in [("x", "30m"), ("0s", "30m"), ("-1h", "30m"), ("9999h", "336 h")] {
            assert!(length(text).unwrap_err().contains(said), "{text}");
        }
    }
}
