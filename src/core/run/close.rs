//! The end of an attempt, and with it of the run: why the cluster was lost, and
//! whether the policy for that class of failure gives the run another one. Not for
//! when an attempt may end: see `decide` and `claim`.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::{
    Act, Attempt, ClusterState, Decision, Member, Outcome, Run, RunState, StepState, number,
};
use crate::core::class::FailureClass;
use crate::core::cluster::ClusterSpec;
use crate::core::task::{TaskChange, TaskKey, TaskPartition};

/// EMR's clock and ours differ by less.
const CLOCKS_DIFFER_MAX: SignedDuration = SignedDuration::from_mins(1);

impl Attempt {
    /// Whether its cluster lived to the end of its lifetime. One that ended long before
    /// may be seen only then: EMR knows when that was.
    fn has_outlived(&self) -> bool {
        match self.ended {
            Some(ended) => self.expires.duration_since(ended) <= CLOCKS_DIFFER_MAX,
            None => self.unseen_at_end || self.ended_at.is_some_and(|at| at >= self.expires),
        }
    }

    /// Why its cluster ended before its work.
    fn class_of_end(&self, spot: bool) -> FailureClass {
        if let Some(class) = self.given_up {
            return class;
        }
        let class = FailureClass::of_cluster(&self.end_reason, spot);
        if self.has_outlived() {
            FailureClass::TimeOut
        } else if class == FailureClass::UserCode && self.guards.first() == Some(&StepState::Failed)
        {
            // The step that failed was ours: it could not make its claim.
            FailureClass::Internal
        } else {
            class
        }
    }
}

/// What a person can do about a cluster that was lost.
fn advice(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Bootstrap => {
            "correct the bootstrap action, or put sluicegate's own there with sluicegate deploy-assets; \
             the cluster's logs may tell"
        }
        FailureClass::Capacity => {
            "add instance types or subnets to the profile, or ask AWS for a larger quota"
        }
        FailureClass::SpotLoss => "buy more of the profile's capacity on demand",
        FailureClass::Validation => "correct the profile",
        FailureClass::UserCode | FailureClass::TimeOut | FailureClass::Internal => {
            "find out what ended the cluster; its logs may tell"
        }
        FailureClass::External => "find out who ended the cluster",
    }
}

impl Run {
    /// How an attempt's cluster ended, in words.
    fn end_words(&self, attempt: &Attempt) -> String {
        if let Some(words) = self.stall_words(attempt) {
            return words;
        }
        let cluster = attempt.cluster.as_deref().unwrap_or("?");
        let state = attempt.cluster_state.map_or("ended", ClusterState::name);
        let why = match attempt.end_reason.as_str() {
            "" => state.to_owned(),
            reason => format!("{state}: {reason}"),
        };
        format!("cluster {cluster} ended before its work ({why})")
    }

    /// Why an attempt's cluster was given up, if it was.
    pub fn stall_words(&self, attempt: &Attempt) -> Option<String> {
        let did = match attempt.given_up? {
            FailureClass::Capacity => "was starting",
            FailureClass::Bootstrap => "was bootstrapping",
            _ => "ran no step that was pending",
        };
        let cluster = attempt.cluster.as_deref().unwrap_or("?");
        let timeout = self.limits.stall_timeout.unwrap_or_default();
        Some(format!("cluster {cluster} {did} for longer than stall-timeout ({timeout:#})"))
    }

    /// How many attempts there may be, as far as the failures up to now say.
    pub fn most_attempts(&self) -> u32 {
        let lost = self.attempts.iter().rev().find_map(|attempt| attempt.class);
        let most = lost.map_or(self.limits.max_attempts, |class| self.limits.policy(class).max);
        most.max(number(self.attempts.len()))
    }

    /// Whether the next attempt is the last one after spot instances were lost, or
    /// could not be had.
    pub(super) fn is_to_buy_on_demand(&self) -> bool {
        let lost = self.attempts.last().and_then(|attempt| attempt.class);
        let Some(class @ (FailureClass::SpotLoss | FailureClass::Capacity)) = lost else {
            return false;
        };
        let is_last = number(self.attempts.len() + 1) >= self.limits.policy(class).max;
        self.limits.on_demand_last && is_last && self.cluster.buys_spot()
    }

    /// What the open attempt asks for.
    pub fn cluster_asked(&self) -> Cow<'_, ClusterSpec> {
        match self.attempt().is_some_and(|attempt| attempt.on_demand) {
            true => Cow::Owned(self.cluster.on_demand()),
            false => Cow::Borrowed(&self.cluster),
        }
    }

    /// Whether the open attempt has yet to wait, as its policy has it, before it asks
    /// for its cluster.
    pub fn is_delayed(&self) -> bool {
        let [.., lost, open] = self.attempts.as_slice() else { return false };
        let delay = lost.class.map(|class| self.limits.policy(class).delay);
        let until = delay.and_then(|delay| open.opened.saturating_add(delay).ok());
        until.is_some() && open.launch.send_at == until
    }

    /// Why a task partition failed in it.
    pub fn class_of(&self, item: &TaskPartition) -> Option<FailureClass> {
        let of = |member: &&Member| member.key == item.key && member.round == item.round;
        match &self.members.iter().find(of)?.outcome {
            Some(Outcome::Failed { class, .. }) => *class,
            _ => None,
        }
    }

    /// The cluster has ended: the run too, or it goes on with another.
    pub(super) fn close_attempt(&mut self, now: Timestamp) -> Vec<TaskChange> {
        self.limit_logs(now);
        let mut changes = self.end_cancelled(now);
        if let Some(attempt) = self.attempts.last().filter(|_| !self.is_done()) {
            let (class, lost) =
                (attempt.class_of_end(self.cluster_asked().buys_spot()), self.end_words(attempt));
            if self.tries_again(class, &lost, now) {
                return changes;
            }
            changes.extend(self.fail_open(class, &lost, advice(class), now));
        }
        self.finish(now);
        changes
    }

    /// EMR refuses the cluster. Ends the run, unless its policy has it ask again.
    pub(super) fn refused(&mut self, reason: &str, now: Timestamp) -> Decision {
        let class = FailureClass::of_refusal(reason);
        let reason = format!("the cluster cannot be created: {reason}");
        let mut changes = self.end_cancelled(now);
        if !self.is_done() && self.tries_again(class, &reason, now) {
            return Decision { act: Act::Rest(Some(now)), changes };
        }
        let advice = match class {
            FailureClass::Capacity => advice(class).to_owned(),
            _ => format!("correct profile {} or the permissions of sluicegate", self.profile),
        };
        changes.extend(self.fail_open(class, &reason, &advice, now));
        self.finish(now);
        Decision { act: Act::Rest(None), changes }
    }

    /// The attempt is lost to a failure of this class: opens the next one if there may
    /// be one more.
    fn tries_again(&mut self, class: FailureClass, reason: &str, now: Timestamp) -> bool {
        let policy = self.limits.policy(class);
        let Some(attempt) = self.attempts.last_mut() else { return false };
        attempt.class = Some(class);
        // Where nothing forestalls it, an earlier call may yet have its effect.
        let uncertain =
            attempt.cluster.is_none() && attempt.launch.uncertain && !self.cluster.guard;
        if uncertain || number(self.attempts.len()) >= policy.max {
            return false;
        }
        self.tell_attempt_lost(class, reason, now);
        self.open_attempt(policy.delay, now);
        true
    }

    /// Fails every member that has not ended, but for those that are to be
    /// cancelled; `advice` says what a person can do about it.
    pub(super) fn fail_open(
        &mut self,
        class: FailureClass,
        reason: &str,
        advice: &str,
        now: Timestamp,
    ) -> Vec<TaskChange> {
        let fails = |member: &Member| member.outcome.is_none() && member.cancel.is_none();
        let open = self.members.iter().filter(|member| fails(member));
        let failed = |member| self.failed(member, (class, reason), advice, None, now);
        let changes = open.map(failed).collect();
        for member in self.members.iter_mut().filter(|member| fails(member)) {
            let reason = reason.to_owned();
            member.outcome = Some(Outcome::Failed { reason, class: Some(class) });
        }
        changes
    }

    /// The end of a member could not be stored with its task partition.
    pub fn owes(&mut self, key: &TaskKey) {
        self.members
            .iter_mut()
            .filter(|member| member.key == *key)
            .for_each(|member| member.owed = true);
    }

    /// Whose ends are owed.
    pub fn owed(&self) -> Vec<TaskKey> {
        let owed = self.members.iter().filter(|member| member.owed);
        owed.map(|member| member.key.clone()).collect()
    }

    /// The end that is owed to a task partition, and from then on is not; to be
    /// committed with the run.
    pub fn paid(&mut self, key: &TaskKey, now: Timestamp) -> Option<TaskChange> {
        let at = self.members.iter().position(|member| member.owed && member.key == *key)?;
        self.members[at].owed = false;
        self.end_again(&self.members[at], now)
    }

    pub(super) fn finish(&mut self, now: Timestamp) {
        self.ended = Some(now);
        let failed = |member: &Member| matches!(member.outcome, Some(Outcome::Failed { .. }));
        let cancelled = |member: &Member| matches!(member.outcome, Some(Outcome::Cancelled { .. }));
        self.state = match self.members.iter().any(failed) {
            true => RunState::Failed,
            false if self.members.iter().any(cancelled) => RunState::Cancelled,
            false => RunState::Succeeded,
        };
        self.tell_end(now);
    }
}
