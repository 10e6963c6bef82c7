//! Ticks of schedules, by tokio-cron-scheduler. A tick only says "look": which
//! slots are due is decided from the stored mark, so a late, missed or doubled
//! tick is harmless. On a development clock ticks come by real time and find
//! nothing; there the schedule's own next look does all.

use std::sync::Arc;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::core::schedule::Schedule;
use crate::engine::Engine;

/// Ticks until told to stop.
pub async fn run(
    engine: Arc<Engine>,
    shutdown: CancellationToken,
) -> Result<(), JobSchedulerError> {
    let mut catalogs = engine.catalogs();
    while !shutdown.is_cancelled() {
        let catalog = catalogs.borrow_and_update().clone();
        let mut scheduler = JobScheduler::new().await?;
        for task in catalog.tasks.values() {
            if let Some(schedule) = &task.schedule {
                scheduler.add(job(&engine, &task.name, schedule)?).await?;
            }
        }
        scheduler.start().await?;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            // An error means that the engine has gone.
            changed = catalogs.changed() => if changed.is_err() { shutdown.cancelled().await },
        }
        scheduler.shutdown().await?;
    }
    Ok(())
}

fn job(engine: &Arc<Engine>, task: &str, schedule: &Schedule) -> Result<Job, JobSchedulerError> {
    // The scheduler wants seconds; ours have none.
    let expression = format!("0 {}", schedule.expression());
    let (engine, task) = (Arc::clone(engine), task.to_owned());
    Job::new_async_tz(expression, schedule.zone(), move |_, _| {
        engine.tick(&task);
        Box::pin(std::future::ready(()))
    })
}
