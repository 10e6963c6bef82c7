//! Compares an upload with the digests its client sent along, whichever of
//! S3's algorithms it chose. Digests are not kept.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use md5::{Digest, Md5};
use s3s::checksum::ChecksumHasher;
use s3s::{S3Result, s3_error};

/// Refuses a body that is not the one its sender meant.
pub fn verify(headers: &HeaderMap, body: &[u8]) -> S3Result<()> {
    let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(md5) = sent("content-md5")
        && md5 != BASE64_STANDARD.encode(Md5::digest(body))
    {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match."));
    }
    let crc32 = sent("x-amz-checksum-crc32");
    let crc32c = sent("x-amz-checksum-crc32c");
    let crc64nvme = sent("x-amz-checksum-crc64nvme");
    let sha1 = sent("x-amz-checksum-sha1");
    let sha256 = sent("x-amz-checksum-sha256");
    let mut hasher = ChecksumHasher {
        crc32: crc32.map(|_| Default::default()),
        crc32c: crc32c.map(|_| Default::default()),
        crc64nvme: crc64nvme.map(|_| Default::default()),
        sha1: sha1.map(|_| Default::default()),
        sha256: sha256.map(|_| Default::default()),
    };
    hasher.update(body);
    let actual = hasher.finalize();
    let matches = actual.checksum_crc32.as_deref() == crc32
        && actual.checksum_crc32c.as_deref() == crc32c
        && actual.checksum_crc64nvme.as_deref() == crc64nvme
        && actual.checksum_sha1.as_deref() == sha1
        && actual.checksum_sha256.as_deref() == sha256;
    if matches {
        Ok(())
    } else {
        Err(s3_error!(BadDigest, "The checksum you specified did not match."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_the_right_digest() {
        for (name, digest, accepted) in [
            ("x-amz-checksum-crc32", "NhCmhg==", true),
            ("x-amz-checksum-crc32", "AAAAAA==", false),
            ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==", true),
            ("content-md5", "AAAA", false),
            ("x-amz-checksum-sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", true),
            ("x-other", "whatever", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::HeaderName::from_static(name), digest.parse().unwrap());
            assert_eq!(verify(&headers, b"hello").is_ok(), accepted, "{name}: {digest}");
        }
    }
}
