//! Identifiers that look like AWS's but follow from a seed and a counter, so
//! that a simulation repeats them. Not secret and not random.

use std::sync::atomic::{AtomicU64, Ordering};

use md5::{Digest, Md5};

/// Hands out identifiers, no two alike for one seed.
#[derive(Debug)]
pub struct Ids {
    seed: u64,
    next: AtomicU64,
}

impl Ids {
    pub fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(0) }
    }

    /// In the form of a UUID, as SQS, SNS and EventBridge use.
    pub fn uuid(&self) -> String {
        let hex = self.hex();
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }

    /// 32 hexadecimal digits.
    pub fn hex(&self) -> String {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut hasher = Md5::new();
        hasher.update(self.seed.to_le_bytes());
        hasher.update(count.to_le_bytes());
        hex(&hasher.finalize())
    }
}

/// The MD5 of `data` in hexadecimal digits.
pub fn md5_hex(data: &[u8]) -> String {
    hex(&Md5::digest(data))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeat_for_a_seed_and_differ_otherwise() {
        let (one, same, other) = (Ids::new(1), Ids::new(1), Ids::new(2));
        let first = one.uuid();
        assert_eq!(first, same.uuid());
        assert_ne!(first, one.uuid());
        assert_ne!(first, other.uuid());
        assert_eq!(first.len(), 36);
        assert_eq!(&first[14..15], "4");
    }

    #[test]
    fn md5_is_the_published_one() {
        assert_eq!(md5_hex(b"hello"), "5d41402abc4b2a76b9719d911017c592");
    }
}
