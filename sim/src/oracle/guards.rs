//! I1: a step starts only after the guard of its own submission has passed. Not
//! for who holds a claim: that is `items` and `clusters`.

use std::collections::BTreeMap;

use serde_json::Value;
use sluicegate_local::emr::model::{Cluster, StepState};

use crate::cluster::GUARD;
use crate::world::World;

/// Which steps came together.
#[derive(Debug, Default)]
pub struct Guards {
    /// Step that was added later → the first step of its submission.
    first: BTreeMap<String, String>,
}

impl Guards {
    /// AddJobFlowSteps has taken effect.
    pub fn added(&mut self, answer: &Value) {
        let ids = answer["StepIds"].as_array().into_iter().flatten();
        let ids: Vec<_> = ids.filter_map(Value::as_str).collect();
        for id in &ids {
            self.first.insert((*id).to_owned(), ids[0].to_owned());
        }
    }

    /// Why a step may not start, if it may not.
    pub fn step_started(&self, world: &World, cluster: &str, step: &str) -> Option<String> {
        if world.scenario.bare {
            return None;
        }
        world.cloud.emr().with(|machine, _| self.unguarded(machine.cluster(cluster)?, step))
    }

    fn unguarded(&self, cluster: &Cluster, step: &str) -> Option<String> {
        let first = match self.first.get(step) {
            Some(first) => cluster.step(first)?,
            None => cluster.steps.first()?,
        };
        if !first.name.starts_with(GUARD) {
            return Some("no guard came with it".to_owned());
        }
        (first.state != StepState::Completed)
            .then(|| format!("{} is {:?}", first.name, first.state))
    }
}
