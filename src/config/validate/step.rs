//! Steps: which field belongs to which kind, retries, placeholders.

use jiff::SignedDuration;

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{self, StepKind};
use crate::core::catalog::{Retry, StepSpec, StepWork};
use crate::core::render::{Placeholder, Text};

/// More is a job for the scheduler's next slot, not for a retry.
pub(super) const RETRIES_MAX: u32 = 20;

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
        let args = |check: &mut Self| check.texts(&raw.args, scope);
        let work = match kind {
            StepKind::SparkSubmit => StepWork::SparkSubmit {
                options: self.texts(&raw.options, scope),
                script: self.required("script", raw.script.as_ref(), raw, scope)?,
                args: args(self),
            },
            StepKind::Hive => StepWork::Hive {
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

    fn text(&mut self, raw: &schema::Text, scope: &Scope<'_>) -> Option<Text> {
        let text = self.ok(raw.span(), Text::parse(raw.get_ref()))?;
        for placeholder in text.placeholders() {
            let (what, name, known) = match placeholder {
                Placeholder::Input(name) => ("input", name, &scope.inputs),
                Placeholder::Output(name) => ("output", name, &scope.outputs),
                _ => continue,
            };
            if !known.contains(&name.as_str()) {
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
}
