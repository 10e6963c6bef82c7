//! What a run's notices say, and those of its task partitions while they are
//! in it. Decides nothing: it only tells what has been decided.

use jiff::{SignedDuration, Timestamp};

use super::logs::{LogSeen, LogWanted, last_lines};
use super::{Attempt, Member, NO_DETAILS, Outcome, Run, StepTry};
use crate::core::asked::Asked;
use crate::core::catalog::AttemptPolicy;
use crate::core::class::FailureClass;
use crate::core::load::Load;
use crate::core::notice::{Fact, Kind, Notice, Severity};
use crate::core::task::{TaskChange, TaskKey, TaskPartition, TaskState};

/// A mail that names more is not read.
const NAMES_MAX: usize = 10;
const OUTPUTS_MAX: usize = 20;

impl Run {
    /// A notice of the run. `event` is unique within the attempt and starts
    /// with the status: `step-failed/etl/2013-01-01/x/1`.
    fn notice(&self, kind: Kind, at: Timestamp, severity: Severity, event: &str) -> Notice {
        let id = format!("run/{}/{}/{event}", self.id, self.attempts.len());
        let status = event.split('/').next().unwrap_or(event);
        let mut notice = Notice::new(kind, id, at, severity, status, "");
        notice.run = Some(self.id.clone());
        notice.profile = Some(self.profile.clone());
        notice
    }

    /// A notice of the run as a whole: `run of etl 2013-01-01T05 and 3 more …`.
    fn own_notice(&self, at: Timestamp, severity: Severity, event: &str, what: &str) -> Notice {
        let mut notice = self.notice(Kind::Run, at, severity, event);
        let first = self.members.first().map(|member| &member.key);
        notice.name = format!("run of {}", first.map_or("nothing", |key| &key.task));
        let partition = first.map_or_else(String::new, |key| key.partition.to_string());
        let others = match self.members.len() {
            0 | 1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        notice.headline = format!("{partition}{others} {what}").trim_end().to_owned();
        notice
    }

    /// A notice about one step of one member.
    fn step_notice(
        &self,
        key: &TaskKey,
        at: Timestamp,
        severity: Severity,
        event: &str,
        what: &str,
    ) -> Notice {
        let mut notice = self.notice(Kind::Step, at, severity, event);
        notice.task = Some(key.task.clone());
        notice.partition = Some(key.partition.to_string());
        notice.headline = format!("{}{what}", key.partition);
        notice
    }

    fn open_cluster(&self) -> &str {
        let attempt = self.attempts.last();
        attempt.and_then(|attempt| attempt.cluster.as_deref()).unwrap_or("?")
    }

    /// The cluster of the last attempt, and where to look for its logs if no
    /// step's `log` is known.
    fn cluster_facts(&self, log: Option<String>) -> Vec<Fact> {
        let Some(attempt) = self.attempts.last() else { return Vec::new() };
        let number = format!("{} of {}", attempt.number, self.most_attempts());
        let mut facts = vec![Fact::new("attempt", number)];
        facts.extend(attempt.cluster.as_ref().map(|cluster| Fact::new("cluster", cluster)));
        let log = log.or_else(|| self.log_folder(attempt));
        facts.extend(log.map(|folder| Fact::new("log", folder)));
        facts
    }

    /// Where EMR writes all logs of an attempt's cluster.
    pub(super) fn log_folder(&self, attempt: &Attempt) -> Option<String> {
        let uri = self.cluster.log_uri.as_deref()?.trim_end_matches('/');
        Some(format!("{uri}/{}/", attempt.cluster.as_deref()?))
    }

    pub(super) fn tell_created(&mut self, ready_since: Option<Timestamp>, now: Timestamp) {
        let count = match self.members.len() {
            1 => "one task partition".to_owned(),
            more => format!("a batch of {more} task partitions"),
        };
        let notice = self
            .own_notice(now, Severity::Info, "launching", "was created")
            .saying(format!("A run was created for {count}"))
            .with([Fact::new("batch", names(self.members.iter().map(|member| &member.key)))])
            .with(ready_since.map(|since| Fact::since("ready since", since, now)))
            .with([Fact::new("next", "a cluster is requested from EMR")]);
        self.tell(notice);
    }

    pub(super) fn tell_starting(&mut self, now: Timestamp) {
        let cluster = self.open_cluster();
        let expires = self.attempts.last().map(|attempt| attempt.expires);
        let expires = expires.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC, whatever it does"));
        let notice = self
            .own_notice(now, Severity::Info, "starting", "")
            .detailed(&format!("cluster {cluster} is starting"))
            .saying(format!("The run has a cluster: {cluster} is starting"))
            .with(self.cluster_facts(None))
            .with(expires.map(|at| Fact::new("ends by", at.to_string())));
        self.tell(notice);
    }

    /// Two clusters were created for the attempt, as a lost answer may cause.
    pub(super) fn tell_moved(&mut self, now: Timestamp) {
        let cluster = self.open_cluster();
        let attempt = self.attempts.last();
        let refused = attempt.and_then(|attempt| attempt.refused.last());
        let notice = self
            .own_notice(now, Severity::Info, &format!("moved/{cluster}"), "")
            .detailed(&format!("cluster {cluster} executes it"))
            .saying(format!(
                "Cluster {cluster} of the same attempt was faster and executes the run"
            ))
            .with(refused.map(|refused| Fact::new("refused", format!("{refused}, which has ended without running a step"))))
            .with(self.cluster_facts(None))
            .with([Fact::new("next", "nothing: an answer of EMR was lost, and its guard has kept the second cluster from doing the work twice")]);
        self.tell(notice);
    }

    pub(super) fn tell_running(&mut self, now: Timestamp) {
        let cluster = self.open_cluster();
        let requested = self.attempts.last().map(|attempt| attempt.opened);
        let notice = self
            .own_notice(now, Severity::Info, "running", "")
            .detailed(&format!("cluster {cluster} is running"))
            .saying(format!("Cluster {cluster} is running, and its steps begin"))
            .with(self.cluster_facts(None))
            .with(requested.map(|since| Fact::since("starting since", since, now)));
        self.tell(notice);
    }

    pub(super) fn tell_terminating(&mut self, now: Timestamp) {
        let cluster = self.open_cluster();
        let requested = self.attempts.last().map(|attempt| attempt.opened);
        let stalled = self.attempts.last().and_then(|attempt| self.stall_words(attempt));
        let stalled = stalled.filter(|_| self.is_given_up());
        let sentence = match stalled {
            Some(why) => format!("{why}, and is being terminated"),
            None => format!("Nothing is left to do: cluster {cluster} is being terminated"),
        };
        let notice = self
            .own_notice(now, Severity::Info, "terminating", "")
            .detailed(&format!("cluster {cluster} is being terminated"))
            .saying(sentence)
            .with(self.cluster_facts(None))
            .with(requested.map(|since| Fact::since("cluster since", since, now)));
        self.tell(notice);
    }

    pub(super) fn tell_not_seen(&mut self, now: Timestamp) {
        let cluster = self.open_cluster();
        let notice = self
            .own_notice(now, Severity::Failure, "not-seen", "")
            .detailed(&format!("cannot look at cluster {cluster}"))
            .saying(format!("Cluster {cluster} has reached its lifetime and cannot be looked at"))
            .with([
                Fact::new("reason", "EMR's answers fail; sluicegate's own log has them"),
                Fact::new(
                    "next",
                    "the cluster is terminated; what it did is told as soon as EMR answers. \
                     Check EMR and the permissions of sluicegate",
                ),
            ])
            .with(self.cluster_facts(None));
        self.tell(notice);
    }

    pub(super) fn tell_not_terminated(&mut self, reason: &str, now: Timestamp) {
        let cluster = self.open_cluster();
        let notice = self
            .own_notice(now, Severity::Failure, "not-terminated", "")
            .detailed(&format!("cluster {cluster} cannot be terminated"))
            .saying(format!("EMR refuses to terminate cluster {cluster}, which is not needed"))
            .with([
                Fact::new("reason", reason),
                Fact::new(
                    "next",
                    "it costs money until it ends: terminate it by hand, or correct the \
                     permissions of sluicegate, which goes on trying",
                ),
            ])
            .with(self.cluster_facts(None));
        self.tell(notice);
    }

    /// An attempt is lost, and there may be another.
    pub(super) fn tell_attempt_lost(&mut self, class: FailureClass, reason: &str, now: Timestamp) {
        let AttemptPolicy { max, delay } = self.limits.policy(class);
        let next = self.attempts.len() + 1;
        let at = match delay.is_zero() {
            true => String::new(),
            false => format!(" in {delay:#}"),
        };
        let attempt = self.attempts.last();
        let market = match self.is_to_buy_on_demand() {
            true => ", all of it on demand",
            false => "",
        };
        let sentence = match attempt.and_then(|attempt| attempt.cluster.as_deref()) {
            Some(cluster) => format!("The run has lost its cluster {cluster}"),
            None => "EMR has refused the run its cluster".to_owned(),
        };
        let notice = self
            .own_notice(
                now,
                Severity::Warning,
                "attempt-lost",
                "lost its cluster and tries another",
            )
            .of_class(Some(class))
            .saying(sentence)
            .with([
                Fact::new("reason", reason),
                Fact::new(
                    "next",
                    format!(
                        "attempt {next} of {max} gets another cluster{at}{market}; task partitions that have \
                         not ended start again there with their first step"
                    ),
                ),
            ])
            .with(self.cluster_facts(None));
        self.tell(notice);
    }

    /// A person wants some of its members, or all, to end.
    pub(super) fn tell_cancel_asked(&mut self, keys: &[TaskKey], asked: &Asked) {
        let all = self.is_to_be_ended();
        let next = match all {
            true => "its cluster is terminated, and then they are cancelled",
            false => "their steps are cancelled; the others of the run go on",
        };
        // Each word is an event of its own.
        let event = format!("cancel-asked/{}", self.version + 1);
        let notice = self
            .own_notice(asked.at, Severity::Info, &event, "is to be cancelled")
            .saying(format!("{} wants {} task partitions of the run to end", asked.by, keys.len()))
            .with(asked.facts())
            .with([Fact::new("cancel", names(keys.iter())), Fact::new("next", next)]);
        self.tell(notice);
    }

    /// The class of all failures of its members, if they have one in common.
    fn common_class(&self) -> Option<FailureClass> {
        let mut classes = self.members.iter().filter_map(|member| match &member.outcome {
            Some(Outcome::Failed { class, .. }) => Some(*class),
            _ => None,
        });
        let first = classes.next()?;
        first.filter(|_| classes.all(|class| class == first))
    }

    /// The end of the run: one notice for all of its members.
    pub(super) fn tell_end(&mut self, now: Timestamp) {
        let failed: Vec<(&TaskKey, &str)> = self
            .members
            .iter()
            .filter_map(|member| match &member.outcome {
                Some(Outcome::Failed { reason, .. }) => Some((&member.key, reason.as_str())),
                _ => None,
            })
            .collect();
        let all = self.members.len();
        let cancelled =
            |member: &&Member| matches!(member.outcome, Some(Outcome::Cancelled { .. }));
        let cancelled = self.members.iter().filter(cancelled).count();
        let mut notice = match failed.len() {
            0 if cancelled > 0 => self
                .own_notice(now, Severity::Info, "run-cancelled", "was cancelled")
                .detailed(&format!("{cancelled} of {all} cancelled"))
                .saying(format!(
                    "The run has ended: {cancelled} of {all} task partitions were cancelled"
                )),
            0 => self
                .own_notice(now, Severity::Info, "run-succeeded", "succeeded")
                .saying("The run has succeeded: every step of every task partition has completed"),
            count => self
                .own_notice(now, Severity::Warning, "run-failed", "ended with failures")
                .of_class(self.common_class())
                .detailed(&format!("{count} of {all} failed"))
                .saying(format!("The run has ended: {count} of {all} task partitions failed"))
                .with(
                    failed
                        .iter()
                        .take(NAMES_MAX)
                        .map(|(key, reason)| Fact::new("failed", format!("{key}: {reason}"))),
                )
                .with([Fact::new(
                    "next",
                    format!(
                        "each failure has a mail of its own; everything about the run: \
                         sluicegate run show {}",
                        self.id
                    ),
                )]),
        };
        let succeeded =
            self.members.iter().filter(|member| member.outcome == Some(Outcome::Succeeded));
        notice = notice
            .with(succeeded.flat_map(|member| outputs(member, "")).take(OUTPUTS_MAX))
            .with([Fact::since("running since", self.created, now)])
            .with(self.cluster_facts(None));
        self.tell(notice);
    }

    /// Stands for notices that there was no room for.
    pub(super) fn left_out_notice(&self, event: &str, since: Timestamp) -> Notice {
        let count = match self.left_out {
            1 => "one notice".to_owned(),
            more => format!("{more} notices"),
        };
        let verb = if self.left_out == 1 { "was" } else { "were" };
        self.own_notice(since, Severity::Warning, event, "")
            .detailed(&format!("{count} left out"))
            .saying(format!(
                "{count} of this run {verb} left out: SNS has not taken them, and the run has no \
                 room for more"
            ))
            .with([
                Fact::new(
                    "left out",
                    "retries of steps first, then news; never a failure or an end",
                ),
                Fact::new(
                    "next",
                    format!("everything about the run: sluicegate run show {}", self.id),
                ),
            ])
    }

    /// A failed step that will be tried again. `retry` says which and of how
    /// many.
    pub(super) fn tell_retry(
        &mut self,
        step_try: &StepTry,
        retry: (u32, u32),
        delay: SignedDuration,
        now: Timestamp,
    ) {
        let Some(member) = self.members.get(step_try.member) else { return };
        let Some(step) = member.steps.get(step_try.step) else { return };
        if member.round.backfill.is_some() {
            return;
        }
        let (number, of) = retry;
        let why = step_try.failure.as_deref().unwrap_or(NO_DETAILS);
        let what = format!(" retries step {}", step.name);
        let event = format!("step-failed/{}", step_try.name);
        let notice = self
            .step_notice(&member.key, now, Severity::Warning, &event, &what)
            .named(member.key.task.as_str())
            .of_class(step_try.class())
            .detailed(why)
            .saying(format!("Step {} of {} has failed and is tried again", step.name, member.key))
            .with([
                Fact::new("step", step.name.as_str()),
                Fact::new("reason", why),
                Fact::new(
                    "next",
                    format!("retry {number} of {of} in {delay:#}, on the same cluster"),
                ),
            ])
            .with(self.cluster_facts(self.step_log_folder(step_try)));
        self.tell(notice);
    }

    /// The end of a failed step's log, which has come after the failure.
    pub(super) fn tell_log(&mut self, log: &LogWanted, seen: &LogSeen, now: Timestamp) {
        let LogWanted { key, step, .. } = log;
        let event = format!("step-log/{}", log.try_name);
        let place = |file: &str| Fact::new("log", format!("{}{file}", log.folder));
        let notice = self
            .step_notice(key, now, Severity::Failure, &event, &format!(", step {step}"))
            .named(format!("log of {}", key.task))
            .with([Fact::new("step", step.as_str())]);
        let member = self.members.iter().find(|member| member.key == *key);
        let mut notice = match seen {
            LogSeen::Nothing => return,
            LogSeen::Tail { file, text } => notice
                .saying(format!("The end of the log of step {step} of {key}, which has failed"))
                .with([place(file)])
                .quoting(&last_lines(text)),
            LogSeen::TooLarge { file } => notice
                .saying(format!(
                    "The log of step {step} of {key}, which has failed, has come to S3"
                ))
                .with([
                    place(file),
                    Fact::new("next", "it is too large to be quoted: read it in S3"),
                ]),
        };
        notice.answer = member.is_some_and(|member| member.round.number > 0);
        self.tell(notice);
    }

    /// What becomes of a member's task partition when the run is made.
    pub(super) fn begins(
        &self,
        member: &Member,
        item: &TaskPartition,
        now: Timestamp,
    ) -> TaskChange {
        let change = |to, facts| {
            let change = TaskChange::new(&member.key, TaskState::Ready, to, now, facts);
            let change = change.of_round(&item.round);
            change.in_run(&self.id).on(&self.profile).since(item.ready_at)
        };
        match &member.outcome {
            Some(Outcome::Failed { reason, class }) => change(TaskState::Failed, vec![])
                .because(reason)
                .of_class(*class)
                .then(&failure_advice("nothing was run; correct the task's steps", &member.key)),
            _ => {
                let batch = names(self.members.iter().map(|member| &member.key));
                change(TaskState::Running, vec![Fact::new("batch", batch)])
                    .then("a cluster is requested for the batch")
            }
        }
    }

    /// A member's success, with where its outputs are.
    pub(super) fn succeeded(&self, member: &Member, now: Timestamp) -> TaskChange {
        let facts = outputs(member, "").chain(self.cluster_facts(None)).collect();
        match member.loads {
            false => self.ended(member, TaskState::Succeeded, facts, now),
            true => self
                .ended(member, TaskState::Loading, facts, now)
                .loading(Load { outputs: member.outputs.clone(), ..Load::new(&self.id, now) })
                .then("its output goes into the warehouse; no cluster waits for that"),
        }
    }

    /// A member's failure, of a class and for a reason. `advice` says what a person
    /// can do about it, `log` where the failed step's log is.
    pub(super) fn failed(
        &self,
        member: &Member,
        (class, reason): (FailureClass, &str),
        advice: &str,
        log: Option<String>,
        now: Timestamp,
    ) -> TaskChange {
        let had_cluster = self.attempts.iter().any(|attempt| attempt.cluster.is_some());
        let partial = outputs(member, ", may be incomplete").filter(|_| had_cluster);
        let facts = partial.chain(self.cluster_facts(log)).collect();
        let next = failure_advice(advice, &member.key);
        let change = self.ended(member, TaskState::Failed, facts, now).because(reason);
        change.of_class(Some(class)).then(&next)
    }

    /// A member's end at a person's word.
    pub(super) fn cancelled(&self, member: &Member, reason: &str, now: Timestamp) -> TaskChange {
        let TaskKey { task, partition } = &member.key;
        let next = format!(
            "tasks that read its outputs go on waiting; to run it again: sluicegate retry {task} \
             {partition}"
        );
        let had_cluster = self.attempts.iter().any(|attempt| attempt.cluster.is_some());
        let partial = outputs(member, ", may be incomplete").filter(|_| had_cluster);
        let facts = partial.chain(self.cluster_facts(None)).collect();
        self.ended(member, TaskState::Cancelled, facts, now).because(reason).then(&next)
    }

    /// The end of a member again, for a task partition that it is owed to.
    pub(super) fn end_again(&self, member: &Member, now: Timestamp) -> Option<TaskChange> {
        Some(match member.outcome.as_ref()? {
            Outcome::Succeeded => self.succeeded(member, now),
            Outcome::Cancelled { reason } => self.cancelled(member, reason, now),
            Outcome::Failed { reason, class } => {
                let class = class.unwrap_or(FailureClass::Internal);
                self.failed(member, (class, reason), "the run says more", None, now)
            }
        })
    }

    fn ended(
        &self,
        member: &Member,
        to: TaskState,
        facts: Vec<Fact>,
        now: Timestamp,
    ) -> TaskChange {
        TaskChange::new(&member.key, TaskState::Running, to, now, facts)
            .of_round(&member.round)
            .in_run(&self.id)
            .on(&self.profile)
            .since(Some(self.created))
    }
}

fn failure_advice(advice: &str, key: &TaskKey) -> String {
    let TaskKey { task, partition } = key;
    format!(
        "{advice}; tasks that read its outputs go on waiting. \
         All that is known: sluicegate why {task} {partition}"
    )
}

fn names<'a>(keys: impl ExactSizeIterator<Item = &'a TaskKey>) -> String {
    let more = keys.len().saturating_sub(NAMES_MAX);
    let mut names: Vec<_> = keys.take(NAMES_MAX).map(TaskKey::to_string).collect();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

fn outputs<'a>(member: &'a Member, remark: &'a str) -> impl Iterator<Item = Fact> + 'a {
    let outputs = member.outputs.iter();
    outputs.map(move |(name, uri)| Fact::new("output", format!("{uri} ({name}{remark})")))
}
