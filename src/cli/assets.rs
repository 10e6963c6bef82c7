//! `deploy-assets`: puts into S3 what a template of CloudFormation cannot: the scripts that
//! clusters need, the first configuration, the code of jobs. Deletes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use walkdir::{DirEntry, WalkDir};

use super::output::Output;
use super::{AwsArgs, Failure, task_files, unreadable};
use crate::aws::{self, s3::S3};
use crate::config::{self, Assets, Config, Place, TaskFiles};
use crate::core::catalog::StepWork;

/// Name and content of each script.
const SCRIPTS: [(&str, &str); 1] =
    [(Assets::DEADLINE, include_str!("../../deploy/emr/deadline.sh"))];
/// Where the template's container fetches the main file.
const MAIN: &str = "config/sluicegate.toml";
const CODE: &str = "code/";

/// Put into S3 what clusters and the service need there
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate deploy-assets --config prod.toml\n  \
    sluicegate deploy-assets --config prod.toml --main --tasks tasks --code jobs --dry-run\n  \
    sluicegate deploy-assets --config prod.toml --main --tasks tasks --code jobs\n\n\
    The scripts that clusters need go to [aws] assets, always; task files go to [task-files] \
    path. The main file and code go beside the assets, as the template lays out its bucket: \
    with assets = \"s3://work/assets/\" to s3://work/config/sluicegate.toml and to \
    s3://work/code/. Main file and task files are checked together first. Nothing is deleted. \
    Needs s3:PutObject there, which the service itself does not have. To be repeated after an \
    upgrade.")]
pub struct DeployArgs {
    /// Also the main file; the service reads it when it starts
    #[arg(long)]
    main: bool,
    /// Also the task files of this folder
    #[arg(long, value_name = "FOLDER")]
    tasks: Option<PathBuf>,
    /// Also all files of this folder but hidden ones, under their paths there; links are refused
    #[arg(long, value_name = "FOLDER")]
    code: Option<PathBuf>,
    /// Check, and say what would be put
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

/// What is put: bucket and key → content.
type Puts = BTreeMap<(String, String), Content>;

enum Content {
    Text(String),
    File(PathBuf),
}

pub async fn deploy(args: &DeployArgs) -> Result<Output, Failure> {
    let puts = puts(args)?;
    let places: Vec<_> = puts.keys().map(|(bucket, key)| format!("s3://{bucket}/{key}")).collect();
    if args.dry_run {
        let text = format!("would put:\n    {}", places.join("\n    "));
        return Output::new(text, &json!({ "would_put": places }));
    }
    let session = args.aws.connect().await?;
    let s3 = S3::new(&aws::patient(&session.aws));
    if args.tasks.is_some()
        && let Some(TaskFiles { place: Place::Prefix { bucket, prefix }, .. }) =
            &session.config.settings.task_files
    {
        tell_others(&s3, bucket, prefix, &puts).await;
    }
    for (((bucket, key), content), place) in puts.into_iter().zip(&places) {
        let content = match content {
            Content::Text(text) => text.into_bytes(),
            Content::File(path) => {
                fs::read(&path).map_err(|error| unreadable("--code", &path, &error))?
            }
        };
        s3.put(&bucket, &key, content).await.map_err(|error| {
            Failure::Failed(format!(
                "cannot write {place}: {error}\n    create the bucket, or correct the place or the \
                 permissions; what comes before it in --dry-run is there already"
            ))
        })?;
    }
    let text = format!("put:\n    {}", places.join("\n    "));
    Output::new(text, &json!({ "put": places }))
}

/// Of task files that are there and are not put: the service reads them too, so that one which
/// was renamed is there twice.
async fn tell_others(s3: &S3, bucket: &str, prefix: &str, puts: &Puts) {
    // Who may put need not be allowed to list.
    let Ok(listed) = s3.list(bucket, prefix, config::FILES_MAX).await else { return };
    for key in listed.into_iter().map(|object| object.key) {
        let is_read = key.strip_prefix(prefix).is_some_and(config::is_task_file);
        if is_read && !puts.contains_key(&(bucket.to_owned(), key.clone())) {
            eprintln!(
                "warning: s3://{bucket}/{key} is there too, and the service reads it: remove it with \
                 aws s3 rm if that is not meant"
            );
        }
    }
}

/// All of it, checked before anything is put.
fn puts(args: &DeployArgs) -> Result<Puts, Failure> {
    let path = args.aws.config.path()?;
    let config = match &args.tasks {
        Some(folder) => {
            task_files(folder)?;
            config::load_with_folder(path, folder)?
        }
        None => config::load(path)?,
    };
    if !config.warnings.is_empty() {
        eprintln!("{}", config.warnings);
    }
    let Some(assets) = &config.settings.assets else {
        let text = "the configuration names no place for assets: add assets = \
                    \"s3://BUCKET/PREFIX/\" to [aws]";
        return Err(Failure::Use(text.to_owned()));
    };
    let mut puts: Puts = SCRIPTS
        .map(|(name, script)| {
            let key = format!("{}{name}", assets.prefix);
            ((assets.bucket.clone(), key), Content::Text(script.to_owned()))
        })
        .into();
    let beside = beside(assets);
    let place = |rest: &str| (assets.bucket.clone(), format!("{beside}{rest}"));
    if args.main {
        check_main(args, &config)?;
        puts.insert(place(MAIN), Content::Text(config.main.text.clone()));
    }
    if let Some(folder) = &args.tasks {
        puts.extend(tasks(&config, folder)?);
    }
    if let Some(folder) = &args.code {
        for (name, file) in code(folder)? {
            puts.insert(place(&format!("{CODE}{name}")), Content::File(file));
        }
        tell_missing(&config, &place(CODE), &puts);
    }
    Ok(puts)
}

/// Of scripts that lie where code is put and are not put: names are mistyped.
fn tell_missing(config: &Config, (bucket, code): &(String, String), puts: &Puts) {
    for (name, task) in &config.catalog.tasks {
        for step in &task.steps {
            let (StepWork::SparkSubmit { script, .. } | StepWork::Hive { script, .. }) = &step.work
            else {
                continue;
            };
            let Some(uri) = script.literal() else { continue };
            let key =
                uri.strip_prefix(&format!("s3://{bucket}/")).filter(|it| it.starts_with(code));
            if key.is_some_and(|key| !puts.contains_key(&(bucket.clone(), key.to_owned()))) {
                eprintln!(
                    "warning: step {} of task {name} runs {uri}, which is not put now: correct one \
                     of the names, unless it is there already",
                    step.name
                );
            }
        }
    }
}

/// What the last folder of the assets lies in: empty, or it ends in `/`.
fn beside(assets: &Assets) -> &str {
    let within = assets.prefix.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1);
    &assets.prefix[..within]
}

/// What the service's container could not read, or what was not checked.
fn check_main(args: &DeployArgs, config: &Config) -> Result<(), Failure> {
    let Some(TaskFiles { place, .. }) = &config.settings.task_files else { return Ok(()) };
    if let Place::Folder(folder) = place {
        return Err(Failure::Use(format!(
            "--main: [task-files] path is {}, which the service's container does not have: write \
             path = \"s3://BUCKET/PREFIX/\" there",
            folder.display()
        )));
    }
    if args.tasks.is_none() {
        eprintln!(
            "warning: the main file was checked without the task files in {place}: --tasks FOLDER \
             checks and puts both"
        );
    }
    Ok(())
}

fn tasks(config: &Config, folder: &Path) -> Result<Puts, Failure> {
    let Some(TaskFiles { place: Place::Prefix { bucket, prefix }, .. }) =
        &config.settings.task_files
    else {
        let text = "--tasks: [task-files] path is no place in S3: write path = \
                    \"s3://BUCKET/PREFIX/\" there, or leave --tasks out";
        return Err(Failure::Use(text.to_owned()));
    };
    let found = task_files(folder)?;
    // Those that cannot be read are mistakes, which were found.
    let texts = found.into_iter().filter_map(|(name, text)| Some((name, text.ok()?)));
    let puts = texts
        .map(|(name, text)| ((bucket.clone(), format!("{prefix}{name}")), Content::Text(text)));
    Ok(puts.collect())
}

/// Path from the folder, with `/` → file.
fn code(folder: &Path) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let is_hidden = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() > 0 && (name.starts_with('.') || name == "__pycache__")
    };
    if !folder.is_dir() {
        return Err(Failure::Use(format!("--code: {} is no folder", folder.display())));
    }
    let mut files = BTreeMap::new();
    for entry in WalkDir::new(folder).into_iter().filter_entry(|it| !is_hidden(it)) {
        let entry = entry.map_err(|error| unreadable("--code", folder, &error))?;
        if entry.depth() == 0 || entry.file_type().is_dir() {
            continue;
        }
        // It may lead to what was not meant for the clusters.
        if !entry.file_type().is_file() {
            let text = format!(
                "--code: {} is a link, or no file: put the file itself there, or hide it by a dot",
                entry.path().display()
            );
            return Err(Failure::Use(text));
        }
        let name = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
        let Some(name) = name else {
            let text = format!("--code: the name of {} is not UTF-8", entry.path().display());
            return Err(Failure::Use(text));
        };
        files.insert(name.to_owned(), entry.into_path());
    }
    match files.is_empty() {
        true => Err(Failure::Use(format!("--code: there are no files in {}", folder.display()))),
        false => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_the_assets_is_found() {
        for (prefix, expected) in [("assets/", ""), ("a/b/assets/", "a/b/"), ("", "")] {
            let assets = Assets { bucket: "b".to_owned(), prefix: prefix.to_owned() };
            assert_eq!(beside(&assets), expected, "{prefix}");
        }
    }
}
