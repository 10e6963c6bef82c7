//! What wakes the engine: messages from the queue and ticks of schedules.

pub mod inbox;
pub mod message;
pub mod simulate;
pub mod ticks;
