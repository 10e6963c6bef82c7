//! S3 as clients and Spark see it: objects, uploads, listings, notifications.
//! By hand-made requests, for the SDK of S3 takes minutes to build.

mod common;

use common::{START, call, cloud, code, drain, header, queue, request, sqs, text};
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sluicegate_local::cloud::Cloud;
use sluicegate_local::{LocalAws, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn notify(cloud: &Cloud, bucket: &str, configuration: &str) -> http::StatusCode {
    let body = format!("<NotificationConfiguration>{configuration}</NotificationConfiguration>");
    let uri = format!("/{bucket}?notification");
    call(cloud, "PUT", &uri, body.as_bytes()).await.status()
}

fn queue_rule(arn: &str, events: &str, prefix: &str) -> String {
    format!(
        "<QueueConfiguration><Id>rule</Id><Queue>{arn}</Queue><Event>{events}</Event>\
         <Filter><S3Key><FilterRule><Name>prefix</Name><Value>{prefix}</Value></FilterRule></S3Key></Filter>\
         </QueueConfiguration>"
    )
}

/// Whether the cloud's clock showed this while a test ran: its clock runs, and a
/// slow machine takes seconds, not hours.
fn is_now(at: Timestamp) -> bool {
    let start: Timestamp = START.parse().unwrap();
    (start..start + SignedDuration::from_hours(1)).contains(&at)
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    call(&cloud, "PUT", "/demo", b"").await;
    let headers =
        [("content-length", "5"), ("content-type", "text/x-log"), ("x-amz-meta-origin", "jfk")];
    let put = cloud.handle(request("PUT", "/demo/raw/a%20b%2Bc.log", &headers, b"hello")).await;
    assert_eq!(header(&put, "etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    let file = dir.path().join("s3/demo/raw/a b+c.log");
    assert_eq!(std::fs::read(file).unwrap(), b"hello");

    let got = call(&cloud, "GET", "/demo/raw/a%20b%2Bc.log", b"").await;
    assert_eq!(text(&got), "hello");
    assert_eq!(header(&got, "content-type"), "text/x-log");
    assert_eq!(header(&got, "x-amz-meta-origin"), "jfk");
    let modified = rfc2822::parse(header(&got, "last-modified")).unwrap();
    assert!(is_now(modified.timestamp()), "{modified}");

    let range = [("range", "bytes=1-3")];
    let part = cloud.handle(request("GET", "/demo/raw/a%20b%2Bc.log", &range, b"")).await;
    assert_eq!((part.status().as_u16(), text(&part).as_str()), (206, "ell"));
    assert_eq!(header(&part, "content-range"), "bytes 1-3/5");

    let copy = [("x-amz-copy-source", "/demo/raw/a%20b%2Bc.log"), ("content-length", "0")];
    let copied = cloud.handle(request("PUT", "/demo/copy", &copy, b"")).await;
    assert_eq!(copied.status(), 200, "{}", text(&copied));
    let got = call(&cloud, "GET", "/demo/copy", b"").await;
    assert_eq!((text(&got).as_str(), header(&got, "x-amz-meta-origin")), ("hello", "jfk"));

    let removed = call(&cloud, "DELETE", "/demo/copy", b"").await;
    assert_eq!(removed.status(), 204);
    assert_eq!(call(&cloud, "GET", "/demo/copy", b"").await.status(), 404);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_s3s_words() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    call(&cloud, "PUT", "/demo", b"").await;
    call(&cloud, "PUT", "/demo/a/b", b"x").await;
    let too_long = format!("/demo/{}", "k".repeat(1025));
    let longest = format!("/demo/{}", "k".repeat(1024));
    for (method, uri, status, expected) in [
        ("PUT", "/nowhere/key", 404, "NoSuchBucket"),
        ("GET", "/demo/key", 404, "NoSuchKey"),
        ("HEAD", "/demo/a", 404, ""),
        ("HEAD", "/demo/a/", 404, ""),
        ("PUT", "/demo/../up", 400, "InvalidURI"),
        ("GET", "/demo/a/../../../up", 400, "InvalidURI"),
        ("PUT", "/demo/%2e%2e%2fup", 400, "InvalidURI"),
        ("PUT", &too_long, 400, "KeyTooLongError"),
        ("PUT", &longest, 200, ""),
        ("PUT", "/demo", 200, ""),
        ("PUT", "/Bad_Bucket", 400, "InvalidBucketName"),
        ("DELETE", "/demo", 409, "BucketNotEmpty"),
        ("DELETE", "/demo/none", 204, ""),
    ] {
        let response = call(&cloud, method, uri, b"").await;
        let found = (response.status().as_u16(), code(&response));
        assert_eq!(found, (status, expected.to_owned()), "{method} {uri}");
    }
    let wrong = [("content-length", "1"), ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")];
    let response = cloud.handle(request("PUT", "/demo/digest", &wrong, b"x")).await;
    assert_eq!(code(&response), "BadDigest");
    let outside = dir.path().join("s3/up");
    assert!(!outside.exists());
}

#[tokio::test]
async fn listings_come_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    call(&cloud, "PUT", "/demo", b"").await;
    for key in ["a", "raw/05/1", "raw/05/2", "raw/06/1", "z"] {
        call(&cloud, "PUT", &format!("/demo/{key}"), b"x").await;
    }
    let mut uri = "/demo?list-type=2&max-keys=2".to_owned();
    let mut keys = Vec::new();
    loop {
        let page = text(&call(&cloud, "GET", &uri, b"").await);
        keys.extend(
            page.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()),
        );
        let Some((_, rest)) = page.split_once("<NextContinuationToken>") else {
            break;
        };
        let token = rest.split('<').next().unwrap();
        uri = format!("/demo?list-type=2&max-keys=2&continuation-token={token}");
    }
    assert_eq!(keys, ["a", "raw/05/1", "raw/05/2", "raw/06/1", "z"]);
    let folders =
        text(&call(&cloud, "GET", "/demo?list-type=2&delimiter=/&prefix=raw/", b"").await);
    for prefix in ["<Prefix>raw/05/</Prefix>", "<Prefix>raw/06/</Prefix>"] {
        assert!(folders.contains(prefix), "{folders}");
    }
    let refused = call(&cloud, "GET", "/demo?list-type=2&continuation-token=*", b"").await;
    assert_eq!(code(&refused), "InvalidArgument");
}

#[tokio::test]
async fn parts_become_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    let (url, arn) = queue(&cloud, "q").await;
    call(&cloud, "PUT", "/demo", b"").await;
    notify(&cloud, "demo", &queue_rule(&arn, "s3:ObjectCreated:*", "")).await;
    drain(&cloud, &url).await;
    let started = text(&call(&cloud, "POST", "/demo/big?uploads", b"").await);
    let id = started.split("<UploadId>").nth(1).unwrap().split('<').next().unwrap();
    let mut whole = vec![b'x'; 5 << 20];
    let mut list = String::new();
    for (number, part) in [(1, whole.clone()), (2, b"end".to_vec())] {
        let uri = format!("/demo/big?partNumber={number}&uploadId={id}");
        let etag = header(&call(&cloud, "PUT", &uri, &part).await, "etag").to_owned();
        list.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        ));
    }
    assert_eq!(call(&cloud, "GET", "/demo/big", b"").await.status(), 404);
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let uri = format!("/demo/big?uploadId={id}");
    let done = call(&cloud, "POST", &uri, list.as_bytes()).await;
    assert_eq!(done.status(), 200, "{}", text(&done));
    whole.extend_from_slice(b"end");
    assert_eq!(call(&cloud, "GET", "/demo/big", b"").await.body().as_ref(), whole);
    let again = call(&cloud, "POST", &uri, list.as_bytes()).await;
    assert_eq!(code(&again), "NoSuchUpload");
    let records = drain(&cloud, &url).await;
    assert_eq!(records.len(), 1);
    let record = &records[0]["Records"][0];
    assert_eq!(record["eventName"], "ObjectCreated:CompleteMultipartUpload");
    assert!(record["s3"]["object"]["eTag"].as_str().unwrap().ends_with("-2"));
}

#[tokio::test]
async fn an_upload_in_chunks_is_unwrapped_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    call(&cloud, "PUT", "/demo", b"").await;
    for (checksum, status) in [("NhCmhg==", 200), ("AAAAAA==", 400)] {
        let body = format!("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n");
        let length = body.len().to_string();
        let headers = [
            ("content-length", length.as_str()),
            ("content-encoding", "aws-chunked"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", "5"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let uri = format!("/demo/{status}");
        let put = cloud.handle(request("PUT", &uri, &headers, body.as_bytes())).await;
        assert_eq!(put.status(), status, "{}", text(&put));
    }
    assert_eq!(text(&call(&cloud, "GET", "/demo/200", b"").await), "hello");
    assert_eq!(call(&cloud, "GET", "/demo/400", b"").await.status(), 404);
}

#[tokio::test]
async fn notifications_are_those_of_s3() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    let (url, arn) = queue(&cloud, "q").await;
    call(&cloud, "PUT", "/demo", b"").await;
    let missing = queue_rule(&arn.replace(":q", ":none"), "s3:ObjectCreated:*", "");
    assert_eq!(notify(&cloud, "demo", &missing).await, 400);
    let rules = queue_rule(&arn, "s3:ObjectCreated:*", "raw/")
        + &queue_rule(&arn, "s3:ObjectRemoved:*", "raw/");
    assert_eq!(notify(&cloud, "demo", &rules).await, 200);
    let overlapping = queue_rule(&arn, "s3:ObjectCreated:Put", "raw/05/") + &rules;
    assert_eq!(notify(&cloud, "demo", &overlapping).await, 400);
    let greetings = drain(&cloud, &url).await;
    assert_eq!(greetings.len(), 2);
    assert_eq!(greetings[0]["Event"], "s3:TestEvent");

    call(&cloud, "PUT", "/demo/raw/a%20b%2B%C3%BC", b"hello").await;
    call(&cloud, "PUT", "/demo/raw/a%20b%2B%C3%BC", b"hello again").await;
    call(&cloud, "PUT", "/demo/other", b"x").await;
    call(&cloud, "DELETE", "/demo/raw/a%20b%2B%C3%BC", b"").await;
    call(&cloud, "DELETE", "/demo/raw/a%20b%2B%C3%BC", b"").await;
    let messages = drain(&cloud, &url).await;
    let records: Vec<_> = messages.iter().map(|message| &message["Records"][0]).collect();
    let names: Vec<_> =
        records.iter().map(|record| record["eventName"].as_str().unwrap()).collect();
    assert_eq!(names, ["ObjectCreated:Put", "ObjectCreated:Put", "ObjectRemoved:Delete"]);
    let first = records[0];
    for (path, expected) in [
        ("/eventVersion", json!("2.1")),
        ("/eventSource", json!("aws:s3")),
        ("/awsRegion", json!("us-east-1")),
        ("/s3/s3SchemaVersion", json!("1.0")),
        ("/s3/configurationId", json!("rule")),
        ("/s3/bucket/name", json!("demo")),
        ("/s3/bucket/arn", json!("arn:aws:s3:::demo")),
        ("/s3/object/key", json!("raw/a+b%2B%C3%BC")),
        ("/s3/object/size", json!(5)),
        ("/s3/object/eTag", json!("5d41402abc4b2a76b9719d911017c592")),
    ] {
        assert_eq!(first.pointer(path), Some(&expected), "{path}");
    }
    let at = first["eventTime"].as_str().unwrap();
    assert!(is_now(at.parse().unwrap()), "{at}");
    let sequencers: Vec<_> = records
        .iter()
        .map(|record| record["s3"]["object"]["sequencer"].as_str().unwrap())
        .collect();
    assert!(sequencers.is_sorted_by(|a, b| a < b), "{sequencers:?}");
    assert_eq!(records[2].pointer("/s3/object/size"), None);
}

#[tokio::test]
async fn event_bridge_gets_the_key_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    let (url, arn) = queue(&cloud, "q").await;
    call(&cloud, "PUT", "/demo", b"").await;
    notify(&cloud, "demo", "<EventBridgeConfiguration></EventBridgeConfiguration>").await;
    let pattern = json!({
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": { "bucket": { "name": ["demo"] }, "object": { "key": [{ "prefix": "raw/" }] } },
    });
    let events = cloud.events();
    let rule = json!({ "Name": "r", "EventPattern": pattern.to_string() });
    events.call("PutRule", rule, "eu-west-1").unwrap();
    let targets = json!({ "Rule": "r", "Targets": [{ "Id": "1", "Arn": arn }] });
    events.call("PutTargets", targets, "eu-west-1").unwrap();
    call(&cloud, "PUT", "/demo/raw/a%20b", b"hello").await;
    call(&cloud, "PUT", "/demo/other", b"hello").await;
    call(&cloud, "DELETE", "/demo/raw/a%20b", b"").await;
    let received = drain(&cloud, &url).await;
    assert_eq!(received.len(), 1);
    for (path, expected) in [
        ("/detail/object/key", json!("raw/a b")),
        ("/detail/object/size", json!(5)),
        ("/detail/reason", json!("PutObject")),
        ("/detail-type", json!("Object Created")),
        ("/source", json!("aws.s3")),
        ("/account", json!("000000000000")),
        ("/region", json!("eu-west-1")),
        ("/resources/0", json!("arn:aws:s3:::demo")),
    ] {
        assert_eq!(received[0].pointer(path), Some(&expected), "{path}");
    }
}

#[tokio::test]
async fn what_spark_writes_is_announced_once() {
    let dir = tempfile::tempdir().unwrap();
    let cloud = cloud(dir.path());
    let (url, arn) = queue(&cloud, "q").await;
    call(&cloud, "PUT", "/demo", b"").await;
    for key in ["in/kept", "in/overwritten", "in/removed"] {
        call(&cloud, "PUT", &format!("/demo/{key}"), b"before").await;
    }
    let rules =
        queue_rule(&arn, "s3:ObjectCreated:*", "") + &queue_rule(&arn, "s3:ObjectRemoved:*", "");
    notify(&cloud, "demo", &rules).await;
    drain(&cloud, &url).await;

    let s3 = cloud.s3();
    let before = s3.snapshot().unwrap();
    let bucket = s3.root().join("demo");
    std::fs::create_dir_all(bucket.join("out/_temporary/0")).unwrap();
    for file in
        ["out/part-0.parquet", "out/.part-0.parquet.crc", "out/_temporary/0/x", "in/overwritten"]
    {
        std::fs::write(bucket.join(file), "written by Spark").unwrap();
    }
    std::fs::remove_file(bucket.join("in/removed")).unwrap();
    // A client of S3 is told of at once, and so is not told of again.
    call(&cloud, "PUT", "/demo/by-client", b"x").await;
    // A look at a new object does not count as telling of it.
    call(&cloud, "HEAD", "/demo/out/part-0.parquet", b"").await;
    assert_eq!(s3.announce_changes(&before).unwrap(), 3);
    assert_eq!(s3.announce_changes(&before).unwrap(), 0);
    let mut told: Vec<String> = drain(&cloud, &url)
        .await
        .iter()
        .map(|message| {
            let record = &message["Records"][0];
            let key = record["s3"]["object"]["key"].as_str().unwrap();
            format!("{} {key}", record["eventName"].as_str().unwrap())
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "ObjectCreated:Put by-client",
            "ObjectCreated:Put in/overwritten",
            "ObjectCreated:Put out/part-0.parquet",
            "ObjectRemoved:Delete in/removed",
        ]
    );
    assert!(!s3.announce("demo", "in/kept").unwrap());
}

#[tokio::test]
async fn calls_are_counted_by_name_and_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let aws = LocalAws::start(Options {
        data: Some(dir.path().to_owned()),
        in_memory: false,
        ..Options::default()
    })
    .await
    .unwrap();
    let cloud = aws.cloud();
    call(cloud, "PUT", "/demo", b"").await;
    call(cloud, "PUT", "/nowhere/k", b"").await;
    sqs(cloud, "ListQueues", json!({})).await;
    let counts = cloud.calls();
    let count =
        |service: &str, action: &str| counts.get(&(service.to_owned(), action.to_owned())).copied();
    assert_eq!(count("s3", "CreateBucket"), Some(1));
    assert_eq!(count("s3", "PutObject"), Some(1));
    assert_eq!(count("sqs", "ListQueues"), Some(1));
    let log = std::fs::read_to_string(dir.path().join("calls.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 3);
    assert!(log.contains(r#""action":"PutObject","outcome":"NoSuchBucket""#), "{log}");
    aws.shutdown().await;
}

/// The answer to one HTTP request, head and body.
async fn over_the_wire(endpoint: &str, request: &str) -> String {
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.to_ascii_lowercase()
}

#[tokio::test]
async fn the_port_speaks_http() {
    let aws = LocalAws::start(Options::default()).await.unwrap();
    let endpoint = aws.endpoint().to_owned();
    call(aws.cloud(), "PUT", "/demo", b"").await;
    let end = "HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    for (line, extra, expected) in [
        ("GET /_local/health", "\r\n", "http/1.1 200"),
        ("GET /_local/clock", "\r\n", "\"factor\":1.0"),
        ("GET /_local/other", "\r\n", "http/1.1 404"),
        ("PUT /demo/k", "content-length: 5\r\nexpect: 100-continue\r\n\r\nhello", "http/1.1 200"),
        ("HEAD /demo/k", "\r\n", "content-length: 5\r\n"),
        ("GET /demo/k", "\r\n", "\r\n\r\nhello"),
        ("GET /demo/none", "\r\n", "<code>nosuchkey</code>"),
    ] {
        let answer = over_the_wire(&endpoint, &format!("{line} {end}{extra}")).await;
        assert!(answer.contains(expected), "{line}: {answer}");
    }
    let taken = LocalAws::start(Options {
        port: endpoint.rsplit(':').next().unwrap().parse().unwrap(),
        ..Options::default()
    });
    let error = format!("{:#}", taken.await.err().unwrap());
    assert!(error.contains("cannot listen on 127.0.0.1:"), "{error}");
    aws.shutdown().await;
}

#[tokio::test]
async fn metadata_may_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    {
        let cloud = cloud(dir.path());
        call(&cloud, "PUT", "/demo", b"").await;
        call(&cloud, "PUT", "/demo/k", b"hello").await;
    }
    std::fs::remove_dir_all(dir.path().join("s3-meta")).unwrap();
    let cloud = cloud(dir.path());
    let got = call(&cloud, "GET", "/demo/k", b"").await;
    assert_eq!(text(&got), "hello");
    assert_eq!(header(&got, "etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
}
