//! libFuzzer's entry; see `pilot_fuzz::ipc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pilot_fuzz::ipc(bytes));
