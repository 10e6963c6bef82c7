//! `deploy-assets`: what it puts into S3, and that it puts nothing of a configuration that has
//! mistakes.

use std::fs;
use std::path::Path;

use sluicegate::aws;
use sluicegate::aws::s3::S3;

use crate::commands::{ask, sluicegate};
use crate::world::{BUCKET, World, daily_file, daily_task};

async fn put(world: &World) -> Vec<String> {
    let s3 = S3::new(&aws::connect(&world.access()).await);
    let listed = s3.list(BUCKET, "team/", 100).await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

async fn deploy(world: &World, folder: &Path, more: &[&str]) -> (i32, String, String) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (tasks, code) = (path("tasks"), path("jobs"));
    let words = ["deploy-assets", "--main", "--tasks", &tasks, "--code", &code];
    ask(world, &[&words, more].concat()).await
}

#[tokio::test]
async fn one_command_puts_all_that_a_stack_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("tasks/t.toml", &daily_task("t", &["a"], "true"));
    write("tasks/notes.txt", "no task file");
    write("jobs/etl.py", "print()");
    write("jobs/lib/deep.sql", "select 1");
    write("jobs/.git/config", "hidden");
    let mut world = World::new(&daily_file("a")).await;
    world.stop().await;
    world.configure_head("task-files = { path = \"s3://landing/team/config/tasks/\" }\n");
    world.reconfigure("[aws]\n", "[aws]\nassets = \"s3://landing/team/assets/\"\n");

    let (code, said, error) = deploy(&world, folder.path(), &["--dry-run"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(said.starts_with("would put:\n    s3://landing/team/assets/deadline.sh\n"), "{said}");
    assert!(put(&world).await.is_empty());
    assert!(!error.contains("is not put now"), "{error}");
    let (code, _, error) = deploy(&world, folder.path(), &["--json"]).await;
    assert_eq!(code, 0, "{error}");
    let expected = [
        "team/assets/deadline.sh",
        "team/code/etl.py",
        "team/code/lib/deep.sql",
        "team/config/sluicegate.toml",
        "team/config/tasks/t.toml",
    ];
    assert_eq!(put(&world).await, expected);

    // With that the service runs.
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("t/2013-01-01/succeeded").await;

    // A script whose name is mistyped is in no folder of code.
    let spark = daily_task("t", &["a"], "true").replace(
        "kind = \"command\"\nargs = [\"bash\", \"-c\", '''true''']",
        "kind = \"spark-submit\"\nscript = \"s3://landing/team/code/elt.py\"",
    );
    write("tasks/t.toml", &spark);
    let (_, _, error) = deploy(&world, folder.path(), &["--dry-run"]).await;
    assert!(error.contains("step work of task t runs s3://landing/team/code/elt.py"), "{error}");
    write("tasks/t.toml", &spark.replace("elt.py", "etl.py"));
    let (_, _, error) = deploy(&world, folder.path(), &["--dry-run"]).await;
    assert!(!error.contains("is not put now"), "{error}");
    write("tasks/t.toml", &daily_task("t", &["a"], "true"));

    // What is renamed is there twice.
    fs::rename(folder.path().join("tasks/t.toml"), folder.path().join("tasks/u.toml")).unwrap();
    let (code, _, error) = deploy(&world, folder.path(), &[]).await;
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("s3://landing/team/config/tasks/t.toml is there too"), "{error}");
    // What is looked at without S3 says so, or takes a folder.
    let tasks = folder.path().join("tasks").display().to_string();
    for (words, reads) in
        [(&["check"][..], false), (&["plan"], false), (&["check", "--tasks", &tasks], true)]
    {
        let config = world.config_file();
        let path = config.path().display().to_string();
        let (code, _, error) = sluicegate(&[words, &["--config", &path]].concat());
        assert_eq!((code, error.contains("are not read")), (0, !reads), "{words:?}: {error}");
    }
    let config = world.config_file();
    let path = config.path().display().to_string();
    let day = ["plan", "--task", "t", "--partition", "2013-01-01", "--tasks", &tasks];
    let (code, said, _) = sluicegate(&[&day[..], &["--config", &path]].concat());
    assert!(code == 0 && said.contains("bash"), "{said}");
}

#[tokio::test]
async fn nothing_is_put_of_what_has_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("tasks")).unwrap();
    let task = folder.path().join("tasks/t.toml");
    fs::write(&task, daily_task("t", &["a"], "true")).unwrap();
    let world = World::new(&daily_file("a")).await;
    let said = async |world: &World| {
        let (code, _, error) = deploy(world, folder.path(), &[]).await;
        assert_eq!(code, 2, "{error}");
        error
    };
    assert!(said(&world).await.contains("add assets = "));
    let mut world = world;
    world.reconfigure("[aws]\n", "[aws]\nassets = \"s3://landing/team/assets/\"\n");
    assert!(said(&world).await.contains("[task-files] path is no place in S3"));
    world.configure_head("task-files = { path = \"s3://landing/team/config/tasks/\" }\n");
    fs::remove_file(&task).unwrap();
    assert!(said(&world).await.contains("no task files (*.toml)"));
    fs::write(&task, daily_task("t", &["nobody"], "true")).unwrap();
    assert!(said(&world).await.contains("t.toml:"));
    fs::write(&task, daily_task("t", &["a"], "true")).unwrap();
    assert!(said(&world).await.contains("jobs is no folder"));
    fs::create_dir(folder.path().join("jobs")).unwrap();
    assert!(said(&world).await.contains("there are no files in"));
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("jobs/etl.py")).unwrap();
    assert!(said(&world).await.contains("etl.py is a link, or no file"));
    assert!(put(&world).await.is_empty());
}
