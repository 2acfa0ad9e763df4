//! libFuzzer's entry; see `pilot_fuzz::inbox`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pilot_fuzz::inbox(bytes));
