//! A turn of one load: decide, store, act, until it can only wait. Everything
//! that it does may be done twice (see `core::load`).

use jiff::{SignedDuration, Timestamp};

use super::Engine;
use super::tasks::log_change;
use crate::aws::error::{AwsError, Kind};
use crate::aws::store::StoreError;
use crate::core::catalog::Catalog;
use crate::core::class::FailureClass;
use crate::core::load::manifest::{Object, manifest};
use crate::core::load::sql::{self, Subject};
use crate::core::load::words::STUCK;
use crate::core::load::{About, Act, Files, Load, Observation, Seen, Warehouse, look_again};
use crate::core::notice::Notice;
use crate::core::run::CallFailure;
use crate::core::task::{TaskKey, TaskPartition};

/// From a look to the next wait takes at most this many acts.
const ACTS_MAX: usize = 8;
/// More files than a manifest is meant for.
const FILES_MAX: usize = 50_000;
/// The ledger is asked by a statement of its own, which takes a moment.
const LEDGER_LOOKS: u32 = 20;
const LEDGER_LOOK_AFTER: SignedDuration = SignedDuration::from_millis(500);
/// Loads with one ledger go one after the other, and while one waits its timeout runs:
/// a replica begins no more at once.
const LOADS_AT_ONCE: usize = 4;
const ROOM_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(15);
/// A load under way is looked at far more often.
const SEEN_WITHIN: SignedDuration = SignedDuration::from_mins(15);
/// A warehouse that sleeps takes some time for its first statement.
const LEDGER_WAKES_WITHIN: SignedDuration = SignedDuration::from_mins(1);
/// Its configuration may come back.
const UNDECLARED_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// How far a warehouse's ledger is, as a replica knows it.
#[derive(Debug, Clone)]
pub(super) enum Ledger {
    /// Its creation is just being asked for.
    Asked,
    Creating {
        statement: String,
        since: Timestamp,
    },
    There,
}

impl Engine {
    /// Goes on with the load of a partition; returns the partition as it is
    /// then, and when to look again.
    pub(super) async fn turn_load(
        &self,
        catalog: &Catalog,
        mut item: TaskPartition,
    ) -> Result<(TaskPartition, Timestamp), StoreError> {
        let now = self.clock.now();
        let key = item.key.clone();
        let spec = catalog.tasks.get(&key.task).and_then(|task| task.load.as_ref());
        let warehouse = spec.and_then(|spec| catalog.warehouses.get(&spec.warehouse));
        let Some(mut load) = item.load.clone() else {
            return Ok((item, super::after(now, UNDECLARED_AFTER)));
        };
        let (Some(spec), Some(warehouse)) = (spec, warehouse) else {
            let news = load.not_declared(&key, now);
            let until = super::after(now, UNDECLARED_AFTER);
            self.keep_load(&mut item, load, news, until).await?;
            return Ok((item, until));
        };
        let about = About { deployment: &catalog.deployment, key: &key, warehouse, spec };
        let mut observation = Observation::Nothing;
        for _ in 0..ACTS_MAX {
            let act = load.decide(&about, observation, self.clock.now());
            let until = match &act {
                Act::Rest(until) => *until,
                _ => self.clock.now(),
            };
            self.count_load(&about, load.is_begun() && !matches!(act, Act::End(_)));
            if let Some(before) = item.load.as_ref().filter(|before| **before != load) {
                if let Some(failure) = &load.failure
                    && before.failure.as_ref() != Some(failure)
                {
                    let (task, partition, attempt) = (&key.task, key.partition, load.attempt);
                    tracing::warn!(task, %partition, run = load.run, attempt, failure, "load failed");
                }
                let profile = catalog.tasks.get(&key.task).map(|task| task.profile.clone());
                let mut news = load.news(before, &about, self.clock.now());
                news.iter_mut().for_each(|news| news.profile.clone_from(&profile));
                self.keep_load(&mut item, load.clone(), news, until).await?;
            }
            observation = match act {
                Act::Rest(until) => return Ok((item, until)),
                Act::End(end) => {
                    let output = output_of(catalog, &about, &load).unwrap_or_default();
                    let change = load.ended(&about, &end, &output, self.clock.now());
                    let profile = catalog.tasks.get(&key.task).map(|task| task.profile.as_str());
                    let change = change.of_round(&item.round).on(profile.unwrap_or_default());
                    let item = self.store.change_task(&change, item.version).await?;
                    self.metrics.partition_became(&change.key, change.to);
                    log_change(&change);
                    return Ok((item, self.clock.now()));
                }
                Act::Prepare => Observation::Prepared(match self.takes_room(&about) {
                    true => self.prepare(catalog, &about, &load).await.map_err(CallFailure::from),
                    false => {
                        let until = super::after(self.clock.now(), ROOM_AGAIN_AFTER);
                        Err(CallFailure::Postponed(until))
                    }
                }),
                Act::Send { token } => Observation::Sent(self.send(&about, &load, &token).await),
                Act::Look { statement } => Observation::Looked(
                    self.redshift.look(&statement).await.map_err(CallFailure::from),
                ),
                Act::Cancel { statement } => Observation::Cancelled(
                    self.redshift.cancel(&statement).await.map_err(CallFailure::from),
                ),
                Act::AskLedger => Observation::Ledger(self.ask_ledger(&about).await),
            };
            let (task, partition) = (&key.task, key.partition);
            if let Observation::Looked(Ok(Seen::Failed(_))) = &observation {
                self.memory().ledgers.remove(&ledger_of(&about));
            }
            let failure = observation.failure();
            if let Some(failure) = failure.filter(|it| !matches!(it, CallFailure::Postponed(_))) {
                tracing::warn!(task, %partition, run = load.run, ?failure, "a call of the load failed");
            }
        }
        Ok((item, self.clock.now()))
    }

    /// Notes whether a load has begun: those under way are few at once (see
    /// [`LOADS_AT_ONCE`]).
    fn count_load(&self, about: &About<'_>, begun: bool) {
        let now = self.clock.now();
        let mut memory = self.memory();
        let loads = memory.loads.entry(ledger_of(about)).or_default();
        // Another replica may have ended it.
        loads.retain(|_, seen| now.duration_since(*seen) < SEEN_WITHIN);
        match begun {
            true => loads.insert(about.key.clone(), now),
            false => loads.remove(about.key),
        };
    }

    /// It loads no more, by whichever replica.
    pub(super) fn has_loaded(&self, key: &TaskKey) {
        for loads in self.memory().loads.values_mut() {
            loads.remove(key);
        }
    }

    /// Whether it may begin now; it counts from then on.
    fn takes_room(&self, about: &About<'_>) -> bool {
        let mut memory = self.memory();
        let loads = memory.loads.entry(ledger_of(about)).or_default();
        let has_room = loads.len() < LOADS_AT_ONCE;
        if has_room {
            loads.insert(about.key.clone(), self.clock.now());
        }
        has_room
    }

    /// Stores how far a load is, with what is told of it.
    async fn keep_load(
        &self,
        item: &mut TaskPartition,
        load: Load,
        news: Option<Notice>,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let news = news.filter(|news| item.round.backfill.is_none() || news.status == STUCK);
        self.store.save_load(item, &load, news.as_ref(), until).await?;
        item.version += 1;
        item.due = Some(until);
        item.notices.extend(news);
        item.load = Some(load);
        Ok(())
    }

    /// Lists what the run has made, and writes the manifest that names it.
    async fn prepare(
        &self,
        catalog: &Catalog,
        about: &About<'_>,
        load: &Load,
    ) -> Result<Files, AwsError> {
        let output = output_of(catalog, about, load);
        let place = output.as_deref().and_then(|uri| uri.strip_prefix("s3://")?.split_once('/'));
        let Some((bucket, prefix)) = place else {
            let dataset = &about.spec.dataset;
            let message = format!("its run has made no {dataset}, which its task loads now");
            return Err(refused("ListObjectsV2", message));
        };
        let listed = self.s3.list(bucket, prefix, FILES_MAX + 1).await?;
        if listed.len() > FILES_MAX {
            let message = format!("more than {FILES_MAX} objects under s3://{bucket}/{prefix}");
            return Err(refused("ListObjectsV2", message));
        }
        let objects: Vec<_> = listed
            .into_iter()
            .map(|object| Object { key: object.key, bytes: object.bytes })
            .collect();
        let (text, files) = manifest(bucket, prefix, &objects);
        let (bucket, key) = manifest_place(about, load);
        self.s3.put(&bucket, &key, text).await?;
        Ok(files)
    }

    async fn send(
        &self,
        about: &About<'_>,
        load: &Load,
        token: &str,
    ) -> Result<String, CallFailure> {
        let (bucket, key) = manifest_place(about, load);
        let subject = Subject {
            deployment: about.deployment,
            key: about.key,
            run: &load.run,
            files: load.files.map_or(0, |files| files.count),
            manifest: &format!("s3://{bucket}/{key}"),
            now: load.began,
        };
        self.ensure_ledger(about).await?;
        let statements = sql::statements(about.warehouse, about.spec, &subject);
        let name = format!("{} {} {}", about.deployment, about.key, load.run);
        Ok(self.redshift.execute(about.warehouse, &name, statements, Some(token)).await?)
    }

    /// Which run has loaded the partition, as the ledger says.
    async fn ask_ledger(&self, about: &About<'_>) -> Result<Option<String>, CallFailure> {
        self.ensure_ledger(about).await?;
        let question = sql::question(about.warehouse, about.deployment, about.key);
        let number = question.len();
        let id = self.ask(about, question).await?;
        Ok(self.redshift.only_text(&id, number).await?)
    }

    /// The statements of loads expect that the ledger is there: created once by each
    /// replica, and again after a failure, for somebody may have dropped it. Until it is
    /// there, which a warehouse that has yet to wake takes its time for, this says when to
    /// ask again.
    async fn ensure_ledger(&self, about: &About<'_>) -> Result<(), CallFailure> {
        let (ledger, now) = (ledger_of(about), self.clock.now());
        let known = {
            let mut memory = self.memory();
            let known = memory.ledgers.get(&ledger).cloned();
            if known.is_none() {
                memory.ledgers.insert(ledger.clone(), Ledger::Asked);
            }
            known
        };
        let (becomes, result) = match known {
            Some(Ledger::There) => return Ok(()),
            Some(Ledger::Asked) => return Err(CallFailure::Postponed(look_again(now, now))),
            None => {
                let create = sql::create_ledger(about.warehouse);
                match self
                    .redshift
                    .execute(about.warehouse, &ledger_name(about), create, None)
                    .await
                {
                    Ok(statement) => (
                        Some(Ledger::Creating { statement, since: now }),
                        Err(CallFailure::Postponed(look_again(now, now))),
                    ),
                    Err(error) => (None, Err(error.into())),
                }
            }
            Some(Ledger::Creating { statement, since }) => {
                let age = now.duration_since(since);
                match self.redshift.look(&statement).await {
                    Err(error) if error.kind == Kind::Refused => (None, Err(error.into())),
                    Err(error) => return Err(error.into()),
                    Ok(Seen::Finished { .. }) => (Some(Ledger::There), Ok(())),
                    Ok(Seen::Working) if age < LEDGER_WAKES_WITHIN => {
                        return Err(CallFailure::Postponed(look_again(since, now)));
                    }
                    // People are told of it if that lasts.
                    Ok(Seen::Working) if age < about.warehouse.timeout => {
                        return Err(unknown("the ledger is still being created".to_owned()).into());
                    }
                    Ok(Seen::Working) => {
                        self.leave(&statement).await;
                        let words = "the ledger is not created within the warehouse's timeout";
                        (None, Err(unknown(words.to_owned()).into()))
                    }
                    Ok(Seen::Failed(words)) => (None, Err(failed(about, words).into())),
                    Ok(Seen::Aborted | Seen::Gone) => {
                        let words = "the creation of the ledger was cancelled";
                        (None, Err(unknown(words.to_owned()).into()))
                    }
                }
            }
        };
        let mut memory = self.memory();
        match becomes {
            Some(becomes) => memory.ledgers.insert(ledger, becomes),
            None => memory.ledgers.remove(&ledger),
        };
        result
    }

    /// Carries out a question, which takes a moment, and waits for its end; returns its
    /// id.
    async fn ask(&self, about: &About<'_>, question: Vec<String>) -> Result<String, AwsError> {
        let name = ledger_name(about);
        let id = self.redshift.execute(about.warehouse, &name, question, None).await?;
        for _ in 0..LEDGER_LOOKS {
            match self.redshift.look(&id).await? {
                Seen::Finished { .. } => return Ok(id),
                Seen::Working => {
                    let until = super::after(self.clock.now(), LEDGER_LOOK_AFTER);
                    self.clock.sleep_until(until).await;
                }
                Seen::Failed(words) => {
                    self.memory().ledgers.remove(&ledger_of(about));
                    return Err(failed(about, words));
                }
                Seen::Aborted | Seen::Gone => {
                    return Err(unknown("the question was cancelled".to_owned()));
                }
            }
        }
        self.leave(&id).await;
        Err(unknown("another load holds the ledger".to_owned()))
    }

    /// What has ended meanwhile cannot be cancelled, and need not be.
    async fn leave(&self, statement: &str) {
        if let Err(error) = self.redshift.cancel(statement).await {
            tracing::debug!(%error, "statements at the ledger are left to themselves");
        }
    }
}

/// How statements at the ledger are called.
fn ledger_name(about: &About<'_>) -> String {
    format!("{} ledger", about.deployment)
}

/// Which ledger it is, for the replica's memory: several warehouses may name it.
fn ledger_of(about: &About<'_>) -> String {
    let Warehouse { place, database, ledger, .. } = about.warehouse;
    format!("{} {database} {ledger}", place.name())
}

/// Bucket and key of the manifest of a run's load.
fn manifest_place(about: &About<'_>, load: &Load) -> (String, String) {
    let (bucket, prefix) = &about.warehouse.manifests;
    let (task, partition) = (&about.key.task, about.key.partition);
    (bucket.clone(), format!("{prefix}{task}/{partition}/{}-{}.json", load.run, load.attempt))
}

/// Where the run has put what is loaded. None if it has made no such output: what is there
/// now is somebody else's, or nothing.
fn output_of(catalog: &Catalog, about: &About<'_>, load: &Load) -> Option<String> {
    let dataset = &about.spec.dataset;
    let declared = || Some(catalog.datasets.get(dataset)?.location.uri_of(&about.key.partition));
    // Another name for the same place changes nothing.
    let is_made =
        |uri: &String| load.outputs.is_empty() || load.outputs.values().any(|it| it == uri);
    let output = load.outputs.get(dataset).cloned().or_else(|| declared().filter(is_made))?;
    Some(output.trim_end_matches('*').to_owned())
}

fn refused(action: &'static str, message: String) -> AwsError {
    AwsError { service: "S3", action, kind: Kind::Refused, message }
}

/// A statement at the ledger has failed: what the warehouse finds wrong with it, such as a
/// right that is not there, it refuses.
fn failed(about: &About<'_>, words: String) -> AwsError {
    let is_wrong = FailureClass::of_statement(&words) == FailureClass::Validation
        && !about.warehouse.misses_its_ledger(&words);
    let kind = if is_wrong { Kind::Refused } else { Kind::Unknown };
    AwsError { kind, ..unknown(words) }
}

fn unknown(message: String) -> AwsError {
    AwsError { service: "Redshift", action: "reading the ledger", kind: Kind::Unknown, message }
}
