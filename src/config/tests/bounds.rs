//! No text makes the check panic, or take long.

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;

use super::{GOOD, parse};

const TABLES: usize = 1_000;

/// How many mistakes a text has. Anything quadratic would keep these texts busy
/// for minutes; nothing is timed, because machines differ.
fn checked(text: &str) -> usize {
    parse(text, Path::new("x.toml")).err().map_or(0, |found| {
        assert!(!found.to_string().is_empty());
        found.list().len()
    })
}

#[test]
fn long_and_deep_texts_are_judged_in_time() {
    let mebibyte = 1024 * 1024;
    for start in [
        "[", "[[", "a.", "a=[", "a={a=", "{", "\"", "'''", "\u{e9}", "\n", "#", "a=1\n", "[a]\n",
        "0",
    ] {
        checked(&start.repeat(mebibyte / start.len()));
        checked(&format!("{GOOD}{}", start.repeat(mebibyte / 2 / start.len())));
    }
    let inline = "{a=".repeat(60) + "1" + &"}".repeat(60);
    assert!(checked(&format!("{GOOD}\n[datasets.x]\nlocation={inline}")) > 0);
}

#[test]
fn many_tables_are_judged_in_time() {
    let mut wrong = GOOD.to_owned();
    let mut unknown = GOOD.to_owned();
    let mut chain = GOOD.to_owned();
    for number in 0..TABLES {
        writeln!(wrong, "[datasets.wrong{number}]\nlocation = {number}\nextra = 1").unwrap();
        writeln!(
            unknown,
            "[datasets.data{number}]\nlocation = \"s3://b/{{yyyy}}{{MM}}{{dd}}/{number}\"\n\
             [tasks.task{number}]\nprofile = \"nobody\"\npartition = \"day\"\n\
             inputs = [{{ dataset = \"nothing{number}\" }}]"
        )
        .unwrap();
        // Each waits for the one before it, and the first for the last.
        writeln!(
            chain,
            "[datasets.made{number}]\nlocation = \"s3://b/{number}/{{yyyy}}{{MM}}{{dd}}/\"\n\
             [tasks.maker{number}]\nprofile = \"small\"\npartition = \"day\"\n\
             inputs = [{{ dataset = \"made{}\" }}]\noutputs = [\"made{number}\"]\n\
             steps = [{{ name = \"s\", kind = \"command\", args = [\"x\"] }}]",
            (number + TABLES - 1) % TABLES
        )
        .unwrap();
    }
    assert_eq!(checked(&wrong), 2 * TABLES);
    // No profile, no dataset, no step.
    assert_eq!(checked(&unknown), 3 * TABLES);
    assert_eq!(checked(&chain), 1);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        checked(&text);
    }

    #[test]
    fn no_toml_panics(text in "([\\[\\]a-c.=\"'{}#, 0-9\n:+-]|inf|nan|true|tasks|datasets|steps|\\[aws\\]\n){0,60}") {
        checked(&text);
    }

    /// Any value in any place of the good file.
    #[test]
    fn no_change_of_a_good_file_panics(
        at in 0..GOOD.len(),
        length in 0usize..40,
        with in "(\"\\PC{0,8}\"|[0-9]{1,30}|-?inf|nan|\\[\\]|\\{\\}|true|1e400|2024-01-01|0x[0-9a-f]{1,40}|[\n=\\[\\]{}\"'])?",
    ) {
        let end = (at + length).min(GOOD.len());
        checked(&format!("{}{with}{}", &GOOD[..at], &GOOD[end..]));
    }
}
