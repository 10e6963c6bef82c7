//! What clients and Spark do to objects, and who is told: every change goes
//! through here, so that its notification is sent once. Knows no protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::notify::{Change, Content, Event, Notifications, Rule, bucket_arn, test_event};
use super::store::{Description, Object, Stamp, Store, StoreError};
use super::uploads::Uploads;
use crate::events::Events;
use crate::ids::{Ids, md5_hex};
use crate::sns::Sns;
use crate::sqs::Sqs;
use crate::time::Time;

/// What the buckets held at one moment: a stamp for each bucket and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<(String, String), Stamp>);

/// The services that S3 tells of changes.
#[derive(Debug, Clone)]
pub struct Listeners {
    pub events: Arc<Events>,
    pub sns: Arc<Sns>,
    pub sqs: Arc<Sqs>,
}

/// The buckets of the account, with their notifications.
#[derive(Debug)]
pub struct Buckets {
    store: Store,
    uploads: Uploads,
    listeners: Listeners,
    time: Time,
    ids: Arc<Ids>,
    /// Held from a change to its notification, so that sequencers tell the
    /// order of changes and nothing is announced twice. Holds the last one.
    last_sequencer: Mutex<u64>,
}

impl Buckets {
    pub fn open(
        data: &Path,
        listeners: Listeners,
        time: Time,
        ids: Arc<Ids>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            store: Store::open(data, time.clone())?,
            uploads: Uploads::open(data, Arc::clone(&ids))?,
            listeners,
            time,
            ids,
            last_sequencer: Mutex::new(0),
        })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        content: &[u8],
        description: Description,
        change: Change,
    ) -> Result<Object, StoreError> {
        // Refused before anything is written.
        self.store.bucket(bucket)?;
        let file = self.uploads.scratch();
        std::fs::write(&file, content)?;
        self.put_file(bucket, key, &file, md5_hex(content), description, change)
    }

    /// Moves the file at `content` to the object's place.
    pub fn put_file(
        &self,
        bucket: &str,
        key: &str,
        content: &PathBuf,
        etag: String,
        description: Description,
        change: Change,
    ) -> Result<Object, StoreError> {
        let mut last = self.lock();
        let put = self.store.put(bucket, key, content, etag, description);
        if put.is_err() {
            // The refusal matters to the client, a left-over file does not.
            let _ = std::fs::remove_file(content);
        }
        let object = put?;
        self.tell(&mut last, bucket, key, Some(&object), change);
        Ok(object)
    }

    pub fn delete(&self, bucket: &str, key: &str) -> Result<(), StoreError> {
        let mut last = self.lock();
        if self.store.delete(bucket, key)? {
            self.tell(&mut last, bucket, key, None, Change::Delete);
        }
        Ok(())
    }

    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut all = BTreeMap::new();
        for bucket in self.store.buckets()?.into_keys() {
            for (key, stamp) in self.store.stamps(&bucket, "")? {
                all.insert((bucket.clone(), key), stamp);
            }
        }
        Ok(Snapshot(all))
    }

    pub fn announce(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        let mut last = self.lock();
        let object = self.store.head(bucket, key)?;
        if object.announced {
            return Ok(false);
        }
        self.tell(&mut last, bucket, key, Some(&object), Change::Put);
        self.store.mark_announced(bucket, object)?;
        Ok(true)
    }

    pub fn announce_changes(&self, before: &Snapshot) -> Result<usize, StoreError> {
        let after = self.snapshot()?;
        let mut announced = 0;
        for ((bucket, key), stamp) in &after.0 {
            let before = before.0.get(&(bucket.clone(), key.clone()));
            if before == Some(stamp) {
                continue;
            }
            match self.announce(bucket, key) {
                Ok(told) => announced += usize::from(told),
                // Gone again since we looked.
                Err(StoreError::NoSuchKey | StoreError::NoSuchBucket) => {}
                Err(error) => return Err(error),
            }
        }
        for (bucket, key) in before.0.keys().filter(|name| !after.0.contains_key(*name)) {
            let mut last = self.lock();
            // What a client deleted is forgotten and was told already.
            if self.store.head(bucket, key).is_err() && self.store.forget(bucket, key)? {
                self.tell(&mut last, bucket, key, None, Change::Delete);
                announced += 1;
            }
        }
        Ok(announced)
    }

    /// Takes a configuration and greets its targets, as S3 does every time.
    pub fn set_notifications(&self, name: &str, new: Notifications) -> Result<(), StoreError> {
        let mut bucket = self.store.bucket(name)?;
        bucket.notifications = new;
        self.store.save_bucket(name, &bucket)?;
        let event = test_event(name, self.time.dev(), &self.request_id());
        for rule in &bucket.notifications.rules {
            self.send(rule, event.to_string());
        }
        Ok(())
    }

    /// Whether a rule's queue or topic is there.
    pub fn can_reach(&self, target_arn: &str) -> bool {
        self.listeners.sqs.exists(target_arn) || self.listeners.sns.exists(target_arn)
    }

    fn tell(
        &self,
        last_sequencer: &mut u64,
        name: &str,
        key: &str,
        object: Option<&Object>,
        change: Change,
    ) {
        let Ok(bucket) = self.store.bucket(name) else {
            return;
        };
        let now = u64::try_from(self.time.real().as_nanosecond()).unwrap_or(0);
        *last_sequencer = now.max(*last_sequencer + 1);
        let event = Event {
            change,
            bucket: name,
            region: &bucket.region,
            key,
            content: object.map(|Object { stamp, etag, .. }| Content { size: stamp.size, etag }),
            time: self.time.dev(),
            sequencer: *last_sequencer,
            request_id: self.request_id(),
        };
        for rule in &bucket.notifications.rules {
            if rule.matches(change.event_name(), key) {
                self.send(rule, event.message(&rule.id).to_string());
            }
        }
        if bucket.notifications.event_bridge {
            let resources = [bucket_arn(name)];
            let events = &self.listeners.events;
            events.put_event("aws.s3", change.detail_type(), &resources, event.detail());
        }
    }

    /// A message that cannot be delivered is lost, as on AWS.
    fn send(&self, rule: &Rule, message: String) {
        let target = &rule.target_arn;
        let sent = if crate::sqs::queue_name(target).is_some() {
            self.listeners.sqs.deliver(target, message, BTreeMap::new()).map(drop)
        } else {
            self.listeners.sns.announce(target, Some("Amazon S3 Notification"), &message)
        };
        if let Err(error) = sent {
            tracing::warn!(target, %error, "S3 notification not delivered");
        }
    }

    fn request_id(&self) -> String {
        let mut id = self.ids.hex().to_ascii_uppercase();
        id.truncate(16);
        id
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.last_sequencer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
