//! The command line of the local AWS: arguments to options, and a life until a
//! signal. Not for anything a library user could want.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use sluicegate_local::clock::Clock;
use sluicegate_local::python::Environment;
use sluicegate_local::{LocalAws, Options, emr};
use tokio::signal::unix::{SignalKind, signal};
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
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if factor.is_finite() && factor > 0.0 { Ok(factor) } else { Err("must be above 0".to_owned()) }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The S3 library reports every refusal as an error of its own.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,s3s=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match cli.command {
        Command::Serve(arguments) => serve(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluicegate-local: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let environment = arguments.python.as_deref().map(Environment::ensure).transpose()?;
    let start = arguments.clock_start.unwrap_or_else(|| Clock::real().start);
    let clock = Clock::starting_at(start, arguments.clock_factor);
    // Listened to before anything starts, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let local = LocalAws::start(Options {
        port: arguments.port,
        data: Some(arguments.data),
        clock,
        in_memory: false,
        emr: emr::Options { environment, ..emr::Options::default() },
    })
    .await?;
    println!("local AWS at {0}, data in {1}", local.endpoint(), local.data().display());
    println!("the clock shows {} and runs {} times as fast", clock.now(), clock.factor);
    println!("try: aws --endpoint-url {} s3 ls", local.endpoint());
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    println!("shutting down");
    local.shutdown().await;
    Ok(())
}
