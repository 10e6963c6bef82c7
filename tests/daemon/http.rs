//! What a probe and Prometheus see of a running daemon.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::aws;
use sluicegate_local::Options;
use sluicegate_local::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::commands::sluicegate;
use crate::start::{CONFIG, config};
use crate::world::{World, daily_file, daily_task, http_get, http_get_with};

/// The value of one line of `/metrics`; 0 while it does not exist.
async fn metric(world: &World, series: &str) -> f64 {
    let (status, text) = world.get("/metrics").await;
    assert_eq!(status, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

async fn until_metric(world: &World, series: &str, value: f64) {
    let check = || async { (metric(world, series).await == value).then_some(()) };
    world.until_async(&format!("{series} {value}"), check).await;
}

/// A supervisor's probe must not have to wait for a long poll of 20 s.
#[tokio::test]
async fn a_daemon_with_an_idle_queue_is_ready_soon() {
    let mut world = World::new("").await;
    world.taken().await;
    world.stop().await;
    world.start().await;
    tokio::time::timeout(Duration::from_secs(10), world.until_ready()).await.unwrap();
}

#[tokio::test]
async fn arrivals_and_runs_are_measured() {
    let tasks = daily_file("a") + &daily_file("b") + &daily_task("t", &["a", "b"], "true");
    let world = World::new(&tasks).await;
    assert_eq!(world.get("/healthz").await, (200, "ok\n".to_owned()));
    world.until_ready().await;

    world.put("a/2013-01-01.csv", "1").await;
    world.put("elsewhere/x", "1").await;
    until_metric(&world, "sluicegate_partitions{task=\"t\",state=\"waiting\"}", 1.0).await;
    until_metric(&world, "sluicegate_arrivals_total{dataset=\"a\"}", 1.0).await;
    until_metric(&world, "sluicegate_arrivals_unmatched_total", 1.0).await;
    // S3 told of itself, too, when its notifications were switched on.
    until_metric(&world, "sluicegate_inbox_lag_seconds_count", 3.0).await;

    world.put("b/2013-01-01.csv", "1").await;
    until_metric(&world, "sluicegate_runs_ended_total{profile=\"p\",state=\"succeeded\"}", 1.0)
        .await;
    until_metric(&world, "sluicegate_partitions{task=\"t\",state=\"waiting\"}", 0.0).await;
    until_metric(&world, "sluicegate_outbox_notices", 0.0).await;
    let changes = "sluicegate_partition_changes_total{task=\"t\",state=";
    for state in ["ready", "running", "succeeded"] {
        assert_eq!(metric(&world, &format!("{changes}\"{state}\"}}")).await, 1.0, "{state}");
    }
    assert_eq!(metric(&world, "sluicegate_run_seconds_count").await, 1.0);
    assert_eq!(metric(&world, "sluicegate_runs{profile=\"p\",state=\"terminating\"}").await, 0.0);
    let calls = |service: &str, action: &str| {
        format!(
            "sluicegate_aws_calls_total{{service=\"{service}\",action=\"{action}\",outcome=\"ok\"}}"
        )
    };
    assert_eq!(metric(&world, &calls("elasticmapreduce", "RunJobFlow")).await, 1.0);
    let published = metric(&world, &calls("sns", "Publish")).await;
    assert!(published >= 8.0, "{published} notices of the partition and the run");
    assert_eq!(world.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn readiness_follows_the_queue() {
    let clock = Clock::starting_at("2013-01-01T00:00:00Z".parse().unwrap(), 60.0);
    let tasks = daily_file("a") + &daily_task("t", &["a"], "true");
    let world = World::with(&tasks, Options { clock, ..Options::default() }).await;
    let answers = |wanted: u16| {
        let world = &world;
        let check = move || async move {
            let (status, text) = world.get("/readyz").await;
            (status == wanted).then_some(text)
        };
        world.until_async("another readiness", check)
    };
    answers(200).await;
    let sqs = aws_sdk_sqs::Client::new(&aws::connect(&world.access()).await);
    let url = sqs.get_queue_url().queue_name("inbox").send().await.unwrap();
    sqs.delete_queue().queue_url(url.queue_url().unwrap()).send().await.unwrap();
    let text = answers(503).await;
    assert!(text.starts_with("not ready\nthe queue: SQS ReceiveMessage"), "{text}");
    assert_eq!(world.get("/healthz").await.0, 200, "a missing queue is no reason to be killed");
    sqs.create_queue().queue_name("inbox").send().await.unwrap();
    answers(200).await;
}

/// More slow clients than the daemon serves at a time: some send half a
/// request, some nothing.
#[tokio::test]
async fn slow_clients_keep_nobody_from_an_answer() {
    let world = World::new("").await;
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(world.http()).await.unwrap();
        let request = if number % 2 == 0 { "GET /healthz HT" } else { "" };
        stream.write_all(request.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(5), world.get("/healthz"));
    assert_eq!(answer.await.expect("an answer in time"), (200, "ok\n".to_owned()));
    // They do not hold out longer than a request may take.
    let mut left = [0];
    for mut stream in slow {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut left)).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "still open");
    }
    assert_eq!(world.get("/healthz").await.0, 200);
}

/// As the container's health check: exit code and one line.
#[tokio::test]
async fn health_says_whether_the_service_lives() {
    let mut world = World::new("").await;
    let address = world.http().to_string();
    let ask = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let run = move || sluicegate(&args.iter().map(String::as_str).collect::<Vec<_>>());
        async { tokio::task::spawn_blocking(run).await.unwrap() }
    };
    let (code, out, error) = ask(&["health", "--http", &address]).await;
    assert_eq!((code, out, error), (0, format!("healthy: {address}\n"), String::new()));
    // The address of the file, too, when nothing else names one.
    let (_folder, path) = config(&format!("{CONFIG}[http]\nlisten = \"{address}\"\n"));
    let asked = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(["health", "--json"]).env("SLUICEGATE_CONFIG", &path);
        command.env_remove("SLUICEGATE_HTTP").kill_on_drop(true).output()
    };
    let answer = asked().await.unwrap();
    let found: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(found, json!({ "healthy": true, "address": address }));

    world.kill().await;
    let answer = asked().await.unwrap();
    assert_eq!(answer.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(found["healthy"], false);
    assert!(found["problem"].as_str().unwrap().contains("refused"), "{found}");
    let (code, out, error) = ask(&["health", "--http", &address]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.starts_with(&format!("error: not healthy: {address}: ")), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let (code, _, error) = ask(&["health"]).await;
    assert_eq!(code, 2);
    assert!(error.contains("health and metrics are off"), "{error}");
}

/// One that says what hangs, and one that hangs itself.
#[tokio::test]
async fn health_fails_in_time_whatever_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ask = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(["health", "--http", &address]).kill_on_drop(true).output()
    };
    let silent = tokio::time::timeout(Duration::from_secs(10), ask());
    let answer = silent.await.expect("an end by itself").unwrap();
    assert_eq!(answer.status.code(), Some(1));
    let error = String::from_utf8(answer.stderr).unwrap();
    assert!(error.contains("no answer within 4 seconds"), "{error}");
    // Nobody waits any more for what was asked first.
    drop(listener.accept().await.unwrap());
    let hangs = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        assert!(request[..length].starts_with(b"GET /healthz "));
        let answer =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\n\r\nhangs: the\u{1b}inbox";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(), hangs);
    let answer = answer.unwrap();
    assert_eq!(answer.status.code(), Some(1));
    let error = String::from_utf8(answer.stderr).unwrap();
    assert!(error.ends_with("it answers 503 hangs: the inbox\n"), "{error}");
}

/// Nothing of it is asked of AWS: the address and the token come first.
#[tokio::test]
async fn others_are_not_listened_to_without_a_token() {
    let token = "[http]\ntoken = { env = \"TEST_METRICS_TOKEN\" }\n";
    let run = |text: String, http: &'static str, value: Option<&'static str>| async move {
        let (_folder, path) = config(&text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.args(["run", "--config", &path, "--http", http, "--local", "http://127.0.0.1:1"]);
        command.env("RUST_LOG", "off").envs(value.map(|value| ("TEST_METRICS_TOKEN", value)));
        let ended =
            tokio::time::timeout(Duration::from_secs(30), command.kill_on_drop(true).output());
        let output = ended.await.expect("an end").unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let with_token = format!("{CONFIG}{token}");
    for (text, http, value, said) in [
        (CONFIG.to_owned(), "0.0.0.0:0", None, "others reach 0.0.0.0:0, and no token is named"),
        (CONFIG.to_owned(), "[::]:0", None, "others reach [::]:0, and no token is named"),
        (with_token.clone(), "127.0.0.1:0", None, "TEST_METRICS_TOKEN is not set"),
        (with_token, "0.0.0.0:0", Some("hunter2"), "TEST_METRICS_TOKEN holds no token"),
    ] {
        let (code, error) = run(text, http, value).await;
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn the_metrics_are_for_who_has_the_token_and_probes_need_none() {
    let mut world = World::new("").await;
    world.kill().await;
    let secret = "0123456789abcdef-secret";
    let mut text = std::fs::read_to_string(world.config_file().path()).unwrap();
    text += "\n[http]\nlisten = \"127.0.0.1:0\"\ntoken = { env = \"TEST_METRICS_TOKEN\" }\n";
    let (folder, path) = config(&text);
    let log = folder.path().join("log");
    let written = std::fs::File::create(&log).unwrap();
    let _daemon = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["run", "--config", &path, "--log-format", "json", "--local", world.local.endpoint()])
        .env("TEST_METRICS_TOKEN", secret)
        .env("RUST_LOG", "trace")
        .env_remove("SLUICEGATE_HTTP")
        .stdout(written.try_clone().unwrap())
        .stderr(written)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let served = || {
        let text = std::fs::read_to_string(&log).unwrap();
        let line = text.lines().find(|line| line.contains("health and metrics are served"))?;
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["address"].as_str().unwrap().parse().unwrap())
    };
    let address = world.until("an address", served).await;
    let is_ready = || async { (http_get(address, "/readyz").await.0 == 200).then_some(()) };
    world.until_async("readiness", is_ready).await;
    assert_eq!(http_get(address, "/healthz").await.0, 200);
    let (status, body) = http_get(address, "/metrics").await;
    assert_eq!((status, body.contains("Authorization: Bearer")), (401, true), "{body}");
    let wrong = "Authorization: Bearer 0123456789abcdef-secreT";
    assert_eq!(http_get_with(address, "/metrics", wrong).await.0, 401);
    let right = format!("Authorization: Bearer {secret}");
    let (status, body) = http_get_with(address, "/metrics", &right).await;
    assert!(status == 200 && body.contains("sluicegate_build_info"), "{status} {body}");
    // Reasons name what is AWS's, so they are not for everybody.
    let sqs = aws_sdk_sqs::Client::new(&aws::connect(&world.access()).await);
    let url = sqs.get_queue_url().queue_name("inbox").send().await.unwrap();
    sqs.delete_queue().queue_url(url.queue_url().unwrap()).send().await.unwrap();
    let is_not = || async { (http_get(address, "/readyz").await.0 == 503).then_some(()) };
    world.until_async("no readiness", is_not).await;
    let (_, short) = http_get(address, "/readyz").await;
    assert!(short.ends_with("not ready\n"), "{short}");
    let (_, whole) = http_get_with(address, "/readyz", &right).await;
    assert!(whole.contains("the queue: SQS ReceiveMessage"), "{whole}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(!logged.contains(secret), "the token was logged");
}
