//! Connections: one task each, speaking one protocol with one client.

mod buffer;
mod driver;
mod output;
mod peer;
mod registry;
mod session;
pub mod stomp;

pub use buffer::BufferPool;
pub use driver::{DriverOptions, drive};
pub use output::Output;
pub use peer::Peer;
pub use registry::{Registered, Registry};
pub use session::{Flow, LoginFuture, LoginOutcome, Session, Woken};
