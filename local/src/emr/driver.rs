//! The shell around the state machine: lets time pass, runs what it asks to
//! run, reports how that ended, sends its events. Not for any decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::command::{self, CommandError, Invocation};
use super::folder::{ClusterFolder, JobFolder};
use super::model::{Cluster, Effect, Exit, Job};
use super::process::{self, Group, Host, Stop};
use super::{Emr, events, logs, spark, view};
use crate::events::Events;
use crate::s3::S3;

/// How often time is let pass while a cluster lives.
const TICK: Duration = Duration::from_millis(25);
const TICK_AT_REST: Duration = Duration::from_secs(60);

/// What the driver needs besides the state machine.
pub struct Surroundings {
    pub host: Host,
    pub s3: Arc<S3>,
    pub events: Arc<Events>,
    /// Real time between the end of a job and its logs in the log URI.
    pub log_delay: Duration,
}

/// How a job ended, and what it left running.
struct Ended {
    cluster: String,
    job: Job,
    exit: Exit,
    group: Option<Group>,
}

/// Drives the local EMR until `shutdown`; then everything it runs is killed.
pub async fn run(emr: Arc<Emr>, surroundings: Arc<Surroundings>, shutdown: CancellationToken) {
    let mut driver = Driver {
        emr,
        surroundings,
        shutdown: shutdown.clone(),
        jobs: JoinSet::new(),
        stops: BTreeMap::new(),
        left: BTreeMap::new(),
        uploads: JoinSet::new(),
    };
    while !shutdown.is_cancelled() {
        let effects = driver.emr.with(|machine, now| {
            machine.tick(now);
            machine.take_effects()
        });
        for effect in effects {
            driver.carry_out(effect);
        }
        driver.follow_shutdown_orders();
        driver.wait().await;
    }
    driver.end().await;
}

struct Driver {
    emr: Arc<Emr>,
    surroundings: Arc<Surroundings>,
    shutdown: CancellationToken,
    jobs: JoinSet<Ended>,
    stops: BTreeMap<(String, Job), watch::Sender<Option<Stop>>>,
    /// Processes that outlived their jobs, by cluster.
    left: BTreeMap<String, Vec<Group>>,
    uploads: JoinSet<()>,
}

impl Driver {
    /// Until something may have changed.
    async fn wait(&mut self) {
        let at_rest = self.emr.with(|machine, _| machine.is_at_rest());
        let patience = if at_rest { TICK_AT_REST } else { TICK };
        let ended = async {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => None,
                Some(ended) = self.jobs.join_next() => Some(ended),
                Some(_) = self.uploads.join_next() => None,
                () = self.emr.changed() => None,
            }
        };
        match tokio::time::timeout(patience, ended).await {
            Ok(Some(Ok(ended))) => self.report(ended),
            Ok(Some(Err(error))) => tracing::error!(%error, "a job's task failed"),
            Ok(None) | Err(_) => {}
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Run { cluster, job } => self.start(&cluster, job),
            Effect::Kill { cluster, job, force } => {
                let stop = if force { Stop::Force } else { Stop::Interrupt };
                if let Some(stops) = self.stops.get(&(cluster, job)) {
                    // A softer order never replaces a harder one.
                    stops.send_if_modified(|now| {
                        let harder = *now != Some(Stop::Force);
                        if harder {
                            *now = Some(stop);
                        }
                        harder
                    });
                }
            }
            Effect::Announce { detail_type, detail } => {
                let bus = &self.surroundings.events;
                bus.put_event(events::SOURCE, detail_type, &[], detail);
            }
            Effect::Release { cluster } => {
                // Dropping the groups ends what is in them.
                self.left.remove(&cluster);
                process::kill_escaped(&self.surroundings.host.folder(&cluster));
            }
        }
    }

    fn start(&mut self, id: &str, job: Job) {
        let Some(cluster) = self.emr.with(|machine, _| machine.cluster(id).cloned()) else {
            return;
        };
        let (stop, stopped) = watch::channel(None);
        self.stops.insert((id.to_owned(), job.clone()), stop);
        let surroundings = Arc::clone(&self.surroundings);
        self.jobs.spawn(async move {
            let (exit, group) = run_job(&surroundings, &cluster, &job, stopped).await;
            Ended { cluster: cluster.id, job, exit, group }
        });
    }

    fn report(&mut self, ended: Ended) {
        let Ended { cluster, job, exit, group } = ended;
        self.stops.remove(&(cluster.clone(), job.clone()));
        self.left.entry(cluster.clone()).or_default().extend(group);
        self.upload_logs(&cluster, &job);
        let reported =
            self.emr.with(|machine, now| machine.process_exited(&cluster, &job, exit, now));
        if let Err(error) = reported {
            tracing::error!(%error, cluster, "a job ended that the state machine did not run");
        }
    }

    fn upload_logs(&mut self, id: &str, job: &Job) {
        let place = self.emr.with(|machine, _| machine.cluster(id).and_then(|c| log_place(c, job)));
        let Some((bucket, prefix)) = place else {
            return;
        };
        let folder = self.surroundings.host.folder(id).job(job);
        let surroundings = Arc::clone(&self.surroundings);
        let shutdown = self.shutdown.clone();
        self.uploads.spawn(async move {
            let delay = surroundings.log_delay;
            // At the end logs go out at once, rather than not at all.
            let _ = tokio::time::timeout(delay, shutdown.cancelled()).await;
            let upload = move || logs::upload(&folder, &surroundings.s3, &bucket, &prefix);
            match tokio::task::spawn_blocking(upload).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "logs not uploaded"),
                Err(error) => tracing::error!(%error, "the upload of logs failed"),
            }
        });
    }

    /// Does what scripts on the clusters told their machines.
    fn follow_shutdown_orders(&mut self) {
        for id in self.live_clusters() {
            if let Some(groups) = self.left.get_mut(&id) {
                groups.retain(Group::is_alive);
            }
            let Some(order) = self.surroundings.host.folder(&id).take_shutdown_order() else {
                continue;
            };
            let followed = self
                .emr
                .with(|machine, now| machine.schedule_shutdown(&id, order.due(now.dev), now));
            if let Err(error) = followed {
                tracing::warn!(%error, cluster = id, "order to shut down not followed");
            }
        }
    }

    fn live_clusters(&self) -> Vec<String> {
        self.emr.with(|machine, _| {
            let live = machine.clusters().filter(|cluster| !cluster.state.has_ended());
            live.map(|cluster| cluster.id.clone()).collect()
        })
    }

    /// Clusters end with the program, and their processes with them.
    async fn end(mut self) {
        for stop in self.stops.values() {
            stop.send_replace(Some(Stop::Force));
        }
        while let Some(ended) = self.jobs.join_next().await {
            match ended {
                Ok(ended) => self.report(ended),
                Err(error) => tracing::error!(%error, "a job's task failed"),
            }
        }
        for id in self.live_clusters() {
            process::kill_escaped(&self.surroundings.host.folder(&id));
        }
        while self.uploads.join_next().await.is_some() {}
    }
}

async fn run_job(
    surroundings: &Surroundings,
    cluster: &Cluster,
    job: &Job,
    stopped: watch::Receiver<Option<Stop>>,
) -> (Exit, Option<Group>) {
    let host = &surroundings.host;
    let folder = host.folder(&cluster.id);
    let job_folder = folder.job(job);
    let invocation = match prepare(host, cluster, &folder, job, &job_folder) {
        Ok(invocation) => invocation,
        Err(error) => return (process::not_started("this job", &error, &job_folder), None),
    };
    let s3 = Arc::clone(&surroundings.s3);
    let before = tokio::task::spawn_blocking(move || s3.snapshot()).await;
    let ended = process::run(&invocation, host, &folder, &job_folder, stopped).await;
    // A step is complete only after its output has been notified, as on S3.
    match before {
        Ok(Ok(before)) => {
            let s3 = Arc::clone(&surroundings.s3);
            let announce = move || s3.announce_changes(&before);
            match tokio::task::spawn_blocking(announce).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%error, "output of a job not announced"),
                Err(error) => tracing::error!(%error, "the announcement of output failed"),
            }
        }
        Ok(Err(error)) => tracing::error!(%error, "buckets not read before a job"),
        Err(error) => tracing::error!(%error, "the look at the buckets failed"),
    }
    ended
}

#[derive(Debug, thiserror::Error)]
enum PrepareError {
    #[error("the job's folder cannot be made")]
    Folder(#[from] std::io::Error),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("the cluster has no such job")]
    NoSuchJob,
}

fn prepare(
    host: &Host,
    cluster: &Cluster,
    folder: &ClusterFolder,
    job: &Job,
    job_folder: &JobFolder,
) -> Result<Invocation, PrepareError> {
    folder.prepare(&cluster.id, &host.clock)?;
    job_folder.prepare()?;
    spark::write_settings(folder, job_folder, &host.buckets, &cluster.request.configurations)?;
    match job {
        Job::Step(id) => {
            let step = cluster.step(id).ok_or(PrepareError::NoSuchJob)?;
            Ok(command::of_step(&step.jar, &host.buckets, job_folder)?)
        }
        Job::BootstrapAction(index) => {
            let actions = &cluster.request.bootstrap_actions;
            let action = actions.get(*index).ok_or(PrepareError::NoSuchJob)?;
            let script = &action.script_bootstrap_action;
            Ok(command::of_bootstrap_action(script, &host.buckets, job_folder)?)
        }
    }
}

/// The bucket and the start of the keys of a job's logs, as EMR lays them out.
fn log_place(cluster: &Cluster, job: &Job) -> Option<(String, String)> {
    let uri = cluster.request.log_uri.as_deref()?;
    let (_, rest) = uri.split_once("://")?;
    let mut parts = rest.split('/').filter(|part| !part.is_empty());
    let bucket = parts.next()?.to_owned();
    let mut key: Vec<String> = parts.map(str::to_owned).collect();
    if key.iter().any(|part| part == "." || part == "..") {
        return None;
    }
    key.push(cluster.id.clone());
    match job {
        Job::Step(id) => key.extend(["steps".to_owned(), id.clone()]),
        Job::BootstrapAction(index) => {
            let node = view::primary_instance_id(cluster)?;
            let number = (index + 1).to_string();
            key.extend(["node".to_owned(), node, "bootstrap-actions".to_owned(), number]);
        }
    }
    Some((bucket, key.join("/")))
}
