//! Fuzzes `sluicegate_fuzz::cron`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| sluicegate_fuzz::cron(text));
