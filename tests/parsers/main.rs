//! Runs the bodies of the fuzz targets (fuzz/src/lib.rs) on their seeds and on
//! changes of them, for machines without a fuzzer. The same numbers give the
//! same texts. Not a replacement for `make fuzz`, which learns what it reaches.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

use fastrand::Rng;

/// What stands in seeds and means something to one of the parsers.
const WORDS: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'''",
    "\\",
    "\\u0000",
    "%",
    "%00",
    "%FF",
    "+",
    "*",
    "/",
    "#",
    "L",
    "W",
    "?",
    "-",
    ",",
    "=",
    ".",
    "\n",
    "é",
    "\u{1F600}",
    "0",
    "60",
    "-1",
    "9223372036854775808",
    "1e400",
    "{yyyy}",
    "{input.raw}",
];

type Target = (&'static str, fn(&str), &'static str);

const TARGETS: [Target; 5] = [
    ("envelope", targets::envelope, "src/sources/samples"),
    ("key", targets::key, "fuzz/seeds/key"),
    ("template", targets::template, "fuzz/seeds/template"),
    ("cron", targets::cron, "fuzz/seeds/cron"),
    ("config", targets::config, "config"),
];

fn seeds(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.is_file());
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// A text with some of it taken away, doubled, moved, or put in its place.
fn changed(seeds: &[String], random: &mut Rng) -> String {
    let mut text: Vec<char> = seeds[random.usize(..seeds.len())].chars().collect();
    for _ in 0..random.usize(1..6) {
        let from = random.usize(..=text.len());
        let to = (from + random.usize(..20)).min(text.len());
        let with: Vec<char> = match random.u8(..6) {
            0 => Vec::new(),
            1 => text[from..to].repeat(random.usize(1..9)),
            2 => vec![random.char(..)],
            3 => {
                let other: Vec<char> = seeds[random.usize(..seeds.len())].chars().collect();
                let start = random.usize(..=other.len());
                other[start..].iter().take(random.usize(..60)).copied().collect()
            }
            _ => WORDS[random.usize(..WORDS.len())].chars().collect(),
        };
        text.splice(from..to, with);
    }
    text.into_iter().collect()
}

/// Runs a target on its seeds and so many changes of them; a text that makes it
/// panic is printed.
fn try_out((name, target, folder): Target, changes: u64) {
    let seeds = seeds(folder);
    assert!(!seeds.is_empty(), "{folder}");
    seeds.iter().for_each(|seed| target(seed));
    for number in 0..changes {
        let text = changed(&seeds, &mut Rng::with_seed(number));
        if std::panic::catch_unwind(|| target(&text)).is_err() {
            panic!("{name}, change {number}: {text:?}");
        }
    }
}

#[test]
fn no_change_of_a_seed_breaks_a_parser() {
    for target in TARGETS {
        try_out(target, 200);
    }
}

#[test]
#[ignore = "a search of a minute or two"]
fn no_change_of_envelopes_in_many() {
    try_out(TARGETS[0], 200_000);
}

#[test]
#[ignore = "a search of a minute or two"]
fn no_change_of_keys_in_many() {
    try_out(TARGETS[1], 200_000);
}

#[test]
#[ignore = "a search of a minute or two"]
fn no_change_of_templates_in_many() {
    try_out(TARGETS[2], 1_000_000);
}

#[test]
#[ignore = "a search of a minute or two"]
fn no_change_of_cron_expressions_in_many() {
    try_out(TARGETS[3], 50_000);
}

#[test]
#[ignore = "a search of a minute or two"]
fn no_change_of_configurations_in_many() {
    try_out(TARGETS[4], 5_000);
}
