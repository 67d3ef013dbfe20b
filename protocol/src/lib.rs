//! Wire protocols as pure functions and pure state machines.
//!
//! Bytes become frames and frames become bytes; the machines add the rules of order (login, version,
//! heart-beats). Nothing here opens a socket, reads a clock, or starts a task: instants are passed in,
//! deadlines are reported, and the caller does the waiting.

pub mod stomp;
pub mod value;
