//! Decides, and does nothing else: no clock, no randomness, no I/O. Time comes
//! in as an argument, what to do goes out as a value.

pub mod arrival;
pub mod asked;
pub mod backfill;
pub mod batch;
pub mod calendar;
pub mod cap;
pub mod catalog;
pub mod class;
pub mod cluster;
pub mod command;
pub mod fold;
pub mod late;
pub mod lateness;
pub mod listing;
pub mod load;
pub mod notice;
pub mod operate;
pub mod pace;
pub mod partition;
pub mod pause;
pub mod quota;
pub mod readiness;
pub mod reaper;
pub mod render;
pub mod retention;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod survey;
pub mod task;
pub mod template;
pub mod why;

#[cfg(test)]
mod mails;
