//! Partitions that are late, by the daemon's own clock, on one that runs faster:
//! each is told once, also by another process, and so is that it has recovered.

use sluicegate::aws::store::DueKey;

use crate::world::{World, daily_file, daily_task};

/// An hour a second.
const FACTOR: f64 = 3600.0;

#[tokio::test]
async fn a_partition_that_nobody_has_heard_of_is_late_once_and_then_recovers() {
    let task = daily_task("t", &["a"], "true")
        .replace("partition = \"day\"\n", "partition = \"day\"\nstart-by = \"2h\"\nend-by = \"30h\"\n");
    let mut world = World::at(&(daily_file("a") + &task), "2013-01-01T20:00:00Z", FACTOR).await;
    let late = world.mail("t/2013-01-01/start-late").await;
    assert_eq!(late.subject, "[test] t 2013-01-01 starts LATE: waits for a 2013-01-01");
    assert_eq!(late.attributes["severity"], "lateness");
    assert!(late.text.contains("start-by of 2h after its end, at 2013-01-02 02:00"), "{}", late.text);
    // Another process finds it told.
    world.until_due(|due| matches!(due, [DueKey::Task(_), ..])).await;
    world.kill().await;
    world.start().await;
    world.mail("t/2013-01-01/end-late").await;
    assert_eq!(world.mails_about("t/2013-01-01/start-late").len(), 1);
    world.put("a/2013-01-01.csv", "1").await;
    let recovered = world.mail("t/2013-01-01/recovered").await;
    assert_eq!(
        recovered.subject,
        "[test] t 2013-01-01 RECOVERED: it succeeded and was late"
    );
    assert_eq!(recovered.attributes["severity"], "recovery");
    assert!(recovered.text.contains("end late since:"), "{}", recovered.text);
    assert_eq!(world.mails_about("t/2013-01-01/end-late").len(), 1);
}
