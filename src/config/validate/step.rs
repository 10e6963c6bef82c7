//! Steps: which field belongs to which kind, retries, placeholders.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Check;
use crate::config::mistake::{Mistake, nearest};
use crate::config::schema::{self, StepKind};
use crate::core::catalog::{Retry, StepSpec, StepWork};
use crate::core::command::shell_script;
use crate::core::partition::Partition;
use crate::core::render::{PLAIN_PLACEHOLDERS, Placeholder, Text, TextError, is_plain};
use crate::core::template::Template;

/// More is a job for the scheduler's next slot, not for a retry.
pub(super) const RETRIES_MAX: u32 = 20;
/// With one of these in a script, a placeholder may stand where the quotes of
/// a value mean something else.
const SHELL_QUOTES: [char; 6] = ['\'', '"', '`', '\\', '#', '<'];

impl Check {
    pub(super) fn step(&mut self, raw: &schema::Step, scope: &Scope<'_>) -> Option<StepSpec> {
        self.name("step", &raw.name);
        let kind = *raw.kind.get_ref();
        let is = |kinds: &[StepKind]| kinds.contains(&kind);
        let variables = raw.variables.keys().next();
        let fields = [
            ("script", raw.script.as_ref(), is(&[StepKind::SparkSubmit, StepKind::Hive])),
            ("jar", raw.jar.as_ref(), is(&[StepKind::Jar])),
            ("main-class", raw.main_class.as_ref(), is(&[StepKind::Jar])),
            ("options", raw.options.first(), is(&[StepKind::SparkSubmit])),
            ("args", raw.args.first(), !is(&[StepKind::Hive])),
            ("variables", variables, is(&[StepKind::Hive])),
        ];
        for (field, value, allowed) in fields {
            if let Some(value) = value.filter(|_| !allowed) {
                let message = format!("{field} does not belong to a step of this kind");
                self.report(Mistake::at(value.span(), message));
            }
        }
        if let Some(form) = raw.form.as_ref().filter(|_| kind != StepKind::Hive) {
            let message = "form does not belong to a step of this kind";
            self.report(Mistake::at(form.span(), message));
        }
        let args = |check: &mut Self| check.args(&raw.args, scope);
        let work = match kind {
            StepKind::SparkSubmit => StepWork::SparkSubmit {
                options: self.texts(&raw.options, scope),
                script: self.required("script", raw.script.as_ref(), raw, scope)?,
                args: args(self),
            },
            StepKind::Hive => StepWork::Hive {
                form: raw.form.as_ref().map(|form| *form.get_ref()).unwrap_or_default(),
                script: self.required("script", raw.script.as_ref(), raw, scope)?,
                variables: raw
                    .variables
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.get_ref().clone(), self.text(value, scope)?))
                    })
                    .collect(),
            },
            StepKind::Command => {
                self.required("args", raw.args.first(), raw, scope)?;
                StepWork::Command { args: args(self) }
            }
            StepKind::Jar => StepWork::Jar {
                jar: self.required("jar", raw.jar.as_ref(), raw, scope)?,
                main_class: raw.main_class.as_ref().map(|class| class.get_ref().clone()),
                args: args(self),
            },
        };
        let retry = self.retry(&raw.retry);
        Some(StepSpec { name: raw.name.get_ref().clone(), work, retry })
    }

    fn retry(&mut self, raw: &schema::Retry) -> Retry {
        let backoff_rate = *raw.backoff_rate.get_ref();
        if !(1.0..=10.0).contains(&backoff_rate) {
            self.report(Mistake::at(
                raw.backoff_rate.span(),
                format!("backoff-rate is {backoff_rate}: expected 1.0 to 10.0"),
            ));
        }
        let bounds = SignedDuration::ZERO..=SignedDuration::from_hours(6);
        Retry {
            attempts: self.count("attempts", &raw.attempts, 0..=RETRIES_MAX),
            delay: self.within("delay", &raw.delay, bounds),
            backoff_rate,
        }
    }

    fn required(
        &mut self,
        field: &str,
        value: Option<&schema::Text>,
        step: &schema::Step,
        scope: &Scope<'_>,
    ) -> Option<Text> {
        let Some(value) = value else {
            self.report(Mistake::at(
                step.kind.span(),
                format!("a step of this kind needs {field}"),
            ));
            return None;
        };
        self.text(value, scope)
    }

    fn texts(&mut self, raw: &[schema::Text], scope: &Scope<'_>) -> Vec<Text> {
        raw.iter().filter_map(|text| self.text(text, scope)).collect()
    }

    /// The arguments of a command, of which one may be a script for a shell. A
    /// value in it is quoted, but not for a place that is in quotes itself.
    fn args(&mut self, raw: &[schema::Text], scope: &Scope<'_>) -> Vec<Text> {
        let texts: Vec<_> = raw.iter().map(|text| self.text(text, scope)).collect();
        // A text with a mistake must not shift the others.
        let known: Vec<_> = texts.iter().map(|text| text.clone().unwrap_or_default()).collect();
        if let Some(index) = shell_script(&known)
            && raw[index].get_ref().contains(SHELL_QUOTES)
        {
            for placeholder in known[index].placeholders() {
                if let Some((dataset, location)) = scope.location(placeholder)
                    && !is_plain(&location)
                {
                    self.report(
                        Mistake::at(
                            raw[index].span(),
                            format!("the location of {dataset:?} may not stand in a script with quotes, # or <<: {location}"),
                        )
                        .help("hand it over as an argument after the script: [\"bash\", \"-c\", \"cp \\\"$1\\\" …\", \"bash\", \"{…}\"]"),
                    );
                }
            }
        }
        texts.into_iter().flatten().collect()
    }

    fn text(&mut self, raw: &schema::Text, scope: &Scope<'_>) -> Option<Text> {
        let text = match Text::parse(raw.get_ref()) {
            Ok(text) => text,
            Err(error) => {
                let help = scope.braces_help(&error);
                self.report(Mistake::at(raw.span(), error.to_string()).help(help));
                return None;
            }
        };
        for placeholder in text.placeholders() {
            let (what, name, known) = match placeholder {
                Placeholder::Input(name) => ("input", name, &scope.inputs),
                Placeholder::Output(name) => ("output", name, &scope.outputs),
                _ => continue,
            };
            if !known.contains(&name.as_str()) && !scope.may_mean(known, name) {
                let known = known.iter().copied();
                self.report(Mistake::unknown(raw.span(), what, name, known));
            }
        }
        Some(text)
    }
}

/// What the placeholders of a task's steps may name.
pub(super) struct Scope<'a> {
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) datasets: &'a BTreeMap<schema::Text, schema::Dataset>,
}

impl Scope<'_> {
    /// Where a name in the list is misspelt, any dataset may be the one that
    /// was meant, and its placeholder is right.
    fn may_mean(&self, list: &[&str], name: &str) -> bool {
        self.datasets.contains_key(name)
            && list.iter().any(|listed| !self.datasets.contains_key(*listed))
    }

    /// What to do about a text that is none.
    fn braces_help(&self, error: &TextError) -> String {
        let braces = "write {{ and }} for braces";
        let TextError::Unknown(name) = error else { return braces.to_owned() };
        let plain = PLAIN_PLACEHOLDERS.into_iter().map(|(name, _)| name.to_owned());
        let inputs = self.inputs.iter().map(|name| format!("input.{name}"));
        let outputs = self.outputs.iter().map(|name| format!("output.{name}"));
        let known: Vec<_> = plain.chain(inputs).chain(outputs).collect();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        match nearest(name, &known) {
            Some(nearest) => format!("did you mean {{{nearest}}}? Or {braces}"),
            None => format!("known here are {{{}}}; {braces}", known.join("}, {")),
        }
    }

    /// The dataset of a placeholder and where one of its partitions lies.
    fn location(&self, placeholder: &Placeholder) -> Option<(String, String)> {
        let (Placeholder::Input(name) | Placeholder::Output(name)) = placeholder else {
            return None;
        };
        let location = self.datasets.get(name.as_str())?.location.get_ref();
        let location = Template::parse(location).ok()?;
        let sample = Partition::containing(Timestamp::UNIX_EPOCH, location.grain());
        Some((name.clone(), location.uri_of(&sample)))
    }
}
