//! One world: a cloud, a network, clusters and replicas on virtual time, all
//! from one seed. Plays the scenario, ends the faults, waits until everything
//! has settled, and says what was violated. Not for many worlds: `runner`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluicegate::core::asked::Asked;
use sluicegate::core::backfill::Backfill;
use sluicegate::core::partition::Partition;
use sluicegate_local::cloud::{Cloud, Parts};
use sluicegate_local::emr;
use sluicegate_local::redshift::Database;
use sluicegate_local::request_log::RequestLog;
use sluicegate_local::wire::{Request, Response};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::call::{Call, Phase, Service};
use crate::cluster::Driver;
use crate::faults::{Fault, Faults};
use crate::lists::Lists;
use crate::marks::Marks;
use crate::objects::Objects;
use crate::oracle::{Oracle, Violation};
use crate::replica::{Life, Replica};
use crate::scenario::{
    BUCKET, FileChange, MachineEvent, Object, Ordered, Scenario, Task, folder_of,
};
use crate::tables;
use crate::time::{VirtualTime, pass, pass_until};
use crate::trace::Trace;
use crate::warehouse::{FakeWarehouse, Rates};

/// Where the cloud says it is; nobody listens there.
pub const ENDPOINT: &str = "http://127.0.0.1:1";
pub const INBOX_ARN: &str = "arn:aws:sqs:us-east-1:000000000000:inbox";
/// After the faults have ended, everything has to come to its end in this time.
const PATIENCE: SignedDuration = SignedDuration::from_hours(14);
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A replica that is away for longer keeps the faults from ending.
const LONG: Duration = Duration::from_secs(3600);
/// From its return to the end of the faults.
const AFTER_LONG: Duration = Duration::from_secs(1200);
/// A backlog is at least so many messages.
const BACKLOG: u64 = 100;

/// What the parts of a world share.
pub struct World {
    pub time: VirtualTime,
    pub cloud: Cloud,
    pub scenario: Scenario,
    pub warehouse: FakeWarehouse,
    faults: Mutex<Faults>,
    lists: Mutex<Lists>,
    objects: Mutex<Objects>,
    trace: Mutex<Trace>,
    marks: Mutex<Marks>,
    oracle: Mutex<Oracle>,
    clusters: Notify,
    /// Requests that are on their way without a sender who waits for them.
    late: AtomicU64,
    faults_end: Mutex<Timestamp>,
    /// Task partitions whose load was under way when a replica crashed.
    crashed_loads: Mutex<BTreeSet<String>>,
    requests: Option<Arc<RequestLog>>,
}

/// What became of a world.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub violation: Option<Violation>,
    pub trace: Trace,
    pub marks: Marks,
    /// Calls with an effect.
    pub effects: u64,
    /// How much virtual time it took.
    pub lasted: SignedDuration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends its world anyhow.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Makes the cloud and what an operator makes in it. `data` is a folder for
    /// what the cloud keeps in files; worlds may share it.
    async fn new(
        origin: Timestamp,
        scenario: Scenario,
        faults: Faults,
        data: &Path,
        requests: Option<Arc<RequestLog>>,
    ) -> anyhow::Result<Arc<Self>> {
        let time = VirtualTime::begin(origin);
        let secs = Duration::from_secs;
        let warehouse = FakeWarehouse::new(scenario.seed);
        let cloud = Cloud::new(Parts {
            data: data.to_owned(),
            requests: None,
            in_memory: true,
            time: time.of_cloud(),
            endpoint: ENDPOINT.to_owned(),
            seed: scenario.seed,
            emr: emr::Options {
                starting: secs(scenario.clusters.starting_secs),
                bootstrapping: secs(30),
                terminating: secs(40),
                plain_terminated_on_step_failure: scenario.seed.is_multiple_of(2),
                page: scenario.page,
                ..emr::Options::default()
            },
            redshift: Database::Given(Arc::new(warehouse.clone())),
            shutdown: CancellationToken::new(),
        })?;
        let oracle = Oracle::new(&scenario);
        let world = Self {
            time,
            cloud,
            faults_end: Mutex::new(scenario.ends),
            scenario,
            warehouse,
            faults: Mutex::new(faults),
            lists: Mutex::default(),
            objects: Mutex::default(),
            trace: Mutex::default(),
            marks: Mutex::default(),
            oracle: Mutex::new(oracle),
            clusters: Notify::new(),
            late: AtomicU64::new(0),
            crashed_loads: Mutex::default(),
            requests,
        };
        let world = Arc::new(world);
        world.warehouse.belongs_to(&world);
        world.provision().await?;
        Ok(world)
    }

    async fn provision(self: &Arc<Self>) -> anyhow::Result<()> {
        for queue in ["inbox", "quarantine"] {
            let body = json!({ "QueueName": queue });
            self.ask("AmazonSQS.CreateQueue", &body).await;
        }
        let topic = "Action=CreateTopic&Name=status&Version=2010-03-31";
        self.post(&[("content-type", "application/x-www-form-urlencoded")], topic).await;
        if self.scenario.emr_events {
            let rule = json!({ "Name": "emr", "EventPattern": r#"{"source":["aws.emr"]}"# });
            self.ask("AWSEvents.PutRule", &rule).await;
            let target = json!({ "Rule": "emr", "Targets": [{ "Id": "inbox", "Arn": INBOX_ARN }] });
            self.ask("AWSEvents.PutTargets", &target).await;
        }
        tables::create(self).await?;
        tables::plant_clusters(self).await;
        if self.scenario.newer {
            tables::plant_items(self).await;
        }
        Ok(())
    }

    /// A call that is not a replica's.
    pub async fn ask(&self, target: &str, body: &Value) -> Value {
        let answer = self.post(&[("x-amz-target", target)], &body.to_string()).await;
        serde_json::from_slice(answer.body()).unwrap_or(Value::Null)
    }

    async fn post(&self, headers: &[(&'static str, &str)], body: &str) -> Response {
        let headers = headers.iter().filter_map(|(name, value)| {
            Some((http::HeaderName::from_static(name), value.parse().ok()?))
        });
        let request = Request {
            method: Method::POST,
            uri: http::Uri::from_static("/"),
            headers: HeaderMap::from_iter(headers),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.cloud.handle(request).await
    }

    pub fn note(&self, text: &str) {
        lock(&self.trace).add(self.time.now(), text);
    }

    pub fn happened(&self, event: &'static str) {
        lock(&self.marks).happened(event);
    }

    pub fn violated(&self, invariant: &'static str, words: &str) {
        self.oracle().violated(invariant, words.to_owned());
        self.tell_violations();
    }

    /// Puts what was found into the trace, where it was found.
    fn tell_violations(&self) {
        for Violation { invariant, words } in self.oracle().news() {
            self.note(&format!("VIOLATED {invariant}: {words}"));
        }
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.oracle)
    }

    pub fn latency(&self) -> Duration {
        lock(&self.faults).latency()
    }

    pub fn delay(&self, call: &Call) -> Duration {
        lock(&self.faults).delay(call)
    }

    pub fn downtime(&self) -> Duration {
        let span = lock(&self.faults).downtime();
        if span >= LONG {
            self.happened("away for hours");
            let mut end = lock(&self.faults_end);
            *end = (*end).max(self.time.now() + span + AFTER_LONG);
        }
        span
    }

    /// When the faults end at the latest.
    pub fn faults_end(&self) -> Timestamp {
        *lock(&self.faults_end)
    }

    /// What goes wrong in the warehouse.
    pub fn warehouse_rates(&self) -> Rates {
        let loads = self.scenario.loads.as_ref();
        let loads = loads.filter(|_| !lock(&self.faults).are_over());
        loads.map(|loads| loads.rates).unwrap_or_default()
    }

    pub fn warehouse_is_paused(&self) -> bool {
        let paused = self.scenario.loads.as_ref().and_then(|loads| loads.paused);
        let now = self.time.now();
        paused.is_some_and(|(from, until)| from <= now && now < until)
    }

    pub fn object(&self, key: &str) -> Option<Bytes> {
        lock(&self.objects).get(key).cloned()
    }

    /// The bodies of what lies under a prefix.
    pub fn objects_under(&self, prefix: &str) -> Vec<Bytes> {
        lock(&self.objects).under(prefix).map(|(_, body)| body.clone()).collect()
    }

    /// The last step of a task partition has written its output: so many rows in
    /// each file. What an earlier cluster has written goes.
    pub fn write_output(&self, task: &Task, partition: Partition, cluster: &str, files: &[u8]) {
        let Some(load) = &task.load else { return };
        let (folder, now) = (folder_of(&load.dataset, partition), self.time.now());
        let mut objects = lock(&self.objects);
        objects.remove_all(&format!("{folder}/"));
        for (file, rows) in files.iter().enumerate() {
            let row =
                |row: u8| json!([format!("{} {partition} {cluster} {file}-{row}", task.name), row]);
            let rows: Value = (0..*rows).map(row).collect();
            objects.put(
                &format!("{folder}/part-{file}-{cluster}.snappy.parquet"),
                rows.to_string(),
                now,
            );
        }
        objects.put(&format!("{folder}/_SUCCESS"), "", now);
    }

    pub fn standstill(&self) -> Duration {
        lock(&self.faults).standstill()
    }

    /// Whether a guard's call is lost before or after its effect.
    pub fn guard_fate(&self) -> (bool, bool) {
        lock(&self.faults).guard_fate()
    }

    /// EMR writes a step's log into S3, where it shows from then on.
    pub fn write_log(&self, cluster: &str, step: &str, written: Timestamp) {
        lock(&self.objects).write_log(cluster, step, written);
    }

    /// Somebody writes data into S3; false if it was there.
    pub fn write_data(&self, object: &Object) -> bool {
        object.bucket == BUCKET
            && lock(&self.objects).write_data(&object.key, &object.etag, self.time.now())
    }

    /// Until a call may have changed a cluster.
    pub async fn clusters_changed(&self) {
        self.clusters.notified().await;
    }

    pub fn wake_clusters(&self) {
        self.clusters.notify_one();
    }

    /// Somebody ends the cluster that a call would add steps to.
    pub fn lose_cluster(&self, call: &Call) {
        let cluster = call.body["JobFlowId"].as_str().unwrap_or_default().to_owned();
        // One that has ended meanwhile has nothing left to lose.
        let _ = self.cloud.emr().with(|machine, now| machine.terminate(&[cluster], now));
        self.wake_clusters();
    }

    /// A replica has decided to make a call. If it is stopped now, the call
    /// leaves when it goes on.
    pub fn decided(&self, life: &Life, call: &Call) {
        self.oracle().decided(&self.scenario, life, call);
        self.tell_violations();
    }

    /// A call leaves: what becomes of it.
    pub fn sends(&self, life: &Life, call: &Call) -> Option<Fault> {
        let fault = lock(&self.faults).decide(call, self.time.now());
        let mut marks = lock(&self.marks);
        marks.called(call.phase);
        if let Some(fault) = fault {
            marks.faulted(fault, call.phase);
            drop(marks);
            if fault.is_crash() {
                let loading = self.oracle().loading();
                lock(&self.crashed_loads).extend(loading);
            }
            let (service, action) = (call.service.name(), &call.action);
            self.note(&format!(
                "{life} {service} {action} {}: {} [{}]",
                call.about,
                fault.name(),
                call.phase.name()
            ));
        } else {
            drop(marks);
        }
        fault
    }

    /// What an old copy of an index shows.
    pub fn stale(&self, call: &Call) -> Option<Response> {
        lock(&self.lists).stale(call)
    }

    /// A request arrives.
    pub async fn apply(&self, who: &str, call: &Call, request: Request) -> Response {
        let asked = match call.service {
            Service::S3 => request.uri.to_string().into(),
            _ => request.body.clone(),
        };
        let response = match call.service {
            Service::S3 => lock(&self.objects).answer(&request, self.time.now()),
            _ => self.cloud.handle(request).await,
        };
        let ok = response.status().is_success();
        if let Some(log) = &self.requests {
            let outcome = if ok { "ok" } else { "refused" };
            log.record(call.service.name(), &call.action, outcome, &asked);
        }
        if ok && call.phase == Phase::Launch && self.scenario.page == 1 {
            // Ours is on the second page then: the newest come first.
            tables::plant_cluster(self, "somebody's notebook").await;
        }
        let response = self.show(call, response);
        let outcome = match ok {
            true => "ok".to_owned(),
            false => error_code(&response),
        };
        let idle = matches!(call.phase, Phase::Receive | Phase::Find | Phase::Read)
            || matches!(call.phase, Phase::TaskFiles | Phase::LookAtStatement);
        let idle = ok && idle;
        if !idle {
            let (service, action) = (call.service.name(), &call.action);
            self.note(&format!(
                "{who} {service} {action} {}: {outcome} [{}]",
                call.about,
                call.phase.name()
            ));
        }
        if ok {
            self.oracle().applied(self, call, &response);
        }
        self.tell_violations();
        if call.service == Service::Emr {
            self.wake_clusters();
        }
        response
    }

    /// What the caller gets to see of an answer: lists lag.
    fn show(&self, call: &Call, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let (over, lag) = {
            let mut faults = lock(&self.faults);
            let creates = matches!(call.phase, Phase::Launch | Phase::AddSteps);
            (faults.are_over(), if creates { faults.list_lag() } else { SignedDuration::ZERO })
        };
        let now = self.time.now();
        let mut lists = lock(&self.lists);
        match call.phase {
            Phase::Find => lists.remember(call, &response),
            Phase::Launch | Phase::AddSteps => lists.created(&response, now + lag),
            Phase::Survey | Phase::ReadSteps if !over => {
                let list = if call.phase == Phase::Survey { "Clusters" } else { "Steps" };
                let (response, hides) = lists.without_new(response, list, now);
                drop(lists);
                if hides {
                    self.happened("list lags");
                }
                return response;
            }
            _ => {}
        }
        response
    }

    /// A request goes on its way by itself; see `has_arrived`.
    pub fn leaves_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub fn has_arrived(&self) {
        self.late.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether nothing is left to do, and nothing is on its way that may change
    /// that.
    async fn is_at_rest(&self) -> bool {
        if self.late.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let depth = self.inbox_depth().await;
        let oracle = self.oracle();
        oracle.first_violation().is_some() || oracle.what_is_left(self, depth).is_none()
    }

    /// How many messages are in the inbox, those received included.
    async fn inbox_depth(&self) -> u64 {
        let body = json!({
            "QueueUrl": format!("{ENDPOINT}/000000000000/inbox"),
            "AttributeNames": ["All"],
        });
        let answer = self.ask("AmazonSQS.GetQueueAttributes", &body).await;
        let count = |name: &str| {
            let text = answer["Attributes"][name].as_str().unwrap_or("0");
            text.parse::<u64>().unwrap_or(0)
        };
        count("ApproximateNumberOfMessages") + count("ApproximateNumberOfMessagesNotVisible")
    }
}

fn error_code(response: &Response) -> String {
    let body: Value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    let code = body["__type"].as_str().unwrap_or("error");
    code.rsplit('#').next().unwrap_or(code).to_owned()
}

/// Plays one world on a runtime of its own, whose time is virtual.
pub fn play(
    origin: Timestamp,
    scenario: Scenario,
    faults: Faults,
    data: &Path,
    requests: Option<Arc<RequestLog>>,
) -> anyhow::Result<Outcome> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        // What the daemon and the SDK draw on this thread.
        fastrand::seed(scenario.seed);
        let world = World::new(origin, scenario, faults, data, requests).await?;
        Ok(lead(world).await)
    })
}

async fn lead(world: Arc<World>) -> Outcome {
    let Scenario { seed, clusters, ends, replicas, .. } = world.scenario;
    let driver = Driver::new(Arc::clone(&world), seed, clusters, ends);
    let driver = tokio::spawn(driver.run());
    let files = tokio::spawn(change_files(Arc::clone(&world)));
    let person = tokio::spawn(order_backfill(Arc::clone(&world)));
    let replicas: Vec<_> = (0..replicas).map(|number| Replica::start(&world, number)).collect();
    play_scenario(&world, &replicas).await;
    if world.scenario.all_die {
        world.note("every replica is gone for ever");
        world.happened("all die");
        replicas.iter().for_each(Replica::destroy);
        outlive(&world).await;
    } else {
        world.note("faults end");
        lock(&world.faults).end();
        for replica in &replicas {
            replica.machine.resume();
            replica.machine.set_clock(SignedDuration::ZERO);
            replica.run();
        }
        settle(&world, &replicas).await;
        replicas.iter().for_each(Replica::destroy);
    }
    driver.abort();
    files.abort();
    person.abort();
    world.oracle().at_the_end(&world);
    for _ in lock(&world.crashed_loads).iter() {
        world.happened("load met a crash");
    }
    world.tell_violations();
    let lasted = world.time.now().duration_since(world.time.origin());
    Outcome {
        seed,
        violation: world.oracle().first_violation(),
        trace: std::mem::take(&mut *lock(&world.trace)),
        marks: std::mem::take(&mut *lock(&world.marks)),
        effects: lock(&world.faults).effects(),
        lasted,
    }
}

/// Waits for the end of all clusters, which nobody but themselves can end.
async fn outlive(world: &Arc<World>) {
    while world.oracle().first_violation().is_none() {
        let left = world.oracle().alive(world);
        world.oracle().overdue(world);
        if left.is_empty() {
            return;
        }
        pass(LOOK_EVERY * 5).await;
    }
}

/// Sends the messages and does to the machines what the scenario says.
async fn play_scenario(world: &Arc<World>, replicas: &[Replica]) {
    let scenario = &world.scenario;
    let mut messages = scenario.messages.iter().peekable();
    let mut untold = scenario.untold.iter().peekable();
    let mut events = scenario.events.iter().peekable();
    loop {
        let next = [
            messages.peek().map(|(at, _)| *at),
            untold.peek().map(|(at, _)| *at),
            events.peek().map(|(at, _)| *at),
        ];
        let next = next.into_iter().flatten().min();
        let Some(at) = next else { break };
        pass_until(world.time, at).await;
        if world.oracle().first_violation().is_some() {
            return;
        }
        while let Some((_, message)) = messages.next_if(|(due, _)| *due <= at) {
            for object in &message.objects {
                world.write_data(object);
            }
            let id = world.cloud.sqs().deliver(INBOX_ARN, message.body.clone(), Default::default());
            match id {
                Ok(id) => world.oracle().sent(&id, message, world.time.now()),
                Err(error) => world.violated("scenario", &format!("message refused: {error}")),
            }
            world.note(&format!("S3 sends: {} of {}", message.what, told(message)));
            world.happened(message.what);
        }
        while let Some((_, object)) = untold.next_if(|(due, _)| *due <= at) {
            if world.write_data(object) {
                world.oracle().untold(object, world.time.now());
            }
            world.note(&format!("S3 does not send: {}", object.key));
            world.happened("notification never sent");
        }
        while let Some((_, event)) = events.next_if(|(due, _)| *due <= at) {
            let waking = matches!(event, MachineEvent::Run(_));
            if waking && world.inbox_depth().await >= BACKLOG {
                world.happened("backlog");
            }
            world.note(&format!("{event:?}"));
            happen(world, replicas, *event);
        }
    }
    pass_until(world.time, scenario.busy_until).await;
    while world.time.now() < world.faults_end() && !world.is_at_rest().await {
        pass(LOOK_EVERY).await;
    }
}

/// Somebody works on the task files.
async fn change_files(world: Arc<World>) {
    let files = world.scenario.reload.iter().flat_map(|reload| &reload.files);
    for FileChange { at, key, text, what } in files {
        if *at > world.time.now() {
            pass_until(world.time, *at).await;
        }
        world.note(&format!("{what}: {key}"));
        world.happened(what);
        let (mut objects, now) = (lock(&world.objects), world.time.now());
        match text {
            Some(text) => objects.put(key, text.clone(), now),
            None => objects.remove(key),
        }
    }
}

/// Somebody orders a backfill, and may take it back.
async fn order_backfill(world: Arc<World>) {
    let Some(Ordered { at, window, cancel }) = &world.scenario.backfill else { return };
    let name = format!("{:026}", world.scenario.seed);
    pass_until(world.time, *at).await;
    world.note("somebody orders a backfill");
    let asked = Asked::new("alice", None, world.time.now());
    tables::order(&world, Backfill::new(&name, window.clone(), asked)).await;
    world.happened("backfill ordered");
    let Some(cancel) = cancel else { return };
    pass_until(world.time, *cancel).await;
    world.note("somebody cancels the backfill");
    if tables::cancel(&world, &name, Asked::new("bob", None, world.time.now())).await {
        world.happened("backfill cancelled");
    }
}

fn told(message: &crate::scenario::Message) -> String {
    let keys: Vec<_> = message.objects.iter().map(|object| object.key.as_str()).collect();
    keys.join(", ")
}

fn happen(world: &World, replicas: &[Replica], event: MachineEvent) {
    let (number, name) = match event {
        MachineEvent::Stop(number) => (number, "SIGSTOP"),
        MachineEvent::Resume(number) => (number, "SIGCONT"),
        MachineEvent::Kill(number) => (number, "SIGKILL"),
        MachineEvent::End(number) => (number, "SIGTERM"),
        MachineEvent::Run(number) => (number, "started again"),
        MachineEvent::Deploy(number) => (number, "deployed"),
        MachineEvent::Clock(number, _) => (number, "clock jumps"),
    };
    world.happened(name);
    let Some(replica) = replicas.get(number) else { return };
    match event {
        MachineEvent::Stop(_) => replica.machine.stop(),
        MachineEvent::Resume(_) => replica.machine.resume(),
        MachineEvent::Kill(_) => replica.kill(),
        MachineEvent::End(_) => replica.end(),
        MachineEvent::Run(_) => replica.run(),
        MachineEvent::Deploy(_) => replica.deploy(),
        MachineEvent::Clock(_, secs) => {
            replica.machine.set_clock(SignedDuration::from_secs(secs));
        }
    }
}

/// Waits until nothing is left to do, or for too long.
async fn settle(world: &Arc<World>, replicas: &[Replica]) {
    let until = world.time.now() + PATIENCE;
    loop {
        if world.oracle().first_violation().is_some() {
            return;
        }
        world.oracle().overdue(world);
        let depth = world.inbox_depth().await;
        let left = world.oracle().what_is_left(world, depth);
        // A load may arrive when nobody waits for it any more.
        let on_its_way = world.scenario.loads.is_some() && world.late.load(Ordering::Relaxed) > 0;
        match left {
            None if on_its_way => be_away(world, replicas).await,
            None if world.warehouse.is_busy() => pass(LOOK_EVERY).await,
            None => return,
            Some(left) if world.time.now() >= until => {
                world.violated("I12", &format!("{PATIENCE} after the faults: {left}"));
                return;
            }
            Some(_) => pass(LOOK_EVERY).await,
        }
    }
}

/// Until the last call that is on its way has arrived, hours later perhaps. Nobody
/// waits for it: the daemon's idle polls would be most of the world's calls.
async fn be_away(world: &Arc<World>, replicas: &[Replica]) {
    replicas.iter().for_each(Replica::end);
    while world.late.load(Ordering::Relaxed) > 0 {
        pass(LOOK_EVERY).await;
    }
    replicas.iter().for_each(Replica::run);
}
