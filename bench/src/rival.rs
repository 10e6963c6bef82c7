//! Runs another design on the same events, in a process of its own: with the
//! daemon's SDK settings, as many receivers and as large receives. It prepares
//! rounds as told on standard input and answers `done` on standard output.

use std::io::Write;

use anyhow::Context;
use aws_sdk_dynamodb::Client;
use futures::future::try_join_all;
use jiff::SignedDuration;
use sluicegate::aws::sqs::{Poll, Sqs};
use sluicegate::aws::{self, Access};
use sluicegate::sources::message;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::bare::Bare;
use crate::seeds::Seeds;
use crate::stand::REGION;
use crate::workload::{Load, Shape, belongs};

/// As the daemon's default.
const RECEIVERS: usize = 2;
const HIDDEN: SignedDuration = SignedDuration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Design {
    /// Receive, one conditional update per message, batch delete.
    Bare,
    /// Receive, and the calls of the Lambda design for each message.
    Seeds,
}

impl Design {
    pub fn name(self) -> &'static str {
        match self {
            Design::Bare => "bare",
            Design::Seeds => "seeds",
        }
    }
}

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    design: Design,
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    shape: Shape,
    #[arg(long)]
    tasks: u32,
    #[arg(long)]
    periods: u32,
}

/// The arguments that start it.
pub fn arguments(design: Design, endpoint: &str, load: &Load) -> Vec<String> {
    let shape = match load.shape {
        Shape::Arrivals => "arrivals",
        Shape::Tasks => "tasks",
        Shape::Hours => "hours",
    };
    let (tasks, periods) = (load.tasks.to_string(), load.periods.to_string());
    ["rival", design.name(), "--endpoint", endpoint, "--shape", shape, "--tasks", &tasks]
        .into_iter()
        .chain(["--periods", &periods])
        .map(str::to_owned)
        .collect()
}

/// What is done for each message.
#[derive(Clone)]
enum Worker {
    Bare(Bare),
    Seeds(Seeds),
}

impl Worker {
    async fn take(&self, instance: &str, element: &str, version: &str) -> anyhow::Result<()> {
        match self {
            Worker::Bare(bare) => bare.take(instance, element, version).await,
            Worker::Seeds(seeds) => seeds.take(instance, element).await,
        }
    }
}

/// Works until standard input ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let access =
        Access { region: Some(REGION.to_owned()), local: Some(args.endpoint), overrides: false };
    let config = aws::connect(&access).await;
    let load = Load { shape: args.shape, tasks: args.tasks, periods: args.periods };
    let client = Client::new(&config);
    let worker = match args.design {
        Design::Bare => Worker::Bare(Bare::open(client, load).await?),
        Design::Seeds => Worker::Seeds(Seeds::open(client, load).await?),
    };
    let queue = args.design.name();
    let sqs = Sqs::open(&config, queue, "quarantine").await?;
    for _ in 0..RECEIVERS {
        let (sqs, worker) = (sqs.clone(), worker.clone());
        tokio::spawn(async move {
            if let Err(error) = receive(&sqs, &worker).await {
                eprintln!("{} ended: {error:#}", worker_name(&worker));
                std::process::exit(1);
            }
        });
    }
    done()?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(round) = orders.next_line().await? {
        if let Worker::Seeds(seeds) = &worker {
            seeds.create_ahead(round.parse().context("no round")?).await?;
        }
        done()?;
    }
    Ok(())
}

fn worker_name(worker: &Worker) -> &'static str {
    match worker {
        Worker::Bare(_) => Design::Bare.name(),
        Worker::Seeds(_) => Design::Seeds.name(),
    }
}

fn done() -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(b"done\n")?;
    Ok(out.flush()?)
}

async fn receive(sqs: &Sqs, worker: &Worker) -> anyhow::Result<()> {
    loop {
        let messages = sqs.receive(HIDDEN, Poll::Long).await?;
        let writes = messages.iter().flat_map(|message| {
            message::read(&message.body).arrivals.into_iter().map(|arrival| async move {
                let (instance, element) = belongs(&arrival.key).context("an unknown key")?;
                worker.take(&instance, &element, &arrival.version).await
            })
        });
        try_join_all(writes).await?;
        sqs.delete(&messages).await?;
    }
}
