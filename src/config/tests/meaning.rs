//! Mistakes in what values mean that concern more than one table: AWS names,
//! cycles among tasks, windows that no item can hold.

use super::{GOOD, mistakes, parse};
use std::path::Path;

#[test]
fn names_of_aws_that_cannot_be() {
    let topic = "arn:aws:sns:us-east-1:000000000000:status";
    for (from, to, said) in [
        ("[aws]", "[aws]\nregion = \"us_east_1\"", "5:10: \"us_east_1\" is no region"),
        ("[aws]", "[aws]\nregion = \"\"", "5:10: \"\" is no region"),
        (
            "[aws]",
            "[aws]\nregion = \"eu-west-1\"",
            "8:13: topic-arn is in us-east-1, but region is eu-west-1",
        ),
        (
            "queue = \"inbox\"",
            "region = \"us-east-1\"\nqueue = \"https://sqs.us-west-2.amazonaws.com/123456789012/inbox\"",
            "6:9: queue is in us-west-2, but region is us-east-1",
        ),
        ("\"inbox\"", "\"\"", "5:9: queue is \"\", which names no queue"),
        ("\"inbox\"", "\"in box\"", "5:9: queue is \"in box\", which names no queue"),
        (
            "\"inbox\"",
            "\"arn:aws:sqs:us-east-1:000000000000:inbox\"",
            "write the queue's name (letters, digits, - and _, at most 80) or its URL",
        ),
        ("\"inbox\"", "\"https://sqs.us-east-1.amazonaws.com\"", "5:9: queue is \"https:"),
        ("\"inbox\"", "\"inbox.fifo\"", "5:9: queue is a FIFO queue"),
        ("\"quarantine\"", "\"inbox\"", "6:14: quarantine must be another queue"),
        (topic, "status", "7:13: topic-arn is no ARN of a topic"),
        (topic, &format!("{topic}:1234"), "topic-arn is a subscription's"),
        (topic, &topic.replace("sns", "sqs"), "an ARN of \"sqs\", not of sns"),
        (topic, &topic.replace("000000000000", "1234"), "\"1234\" for its account"),
        (topic, &topic.replace("us-east-1", "useast1"), "\"useast1\" for its region"),
        (topic, &topic.replace("status", "status.fifo"), "a FIFO topic, which sends no e-mail"),
        (topic, &topic.replace("status", ""), "\"\" for the topic's name"),
        (topic, &topic.replace("arn:aws:", "arn:gcp:"), "the partition \"gcp\""),
    ] {
        let told = mistakes(&GOOD.replacen(from, to, 1));
        assert!(told.contains(said), "{to}: {told}");
        assert!(told.ends_with("\n1 mistake"), "{to}: {told}");
    }
}

#[test]
fn listings_have_their_bounds() {
    for (line, said) in [
        ("list-interval = \"now\"", "list-interval is \"now\": expected 1m to 24h"),
        ("list-interval = \"59s\"", "list-interval is \"59s\": expected 1m to 24h"),
        ("list-window = \"30m\"", "list-window is 30m: expected 1h to 744h"),
        ("list-interval = \"off\"\nlist-window = \"60m 1s\"", ""),
        ("list-interval = \"1h 30m\"\nlist-window = \"744h\"", ""),
    ] {
        let text = format!("{GOOD}\n[engine]\n{line}\n");
        match said {
            "" => assert!(parse(&text, Path::new("x.toml")).is_ok(), "{line}"),
            said => {
                let told = mistakes(&text);
                assert!(told.contains(said) && told.ends_with("\n1 mistake"), "{line}: {told}");
            }
        }
    }
}

#[test]
fn limits_to_lateness() {
    for (lines, said) in [
        ("start-by = \"1h\"\nend-by = \"2h\"\nduration-max = \"30m\"", ""),
        ("start-by = \"1441h\"", "start-by is 1441h: expected 0s to 1440h"),
        ("duration-max = \"0s\"", "duration-max is 0s: expected 1s to 1440h"),
        ("start-by = \"2h\"\nend-by = \"1h\"", "end-by is 1h, before start-by, 2h"),
    ] {
        let text = GOOD.replacen("[tasks.etl]", &format!("[tasks.etl]\n{lines}"), 1);
        match said {
            "" => assert!(parse(&text, Path::new("x.toml")).is_ok(), "{lines}"),
            said => {
                let told = mistakes(&text);
                assert!(told.contains(said) && told.ends_with("\n1 mistake"), "{lines}: {told}");
            }
        }
    }
}

#[test]
fn limits_to_what_is_at_work() {
    let engine = "\n[engine]\nmax-clusters = 0\n";
    for (text, said) in [
        (format!("{GOOD}{engine}"), "max-clusters is 0: expected 1 to 500"),
        (
            GOOD.replacen("[tasks.etl]", "[tasks.etl]\nmax-active = 501", 1),
            "max-active is 501: expected 1 to 500",
        ),
        (
            GOOD.replacen("[profiles.small]", "[profiles.small]\nmax-clusters = 0", 1),
            "max-clusters is 0: expected 1 to 500",
        ),
    ] {
        let told = mistakes(&text);
        assert!(told.contains(said) && told.ends_with("\n1 mistake"), "{told}");
    }
}

#[test]
fn names_of_aws_that_can_be() {
    for (from, to) in [
        ("[aws]", "[aws]\nregion = \"us-east-1\""),
        ("\"inbox\"", "\"https://sqs.us-east-1.amazonaws.com/123456789012/inbox\""),
        ("\"inbox\"", "\"http://127.0.0.1:4566/000000000000/inbox\""),
        ("arn:aws:sns:us-east-1", "arn:aws-us-gov:sns:us-gov-west-1"),
        ("arn:aws:sns:us-east-1", "arn:aws-cn:sns:cn-north-1"),
        // A task and a dataset are told apart by where they stand.
        ("[tasks.etl]", "[tasks.raw]"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        let text = if to == "[tasks.raw]" { GOOD.replace("tasks.etl", "tasks.raw") } else { text };
        assert_ne!(text, GOOD, "{from}");
        parse(&text, Path::new("x.toml")).unwrap();
    }
}

/// A task that reads the outputs of others and makes one of its own name.
fn task(name: &str, inputs: &[&str]) -> String {
    let inputs: Vec<_> = inputs.iter().map(|input| format!("{{ {input} }}")).collect();
    format!(
        "\n[datasets.{name}]\nlocation = \"s3://b/{name}/{{yyyy}}/{{MM}}/{{dd}}/\"\n\
         [tasks.{name}]\nprofile = \"small\"\npartition = \"day\"\ninputs = [{}]\noutputs = [\"{name}\"]\n\
         steps = [{{ name = \"s\", kind = \"command\", args = [\"true\"] }}]\n",
        inputs.join(", ")
    )
}

#[test]
fn tasks_that_wait_for_each_other_are_named() {
    for (tasks, said) in [
        (vec![task("a", &["dataset = 'a'"])], "wait for each other: a → a"),
        (
            vec![task("a", &["dataset = 'b'"]), task("b", &["dataset = 'a'"])],
            "wait for each other: a → b → a",
        ),
        (
            vec![
                task("a", &["dataset = 'b'", "dataset = 'raw'"]),
                task("b", &["dataset = 'c'"]),
                task("c", &["dataset = 'd', from = '-24h'", "dataset = 'raw'"]),
                task("d", &["dataset = 'b'"]),
                task("e", &["dataset = 'a'"]),
            ],
            "wait for each other: b → c → d → b",
        ),
    ] {
        let told = mistakes(&format!("{GOOD}{}", tasks.concat()));
        assert!(told.contains(said), "{said}: {told}");
        assert!(told.ends_with("\n1 mistake"), "{told}");
    }
}

#[test]
fn a_task_may_read_its_own_past() {
    let yesterday = task("a", &["dataset = 'a', from = '-24h', to = '0h'", "dataset = 'raw'"]);
    let config = parse(&format!("{GOOD}{yesterday}"), Path::new("x.toml")).unwrap();
    let told = config.warnings.to_string();
    assert!(told.contains("each partition waits for an earlier one: a → a"), "{told}");
}

#[test]
fn a_cycle_that_can_do_without_a_member_is_none() {
    let any = task("b", &["dataset = 'a'", "dataset = 'raw'"])
        .replace("outputs", "need = 'any'\noutputs");
    let text = format!("{GOOD}{}{any}", task("a", &["dataset = 'b'"]));
    parse(&text, Path::new("x.toml")).unwrap();
}

#[test]
fn a_window_fits_in_one_item() {
    let window = |from: &str| {
        GOOD.replace(
            "{ dataset = \"raw\" }",
            &format!("{{ dataset = \"raw\", from = \"{from}\" }}"),
        )
    };
    parse(&window("-3000h"), Path::new("x.toml")).unwrap();
    let told = mistakes(&window("-9000h"));
    assert!(
        told.contains(
            "x.toml:28:23: a partition of \"etl\" would wait for 9001 partitions of \"raw\": about 756 KB in all, \
             but a DynamoDB item holds 400 KB"
        ),
        "{told}"
    );
    assert!(told.contains("(to about 3571 partitions)"), "{told}");
}

#[test]
fn no_more_partitions_can_be_needed_than_the_window_has() {
    let input = |task: &str, window: &str, need: u32| {
        let input = format!("{{ dataset = \"raw\"{window}, need = {need} }}");
        let text = GOOD.replace("{ dataset = \"raw\" }", &input);
        match task {
            "hour" => text,
            _ => text
                .replace("partition = \"hour\"", "partition = \"day\"")
                .replace("outputs = [\"etl\"]\n", "")
                .replace(", \"--output\", \"{output.etl}\"", ""),
        }
    };
    for (task, window, most) in [
        ("hour", "", 1),
        ("hour", ", from = \"-23h\"", 24),
        ("day", "", 24),
        ("day", ", from = \"-24h\"", 48),
    ] {
        parse(&input(task, window, most), Path::new("x.toml")).unwrap();
        let told = mistakes(&input(task, window, most + 1));
        let said = format!(
            "need is {}, but the window has {most} partition{} of \"raw\"",
            most + 1,
            if most == 1 { "" } else { "s" },
        );
        assert!(told.contains(&said), "{told}");
        assert!(told.starts_with("error: x.toml:28:") && told.ends_with("\n1 mistake"), "{told}");
    }
    // Two hours lie in two days around midnight.
    let by_day =
        |need: u32| input("hour", ", from = \"-1h\"", need).replace("/{dd}/{HH}/*", "/{dd}/*");
    parse(&by_day(2), Path::new("x.toml")).unwrap();
    assert!(mistakes(&by_day(3)).contains("need is 3, but the window has 2 partitions"));
    // And no more inputs than there are.
    let inputs = GOOD.replace("when-empty", "need = 2\nwhen-empty");
    assert!(mistakes(&inputs).contains("need is 2: expected 1 to 1, as there are inputs"));
}

#[test]
fn only_tasks_that_differ_or_read_what_differs_are_decided_about_again() {
    let catalog = |text: &str| parse(text, Path::new("x.toml")).unwrap().catalog;
    let base =
        format!("{GOOD}{}{}", task("a", &["dataset = 'raw'"]), task("b", &["dataset = 'a'"]));
    for (from, to, changed) in [
        // Words that mean the same.
        ("[tasks.b]", "# a remark\n[tasks.b]", &[][..]),
        ("settle = \"16m\"", "settle = \"960s\"", &[]),
        ("\"5 * * * *\"", "\"6 * * * *\"", &["etl"]),
        ("attempts = 3", "attempts = 4", &["etl"]),
        ("settle = \"16m\"", "settle = \"17m\"", &["a", "etl"]),
        ("s3://b/a/", "s3://b/moved/a/", &["b"]),
        ("s3://b/b/", "s3://b/moved/b/", &[]),
        ("[tasks.b]\nprofile", "[tasks.c]\nprofile", &["c"]),
        ("outputs = [\"a\"]\n", "outputs = [\"a\"]\nneed = \"any\"\n", &["a"]),
    ] {
        let after = catalog(&base.replacen(from, to, 1));
        let found: Vec<_> =
            after.changed_tasks(&catalog(&base)).map(|task| task.name.as_str()).collect();
        assert_eq!(found, changed, "{to}");
    }
}

#[test]
fn what_late_data_does_has_its_bounds() {
    for (value, said) in [
        ("\"alert\"", ""),
        ("\"ignore\"", ""),
        ("{ run-again = \"48h\" }", ""),
        ("{ run-again = \"48h\", back-off = \"10m\" }", ""),
        ("\"alart\"", "late-data cannot be \"alart\""),
        ("{ back-off = \"10m\" }", "needs run-again"),
        ("{ run-again = \"48h\", until = \"1h\" }", "unknown field \"until\""),
        ("{ run-again = \"soon\" }", "which is no duration"),
        ("{ run-again = \"1500h\" }", "run-again is 1500h: expected 1m to 1440h"),
        ("{ run-again = \"48h\", back-off = \"30s\" }", "back-off is 30s: expected 1m to 1440h"),
        (
            "{ run-again = \"1h\" }",
            "late data runs nothing again: back-off is 1h, and run-again ends after 1h",
        ),
    ] {
        let text = GOOD.replace("when-empty", &format!("late-data = {value}\nwhen-empty"));
        match said {
            "" => assert!(parse(&text, Path::new("x.toml")).is_ok(), "{value}"),
            said => assert!(mistakes(&text).contains(said), "{value}: {}", mistakes(&text)),
        }
    }
}

#[test]
fn missed_slots_are_caught_up_with_as_the_schedule_says() {
    for (value, said) in [
        ("all", ""),
        ("newest-first", ""),
        ("last", ""),
        ("none", ""),
        ("newest", "catch-up cannot be \"newest\""),
    ] {
        let schedule = format!("* * *\", catch-up = \"{value}\" }}");
        let text = GOOD.replace("* * *\" }", &schedule);
        match said {
            "" => {
                let catalog = parse(&text, Path::new("x.toml")).unwrap().catalog;
                let schedule = catalog.tasks["etl"].schedule.as_ref().unwrap();
                assert_eq!(schedule.catch_up().name(), value);
            }
            said => assert!(mistakes(&text).contains(said), "{value}: {}", mistakes(&text)),
        }
    }
}
