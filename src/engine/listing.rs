//! Listings of S3, for objects that no notification told of: of a period before
//! it is closed, and every so often of what is still waited for. What is found
//! is recorded as an arrival is. Which partitions and objects: see
//! `core::listing`.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use super::untold::Untold;
use super::{Engine, after};
use crate::aws::error::{AwsError, with_causes};
use crate::aws::store::{Identified, Journal, ObjectId, RowId, StoreError};
use crate::core::arrival::{Arrival, Source};
use crate::core::catalog::{Catalog, Completeness, Dataset};
use crate::core::listing::{
    Found, GRACE, Listed, Listing, Place, UNLISTED_HELP, has_grace_passed, is_awaited, is_untold,
    places, prefix, unlisted,
};
use crate::core::partition::Partition;
use crate::core::retention::too_old;
use crate::core::task::{Element, TaskKey, TaskPartition};
use crate::planted::{Bug, planted};

/// Whatever just started has more urgent things to do.
const FIRST_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// When the inbox is behind: what it holds is not lost.
const BEHIND_AFTER: SignedDuration = SignedDuration::from_mins(2);
/// After a listing failed.
pub(super) const LIST_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// A period that was listed needs no other listing for its next reader.
const FRESH: SignedDuration = SignedDuration::from_mins(10);
/// People hear of a bucket that fails at most so often.
const TELL_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Objects of one partition that are looked at, 50 requests.
const OBJECTS_MAX: usize = 50_000;
/// Places of one pass; the next one goes on with the others.
const PLACES_MAX: usize = 1_000;
/// Listings, and reads before them, that run side by side.
pub(super) const LISTINGS_MAX: usize = 4;

/// What is remembered of listings; all of it can be lost.
#[derive(Default)]
pub(super) struct Listings {
    /// Since when tasks are known.
    first_seen: BTreeMap<String, Timestamp>,
    /// When the next pass is due.
    next: Option<Timestamp>,
    /// The last place of the last pass, if there were too many.
    last_place: Option<(String, Partition)>,
    /// Closed periods that were listed, and when.
    listed: BTreeMap<(String, Partition), Timestamp>,
    /// A message was older than it may be, lately.
    behind: Option<Timestamp>,
    found: Untold,
    /// What came for partitions that are too old.
    pub(super) too_old: Untold,
    /// When people were last told of each bucket.
    unlisted_told: BTreeMap<String, Timestamp>,
    /// When a bucket last could not be listed.
    failed: BTreeMap<String, Timestamp>,
}

impl Listings {
    /// Since when a task is known, if that was read.
    pub(super) fn seen(&self, task: &str) -> Option<Timestamp> {
        self.first_seen.get(task).copied()
    }
}

/// A period's objects, or why they could not be listed.
pub(super) enum Counted {
    Objects(u64),
    Unlisted(String),
}

impl Engine {
    /// Says since when tasks are known, lists what is due, and tells people.
    pub(super) async fn turn_listing(&self) -> Result<Option<Timestamp>, StoreError> {
        self.see_tasks().await?;
        let mut next = None;
        if let Some(listing) = self.listing {
            let due = self.memory().listings.next;
            let due = due.unwrap_or_else(|| after(self.started, FIRST_AFTER.min(listing.interval)));
            let now = self.clock.now();
            let again = match due <= now {
                false => due,
                true if self.is_behind(now) => after(now, BEHIND_AFTER),
                true => {
                    // One replica's listing is enough.
                    let holds = self.memory().holds_lease;
                    if holds && !planted(Bug::NeverListed) {
                        self.list_places(listing, now).await?;
                    }
                    after(now, listing.interval)
                }
            };
            self.memory().listings.next = Some(again);
            next = Some(again);
        }
        let found = self.tell(|listings| &mut listings.found, Found::notice).await;
        let kept = self.store.retention().partitions;
        let old = |found: &Found, id, now| too_old(found, kept, id, now);
        let too_old = self.tell(|listings| &mut listings.too_old, old).await;
        Ok(next.into_iter().chain(found).chain(too_old).min())
    }

    /// A message was recorded so long after it was sent.
    pub fn lagged(&self, lag: SignedDuration, now: Timestamp) {
        self.metrics.lagged(lag);
        if lag > GRACE {
            self.memory().listings.behind = Some(now);
        }
    }

    fn is_behind(&self, now: Timestamp) -> bool {
        let behind = self.memory().listings.behind;
        behind.is_some_and(|at| now.duration_since(at) < BEHIND_AFTER)
    }

    /// Remembers since when each task is known: what was written before is not
    /// for it.
    async fn see_tasks(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let new: Vec<String> = {
            let (catalog, memory) = (self.catalog(), self.memory());
            let known = &memory.listings.first_seen;
            catalog.tasks.keys().filter(|name| !known.contains_key(*name)).cloned().collect()
        };
        let seen: Vec<_> = futures::stream::iter(new)
            .map(|name| async move {
                match self.store.first_seen(&name, now).await {
                    Ok(since) => Ok(Some((name, since))),
                    // It keeps no other task from being listed for.
                    Err(error) if error.is_about_one_item() => {
                        self.tell_unreadable(&error).await;
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(LISTINGS_MAX)
            .try_collect()
            .await?;
        self.memory().listings.first_seen.extend(seen.into_iter().flatten());
        Ok(())
    }

    /// Lists the places that somebody waits for.
    async fn list_places(&self, listing: Listing, now: Timestamp) -> Result<(), StoreError> {
        let catalog = self.catalog();
        let places = self.awaited(&catalog, places(&catalog, listing.window, now), now).await?;
        let place = |place: &Place| (place.dataset.clone(), place.partition);
        let last = self.memory().listings.last_place.take();
        let start = places.partition_point(|found| Some(place(found)) <= last);
        let count = places.len().min(PLACES_MAX);
        let chosen: Vec<_> = places.iter().cycle().skip(start).take(count).cloned().collect();
        if places.len() > PLACES_MAX {
            self.memory().listings.last_place = chosen.last().map(place);
        }
        let catalog = &catalog;
        let found: u64 = futures::stream::iter(chosen)
            .map(|place| async move {
                match self.list_place(catalog, &place, now).await {
                    Err(error) => self.passed_over(&place, error).await,
                    listed => listed,
                }
            })
            .buffer_unordered(LISTINGS_MAX)
            .try_fold(0, |sum, found| async move { Ok(sum + found) })
            .await?;
        let (of, left) = (count, places.len() - count);
        tracing::debug!(places = of, left, found, "S3 listed for objects that nobody told of");
        Ok(())
    }

    /// One item that cannot be read or is a newer version's keeps no other place from
    /// being listed.
    async fn passed_over(&self, place: &Place, error: StoreError) -> Result<u64, StoreError> {
        if !error.is_about_one_item() && !error.is_permanent() {
            return Err(error);
        }
        let (Place { dataset, partition, .. }, reason) = (place, with_causes(&error));
        tracing::warn!(dataset, %partition, reason, "passed over for an item of a reader; other places are listed");
        self.tell_unreadable(&error).await;
        Ok(0)
    }

    /// Those of the places that a reader, as it is stored, still waits for.
    async fn awaited(
        &self,
        catalog: &Catalog,
        places: Vec<Place>,
        now: Timestamp,
    ) -> Result<Vec<Place>, StoreError> {
        let mut ranges: BTreeMap<&str, (&TaskKey, &TaskKey)> = BTreeMap::new();
        for key in places.iter().flat_map(|place| &place.readers) {
            let (first, last) = ranges.entry(&key.task).or_insert((key, key));
            (*first, *last) = ((*first).min(key), (*last).max(key));
        }
        let ranges: Vec<_> =
            ranges.into_values().map(|(first, last)| (first.clone(), last.clone())).collect();
        let items: Vec<(BTreeMap<Partition, TaskPartition>, usize)> = futures::stream::iter(ranges)
            .map(
                |(first, last)| async move { self.store.tasks_between(&first, &last, false).await },
            )
            .buffer_unordered(LISTINGS_MAX)
            .try_collect()
            .await?;
        let items: BTreeMap<_, _> = items
            .into_iter()
            .flat_map(|(found, _)| found.into_values())
            .map(|item| (item.key.clone(), item))
            .collect();
        let mut awaited = Vec::new();
        for mut place in places {
            let Some(dataset) = catalog.datasets.get(&place.dataset) else { continue };
            let mut readers = std::mem::take(&mut place.readers);
            readers.retain(|key| is_awaited(catalog, dataset, &place, items.get(key), now));
            if !readers.is_empty() {
                awaited.push(Place { readers, ..place });
            }
        }
        Ok(awaited)
    }

    /// Lists one place and records what nobody told of; returns how much.
    async fn list_place(
        &self,
        catalog: &Catalog,
        place: &Place,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let Some(dataset) = catalog.datasets.get(&place.dataset) else { return Ok(0) };
        let since = {
            let memory = self.memory();
            let seen = &memory.listings.first_seen;
            place.readers.iter().filter_map(|reader| seen.get(&reader.task)).min().copied()
        };
        // Tasks that came this moment: the next pass knows since when.
        let Some(since) = since else { return Ok(0) };
        // A bucket that failed in this pass would fail again.
        let failed = self.memory().listings.failed.get(dataset.location.bucket()).copied();
        if failed.is_some_and(|at| at >= now) {
            return Ok(0);
        }
        let mut objects = match self.list(dataset, &place.partition).await {
            Ok(objects) => objects,
            Err(error) => {
                self.tell_unlisted(dataset, &place.partition, &error).await;
                return Ok(0);
            }
        };
        objects.retain(|object| is_untold(object, since, now));
        if dataset.is_journalled() && !objects.is_empty() {
            let journal = self.store.read_journal(&dataset.name, &place.partition, None).await?;
            let bucket = dataset.location.bucket();
            objects.retain(|object| !journal.knows(bucket, &object.key, &object.etag));
            // Whoever recorded them may have got no further, and no message comes
            // again.
            if objects.is_empty() && self.is_unheard_of(dataset, place, &journal).await? {
                self.take_unit(catalog, &dataset.name, place.partition).await?;
            }
        }
        if objects.is_empty() {
            return Ok(0);
        }
        let arrivals: Vec<_> = objects.iter().map(|object| arrival(dataset, object)).collect();
        let recorded = self.record(&arrivals).await;
        if let Some(failed) = recorded.failed.values().next() {
            let (name, partition) = (&dataset.name, place.partition);
            let reason = &failed.reason;
            tracing::warn!(dataset = name, %partition, reason, "found, but not recorded: it will be found again");
            return Ok(0);
        }
        self.found(dataset, &place.partition, &objects);
        Ok(objects.len() as u64)
    }

    /// Whether the objects of a place are in the journal, and a reader that waits for
    /// them has not been told.
    async fn is_unheard_of(
        &self,
        dataset: &Dataset,
        place: &Place,
        journal: &Journal,
    ) -> Result<bool, StoreError> {
        match dataset.completeness {
            Completeness::Count { objects } => Ok(journal.count(&dataset.completeness) >= objects),
            Completeness::Quiet { .. } => {
                let element = Element::data(&dataset.name, place.partition);
                for key in &place.readers {
                    match self.store.task(key).await {
                        Ok(item) => {
                            if item.is_none_or(|item| !item.received.contains_key(&element)) {
                                return Ok(true);
                            }
                        }
                        Err(error) if error.is_about_one_item() => {
                            self.tell_unreadable(&error).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(false)
            }
            // Waited for only while its reader is not stored.
            Completeness::Closed { .. } => Ok(true),
            Completeness::Object | Completeness::Marker { .. } | Completeness::Produced { .. } => {
                Ok(false)
            }
        }
    }

    /// How many objects a period has that is over. Of a closed one S3 is asked
    /// first, and what nobody told of is put into the journal.
    pub(super) async fn count_period(
        &self,
        catalog: &Catalog,
        dataset: &Dataset,
        partition: Partition,
    ) -> Result<Counted, StoreError> {
        let mut journal = self.store.read_journal(&dataset.name, &partition, None).await?;
        let place = (dataset.name.clone(), partition);
        let listed = dataset.is_listed_at_its_close() && !planted(Bug::NotListedAtClose);
        if listed && !self.is_freshly_listed(&place) {
            let listed = match self.list(dataset, &partition).await {
                Ok(listed) => listed,
                Err(_) if planted(Bug::UnlistedIsEmpty) => Vec::new(),
                Err(error) => {
                    self.tell_unlisted(dataset, &partition, &error).await;
                    return Ok(Counted::Unlisted(why_unlisted(dataset, &partition, &error)));
                }
            };
            let news = self.take_news(catalog, dataset, &partition, &mut journal, listed).await?;
            let now = self.clock.now();
            // The youngest may just be on their way, or all wait in the queue.
            let told_soon = self.is_behind(now) || now < after(self.started, BEHIND_AFTER);
            let untold: Vec<_> = news
                .into_iter()
                .filter(|object| !told_soon && has_grace_passed(object, now))
                .collect();
            if !untold.is_empty() {
                self.found(dataset, &partition, &untold);
                self.agenda.wake(super::Key::Listing, now);
            }
            let listed = &mut self.memory().listings.listed;
            listed.retain(|_, at| now.duration_since(*at) < FRESH);
            listed.insert(place, now);
        }
        Ok(Counted::Objects(journal.count(&dataset.completeness)))
    }

    /// Puts those objects into the journal that it does not know.
    async fn take_news(
        &self,
        catalog: &Catalog,
        dataset: &Dataset,
        partition: &Partition,
        journal: &mut Journal,
        listed: Vec<Listed>,
    ) -> Result<Vec<Listed>, StoreError> {
        let bucket = dataset.location.bucket();
        let news: Vec<_> = listed
            .into_iter()
            .filter(|object| !journal.knows(bucket, &object.key, &object.etag))
            .collect();
        let identified = identified(dataset, &news);
        let expires = self.rows_expire(catalog, &dataset.name, partition);
        self.store.journal(&dataset.name, partition, &identified, expires).await?;
        identified.into_values().for_each(|object| journal.objects.add(object));
        Ok(news)
    }

    fn is_freshly_listed(&self, place: &(String, Partition)) -> bool {
        let now = self.clock.now();
        let listed = self.memory().listings.listed.get(place).copied();
        listed.is_some_and(|at| now.duration_since(at) < FRESH)
    }

    /// The objects of a partition that say something about its completeness, as S3
    /// shows them, at most [`OBJECTS_MAX`].
    async fn list(
        &self,
        dataset: &Dataset,
        partition: &Partition,
    ) -> Result<Vec<Listed>, AwsError> {
        let (prefix, single) = prefix(dataset, partition);
        let limit = if single { 1 } else { OBJECTS_MAX };
        let mut objects = self.list_under(dataset, partition, &prefix, limit).await?;
        objects.retain(|object| dataset.counts(&object.key));
        Ok(objects)
    }

    /// All objects of a partition that begin so, at most `limit`.
    async fn list_under(
        &self,
        dataset: &Dataset,
        partition: &Partition,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Listed>, AwsError> {
        let bucket = dataset.location.bucket();
        let (mut objects, mut seen, mut from) = (Vec::new(), 0, None);
        loop {
            self.metrics.listed();
            let page = self.s3.page(bucket, prefix, limit, from).await?;
            seen += page.objects.len();
            let belong =
                |object: &Listed| dataset.location.matches(&object.key) == Some(*partition);
            objects.extend(page.objects.into_iter().filter(belong));
            from = page.next;
            if from.is_none() || seen >= limit {
                break;
            }
        }
        if from.is_some() && limit == OBJECTS_MAX {
            tracing::warn!(
                dataset = dataset.name, %partition, objects = OBJECTS_MAX,
                "more objects than are looked at; those beyond count only by their notifications"
            );
        }
        Ok(objects)
    }

    /// The journal's rows that name a marker and the objects beside it, as S3 shows
    /// them now. None where it cannot be listed: a run does not wait for that.
    pub(super) async fn journal_beside_marker(
        &self,
        catalog: &Catalog,
        dataset: &Dataset,
        partition: &Partition,
    ) -> Result<BTreeSet<RowId>, StoreError> {
        let prefix = dataset.location.key_of(partition);
        match self.list_under(dataset, partition, &prefix, OBJECTS_MAX).await {
            Ok(objects) => {
                let objects = identified(dataset, &objects);
                let expires = self.rows_expire(catalog, &dataset.name, partition);
                self.store.journal(&dataset.name, partition, &objects, expires).await
            }
            Err(error) => {
                let name = &dataset.name;
                tracing::warn!(dataset = name, %partition, %error, "the objects beside a marker are not recorded as inputs");
                Ok(BTreeSet::new())
            }
        }
    }

    /// Counts what was found, says so in the log, and keeps it for the notice.
    fn found(&self, dataset: &Dataset, partition: &Partition, objects: &[Listed]) {
        let Some(first) = objects.first() else { return };
        let (name, found) = (&dataset.name, objects.len() as u64);
        let example = format!("s3://{}/{}", dataset.location.bucket(), first.key);
        tracing::warn!(
            dataset = name, %partition, objects = found, example,
            "found in S3, no notification told of them: check the bucket's notification"
        );
        self.metrics.found_by_list(name, found);
        self.memory().listings.found.found.add(name, found, &example);
    }

    /// Says that a place cannot be listed: each time in the log, to people once an
    /// hour for each bucket.
    async fn tell_unlisted(&self, dataset: &Dataset, partition: &Partition, error: &AwsError) {
        let (bucket, now) = (dataset.location.bucket(), self.clock.now());
        let place = dataset.location.uri_of(partition);
        tracing::warn!(dataset = dataset.name, %partition, place, %error, "not listed: {UNLISTED_HELP}");
        let told = {
            let listings = &mut self.memory().listings;
            listings.failed.insert(bucket.to_owned(), now);
            let told = listings.unlisted_told.get(bucket);
            let told = told.is_some_and(|told| now.duration_since(*told) < TELL_EVERY);
            if !told {
                listings.unlisted_told.insert(bucket.to_owned(), now);
            }
            told
        };
        if told {
            return;
        }
        let id = format!("listing/{bucket}/{}", self.new_id());
        if !self.announce(&unlisted(id, &place, &error.message, now)).await {
            self.memory().listings.unlisted_told.remove(bucket);
        }
    }
}

/// What a partition that waits for a listing says of it.
fn why_unlisted(dataset: &Dataset, partition: &Partition, error: &AwsError) -> String {
    let place = dataset.location.uri_of(partition);
    format!("listing {place} failed with {}", error.message)
}

fn identified(dataset: &Dataset, objects: &[Listed]) -> Identified {
    let arrivals = objects.iter().map(|object| arrival(dataset, object));
    let id = |object: &Arrival| ObjectId::new(&object.bucket, &object.key, &object.version);
    arrivals.map(|object| (id(&object), object)).collect()
}

fn arrival(dataset: &Dataset, object: &Listed) -> Arrival {
    Arrival {
        bucket: dataset.location.bucket().to_owned(),
        key: object.key.clone(),
        version: object.etag.clone(),
        bytes: Some(object.bytes),
        source: Source::Listing,
    }
}
