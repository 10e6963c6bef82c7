//! An object that has been created, and what the journal holds of a partition's
//! objects. Not for what becomes complete by them (see `readiness`).

use std::collections::{BTreeMap, BTreeSet};

/// An object that has been created, as its notification or a listing says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    pub bucket: String,
    /// Decoded.
    pub key: String,
    /// Version id, or ETag where the bucket keeps no versions or a listing found
    /// the object.
    pub version: String,
    /// Its size, where that was told.
    pub bytes: Option<u64>,
    pub source: Source,
}

/// Who told of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Notification,
    /// Nobody: it was found in S3.
    Listing,
}

/// The objects of one partition that are known, by bucket and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects(BTreeMap<(String, String), Versions>);

/// What is known of one key: version → size. A listing shows only the newest
/// ETag, which may be one of the versions that notifications told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Versions {
    notified: BTreeMap<String, Option<u64>>,
    listed: BTreeMap<String, Option<u64>>,
}

impl Objects {
    pub fn add(&mut self, arrival: Arrival) {
        let Arrival { bucket, key, version, bytes, source } = arrival;
        let versions = self.0.entry((bucket, key)).or_default();
        let of_source = match source {
            Source::Notification => &mut versions.notified,
            Source::Listing => &mut versions.listed,
        };
        of_source.insert(version, bytes);
    }

    pub fn has_key(&self, bucket: &str, key: &str) -> bool {
        self.0.contains_key(&(bucket.to_owned(), key.to_owned()))
    }

    /// How many keys.
    pub fn keys(&self) -> u64 {
        self.0.len() as u64
    }

    /// How many objects, of which one that was written again is another. What a
    /// listing found counts as long as no notification tells of it.
    pub fn versions(&self) -> u64 {
        self.0.values().map(|versions| versions.notified.len().max(1) as u64).sum()
    }

    /// Each object once, by its key: the versions that notifications told of, or
    /// else what a listing found.
    pub fn iter(&self) -> impl Iterator<Item = Arrival> {
        self.0.iter().flat_map(|((bucket, key), versions)| {
            let (found, source) = match versions.notified.is_empty() {
                true => (&versions.listed, Source::Listing),
                false => (&versions.notified, Source::Notification),
            };
            found.iter().map(move |(version, bytes)| Arrival {
                bucket: bucket.clone(),
                key: key.clone(),
                version: version.clone(),
                bytes: *bytes,
                source,
            })
        })
    }

    /// All that was ever told of them, each version by each source.
    pub fn told(&self) -> BTreeSet<(&str, &str, &str)> {
        let all = self.0.iter().flat_map(|((bucket, key), versions)| {
            let versions = versions.notified.keys().chain(versions.listed.keys());
            versions.map(move |version| (bucket.as_str(), key.as_str(), version.as_str()))
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(told: &[(&str, &str, Source)]) -> Objects {
        let mut objects = Objects::default();
        for (key, version, source) in told {
            objects.add(Arrival {
                bucket: "b".into(),
                key: (*key).into(),
                version: (*version).into(),
                bytes: None,
                source: *source,
            });
        }
        objects
    }

    #[test]
    fn what_a_listing_found_is_not_counted_beside_its_notification() {
        use Source::{Listing, Notification};
        for (told, keys, versions) in [
            (&[][..], 0, 0),
            (&[("a", "e1", Notification), ("a", "e1", Notification)], 1, 1),
            // Written again.
            (&[("a", "e1", Notification), ("a", "e2", Notification)], 1, 2),
            (&[("a", "e1", Listing), ("b", "e1", Listing)], 2, 2),
            // Its bucket has versions, and its notification came after all.
            (&[("a", "e1", Listing), ("a", "v1", Notification)], 1, 1),
            // Listed twice, written again in between.
            (&[("a", "e1", Listing), ("a", "e2", Listing)], 1, 1),
        ] {
            let objects = objects(told);
            assert_eq!((objects.keys(), objects.versions()), (keys, versions), "{told:?}");
        }
        let both = objects(&[("a", "e1", Listing), ("a", "v1", Notification)]);
        let versions: Vec<_> = both.iter().map(|object| object.version).collect();
        assert_eq!(versions, ["v1"]);
    }
}
