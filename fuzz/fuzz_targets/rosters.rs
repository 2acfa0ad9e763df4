//! libFuzzer's entry; see `pilot_fuzz::rosters`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pilot_fuzz::rosters(bytes));
