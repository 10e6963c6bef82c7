//! Windows: all that a task partition waits for has to fit in one item, and no
//! more partitions can be needed than there are.

use jiff::Timestamp;

use super::Check;
use crate::config::mistake::{Mistake, counted};
use crate::config::schema::{self, File};
use crate::core::catalog::{Catalog, Input, Need, Task};
use crate::core::partition::{Grain, Partition};

/// Of DynamoDB's 400 KB; the rest is for the item's notices and its state.
const ELEMENTS_BYTES_MAX: usize = 300_000;
/// `in:` and `@`, an hour such as `2013-01-01T05`, and a receipt: the version
/// id of an object is the longest.
const ELEMENT_BYTES: usize = 4 + 13 + 64;

impl Check {
    pub(super) fn windows(&mut self, file: &File, catalog: &Catalog) {
        for (name, raw) in &file.tasks {
            let Some(task) = catalog.tasks.get(name.get_ref()) else { continue };
            self.needs_in_windows(raw, task, catalog);
            let bytes = elements_bytes(task, catalog);
            if bytes <= ELEMENTS_BYTES_MAX {
                continue;
            }
            let widths = raw.inputs.iter().zip(&task.inputs);
            let Some((widest, partitions)) = widths
                .map(|(raw, input)| (raw, catalog.window_partitions(input)))
                .max_by_key(|(_, partitions)| *partitions)
            else {
                continue;
            };
            let message = format!(
                "a partition of {:?} would wait for {} of {:?}: about {} KB in all, but a DynamoDB \
                 item holds 400 KB",
                name.get_ref(),
                counted(partitions, "partition"),
                widest.dataset.get_ref(),
                bytes / 1000,
            );
            self.report(Mistake::at(widest.dataset.span(), message).help(format!(
                "shorten from and to (to about {} partitions), or let another task gather the hours of each day first",
                partitions * ELEMENTS_BYTES_MAX / bytes
            )));
        }
    }

    fn needs_in_windows(&mut self, raw: &schema::Task, task: &Task, catalog: &Catalog) {
        for (raw, input) in raw.inputs.iter().zip(&task.inputs) {
            let Need::AtLeast(count) = input.need else { continue };
            let partitions = widest_window(task, input, catalog);
            // An empty window is a mistake of its own.
            if partitions == 0 || count as usize <= partitions {
                continue;
            }
            let message = format!(
                "need is {count}, but the window has {} of {:?}",
                counted(partitions, "partition"),
                input.dataset,
            );
            self.report(Mistake::at(raw.need.span(), message).help(format!(
                "write 1 to {partitions}, \"all\" or \"any\", or widen the window with from and to"
            )));
        }
    }
}

/// How many partitions of an input a partition of the task reads at most.
fn widest_window(task: &Task, input: &Input, catalog: &Catalog) -> usize {
    // Where hours read days, it depends on the hour; every day is like another.
    let day = Partition::containing(Timestamp::UNIX_EPOCH, Grain::Day);
    let all = Partition::overlapping(day.start(), day.end(), task.grain);
    all.map(|partition| catalog.window(input, &partition).count()).max().unwrap_or(0)
}

fn elements_bytes(task: &Task, catalog: &Catalog) -> usize {
    let inputs = task.inputs.iter();
    inputs
        .map(|input| catalog.window_partitions(input) * (input.dataset.len() + ELEMENT_BYTES))
        .sum()
}
