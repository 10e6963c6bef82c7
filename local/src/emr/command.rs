//! Which program a step or bootstrap action runs, with which arguments.
//! Not for running it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::folder::JobFolder;
use super::request::{HadoopJarStep, ScriptBootstrapAction};

/// A program, looked up in PATH unless it is a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub program: PathBuf,
    pub args: Vec<String>,
}

/// Why a job has no program to run; its message is the step's failure.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{0} needs a command in its arguments")]
    NoCommand(&'static str),
    #[error("no such object: {0}")]
    NoSuchObject(String),
    #[error("cannot read {0}")]
    Unreadable(String, #[source] io::Error),
}

/// What a step runs.
pub fn of_step(
    step: &HadoopJarStep,
    buckets: &Path,
    folder: &JobFolder,
) -> Result<Invocation, CommandError> {
    let name = step.jar.rsplit('/').next().unwrap_or_default();
    let first = step.args.split_first();
    match (name, first) {
        ("command-runner.jar", None) => Err(CommandError::NoCommand("command-runner.jar")),
        ("command-runner.jar", Some((program, args))) => {
            Ok(Invocation { program: PathBuf::from(program), args: args.to_vec() })
        }
        ("script-runner.jar", None) => Err(CommandError::NoCommand("script-runner.jar")),
        ("script-runner.jar", Some((script, args))) => script_of(script, args, buckets, folder),
        _ => java(step, buckets),
    }
}

/// What a bootstrap action runs.
pub fn of_bootstrap_action(
    action: &ScriptBootstrapAction,
    buckets: &Path,
    folder: &JobFolder,
) -> Result<Invocation, CommandError> {
    script_of(&action.path, &action.args, buckets, folder)
}

/// A script is fetched like any file, made executable and run.
fn script_of(
    script: &str,
    args: &[String],
    buckets: &Path,
    folder: &JobFolder,
) -> Result<Invocation, CommandError> {
    let args = args.to_vec();
    // AWS's own scripts lie in buckets named after it, one a region.
    if script.contains("elasticmapreduce/libs/") {
        let program = script.rsplit('/').next().unwrap_or_default();
        return Ok(Invocation { program: PathBuf::from(program), args });
    }
    let unreadable = |source| CommandError::Unreadable(script.to_owned(), source);
    let Some(object) = local_path(script, buckets) else {
        let program = PathBuf::from(script.trim_start_matches("file://"));
        return Ok(Invocation { program, args });
    };
    if !object.is_file() {
        return Err(CommandError::NoSuchObject(script.to_owned()));
    }
    let copy = folder.work().join(object.file_name().unwrap_or_default());
    fs::copy(&object, &copy).map_err(unreadable)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(unreadable)?;
    if names_its_interpreter(&copy).map_err(unreadable)? {
        return Ok(Invocation { program: copy, args });
    }
    let path = copy.to_string_lossy().into_owned();
    Ok(Invocation {
        program: PathBuf::from("bash"),
        args: [path].into_iter().chain(args).collect(),
    })
}

fn names_its_interpreter(script: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    fs::File::open(script)?.take(2).read_to_end(&mut start)?;
    Ok(start == b"#!")
}

fn java(step: &HadoopJarStep, buckets: &Path) -> Result<Invocation, CommandError> {
    let jar = match local_path(&step.jar, buckets) {
        Some(object) if !object.is_file() => {
            return Err(CommandError::NoSuchObject(step.jar.clone()));
        }
        Some(object) => object,
        None => PathBuf::from(step.jar.trim_start_matches("file://")),
    };
    let jar = jar.to_string_lossy().into_owned();
    let properties = step.properties.iter();
    let mut args: Vec<String> =
        properties.map(|pair| format!("-D{}={}", pair.key, pair.value)).collect();
    match &step.main_class {
        Some(main) => args.extend(["-cp".to_owned(), jar, main.clone()]),
        None => args.extend(["-jar".to_owned(), jar]),
    }
    args.extend(step.args.iter().cloned());
    Ok(Invocation { program: PathBuf::from("java"), args })
}

/// Where an `s3://bucket/key` lies; `None` if it is none. Keys that climb out
/// of their bucket lead to no file.
pub fn local_path(uri: &str, buckets: &Path) -> Option<PathBuf> {
    let schemes = ["s3://", "s3n://", "s3a://"];
    let rest = schemes.iter().find_map(|scheme| uri.strip_prefix(scheme))?;
    let parts = rest.split('/').filter(|part| !part.is_empty() && *part != ".");
    Some(parts.fold(buckets.to_owned(), |path, part| {
        path.join(if part == ".." { "\u{fffd}" } else { part })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emr::folder::ClusterFolder;
    use crate::emr::model::Job;

    #[test]
    fn finds_the_program_of_every_kind_of_step() {
        let data = tempfile::tempdir().unwrap();
        let buckets = data.path().join("s3");
        fs::create_dir_all(buckets.join("code")).unwrap();
        fs::write(buckets.join("code/run.sh"), "#!/bin/sh\n").unwrap();
        fs::write(buckets.join("code/bare.sh"), "echo\n").unwrap();
        fs::write(buckets.join("code/app.jar"), "").unwrap();
        let folder = ClusterFolder::new(data.path(), "j-1").job(&Job::BootstrapAction(0));
        folder.prepare().unwrap();
        let work = folder.work().display().to_string();
        let jar = buckets.join("code/app.jar").display().to_string();
        let library = "s3://eu-west-1.elasticmapreduce/libs";
        for (name, args, expected) in [
            ("command-runner.jar", "bash -c x", "bash -c x".to_owned()),
            (
                "command-runner.jar",
                "",
                "command-runner.jar needs a command in its arguments".to_owned(),
            ),
            ("s3://x/libs/script-runner.jar", "s3://code/run.sh a", format!("{work}/run.sh a")),
            ("script-runner.jar", "s3://code/bare.sh a", format!("bash {work}/bare.sh a")),
            (
                "script-runner.jar",
                "s3://code/none.sh",
                "no such object: s3://code/none.sh".to_owned(),
            ),
            (
                "script-runner.jar",
                "s3://code/../../x",
                "no such object: s3://code/../../x".to_owned(),
            ),
            ("script-runner.jar", "/bin/true", "/bin/true".to_owned()),
            ("s3://code/app.jar", "in out", format!("java -jar {jar} in out")),
            ("s3://code/none.jar", "", "no such object: s3://code/none.jar".to_owned()),
        ] {
            check(name, args, &buckets, &folder, &expected);
        }
        let hive = format!("{library}/hive/hive-script --args -f x");
        check("script-runner.jar", &hive, &buckets, &folder, "hive-script --args -f x");
    }

    fn check(jar: &str, args: &str, buckets: &Path, folder: &JobFolder, expected: &str) {
        let step = HadoopJarStep {
            jar: jar.to_owned(),
            main_class: None,
            args: args.split_whitespace().map(str::to_owned).collect(),
            properties: Vec::new(),
        };
        let found = match of_step(&step, buckets, folder) {
            Ok(found) => {
                let program = found.program.display().to_string();
                [vec![program], found.args].concat().join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }
}
