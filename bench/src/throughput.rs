//! W1 and W2: events a second of the daemon, of the seeds' design and of the
//! bare loop, on the same local AWS, in turn; and what 1,000 events cost of calls
//! and units, counted in a run of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::bench::Bench;
use crate::capacity::{self, Units};
use crate::process::{Daemon, Rival, Usage};
use crate::report::{Row, Section};
use crate::rival::{Design, arguments};
use crate::stand::{Setup, Stand, count};
use crate::stats::Stats;
use crate::workload::{Load, Shape};

/// Who works on the events.
enum System {
    Daemon(Daemon),
    Rival(Design, Rival),
}

impl System {
    fn name(&self) -> &'static str {
        match self {
            System::Daemon(_) => "sluicegate",
            System::Rival(Design::Seeds, _) => "seeds' design",
            System::Rival(Design::Bare, _) => "bare loop",
        }
    }

    fn queue(&self) -> &'static str {
        match self {
            System::Daemon(_) => "inbox",
            System::Rival(design, _) => design.name(),
        }
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        match self {
            System::Daemon(daemon) => daemon.usage(),
            System::Rival(_, rival) => rival.usage(),
        }
    }
}

/// One round of one system.
#[derive(Debug, Clone, Copy)]
struct Round {
    events_a_second: f64,
    cpu_micros_an_event: f64,
}

/// Calls and units of a number of events.
struct Cost {
    dynamodb: f64,
    sqs: f64,
    sns: f64,
    units: Units,
}

impl Cost {
    fn per_thousand(self, events: usize) -> Self {
        let share = 1000.0 / events as f64;
        let units = Units { write: self.units.write * share, read: self.units.read * share };
        Self {
            dynamodb: self.dynamodb * share,
            sqs: self.sqs * share,
            sns: self.sns * share,
            units,
        }
    }
}

async fn system(
    bench: &Bench,
    stand: &mut Stand,
    load: &Load,
    design: Option<Design>,
) -> anyhow::Result<System> {
    let Some(design) = design else {
        let program = stand.daemon(&bench.daemon, &load.config()).await?;
        return Ok(System::Daemon(program.start().await?));
    };
    stand.create_queue(design.name()).await?;
    let arguments = arguments(design, stand.local.endpoint(), load);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(System::Rival(design, Rival::start(&bench.program, &arguments).await?))
}

/// Sends a round's events and waits until all their effects are there.
async fn round(
    stand: &Stand,
    load: &Load,
    system: &mut System,
    round: u32,
) -> anyhow::Result<Round> {
    let events = load.events(round, stand.now());
    let count = events.len() as f64;
    let published = stand.calls("sns", Some("Publish"));
    let (began, before) = (Instant::now(), system.usage()?);
    // Other designs create their instances ahead; that is part of their work.
    if let System::Rival(_, rival) = system {
        rival.prepare(round).await?;
    }
    for event in events {
        stand.send(system.queue(), event)?;
    }
    stand.drained(system.queue()).await?;
    if let (System::Daemon(_), Shape::Tasks) = (&*system, load.shape) {
        // Its notices are part of it.
        let all = published + u64::from(load.partitions());
        stand.called("sns", "Publish", all).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = system.usage()?.cpu_secs - before.cpu_secs;
    Ok(Round { events_a_second: count / seconds, cpu_micros_an_event: cpu * 1e6 / count })
}

/// What a round costs after another one has warmed everything up.
async fn cost(bench: &Bench, load: &Load, design: Option<Design>) -> anyhow::Result<Cost> {
    let setup = Setup { request_log: true, ..Setup::default() };
    let mut stand = Stand::start(setup).await?;
    let mut system = system(bench, &mut stand, load, design).await?;
    round(&stand, load, &mut system, 0).await?;
    stand.at_rest(Duration::from_millis(200)).await?;
    let log = stand.path("requests.jsonl");
    let (before, mark) = (stand.counts(), capacity::mark(&log)?);
    let events = load.events(1, stand.now()).len();
    round(&stand, load, &mut system, 1).await?;
    stand.at_rest(Duration::from_millis(200)).await?;
    let after = stand.counts();
    let calls = |service| (count(&after, service, None) - count(&before, service, None)) as f64;
    let cost = Cost {
        dynamodb: calls("dynamodb"),
        sqs: calls("sqs"),
        sns: calls("sns"),
        units: capacity::units(&log, mark)?,
    };
    if let System::Daemon(daemon) = system {
        daemon.stop().await?;
    }
    stand.end().await;
    Ok(cost.per_thousand(events))
}

struct Measured {
    name: &'static str,
    rounds: Vec<Round>,
}

impl Measured {
    fn stats(&self, value: impl Fn(&Round) -> f64) -> Option<Stats> {
        Stats::of(self.rounds.iter().map(value).collect())
    }
}

/// Rounds of the three in turn, after one that warms up.
async fn rounds(bench: &Bench, load: &Load) -> anyhow::Result<Vec<Measured>> {
    let mut stand = Stand::start(Setup::default()).await?;
    let mut systems = Vec::new();
    for design in [None, Some(Design::Seeds), Some(Design::Bare)] {
        systems.push(system(bench, &mut stand, load, design).await?);
    }
    let names = systems.iter().map(System::name);
    let mut measured: Vec<Measured> =
        names.map(|name| Measured { name, rounds: Vec::new() }).collect();
    for number in 0..=bench.rounds() {
        for (system, measured) in systems.iter_mut().zip(&mut measured) {
            let result = round(&stand, load, system, number).await?;
            if number > 0 {
                measured.rounds.push(result);
            }
        }
    }
    for system in systems {
        if let System::Daemon(daemon) = system {
            daemon.stop().await?;
        }
    }
    stand.end().await;
    Ok(measured)
}

/// The daemon's rounds over another's, round by round.
fn ratios(measured: &[Measured], other: usize) -> Option<Stats> {
    let pairs = measured[0].rounds.iter().zip(&measured[other].rounds);
    Stats::of(pairs.map(|(own, other)| own.events_a_second / other.events_a_second).collect())
}

/// How a shape is called, and its aims: times the seeds' design, share of the
/// bare loop.
fn speed_rows(label: &str, measured: &[Measured], aims: (Option<f64>, Option<f64>)) -> Vec<Row> {
    let mut rows = Vec::new();
    for (other, what, aim) in [
        (1, "times as fast as the seeds' design", aims.0),
        (2, "times as fast as the bare loop", aims.1),
    ] {
        let row = ratios(measured, other)
            .map(|stats| Row::median(format!("{label}: {what}"), "×", stats));
        rows.extend(row.map(|row| match aim {
            Some(aim) => row.at_least(aim),
            None => row,
        }));
    }
    for measured in measured {
        let name = measured.name;
        let speed = measured.stats(|round| round.events_a_second);
        let cpu = measured.stats(|round| round.cpu_micros_an_event);
        rows.extend(speed.map(|stats| Row::median(format!("{label}: {name}"), "events/s", stats)));
        rows.extend(
            cpu.map(|stats| Row::median(format!("{label}: {name}, CPU"), "µs/event", stats)),
        );
    }
    rows
}

/// The daemon's costs beside their aims, and the other's.
fn cost_rows(label: &str, own: &Cost, seeds: &Cost, aims: Option<[f64; 4]>) -> Vec<Row> {
    let figures = |cost: &Cost| [cost.dynamodb, cost.units.write, cost.units.read, cost.sqs];
    let names = [
        ("DynamoDB calls", "calls"),
        ("write units", "units"),
        ("read units", "units"),
        ("SQS calls", "calls"),
    ];
    let mut rows = Vec::new();
    for (number, (name, unit)) in names.into_iter().enumerate() {
        let row = Row::new(format!("{label}: {name}"), unit, figures(own)[number]);
        rows.push(match aims {
            Some(aims) => row.at_most(aims[number]),
            None => row,
        });
        let other = format!("{label}: {name} of the seeds' design");
        rows.push(Row::new(other, unit, figures(seeds)[number]));
    }
    rows
}

pub async fn w1(bench: &Bench) -> anyhow::Result<Section> {
    let (tasks, periods) = if bench.quick { (30, 1) } else { (333, 3) };
    let arrivals = Load { shape: Shape::Arrivals, tasks, periods };
    let whole = Load { shape: Shape::Tasks, ..arrivals };
    // Costs are exact, so that one day of every task is enough.
    let one_day = |load: Load| Load { periods: 1, ..load };

    let mut rows = Vec::new();
    let own = cost(bench, &one_day(arrivals), None).await?;
    let seeds = cost(bench, &one_day(arrivals), Some(Design::Seeds)).await?;
    rows.extend(cost_rows("arrivals", &own, &seeds, Some([1050.0, 1100.0, 20.0, 210.0])));
    let ready = cost(bench, &one_day(whole), None).await?;
    let seeds_ready = cost(bench, &one_day(whole), Some(Design::Seeds)).await?;
    rows.extend(cost_rows("with readiness", &ready, &seeds_ready, None));
    let each = 3.0 / 1000.0;
    rows.push(
        Row::new("readiness and its notice, a task", "write units", {
            (ready.units.write - own.units.write) * each
        })
        .at_most(4.0),
    );
    rows.push(Row::new("readiness and its notice, a task", "DynamoDB calls", {
        (ready.dynamodb - own.dynamodb) * each
    }));
    rows.push(Row::new("readiness and its notice, a task", "SNS calls", ready.sns * each));

    rows.extend(speed_rows("arrivals", &rounds(bench, &arrivals).await?, (Some(2.5), Some(0.8))));
    rows.extend(speed_rows("with readiness", &rounds(bench, &whole).await?, (None, None)));
    Ok(Section {
        name: "w1",
        title: "many tasks of 3 distinct files each, arrivals spread; costs per 1,000 events",
        rows,
        notes: vec![
            format!(
                "{tasks} tasks; a round is {} events; {} rounds of each system in turn after one that warms up; 2 receivers each",
                tasks * periods * 3,
                bench.rounds()
            ),
            "arrivals: a fourth file never comes, so that nothing follows; with readiness: every partition becomes ready, and sluicegate publishes a notice of it (the others publish none)".to_owned(),
            "the seeds' design includes creating its instances ahead; CPU is of the system's own process, the local AWS has another".to_owned(),
            "units: the run's requests played again to the engine with the consumed capacity asked for".to_owned(),
        ],
    })
}

pub async fn w2(bench: &Bench) -> anyhow::Result<Section> {
    let load = Load { shape: Shape::Hours, tasks: 1, periods: if bench.quick { 1 } else { 6 } };
    let two_hours = Load { periods: 2, ..load };
    let own = cost(bench, &two_hours, None).await?;
    let seeds = cost(bench, &two_hours, Some(Design::Seeds)).await?;
    let mut rows = cost_rows("hours", &own, &seeds, Some([120.0, 150.0, 20.0, 210.0]));
    rows.extend(speed_rows("hours", &rounds(bench, &load).await?, (Some(5.0), None)));
    Ok(Section {
        name: "w2",
        title: "500 objects an hour of one hourly dependency; costs per 1,000 events",
        rows,
        notes: vec![
            format!(
                "a round is {} hours, {} rounds of each system in turn after one that warms up",
                load.periods,
                bench.rounds()
            ),
            "the hours are still open: closing one reads its journal once and writes twice"
                .to_owned(),
        ],
    })
}
