//! SQS in its JSON protocol: thin I/O around the queues' state machine, with
//! long polls that wake when something arrives. FIFO queues are refused.

mod api;
mod digest;
pub mod queue;
mod settings;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::settings::queue_name;

use self::queue::{Delivery, MessageAttributes, Outgoing, Queues};
use crate::ids::Ids;
use crate::time::Time;
use crate::wire::{ApiError, parse_body};

/// All SQS queues of the account, and the calls that wait on them.
#[derive(Debug)]
pub struct Sqs {
    queues: Mutex<Queues>,
    arrived: Notify,
    time: Time,
    ids: Arc<Ids>,
    endpoint: String,
    shutdown: CancellationToken,
}

impl Sqs {
    /// Long polls end early once `shutdown` is cancelled.
    pub fn new(time: Time, ids: Arc<Ids>, endpoint: String, shutdown: CancellationToken) -> Self {
        Self { queues: Mutex::default(), arrived: Notify::new(), time, ids, endpoint, shutdown }
    }

    /// One call of the API; `region` is the one the client signed for.
    pub async fn call(&self, action: &str, body: Value, region: &str) -> Result<Value, ApiError> {
        if action == "ReceiveMessage" {
            return self.receive_message(parse_body(body)?).await;
        }
        self.call_at_once(action, body, region)
    }

    /// Puts a message into the queue with this ARN, for another service.
    pub fn deliver(
        &self,
        queue_arn: &str,
        body: String,
        attributes: MessageAttributes,
    ) -> Result<String, ApiError> {
        let name = queue_name(queue_arn).ok_or_else(|| {
            ApiError::bad_request("InvalidAddress", format!("{queue_arn:?} is no queue's ARN"))
        })?;
        let id = self.ids.uuid();
        let message = Outgoing { id: id.clone(), body, attributes, delay_secs: None };
        self.send(name, message).map(|()| id)
    }

    /// Whether a queue with this ARN exists.
    pub fn exists(&self, queue_arn: &str) -> bool {
        queue_name(queue_arn).is_some_and(|name| self.lock().get(name).is_ok())
    }

    fn send(&self, name: &str, message: Outgoing) -> Result<(), ApiError> {
        let now = self.time.real();
        self.lock().get_mut(name)?.send(message, now)?;
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Receives now, or as soon as something can be received before `deadline`.
    async fn receive(
        &self,
        name: &str,
        max: usize,
        visibility_secs: Option<u32>,
        deadline: Timestamp,
    ) -> Result<Vec<Delivery>, ApiError> {
        loop {
            // Registered before the look, so that no arrival falls between.
            let mut arrived = std::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let now = self.time.real();
            let next_change = {
                let mut queues = self.lock();
                let received = queues.receive(name, max, visibility_secs, now)?;
                if received.moved {
                    self.arrived.notify_waiters();
                }
                if !received.deliveries.is_empty() || now >= deadline {
                    return Ok(received.deliveries);
                }
                queues.get(name)?.next_change()
            };
            let until = next_change.map_or(deadline, |next| next.min(deadline));
            let woken = async {
                tokio::select! {
                    biased;
                    () = self.shutdown.cancelled() => true,
                    () = arrived => false,
                }
            };
            if let Ok(true) = tokio::time::timeout(rounded_up(now, until), woken).await {
                return Ok(Vec::new());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time to sleep; whole milliseconds upwards, as the runtime's timer has them,
/// so that the instant has surely come on waking.
fn rounded_up(now: Timestamp, until: Timestamp) -> Duration {
    let nanos = until.duration_since(now).as_nanos().max(0).cast_unsigned();
    Duration::from_millis(u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
