//! The simulator's command line: many worlds, one of them again, or every
//! crash at every effect of a small one. Not for what a world is.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
#[cfg(feature = "planted-bugs")]
use sluicegate::planted::Bug;
use sluicegate_sim::faults::{Crash, Fault};
#[cfg(feature = "planted-bugs")]
use sluicegate_sim::hunt;
use sluicegate_sim::pairs::{self, Extent, Pair};
#[cfg(feature = "planted-bugs")]
use sluicegate_sim::planted::{self, Hunt};
use sluicegate_sim::report::{Summary, failure};
use sluicegate_sim::runner;
use sluicegate_sim::scenario::{Fixed, Kind};
use sluicegate_sim::world::Outcome;

/// A world is mostly the SDK's allocations: a fifteenth less time for all.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plays the daemon against an AWS that fails in every way, on virtual time.
#[derive(Parser)]
#[command(
    name = "sluicegate-sim",
    version,
    after_help = "Examples:
  sluicegate-sim run --seeds 1000         a thousand worlds, two at a time
  sluicegate-sim run --seeds 1 --from 42  world 42, only its verdict
  sluicegate-sim replay 42                world 42 with all that happened in it
  sluicegate-sim boundaries               every crash at every effect
  sluicegate-sim pairs                    two of them: near pairs, a sample of the others
  sluicegate-sim pairs --world single --all   every two of them in the smallest world
  sluicegate-sim loads --seeds 300        worlds whose tasks load their output

Exit codes: 0 every invariant held, 1 one was violated or never put to the
test, 2 wrong usage or a failure of the simulator itself."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Plays the worlds of many seeds.
    Run {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Also fails when a fault met no call of a phase that it could meet.
        #[arg(long)]
        all_marks: bool,
        #[command(flatten)]
        how: How,
    },
    /// Plays worlds whose tasks load their output into the warehouse.
    Loads {
        /// How many.
        #[arg(long, default_value_t = 300)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[command(flatten)]
        how: How,
    },
    /// Plays one world and prints its trace.
    Replay {
        /// Its seed.
        seed: u64,
        /// As one whose tasks load their output.
        #[arg(long)]
        loads: bool,
        /// With this mistake of the daemon.
        #[cfg(feature = "planted-bugs")]
        #[arg(long, value_parser = planted::by_name)]
        bug: Option<Bug>,
    },
    /// Plants one mistake after the other in the daemon and plays worlds until
    /// each is found.
    #[cfg(feature = "planted-bugs")]
    PlantedBugs {
        /// Worlds in which each has to be found.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Only these.
        #[arg(value_parser = planted::by_name)]
        bugs: Vec<Bug>,
        /// A folder for the table as Markdown and as JSON.
        #[arg(long)]
        out: Option<std::path::PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Plays a small world once for each effect and each way to crash there.
    Boundaries {
        /// Which of the two.
        #[arg(long, value_enum, default_value_t = Fixed::Chain)]
        world: Fixed,
        /// Only this one, as a violation names it: EFFECT:POSITION[,EFFECT:POSITION]
        #[arg(long, value_parser = crashes)]
        only: Option<Crashes>,
        #[command(flatten)]
        how: How,
    },
    /// Plays it with two crashes: with every second one soon after every first,
    /// where the recovery of a recovery is, and with some of the others. The output says
    /// exactly how many of how many.
    Pairs {
        /// Which of the two small worlds.
        #[arg(long, value_enum, default_value_t = Fixed::Chain)]
        world: Fixed,
        /// Every pair: minutes in the world of a single task partition, hours in the
        /// other.
        #[arg(long, conflicts_with_all = ["near", "sample", "seed"])]
        all: bool,
        /// All pairs whose second crash comes within so many effects of the first.
        #[arg(long, default_value_t = 2)]
        near: u64,
        /// How many of the other pairs.
        #[arg(long, default_value_t = 2000)]
        sample: usize,
        /// Chooses those.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Args)]
struct How {
    /// Worlds that are played side by side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Crashes that a fixed world is to meet.
#[derive(Debug, Clone)]
struct Crashes(Vec<Crash>);

fn crashes(text: &str) -> Result<Crashes, String> {
    let wanted = "expected EFFECT:POSITION, such as 17:2; positions are 0 to 3";
    let one = |part: &str| {
        let (effect, position) = part.split_once(':')?;
        let position: u8 = position.parse().ok().filter(|position| *position < 4)?;
        Some(Crash { effect: effect.parse().ok()?, position })
    };
    let all: Option<Vec<_>> = text.split(',').map(one).collect();
    all.map(Crashes).ok_or_else(|| format!("{text:?} names no crash: {wanted}"))
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { seeds, from, all_marks, how } => run(from, seeds, all_marks, &how),
        Command::Loads { seeds, from, how } => loads(from, seeds, &how),
        #[cfg(feature = "planted-bugs")]
        Command::Replay { seed, bug: Some(bug), .. } => {
            let words = format!("replay {seed} --bug {}", bug.name());
            replay(|data| hunt::play_with(bug, seed, data), &words)
        }
        #[cfg(feature = "planted-bugs")]
        Command::PlantedBugs { seeds, from, bugs, out, how } => {
            planted_bugs(&bugs, from..from.saturating_add(seeds), out.as_deref(), &how)
        }
        Command::Replay { seed, loads: true, .. } => {
            let play = |data: &std::path::Path| runner::play_kind(seed, Kind::Loads, data);
            replay(play, &format!("replay {seed} --loads"))
        }
        Command::Replay { seed, .. } => {
            replay(|data| runner::play_seed(seed, data), &format!("replay {seed}"))
        }
        Command::Boundaries { world, only: Some(Crashes(crashes)), .. } => {
            let play = |data: &std::path::Path| runner::play_fixed(world, &crashes, data);
            replay(play, &named(world, &crashes))
        }
        Command::Boundaries { world, only: None, how } => {
            boundaries(world, &how).map(|(held, _)| held)
        }
        Command::Pairs { world, all, near, sample, seed, how } => {
            pairs(world, (!all).then_some(Extent { near, sample, seed }), &how)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // There is nowhere else to say it.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(from: u64, seeds: u64, all_marks: bool, how: &How) -> anyhow::Result<bool> {
    let jobs: Vec<u64> = (from..from.saturating_add(seeds)).collect();
    let play = |seed: &u64, data: &std::path::Path| runner::play_seed(*seed, data);
    let (summary, took) = play_all(&jobs, how, play, |seed| format!("replay {seed}"))?;
    let missed = if all_marks { summary.missed() } else { Vec::new() };
    say(&summary, took, how, true)?;
    if !missed.is_empty() {
        print(&format!("never put to the test: {}", missed.join(", ")))?;
    }
    Ok(summary.violations.is_empty() && missed.is_empty())
}

fn loads(from: u64, seeds: u64, how: &How) -> anyhow::Result<bool> {
    let jobs: Vec<u64> = (from..from.saturating_add(seeds)).collect();
    let play = |seed: &u64, data: &std::path::Path| runner::play_kind(*seed, Kind::Loads, data);
    let (summary, took) = play_all(&jobs, how, play, |seed| format!("replay {seed} --loads"))?;
    say(&summary, took, how, false)?;
    if !how.json {
        print(summary.loads().trim_end())?;
    }
    Ok(summary.violations.is_empty())
}

fn replay(
    play: impl FnOnce(&std::path::Path) -> anyhow::Result<Outcome>,
    command: &str,
) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let outcome = play(folder.path())?;
    for line in outcome.trace.lines() {
        print(line)?;
    }
    print(&format!("trace {}, {} virtual", outcome.trace.hash(), outcome.lasted))?;
    match failure(&outcome, &format!("sluicegate-sim {command}"), false) {
        Some(words) => print(&words).map(|()| false),
        None => print("every invariant held").map(|()| true),
    }
}

/// Looks for every bug; whether each was found.
#[cfg(feature = "planted-bugs")]
fn planted_bugs(
    bugs: &[Bug],
    seeds: std::ops::Range<u64>,
    out: Option<&std::path::Path>,
    how: &How,
) -> anyhow::Result<bool> {
    let bugs = if bugs.is_empty() { Bug::ALL } else { bugs };
    let bar = ProgressBar::new(bugs.len() as u64);
    let hunts = hunt::hunt(bugs, seeds, how.threads, |hunt| {
        let Hunt { bug, worlds, violation } = hunt;
        let words = violation.as_ref().map(|violation| format!("{violation:?}"));
        let words = words.unwrap_or_else(|| "NOT FOUND".to_owned());
        bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{}: {words}, worlds: {worlds}", bug.name());
        });
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    let (table, json) = (planted::table(&hunts), planted::json(&hunts).to_string());
    if let Some(folder) = out {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("table.md"), format!("{table}\n"))?;
        std::fs::write(folder.join("table.json"), format!("{json}\n"))?;
    }
    let found = hunts.iter().filter(|hunt| hunt.violation.is_some()).count();
    match how.json {
        true => print(&json)?,
        false => print(&format!("{table}\n{found} of {} bugs found", hunts.len()))?,
    }
    Ok(found == hunts.len())
}

/// Every effect of a fixed world × every position; the effects that each of
/// these worlds had, by its crash.
fn boundaries(world: Fixed, how: &How) -> anyhow::Result<(bool, Vec<(Crash, u64)>)> {
    let folder = tempfile::tempdir()?;
    let plain = runner::play_fixed(world, &[], folder.path())?;
    let words = format!("sluicegate-sim boundaries --world {}", world.name());
    if let Some(words) = failure(&plain, &words, true) {
        print(&words)?;
        return Ok((false, Vec::new()));
    }
    let jobs: Vec<Crash> = (1..=plain.effects).flat_map(Crash::all_at).collect();
    if !how.json {
        let ways = Fault::CRASHES.len();
        print(&format!(
            "{}: {} effects, {ways} ways to crash at each",
            world.name(),
            plain.effects
        ))?;
    }
    let effects = Mutex::new(Vec::new());
    let play = |crash: &Crash, data: &std::path::Path| {
        let outcome = runner::play_fixed(world, &[*crash], data)?;
        let mut effects = effects.lock().unwrap_or_else(PoisonError::into_inner);
        effects.push((*crash, outcome.effects));
        Ok(outcome)
    };
    let name = |crash: &Crash| named(world, &[*crash]);
    let (summary, took) = play_all(&jobs, how, play, name)?;
    say(&summary, took, how, false)?;
    let mut effects = effects.into_inner().unwrap_or_else(PoisonError::into_inner);
    effects.sort_unstable();
    Ok((summary.violations.is_empty(), effects))
}

fn pairs(world: Fixed, extent: Option<Extent>, how: &How) -> anyhow::Result<bool> {
    let (held, singles) = boundaries(world, how)?;
    if !held {
        return Ok(false);
    }
    let chosen = pairs::choose(&singles, extent);
    if !how.json {
        print(&chosen.words())?;
    }
    let play = |pair: &Pair, data: &std::path::Path| runner::play_fixed(world, pair, data);
    let name = |pair: &Pair| named(world, pair);
    let (summary, took) = play_all(&chosen.pairs, how, play, name)?;
    say(&summary, took, how, false)?;
    Ok(summary.violations.is_empty())
}

/// The command that plays these crashes again.
fn named(world: Fixed, crashes: &[Crash]) -> String {
    let names = crashes.iter().map(|crash| format!("{}:{}", crash.effect, crash.position));
    format!("boundaries --world {} --only {}", world.name(), names.collect::<Vec<_>>().join(","))
}

#[expect(clippy::disallowed_methods, reason = "how long a run takes is real time")]
fn play_all<J: Sync>(
    jobs: &[J],
    how: &How,
    play: impl Fn(&J, &std::path::Path) -> anyhow::Result<Outcome> + Sync,
    name: impl Fn(&J) -> String + Sync,
) -> anyhow::Result<(Summary, Duration)> {
    let began = Instant::now();
    // Drawn only on a terminal.
    let bar = ProgressBar::new(jobs.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos}/{len} worlds, {per_sec}, {eta} left",
    )?);
    let summary = Mutex::new(Summary::default());
    runner::play_many(jobs, how.threads, play, |job, outcome| {
        let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.take(&outcome, &format!("sluicegate-sim {}", name(job)));
        bar.inc(1);
    })?;
    bar.finish_and_clear();
    Ok((summary.into_inner().unwrap_or_else(PoisonError::into_inner), began.elapsed()))
}

fn say(summary: &Summary, took: Duration, how: &How, table: bool) -> anyhow::Result<()> {
    if how.json {
        return print(&summary.json(took).to_string());
    }
    for words in &summary.violations {
        print(words)?;
    }
    if table {
        print(&summary.table())?;
    }
    print(&summary.figures(took))
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
