//! Objects on disk: where they lie, what is listed, what goes when. Holds no
//! helper for other tests.

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
fn every_key_is_an_object_of_its_own() {
    let fixture = Fixture::new();
    let long = format!("long/{}/x", "x".repeat(300));
    let mut keys = [
        "a/b/c",
        "a",
        "a/b",
        "a/",
        "a//",
        "/a",
        "a/./b",
        "a/x/../b",
        "nul\0",
        &long,
        "_temporary/0/x",
        "a/.b.crc",
        "plain/file",
        "z",
    ];
    for key in keys {
        fixture.put(key, key).unwrap();
    }
    keys.sort_unstable();
    assert_eq!(fixture.keys(""), keys);
    let below: Vec<_> = keys.into_iter().filter(|key| key.starts_with("a/")).collect();
    assert_eq!(
        (fixture.keys("a/"), below.len()),
        (below.iter().map(|k| (*k).to_owned()).collect(), 7)
    );
    for key in keys {
        assert_eq!(fixture.store.read("b", key).unwrap().1, key.as_bytes(), "{key:?}");
    }
    for key in ["../x", "a/../../x"] {
        assert!(matches!(fixture.put(key, ""), Err(StoreError::Key(_))), "{key:?}");
    }
    let outside = fs::read_dir(fixture.store.root()).unwrap().count();
    assert_eq!(outside, 1, "only the bucket");
    for key in keys {
        assert!(fixture.store.delete("b", key).unwrap(), "{key:?}");
        assert!(matches!(fixture.store.head("b", key), Err(StoreError::NoSuchKey)));
    }
    assert_eq!(fixture.keys(""), [""; 0]);
    fixture.store.delete_bucket("b").unwrap();
}

#[test]
fn an_object_becomes_a_plain_file_again_as_soon_as_it_can() {
    let fixture = Fixture::new();
    fixture.put("a", "file").unwrap();
    fixture.put("a/b", "aside").unwrap();
    fixture.store.delete("b", "a").unwrap();
    assert_eq!(fixture.store.read("b", "a/b").unwrap().1, b"aside");
    fixture.put("a/b", "plain").unwrap();
    assert!(fixture.store.root().join("b/a/b").is_file());
    assert_eq!(fixture.store.read("b", "a/b").unwrap().1, b"plain");
    fixture.store.delete("b", "a/b").unwrap();
    assert_eq!(fixture.keys(""), [""; 0]);
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
