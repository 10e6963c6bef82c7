//! Datasets: locations, and when a partition is complete.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{self, Complete, File, Placed};
use crate::core::catalog::{Completeness, Dataset};
use crate::core::template::Template;

/// Their identities are counted at every receive.
const OBJECTS_MAX: u32 = 10_000;

impl Check {
    /// Dataset → the task that lists it as an output.
    pub(super) fn producers(&mut self, file: &File) -> BTreeMap<String, String> {
        let mut producers: BTreeMap<String, String> = BTreeMap::new();
        for (task, raw) in &file.tasks {
            for output in &raw.outputs {
                let Some(dataset) = file.datasets.get(output.get_ref().as_str()) else {
                    let known = file.datasets.keys().map(|name| name.get_ref().as_str());
                    let mistake =
                        Mistake::unknown(output.span(), "dataset", output.get_ref(), known);
                    self.report(mistake);
                    continue;
                };
                if let Ok(location) = Template::parse(dataset.location.get_ref())
                    && location.grain() != raw.partition
                {
                    self.report(Mistake::at(
                        output.span(),
                        format!(
                            "{:?} and the task differ in their partition: one is by hour, one by day",
                            output.get_ref()
                        ),
                    ));
                }
                let earlier = producers.insert(output.get_ref().clone(), task.get_ref().clone());
                if let Some(earlier) = earlier {
                    self.report(Mistake::at(
                        output.span(),
                        format!("{:?} is already an output of task {earlier:?}", output.get_ref()),
                    ));
                }
            }
        }
        producers
    }

    pub(super) fn dataset(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Dataset,
        producers: &BTreeMap<String, String>,
    ) -> Option<Dataset> {
        self.name("dataset", name);
        let location = self.ok(raw.location.span(), Template::parse(raw.location.get_ref()))?;
        let completeness = self.completeness(name, raw, &location, producers)?;
        Some(Dataset { name: name.get_ref().clone(), location, completeness, list: raw.list })
    }

    fn completeness(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Dataset,
        location: &Template,
        producers: &BTreeMap<String, String>,
    ) -> Option<Completeness> {
        let complete = raw.complete.as_ref();
        if let Some(task) = producers.get(name.get_ref()) {
            if let Some(complete) = complete {
                self.report(
                    Mistake::at(complete.span(), format!("task {task:?} produces this dataset"))
                        .help(
                            "leave complete out: its partition is complete when the task succeeds",
                        ),
                );
            }
            return Some(Completeness::Produced { task: task.clone() });
        }
        self.rule(name, raw, location)
    }

    /// The rule and its one field: which belongs to which, and where.
    fn rule(
        &mut self,
        name: &Placed<String>,
        raw: &schema::Dataset,
        location: &Template,
    ) -> Option<Completeness> {
        let kind = raw.complete.as_ref().map_or(Complete::Object, |complete| *complete.get_ref());
        let fields = [
            ("settle", Complete::Closed, raw.settle.as_ref().map(Placed::span)),
            ("marker", Complete::Marker, raw.marker.as_ref().map(Placed::span)),
            ("objects", Complete::Count, raw.objects.as_ref().map(Placed::span)),
            ("quiet", Complete::Quiet, raw.quiet.as_ref().map(Placed::span)),
        ];
        for (field, owner, span) in fields {
            if let Some(span) = span.filter(|_| owner != kind) {
                let message = format!("{field} belongs to complete = {:?}", word(owner));
                self.report(
                    Mistake::at(span, message)
                        .help(format!("add complete = {:?}, or leave {field} out", word(owner))),
                );
                return None;
            }
        }
        self.suits(raw, kind, location)?;
        let (minute, hours) = (SignedDuration::from_mins(1), SignedDuration::from_hours);
        Some(match kind {
            Complete::Object => Completeness::Object,
            Complete::Closed => {
                let settle = self.needed(name, kind, "settle = \"20m\"", raw.settle.as_ref())?;
                let bounds = SignedDuration::ZERO..=hours(48);
                Completeness::Closed { settle: self.within("settle", settle, bounds) }
            }
            Complete::Marker => {
                let marker = raw.marker.as_ref();
                if let Some(marker) = marker.filter(|marker| marker.get_ref().is_empty()) {
                    self.report(
                        Mistake::at(marker.span(), "marker is empty").help(
                            "write what stands in the place of * in the marker's key: _SUCCESS",
                        ),
                    );
                }
                let name = marker.map_or("_SUCCESS", |marker| marker.get_ref().as_str());
                Completeness::Marker { name: name.to_owned() }
            }
            Complete::Count => {
                let objects = self.needed(name, kind, "objects = 24", raw.objects.as_ref())?;
                let objects = self.count("objects", objects, 1..=OBJECTS_MAX);
                Completeness::Count { objects: objects.into() }
            }
            Complete::Quiet => {
                let quiet = self.needed(name, kind, "quiet = \"15m\"", raw.quiet.as_ref())?;
                Completeness::Quiet { quiet: self.within("quiet", quiet, minute..=hours(48)) }
            }
        })
    }

    fn needed<'a, T>(
        &mut self,
        name: &Placed<String>,
        kind: Complete,
        example: &str,
        value: Option<&'a T>,
    ) -> Option<&'a T> {
        if value.is_none() {
            let help = match kind {
                Complete::Closed => format!(
                    "how long after its end a period may still get objects; for Firehose its \
                     buffer (up to 900 s) and a margin: {example}"
                ),
                _ => format!("for example {example}"),
            };
            let (field, _) = example.split_once(' ').unwrap_or((example, ""));
            let message = format!("complete = {:?} needs {field}", word(kind));
            self.report(Mistake::at(name.span(), message).help(help));
        }
        value
    }

    /// One object has a name, many share a prefix.
    fn suits(&mut self, raw: &schema::Dataset, kind: Complete, location: &Template) -> Option<()> {
        match (kind, location.is_many()) {
            (Complete::Object, true) => {
                self.report(
                    Mistake::at(
                        raw.location.span(),
                        "a location that ends in * has no one object to wait for",
                    )
                    .help(
                        "add complete = \"closed\" (with settle), \"marker\", \"count\" (with objects) \
                         or \"quiet\" (with quiet)",
                    ),
                );
                None
            }
            (Complete::Object, false) | (_, true) => Some(()),
            (_, false) => {
                self.report(
                    Mistake::at(
                        raw.location.span(),
                        format!("complete = {:?} is for many objects", word(kind)),
                    )
                    .help("end the location in *, or leave complete out"),
                );
                None
            }
        }
    }
}

/// As the file says it.
fn word(kind: Complete) -> &'static str {
    match kind {
        Complete::Object => "object",
        Complete::Closed => "closed",
        Complete::Marker => "marker",
        Complete::Count => "count",
        Complete::Quiet => "quiet",
    }
}
