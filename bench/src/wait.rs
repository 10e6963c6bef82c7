//! Waits for what other processes bring about, and gives up at some time.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Longer than anything here takes, so that only a fault ends in it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks every `pause` until there is an answer.
pub async fn poll<T>(
    what: &str,
    pause: Duration,
    mut check: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(pause);
    loop {
        ticks.tick().await;
        if let Some(found) = check().await? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
    }
}
