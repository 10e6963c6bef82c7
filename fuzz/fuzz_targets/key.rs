//! Fuzzes `sluicegate_fuzz::key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| sluicegate_fuzz::key(text));
