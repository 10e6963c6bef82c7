//! `pause` and `resume`: hold back what is ready, and let it go again. The
//! service's replicas read it before every batch.

use clap::Args;
use serde_json::json;

use super::asked::AskedArgs;
use super::output::Output;
use super::{AwsArgs, Failure, Session, find_task, unknown, unless_changed};
use crate::core::catalog::Task;
use crate::core::pause::{Already, Pause, Scope};

/// Put nothing new of a task into a batch until it is resumed
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate pause hourly-etl --reason 'new release' --config prod.toml\n  \
    sluicegate pause --profile etl --by alice --config prod.toml\n  \
    sluicegate pause --all --config prod.toml --json\n\n\
    What runs goes on, and arrivals are recorded; what becomes ready waits. `status` and `why` \
    say since when and by whom. Fails if it is paused already.")]
pub struct PauseArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Let what is ready run again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate resume hourly-etl --config prod.toml\n  \
    sluicegate resume --profile etl --by alice --config prod.toml\n  \
    sluicegate resume --all --config prod.toml --json\n\n\
    Ends the pause of the same name: a task may also be held by its profile's, or by --all. \
    The service goes on within a sweep interval. Fails if it is not paused.")]
pub struct ResumeArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    aws: AwsArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    task: Option<String>,
    /// Every task of this cluster profile
    #[arg(long)]
    profile: Option<String>,
    /// Every task
    #[arg(long)]
    all: bool,
}

impl What {
    /// What is no longer declared can still be resumed.
    fn scope(&self, session: &Session, declared: bool) -> Result<Scope, Failure> {
        match (&self.task, &self.profile) {
            (Some(task), _) if declared => {
                Ok(Scope::Task(find_task(&session.config, task)?.name.clone()))
            }
            (Some(task), _) => Ok(Scope::Task(task.clone())),
            (None, Some(profile)) => {
                let known = &session.config.catalog.profiles;
                if declared && !known.contains_key(profile) {
                    return Err(unknown("profile", profile, known.keys().map(String::as_str)));
                }
                Ok(Scope::Profile(profile.clone()))
            }
            (None, None) => Ok(Scope::All),
        }
    }
}

pub async fn pause(args: &PauseArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let scope = args.what.scope(&session, true)?;
    let asked = args.asked.asked(session.now())?;
    let pause = change(&session, &scope, |pause| pause.pause(asked.clone())).await?;
    let text = format!(
        "{} is paused: nothing new of it is run until it is resumed; what runs goes on",
        pause.scope.words()
    );
    Output::new(text, &json!({ "scope": pause.scope.to_string(), "paused": pause.paused }))
}

pub async fn resume(args: &ResumeArgs) -> Result<Output, Failure> {
    let session = args.aws.open().await?;
    let scope = args.what.scope(&session, false)?;
    let asked = args.asked.asked(session.now())?;
    let pauses = session.store.pauses().await?;
    let tasks = session.config.catalog.tasks.values();
    let is_left = |other: &Pause| {
        let both = |task: &Task| scope.holds(task) && other.scope.holds(task);
        other.paused.is_some() && other.scope != scope && tasks.clone().any(both)
    };
    let left: Vec<_> =
        pauses.iter().filter(|other| is_left(other)).map(|other| &other.scope).collect();
    let still = left.iter().map(|other| format!("\n    but {} is still paused", other.words()));
    let still: String = still.collect();
    let pause = match change(&session, &scope, |pause| pause.resume(asked.clone())).await {
        Err(Failure::Failed(words)) => {
            // A name that nobody knows is a mistake.
            args.what.scope(&session, true)?;
            return Err(Failure::Failed(words + &still));
        }
        result => result?,
    };
    let text = format!("{} is resumed{still}", pause.scope.words());
    let left: Vec<_> = left.into_iter().map(Scope::to_string).collect();
    Output::new(
        text,
        &json!({ "scope": pause.scope.to_string(), "resumed": asked, "still_paused": left }),
    )
}

async fn change(
    session: &Session,
    scope: &Scope,
    change: impl Fn(&mut Pause) -> Result<(), Already>,
) -> Result<Pause, Failure> {
    unless_changed(async || {
        let stored = session.store.pause(scope).await?;
        let mut pause = stored.unwrap_or_else(|| Pause::new(scope.clone()));
        change(&mut pause).map_err(|already| Failure::Failed(already.to_string()))?;
        session.store.commit_document(&mut pause).await?;
        Ok(pause)
    })
    .await
}
