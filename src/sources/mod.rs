//! What wakes the engine: messages from the queue, ticks of schedules,
//! task files that change.

pub mod inbox;
pub mod message;
pub mod simulate;
pub mod task_files;
pub mod ticks;
