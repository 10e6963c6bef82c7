//! The command line: what can be said, and which exit code follows. 0 is done,
//! 1 is failed, 2 is wrong use or a wrong configuration. Each group of
//! commands has a file; `output` shows what they answer.

mod asked;
mod assets;
mod backfill;
mod check;
mod events;
mod gc;
mod health;
mod inputs;
mod logs;
mod operate;
mod output;
mod pause;
mod plan;
mod reap;
mod runs;
mod send_event;
mod service;
mod shown;
mod status;
mod tables;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aws_config::SdkConfig;
use axum::http::Uri;
use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use serde_json::Value;

use crate::app::{self, ServiceError};
use crate::aws::error::{Kind, with_causes};
use crate::aws::store::{Store, StoreError};
use crate::aws::{self, Access, AwsError};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, Found, Place, TaskFiles};
use crate::core::catalog::Task;
use crate::core::operate::NotDue;
use crate::core::partition::{Grain, Partition, PartitionError};
use crate::core::task::TaskKey;
use crate::engine::ReapError;
use crate::http::ListenError;

use self::output::Output;

#[derive(Debug, Parser)]
#[command(
    name = "sluicegate",
    version,
    about = "Opens the gate when the data has arrived",
    max_term_width = 100,
    long_about = "Follows what lands in S3 and runs each task's partition on a transient EMR \
                  cluster as soon as its inputs are complete.",
    after_help = "Examples:\n  \
        sluicegate check --config config/example.toml\n  \
        sluicegate tables create --config config/example.toml\n  \
        sluicegate run --config config/example.toml\n  \
        sluicegate why daily-report 2013-01-01 --config config/example.toml\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong use or wrong configuration"
)]
struct Cli {
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(service::RunArgs),
    Check(check::CheckArgs),
    Schema(check::SchemaArgs),
    #[command(subcommand)]
    Tables(tables::TablesCommand),
    DeployAssets(assets::DeployArgs),
    Reap(reap::ReapArgs),
    Gc(gc::GcArgs),
    Health(health::HealthArgs),
    Status(status::StatusArgs),
    Runs(runs::RunsArgs),
    Logs(logs::LogsArgs),
    #[command(subcommand)]
    Events(events::EventsCommand),
    Why(why::WhyArgs),
    Retry(operate::RetryArgs),
    Cancel(operate::CancelArgs),
    Skip(operate::SkipArgs),
    Backfill(backfill::BackfillArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Inputs(inputs::InputsArgs),
    Plan(plan::PlanArgs),
    SendEvent(send_event::SendEventArgs),
    Completions(CompletionsArgs),
}

/// Print a script that completes commands in a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate completions bash > /etc/bash_completion.d/sluicegate\n  \
    sluicegate completions zsh > ~/.zfunc/_sluicegate")]
struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The TOML file; needed
    // Asked for by `path`, which says more than clap; and `run show` has its own.
    #[arg(long, env = "SLUICEGATE_CONFIG", value_name = "FILE", value_parser = any_path())]
    config: Option<PathBuf>,
}

/// A configuration with its task files, looked at without AWS.
#[derive(Debug, Args)]
struct WholeArgs {
    /// The task files of this folder, in the place of those that [task-files] names
    #[arg(long, value_name = "FOLDER")]
    tasks: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
struct AwsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Use a local AWS at this endpoint instead of the real one, with its
    /// development clock and made-up credentials
    #[arg(long, env = "SLUICEGATE_LOCAL", value_name = "URL", value_parser = endpoint)]
    local: Option<String>,
    /// Development: let AWS_ENDPOINT_URL and its like lead elsewhere than to AWS
    #[arg(
        long,
        env = "SLUICEGATE_ALLOW_ENDPOINTS",
        value_parser = FalseyValueParser::new(),
        hide_env_values = true
    )]
    allow_endpoints: bool,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was asked makes no sense.
    #[error("{0}")]
    Use(String),
    /// Too early, or nothing that its task does.
    #[error(transparent)]
    NotDue(#[from] NotDue),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("{0}{advice}", advice = advice(.0))]
    Store(#[from] StoreError),
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Reap(#[from] ReapError),
    #[error("{0}")]
    Failed(String),
    /// It was done, and what came of it is no success: an answer too.
    #[error("{words}")]
    Unsuccessful { answer: Box<Output>, words: String },
    /// Mistakes of a configuration as JSON, which is an answer too.
    #[error("{0:#}")]
    Found(Value),
    /// Said in the log, which is all that a service in a container is heard by.
    #[error(transparent)]
    Logged(Box<Failure>),
}

/// What to do about tables that are not as they should be.
fn advice(error: &StoreError) -> &'static str {
    match error {
        StoreError::Aws(error)
            if error.kind == Kind::NotFound || error.message.contains("specified index") =>
        {
            "\n    create what is missing with: sluicegate tables create --config FILE"
        }
        _ => "",
    }
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG_USE: u8 = 2;

/// The service writes the same items all the time.
const TRIES_MAX: usize = 20;

impl Failure {
    /// With its causes.
    fn words(&self) -> String {
        let mut text = with_causes(self);
        if text.contains("loading credentials") {
            text.push_str(
                "\n    give credentials as for the AWS command line (AWS_PROFILE, AWS_ACCESS_KEY_ID, a \
                 role), or name a local AWS: --local URL",
            );
        }
        text
    }

    fn exit_code(&self) -> u8 {
        match self {
            Failure::Use(_) | Failure::NotDue(_) | Failure::Config(_) | Failure::Found(_) => {
                WRONG_USE
            }
            Failure::Service(
                ServiceError::Http(ListenError::Public(_)) | ServiceError::Overridden(_),
            ) => WRONG_USE,
            Failure::Logged(failure) => failure.exit_code(),
            _ => FAILED,
        }
    }
}

/// All that can be said, for completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the arguments, does what they say, and returns the exit code.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    let result = match dispatch(cli).await {
        Ok(Some(output)) => {
            output.show(json).map_err(|error| Failure::Failed(format!("cannot write: {error}")))
        }
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => ExitCode::from(DONE),
        Err(failure) => {
            match &failure {
                // Each mistake has its own "error:" and place.
                Failure::Config(ConfigError::Invalid(mistakes)) => eprintln!("{mistakes}"),
                Failure::Logged(_) => {}
                // Who cannot be written to learns it by the exit code.
                Failure::Found(found) => drop(output::write(&format!("{found:#}"))),
                Failure::Unsuccessful { answer, .. } => {
                    drop(answer.show(json));
                    report(&failure);
                }
                other => report(other),
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What there is to show; the service shows nothing.
async fn dispatch(cli: Cli) -> Result<Option<Output>, Failure> {
    match cli.command {
        Command::Run(args) => return service::run(args, cli.json).await,
        Command::Events(events::EventsCommand::Tail(args)) => {
            return events::tail(&args, cli.json).await;
        }
        Command::Completions(args) => return completions(args.shell).map(|()| None),
        Command::Check(args) => check::check(&args, cli.json),
        Command::Schema(args) => check::schema(&args),
        Command::Tables(tables::TablesCommand::Create(args)) => tables::create(&args).await,
        Command::DeployAssets(args) => assets::deploy(&args).await,
        Command::Reap(args) => reap::reap(&args).await,
        Command::Gc(args) => gc::gc(&args).await,
        Command::Health(args) => health::health(&args, cli.json).await,
        Command::Status(args) => status::status(&args).await,
        Command::Runs(args) => runs::list(&args).await,
        Command::Logs(args) => logs::logs(&args).await,
        Command::Why(args) => why::why(&args).await,
        Command::Retry(args) => operate::retry(&args).await,
        Command::Cancel(args) => operate::cancel(&args).await,
        Command::Skip(args) => operate::skip(&args).await,
        Command::Backfill(args) => backfill::backfill(&args).await,
        Command::Pause(args) => pause::pause(&args).await,
        Command::Resume(args) => pause::resume(&args).await,
        Command::Inputs(args) => inputs::inputs(&args).await,
        Command::Plan(args) => plan::plan(&args),
        Command::SendEvent(args) => send_event::send_event(&args).await,
    }
    .map(Some)
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "sluicegate", &mut script);
    output::write(&String::from_utf8_lossy(&script))
        .map_err(|error| Failure::Failed(format!("cannot write: {error}")))
}

/// A path that may be empty, as a variable that is set to nothing: that names no file.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// How many of a list are shown at most.
fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a whole number from 1 on".to_owned()),
        Ok(limit) => Ok(limit),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri: Option<Uri> = text.parse().ok();
    let is_one =
        |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match uri.is_some_and(|uri| is_one(&uri)) {
        true => Ok(text.to_owned()),
        false => Err("write where it listens, such as http://127.0.0.1:4510".to_owned()),
    }
}

/// The task files of a folder, which has some.
fn task_files(folder: &Path) -> Result<Found, Failure> {
    let found =
        config::read_folder(folder).map_err(|error| unreadable("--tasks", folder, &error))?;
    match found.is_empty() {
        true => Err(Failure::Use(format!(
            "--tasks: there are no task files (*.toml) in {}",
            folder.display()
        ))),
        false => Ok(found),
    }
}

fn unreadable(option: &str, path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::Use(format!("{option}: {} cannot be read: {error}", path.display()))
}

impl WholeArgs {
    fn load(&self) -> Result<Config, Failure> {
        let path = self.config.path()?;
        if let Some(folder) = &self.tasks {
            task_files(folder)?;
            return Ok(config::load_with_folder(path, folder)?);
        }
        let config = config::load_with_task_files(path)?;
        if let Some(TaskFiles { place: place @ Place::Prefix { .. }, .. }) =
            &config.settings.task_files
        {
            eprintln!(
                "warning: the task files in {place} are not read: --tasks FOLDER names a copy"
            );
        }
        Ok(config)
    }
}

impl ConfigArgs {
    fn path(&self) -> Result<&PathBuf, Failure> {
        let missing = || {
            let words =
                "no configuration is named\n    add --config FILE, or set SLUICEGATE_CONFIG";
            Failure::Use(words.to_owned())
        };
        let named = self.config.as_ref().filter(|path| !path.as_os_str().is_empty());
        named.ok_or_else(missing)
    }

    fn load(&self) -> Result<Config, Failure> {
        Ok(config::load(self.path()?)?)
    }
}

/// A configuration and the way to its AWS.
struct Session {
    config: Config,
    clock: Clock,
    aws: SdkConfig,
    store: Store,
}

impl AwsArgs {
    fn access(&self, config: &Config) -> Access {
        let region = config.settings.region.clone();
        Access { region, local: self.local.clone(), overrides: self.allow_endpoints }
    }

    /// With the main file alone: the tables may not exist yet.
    async fn connect(&self) -> Result<Session, Failure> {
        let config = self.config.load()?;
        let access = self.access(&config);
        let clock = app::clock(&access).await?;
        let aws = aws::connect(&access).await;
        aws::refuse_overrides(&aws, &access).map_err(ServiceError::from)?;
        let store = Store::new(&aws, &config.settings.table_prefix);
        Ok(Session { config, clock, aws, store })
    }

    /// With the task files that the service has put in force, wherever they lie.
    async fn open(&self) -> Result<Session, Failure> {
        let mut session = self.connect().await?;
        let retention = session.config.settings.retention;
        session.store = session.store.keeping_as_stored(retention).await?;
        if let Some(files) = &session.config.settings.task_files {
            let in_force = session.store.task_files().await?.texts;
            let found = in_force.iter().map(|(name, text)| (name.clone(), Ok(text.clone())));
            let main = &session.config.main;
            let reloaded = config::reload(main, &files.place, &in_force, &found.collect());
            session.config = reloaded.map_err(ConfigError::Invalid)?.config;
        }
        Ok(session)
    }
}

impl Session {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Reads, decides and writes, and all of it again while the service writes the same item
/// in between.
async fn unless_changed<T>(
    mut decide: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    for _ in 1..TRIES_MAX {
        match decide().await {
            Err(Failure::Store(StoreError::Conflict(_))) => {}
            result => return result,
        }
    }
    decide().await
}

/// A task by its name; of an unknown one says what was probably meant.
fn find_task<'a>(config: &'a Config, name: &str) -> Result<&'a Task, Failure> {
    let tasks = &config.catalog.tasks;
    tasks.get(name).ok_or_else(|| unknown("task", name, tasks.keys().map(String::as_str)))
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let known: Vec<_> = known.collect();
    let help = match known.is_empty() {
        true => format!("no {what} is declared"),
        false => config::suggestion(name, &known, "declared are"),
    };
    Failure::Use(format!("there is no {what} {name:?}\n    {help}"))
}

/// A task's partition as a person writes it; hours and days are told apart.
fn find_partition(task: &Task, text: &str) -> Result<TaskKey, Failure> {
    let partition: Partition =
        text.parse().map_err(|error: PartitionError| Failure::Use(error.to_string()))?;
    if partition.grain() == task.grain {
        return Ok(TaskKey::new(&task.name, partition));
    }
    let (kind, example) = match task.grain {
        Grain::Hour => ("an hourly task", Partition::containing(partition.start(), Grain::Hour)),
        Grain::Day => ("a daily task", Partition::containing(partition.start(), Grain::Day)),
    };
    Err(Failure::Use(format!(
        "{} is {kind}, and {partition} is none of its partitions: expected one such as {example}",
        task.name
    )))
}

/// One error with its causes, on standard error.
fn report(failure: &Failure) {
    eprintln!("error: {}", failure.words());
}
