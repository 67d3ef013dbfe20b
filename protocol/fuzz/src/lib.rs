//! What the fuzz targets do with their input.
//!
//! Kept apart from libFuzzer, so that the tests of `millpond-protocol` run the very same functions on a
//! stable compiler, with the saved corpus and with random input.

pub mod stomp_bytes;
pub mod stomp_frames;
