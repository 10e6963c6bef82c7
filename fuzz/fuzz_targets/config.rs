//! Fuzzes `sluicegate_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| sluicegate_fuzz::config(text));
