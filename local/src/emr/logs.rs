//! A job's logs: what they say of a failure, and their way to the log URI as
//! `.gz` files. Not for the log of this program.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::folder::{JobFolder, LOGS};
use crate::s3::S3;

/// Where in a log's end a failure is looked for, and how much of it is told.
const TAIL_BYTES: u64 = 64 * 1024;
const MESSAGE_CHARS_MAX: usize = 1000;

/// The line that says best why a process failed: the last that names an
/// error, or else the last one of standard error. Python's errors are on
/// standard output where Spark ran it.
pub fn failure_message(job: &JobFolder) -> Option<String> {
    let [stderr, stdout] =
        ["stderr", "stdout"].map(|name| tail(&job.log(name)).unwrap_or_default());
    let named =
        |text: &str| text.lines().rev().find(|line| names_an_error(line)).map(str::to_owned);
    let last = || stderr.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
    let line = named(&stderr).or_else(|| named(&stdout)).or_else(last)?;
    Some(line.trim().chars().take(MESSAGE_CHARS_MAX).collect())
}

/// `ValueError: …`, `java.io.IOException: …`, `Exception in thread …`.
fn names_an_error(line: &str) -> bool {
    if line.starts_with("Exception in thread") {
        return true;
    }
    let (kind, _) = line.split_once(':').unwrap_or((line, ""));
    let is_name = |letter: char| letter.is_alphanumeric() || ['.', '_', '$'].contains(&letter);
    (kind.ends_with("Error") || kind.ends_with("Exception")) && kind.chars().all(is_name)
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Puts a job's logs below `prefix`, a key of the bucket. As on EMR, nothing
/// arrives where the bucket is missing.
pub fn upload(job: &JobFolder, s3: &S3, bucket: &str, prefix: &str) -> io::Result<()> {
    let root = s3.root().join(bucket);
    if !root.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no bucket {bucket}")));
    }
    for name in LOGS {
        let Ok(mut log) = File::open(job.log(name)) else {
            continue;
        };
        let compressed = job.log(&format!("{name}.gz"));
        let mut encoder = GzEncoder::new(File::create(&compressed)?, Compression::fast());
        io::copy(&mut log, &mut encoder)?;
        encoder.finish()?;
        let key = format!("{prefix}/{name}.gz");
        let object = root.join(&key);
        if let Some(folder) = object.parent() {
            fs::create_dir_all(folder)?;
        }
        // Whole or not at all, as an object of S3.
        fs::rename(&compressed, &object)?;
        s3.announce(bucket, &key).map_err(io::Error::other)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emr::folder::ClusterFolder;
    use crate::emr::model::Job;

    #[test]
    fn finds_the_line_that_names_the_error() {
        let java = "x\norg.apache.spark.SparkException: no path\n\tat a.b\n";
        let python = "Traceback:\n  File x\nValueError: bad hour\n";
        let main = "Exception in thread \"main\" java.lang.X\n\tat y\n";
        let info = "24/01/01 INFO Stopping\n24/01/01 ERROR Utils: Error: x\nbye\n\n";
        for (stderr, stdout, expected) in [
            (python, "", Some("ValueError: bad hour")),
            (java, python, Some("org.apache.spark.SparkException: no path")),
            (main, "", Some("Exception in thread \"main\" java.lang.X")),
            (info, python, Some("ValueError: bad hour")),
            (info, "rows 3\n", Some("bye")),
            ("", "", None),
        ] {
            let data = tempfile::tempdir().unwrap();
            let job = ClusterFolder::new(data.path(), "j-1").job(&Job::BootstrapAction(0));
            job.prepare().unwrap();
            fs::write(job.log("stderr"), stderr).unwrap();
            fs::write(job.log("stdout"), stdout).unwrap();
            assert_eq!(failure_message(&job).as_deref(), expected);
        }
    }
}
