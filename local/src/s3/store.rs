//! Buckets as folders and objects as plain files, which Spark reads and writes
//! too; what else S3 knows of an object lies beside, may be missing, and is
//! worked out again when a file changed. Objects whose keys no file can have,
//! or not beside the others, lie aside under a digest. Knows no protocol.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::keys::{KeyError, check, folder_of_prefix, is_hidden, key_of, plain_path};
use super::notify::Notifications;
use crate::ids::{hex, md5_hex};
use crate::time::Time;

/// What can go wrong with a bucket or an object.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the specified bucket does not exist")]
    NoSuchBucket,
    #[error("the specified key does not exist")]
    NoSuchKey,
    #[error("the bucket you tried to delete is not empty")]
    BucketNotEmpty,
    #[error("your previous request to create the named bucket succeeded and you already own it")]
    BucketExists,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot use the object's file")]
    Io(#[from] io::Error),
}

/// Tells whether a file is the one that was described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub size: u64,
    mtime_nanos: i128,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        let nanos = i128::from(metadata.mtime()) * 1_000_000_000;
        Self {
            size: metadata.size(),
            mtime_nanos: nanos + i128::from(metadata.mtime_nsec()),
            inode: metadata.ino(),
        }
    }

    fn modified(self) -> Timestamp {
        Timestamp::from_nanosecond(self.mtime_nanos).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// What a client says about an object besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub user: BTreeMap<String, String>,
}

/// What S3 knows of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub key: String,
    pub etag: String,
    /// By the development clock.
    pub last_modified: Timestamp,
    pub description: Description,
    pub stamp: Stamp,
    /// Whether its creation was notified.
    pub announced: bool,
}

/// What S3 knows of one bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bucket {
    pub region: String,
    /// By the development clock.
    pub created: Timestamp,
    #[serde(default)]
    pub notifications: Notifications,
}

/// The folder of what cannot be a plain file.
const ASIDE: &str = "aside";

/// The buckets of the account.
#[derive(Debug)]
pub struct Store {
    /// Holds nothing but objects.
    root: PathBuf,
    meta: PathBuf,
    time: Time,
}

impl Store {
    pub fn open(data: &Path, time: Time) -> io::Result<Self> {
        let store = Self { root: data.join("s3"), meta: data.join("s3-meta"), time };
        fs::create_dir_all(&store.root)?;
        fs::create_dir_all(&store.meta)?;
        Ok(store)
    }

    /// The folder in which the buckets' folders lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn create_bucket(&self, name: &str, region: &str) -> Result<(), StoreError> {
        match fs::create_dir(self.root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::BucketExists);
            }
            other => other?,
        }
        let bucket = Bucket {
            region: region.to_owned(),
            created: self.time.dev(),
            notifications: Notifications::default(),
        };
        self.save_bucket(name, &bucket)
    }

    /// A folder made by hand is a bucket too.
    pub fn bucket(&self, name: &str) -> Result<Bucket, StoreError> {
        let metadata = fs::metadata(self.root.join(name)).map_err(|_| StoreError::NoSuchBucket)?;
        if !metadata.is_dir() {
            return Err(StoreError::NoSuchBucket);
        }
        let known = read_json(&self.meta.join(name).join("bucket.json"));
        Ok(known.unwrap_or_else(|| Bucket {
            region: "us-east-1".to_owned(),
            created: self.time.dev_at(Stamp::of(&metadata).modified()),
            notifications: Notifications::default(),
        }))
    }

    pub fn save_bucket(&self, name: &str, bucket: &Bucket) -> Result<(), StoreError> {
        fs::create_dir_all(self.meta.join(name).join("objects"))?;
        write_json(&self.meta.join(name).join("bucket.json"), bucket)?;
        Ok(())
    }

    pub fn buckets(&self) -> Result<BTreeMap<String, Bucket>, StoreError> {
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && let Ok(bucket) = self.bucket(name)
            {
                buckets.insert(name.to_owned(), bucket);
            }
        }
        Ok(buckets)
    }

    pub fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        self.bucket(name)?;
        if !self.stamps(name, "")?.is_empty() {
            return Err(StoreError::BucketNotEmpty);
        }
        fs::remove_dir_all(self.root.join(name))?;
        match fs::remove_dir_all(self.meta.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Puts the file at `content` in the object's place.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        content: &Path,
        etag: String,
        description: Description,
    ) -> Result<Object, StoreError> {
        self.bucket(bucket)?;
        check(key)?;
        let path = self.place(bucket, key, content)?;
        let object = Object {
            key: key.to_owned(),
            etag,
            last_modified: self.time.dev(),
            description,
            stamp: Stamp::of(&fs::metadata(&path)?),
            announced: true,
        };
        self.save(bucket, &object)?;
        Ok(object)
    }

    /// Moves content to where the key's object lies from now on.
    fn place(&self, bucket: &str, key: &str, content: &Path) -> io::Result<PathBuf> {
        let aside = self.aside(bucket, key);
        if let Some(path) = self.plain(bucket, key)
            && place_plainly(content, &path)?
        {
            remove_if_there(&aside)?;
            return Ok(path);
        }
        if let Some(parent) = aside.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(content, &aside)?;
        if let Some(folder) = key.strip_suffix('/').and_then(|folder| self.plain(bucket, folder)) {
            // A folder's marker: Hadoop then finds an empty folder, unless an
            // object of that name is in the way.
            let _ = fs::create_dir_all(folder);
        }
        Ok(aside)
    }

    /// Where an object's content lies. A plain file comes first: it is newer,
    /// written behind our back once nothing was in its way any more.
    fn locate(&self, bucket: &str, key: &str) -> Result<(PathBuf, Stamp), StoreError> {
        check(key)?;
        let places = [self.plain(bucket, key), Some(self.aside(bucket, key))];
        for path in places.into_iter().flatten() {
            if let Ok(metadata) = fs::metadata(&path)
                && metadata.is_file()
            {
                return Ok((path, Stamp::of(&metadata)));
            }
        }
        Err(StoreError::NoSuchKey)
    }

    /// What is known of an object; worked out again if its file changed.
    pub fn head(&self, bucket: &str, key: &str) -> Result<Object, StoreError> {
        self.bucket(bucket)?;
        let (path, stamp) = self.locate(bucket, key)?;
        let known: Option<Object> = read_json(&self.meta_path(bucket, key));
        if let Some(known) = known.filter(|known| known.stamp == stamp) {
            return Ok(known);
        }
        let object = Object {
            key: key.to_owned(),
            etag: md5_of_file(&path)?,
            last_modified: self.time.dev_at(stamp.modified()),
            description: Description::default(),
            stamp,
            announced: false,
        };
        self.save(bucket, &object)?;
        Ok(object)
    }

    pub fn read(&self, bucket: &str, key: &str) -> Result<(Object, Vec<u8>), StoreError> {
        let object = self.head(bucket, key)?;
        let (path, _) = self.locate(bucket, key)?;
        Ok((object, fs::read(path)?))
    }

    /// Marks an object's creation as notified.
    pub fn mark_announced(&self, bucket: &str, mut object: Object) -> Result<(), StoreError> {
        object.announced = true;
        self.save(bucket, &object)
    }

    /// Whether there was such an object to delete.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        self.bucket(bucket)?;
        match self.locate(bucket, key) {
            Err(StoreError::NoSuchKey) => return Ok(false),
            other => other?,
        };
        self.forget(bucket, key)?;
        remove_if_there(&self.aside(bucket, key))?;
        if let Some(path) = self.plain(bucket, key) {
            if path.is_file() {
                fs::remove_file(&path)?;
            }
            self.prune(bucket, &path);
        } else if let Some(folder) = key.strip_suffix('/').and_then(|f| self.plain(bucket, f)) {
            self.prune(bucket, &folder);
        }
        Ok(true)
    }

    /// Forgets an object; false if nothing was known of it.
    pub fn forget(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        match fs::remove_file(self.meta_path(bucket, key)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The keys that begin with `prefix`, in S3's order, as they are on disk.
    pub fn stamps(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<BTreeMap<String, Stamp>, StoreError> {
        self.bucket(bucket)?;
        let mut found = self.stamps_aside(bucket, prefix)?;
        let root = self.root.join(bucket);
        let walk = walkdir::WalkDir::new(root.join(folder_of_prefix(prefix)))
            .into_iter()
            .filter_entry(|entry| {
                let name = entry.file_name().to_str();
                let is_folder = entry.file_type().is_dir();
                entry.depth() == 0 || name.is_some_and(|name| !is_hidden(name, is_folder))
            });
        // Files may go while we walk: Spark renames and removes them.
        for entry in walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
            if let Some(key) = entry.path().strip_prefix(&root).ok().and_then(key_of)
                && key.starts_with(prefix)
                && let Ok(metadata) = entry.metadata()
            {
                found.insert(key, Stamp::of(&metadata));
            }
        }
        Ok(found)
    }

    /// Those that are no plain files.
    fn stamps_aside(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<BTreeMap<String, Stamp>, StoreError> {
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(self.meta.join(bucket).join(ASIDE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            other => other?,
        };
        for entry in entries.filter_map(Result::ok) {
            let known: Option<Object> =
                entry.file_name().to_str().and_then(|d| read_json(&self.described(bucket, d)));
            if let Some(object) = known.filter(|object| object.key.starts_with(prefix))
                && let Ok(metadata) = entry.metadata()
            {
                found.insert(object.key, Stamp::of(&metadata));
            }
        }
        Ok(found)
    }

    /// Removes folders that became empty: on S3 there are none.
    fn prune(&self, bucket: &str, path: &Path) {
        let root = self.root.join(bucket);
        for folder in path.ancestors().take_while(|folder| *folder != root) {
            let relative = folder.strip_prefix(&root).ok();
            let Some(key) = relative.and_then(key_of) else {
                return;
            };
            let is_marked = self.aside(bucket, &format!("{key}/")).exists();
            if folder.exists() && (is_marked || fs::remove_dir(folder).is_err()) {
                return;
            }
        }
    }

    /// The plain file of a key that can have one.
    fn plain(&self, bucket: &str, key: &str) -> Option<PathBuf> {
        Some(self.root.join(bucket).join(plain_path(key)?))
    }

    /// The place of an object that is no plain file.
    fn aside(&self, bucket: &str, key: &str) -> PathBuf {
        self.meta.join(bucket).join(ASIDE).join(md5_hex(key.as_bytes()))
    }

    fn save(&self, bucket: &str, object: &Object) -> Result<(), StoreError> {
        let path = self.meta_path(bucket, &object.key);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        write_json(&path, object)?;
        Ok(())
    }

    /// Named by a digest: keys can be longer than file names, and `a.json` may
    /// be a folder's name as well.
    fn meta_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.described(bucket, &md5_hex(key.as_bytes()))
    }

    fn described(&self, bucket: &str, digest: &str) -> PathBuf {
        self.meta.join(bucket).join("objects").join(format!("{digest}.json"))
    }
}

/// False if a file or folder of another key is in the way.
fn place_plainly(content: &Path, path: &Path) -> io::Result<bool> {
    let moved = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        remove_empty_folders(path);
        fs::rename(content, path)
    });
    match moved.map_err(|error| (error.kind(), error)) {
        Ok(()) => Ok(true),
        Err((
            io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty,
            _,
        )) => Ok(false),
        Err((_, error)) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Folders without files stand in no object's way.
fn remove_empty_folders(path: &Path) {
    if !path.is_dir() {
        return;
    }
    let folders = walkdir::WalkDir::new(path).contents_first(true);
    for entry in folders.into_iter().filter_map(Result::ok) {
        // Fails where there is a file, which the rename will then report.
        let _ = fs::remove_dir(entry.path());
    }
}

fn md5_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Nothing, too, for what cannot be understood: it is worked out again.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(value)?)
}

#[cfg(test)]
mod tests;
