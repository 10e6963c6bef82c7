//! Datasets: locations, and when a partition is complete.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::Check;
use crate::config::mistake::Mistake;
use crate::config::schema::{self, Complete, File, Placed};
use crate::core::catalog::{Completeness, Dataset};
use crate::core::template::Template;

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
        Some(Dataset { name: name.get_ref().clone(), location, completeness })
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
        let kind = complete.map(|complete| *complete.get_ref());
        match (kind, location.is_many(), &raw.settle) {
            (None | Some(Complete::Object), false, None) => Some(Completeness::Object),
            (Some(Complete::Closed), true, Some(settle)) => {
                let bounds = SignedDuration::ZERO..=SignedDuration::from_hours(48);
                Some(Completeness::Closed { settle: self.within("settle", settle, bounds) })
            }
            (Some(Complete::Closed), _, None) => {
                self.report(Mistake::at(name.span(), "complete = \"closed\" needs settle").help(
                    "how long after its end a period may still get objects; \
                         for Firehose its buffer (up to 900 s) and a margin: settle = \"16m\"",
                ));
                None
            }
            (None | Some(Complete::Object), true, _) => {
                self.report(
                    Mistake::at(
                        raw.location.span(),
                        "a location that ends in * has no one object to wait for",
                    )
                    .help("add complete = \"closed\" and settle = \"16m\""),
                );
                None
            }
            (Some(Complete::Closed), false, _) => {
                self.report(
                    Mistake::at(raw.location.span(), "complete = \"closed\" is for many objects")
                        .help("end the location in *, or leave complete out"),
                );
                None
            }
            (None | Some(Complete::Object), false, Some(settle)) => {
                self.report(
                    Mistake::at(settle.span(), "settle belongs to complete = \"closed\"")
                        .help("leave it out: an exact object is complete when it is there"),
                );
                None
            }
        }
    }
}
