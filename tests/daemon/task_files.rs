//! Task files that come, go and break while the daemon runs.

use std::fs;

use sluicegate::aws;
use sluicegate::aws::store::Store;

use crate::world::{World, daily_file, daily_task, requests_file};

/// Six seconds of this clock are a tick of a few dozen milliseconds.
async fn world(path: &str) -> World {
    let files = format!("task-files = {{ path = \"{path}\", interval = \"6s\" }}\n");
    let mut world =
        World::at(&(daily_file("a") + &daily_file("b")), "2013-01-01T00:00:00Z", 100.0).await;
    world.stop().await;
    world.configure_head(&files);
    world
}

#[tokio::test]
async fn files_come_go_and_break_without_touching_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("first.toml", &daily_task("first", &["a"], "true"));
    let mut world = world(&folder.path().display().to_string()).await;
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("first/2013-01-01/succeeded").await;

    write("broken.toml", "[tasks.second\n");
    write("third.toml", &daily_task("third", &["b"], "true"));
    let mail = world.mail("task-files-broken").await;
    assert!(mail.text.contains("broken.toml:1:"), "{}", mail.text);
    assert_eq!(mail.attributes["severity"], "failure");
    world.put("b/2013-01-01.csv", "1").await;
    world.mail("third/2013-01-01/succeeded").await;

    write("broken.toml", &daily_task("second", &["b"], "true"));
    world.mail("task-files-mended").await;
    world.put("b/2013-01-02.csv", "1").await;
    world.mail("second/2013-01-02/succeeded").await;
    assert_eq!(world.mails_about("task-files-broken").len(), 1);
}

#[tokio::test]
async fn a_restart_with_a_broken_file_goes_on_with_what_was_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("only.toml");
    fs::write(&path, daily_task("only", &["a"], "true")).unwrap();
    let mut world = world(&folder.path().display().to_string()).await;
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("only/2013-01-01/succeeded").await;
    world.kill().await;
    fs::write(&path, "oh no").unwrap();
    world.start().await;
    world.put("a/2013-01-02.csv", "1").await;
    world.mail("only/2013-01-02/succeeded").await;
    world.mail("task-files-broken").await;
}

#[tokio::test]
async fn a_prefix_in_s3_holds_task_files_too() {
    let mut world = world("s3://landing/etc/tasks/").await;
    world.put("etc/tasks/one.toml", daily_task("one", &["a"], "true")).await;
    world.put("etc/tasks/notes.txt", "no task file").await;
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("one/2013-01-01/succeeded").await;
    world.put("etc/tasks/two.toml", daily_task("two", &["b"], "true")).await;
    // What arrives before its task is known starts nothing: put it again.
    for number in 0.. {
        world.put("b/2013-01-02.csv", number.to_string()).await;
        world.taken().await;
        if !world.mails_about("two/2013-01-02").is_empty() {
            break;
        }
        assert!(number < 1000, "the second file is never in force");
    }
    world.mail("two/2013-01-02/succeeded").await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_said_at_the_start() {
    let mut world = world("/no/such/folder").await;
    world.start().await;
    let error = world.ended().await.unwrap_err().to_string();
    assert!(error.starts_with("the task files in /no/such/folder cannot be read"), "{error}");
}

/// Whoever kept the first files died on the way: what arrives for the others would
/// be taken for nobody's.
#[tokio::test]
async fn a_start_without_the_folder_needs_all_that_was_in_force() {
    let mut world = world("/no/such/folder").await;
    let store = Store::new(&aws::connect(&world.access()).await, "test-");
    store.keep_task_file("only.toml", Some(&daily_task("only", &["a"], "true"))).await.unwrap();
    world.start().await;
    let error = world.ended().await.unwrap_err().to_string();
    assert!(error.starts_with("the task files in /no/such/folder cannot be read"), "{error}");
    store.task_files_are_complete().await.unwrap();
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("only/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn a_folder_that_is_empty_all_at_once_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("only.toml");
    fs::write(&path, daily_task("only", &["a"], "true")).unwrap();
    let mut world = world(&folder.path().display().to_string()).await;
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("only/2013-01-01/succeeded").await;
    fs::remove_file(&path).unwrap();
    let mail = world.mail("task-files-broken").await;
    assert!(mail.text.contains("no file is there any more"), "{}", mail.text);
    world.put("a/2013-01-02.csv", "1").await;
    world.mail("only/2013-01-02/succeeded").await;
}

/// How often a task's whole history was read for its waiting partitions.
fn revisits(task: &str) -> usize {
    let log = fs::read_to_string(requests_file(None)).unwrap();
    let requests = log.lines().filter_map(|line| {
        // The last line may be half written.
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["action"] == "Query").then(|| line["body"].as_str().unwrap().to_owned())
    });
    let about = format!("{{\"S\":\"{task}\"}}");
    requests.filter(|body| body.contains(":waiting") && body.contains(&about)).count()
}

#[tokio::test]
async fn a_change_revisits_only_the_tasks_that_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("first.toml", &daily_task("first", &["a"], "true"));
    let mut world = world(&folder.path().display().to_string()).await;
    world.start().await;
    world.put("a/2013-01-01.csv", "1").await;
    world.mail("first/2013-01-01/succeeded").await;
    let before = revisits("first");
    assert!(before > 0, "the start looks at everything");
    write("second.toml", &daily_task("second", &["b"], "true"));
    world.until("a look at the second", || (revisits("second") == 1).then_some(())).await;
    assert_eq!(revisits("first"), before);
    write("first.toml", &daily_task("first", &["a", "b"], "true"));
    world.until("a look at the first", || (revisits("first") > before).then_some(())).await;
    assert_eq!(revisits("second"), 1);
}
