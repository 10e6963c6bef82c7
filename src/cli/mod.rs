//! The command line: what can be said, and which exit code follows. 0 is done,
//! 1 is failed, 2 is wrong use or a wrong configuration.

mod check;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::app;
use crate::aws::store::Store;
use crate::aws::{self, Access};
use crate::config::{self, Config};

#[derive(Debug, Parser)]
#[command(
    name = "sluicegate",
    version,
    about = "Opens the gate when the data has arrived",
    long_about = "Follows what lands in S3 and runs each task's partition on a transient EMR \
                  cluster as soon as its inputs are complete.",
    after_help = "Examples:\n  \
        sluicegate check --config config/example.toml\n  \
        sluicegate tables create --config config/example.toml\n  \
        sluicegate run --config config/example.toml\n  \
        sluicegate run --config config/local.toml --local http://127.0.0.1:4566\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong use or wrong configuration"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until it is told to stop (SIGTERM or Ctrl-C)
    Run(RunArgs),
    /// Check a configuration and say every mistake in it
    Check(check::CheckArgs),
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = "Example:\n  \
        sluicegate schema > sluicegate.schema.json\n\n\
        With `#:schema ./sluicegate.schema.json` as its first line, editors (Even Better TOML, \
        taplo) complete and check a configuration as it is written.")]
    Schema,
    /// Work on the DynamoDB tables
    #[command(subcommand)]
    Tables(TablesCommand),
}

#[derive(Debug, Subcommand)]
enum TablesCommand {
    /// Create the tables that are missing
    Create(AwsArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The TOML file
    #[arg(long, env = "SLUICEGATE_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct AwsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Use a local AWS at this endpoint instead of the real one, with its
    /// development clock and made-up credentials
    #[arg(long, value_name = "URL")]
    local: Option<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    aws: AwsArgs,
    /// How to write the log; its level is set by RUST_LOG (default: info)
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const WRONG_USE: u8 = 2;

/// Reads the arguments, does what they say, and returns the exit code.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Run(args) => run(args).await,
        Command::Check(args) => check::check(&args),
        Command::Schema => check::schema(),
        Command::Tables(TablesCommand::Create(args)) => create_tables(args).await,
    };
    ExitCode::from(code)
}

/// Loads the configuration, or says what is wrong with it.
fn load(args: &ConfigArgs) -> Result<Config, u8> {
    config::load(&args.config).map_err(|error| {
        check::say(&error);
        WRONG_USE
    })
}

async fn run(args: RunArgs) -> u8 {
    start_log(args.log_format);
    let config = match load(&args.aws.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let access = access(&config, args.aws.local);
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    match app::run(config, access, shutdown).await {
        Ok(()) => DONE,
        Err(error) => {
            report(&error);
            FAILED
        }
    }
}

async fn create_tables(args: AwsArgs) -> u8 {
    let config = match load(&args.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let aws = aws::connect(&access(&config, args.local)).await;
    match Store::new(&aws, &config.settings.table_prefix).create_tables().await {
        Ok(made) if made.is_empty() => println!("all tables exist already"),
        Ok(made) => println!("created: {}", made.join(", ")),
        Err(error) => {
            report(&error);
            return FAILED;
        }
    }
    DONE
}

fn access(config: &Config, local: Option<String>) -> Access {
    Access { region: config.settings.region.clone(), local }
}

/// One error with its causes, on standard error.
fn report(error: &dyn std::error::Error) {
    let mut text = format!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    eprintln!("{text}");
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("told to stop");
    shutdown.cancel();
}
