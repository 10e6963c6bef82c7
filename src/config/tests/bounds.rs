//! No text makes the check panic, or take long.

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;

use super::{GOOD, mistakes, parse};
use crate::config::{Source, assemble};

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

/// The message of each mistake names its table, or its place, or both.
#[test]
fn long_words_are_judged_in_time() {
    let long = "x".repeat(300_000);
    let fields: String = (0..60_000).map(|number| format!("f{number}=1\n")).collect();
    assert_eq!(checked(&format!("{GOOD}[tasks.{long}]\n{fields}")), 1);
    assert_eq!(checked(&format!("{GOOD}[datasets.a]\nlocation=[{{{long}=1}}]\n")), 1);
    // 256 letters are too many for a task, but no reason to stop here.
    let name = "é".repeat(256);
    let short = mistakes(&format!("{GOOD}[tasks.\"{name}\"]\nprofile = \"small\""));
    assert!(short.contains("needs partition"), "{short}");
    let unknown = GOOD.replace("dataset = \"raw\"", &format!("dataset = \"raw{long}\""));
    assert!(checked(&unknown) > 0);
    let placeholders = "{input.raw}".repeat(20_000);
    let far = GOOD
        .replace("s3://landing/raw/", &format!("s3://landing/#{long}/"))
        .replace("kind = \"spark-submit\"", "kind = \"command\"")
        .replace("script = \"s3://code/etl.py\"\n", "")
        .replace("\"--input\"", &format!("\"sh\", \"-c\", \"echo '' {placeholders}\""));
    assert!(checked(&far) > 0);
    let taken: String =
        (0..1_000).map(|number| format!("another{}\n", "-".repeat(number))).collect();
    let comment = taken.replace('\n', " ");
    let twice = format!("# {comment}\n{GOOD}[tasks.b]\na = 1\na = 2\n");
    assert_eq!(checked(&twice), 1);
    assert!(mistakes(&twice).contains("a stands twice in one table"));
}

#[test]
fn a_window_beyond_time_is_judged_in_time() {
    for from in ["-100000000h", "-9000000000000000h"] {
        let window = format!("{{ dataset = \"raw\", need = 1, from = \"{from}\" }}");
        let text = GOOD.replace("{ dataset = \"raw\" }", &window);
        assert!(mistakes(&text).contains("from is "), "{}", mistakes(&text));
    }
}

#[test]
fn names_that_two_files_share_are_told_in_time() {
    let tables: String = (0..10_000).map(|number| format!("[tasks.t{number}]\n")).collect();
    let main = Source::new("x.toml", GOOD);
    let files = ["a.toml", "b.toml"].map(|name| Source::new(name, tables.as_str()));
    let found = assemble(&main, &files).unwrap_err();
    let twice = found.list().iter().filter(|finding| finding.message.starts_with("two tasks"));
    let told: Vec<_> = twice.filter_map(|finding| finding.help.as_deref()).collect();
    assert_eq!(told.len(), 10_000);
    assert_eq!(told[4_321], "the first is in a.toml:4322: rename one");
    let mut all = found.clone();
    all.add(found.clone());
    assert_eq!(all, found);
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
