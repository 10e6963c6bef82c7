//! Multipart uploads: parts as files beside the buckets until they are put
//! together. Survives restarts. Not for what the object becomes afterwards.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::store::Description;
use crate::ids::{Ids, hex, md5_hex};

/// S3's least size of every part but the last.
const PART_BYTES_MIN: u64 = 5 << 20;

/// Why parts cannot be taken or put together.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the specified upload does not exist; it may have been aborted or completed")]
    NoSuchUpload,
    #[error("one or more of the specified parts could not be found, or its ETag does not match")]
    InvalidPart,
    #[error("the list of parts was not in ascending order")]
    InvalidPartOrder,
    #[error("part {0} is smaller than the minimum allowed size")]
    TooSmall(u16),
    #[error("cannot use the upload's files")]
    Io(#[from] io::Error),
}

/// What an upload will become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub bucket: String,
    pub key: String,
    pub description: Description,
}

/// One part that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub size: u64,
    pub etag: String,
}

/// The uploads under way.
#[derive(Debug)]
pub struct Uploads {
    root: PathBuf,
    ids: Arc<Ids>,
}

impl Uploads {
    pub fn open(data: &Path, ids: Arc<Ids>) -> io::Result<Self> {
        let root = data.join("s3-uploads");
        fs::create_dir_all(&root)?;
        Ok(Self { root, ids })
    }

    /// The path of a new file on the same file system as the buckets.
    pub fn scratch(&self) -> PathBuf {
        self.root.join(format!("scratch-{}", self.ids.hex()))
    }

    pub fn create(&self, upload: &Upload) -> Result<String, UploadError> {
        let id = self.ids.hex();
        fs::create_dir(self.root.join(&id))?;
        fs::write(
            self.root.join(&id).join("upload.json"),
            serde_json::to_vec(upload).map_err(io::Error::from)?,
        )?;
        Ok(id)
    }

    pub fn get(&self, id: &str, bucket: &str, key: &str) -> Result<Upload, UploadError> {
        let json = fs::read(self.folder(id)?.join("upload.json"));
        let json = json.map_err(|_| UploadError::NoSuchUpload)?;
        let upload: Upload = serde_json::from_slice(&json).map_err(io::Error::from)?;
        if upload.bucket == bucket && upload.key == key {
            Ok(upload)
        } else {
            Err(UploadError::NoSuchUpload)
        }
    }

    /// All uploads under way, by id.
    pub fn list(&self) -> Result<BTreeMap<String, Upload>, UploadError> {
        let mut uploads = BTreeMap::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if let Some(id) = entry.file_name().to_str()
                && let Ok(json) = fs::read(entry.path().join("upload.json"))
                && let Ok(upload) = serde_json::from_slice(&json)
            {
                uploads.insert(id.to_owned(), upload);
            }
        }
        Ok(uploads)
    }

    /// Takes a part; an earlier one of the same number is replaced.
    pub fn put_part(&self, id: &str, number: u16, content: &[u8]) -> Result<Part, UploadError> {
        let folder = self.folder(id)?;
        let etag = md5_hex(content);
        let scratch = self.scratch();
        fs::write(&scratch, content)?;
        self.remove_part(id, number)?;
        fs::rename(scratch, folder.join(part_name(number, &etag)))?;
        Ok(Part { size: content.len() as u64, etag })
    }

    pub fn parts(&self, id: &str) -> Result<BTreeMap<u16, Part>, UploadError> {
        let mut parts = BTreeMap::new();
        for entry in fs::read_dir(self.folder(id)?)? {
            let entry = entry?;
            let name = entry.file_name();
            let part = name.to_str().and_then(|name| name.strip_prefix("part-"));
            if let Some((number, etag)) = part.and_then(|part| part.split_once('-'))
                && let Ok(number) = number.parse()
            {
                let (size, etag) = (entry.metadata()?.len(), etag.to_owned());
                parts.insert(number, Part { size, etag });
            }
        }
        Ok(parts)
    }

    /// Puts the parts together in a scratch file and tells its ETag, which is
    /// the digest of the parts' digests and their number.
    pub fn assemble(
        &self,
        id: &str,
        chosen: &[(u16, String)],
    ) -> Result<(PathBuf, String), UploadError> {
        let parts = self.parts(id)?;
        if chosen.is_empty() {
            return Err(UploadError::InvalidPart);
        }
        if !chosen.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(UploadError::InvalidPartOrder);
        }
        for (position, (number, etag)) in chosen.iter().enumerate() {
            let part = parts.get(number).filter(|part| part.etag == *etag);
            let part = part.ok_or(UploadError::InvalidPart)?;
            let is_last = position + 1 == chosen.len();
            if part.size < PART_BYTES_MIN && !is_last {
                return Err(UploadError::TooSmall(*number));
            }
        }
        let folder = self.folder(id)?;
        let scratch = self.scratch();
        let mut whole = BufWriter::new(File::create(&scratch)?);
        let mut digests = Md5::new();
        for (number, etag) in chosen {
            let part = File::open(folder.join(part_name(*number, etag)))?;
            let mut copy = HashingCopy { to: &mut whole, hasher: Md5::new() };
            io::copy(&mut BufReader::new(part), &mut copy)?;
            digests.update(copy.hasher.finalize());
        }
        whole.flush()?;
        let etag = format!("{}-{}", hex(&digests.finalize()), chosen.len());
        Ok((scratch, etag))
    }

    pub fn remove(&self, id: &str) -> Result<(), UploadError> {
        fs::remove_dir_all(self.folder(id)?)?;
        Ok(())
    }

    fn remove_part(&self, id: &str, number: u16) -> Result<(), UploadError> {
        if let Some(part) = self.parts(id)?.get(&number) {
            fs::remove_file(self.folder(id)?.join(part_name(number, &part.etag)))?;
        }
        Ok(())
    }

    /// Ids are our own, so anything else names no upload.
    fn folder(&self, id: &str) -> Result<PathBuf, UploadError> {
        let folder = self.root.join(id);
        let ours = id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
        if ours && folder.is_dir() { Ok(folder) } else { Err(UploadError::NoSuchUpload) }
    }
}

fn part_name(number: u16, etag: &str) -> String {
    format!("part-{number:05}-{etag}")
}

struct HashingCopy<'a, W> {
    to: &'a mut W,
    hasher: Md5,
}

impl<W: Write> Write for HashingCopy<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_parts_together_as_s3_does() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(dir.path(), Arc::new(Ids::new(1))).unwrap();
        let upload = Upload {
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            description: Description::default(),
        };
        let id = uploads.create(&upload).unwrap();
        assert_eq!(uploads.get(&id, "b", "k").unwrap(), upload);
        assert!(matches!(uploads.get(&id, "b", "other"), Err(UploadError::NoSuchUpload)));

        let big = vec![b'x'; PART_BYTES_MIN as usize];
        uploads.put_part(&id, 1, b"replaced").unwrap();
        let one = uploads.put_part(&id, 1, &big).unwrap().etag;
        let two = uploads.put_part(&id, 2, b"end").unwrap().etag;
        let chosen = |list: &[(u16, &String)]| -> Vec<(u16, String)> {
            list.iter().map(|(n, e)| (*n, (*e).clone())).collect()
        };
        for (list, expected) in [
            (chosen(&[(2, &two), (1, &one)]), "order"),
            (chosen(&[(1, &two)]), "InvalidPart"),
            (chosen(&[(3, &two)]), "InvalidPart"),
            (chosen(&[]), "InvalidPart"),
        ] {
            let error = uploads.assemble(&id, &list).unwrap_err();
            assert!(format!("{error:?} {error}").contains(expected), "{error:?}");
        }
        let (file, etag) = uploads.assemble(&id, &chosen(&[(1, &one), (2, &two)])).unwrap();
        assert_eq!(fs::metadata(file).unwrap().len(), PART_BYTES_MIN + 3);
        assert!(etag.ends_with("-2"));
        uploads.remove(&id).unwrap();
        assert!(matches!(uploads.parts(&id), Err(UploadError::NoSuchUpload)));
    }

    #[test]
    fn ids_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(dir.path(), Arc::new(Ids::new(1))).unwrap();
        for id in ["", "..", "../../etc", "0123"] {
            assert!(matches!(uploads.parts(id), Err(UploadError::NoSuchUpload)), "{id}");
        }
    }
}
