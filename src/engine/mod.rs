//! Vhosts, exchanges, bindings, routing, queues, consumers, settlement and access.
//!
//! The engine speaks the broker's own words: it knows no frames and no reply codes.

pub mod access;
pub mod arguments;
pub mod binding;
pub mod broker;
pub mod clock;
mod consumer;
mod dead_letter;
mod definition;
pub mod delivery;
pub mod error;
pub mod exchange;
pub mod filter;
#[cfg(test)]
mod fixtures;
pub mod flow;
pub mod memory;
pub mod message;
pub mod name;
pub mod outbox;
mod pager;
pub mod principal;
pub mod promise;
pub mod publisher;
pub mod queue;
#[cfg(test)]
mod races;
pub mod route;
mod timers;
pub mod transaction;
pub mod turn;
pub mod vhost;
mod whole;
