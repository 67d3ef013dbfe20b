//! Runs [`millpond_protocol_fuzz::stomp_frames`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| millpond_protocol_fuzz::stomp_frames::run(input));
