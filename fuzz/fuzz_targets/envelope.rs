//! Fuzzes `sluicegate_fuzz::envelope`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| sluicegate_fuzz::envelope(text));
