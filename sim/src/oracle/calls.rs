//! Calls to EMR by themselves: one call for one intent, none again before lists
//! can be trusted (I8), and nobody ends a cluster that still works (I9). Not for
//! what runs on clusters.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::clusters::{intent, name_of, owner};
use super::items::document;
use super::{Found, violation};
use crate::call::{Call, Phase};
use crate::tables;
use crate::world::World;

type Items = BTreeMap<(String, String), Value>;

/// A clock may be ten minutes ahead, and then a lifetime is over so much earlier.
const MARGIN: SignedDuration = SignedDuration::from_mins(15);
/// `list-lag`, as the configuration has it.
const LIST_LAG: SignedDuration = SignedDuration::from_secs(60);
/// What is not delayed is there by then.
const AT_ONCE: SignedDuration = SignedDuration::from_millis(100);

/// The intents that a call was made for.
#[derive(Debug, Default)]
pub struct Calls {
    /// (what, until when it may be sent), which is new for each intent.
    sent: BTreeSet<(String, String)>,
    /// Attempt → its last launch.
    launches: BTreeMap<String, Launch>,
}

/// A RunJobFlow that somebody has decided to make.
#[derive(Debug)]
struct Launch {
    at: Timestamp,
    send_by: Timestamp,
    /// It has made a cluster, and was not late.
    created: bool,
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

    /// I8: a cluster is created again although lists need not show yet that it
    /// is there. For clocks that are right.
    pub fn repeated(&mut self, items: &Items, call: &Call, now: Timestamp) -> Found {
        if call.phase != Phase::Launch {
            return Vec::new();
        }
        let send_by =
            intent(items, call).and_then(|intent| intent["send_by"].as_str()?.parse().ok());
        let Some(send_by) = send_by else { return Vec::new() };
        let launch = Launch { at: now, send_by, created: false };
        match self.launches.insert(call.about.clone(), launch) {
            Some(last) if last.created && now < last.send_by + LIST_LAG => {
                violation("I8", format!("{} is created again, lists may lag", call.about))
            }
            _ => Vec::new(),
        }
    }

    /// RunJobFlow has made a cluster.
    pub fn launched(&mut self, call: &Call, now: Timestamp) {
        if let Some(launch) = self.launches.get_mut(&call.about) {
            launch.created |= now.duration_since(launch.at) < AT_ONCE;
        }
    }

    /// I9: TerminateJobFlows has arrived.
    pub fn terminated(&self, world: &World, items: &Items, call: &Call) -> Found {
        let ids = call.body["JobFlowIds"].as_array().into_iter().flatten();
        let now = world.time.now();
        let works = |id: &&str| works(items, &name_of(world, id), id, now);
        let working = ids.filter_map(Value::as_str).filter(works);
        working.flat_map(|id| violation("I9", format!("{id} is ended, it has work left"))).collect()
    }
}

/// Whether an open attempt has this cluster, its time is not over, and not all
/// of its partitions have ended.
fn works(items: &Items, name: &str, id: &str, now: Timestamp) -> bool {
    let run = owner(name).and_then(|(run, number)| {
        let item = items.get(&(tables::RUN.to_owned(), run.to_owned()))?;
        Some((document(item), number))
    });
    let Some((run, number)) = run else { return false };
    let attempts = run["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = attempts.last().filter(|last| attempts.len() == number && last["cluster"] == id);
    let expires = last.and_then(|last| last["expires"].as_str()?.parse::<Timestamp>().ok());
    let in_time = expires.is_some_and(|expires| now + MARGIN < expires);
    let ended = matches!(run["state"].as_str(), Some("succeeded" | "failed"));
    let mut members = run["members"].as_array().into_iter().flatten();
    in_time && !ended && members.any(|member| member["outcome"].is_null())
}

/// I8: the cluster of each attempt bears its name.
pub fn own_clusters(run: &str, new: &Value, name_of: impl Fn(&str) -> String) -> Found {
    let attempts = document(new)["attempts"].as_array().into_iter().flatten();
    let clusters = (1..).zip(attempts).filter_map(|(number, attempt)| {
        let cluster = attempt["cluster"].as_str()?;
        let name = name_of(cluster);
        (owner(&name) != Some((run, number))).then_some((number, cluster, name))
    });
    let words = |(number, cluster, name): (usize, &str, String)| {
        violation("I8", format!("run {run} has {cluster} ({name:?}) for attempt {number}"))
    };
    clusters.flat_map(words).collect()
}

/// I1: a step starts on a cluster of this name, whose attempt was given up.
pub fn given_up(items: &Items, name: &str) -> Option<String> {
    let (run, number) = owner(name)?;
    let run = document(items.get(&(tables::RUN.to_owned(), run.to_owned()))?);
    let attempts = run["attempts"].as_array().map_or(0, Vec::len);
    let ended = matches!(run["state"].as_str(), Some("succeeded" | "failed"));
    (ended || number < attempts).then(|| format!("{name} was given up before"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Service;
    use serde_json::json;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn launch(attempt: usize) -> Call {
        Call {
            service: Service::Emr,
            action: "RunJobFlow".to_owned(),
            phase: Phase::Launch,
            body: Value::Null,
            about: format!("sim/r/{attempt}"),
        }
    }

    /// Run `r` as it is stored, in this state and with these attempts.
    fn stored(state: &str, attempts: &Value) -> Items {
        let members = json!([{ "outcome": null }]);
        let document = json!({ "state": state, "attempts": attempts, "members": members });
        let item = json!({ "document": document });
        Items::from([((tables::RUN.to_owned(), "r".to_owned()), item)])
    }

    fn intended(send_by: i64) -> Items {
        stored("launching", &json!([{ "launch": { "send_by": at(send_by) } }]))
    }

    #[test]
    fn a_call_is_made_once_for_each_intent() {
        let mut calls = Calls::default();
        assert_eq!(calls.decided(&intended(20), &launch(1)), []);
        assert_eq!(calls.decided(&intended(120), &launch(1)), []);
        let found = calls.decided(&intended(120), &launch(1));
        assert_eq!(found[0].invariant, "I8");
    }

    #[test]
    fn a_cluster_is_created_again_only_when_lists_have_to_show_the_first() {
        // The first call at 0 may be sent until 20, lists may lag for 60 seconds.
        // When its cluster came, in milliseconds; when the next call is made;
        // whether that is too early.
        for (created, again, early) in [
            (Some(20), 79, true),
            (Some(20), 80, false),
            // Not there, or late: lists can say nothing of it.
            (None, 30, false),
            (Some(25_000), 30, false),
        ] {
            let mut calls = Calls::default();
            assert_eq!(calls.repeated(&intended(20), &launch(1), at(0)), []);
            if let Some(created) = created {
                calls.launched(&launch(1), at(0) + SignedDuration::from_millis(created));
            }
            let found = calls.repeated(&intended(again + 20), &launch(1), at(again));
            assert_eq!(!found.is_empty(), early, "{created:?}, {again}");
            // Another attempt is another cluster.
            assert_eq!(calls.repeated(&intended(20), &launch(2), at(again)), []);
        }
    }

    #[test]
    fn nobody_ends_a_cluster_that_works() {
        let attempt =
            |cluster: &str, expires| json!({ "cluster": cluster, "expires": at(expires) });
        let (one, two) = (attempt("j-1", 9000), attempt("j-2", 9000));
        for (state, attempts, works_at_0) in [
            ("running", json!([one]), true),
            ("succeeded", json!([one]), false),
            ("launching", json!([one, two]), false),
            ("running", json!([attempt("j-3", 9000)]), false),
            ("running", json!([attempt("j-1", 600)]), false),
        ] {
            let items = stored(state, &attempts);
            assert_eq!(works(&items, "sim/r/1", "j-1", at(0)), works_at_0, "{state} {attempts}");
            assert!(!works(&items, "somebody's", "j-1", at(0)));
        }
    }

    #[test]
    fn an_attempt_has_the_cluster_of_its_name() {
        let run = &stored("running", &json!([{ "cluster": "j-1" }, { "cluster": "j-2" }]));
        let item = run.values().next().unwrap();
        let found = |names: [&'static str; 2]| {
            let name_of = |id: &str| names[usize::from(id == "j-2")].to_owned();
            own_clusters("r", item, name_of).len()
        };
        assert_eq!(found(["sim/r/1", "sim/r/2"]), 0);
        assert_eq!(found(["sim/r/1", "sim/r/1"]), 1);
        assert_eq!(found(["sim/q/1", "other"]), 2);
    }

    #[test]
    fn what_was_given_up_starts_nothing() {
        for (state, attempts, name, given) in [
            ("running", json!([{}]), "sim/r/1", false),
            ("running", json!([{}, {}]), "sim/r/1", true),
            ("running", json!([{}, {}]), "sim/r/2", false),
            ("failed", json!([{}]), "sim/r/1", true),
            ("failed", json!([{}]), "somebody's", false),
        ] {
            let items = stored(state, &attempts);
            assert_eq!(given_up(&items, name).is_some(), given, "{state} {attempts} {name}");
        }
    }
}
