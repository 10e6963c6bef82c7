//! What there is in the model: the stored run, claims, clusters, replicas with
//! their turns, and what may happen to them. Not for what follows from it.

/// Of one run.
pub const ATTEMPTS_MAX: usize = 2;

/// Who holds the claim of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    Nobody,
    Cluster(usize),
}

/// The stored run, as far as the protocol needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The open attempt, from 0.
    pub attempt: usize,
    /// The launch may have been sent (`Intent::send_at` is none).
    pub sent: bool,
    /// It was sent before, and nobody knows what became of that.
    pub uncertain: bool,
    /// EMR refused the launch for good.
    pub refused: bool,
    pub cluster: Option<usize>,
    /// The cluster was seen terminal.
    pub ended: bool,
    /// How its work ended; then the cluster is terminated.
    pub succeeded: Option<bool>,
    /// Final: nothing follows any more.
    pub over: bool,
}

impl Run {
    pub fn new() -> Self {
        Self {
            attempt: 0,
            sent: false,
            uncertain: false,
            refused: false,
            cluster: None,
            ended: false,
            succeeded: None,
            over: false,
        }
    }
}

/// What became of one RunJobFlow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterState {
    /// The call is on its way, perhaps for ever.
    Requested,
    /// The call had no effect and never will.
    Lost,
    /// Created; no step runs yet.
    Starting,
    /// User steps run.
    Executing,
    /// They are done, the cluster is still there.
    Completed,
    Ended(Work),
}

/// What a cluster had done when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    None,
    Begun,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub attempt: usize,
    pub state: ClusterState,
}

impl Cluster {
    pub fn is_created(self) -> bool {
        !matches!(self.state, ClusterState::Requested | ClusterState::Lost)
    }

    pub fn has_executed(self) -> bool {
        matches!(
            self.state,
            ClusterState::Executing
                | ClusterState::Completed
                | ClusterState::Ended(Work::Begun | Work::All)
        )
    }

    /// The call takes effect, if it has not yet.
    pub fn arrive(&mut self) {
        if self.state == ClusterState::Requested {
            self.state = ClusterState::Starting;
        }
    }

    /// It is gone, whatever it was doing.
    pub fn end(&mut self) {
        self.state = match self.state {
            ClusterState::Starting => ClusterState::Ended(Work::None),
            ClusterState::Executing => ClusterState::Ended(Work::Begun),
            ClusterState::Completed => ClusterState::Ended(Work::All),
            other => other,
        };
    }
}

/// A replica's turn: what it has read, and the act whose outcome it waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    pub run: Run,
    /// Nobody has changed the stored run since: its version is the same.
    pub fresh: bool,
    pub act: Act,
}

impl Turn {
    /// It gives an attempt up that another cluster than its own has claimed.
    pub fn finds_another(&self, world: &World) -> bool {
        let holder = world.claims[self.run.attempt];
        self.act == Act::Claim
            && self.fresh
            && matches!(holder, Some(Holder::Cluster(cluster)) if self.run.cluster != Some(cluster))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// ListClusters; `settled` when the deadline and the lag were over as it
    /// began.
    LookUp {
        settled: bool,
    },
    Launch {
        cluster: usize,
    },
    /// DescribeCluster and ListSteps.
    Look,
    Claim,
    Terminate,
}

/// Everything that a crash leaves as it is, and the replicas.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub run: Run,
    pub claims: [Option<Holder>; ATTEMPTS_MAX],
    /// One for each RunJobFlow sent.
    pub clusters: Vec<Cluster>,
    /// None between two turns.
    pub replicas: Vec<Option<Turn>>,
    /// The last launch's deadline and the list's lag are over.
    pub settled: bool,
    /// The replica that holds the lease.
    pub lease: usize,
}

impl World {
    /// The run claims its attempt for the cluster that has ended, or for nobody.
    pub fn claim(&mut self, run: &Run) -> Holder {
        let holder = run.cluster.map_or(Holder::Nobody, Holder::Cluster);
        *self.claims[run.attempt].get_or_insert(holder)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    BeginTurn {
        replica: usize,
    },
    Found {
        replica: usize,
        cluster: usize,
    },
    NotFound {
        replica: usize,
    },
    Launched {
        replica: usize,
    },
    LaunchUnanswered {
        replica: usize,
    },
    LaunchThrottled {
        replica: usize,
    },
    LaunchRefused {
        replica: usize,
    },
    /// A call whose answer nobody has yet, or will ever have, takes effect.
    CallArrives {
        cluster: usize,
    },
    /// The cluster's state; of one that has ended, perhaps not yet its steps.
    Seen {
        replica: usize,
        steps: bool,
    },
    LifetimeOver {
        replica: usize,
    },
    Claimed {
        replica: usize,
    },
    ClaimUnanswered {
        replica: usize,
    },
    Terminated {
        replica: usize,
    },
    GuardRuns {
        cluster: usize,
    },
    WorkCompletes {
        cluster: usize,
    },
    ClusterDies {
        cluster: usize,
    },
    Crash {
        replica: usize,
    },
    /// Time passes: the send deadline of the last launch, and the lag.
    Settles,
    LeasePasses {
        to: usize,
    },
}
