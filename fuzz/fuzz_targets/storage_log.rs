//! Runs [`millpond_fuzz::storage_log`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millpond_fuzz::storage_log::run(input));
