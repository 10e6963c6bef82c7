//! The AWS services that sluicegate uses, in one process: for the demo,
//! everyday development and the tests. Not a general AWS emulator.

pub mod clock;
pub mod wire;
