//! `run`: the service itself, its log and its end. `run show` is in `runs`.

use std::io::{self, IsTerminal, Write};
use std::panic;

use clap::{Args, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::Output;
use super::{AwsArgs, Failure, runs};
use crate::app;
use crate::config::Listen;
use crate::core::secret::SecretRef;
use crate::http::{self, Token};

/// Run the service until it is told to stop (SIGTERM or Ctrl-C), or show one
/// run
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
        sluicegate run --config prod.toml\n  \
        sluicegate run --config prod.toml --log-format json --http 127.0.0.1:9100\n  \
        sluicegate run --config prod.toml --log-format json --emf\n  \
        sluicegate run --config config/local.toml --local http://127.0.0.1:4510\n  \
        sluicegate run show 01J9ZC --config prod.toml"
)]
pub struct RunArgs {
    #[command(flatten)]
    aws: AwsArgs,
    /// How to write the log; its level is set by RUST_LOG (default: info)
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Where to serve health and metrics, or off; default: [http] listen
    #[arg(long, env = "SLUICEGATE_HTTP", value_name = "ADDRESS")]
    http: Option<Listen>,
    /// Write the heartbeat and the outbox's age to standard output once a minute, as
    /// CloudWatch Logs makes metrics of them (EMF)
    #[arg(long)]
    emf: bool,
    #[command(subcommand)]
    command: Option<RunCommand>,
}

#[derive(Debug, Subcommand)]
enum RunCommand {
    Show(runs::ShowArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub async fn run(args: RunArgs, json: bool) -> Result<Option<Output>, Failure> {
    if let Some(RunCommand::Show(args)) = &args.command {
        return runs::show(args).await.map(Some);
    }
    let format = if json { LogFormat::Json } else { args.log_format };
    start_log(format);
    match (serve(args).await, format) {
        (Ok(()), _) => Ok(None),
        (Err(failure), LogFormat::Text) => Err(failure),
        // RUST_LOG may leave it out of the log.
        (Err(failure), LogFormat::Json) if tracing::enabled!(Level::ERROR) => {
            tracing::error!(error = failure.words(), "the service ends");
            Err(Failure::Logged(Box::new(failure)))
        }
        (Err(failure), LogFormat::Json) => Err(failure),
    }
}

async fn serve(args: RunArgs) -> Result<(), Failure> {
    let config = args.aws.config.load()?;
    let access = args.aws.access(&config);
    let listener = match args.http.unwrap_or(config.settings.http.listen) {
        Listen::Off => None,
        Listen::At(address) => {
            let token = token(config.settings.http.token.as_ref())?;
            Some(http::bind(address, token).await.map_err(app::ServiceError::from)?)
        }
    };
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    Ok(app::run(config, access, listener, args.emf, shutdown).await?)
}

fn token(reference: Option<&SecretRef>) -> Result<Option<Token>, Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    let token = reference.map(|reference| Token::look_up(reference, environment)).transpose();
    token.map_err(|error| Failure::Use(error.to_string()))
}

/// What RUST_LOG asks for (levels by target); the scheduler speaks of itself at
/// info.
fn log_filter() -> Targets {
    let asked = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse().ok());
    asked.unwrap_or_else(|| {
        let scheduler = ("tokio_cron_scheduler", LevelFilter::WARN);
        Targets::new().with_default(LevelFilter::INFO).with_targets([scheduler])
    })
}

/// In text, one line an event: text from outside (keys, reasons) cannot begin a
/// new one. In JSON, the fields stand at the top level.
fn start_log(format: LogFormat) {
    let log = tracing_subscriber::registry().with(log_filter());
    let lines = fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Json => {
            log.with(lines.json().flatten_event(true).with_writer(|| JsonLine)).init();
        }
        LogFormat::Text => {
            let fields = format::debug_fn(|writer, field, value| {
                let value = escaped(&format!("{value:?}"));
                match field.name() {
                    "message" => write!(writer, "{value}"),
                    name => write!(writer, "{name}={value}"),
                }
            });
            let ansi = io::stderr().is_terminal();
            log.with(lines.fmt_fields(fields.delimited(" ")).with_ansi(ansi)).init();
        }
    }
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| match tracing::enabled!(Level::ERROR) {
        true => {
            let error = panicked.to_string();
            tracing::error!(error, "a part of the service has panicked: please report it");
        }
        false => usual(panicked),
    }));
}

/// Standard error, for lines of JSON: its rules leave some control characters as they are,
/// and terminals obey them.
struct JsonLine;

impl Write for JsonLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_odd = |c: char| c.is_control() && c != '\n';
        let escape = |c: char| match is_odd(c) {
            true => format!("\\u{:04x}", u32::from(c)),
            false => c.to_string(),
        };
        let text = String::from_utf8_lossy(line);
        match text.contains(is_odd) {
            true => io::stderr().write_all(text.chars().map(escape).collect::<String>().as_bytes()),
            false => io::stderr().write_all(line),
        }?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn escaped(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_text_stays_on_its_line() {
        assert_eq!(escaped("key a\nERROR forged\u{1b}[31m é"), "key a\\nERROR forged\\u{1b}[31m é");
    }
}
