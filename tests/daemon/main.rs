//! The daemon against a local AWS of its own on a free port, over real HTTP:
//! each test puts objects or messages in and reads mails, tables and calls.

#![allow(clippy::disallowed_methods, reason = "tests wait for real processes in real time")]

mod alerts;
mod arrivals;
mod assets;
mod backfills;
mod batches;
mod bugs_of_others;
mod caps;
mod chains;
mod chaos;
mod check;
mod commands;
mod completeness;
mod emr;
mod events;
mod guard;
mod http;
mod listings;
mod loads;
mod logs;
mod mails;
mod metrics;
mod network;
mod operate;
mod processes;
mod readme;
mod reaper;
mod replicas;
mod requests;
mod retention;
mod rights;
mod runs;
mod schedules;
mod spark;
mod start;
mod task_files;
mod timeouts;
mod versions;
mod world;
