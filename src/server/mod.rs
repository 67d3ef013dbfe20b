//! Where clients arrive and how the program stops: listeners, limits from the system, shutdown.
//!
//! Nothing here knows a protocol: a listener hands each accepted socket to the handler it was given.

pub mod address;
pub mod limits;
pub mod listener;
pub mod refusal;
pub mod shutdown;
