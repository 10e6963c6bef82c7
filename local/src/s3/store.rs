//! Buckets as folders and objects as plain files, which Spark reads and writes
//! too; what else S3 knows of an object lies beside, may be missing, and is
//! worked out again when a file changed. Knows no protocol.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::keys::{KeyError, folder_of_prefix, is_hidden, key_of, relative_path};
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
    #[error(
        "the local S3 keeps objects as plain files: {0:?} cannot be an object beside keys that continue it after a slash"
    )]
    FileBesideFolder(String),
    #[error("the marker of a folder cannot have content here")]
    FolderWithContent,
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
        let path = self.root.join(bucket).join(relative_path(key)?);
        if key.ends_with('/') {
            if fs::metadata(content)?.len() > 0 {
                return Err(StoreError::FolderWithContent);
            }
            fs::create_dir_all(&path).map_err(|error| beside(error, key))?;
            fs::remove_file(content)?;
        } else {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|error| beside(error, key))?;
            }
            remove_empty_folders(&path);
            fs::rename(content, &path).map_err(|error| beside(error, key))?;
        }
        let object = Object {
            key: key.to_owned(),
            etag,
            last_modified: self.time.dev(),
            description,
            stamp: stamp_of_key(key, &fs::metadata(&path)?),
            announced: true,
        };
        self.save(bucket, &object)?;
        Ok(object)
    }

    /// What is known of an object; worked out again if its file changed.
    pub fn head(&self, bucket: &str, key: &str) -> Result<Object, StoreError> {
        self.bucket(bucket)?;
        let path = self.root.join(bucket).join(relative_path(key)?);
        let metadata = fs::metadata(&path).map_err(|_| StoreError::NoSuchKey)?;
        let known: Option<Object> = read_json(&self.meta_path(bucket, key));
        if key.ends_with('/') {
            return known.filter(|_| metadata.is_dir()).ok_or(StoreError::NoSuchKey);
        }
        if !metadata.is_file() {
            return Err(StoreError::NoSuchKey);
        }
        let stamp = Stamp::of(&metadata);
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
        if key.ends_with('/') {
            return Ok((object, Vec::new()));
        }
        let content = fs::read(self.root.join(bucket).join(relative_path(key)?))?;
        Ok((object, content))
    }

    /// Marks an object's creation as notified.
    pub fn mark_announced(&self, bucket: &str, mut object: Object) -> Result<(), StoreError> {
        object.announced = true;
        self.save(bucket, &object)
    }

    /// Whether there was such an object to delete.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        self.bucket(bucket)?;
        let Ok(relative) = relative_path(key) else {
            return Ok(false);
        };
        if self.head(bucket, key).is_err() {
            return Ok(false);
        }
        let path = self.root.join(bucket).join(relative);
        self.forget(bucket, key)?;
        if !key.ends_with('/') {
            fs::remove_file(&path)?;
        }
        self.prune(bucket, &path);
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
        let root = self.root.join(bucket);
        let walk = walkdir::WalkDir::new(root.join(folder_of_prefix(prefix)))
            .into_iter()
            .filter_entry(|entry| {
                let name = entry.file_name().to_str();
                let is_folder = entry.file_type().is_dir();
                entry.depth() == 0 || name.is_some_and(|name| !is_hidden(name, is_folder))
            });
        let mut found = BTreeMap::new();
        // Files may go while we walk: Spark renames and removes them.
        for entry in walk.filter_map(Result::ok) {
            let relative = entry.path().strip_prefix(&root).ok();
            let Some(mut key) = relative.and_then(key_of).filter(|key| !key.is_empty()) else {
                continue;
            };
            if entry.file_type().is_dir() {
                key.push('/');
            }
            let is_object = entry.file_type().is_file()
                || (entry.file_type().is_dir() && self.meta_path(bucket, &key).exists());
            if key.starts_with(prefix)
                && is_object
                && let Ok(metadata) = entry.metadata()
            {
                let stamp = stamp_of_key(&key, &metadata);
                found.insert(key, stamp);
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
            let is_marker = self.meta_path(bucket, &format!("{key}/")).exists();
            if folder.exists() && (is_marker || fs::remove_dir(folder).is_err()) {
                return;
            }
        }
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
        let name = format!("{}.json", md5_hex(key.as_bytes()));
        self.meta.join(bucket).join("objects").join(name)
    }
}

/// A folder's own size and date say nothing about its marker.
fn stamp_of_key(key: &str, metadata: &fs::Metadata) -> Stamp {
    let mut stamp = Stamp::of(metadata);
    if key.ends_with('/') {
        stamp.size = 0;
        stamp.mtime_nanos = 0;
    }
    stamp
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

fn beside(error: io::Error, key: &str) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::DirectoryNotEmpty => StoreError::FileBesideFolder(key.to_owned()),
        _ => StoreError::Io(error),
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
mod tests {
    use super::*;
    use crate::clock::Clock;

    struct Fixture {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), Time::new(Clock::real())).unwrap();
            store.create_bucket("b", "eu-west-1").unwrap();
            Self { dir, store }
        }

        fn put(&self, key: &str, content: &str) -> Result<Object, StoreError> {
            let file = self.dir.path().join("new");
            fs::write(&file, content).unwrap();
            let etag = md5_hex(content.as_bytes());
            self.store.put("b", key, &file, etag, Description::default())
        }

        /// As Spark does it.
        fn write_behind(&self, key: &str, content: &str) {
            let path = self.store.root().join("b").join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn keys(&self, prefix: &str) -> Vec<String> {
            self.store.stamps("b", prefix).unwrap().into_keys().collect()
        }
    }

    #[test]
    fn objects_are_plain_files_and_nothing_else_lies_there() {
        let fixture = Fixture::new();
        fixture.put("raw/2013/a b.gz", "hello").unwrap();
        let files: Vec<_> = walkdir::WalkDir::new(fixture.store.root())
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().to_owned())
            .collect();
        assert_eq!(files, [fixture.store.root().join("b/raw/2013/a b.gz")]);
        let (object, content) = fixture.store.read("b", "raw/2013/a b.gz").unwrap();
        assert_eq!((content.as_slice(), object.etag), (&b"hello"[..], md5_hex(b"hello")));
    }

    #[test]
    fn a_file_changed_behind_our_back_has_its_own_etag() {
        let fixture = Fixture::new();
        fixture.put("k", "one").unwrap();
        fixture.write_behind("k", "two!");
        let object = fixture.store.head("b", "k").unwrap();
        assert_eq!((object.etag, object.announced), (md5_hex(b"two!"), false));
        fixture.put("k", "three").unwrap();
        assert!(fixture.store.head("b", "k").unwrap().announced);
    }

    #[test]
    fn lists_in_the_order_of_keys_and_hides_what_is_no_object() {
        let fixture = Fixture::new();
        for key in ["a/b", "a-c", "a/.part.crc", "a/_temporary/0/x", "a/_SUCCESS", "z"] {
            fixture.write_behind(key, "");
        }
        fixture.put("marker/", "").unwrap();
        fs::create_dir_all(fixture.store.root().join("b/empty")).unwrap();
        assert_eq!(fixture.keys(""), ["a-c", "a/_SUCCESS", "a/b", "marker/", "z"]);
        assert_eq!(fixture.keys("a/"), ["a/_SUCCESS", "a/b"]);
        assert_eq!(fixture.keys("a"), ["a-c", "a/_SUCCESS", "a/b"]);
        assert_eq!(fixture.keys("../"), [""; 0]);
    }

    #[test]
    fn an_object_cannot_lie_beside_keys_below_it() {
        let fixture = Fixture::new();
        fixture.put("a/b", "").unwrap();
        for key in ["a", "a/b/c"] {
            let put = fixture.put(key, "");
            assert!(matches!(put, Err(StoreError::FileBesideFolder(_))), "{key}: {put:?}");
        }
        assert!(matches!(fixture.store.head("b", "a"), Err(StoreError::NoSuchKey)));
        fixture.store.delete("b", "a/b").unwrap();
        fixture.put("a", "now it can").unwrap();
    }

    #[test]
    fn folders_go_with_their_last_object_unless_they_are_marked() {
        let fixture = Fixture::new();
        fixture.put("x/y/z", "").unwrap();
        fixture.put("m/", "").unwrap();
        fixture.put("m/z", "").unwrap();
        assert!(fixture.store.delete("b", "x/y/z").unwrap());
        assert!(fixture.store.delete("b", "m/z").unwrap());
        assert!(!fixture.store.delete("b", "m/z").unwrap());
        assert!(!fixture.store.root().join("b/x").exists());
        assert_eq!(fixture.keys(""), ["m/"]);
        let refused = fixture.store.delete_bucket("b");
        assert!(matches!(refused, Err(StoreError::BucketNotEmpty)));
        fixture.store.delete("b", "m/").unwrap();
        fixture.store.delete_bucket("b").unwrap();
        assert!(matches!(fixture.store.bucket("b"), Err(StoreError::NoSuchBucket)));
    }
}
