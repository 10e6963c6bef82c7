//! The simulator's command line.

use std::sync::Mutex;
use std::time::Instant;

use clap::{Parser, Subcommand};
use sluicegate_sim::marks::Marks;
use sluicegate_sim::runner;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run {
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[arg(long, default_value_t = 2)]
        threads: usize,
    },
    Replay {
        seed: u64,
    },
}

#[allow(clippy::disallowed_methods)]
fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run { seeds, from, threads } => {
            let jobs: Vec<u64> = (from..from + seeds).collect();
            let began = Instant::now();
            let total = Mutex::new((Marks::default(), 0u64, 0u64));
            runner::play_many(
                &jobs,
                threads,
                |seed, data| runner::play_seed(*seed, data),
                |seed, outcome| {
                    let mut total = total.lock().unwrap();
                    total.0.merge(&outcome.marks);
                    total.1 += 1;
                    if let Some(violation) = outcome.violation {
                        total.2 += 1;
                        println!("seed {seed}: {} {}", violation.invariant, violation.words);
                    }
                    true
                },
            )?;
            let secs = began.elapsed().as_secs_f64();
            let (marks, worlds, bad) = total.into_inner().unwrap();
            println!(
                "{worlds} worlds, {bad} violations, {:.1} a second, {} calls",
                worlds as f64 / secs,
                marks.calls()
            );
        }
        Command::Replay { seed } => {
            let folder = tempfile::tempdir()?;
            let outcome = runner::play_seed(seed, folder.path())?;
            for line in outcome.trace.lines() {
                println!("{line}");
            }
            println!("{:?} {} {}", outcome.violation, outcome.trace.hash(), outcome.lasted);
        }
    }
    Ok(())
}
