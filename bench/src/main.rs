//! `make bench`: measures the daemon, a process of its own, against a local AWS
//! in this one, and writes what came of it beside the aims. Asserts no timing.

mod bare;
mod bench;
mod capacity;
mod growth;
mod idle;
mod latency;
mod operator;
mod process;
mod report;
mod restart;
mod rival;
mod runs;
mod seeds;
mod stand;
mod stats;
mod tables;
mod throughput;
mod wait;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use sluicegate_local::clock::Clock;
use tokio::time::Instant;

use crate::bench::Bench;
use crate::report::{Report, Section, Setting};

/// Measures the daemon against a local AWS, each figure beside its aim.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    benches: Vec<Name>,
    /// Small sizes, only to see that everything works.
    #[arg(long)]
    quick: bool,
    /// The daemon's program; left out, the one beside this program.
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// Where the table goes.
    #[arg(long, value_name = "FILE", default_value = "out/bench/report.txt")]
    text: PathBuf,
    /// Where the figures go.
    #[arg(long, value_name = "FILE", default_value = "out/bench/report.json")]
    json: PathBuf,
    #[command(subcommand)]
    command: Option<Rival>,
}

#[derive(Debug, Subcommand)]
enum Rival {
    /// Works as another design on the same events; the benches start it.
    #[command(hide = true)]
    Rival(rival::Args),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    All,
    /// Many tasks of three files each, against two other designs.
    W1,
    /// 500 objects an hour, against two other designs.
    W2,
    /// From the last input to RunJobFlow, and a run's own cost.
    Reaction,
    /// From a step's end to TerminateJobFlows without events.
    End,
    /// Memory and CPU with nothing to do.
    Idle,
    /// From the start to ready.
    Start,
    /// Many runs at once.
    Runs,
    /// A start with many runs in flight.
    Restart,
    /// More and more waiting partitions, and an operator's commands with all of them.
    Growth,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Rival::Rival(args)) => rival::run(args).await,
        None => measure(cli).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluicegate-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(cli: Cli) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("this program has no path")?;
    let daemon = cli.daemon.unwrap_or_else(|| program.with_file_name("sluicegate"));
    let bench = Bench { daemon, program, quick: cli.quick };
    anyhow::ensure!(
        bench.daemon.exists(),
        "there is no daemon at {}: build it with cargo build, as make bench does, or name it with --daemon",
        bench.daemon.display()
    );
    let began = Instant::now();
    let load = load();
    let mut sections = Vec::new();
    for name in names(&cli.benches) {
        eprintln!("{}: measuring {name:?}", Clock::real().now().strftime("%H:%M:%S"));
        let section = section(&bench, name).await.with_context(|| format!("bench {name:?}"))?;
        sections.push(section);
    }
    let setting = setting(&bench, [load, self::load()], began.elapsed().as_secs_f64());
    let report = Report { setting, sections };
    let text = report.text();
    write(&cli.text, &text)?;
    write(&cli.json, &format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    print!("{text}");
    Ok(())
}

fn names(asked: &[Name]) -> Vec<Name> {
    match asked.contains(&Name::All) {
        false => asked.to_vec(),
        // What needs a quiet machine comes before what wears it out.
        true => vec![
            Name::Start,
            Name::Idle,
            Name::Reaction,
            Name::End,
            Name::W1,
            Name::W2,
            Name::Runs,
            Name::Restart,
            Name::Growth,
        ],
    }
}

async fn section(bench: &Bench, name: Name) -> anyhow::Result<Section> {
    match name {
        Name::All => anyhow::bail!("all is not a bench of its own"),
        Name::W1 => throughput::w1(bench).await,
        Name::W2 => throughput::w2(bench).await,
        Name::Reaction => latency::reaction(bench).await,
        Name::End => latency::end(bench).await,
        Name::Idle => idle::idle(bench).await,
        Name::Start => idle::start(bench).await,
        Name::Runs => runs::runs(bench).await,
        Name::Restart => restart::restart(bench).await,
        Name::Growth => growth::growth(bench).await,
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn setting(bench: &Bench, load: [Option<f64>; 2], seconds: f64) -> Setting {
    let git = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok();
    let commit = git.filter(|git| git.status.success());
    let commit = commit.map(|git| String::from_utf8_lossy(&git.stdout).trim().to_owned());
    let unknown = || "unknown".to_owned();
    Setting {
        date: Clock::real().now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        commit: commit.unwrap_or_else(unknown),
        processor: processor().unwrap_or_else(unknown),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        quick: bench.quick,
        release: !cfg!(debug_assertions),
        load,
        seconds,
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The load average over a minute.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
