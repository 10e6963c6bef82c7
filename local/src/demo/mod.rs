//! The demo: the local AWS and the daemon on real data, from provisioning to a
//! judged summary. Shows and judges; what is shown happens in the daemon.

mod checks;
mod summary;
mod verify;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use console::style;
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::checks::{Evidence, unfinished};
use self::summary::{ClockSpan, Summary};
use self::verify::Verification;
use self::watch::Watch;
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::python::Environment;
use crate::redshift::postgres::Programs;
use crate::replay::{self, Delivery, Window};
use crate::stage::account::Account;
use crate::stage::config::Config;
use crate::stage::daemon::{Daemon, Program};
use crate::stage::mailbox::Mailbox;
use crate::stage::{observe, provision, screen};
use crate::{LocalAws, emr};

/// As in the configuration.
const BUCKET: &str = "sluicegate-demo";
/// What S3 is to tell of: what Firehose and the partners deliver. The other
/// prefixes hold what the daemon's own tasks write.
const INCOMING: [&str; 2] = ["rawdata/", "partners/"];
const DAY: &str = "2013-01-01";
/// Where `hourly-etl` loads its hours: database.table.
const TABLE: &str = "dev.flights";
const HOURS: (&str, &str) = ("2013-01-01T10", "2013-01-01T12");
/// For setting things up, before the first hour begins.
const LEAD: SignedDuration = SignedDuration::from_mins(10);
/// How long Firehose collects records for one object.
const BUFFER: SignedDuration = SignedDuration::from_mins(10);
/// Real time; it takes about half of it.
const TIME_LIMIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The daemon's program.
    pub daemon: PathBuf,
    pub config: PathBuf,
    pub data: PathBuf,
    /// Folder of the scripts that the steps run.
    pub jobs: PathBuf,
    /// The script that checks the outputs.
    pub verify: PathBuf,
    /// As [`crate::stage::renew`] has made it.
    pub out: PathBuf,
    pub environment: Environment,
    /// Seconds of the development clock in a real second.
    pub factor: f64,
    /// Goes on after the summary, until it is interrupted.
    pub keep: bool,
    /// When the demo began, for its duration.
    pub began: Instant,
}

/// The demo's stage: everything but the daemon.
struct Stage<'a> {
    options: &'a Options,
    config: Config,
    cloud: &'a Cloud,
    clock: Clock,
    endpoint: &'a str,
    /// What the outside world will deliver, in order of time.
    deliveries: Vec<Delivery>,
    /// Lines of the call log before the daemon started.
    calls_before: usize,
}

/// Plays the demo; true if all was as expected. Ends early when interrupted.
pub async fn run(options: &Options, interrupt: CancellationToken) -> anyhow::Result<bool> {
    let config = Config::read(&options.config)?;
    let start = start_of_day_one()?;
    let clock = Clock::starting_at(start - LEAD, options.factor);
    let local = LocalAws::start(crate::Options {
        port: 0,
        data: Some(options.out.clone()),
        clock,
        in_memory: false,
        requests: None,
        postgres: Programs::find(Some(&options.environment)),
        emr: emr::Options {
            environment: Some(options.environment.clone()),
            region: config.aws.region.clone(),
            ..emr::Options::default()
        },
    })
    .await?;
    let stage = Stage {
        options,
        deliveries: plan(&options.data, start)?,
        config,
        cloud: local.cloud(),
        clock,
        endpoint: local.endpoint(),
        calls_before: 0,
    };
    let played = tokio::select! {
        biased;
        () = interrupt.cancelled() => Err(anyhow!("interrupted")),
        played = stage.play() => played,
    };
    let ended = match played {
        Ok((ok, Some(daemon))) => {
            keep(daemon, options, local.endpoint(), &interrupt).await.map(|stopped| ok && stopped)
        }
        Ok((ok, None)) => Ok(ok),
        Err(error) => Err(error),
    };
    local.shutdown().await;
    ended
}

fn start_of_day_one() -> anyhow::Result<Timestamp> {
    format!("{}:00:00Z", HOURS.0).parse().context("the first hour is no instant")
}

/// What lands when: a straggler of the first hour comes after minute five,
/// when a mere cron would have gone by.
fn plan(data: &Path, start: Timestamp) -> anyhow::Result<Vec<Delivery>> {
    let window = Window::new(start, start + SignedDuration::from_hours(3))?;
    let options = replay::Options {
        buffer: BUFFER,
        straggler: Some(start),
        planes_after: SignedDuration::from_mins(10 * 60 + 20),
        weather_after: SignedDuration::from_mins(10 * 60 + 45),
        airlines_after: SignedDuration::from_mins(12 * 60),
        ..replay::Options::new(BUCKET)
    };
    replay::plan(data, &window, &options)
        .with_context(|| format!("cannot replay the data in {}", data.display()))
}

impl Stage<'_> {
    /// Returns the judgement, and the daemon if it is to go on.
    async fn play(mut self) -> anyhow::Result<(bool, Option<Daemon>)> {
        let program = self.set_up().await?;
        let mut daemon = program.start()?;
        let mut mailbox = Mailbox::new(self.options.out.join("mail"));
        let shown = tokio::select! {
            biased;
            error = daemon.died() => return Err(error),
            shown = timeout(TIME_LIMIT, self.show(&mut mailbox)) => shown,
        };
        match shown {
            Ok(shown) => shown?,
            Err(_) => self.report_unfinished()?,
        }
        let memory = daemon.memory();
        let (stopped, daemon) = if self.options.keep {
            (None, Some(daemon))
        } else {
            (Some(daemon.stop().await?), None)
        };
        mailbox.read_new()?;
        let evidence = Evidence { memory, stopped, ..self.gather(&mailbox).await? };
        let checks = checks::check(&evidence, &self.config);
        let span = ClockSpan {
            start: self.clock.start,
            end: self.cloud.time().dev(),
            factor: self.clock.factor,
        };
        let seconds = self.options.began.elapsed().as_secs_f64();
        let summary = Summary::new(&evidence, checks, span, seconds);
        summary.print();
        summary.write(&self.options.out.join("summary.json"))?;
        screen::line("");
        screen::line(format_args!("everything is left in {}", self.options.out.display()));
        Ok((summary.ok, daemon))
    }

    /// Provisions as an operator would, and creates the tables.
    async fn set_up(&mut self) -> anyhow::Result<Program> {
        let aws = &self.config.aws;
        screen::heading("Setting up");
        screen::entry("local AWS", self.endpoint);
        provision::provision(self.account(), aws, BUCKET, &INCOMING).await?;
        provision::upload(self.account(), BUCKET, &self.options.jobs).await?;
        let topic = &aws.topic_arn;
        let text = format!("queue {}, topic {topic}, bucket {BUCKET}", aws.queue);
        screen::entry("provisioned", &text);
        let program = Program {
            path: self.options.daemon.clone(),
            config: self.options.config.clone(),
            endpoint: self.endpoint.to_owned(),
            log: self.options.out.join("daemon.log"),
        };
        program.create_tables().await?;
        screen::entry("tables", "created by: sluicegate tables create");
        self.calls_before = observe::calls(&self.call_log(), 0)?.len();
        screen::entry("daemon", &format!("its log is {}", program.log.display()));
        let factor = self.clock.factor;
        screen::heading("What happens, by a clock that runs faster");
        screen::line(style(format!("one real second is {factor} seconds of it")).dim());
        Ok(program)
    }

    /// Delivers the data and shows what comes of it, until all is at rest.
    async fn show(&self, mailbox: &mut Mailbox) -> anyhow::Result<()> {
        let mut watch = Watch::default();
        let mut coming = self.deliveries.iter().peekable();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = coming.peek().map_or(Timestamp::MAX, |delivery| delivery.at);
            tokio::select! {
                biased;
                () = self.clock.sleep_until(next) => {
                    if let Some(delivery) = coming.next() {
                        self.deliver(delivery).await?;
                        watch.delivered(delivery);
                    }
                }
                _ = looks.tick() => {
                    let at_rest = coming.peek().is_none() && self.is_at_rest().await?;
                    watch.clusters(&observe::clusters(self.cloud)?);
                    watch.mails(&mailbox.read_new()?);
                    watch.take_lines(self.cloud.time().dev()).iter().for_each(screen::event);
                    if at_rest {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn deliver(&self, delivery: &Delivery) -> anyhow::Result<()> {
        let path = format!("/{}/{}", delivery.bucket, delivery.key);
        self.account().s3_put(&path, delivery.body.clone()).await
    }

    /// Nothing that is expected is left to do, or to tell.
    async fn is_at_rest(&self) -> anyhow::Result<bool> {
        let table_prefix = &self.config.aws.table_prefix;
        let partitions = observe::partitions(self.cloud, table_prefix)?;
        let told = partitions.iter().all(|partition| partition.notices_pending == 0);
        if !unfinished(&partitions).is_empty() || !told {
            return Ok(false);
        }
        let over = observe::runs(self.cloud, table_prefix)?.iter().all(observe::Run::is_over);
        Ok(over && self.depth(&self.config.aws.queue).await? == 0)
    }

    fn report_unfinished(&self) -> anyhow::Result<()> {
        let partitions = observe::partitions(self.cloud, &self.config.aws.table_prefix)?;
        let missing = match unfinished(&partitions).join(", ") {
            none if none.is_empty() => "nothing, but something is still under way".to_owned(),
            some => some,
        };
        let out = self.options.out.display();
        let text = format!(
            "\nnot at rest within {} s; missing: {missing}\n\
             the daemon's log is {out}/daemon.log, those of the steps are in {out}/emr",
            TIME_LIMIT.as_secs()
        );
        screen::line(style(text).red());
        Ok(())
    }

    async fn gather(&self, mailbox: &Mailbox) -> anyhow::Result<Evidence> {
        let Config { aws, .. } = &self.config;
        let dead_letters = provision::dead_letters_of(&aws.queue);
        let mut queues = Vec::new();
        for name in [&aws.queue, &dead_letters, &aws.quarantine] {
            queues.push((name.clone(), self.depth(name).await?));
        }
        let verification = Verification {
            python: self.options.environment.python(),
            script: self.options.verify.clone(),
            world: self.options.out.clone(),
            bucket: BUCKET.to_owned(),
            data: self.options.data.clone(),
            hours: (HOURS.0.to_owned(), HOURS.1.to_owned()),
            day: DAY.to_owned(),
            table: TABLE.to_owned(),
            buffer_secs: BUFFER.as_secs(),
        };
        Ok(Evidence {
            partitions: observe::partitions(self.cloud, &aws.table_prefix)?,
            runs: observe::runs(self.cloud, &aws.table_prefix)?,
            clusters: observe::clusters(self.cloud)?,
            mails: mailbox.mails().cloned().collect(),
            calls: observe::calls(&self.call_log(), self.calls_before)?,
            queues,
            objects_delivered: self.deliveries.len(),
            verified: verification.run().await,
            ..Evidence::default()
        })
    }

    async fn depth(&self, queue: &str) -> anyhow::Result<u64> {
        observe::depth(self.cloud, &self.config.aws.region, queue).await
    }

    fn account(&self) -> Account<'_> {
        Account { cloud: self.cloud, region: &self.config.aws.region }
    }

    fn call_log(&self) -> PathBuf {
        self.options.out.join("calls.jsonl")
    }
}

/// Goes on until interrupted; true if the daemon then stops as it should.
async fn keep(
    mut daemon: Daemon,
    options: &Options,
    endpoint: &str,
    interrupt: &CancellationToken,
) -> anyhow::Result<bool> {
    screen::heading("It goes on: Ctrl-C ends it. In another terminal:");
    screen::line("  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local");
    screen::line(format_args!("  export SLUICEGATE_LOCAL={endpoint}"));
    screen::line("  export SLUICEGATE_CONFIG=config/local.toml PATH=target/debug:$PATH");
    screen::line("  sluicegate status");
    let aws = options.environment.bin_dir().join("aws");
    let aws = format!("{} --endpoint-url {endpoint} --region us-east-1", aws.display());
    screen::line(format_args!("  alias aws='{aws}'"));
    for command in [
        format!("s3 ls --recursive s3://{BUCKET}/etl/"),
        "emr list-clusters --query 'Clusters[].[Id,Status.State,Name]' --output text".to_owned(),
        "dynamodb scan --table-name sluicegate-task --output table".to_owned(),
    ] {
        screen::line(format_args!("  aws {command}"));
    }
    let weather = options.data.join("weather-2013-01-02.csv.gz");
    let key = "partners/weather/2013-01-02.csv.gz";
    screen::line(format_args!("  aws s3 cp {} s3://{BUCKET}/{key}", weather.display()));
    screen::line(format_args!("  tail -f {}/daemon.log", options.out.display()));
    tokio::select! {
        biased;
        () = interrupt.cancelled() => {}
        error = daemon.died() => bail!(error),
    }
    let stopped = daemon.stop().await?;
    screen::line(format_args!("\nthe daemon has stopped: {stopped}"));
    Ok(stopped.is_clean())
}
