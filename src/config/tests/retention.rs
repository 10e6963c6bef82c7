//! `[retention]`: its bounds, and what a task needs of it.

use std::path::Path;

use jiff::SignedDuration;

use super::{GOOD, mistakes, parse};
use crate::core::retention::Retention;

fn days(days: i64) -> Option<SignedDuration> {
    Some(SignedDuration::from_hours(24 * days))
}

#[test]
fn what_has_ended_is_kept_for_ninety_days_unless_something_else_is_said() {
    for (lines, partitions, runs) in [
        ("", days(90), days(90)),
        ("[retention]\npartitions = \"never\"", None, days(90)),
        ("[retention]\npartitions = \"360h\"\nruns = \"52w\"", days(15), days(364)),
        ("[retention]\nruns = \"never\"\npartitions = \"20d 24h\"", days(21), None),
    ] {
        let config = parse(&format!("{GOOD}\n{lines}\n"), Path::new("x.toml")).unwrap();
        assert_eq!(config.settings.retention, Retention { partitions, runs }, "{lines}");
    }
}

#[test]
fn what_is_no_time_or_too_short_is_told() {
    for (value, said) in [
        ("14d", "partitions is \"14d\": expected 15d to 36500d, or \"never\""),
        ("-90d", "partitions is \"-90d\""),
        ("3mo", "partitions is \"3mo\""),
        ("for ever", "partitions is \"for ever\""),
        ("999999999d", "partitions is \"999999999d\""),
        ("", "partitions is \"\""),
    ] {
        let told = mistakes(&format!("{GOOD}\n[retention]\npartitions = \"{value}\"\n"));
        assert!(told.contains(said), "{value}: {told}");
        assert!(told.contains("a message may wait in the queue for 14 days"), "{told}");
        assert!(told.ends_with("\n1 mistake"), "{value}: {told}");
    }
}

#[test]
fn whatever_may_still_come_fits_into_the_time_that_partitions_are_kept() {
    let task = |lines: &str| {
        format!(
            "{GOOD}\n[retention]\npartitions = \"16d\"\n[datasets.d]\nlocation = \
             \"s3://b/{{yyyy}}{{MM}}{{dd}}.csv\"\n[tasks.t]\nprofile = \"small\"\npartition = \
             \"day\"\n{lines}\nsteps = [{{ name = \"s\", kind = \"command\", args = [\"x\"] }}]\n"
        )
    };
    let input = "inputs = [{ dataset = \"d\" }]";
    for (lines, said) in [
        (format!("{input}\nwait-timeout = \"384h\""), ""),
        (
            format!("{input}\nwait-timeout = \"385h\""),
            "by its wait-timeout something may come for a partition of \"t\" for the first time 16d \
             1h after its end, but partitions are kept for 16d",
        ),
        (format!("{input}\nlate-data = {{ run-again = \"400h\" }}"), "by its late-data something"),
        (
            "inputs = [{ dataset = \"d\", from = \"0h\", to = \"432h\" }]".to_owned(),
            "by its inputs something may come for a partition of \"t\" for the first time 17d",
        ),
    ] {
        let text = task(&lines);
        match said {
            "" => assert!(parse(&text, Path::new("x.toml")).is_ok(), "{lines}"),
            said => {
                let told = mistakes(&text);
                assert!(told.contains(said), "{lines}: {told}");
                assert!(told.contains("lengthen [retention] partitions"), "{told}");
                assert!(told.ends_with("\n1 mistake"), "{lines}: {told}");
            }
        }
    }
    let window =
        format!("{GOOD}\n[engine]\nlist-window = \"744h\"\n[retention]\npartitions = \"30d\"");
    assert!(mistakes(&window).contains("list-window is 744h, but partitions are kept for 30d"));
}
