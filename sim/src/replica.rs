//! One replica of the daemon: the real thing, put together as in production,
//! on virtual time and behind the simulated network. It can be killed, stopped
//! and resumed, told to end, and its clock can be wrong. Not for deciding when:
//! that is the scenario's and the faults' part.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_async::time::TimeSource;
use jiff::{SignedDuration, Timestamp};
use sluicegate::clock::{Clock, Source};
use sluicegate::{app, aws, config};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::network;
use crate::time::{VirtualTime, pass};
use crate::world::World;

/// What a process gets between SIGTERM and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Until a supervisor starts a process again that ended by itself; twice as long
/// each time that it cannot start.
const RESTART_AFTER: Duration = Duration::from_secs(20);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(160);

/// The machine a replica runs on; outlives its processes.
#[derive(Debug)]
pub struct Machine {
    pub number: usize,
    time: VirtualTime,
    /// How far its clock is off, in seconds.
    skew: AtomicI64,
    stopped: AtomicBool,
    /// Wakes all who wait for it in the order in which they came; a watch channel
    /// would take a random one, and the same seed would not give the same trace.
    resumed: Notify,
    /// It has the next configuration.
    deployed: AtomicBool,
}

impl Machine {
    pub fn new(number: usize, time: VirtualTime) -> Arc<Self> {
        let (skew, stopped) = (AtomicI64::new(0), AtomicBool::new(false));
        let (resumed, deployed) = (Notify::new(), AtomicBool::new(false));
        Arc::new(Self { number, time, skew, stopped, resumed, deployed })
    }

    pub fn set_clock(&self, off: SignedDuration) {
        self.skew.store(off.as_secs(), Ordering::Relaxed);
    }

    /// SIGSTOP: whatever it waits for, it does not go on before `resume`.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn resume(&self) {
        self.stopped.store(false, Ordering::Relaxed);
        self.resumed.notify_waiters();
    }

    /// What its clock shows.
    pub fn now(&self) -> Timestamp {
        let off = SignedDuration::from_secs(self.skew.load(Ordering::Relaxed));
        self.time.now().saturating_add(off).unwrap_or(Timestamp::MAX)
    }

    /// Goes on when the machine does.
    pub async fn pass_gate(&self) {
        while self.stopped.load(Ordering::Relaxed) {
            self.resumed.notified().await;
        }
    }
}

/// One process: from its start to its end or its death.
pub struct Life {
    pub machine: Arc<Machine>,
    /// Counts the processes of the machine.
    pub number: u32,
    killed: CancellationToken,
    ended: CancellationToken,
    dead: AtomicBool,
    started: AtomicBool,
}

impl Life {
    /// kill -9: nothing of it goes on, its requests under way are not answered.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.killed.cancel();
    }

    /// SIGTERM; a new process follows.
    pub fn end(&self) {
        self.ended.cancel();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}.{}", self.machine.number, self.number)
    }
}

/// The time of a process: its machine's clock, standing still with it.
#[derive(Debug, Clone)]
struct MachineTime(Arc<Machine>);

impl MachineTime {
    async fn pass(self, span: Duration) {
        pass(span).await;
        self.0.pass_gate().await;
    }
}

impl Source for MachineTime {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.clone().pass(span))
    }
}

impl AsyncSleep for MachineTime {
    fn sleep(&self, span: Duration) -> Sleep {
        Sleep::new(self.clone().pass(span))
    }
}

impl TimeSource for MachineTime {
    fn now(&self) -> SystemTime {
        self.0.time.system()
    }
}

/// A machine with its supervisor, which starts the daemon again whenever it
/// has ended, until the world is over.
pub struct Replica {
    pub machine: Arc<Machine>,
    orders: watch::Sender<Order>,
    /// The process that runs or was last.
    present: watch::Receiver<Option<Arc<Life>>>,
    supervisor: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    /// SIGTERM, and begin again.
    Restart,
    /// SIGTERM, and stay down.
    End,
}

impl Replica {
    pub fn start(world: &Arc<World>, number: usize) -> Self {
        let machine = Machine::new(number, world.time);
        let (orders, heard) = watch::channel(Order::Run);
        let (lives, present) = watch::channel(None);
        let supervisor = supervise(Arc::clone(world), Arc::clone(&machine), heard, lives);
        Self { machine, orders, present, supervisor: tokio::spawn(supervisor) }
    }

    /// SIGTERM; it stays down until `run`.
    pub fn end(&self) {
        self.orders.send_replace(Order::End);
    }

    /// SIGTERM, and a new process with the next configuration; the second time it is
    /// rolled back.
    pub fn deploy(&self) {
        self.machine.deployed.fetch_xor(true, Ordering::Relaxed);
        self.orders.send_replace(Order::Restart);
    }

    pub fn run(&self) {
        self.orders.send_replace(Order::Run);
    }

    /// kill -9 for the process that runs, if any.
    pub fn kill(&self) {
        if let Some(life) = &*self.present.borrow() {
            life.kill();
        }
    }

    /// No process of it is left, and none comes again.
    pub fn destroy(&self) {
        self.supervisor.abort();
    }
}

async fn supervise(
    world: Arc<World>,
    machine: Arc<Machine>,
    mut orders: watch::Receiver<Order>,
    lives: watch::Sender<Option<Arc<Life>>>,
) {
    let mut restart_after = RESTART_AFTER;
    for number in 1.. {
        if orders.wait_for(|order| *order != Order::End).await.is_err() {
            return;
        }
        let life = Arc::new(Life {
            machine: Arc::clone(&machine),
            number,
            killed: CancellationToken::new(),
            ended: CancellationToken::new(),
            dead: AtomicBool::new(false),
            started: AtomicBool::new(false),
        });
        lives.send_replace(Some(Arc::clone(&life)));
        world.note(&format!("{life}: started"));
        let words = tokio::select! {
            biased;
            () = life.killed.cancelled() => "killed".to_owned(),
            words = live(&world, &life, &mut orders) => words,
        };
        let died = life.is_dead();
        life.kill();
        world.note(&format!("{life}: {words}"));
        if life.started.load(Ordering::Relaxed) {
            restart_after = RESTART_AFTER;
        }
        pass(if died { world.downtime() } else { restart_after }).await;
        restart_after = (restart_after * 2).min(RESTART_AFTER_MAX);
    }
}

/// Runs until told to end; says in words how it ended.
async fn live(world: &Arc<World>, life: &Arc<Life>, orders: &mut watch::Receiver<Order>) -> String {
    let deployed = life.machine.deployed.load(Ordering::Relaxed);
    let scenario = &world.scenario;
    let text = if deployed { &scenario.next_text } else { &scenario.text };
    let config = match config::parse(text, Path::new("sim.toml")) {
        Ok(config) => config,
        Err(findings) => {
            world.violated("scenario", &format!("its configuration is refused: {findings}"));
            return "no configuration".to_owned();
        }
    };
    let time = MachineTime(Arc::clone(&life.machine));
    let clock = Clock::with_source(Arc::new(time.clone()));
    let sdk = sdk_config(world, Some(life), time);
    let shutdown = CancellationToken::new();
    let mut loops = JoinSet::new();
    let engine = match app::prepare(config, &sdk, clock).await {
        Ok(prepared) => prepared.begin(&mut loops, &shutdown),
        Err(error) => return format!("could not start: {error}"),
    };
    life.started.store(true, Ordering::Relaxed);
    tokio::select! {
        biased;
        _ = told_to_end(orders) => {}
        () = life.ended.cancelled() => {}
        Some(_) = loops.join_next() => {
            world.violated("running", "a loop of the daemon ended by itself");
        }
    }
    drop(engine);
    world.note(&format!("{life}: told to end"));
    shutdown.cancel();
    let ended = async { while loops.join_next().await.is_some() {} };
    tokio::select! {
        biased;
        () = ended => "ended".to_owned(),
        () = pass(STOP_TIMEOUT) => {
            world.happened("killed after its stop time-out");
            "killed: it did not end in time".to_owned()
        }
    }
}

/// Until an order comes that is not just to run.
async fn told_to_end(orders: &mut watch::Receiver<Order>) {
    loop {
        // The sender lives as long as the supervisor's world.
        if orders.changed().await.is_err() || *orders.borrow_and_update() != Order::Run {
            return;
        }
    }
}

/// The operator's way to the same cloud.
pub fn operator(world: &Arc<World>) -> SdkConfig {
    sdk_config(world, None, MachineTime(Machine::new(usize::MAX, world.time)))
}

fn sdk_config(world: &Arc<World>, life: Option<&Arc<Life>>, time: MachineTime) -> SdkConfig {
    let credentials = Credentials::new("sim", "sim", None, None, "sim");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(own_region()))
        .endpoint_url(crate::world::ENDPOINT)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(aws::retries())
        .timeout_config(aws::timeouts())
        // Its clock would tick twice a virtual second; bodies here never stall.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .sleep_impl(time.clone())
        .time_source(time)
        .http_client(network::client(world, life))
        .build()
}

/// The SDK keeps its budget of retries for each region in a static map, which
/// would make worlds depend on those before them: each process has a region of
/// its own, as a real one has a map of its own.
fn own_region() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("us-east-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
