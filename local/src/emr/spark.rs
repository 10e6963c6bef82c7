//! The Spark settings of a job: buckets as folders behind `s3://`, a short
//! start, and the cluster's own spark-defaults where they do not ask for a
//! cluster. Not for starting Spark.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use super::folder::{ClusterFolder, JobFolder};
use super::request::Configuration;

/// Half of Spark's cold start is compilation and collection it does not need.
const JVM: &str = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC";
const JVM_OPTIONS: &str = "spark.driver.extraJavaOptions";
/// What only makes sense with machines of one's own.
const CLUSTER_ONLY: &[&str] = &["spark.master", "spark.submit.deployMode", "spark.eventLog.dir"];

/// Writes the settings of spark-submit and of Hive SQL, as of now: a bucket
/// made later is unknown to the job.
pub fn write_settings(
    cluster: &ClusterFolder,
    job: &JobFolder,
    buckets: &Path,
    configurations: &[Configuration],
) -> io::Result<()> {
    let mut settings = of_cluster(configurations);
    let temporary = job.temporary();
    let options = format!("{JVM} -Djava.io.tmpdir={}", quoted(&temporary));
    let own = settings.remove(JVM_OPTIONS).unwrap_or_default();
    settings.insert(JVM_OPTIONS.to_owned(), format!("{options} {own}").trim_end().to_owned());
    for (name, value) in [
        ("spark.ui.enabled", "false"),
        ("spark.eventLog.enabled", "false"),
        ("spark.local.dir", &temporary.to_string_lossy()),
        ("spark.sql.warehouse.dir", &url(&cluster.warehouse())),
        ("spark.hadoop.javax.jdo.option.ConnectionURL", "jdbc:derby:memory:m;create=true"),
        ("spark.hadoop.datanucleus.schema.autoCreateAll", "true"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    for scheme in ["s3", "s3a", "s3n"] {
        let viewfs = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme";
        settings.insert(format!("spark.hadoop.fs.{scheme}.impl"), viewfs.to_owned());
    }
    for entry in fs::read_dir(buckets)? {
        let entry = entry?;
        if let (true, Ok(bucket)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
            let link = format!("spark.hadoop.fs.viewfs.mounttable.{bucket}.linkFallback");
            settings.insert(link, url(&entry.path()));
        }
    }
    write(&job.hive_conf(), &settings)?;
    // Leaves no checksum files behind, but is no LocalFileSystem, which Hive
    // insists on.
    let raw = "org.apache.hadoop.fs.RawLocalFileSystem";
    settings.insert("spark.hadoop.fs.file.impl".to_owned(), raw.to_owned());
    write(&job.spark_conf(), &settings)
}

/// The properties of all `spark-defaults` of a cluster, the later winning.
fn of_cluster(configurations: &[Configuration]) -> BTreeMap<String, String> {
    let classified = |c: &&Configuration| c.classification.as_deref() == Some("spark-defaults");
    let defaults = configurations.iter().filter(classified);
    defaults
        .flat_map(|defaults| defaults.properties.clone())
        .filter(|(name, _)| !CLUSTER_ONLY.contains(&name.as_str()))
        .collect()
}

fn write(folder: &Path, settings: &BTreeMap<String, String>) -> io::Result<()> {
    let mut text = String::new();
    for (name, value) in settings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}={}", escaped(name, true), escaped(value, false));
    }
    fs::write(folder.join("spark-defaults.conf"), text)
}

/// Java's properties format.
fn escaped(text: &str, is_name: bool) -> String {
    let mut escaped = String::new();
    for (index, letter) in text.chars().enumerate() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            ' ' | ':' | '=' | '#' | '!' if is_name || (letter == ' ' && index == 0) => {
                escaped.push('\\');
                escaped.push(letter);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Spark splits these options as a shell would.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_defaults_apply_but_not_its_master() {
        let data = tempfile::tempdir().unwrap();
        let buckets = data.path().join("s3");
        fs::create_dir_all(buckets.join("raw.logs")).unwrap();
        let cluster = ClusterFolder::new(data.path(), "j-1");
        let job = cluster.job(&super::super::model::Job::BootstrapAction(0));
        job.prepare().unwrap();
        let configurations: Vec<Configuration> = serde_json::from_value(serde_json::json!([
            {"Classification": "spark-defaults", "Properties": {
                "spark.master": "yarn", "spark.sql.shuffle.partitions": "7",
                "spark.driver.extraJavaOptions": "-Dx=1"}},
            {"Classification": "hive-site", "Properties": {"spark.not": "this"}},
        ]))
        .unwrap();
        write_settings(&cluster, &job, &buckets, &configurations).unwrap();

        let spark = fs::read_to_string(job.spark_conf().join("spark-defaults.conf")).unwrap();
        let hive = fs::read_to_string(job.hive_conf().join("spark-defaults.conf")).unwrap();
        let link = format!(
            "spark.hadoop.fs.viewfs.mounttable.raw.logs.linkFallback=file://{}/raw.logs\n",
            buckets.display()
        );
        for text in [&spark, &hive] {
            assert!(text.contains("spark.sql.shuffle.partitions=7\n"), "{text}");
            assert!(text.contains(" -Dx=1\n") && text.contains(JVM), "{text}");
            assert!(text.contains(&link), "{text}");
            assert!(!text.contains("yarn") && !text.contains("spark.not"), "{text}");
        }
        assert!(spark.contains("RawLocalFileSystem") && !hive.contains("RawLocalFileSystem"));
    }

    #[test]
    fn escapes_what_properties_files_give_a_meaning() {
        assert_eq!(escaped("a b=c", true), "a\\ b\\=c");
        assert_eq!(escaped(" a=b\\d\n", false), "\\ a=b\\\\d\\n");
    }
}
