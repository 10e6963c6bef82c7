//! Which clusters of ours nobody needs: the last net under runs that end theirs
//! themselves. In doubt a cluster stays, and its own deadline ends it. Not for
//! finding clusters or ending them.

use jiff::{SignedDuration, Timestamp};

use super::notice::{Fact, Kind, Notice, Severity};
use super::run::{Attempt, Run};
use crate::planted::{Bug, planted};

/// How long after its deadline a cluster's own run has to end it.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// What a cluster's name says: `deployment/run/attempt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub run: String,
    pub attempt: usize,
}

impl Origin {
    /// None for a cluster of somebody else.
    pub fn of(name: &str, deployment: &str) -> Option<Self> {
        let rest = name.strip_prefix(deployment)?.strip_prefix('/')?;
        let (run, attempt) = rest.split_once('/')?;
        Some(Self { run: run.to_owned(), attempt: attempt.parse().ok()? })
    }
}

/// Why nobody needs a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its deadline is over, and its run has not ended it.
    Overdue,
    /// Its run has ended.
    RunEnded,
    /// Its run goes on with another attempt.
    AttemptOver,
    /// Its attempt has another cluster, and no guard decides between them.
    Double,
}

impl Reason {
    pub fn words(self) -> &'static str {
        match self {
            Reason::Overdue => "its deadline is over",
            Reason::RunEnded => "its run has ended",
            Reason::AttemptOver => "its run goes on with another attempt",
            Reason::Double => "its attempt has another cluster",
        }
    }
}

/// Whether a live cluster is to be ended. `run` is None where none is stored;
/// `expires` is what the cluster's own tag says.
pub fn verdict(
    cluster: &str,
    origin: &Origin,
    run: Option<&Run>,
    expires: Option<Timestamp>,
    now: Timestamp,
) -> Option<Reason> {
    let attempt = run.and_then(|run| run.attempts.get(origin.attempt.checked_sub(1)?));
    // A run counts the lifetime anew when its call is repeated; the tag is
    // that of the call which made this cluster.
    let expires = expires.max(attempt.map(|attempt| attempt.expires));
    let overdue = expires.is_some_and(|expires| now.duration_since(expires) >= GRACE);
    if overdue {
        return Some(Reason::Overdue);
    }
    if run.is_none() && planted(Bug::ReaperTrustsFailure) {
        return Some(Reason::RunEnded);
    }
    let run = run?;
    if run.state.is_final() {
        return Some(Reason::RunEnded);
    }
    let current = run.attempts.len() + usize::from(planted(Bug::ReaperIgnoresAttempt));
    if origin.attempt < current {
        return Some(Reason::AttemptOver);
    }
    let holds_another =
        |attempt: &Attempt| attempt.cluster.as_deref().is_some_and(|holder| holder != cluster);
    // With guards the first to claim the attempt works, and that may be this one.
    (!run.cluster.guard && attempt.is_some_and(holds_another)).then_some(Reason::Double)
}

/// What people are told of a cluster that is ended.
pub fn reaped(cluster: &str, name: &str, reason: Reason, now: Timestamp) -> Notice {
    let id = format!("cluster/{cluster}/reaped");
    let headline = format!("cluster {cluster} is terminated");
    let notice =
        Notice::new(Kind::Service, id, now, Severity::Warning, "cluster-reaped", &headline)
            .detailed(reason.words())
            .saying(format!("Cluster {cluster} is terminated: {}", reason.words()));
    let next = "nothing, if it stays the only one: an answer of EMR or a whole sluicegate was \
                lost. If there are more, look at the log of sluicegate for what went wrong";
    about(notice, cluster, name, next)
}

/// What people are told when EMR refuses to end it.
pub fn not_terminated(cluster: &str, name: &str, why: &str, now: Timestamp) -> Notice {
    let id = format!("cluster/{cluster}/not-terminated");
    let headline = format!("EMR refuses to terminate cluster {cluster}");
    let notice =
        Notice::new(Kind::Service, id, now, Severity::Failure, "not-terminated", &headline)
            .detailed(why)
            .saying(format!(
                "Nobody needs cluster {cluster}, and EMR refuses to terminate it: {why}"
            ));
    let next = "terminate it by hand, it costs money: take its termination protection away, or \
                give the role of sluicegate its rights back. The reaper goes on trying";
    about(notice, cluster, name, next)
}

fn about(notice: Notice, cluster: &str, name: &str, next: &str) -> Notice {
    let facts = [Fact::new("cluster", cluster), Fact::new("name", name), Fact::new("next", next)];
    let mut notice = notice.with(facts);
    notice.run = name.split('/').nth(1).map(str::to_owned);
    notice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::catalog::testing::profile;
    use crate::core::run::{Intent, RunState};

    /// A run whose attempts have these clusters.
    fn run(state: RunState, clusters: &[Option<&str>]) -> Run {
        let at: Timestamp = "2013-01-01T06:05:00Z".parse().unwrap();
        let attempt = |(index, cluster): (usize, &Option<&str>)| Attempt {
            number: index as u32 + 1,
            opened: at,
            expires: at + SignedDuration::from_hours(2),
            launch: Intent { send_by: at, send_at: None, throttled: 0, uncertain: false },
            cluster: cluster.map(str::to_owned),
            refused: vec![],
            cluster_state: None,
            end_reason: String::new(),
            class: None,
            given_up: None,
            on_demand: false,
            unseen_at_end: false,
            unterminated: false,
            tries: vec![],
            guards: vec![],
            failed_guards: vec![],
            settled: 0,
            ended_at: None,
            ended: None,
            adding: None,
        };
        let profile = profile("p");
        Run {
            id: "R".into(),
            version: 1,
            profile: "p".into(),
            created: at,
            ended: None,
            state,
            cluster: profile.cluster,
            limits: profile.limits,
            members: vec![],
            attempts: clusters.iter().enumerate().map(attempt).collect(),
            notices: vec![],
            left_out: 0,
            logs: vec![],
            asked: false,
        }
    }

    #[test]
    fn a_name_says_whose_a_cluster_is() {
        for (name, expected) in [
            ("prod/01RUN/1", Some(("01RUN", 1))),
            ("prod/01RUN/12", Some(("01RUN", 12))),
            // Another deployment whose name begins alike.
            ("prod-2/01RUN/1", None),
            ("product/01RUN/1", None),
            ("prod", None),
            ("prod/01RUN", None),
            ("prod/01RUN/first", None),
            ("their own cluster", None),
        ] {
            let found = Origin::of(name, "prod");
            let found = found.as_ref().map(|origin| (origin.run.as_str(), origin.attempt));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn only_what_nobody_needs_is_ended() {
        let open = run(RunState::Running, &[Some("j-1")]);
        let ended = run(RunState::Succeeded, &[Some("j-1")]);
        let second = run(RunState::Running, &[Some("j-1"), Some("j-2")]);
        let launching = run(RunState::Launching, &[None]);
        let mut guarded = open.clone();
        guarded.cluster.guard = true;
        let expires = open.attempts[0].expires;
        let soon = open.created + SignedDuration::from_mins(1);
        let late = expires + GRACE;
        let cases = [
            ("its own", "j-1", 1, Some(&open), soon, None),
            ("not yet recorded", "j-9", 1, Some(&launching), soon, None),
            ("of nobody known", "j-9", 1, None, soon, None),
            ("of an attempt to come", "j-9", 3, Some(&second), soon, None),
            ("a double that may hold the claim", "j-9", 1, Some(&guarded), soon, None),
            ("a double", "j-9", 1, Some(&open), soon, Some(Reason::Double)),
            ("of a past attempt", "j-1", 1, Some(&second), soon, Some(Reason::AttemptOver)),
            ("of a run that has ended", "j-9", 1, Some(&ended), soon, Some(Reason::RunEnded)),
            ("overdue, its own", "j-1", 1, Some(&open), late, Some(Reason::Overdue)),
            ("overdue, of nobody known", "j-9", 1, None, late, Some(Reason::Overdue)),
        ];
        for (what, cluster, attempt, run, now, expected) in cases {
            let origin = Origin { run: "R".into(), attempt };
            assert_eq!(verdict(cluster, &origin, run, Some(expires), now), expected, "{what}");
        }
        let origin = Origin { run: "R".into(), attempt: 1 };
        assert_eq!(verdict("j-9", &origin, None, None, late), None, "without a tag");
    }

    #[test]
    fn people_are_told_which_cluster_is_ended() {
        let now = "2013-01-01T06:30:00Z".parse().unwrap();
        let notice = reaped("j-1", "prod/R/1", Reason::Double, now);
        insta::assert_snapshot!("service-cluster-reaped", notice.message("prod").as_text());
        let why = "ValidationException: Could not shut down one or more job flows since they are \
                   termination protected.";
        let notice = not_terminated("j-1", "prod/R/1", why, now);
        insta::assert_snapshot!("service-not-terminated", notice.message("prod").as_text());
    }
}
