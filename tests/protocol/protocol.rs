//! The protocols, from the simplest to the one that sluicegate follows: pure
//! decisions about the run as a replica has read it, by the names that they have
//! in `core::run`. Not for storing them or for what happens meanwhile.

use crate::world::{ATTEMPTS_MAX, ClusterState, Holder, Run, Work};

/// Each adds something to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Create a cluster whenever none is on record.
    CreateAgain,
    /// Look for the attempt's cluster by its name first.
    LookUpFirst,
    /// Create again only after the call's deadline and the list's lag.
    SendDeadline,
    /// Only the holder of a lease works on the run.
    Lease,
    /// No lease; a cluster's first step claims the attempt, or ends there.
    Guard,
    /// And the run claims what nobody has claimed before it gives an attempt
    /// up. This is what the code does.
    GuardAndSettle,
}

/// What follows from an observation.
pub enum Next {
    Rest,
    LookUp,
    Launch,
    Look,
    Claim,
    Terminate,
}

impl Protocol {
    pub fn has_guard(self) -> bool {
        self >= Protocol::Guard
    }

    /// The start of a turn.
    pub fn begin(self, run: &mut Run) -> Next {
        if run.over {
            Next::Rest
        } else if run.cluster.is_some() {
            Next::Look
        } else if !run.sent || self == Protocol::CreateAgain {
            arm_launch(run)
        } else {
            Next::LookUp
        }
    }

    /// The list shows no cluster of the attempt's name; `settled` when the
    /// deadline and the lag were over as it was read.
    pub fn not_found(self, run: &mut Run, settled: bool) -> Next {
        let waits = self >= Protocol::SendDeadline && !settled;
        if waits { Next::Rest } else { arm_launch(run) }
    }

    /// EMR refuses for good. An earlier call may yet have its effect.
    pub fn not_launched(self, run: &mut Run) -> Next {
        run.refused = true;
        if run.uncertain && self == Protocol::GuardAndSettle { Next::Claim } else { close(run) }
    }

    /// The cluster as it is; `steps` when what it did was seen too.
    pub fn cluster_seen(self, run: &mut Run, state: ClusterState, steps: bool) -> Next {
        let work = match state {
            ClusterState::Completed => Work::All,
            ClusterState::Ended(work) => work,
            _ => Work::None,
        };
        if work == Work::All {
            run.succeeded.get_or_insert(true);
        }
        if !matches!(state, ClusterState::Ended(_)) {
            return if run.succeeded.is_some() { Next::Terminate } else { Next::Rest };
        }
        run.ended = true;
        let executed = work == Work::All || work == Work::Begun && steps;
        if self == Protocol::GuardAndSettle && !executed { Next::Claim } else { close(run) }
    }
}

/// The intent is stored; the call leaves with it.
fn arm_launch(run: &mut Run) -> Next {
    run.uncertain |= run.sent;
    run.sent = true;
    Next::Launch
}

pub fn adopt(run: &mut Run, cluster: usize) -> Next {
    run.cluster = Some(cluster);
    run.ended = false;
    Next::Rest
}

/// The attempt's claim is held by `holder`.
pub fn claimed(run: &mut Run, holder: Holder) -> Next {
    match holder {
        Holder::Cluster(cluster) if run.cluster != Some(cluster) => adopt(run, cluster),
        _ => close(run),
    }
}

/// The attempt ends, and with it the run if nothing is left to do or to try.
fn close(run: &mut Run) -> Next {
    let last = run.attempt + 1 == ATTEMPTS_MAX;
    if run.cluster.is_some() && run.succeeded.is_none() && !last {
        *run = Run { attempt: run.attempt + 1, ..Run::new() };
    } else {
        run.succeeded.get_or_insert(false);
        run.over = true;
    }
    Next::Rest
}
