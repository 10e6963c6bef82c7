//! sluicegate opens the gate when the data has arrived: it follows what lands
//! in S3, and runs each task's partition on a transient EMR cluster as soon as
//! its inputs are complete.
//!
//! In reading order: `core` decides, `config` declares, `aws` talks to AWS,
//! `sources` wake, `engine` acts, `app` puts it together, `cli` and `http` are
//! its faces; `metrics`, `emf` and `health` are what the loops report;
//! `planted` names the mistakes that the simulator has to find.

pub mod app;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod emf;
pub mod engine;
pub mod health;
pub mod http;
pub mod metrics;
pub mod planted;
pub mod sources;
