//! Connections: one task each, speaking one protocol with one client.

mod buffer;
mod driver;
mod ingest;
mod output;
mod peer;
mod session;
pub mod stomp;

pub use buffer::BufferPool;
pub use driver::{DriverOptions, Shared, Stop, drive};
pub use ingest::Ingest;
pub use output::Output;
pub use peer::Peer;
pub use session::{Flow, LoginFuture, LoginOutcome, Session, Woken};

#[cfg(test)]
mod tests;
