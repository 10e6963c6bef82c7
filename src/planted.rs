//! Mistakes that the simulator has to find: each is one line at the place where
//! a protocol goes wrong if it is written carelessly. Only the feature
//! `planted-bugs` makes `planted` answer anything but false; without it the
//! compiler removes every one of them. Not for faults of AWS: those are the
//! simulator's.

/// Declares the mistakes, each with its name and one sentence.
macro_rules! bugs {
    ($($bug:ident, $name:literal, $words:literal;)*) => {
        /// A mistake that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $(#[doc = $words] $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug,)*];

            /// As the command line has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Bug::$bug => $name,)*
                }
            }

            /// What it does wrong.
            pub fn words(self) -> &'static str {
                match self {
                    $(Bug::$bug => $words,)*
                }
            }
        }
    };
}

bugs! {
    CreationRetried, "creation-retried", "The SDK repeats a call that creates something.";
    LaunchWithoutIntent, "launch-before-commit", "A cluster is created before the intent is stored.";
    NoSendBy, "no-send-by", "A call leaves although its deadline has passed.";
    NoListLag, "no-list-lag", "A launch is repeated as soon as a list does not show its cluster.";
    LostAnswerIsRefusal, "lost-answer-is-refusal", "A launch without an answer is taken for refused.";
    LostAnswerIsNoCall, "lost-answer-is-no-call", "A launch without an answer is taken for not made.";
    ThrottledIsRefused, "throttled-is-refused", "A launch that was throttled is taken for refused for good.";
    AdoptionByPrefix, "adoption-by-prefix", "A cluster is adopted whose name only begins alike: that of another attempt.";
    FirstClusterPageOnly, "first-cluster-page", "ListClusters: the marker of the next page is lost.";
    FirstStepPageOnly, "first-step-page", "ListSteps: only the first page is read.";
    MissingIsDead, "missing-is-dead", "A cluster that a list does not show is taken for dead.";
    NotSeenIsDead, "denied-is-dead", "A cluster that could not be described is taken for dead.";
    NextAttemptTooEarly, "next-attempt-too-early", "Another attempt is opened while the cluster still terminates.";
    ClaimNotSettled, "claim-not-settled", "An attempt is given up without taking its claim.";
    HolderIgnored, "holder-ignored", "The attempt is given up although another cluster holds its claim.";
    GuardWithoutAttempt, "guard-without-attempt", "The claim names the run but not the attempt.";
    NoGuardAtLaunch, "no-guard-at-launch", "The steps of a launch come without a guard.";
    NoGuardWithSteps, "no-guard-with-steps", "Steps that are added later come without a guard.";
    FirstGuardContinues, "first-guard-continues", "A cluster goes on although its guard has failed.";
    StepsAfterRefusal, "steps-after-refusal", "Steps are added to a cluster whose guard has failed, and expected on the one that has the claim.";
    HourForUnseenSteps, "hour-for-unseen-steps", "Without a guard, steps that no list shows are waited for as if they had been seen.";
    StepsContinue, "steps-continue", "After a failed step the next one starts.";
    SuccessByCluster, "success-by-cluster", "A cluster that ended without errors makes its partitions succeed.";
    CancelledIsDone, "cancelled-is-done", "A cancelled step is taken for completed.";
    TryNameReused, "try-name-reused", "The retry of a step has the name of the try that failed.";
    RetriesUnbounded, "retries-unbounded", "A failed step is tried again however often it has failed.";
    CancelledByListAlone, "cancelled-by-list-alone", "A cancelled step fails its partition although the cluster may be going down.";
    LooksOnlyByEvents, "looks-only-by-events", "Without an event nothing is looked at.";
    LifetimeIgnored, "lifetime-ignored", "A run lets its cluster live longer than its lifetime.";
    DeadlineNotPassed, "deadline-not-passed", "The bootstrap action that ends a cluster is left out.";
    TerminatedOnce, "terminated-once", "A termination that went wrong is not repeated.";
    TerminatedTooEarly, "terminated-too-early", "The cluster is ended when the first partition of its batch is.";
    ReaperTrustsFailure, "reaper-trusts-failure", "The reaper takes a run that it could not read for ended.";
    ReaperWithoutTag, "reaper-without-tag", "The reaper ends clusters by their name, without the tag.";
    ReaperIgnoresAttempt, "reaper-ignores-attempt", "The reaper takes the open attempt for a past one.";
    RunUnconditional, "run-unconditional", "A run is written whatever its version is.";
    ConflictIsSuccess, "conflict-is-success", "A write that another replica forestalled is taken for made.";
    ChangeUnconditional, "change-unconditional", "A task partition becomes ready whatever has become of it.";
    MembersUnconditional, "members-unconditional", "A run takes partitions that another run has.";
    RunForgotten, "run-forgotten", "An open run is not in the due index.";
    NoticeOutside, "notice-outside", "A change is stored without its notice.";
    ForgottenBeforePublished, "forgotten-before-published", "Notices are removed before SNS has them.";
    FailedPublishIsDone, "failed-publish-is-done", "A notice that SNS did not take is taken for published.";
    DeletedBeforeStored, "deleted-before-stored", "A message is deleted before what it says is stored.";
    FailedRecordIsDone, "failed-record-is-done", "A message is deleted although one of its records was not stored.";
    UnreadableDropped, "unreadable-dropped", "A message that cannot be read is deleted and kept nowhere.";
    HalfMessageDropped, "half-message-dropped", "Of a message that can be read in part nothing is stored.";
    StopDeletes, "stop-deletes", "At SIGTERM messages are deleted that nobody has looked at.";
    DecidedByMessage, "decided-by-message", "Whether a partition is ready is decided by the last message alone.";
    IdentityWithoutVersion, "identity-without-version", "An object that was written again is the same in the journal.";
    JournalOverwritten, "journal-overwritten", "Each receive replaces the journal of its partition.";
    ClosedTooEarly, "closed-too-early", "A period is counted before it has settled.";
    NeverListed, "never-listed", "S3 is not listed for what nobody told of.";
    NotListedAtClose, "not-listed-at-close", "A closed period is counted by its notifications alone.";
    UnlistedIsEmpty, "unlisted-is-empty", "A period that could not be listed is closed all the same.";
    BegunOverwrites, "begun-overwrites", "That a count has begun replaces that it is complete.";
    MarkBeforeSlots, "mark-before-slots", "The calendar's mark is moved before its slots are stored.";
    PastMadeUp, "past-made-up", "A new calendar begins in the past.";
    ReadersNotOwed, "readers-not-owed", "That readers have yet to be told of an output is not stored.";
    NotNamedInWindow, "not-named-in-window", "A notice is folded because there is a window, without being stored in it.";
    SummaryNotAwaited, "summary-not-awaited", "A window of repeats ends although SNS did not take its summary.";
    LatenessNotMarked, "lateness-not-marked", "That people were told of lateness is not stored.";
    TimeOutIsEnd, "time-out-is-end", "A step that is told to end is taken for ended.";
    QuotaIgnored, "quota-ignored", "Calls are made whether the quota has room for them or not.";
    NewerOverwritten, "newer-overwritten", "An item of a newer version is written to.";
    RunFollowsConfig, "run-follows-config", "A run goes on with limits that were changed after it began.";
    BackfillNotKept, "backfill-not-kept", "Partitions are begun for a backfill before it is stored which.";
    BackfillUnchecked, "backfill-unchecked", "A partition is begun for a backfill although that was cancelled meanwhile.";
    LedgerNotChecked, "ledger-not-checked", "A load does not fail when its partition stands in the ledger.";
    LedgerLockedLate, "ledger-locked-late", "A load locks the ledger after a statement that fixes what it sees.";
    TokenPerCall, "token-per-call", "A load whose answer was lost is sent again as another attempt.";
    FirstFailureCounts, "first-failure-counts", "A load fails by what its statement says; the ledger is not asked.";
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        /// A world runs on one thread.
        static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether the bug is there.
    pub fn planted(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }

    /// Plants a bug, or none, for this thread.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }
}

#[cfg(feature = "planted-bugs")]
pub use chosen::{plant, planted};

/// Whether the bug is there: never.
#[cfg(not(feature = "planted-bugs"))]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(all(test, not(feature = "planted-bugs")))]
mod tests {
    use super::*;

    /// The compiler knows it, so no code of a bug is left.
    const NONE: () = assert!(!planted(Bug::CreationRetried));

    #[test]
    fn without_the_feature_there_is_no_bug() {
        let () = NONE;
        assert!(Bug::ALL.len() >= 30);
        for bug in Bug::ALL {
            assert!(!planted(*bug), "{}", bug.name());
        }
    }
}
