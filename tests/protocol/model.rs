//! How clusters are created and attempts opened, as a model that can be
//! explored in full: one run, one or two replicas that share its stored record,
//! and an EMR that answers late or never, delivers calls whenever it likes and
//! lists what it likes. Time is not counted: whatever may take long may take
//! for ever, unless `bounds_hold`. Names are those of `core::run`; not for
//! anything that happens on one cluster (steps, retries, logs).

use stateright::{Model, Property};

use crate::properties;
use crate::protocol::{Next, Protocol, adopt, claimed};
use crate::world::{
    ATTEMPTS_MAX, Act, Action, Cluster, ClusterState, Holder, Run, Turn, Work, World,
};

#[derive(Debug, Clone)]
pub struct Sluicegate {
    pub protocol: Protocol,
    pub replicas: usize,
    /// How many launches may be sent beside one for each attempt.
    pub repeats: usize,
    /// Calls arrive before their deadline, and lists show all after their lag.
    pub bounds_hold: bool,
}

impl Sluicegate {
    /// Stores what a replica has decided, under the condition that nobody else
    /// has written since its turn read the run, and begins the act. None where
    /// the model's bounds forbid it.
    fn go_on(
        &self,
        world: &mut World,
        replica: usize,
        turn: &Turn,
        run: Run,
        next: Next,
    ) -> Option<()> {
        world.replicas[replica] = None;
        // A new deadline is stored with every launch, though the model has none.
        let launches = matches!(next, Next::Launch);
        if launches || turn.run != run {
            if !turn.fresh {
                // A conflict ends the turn.
                return Some(());
            }
            world.run = run.clone();
            world.replicas.iter_mut().flatten().for_each(|other| other.fresh = false);
        }
        let act = match next {
            Next::Rest => return Some(()),
            Next::LookUp => Act::LookUp { settled: world.settled || !self.bounds_hold },
            Next::Launch => Act::Launch { cluster: self.send(world, run.attempt)? },
            Next::Look => Act::Look,
            Next::Claim => Act::Claim,
            Next::Terminate => Act::Terminate,
        };
        world.replicas[replica] = Some(Turn { run, fresh: turn.fresh, act });
        Some(())
    }

    /// A call leaves; None where there were too many. One that certainly had no
    /// effect does not count, and leaves its place.
    fn send(&self, world: &mut World, attempt: usize) -> Option<usize> {
        let lost = |cluster: &Cluster| cluster.state == ClusterState::Lost;
        let sent = world.clusters.iter().filter(|cluster| !lost(cluster)).count();
        if sent > attempt + self.repeats {
            return None;
        }
        world.settled = false;
        let call = Cluster { attempt, state: ClusterState::Requested };
        let awaited = |cluster: usize| {
            world.replicas.iter().flatten().any(|turn| turn.act == Act::Launch { cluster })
        };
        let free = (0..world.clusters.len())
            .find(|cluster| lost(&world.clusters[*cluster]) && !awaited(*cluster));
        match free {
            Some(free) => world.clusters[free] = call,
            None => world.clusters.push(call),
        }
        Some(free.unwrap_or(world.clusters.len() - 1))
    }

    /// What may happen to the act that a replica waits for.
    fn outcomes(&self, world: &World, replica: usize, turn: &Turn, actions: &mut Vec<Action>) {
        match turn.act {
            Act::LookUp { settled } => {
                let named = world.clusters.iter().enumerate().filter(|(_, cluster)| {
                    cluster.is_created() && cluster.attempt == turn.run.attempt
                });
                let before = actions.len();
                actions.extend(named.map(|(cluster, _)| Action::Found { replica, cluster }));
                let shows_all = self.bounds_hold && settled;
                if !shows_all || actions.len() == before {
                    actions.push(Action::NotFound { replica });
                }
            }
            Act::Launch { cluster } => {
                actions.push(Action::LaunchUnanswered { replica });
                if world.clusters[cluster].state != ClusterState::Lost {
                    actions.push(Action::Launched { replica });
                }
                if world.clusters[cluster].state == ClusterState::Requested {
                    actions.push(Action::LaunchThrottled { replica });
                    actions.push(Action::LaunchRefused { replica });
                }
            }
            Act::Look => {
                actions.push(Action::Seen { replica, steps: true });
                let state = turn.run.cluster.map(|cluster| world.clusters[cluster].state);
                match state {
                    Some(ClusterState::Ended(Work::Begun)) => {
                        actions.push(Action::Seen { replica, steps: false });
                    }
                    Some(ClusterState::Starting | ClusterState::Executing)
                        if turn.run.succeeded.is_none() =>
                    {
                        actions.push(Action::LifetimeOver { replica });
                    }
                    _ => {}
                }
            }
            Act::Claim => {
                actions.push(Action::Claimed { replica });
                actions.push(Action::ClaimUnanswered { replica });
            }
            Act::Terminate => actions.push(Action::Terminated { replica }),
        }
    }

    /// What clusters and calls do by themselves.
    fn events(&self, world: &World, actions: &mut Vec<Action>) {
        for (cluster, found) in world.clusters.iter().enumerate() {
            match found.state {
                ClusterState::Requested => actions.push(Action::CallArrives { cluster }),
                ClusterState::Starting => {
                    actions.push(Action::GuardRuns { cluster });
                    actions.push(Action::ClusterDies { cluster });
                }
                ClusterState::Executing => {
                    actions.push(Action::WorkCompletes { cluster });
                    actions.push(Action::ClusterDies { cluster });
                }
                ClusterState::Completed => actions.push(Action::ClusterDies { cluster }),
                ClusterState::Lost | ClusterState::Ended(_) => {}
            }
        }
        if self.bounds_hold && !world.settled && !world.clusters.is_empty() {
            actions.push(Action::Settles);
        }
    }

    /// A replica takes in what became of its act, and goes on.
    fn observed(&self, world: &mut World, replica: usize, action: Action) -> Option<()> {
        let turn = world.replicas[replica].clone()?;
        let mut run = turn.run.clone();
        let next = match (turn.act, action) {
            (Act::LookUp { .. }, Action::Found { cluster, .. }) => adopt(&mut run, cluster),
            (Act::LookUp { settled }, Action::NotFound { .. }) => {
                self.protocol.not_found(&mut run, settled)
            }
            (Act::Launch { cluster }, Action::Launched { .. }) => {
                world.clusters[cluster].arrive();
                adopt(&mut run, cluster)
            }
            (Act::Launch { cluster }, Action::LaunchThrottled { .. }) => {
                world.clusters[cluster].state = ClusterState::Lost;
                run.sent = false;
                Next::Rest
            }
            (Act::Launch { cluster }, Action::LaunchRefused { .. }) => {
                world.clusters[cluster].state = ClusterState::Lost;
                self.protocol.not_launched(&mut run)
            }
            (Act::Look, Action::Seen { steps, .. }) => {
                let state = world.clusters[run.cluster?].state;
                self.protocol.cluster_seen(&mut run, state, steps)
            }
            (Act::Look, Action::LifetimeOver { .. }) => {
                run.succeeded = Some(false);
                Next::Terminate
            }
            (Act::Claim, Action::Claimed { .. }) => {
                let holder = world.claim(&run);
                claimed(&mut run, holder)
            }
            (Act::Claim, Action::ClaimUnanswered { .. }) => {
                world.claim(&run);
                Next::Rest
            }
            (Act::Terminate, Action::Terminated { .. }) => {
                world.clusters[run.cluster?].end();
                Next::Rest
            }
            _ => Next::Rest,
        };
        self.go_on(world, replica, &turn, run, next)
    }
}

impl Model for Sluicegate {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            run: Run::new(),
            claims: [None; ATTEMPTS_MAX],
            clusters: Vec::new(),
            replicas: vec![None; self.replicas],
            settled: false,
            lease: 0,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (replica, turn) in world.replicas.iter().enumerate() {
            let may_work = self.protocol != Protocol::Lease || world.lease == replica;
            match turn {
                None if may_work && !world.run.over => actions.push(Action::BeginTurn { replica }),
                None => {}
                Some(turn) => {
                    self.outcomes(world, replica, turn, actions);
                    actions.push(Action::Crash { replica });
                }
            }
            if self.protocol == Protocol::Lease && world.lease != replica {
                // The holder may be stopped, and not know that its time is over.
                actions.push(Action::LeasePasses { to: replica });
            }
        }
        self.events(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::BeginTurn { replica } => {
                let mut run = world.run.clone();
                let turn = Turn { run: run.clone(), fresh: true, act: Act::Look };
                let next = self.protocol.begin(&mut run);
                self.go_on(&mut world, replica, &turn, run, next)?;
            }
            Action::CallArrives { cluster } => world.clusters[cluster].arrive(),
            Action::GuardRuns { cluster } => {
                let attempt = world.clusters[cluster].attempt;
                let me = Holder::Cluster(cluster);
                let passes =
                    !self.protocol.has_guard() || *world.claims[attempt].get_or_insert(me) == me;
                world.clusters[cluster].state = match passes {
                    true => ClusterState::Executing,
                    false => ClusterState::Ended(Work::None),
                };
            }
            Action::WorkCompletes { cluster } => {
                world.clusters[cluster].state = ClusterState::Completed;
            }
            Action::ClusterDies { cluster } => world.clusters[cluster].end(),
            Action::Crash { replica } => {
                world.replicas[replica] = None;
            }
            Action::Settles => {
                world.settled = true;
                for cluster in &mut world.clusters {
                    if cluster.state == ClusterState::Requested {
                        cluster.state = ClusterState::Lost;
                    }
                }
            }
            Action::LeasePasses { to } => world.lease = to,
            Action::Found { replica, .. }
            | Action::NotFound { replica }
            | Action::Launched { replica }
            | Action::LaunchUnanswered { replica }
            | Action::LaunchThrottled { replica }
            | Action::LaunchRefused { replica }
            | Action::Seen { replica, .. }
            | Action::LifetimeOver { replica }
            | Action::Claimed { replica }
            | Action::ClaimUnanswered { replica }
            | Action::Terminated { replica } => self.observed(&mut world, replica, action)?,
        }
        if self.protocol != Protocol::Lease {
            // Replicas are alike: the same in another order is the same state.
            world.replicas.sort();
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        if self.protocol == Protocol::GuardAndSettle {
            properties::with_guards()
        } else {
            properties::all()
        }
    }
}
