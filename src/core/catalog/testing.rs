//! Ready-made declarations for the tests of the core. Not for the service.

use super::*;
use crate::core::cluster::testing::cluster;

/// All partitions of a dataset that overlap these hours of the task's.
pub fn input(dataset: &str, from: i64, to: i64) -> Input {
    let hours = SignedDuration::from_hours;
    Input { dataset: dataset.into(), from: hours(from), to: hours(to), need: Need::All }
}

pub fn task(name: &str, grain: Grain, inputs: Vec<Input>) -> Task {
    Task {
        name: name.into(),
        profile: "p".into(),
        grain,
        schedule: None,
        inputs,
        need: Need::All,
        wait: None,
        time_limits: Default::default(),
        outputs: vec![],
        when_empty: WhenEmpty::Skip,
        late_data: LateData::Alert,
        attempt_timeout: None,
        steps: vec![],
        load: None,
        max_active: None,
    }
}

pub fn profile(name: &str) -> Profile {
    Profile {
        name: name.into(),
        batch_size: 1,
        max_clusters: None,
        max_wait: SignedDuration::ZERO,
        limits: AttemptLimits {
            max_attempts: 2,
            policies: BTreeMap::new(),
            on_demand_last: true,
            stall_timeout: None,
            lifetime: SignedDuration::from_hours(2),
            poll_interval: SignedDuration::from_secs(30),
            poll_interval_with_events: SignedDuration::from_mins(10),
            steps_interval: SignedDuration::from_mins(5),
            send_within: SignedDuration::from_secs(20),
            list_lag: SignedDuration::from_secs(60),
        },
        cluster: cluster(),
    }
}
