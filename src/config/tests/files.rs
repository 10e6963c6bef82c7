//! A main file and task files checked together: every mistake of every file.

use std::fs;

use super::GOOD;
use crate::config::load_with_task_files;

/// A task of its own name that nothing is wrong with.
fn task(name: &str) -> String {
    format!(
        "[tasks.{name}]\nprofile = \"small\"\npartition = \"hour\"\n\
         inputs = [{{ dataset = \"etl\" }}]\n\
         steps = [{{ name = \"s\", kind = \"command\", args = [\"true\"] }}]\n"
    )
}

/// What is said, with the folder left out of it.
fn check(main: &str, files: &[(&str, &[u8])]) -> Result<usize, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    fs::write(&path, format!("task-files = {{ path = \"tasks\" }}\n{main}")).unwrap();
    let tasks = folder.path().join("tasks");
    fs::create_dir(&tasks).unwrap();
    for (name, text) in files {
        fs::write(tasks.join(name), text).unwrap();
    }
    let said = load_with_task_files(&path).map(|config| config.catalog.tasks.len());
    said.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

/// The places of all mistakes, in the order in which they are said.
fn places(said: &str) -> Vec<&str> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("error: "));
    lines.map(|line| line.split_once(": ").unwrap().0).collect()
}

#[test]
fn one_broken_file_hides_no_mistake_of_the_others() {
    let (good, spare) = (task("good"), task("spare"));
    let files = [("a.toml", good.as_bytes()), ("b.toml", spare.as_bytes())];
    assert_eq!(check(GOOD, &files), Ok(3));

    let main = GOOD.replace("{ dataset = \"raw\" }", "{ dataset = \"rav\" }");
    let wrong = task("wrong").replace("\"small\"", "\"smal\"").replace("partition", "partitions");
    let value = task("value").replace("\"true\"", "\"{partiton}\"");
    let said = check(
        &main,
        &[
            ("a.toml", b"[tasks.broken\n"),
            ("b.toml", wrong.as_bytes()),
            ("c.toml", value.as_bytes()),
            ("d.toml", b"# caf\xe9\n"),
            ("e.toml", good.as_bytes()),
        ],
    );
    let said = said.unwrap_err();
    let expected = [
        "x.toml:29:23",
        "tasks/a.toml:1:14",
        "tasks/b.toml:3:1",
        "tasks/c.toml:5:50",
        "tasks/d.toml",
    ];
    assert_eq!(places(&said), expected, "{said}");
    assert!(said.ends_with("\n5 mistakes"), "{said}");
}

#[test]
fn what_a_broken_file_may_declare_is_missed_nowhere() {
    let reader = task("reader").replace("\"etl\"", "\"partner\"").replace("\"small\"", "\"big\"");
    // Judged by its task alone, which stands in the broken file.
    let made = "[datasets.made]\nlocation = \"s3://landing/made/{yyyy}/{MM}/{dd}/{HH}/*\"\n";
    let broken =
        "[datasets.partner]\n[profiles.big]\n[tasks.maker]\noutputs = [\"made\"]\nsteps = [\n";
    let files = [
        ("a.toml", reader.as_bytes()),
        ("b.toml", made.as_bytes()),
        ("broken.toml", broken.as_bytes()),
    ];
    let said = check(GOOD, &files).unwrap_err();
    assert_eq!(places(&said), ["tasks/broken.toml:5:10"], "{said}");
}

#[test]
fn a_main_file_with_mistakes_hides_none_of_the_task_files() {
    let main = GOOD.replace("queue = \"inbox\"", "queue = 1");
    let wrong = task("wrong").replace("partition", "partitions");
    let said = check(&main, &[("a.toml", wrong.as_bytes())]).unwrap_err();
    assert_eq!(places(&said), ["x.toml:6:9", "tasks/a.toml:3:1"], "{said}");
    // Nor is anything said twice.
    let said = check(&main, &[]).unwrap_err();
    assert_eq!(places(&said), ["x.toml:6:9"], "{said}");
    let said = check(&main.replace("[aws]", "task-files = { path = \"gone\" }\n[aws]"), &[]);
    assert!(said.is_err());
}
