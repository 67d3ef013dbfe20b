//! Runs [`millpond_protocol_fuzz::stomp_bytes`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millpond_protocol_fuzz::stomp_bytes::run(input));
