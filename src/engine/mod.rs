//! Vhosts, exchanges, bindings, routing, queues, consumers, settlement and access.
//!
//! The engine speaks the broker's own words: it knows no frames and no reply codes.

pub mod access;
pub mod arguments;
pub mod binding;
pub mod clock;
pub mod exchange;
pub mod filter;
pub mod memory;
pub mod name;
pub mod route;
