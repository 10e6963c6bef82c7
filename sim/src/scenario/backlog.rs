//! Worlds that begin after an outage: a heap of messages lies in the queue
//! before the first replica comes. Not for outages of services (`faults`).

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use sluicegate::core::partition::{Grain, Partition};

use super::config::{self, Dataset, DatasetKind, Step, Task};
use super::{MachineEvent, Scenario, arrivals, busy_until, folds};

/// The dataset whose objects have piled up: `HEAP` in an hour, or half as many in two
/// that fail together.
const DATASET: &str = "heap";
const HEAP: u32 = 90;
/// How long nobody takes a message.
const OUTAGE: SignedDuration = SignedDuration::from_mins(6);
/// Faults go on after it.
const FAULTS: SignedDuration = SignedDuration::from_mins(8);
/// And longer where repeats are folded: until their window has ended.
const FAULTS_OF_FOLDS: SignedDuration = SignedDuration::from_mins(12);

/// Adds a task that waits for many objects, which all come, some of them twice,
/// while every replica is down.
pub fn adapt(scenario: &mut Scenario, origin: Timestamp) {
    let mut rng = Rng::with_seed(scenario.seed ^ 0xbac1_0900);
    let (count, hours) = if folds(scenario.seed) { (HEAP / 4, 2) } else { (HEAP, 1) };
    let dataset = Dataset { name: DATASET.to_owned(), kind: DatasetKind::Count(count) };
    let from = origin - SignedDuration::from_hours(hours);
    let hours: Vec<_> = Partition::overlapping(from, origin, Grain::Hour)
        .filter(|hour| hour.end() <= origin)
        .collect();
    let task = Task {
        name: "heaped".to_owned(),
        profile: scenario.profiles[0].name.clone(),
        inputs: vec![DATASET.to_owned()],
        outputs: Vec::new(),
        scheduled: false,
        attempt_timeout_minutes: None,
        steps: vec![Step { name: "s0".to_owned(), retries: 1 }],
        load: None,
    };
    let addition = config::addition(&dataset, &task);
    for text in [&mut scenario.text, &mut scenario.next_text] {
        text.push_str(&addition);
    }
    scenario.messages.extend(arrivals::heap(&mut rng, &dataset, &hours, origin, OUTAGE));
    scenario.messages.sort_by_key(|(at, _)| *at);
    scenario.datasets.push(dataset);
    scenario.tasks.push(task);
    // Nobody else calls them back before.
    let after = |at: &Timestamp| *at > origin + OUTAGE;
    scenario.events.retain(|(at, _)| after(at));
    for replica in 0..scenario.replicas {
        scenario.events.push((origin, MachineEvent::End(replica)));
        scenario.events.push((origin + OUTAGE, MachineEvent::Run(replica)));
    }
    scenario.events.sort_by_key(|(at, _)| *at);
    let faults = if folds(scenario.seed) { FAULTS_OF_FOLDS } else { FAULTS };
    scenario.ends = scenario.ends.max(origin + OUTAGE + faults);
    // Somebody has to take them.
    scenario.all_die = false;
    scenario.busy_until = busy_until(origin, &scenario.messages, &scenario.events);
}
