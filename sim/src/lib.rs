//! The simulator: the whole daemon against an AWS that loses, delays, refuses
//! and hides, on virtual time, everything from one seed, with its invariants
//! checked from outside. Not for AWS's own rules: those are the local AWS's.
//!
//! In reading order: `scenario` says what a world is about, `world` plays it,
//! `replica` runs the daemon, `network` treats its requests as `faults` has
//! chosen, `cluster` lets clusters live, `warehouse` takes what is loaded,
//! `oracle` judges, `runner` plays many.

pub mod call;
mod cluster;
pub mod faults;
#[cfg(feature = "planted-bugs")]
pub mod hunt;
mod lists;
pub mod marks;
mod network;
mod objects;
mod oracle;
pub mod pairs;
pub mod planted;
mod replica;
pub mod report;
pub mod runner;
pub mod scenario;
mod tables;
mod time;
pub mod trace;
mod warehouse;
pub mod world;

pub use oracle::Violation;
