//! Worlds in which somebody orders a backfill of hours that are long past, and takes
//! it back in some of them. Not for what must come of it (`oracle::backfills`).

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use sluicegate::core::backfill::{Order, Window};
use sluicegate::core::partition::{Grain, Partition};

use super::config::{self, Task};
use super::{LATE_MINUTES, Scenario};

/// The task that is run again for the past.
pub const TASK: &str = "old";
/// Hours before the origin of which nothing else is.
const AGO: SignedDuration = SignedDuration::from_hours(48);

/// A backfill that a person orders.
#[derive(Debug, Clone)]
pub struct Ordered {
    pub at: Timestamp,
    pub window: Window,
    /// When it is taken back.
    pub cancel: Option<Timestamp>,
}

/// Adds the task and the order.
pub fn adapt(scenario: &mut Scenario, origin: Timestamp) {
    let mut rng = Rng::with_seed(scenario.seed ^ 0xbacc_f111);
    let task = Task::scheduled(TASK, &scenario.profiles[0]);
    let mut text = String::new();
    config::task_text(&mut text, &task);
    for all in [&mut scenario.text, &mut scenario.next_text] {
        all.push_str(&text);
    }
    scenario.tasks.push(task);
    let at = origin + SignedDuration::from_secs(rng.i64(20..240));
    let cancel = (rng.u8(0..3) == 0).then(|| at + SignedDuration::from_secs(rng.i64(5..900)));
    let (first, hours) = (origin - AGO, rng.i64(2..8));
    let window = Window {
        task: TASK.to_owned(),
        first: Partition::containing(first, Grain::Hour),
        last: Partition::containing(first + SignedDuration::from_hours(hours), Grain::Hour),
        max_parallel: rng.u32(1..4),
        order: if rng.bool() { Order::Asc } else { Order::Desc },
        force: false,
        ignore_inputs: false,
    };
    if cancel.is_some() {
        // One of them goes on while another one ends it.
        scenario.replicas = 2;
    }
    // Somebody has to carry it out, while faults go on.
    scenario.all_die = false;
    scenario.ends = scenario.ends.max(origin + SignedDuration::from_mins(LATE_MINUTES));
    scenario.busy_until = scenario.busy_until.max(cancel.unwrap_or(at));
    scenario.backfill = Some(Ordered { at, window, cancel });
}
