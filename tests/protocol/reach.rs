//! Whether a run can still end from wherever it has got to: a state from which
//! no way leads to the end would be a run that hangs for ever. Stateright's own
//! "eventually" looks at single paths, and every poll is a circle.

use std::collections::HashMap;

use stateright::Model;

use crate::model::Sluicegate;
use crate::world::World;

/// A state from which the run can never end; None if there is none.
pub fn stuck(model: &Sluicegate) -> Option<World> {
    let mut numbers: HashMap<World, usize> = HashMap::new();
    let mut worlds = model.init_states();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); worlds.len()];
    numbers.extend(worlds.iter().cloned().zip(0..));
    let mut number = 0;
    while let Some(world) = worlds.get(number) {
        for next in model.next_steps(world).into_iter().map(|(_, next)| next) {
            let known = *numbers.entry(next).or_insert_with_key(|next| {
                worlds.push(next.clone());
                before.push(Vec::new());
                before.len() - 1
            });
            before[known].push(number);
        }
        number += 1;
    }
    let mut ends: Vec<bool> = worlds.iter().map(|world| world.run.over).collect();
    let mut open: Vec<usize> = (0..worlds.len()).filter(|number| ends[*number]).collect();
    while let Some(number) = open.pop() {
        for earlier in &before[number] {
            if !std::mem::replace(&mut ends[*earlier], true) {
                open.push(*earlier);
            }
        }
    }
    ends.iter().position(|ends| !ends).map(|number| worlds.swap_remove(number))
}
