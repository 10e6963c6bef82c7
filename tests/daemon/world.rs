//! A world for one test: local AWS, the resources an operator would make, and
//! the daemon, which can be killed and started again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use mail_parser::MessageParser;
use sluicegate::app;
use sluicegate::aws::store::{DueKey, Store};
use sluicegate::aws::{self, Access};
use sluicegate::{config, http as server};
use sluicegate_local::clock::Clock;
use sluicegate_local::wire::Request;
use sluicegate_local::{LocalAws, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::network::Network;

pub const BUCKET: &str = "landing";
/// Longer than anything here takes, so that only a fault ends in it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every configuration of the tests begins with.
const HEAD: &str = r#"
deployment = "test"

[aws]
region = "us-east-1"
queue = "inbox"
quarantine = "quarantine"
topic-arn = "arn:aws:sns:us-east-1:000000000000:status"

[engine]
poll-interval = "1s"
sweep-interval = "1s"
# What a killed daemon's last poll takes with it comes again soon.
visibility-timeout = "5s"
# SNS's limits are not those of the local one; mails.rs is about these two.
notices-per-second = 1000
fold-window = "0s"
# On a fast clock these pass in no time.
send-within = "30m"
list-lag = "30m"

[profiles.p]
lifetime = "168h"
release-label = "emr-7.13.0"
service-role = "service"
instance-profile = "ec2"
log-uri = "s3://landing/logs/"
# Needs the AWS command line, and a second for each cluster: guard.rs is about it.
guard = false
primary = { instance-types = ["m5.xlarge"], on-demand = 1 }
"#;

pub struct World {
    pub local: LocalAws,
    config: String,
    /// Where the daemon finds AWS.
    endpoint: String,
    daemon: Option<Daemon>,
    /// How many daemons have been started.
    starts: AtomicU64,
}

/// How often a start tries an action, to see what it may do.
fn tried(action: &str) -> u64 {
    match action {
        "ListClusters" | "Publish" | "SendMessage" | "TransactWriteItems" => 1,
        "GetItem" | "UpdateItem" => 2,
        "PutItem" => 3,
        _ => 0,
    }
}

/// A running daemon.
pub struct Daemon {
    /// Where it serves health and metrics.
    http: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), app::ServiceError>>,
}

/// A mail as its reader sees it, and what filters see.
#[derive(Debug, Clone)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
    pub attributes: BTreeMap<String, String>,
}

impl Daemon {
    /// How it ended by itself.
    pub async fn ended(self) -> Result<(), app::ServiceError> {
        self.task.await.unwrap()
    }

    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    /// The value of one line of its `/metrics`; 0 while it does not exist.
    pub async fn metric(&self, series: &str) -> f64 {
        let (status, text) = http_get(self.http, "/metrics").await;
        assert_eq!(status, 200);
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl World {
    /// A local AWS with real time, and the daemon with the given tasks and
    /// datasets.
    pub async fn new(tasks: &str) -> Self {
        Self::with(tasks, Options::default()).await
    }

    pub async fn at(tasks: &str, start: &str, factor: f64) -> Self {
        let clock = Clock::starting_at(start.parse().unwrap(), factor);
        Self::with(tasks, Options { clock, ..Options::default() }).await
    }

    pub async fn with(tasks: &str, mut options: Options) -> Self {
        options.requests.get_or_insert_with(|| requests_file(None));
        let local = LocalAws::start(options).await.unwrap();
        let config = format!("{HEAD}{tasks}");
        let endpoint = local.endpoint().to_owned();
        let mut world = Self { local, config, endpoint, daemon: None, starts: AtomicU64::new(0) };
        world.provision().await;
        world.start().await;
        world
    }

    async fn provision(&self) {
        let aws = aws::connect(&self.access()).await;
        let sqs = aws_sdk_sqs::Client::new(&aws);
        for queue in ["inbox", "quarantine"] {
            sqs.create_queue().queue_name(queue).send().await.unwrap();
        }
        let sns = aws_sdk_sns::Client::new(&aws);
        let topic = sns.create_topic().name("status").send().await.unwrap();
        sns.subscribe()
            .topic_arn(topic.topic_arn().unwrap())
            .protocol("email")
            .endpoint("team@example.com")
            .send()
            .await
            .unwrap();
        self.s3(Method::PUT, &format!("/{BUCKET}"), "").await;
        self.notify(true).await;
        Store::new(&aws, "test-").create_tables().await.unwrap();
    }

    /// Whether S3 tells the daemon's queue of new objects.
    pub async fn notify(&self, on: bool) {
        let queue = "<QueueConfiguration><Queue>arn:aws:sqs:us-east-1:000000000000:inbox</Queue>\
            <Event>s3:ObjectCreated:*</Event></QueueConfiguration>";
        let queue = if on { queue } else { "" };
        let body = format!("<NotificationConfiguration>{queue}</NotificationConfiguration>");
        self.s3(Method::PUT, &format!("/{BUCKET}?notification"), body).await;
    }

    /// Sends EMR's events to the daemon's queue, as an operator's rule does.
    pub async fn bring_events(&self) {
        self.bring_events_by("emr").await;
    }

    /// The same by a rule of this name: each rule sends every event once.
    pub async fn bring_events_by(&self, rule: &str) {
        let pattern = r#""EventPattern":"{\"source\":[\"aws.emr\"]}""#;
        self.events("PutRule", format!(r#"{{"Name":"{rule}",{pattern}}}"#)).await;
        let target = r#"{"Id":"inbox","Arn":"arn:aws:sqs:us-east-1:000000000000:inbox"}"#;
        self.events("PutTargets", format!(r#"{{"Rule":"{rule}","Targets":[{target}]}}"#)).await;
    }

    async fn events(&self, action: &str, body: String) {
        let target = format!("AWSEvents.{action}").parse().unwrap();
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-amz-target"), target)]);
        let uri = "/".parse().unwrap();
        let request = Request { method: Method::POST, uri, headers, body: body.into() };
        let response = self.local.cloud().handle(request).await;
        assert!(response.status().is_success(), "{action}: {response:?}");
    }

    /// When each call of an action was made so far, in milliseconds.
    pub fn times(&self, action: &str) -> Vec<i64> {
        let log = std::fs::read_to_string(self.local.data().join("calls.jsonl")).unwrap();
        let calls = log.lines().map(serde_json::from_str::<serde_json::Value>);
        let named = calls.map(Result::unwrap).filter(|call| call["action"] == action);
        named
            .map(|call| {
                let time: jiff::Timestamp = call["time"].as_str().unwrap().parse().unwrap();
                time.as_millisecond()
            })
            .collect()
    }

    /// Every call to EMR so far: when, in milliseconds, which, and its outcome.
    /// The local AWS must keep its call log in a file.
    pub fn emr_calls(&self) -> Vec<(i64, String, String)> {
        let log = std::fs::read_to_string(self.local.data().join("calls.jsonl")).unwrap();
        let calls =
            log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let text = |call: &serde_json::Value, name: &str| call[name].as_str().unwrap().to_owned();
        let of_emr = calls.filter(|call| call["service"] == "elasticmapreduce");
        // What each start tries is not counted.
        let mut tried = self.starts.load(Ordering::Relaxed) * tried("ListClusters");
        let is_work = |call: &serde_json::Value| {
            let is_tried = tried > 0 && call["action"] == "ListClusters";
            tried -= u64::from(is_tried);
            !is_tried
        };
        of_emr
            .filter(is_work)
            .map(|call| {
                let time: jiff::Timestamp = text(&call, "time").parse().unwrap();
                (time.as_millisecond(), text(&call, "action"), text(&call, "outcome"))
            })
            .collect()
    }

    pub fn access(&self) -> Access {
        let local = Some(self.local.endpoint().to_owned());
        Access { region: Some("us-east-1".into()), local, overrides: false }
    }

    /// A line before all tables for the daemon's next start.
    pub fn configure_head(&mut self, line: &str) {
        self.config.insert_str(0, line);
    }

    /// How the daemon ended by itself.
    pub async fn ended(&mut self) -> Result<(), app::ServiceError> {
        self.daemon.take().unwrap().ended().await
    }

    /// A line of `[engine]` for the daemon's next start.
    pub fn configure_engine(&mut self, line: &str) {
        self.config = self.config.replace("[engine]\n", &format!("[engine]\n{line}\n"));
    }

    /// Another text in the place of one that the configuration has, for the
    /// daemon's next start.
    pub fn reconfigure(&mut self, before: &str, after: &str) {
        assert!(self.config.contains(before), "{}", self.config);
        self.config = self.config.replace(before, after);
    }

    /// What the daemon is to run from its next start on.
    pub fn configure(&mut self, tasks: &str) {
        self.config = format!("{HEAD}{tasks}");
    }

    /// The daemon's configuration as a file, for commands beside it.
    pub fn config_file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(file.path(), &self.config).unwrap();
        file
    }

    /// The world's own daemon, which runs.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Asks the daemon over HTTP; its status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        http_get(self.http(), path).await
    }

    /// The daemon has started, and has tried what it may do.
    pub async fn until_ready(&self) {
        let is_ready = || async { (self.get("/readyz").await.0 == 200).then_some(()) };
        self.until_async("readiness", is_ready).await;
    }

    /// Where the daemon serves health and metrics.
    pub fn http(&self) -> SocketAddr {
        self.daemon.as_ref().unwrap().http
    }

    pub async fn start(&mut self) {
        self.daemon = Some(self.another().await);
    }

    /// One more daemon with the same configuration, beside the world's own; it
    /// runs as long as the test.
    pub async fn another(&self) -> Daemon {
        let config = config::parse(&self.config, Path::new("test.toml"));
        let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let shutdown = CancellationToken::new();
        // Many daemons run at once: each takes a free port.
        let listener = server::bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
        let http = listener.local_addr().unwrap();
        let access = Access { local: Some(self.endpoint.clone()), ..self.access() };
        self.starts.fetch_add(1, Ordering::Relaxed);
        let running = app::run(config, access, Some(listener), false, shutdown.clone());
        Daemon { http, shutdown, task: tokio::spawn(running) }
    }

    /// The same without HTTP, and with AWS at this endpoint; aborting it is its
    /// SIGKILL.
    pub fn beside(&self, endpoint: &str) -> JoinHandle<Result<(), app::ServiceError>> {
        let config = config::parse(&self.config, Path::new("test.toml"));
        let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let access = Access { local: Some(endpoint.to_owned()), ..self.access() };
        self.starts.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(app::run(config, access, None, false, CancellationToken::new()))
    }

    /// Starts the daemon again, with AWS behind a network that may fail.
    pub async fn through(&mut self, network: &Network) {
        // So that nothing comes again which the killed daemon had in hand.
        self.taken().await;
        self.kill().await;
        network.endpoint.clone_into(&mut self.endpoint);
        self.start().await;
        // What the start tries meets no fault that is ordered afterwards.
        self.until_ready().await;
    }

    /// Ends the daemon as SIGKILL would: whatever it knows is gone.
    pub async fn kill(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.task.abort();
        let _ = daemon.task.await;
    }

    /// Ends the daemon as SIGTERM would.
    pub async fn stop(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.shutdown.cancel();
        daemon.task.await.unwrap().unwrap();
    }

    async fn s3(&self, method: Method, uri: &str, body: impl Into<Bytes>) {
        let request = Request {
            method,
            uri: uri.parse().unwrap(),
            headers: HeaderMap::new(),
            body: body.into(),
        };
        let response = self.local.cloud().handle(request).await;
        assert!(response.status().is_success(), "{uri}: {response:?}");
    }

    /// Puts an object; S3 notifies the daemon's queue.
    pub async fn put(&self, key: &str, body: impl Into<Bytes>) {
        self.s3(Method::PUT, &format!("/{BUCKET}/{key}"), body).await;
    }

    pub async fn send(&self, body: &str) {
        let aws = aws::connect(&self.access()).await;
        let sqs = aws_sdk_sqs::Client::new(&aws);
        let url = sqs.get_queue_url().queue_name("inbox").send().await.unwrap();
        let url = url.queue_url().unwrap();
        sqs.send_message().queue_url(url).message_body(body).send().await.unwrap();
    }

    /// How many messages a queue holds, received ones included.
    pub async fn queued(&self, queue: &str) -> usize {
        use aws_sdk_sqs::types::QueueAttributeName::{
            ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible,
        };
        let aws = aws::connect(&self.access()).await;
        let sqs = aws_sdk_sqs::Client::new(&aws);
        let url = sqs.get_queue_url().queue_name(queue).send().await.unwrap();
        let attributes = sqs
            .get_queue_attributes()
            .queue_url(url.queue_url().unwrap())
            .attribute_names(ApproximateNumberOfMessages)
            .attribute_names(ApproximateNumberOfMessagesNotVisible)
            .send()
            .await
            .unwrap();
        let counts = attributes.attributes().unwrap().values();
        counts.map(|count| count.parse::<usize>().unwrap()).sum()
    }

    /// Waits until every message has been taken from the inbox.
    pub async fn taken(&self) {
        let start = Instant::now();
        while self.queued("inbox").await > 0 {
            assert!(start.elapsed() < PATIENCE, "messages are left in the inbox");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn mails(&self) -> Vec<Mail> {
        let Ok(folder) = std::fs::read_dir(self.local.data().join("mail")) else { return vec![] };
        let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let mails = paths.iter().filter(|path| path.extension().is_some_and(|e| e == "eml"));
        mails
            .map(|path| {
                let parser = MessageParser::new().default_header_text();
                let content = std::fs::read(path).unwrap();
                let mail = parser.parse(&content).unwrap();
                let attributes = mail.headers().iter().filter_map(|header| {
                    let name = header.name.as_str().strip_prefix("X-Attribute-")?;
                    Some((name.to_owned(), header.value.as_text()?.trim().to_owned()))
                });
                let to = mail.to().and_then(|to| to.first()?.address()).unwrap_or_default();
                Mail {
                    to: to.to_owned(),
                    subject: mail.subject().unwrap().to_owned(),
                    text: mail.body_text(0).unwrap().replace("\r\n", "\n"),
                    attributes: attributes.collect(),
                }
            })
            .collect()
    }

    /// Mails whose event id (`task/partition/state`, `run/…`) contains a text.
    pub fn mails_about(&self, event: &str) -> Vec<Mail> {
        let about = |mail: &Mail| mail.attributes["event"].contains(event);
        self.mails().into_iter().filter(about).collect()
    }

    /// Waits until a mail about the event has come.
    pub async fn mail(&self, event: &str) -> Mail {
        self.until(&format!("a mail about {event}"), || self.mails_about(event).pop()).await
    }

    /// Polls until `check` gives something; fails after a minute.
    pub async fn until<T>(&self, what: &str, check: impl Fn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = check() {
                return found;
            }
            let subjects: Vec<_> = self.mails().into_iter().map(|mail| mail.subject).collect();
            assert!(start.elapsed() < PATIENCE, "no sign of {what}; mails: {subjects:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The same for a check that has to ask somebody.
    pub async fn until_async<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        check: impl Fn() -> F,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = check().await {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "no sign of {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How often an action was called, but for what each start tries.
    pub fn calls(&self, service: &str, action: &str) -> u64 {
        let counts: BTreeMap<_, _> = self.local.cloud().calls().into_iter().collect();
        let found = counts.iter().filter(|((s, a), _)| s == service && a == action);
        let all: u64 = found.map(|(_, count)| count).sum();
        all.saturating_sub(self.starts.load(Ordering::Relaxed) * tried(action))
    }

    /// Waits until `check` agrees with what the tables say has to be looked at.
    pub async fn until_due(&self, check: impl Fn(&[DueKey]) -> bool) {
        let store = Store::new(&aws::connect(&self.access()).await, "test-");
        let start = Instant::now();
        loop {
            let due = store.due(jiff::Timestamp::MAX).await.unwrap();
            let due: Vec<_> = due.into_iter().map(|(key, _)| key).collect();
            if check(&due) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "this is left to do: {due:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends every cluster, as somebody at the console might.
    pub async fn terminate_all(&self) {
        let aws = aws::connect(&self.access()).await;
        let emr = aws_sdk_emr::Client::new(&aws);
        for cluster in emr.list_clusters().send().await.unwrap().clusters() {
            let id = cluster.id().unwrap();
            emr.terminate_job_flows().job_flow_ids(id).send().await.unwrap();
        }
    }

    /// Waits until nothing is alive on EMR, and returns how many clusters
    /// there ever were.
    pub async fn clusters_ended(&self) -> usize {
        let aws = aws::connect(&self.access()).await;
        let emr = aws_sdk_emr::Client::new(&aws);
        let start = Instant::now();
        loop {
            let clusters = emr.list_clusters().send().await.unwrap();
            let clusters = clusters.clusters().to_vec();
            let alive = clusters.iter().filter(|cluster| {
                let state = cluster.status().and_then(|status| status.state());
                state.is_some_and(|state| !state.as_str().starts_with("TERMINATED"))
            });
            if alive.count() == 0 {
                return clusters.len();
            }
            assert!(start.elapsed() < PATIENCE, "clusters are left alive: {clusters:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Where the requests of a test are written, for tests/models: named after the
/// test unless it chooses a name.
pub fn requests_file(name: Option<&str>) -> PathBuf {
    let thread = std::thread::current();
    let name = name.or(thread.name()).unwrap_or("unnamed").replace("::", ".");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/requests");
    folder.join(format!("{name}.jsonl"))
}

/// One HTTP request, by hand: what a probe sees.
pub async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    http_get_with(address, path, "").await
}

/// The same with one more line of the request's head.
pub async fn http_get_with(address: SocketAddr, path: &str, header: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// An input's declaration: one file a day.
pub fn daily_file(name: &str) -> String {
    format!("[datasets.{name}]\nlocation = \"s3://{BUCKET}/{name}/{{yyyy}}-{{MM}}-{{dd}}.csv\"\n")
}

/// A daily task with one bash step and no retry.
pub fn daily_task(name: &str, inputs: &[&str], script: &str) -> String {
    let inputs: Vec<_> =
        inputs.iter().map(|input| format!("{{ dataset = \"{input}\" }}")).collect();
    format!(
        "[tasks.{name}]\nprofile = \"p\"\npartition = \"day\"\ninputs = [{}]\n\
         [[tasks.{name}.steps]]\nname = \"work\"\nkind = \"command\"\nargs = [\"bash\", \"-c\", '''{script}''']\n",
        inputs.join(", ")
    )
}
