//! Ends clusters of this deployment that nobody needs; `core::reaper` says
//! which. Also what `sluicegate reap --once` does, without a service.

use jiff::{SignedDuration, Timestamp};

use super::{Engine, Key};
use crate::aws::error::AwsError;
use crate::aws::store::StoreError;
use crate::core::quota::Call;
use crate::core::reaper::{Origin, Reason, not_terminated, reaped, verdict};
use crate::core::run::CallFailure;
use crate::planted::{Bug, planted};

/// How often a service looks; the clusters' own deadlines are exact.
const INTERVAL: SignedDuration = SignedDuration::from_mins(10);
const FIRST_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// Whose place in the quota's queue it is.
const NAME: &str = "reaper";

/// A cluster that nobody needs.
#[derive(Debug, Clone)]
pub struct Reaped {
    pub cluster: String,
    pub name: String,
    pub reason: Reason,
    /// Why it could not be ended; it is tried again the next time.
    pub failure: Option<String>,
}

/// What a look at all live clusters found.
#[derive(Debug, Clone, Default)]
pub struct ReaperLook {
    pub reaped: Vec<Reaped>,
    /// So many clusters were left alone because nothing certain could be learned of
    /// them.
    pub unknown: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ReapError {
    #[error(transparent)]
    Aws(#[from] AwsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// One replica's look is enough.
    pub(super) async fn turn_reaper(&self) -> Option<Timestamp> {
        if self.memory().holds_lease
            && let Err(error) = self.reap(false).await
        {
            tracing::warn!(%error, "the reaper could not look at all clusters, it will again");
        }
        Some(super::after(self.clock.now(), INTERVAL))
    }

    pub(super) fn wake_reaper(&self) {
        // Whatever just started has more urgent things to do.
        self.agenda.wake(Key::Reaper, super::after(self.clock.now(), FIRST_AFTER));
    }

    /// Looks at every live cluster of the deployment and ends those that nobody
    /// needs; with `dry_run` only says which.
    pub async fn reap(&self, dry_run: bool) -> Result<ReaperLook, ReapError> {
        let deployment = self.catalog().deployment.clone();
        let mut look = ReaperLook::default();
        let mut marker = None;
        loop {
            self.wait_for(Call::ListClusters).await;
            let page = self.emr.list_live_clusters(marker).await?;
            for listed in page.clusters {
                let Some(origin) = Origin::of(&listed.name, &deployment) else { continue };
                let reason = match self.judge(&listed.id, &origin).await {
                    Ok(reason) => reason,
                    Err(error) => {
                        tracing::warn!(cluster = listed.id, run = origin.run, %error, "left alone: nothing certain is known of it");
                        look.unknown += 1;
                        continue;
                    }
                };
                let Some(reason) = reason else { continue };
                let (cluster, name) = (listed.id, listed.name);
                let failure = match dry_run {
                    true => None,
                    false => self.end(&cluster, &name, reason).await.err(),
                };
                look.reaped.push(Reaped { cluster, name, reason, failure });
            }
            marker = page.marker;
            if marker.is_none() {
                return Ok(look);
            }
        }
    }

    /// Why nobody needs the cluster. Names can be given by anybody: without the
    /// deployment's tag it is not ours.
    async fn judge(&self, cluster: &str, origin: &Origin) -> Result<Option<Reason>, ReapError> {
        let run = match self.store.run(&origin.run).await {
            // Of a run that this version cannot read nothing is known, but its
            // cluster's own tag still says until when.
            Err(StoreError::Unreadable { .. }) => None,
            Err(_) if planted(Bug::ReaperTrustsFailure) => None,
            run => run?,
        };
        let now = self.clock.now();
        // Its tag can only make it live longer than its run says.
        let suspect = run.is_none() || verdict(cluster, origin, run.as_ref(), None, now).is_some();
        if !suspect {
            return Ok(None);
        }
        self.wait_for(Call::DescribeCluster).await;
        let seen = self.emr.inspect(cluster).await?;
        let tagged = seen.deployment.as_deref() == Some(self.catalog().deployment.as_str());
        if !seen.alive || !(tagged || planted(Bug::ReaperWithoutTag)) {
            return Ok(None);
        }
        Ok(verdict(cluster, origin, run.as_ref(), seen.expires, now))
    }

    /// Told first, but whether or not anybody can be told.
    async fn end(&self, cluster: &str, name: &str, reason: Reason) -> Result<(), String> {
        let now = self.clock.now();
        let what = format!("cluster {cluster} of {name}: {}", reason.words());
        self.announce_once(&what, &reaped(cluster, name, reason, now)).await;
        self.wait_for(Call::TerminateJobFlows).await;
        match self.emr.terminate(cluster).await {
            Ok(()) => Ok(()),
            Err(CallFailure::Refused(why)) => {
                let notice = not_terminated(cluster, name, &why, self.clock.now());
                self.announce_once(&format!("{what}, refused: {why}"), &notice).await;
                Err(why)
            }
            Err(CallFailure::Deferred(why) | CallFailure::Unknown(why)) => Err(why),
            Err(CallFailure::Postponed(until)) => Err(format!("postponed until {until}")),
        }
    }

    async fn wait_for(&self, call: Call) {
        while let Err(until) = self.permit(call, NAME) {
            self.clock.sleep_until(until).await;
        }
    }
}
