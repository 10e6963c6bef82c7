//! Calls to EMR by themselves: one call for one intent (I8), and nobody ends a
//! cluster that still works (I9). Not for what runs on clusters.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::clusters::{intent, name_of, owner};
use super::items::document;
use super::{Found, violation};
use crate::call::Call;
use crate::tables;
use crate::world::World;

type Items = BTreeMap<(String, String), Value>;

/// A clock may be ten minutes ahead, and then a lifetime is over so much earlier.
const MARGIN: SignedDuration = SignedDuration::from_mins(15);

/// The intents that a call was made for.
#[derive(Debug, Default)]
pub struct Calls {
    /// (what, until when it may be sent), which is new for each intent.
    sent: BTreeSet<(String, String)>,
}

impl Calls {
    /// I8: a replica is about to make a call that creates something. Nobody may
    /// repeat one: whether it has arrived has to be looked up first.
    pub fn decided(&mut self, items: &Items, call: &Call) -> Found {
        let Some(intent) = intent(items, call) else { return Vec::new() };
        let send_by = intent["send_by"].as_str().unwrap_or_default().to_owned();
        if self.sent.insert((call.about.clone(), send_by)) {
            return Vec::new();
        }
        violation("I8", format!("{} of {} is sent twice for one intent", call.action, call.about))
    }

    /// I9: TerminateJobFlows has arrived.
    pub fn terminated(&self, world: &World, items: &Items, call: &Call) -> Found {
        let ids = call.body["JobFlowIds"].as_array().into_iter().flatten();
        let working = ids.filter_map(Value::as_str).filter(|id| works(world, items, id));
        working.flat_map(|id| violation("I9", format!("{id} is ended, it has work left"))).collect()
    }
}

/// Whether an open attempt has this cluster, its time is not over, and not all
/// of its partitions have ended.
fn works(world: &World, items: &Items, id: &str) -> bool {
    let name = name_of(world, id);
    let run = owner(&name).and_then(|(run, number)| {
        let item = items.get(&(tables::RUN.to_owned(), run.to_owned()))?;
        Some((document(item), number))
    });
    let Some((run, number)) = run else { return false };
    let attempts = run["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = attempts.last().filter(|last| attempts.len() == number && last["cluster"] == id);
    let expires = last.and_then(|last| last["expires"].as_str()?.parse::<Timestamp>().ok());
    let in_time = expires.is_some_and(|expires| world.time.now() + MARGIN < expires);
    let ended = matches!(run["state"].as_str(), Some("succeeded" | "failed"));
    let mut members = run["members"].as_array().into_iter().flatten();
    in_time && !ended && members.any(|member| member["outcome"].is_null())
}

/// I8: the cluster of each attempt bears its name.
pub fn own_clusters(world: &World, run: &str, new: &Value) -> Found {
    let document = document(new);
    let attempts = document["attempts"].as_array().into_iter().flatten();
    let clusters = (1..).zip(attempts).filter_map(|(number, attempt)| {
        let cluster = attempt["cluster"].as_str()?;
        let name = name_of(world, cluster);
        (owner(&name) != Some((run, number))).then_some((number, cluster, name))
    });
    let words = |(number, cluster, name): (usize, &str, String)| {
        violation("I8", format!("run {run} has {cluster} ({name:?}) for attempt {number}"))
    };
    clusters.flat_map(words).collect()
}

/// I1: a step starts on a cluster whose attempt was given up.
pub fn given_up(world: &World, items: &Items, cluster: &str) -> Option<String> {
    let name = name_of(world, cluster);
    let (run, number) = owner(&name)?;
    let run = document(items.get(&(tables::RUN.to_owned(), run.to_owned()))?);
    let attempts = run["attempts"].as_array().map_or(0, Vec::len);
    let ended = matches!(run["state"].as_str(), Some("succeeded" | "failed"));
    (ended || number < attempts).then(|| format!("{name} was given up before"))
}
