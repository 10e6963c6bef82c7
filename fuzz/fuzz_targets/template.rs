//! Fuzzes `sluicegate_fuzz::template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| sluicegate_fuzz::template(text));
