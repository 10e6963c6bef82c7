//! What is in force when task files change: the new state if it has no
//! mistakes; otherwise each file with a mistake stays as it was last good, and
//! all others are taken. Pure: reading, keeping and announcing are done by
//! `sources::task_files`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::files::{Found, Place, Texts};
use super::mistake::Findings;
use super::{Config, Source, assemble};

#[derive(Debug)]
pub struct Reloaded {
    pub config: Config,
    pub in_force: Texts,
    /// What is wrong with what was found, in words; empty when all is good.
    pub problems: Vec<String>,
}

/// Decides what is in force from what was and what is found now. Fails only
/// when the main file has mistakes by itself.
pub fn reload(
    main: &Source,
    place: &Place,
    in_force: &Texts,
    found: &Found,
) -> Result<Reloaded, Findings> {
    let mut attempt = Attempt::new(in_force, found);
    loop {
        match assemble(main, &attempt.sources(place)) {
            Ok(config) => {
                let Attempt { texts, problems, .. } = attempt;
                return Ok(Reloaded { config, in_force: texts, problems });
            }
            Err(findings) => {
                let named = findings.files();
                if !attempt.step_back(place, &named) {
                    return Err(findings);
                }
                attempt.problems.extend(findings.list().iter().map(ToString::to_string));
            }
        }
    }
}

/// A state to try.
struct Attempt<'a> {
    in_force: &'a Texts,
    texts: Texts,
    /// Files that differ from what is in force: read last, so that of two
    /// tasks of one name the newer one is the mistake.
    changed: BTreeSet<String>,
    problems: Vec<String>,
}

impl<'a> Attempt<'a> {
    fn new(in_force: &'a Texts, found: &Found) -> Self {
        let mut attempt =
            Self { in_force, texts: Texts::new(), changed: BTreeSet::new(), problems: vec![] };
        for (name, text) in found {
            match (text, in_force.get(name)) {
                (Ok(text), _) => {
                    attempt.texts.insert(name.clone(), text.clone());
                }
                (Err(problem), before) => {
                    attempt.problems.push(format!("{name}: {problem}"));
                    attempt.texts.extend(before.map(|text| (name.clone(), text.clone())));
                }
            }
        }
        let names = in_force.keys().chain(attempt.texts.keys());
        attempt.changed =
            names.filter(|name| in_force.get(*name) != attempt.texts.get(*name)).cloned().collect();
        attempt
    }

    fn sources(&self, place: &Place) -> Vec<Source> {
        let (changed, unchanged): (Vec<_>, Vec<_>) =
            self.texts.iter().partition(|(name, _)| self.changed.contains(*name));
        let files = unchanged.into_iter().chain(changed);
        files.map(|(name, text)| Source::new(place.file(name), text)).collect()
    }

    /// Takes back the changes of the files that have mistakes; when only
    /// others have, theirs follow from a change elsewhere, and all changes are
    /// taken back. A file that was good once and no longer is (the main file
    /// has changed) is left out. False when there is nothing to take back.
    fn step_back(&mut self, place: &Place, named: &BTreeSet<PathBuf>) -> bool {
        let is_named = |name: &String| named.contains(&place.file(name));
        let blamed: BTreeSet<_> =
            self.changed.iter().filter(|name| is_named(name)).cloned().collect();
        let blamed = if blamed.is_empty() { std::mem::take(&mut self.changed) } else { blamed };
        if blamed.is_empty() {
            let before = self.texts.len();
            self.texts.retain(|name, _| !is_named(name));
            return self.texts.len() < before;
        }
        for name in blamed {
            self.changed.remove(&name);
            match self.in_force.get(&name) {
                Some(text) => self.texts.insert(name, text.clone()),
                None => self.texts.remove(&name),
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = r#"
        deployment = "demo"
        task-files = { path = "tasks" }
        [aws]
        region = "us-east-1"
        queue = "inbox"
        quarantine = "quarantine"
        topic-arn = "arn:aws:sns:us-east-1:000000000000:status"
        [profiles.p]
        release-label = "emr-7.13.0"
        service-role = "service"
        instance-profile = "ec2"
        primary = { instance-types = ["m5.xlarge"], on-demand = 1 }
        [datasets.day]
        location = "s3://landing/day/{yyyy}-{MM}-{dd}"
    "#;

    /// A file with one task, which reads a dataset of the main file.
    fn task(name: &str, dataset: &str) -> String {
        format!(
            "[tasks.{name}]\nprofile = \"p\"\npartition = \"day\"\n\
             inputs = [{{ dataset = \"{dataset}\" }}]\n\
             steps = [{{ name = \"s\", kind = \"command\", args = [\"true\"] }}]\n"
        )
    }

    fn texts(files: &[(&str, String)]) -> Texts {
        files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect()
    }

    /// The tasks in force, and what is said.
    fn reloaded(in_force: &[(&str, String)], found: &[(&str, String)]) -> (Vec<String>, String) {
        let found = texts(found).into_iter().map(|(name, text)| (name, Ok(text))).collect();
        let place = Place::Folder("etc/tasks".into());
        let main = Source::new("etc/main.toml", MAIN);
        let reloaded = reload(&main, &place, &texts(in_force), &found).unwrap();
        (reloaded.config.catalog.tasks.into_keys().collect(), reloaded.problems.join("\n"))
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_state_and_no_other() {
        let good = [("a.toml", task("a", "day")), ("b.toml", task("b", "day"))];
        let (tasks, said) = reloaded(&[], &good);
        assert_eq!((tasks, said.as_str()), (vec!["a".to_owned(), "b".to_owned()], ""));
        for (broken, words) in [
            ("[tasks.a", "etc/tasks/a.toml:1:"),
            (
                &task("a2", "dai"),
                "etc/tasks/a.toml:4:23: there is no dataset \"dai\"\n    did you mean \"day\"?",
            ),
            (
                &task("b", "day"),
                "etc/tasks/a.toml:1:8: two tasks are called \"b\"\n    the first is in etc/tasks/b.toml:1",
            ),
            ("[aws]\nqueue = \"x\"", "etc/tasks/a.toml:1:2: aws does not belong into a task file"),
            ("tasks = 3", "etc/tasks/a.toml:1:9: tasks is no table"),
        ] {
            let found = [
                ("a.toml", broken.to_owned()),
                ("b.toml", task("b", "day")),
                ("c.toml", task("c", "day")),
            ];
            let (tasks, said) = reloaded(&good, &found);
            assert_eq!(tasks, ["a", "b", "c"], "{said}");
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_new_broken_file_is_left_out() {
        let (tasks, said) =
            reloaded(&[], &[("a.toml", "[[[".to_owned()), ("b.toml", task("b", "day"))]);
        assert_eq!(tasks, ["b"]);
        assert!(said.contains("etc/tasks/a.toml:1:"), "{said}");
    }

    #[test]
    fn a_file_that_others_need_is_kept_when_it_goes() {
        let shared = "[datasets.shared]\nlocation = \"s3://landing/s/{yyyy}{MM}{dd}\"\n";
        let good = [("a.toml", shared.to_owned()), ("b.toml", task("b", "shared"))];
        let (tasks, said) = reloaded(&good, &good[1..]);
        assert_eq!(tasks, ["b"]);
        assert!(said.contains("there is no dataset \"shared\""), "{said}");
        let (tasks, said) = reloaded(&good, &[]);
        assert_eq!((tasks.len(), said.as_str()), (0, ""));
    }

    #[test]
    fn what_was_good_and_is_not_any_more_is_left_out() {
        let before = [("a.toml", task("a", "gone")), ("b.toml", task("b", "day"))];
        let (tasks, said) = reloaded(&before, &before);
        assert_eq!(tasks, ["b"]);
        assert!(said.contains("there is no dataset \"gone\""), "{said}");
    }
}
