//! A step in EMR's form: jar, main class, arguments. Here placeholders become
//! values, and what a shell reads is quoted. Not for when it runs: see `run`.

use serde::{Deserialize, Serialize};

use super::catalog::{HiveForm, StepSpec, StepWork};
use super::render::{Rendered, Text, Values};

/// The texts of one step, all together: EMR refuses more.
const STEP_CHARS_MAX: usize = 10_240;
const RUNNER: &str = "command-runner.jar";

/// What EMR runs for a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub jar: Rendered,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_class: Option<String>,
    pub args: Vec<Rendered>,
}

/// Why EMR would not take a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error(
        "step {step} has {chars} characters of arguments, but EMR takes {STEP_CHARS_MAX} a step: \
         narrow the window of its inputs, or let the step find them itself"
    )]
    TooLong { step: String, chars: usize },
    #[error("step {step} has the character {character:?} in its arguments, which EMR refuses")]
    Character { step: String, character: char },
}

impl Command {
    /// The command of a step in one task partition.
    pub fn new(step: &StepSpec, values: &Values) -> Result<Self, CommandError> {
        let command = Self::of(&step.work, values);
        // No attempt has a longer number.
        let texts: Vec<_> = command.texts(u32::MAX).collect();
        let chars = texts.iter().map(|text| text.chars().count()).sum();
        if chars > STEP_CHARS_MAX {
            return Err(CommandError::TooLong { step: step.name.clone(), chars });
        }
        if let Some(character) = texts.iter().flat_map(|text| text.chars()).find(|c| !is_taken(*c))
        {
            return Err(CommandError::Character { step: step.name.clone(), character });
        }
        Ok(command)
    }

    fn of(work: &StepWork, values: &Values) -> Self {
        let fill = |text: &Text| text.fill(values);
        let word = |text: &str| Rendered::from(text.to_owned());
        let runner = |args| Self { jar: word(RUNNER), main_class: None, args };
        match work {
            StepWork::SparkSubmit { options, script, args } => {
                let words = [word("spark-submit")].into_iter().chain(options.iter().map(fill));
                runner(words.chain([fill(script)]).chain(args.iter().map(fill)).collect())
            }
            StepWork::Hive { form, script, variables } => {
                let (before, define): (&[&str], _) = match form {
                    HiveForm::Hive => (&["hive"], "--hivevar"),
                    HiveForm::HiveScript => (&["hive-script", "--run-hive-script", "--args"], "-d"),
                };
                let variables = variables.iter().flat_map(|(name, value)| {
                    [word(define), fill(value).after(&format!("{name}="))]
                });
                let words = before.iter().map(|text| word(text)).chain([word("-f"), fill(script)]);
                runner(words.chain(variables).collect())
            }
            StepWork::Command { args } => runner(fill_command(args, values)),
            StepWork::Jar { jar, main_class, args } => Self {
                jar: fill(jar),
                main_class: main_class.clone(),
                args: fill_command(args, values),
            },
        }
    }

    /// Every text of it, as the attempt of that number sends it.
    pub fn texts(&self, attempt: u32) -> impl Iterator<Item = String> {
        let rendered = [&self.jar].into_iter().chain(&self.args);
        rendered.map(move |text| text.of_attempt(attempt)).chain(self.main_class.clone())
    }
}

/// Fills in arguments: quoted in what a shell reads as its script, and as they
/// are everywhere else, because each argument stays one argument.
fn fill_command(args: &[Text], values: &Values) -> Vec<Rendered> {
    let script = shell_script(args);
    let fill = |(index, text): (usize, &Text)| match Some(index) == script {
        true => text.fill_script(values),
        false => text.fill(values),
    };
    args.iter().enumerate().map(fill).collect()
}

/// Where a command holds a script for a shell: `bash -c SCRIPT`, also behind
/// `sudo` or `env`.
pub fn shell_script(args: &[Text]) -> Option<usize> {
    const SHELLS: [&str; 5] = ["bash", "sh", "dash", "ksh", "zsh"];
    let is_shell = |text: &Text| {
        let name = text.literal().and_then(|text| text.rsplit('/').next().map(str::to_owned));
        name.is_some_and(|name| SHELLS.contains(&name.as_str()))
    };
    let mut rest = args.iter().enumerate().skip_while(|(_, text)| !is_shell(text)).skip(1);
    let mut takes_script = false;
    while let Some((index, text)) = rest.next() {
        let literal = text.literal().unwrap_or_default();
        match literal.strip_prefix(['-', '+']) {
            Some("-") => return rest.next().map(|(index, _)| index).filter(|_| takes_script),
            Some(long) if long.starts_with('-') => {}
            Some(letters) => {
                takes_script |= literal.starts_with('-') && letters.contains('c');
                // `-o pipefail` is one option.
                if letters.contains(['o', 'O']) {
                    rest.next();
                }
            }
            None => return takes_script.then_some(index),
        }
    }
    None
}

/// The characters of EMR's service model.
fn is_taken(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::catalog::Retry;

    fn text(text: &str) -> Text {
        Text::parse(text).unwrap()
    }

    fn texts(list: &str) -> Vec<Text> {
        list.split_whitespace().map(text).collect()
    }

    fn step(work: StepWork) -> StepSpec {
        let retry = Retry { attempts: 0, delay: jiff::SignedDuration::ZERO, backoff_rate: 1.0 };
        StepSpec { name: "s".into(), work, retry }
    }

    fn words(work: StepWork, raw: &str) -> String {
        let values = Values::for_test(raw);
        let command = Command::new(&step(work), &values).unwrap();
        command.texts(2).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_kind_of_step_has_its_command() {
        let variables = BTreeMap::from([("DAY".to_owned(), text("{partition}"))]);
        let hive = |form| StepWork::Hive {
            form,
            script: text("s3://c/x.hql"),
            variables: variables.clone(),
        };
        let old = "hive-script --run-hive-script --args -f s3://c/x.hql -d DAY={partition}";
        let library = "s3://eu-west-1.elasticmapreduce/libs";
        for (work, expected) in [
            (
                StepWork::SparkSubmit {
                    options: texts("--deploy-mode cluster"),
                    script: text("s3://c/x.py"),
                    args: texts("{input.raw} {attempt}"),
                },
                "command-runner.jar spark-submit --deploy-mode cluster s3://c/x.py s3://b/raw/ 2"
                    .into(),
            ),
            (
                hive(HiveForm::Hive),
                "command-runner.jar hive -f s3://c/x.hql --hivevar DAY=2013-01-01T05".to_owned(),
            ),
            (
                hive(HiveForm::HiveScript),
                "command-runner.jar hive-script --run-hive-script --args -f s3://c/x.hql \
                 -d DAY=2013-01-01T05"
                    .into(),
            ),
            (
                StepWork::Command { args: texts(old) },
                format!("command-runner.jar {}", old.replace("{partition}", "2013-01-01T05")),
            ),
            (
                StepWork::Jar {
                    jar: text(&format!("{library}/script-runner/script-runner.jar")),
                    main_class: None,
                    args: texts(&format!("{library}/hive/{old}")),
                },
                format!(
                    "{library}/script-runner/script-runner.jar {library}/hive/{}",
                    old.replace("{partition}", "2013-01-01T05")
                ),
            ),
        ] {
            assert_eq!(words(work, "s3://b/raw/"), expected);
        }
    }

    #[test]
    fn finds_the_script_of_a_shell() {
        for (args, expected) in [
            ("bash -c x", Some(2)),
            ("sh -c x y", Some(2)),
            ("/bin/bash -euo pipefail -c x", Some(4)),
            ("bash -c -e x", Some(3)),
            ("bash -lc x", Some(2)),
            ("bash -c -- x", Some(3)),
            ("bash --norc -c x", Some(3)),
            ("sudo -u hadoop bash -c x", Some(5)),
            ("bash s3://code/x.sh -c x", None),
            ("bash +c x", None),
            ("bash", None),
            ("bash -c", None),
            ("spark-submit -c x", None),
            ("{task} -c x", None),
        ] {
            assert_eq!(shell_script(&texts(args)), expected, "{args}");
        }
    }

    #[test]
    fn a_step_that_emr_would_refuse_is_told_from_others() {
        let new = |argument: &str, raw: &str| {
            let work = StepWork::Command { args: vec![text(argument)] };
            Command::new(&step(work), &Values::for_test(raw))
        };
        let room = STEP_CHARS_MAX - RUNNER.len();
        assert!(new(&"é".repeat(room), "").is_ok());
        let error = new("{input.raw}", &"x".repeat(room + 1)).unwrap_err();
        assert_eq!(error, CommandError::TooLong { step: "s".into(), chars: STEP_CHARS_MAX + 1 });
        assert!(new("a\u{1}b", "").unwrap_err().to_string().contains("'\\u{1}'"));
        assert!(new("\u{ffff}", "").is_err());
        assert!(new("tab\tline\n😀", "").is_ok());
    }

    /// What a real shell makes of a script's placeholder.
    fn in_shell(raw: &str) -> String {
        let args = vec![text("sh"), text("-c"), text("printf %s {input.raw}")];
        let values = Values::for_test(raw);
        let command = Command::of(&StepWork::Command { args }, &values);
        let script = command.args[2].of_attempt(1);
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{raw:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn no_value_breaks_out_of_a_script() {
        for raw in ["s3://b/a,s3://b/dt=1/", "a b", "x; echo y", "$(id)", "it's", "a\nb", "\\", ""]
        {
            assert_eq!(in_shell(raw), raw);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn whatever_the_value_the_shell_sees_just_that(raw in "[^\0]{0,20}") {
            prop_assert_eq!(in_shell(&raw), raw);
        }
    }
}
