//! Windows: all that a task partition waits for has to fit in one item.

use super::Check;
use crate::config::mistake::{Mistake, counted};
use crate::config::schema::File;
use crate::core::catalog::{Catalog, Task};

/// Of DynamoDB's 400 KB; the rest is for the item's notices and its state.
const ELEMENTS_BYTES_MAX: usize = 300_000;
/// `in:` and `@`, an hour such as `2013-01-01T05`, and a receipt: the version
/// id of an object is the longest.
const ELEMENT_BYTES: usize = 4 + 13 + 64;

impl Check {
    pub(super) fn windows(&mut self, file: &File, catalog: &Catalog) {
        for (name, raw) in &file.tasks {
            let Some(task) = catalog.tasks.get(name.get_ref()) else { continue };
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
}

fn elements_bytes(task: &Task, catalog: &Catalog) -> usize {
    let inputs = task.inputs.iter();
    inputs
        .map(|input| catalog.window_partitions(input) * (input.dataset.len() + ELEMENT_BYTES))
        .sum()
}
