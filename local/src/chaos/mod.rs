//! The chaos run: two daemons as real processes on the local AWS, killed,
//! stopped and started again behind a faulty line while hundreds of task
//! partitions are executed; then the faults stop, all has to come to rest, and
//! every promise is checked from outside. Its choices follow from a seed; what
//! becomes of them depends on this machine's timing, so a seed does not replay.

mod evidence;
mod judge;
mod line;
mod plan;
mod summary;
mod torment;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use self::evidence::Evidence;
use self::line::Line;
use self::plan::{BUCKET, DEPLOYMENT, INCOMING, Plan, TABLE_PREFIX, What};
use self::summary::Frame;
use self::torment::{Tally, Victim, kill_clusters};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::python::Environment;
use crate::stage::account::Account;
use crate::stage::config::Config;
use crate::stage::daemon::{Daemon, Program};
use crate::stage::mailbox::Mailbox;
use crate::stage::{observe, provision, screen};
use crate::{LocalAws, emr};

pub use self::judge::Violation;
pub use self::summary::Summary;

/// As many daemons work on the same tables.
const DAEMONS: u64 = 2;
/// Seconds of the development clock in a real second.
const FACTOR: f64 = 10.0;
/// What a cluster of this run takes to start, and to end.
const STAGE: Duration = Duration::from_millis(300);
/// The part of the faulty time in which data arrive.
const ARRIVALS: f64 = 0.75;
/// How long nothing at all may end once the faults have stopped, before all has
/// come to rest: longer than any wait of the daemons, for machines that are busy.
const STILL_LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is named of all that is open when time is up.
const OPEN_MAX: usize = 20;

/// What to run, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// The daemon's program.
    pub daemon: PathBuf,
    /// As [`crate::stage::renew`] has made it.
    pub out: PathBuf,
    pub environment: Environment,
    /// How long there are faults.
    pub faulty: Duration,
    /// How many task partitions, rounded up to whole hours of five.
    pub partitions: usize,
    pub seed: u64,
}

/// Everything but the daemons.
struct Stage<'a> {
    options: &'a Options,
    config: Config,
    cloud: &'a Arc<Cloud>,
    plan: Arc<Plan>,
    tally: Mutex<Tally>,
    foreign: Vec<String>,
    progress: ProgressBar,
}

/// Plays it and judges it. Ends early when interrupted.
pub async fn run(options: &Options, interrupt: CancellationToken) -> anyhow::Result<Summary> {
    let start: Timestamp = "2013-03-01T00:00:00Z".parse().context("the clock's start")?;
    let local = LocalAws::start(crate::Options {
        data: Some(options.out.clone()),
        clock: Clock::starting_at(start, FACTOR),
        in_memory: false,
        requests: Some(options.out.join("requests.jsonl")),
        emr: emr::Options {
            starting: STAGE,
            terminating: STAGE,
            environment: Some(options.environment.clone()),
            ..emr::Options::default()
        },
        ..crate::Options::default()
    })
    .await?;
    let mut rng = Rng::with_seed(options.seed);
    let stage = Stage {
        options,
        config: Config::parse(plan::CONFIG).context("the configuration of the chaos run")?,
        cloud: local.cloud(),
        plan: Arc::new(Plan::new(options.partitions, &mut rng)?),
        tally: Mutex::default(),
        foreign: foreign_clusters(local.cloud())?,
        progress: progress_bar(),
    };
    let played = tokio::select! {
        biased;
        () = interrupt.cancelled() => Err(anyhow!("interrupted")),
        played = stage.play(local.endpoint(), rng) => played,
    };
    stage.progress.finish_and_clear();
    local.shutdown().await;
    played
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Clusters that must be left alone: one of nobody's, and one of another
/// deployment, whose time was over long ago.
fn foreign_clusters(cloud: &Cloud) -> anyhow::Result<Vec<String>> {
    let cluster = |name: &str, tags: Value| -> anyhow::Result<String> {
        let request = json!({
            "Name": name, "ReleaseLabel": "emr-7.13.0", "Tags": tags,
            "ServiceRole": "service", "JobFlowRole": "ec2",
            "Instances": {
                "KeepJobFlowAliveWhenNoSteps": true,
                "MasterInstanceType": "m5.xlarge", "InstanceCount": 1,
            },
        });
        let answer = cloud.emr().call("RunJobFlow", request)?;
        Ok(answer["JobFlowId"].as_str().context("RunJobFlow gave no id")?.to_owned())
    };
    let other = format!("{DEPLOYMENT}-blue");
    let tags = json!([
        { "Key": "sluicegate:deployment", "Value": other },
        { "Key": "sluicegate:expires-at", "Value": "2013-02-01T00:00:00Z" },
    ]);
    let theirs = format!("{other}/01J0000000000000000000000A/1");
    Ok(vec![cluster("nightly", json!([]))?, cluster(&theirs, tags)?])
}

impl Stage<'_> {
    async fn play(&self, endpoint: &str, mut rng: Rng) -> anyhow::Result<Summary> {
        let out = &self.options.out;
        let logs = out.join("daemons");
        for folder in [&logs, &out.join("steps")] {
            std::fs::create_dir(folder).context("cannot make the folder of the run")?;
        }
        let program = self.set_up(endpoint).await?;
        let shutdown = CancellationToken::new();
        let _ends_with_us = shutdown.clone().drop_guard();
        let (line, endpoint) = Line::open(self.cloud, &self.plan, rng.fork(), shutdown).await?;
        let program = Program { endpoint, ..program };
        let mut victims = Vec::new();
        for number in 1..=DAEMONS {
            let name = format!("daemon-{number}");
            victims.push(Victim::new(name, program.clone(), &logs, rng.fork(), &self.tally));
        }
        let began = Instant::now();
        self.under_faults(&line, &mut victims, &mut rng, began).await?;
        line.mend();
        let calm = Instant::now();
        let open = self.come_to_rest(&line, &mut victims, calm).await?;
        let frame = Frame {
            seed: self.options.seed,
            faulty_seconds: (calm - began).as_secs_f64(),
            calm_seconds: calm.elapsed().as_secs_f64(),
            folder: out.clone(),
        };
        let evidence = Evidence { open, seen: line.seen(), ..self.gather(&logs).await? };
        let violations = judge::judge(&self.plan, &evidence);
        let summary = Summary::new(&self.plan, &evidence, violations, frame);
        summary.write(&out.join("summary.json"))?;
        Ok(summary)
    }

    /// Provisions as an operator would. Nothing fails yet.
    async fn set_up(&self, endpoint: &str) -> anyhow::Result<Program> {
        provision::provision(self.account(), &self.config.aws, BUCKET, &INCOMING).await?;
        // A message that is received by a process which is killed is no poison.
        let url =
            json!({ "QueueUrl": self.config.aws.queue, "Attributes": { "RedrivePolicy": "" } });
        self.account().sqs("SetQueueAttributes", url).await?;
        let config = self.options.out.join("chaos.toml");
        std::fs::write(&config, plan::CONFIG).context("cannot write the configuration")?;
        let program = Program {
            path: self.options.daemon.clone(),
            config,
            endpoint: endpoint.to_owned(),
            log: self.options.out.join("daemon.log"),
        };
        program.create_tables().await?;
        Ok(program)
    }

    /// Data arrive, daemons and clusters die, calls fail.
    async fn under_faults(
        &self,
        line: &Line,
        victims: &mut [Victim<'_>],
        rng: &mut Rng,
        began: Instant,
    ) -> anyhow::Result<()> {
        let until = began + self.options.faulty;
        let torments = victims.iter_mut().map(|victim| victim.torment(until));
        let acts = async {
            let torments = futures::future::try_join_all(torments);
            tokio::try_join!(torments, self.deliver(began)).map(drop)
        };
        let noise = async {
            let broken = async {
                line.break_services().await;
                Ok(())
            };
            let deaths = kill_clusters(self.cloud, rng.fork(), &self.tally);
            tokio::try_join!(broken, deaths, self.show(until)).map(drop)
        };
        tokio::select! {
            biased;
            done = acts => done,
            failed = noise => failed,
        }
    }

    async fn deliver(&self, began: Instant) -> anyhow::Result<()> {
        for delivery in &self.plan.deliveries {
            let after = self.options.faulty.mul_f64(delivery.at * ARRIVALS);
            sleep_until(began + after).await;
            match &delivery.what {
                What::Object(key) => {
                    self.account().s3_put(&format!("/{BUCKET}/{key}"), "data".into()).await?;
                }
                What::Message(text) => {
                    let queue = &self.config.aws.queue;
                    let message = json!({ "QueueUrl": queue, "MessageBody": text });
                    self.account().sqs("SendMessage", message).await?;
                }
            }
        }
        Ok(())
    }

    /// Shows how far it is, for as long as it is polled.
    async fn show(&self, until: Instant) -> anyhow::Result<()> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let partitions = observe::partitions(self.cloud, TABLE_PREFIX)?;
            let over = partitions.iter().filter(|partition| partition.is_final()).count();
            let left = until.saturating_duration_since(Instant::now()).as_secs();
            let phase = match left {
                0 => "no more faults".to_owned(),
                left => format!("faults for {left} s more"),
            };
            let kills = self.tally().kills;
            let all = self.plan.expected.len();
            self.progress.set_message(format!(
                "{phase} · {over} of {all} task partitions over · {kills} kills"
            ));
            self.progress.tick();
        }
    }

    /// The faults are over: both daemons run until nothing is left to do. What
    /// is still open when time is up is returned.
    async fn come_to_rest(
        &self,
        line: &Line,
        victims: &mut [Victim<'_>],
        calm: Instant,
    ) -> anyhow::Result<Vec<String>> {
        let mut daemons: Vec<Daemon> = Vec::new();
        for victim in victims.iter_mut() {
            daemons.push(victim.start()?);
        }
        let died =
            futures::future::select_all(daemons.iter_mut().map(|daemon| Box::pin(daemon.died())));
        let open = tokio::select! {
            biased;
            (error, ..) = died => return Err(error.context("a daemon ended without any fault")),
            failed = self.show(calm) => return Err(failed.err().unwrap_or_else(|| anyhow!("the progress ended"))),
            open = self.until_rest(line) => open?,
        };
        for (victim, daemon) in victims.iter().zip(daemons) {
            victim.end(daemon).await?;
        }
        Ok(open)
    }

    /// Until nothing is open, or it does not get less any more: what is open then.
    async fn until_rest(&self, line: &Line) -> anyhow::Result<Vec<String>> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            looks.tick().await;
            let mut open = self.open().await?;
            if open.is_empty() && line.on_their_way() == 0 {
                return Ok(open);
            }
            if open.len() < least {
                (least, since) = (open.len(), Instant::now());
            } else if since.elapsed() >= STILL_LIMIT {
                open.truncate(OPEN_MAX);
                return Ok(open);
            }
        }
    }

    /// What is left to do or to tell, in words.
    async fn open(&self) -> anyhow::Result<Vec<String>> {
        let partitions = observe::partitions(self.cloud, TABLE_PREFIX)?;
        let over = |partition: &&observe::Partition| {
            partition.is_final() && partition.notices_pending == 0
        };
        let over: std::collections::BTreeSet<_> = partitions
            .iter()
            .filter(over)
            .map(|partition| (partition.task.as_str(), partition.partition.as_str()))
            .collect();
        let expected = self.plan.expected.keys();
        let waiting = expected
            .filter(|(task, partition)| !over.contains(&(task.as_str(), partition.as_str())))
            .map(|(task, partition)| format!("{task} {partition} is not over, or not told"));
        let runs = observe::runs(self.cloud, TABLE_PREFIX)?;
        let runs = runs.iter().filter(|run| !run.is_over());
        let runs = runs.map(|run| format!("run {} is {}, or not told", run.id, run.state));
        let clusters = self.cloud.emr().with(|machine, _| {
            let alive = machine.clusters().filter(|cluster| !cluster.state.has_ended());
            let ours = alive.filter(|cluster| !self.foreign.contains(&cluster.id));
            ours.map(|cluster| format!("cluster {} is alive", cluster.id)).collect::<Vec<_>>()
        });
        let inbox = self.depth(&self.config.aws.queue).await?;
        let inbox = (inbox > 0).then(|| format!("{inbox} messages are in the inbox"));
        Ok(waiting.chain(runs).chain(clusters).chain(inbox).collect())
    }

    /// Everything but what the line has seen.
    async fn gather(&self, logs: &Path) -> anyhow::Result<Evidence> {
        let aws = &self.config.aws;
        let out = &self.options.out;
        let mut mailbox = Mailbox::new(out.join("mail"));
        let partitions = observe::partitions(self.cloud, TABLE_PREFIX)?.into_iter();
        Ok(Evidence {
            partitions: partitions
                .map(|item| ((item.task.clone(), item.partition.clone()), item))
                .collect(),
            runs: observe::runs(self.cloud, TABLE_PREFIX)?,
            clusters: observe::clusters(self.cloud)?,
            foreign: self.foreign.clone(),
            mails: mailbox.read_new()?,
            executions: evidence::executions(&out.join("steps"))?,
            requests: evidence::requests(&out.join("requests.jsonl"))?,
            inbox: self.depth(&aws.queue).await?,
            quarantine: self.depth(&aws.quarantine).await?,
            tally: self.tally(),
            panics: evidence::panics(logs)?,
            ..Evidence::default()
        })
    }

    fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn depth(&self, queue: &str) -> anyhow::Result<u64> {
        observe::depth(self.cloud, &self.config.aws.region, queue).await
    }

    fn account(&self) -> Account<'_> {
        Account { cloud: self.cloud, region: &self.config.aws.region }
    }
}

/// Says what is about to happen, before it takes minutes.
pub fn announce(options: &Options) {
    let Options { partitions, faulty, seed, out, .. } = options;
    screen::line(format_args!(
        "{DAEMONS} daemons, {partitions} task partitions, {} s of faults, seed {seed}, in {}",
        faulty.as_secs(),
        out.display()
    ));
}
