//! The command line of the local AWS: arguments to options, and a life until a
//! signal. Not for anything a library user could want.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use sluicegate_local::clock::Clock;
use sluicegate_local::python::Environment;
use sluicegate_local::redshift::postgres::Programs;
use sluicegate_local::{LocalAws, Options, chaos, demo, emr, stage};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The AWS services that sluicegate uses, on one loopback port.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until interrupted.
    Serve(Serve),
    /// Shows the daemon at work on real data, and judges what came of it.
    Demo(Demo),
    /// Two daemons that are killed again and again behind a faulty line, and
    /// whether every promise held.
    Chaos(Chaos),
    /// Makes the Python environment with Spark that steps run in.
    Python {
        /// Its folder; created if absent, reused if it is the right one.
        #[arg(long, value_name = "DIR", default_value = ".venv")]
        dir: PathBuf,
    },
}

const EXAMPLES: &str = "\
Examples:
  Serve on port 4510, data in ./aws:
    sluicegate-local serve --port 4510 --data aws

  Start in the morning of New Year's Day 2013, an hour a minute:
    sluicegate-local serve --clock-start 2013-01-01T05:00:00Z --clock-factor 60

  Use it:
    export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1
    aws --endpoint-url http://127.0.0.1:4510 s3 mb s3://demo";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct Serve {
    /// Loopback port; 0 takes any free one.
    #[arg(long, default_value_t = 4510)]
    port: u16,

    /// Folder for objects, tables, mails and logs; created if absent.
    #[arg(long, default_value = "local-aws")]
    data: PathBuf,

    /// What the clock shows at the start, for example 2013-01-01T05:00:00Z;
    /// without it, the present.
    #[arg(long, value_name = "INSTANT")]
    clock_start: Option<Timestamp>,

    /// Seconds of the clock in a real second.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    clock_factor: f64,

    /// Folder of the Python environment in which steps find Spark, Hive and
    /// the AWS command line; created if absent, which takes some minutes.
    /// Without it such steps fail.
    #[arg(long, value_name = "DIR")]
    python: Option<PathBuf>,

    /// Folder of PostgreSQL's programs, which Redshift's API needs; without it,
    /// those of the Python environment or of this machine.
    #[arg(long, value_name = "DIR", env = "SLUICEGATE_POSTGRES")]
    postgres: Option<PathBuf>,

    /// Writes the body of every request but S3's into this file, one JSON line
    /// each, secrets included.
    #[arg(long, value_name = "FILE")]
    log_requests: Option<PathBuf>,
}

const DEMO_EXAMPLES: &str = "\
Run it in the repository, as `make demo` does:
  sluicegate-local demo

Exit codes: 0 all is as expected, 1 it is not";

#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
struct Demo {
    /// The daemon's program.
    #[arg(long, default_value = "target/debug/sluicegate")]
    daemon: PathBuf,

    /// The daemon's configuration.
    #[arg(long, default_value = "config/local.toml")]
    config: PathBuf,

    /// Folder of the flights and the partners' files.
    #[arg(long, default_value = "data/nycflights13")]
    data: PathBuf,

    /// Folder of the jobs that the steps run.
    #[arg(long, default_value = "deploy/emr")]
    jobs: PathBuf,

    /// The script that checks the outputs against the source.
    #[arg(long, default_value = "tests/demo/verify.py")]
    verify: PathBuf,

    /// Folder for everything that comes of it; an earlier demo's is replaced.
    #[arg(long, default_value = "out/demo")]
    out: PathBuf,

    /// Folder of the Python environment with Spark; created if absent.
    #[arg(long, value_name = "DIR", default_value = ".venv")]
    python: PathBuf,

    /// Seconds of the clock in a real second.
    #[arg(long, default_value_t = 100.0, value_parser = factor)]
    factor: f64,

    /// Goes on after the summary, to be played with, until interrupted.
    #[arg(long)]
    keep: bool,
}

const CHAOS_EXAMPLES: &str = "\
Run it in the repository, as `make chaos` does:
  sluicegate-local chaos --minutes 3

Exit codes: 0 every promise held, 1 one did not; the folder has all that happened";

#[derive(Debug, Args)]
#[command(after_help = CHAOS_EXAMPLES)]
struct Chaos {
    /// How long there are faults; coming to rest takes up to a minute more.
    #[arg(long, default_value_t = 3.0, value_parser = factor)]
    minutes: f64,

    /// How many task partitions there are.
    #[arg(long, default_value_t = 520, value_parser = clap::value_parser!(u32).range(5..=50_000))]
    partitions: u32,

    /// What all random choices follow from; without it, another one each time.
    #[arg(long)]
    seed: Option<u64>,

    /// The daemon's program.
    #[arg(long, default_value = "target/debug/sluicegate")]
    daemon: PathBuf,

    /// Folder for everything that comes of it; that of an earlier run is
    /// replaced.
    #[arg(long, default_value = "out/chaos")]
    out: PathBuf,

    /// Folder of the Python environment with the AWS command line; created if
    /// absent.
    #[arg(long, value_name = "DIR", default_value = ".venv")]
    python: PathBuf,

    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if factor.is_finite() && factor > 0.0 { Ok(factor) } else { Err("must be above 0".to_owned()) }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve(arguments).map(|()| true),
        Command::Demo(arguments) => play(arguments),
        Command::Chaos(arguments) => torment(arguments),
        Command::Python { dir } => Environment::ensure(&dir).map(|_| true).map_err(Into::into),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sluicegate-local: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_filter() -> EnvFilter {
    // The S3 library reports every refusal as an error of its own.
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,s3s=off"))
}

/// Cancelled by the first signal that asks for an end.
fn interrupted() -> anyhow::Result<CancellationToken> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        cancel.cancel();
    });
    Ok(token)
}

#[tokio::main]
async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().with_env_filter(log_filter());
    log.with_writer(std::io::stderr).init();
    let environment = arguments.python.as_deref().map(Environment::ensure).transpose()?;
    let postgres = match &arguments.postgres {
        Some(folder) => Some(Programs::at(&std::path::absolute(folder)?)?),
        None => Programs::find(environment.as_ref()),
    };
    let start = arguments.clock_start.unwrap_or_else(|| Clock::real().start);
    let clock = Clock::starting_at(start, arguments.clock_factor);
    // Listened to before anything starts, so that no signal is missed.
    let interrupted = interrupted()?;
    let redshift = match &postgres {
        Some(programs) => format!("runs on PostgreSQL in {}", programs.folder().display()),
        None => "needs PostgreSQL, and there is none: see --python and --postgres".to_owned(),
    };
    let local = LocalAws::start(Options {
        port: arguments.port,
        data: Some(arguments.data),
        clock,
        in_memory: false,
        requests: arguments.log_requests,
        emr: emr::Options { environment, ..emr::Options::default() },
        postgres,
    })
    .await?;
    println!("local AWS at {0}, data in {1}", local.endpoint(), local.data().display());
    println!("the clock shows {} and runs {} times as fast", clock.now(), clock.factor);
    println!("Redshift {redshift}");
    println!("try: aws --endpoint-url {} s3 ls", local.endpoint());
    interrupted.cancelled().await;
    println!("shutting down");
    local.shutdown().await;
    Ok(())
}

/// What the local AWS itself has to say goes into a file: the terminal belongs
/// to what is shown.
fn log_to_file(out: &Path) -> anyhow::Result<()> {
    let log = File::create(out.join("local-aws.log")).context("cannot write the log")?;
    let log = tracing_subscriber::fmt().with_env_filter(log_filter()).with_writer(log);
    log.with_ansi(false).init();
    Ok(())
}

#[tokio::main]
async fn torment(arguments: Chaos) -> anyhow::Result<bool> {
    let environment = Environment::ensure(&arguments.python)?;
    let interrupted = interrupted()?;
    let out = stage::renew(&arguments.out)?;
    log_to_file(&out)?;
    let options = chaos::Options {
        daemon: arguments.daemon,
        out,
        environment,
        faulty: Duration::try_from_secs_f64(arguments.minutes * 60.0).context("--minutes")?,
        partitions: usize::try_from(arguments.partitions)?,
        // The low bits differ from run to run, and people can type them.
        seed: arguments
            .seed
            .unwrap_or_else(|| Clock::real().start.as_millisecond() as u64 % 1_000_000),
    };
    if !arguments.json {
        chaos::announce(&options);
    }
    let summary = chaos::run(&options, interrupted).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        summary.print();
    }
    Ok(summary.ok)
}

#[tokio::main]
async fn play(arguments: Demo) -> anyhow::Result<bool> {
    let began = tokio::time::Instant::now();
    let environment = Environment::ensure(&arguments.python)?;
    let interrupted = interrupted()?;
    let out = stage::renew(&arguments.out)?;
    log_to_file(&out)?;
    let options = demo::Options {
        daemon: arguments.daemon,
        config: arguments.config,
        data: arguments.data,
        jobs: arguments.jobs,
        verify: arguments.verify,
        out,
        environment,
        factor: arguments.factor,
        keep: arguments.keep,
        began,
    };
    demo::run(&options, interrupted).await
}
