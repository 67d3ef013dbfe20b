//! Runs [`millpond_fuzz::configuration`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millpond_fuzz::configuration::run(input));
