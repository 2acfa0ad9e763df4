//! libFuzzer's entry; see `pilot_fuzz::control_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pilot_fuzz::control_stream(bytes));
