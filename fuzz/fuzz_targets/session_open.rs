//! libFuzzer's entry; see `pilot_fuzz::session_open`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pilot_fuzz::session_open(bytes));
