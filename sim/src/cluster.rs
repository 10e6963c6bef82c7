//! What happens on the clusters: the local EMR's state machine on virtual time,
//! with processes that only have a duration and an exit. The guard's steps
//! really claim their item, and the deadline really ends its cluster. Not for
//! EMR's own rules: those are the state machine's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluicegate_local::emr::events;
use sluicegate_local::emr::machine::Machine;
use sluicegate_local::emr::model::{
    Cluster, ClusterState, Effect, Exit, Job, Now, Reason, ReasonCode,
};

use crate::scenario::{ClusterRates, DEPLOYMENT};
use crate::time::pass;
use crate::world::World;

/// How often time is let pass while a cluster lives.
const TICK: Duration = Duration::from_secs(15);
/// How long a guard tries again when DynamoDB does not answer it.
const GUARD_TRIES: u32 = 10;
pub const GUARD: &str = "sluicegate/guard/";
const DEADLINE: &str = "sluicegate deadline";

/// A process on a cluster.
#[derive(Debug, Clone)]
struct Process {
    ends: Timestamp,
    exit: i32,
}

/// Something that somebody does to a cluster.
#[derive(Debug, Clone)]
enum Mishap {
    Terminated,
    InstancesLost,
    StepCancelled(String),
}

impl Mishap {
    fn name(&self) -> &'static str {
        match self {
            Mishap::Terminated => "cluster terminated",
            Mishap::InstancesLost => "instances lost",
            Mishap::StepCancelled(_) => "step cancelled",
        }
    }
}

/// Lets the clusters of a world live, until it is dropped.
pub struct Driver {
    world: Arc<World>,
    rng: Rng,
    rates: ClusterRates,
    processes: BTreeMap<(String, Job), Process>,
    mishaps: Vec<(Timestamp, String, Mishap)>,
    /// Nothing goes wrong on clusters from here on.
    calm_from: Timestamp,
}

impl Driver {
    pub fn new(world: Arc<World>, seed: u64, rates: ClusterRates, calm_from: Timestamp) -> Self {
        let rng = Rng::with_seed(seed ^ 0xc1a5_7e25);
        Self { world, rng, rates, processes: BTreeMap::new(), mishaps: Vec::new(), calm_from }
    }

    pub async fn run(mut self) {
        loop {
            self.let_pass();
            let wait = self.patience();
            let changed = self.world.clusters_changed();
            tokio::select! {
                biased;
                () = changed => {}
                () = pass(wait) => {}
            }
        }
    }

    /// Until something may happen by itself.
    fn patience(&self) -> Duration {
        let now = self.world.time.now();
        // Of others' clusters nothing is asked but to be there.
        let rests = |cluster: &Cluster| {
            cluster.state.has_ended() || !is_ours(cluster) && cluster.state == ClusterState::Waiting
        };
        let at_rest = self.world.cloud.emr().with(|machine, _| machine.clusters().all(rests));
        let most = if at_rest { Duration::from_secs(3600) } else { TICK };
        let next = self.processes.values().map(|process| process.ends);
        let next = next.chain(self.mishaps.iter().map(|(at, _, _)| *at)).min();
        let next = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        next.map_or(most, |next| next.min(most))
    }

    fn let_pass(&mut self) {
        loop {
            self.end_processes();
            self.meet_mishaps();
            let effects = self.machine(|machine, now| {
                machine.tick(now);
                machine.take_effects()
            });
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    fn machine<T>(&self, apply: impl FnOnce(&mut Machine, Now) -> T) -> T {
        self.world.cloud.emr().with(apply)
    }

    fn end_processes(&mut self) {
        let now = self.world.time.now();
        let ended: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| process.ends <= now)
            .map(|(key, process)| (key.clone(), process.exit))
            .collect();
        for ((cluster, job), exit) in ended {
            self.processes.remove(&(cluster.clone(), job.clone()));
            self.exited(&cluster, &job, exit);
        }
    }

    fn exited(&mut self, cluster: &str, job: &Job, exit: i32) {
        // Now and then a log never comes, for which a run waits 20 minutes.
        if let (1.., Job::Step(step)) = (exit, job)
            && self.rng.u8(0..24) > 0
        {
            let written = self.world.time.now() + SignedDuration::from_secs(self.rng.i64(5..200));
            self.world.write_log(cluster, step, written);
        }
        if let (0, Job::Step(step)) = (exit, job) {
            self.write_output(cluster, step);
        }
        report(&self.world, cluster, job, exit);
    }

    /// The last step of a task that loads has made its files.
    fn write_output(&mut self, cluster: &str, step: &str) {
        let name = self.machine(|machine, _| {
            let step = machine.cluster(cluster).and_then(|found| found.step(step));
            step.map(|step| step.name.clone())
        });
        // `TASK/PARTITION/STEP/SERIAL`
        let name = name.unwrap_or_default();
        let parts: Vec<_> = name.split('/').collect();
        let [task, partition, step, _] = parts[..] else { return };
        let Some(task) = self.world.scenario.task(task) else { return };
        let is_last = task.steps.last().is_some_and(|last| last.name == step);
        let Ok(partition) = partition.parse() else { return };
        if task.load.is_none() || !is_last {
            return;
        }
        // Now and then there is nothing to write.
        let files: Vec<u8> = (0..self.rng.u8(0..4)).map(|_| self.rng.u8(1..4)).collect();
        self.world.write_output(task, partition, cluster, &files);
    }

    fn meet_mishaps(&mut self) {
        let now = self.world.time.now();
        let (due, later) = self.mishaps.drain(..).partition(|(at, _, _)| *at <= now);
        self.mishaps = later;
        let due: Vec<(Timestamp, String, Mishap)> = due;
        for (_, cluster, mishap) in due {
            self.world.note(&format!("cluster {cluster}: {mishap:?}"));
            self.world.happened(mishap.name());
            // One that has ended meanwhile has nothing left to lose.
            let _ = self.machine(|machine, now| match &mishap {
                Mishap::Terminated => machine.terminate(std::slice::from_ref(&cluster), now),
                Mishap::InstancesLost => machine.fail_cluster(&cluster, lost(&cluster), now),
                Mishap::StepCancelled(step) => machine
                    .cancel_steps(&cluster, std::slice::from_ref(step), true, now)
                    .map(|_| ()),
            });
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Run { cluster, job } => self.start(cluster, job),
            Effect::Kill { cluster, job, .. } => {
                let now = self.world.time.now();
                if let Some(process) = self.processes.get_mut(&(cluster, job)) {
                    *process = Process { ends: now, exit: 137 };
                }
            }
            Effect::Announce { detail_type, detail } => self.announce(detail_type, &detail),
            Effect::Release { cluster } => {
                self.processes.retain(|(of, _), _| *of != cluster);
            }
        }
    }

    fn announce(&mut self, detail_type: &'static str, detail: &Value) {
        let (id, state) = (detail["clusterId"].as_str(), detail["state"].as_str());
        let (id, state) = (id.unwrap_or_default(), state.unwrap_or_default());
        let step = detail["stepId"].as_str().unwrap_or_default();
        self.world.note(&format!("cluster {id} {step}: {state}").replace(" :", ":"));
        if state == "STARTING" {
            self.plan_mishaps(id);
        }
        // EMR sends them by its best effort: some are lost, some come twice.
        let copies = match self.rng.u8(0..20) {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let bus = self.world.cloud.events();
            bus.put_event(events::SOURCE, detail_type, &[], detail.clone());
        }
    }

    fn is_ours(&self, cluster: &str) -> bool {
        self.machine(|machine, _| machine.cluster(cluster).is_some_and(is_ours))
    }

    fn plan_mishaps(&mut self, cluster: &str) {
        let now = self.world.time.now();
        if now >= self.calm_from || !self.is_ours(cluster) {
            return;
        }
        let rates = self.rates;
        for (rate, mishap) in
            [(rates.terminated, Mishap::Terminated), (rates.instances_lost, Mishap::InstancesLost)]
        {
            if self.rng.u32(0..1000) < rate {
                let at = now + SignedDuration::from_secs(self.rng.i64(1..1800));
                self.mishaps.push((at, cluster.to_owned(), mishap));
            }
        }
    }

    fn start(&mut self, cluster: String, job: Job) {
        let now = self.world.time.now();
        let process = match &job {
            Job::BootstrapAction(index) => self.bootstrap(&cluster, *index, now),
            Job::Step(step) => {
                let found = self.machine(|machine, _| {
                    let step = machine.cluster(&cluster).and_then(|found| found.step(step));
                    step.map(|step| (step.name.clone(), step.jar.args.clone()))
                });
                let Some((name, args)) = found else { return };
                if name.starts_with(GUARD) {
                    let claim = Claim::read(&args, &cluster, step);
                    let mut meets = |rate| now < self.calm_from && self.rng.u32(0..1000) < rate;
                    let fate = GuardFate {
                        fails: meets(self.rates.guard_fails),
                        lost: self.rates.claimant_lost > 0 && meets(self.rates.claimant_lost),
                    };
                    tokio::spawn(guard(Arc::clone(&self.world), cluster, job, claim, fate));
                    return;
                }
                self.world.oracle().step_started(&self.world, &cluster, step, &name);
                self.step(&cluster, step, &name, now)
            }
        };
        self.processes.insert((cluster, job), process);
    }

    fn bootstrap(&mut self, cluster: &str, index: usize, now: Timestamp) -> Process {
        let action = self.machine(|machine, _| {
            let actions = machine.cluster(cluster).map(|found| &found.request.bootstrap_actions);
            let action = actions.and_then(|actions| actions.get(index)).cloned();
            action.map(|action| (action.name, action.script_bootstrap_action.args))
        });
        if let Some((name, args)) = action
            && name == DEADLINE
        {
            let at = args.first().and_then(|secs| secs.parse().ok());
            let at = at.and_then(|secs| Timestamp::from_second(secs).ok()).unwrap_or(now);
            // It is there: it has just asked for this.
            let _ = self.machine(|machine, now| machine.schedule_shutdown(cluster, Some(at), now));
        }
        let fails = now < self.calm_from && self.rng.u32(0..1000) < self.rates.bootstrap_fails;
        if fails {
            self.world.happened("bootstrap fails");
        }
        Process { ends: now + SignedDuration::from_secs(20), exit: i32::from(fails) }
    }

    fn step(&mut self, cluster: &str, step: &str, name: &str, now: Timestamp) -> Process {
        let secs = self.rng.u64(10..=self.rates.step_secs_max.max(11));
        let first = self.rates.first_fails && name.starts_with("t0/") && name.ends_with("/s0/1");
        let mut process = Process { ends: now + Duration::from_secs(secs), exit: i32::from(first) };
        if now >= self.calm_from {
            return process;
        }
        if self.rng.u32(0..1000) < self.rates.step_fails {
            self.world.happened("step fails");
            process.exit = 1;
        }
        if self.rng.u32(0..1000) < self.rates.step_hangs {
            self.world.happened("step hangs");
            process.ends = Timestamp::MAX;
        }
        if self.rng.u32(0..1000) < self.rates.step_cancelled {
            let at = now + Duration::from_secs(secs / 2);
            let mishap = Mishap::StepCancelled(step.to_owned());
            self.mishaps.push((at, cluster.to_owned(), mishap));
        }
        process
    }
}

/// Tells the state machine and the oracle that a process has ended.
fn report(world: &Arc<World>, cluster: &str, job: &Job, exit: i32) {
    let reported = world.cloud.emr().with(|machine, now| {
        machine.process_exited(cluster, job, Exit::with_code(exit), now).map(|()| {
            let Job::Step(step) = job else { return None };
            let found = machine.cluster(cluster).and_then(|cluster| cluster.step(step));
            found.map(|step| (step.id.clone(), step.name.clone(), step.state))
        })
    });
    match reported {
        Ok(Some((step, name, state))) => {
            world.oracle().step_ended(cluster, &step, &name, state);
        }
        Ok(None) => {}
        Err(error) => world.note(&format!("cluster {cluster}: {error}")),
    }
    world.wake_clusters();
}

/// Whether a cluster bears the deployment's tag; names can be given by anybody.
pub fn is_ours(cluster: &Cluster) -> bool {
    cluster.tags.get("sluicegate:deployment").is_some_and(|of| of == DEPLOYMENT)
}

/// What a guard's step claims, read from its real arguments:
/// `bash -c SCRIPT guard TABLE CLAIM HOLDER REGION`.
struct Claim {
    table: String,
    key: String,
    holder: String,
}

impl Claim {
    fn read(args: &[String], cluster: &str, step: &str) -> Option<Self> {
        let [_, _, _, _, table, key, holder, _] = args else { return None };
        let holder = match holder.as_str() {
            "cluster" => cluster,
            "step" => step,
            _ => return None,
        };
        let text = |text: &str| text.to_owned();
        Some(Self { table: text(table), key: text(key), holder: text(holder) })
    }

    /// The one call that the guard makes.
    fn request(&self) -> Value {
        json!({
            "TableName": self.table,
            "Key": { "id": { "S": self.key } },
            "UpdateExpression": "SET holder = :me",
            "ConditionExpression": "attribute_not_exists(holder) OR holder = :me",
            "ExpressionAttributeValues": { ":me": { "S": self.holder } },
        })
    }
}

/// What is to become of a guard.
#[derive(Clone, Copy)]
struct GuardFate {
    /// It gets no answer at all, now and then to a claim that it got.
    fails: bool,
    /// Its machines are lost as soon as it has its claim.
    lost: bool,
}

/// A guard: claims, or ends with 1. What is not answered is tried again.
async fn guard(
    world: Arc<World>,
    cluster: String,
    job: Job,
    claim: Option<Claim>,
    GuardFate { fails, lost: machines_lost }: GuardFate,
) {
    let Some(claim) = claim else {
        world.violated("I1", &format!("the guard of {cluster} has arguments that are no claim"));
        report(&world, &cluster, &job, 1);
        return;
    };
    let body = claim.request();
    if fails {
        world.happened("guard fails");
    }
    for number in 0..GUARD_TRIES {
        pass(world.latency()).await;
        let (lost_before, lost_after) = world.guard_fate();
        let arrives = if fails { number == 0 && lost_after } else { !lost_before };
        if arrives {
            let answer = world.cloud.dynamodb().call("UpdateItem", &Bytes::from(body.to_string()));
            world.note(&format!("guard of {cluster}: {} {}", claim.key, answer.outcome));
            if answer.outcome == "ok" {
                world.oracle().claimed(&world, &claim.table, &claim.key);
                if machines_lost {
                    world.happened("claimant lost");
                    // One that somebody ends at that moment has nothing left to lose.
                    let _ = world
                        .cloud
                        .emr()
                        .with(|machine, now| machine.fail_cluster(&cluster, lost(&cluster), now));
                    report(&world, &cluster, &job, 137);
                    return;
                }
            }
            let known = matches!(answer.outcome.as_str(), "ok" | "ConditionalCheckFailedException");
            if known && !lost_after {
                report(&world, &cluster, &job, i32::from(answer.outcome != "ok"));
                return;
            }
        }
        pass(Duration::from_secs(20)).await;
    }
    report(&world, &cluster, &job, 1);
}

/// Why EMR ended a cluster: its id, which is by chance, decides.
fn lost(cluster: &str) -> Reason {
    let (code, words) = match cluster.bytes().last().unwrap_or_default() % 4 {
        0 => {
            (ReasonCode::InstanceFailure, "All slaves in the job flow were terminated due to Spot")
        }
        1 => (ReasonCode::InstanceFleetTimeout, "Provisioning for the fleet timed out"),
        2 => (ReasonCode::ValidationError, "The subnet has not enough free addresses"),
        _ => (ReasonCode::InternalError, "An internal error occurred"),
    };
    Reason::new(code, words)
}
