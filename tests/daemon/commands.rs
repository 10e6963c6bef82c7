//! The commands as an operator types them, with the real binary: what they
//! answer, in which form, and with which exit code.

use std::process::{Command, Stdio};

use clap::Command as Described;
use serde_json::Value;

use crate::world::{World, daily_file, daily_task};

/// Exit code, standard output and error.
pub fn sluicegate(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(args)
        .env("RUST_LOG", "off")
        .env_remove("USER")
        .env_remove("LOGNAME")
        // The default port may be taken here.
        .env("SLUICEGATE_HTTP", "off")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The same beside a world's daemon.
pub async fn ask(world: &World, args: &[&str]) -> (i32, String, String) {
    let config = world.config_file();
    let mut all: Vec<String> = args.iter().map(ToString::to_string).collect();
    all.extend(["--local".to_owned(), world.local.endpoint().to_owned()]);
    all.extend(["--config".to_owned(), config.path().display().to_string()]);
    let run = tokio::task::spawn_blocking(move || {
        sluicegate(&all.iter().map(String::as_str).collect::<Vec<_>>())
    });
    run.await.unwrap()
}

/// What a command answers when it succeeds.
pub async fn answer(world: &World, args: &[&str]) -> String {
    let (code, out, error) = ask(world, args).await;
    assert_eq!((code, error.as_str()), (0, ""), "{args:?}");
    out
}

pub async fn json(world: &World, args: &[&str]) -> Value {
    let out = answer(world, &[args, &["--json"]].concat()).await;
    serde_json::from_str(&out).unwrap()
}

/// Asks why until the sentence is about the wanted state.
async fn until_why(world: &World, partition: &str, part: &str) -> String {
    let check = || async {
        let sentence = answer(world, &["why", "t", partition]).await;
        sentence.contains(part).then_some(sentence)
    };
    world.until_async(part, check).await
}

#[tokio::test]
async fn a_partition_is_followed_from_nothing_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let script = format!("until test -e {path}/go; do sleep 0.05; done");
    let tasks = daily_file("a") + &daily_file("b") + &daily_task("t", &["a", "b"], &script);
    let world = World::new(&tasks).await;
    assert_eq!(
        answer(&world, &["why", "t", "2013-01-01"]).await,
        "t 2013-01-01 has received nothing yet and waits for a 2013-01-01 and b 2013-01-01.\n"
    );
    world.put("a/2013-01-01.csv", "1").await;
    until_why(&world, "2013-01-01", "t 2013-01-01 waits for b 2013-01-01.").await;
    let status = json(&world, &["status"]).await;
    assert_eq!(status["tasks"]["t"]["counts"]["waiting"], 1);
    assert_eq!(status["tasks"]["t"]["oldest_waiting"], "2013-01-01");
    assert_eq!(status["open_runs"].as_array().unwrap().len(), 0);

    world.put("b/2013-01-01.csv", "1").await;
    let sentence = until_why(&world, "2013-01-01", "step work runs on cluster j-").await;
    assert!(sentence.starts_with("t 2013-01-01 is running in run 01"), "{sentence}");
    let runs = json(&world, &["runs", "--task", "t"]).await;
    let id = runs["runs"][0]["id"].as_str().unwrap();
    assert_eq!(runs["runs"][0]["state"], "running");
    assert_eq!(runs["runs"][0]["members"], "t 2013-01-01");
    let status = answer(&world, &["status"]).await;
    assert!(status.contains("open runs   1") && status.contains(id), "{status}");

    std::fs::write(folder.path().join("go"), "").unwrap();
    until_why(&world, "2013-01-01", "t 2013-01-01 succeeded at ").await;
    world.mail("run-succeeded").await;
    let shown = json(&world, &["run", "show", &id[..20].to_lowercase()]).await;
    assert_eq!(shown["id"], id);
    assert_eq!(shown["state"], "succeeded");
    let step_try = &shown["attempts"][0]["tries"][0];
    assert_eq!(step_try["state"], "completed");
    assert_eq!((&step_try["task"], &step_try["step"]), (&"t".into(), &"work".into()));
    assert_eq!(shown["members"][0]["outcome"], "succeeded");
    let internal = ["null", "send_by", "throttled", "poll_interval", "unseen_at_end"];
    let whole = shown.to_string();
    assert!(internal.iter().all(|word| !whole.contains(word)), "{whole}");
    let text = answer(&world, &["run", "show", id]).await;
    assert!(
        text.contains("t/2013-01-01/work/1") && text.contains("s3://landing/logs/j-"),
        "{text}"
    );
    let none = json(&world, &["runs", "--state", "failed"]).await;
    assert_eq!(none["runs"].as_array().unwrap().len(), 0);
}

/// What is usual is read from the partitions before; what a person has run again tells
/// nothing of it.
#[tokio::test]
async fn when_its_inputs_usually_come_is_told_once_enough_have() {
    let tasks = daily_file("a") + &daily_file("b") + &daily_task("t", &["a", "b"], "true");
    let world = World::new(&tasks).await;
    let why = |partition| {
        let world = &world;
        async move { json(world, &["why", "t", partition]).await }
    };
    for day in 1..=3 {
        for input in ["a", "b"] {
            world.put(&format!("{input}/2013-01-0{day}.csv"), "1").await;
        }
        world.mail(&format!("t/2013-01-0{day}/succeeded")).await;
        let usually = why("2013-01-09").await["usually"]["partitions"].clone();
        assert_eq!(usually, if day < 3 { Value::Null } else { 3.into() });
    }
    let waiting = why("2013-01-09").await;
    assert_eq!(waiting["cause"], "inputs");
    let sentence = waiting["sentence"].as_str().unwrap();
    assert!(sentence.contains("; usually everything is there by "), "{sentence}");
    // Nothing is known of what was before the first.
    assert_eq!(why("2012-12-31").await["usually"], Value::Null);
    answer(&world, &["retry", "t", "2013-01-02", "--force", "--by", "x"]).await;
    assert_eq!(why("2013-01-09").await["usually"], Value::Null);
}

#[tokio::test]
async fn the_newest_come_first_and_limits_hold() {
    let tasks = daily_file("a") + &daily_task("t", &["a"], "exit 3");
    let world = World::new(&tasks).await;
    for day in 1..=3 {
        world.put(&format!("a/2013-01-0{day}.csv"), "1").await;
        world.mail(&format!("t/2013-01-0{day}/failed")).await;
    }
    let runs = json(&world, &["runs", "--limit", "2"]).await;
    let members: Vec<_> =
        runs["runs"].as_array().unwrap().iter().map(|run| run["members"].clone()).collect();
    assert_eq!(members, ["t 2013-01-03", "t 2013-01-02"]);
    assert_eq!(runs["truncated"], true);
    let status = json(&world, &["status", "--newest", "1"]).await;
    assert_eq!(status["tasks"]["t"]["counts"]["failed"], 3);
    assert_eq!(status["tasks"]["t"]["newest"][0]["partition"], "2013-01-03");
    let sentence = answer(&world, &["why", "t", "2013-01-02"]).await;
    assert!(sentence.contains("FAILED at ") && sentence.contains("step work failed"), "{sentence}");
    let (code, _, error) = ask(&world, &["run", "show", "01"]).await;
    assert_eq!(code, 2);
    assert!(error.contains("several runs begin with 01"), "{error}");
    let (code, _, error) = ask(&world, &["run", "show", "7n0ne"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("there is no run 7N0NE"), "{error}");
}

#[tokio::test]
async fn an_event_by_hand_does_what_s3_s_would() {
    let tasks = daily_file("a+ü %") + &daily_task("t", &["a"], "true");
    let tasks = tasks.replace("[datasets.a+ü %]", "[datasets.a]");
    let world = World::new(&tasks).await;
    let object = "s3://landing/a+ü %/2013-01-01.csv";
    let (code, _, error) = ask(&world, &["send-event", object]).await;
    assert_eq!(code, 1);
    assert!(error.contains("does not exist") && error.contains("--force"), "{error}");
    let (code, _, error) = ask(&world, &["send-event", "landing/a"]).await;
    assert_eq!(code, 2);
    assert!(error.contains("expected s3://BUCKET/KEY"), "{error}");
    let dry = json(&world, &["send-event", object, "--etag", "e1", "--dry-run"]).await;
    assert_eq!(dry["events"][0]["datasets"][0], "a@2013-01-01");
    assert_eq!(dry["events"][0]["tasks"][0]["task"], "t");
    assert_eq!(dry["events"][0]["message"], Value::Null);
    assert_eq!(world.calls("sqs", "SendMessage"), 0);
    let text = answer(&world, &["send-event", object, "--force"]).await;
    assert!(text.contains("sent as message") && text.contains("t 2013-01-01"), "{text}");
    world.mail("t/2013-01-01/succeeded").await;
}

#[tokio::test]
async fn wrong_use_says_what_to_do() {
    let tasks = daily_file("a") + &daily_task("report", &["a"], "true");
    let world = World::new(&tasks).await;
    for (args, said) in [
        (&["why", "reprot", "2013-01-01"][..], "did you mean \"report\"?"),
        (&["why", "report", "2013-01-01T05"], "is a daily task"),
        (&["why", "report", "yesterday"], "expected an hour such as"),
        (&["runs", "--task", "x"], "declared are: report"),
        (&["runs", "--profile", "q"], "there is no profile"),
        (&["runs", "--state", "asleep"], "expected one of launching"),
        (&["status", "--task", "rep"], "did you mean \"report\"?"),
        (&["run", "show", "x"], "\"x\" is no run's id: expected up to 26 digits and letters"),
        (&["run", "show", "report"], "\"report\" is no run's id"),
        (&["send-event"], "required arguments"),
        (&["nonsense"], "unrecognized subcommand"),
    ] {
        let (code, out, error) = ask(&world, args).await;
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}

#[test]
fn a_plan_needs_no_aws() {
    let config = ["--config", "config/example.toml"];
    let plan = |args: &[&str]| sluicegate(&[&["plan"], args, &config].concat());
    let (code, out, _) = plan(&["--from", "2013-01-01", "--task", "hourly-etl"]);
    assert_eq!(code, 0);
    assert!(out.contains("2012-12-31T23") && out.contains("01-01 23:05"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let (_, out, _) = plan(&["--at", "2013-01-01T06:05:00Z"]);
    assert!(out.contains("06:05  hourly-etl  2013-01-01T05  raw-logs 2013-01-01T05"), "{out}");
    let (_, out, _) =
        plan(&["--task", "hourly-etl", "--partition", "2013-01-01T05", "--steps", "--json"]);
    let plan_of_one: Value = serde_json::from_str(&out).unwrap();
    let args = plan_of_one["steps"][0]["args"].to_string();
    assert!(args.contains("s3://example-landing/rawdata/2013/01/01/05/"), "{args}");
    assert_eq!(plan_of_one["cluster"]["release_label"], "emr-7.13.0");
    assert_eq!(plan_of_one["cluster"]["core"]["spot_timeout"], "10m");
    assert_eq!(plan_of_one["batch"]["max_wait"], "5m");
    assert!(!out.contains("null"), "{out}");
    for (args, said) in [
        (&["--from", "soon"][..], "expected a day"),
        (&["--from", "2013-01-02", "--to", "2013-01-01"], "the interval is empty"),
        (&["--from", "2013-01-01", "--to", "2014-01-01"], "longer than 31 days"),
        (&["--partition", "2013-01-01"], "--task"),
    ] {
        let (code, _, error) = plan(args);
        assert_eq!(code, 2, "{args:?}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}

/// Calls `check` with the words of every command, the first and its subcommands.
fn each_command(command: &Described, words: &mut Vec<String>, check: &mut impl FnMut(&[String])) {
    check(words);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        words.push(sub.get_name().to_owned());
        each_command(sub, words, check);
        words.pop();
    }
}

#[test]
fn every_command_explains_itself_with_examples() {
    let mut commands = 0;
    each_command(&sluicegate::cli::command(), &mut Vec::new(), &mut |words| {
        let mut args: Vec<_> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let (code, out, _) = sluicegate(&args);
        assert_eq!(code, 0, "{args:?}");
        assert!(out.contains("Examples:\n  sluicegate "), "{args:?}: {out}");
        assert!(out.contains("--json"), "{args:?}");
        commands += 1;
    });
    assert!(commands >= 12, "{commands} commands");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = sluicegate(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("send-event") && out.contains("sluicegate"), "{shell}");
    }
    assert_eq!(sluicegate(&["completions", "abacus"]).0, 2);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["plan", "--from", "2013-01-01", "--to", "2013-01-31", "--config"])
        .arg("config/example.toml")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A task's name may have many letters, and a terminal has 80 columns.
#[tokio::test]
async fn long_names_are_shown_within_eighty_columns() {
    for name in ["fifteen-letters", "a-name-of-a-task-with-37-letters-long"] {
        let tasks = daily_file("a")
            + &daily_task("t", &["a"], "echo it fails; exit 3")
                .replace("tasks.t", &format!("tasks.{name}"));
        let world = World::new(&tasks).await;
        world.put("a/2013-01-01.csv", "1").await;
        world.mail(&format!("{name}/2013-01-01/failed")).await;
        world.mail("run-failed").await;
        world.clusters_ended().await;
        let window = ["backfill", name, "--from", "2013-01-02", "--to", "2013-01-31"];
        answer(&world, &[&window[..], &["--wait", "--by", "alice"]].concat()).await;
        let of = |found: serde_json::Value, list: &str| {
            found[list][0]["id"].as_str().unwrap().to_owned()
        };
        let run = of(json(&world, &["runs"]).await, "runs");
        let backfill = of(json(&world, &["backfill", "list"]).await, "backfills");
        for args in [
            &["status"][..],
            &["runs"],
            &["run", "show", &run],
            &["logs", &run],
            &["backfill", "list"],
            &["backfill", "show", &backfill],
        ] {
            let shown = answer(&world, args).await;
            let long: Vec<_> = shown.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{args:?}: {long:#?}\n{shown}");
            assert!(shown.lines().count() < 60, "{args:?}: one letter a line:\n{shown}");
        }
        let list = answer(&world, &["backfill", "list"]).await;
        assert!(list.contains(&backfill), "{list}");
        let shown = answer(&world, &["run", "show", &run]).await;
        assert!(shown.contains(&run), "{shown}");
    }
}
