//! What alarms of CloudWatch need and no AWS service can tell, as lines of the
//! log in its embedded metric format (EMF): CloudWatch Logs makes metrics of
//! them. Not for what people look at: `metrics` has far more.

use std::io::{self, Write};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

const NAMESPACE: &str = "sluicegate";
/// The one dimension: all replicas of a deployment add up.
const DIMENSION: &str = "Deployment";
/// The alarms count by the minute.
const INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// A metric with its unit and value.
type Metric = (&'static str, &'static str, Value);

/// Writes the service's line once a minute until told to stop.
pub async fn run(engine: Arc<Engine>, shutdown: CancellationToken) {
    let clock = engine.clock().clone();
    loop {
        let now = clock.now();
        let line = service(
            &engine.catalog().deployment,
            now,
            engine.works(),
            engine.metrics().outbox_age(now),
        );
        if let Err(error) = write(&line) {
            tracing::warn!(%error, "the line with the heartbeat cannot be written");
        }
        let next = now.checked_add(INTERVAL).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = clock.sleep_until(next) => {}
        }
    }
}

/// Whether the service works, and how long its oldest notice has waited.
fn service(deployment: &str, now: Timestamp, works: bool, outbox_age: SignedDuration) -> Value {
    let metrics = [
        ("Heartbeat", "Count", json!(u8::from(works))),
        ("OutboxAge", "Seconds", json!(outbox_age.as_secs_f64())),
    ];
    line(deployment, now, &metrics)
}

/// A reaper has looked at all clusters.
pub fn reaper_looked(deployment: &str, now: Timestamp) -> Value {
    line(deployment, now, &[("ReaperLooks", "Count", json!(1))])
}

fn line(deployment: &str, now: Timestamp, metrics: &[Metric]) -> Value {
    let names: Vec<_> =
        metrics.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
    let values = metrics.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone()));
    let mut fields: Map<_, _> = values.collect();
    fields.insert(DIMENSION.to_owned(), deployment.into());
    let about = json!({
        "Timestamp": now.as_millisecond(),
        "CloudWatchMetrics": [
            { "Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": names },
        ],
    });
    fields.insert("_aws".to_owned(), about);
    fields.into()
}

/// One line of standard output, in one piece.
pub fn write(line: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CloudWatch's specification wants it.
    fn expected(metrics: &Value, values: &[(&str, Value)]) -> Value {
        let mut whole = json!({
            "_aws": {
                "Timestamp": 1_356_998_400_123_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "sluicegate",
                    "Dimensions": [["Deployment"]],
                    "Metrics": metrics,
                }],
            },
            "Deployment": "prod",
        });
        for (name, value) in values {
            whole[name] = value.clone();
        }
        whole
    }

    #[test]
    fn lines_have_the_form_that_cloudwatch_reads() {
        let now = "2013-01-01T00:00:00.123456Z".parse().unwrap();
        let names = json!([{ "Name": "Heartbeat", "Unit": "Count" }, { "Name": "OutboxAge", "Unit": "Seconds" }]);
        for (works, age, heartbeat, seconds) in [(true, 0, 1, 0.0), (false, 90_500, 0, 90.5)] {
            let line = service("prod", now, works, SignedDuration::from_millis(age));
            let values = [("Heartbeat", json!(heartbeat)), ("OutboxAge", json!(seconds))];
            assert_eq!(line, expected(&names, &values));
            assert!(!line.to_string().contains('\n'));
        }
        let names = json!([{ "Name": "ReaperLooks", "Unit": "Count" }]);
        assert_eq!(reaper_looked("prod", now), expected(&names, &[("ReaperLooks", json!(1))]));
    }
}
