//! The daemon put together: connects, checks that everything it needs is
//! there, starts the loops, and shuts down within its deadline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use futures::FutureExt;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::aws::emr::Emr;
use crate::aws::error::{AwsError, Kind};
use crate::aws::redshift::Redshift;
use crate::aws::rights::{self, Denied, Places};
use crate::aws::s3::S3;
use crate::aws::sns::Sns;
use crate::aws::sqs::Sqs;
use crate::aws::store::{Store, StoreError};
use crate::aws::{self, Access};
use crate::clock::Clock;
use crate::config::{Assets, Config};
use crate::core::catalog::Catalog;
use crate::emf;
use crate::engine::{Engine, Parts};
use crate::http;
use crate::metrics::Metrics;
use crate::sources::task_files::{TaskFiles, TaskFilesError};
use crate::sources::{inbox::Inbox, ticks};

/// ECS kills 30 s after SIGTERM by default.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);
/// A start that takes long is taken for one that fails.
const ASSETS_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(
        "missing tables: {}\n    create what is missing with: sluicegate tables create --config FILE; \
         where a stack has made them, correct deployment, table-prefix or region",
        .0.join(", ")
    )]
    MissingTables(Vec<String>),
    #[error(
        "the role may not do what the service needs, nothing was started:\n{}\n    grant it: \
         deploy/cloudformation/sluicegate.yaml has the whole policy of the task role",
        lines(.0)
    )]
    Denied(Vec<Denied>),
    #[error(
        "{what} does not exist ({error})\n    create it, or correct the configuration; a stack's \
         output Configuration has the names of what it made"
    )]
    Missing { what: String, error: AwsError },
    #[error("cannot use {what}: {error}\n    {}", advice(.error))]
    Aws { what: String, error: AwsError },
    #[error(
        "the local AWS at {0} did not tell its clock\n    start it with: sluicegate-local serve"
    )]
    NoClock(String),
    #[error("cannot tell what the tables keep")]
    Retention(#[source] StoreError),
    #[error(transparent)]
    Overridden(#[from] aws::Overridden),
    #[error(transparent)]
    TaskFiles(#[from] TaskFilesError),
    #[error(transparent)]
    Http(#[from] http::ListenError),
    #[error("the schedules cannot be started")]
    Schedules(#[from] tokio_cron_scheduler::JobSchedulerError),
    #[error("a part of the service ended by itself; the log says why")]
    Ended,
}

fn lines(denied: &[Denied]) -> String {
    denied.iter().map(|denied| format!("    {denied}")).collect::<Vec<_>>().join("\n")
}

fn advice(error: &AwsError) -> &'static str {
    match error.kind {
        Kind::Unknown => "check the network, the region and, with --local, that it is running",
        _ => "check the credentials and the permissions of the task role",
    }
}

/// Runs until `shutdown`; what is under way then is finished or handed back.
/// Health and metrics are served on `listener` (see `http::bind`); with `emf`
/// the heartbeat goes to standard output.
pub async fn run(
    config: Config,
    access: Access,
    listener: Option<http::Listener>,
    emf: bool,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    let prepared = prepare_with_rights(config, access).boxed();
    let Some(prepared) = shutdown.run_until_cancelled(prepared).await else { return Ok(()) };
    let prepared = prepared?;
    let mut loops = JoinSet::new();
    let engine = prepared.begin(&mut loops, &shutdown);
    if let Some(listener) = listener {
        loops.spawn(http::serve(listener, Arc::clone(&engine), shutdown.clone()));
    }
    if emf {
        loops.spawn(emf::run(Arc::clone(&engine), shutdown.clone()));
    }
    let catalog = engine.catalog();
    let ticks = ticks::run(engine, shutdown.clone());
    tracing::info!(
        deployment = catalog.deployment,
        tasks = catalog.tasks.len(),
        datasets = catalog.datasets.len(),
        "the gate is watched"
    );
    // Half a service is worse than none: whatever ends first ends all.
    let result = tokio::select! {
        biased;
        result = ticks => result.map_err(ServiceError::from),
        Some(_) = loops.join_next() => match shutdown.is_cancelled() {
            true => Ok(()),
            false => Err(ServiceError::Ended),
        },
    };
    shutdown.cancel();
    let finished = tokio::time::timeout(SHUTDOWN_TIMEOUT, async {
        while loops.join_next().await.is_some() {}
    });
    match finished.await {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped with work under way; it is taken up at the next start"),
    }
    result
}

async fn prepare_with_rights(config: Config, access: Access) -> Result<Prepared, ServiceError> {
    let clock = clock(&access).await?;
    let aws = aws::connect(&access).await;
    aws::refuse_overrides(&aws, &access)?;
    check_rights(&config, &aws, &clock).await?;
    let assets = config.settings.assets.clone();
    let prepared = prepare(config, &aws, clock).await?;
    // Only now is it known what the task files declare.
    let engine = &prepared.engine;
    let listed = listed(&engine.catalog());
    let denied = rights::denied_lists(&aws, &listed).await;
    match denied.len() < listed.len() {
        // One partner's bucket must not keep all the others' data waiting.
        true => tell_denied(&denied, "what waits for these objects does not run"),
        false => refuse(denied, &prepared.store, engine.clock()).await?,
    }
    if let Some(assets) = assets {
        check_assets(&assets, &S3::new(&aws)).await;
    }
    if engine.catalog().tasks.is_empty() {
        tracing::warn!(
            "no task is in force: nothing new runs, and what arrives makes nothing ready; add a task, \
             or correct the mistakes of the task files or [task-files] path"
        );
    }
    Ok(prepared)
}

/// Clusters cannot start without their scripts. What is there may be replaced, and put there
/// while the service runs: so it is said, and nothing stops.
async fn check_assets(assets: &Assets, s3: &S3) {
    let script = assets.uri(Assets::DEADLINE);
    let key = format!("{}{}", assets.prefix, Assets::DEADLINE);
    // The key itself comes first of all that begin with it.
    let listed = tokio::time::timeout(ASSETS_WITHIN, s3.list(&assets.bucket, &key, 1));
    let Ok(listed) = listed.await else {
        tracing::warn!(script, "it is not known whether this script is there: S3 does not answer");
        return;
    };
    match listed {
        Ok(found) if found.iter().any(|object| object.key == key) => {}
        Ok(_) => tracing::error!(
            script,
            "no cluster can start without this script: put it there with sluicegate deploy-assets \
             --config FILE"
        ),
        Err(error) if error.kind == Kind::NotFound => tracing::error!(
            script, %error,
            "no cluster can start without this script: create the bucket, or correct [aws] assets"
        ),
        // Machines read it, with rights of their own.
        Err(error) => {
            tracing::warn!(script, %error, "it is not known whether this script is there")
        }
    }
}

/// The service with all that it needs found and checked; nothing of it runs yet.
pub struct Prepared {
    engine: Arc<Engine>,
    store: Store,
    inbox: Inbox,
    receivers: u32,
    files: Option<TaskFiles>,
}

impl Prepared {
    /// Starts the loops that do the work, all but the schedules' ticks.
    pub fn begin(self, loops: &mut JoinSet<()>, shutdown: &CancellationToken) -> Arc<Engine> {
        let Self { engine, inbox, receivers, files, .. } = self;
        if let Some(files) = files {
            loops.spawn(files.run(Arc::clone(&engine), shutdown.clone()));
        }
        loops.spawn(Arc::clone(&engine).run(shutdown.clone()));
        for _ in 0..receivers {
            loops.spawn(inbox.clone().run(shutdown.clone()));
        }
        engine
    }
}

/// Checks that everything is there. A simulator prepares its replicas by this.
pub async fn prepare(
    config: Config,
    aws: &SdkConfig,
    clock: Clock,
) -> Result<Prepared, ServiceError> {
    let settings = config.settings;
    let metrics = Arc::new(Metrics::default());
    let aws = aws::watched(aws, metrics.calls());
    let store = Store::new(&aws, &settings.table_prefix);
    check_tables(&store).await?;
    let store =
        store.keeping(settings.retention, clock.now()).await.map_err(ServiceError::Retention)?;
    let sqs = Sqs::open(&aws, &settings.queue, &settings.quarantine)
        .await
        .map_err(|error| start_error("a queue ([aws] queue, quarantine)", error))?;
    let sns = Sns::new(&aws, &settings.topic_arn);
    match sns.check().await {
        Ok(()) => {}
        // Clusters must be followed even while nobody can be told of them.
        Err(error) if matches!(error.kind, Kind::Unknown | Kind::Deferred) => {
            tracing::warn!(%error, "SNS does not answer, notices are kept until it does");
        }
        // Whoever starts the service for the first time sees the mistake; one that was
        // ended over it would follow and end no cluster.
        Err(error) if has_open_runs(&store, clock.now()).await => {
            tracing::error!(
                topic = settings.topic_arn, %error,
                "nobody can be told of anything, notices are kept: runs are under way, so the \
                 service goes on; create the topic, or correct the configuration or the role"
            );
        }
        Err(error) => {
            return Err(start_error(&format!("[aws] topic-arn {}", settings.topic_arn), error));
        }
    }
    let engine = Arc::new(Engine::new(Parts {
        emr: Emr::new(&aws, &config.catalog.deployment, store.run_table()),
        catalog: config.catalog,
        store: store.clone(),
        sns,
        s3: S3::new(&aws),
        redshift: Redshift::new(&aws),
        clock,
        sweep_interval: settings.sweep_interval,
        listing: settings.listing,
        quotas: settings.quotas,
        notices_per_second: settings.notices_per_second,
        fold_window: settings.fold_window,
        metrics,
    }));
    let inbox =
        Inbox { sqs, engine: Arc::clone(&engine), visibility_timeout: settings.visibility_timeout };
    let mut files = None;
    if let Some(settings) = settings.task_files {
        let found = TaskFiles::new(settings, config.main, store.clone(), S3::new(&aws));
        // Before anything arrives: what no dataset expects would be ignored.
        files.insert(found).start(&engine).await?;
    }
    Ok(Prepared { engine, store, inbox, receivers: settings.receivers, files })
}

/// Tries what the role may do, before anything is half begun; all but its lists.
async fn check_rights(config: &Config, aws: &SdkConfig, clock: &Clock) -> Result<(), ServiceError> {
    let settings = &config.settings;
    let store = Store::new(aws, &settings.table_prefix);
    let queues = Sqs::open(aws, &settings.queue, &settings.quarantine).await;
    let places = Places {
        // What is missing is said by whoever needs it.
        queues: queues.ok().map(|sqs| sqs.urls()),
        topic_arn: settings.topic_arn.clone(),
        tables: store.tables(),
    };
    refuse(rights::denied(aws, &places).await, &store, clock).await
}

/// Nothing starts without its rights. Where runs are under way the service goes on all the
/// same: nobody else follows and ends their clusters.
async fn refuse(denied: Vec<Denied>, store: &Store, clock: &Clock) -> Result<(), ServiceError> {
    if denied.is_empty() {
        return Ok(());
    }
    if !has_open_runs(store, clock.now()).await {
        return Err(ServiceError::Denied(denied));
    }
    tell_denied(&denied, "runs are under way, so the service goes on");
    Ok(())
}

fn tell_denied(denied: &[Denied], so: &str) {
    for Denied { action, resource, breaks } in denied {
        tracing::error!(action, resource, breaks, "the role may not do this: {so}; grant it");
    }
}

/// Bucket and beginning of a key, of what is looked for by lists.
fn listed(catalog: &Catalog) -> BTreeSet<(String, String)> {
    let listed = catalog.datasets.values().filter(|dataset| dataset.is_listed());
    let places = listed.map(|dataset| &dataset.location);
    places.map(|place| (place.bucket().to_owned(), place.literal_prefix().to_owned())).collect()
}

/// Whether there may be clusters that somebody has to follow and end.
async fn has_open_runs(store: &Store, now: Timestamp) -> bool {
    store.open(now).await.is_ok_and(|(runs, _)| !runs.is_empty())
}

async fn check_tables(store: &Store) -> Result<(), ServiceError> {
    match store.missing_tables().await {
        Ok(missing) if missing.is_empty() => {
            check_expiry(store).await;
            Ok(())
        }
        Ok(missing) => Err(ServiceError::MissingTables(missing)),
        Err(StoreError::Aws(error)) => Err(start_error("the tables", error)),
        // Describing tables reads no items.
        Err(
            StoreError::Conflict(_)
            | StoreError::Newer { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Unwritable { .. },
        ) => Ok(()),
    }
}

/// Without expiry the tables grow, and that is all: it is said, and nothing stops.
async fn check_expiry(store: &Store) {
    match store.tables_without_expiry().await {
        Ok(without) if without.is_empty() => {}
        Ok(without) => tracing::warn!(
            tables = without.join(", "),
            "nothing that has ended is deleted: switch the tables' expiry on with sluicegate tables \
             create --config FILE"
        ),
        Err(error) => tracing::warn!(
            %error,
            "it is not known whether what has ended is deleted: allow the service \
             dynamodb:DescribeTimeToLive"
        ),
    }
}

fn start_error(what: &str, error: AwsError) -> ServiceError {
    let what = what.to_owned();
    match error.kind {
        Kind::NotFound => ServiceError::Missing { what, error },
        _ => ServiceError::Aws { what, error },
    }
}

/// Real time, or with a local AWS the clock that it shows.
pub(crate) async fn clock(access: &Access) -> Result<Clock, ServiceError> {
    let Some(endpoint) = &access.local else { return Ok(Clock::real()) };
    let clock = aws::local::clock(endpoint).await;
    let clock = clock.ok_or_else(|| ServiceError::NoClock(endpoint.clone()))?;
    tracing::warn!(
        %endpoint,
        now = %clock.now(),
        factor = clock.factor(),
        "uses a local AWS and its development clock: nothing here is real"
    );
    Ok(clock)
}
